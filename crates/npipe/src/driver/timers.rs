//! What is due when.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Weak;
use std::time::Instant;

use super::Timer;

/// Dues, the earliest first.
#[derive(Default)]
pub(super) struct Timers(BinaryHeap<Due>);

struct Due {
    at: Instant,
    target: Weak<dyn Timer>,
}

impl Timers {
    /// Adds one, and tells whether it is now the earliest.
    pub(super) fn push(&mut self, at: Instant, target: Weak<dyn Timer>) -> bool {
        let earliest = self.next().is_none_or(|next| at < next);
        self.0.push(Due { at, target });
        earliest
    }

    /// When the earliest is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.peek().map(|deadline| deadline.at)
    }

    /// Takes one that is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Weak<dyn Timer>> {
        (self.next()? <= now).then(|| self.0.pop().map(|deadline| deadline.target)).flatten()
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    /// Reversed: the heap's greatest is the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        other.at.cmp(&self.at)
    }
}
