//! A point in time that a future can wait for, without a runtime's clock.

use std::sync::Weak;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::{Driver, Timer};
use crate::sync::{Arc, Mutex, lock};

/// Ready once its time has come.
pub(crate) struct Deadline {
    at: Instant,
    bell: Arc<Bell>,
}

/// What the driver's timer rings. Without its deadline it is gone, and the timer finds nobody.
struct Bell(Mutex<Option<Waker>>);

impl Deadline {
    pub(crate) fn new(driver: &Driver, at: Instant) -> Self {
        let bell = Arc::new(Bell(Mutex::new(None)));
        let target: Weak<Bell> = Arc::downgrade(&bell);
        driver.schedule(at, target);
        Self { at, bell }
    }

    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<()> {
        let replaced = lock(&self.bell.0).replace(context.waker().clone());
        drop(replaced);
        // Asked after the waker was left: the bell may have rung just before.
        if Instant::now() >= self.at { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Timer for Bell {
    fn on_timer(self: Arc<Self>) {
        let waker = lock(&self.0).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
