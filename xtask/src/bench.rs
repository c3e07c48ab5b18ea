//! `cargo xtask bench`: runs the benchmark of `crates/npipe-bench` and keeps its table in
//! `docs/benchmarks.md`.
//!
//! What is measured, and how, is the benchmark's business: this builds it, shows how far it is, and
//! writes down on what it ran, without which the numbers say nothing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

#[cfg(unix)]
use crate::launcher;
#[cfg(unix)]
use crate::process::build_tool;
use crate::process::{BUILD_LIMIT, Ending, Limits, Stream, follow, output_of};
use crate::progress::{Report, Step};
#[cfg(unix)]
use crate::scratch::Scratch;
use crate::setup;
use crate::windows::Windows;
use crate::workspace::Workspace;

const PACKAGE: &str = "npipe-bench";
const BENCH: &str = "peers";

/// The name of what is measured of the tool, which is no case of the other benchmark.
const TOOL: &str = "tool";

/// Begins the last part of the document.
const TOOL_TITLE: &str = "## The tool, on Linux and Windows together";

/// Whose versions stand with the numbers.
const MEASURED: [&str; 4] = ["npipe", "tokio", "compio", "interprocess"];

/// No round of any case takes minutes.
const LIMITS: Limits = Limits { quiet: Duration::from_secs(300), total: Duration::from_secs(2 * 60 * 60) };

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Fewer and shorter rounds: for trying a change, not for the record
    #[arg(long)]
    quick: bool,
    /// Only the case of this name, or those whose names start with it; `tool` for what is measured
    /// of the tool
    #[arg(long, value_name = "CASE")]
    only: Option<String>,
    /// Leave docs/benchmarks.md as it is; implied by --quick and by --only, but for `--only tool`,
    /// which has a part of its own
    #[arg(long)]
    no_write: bool,
}

/// The table of the libraries, from a benchmark of all cases.
pub(crate) fn table(
    workspace: &Workspace,
    report: &mut Report,
    windows: &Windows,
    quick: bool,
) -> Result<String> {
    let executable = build(workspace, report, windows)?;
    let mut command = windows.program(&executable);
    command.args(quick.then_some("--quick"));
    report.require("measure", |step| measure(step, &mut command))
}

fn build(workspace: &Workspace, report: &mut Report, windows: &Windows) -> Result<PathBuf> {
    report.require("build the benchmark", |step| {
        let mut build = windows.cargo(workspace, "bench");
        build.args(["--package", PACKAGE, "--bench", BENCH, "--all-features"]);
        build.args(["--no-run", "--message-format=json-render-diagnostics"]);
        let messages = output_of(step, &mut build, BUILD_LIMIT)?;
        let bench = messages
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|message| message["target"]["name"] == BENCH)
            .find_map(|message| message["executable"].as_str().map(PathBuf::from));
        bench.with_context(|| format!("cargo built no benchmark {BENCH}"))
    })
}

pub(crate) fn run(workspace: &Workspace, report: &mut Report, options: &Options) -> Result<()> {
    let windows = setup::everything(workspace, report)?;
    let executable = &build(workspace, report, &windows)?;
    let libraries = match options.only.as_deref() {
        Some(TOOL) => None,
        _ => Some(measure_libraries(workspace, report, options, &windows, executable)?),
    };
    let tool = match options.only.as_deref() {
        None | Some(TOOL) => measure_tool(workspace, report, options, &windows, executable)?,
        Some(_) => None,
    };
    if options.no_write || options.quick {
        return Ok(());
    }
    let path = workspace.root.join("docs/benchmarks.md");
    let document = match (libraries, &options.only) {
        (Some(libraries), None) => document(workspace, &windows, &libraries)?,
        (None, _) => std::fs::read_to_string(&path).unwrap_or_default(),
        // A part of the table must not take the place of the whole.
        (Some(_), Some(_)) => return Ok(()),
    };
    let tool = tool.map(|table| tool_section(&windows, &table)).unwrap_or_default();
    let (before, _) = document.split_once(TOOL_TITLE).unwrap_or((&document, ""));
    std::fs::create_dir_all(workspace.root.join("docs"))?;
    std::fs::write(&path, format!("{}\n\n{tool}", before.trim_end()))
        .with_context(|| format!("failed to write {}", path.display()))?;
    println!("written to {}", path.display());
    Ok(())
}

