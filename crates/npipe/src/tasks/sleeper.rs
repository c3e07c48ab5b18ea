//! A thread that sleeps in its port, and how to wake it without a system call while it does not.

use std::time::Duration;

use crate::driver::{Batch, Driver};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicBool, Ordering};

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
    /// `has_work` is asked after [`wake`](Self::wake) has begun to post: work that was left before
    /// is seen by it, work that is left later ends the wait.
    pub(super) fn sleep(&self, batch: &mut Batch, has_work: impl FnOnce() -> bool) {
        // A swap like the one in `wake`: whichever of the two comes first, the other sees what was done
        // before it.
        self.asleep.swap(true, Ordering::AcqRel);
        if has_work() {
            self.asleep.store(false, Ordering::Release);
            return;
        }
        self.driver.collect(batch, None);
        self.asleep.store(false, Ordering::Release);
        batch.wake_all();
    }

    /// Takes the packets that are there.
    pub(super) fn look(&self, batch: &mut Batch) {
        self.driver.collect(batch, Some(Duration::ZERO));
        batch.wake_all();
    }

    pub(super) fn wake(&self) {
        if self.asleep.swap(false, Ordering::AcqRel) {
            self.driver.wake();
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    //! Every interleaving of a thread that goes to sleep with one that brings it work.

    use loom::thread;

    use super::*;

    #[test]
    fn loom_no_work_is_slept_over() {
        loom::model(|| {
            let sleeper = Arc::new(Sleeper::new(Driver::new().unwrap()));
            let work = Arc::new(AtomicBool::new(false));
            let bringing = {
                let (sleeper, work) = (sleeper.clone(), work.clone());
                thread::spawn(move || {
                    work.store(true, Ordering::SeqCst);
                    sleeper.wake();
                })
            };
            let mut batch = Batch::new();
            // If the thread sleeps for good, loom finds a deadlock.
            while !work.load(Ordering::SeqCst) {
                sleeper.sleep(&mut batch, || work.load(Ordering::SeqCst));
            }
            bringing.join().unwrap();
        });
    }
}
