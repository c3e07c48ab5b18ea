//! The end of a pipe: one type for the server's and the client's, since they differ in a few
//! methods only. [`crate::server`] has those of the server.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle, RawHandle};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};

use crate::coop;
use crate::driver::Driver;
use crate::halves::{OwnedReadHalf, OwnedWriteHalf, split};
use crate::info::{Peek, PipeEnd, PipeInfo, PipeMode};
use crate::interest::{Interest, Ready};
use crate::security::{Peer, SecurityDescriptor};
use crate::stream::{Growing, Key, LingerTime, Settings, Slice, Slices, Stream};
use crate::sys;

/// Returns the mode, the end and the limits of the pipe of `handle`.
pub(crate) fn info(handle: &OwnedHandle) -> io::Result<PipeInfo> {
    let description = sys::describe(handle)?;
    Ok(PipeInfo {
        mode: if description.message_type { PipeMode::Message } else { PipeMode::Byte },
        end: if description.server_end { PipeEnd::Server } else { PipeEnd::Client },
        max_instances: description.max_instances,
        out_buffer_size: description.out_buffer_size,
        in_buffer_size: description.in_buffer_size,
    })
}

mod sealed {
    pub trait Sealed {}
}

/// One of the two ends: [`Server`] or [`Client`]. It is for code that serves both,
/// `fn f<E: npipe::End>(pipe: &npipe::Pipe<E>)`, and sealed.
pub trait End: sealed::Sealed + fmt::Debug + Send + Sync + Unpin + 'static {
    /// The end as a value.
    const END: PipeEnd;
}

/// The end that was created, in [`Pipe<Server>`](Pipe).
#[derive(Debug, Clone, Copy)]
pub enum Server {}

/// The end that was opened, in [`Pipe<Client>`](Pipe).
#[derive(Debug, Clone, Copy)]
pub enum Client {}

impl sealed::Sealed for Server {}
impl sealed::Sealed for Client {}

impl End for Server {
    const END: PipeEnd = PipeEnd::Server;
}

impl End for Client {
    const END: PipeEnd = PipeEnd::Client;
}

/// An end of a pipe: [`NamedPipeServer`](crate::NamedPipeServer) or
/// [`NamedPipeClient`](crate::NamedPipeClient), whose pages say how each is made and used. All
/// methods that both have are here, and code for both can be generic over [`End`].
///
/// ```no_run
/// # async fn both(server: &npipe::NamedPipeServer, client: &npipe::NamedPipeClient) -> std::io::Result<()> {
/// async fn greet<E: npipe::End>(pipe: &npipe::Pipe<E>) -> std::io::Result<()> {
///     pipe.send_message(b"hello").await
/// }
///
/// greet(server).await?;
/// greet(client).await?;
/// # Ok(())
/// # }
/// ```
pub struct Pipe<E: End> {
    pub(crate) stream: Stream,
    end: PhantomData<E>,
}

impl<E: End> Pipe<E> {
    /// Takes over a pipe's handle.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) when the handle is that of a file or
    /// another device; `ERROR_INVALID_HANDLE` when it is not a valid handle;
    /// `ERROR_INVALID_PARAMETER` when it was not opened with `FILE_FLAG_OVERLAPPED`, or
    /// belongs to a completion port already. The handle is closed then.
    ///
    /// # Safety
    ///
    /// `handle` must be open, and the caller's to give away. There may be duplicates of it.
    #[expect(unsafe_code, reason = "Tokio's signature: the handle is the caller's word")]
    #[doc(alias("CreateIoCompletionPort", "FILE_FLAG_OVERLAPPED"))]
    pub unsafe fn from_raw_handle(handle: RawHandle) -> io::Result<Self> {
        // SAFETY: the caller gives the handle away.
        let handle = unsafe { OwnedHandle::from_raw_handle(handle) };
        Self::try_from(handle)
    }

    pub(crate) fn from_stream(stream: Stream) -> Self {
        Self { stream, end: PhantomData }
    }

    #[doc = crate::documentation::info!()]
    #[doc(alias("GetNamedPipeInfo", "GetNamedPipeHandleState"))]
    pub fn info(&self) -> io::Result<PipeInfo> {
        info(self.stream.handle())
    }

    #[doc = crate::documentation::security_descriptor!()]
    #[doc(alias = "GetSecurityInfo")]
    pub fn security_descriptor(&self) -> io::Result<SecurityDescriptor> {
        SecurityDescriptor::of(self.stream.handle())
    }

