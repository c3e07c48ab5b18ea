//! From and to handles and the async ends.

use std::error::Error;
use std::fmt;
use std::io;
use std::os::windows::io::{FromRawHandle, OwnedHandle, RawHandle};
use std::sync::Arc;

use bytes::Bytes;

use super::PipeStream;
use crate::driver::Driver;
use crate::info::PipeEnd;
use crate::pipe_end::{End, Pipe};
use crate::stream::{Settings, Stream};
use crate::sys;
use crate::{NamedPipeClient, NamedPipeServer};

/// A [`PipeStream`] could not be turned into something else. It is still there:
/// [`into_stream`](Self::into_stream).
#[derive(Debug)]
pub struct ConversionError {
    stream: PipeStream,
    reason: io::Error,
}

impl ConversionError {
    /// Why.
    pub fn reason(&self) -> &io::Error {
        &self.reason
    }

    /// The stream, as it was.
    #[must_use = "the connection ends when the stream is dropped"]
    pub fn into_stream(self) -> PipeStream {
        self.stream
    }
}

impl fmt::Display for ConversionError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "cannot convert the stream: {}", self.reason)
    }
}

impl Error for ConversionError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.reason)
    }
}

impl From<ConversionError> for io::Error {
    /// The reason; the stream is dropped.
    fn from(error: ConversionError) -> Self {
        error.reason
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

impl PipeStream {
    /// Takes over a pipe's handle.
    ///
    /// # Errors
    ///
    /// `ERROR_INVALID_HANDLE` when it is no handle; [`InvalidInput`](io::ErrorKind::InvalidInput)
    /// when it is that of a file or another device, or when it was not opened with
    /// `FILE_FLAG_OVERLAPPED`, since calls on it would then wait for one another, a write for a
    /// read that waits for data. The handle is closed then.
    ///
    /// # Safety
    ///
    /// `handle` must be open, and the caller's to give away.
    #[expect(unsafe_code, reason = "the handle is the caller's word")]
    pub unsafe fn from_raw_handle(handle: RawHandle) -> io::Result<Self> {
        // SAFETY: the caller gives the handle away.
        let handle = unsafe { OwnedHandle::from_raw_handle(handle) };
        Self::try_from(handle)
    }

    /// Gives the handle up, with what an async end had read from it ahead and nobody has read
    /// since: nothing is lost. It waits until the pipe has what a write that ran into its
    /// time-out left on its way.
    ///
    /// The data that was read ahead keeps its units. On a message pipe each element is a message,
    /// or a part of one. On a byte pipe, `concat` the elements. The read mode belongs to the handle
    /// and stays. An ended writing direction, empty messages as the end, time-outs and linger
    /// belong to the stream and are lost.
    ///
    /// [`NamedPipeServer::into_owned_handle`] lists what the next owner can do with the handle. A
    /// handle that was never tied to a completion port works everywhere. That is the handle of a
    /// stream that was never async and had no write time-out.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) when a clone of the stream exists, which goes
    /// on. The system's, of a write that was accepted and then failed.
    #[doc(alias = "into_raw_handle")]
    pub fn into_owned_handle(self) -> io::Result<(OwnedHandle, Vec<Bytes>)> {
        self.settle(self.stream.timeouts().until(None))?;
        self.into_only()?.surrender()
    }

    /// The server's end for async code. Nothing is lost: bytes that an async end had read ahead and
    /// nobody has read since, and a write that ran into its time-out, go with it.
    ///
    /// It belongs to the task, `block_on` or process that it is made in, as one that is created
    /// there, unless it was tied to a completion port before.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) when this is a client's end, when a clone of
    /// it exists, and when the handle belongs to the completion port of another library. The stream
    /// comes back with the error.
    pub fn into_server(self) -> Result<NamedPipeServer, ConversionError> {
        self.into_async(PipeEnd::Server).map(NamedPipeServer::from_stream)
    }

    /// [`into_server`](Self::into_server) for the client's end.
    ///
    /// # Errors
    ///
    /// As [`into_server`](Self::into_server), and [`InvalidInput`](io::ErrorKind::InvalidInput)
    /// when this is a server's end.
    pub fn into_client(self) -> Result<NamedPipeClient, ConversionError> {
        self.into_async(PipeEnd::Client).map(NamedPipeClient::from_stream)
    }

    fn into_async(self, end: PipeEnd) -> Result<Stream, ConversionError> {
        let stream = self.into_only()?;
        let tied = match end {
            end if end == stream.settings().end => Driver::current().and_then(|driver| stream.tie(&driver)),
            PipeEnd::Server => Err(invalid("this is a client's end; into_client takes it")),
            PipeEnd::Client => Err(invalid("this is a server's end; into_server takes it")),
        };
        match tied {
            Ok(()) => Ok(stream),
            Err(reason) => Err(ConversionError { stream: Self::around(stream), reason }),
        }
    }

    /// The stream, if there is no clone of it.
    fn into_only(self) -> Result<Stream, ConversionError> {
        Arc::try_unwrap(self.stream).map_err(|stream| ConversionError {
            stream: Self { stream },
            reason: invalid("a clone of the stream exists; drop it first"),
        })
    }
}

impl TryFrom<OwnedHandle> for PipeStream {
    type Error = io::Error;

    /// Takes over a pipe's handle, with the errors of
    /// [`from_raw_handle`](PipeStream::from_raw_handle). There may be duplicates of it.
    fn try_from(handle: OwnedHandle) -> io::Result<Self> {
        let settings = Settings::of_foreign(&handle)?;
        if !sys::is_overlapped(&handle)? {
            return Err(invalid(
                "the handle was not opened with FILE_FLAG_OVERLAPPED, so reading and writing would wait for one another",
            ));
        }
        Ok(Self::new(handle, settings))
    }
}

impl TryFrom<PipeStream> for OwnedHandle {
    type Error = ConversionError;

    /// The handle. [`InvalidInput`](io::ErrorKind::InvalidInput) when a clone of the stream exists,
    /// or when the handle is tied to a completion port of this crate, because the stream came
    /// from an async end or had a write time-out:
    /// [`into_owned_handle`](PipeStream::into_owned_handle) unties it, and gives what was read
    /// ahead as well.
    fn try_from(stream: PipeStream) -> Result<Self, ConversionError> {
        if stream.stream.is_tied() {
            let reason = invalid(
                "the handle is tied to a completion port of npipe, since the stream was async or had a write time-out; \
                 into_owned_handle unties it",
            );
            return Err(ConversionError { stream, reason });
        }
        let stream = stream.into_only()?;
        let (handle, settings) = (stream.shared_handle(), stream.settings());
        drop(stream);
        // The thread of a flush may hold it for another moment.
        Arc::try_unwrap(handle).or_else(|handle| {
            handle.try_clone().map_err(|reason| {
                let stream = PipeStream::around(Stream::untied(handle, settings));
                ConversionError { stream, reason }
            })
        })
    }
}

impl<E: End> Pipe<E> {
    /// This end for threads. Nothing is lost: it waits until the pipe has everything that was
    /// written, and bytes that were read ahead are the first that the [`PipeStream`] reads. The
    /// error of a write that was accepted and then failed is reported by its next write or
    /// flush.
    ///
    /// The handle stays tied to its completion port, which costs the stream nothing.
    /// [`PipeStream::into_server`] and [`PipeStream::into_client`] are the ways back. Settings, and
    /// an ended writing direction, are kept in both conversions.
    ///
    /// # Cancellation
    ///
    /// When the future is dropped the pipe is closed, as by dropping it.
    pub async fn into_blocking(self) -> PipeStream {
        self.stream.rest().await;
        PipeStream::around(self.stream)
    }
}