/// What the benchmark of the libraries printed.
struct Libraries {
    table: String,
    calls: Option<String>,
}

fn measure_libraries(
    workspace: &Workspace,
    report: &mut Report,
    options: &Options,
    windows: &Windows,
    executable: &Path,
) -> Result<Libraries> {
    let mut command = windows.program(executable);
    if options.quick {
        command.arg("--quick");
    }
    if let Some(case) = &options.only {
        command.arg("--only").arg(case);
    }
    let table = report.require("measure", |step| measure(step, &mut command))?;
    println!("\n{table}");
    let calls = match windows {
        Windows::Native => None,
        Windows::Wine { wine, .. } => Some(report.require("count kernel calls", |step| {
            let mut count = workspace.cargo("run");
            count.args(["--release", "--package", PACKAGE, "--bin", "kernel-calls", "--"]);
            count.args(options.only.iter().flat_map(|case| ["--only", case]));
            count.args(wine.runner().split(' ')).arg(executable).envs(wine.environment());
            output_of(step, &mut count, LIMITS)
        })?),
    };
    if let Some(calls) = &calls {
        println!("\n{calls}");
    }
    Ok(Libraries { table, calls })
}

/// None, since there is no Linux beside this Windows.
#[cfg(not(unix))]
fn measure_tool(
    _: &Workspace,
    report: &mut Report,
    _: &Options,
    _: &Windows,
    _: &Path,
) -> Result<Option<String>> {
    report.skip_step("measure the tool", "it is measured on Linux, with Wine");
    Ok(None)
}

/// The tool on both systems at once, where Wine makes that possible.
#[cfg(unix)]
fn measure_tool(
    workspace: &Workspace,
    report: &mut Report,
    options: &Options,
    windows: &Windows,
    peers: &Path,
) -> Result<Option<String>> {
    let executable = build_tool(report, "build npipe.exe", windows.cargo(workspace, "build"))?;
    let native = build_tool(report, "build npipe", workspace.cargo("build"))?;
    let scratch = Scratch::new("bench-tool")?;
    let (npipe_exe, peers_exe) = (scratch.path().join("npipe.exe"), scratch.path().join("peers.exe"));
    launcher::write(&npipe_exe, &windows.program(&executable))?;
    launcher::write(&peers_exe, &windows.program(peers))?;
    let mut command = workspace.cargo("run");
    command.args(["--release", "--package", PACKAGE, "--bin", "tool", "--", "--npipe"]).arg(native);
    command.arg("--windows-npipe").arg(npipe_exe).arg("--windows-peers").arg(peers_exe);
    command.args(options.quick.then_some("--quick"));
    let table = report.require("measure the tool", |step| measure(step, &mut command))?;
    println!("\n{table}");
    Ok(Some(table))
}

fn measure(step: &Step, command: &mut Command) -> Result<String> {
    let mut table = String::new();
    let mut said = String::new();
    let ending = follow(command, LIMITS, |stream, line| {
        match (stream, progress(line)) {
            (Stream::Error, Some((done, total, label))) => step.at(done, total, label),
            (Stream::Error, None) => said.extend([line, "\n"]),
            (Stream::Out, _) => table.extend([line, "\n"]),
        }
        true
    })?;
    match ending {
        Ending::Exited(status) if status.success() => Ok(table),
        Ending::Exited(status) => bail!("the benchmark ended with {status}; it said:\n{said}{table}"),
        Ending::TooLong(_) => bail!("the benchmark hung and was killed; it said:\n{said}{table}"),
    }
}

