//! How the process ends: the exit codes, which are API (scripts test them), and [`Failure`], the
//! code together with the sentence that explains it. It knows nothing of pipes or of how the
//! sentence reaches the user.

use std::fmt;
use std::process::ExitCode;

/// The exit codes of `npipe`. A code never changes its meaning; new ones get new numbers, below 256
/// because other systems that start Windows programs see the low byte only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Success = 0,
    Failure = 1,
    /// Clap's own code for a command line it cannot use.
    Usage = 2,
    NotFound = 3,
    Busy = 4,
    AccessDenied = 5,
    InputLost = 6,
    Disconnected = 7,
    OutputClosed = 8,
    Unsupported = 9,
    NotListed = 10,
    Unhealthy = 11,
    TargetFailed = 12,
}

impl Exit {
    pub(crate) const ALL: [Exit; 13] = [
        Exit::Success,
        Exit::Failure,
        Exit::Usage,
        Exit::NotFound,
        Exit::Busy,
        Exit::AccessDenied,
        Exit::InputLost,
        Exit::Disconnected,
        Exit::OutputClosed,
        Exit::Unsupported,
        Exit::NotListed,
        Exit::Unhealthy,
        Exit::TargetFailed,
    ];

    /// The line of the help text.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Exit::Success => "all went well; what the server of a session sent was delivered to its end",
            Exit::Failure => "another error; stderr names it",
            Exit::Usage => "the command line cannot be used",
            Exit::NotFound => "no program serves the pipe, or whatever the target is",
            Exit::Busy => "every instance of the pipe stayed busy",
            Exit::AccessDenied => "the system refused access, or another program has the name",
            Exit::InputLost => "the session ended before the server took all that was read from stdin",
            Exit::Disconnected => "the server disconnected; what it had sent may be incomplete",
            Exit::OutputClosed => "the reader of stdout went away",
            Exit::Unsupported => "this system does not have what was asked for, such as Windows named pipes",
            Exit::NotListed => "the system does not list its pipes; Wine does not",
            Exit::Unhealthy => "npipe wsl doctor found problems; stdout names them",
            Exit::TargetFailed => "the command of exec: failed; stderr names its exit code",
        }
    }
}

impl Exit {
    pub(crate) fn exit_process(self) -> ! {
        std::process::exit(self as i32)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Why the process ends with anything but [`Exit::Success`]: what was tried, on what, and what to
/// do about it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    message: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn the_list_is_complete_and_in_order_of_the_codes() {
        for (code, exit) in Exit::ALL.into_iter().enumerate() {
            assert_eq!(exit as usize, code, "{exit:?}");
        }
    }

    #[test]
    fn the_readme_has_each() {
        let readme = include_str!("../../../README.md");
        for exit in Exit::ALL {
            let row = format!("| {} | {} |", exit as u8, exit.meaning());
            assert!(readme.contains(&row), "{row}");
        }
    }
}