    #[doc = crate::documentation::peer!()]
    #[doc(alias("GetNamedPipeClientProcessId", "GetNamedPipeServerProcessId"))]
    pub fn peer(&self) -> io::Result<Peer> {
        Peer::of(self.stream.handle(), E::END, self.stream.connected())
    }

    /// Returns whether the peer has gone: it closed its end, its process ended, or the server ended
    /// the connection. It takes no data: what the peer wrote before can still be read, and what
    /// this end wrote and the peer did not read is lost. `false` before a client has come.
    ///
    /// Calls [`NtQueryInformationFile`](https://learn.microsoft.com/windows-hardware/drivers/ddi/ntifs/nf-ntifs-ntqueryinformationfile)
    /// (`FilePipeLocalInformation`), which a server's end that only writes
    /// ([`access_inbound(false)`](crate::ServerOptions::access_inbound)) is denied. There an empty
    /// write shows it on a byte pipe. On a message pipe the result is `false`, and the next write
    /// fails.
    pub fn is_closed(&self) -> bool {
        self.stream.is_closed()
    }

    /// Waits until the peer has gone, as [`is_closed`](Self::is_closed) shows. It takes no data: a
    /// task can wait for this while others read and write.
    ///
    /// Windows notifies a reader only, and only behind the data. So while there is data that the
    /// caller has not read, and on an end that does not read, the pipe is asked every 5 to 100
    /// milliseconds; otherwise a read in flight shows it at once. On the server's end of a message
    /// pipe that only writes, [`is_closed`](Self::is_closed) never shows it, and this waits for
    /// ever.
    ///
    /// ```no_run
    /// # async fn search(server: &npipe::NamedPipeServer) -> std::io::Result<()> {
    /// # async fn count_apples() -> u32 { 1 }
    /// # use futures_lite::FutureExt;
    /// // Stop the search when the client that asked for it has gone.
    /// let found = async { Some(count_apples().await) };
    /// let gone = async { server.closed().await.ok().and(None) };
    /// let result = found.or(gone).await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancellation
    ///
    /// Nothing is lost when the future is dropped.
    ///
    /// # Errors
    ///
    /// Those of starting the thread of the timers, which the first call may do.
    #[doc(alias("ERROR_BROKEN_PIPE", "109", "ERROR_NO_DATA", "232"))]
    pub async fn closed(&self) -> io::Result<()> {
        self.stream.closed().await
    }

    /// Waits until something of `interest`, Tokio's or ours, is ready, and tells what.
    ///
    /// Readiness may be gone when it is acted upon: another task may have been faster. So follow it
    /// with [`try_read`](Self::try_read) or [`try_write`](Self::try_write) and wait again on
    /// [`WouldBlock`](io::ErrorKind::WouldBlock).
    ///
    /// # Cancellation
    ///
    /// Nothing is lost when the future is dropped. A read that it started goes on, and its bytes
    /// are there for the next one.
    ///
    /// # Errors
    ///
    /// None today: errors of the pipe are reported by the operation that follows.
    pub async fn ready(&self, interest: impl Into<Interest>) -> io::Result<Ready> {
        self.stream.ready(interest.into()).await
    }

    /// Waits until a read would have a result: bytes, the end, or an error.
    ///
    /// # Cancellation
    ///
    /// As [`ready`](Self::ready).
    ///
    /// # Errors
    ///
    /// As [`ready`](Self::ready).
    pub async fn readable(&self) -> io::Result<()> {
        self.ready(Interest::READABLE).await.map(drop)
    }

