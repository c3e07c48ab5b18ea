//! A program file that starts `npipe.exe` under Wine, for those who want a file to start: what WSL does by itself with a
//! Windows program.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// Writes a script into `folder` that runs `start` with the arguments that it is given.
pub(super) fn write(folder: &Path, start: &Command) -> Result<PathBuf> {
    let mut script = "#!/bin/sh\n".to_owned();
    for (name, value) in start.get_envs() {
        let value = value.context("a variable is to be removed, which the script cannot")?;
        script += &format!("export {}={}\n", name.display(), quoted(value));
    }
    let words: Vec<_> = std::iter::once(start.get_program()).chain(start.get_args()).map(quoted).collect();
    script += &format!("exec {} \"$@\"\n", words.join(" "));
    let path = folder.join("npipe.exe");
    std::fs::write(&path, script)
        .and_then(|()| std::fs::set_permissions(&path, Permissions::from_mode(0o700)))
        .with_context(|| format!("failed to write {}", path.display()))?;
    Ok(path)
}

/// As one word of a shell.
fn quoted(word: &OsStr) -> String {
    format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"))
}
