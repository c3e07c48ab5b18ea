//! The `AsyncRead` and `AsyncWrite` of `futures-io`: a skin, without state.

use std::io::{self, IoSlice, IoSliceMut};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};

use crate::coop;
use crate::halves::{OwnedReadHalf, OwnedWriteHalf};
use crate::pipe_end::{End, Pipe};
use crate::stream::{Key, Slice, Slices};

/// `$stream`: where the pipe's stream is.
macro_rules! futures_io_read {
    ($pipe:ty, $($stream:ident).+) => {
        impl<E: End> AsyncRead for $pipe {
            fn poll_read(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                bytes: &mut [u8],
            ) -> Poll<io::Result<usize>> {
                coop::poll(context, |context| self.$($stream).+.poll_read(context, &mut Slice { bytes, filled: 0 }))
            }

            fn poll_read_vectored(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                slices: &mut [IoSliceMut<'_>],
            ) -> Poll<io::Result<usize>> {
                coop::poll(context, |context| self.$($stream).+.poll_read(context, &mut Slices::new(slices)))
            }
        }
    };
}

macro_rules! futures_io_write {
    ($pipe:ty, $($stream:ident).+) => {
        /// `poll_flush` and `poll_close` wait until the pipe has accepted everything that was written, and report its
        /// error. They do not wait for the peer to read; the pipe is closed when it is dropped.
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

            fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                coop::poll(context, |context| self.$($stream).+.poll_flush(context, Key::POLL))
            }

            fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                coop::poll(context, |context| self.$($stream).+.poll_flush(context, Key::POLL))
            }
        }
    };
}

futures_io_read!(Pipe<E>, stream);
futures_io_write!(Pipe<E>, stream);
futures_io_read!(OwnedReadHalf<Pipe<E>>, pipe.stream);
futures_io_write!(OwnedWriteHalf<Pipe<E>>, pipe.stream);
