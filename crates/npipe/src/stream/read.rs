//! Reading.

use std::io;
use std::task::{Context, Poll};
use std::time::Instant;

use super::{
    Core, Destination, IDLE, Inbound, Key, OperationPlace, Stream, WaiterGuard, Watch, system_error, wait,
};
use crate::coop;
use crate::driver::{Finished, Kind, Submitted, Waiting};
use crate::machine::{ReadDone, ReadEnd, ReadStep};
use crate::sync::{Arc, Mutex, MutexGuard, lock};
use crate::sys::{self, OwnedHandle};

/// The most that one read of a refused message takes.
const LARGEST_DISCARD: usize = 64 * 1024;

/// The most reads of the pipe in one call that return nothing to its caller: skipped empty
/// messages, and parts of a refused message. A peer decides how many there are.
const MOST_SKIPPED: u32 = 64;

/// How far a read comes without submitting an operation.
pub(super) enum Progress {
    /// So many bytes, 0 at the end.
    Read(usize),
    /// To where a read into a buffer of this size has to be submitted.
    Submit(usize),
    /// To where there is nothing to return yet.
    Wait(Wait),
}

/// Why a call has no result yet.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wait {
    /// A read is in flight.
    Packet,
    /// More has to be passed over than one call may.
    Turn,
}

/// The skips that one call has left, and the memory for them.
pub(super) struct Skips {
    left: u32,
    unwanted: Vec<u8>,
}

impl Skips {
    pub(super) fn new() -> Self {
        Self { left: MOST_SKIPPED, unwanted: Vec::new() }
    }

    /// Returns whether one more read is allowed.
    pub(super) fn take(&mut self) -> bool {
        let allowed = self.left > 0;
        self.left -= u32::from(allowed);
        allowed
    }

    fn unwanted(&mut self) -> &mut [u8] {
        self.unwanted.resize(LARGEST_DISCARD, 0);
        &mut self.unwanted
    }
}

impl Stream {
    /// Reads the bytes that are available.
    fn try_fill(
        &self,
        inbound: &mut Inbound,
        destination: &mut dyn Destination,
    ) -> io::Result<Result<usize, Wait>> {
        let mut skips = Skips::new();
        loop {
            match self.fill(inbound, destination, &mut skips)? {
                Progress::Read(count) => return Ok(Ok(count)),
                Progress::Submit(size) => self.submit_read(inbound, size),
                Progress::Wait(wait) => return Ok(Err(wait)),
            }
        }
    }

    /// Reads the bytes that are available, from our buffers and, without waiting, from the pipe.
    pub(super) fn fill(
        &self,
        inbound: &mut Inbound,
        destination: &mut dyn Destination,
        skips: &mut Skips,
    ) -> io::Result<Progress> {
        let mut copied = 0;
        loop {
            match inbound.machine.step(copied, destination.room()) {
                ReadStep::Copy => {
                    let count = destination.put(inbound.machine.buffered());
                    inbound.machine.consume(count);
                    copied += count;
                }
                ReadStep::Direct => {
                    copied += destination.fill(&mut |bytes| {
                        let outcome = sys::read_now(&self.handle, bytes);
                        let outcome = outcome.map(|outcome| (outcome.code, outcome.bytes));
                        inbound.machine.on_direct(outcome, bytes.len())
                    });
                }
                ReadStep::Discard | ReadStep::Submit(_) if !skips.take() => {
                    return Ok(Progress::Wait(Wait::Turn));
                }
                ReadStep::Discard => {
                    if let Some(size) = self.discard(inbound, skips) {
                        return Ok(Progress::Submit(size));
                    }
                }
                ReadStep::Submit(size) => return Ok(Progress::Submit(size)),
                ReadStep::Wait => return Ok(Progress::Wait(Wait::Packet)),
                ReadStep::Done => return Ok(Progress::Read(copied)),
                ReadStep::End(ReadEnd::EndOfFile) => return Ok(Progress::Read(0)),
                ReadStep::End(ReadEnd::Failed(code)) => return Err(system_error(code)),
            }
        }
    }

