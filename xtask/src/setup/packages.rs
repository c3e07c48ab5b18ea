//! The programs of the distribution that cross-building, Wine and the demo need.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::LINKER;
use crate::process::{BUILD_LIMIT, is_installed, output_of};
use crate::progress::Step;

/// A program, and the Debian packages that bring it.
const NEEDED: [(&str, &[&str]); 4] = [
    (LINKER, &["gcc-mingw-w64-x86-64-win32"]),
    ("wine", &["wine", "wine64"]),
    ("ssh-agent", &["openssh-client"]),
    ("taskset", &["util-linux"]),
];

/// Installs what is missing where we may, and says what to install where we may not.
pub(super) fn install_missing(step: &Step) -> Result<()> {
    let missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(program, _)| !is_installed(program))
        .flat_map(|(_, packages)| *packages)
        .copied()
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let by_hand = format!(
        "please install these packages of Debian or what they are called here: {}",
        missing.join(" ")
    );
    if !is_installed("apt-get") {
        bail!("{by_hand}");
    }
    let Some(privilege) = Privilege::of_this_user() else {
        bail!("no right to install packages without a password; {by_hand}");
    };
    step.say(&format!("installing {}", missing.join(" ")));
    let install = || {
        let mut command = privilege.apt_get();
        command.arg("install").args(["--yes", "--no-install-recommends"]).args(&missing);
        command
    };
    // A fresh container has no package lists, a stale one lists that name packages which are gone.
    if output_of(step, &mut install(), BUILD_LIMIT).is_err() {
        output_of(step, privilege.apt_get().arg("update"), BUILD_LIMIT).with_context(|| by_hand.clone())?;
        output_of(step, &mut install(), BUILD_LIMIT).context(by_hand)?;
    }
    Ok(())
}

enum Privilege {
    Root,
    Sudo,
}

impl Privilege {
    fn of_this_user() -> Option<Self> {
        let silent = |command: &mut Command| {
            command
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .output()
                .ok()
                .filter(|output| output.status.success())
        };
        if silent(Command::new("id").arg("-u"))?.stdout.trim_ascii() == b"0" {
            return Some(Self::Root);
        }
        silent(Command::new("sudo").args(["--non-interactive", "true"])).map(|_| Self::Sudo)
    }

    fn apt_get(&self) -> Command {
        let mut command = match self {
            Self::Root => Command::new("env"),
            Self::Sudo => Command::new("sudo"),
        };
        if matches!(self, Self::Sudo) {
            command.args(["--non-interactive", "env"]);
        }
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet"]);
        command
    }
}