    /// Whether a read would have a result; if not, the context's task is woken when it would. The
    /// last task that asked or called a reading poll function is the one that is woken.
    ///
    /// # Errors
    ///
    /// As [`ready`](Self::ready).
    pub fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        coop::poll(context, |context| self.stream.poll_readable(context, Key::POLL, None)).map(|_| Ok(()))
    }

    /// Reads what there is, without waiting. `Ok(0)` means that the peer has closed its end and
    /// everything it wrote has been read, or that `buf` is empty.
    ///
    /// On a message pipe it reads from one message at most: all of it if `buf` is large enough,
    /// else its next part. Empty messages are passed over.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) when there is nothing yet, and when more
    /// empty messages are in the way than one call skips: [`readable`](Self::readable)
    /// waits until another call is worthwhile. Otherwise the errors of a read:
    #[doc = crate::documentation::read_errors!()]
    #[doc(alias = "ReadFile")]
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.try_read(&mut Slice { bytes: buf, filled: 0 })
    }

    /// [`try_read`](Self::try_read) into several buffers, filled one after the other.
    ///
    /// # Errors
    ///
    /// As [`try_read`](Self::try_read).
    pub fn try_read_vectored(&self, bufs: &mut [io::IoSliceMut<'_>]) -> io::Result<usize> {
        self.stream.try_read(&mut Slices::new(bufs))
    }

    /// [`try_read`](Self::try_read) behind what `buf` holds already, 64 KiB at most.
    ///
    /// # Errors
    ///
    /// As [`try_read`](Self::try_read).
    pub fn try_read_buf<B: BufMut>(&self, buf: &mut B) -> io::Result<usize> {
        self.stream.try_read(&mut Growing::new(buf))
    }

    /// Waits for a message and appends it to `buffer`, whole. Returns its length, 0 for an
    /// empty one, and `None` when the peer has closed its end and everything it sent has
    /// been received.
    ///
    /// A message may have [`max_message_size`](crate::ServerOptions::max_message_size)
    /// bytes, 64 MiB by default. [`recv_message_limited`](Self::recv_message_limited) has a
    /// limit of its own. If a part of a message has been read by other means, this receives
    /// the rest of it.
    ///
    /// ```no_run
    /// # async fn serve(pipe: npipe::NamedPipeServer) -> std::io::Result<()> {
    /// let mut buffer = bytes::BytesMut::new();
    /// while let Some(length) = pipe.recv_message(&mut buffer).await? {
    ///     let message = buffer.split_to(length).freeze();
    ///     println!("{message:?}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancellation
    ///
    /// Nothing is lost when the future is dropped, and `buffer` is as it was: a message is there
    /// for the next call, whole.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](io::ErrorKind::Unsupported) on an end that reads bytes.
    /// [`InvalidData`](io::ErrorKind::InvalidData), with a
    /// [`MessageTooLong`](crate::MessageTooLong) inside, for a message that is longer: it
    /// is discarded without allocating memory for it, and the pipe stays usable. The next
    /// call receives the next message. Other errors of Windows:
    #[doc = crate::documentation::read_errors!()]
    #[doc(alias("ERROR_MORE_DATA", "234"))]
    pub async fn recv_message(&self, buffer: &mut BytesMut) -> io::Result<Option<usize>> {
        self.stream.recv_message(buffer, self.stream.max_message_size()).await
    }

    /// [`recv_message`](Self::recv_message) of at most `limit` bytes, whatever the options
    /// say.
    ///
    /// # Cancellation
    ///
    /// As [`recv_message`](Self::recv_message).
    ///
    /// # Errors
    ///
    /// As [`recv_message`](Self::recv_message).
    pub async fn recv_message_limited(
        &self,
        buffer: &mut BytesMut,
        limit: usize,
    ) -> io::Result<Option<usize>> {
        self.stream.recv_message(buffer, limit).await
    }

    /// Returns whether the last read, by any method, reached the end of a message. It is for
    /// callers that read messages in pieces: if it returns `false`, the next read returns more of
    /// the same message, and [`recv_message`](Self::recv_message) the rest of it. Always `true` on
    /// an end that reads bytes.
    #[doc(alias = "IsMessageComplete")]
    pub fn is_message_complete(&self) -> bool {
        self.stream.is_message_complete()
    }

    /// How much could be read now, and how much of it belongs to one message. Nothing is taken by
    /// it.
    ///
    /// Calls [`PeekNamedPipe`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-peeknamedpipe),
    /// and counts what was read ahead.
    ///
    /// # Errors
    ///
    /// The system's, when nothing was read ahead: `ERROR_BROKEN_PIPE` when the peer has closed its
    /// end, `ERROR_BAD_PIPE` when there is no client yet, or none since the last was
    /// disconnected, `ERROR_PIPE_NOT_CONNECTED` when the server disconnected us,
    /// `ERROR_ACCESS_DENIED` on an end that may not read.
    #[doc(alias("PeekNamedPipe", "ERROR_BAD_PIPE", "230"))]
    pub fn peek(&self) -> io::Result<Peek> {
        self.stream.peek()
    }

    /// Whether an empty message reads as the end, as in the convention of Docker and of others who
    /// use go-winio: who has no more to say and still listens sends one, as
    /// [`close_write`](Self::close_write) does. `false`, the default, passes over empty
    /// messages. It holds from the next read on.
    ///
    /// A read that finds one gives `Ok(0)`. Nothing keeps the peer from going on: another read
    /// shows what comes next. [`recv_message`](Self::recv_message) tells empty messages from
    /// the end in either case.
    ///
    /// `true` makes this end of a message pipe read messages, and not bytes, if it does not already
    /// ([`SetNamedPipeHandleState`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-setnamedpipehandlestate)):
    /// an empty message that waits between others is not to be seen otherwise. That stays, and does
    /// not concern what was read ahead: so say it before the first read. On a byte pipe, which
    /// has no messages, it does nothing.
    ///
    /// # Errors
    ///
    /// `ERROR_ACCESS_DENIED` on an end that only reads and was opened without
    /// [`write_attributes`](crate::ClientOptions::write_attributes). Other errors of
    /// `GetNamedPipeInfo` and `SetNamedPipeHandleState`.
    #[doc(alias = "SetNamedPipeHandleState")]
    pub fn set_empty_message_is_end(&self, is_end: bool) -> io::Result<()> {
        self.stream.set_empty_message_is_end(is_end)
    }

    /// Waits until all of `message` has been accepted, as one message; an empty one is a message
    /// too.
    ///
    /// What was accepted may still be on its way to the pipe. It arrives if the peer reads, also
    /// when this end is dropped now; [`flush`](Self::flush) waits until the pipe has it.
    ///
    /// # Cancellation
    ///
    /// When the future is dropped before it is ready, nothing of the message has been accepted.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](io::ErrorKind::Unsupported) on a byte pipe;
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for 4 GiB or more;
    /// [`BrokenPipe`](io::ErrorKind::BrokenPipe) after [`close_write`](Self::close_write). Else the
    /// system's, of this message or of a write that was accepted earlier:
    #[doc = crate::documentation::write_errors!()]
    pub async fn send_message(&self, message: &[u8]) -> io::Result<()> {
        self.stream.send_message(message).await
    }

    /// Tells the peer that this end has no more to say, and still listens: half-close, by the
    /// convention of go-winio, which Docker uses. A pipe has nothing of the kind, so it is an
    /// empty message, and writing fails from then on.
    ///
    /// First it waits until the peer has read everything that was written, as
    /// [`drain`](Self::drain): a peer that reads bytes would miss an empty message that comes
    /// behind others. It waits for `timeout` at most, since there are peers that never
    /// read, and sends the empty message in any case. A peer that does not know the convention
    /// passes over it.
    ///
    /// The other side of it is [`set_empty_message_is_end`](Self::set_empty_message_is_end). Called
    /// again, it does nothing.
    ///
    /// # Cancellation
    ///
    /// When the future is dropped before it is ready, the empty message has not been sent.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](io::ErrorKind::Unsupported) on a byte pipe;
    /// [`TimedOut`](io::ErrorKind::TimedOut) when the peer had not read everything in time, and
    /// the empty message was sent behind the rest. Those of [`drain`](Self::drain).
    #[doc(alias = "CloseWrite")]
    pub async fn close_write(&self, timeout: Duration) -> io::Result<()> {
        self.stream.close_write(Instant::now().checked_add(timeout)).await
    }

    /// Sends `request` and appends the message that comes back to `reply`, by one system
    /// call. Returns its length, which may be
    /// [`max_message_size`](crate::ServerOptions::max_message_size).
    ///
    /// Calls [`TransactNamedPipe`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-transactnamedpipe).
    /// It is [`send_message`](Self::send_message) and [`recv_message`](Self::recv_message) in one,
    /// for a peer that answers each message with one: the two as calls of their own work as
    /// well.
    ///
    /// It takes `&mut self`, since the reply is the next message that this end receives: a task that
    /// received at the same time could take it. The blocking
    /// [`transact`](crate::blocking::PipeStream::transact) takes `&self`, because clones share an
    /// end in any case, and fails while another thread receives.
    ///
    /// # Cancellation
    ///
    /// When the future is dropped, the request has been sent or not. If it has, the reply is the
    /// next message received.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](io::ErrorKind::Unsupported) on an end that does not read messages, and on one
    /// that does not both read and write; `ERROR_PIPE_BUSY` when a message is there that has not been received, which would be
    /// taken for the reply; [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) when
    /// the peer closed its end instead of answering. Those of [`send_message`](Self::send_message)
    /// and [`recv_message`](Self::recv_message).
    #[doc(alias("TransactNamedPipe", "CallNamedPipe"))]
    pub async fn transact(&mut self, request: &[u8], reply: &mut BytesMut) -> io::Result<usize> {
        self.stream.transact(request, reply).await
    }

    /// Waits until a write would be accepted, or fail.
    ///
    /// # Cancellation
    ///
    /// Nothing is lost when the future is dropped.
    ///
    /// # Errors
    ///
    /// As [`ready`](Self::ready).
    pub async fn writable(&self) -> io::Result<()> {
        self.ready(Interest::WRITABLE).await.map(drop)
    }

    /// Whether a write would be accepted, or fail; if not, the context's task is woken when it
    /// would. The last task that asked or called a writing poll function is the one that is
    /// woken.
    ///
    /// # Errors
    ///
    /// As [`ready`](Self::ready).
    pub fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        coop::poll(context, |context| self.stream.poll_writable(context, Key::POLL, None)).map(|_| Ok(()))
    }

    /// Writes what there is room for, without waiting, and tells how much that was. On a message
    /// pipe it writes all of `buf`, as one message, or nothing; an empty `buf` is an empty
    /// message there, and nothing on a byte pipe.
    ///
    /// What was accepted may still be on its way to the pipe. It arrives if the peer reads, also
    /// when this end is dropped now; [`flush`](Self::flush) waits until the pipe has it.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) when there is no room. Else the system's, of this
    /// write or of one that was accepted earlier:
    #[doc = crate::documentation::write_errors!()]
    #[doc(alias = "WriteFile")]
    pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        self.stream.try_write(&buf)
    }

    /// [`try_write`](Self::try_write) of several buffers, as if they were one.
    ///
    /// # Errors
    ///
    /// As [`try_write`](Self::try_write).
    pub fn try_write_vectored(&self, buf: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.stream.try_write(&buf)
    }

    /// Calls `f` if something of `interest` is ready.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) when nothing is, and what `f` returns.
    pub fn try_io<R>(
        &self,
        interest: impl Into<Interest>,
        f: impl FnOnce() -> io::Result<R>,
    ) -> io::Result<R> {
        self.stream.try_io(interest.into(), f)
    }

    /// Calls `f` each time that something of `interest` has become ready, until it returns
    /// something else than [`WouldBlock`](io::ErrorKind::WouldBlock).
    ///
    /// # Cancellation
    ///
    /// As [`ready`](Self::ready), as far as `f` itself keeps nothing.
    ///
    /// # Errors
    ///
    /// What `f` returns.
    pub async fn async_io<R>(
        &self,
        interest: impl Into<Interest>,
        f: impl FnMut() -> io::Result<R>,
    ) -> io::Result<R> {
        self.stream.async_io(interest.into(), f).await
    }

    /// Waits until the pipe has accepted everything that was written. It does not wait for the peer
    /// to read: that is [`drain`](Self::drain).
    ///
    /// # Cancellation
    ///
    /// Nothing is lost when the future is dropped; writing goes on.
    ///
    /// # Errors
    ///
    /// The system's, of a write that was accepted and then failed. It is reported once, here or by
    /// the next write.
    pub async fn flush(&self) -> io::Result<()> {
        self.stream.flush().await
    }

    /// Waits until the peer has read everything that was written. Never implied by anything else:
    /// two ends that both wait for the other to read would wait for ever.
    ///
    /// It is what
    /// [`FlushFileBuffers`](https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-flushfilebuffers) waits for, as an
    /// operation (`FSCTL_PIPE_FLUSH` by
    /// [`NtFsControlFile`](https://learn.microsoft.com/windows-hardware/drivers/ddi/ntifs/nf-ntifs-ntfscontrolfile)). Where the
    /// system does not have it as one, as Wine, that function is called, on a thread that lasts as
    /// long as the call.
    ///
    /// # Cancellation
    ///
    /// Nothing is lost when the future is dropped: the operation or the call is cancelled, and what
    /// was written stays in the pipe.
    ///
    /// # Errors
    ///
    /// The system's: `ERROR_BROKEN_PIPE` when the peer closes its end while this waits (the system
    /// does not tell of one that had closed before whether it had read everything),
    /// `ERROR_PIPE_NOT_CONNECTED` when the server disconnected us, `ERROR_ACCESS_DENIED` on an end
    /// that may not write.
    #[doc(alias = "FlushFileBuffers")]
    pub async fn drain(&self) -> io::Result<()> {
        self.stream.drain().await
    }

    /// [`drain`](Self::drain) that waits no longer than `timeout`. It needs no runtime's clock.
    ///
    /// # Cancellation
    ///
    /// As [`drain`](Self::drain).
    ///
    /// # Errors
    ///
    /// As [`drain`](Self::drain), and [`TimedOut`](io::ErrorKind::TimedOut) when the peer has not
    /// read everything by then. What it has not read is still there for it.
    pub async fn drain_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.stream.drain_within(timeout).await
    }

    /// [`flush`](Self::flush), [`drain`](Self::drain), and the end: the orderly end of a
    /// connection. The peer reads everything, and then the end. It takes as long as the
    /// peer takes to read, and at most as long as [`set_linger`](Self::set_linger) says.
    ///
    /// # Cancellation
    ///
    /// When the future is dropped the pipe is closed, as by dropping it.
    ///
    /// # Errors
    ///
    /// The first error of the two; [`TimedOut`](io::ErrorKind::TimedOut) when the time to linger is
    /// over: then the pipe is closed as by dropping it. It is no error that the peer has gone
    /// already, or that this end may not write.
    pub async fn close(self) -> io::Result<()> {
        self.stream.drain_to_close(self.stream.end_of_close()).await
    }

    /// [`close`](Self::close) that takes no longer than `timeout`, whatever
    /// [`set_linger`](Self::set_linger) was told.
    ///
    /// # Cancellation
    ///
    /// As [`close`](Self::close).
    ///
    /// # Errors
    ///
    /// As [`close`](Self::close).
    pub async fn close_timeout(self, timeout: Duration) -> io::Result<()> {
        self.stream.drain_to_close(Instant::now().checked_add(timeout)).await
    }

    /// Reads into `buffer`, behind what it holds, and gives it back: what came is what it holds
    /// more, up to what it had room for; nothing more means the end. One without room gets 4
    /// KiB of it.
    ///
    /// It saves a copy where the read has to wait: an empty buffer that shares its memory with no
    /// other goes to the kernel itself. On a busy pipe it should have 64 KiB. A smaller one is
    /// filled by a copy, which costs less than more system calls. The returned buffer may be
    /// another one with another capacity, so [`reserve`](BytesMut::reserve) the room for the next
    /// read.
    ///
    /// As any read it brings one message at most, passes over empty ones, and takes turns with the
    /// reads of the traits.
    ///
    /// ```no_run
    /// # async fn receive(client: npipe::NamedPipeClient) -> std::io::Result<()> {
    /// use bytes::BytesMut;
    ///
    /// let mut buffer = BytesMut::new();
    /// loop {
    ///     buffer.reserve(64 * 1024);
    ///     buffer = client.read_owned(buffer).await?;
    ///     if buffer.is_empty() {
    ///         break;
    ///     }
    ///     println!("{} bytes", buffer.split().len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancellation
    ///
    /// Nothing of the pipe is lost when the future is dropped: the read goes on, with the buffer,
    /// and what it brings is there for the next read of any kind. What `buffer` held is lost
    /// with it.
    ///
    /// # Errors
    ///
    /// The system's. `buffer` is lost then.
    #[doc = crate::documentation::read_errors!()]
    #[doc(alias = "ReadFile")]
    pub async fn read_owned(&self, buffer: BytesMut) -> io::Result<BytesMut> {
        self.stream.read_owned(buffer).await
    }

    /// [`read_owned`](Self::read_owned) into several buffers. It waits for the first one only: the
    /// next ones get the data that is available when the first is full. Windows reads into one
    /// buffer at a time.
    ///
    /// # Cancellation
    ///
    /// As [`read_owned`](Self::read_owned).
    ///
    /// # Errors
    ///
    /// As [`read_owned`](Self::read_owned).
    pub async fn read_owned_vectored(&self, buffers: Vec<BytesMut>) -> io::Result<Vec<BytesMut>> {
        self.stream.read_owned_vectored(buffers).await
    }

    /// Writes all of `bytes` without copying them. They are accepted as a whole, once there is room
    /// for the first of them, and are on their way then, as with
    /// [`try_write`](Self::try_write). On a message pipe they are one message.
    ///
    /// So this end may hold that much more than
    /// [`write_buffer_limit`](crate::ServerOptions::write_buffer_limit) says, in memory that was
    /// there anyway.
    ///
    /// ```no_run
    /// # async fn send(client: npipe::NamedPipeClient) -> std::io::Result<()> {
    /// let picture = bytes::Bytes::from(std::fs::read("picture.png")?);
    /// client.write_owned(picture.clone()).await?;
    /// client.flush().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancellation
    ///
    /// Nothing of it was written when the future is dropped: it waits before the first byte, and
    /// not between.
    ///
    /// # Errors
    ///
    /// The system's, of this write, of which a part may have been written, or of one that was
    /// accepted earlier.
    #[doc = crate::documentation::write_errors!()]
    #[doc(alias = "WriteFile")]
    pub async fn write_owned(&self, bytes: Bytes) -> io::Result<()> {
        self.stream.write_owned(vec![bytes]).await
    }

    /// [`write_owned`](Self::write_owned) of several pieces, as if they were one. On a message pipe
    /// that takes a copy: the system takes a message in one piece.
    ///
    /// # Cancellation
    ///
    /// As [`write_owned`](Self::write_owned).
    ///
    /// # Errors
    ///
    /// As [`write_owned`](Self::write_owned).
    pub async fn write_owned_vectored(&self, pieces: Vec<Bytes>) -> io::Result<()> {
        self.stream.write_owned(pieces).await
    }

    /// The two directions, for two owners; [`reunite`](OwnedReadHalf::reunite) is the way back.
    #[must_use = "the connection ends when both halves are dropped"]
    pub fn into_split(self) -> (OwnedReadHalf<Self>, OwnedWriteHalf<Self>) {
        split(self)
    }

    /// Gives the handle up, with what had been read from it ahead: nothing is lost. It waits until
    /// the pipe has everything that was written.
    ///
    /// On a message pipe each element is a message, or of the first one what had not been read;
    /// where the last is longer than was read ahead, its rest is still in the pipe. On a byte
    /// pipe the elements are one piece after the other: `concat` them.
    ///
    /// The read mode belongs to the handle and stays. An ended writing direction, empty
    /// messages as the end, and the time to linger do not: a handle cannot carry them.
    ///
    /// # The next owner
    ///
    /// The handle is as [`create`](crate::ServerOptions::create) or
    /// [`open`](crate::ClientOptions::open) made it, overlapped, and on Windows 8.1 and
    /// later tied to no completion port. Wine cannot untie it.
    ///
    /// | next owner | works |
    /// |---|---|
    /// | [`std::fs::File`] | always; its calls wait for one another |
    /// | overlapped calls with an event, and `GetOverlappedResult` without one | always |
    /// | npipe | on Windows; the blocking API without time-outs to write also under Wine |
    /// | another completion port, whose owner takes an operation that ends at once for over | on Windows |
    /// | one whose owner waits for a packet after every operation, as Tokio and mio do | on Windows, if the end was made with [`releasable`](crate::ServerOptions::releasable) |
    ///
    /// Calls [`NtSetInformationFile`](https://learn.microsoft.com/windows-hardware/drivers/ddi/ntifs/ns-ntifs-_file_completion_information).
    ///
    /// # Cancellation
    ///
    /// When the future is dropped the pipe is closed, as by dropping it.
    ///
    /// # Errors
    ///
    /// The system's, of a write that was accepted and then failed. The pipe is closed then.
    #[doc(alias = "into_raw_handle")]
    pub async fn into_owned_handle(self) -> io::Result<(OwnedHandle, Vec<Bytes>)> {
        self.flush().await?;
        self.stream.rest().await;
        self.stream.surrender()
    }

    /// Bounds how long writes that are still on their way keep the pipe open after this end
    /// is dropped, and how long [`close`](Self::close) waits for the peer to read. `None`
    /// is no bound: until the peer has made room for them, or read them, or has closed its
    /// end.
    ///
    /// Unless this is called, a dropped end lingers for five minutes at most, and `close`
    /// waits without a bound. A hostile peer that never reads would otherwise keep the
    /// memory of each connection that it makes; choose less for a service that has many of
    /// them. Data that the pipe has not taken when the time is over is discarded.
    pub fn set_linger(&self, linger: Option<Duration>) {
        self.stream.set_linger(LingerTime::Set(linger));
    }

    /// Returns how long this end lingers after a drop: five minutes, or the time that was
    /// last [set](Self::set_linger).
    pub fn linger(&self) -> Option<Duration> {
        self.stream.linger().after_drop()
    }
}

