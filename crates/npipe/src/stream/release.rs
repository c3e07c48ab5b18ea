//! Bringing a pipe end to rest, so that its handle can be used without the driver: nothing is in
//! flight, and what was read ahead is there to be taken first. The stream stays whole: it can be
//! driven again at any time.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use super::read::{Progress, Skips};
#[cfg(windows)]
use super::timeout::Timeouts;
use super::write::refusal;
use super::{Destination, Key, Outbound, Settings, Stream, WaiterGuard, system_error, wait};
use crate::driver::{Batch, Driver};
use crate::machine::{EndStep, is_sendable};
use crate::sync::{Arc, MutexGuard, lock};
use crate::sys::OwnedHandle;

/// The right to submit a write: see [`Stream::begin_write`].
pub(crate) struct Submitting<'a> {
    _outbound: MutexGuard<'a, Outbound>,
}

impl Stream {
    /// Waits until no operation is in flight. Writes end by themselves, all others are cancelled,
    /// and so are those of futures that were dropped. The error of a write that was accepted stays
    /// to be reported, by the next write or flush.
    pub(crate) async fn rest(&self) {
        let (reader, writer) = (self.reader(), self.writer());
        let connector = WaiterGuard::new(&self.core.lifecycle);
        poll_fn(|context| {
            let outbound = lock(&self.core.outbound);
            if outbound.machine.is_idle() {
                return Poll::Ready(());
            }
            wait(&self.core.outbound, outbound, writer.key(), context)
        })
        .await;
        poll_fn(|context| self.poll_stop_connecting(context, connector.key())).await;
        poll_fn(|context| self.poll_stop(context, reader.key())).await;
        poll_fn(|context| self.poll_pass_over_refused(context, reader.key())).await;
        if let Some(registration) = self.core.driver.0.get() {
            // Of drains that were dropped there is a packet to come too.
            poll_fn(|context| registration.poll_quiet(context)).await;
        }
    }

    fn poll_stop_connecting(&self, context: &Context<'_>, key: Key) -> Poll<()> {
        let mut connecting = lock(&self.core.lifecycle);
        if !connecting.machine.stop() {
            return Poll::Ready(());
        }
        connecting.operation.cancel();
        wait(&self.core.lifecycle, connecting, key, context)
    }

    fn poll_stop(&self, context: &Context<'_>, key: Key) -> Poll<()> {
        let mut inbound = lock(&self.core.inbound);
        if !inbound.machine.stop() {
            return Poll::Ready(());
        }
        inbound.operation.cancel();
        wait(&self.core.inbound, inbound, key, context)
    }

    /// The next owner of the handle must not read the rest of a refused message.
    fn poll_pass_over_refused(&self, context: &Context<'_>, key: Key) -> Poll<()> {
        let mut inbound = lock(&self.core.inbound);
        match self.pass_over_refused(&mut inbound) {
            Ok(()) => Poll::Ready(()),
            Err(turn) => {
                turn.leave(&self.core.inbound, inbound, key, context);
                Poll::Pending
            }
        }
    }

    /// Gives up a stream at rest: the handle, which no port has a part in any more, and what was
    /// read ahead.
    pub(crate) fn surrender(self) -> io::Result<(OwnedHandle, Vec<Bytes>)> {
        // Of a message that a blocking call refused.
        while self.discard_refused() {}
        let read_ahead = lock(&self.core.inbound).machine.surrender();
        let is_tied = self.is_tied();
        let handle = self.handle.clone();
        drop(self);
        if is_tied {
            Driver::release(&handle);
        }
        // The thread that dequeued the last packet, or that of a flush, may hold the handle for
        // another moment. It may need this one to let go of it, so it cannot be waited for here.
        let handle = Arc::try_unwrap(handle).or_else(|shared| shared.try_clone())?;
        Ok((handle, read_ahead.into_iter().map(Bytes::from).collect()))
    }

    /// Reads as far as that takes no waiting: what was read ahead before the stream came to rest,
    /// or the rest of a message that was begun. `None`: the calling thread has to read from the
    /// pipe, and reports that to [`on_thread_read`](Self::on_thread_read).
    pub(crate) fn read_rest(&self, destination: &mut dyn Destination) -> io::Result<Option<usize>> {
        match self.fill(&mut lock(&self.core.inbound), destination, &mut Skips::new())? {
            Progress::Read(count) => Ok(Some(count)),
            Progress::Submit(_) | Progress::Wait(_) => Ok(None),
        }
    }

    /// Waits on the stream's port for up to `limit`, if that is this thread's to do: inside the
    /// `block_on` or task that the port belongs to, nobody else would. Tells whether it was.
    pub(crate) fn attend(&self, limit: Option<Duration>) -> bool {
        let Some(port) = self.core.driver.0.get() else { return false };
        let port: &Driver = port;
        let Some(driver) = Driver::entered().filter(|entered| std::ptr::eq(&**entered, port)) else {
            return false;
        };
        let mut batch = Batch::new();
        driver.collect(&mut batch, limit);
        batch.wake_all();
        true
    }

    pub(crate) fn shared_handle(&self) -> Arc<OwnedHandle> {
        self.handle.clone()
    }

    pub(crate) fn settings(&self) -> Settings {
        self.settings
    }

    /// Returns whether the handle is tied to a completion port.
    pub(crate) fn is_tied(&self) -> bool {
        self.core.driver.0.get().is_some()
    }

    /// The time-outs of the blocking API, which an async end keeps for it.
    #[cfg(windows)]
    pub(crate) fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// A thread has read so many bytes from the pipe itself, and a message goes on behind them, or
    /// does not. Returns whether that is a result, and not to be passed over.
    pub(crate) fn on_thread_read(&self, bytes: usize, message_goes_on: bool) -> bool {
        lock(&self.core.inbound).machine.on_thread_read(bytes, message_goes_on)
    }

    pub(crate) fn reads_messages(&self) -> bool {
        lock(&self.core.inbound).machine.reads_messages()
    }

    pub(crate) fn writes_messages(&self) -> io::Result<bool> {
        self.carries_messages(&mut lock(&self.core.outbound))
    }

    /// Begins a write of this length that the calling thread submits itself, unless it is refused.
    /// Nothing else is submitted, nor the direction ended, before the result is dropped, which is
    /// to be done once the kernel has the write.
    pub(crate) fn begin_write(&self, length: usize) -> io::Result<Submitting<'_>> {
        let mut outbound = lock(&self.core.outbound);
        if !is_sendable(length) {
            self.carries_messages(&mut outbound)?;
        }
        match outbound.machine.refuses(length) {
            Some(refused) => Err(refusal(refused)),
            None => Ok(Submitting { _outbound: outbound }),
        }
    }

    /// Ends the direction, with an empty message that the calling thread submits itself. `None`: it
    /// follows a write that is on its way, or the direction was ended before.
    pub(crate) fn begin_end(&self) -> io::Result<Option<Submitting<'_>>> {
        let mut outbound = lock(&self.core.outbound);
        match outbound.machine.end() {
            EndStep::Fail(code) => Err(system_error(code)),
            EndStep::Submit => Ok(Some(Submitting { _outbound: outbound })),
            EndStep::Done | EndStep::Wait => Ok(None),
        }
    }
}
