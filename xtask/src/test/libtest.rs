//! Reads what Rust's test harness prints: which tests ended how, and which have not ended.
//!
//! The plain text is what is stable; the JSON form is not. Programs that a test starts may print in
//! the middle of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::progress::Tally;

/// By this a test says that what it is about cannot be shown under Wine: `skipped-under-wine: NAME:
/// REASON`.
const SKIPPED: &str = "skipped-under-wine: ";

/// The result of one test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    Failed,
    /// It showed nothing, for this reason.
    Skipped(String),
    /// Its program was cut short.
    NotRun,
}

/// What is known of a run, line by line.
#[derive(Debug, Default)]
pub(super) struct Transcript {
    ended: BTreeSet<String>,
    failed: BTreeSet<String>,
    ignored: BTreeMap<String, String>,
    skipped: BTreeMap<String, String>,
    slow: BTreeSet<String>,
    begun: Option<String>,
    /// Sums over all summary lines: a run of `cargo test` has one for each binary.
    summarised: Option<Tally>,
}

impl Transcript {
    /// Takes in a line. Says whether a test has ended by it.
    pub(super) fn read(&mut self, line: &str) -> bool {
        if let Some((_, skip)) = line.split_once(SKIPPED)
            && let Some((name, reason)) = skip.split_once(": ")
        {
            self.skipped.insert(name.to_owned(), reason.to_owned());
            return false;
        }
        if let Some(summary) = line.strip_prefix("test result: ") {
            self.summarise(summary);
            return true;
        }
        let Some(rest) = line.strip_prefix("test ") else {
            // The verdict of a test whose line something else has broken.
            return match (self.begun.take(), Verdict::at_end_of(line)) {
                (Some(name), Some(verdict)) => self.end(name, verdict),
                (begun, _) => {
                    self.begun = begun;
                    false
                }
            };
        };
        if let Some((name, _)) = rest.split_once(" has been running for over ") {
            self.slow.insert(bare(name));
            return false;
        }
        let Some((name, verdict)) = rest.split_once(" ... ") else { return false };
        match Verdict::at_end_of(verdict) {
            Some(verdict) => self.end(bare(name), verdict),
            None => {
                self.begun = Some(bare(name));
                false
            }
        }
    }

    /// The tests that have not ended as far as the harness has said, the most suspicious first
    /// choice only: those it called slow, else the one it had begun.
    pub(super) fn running(&self) -> impl Iterator<Item = &str> {
        let slow = self.slow.iter().filter(|name| !self.ended.contains(*name));
        let begun = self.begun.iter().filter(|_| self.slow.iter().all(|name| self.ended.contains(name)));
        slow.chain(begun).map(String::as_str)
    }

    /// Those of `listed` that have not ended.
    pub(super) fn missing<'a>(&self, listed: &'a [String]) -> Vec<&'a str> {
        listed.iter().filter(|name| !self.ended.contains(*name)).map(String::as_str).collect()
    }

    pub(super) fn is_complete(&self) -> bool {
        self.summarised.is_some()
    }

    pub(super) fn failed(&self) -> impl Iterator<Item = &str> {
        self.failed.iter().map(String::as_str)
    }

    /// Tests that showed nothing, with the reason.
    pub(super) fn skipped(&self) -> impl Iterator<Item = (&str, &str)> {
        self.skipped.iter().chain(&self.ignored).map(|(name, reason)| (name.as_str(), reason.as_str()))
    }

    /// How the test `name` ended.
    pub(super) fn outcome(&self, name: &str) -> Outcome {
        if let Some(reason) = self.skipped.get(name).or_else(|| self.ignored.get(name)) {
            Outcome::Skipped(reason.clone())
        } else if self.failed.contains(name) {
            Outcome::Failed
        } else if self.ended.contains(name) {
            Outcome::Passed
        } else {
            Outcome::NotRun
        }
    }

    /// A test that says it was skipped counts as that, though the harness calls it passed.
    pub(super) fn tally(&self) -> Tally {
        let counted = Tally {
            passed: self.ended.len() - self.failed.len() - self.ignored.len(),
            failed: self.failed.len(),
            skipped: self.ignored.len(),
        };
        let mut tally = self.summarised.unwrap_or(counted);
        let skipped = self.skipped.len().min(tally.passed);
        tally.passed -= skipped;
        tally.skipped += skipped;
        tally
    }

    fn end(&mut self, name: String, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Passed => {}
            Verdict::Failed => drop(self.failed.insert(name.clone())),
            Verdict::Ignored(reason) => drop(self.ignored.insert(name.clone(), reason)),
        }
        self.ended.insert(name);
        self.begun = None;
        true
    }

    /// `ok. 5 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.00s`
    fn summarise(&mut self, summary: &str) {
        let count = |what: &str| {
            let words: Vec<&str> = summary.split([' ', ';']).collect();
            let place = words.iter().position(|word| *word == what)?;
            words.get(place.checked_sub(1)?)?.parse::<usize>().ok()
        };
        let sum = self.summarised.get_or_insert_default();
        sum.passed += count("passed").unwrap_or_default();
        sum.failed += count("failed").unwrap_or_default();
        sum.skipped += count("ignored").unwrap_or_default();
    }
}

