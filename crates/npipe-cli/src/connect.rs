//! `npipe connect`: opens a pipe, joins it with stdin and stdout, and says by its exit code how that ended. The
//! meaning of the system's error codes for a client of a pipe is decided here.

use std::io;
use std::time::Duration;

use npipe::{ClientOptions, NamedPipeClient, PipeName};
use tokio::time::{Instant, sleep_until};
use windows_sys::Win32::Foundation::{ERROR_PIPE_BUSY, ERROR_PIPE_NOT_CONNECTED};

use crate::cli::ConnectArguments;
use crate::exit::{Exit, Failure};
use crate::relay::{ClientEnd, End, Summary, relay};
use crate::report::Report;
use crate::stdio::stdio;

/// The pauses between attempts at a busy pipe: short at first, since most servers make a new instance at once.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

pub(crate) async fn run(arguments: ConnectArguments, report: Report) -> Result<(), Failure> {
    let name = &arguments.target;
    let mut stdio = stdio()
        .map_err(|error| Failure::new(Exit::Failure, format!("cannot use stdin and stdout: {error}")))?;
    let mut pipe = open(name, arguments.wait, report).await?;
    report.detail(format_args!("connected to {name}"));
    let summary = relay(&mut stdio, &mut pipe, ClientEnd::HalfClose).await;
    report.detail(format_args!(
        "{name} ended: {} bytes sent, {} bytes received",
        summary.requests.bytes, summary.replies.bytes
    ));
    verdict(name, summary)
}

/// Opens first and asks later: WaitNamedPipe blocks, cannot be cancelled, and promises nothing, since another client
/// may take the instance it saw.
async fn open(name: &PipeName, wait: u32, report: Report) -> Result<NamedPipeClient, Failure> {
    let deadline = Instant::now() + Duration::from_secs(wait.into());
    let mut pause = FIRST_PAUSE;
    loop {
        match ClientOptions::new().open(name) {
            Ok(pipe) => return Ok(pipe),
            Err(error) if has_code(&error, ERROR_PIPE_BUSY) && Instant::now() < deadline => {
                if pause == FIRST_PAUSE {
                    report.detail(format_args!("every instance of {name} is busy, waiting"));
                }
                sleep_until(deadline.min(Instant::now() + pause)).await;
                pause = LONGEST_PAUSE.min(pause * 2);
            }
            Err(error) => return Err(open_failure(name, wait, &error)),
        }
    }
}

fn open_failure(name: &PipeName, wait: u32, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::NotFound => {
            Failure::new(Exit::NotFound, format!("no program serves {name}; is the server running?"))
        }
        io::ErrorKind::PermissionDenied => Failure::new(
            Exit::AccessDenied,
            format!(
                "access to {name} is denied; its server may belong to another user, need elevation, or send in one \
                 direction only"
            ),
        ),
        _ if has_code(error, ERROR_PIPE_BUSY) => Failure::new(
            Exit::Busy,
            format!(
                "every instance of {name} stayed busy for {wait} s; try later, or wait longer with --wait"
            ),
        ),
        _ => Failure::new(Exit::Failure, format!("cannot open {name}: {error}")),
    }
}

fn verdict(name: &PipeName, summary: Summary) -> Result<(), Failure> {
    match summary.replies.end {
        // Nothing but the end of the replies ends a session with stdin, so they are not abandoned.
        End::Eof | End::Abandoned { .. } => {}
        End::ReadFailed(error) if has_code(&error, ERROR_PIPE_NOT_CONNECTED) => {
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

/// Wine reports a broken Linux pipe as ERROR_PIPE_NOT_CONNECTED, which Rust does not count as a broken pipe.
fn reader_has_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe || has_code(error, ERROR_PIPE_NOT_CONNECTED)
}

fn has_code(error: &io::Error, code: u32) -> bool {
    error.raw_os_error() == Some(code.cast_signed())
}
