//! Builds' test binaries, and running one: with its package's surroundings, under time limits, a
//! hung test named.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::Value;

use super::libtest::{self, Outcome, Transcript};
use crate::process::{Ending, Limits, follow, output_of};
use crate::progress::{Step, Tally};
use crate::windows::Windows;

/// No single test takes this long, not even the 10,000 connections or the 100 MiB under Wine.
const LIMITS: Limits = Limits { quiet: Duration::from_secs(120), total: Duration::from_secs(15 * 60) };

const LIST_LIMIT: Limits = Limits::total(Duration::from_secs(60));

/// How much of the output of a binary that died without a word is shown.
const LAST_LINES: usize = 100;

/// What the binaries run on.
pub(super) enum Machine<'a> {
    Here,
    Windows(&'a Windows),
}

impl Machine<'_> {
    fn program(&self, executable: &Path) -> Command {
        match self {
            Self::Here => Command::new(executable),
            Self::Windows(windows) => windows.program(executable),
        }
    }

    fn path(&self, path: &Path) -> String {
        match self {
            Self::Here => path.to_string_lossy().into_owned(),
            Self::Windows(windows) => windows.path(path),
        }
    }
}

/// What a build with `--no-run` has made.
#[derive(Default)]
pub(super) struct Built {
    pub(super) tests: Vec<Binary>,
    /// The program `npipe`, for tests that start it.
    pub(super) tool: Option<PathBuf>,
}

pub(super) struct Binary {
    executable: PathBuf,
    package: PathBuf,
    source: PathBuf,
}

impl Built {
    /// Reads cargo's JSON messages.
    pub(super) fn from_messages(messages: &str) -> Self {
        let mut built = Self::default();
        for message in messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let (Some(executable), Some(manifest), Some(source)) = (
                message["executable"].as_str(),
                message["manifest_path"].as_str(),
                message["target"]["src_path"].as_str(),
            ) else {
                continue;
            };
            if message["profile"]["test"] == true {
                built.tests.push(Binary {
                    executable: executable.into(),
                    package: Path::new(manifest).parent().unwrap_or(Path::new("")).to_owned(),
                    source: source.into(),
                });
            } else if message["target"]["name"] == "npipe" {
                built.tool = Some(executable.into());
            }
        }
        built
    }
}

impl Binary {
    /// The source file, which is what one opens next.
    pub(super) fn name(&self, root: &Path) -> String {
        self.source.strip_prefix(root).unwrap_or(&self.source).display().to_string()
    }
}

/// A run that has come to its end, whichever.
pub(super) struct Run {
    transcript: Transcript,
    ending: Ending,
    listed: Vec<String>,
    output: String,
}

/// Runs the tests of `binary` whose names contain `filter`.
pub(super) fn run(
    step: &Step,
    machine: &Machine<'_>,
    binary: &Binary,
    tool: Option<&Path>,
    filter: Option<&str>,
    environment: &[(&str, &str)],
) -> Result<Run> {
    let command = || {
        let mut command = machine.program(&binary.executable);
        // As cargo does.
        command.current_dir(&binary.package).env("CARGO_MANIFEST_DIR", machine.path(&binary.package));
        command.envs(environment.iter().copied()).args(filter);
        if let Some(tool) = tool {
            command.env("NPIPE_EXE", machine.path(tool));
        }
        command
    };
    let listed = libtest::listed(&output_of(step, command().arg("--list"), LIST_LIMIT)?);
    let mut transcript = Transcript::default();
    let mut output = String::new();
    let mut ended = 0;
    // Shows the output of tests that pass, too: some say there that they could not show their point.
    let ending = follow(command().arg("--show-output"), LIMITS, |_, line| {
        output.push_str(line);
        output.push('\n');
        let progress = transcript.read(line);
        if progress {
            ended += 1;
            step.now(&format!("{ended}/{} {line}", listed.len()));
        }
        progress
    })?;
    Ok(Run { transcript, ending, listed, output })
}

impl Run {
    /// Why the run counts as failed, if it does.
    pub(super) fn verdict(&self) -> Result<()> {
        match &self.ending {
            Ending::Exited(status) if status.success() && self.transcript.is_complete() => Ok(()),
            Ending::Exited(_) if self.transcript.is_complete() => {
                let names = self.transcript.failed().collect::<Vec<_>>().join(", ");
                bail!("failed: {names}\n{}", self.failures())
            }
            Ending::Exited(status) => {
                bail!(
                    "the test process ended in the middle with {status}\n{}\n{}",
                    self.left_over(),
                    self.last_lines()
                )
            }
            Ending::TooLong(quiet) => bail!(
                "killed: no test ended for {} s, or all took longer than {} s\n{}\n{}",
                quiet.as_secs(),
                LIMITS.total.as_secs(),
                self.left_over(),
                self.last_lines()
            ),
        }
    }

    /// A run that was cut short fails for the tests it was in, and has not run the others.
    pub(super) fn tally(&self) -> Tally {
        let mut tally = self.transcript.tally();
        if !self.transcript.is_complete() {
            tally.failed += self.hung().len();
        } else if matches!(&self.ending, Ending::Exited(status) if status.success()) {
            return tally;
        }
        tally.failed = tally.failed.max(1);
        tally
    }

    pub(super) fn skipped(&self) -> Vec<(String, String)> {
        let mut skipped: Vec<(String, String)> =
            self.transcript.skipped().map(|(name, reason)| (name.to_owned(), reason.to_owned())).collect();
        if !self.transcript.is_complete() {
            let hung = self.hung();
            let not_run =
                self.transcript.missing(&self.listed).into_iter().filter(|name| !hung.contains(name));
            skipped.extend(
                not_run.map(|name| (name.to_owned(), "not run: its test binary was cut short".to_owned())),
            );
        }
        skipped
    }

    /// Every test of the program with its result.
    pub(super) fn outcomes(&self) -> Vec<(String, Outcome)> {
        self.listed.iter().map(|name| (name.clone(), self.transcript.outcome(name))).collect()
    }

    fn left_over(&self) -> String {
        let hung = self.hung();
        let others = self.transcript.missing(&self.listed).len().saturating_sub(hung.len());
        format!("hung or crashed in: {}\n({others} more tests of this binary had not run)", hung.join(", "))
    }

    /// The tests that were running at the end; if the harness has not said which, all that have not
    /// ended.
    fn hung(&self) -> Vec<&str> {
        let running: Vec<&str> = self.transcript.running().collect();
        if running.is_empty() { self.transcript.missing(&self.listed) } else { running }
    }

    /// The part of the output that is about failed tests.
    fn failures(&self) -> &str {
        self.output.find("\nfailures:\n").map_or(&self.output, |start| &self.output[start..])
    }

    fn last_lines(&self) -> String {
        let lines: Vec<&str> = self.output.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }
}
