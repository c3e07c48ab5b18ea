//! `npipe connect`: opens a pipe, joins it with stdin and stdout, and says by its exit code how that ended. The
//! meaning of the system's error codes for a client of a pipe is decided here.

use std::io::{self, Read, Write};
use std::time::Duration;

use npipe::PipeName;
use npipe::blocking::PipeStream;
use windows_sys::Win32::Foundation::ERROR_PIPE_NOT_CONNECTED;

use crate::cli::ConnectArguments;
use crate::exit::{Exit, Failure};
use crate::relay::{End, Summary};
use crate::report::Report;
use crate::session::{self, EndOfInput, Streams};
use crate::stdio;

pub(crate) fn run(arguments: &ConnectArguments, report: Report) -> Result<(), Failure> {
    let name = &arguments.target;
    let stdio_failure = |error| Failure::new(Exit::Failure, format!("cannot use stdin and stdout: {error}"));
    let (stdin, stdout) = (stdio::stdin().map_err(stdio_failure)?, stdio::stdout().map_err(stdio_failure)?);
    let pipe = open(name, arguments.wait, report)?;
    report.detail(format_args!("connected to {name}"));
    let summary = join(stdin, stdout, pipe)
        .map_err(|error| Failure::new(Exit::Failure, format!("cannot start the session: {error}")))?;
    report.detail(format_args!(
        "{name} ended: {} bytes sent, {} bytes received",
        summary.requests.bytes, summary.replies.bytes
    ));
    verdict(name, summary)
}

/// Opens first and asks later: only an attempt tells whether the pipe can be had.
fn open(name: &PipeName, wait: u32, report: Report) -> Result<PipeStream, Failure> {
    let attempt = PipeStream::connect_timeout(name, Duration::ZERO);
    let pipe = match attempt {
        Err(error) if is_busy(&error) && wait > 0 => {
            report.detail(format_args!("every instance of {name} is busy, waiting"));
            PipeStream::connect_timeout(name, Duration::from_secs(wait.into()))
        }
        attempt => attempt,
    };
    pipe.map_err(|error| open_failure(name, wait, &error))
}

/// The library's time-out carries no code; that of a machine which does not answer does.
fn is_busy(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::TimedOut && error.raw_os_error().is_none()
}

fn join(
    stdin: impl Read + Send + 'static,
    stdout: impl Write + Send + 'static,
    pipe: PipeStream,
) -> io::Result<Summary> {
    let streams = Streams { stdin, stdout, to_server: pipe.try_clone()?, from_server: pipe };
    session::run(streams, EndOfInput::KeepsSession, |_| Ok(()))
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
        _ if is_busy(error) => Failure::new(
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
