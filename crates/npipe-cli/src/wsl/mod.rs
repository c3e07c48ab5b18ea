//! The Windows Subsystem for Linux: `npipe wsl`, and the socket by which Windows programs are
//! started there.

use crate::cli::WslCommand;
use crate::exit::Failure;
use crate::report::Report;

mod doctor;
mod handover;
pub(crate) mod interop;
pub(crate) mod service;
mod setup;

pub(crate) use handover::hand_over;

pub(crate) async fn run(command: WslCommand, report: Report) -> Result<(), Failure> {
    match command {
        WslCommand::Setup(arguments) => setup::run(&arguments, report),
        WslCommand::Doctor(arguments) => doctor::run(arguments, report).await,
    }
}
