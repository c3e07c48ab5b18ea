//! The end of a pipe end: what has been written is delivered first, unless told otherwise.

use std::time::{Duration, Instant};

use super::{Core, Stream};
use crate::driver::Scheduled;
use crate::sync::{Arc, lock};

/// The default time for which a write may keep a dropped pipe end open.
///
/// The kernel keeps such a write, its memory and the pipe's instance until the peer reads or
/// closes. A hostile peer does neither: it connects, has a server write, and again, and each
/// connection costs the server memory for good. A peer that reads but is slow, or is stopped in a
/// debugger, should still get what was written. Five minutes are long for the second and bound the
/// first.
const DEFAULT_LINGER: Duration = Duration::from_secs(5 * 60);

/// The time for which writes may keep a pipe end open after its drop, and a close may wait for the
/// peer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum LingerTime {
    #[default]
    Default,
    /// `None`: until the peer has made room, or has closed its end.
    Set(Option<Duration>),
}

impl LingerTime {
    /// The limit after a drop.
    pub(crate) fn after_drop(self) -> Option<Duration> {
        match self {
            Self::Default => Some(DEFAULT_LINGER),
            Self::Set(time) => time,
        }
    }

    /// The limit of a close, whose caller sees that it waits, and can end it.
    pub(crate) fn in_close(self) -> Option<Duration> {
        match self {
            Self::Default => None,
            Self::Set(time) => time,
        }
    }
}

/// What happens to writes that are still on their way when the pipe end is dropped.
#[derive(Debug)]
pub(super) enum Linger {
    /// They may take this long.
    For(LingerTime),
    /// The pipe end is gone, and they may take until then.
    Until { end: Instant, _timer: Scheduled },
}

impl Default for Linger {
    fn default() -> Self {
        Self::For(LingerTime::default())
    }
}

impl Stream {
    /// Bounds how long writes in flight keep the handle open after the pipe end is dropped.
    pub(crate) fn set_linger(&self, linger: LingerTime) {
        lock(&self.core.outbound).linger = Linger::For(linger);
    }

    pub(crate) fn linger(&self) -> LingerTime {
        match lock(&self.core.outbound).linger {
            Linger::For(linger) => linger,
            Linger::Until { .. } => unreachable!("the end is there"),
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
            Linger::For(linger) if !outbound.machine.is_idle() => {
                linger.after_drop().and_then(|linger| Instant::now().checked_add(linger))
            }
            Linger::For(_) | Linger::Until { .. } => None,
        };
        if let Some(end) = end {
            outbound.linger = Linger::Until { end, _timer: self.core.schedule(end) };
        }
        let lingers = !outbound.machine.is_idle();
        drop(outbound);
        self.span.closed(lingers);
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
