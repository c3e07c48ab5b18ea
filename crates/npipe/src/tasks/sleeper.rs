//! A thread that sleeps in its port, and how to wake it without a system call while it does not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::driver::{Batch, Driver};
use crate::sync::Arc;

pub(super) struct Sleeper {
    driver: Arc<Driver>,
    /// The thread waits in its port, or is about to, and nobody has woken it.
    asleep: AtomicBool,
}

impl Sleeper {
    pub(super) fn new(driver: Arc<Driver>) -> Self {
        Self { driver, asleep: AtomicBool::new(false) }
    }

    pub(super) fn driver(&self) -> &Arc<Driver> {
        &self.driver
    }

    /// Waits for packets, unless `has_work`, and wakes whom they concern.
    ///
    /// `has_work` is asked after [`wake`](Self::wake) has begun to post: work that was left before is seen by it, work that is
    /// left later ends the wait.
    pub(super) fn sleep(&self, batch: &mut Batch, has_work: impl FnOnce() -> bool) {
        self.asleep.store(true, Ordering::SeqCst);
        if has_work() {
            self.asleep.store(false, Ordering::SeqCst);
            return;
        }
        self.driver.collect(batch, None);
        self.asleep.store(false, Ordering::SeqCst);
        batch.wake_all();
    }

    /// Takes the packets that are there.
    pub(super) fn look(&self, batch: &mut Batch) {
        self.driver.collect(batch, Some(Duration::ZERO));
        batch.wake_all();
    }

    pub(super) fn wake(&self) {
        if self.asleep.swap(false, Ordering::SeqCst) {
            self.driver.wake();
        }
    }
}
