//! `cargo xtask windows-report`: one file about a Windows machine, for an issue.
//!
//! The project is tested under Wine. The file shows a maintainer without that machine which beliefs
//! about Windows hold on it, which tests fail there and how, and the speed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::bench::{cpu_model, said_by, table, today, versions};
use crate::progress::{Report, Tally};
use crate::setup;
use crate::test;
use crate::test::Ran;
use crate::test::libtest::Outcome;
use crate::windows::Windows;
use crate::workspace::Workspace;

/// The source of the program whose every test is a line of the file.
const ASSUMPTIONS: &str = "assumptions.rs";

/// The file and its content.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only the tests whose name contains this, and no benchmark: for trying the report
    name: Option<String>,
    /// Fewer and shorter rounds of the benchmark
    #[arg(long)]
    quick: bool,
    /// Write the report to this file instead of windows-report.md in cargo's target directory
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) fn run(workspace: &Workspace, report: &mut Report, options: Options) -> Result<()> {
    // Relative to the folder that the command was given in.
    let output = match &options.output {
        Some(output) => std::path::absolute(output)?,
        None => workspace.cache.with_file_name("windows-report.md"),
    };
    report.count(Tally::default());
    let windows = setup::everything(workspace, report)?;
    let only_some = options.name.is_some();
    let ran = test::on_windows(workspace, report, &test::Options::windows(options.name), &windows)?;
    // A benchmark that fails is a failure like others.
    let benchmark = if only_some { None } else { table(workspace, report, &windows, options.quick).ok() };
    let document = Document {
        machine: machine(workspace, &windows)?,
        ran: &ran,
        failures: report.failures(),
        skipped: report.skipped(),
        benchmark: benchmark.as_deref(),
    };
    std::fs::write(&output, document.text())
        .with_context(|| format!("failed to write {}", output.display()))?;
    println!("written to {}", output.display());
    Ok(())
}

/// The machine and the code, as lines of a list.
fn machine(workspace: &Workspace, windows: &Windows) -> Result<String> {
    let unknown = || "unknown".to_owned();
    let version = said_by(windows.program(Path::new("cmd")).args(["/c", "ver"])).unwrap_or_else(unknown);
    let system = match windows {
        Windows::Native => version,
        Windows::Wine { .. } => format!("{} ({version})", windows.describe()),
    };
    let cpus = std::thread::available_parallelism().map_or_else(|_| unknown(), |count| count.to_string());
    let rustc = said_by(Command::new("rustc").arg("-vV")).unwrap_or_else(unknown);
    let field = |name: &str| rustc.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("unknown");
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty", "--tags", "--abbrev=12"]).current_dir(&workspace.root);
    let lock = std::fs::read_to_string(workspace.root.join("Cargo.lock"))?;
    Ok(format!(
        "- Date: {}\n- Windows: {system}\n- CPU: {}, {cpus} available\n- Compiler: rustc {}, host {}\n\
         - Commit: {}\n- Versions: {}\n",
        today(),
        cpu_model(),
        field("release: "),
        field("host: "),
        said_by(&mut git).unwrap_or_else(unknown),
        versions(&lock).join(", "),
    ))
}

struct Document<'a> {
    machine: String,
    ran: &'a [Ran],
    failures: &'a [(String, String)],
    skipped: &'a [(String, String)],
    benchmark: Option<&'a str>,
}

impl Document<'_> {
    fn text(&self) -> String {
        let mut text = format!("# npipe on Windows\n\n{}", self.machine);
        self.assumptions(&mut text);
        self.programs(&mut text);
        self.failures(&mut text);
        self.skipped(&mut text);
        text += "\n## Benchmark\n\n";
        text += self.benchmark.unwrap_or("Not measured.\n");
        text
    }

    fn assumptions(&self, text: &mut String) {
        *text += "\n## Assumptions about Windows\n\n";
        let tests = self.ran.iter().filter(|ran| ran.title.ends_with(ASSUMPTIONS)).flat_map(|ran| &ran.tests);
        let mut rows = tests.map(|(name, outcome)| format!("| {name} | {} |\n", told(outcome))).peekable();
        if rows.peek().is_none() {
            *text += "None was tested.\n";
            return;
        }
        *text += "| assumption | result |\n|---|---|\n";
        text.extend(rows);
    }

    fn programs(&self, text: &mut String) {
        *text += "\n## Test programs\n\n| program | passed | failed | skipped |\n|---|---|---|---|\n";
        for Ran { title, tally, .. } in self.ran {
            let Tally { passed, failed, skipped } = tally;
            let _ = writeln!(text, "| {} | {passed} | {failed} | {skipped} |", in_cell(title));
        }
    }

    fn failures(&self, text: &mut String) {
        *text += "\n## Failures\n";
        if self.failures.is_empty() {
            *text += "\nNone.\n";
        }
        for (title, why) in self.failures {
            // Longer than any fence that a test prints.
            let _ = write!(text, "\n### {title}\n\n~~~~~~~~text\n{}\n~~~~~~~~\n", why.trim_end());
        }
    }

    fn skipped(&self, text: &mut String) {
        if self.skipped.is_empty() {
            return;
        }
        *text += "\n## Skipped\n\n| step or test | reason |\n|---|---|\n";
        for (title, reason) in self.skipped {
            let _ = writeln!(text, "| {} | {} |", in_cell(title), in_cell(reason));
        }
    }
}

fn told(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Passed => "holds".to_owned(),
        Outcome::Failed => "**FAILED**".to_owned(),
        Outcome::Skipped(reason) => format!("not shown: {}", in_cell(reason)),
        Outcome::NotRun => "**not run**: the program was cut short".to_owned(),
    }
}

/// `text` on one line, without the character that ends a cell.
fn in_cell(text: &str) -> String {
    text.lines().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_each_assumption_each_program_and_the_whole_text_of_failures() {
        let tests = vec![
            ("a".to_owned(), Outcome::Passed),
            ("b".to_owned(), Outcome::Failed),
            ("c".to_owned(), Outcome::Skipped("one | two".to_owned())),
            ("d".to_owned(), Outcome::NotRun),
        ];
        let ran = [
            Ran {
                title: "Windows: tests/assumptions.rs".to_owned(),
                tally: Tally { passed: 1, failed: 2, skipped: 1 },
                tests,
            },
            Ran { title: "Windows: other".to_owned(), tally: Tally::default(), tests: Vec::new() },
        ];
        let document = Document {
            machine: "- Windows: 10\n".to_owned(),
            ran: &ran,
            failures: &[("b of it".to_owned(), "left: 1\nright: 2\n".to_owned())],
            skipped: &[("c".to_owned(), "one | two".to_owned())],
            benchmark: Some("| case |\n"),
        };
        let text = document.text();
        for part in [
            "- Windows: 10\n",
            "| a | holds |\n| b | **FAILED** |\n| c | not shown: one \\| two |\n| d | **not run**",
            "| Windows: tests/assumptions.rs | 1 | 2 | 1 |\n| Windows: other | 0 | 0 | 0 |\n",
            "### b of it\n\n~~~~~~~~text\nleft: 1\nright: 2\n~~~~~~~~\n",
            "## Skipped\n\n| step or test | reason |\n|---|---|\n| c | one \\| two |\n",
            "## Benchmark\n\n| case |\n",
        ] {
            assert!(text.contains(part), "{part}\nis missing in\n{text}");
        }
    }
}
