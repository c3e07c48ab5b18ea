//! The tool `npipe`: parse, run, exit. The exit codes are in `exit`, the words on stderr in `report`.

#![cfg_attr(
    not(windows),
    allow(dead_code, reason = "no command runs here, but flags, names and help are the same")
)]

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::exit::{Exit, Failure};
use crate::report::Report;

mod bridge;
mod cli;
#[cfg(windows)]
mod connect;
mod endpoint;
mod exit;
#[cfg(windows)]
mod forward;
#[cfg(windows)]
mod info;
mod list;
mod npiperelay;
#[cfg(windows)]
mod open;
mod output;
#[cfg(any(windows, test))]
#[cfg_attr(not(test), allow(dead_code, reason = "no client that can half-close is forwarded yet"))]
mod relay;
mod report;
#[cfg(any(windows, test))]
mod session;
#[cfg(windows)]
mod stdio;
#[cfg(unix)]
mod wsl;

fn main() -> ExitCode {
    let Cli { verbose, command } = Cli::parse_from(npiperelay::translated(std::env::args_os().collect()));
    let report = Report::new(verbose);
    let exit = match run(command, report) {
        Ok(()) => Exit::Success,
        Err(failure) => {
            report.failure(&failure);
            failure.exit
        }
    };
    exit.into()
}

#[cfg(windows)]
fn run(command: Command, report: Report) -> Result<(), Failure> {
    match command {
        Command::Connect(arguments) => connect::run(&arguments, report),
        Command::Info(arguments) => info::run(&arguments, report),
        Command::List(arguments) => list::run(&arguments),
        Command::Forward(arguments) => on_runtime(forward::run(arguments, report)),
        Command::BridgeServer => on_runtime(bridge::server::run(report)),
    }
}

fn on_runtime(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failure, format!("cannot start: {error}")))?;
    let outcome = runtime.block_on(command);
    // A thread may sit in a call that nothing can cancel; the end of the process ends it.
    runtime.shutdown_background();
    outcome
}

#[cfg(not(windows))]
fn run(command: Command, report: Report) -> Result<(), Failure> {
    match command {
        Command::BridgeServer => on_runtime(bridge::server::run(report)),
        Command::Connect(_) | Command::Forward(_) | Command::Info(_) | Command::List(_) => {
            let message = "named pipes of this kind exist on Windows only; run npipe.exe there";
            Err(Failure::new(Exit::Unsupported, message))
        }
    }
}
