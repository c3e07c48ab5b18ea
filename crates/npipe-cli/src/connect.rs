//! `npipe connect` on Windows: opens a pipe and joins it with stdin and stdout.

use std::io::{self, Read, Write};

use npipe::blocking::PipeStream;
use npipe::{ClientOptions, PipeName};

use crate::account::Account;
use crate::cli::ConnectArguments;
use crate::dial::pipe::PATIENCE;
use crate::exit::{Exit, Failure};
use crate::open::open;
use crate::patience::Patience;
use crate::progress::Progress;
use crate::relay::Summary;
use crate::report::Report;
use crate::session::{self, EndOfInput, Streams};
use crate::stdio;
use crate::verdict::verdict;

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
fn send_eof_message(pipe: &PipeStream, name: &PipeName, report: Report) {
    match pipe.close_write(PATIENCE) {
        Ok(()) => report.detail(format_args!("stdin ended; {name} has been told by an empty message")),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => report.detail(format_args!(
            "stdin ended; {name} has been told by an empty message, behind what it has not read for {} seconds",
            PATIENCE.as_secs()
        )),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => report.detail(format_args!(
            "stdin ended; {name} carries bytes, which have no empty message, so it has not been told"
        )),
        Err(error) => report.detail(format_args!("{name} was gone when stdin ended: {error}")),
    }
}
