//! Opening a pipe as a client, with patience: for a server that is busy, or not there yet. What the system's codes mean for
//! the opening of a pipe is decided here.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use npipe::blocking::PipeStream;
use npipe::{ClientOptions, PipeName};

use crate::account::Lasted;
use crate::exit::{Exit, Failure};
use crate::patience::{Obstacle, Patience};
use crate::report::Report;

/// Opens first and asks later: only an attempt tells whether the pipe can be had.
pub(crate) fn open(
    name: &PipeName,
    options: &ClientOptions,
    patience: Patience,
    report: Report,
) -> Result<PipeStream, Failure> {
    let start = Instant::now();
    let mut attempts = 0;
    let mut pause = Duration::ZERO;
    let mut waited_for = None;
    loop {
        // A pipe that is busy is waited for inside, and had as soon as it is free.
        let error = match PipeStream::connect_timeout_with(options, name, pause) {
            Ok(pipe) => return Ok(pipe),
            Err(error) => error,
        };
        attempts += 1;
        report.step(format_args!("attempt {attempts} to open {name}: {error}"));
        let obstacle = obstacle_of(&error);
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

fn obstacle_of(error: &io::Error) -> Obstacle {
    match error.kind() {
        io::ErrorKind::NotFound => Obstacle::Missing,
        // The library's time-out carries no code; that of a machine which does not answer does.
        io::ErrorKind::TimedOut if error.raw_os_error().is_none() => Obstacle::Busy,
        _ => Obstacle::Other,
    }
}

struct Waited {
    attempts: u32,
    time: Duration,
}

fn open_failure(name: &PipeName, error: &io::Error, obstacle: Obstacle, waited: Waited) -> Failure {
    let Waited { attempts, time } = waited;
    let lasted = Lasted(time);
    match obstacle {
        Obstacle::Missing if attempts > 1 => Failure::new(
            Exit::NotFound,
            format!("no program served {name} in {attempts} attempts over {lasted}; is the server running?"),
        ),
        Obstacle::Missing => {
            Failure::new(Exit::NotFound, format!("no program serves {name}; is the server running?"))
        }
        Obstacle::Busy => Failure::new(
            Exit::Busy,
            format!(
                "every instance of {name} stayed busy for {lasted}; try later, or wait longer with --wait or --poll"
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
