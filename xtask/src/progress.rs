//! What the user sees: steps while they run, and at the end what was done, how long it took, what
//! was skipped and why.
//!
//! A spinner on a terminal, plain lines otherwise (CI logs). Knows nothing of what a step does.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// Test counts of a whole run, over all test binaries.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

/// Everything that is told at the end of a run.
pub(crate) struct Report {
    steps: Vec<(String, Verdict, Duration)>,
    /// The steps that failed, with the whole text of why.
    failures: Vec<(String, String)>,
    skipped: Vec<(String, String)>,
    tally: Option<Tally>,
}

enum Verdict {
    Done,
    Failed,
    Skipped,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self { steps: Vec::new(), failures: Vec::new(), skipped: Vec::new(), tally: None }
    }

    /// Runs a step whose failure ends the chore.
    pub(crate) fn require<T>(&mut self, title: &str, work: impl FnOnce(&Step) -> Result<T>) -> Result<T> {
        let result = self.timed(title, Verdict::Failed, work);
        if let Err(error) = &result {
            self.failures.push((title.to_owned(), format!("{error:#}")));
        }
        result
    }

    /// Runs a step whose failure is told, and fails the chore at its end: the other steps still
    /// run.
    pub(crate) fn attempt<T>(&mut self, title: &str, work: impl FnOnce(&Step) -> Result<T>) -> Option<T> {
        self.require(title, work).map_err(|error| eprintln!("{title} failed: {error:#}\n")).ok()
    }

    /// Runs a step that prepares others, which the caller records as skipped if this one fails.
    pub(crate) fn prepare<T>(&mut self, title: &str, work: impl FnOnce(&Step) -> Result<T>) -> Result<T> {
        self.timed(title, Verdict::Skipped, work)
    }

    fn timed<T>(&mut self, title: &str, failed: Verdict, work: impl FnOnce(&Step) -> Result<T>) -> Result<T> {
        let step = Step::start(title);
        let started = Instant::now();
        let result = work(&step);
        let verdict = if result.is_ok() { Verdict::Done } else { failed };
        step.end(&verdict, started.elapsed());
        self.steps.push((title.to_owned(), verdict, started.elapsed()));
        result
    }

    /// Records a step that cannot run here.
    pub(crate) fn skip_step(&mut self, title: &str, reason: impl Into<String>) {
        let reason = reason.into();
        eprintln!("skip {title}: {reason}");
        self.steps.push((title.to_owned(), Verdict::Skipped, Duration::ZERO));
        self.skipped.push((title.to_owned(), reason));
    }

    /// Records tests that cannot show their point here.
    pub(crate) fn skip_test(&mut self, test: impl Into<String>, reason: impl Into<String>) {
        let entry = (test.into(), reason.into());
        // The same test runs again in the build that queues every completion.
        if !self.skipped.contains(&entry) {
            self.skipped.push(entry);
        }
    }

    /// The steps that failed so far, with the whole text of why.
    pub(crate) fn failures(&self) -> &[(String, String)] {
        &self.failures
    }

    /// The steps and tests that showed nothing so far, with the reason.
    pub(crate) fn skipped(&self) -> &[(String, String)] {
        &self.skipped
    }

    /// Adds the tests of one binary to the totals.
    pub(crate) fn count(&mut self, more: Tally) {
        let tally = self.tally.get_or_insert_default();
        tally.passed += more.passed;
        tally.failed += more.failed;
        tally.skipped += more.skipped;
    }

    /// Prints the summary. The totals stand alone on the last line, where people and CI look for
    /// them.
    pub(crate) fn finish(&self) -> ExitCode {
        if self.steps.len() > 1 {
            println!("\n{:<8}{:>8}  step", "result", "time");
            for (title, verdict, duration) in &self.steps {
                println!("{:<8}{:>8}  {title}", verdict.word(), seconds(*duration));
            }
        }
        if !self.skipped.is_empty() {
            println!("\nskipped:");
            for (what, reason) in &self.skipped {
                println!("  {what}: {reason}");
            }
        }
        if !self.failures.is_empty() {
            println!("\nfailed (the output is above):");
            for (title, reason) in &self.failures {
                println!("  {title}: {}", reason.lines().next().unwrap_or_default());
            }
        }
        let mut totals = self.tally;
        if let Some(tally) = &mut totals {
            // A step that failed without a failed test (a build, a lint) must not read as "0 failed".
            if tally.failed == 0 {
                tally.failed = self.failures.len();
            }
            println!("\n{tally}");
        }
        let success = self.failures.is_empty() && totals.is_none_or(|tally| tally.failed == 0);
        if success { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(formatter, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

impl Verdict {
    fn word(&self) -> &'static str {
        match self {
            Self::Done => "ok",
            Self::Failed => "FAILED",
            Self::Skipped => "skipped",
        }
    }
}

/// A step that is running.
pub(crate) struct Step {
    title: String,
    bar: ProgressBar,
}

impl Step {
    fn start(title: &str) -> Self {
        let bar = ProgressBar::new_spinner().with_prefix(title.to_owned());
        if bar.is_hidden() {
            eprintln!("...  {title}");
        } else {
            bar.set_style(spinner());
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        Self { title: title.to_owned(), bar }
    }

    /// Shows what the step is at; only on a terminal, where it is overwritten.
    pub(crate) fn now(&self, message: &str) {
        self.bar.set_message(message.to_owned());
    }

    /// Shows how far the step is; `note` is what it is at.
    pub(crate) fn at(&self, done: u64, total: u64, note: &str) {
        if self.bar.is_hidden() {
            eprintln!("     {done}/{total} {note}");
            return;
        }
        if self.bar.length() != Some(total) {
            self.bar.set_length(total);
            self.bar.set_style(counted());
        }
        self.bar.set_position(done);
        self.bar.set_message(note.to_owned());
    }

    /// Prints a line that stays.
    pub(crate) fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("     {line}"));
    }

    fn end(&self, verdict: &Verdict, duration: Duration) {
        self.bar.finish_and_clear();
        eprintln!("{:<6} {} ({})", verdict.word(), self.title, seconds(duration));
    }
}

fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {prefix} [{elapsed}] {wide_msg:.dim}")
        .expect("the template is valid")
}

fn counted() -> ProgressStyle {
    ProgressStyle::with_template("{prefix} [{elapsed}] {bar:30} {pos}/{len} {wide_msg:.dim}")
        .expect("the template is valid")
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
