//! Waiting for readiness.

use std::io;
use std::task::Poll;

use super::Stream;
use crate::coop::poll_fn;
use crate::interest::{Interest, Ready};
#[cfg(windows)]
use crate::sync::lock;

/// When readiness was seen, in either direction.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    read: Option<u64>,
    write: Option<u64>,
}

impl Stream {
    /// Waits until something of `interest` is ready.
    pub(crate) async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        Ok(self.ready_after(interest, Seen::default()).await.0)
    }

    async fn ready_after(&self, interest: Interest, used_up: Seen) -> (Ready, Seen) {
        let reader = interest.is_readable().then(|| self.reader());
        let writer = interest.is_writable().then(|| self.writer());
        poll_fn(|context| {
            let (mut ready, mut seen) = (Ready::EMPTY, Seen::default());
            if let Some(reader) = &reader {
                if let Poll::Ready(readable) = self.poll_readable(context, reader.key(), used_up.read) {
                    ready |=
                        if readable.ended { Ready::READABLE | Ready::READ_CLOSED } else { Ready::READABLE };
                    seen.read = Some(readable.tick);
                }
            }
            if let Some(writer) = &writer {
                if let Poll::Ready(tick) = self.poll_writable(context, writer.key(), used_up.write) {
                    ready |= Ready::WRITABLE;
                    seen.write = Some(tick);
                }
            }
            if ready.is_empty() { Poll::Pending } else { Poll::Ready((ready, seen)) }
        })
        .await
    }

    /// Returns whether the next read reports the end or an error, as far as is known.
    #[cfg(windows)]
    pub(crate) fn is_read_ended(&self) -> bool {
        lock(&self.core.inbound).machine.is_ended()
    }

    /// Returns whether the end that was read last is the pipe's, and not an empty message.
    #[cfg(windows)]
    pub(crate) fn is_read_over(&self) -> bool {
        lock(&self.core.inbound).machine.is_over()
    }

    /// Calls `operation` if something of `interest` is ready.
    pub(crate) fn try_io<R>(
        &self,
        interest: Interest,
        operation: impl FnOnce() -> io::Result<R>,
    ) -> io::Result<R> {
        let ready =
            (interest.is_readable() && self.is_readable()) || (interest.is_writable() && self.is_writable());
        if ready { operation() } else { Err(io::ErrorKind::WouldBlock.into()) }
    }

    /// Calls `operation` whenever something of `interest` has become ready, until it does not say
    /// "would block".
    pub(crate) async fn async_io<R>(
        &self,
        interest: Interest,
        mut operation: impl FnMut() -> io::Result<R>,
    ) -> io::Result<R> {
        let mut used_up = Seen::default();
        loop {
            let (_, seen) = self.ready_after(interest, used_up).await;
            match operation() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => used_up = seen,
                result => return result,
            }
        }
    }
}
