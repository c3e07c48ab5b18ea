//! Commands that only Windows can answer: its npipe.exe runs in this process's place, with the same
//! command line.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::interop;
use crate::bridge::process::find;
use crate::exit::{Exit, Failure};
use crate::report::{self, Report};

/// As on the command line; it says nothing to the Windows program.
const FLAG: &str = "--windows-exe";

/// Returns only when it fails: exit code, output and signals are the Windows program's own.
pub(crate) fn hand_over(windows_exe: Option<&Path>, report: Report) -> Failure {
    let program = match find(windows_exe) {
        Ok(program) => program,
        Err(reason) => {
            return Failure::new(
                Exit::Unsupported,
                format!("named pipes of this kind exist on Windows only, and {reason}"),
            );
        }
    };
    let mut command = Command::new(&program);
    command.args(without_flag(env::args_os().skip(1)));
    interop::lead_to_windows(&mut command, report);
    report::flush();
    let error = command.exec();
    Failure::new(Exit::Failure, format!("cannot start the Windows program {}: {error}", program.display()))
}

/// All but the flag and its value, in either form.
fn without_flag(mut arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut kept = Vec::new();
    while let Some(argument) = arguments.next() {
        let bytes = argument.as_encoded_bytes();
        match bytes.strip_prefix(FLAG.as_bytes()) {
            Some([]) => drop(arguments.next()),
            Some([b'=', ..]) => {}
            _ => kept.push(argument),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::without_flag;

    #[test]
    fn the_windows_program_is_not_told_where_it_is() {
        let kept = |line: &str| without_flag(line.split(' ').map(OsString::from)).join(" ".as_ref());
        assert_eq!(kept("list --windows-exe /mnt/c/npipe.exe --json"), "list --json");
        assert_eq!(kept("-v info --windows-exe=/mnt/c/npipe.exe x"), "-v info x");
        assert_eq!(kept("list --windows"), "list --windows");
    }
}
