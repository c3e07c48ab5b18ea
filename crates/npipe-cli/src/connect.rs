//! `npipe connect`: opens a pipe, joins it with stdin and stdout, and says by its exit code how that ended. The
//! meaning of the system's error codes for a client of a pipe is decided here.

use std::io::{self, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use npipe::blocking::PipeStream;
use npipe::{PipeMode, PipeName};
use windows_sys::Win32::Foundation::ERROR_PIPE_NOT_CONNECTED;

use crate::cli::ConnectArguments;
use crate::exit::{Exit, Failure};
use crate::relay::{End, Summary};
use crate::report::Report;
use crate::session::{self, EndOfInput, Streams};
use crate::stdio;

/// Between attempts. As npiperelay's, so that as many attempts take as long.
const PAUSE: Duration = Duration::from_millis(200);

pub(crate) fn run(arguments: &ConnectArguments, report: Report) -> Result<(), Failure> {
    let name = &arguments.target;
    let stdio_failure = |error| Failure::new(Exit::Failure, format!("cannot use stdin and stdout: {error}"));
    let (stdin, stdout) = (stdio::stdin().map_err(stdio_failure)?, stdio::stdout().map_err(stdio_failure)?);
    let pipe = open(arguments, report)?;
    report.detail(format_args!("connected to {name}"));
    let summary = join(stdin, stdout, pipe, arguments, report)
        .map_err(|error| Failure::new(Exit::Failure, format!("cannot start the session: {error}")))?;
    report.detail(format_args!(
        "{name} ended: {} bytes sent, {} bytes received",
        summary.requests.bytes, summary.replies.bytes
    ));
    verdict(name, summary, arguments.accept_disconnect)
}

/// Opens first and asks later: only an attempt tells whether the pipe can be had.
fn open(arguments: &ConnectArguments, report: Report) -> Result<PipeStream, Failure> {
    let name = &arguments.target;
    let patience = Patience::of(arguments);
    let start = Instant::now();
    let mut attempts = 0;
    let mut pause = Duration::ZERO;
    let mut waited_for = None;
    loop {
        // A pipe that is busy is waited for inside, and had as soon as it is free.
        let error = match PipeStream::connect_timeout(name, pause) {
            Ok(pipe) => return Ok(pipe),
            Err(error) => error,
        };
        attempts += 1;
        let obstacle = Obstacle::of(&error);
        let Some(next) = patience.pause(obstacle, attempts, start.elapsed()) else {
            return Err(open_failure(name, &error, obstacle, Waited { attempts, time: start.elapsed() }));
        };
        if waited_for.replace(obstacle) != Some(obstacle) {
            match obstacle {
                Obstacle::Busy => report.detail(format_args!("every instance of {name} is busy, waiting")),
                _ => report.detail(format_args!("no program serves {name} yet, waiting")),
            }
        }
        if obstacle == Obstacle::Missing {
            thread::sleep(next);
        }
        pause = if obstacle == Obstacle::Busy { next } else { Duration::ZERO };
    }
}

/// Why a pipe could not be opened, as far as that decides what to do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Obstacle {
    Missing,
    Busy,
    Other,
}

impl Obstacle {
    fn of(error: &io::Error) -> Obstacle {
        match error.kind() {
            io::ErrorKind::NotFound => Obstacle::Missing,
            // The library's time-out carries no code; that of a machine which does not answer does.
            io::ErrorKind::TimedOut if error.raw_os_error().is_none() => Obstacle::Busy,
            _ => Obstacle::Other,
        }
    }
}

/// How long to go on trying.
#[derive(Clone, Copy)]
enum Patience {
    /// While the pipe is busy, for so long.
    WhileBusy(Duration),
    /// While it is busy or missing, for so many attempts and for so long at most.
    Poll { attempts: Option<u32>, time: Option<Duration> },
}

struct Waited {
    attempts: u32,
    time: Duration,
}

impl Patience {
    fn of(arguments: &ConnectArguments) -> Patience {
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        if arguments.poll {
            Patience::Poll { attempts: arguments.poll_limit, time: arguments.poll_deadline.map(seconds) }
        } else {
            Patience::WhileBusy(seconds(arguments.wait))
        }
    }

    /// How long to wait before the next attempt. `None`: no longer.
    fn pause(self, obstacle: Obstacle, attempts: u32, elapsed: Duration) -> Option<Duration> {
        let (most, time) = match (self, obstacle) {
            (_, Obstacle::Other) | (Patience::WhileBusy(_), Obstacle::Missing) => return None,
            (Patience::WhileBusy(time), Obstacle::Busy) => (None, Some(time)),
            (Patience::Poll { attempts, time }, _) => (attempts, time),
        };
        if most.is_some_and(|most| attempts >= most) {
            return None;
        }
        match time {
            Some(time) => {
                let left = time.saturating_sub(elapsed);
                if left.is_zero() { None } else { Some(left.min(PAUSE)) }
            }
            None => Some(PAUSE),
        }
    }
}

fn join(
    stdin: impl Read + Send + 'static,
    stdout: impl Write + Send + 'static,
    pipe: PipeStream,
    arguments: &ConnectArguments,
    report: Report,
) -> io::Result<Summary> {
    let streams = Streams { stdin, stdout, to_server: pipe.try_clone()?, from_server: pipe };
    let end_of_input =
        if arguments.exit_on_stdin_eof { EndOfInput::EndsSession } else { EndOfInput::KeepsSession };
    let name = arguments.eof_message.then(|| arguments.target.clone());
    session::run(streams, end_of_input, move |pipe| {
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

fn open_failure(name: &PipeName, error: &io::Error, obstacle: Obstacle, waited: Waited) -> Failure {
    let Waited { attempts, time } = waited;
    let seconds = time.as_secs();
    match obstacle {
        Obstacle::Missing if attempts > 1 => Failure::new(
            Exit::NotFound,
            format!(
                "no program served {name} in {attempts} attempts over {seconds} s; is the server running?"
            ),
        ),
        Obstacle::Missing => {
            Failure::new(Exit::NotFound, format!("no program serves {name}; is the server running?"))
        }
        Obstacle::Busy => Failure::new(
            Exit::Busy,
            format!(
                "every instance of {name} stayed busy for {seconds} s; try later, or wait longer with --wait or --poll"
            ),
        ),
        Obstacle::Other if error.kind() == io::ErrorKind::PermissionDenied => Failure::new(
            Exit::AccessDenied,
            format!(
                "access to {name} is denied; its server may belong to another user, need elevation, or send in one \
                 direction only"
            ),
        ),
        Obstacle::Other => Failure::new(Exit::Failure, format!("cannot open {name}: {error}")),
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
