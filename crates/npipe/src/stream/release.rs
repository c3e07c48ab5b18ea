//! Bringing a pipe end to rest, so that its handle can be used without the driver: nothing is in flight, and what was read
//! ahead is there to be taken first. The stream stays whole: it can be driven again at any time.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use super::read::{Progress, Skips, Wait};
use super::{Destination, Key, Settings, Stream, wait};
use crate::driver::{Batch, Driver};
use crate::sync::{Arc, lock};
use crate::sys::OwnedHandle;

impl Stream {
    /// Waits until nothing is in flight in either direction. The error of a write that was accepted stays to be reported, by
    /// the next write or flush.
    pub(crate) async fn rest(&self) {
        let (reader, writer) = (self.reader_key(), self.writer_key());
        poll_fn(|context| {
            let outbound = lock(&self.core.outbound);
            if outbound.machine.is_idle() {
                return Poll::Ready(());
            }
            wait(&self.core.outbound, outbound, writer, context)
        })
        .await;
        poll_fn(|context| self.poll_stop(context, reader)).await;
    }

    fn poll_stop(&self, context: &Context<'_>, key: Key) -> Poll<()> {
        let mut inbound = lock(&self.core.inbound);
        if !inbound.machine.stop() {
            return Poll::Ready(());
        }
        inbound.operation.cancel();
        wait(&self.core.inbound, inbound, key, context)
    }

    /// Gives up a stream at rest: the handle, which no port has a part in any more, and what was read ahead.
    pub(crate) fn surrender(self) -> io::Result<(OwnedHandle, Vec<Bytes>)> {
        let read_ahead = lock(&self.core.inbound).machine.surrender();
        let handle = self.handle.clone();
        drop(self);
        Driver::release(&handle);
        // The thread that dequeued the last packet may hold the handle for another moment.
        let handle = Arc::try_unwrap(handle).or_else(|shared| shared.try_clone())?;
        Ok((handle, read_ahead.into_iter().map(Bytes::from).collect()))
    }

    /// Reads what was read ahead before the stream came to rest. `None`: there is nothing, and the pipe itself is next.
    pub(crate) fn read_rest(&self, destination: &mut dyn Destination) -> io::Result<Option<usize>> {
        loop {
            match self.fill(&mut lock(&self.core.inbound), destination, &mut Skips::new())? {
                Progress::Read(count) => return Ok(Some(count)),
                Progress::Wait(Wait::Turn) => {}
                Progress::Submit(_) | Progress::Wait(Wait::Packet) => return Ok(None),
            }
        }
    }

    /// Waits on the stream's port for up to `limit`, if that is this thread's to do: inside the `block_on` or task that the port
    /// belongs to, nobody else would. Tells whether it was.
    pub(crate) fn attend(&self, limit: Option<Duration>) -> bool {
        let port: &Driver = &self.core.driver;
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
}
