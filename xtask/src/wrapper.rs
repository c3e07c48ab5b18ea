//! xtask in the place of rustc: adds a `--cfg` for the packages of the workspace alone.
//!
//! `RUSTFLAGS` would reach every dependency, and build all of them once more.

use std::process::{Command, ExitCode};

/// The cfg to add. That it is set tells that cargo runs us as its `RUSTC_WORKSPACE_WRAPPER`.
const CFG_VARIABLE: &str = "NPIPE_XTASK_RUSTC_CFG";

/// Makes `cargo` build the packages of the workspace with `--cfg CFG`.
pub(crate) fn add_cfg(cargo: &mut Command, cfg: &str) -> std::io::Result<()> {
    cargo.env("RUSTC_WORKSPACE_WRAPPER", std::env::current_exe()?).env(CFG_VARIABLE, cfg);
    Ok(())
}

/// Runs rustc, if that is what we were started for.
pub(crate) fn rustc_for_cargo() -> Option<ExitCode> {
    let cfg = std::env::var(CFG_VARIABLE).ok()?;
    let mut words = std::env::args_os().skip(1);
    let status = Command::new(words.next()?).args(words).arg("--cfg").arg(cfg).status();
    Some(match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: failed to start rustc: {error}");
            ExitCode::FAILURE
        }
    })
}
