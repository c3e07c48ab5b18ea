//! What ends a thread's wait in the blocking API: time-outs and cancellation. An end keeps them
//! while it is an async one.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::sync::{Mutex, lock};
use crate::sys::{Event, Until};

/// A time-out that threads share: set by one, used by all. In nanoseconds, 584 years at most; 0
/// means no time-out.
#[derive(Debug, Default)]
pub(crate) struct Timeout(AtomicU64);

impl Timeout {
    /// Refuses zero, which would be no time to do anything in.
    pub(crate) fn set(&self, timeout: Option<Duration>) -> io::Result<()> {
        let nanoseconds = match timeout {
            None => 0,
            Some(Duration::ZERO) => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "a time-out of zero leaves no time for anything; None is no time-out",
                ));
            }
            Some(timeout) => u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX),
        };
        self.0.store(nanoseconds, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn get(&self) -> Option<Duration> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            nanoseconds => Some(Duration::from_nanos(nanoseconds)),
        }
    }

    /// The deadline of an operation that begins now.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.get().and_then(|timeout| Instant::now().checked_add(timeout))
    }
}

/// The limits of the waits in either direction.
#[derive(Debug, Default)]
pub(crate) struct Timeouts {
    pub(crate) read: Timeout,
    pub(crate) write: Timeout,
    stop: OnceLock<Arc<Stop>>,
}

impl Timeouts {
    /// Returns the request to stop, which is made when the first canceller is.
    pub(crate) fn make_stop(&self) -> io::Result<Arc<Stop>> {
        if let Some(stop) = self.stop.get() {
            return Ok(stop.clone());
        }
        let stop = Arc::new(Stop { event: Event::new()?, state: Mutex::default() });
        Ok(self.stop.get_or_init(|| stop).clone())
    }

    /// Returns whether the time of a write, or a canceller, can end the wait for it.
    pub(crate) fn limit_writes(&self) -> bool {
        self.write.get().is_some() || self.stop.get().is_some()
    }

    /// Returns the limit of a read that begins now.
    pub(crate) fn read_limit(&self) -> Limit<'_> {
        self.until(self.read.deadline())
    }

    /// Returns the limit of a write that begins now.
    pub(crate) fn write_limit(&self) -> Limit<'_> {
        self.until(self.write.deadline())
    }

    pub(crate) fn until(&self, deadline: Option<Instant>) -> Limit<'_> {
        Limit { deadline, stop: self.stop.get().map(|stop| &**stop) }
    }
}

/// What ends a thread's wait for a pipe.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit<'a> {
    pub(crate) deadline: Option<Instant>,
    stop: Option<&'a Stop>,
}

impl<'a> Limit<'a> {
    pub(crate) fn is_none(self) -> bool {
        self.deadline.is_none() && self.stop.is_none()
    }

    /// Returns the same limit for a wait in the kernel.
    pub(crate) fn until(self) -> Until<'a> {
        Until { deadline: self.deadline, stop: self.stop.map(|stop| &stop.event) }
    }

    pub(crate) fn can_be_stopped(self) -> bool {
        self.stop.is_some()
    }

    pub(crate) fn is_stopped(self) -> bool {
        self.stop.is_some_and(|stop| lock(&stop.state).stopped)
    }

    /// Has this thread unparked when the stop is requested. It unregisters when the result is
    /// dropped.
    pub(crate) fn unpark_when_stopped(self) -> Option<Registered<'a>> {
        let stop = self.stop?;
        lock(&stop.state).parked.push(thread::current());
        Some(Registered(stop))
    }
}

/// The request to end the waits of all threads that use an end.
#[derive(Debug)]
pub(crate) struct Stop {
    /// For the waits in the kernel.
    event: Event,
    state: Mutex<StopState>,
}

#[derive(Debug, Default)]
struct StopState {
    stopped: bool,
    /// The threads that wait for the driver.
    parked: Vec<Thread>,
}

impl Stop {
    pub(crate) fn request(&self) {
        let mut state = lock(&self.state);
        state.stopped = true;
        self.event.set();
        state.parked.iter().for_each(Thread::unpark);
    }
}

/// A thread that a request to stop unparks.
pub(crate) struct Registered<'a>(&'a Stop);

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let this = thread::current().id();
        let parked = &mut lock(&self.0.state).parked;
        if let Some(index) = parked.iter().position(|thread| thread.id() == this) {
            parked.swap_remove(index);
        }
    }
}
