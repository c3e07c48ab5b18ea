//! Waiting until the peer has read everything.

use std::future::poll_fn;
use std::io;

use super::{Key, Stream};
use crate::driver::BlockingFlush;

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
        let mut flush = BlockingFlush::start(self.handle.clone())?;
        poll_fn(|context| flush.poll(context)).await
    }
}
