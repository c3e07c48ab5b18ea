//! The end of a pipe end: what has been written is delivered first, unless told otherwise.

use std::time::{Duration, Instant};

use super::{Core, Stream};
use crate::driver::Scheduled;
use crate::sync::{Arc, lock};

/// What happens to writes that are still on their way when the pipe end is dropped.
#[derive(Debug, Default)]
pub(super) enum Linger {
    /// They keep the handle open until the peer has made room for them.
    #[default]
    Unbounded,
    /// They may take this long.
    For(Duration),
    /// The pipe end is gone, and they may take until then.
    Until { end: Instant, _timer: Scheduled },
}

impl Stream {
    /// Bounds how long writes in flight keep the handle open after the pipe end is dropped; `None`: until they end.
    pub(crate) fn set_linger(&self, linger: Option<Duration>) {
        lock(&self.core.outbound).linger = linger.map_or(Linger::Unbounded, Linger::For);
    }

    pub(crate) fn linger(&self) -> Option<Duration> {
        match lock(&self.core.outbound).linger {
            Linger::Unbounded | Linger::Until { .. } => None,
            Linger::For(linger) => Some(linger),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut waiters = Vec::new();
        let mut connecting = lock(&self.core.lifecycle);
        let connect = if connecting.machine.reset() { connecting.operation.give_up() } else { None };
        connecting.waiters.take(&mut waiters);
        drop(connecting);

        let mut inbound = lock(&self.core.inbound);
        let read = if inbound.machine.reset() { inbound.operation.give_up() } else { None };
        inbound.waiters.take(&mut waiters);
        drop(inbound);

        for in_flight in connect.into_iter().chain(read) {
            in_flight.cancel_and_release();
        }

        let mut outbound = lock(&self.core.outbound);
        outbound.waiters.take(&mut waiters);
        let end = match outbound.linger {
            // An end that no clock reaches is none.
            Linger::For(linger) if !outbound.machine.is_idle() => Instant::now().checked_add(linger),
            _ => None,
        };
        if let Some(end) = end {
            outbound.linger = Linger::Until { end, _timer: self.core.schedule(end) };
        }
        drop(outbound);
    }
}

impl Core {
    pub(super) fn schedule(self: &Arc<Self>, at: Instant) -> Scheduled {
        let this: std::sync::Weak<Self> = Arc::downgrade(self);
        self.driver.schedule(at, this)
    }

    /// Gives up on writes whose time is over.
    pub(super) fn end_of_linger(&self) {
        let mut outbound = lock(&self.outbound);
        let over = matches!(outbound.linger, Linger::Until { end, .. } if end <= Instant::now());
        let write = if over && outbound.machine.reset() { outbound.operation.give_up() } else { None };
        drop(outbound);
        if let Some(write) = write {
            write.cancel_and_release();
        }
    }
}
