//! Waiting for readiness: the thread that polls is the one that dequeues completions.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use super::event::Events;
use super::queue::{Alarm, Queue, Registration};
use super::registry::Registry;
use crate::driver::{Batch, Driver};
use crate::sync::Arc;

/// Reports the registered pipes that have become ready.
///
/// It is a completion port: the thread in [`poll`](Self::poll) waits there and dequeues, so that no
/// other thread takes part in reading and writing. A program may have several.
///
/// After the `Poll` is dropped, its pipes go on: written data is delivered, and arriving data can
/// be read. A thread `npipe-caretaker` then serves them until the last is gone. But there are no
/// events any more.
pub struct Poll {
    registry: Registry,
    batch: Batch,
    /// Taken off the list, not handed out yet.
    ready: VecDeque<Arc<Registration>>,
    /// The last poll had events without a look at the port.
    passed_over: bool,
}

impl Poll {
    /// A `Poll` with a port of its own.
    ///
    /// Calls [`CreateIoCompletionPort`](https://learn.microsoft.com/windows/win32/fileio/createiocompletionport).
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn new() -> io::Result<Self> {
        Ok(Self::on(Driver::new()?, Alarm::Port))
    }

    /// A `Poll` beside a loop of mio's: whenever something becomes ready, `waker` is woken, once.
    /// The loop, when it sees the waker's token, then calls [`poll`](Self::poll) with a
    /// time-out of zero and handles the events.
    ///
    /// The loop sleeps in mio's port, so the thread that serves the async pipes takes the
    /// completions: a thread switch each, which [`Poll::new`] has not.
    ///
    /// # Errors
    ///
    /// The system's, when that thread or its completion port cannot be made.
    #[cfg(feature = "mio")]
    pub fn attach(waker: Arc<mio::Waker>) -> io::Result<Self> {
        Ok(Self::on(Driver::global()?, Alarm::Mio(waker)))
    }

    fn on(driver: Arc<Driver>, alarm: Alarm) -> Self {
        Self {
            registry: Registry::new(Queue::new(driver, alarm)),
            batch: Batch::new(),
            ready: VecDeque::new(),
            passed_over: false,
        }
    }

    /// Where pipes are registered.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Waits until a pipe is ready, at most for `timeout`, and replaces the contents of `events`.
    /// With `None` it waits for ever, with a time-out of zero not at all. When the time is over,
    /// `events` is empty. Time-outs are rounded up to milliseconds.
    ///
    /// Each event comes once, when its direction becomes ready. A direction is armed again by a
    /// read or a write that would block, by one that moved something, and by
    /// [`reregister`](Registry::reregister); not by one that returned an error or the end of the
    /// pipe. So read, and write, until "would block"; but code that does so once an event gets its
    /// next event, too.
    ///
    /// Calls [`GetQueuedCompletionStatusEx`](https://learn.microsoft.com/windows/win32/fileio/getqueuedcompletionstatusex-func).
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) when `events` has no capacity, or when a
    /// `Poll` that is attached to a loop of mio's is to wait: that loop waits.
    #[doc(alias = "GetQueuedCompletionStatus")]
    pub fn poll(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        events.clear();
        if events.capacity() == 0 {
            return Err(invalid("events with a capacity of 0 have no room for what became ready"));
        }
        if self.queue().is_attached() {
            return self.poll_attached(events, timeout);
        }
        self.hand_out(events);
        if !events.is_empty() {
            // Looking at the port costs a system call and can wait, but not for ever: every other time it is
            // looked at.
            self.passed_over = !self.passed_over;
            if !self.passed_over {
                self.collect(Some(Duration::ZERO));
                self.hand_out(events);
            }
            return Ok(());
        }
        self.passed_over = false;
        self.wait(events, timeout);
        Ok(())
    }

    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) {
        // An end that no clock reaches is none.
        let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut limit = timeout;
        loop {
            if limit == Some(Duration::ZERO) || self.queue().fall_asleep() {
                self.collect(limit);
            }
            self.hand_out(events);
            if !events.is_empty() || limit == Some(Duration::ZERO) {
                return;
            }
            limit = end.map(|end| end.saturating_duration_since(Instant::now()));
        }
    }

    /// Takes the packets of the port, and waits for one at most for `limit`.
    fn collect(&mut self, limit: Option<Duration>) {
        let queue = self.registry.queue();
        queue.driver().collect(&mut self.batch, limit);
        queue.awake();
        self.batch.wake_all();
    }

    fn poll_attached(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        if timeout != Some(Duration::ZERO) {
            return Err(invalid(
                "a `Poll` that is attached to a loop of mio's does not wait: its time-out is zero",
            ));
        }
        self.hand_out(events);
        if !self.ready.is_empty() {
            self.queue().wake();
        }
        Ok(())
    }

    /// Hands out what is ready, as far as there is room.
    fn hand_out(&mut self, events: &mut Events) {
        self.registry.queue().take(&mut self.ready);
        while !events.is_full() {
            let Some(registration) = self.ready.pop_front() else { return };
            if let Some(event) = registration.hand_out() {
                events.push(event);
            }
        }
    }

    fn queue(&self) -> &Queue {
        self.registry.queue()
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        self.queue().close();
        if !self.queue().is_attached() {
            self.queue().driver().hand_over();
        }
    }
}

impl std::fmt::Debug for Poll {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Poll").finish_non_exhaustive()
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}