/// Methods of the end for the half that they concern. [`as_ref`](Self::as_ref) has the others.
impl<E: End> OwnedReadHalf<Pipe<E>> {
    /// [`Pipe::recv_message`].
    ///
    /// # Cancellation
    ///
    /// As [`Pipe::recv_message`].
    ///
    /// # Errors
    ///
    /// As [`Pipe::recv_message`].
    pub async fn recv_message(&self, buffer: &mut BytesMut) -> io::Result<Option<usize>> {
        self.pipe.recv_message(buffer).await
    }

    /// [`Pipe::recv_message_limited`].
    ///
    /// # Cancellation
    ///
    /// As [`Pipe::recv_message`].
    ///
    /// # Errors
    ///
    /// As [`Pipe::recv_message`].
    pub async fn recv_message_limited(
        &self,
        buffer: &mut BytesMut,
        limit: usize,
    ) -> io::Result<Option<usize>> {
        self.pipe.recv_message_limited(buffer, limit).await
    }

    /// [`Pipe::is_message_complete`].
    pub fn is_message_complete(&self) -> bool {
        self.pipe.is_message_complete()
    }

    /// [`Pipe::is_closed`].
    pub fn is_closed(&self) -> bool {
        self.pipe.is_closed()
    }

    /// [`Pipe::closed`].
    ///
    /// # Cancellation
    ///
    /// As [`Pipe::closed`].
    ///
    /// # Errors
    ///
    /// As [`Pipe::closed`].
    pub async fn closed(&self) -> io::Result<()> {
        self.pipe.closed().await
    }
}

