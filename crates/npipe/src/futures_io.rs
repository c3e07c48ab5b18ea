//! The `AsyncRead` and `AsyncWrite` of `futures-io`: a skin, without state.

use std::io::{self, IoSlice, IoSliceMut};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};

use crate::coop;
use crate::halves::{OwnedReadHalf, OwnedWriteHalf};
use crate::stream::{Key, Slice, Slices};
use crate::{NamedPipeClient, NamedPipeServer};

/// `$stream`: where the pipe's stream is.
macro_rules! futures_io_read {
    ($pipe:ty, $($stream:ident).+) => {
        impl AsyncRead for $pipe {
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
        impl AsyncWrite for $pipe {
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

macro_rules! futures_io_traits {
    ($pipe:ty) => {
        futures_io_read!($pipe, stream);
        futures_io_write!($pipe, stream);
        futures_io_read!(OwnedReadHalf<$pipe>, pipe.stream);
        futures_io_write!(OwnedWriteHalf<$pipe>, pipe.stream);
    };
}

futures_io_traits!(NamedPipeServer);
futures_io_traits!(NamedPipeClient);
