//! The driver: one completion port for the process, and the thread that waits on it.
//!
//! It owns every operation in flight, from the call that starts it until its packet has been dequeued, whatever
//! happens to the pipe, the future or the runtime that asked for it. It does not know what an operation is for: it
//! hands the result to whoever the operation names as its [`Completion`], and wakes whom that one lists.
//!
//! The thread starts with the first pipe and stays.

#![expect(unsafe_code, reason = "operations in flight are shared with the kernel")]

mod blocking_flush;
mod deadline;
mod operation;
mod timers;

use std::io;
use std::sync::{OnceLock, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::sync::{Arc, Mutex, lock};
use crate::sys::{Entry, OwnedHandle, Port};
use timers::Timers;

pub(crate) use blocking_flush::BlockingFlush;
pub(crate) use deadline::Deadline;
pub(crate) use operation::{Finished, InFlight, Kind, Operation, Submitted};

/// How many packets one wait takes at most.
const BATCH: usize = 64;

/// Who is told that an operation has ended.
pub(crate) trait Completion: Send + Sync {
    /// Takes the result. Called with no lock held; wakers go to `wake`, to be woken when the batch is done.
    fn complete(self: Arc<Self>, finished: Finished, wake: &mut Vec<Waker>);
}

/// Who is told that a time has come.
pub(crate) trait Timer: Send + Sync {
    /// The time of a [`Driver::schedule`] has come. Called with no lock held.
    fn on_timer(self: Arc<Self>);
}

/// A completion port with what is scheduled on it.
pub(crate) struct Driver {
    port: Port,
    timers: Mutex<Timers>,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Driver").finish_non_exhaustive()
    }
}

impl Driver {
    /// A driver that nobody runs yet.
    pub(crate) fn new() -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self { port: Port::new()?, timers: Mutex::new(Timers::default()) }))
    }

    /// The driver of the process, started when it is first asked for.
    pub(crate) fn global() -> io::Result<Arc<Self>> {
        static DRIVER: OnceLock<Arc<Driver>> = OnceLock::new();
        static START: std::sync::Mutex<()> = std::sync::Mutex::new(());
        if let Some(driver) = DRIVER.get() {
            return Ok(driver.clone());
        }
        let _starting = START.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(driver) = DRIVER.get() {
            return Ok(driver.clone());
        }
        let driver = Self::new()?;
        let running = driver.clone();
        std::thread::Builder::new().name("npipe-driver".into()).spawn(move || running.run())?;
        Ok(DRIVER.get_or_init(|| driver).clone())
    }

    /// Ties a handle to the port, for life.
    pub(crate) fn associate(&self, handle: &OwnedHandle) -> io::Result<()> {
        self.port.associate(handle)
    }

    /// Makes the thread in [`turn`](Self::turn) come back.
    #[cfg(all(test, not(windows), not(loom)))]
    pub(crate) fn wake(&self) {
        self.port.wake();
    }

    /// Calls `target.on_timer` once, at `at` or soon after, if it still exists then.
    pub(crate) fn schedule(&self, at: Instant, target: Weak<dyn Timer>) {
        if lock(&self.timers).push(at, target) {
            self.port.wake();
        }
    }

    /// Waits for packets, until a timer is due or for `limit`, and hands on what came. Tells how many did.
    pub(crate) fn turn(
        &self,
        entries: &mut [Entry],
        limit: Option<Duration>,
        wake: &mut Vec<Waker>,
    ) -> io::Result<usize> {
        let due = lock(&self.timers).next().map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = match (limit, due) {
            (Some(limit), Some(due)) => Some(limit.min(due)),
            (limit, due) => limit.or(due),
        };
        let packets = self.port.dequeue(entries, timeout)?;
        for entry in packets {
            let overlapped = entry.overlapped();
            if overlapped.is_null() {
                continue;
            }
            // SAFETY: blocks reach this port by `Operation::submit` alone, on handles that `associate` tied to it,
            // and each queues one packet; this is that packet.
            let (target, finished) = unsafe { operation::take(overlapped) };
            target.complete(finished, wake);
        }
        if due.is_some() {
            self.fire();
        }
        Ok(packets.len())
    }

    fn fire(&self) {
        let now = Instant::now();
        loop {
            let Some(target) = lock(&self.timers).pop_due(now) else { return };
            if let Some(target) = target.upgrade() {
                target.on_timer();
            }
        }
    }

    fn run(&self) {
        let mut entries = [Entry::EMPTY; BATCH];
        let mut wake = Vec::new();
        loop {
            if let Err(error) = self.turn(&mut entries, None, &mut wake) {
                // The port belongs to this thread for good; without it every pipe of the process would hang.
                panic!("the completion port cannot be waited on: {error}");
            }
            for waker in wake.drain(..) {
                // A waker is foreign code. One that panics must not take every pipe of the process with it.
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| waker.wake()));
            }
        }
    }
}
