//! The chores of the project: `cargo xtask setup | demo | test | mutants | bench | windows-report |
//! check | api | versions | ci`.
//!
//! Everything a contributor or CI has to do beyond plain cargo is a subcommand here, so that both
//! do the same. This file only parses and dispatches. Nothing in this crate may use `npipe` itself:
//! the chores must run while the library is broken.

mod api;
mod bench;
mod check;
mod demo;
mod launcher;
mod mutants;
mod process;
mod progress;
#[cfg(unix)]
mod scratch;
mod setup;
mod test;
mod tidy;
mod versions;
mod windows;
mod windows_report;
mod workspace;
mod wrapper;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::progress::Report;
use crate::workspace::Workspace;

/// The chores of npipe. On Linux they install and build what Windows programs need, and run them
/// under Wine.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Get everything the other chores need (they call it themselves); quick when it is there
    /// already
    Setup,
    /// Show real OpenSSH keys listed and used through a Windows named pipe, and what a connection
    /// costs
    Demo(demo::Options),
    /// Run all tests: natively what can be, under Wine (or on Windows itself) the rest
    Test(test::Options),
    /// Change the library's decisions one at a time, and list the changes that no native test
    /// notices
    Mutants(mutants::Options),
    /// Measure npipe beside its peers and write docs/benchmarks.md
    Bench(bench::Options),
    /// Run assumptions, all suites and the benchmark on Windows, and write one file about it to
    /// attach to an issue
    WindowsReport(windows_report::Options),
    /// Formatting, lints for every target, documentation, layering, licences, public API
    Check,
    /// Compare the library's public items with docs/public-api.txt
    Api(api::Options),
    /// Compile the library and the tool with the oldest Rust and dependencies that they declare
    Versions,
    /// Run check, versions, then test, as CI does
    Ci,
}

fn main() -> ExitCode {
    if let Some(code) = wrapper::rustc_for_cargo() {
        return code;
    }
    let chore = Cli::parse().chore;
    process::stop_everything_on_interrupt();
    let mut report = Report::new();
    let result = run(chore, &mut report);
    process::leave_the_end_to_an_interrupt();
    match result {
        Ok(()) => report.finish(),
        Err(error) => {
            eprintln!("error: {error:#}");
            report.finish();
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore, report: &mut Report) -> anyhow::Result<()> {
    let workspace = Workspace::locate()?;
    match chore {
        Chore::Setup => {
            setup::everything(&workspace, report)?;
            Ok(())
        }
        Chore::Demo(options) => demo::run(&workspace, report, &options),
        Chore::Test(options) => test::run(&workspace, report, &options),
        Chore::Mutants(options) => mutants::run(&workspace, report, &options),
        Chore::Bench(options) => bench::run(&workspace, report, &options),
        Chore::WindowsReport(options) => windows_report::run(&workspace, report, options),
        Chore::Check => check::run(&workspace, report),
        Chore::Api(options) => api::run(&workspace, report, &options),
        Chore::Versions => versions::run(&workspace, report),
        Chore::Ci => {
            check::run(&workspace, report)?;
            versions::run(&workspace, report)?;
            test::run(&workspace, report, &test::Options::default())
        }
    }
}
