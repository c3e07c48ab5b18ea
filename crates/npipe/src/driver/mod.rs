//! The driver: a completion port, and whoever waits on it. The process has one with a thread of its
//! own; those who wait anyway (a `block_on`, an executor's thread, a readiness loop) have theirs
//! and dequeue themselves.
//!
//! It owns every operation in flight, from the call that starts it until its packet has been
//! dequeued, whatever happens to the pipe, the future or the runtime that asked for it. It does not
//! know what an operation is for: it hands the result to whoever the operation names as its
//! [`Completion`], and wakes whom that one lists.
//!
//! The process's thread starts with the first pipe and stays.

#![expect(unsafe_code, reason = "operations in flight are shared with the kernel")]

mod attendance;
mod blocking_flush;
mod deadline;
mod guarded_waker;
mod operation;
mod registration;
mod timers;
#[cfg(feature = "tokio")]
mod tokio_inbox;
mod waiting;

#[cfg(all(test, not(windows), not(loom)))]
mod tests;

use std::cell::RefCell;
use std::io;
use std::sync::{OnceLock, Weak};
use std::time::{Duration, Instant};

use crate::sync::{Arc, Mutex, lock};
use crate::sys::{Entry, Port};
use attendance::Attendance;
use registration::Registrations;
use timers::Timers;

pub(crate) use blocking_flush::BlockingFlush;
pub(crate) use deadline::Deadline;
#[cfg(windows)]
pub(crate) use deadline::pause;
pub(crate) use guarded_waker::GuardedWaker;
#[cfg(all(test, not(windows), not(loom)))]
pub(crate) use guarded_waker::hostile;
pub(crate) use operation::{Finished, InFlight, Kind, Operation, Submitted};
pub(crate) use registration::Registration;
pub(crate) use timers::Scheduled;
pub(crate) use waiting::Waiting;

/// How many packets one wait takes at most.
const BATCH: usize = 64;

/// Who is told that an operation has ended.
pub(crate) trait Completion: Send + Sync {
    /// Takes the result. Called with no lock held; wakers go to `wake`, to be woken when the batch
    /// is done.
    fn complete(self: Arc<Self>, finished: Finished, wake: &mut Vec<Waiting>);
}

/// Who is told that a time has come.
pub(crate) trait Timer: Send + Sync {
    /// The time of a [`Driver::schedule`] has come. Called with no lock held.
    fn on_timer(self: Arc<Self>);
}

/// A completion port with what is scheduled on it.
pub(crate) struct Driver {
    port: Port,
    timers: Arc<Mutex<Timers>>,
    attendance: Attendance,
    registrations: Registrations,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Driver").finish_non_exhaustive()
    }
}

impl Driver {
    /// A driver that nobody runs yet.
    pub(crate) fn new() -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            port: Port::new()?,
            timers: Arc::default(),
            attendance: Attendance::default(),
            registrations: Registrations::default(),
        }))
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
        std::thread::Builder::new().name("npipe-driver".into()).spawn(move || {
            let mut batch = Batch::new();
            loop {
                running.serve(&mut batch);
            }
        })?;
        Ok(DRIVER.get_or_init(|| driver).clone())
    }

    /// The driver for a pipe that is made here and now: that of the task or `block_on` that this
    /// thread is running, else that of the process.
    pub(crate) fn current() -> io::Result<Arc<Self>> {
        match Self::entered() {
            Some(driver) => Ok(driver),
            None => Self::global(),
        }
    }

    /// The driver of the task or `block_on` that this thread is running.
    pub(crate) fn entered() -> Option<Arc<Self>> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Makes this the [`current`](Self::current) driver of the thread; the guard sets the former
    /// one again.
    pub(crate) fn enter(self: &Arc<Self>) -> Entered {
        Entered { outer: CURRENT.replace(Some(self.clone())) }
    }

    /// Makes the thread in [`turn`](Self::turn) come back.
    pub(crate) fn wake(&self) {
        self.port.wake();
    }

    /// Calls `target.on_timer` once, at `at` or soon after, unless the target or the returned value
    /// has been dropped by then.
    pub(crate) fn schedule(&self, at: Instant, target: Weak<dyn Timer>) -> Scheduled {
        let (scheduled, oversleeps) = Timers::schedule(&self.timers, at, target);
        if oversleeps {
            self.port.wake();
        }
        scheduled
    }

    /// Waits for packets, until a timer is due or for `limit`, and hands on what came. Tells how
    /// many did.
    pub(crate) fn turn(
        &self,
        entries: &mut [Entry],
        limit: Option<Duration>,
        wake: &mut Vec<Waiting>,
    ) -> io::Result<usize> {
        let now = Instant::now();
        let due = lock(&self.timers).wait_until(now).map(|at| at.saturating_duration_since(now));
        let timeout = match (limit, due) {
            (Some(limit), Some(due)) => Some(limit.min(due)),
            (limit, due) => limit.or(due),
        };
        let packets = self.port.dequeue(entries, timeout)?;
        for entry in packets {
            let Some((target, finished)) = self.registrations.take(entry.key(), entry.overlapped(), wake)
            else {
                continue;
            };
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

    /// [`turn`](Self::turn) with the memory of a batch, whose [`wake_all`](Batch::wake_all) is to
    /// follow. Tells how many packets came.
    pub(crate) fn collect(&self, batch: &mut Batch, limit: Option<Duration>) -> usize {
        match self.turn(&mut batch.entries[..batch.size], limit, &mut batch.wake) {
            Ok(packets) => {
                batch.adapt(packets);
                packets
            }
            // The port is open for as long as `self`; without it every pipe on it would hang.
            Err(error) => panic!("the completion port cannot be waited on: {error}"),
        }
    }

    /// One turn of a thread that does nothing else.
    fn serve(&self, batch: &mut Batch) {
        self.collect(batch, None);
        Waiting::wake_together(&mut batch.wake);
    }
}

/// Memory for the packets of one turn, and for whom they wake, to be used again.
pub(crate) struct Batch {
    entries: [Entry; BATCH],
    /// How many packets the next turn asks for. Asking for more than there are costs a round trip
    /// under Wine.
    size: usize,
    wake: Vec<Waiting>,
}

impl Batch {
    pub(crate) fn new() -> Self {
        Self { entries: [Entry::EMPTY; BATCH], size: 1, wake: Vec::new() }
    }

    fn adapt(&mut self, packets: usize) {
        self.size = if packets == self.size { (self.size * 4).min(BATCH) } else { packets.max(1) };
    }

    /// Wakes whom the packets concern, on a thread whose own tasks most of them are.
    pub(crate) fn wake_all(&mut self) {
        self.wake.drain(..).for_each(Waiting::wake);
    }
}

thread_local! {
    /// The driver of what this thread is running.
    #[allow(clippy::missing_const_for_thread_local, reason = "it is; the lint misreads the GNU target's expansion")]
    static CURRENT: RefCell<Option<Arc<Driver>>> = const { RefCell::new(None) };
}

/// Sets the thread's former driver again when dropped.
pub(crate) struct Entered {
    outer: Option<Arc<Driver>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.outer.take());
    }
}
