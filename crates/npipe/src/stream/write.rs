//! Writing and flushing.

use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::transfer::Source;
use super::{Core, Key, OperationPlace, Outbound, Stream, WaiterGuard, system_error, wait};
use crate::driver::{Finished, Submitted, Waiting};
use crate::error::{too_long_to_send, write_ended};
use crate::machine::{FlushStep, Framing, Refused, WriteStep};
use crate::sync::{Arc, lock};
use crate::sys;

impl Stream {
    /// Accepts what there is room for. `None`: nothing.
    pub(super) fn try_accept(
        &self,
        outbound: &mut Outbound,
        source: &dyn Source,
    ) -> io::Result<Option<usize>> {
        loop {
            match outbound.machine.step(source.length()) {
                WriteStep::Fail(code) => return Err(system_error(code)),
                WriteStep::Refuse(refused) => return Err(refusal(refused)),
                WriteStep::Wait => return Ok(None),
                WriteStep::Nothing => return Ok(Some(0)),
                WriteStep::Classify => self.classify(outbound)?,
                WriteStep::Queue(count) => {
                    source.copy(count, outbound.machine.queue(count));
                    return Ok(Some(count));
                }
                WriteStep::Submit(count) => return self.submit_write(outbound, source, count).map(Some),
            }
        }
    }

    /// Finds out whether what is written are messages.
    pub(super) fn classify(&self, outbound: &mut Outbound) -> io::Result<()> {
        let messages = sys::describe(&self.handle)?.message_type;
        outbound.machine.classify(Framing::of(messages));
        Ok(())
    }

    pub(super) fn submit_write(
        &self,
        outbound: &mut Outbound,
        source: &dyn Source,
        count: usize,
    ) -> io::Result<usize> {
        let mut buffer = Vec::with_capacity(count);
        source.copy(count, &mut buffer);
        self.submit(outbound, buffer.into()).map(|_| count)
    }

    /// Submits a write, and tells whether it goes on.
    pub(super) fn submit(&self, outbound: &mut Outbound, bytes: Bytes) -> io::Result<bool> {
        match outbound.operation.take().write(&self.core.driver, &self.handle, bytes, self.core.clone()) {
            Submitted::Pending(in_flight) => {
                outbound.operation = OperationPlace::Away(in_flight);
                outbound.machine.on_pending();
                Ok(true)
            }
            Submitted::Finished { operation, outcome, .. } => {
                outbound.operation = OperationPlace::Here(operation);
                outbound.machine.on_finished(outcome.code).map(|()| false).map_err(system_error)
            }
        }
    }

    #[cfg_attr(
        not(any(feature = "tokio", feature = "futures-io")),
        allow(dead_code, reason = "for the traits")
    )]
    pub(crate) fn poll_write(&self, context: &Context<'_>, source: &dyn Source) -> Poll<io::Result<usize>> {
        self.reporting("write", || {
            let mut outbound = lock(&self.core.outbound);
            match self.try_accept(&mut outbound, source) {
                Ok(Some(count)) => Poll::Ready(Ok(count)),
                Ok(None) => wait(&self.core.outbound, outbound, Key::POLL, context),
                Err(error) => Poll::Ready(Err(error)),
            }
        })
    }

    pub(crate) fn try_write(&self, source: &dyn Source) -> io::Result<usize> {
        self.reporting("write", || {
            let mut outbound = lock(&self.core.outbound);
            self.try_accept(&mut outbound, source)?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
        })
    }

    /// Accepts nothing any more behind a write in flight: for who dequeues packets only when it
    /// suits.
    #[cfg(any(windows, test))]
    pub(crate) fn stop_queueing(&self) {
        lock(&self.core.outbound).machine.stop_queueing();
    }

    /// Waits until the pipe has everything that was accepted.
    pub(crate) fn poll_flush(&self, context: &Context<'_>, key: Key) -> Poll<io::Result<()>> {
        self.reporting("flush", || {
            let mut outbound = lock(&self.core.outbound);
            match outbound.machine.flush() {
                FlushStep::Done => Poll::Ready(Ok(())),
                FlushStep::Fail(code) => Poll::Ready(Err(system_error(code))),
                FlushStep::Wait => wait(&self.core.outbound, outbound, key, context),
            }
        })
    }

    pub(crate) fn is_writable(&self) -> bool {
        lock(&self.core.outbound).machine.is_ready()
    }

    /// Waits until a write would be accepted, or fail. `used_up`: readiness of that tick does not
    /// count.
    pub(crate) fn poll_writable(&self, context: &Context<'_>, key: Key, used_up: Option<u64>) -> Poll<u64> {
        let mut outbound = lock(&self.core.outbound);
        if outbound.machine.is_ready() && used_up != Some(outbound.ticks) {
            return Poll::Ready(outbound.ticks);
        }
        wait(&self.core.outbound, outbound, key, context)
    }

    /// A place among those that wait to write.
    pub(crate) fn writer(&self) -> WaiterGuard<'_, Outbound> {
        WaiterGuard::new(&self.core.outbound)
    }
}

/// The error of a write of which nothing is accepted.
pub(super) fn refusal(refused: Refused) -> io::Error {
    match refused {
        Refused::Ended => write_ended(),
        Refused::TooLong => too_long_to_send(),
    }
}

impl Core {
    pub(super) fn write_completed(self: &Arc<Self>, finished: Finished, wake: &mut Vec<Waiting>) {
        let Finished { operation, outcome, handle, .. } = finished;
        let mut outbound = lock(&self.outbound);
        outbound.operation = OperationPlace::Here(operation);
        outbound.ticks += 1;
        let mut done = outbound.machine.on_packet(outcome.code);
        loop {
            if done.wake {
                outbound.waiters.take(wake);
            }
            let (Some(buffer), Some(handle)) = (done.next, handle.as_ref()) else { break };
            match outbound.operation.take().write(&self.driver, handle, buffer, self.clone()) {
                Submitted::Pending(in_flight) => {
                    outbound.operation = OperationPlace::Away(in_flight);
                    outbound.machine.on_pending();
                    break;
                }
                Submitted::Finished { operation, outcome, .. } => {
                    outbound.operation = OperationPlace::Here(operation);
                    done = outbound.machine.on_next_finished(outcome.code);
                }
            }
        }
        drop(outbound);
        // The handle may be closed here, with no lock held: this was the last write of a pipe that was
        // dropped.
        drop(handle);
    }
}
