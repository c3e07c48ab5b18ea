//! How `npipe connect` ended, as exit code and in words. The meaning of Windows' error codes for a
//! client of a pipe is decided here, whether they come from this machine or over the bridge.

use std::io;

use npipe::PipeName;

use crate::account::Lasted;
use crate::bridge::protocol::RemoteError;
use crate::exit::{Exit, Failure};
use crate::output::reader_has_gone;
use crate::patience::{Obstacle, Waited};
use crate::relay::{End, Summary};

/// `ERROR_PIPE_BUSY`.
const PIPE_BUSY: i32 = 231;
/// `ERROR_PIPE_NOT_CONNECTED`.
const PIPE_NOT_CONNECTED: i32 = 233;

/// The code of Windows that an error carries, if any.
fn code(error: &io::Error) -> Option<i32> {
    let remote = error.get_ref().and_then(|error| error.downcast_ref::<RemoteError>());
    match remote {
        Some(remote) => remote.code,
        None if cfg!(windows) => error.raw_os_error(),
        // The numbers of this system mean something else.
        None => None,
    }
}

/// Why a pipe could not be opened, as far as that decides what to do.
pub(crate) fn obstacle_of(error: &io::Error) -> Obstacle {
    match error.kind() {
        io::ErrorKind::NotFound => Obstacle::Missing,
        _ if code(error) == Some(PIPE_BUSY) => Obstacle::Busy,
        _ => Obstacle::Other,
    }
}

/// `waited`: where it is known.
pub(crate) fn open_failure(name: &PipeName, error: &io::Error, waited: Option<Waited>) -> Failure {
    let side = if cfg!(windows) { "" } else { " on the Windows side" };
    let (exit, words) = match (obstacle_of(error), waited) {
        (Obstacle::Missing, Some(Waited { attempts: attempts @ 2.., time })) => (
            Exit::NotFound,
            format!(
                "no program served {name} in {attempts} attempts over {}; is the server running?",
                Lasted(time)
            ),
        ),
        (Obstacle::Missing, _) => {
            (Exit::NotFound, format!("no program{side} serves {name}; is the server running?"))
        }
        (Obstacle::Busy, waited) => {
            let time = waited.map_or_else(String::new, |waited| format!(" for {}", Lasted(waited.time)));
            (
                Exit::Busy,
                format!(
                    "every instance of {name} stayed busy{time}; try later, or wait longer with --wait or --poll"
                ),
            )
        }
        (Obstacle::Other, _) if error.kind() == io::ErrorKind::PermissionDenied => (
            Exit::AccessDenied,
            format!("access to {name} is denied; its server may belong to another user, or need elevation"),
        ),
        (Obstacle::Other, _) => (Exit::Failure, format!("cannot open {name}: {error}")),
    };
    Failure::new(exit, words)
}

pub(crate) fn verdict(name: &PipeName, summary: Summary, accept_disconnect: bool) -> Result<(), Failure> {
    match summary.replies.end {
        // Replies are abandoned only where the end of stdin was to end the session, after all that had come.
        End::Eof | End::Abandoned { .. } => {}
        End::ReadFailed(error) if accept_disconnect && is_disconnected(&error) => {}
        End::ReadFailed(error) if is_disconnected(&error) => {
            return Err(Failure::new(
                Exit::Disconnected,
                format!("the server of {name} disconnected; what it had sent last may be lost"),
            ));
        }
        End::ReadFailed(error) => {
            return Err(Failure::new(Exit::Failure, format!("cannot read from {name}: {error}")));
        }
        End::WriteFailed(error) if reader_has_gone(&error) => {
            return Err(Failure::new(
                Exit::OutputClosed,
                format!("the reader of stdout went away before {name} ended"),
            ));
        }
        End::WriteFailed(error) => {
            return Err(Failure::new(Exit::Failure, format!("cannot write to stdout: {error}")));
        }
    }
    match summary.requests.end {
        End::Eof | End::Abandoned { undelivered: 0 } => Ok(()),
        End::ReadFailed(error) => {
            Err(Failure::new(Exit::Failure, format!("cannot read from stdin: {error}")))
        }
        End::WriteFailed(_) | End::Abandoned { .. } => Err(Failure::new(
            Exit::InputLost,
            format!(
                "the session with {name} ended before the server took all that was read from stdin \
                 ({} bytes were sent)",
                summary.requests.bytes
            ),
        )),
    }
}

fn is_disconnected(error: &io::Error) -> bool {
    code(error) == Some(PIPE_NOT_CONNECTED)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use npipe::PipeName;

    use super::{End, Exit, RemoteError, Summary, open_failure, verdict};
    use crate::patience::Waited;
    use crate::relay::Flow;

    /// A server that sent an empty message may still serve the pipe.
    #[test]
    fn a_session_that_ended_early_is_not_called_closed() {
        let summary = Summary {
            requests: Flow { bytes: 3, end: End::Abandoned { undelivered: 4 } },
            replies: Flow { bytes: 0, end: End::Eof },
        };
        let failure = verdict(&PipeName::new("x").unwrap(), summary, false).unwrap_err();
        assert_eq!(failure.exit, Exit::InputLost);
        let words = failure.to_string();
        assert!(
            words.starts_with(r"the session with \\.\pipe\x ended before the server took all"),
            "{words}"
        );
        assert!(words.contains("(3 bytes were sent)") && !words.contains("closed"), "{words}");
    }

    #[test]
    fn times_in_messages_keep_their_fractions() {
        let name = PipeName::new("x").unwrap();
        let words = |code, attempts, milliseconds| {
            let error = match code {
                2 => io::ErrorKind::NotFound.into(),
                code => {
                    RemoteError { code: Some(code), kind: io::ErrorKind::Other, text: String::new() }.into()
                }
            };
            let waited = Waited { attempts, time: Duration::from_millis(milliseconds) };
            open_failure(&name, &error, Some(waited)).to_string()
        };
        for (milliseconds, shown) in
            [(1, "1.0ms"), (800, "800.0ms"), (999, "999.0ms"), (1_999, "2.0s"), (61_000, "00:01:01")]
        {
            let missing = words(2, 5, milliseconds);
            assert!(
                missing.contains(&format!(r"served \\.\pipe\x in 5 attempts over {shown};")),
                "{missing}"
            );
            let busy = words(231, 5, milliseconds);
            assert!(busy.contains(&format!("stayed busy for {shown};")), "{busy}");
        }
        assert!(words(2, 1, 800).contains("; is the server running?"));
        assert!(!words(2, 1, 800).contains("attempts"));
    }
}
