//! `cargo xtask demo`: real OpenSSH keys, listed and used on Linux through a Windows named pipe and npipe's bridge to it.
//!
//! Where OpenSSH for Unix is at hand its agent is served; on Windows the agent service is asked, if it runs; else an echo
//! goes through the same programs.

#[cfg(unix)]
mod comparison;
mod echo;
#[cfg(unix)]
mod openssh;
mod tool;

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::process::{BUILD_LIMIT, output_of};
use crate::progress::Report;
use crate::setup;
use crate::windows::Windows;
use crate::workspace::Workspace;
use tool::Tool;

/// What to show.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Send bytes there and back instead of using OpenSSH
    #[arg(long)]
    echo: bool,
}

pub(crate) fn run(workspace: &Workspace, report: &mut Report, options: &Options) -> Result<()> {
    let windows = setup::everything(workspace, report)?;
    let executable = build(report, "build npipe.exe", windows.cargo(workspace, "build"))?;
    #[cfg(unix)]
    let native = build(report, "build npipe", workspace.cargo("build"))?;
    println!();
    let stage = Stage { started: Instant::now() };
    let tool = Tool {
        executable,
        windows,
        #[cfg(unix)]
        native,
    };
    if options.echo {
        return echo::there_and_back(&stage, &tool);
    }
    match &tool.windows {
        Windows::Native => echo::agent_service_or_echo(&stage, &tool),
        #[cfg(unix)]
        Windows::Wine { .. } => openssh::list_and_sign(&stage, &tool),
        #[cfg(not(unix))]
        Windows::Wine { .. } => unreachable!("Windows is Windows"),
    }
}

/// Runs `cargo`, a `cargo build`, for the tool, and gives the program it has built.
fn build(report: &mut Report, title: &str, mut cargo: Command) -> Result<PathBuf> {
    // Optimised: the demo shows numbers.
    cargo.args(["--release", "--package", "npipe-cli", "--message-format=json-render-diagnostics"]);
    report.require(title, |step| {
        let messages = output_of(step, &mut cargo, BUILD_LIMIT)?;
        let mut executables = messages
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .filter_map(|message| message["executable"].as_str().map(PathBuf::from));
        executables.next_back().context("cargo built no program for npipe-cli")
    })
}

/// Tells the audience what happens, and when.
struct Stage {
    started: Instant,
}

impl Stage {
    fn say(&self, text: &str) {
        println!("[{:6.2} s] {text}", self.started.elapsed().as_secs_f64());
    }
}
