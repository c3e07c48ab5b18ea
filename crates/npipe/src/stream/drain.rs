//! Waiting until the peer has read everything.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::{Key, Stream};
use crate::driver::{BlockingFlush, Deadline};

/// A place among those who wait to write, given up on drop.
struct Flushing<'a> {
    stream: &'a Stream,
    key: Key,
}

impl Drop for Flushing<'_> {
    fn drop(&mut self) {
        self.stream.forget_writer(self.key);
    }
}

impl Stream {
    /// Waits until the pipe has accepted everything that was written. Other tasks may be writing meanwhile.
    pub(crate) async fn flush(&self) -> io::Result<()> {
        let flushing = Flushing { stream: self, key: self.writer_key() };
        poll_fn(|context| self.poll_flush(context, flushing.key)).await
    }

    /// Waits until the peer has read everything that was written.
    pub(crate) async fn drain(&self) -> io::Result<()> {
        self.flush().await?;
        let mut flush = self.start_drain()?;
        poll_fn(|context| flush.poll(context)).await
    }

    /// Starts waiting until the peer has read everything that the pipe has.
    pub(crate) fn start_drain(&self) -> io::Result<BlockingFlush> {
        BlockingFlush::start(self.handle.clone())
    }

    /// [`drain`](Self::drain) until `end`, if there is one. `None`: it was too late.
    pub(super) async fn drain_until(&self, end: Option<Instant>) -> Option<io::Result<()>> {
        let Some(end) = end else { return Some(self.drain().await) };
        let deadline = Deadline::new(&self.core.driver, end);
        let mut drain = pin!(self.drain());
        poll_fn(|context| match drain.as_mut().poll(context) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending => deadline.poll(context).map(|()| None),
        })
        .await
    }

    /// [`drain`](Self::drain), for as long as the pipe end may linger. What is left then lingers no longer.
    pub(crate) async fn drain_within_linger(&self) -> io::Result<()> {
        let end = self.linger().and_then(|linger| Instant::now().checked_add(linger));
        self.drain_until(end).await.unwrap_or_else(|| {
            self.set_linger(Some(Duration::ZERO));
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the peer has not read everything within the time to linger",
            ))
        })
    }
}