/// Methods of the end for the half that they concern. [`as_ref`](Self::as_ref) has the others.
impl<E: End> OwnedWriteHalf<Pipe<E>> {
    /// [`Pipe::send_message`].
    ///
    /// # Cancellation
    ///
    /// As [`Pipe::send_message`].
    ///
    /// # Errors
    ///
    /// As [`Pipe::send_message`].
    pub async fn send_message(&self, message: &[u8]) -> io::Result<()> {
        self.pipe.send_message(message).await
    }

    /// [`Pipe::close_write`].
    ///
    /// # Cancellation
    ///
    /// As [`Pipe::close_write`].
    ///
    /// # Errors
    ///
    /// As [`Pipe::close_write`].
    pub async fn close_write(&self, timeout: Duration) -> io::Result<()> {
        self.pipe.close_write(timeout).await
    }

    /// [`Pipe::drain`].
    ///
    /// # Cancellation
    ///
    /// As [`Pipe::drain`].
    ///
    /// # Errors
    ///
    /// As [`Pipe::drain`].
    pub async fn drain(&self) -> io::Result<()> {
        self.pipe.drain().await
    }

    /// [`Pipe::is_closed`].
    pub fn is_closed(&self) -> bool {
        self.pipe.is_closed()
    }

    /// [`Pipe::closed`].
    ///
    /// # Cancellation
    ///
    /// As [`Pipe::closed`].
    ///
    /// # Errors
    ///
    /// As [`Pipe::closed`].
    pub async fn closed(&self) -> io::Result<()> {
        self.pipe.closed().await
    }
}

impl<E: End> TryFrom<OwnedHandle> for Pipe<E> {
    type Error = io::Error;

    /// Takes over a pipe's handle, with the errors of
    /// [`from_raw_handle`](Self::from_raw_handle).
    fn try_from(handle: OwnedHandle) -> io::Result<Self> {
        let settings = Settings::of_foreign(&handle)?;
        Stream::new(handle, Driver::current()?, settings).map(Self::from_stream)
    }
}

impl<E: End> AsRawHandle for Pipe<E> {
    /// The handle. Reading from it does not return bytes that were read ahead.
    fn as_raw_handle(&self) -> RawHandle {
        self.stream.handle().as_raw_handle()
    }
}

impl<E: End> AsHandle for Pipe<E> {
    /// The handle. Reading from it does not return bytes that were read ahead.
    fn as_handle(&self) -> BorrowedHandle<'_> {
        self.stream.handle().as_handle()
    }
}

impl<E: End> fmt::Debug for Pipe<E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match E::END {
            PipeEnd::Server => "NamedPipeServer",
            PipeEnd::Client => "NamedPipeClient",
        };
        formatter.debug_struct(name).field("stream", &self.stream).finish()
    }
}
