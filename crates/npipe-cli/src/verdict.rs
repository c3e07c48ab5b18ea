//! How a session of `npipe connect` ended, as exit code and in words. The meaning of the system's error codes for a client
//! of a pipe is decided here, whether they come from this system or over the bridge.

use std::io;

use npipe::PipeName;

use crate::bridge::protocol::RemoteError;
use crate::exit::{Exit, Failure};
use crate::output::reader_has_gone;
use crate::relay::{End, Summary};

/// ERROR_PIPE_NOT_CONNECTED.
const PIPE_NOT_CONNECTED: i32 = 233;

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
                "the server closed {name} before it took all that was read from stdin ({} bytes were sent)",
                summary.requests.bytes
            ),
        )),
    }
}

fn is_disconnected(error: &io::Error) -> bool {
    let remote = error.get_ref().and_then(|error| error.downcast_ref::<RemoteError>());
    let code = match remote {
        Some(remote) => remote.code,
        None if cfg!(windows) => error.raw_os_error(),
        // The numbers of this system mean something else.
        None => None,
    };
    code == Some(PIPE_NOT_CONNECTED)
}
