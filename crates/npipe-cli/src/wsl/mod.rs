//! The Windows Subsystem for Linux: `npipe wsl`, and the socket by which Windows programs are
//! started there.

use std::time::Duration;

use crate::cli::WslCommand;
use crate::exit::Failure;
use crate::report::Report;

mod doctor;
mod examine;
mod handover;
pub(crate) mod interop;
pub(crate) mod service;
mod setup;

pub(crate) use handover::hand_over;

/// The time-out of an answer: of an agent, of a relay, of a program of WSL.
const LONGEST_ANSWER: Duration = Duration::from_secs(5);

pub(crate) async fn run(command: WslCommand, report: Report) -> Result<(), Failure> {
    match command {
        WslCommand::Setup(arguments) => setup::run(&arguments, report),
        WslCommand::Doctor(arguments) => doctor::run(arguments, report).await,
    }
}
