//! The points in time that a driver has to report, in their order.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::Instant;

use super::Timer;
use crate::sync::{Arc, Mutex, lock};

/// The timers of a driver, the earliest first.
#[derive(Default)]
pub(super) struct Timers {
    due: BTreeMap<Key, Weak<dyn Timer>>,
    last_number: u64,
    /// The driver waits for packets until then at most. `None`: without a limit.
    waits_until: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    at: Instant,
    /// Distinguishes timers of the same time.
    number: u64,
}

/// A timer of a driver. Dropping it removes the timer.
#[must_use]
pub(crate) struct Scheduled {
    timers: Arc<Mutex<Timers>>,
    key: Key,
}

impl Timers {
    /// Adds one. Returns also whether the driver has to be woken: it would sleep past that time.
    pub(super) fn schedule(
        this: &Arc<Mutex<Self>>,
        at: Instant,
        target: Weak<dyn Timer>,
    ) -> (Scheduled, bool) {
        let mut timers = lock(this);
        timers.last_number += 1;
        let key = Key { at, number: timers.last_number };
        timers.due.insert(key, target);
        let oversleeps = timers.waits_until.is_none_or(|until| at < until);
        if oversleeps {
            timers.waits_until = Some(at);
        }
        (Scheduled { timers: this.clone(), key }, oversleeps)
    }

    /// The time until which the driver may wait now. `None`: without a limit.
    ///
    /// An earlier result that is still ahead stands although its timer was removed. Without that, a
    /// program that sets one long timer after another and removes each would wake the driver each
    /// time.
    pub(super) fn wait_until(&mut self, now: Instant) -> Option<Instant> {
        let standing = self.waits_until.filter(|until| *until > now);
        let next = self.due.keys().next().map(|key| key.at);
        self.waits_until = standing.into_iter().chain(next).min();
        self.waits_until
    }

    /// Takes one that is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Weak<dyn Timer>> {
        let first = self.due.first_entry()?;
        (first.key().at <= now).then(|| first.remove())
    }

    #[cfg(all(test, not(windows), not(loom)))]
    pub(super) fn len(&self) -> usize {
        self.due.len()
    }
}

impl Drop for Scheduled {
    fn drop(&mut self) {
        lock(&self.timers).due.remove(&self.key);
    }
}

impl std::fmt::Debug for Scheduled {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Scheduled").field(&self.key.at).finish()
    }
}