enum Verdict {
    Passed,
    Failed,
    Ignored(String),
}

impl Verdict {
    fn at_end_of(text: &str) -> Option<Self> {
        if text.ends_with("FAILED") {
            Some(Self::Failed)
        } else if let Some(reason) = text.strip_prefix("ignored") {
            Some(Self::Ignored(reason.trim_start_matches(", ").to_owned()))
        } else {
            text.ends_with("ok").then_some(Self::Passed)
        }
    }
}

/// A test's name without what the harness adds to it.
fn bare(name: &str) -> String {
    let additions = [" - should panic", " - compile fail", " - compile"];
    additions.iter().find_map(|addition| name.strip_suffix(addition)).unwrap_or(name).to_owned()
}

/// The names in the output of `--list`: `tests::name: test`.
pub(super) fn listed(output: &str) -> Vec<String> {
    output.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transcript(text: &str) -> Transcript {
        let mut transcript = Transcript::default();
        for line in text.lines() {
            transcript.read(line);
        }
        transcript
    }

    #[test]
    fn a_whole_run_is_counted_by_its_summary() {
        let run = transcript(
            "running 4 tests\ntest a ... ok\ntest b - should panic ... ok\ntest c ... ignored, needs two users\n\
             test d ... FAILED\n\ntest result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.00s",
        );
        assert!(run.is_complete());
        assert_eq!(run.tally(), Tally { passed: 2, failed: 1, skipped: 1 });
        assert_eq!(run.failed().collect::<Vec<_>>(), ["d"]);
        assert_eq!(run.skipped().collect::<Vec<_>>(), [("c", "needs two users")]);
        let all = ["a", "b", "c", "d"].map(str::to_owned);
        assert!(run.missing(&all).is_empty());
    }

    #[test]
    fn a_test_that_is_skipped_under_wine_does_not_count_as_passed() {
        let run = transcript(
            "test a ... ok\ntest b ... ok\nsuccesses:\n---- b stdout ----\nskipped-under-wine: b: no access checks: at all\n\
             test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        );
        assert_eq!(run.tally(), Tally { passed: 1, failed: 0, skipped: 1 });
        assert_eq!(run.skipped().collect::<Vec<_>>(), [("b", "no access checks: at all")]);
    }

    #[test]
    fn the_hung_one_of_several_threads_is_the_slow_one() {
        let run = transcript(
            "test quick ... ok\ntest hung has been running for over 60 seconds\n\
             test slow has been running for over 60 seconds\ntest slow ... ok",
        );
        assert!(!run.is_complete());
        assert_eq!(run.running().collect::<Vec<_>>(), ["hung"]);
        let all = ["quick", "hung", "slow", "waiting"].map(str::to_owned);
        assert_eq!(run.missing(&all), ["hung", "waiting"]);
    }

    #[test]
    fn the_hung_one_of_a_single_thread_is_the_one_begun() {
        let run = transcript("test quick ... ok\ntest hung ... ");
        assert_eq!(run.running().collect::<Vec<_>>(), ["hung"]);
    }

    #[test]
    fn output_in_the_middle_of_a_line_does_not_hide_the_verdict() {
        let run =
            transcript("test a ... listening on somewhere\nok\ntest b ... noise\nFAILED\ntest c ... noiseok");
        assert_eq!(run.tally(), Tally { passed: 2, failed: 1, skipped: 0 });
        assert_eq!(run.running().count(), 0);
    }

    #[test]
    fn several_summaries_add_up() {
        let one =
            "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
        assert_eq!(transcript(&one.repeat(3)).tally(), Tally { passed: 6, failed: 0, skipped: 0 });
    }

    #[test]
    fn the_list_has_tests_only() {
        assert_eq!(listed("a::b: test\nc: benchmark\n\n1 test, 1 benchmark\n"), ["a::b"]);
    }
}
