//! Waiting until the peer has read everything.
//!
//! It is an operation like others where the system has it as one, and any number of them may be in
//! flight: each reports to the [`Drain`] that asked for it. Elsewhere a thread waits in its place.

use std::io;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::waiters::{Awaited, Waiters, wait};
use super::{Core, Key, LingerTime, Stream, system_error};
use crate::coop::poll_fn;
use crate::driver::{BlockingFlush, Completion, Deadline, Finished, InFlight, Operation, Submitted, Waiting};
use crate::machine::verdict;
use crate::sync::{Arc, Mutex, lock};
use crate::sys::OwnedHandle;

/// A wait until the peer has read everything that the pipe has. Dropping it ends the wait.
pub(crate) struct Drain {
    handle: Arc<OwnedHandle>,
    core: Arc<Core>,
    state: DrainState,
}

enum DrainState {
    /// The system is to be asked.
    Unasked,
    /// It knows, and will tell.
    Asked { answer: Arc<Answer>, in_flight: Option<InFlight> },
    /// A thread waits.
    Blocking(BlockingFlush),
}

/// Where the driver leaves how an operation ended.
struct Answer {
    /// The pipe's place on the port, which is attended for as long as there is one.
    _core: Arc<Core>,
    ending: Mutex<Ending>,
}

#[derive(Default)]
struct Ending {
    code: Option<u32>,
    waiters: Waiters,
}

impl Awaited for Ending {
    fn waiters(&mut self) -> &mut Waiters {
        &mut self.waiters
    }
}

impl Completion for Answer {
    fn complete(self: Arc<Self>, finished: Finished, wake: &mut Vec<Waiting>) {
        let mut ending = lock(&self.ending);
        ending.code = Some(finished.outcome.code);
        ending.waiters.take(wake);
        drop(ending);
        // The handle may be closed here, with no lock held.
        drop(finished);
    }
}

impl Drain {
    pub(crate) fn poll(&mut self, context: &Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let code = match &mut self.state {
                DrainState::Unasked => match self.ask() {
                    Some(code) => code,
                    None => continue,
                },
                DrainState::Asked { answer, in_flight } => {
                    let ending = lock(&answer.ending);
                    let Some(code) = ending.code else {
                        return wait(&answer.ending, ending, Key::POLL, context);
                    };
                    *in_flight = None;
                    code
                }
                DrainState::Blocking(flush) => return flush.poll(context),
            };
            self.state = match verdict::flush(code) {
                verdict::Flush::Complete => return Poll::Ready(Ok(())),
                verdict::Flush::Failed(code) => return Poll::Ready(Err(system_error(code))),
                verdict::Flush::Unsupported => {
                    DrainState::Blocking(BlockingFlush::start(self.handle.clone())?)
                }
                // By someone else, since dropping the drain is how we do it.
                verdict::Flush::Aborted => DrainState::Unasked,
            };
        }
    }

    /// Asks the system. A code is its answer at once.
    fn ask(&mut self) -> Option<u32> {
        let answer = Arc::new(Answer { _core: self.core.clone(), ending: Mutex::default() });
        match Operation::new().flush(&self.core.driver, &self.handle, answer.clone()) {
            Submitted::Finished { outcome, .. } => Some(outcome.code),
            Submitted::Pending(in_flight) => {
                self.state = DrainState::Asked { answer, in_flight: Some(in_flight) };
                None
            }
        }
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        if let DrainState::Asked { in_flight, .. } = &mut self.state {
            if let Some(in_flight) = in_flight.take() {
                in_flight.cancel_and_release();
            }
        }
    }
}

impl Stream {
    /// Waits until the pipe has accepted everything that was written. Other tasks may be writing
    /// meanwhile.
    pub(crate) async fn flush(&self) -> io::Result<()> {
        let waiter = self.writer();
        poll_fn(|context| self.poll_flush(context, waiter.key())).await
    }

    /// Waits until the peer has read everything that was written.
    pub(crate) async fn drain(&self) -> io::Result<()> {
        let began = Instant::now();
        self.flush().await?;
        let mut drain = self.start_drain();
        let drained = poll_fn(|context| drain.poll(context)).await;
        self.span.drained(&drained, began.elapsed());
        drained
    }

    /// A wait until the peer has read everything that the pipe has.
    pub(crate) fn start_drain(&self) -> Drain {
        Drain { handle: self.handle.clone(), core: self.core.clone(), state: DrainState::Unasked }
    }

    /// [`drain`](Self::drain) until `end`, if there is one. `None`: it was too late.
    pub(super) async fn drain_until(&self, end: Option<Instant>) -> Option<io::Result<()>> {
        let Some(end) = end else { return Some(self.drain().await) };
        let mut drain = pin!(self.drain());
        // Most drains are over at once, and need no timer. The drain yields by itself.
        let mut deadline = None;
        std::future::poll_fn(|context| match drain.as_mut().poll(context) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending => {
                let deadline = deadline.get_or_insert_with(|| Deadline::new(&self.core.driver, end));
                deadline.poll(context).map(|()| None)
            }
        })
        .await
    }

    /// [`drain`](Self::drain) for `limit` at most.
    pub(crate) async fn drain_within(&self, limit: Duration) -> io::Result<()> {
        self.drain_until(Instant::now().checked_add(limit)).await.unwrap_or_else(|| Err(unread()))
    }

    /// The end of a close that begins now, unless it has a time-out of its own.
    pub(crate) fn end_of_close(&self) -> Option<Instant> {
        self.linger().in_close().and_then(|linger| Instant::now().checked_add(linger))
    }

    /// [`drain`](Self::drain) of a pipe end that is closed at `end`. Unread writes then linger no
    /// longer.
    #[cfg(windows)]
    pub(crate) async fn drain_to_close(&self, end: Option<Instant>) -> io::Result<()> {
        match self.drain_until(end).await {
            Some(Err(error)) if nothing_is_unread(&error) => Ok(()),
            Some(result) => result,
            None => {
                self.set_linger(LingerTime::Set(Some(Duration::ZERO)));
                Err(unread())
            }
        }
    }
}

/// Whether the error of a drain says that there was nothing to wait for.
#[cfg(windows)]
pub(crate) fn nothing_is_unread(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| verdict::nothing_is_unread(code as u32))
}

/// The error of a drain whose time was over.
pub(crate) fn unread() -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        "the peer did not read everything in time; what it has not read is still there for it",
    )
}
