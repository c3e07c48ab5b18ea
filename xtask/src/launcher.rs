//! A program file that starts a Windows program under Wine, for those who want a file to start:
//! what WSL does by itself with a Windows program.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

/// Writes a script `path` that runs `start` with the arguments that it is given.
pub(crate) fn write(path: &Path, start: &Command) -> Result<()> {
    let mut script = "#!/bin/sh\n".to_owned();
    for (name, value) in start.get_envs() {
        let value = value.context("a variable is to be removed, which the script cannot")?;
        script += &format!("export {}={}\n", name.display(), quoted(value)?);
    }
    let words: Result<Vec<_>> =
        std::iter::once(start.get_program()).chain(start.get_args()).map(quoted).collect();
    script += &format!("exec {} \"$@\"\n", words?.join(" "));
    std::fs::write(path, script).with_context(|| format!("failed to write {}", path.display()))?;
    // There is no Wine on Windows, nor a bit to set.
    #[cfg(unix)]
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .with_context(|| format!("failed to make {} a program", path.display()))?;
    Ok(())
}

/// As one word of a shell.
fn quoted(word: &OsStr) -> Result<String> {
    let word = word.to_str().with_context(|| format!("{} is not Unicode", word.display()))?;
    Ok(shlex::try_quote(word)?.into_owned())
}
