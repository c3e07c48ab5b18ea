//! Handles that are tied to a port and no longer ours, by their keys. What their owners do with them may queue packets, with
//! addresses that mean nothing here.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sync::{Mutex, lock};

#[derive(Default)]
pub(super) struct Strangers {
    /// Almost never is there one: then this is all that a packet costs.
    any: AtomicBool,
    keys: Mutex<HashSet<usize>>,
}

impl Strangers {
    #[cfg_attr(not(any(windows, test)), allow(dead_code, reason = "handles are given away on Windows"))]
    pub(super) fn add(&self, key: usize) {
        lock(&self.keys).insert(key);
        self.any.store(true, Ordering::Release);
    }

    pub(super) fn has(&self, key: usize) -> bool {
        self.any.load(Ordering::Acquire) && lock(&self.keys).contains(&key)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::Strangers;

    #[test]
    fn only_those_that_were_given_away_are_strangers() {
        let strangers = Strangers::default();
        assert!(!strangers.has(1));
        strangers.add(1);
        assert!(strangers.has(1) && !strangers.has(2));
    }
}