    /// Discards the next part of a refused message. Returns the size of the read to submit for more
    /// of it, if there is no more yet.
    pub(super) fn discard(&self, inbound: &mut Inbound, skips: &mut Skips) -> Option<usize> {
        let outcome = sys::read_now(&self.handle, skips.unwanted());
        inbound.machine.on_discarded(outcome.map(|outcome| outcome.code))
    }

    pub(super) fn submit_read(&self, inbound: &mut Inbound, size: usize) {
        let buffer = inbound.machine.buffer(size);
        self.submit_read_into(inbound, buffer);
    }

    /// Submits a read into an empty buffer.
    pub(super) fn submit_read_into(&self, inbound: &mut Inbound, buffer: Vec<u8>) {
        match inbound.operation.take().read(&self.core.driver, &self.handle, buffer, self.core.clone()) {
            Submitted::Pending(in_flight) => {
                inbound.operation = OperationPlace::Away(in_flight);
                inbound.machine.on_pending();
                self.core.watch(inbound);
            }
            Submitted::Finished { operation, outcome, buffer } => {
                inbound.operation = OperationPlace::Here(operation);
                inbound.machine.on_finished(outcome.code, buffer);
            }
        }
    }

    #[cfg_attr(
        not(any(feature = "tokio", feature = "futures-io")),
        allow(dead_code, reason = "for the traits")
    )]
    pub(crate) fn poll_read(
        &self,
        context: &Context<'_>,
        destination: &mut dyn Destination,
    ) -> Poll<io::Result<usize>> {
        self.reporting("read", || {
            if destination.room() == 0 {
                return Poll::Ready(Ok(0));
            }
            let mut inbound = lock(&self.core.inbound);
            match self.try_fill(&mut inbound, destination)? {
                Ok(count) => Poll::Ready(Ok(count)),
                Err(wait) => {
                    wait.leave(&self.core.inbound, inbound, Key::POLL, context);
                    Poll::Pending
                }
            }
        })
    }

    pub(crate) fn try_read(&self, destination: &mut dyn Destination) -> io::Result<usize> {
        self.reporting("read", || {
            if destination.room() == 0 {
                return Ok(0);
            }
            let mut inbound = lock(&self.core.inbound);
            self.try_fill(&mut inbound, destination)?.map_err(|wait| {
                if matches!(wait, Wait::Turn) {
                    coop::end_run();
                }
                io::ErrorKind::WouldBlock.into()
            })
        })
    }

    /// Finds out whether a read would have a result now.
    fn ask(&self, inbound: &mut Inbound) -> Result<(), Wait> {
        let mut skips = Skips::new();
        while !inbound.machine.is_ready() {
            // No room is offered, so this neither takes bytes nor reports an end.
            let size = match inbound.machine.step(0, 0) {
                ReadStep::Submit(_) | ReadStep::Discard if !skips.take() => return Err(Wait::Turn),
                ReadStep::Submit(size) => Some(size),
                ReadStep::Discard => self.discard(inbound, &mut skips),
                _ => return Err(Wait::Packet),
            };
            if let Some(size) = size {
                self.submit_read(inbound, size);
            }
            inbound.ticks += 1;
        }
        Ok(())
    }

    pub(crate) fn is_readable(&self) -> bool {
        self.ask(&mut lock(&self.core.inbound)).is_ok()
    }

    /// Waits until a read would have a result. `used_up`: readiness of that tick does not count.
    pub(crate) fn poll_readable(
        &self,
        context: &Context<'_>,
        key: Key,
        used_up: Option<u64>,
    ) -> Poll<Readable> {
        let mut inbound = lock(&self.core.inbound);
        let wait = match self.ask(&mut inbound) {
            Ok(()) if used_up != Some(inbound.ticks) => {
                return Poll::Ready(Readable { ended: inbound.machine.is_ended(), tick: inbound.ticks });
            }
            Ok(()) => Wait::Packet,
            Err(wait) => wait,
        };
        wait.leave(&self.core.inbound, inbound, key, context);
        Poll::Pending
    }

    /// A place among those that wait to read.
    pub(crate) fn reader(&self) -> WaiterGuard<'_, Inbound> {
        WaiterGuard::new(&self.core.inbound)
    }
}