/// `progress: DONE/TOTAL LABEL`
fn progress(line: &str) -> Option<(u64, u64, &str)> {
    let (count, label) = line.strip_prefix("progress: ")?.split_once(' ')?;
    let (done, total) = count.split_once('/')?;
    Some((done.parse().ok()?, total.parse().ok()?, label))
}

fn document(workspace: &Workspace, windows: &Windows, measured: &Libraries) -> Result<String> {
    let Libraries { table, calls } = measured;
    let rustc =
        said_by(Command::new("rustc").arg("--version")).context("failed to ask rustc for its version")?;
    let pinned = match windows {
        Windows::Native => "",
        Windows::Wine { .. } => {
            ", all on one CPU. Under Wine every operation is a round trip to its server process: the ratios hold for Wine, \
             and the absolute numbers for this machine"
        }
    };
    Ok(format!(
        "# Benchmarks\n\n\
         Written by `cargo xtask bench`; do not edit. Each row compares implementations that took turns in one process.\n\n\
         - Date: {date}\n- System: {system}{pinned}.\n- CPU: {cpu}\n- Compiler: {rustc}\n- Versions: {versions}\n\n{table}{calls}",
        calls = calls.as_ref().map_or_else(String::new, |calls| format!(
            "\n## Kernel calls an operation\n\n\
             Counted from outside, by Wine's trace of the system calls of a Windows program. An operation is a write, an \
             exchange or a connection.\n\n{calls}"
        )),
        date = today(),
        system = windows.describe(),
        cpu = cpu_model(),
        versions = versions(&std::fs::read_to_string(workspace.root.join("Cargo.lock"))?).join(", "),
    ))
}

fn tool_section(windows: &Windows, table: &str) -> String {
    format!(
        "{TOOL_TITLE}\n\n\
         Programs on Linux use a pipe of the Windows side, here {system}, on {date}. A connection carries a request and 64 bytes \
         of answer, either through the bridge, which is one Windows process, or through a Windows process of its own, \
         which is `npipe.exe` in npiperelay's place. Bulk is beside a Windows program that uses the pipe by bare calls. The Windows \
         programs share one CPU with Wine's server; what runs on Linux may use another.\n\n{table}",
        system = windows.describe(),
        date = today(),
    )
}

pub(crate) fn today() -> String {
    let today = if cfg!(windows) {
        let script = "(Get-Date).ToUniversalTime().ToString('yyyy-MM-dd')";
        said_by(Command::new("powershell").args(["-NoProfile", "-Command", script]))
    } else {
        said_by(Command::new("date").args(["-u", "+%Y-%m-%d"]))
    };
    today.unwrap_or_else(|| "unknown".to_owned())
}

/// The standard output of `command`, if it succeeds.
pub(crate) fn said_by(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

pub(crate) fn cpu_model() -> String {
    let linux = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = linux
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, model)| model));
    let model = model.map(str::to_owned).or_else(|| std::env::var("PROCESSOR_IDENTIFIER").ok());
    model.unwrap_or_else(|| "unknown".to_owned())
}

/// Names and versions of the measured packages, from the text of `Cargo.lock`.
pub(crate) fn versions(lock: &str) -> Vec<String> {
    let packages = lock.split("[[package]]").filter_map(|package| {
        let field = |name: &str| {
            package.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim_matches('"'))
        };
        Some((field("name = ")?, field("version = ")?))
    });
    packages
        .filter(|(name, _)| MEASURED.contains(name))
        .map(|(name, version)| format!("{name} {version}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_and_other_lines_are_not() {
        assert_eq!(progress("progress: 3/12 bulk, tokio"), Some((3, 12, "bulk, tokio")));
        assert_eq!(progress("progress: soon"), None);
        assert_eq!(progress("warning: 3/12 bulk"), None);
    }

    #[test]
    fn versions_are_those_of_the_measured() {
        let lock = "version = 4\n\n[[package]]\nname = \"bytes\"\nversion = \"1.2.0\"\n\n[[package]]\nname = \"tokio\"\n\
                    version = \"1.54.0\"\n";
        assert_eq!(versions(lock), ["tokio 1.54.0"]);
    }
}
