//! The tool `npipe`: parse, run, exit. The exit codes are in `exit`, the words on stderr in
//! `report`.

use std::ffi::OsString;
#[cfg(windows)]
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, CommandFactory, FromArgMatches};

use crate::cli::{Cli, Command};
#[cfg(unix)]
use crate::cli::{InfoArguments, ListArguments};
use crate::exit::{Exit, Failure};
use crate::report::Report;

mod account;
mod agent;
mod assuan;
mod bridge;
mod cli;
mod connect;
mod dial;
mod endings;
mod endpoint;
mod ends;
mod exec;
mod exit;
mod forward;
#[cfg(windows)]
mod info;
#[cfg(windows)]
mod launch;
mod limit;
#[cfg(any(windows, test))]
#[cfg_attr(
    not(windows),
    allow(dead_code, reason = "elsewhere there is nothing to list, but what is made of it is tested")
)]
mod list;
mod listener;
mod manual;
#[cfg(unix)]
mod nonblocking;
mod npiperelay;
mod npiperelay_flags;
mod output;
mod patience;
mod progress;
mod relay;
mod report;
#[cfg(any(windows, test))]
mod rights;
mod stdio;
#[cfg(any(windows, target_os = "linux"))]
mod sys;
mod verdict;
#[cfg(unix)]
mod wsl;

fn main() -> ExitCode {
    let (Cli { verbose, command }, given) = parse(npiperelay::translated(std::env::args_os().collect()));
    let report = Report::new(verbose);
    #[cfg(windows)]
    close_window_of_our_own(report);
    let exit = match check(&command, &given).and_then(|()| run(command, report)) {
        Ok(()) => {
            report::flush();
            Exit::Success
        }
        Err(failure) => {
            report.failure(&failure);
            failure.exit
        }
    };
    exit.into()
}

/// Windows opens a console for a program whose parent has none, such as WSL's init for a service,
/// or an editor. Nothing is ever shown there, and who closes its window ends the program.
#[cfg(windows)]
fn close_window_of_our_own(report: Report) {
    let is_used = io::stdin().is_terminal() || io::stdout().is_terminal() || io::stderr().is_terminal();
    if !is_used && sys::leave_console_of_our_own() {
        report.detail(format_args!("closed the window that was opened for this program alone"));
    }
}

/// Returns only for a command line with a command to run.
fn parse(arguments: Vec<OsString>) -> (Cli, ArgMatches) {
    let parsed = Cli::command().try_get_matches_from(&arguments).and_then(|given| {
        let cli = Cli::from_arg_matches(&given).map_err(|error| error.format(&mut Cli::command()))?;
        Ok((cli, given))
    });
    parsed.unwrap_or_else(|error| end_with(error, &arguments).exit_process())
}

/// Prints help, or why the command line is refused.
fn end_with(mut error: clap::Error, arguments: &[OsString]) -> Exit {
    if !error.use_stderr() {
        return match output::report(error.print()) {
            Ok(()) => Exit::Success,
            Err(failure) => {
                Report::new(0).failure(&failure);
                failure.exit
            }
        };
    }
    let unknown = matches!(error.kind(), ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand);
    if let Some(suggestion) = npiperelay_flags::suggestion(arguments).filter(|_| unknown) {
        Report::new(0).failure(&Failure::new(Exit::Usage, suggestion));
    }
    // A hidden command is not suggested either.
    let hidden = |value: &ContextValue| match value {
        ContextValue::Strings(names) => names.iter().any(|name| cli::is_hidden(name)),
        ContextValue::String(name) => cli::is_hidden(name),
        _ => false,
    };
    if error.get(ContextKind::SuggestedSubcommand).is_some_and(hidden) {
        error.remove(ContextKind::SuggestedSubcommand);
    }
    // Nothing is left to do where stderr is closed.
    let _ = error.print();
    Exit::Usage
}

/// Refuses what can be refused before anything is done.
fn check(command: &Command, given: &ArgMatches) -> Result<(), Failure> {
    match (command, given.subcommand()) {
        (Command::Forward(arguments), Some((_, given))) => ends::check(arguments, given),
        _ => Ok(()),
    }
}

fn run(command: Command, report: Report) -> Result<(), Failure> {
    match command {
        Command::Connect(arguments) => on_runtime(connect::run(arguments, report)),
        #[cfg(windows)]
        Command::Info(arguments) => on_runtime(info::run(arguments, report)),
        #[cfg(windows)]
        Command::List(arguments) => list::run(&arguments),
        #[cfg(unix)]
        Command::Info(InfoArguments { windows_program, .. })
        | Command::List(ListArguments { windows_program, .. }) => {
            Err(wsl::hand_over(windows_program.path.as_deref(), report))
        }
        Command::Forward(arguments) => on_runtime(forward::run(arguments, report)),
        Command::Completions { shell } => manual::completions(shell),
        Command::Man { directory } => manual::pages(directory.as_deref()),
        #[cfg(unix)]
        Command::Wsl(command) => on_runtime(wsl::run(command, report)),
        Command::BridgeServer => on_runtime(bridge::server::run(report)),
    }
}

fn on_runtime(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failure, format!("cannot start: {error}")))?;
    let outcome = runtime.block_on(command);
    // A thread may sit in a call that nothing can cancel; the end of the process ends it. Tasks are
    // dropped, and what they hold is cleaned up.
    runtime.shutdown_background();
    outcome
}