impl Wait {
    /// Leaves the task to be woken when it is worth another poll.
    pub(super) fn leave(
        self,
        awaited: &Mutex<Inbound>,
        inbound: MutexGuard<'_, Inbound>,
        key: Key,
        context: &Context<'_>,
    ) {
        match self {
            Self::Packet => {
                let _: Poll<()> = wait(awaited, inbound, key, context);
            }
            Self::Turn => {
                drop(inbound);
                context.waker().wake_by_ref();
            }
        }
    }
}

/// What is known of a direction that can be read from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Readable {
    /// The next thing read is the end.
    pub(crate) ended: bool,
    /// When this was so.
    pub(crate) tick: u64,
}

impl Core {
    pub(super) fn read_completed(self: &Arc<Self>, finished: Finished, wake: &mut Vec<Waiting>) {
        let Finished { kind, operation, outcome, buffer, handle } = finished;
        let mut inbound = lock(&self.inbound);
        inbound.operation = OperationPlace::Here(operation);
        inbound.ticks += 1;
        let done = match kind {
            Kind::Exchange => inbound.machine.on_exchange_packet(outcome.code, buffer),
            _ => inbound.machine.on_packet(outcome.code, buffer),
        };
        self.after_read(&mut inbound, done, handle.as_ref(), wake);
        drop(inbound);
        // The handle may be closed here, with no lock held.
        drop(handle);
    }

    /// Submits what the machine asks for, from where the packet was dequeued.
    fn after_read(
        self: &Arc<Self>,
        inbound: &mut Inbound,
        mut done: ReadDone,
        handle: Option<&Arc<OwnedHandle>>,
        wake: &mut Vec<Waiting>,
    ) {
        for _ in 0..MOST_SKIPPED {
            if done.wake {
                inbound.waiters.take(wake);
            }
            let (Some(size), Some(handle)) = (done.submit, handle) else { return };
            let buffer = inbound.machine.buffer(size);
            match inbound.operation.take().read(&self.driver, handle, buffer, self.clone()) {
                Submitted::Pending(in_flight) => {
                    inbound.operation = OperationPlace::Away(in_flight);
                    inbound.machine.on_ahead_pending();
                    self.watch(inbound);
                    return;
                }
                Submitted::Finished { operation, outcome, buffer } => {
                    inbound.operation = OperationPlace::Here(operation);
                    done = inbound.machine.on_ahead_finished(outcome.code, buffer);
                }
            }
        }
        // The tasks that wait go on with it: other pipes have their packets in this port too.
        inbound.waiters.take(wake);
    }

    /// Makes sure that a large buffer which waits for data will be given back if none comes.
    fn watch(self: &Arc<Self>, inbound: &mut Inbound) {
        if inbound.machine.holds_large_buffer() && inbound.watch.is_none() {
            let timer = self.schedule(Instant::now() + IDLE);
            inbound.watch = Some(Watch { since: inbound.ticks, _timer: timer });
        }
    }

    pub(super) fn give_back_if_idle(self: &Arc<Self>) {
        let mut inbound = lock(&self.inbound);
        let Some(Watch { since, .. }) = inbound.watch.take() else { return };
        if inbound.ticks != since {
            self.watch(&mut inbound);
        } else if inbound.machine.holds_large_buffer() {
            inbound.machine.on_idle();
            inbound.operation.cancel();
        }
    }
}
