//! `cargo xtask demo`: real OpenSSH keys, listed and used on Linux through a Windows named pipe and
//! npipe's bridge to it.
//!
//! Where OpenSSH for Unix is at hand its agent is served; on Windows the agent service is asked, if
//! it runs; else an echo goes through the same programs.

#[cfg(unix)]
mod comparison;
mod echo;
#[cfg(unix)]
mod openssh;
mod tool;

use std::time::Instant;

use anyhow::Result;

#[cfg(unix)]
use crate::process::build_program;
use crate::process::build_tool;
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
    let executable = build_tool(report, "build npipe.exe", windows.cargo(workspace, "build"))?;
    #[cfg(unix)]
    let native = build_tool(report, "build npipe", workspace.cargo("build"))?;
    #[cfg(unix)]
    let pipe_server = {
        let mut cargo = windows.cargo(workspace, "build");
        cargo.args(["--package", "npipe", "--example", "pipe_to_tcp"]);
        build_program(report, "build pipe_to_tcp.exe", cargo)?
    };
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
        Windows::Wine { .. } => openssh::list_and_sign(&stage, &tool, &pipe_server),
        #[cfg(not(unix))]
        Windows::Wine { .. } => unreachable!("Windows is Windows"),
    }
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
