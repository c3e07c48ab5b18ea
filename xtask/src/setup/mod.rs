//! Gets what the other chores need, where it is not there yet: programs, the `std` of Windows
//! targets, a Wine prefix.
//!
//! Everything that is made lies under cargo's target directory and is made once; `cargo clean`
//! undoes it.

mod apt_source;
mod packages;
mod windows_std;
pub(crate) mod wine;

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::progress::Report;
use crate::windows::{GNU, Windows};
use crate::workspace::Workspace;
use windows_std::Purpose;

/// Debian's cross linker for [`GNU`].
pub(crate) const LINKER: &str = "x86_64-w64-mingw32-gcc";

/// Prepares this machine to build and run Windows programs.
pub(crate) fn everything(workspace: &Workspace, report: &mut Report) -> Result<Windows> {
    if cfg!(windows) {
        return Ok(Windows::Native);
    }
    let _lock = lock(workspace)?;
    report.require("setup: programs", packages::install_missing)?;
    let sysroot = report.require("setup: std for Windows", |step| {
        windows_std::provide(workspace, step, GNU, Purpose::Build)
    })?;
    let wine = report.require("setup: Wine", |step| wine::Wine::start(workspace, step))?;
    Ok(Windows::Wine { sysroot, wine })
}

/// A target that is checked, but for which nothing is linked.
pub(crate) struct CheckTarget {
    pub(crate) target: &'static str,
    pub(crate) sysroot: Option<PathBuf>,
}

/// Prepares the check of `target`.
pub(crate) fn check_target(
    workspace: &Workspace,
    report: &mut Report,
    target: &'static str,
) -> Result<CheckTarget> {
    let _lock = lock(workspace)?;
    let sysroot = report.require(&format!("setup: std for {target}, to check against"), |step| {
        windows_std::provide(workspace, step, target, Purpose::Check)
    })?;
    Ok(CheckTarget { target, sysroot })
}

/// Two runs at once would make the same things in the same places. Released when the file is
/// closed.
fn lock(workspace: &Workspace) -> Result<File> {
    let path = workspace.cache.join("setup.lock");
    let result =
        std::fs::create_dir_all(&workspace.cache).and_then(|()| File::create(&path)).and_then(|file| {
            file.lock()?;
            Ok(file)
        });
    result.with_context(|| format!("failed to lock {}", path.display()))
}
