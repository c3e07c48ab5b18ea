//! How this machine builds and runs Windows programs: natively on Windows, cross-built and under
//! Wine elsewhere.
//!
//! The rest of xtask asks here and does not care which it is. [`crate::setup`] prepares what this
//! needs.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::setup::wine::Wine;
use crate::workspace::Workspace;

/// The target of programs that run under Wine: its linker is in every distribution, that of MSVC in
/// none.
pub(crate) const GNU: &str = "x86_64-pc-windows-gnu";

/// A Windows machine, real or not.
pub(crate) enum Windows {
    Native,
    Wine {
        /// Where the `std` for [`GNU`] lies, if not in the toolchain.
        sysroot: Option<PathBuf>,
        wine: Wine,
    },
}

impl Windows {
    /// `cargo SUBCOMMAND` for the Windows target.
    pub(crate) fn cargo(&self, workspace: &Workspace, subcommand: &str) -> Command {
        let mut command = workspace.cargo(subcommand);
        match self {
            Self::Native => {}
            Self::Wine { sysroot, wine } => {
                cross(&mut command, GNU, sysroot.as_deref());
                command.env("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER", crate::setup::LINKER);
                // Documentation tests are started by cargo itself.
                command.env("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER", wine.runner());
                command.envs(wine.environment());
            }
        }
        command
    }

    /// A command that runs the Windows program `executable`.
    pub(crate) fn program(&self, executable: &Path) -> Command {
        match self {
            Self::Native => Command::new(executable),
            Self::Wine { wine, .. } => wine.program(executable),
        }
    }

    /// `path` as a Windows program must be told it.
    pub(crate) fn path(&self, path: &Path) -> String {
        let text = path.to_string_lossy();
        match self {
            Self::Native => text.into_owned(),
            // Wine shows the root of the Unix file system as drive Z.
            Self::Wine { .. } => format!("Z:{}", text.replace('/', "\\")),
        }
    }

    /// What Windows it is, for people who read a report.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Native => "Windows".to_owned(),
            Self::Wine { wine, .. } => wine.version().to_owned(),
        }
    }
}

/// Makes `command`, a cargo command, build for `target` with the `std` in `sysroot`.
///
/// The flag goes into the variables of the target alone: build scripts and procedural macros are
/// built for the host, whose `std` is not in `sysroot`. A `RUSTFLAGS` of the user's would override
/// it.
pub(crate) fn cross(command: &mut Command, target: &str, sysroot: Option<&Path>) {
    command.arg("--target").arg(target);
    if let Some(sysroot) = sysroot {
        let flag = format!("--sysroot={}", sysroot.display());
        let variable = format!("CARGO_TARGET_{}_RUSTFLAGS", target.to_uppercase().replace('-', "_"));
        command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        command.env(variable, &flag).env("RUSTDOCFLAGS", &flag);
    }
}
