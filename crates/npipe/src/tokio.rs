//! Tokio's `AsyncRead` and `AsyncWrite`: a skin, without state.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::coop;
use crate::halves::{OwnedReadHalf, OwnedWriteHalf};
use crate::pipe_end::{End, Pipe};
use crate::stream::{Destination, Key};

impl Destination for ReadBuf<'_> {
    fn room(&self) -> usize {
        self.remaining()
    }

    fn put(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.remaining());
        self.put_slice(&bytes[..count]);
        count
    }

    fn fill(&mut self, read: &mut dyn FnMut(&mut [u8]) -> usize) -> usize {
        let count = read(self.initialize_unfilled());
        self.advance(count);
        count
    }
}

/// `$stream`: where the pipe's stream is.
macro_rules! tokio_read {
    ($pipe:ty, $($stream:ident).+) => {
        impl<E: End> AsyncRead for $pipe {
            fn poll_read(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                buffer: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                coop::poll(context, |context| self.$($stream).+.poll_read(context, buffer)).map_ok(drop)
            }
        }
    };
}

macro_rules! tokio_write {
    ($pipe:ty, $($stream:ident).+) => {
        /// `poll_flush` and `poll_shutdown` wait until the pipe has accepted everything that was written, and report
        /// its error. They do not wait for the peer to read.
        impl<E: End> AsyncWrite for $pipe {
            fn poll_write(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                coop::poll(context, |context| self.$($stream).+.poll_write(context, &bytes))
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                slices: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                coop::poll(context, |context| self.$($stream).+.poll_write(context, &slices))
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                coop::poll(context, |context| self.$($stream).+.poll_flush(context, Key::POLL))
            }

            fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                coop::poll(context, |context| self.$($stream).+.poll_flush(context, Key::POLL))
            }
        }
    };
}

tokio_read!(Pipe<E>, stream);
tokio_write!(Pipe<E>, stream);
tokio_read!(OwnedReadHalf<Pipe<E>>, pipe.stream);
tokio_write!(OwnedWriteHalf<Pipe<E>>, pipe.stream);
