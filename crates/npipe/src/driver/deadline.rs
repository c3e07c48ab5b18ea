//! A point in time that a future can wait for, without a runtime's clock.

#[cfg(windows)]
use std::future::poll_fn;
#[cfg(windows)]
use std::io;
use std::sync::Weak;
use std::task::{Context, Poll};
#[cfg(windows)]
use std::time::Duration;
use std::time::Instant;

use super::{Driver, GuardedWaker, Scheduled, Timer};
use crate::sync::{Arc, Mutex, lock};

/// Waits for as long as `time`.
#[cfg(windows)]
pub(crate) async fn pause(time: Duration) -> io::Result<()> {
    let deadline = Deadline::after(time)?;
    poll_fn(|context| deadline.poll(context)).await;
    Ok(())
}

/// Ready once its time has come.
pub(crate) struct Deadline {
    at: Instant,
    bell: Arc<Bell>,
    _timer: Scheduled,
}

/// The target of the driver's timer: wakes the task that waits for the deadline.
struct Bell(Mutex<Option<GuardedWaker>>);

impl Deadline {
    pub(crate) fn new(driver: &Driver, at: Instant) -> Self {
        let bell = Arc::new(Bell(Mutex::new(None)));
        let target: Weak<Bell> = Arc::downgrade(&bell);
        let timer = driver.schedule(at, target);
        Self { at, bell, _timer: timer }
    }

    /// One that comes after `time`, by the clock of the process's driver: that of the caller's
    /// thread may have nobody to wait on it by then.
    #[cfg(windows)]
    pub(crate) fn after(time: Duration) -> io::Result<Self> {
        Ok(Self::new(&*Driver::global()?, Instant::now() + time))
    }

    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<()> {
        let waker = GuardedWaker::new(context);
        let replaced = lock(&self.bell.0).replace(waker);
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
