//! `npipe connect`: opens a pipe, joins it with stdin and stdout, and says by its exit code how that ended. The
//! meaning of the system's error codes for a client of a pipe is decided here.

use std::io::{self, Read, Write};

use npipe::blocking::PipeStream;
use npipe::{ClientOptions, PipeMode, PipeName};
use windows_sys::Win32::Foundation::ERROR_PIPE_NOT_CONNECTED;

use crate::account::Account;
use crate::cli::ConnectArguments;
use crate::exit::{Exit, Failure};
use crate::open::open;
use crate::patience::Patience;
use crate::progress::Progress;
use crate::relay::{End, Summary};
use crate::report::Report;
use crate::session::{self, EndOfInput, Streams};
use crate::stdio;

pub(crate) fn run(arguments: &ConnectArguments, report: Report) -> Result<(), Failure> {
    let name = &arguments.target;
    let stdio_failure = |error| Failure::new(Exit::Failure, format!("cannot use stdin and stdout: {error}"));
    let (stdin, stdout) = (stdio::stdin().map_err(stdio_failure)?, stdio::stdout().map_err(stdio_failure)?);
    let pipe = open(name, &ClientOptions::new(), Patience::of_connect(arguments), report)?;
    report.detail(format_args!("connected to {name}"));
    let summary = join(stdin, stdout, pipe, arguments, report)
        .map_err(|error| Failure::new(Exit::Failure, format!("cannot start the session: {error}")))?;
    verdict(name, summary, arguments.accept_disconnect)
}

fn join(
    stdin: impl Read + Send + 'static,
    stdout: impl Write + Send + 'static,
    pipe: PipeStream,
    arguments: &ConnectArguments,
    report: Report,
) -> io::Result<Summary> {
    pipe.set_empty_message_is_end(arguments.end_at_empty_message)?;
    let streams = Streams { stdin, stdout, to_server: pipe.try_clone()?, from_server: pipe };
    let end_of_input =
        if arguments.exit_on_stdin_eof { EndOfInput::EndsSession } else { EndOfInput::KeepsSession };
    let name = arguments.eof_message.then(|| arguments.target.clone());
    let account =
        Account::of_stdio(&arguments.target, Progress::new(arguments.progress.when, report), report);
    session::run(streams, end_of_input, account, move |pipe| {
        if let Some(name) = name {
            send_eof_message(pipe, &name, report);
        }
    })
}

/// Nothing is lost when the server has gone before it came: it had all that was said.
fn send_eof_message(mut pipe: &PipeStream, name: &PipeName, report: Report) {
    match pipe.info().map(|info| info.mode) {
        Ok(PipeMode::Message) => match pipe.write(&[]) {
            Ok(_) => report.detail(format_args!("stdin ended; {name} has been told by an empty message")),
            Err(error) => report.detail(format_args!("{name} was gone when stdin ended: {error}")),
        },
        Ok(_) => report.detail(format_args!(
            "stdin ended; {name} carries bytes, which have no empty message, so it has not been told"
        )),
        Err(error) => report.detail(format_args!("cannot ask {name} whether it carries messages: {error}")),
    }
}

fn verdict(name: &PipeName, summary: Summary, accept_disconnect: bool) -> Result<(), Failure> {
    match summary.replies.end {
        // Replies are abandoned only where the end of stdin was to end the session, after all that had come.
        End::Eof | End::Abandoned { .. } => {}
        End::ReadFailed(error) if accept_disconnect && has_code(&error, ERROR_PIPE_NOT_CONNECTED) => {}
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
