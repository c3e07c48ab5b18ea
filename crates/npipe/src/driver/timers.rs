//! What is due when.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Weak;
use std::time::Instant;

use super::Completion;

/// Deadlines, the earliest first.
#[derive(Default)]
pub(super) struct Timers(BinaryHeap<Deadline>);

struct Deadline {
    at: Instant,
    target: Weak<dyn Completion>,
}

impl Timers {
    /// Adds one, and tells whether it is now the earliest.
    pub(super) fn push(&mut self, at: Instant, target: Weak<dyn Completion>) -> bool {
        let earliest = self.next().is_none_or(|next| at < next);
        self.0.push(Deadline { at, target });
        earliest
    }

    /// When the earliest is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.peek().map(|deadline| deadline.at)
    }

    /// Takes one that is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Weak<dyn Completion>> {
        (self.next()? <= now).then(|| self.0.pop().map(|deadline| deadline.target)).flatten()
    }
}

impl PartialEq for Deadline {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Deadline {}

impl PartialOrd for Deadline {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Deadline {
    /// Reversed: the heap's greatest is the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        other.at.cmp(&self.at)
    }
}
