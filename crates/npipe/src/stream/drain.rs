//! Waiting until the peer has read everything.

use std::future::poll_fn;
use std::io;

use super::Stream;
use crate::driver::BlockingFlush;

impl Stream {
    /// Waits until the pipe has accepted everything that was written.
    pub(crate) async fn flush(&self) -> io::Result<()> {
        poll_fn(|context| self.poll_flush(context)).await
    }

    /// Waits until the peer has read everything that was written.
    pub(crate) async fn drain(&self) -> io::Result<()> {
        self.flush().await?;
        let mut flush = BlockingFlush::start(self.handle.clone())?;
        poll_fn(|context| flush.poll(context)).await
    }
}
