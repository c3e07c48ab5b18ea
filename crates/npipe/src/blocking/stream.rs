//! Either end of a connection: how it is opened, what it can be told and asked.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle, RawHandle};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::Canceller;
use super::timeout::deadline_after;
use bytes::BytesMut;

use crate::driver::Driver;
use crate::halves::{OwnedReadHalf, OwnedWriteHalf, split};
use crate::info::PipeInfo;
use crate::machine::verdict::RetryReason;
use crate::name::PipeName;
use crate::options::{ClientOptions, Verified};
use crate::security::{Impersonation, Peer, SecurityDescriptor, Sid};
use crate::stream::{LingerTime, Settings, Stream, nothing_is_unread};
use crate::sys::{self, OwnedHandle};

/// Either end of a connected pipe, for threads.
///
/// A client makes one with [`connect`](Self::connect), a server with
/// [`PipeListener::accept`](super::PipeListener::accept). It is read and written through
/// [`Read`](io::Read) and [`Write`](io::Write), which `&PipeStream` implements too: one thread may
/// read while another writes.
///
/// ```no_run
/// use std::io::{Read, Write};
/// use npipe::blocking::PipeStream;
///
/// let stream = PipeStream::connect("inventory")?;
/// std::thread::scope(|scope| {
///     scope.spawn(|| (&stream).write_all(&[b'?'; 1_000_000]));
///     std::io::copy(&mut &stream, &mut std::io::sink())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # The end of a connection
///
/// A pipe has no half-close, except by convention ([`close_write`](Self::close_write)): the peer
/// sees the end when this stream and all its clones are dropped. What was written before arrives
/// all the same if the peer reads. A server can end the connection earlier, for both sides and all
/// clones, with [`disconnect`](Self::disconnect), which discards what the client has not read:
/// [`drain`](Self::drain) first.
///
/// # Messages
///
/// [`recv_message`](Self::recv_message) and [`send_message`](Self::send_message) are for whole
/// messages. As for the traits: a write on a message pipe is one message. A read brings one message
/// at most, or its next part if the buffer is too small for the rest of it; empty messages are
/// passed over, unless [`set_empty_message_is_end`](Self::set_empty_message_is_end) says otherwise.
#[doc(alias("ReadFile", "WriteFile"))]
pub struct PipeStream {
    /// Shared by clones. At rest, but for writes that ran into their time-out.
    pub(super) stream: Arc<Stream>,
}

impl ClientOptions {
    /// Opens the pipe `name` for threads, in any of the forms of [`PipeName::new`]:
    /// [`connect`](Self::connect) of the blocking API. It waits for the same reasons, within the
    /// same limits.
    ///
    /// ```no_run
    /// use npipe::{ClientOptions, PipeMode};
    ///
    /// let stream = ClientOptions::new().pipe_mode(PipeMode::Message).connect_blocking("inventory")?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// Calls [`CreateFileW`](https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-createfilew), and waits with
    /// [`WaitNamedPipeW`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-waitnamedpipew).
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), at once, except for the reasons to wait. When the time is over,
    /// [`TimedOut`](io::ErrorKind::TimedOut), as of [`connect`](Self::connect).
    #[doc(alias("CreateFile", "WaitNamedPipe"))]
    pub fn connect_blocking(&self, name: impl AsRef<OsStr>) -> io::Result<PipeStream> {
        let name = PipeName::new(name)?;
        let mut retry = self.retry();
        let mut verified = Verified::default();
        loop {
            // Only an attempt shows whether an instance is free.
            let attributes = sys::SecurityAttributes::DEFAULT;
            let error = match self.open_any_handle(&name, attributes, &mut verified) {
                Ok((handle, settings)) => return Ok(PipeStream::named(handle, settings, &name)),
                Err(error) => error,
            };
            let (reason, pause) = self.pause_before_retry(&name, error, &mut retry)?;
            let began = Instant::now();
            // An instance that is free ends the pause. Windows containers cannot wait for one.
            if reason == RetryReason::Missing || sys::wait_for_instance(&name.to_wide(), pause).is_err() {
                thread::sleep(pause.saturating_sub(began.elapsed()));
            }
        }
    }
}

impl PipeStream {
    pub(super) fn new(handle: OwnedHandle, settings: Settings) -> Self {
        let stream = Stream::untied(Arc::new(handle), settings);
        stream.mark_connected();
        Self::around(stream)
    }

    /// [`new`](Self::new) of a pipe that has a name.
    pub(super) fn named(handle: OwnedHandle, settings: Settings, name: &PipeName) -> Self {
        let stream = Stream::untied(Arc::new(handle), settings).named(name);
        stream.mark_connected();
        stream.span().connected();
        Self::around(stream)
    }

    /// The same end, of a stream at rest.
    pub(crate) fn around(stream: Stream) -> Self {
        Self { stream: Arc::new(stream) }
    }

    /// Opens the client's end of the pipe `name`, in any of the forms of [`PipeName::new`]. Waits
    /// while all instances of the pipe are busy, for as long as that takes;
    /// [`connect_timeout`](Self::connect_timeout) bounds it. With options, for instance to wait for
    /// a server that is about to start: [`ClientOptions::connect_blocking`].
    ///
    /// Calls [`CreateFileW`](https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-createfilew), and waits with
    /// [`WaitNamedPipeW`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-waitnamedpipew).
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a name that makes no sense, before any
    /// system call. Else the system's: [`NotFound`](io::ErrorKind::NotFound) when no such pipe
    /// exists, at once, since nobody may ever create it;
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied) when its access list or its directions
    /// do not allow it.
    pub fn connect(name: impl AsRef<OsStr>) -> io::Result<Self> {
        ClientOptions::new().connect_blocking(name)
    }

    /// [`connect`](Self::connect) that takes no longer than `timeout` in all. Zero tries once.
    /// [`ClientOptions`] has limits for each reason to wait.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect), and [`TimedOut`](io::ErrorKind::TimedOut) when the time is
    /// over: see [`ClientOptions::connect`].
    pub fn connect_timeout(name: impl AsRef<OsStr>, timeout: Duration) -> io::Result<Self> {
        ClientOptions::new().connect_timeout(Some(timeout)).connect_blocking(name)
    }

    /// How long a read waits for data: see [`set_read_timeout`](Self::set_read_timeout).
    pub fn read_timeout(&self) -> Option<Duration> {
        self.stream.timeouts().read.get()
    }

    /// Bounds how long a read waits for data; `None`, the default, does not. It holds for all
    /// clones, from the next read on.
    ///
    /// A read whose time is over fails with [`TimedOut`](io::ErrorKind::TimedOut) and has taken
    /// nothing: what comes later, or came in that very moment, is there for the next read. The
    /// time is that of the call: empty messages that it passes over, and the rest of a refused
    /// message that it discards, do not extend it.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a time-out of zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.stream.timeouts().read.set(timeout)
    }

    /// Whether an empty message reads as the end, as in the convention of Docker and of others who
    /// use go-winio: who has no more to say and still listens sends one, as
    /// [`close_write`](Self::close_write) does. `false`, the default, passes over empty messages.
    /// It holds for all clones, from the next read on.
    ///
    /// A read that finds one gives `Ok(0)`. Nothing keeps the peer from going on: another read
    /// shows what comes next. [`recv_message`](Self::recv_message) tells empty messages from
    /// the end in either case.
    ///
    /// `true` makes this end of a message pipe read messages, and not bytes, if it does not already
    /// ([`SetNamedPipeHandleState`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-setnamedpipehandlestate)):
    /// an empty message that waits between others is not to be seen otherwise. That stays. On a
    /// byte pipe, which has no messages, it does nothing.
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

    /// How long a write waits for room: see [`set_write_timeout`](Self::set_write_timeout).
    pub fn write_timeout(&self) -> Option<Duration> {
        self.stream.timeouts().write.get()
    }

    /// Bounds how long a write waits for the peer to make room; `None`, the default, does not. It
    /// holds for all clones, from the next write on.
    ///
    /// A write that the system has begun cannot be taken back. So with a time-out a write is made
    /// from a copy, and when its time is over it *stays on its way and counts as written*: it
    /// is delivered if the peer reads, also when this stream is dropped and its thread has
    /// ended, for as long as [`set_linger`](Self::set_linger) says. The next write or flush waits
    /// for it first, for its own time-out at most, and then fails with
    /// [`TimedOut`](io::ErrorKind::TimedOut), having taken nothing. So a writer is stopped by a
    /// peer that does not read, and a write that fails with `TimedOut` may be repeated. Because
    /// of the copy, one call takes 64 KiB of bytes at most, and
    /// [`write_buffer_limit`](crate::ServerOptions::write_buffer_limit) makes it less; a message is
    /// always taken whole.
    ///
    /// Setting a time-out ties the handle to the completion port of the process for good, since
    /// only operations that report to a port outlive their thread, and starts the thread that
    /// waits on it. Without a time-out neither is needed.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a time-out of zero, and when the handle
    /// cannot be tied to the port because it belongs to another one (`ERROR_INVALID_PARAMETER`).
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        if timeout.is_some_and(|timeout| !timeout.is_zero()) {
            self.stream.tie(&Driver::global()?)?;
        }
        self.stream.timeouts().write.set(timeout)
    }

    /// Bounds how long a write that ran into its [time-out](Self::set_write_timeout) keeps the pipe
    /// open after this stream and its clones are dropped: five minutes unless this is called, since
    /// a hostile peer that never reads would keep the memory of each connection. `None` is no
    /// bound: until the peer has made room for it or has closed its end. [`close`](Self::close)
    /// waits for as long, and without a bound unless this is called.
    pub fn set_linger(&self, linger: Option<Duration>) {
        self.stream.set_linger(LingerTime::Set(linger));
    }

    /// Returns how long writes linger: five minutes, or the time that was last
    /// [set](Self::set_linger).
    pub fn linger(&self) -> Option<Duration> {
        self.stream.linger().after_drop()
    }

    /// Returns a handle by which another thread ends the waits of this stream and all its clones.
    /// A read, a [`drain`](Self::drain) or a [`close`](Self::close) that waits fails with
    /// [`ConnectionAborted`](io::ErrorKind::ConnectionAborted), and so do later ones as soon as
    /// they would have to wait. Calls on the stream that need not wait still work.
    ///
    /// Nothing is lost: a read that is cancelled has taken nothing, or returns what it has taken. A
    /// write that waits returns, stays on its way and counts as written, as one that runs into its
    /// [time-out](Self::set_write_timeout). A later write that would have to wait for it fails with
    /// `ConnectionAborted`.
    ///
    /// Create it before the calls that it is to end. From then on writes are made as those with a
    /// time-out are: from a copy, with the handle tied to the completion port of the process.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) when the handle cannot be tied to the port,
    /// because it belongs to another one (`ERROR_INVALID_PARAMETER`). Windows' error when no event
    /// can be created.
    #[doc(alias("CancelIoEx", "CancelSynchronousIo", "ERROR_OPERATION_ABORTED", "995"))]
    pub fn canceller(&self) -> io::Result<Canceller> {
        self.stream.tie(&Driver::global()?)?;
        self.stream.timeouts().make_stop().map(Canceller::of_stream)
    }

    /// Another `PipeStream` for the same connection, with the same time-outs: what one sets holds
    /// for both. The connection ends when the last is dropped.
    ///
    /// # Errors
    ///
    /// None; the result is that of [`TcpStream::try_clone`](std::net::TcpStream::try_clone).
    #[doc(alias = "DuplicateHandle")]
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { stream: self.stream.clone() })
    }

    /// The two directions, for two owners; [`reunite`](OwnedReadHalf::reunite) is the way back.
    /// [Cloning](Self::try_clone) and references do it too, without saying who does what.
    #[must_use = "the connection ends when both halves are dropped"]
    pub fn into_split(self) -> (OwnedReadHalf<Self>, OwnedWriteHalf<Self>) {
        split(self)
    }

    /// Returns whether the peer has gone, without taking data: see
    /// [`NamedPipeServer::is_closed`](crate::NamedPipeServer::is_closed).
    #[doc(alias("ERROR_BROKEN_PIPE", "109"))]
    pub fn is_closed(&self) -> bool {
        self.stream.is_closed()
    }

    #[doc = crate::documentation::info!()]
    #[doc(alias("GetNamedPipeInfo", "GetNamedPipeHandleState"))]
    pub fn info(&self) -> io::Result<PipeInfo> {
        crate::pipe_end::info(self.stream.handle())
    }

    #[doc = crate::documentation::security_descriptor!()]
    #[doc(alias = "GetSecurityInfo")]
    pub fn security_descriptor(&self) -> io::Result<SecurityDescriptor> {
        SecurityDescriptor::of(self.stream.handle())
    }

    /// Changes what protects the pipe, on a server's end: see
    /// [`NamedPipeServer::set_security_descriptor`](crate::NamedPipeServer::set_security_descriptor).
    ///
    /// # Errors
    ///
    /// As there. A client's end never has the right.
    #[doc(alias = "SetSecurityInfo")]
    pub fn set_security_descriptor(&self, descriptor: &SecurityDescriptor) -> io::Result<()> {
        descriptor.apply_to(self.stream.handle())
    }

    #[doc = crate::documentation::peer!()]
    #[doc(alias("GetNamedPipeClientProcessId", "GetNamedPipeServerProcessId"))]
    pub fn peer(&self) -> io::Result<Peer> {
        Peer::of(self.stream.handle(), self.stream.settings().end, self.stream.connected())
    }

    /// Does something in the client's name, on a server's end: see
    /// [`NamedPipeServer::impersonate`](crate::NamedPipeServer::impersonate).
    ///
    /// # Errors
    ///
    /// As there, and [`InvalidInput`](io::ErrorKind::InvalidInput) on a client's end.
    #[doc(alias("ImpersonateNamedPipeClient", "RevertToSelf"))]
    pub fn impersonate<T>(&self, act: impl FnOnce(&Impersonation) -> io::Result<T>) -> io::Result<T> {
        Impersonation::during(self.stream.handle(), self.stream.settings().end, act)
    }

    /// Returns the account of the client, on a server's end: see
    /// [`NamedPipeServer::client_user`](crate::NamedPipeServer::client_user).
    ///
    /// # Errors
    ///
    /// As there, and [`InvalidInput`](io::ErrorKind::InvalidInput) on a client's end.
    pub fn client_user(&self) -> io::Result<Sid> {
        self.impersonate(Impersonation::user)
    }

    /// Waits until the peer has read everything that was written. Never implied by anything else:
    /// two ends that both wait for the other to read would wait for ever.
    /// [`drain_timeout`](Self::drain_timeout) bounds it.
    ///
    /// Calls [`FlushFileBuffers`](https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-flushfilebuffers).
    ///
    /// # Errors
    ///
    /// The system's: `ERROR_BROKEN_PIPE` when the peer closes its end while this waits (the system
    /// does not tell of one that had closed before whether it had read everything),
    /// `ERROR_PIPE_NOT_CONNECTED` when the server disconnected us, `ERROR_ACCESS_DENIED` on an
    /// end that may not write. Those of [`flush`](io::Write::flush).
    #[doc(alias = "FlushFileBuffers")]
    pub fn drain(&self) -> io::Result<()> {
        self.flush_accepted()?;
        self.drain_until(None)
    }

    /// [`drain`](Self::drain) that waits no longer than `timeout`.
    ///
    /// It is what `FlushFileBuffers` waits for, as an operation (`FSCTL_PIPE_FLUSH` by
    /// [`NtFsControlFile`](https://learn.microsoft.com/windows-hardware/drivers/ddi/ntifs/nf-ntifs-ntfscontrolfile)); where the system does
    /// not have it as one, as Wine, that function is called on a thread that lasts as long as the
    /// call.
    ///
    /// # Errors
    ///
    /// As [`drain`](Self::drain), and [`TimedOut`](io::ErrorKind::TimedOut) when the peer has not
    /// read everything by then. What it has not read is still there for it.
    pub fn drain_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.drain_until(deadline_after(timeout))
    }

    /// Flush, [`drain`](Self::drain), and the end: the orderly end of a connection. The peer reads
    /// everything, and then the end, once the clones are dropped too. It takes as long as the peer
    /// takes to read, and at most the time of [`set_linger`](Self::set_linger). Data that clones
    /// write meanwhile or later arrives as if this stream had been dropped.
    ///
    /// # Errors
    ///
    /// The first error of the two; [`TimedOut`](io::ErrorKind::TimedOut) when the time to linger is
    /// over: then the stream is closed as by dropping it. A peer that is gone already is
    /// none, nor is it that this end may not write.
    pub fn close(self) -> io::Result<()> {
        let deadline = self.stream.linger().in_close().and_then(deadline_after);
        self.close_until(deadline)
    }

    /// [`close`](Self::close) that takes no longer than `timeout`, whatever
    /// [`set_linger`](Self::set_linger) was told.
    ///
    /// # Errors
    ///
    /// As [`close`](Self::close).
    pub fn close_timeout(self, timeout: Duration) -> io::Result<()> {
        self.close_until(deadline_after(timeout))
    }

    fn close_until(self, deadline: Option<Instant>) -> io::Result<()> {
        match self.drain_until(deadline) {
            Ok(()) => Ok(()),
            Err(error) if nothing_is_unread(&error) => Ok(()),
            Err(error) => {
                if let Some(last) = Arc::into_inner(self.stream) {
                    // What is left lingers no longer. Clones that go on would lose what they write.
                    last.set_linger(LingerTime::Set(Some(Duration::ZERO)));
                }
                Err(error)
            }
        }
    }

    /// Ends the connection for both sides, and for all clones: a server's `shutdown`. What the
    /// client has not read is discarded, and so is what this end has not read. Reads and writes
    /// that wait in other threads end with `ERROR_PIPE_NOT_CONNECTED`, as do later ones on
    /// either side.
    ///
    /// Calls [`DisconnectNamedPipe`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-disconnectnamedpipe).
    ///
    /// # Errors
    ///
    /// The system's: `ERROR_PIPE_NOT_CONNECTED` when it was disconnected already, and always one on
    /// a client's end, which ends a connection by being dropped.
    #[doc(alias = "DisconnectNamedPipe")]
    pub fn disconnect(&self) -> io::Result<()> {
        self.stream.disconnect()
    }
}

/// Methods of the stream for the half that they concern. [`as_ref`](Self::as_ref) has the others.
impl OwnedReadHalf<PipeStream> {
    /// [`PipeStream::recv_message`].
    ///
    /// # Errors
    ///
    /// As [`PipeStream::recv_message`].
    pub fn recv_message(&self, buffer: &mut BytesMut) -> io::Result<Option<usize>> {
        self.pipe.recv_message(buffer)
    }

    /// [`PipeStream::is_closed`].
    pub fn is_closed(&self) -> bool {
        self.pipe.is_closed()
    }
}

/// Methods of the stream for the half that they concern. [`as_ref`](Self::as_ref) has the others.
impl OwnedWriteHalf<PipeStream> {
    /// [`PipeStream::send_message`].
    ///
    /// # Errors
    ///
    /// As [`PipeStream::send_message`].
    pub fn send_message(&self, message: &[u8]) -> io::Result<()> {
        self.pipe.send_message(message)
    }

    /// [`PipeStream::close_write`].
    ///
    /// # Errors
    ///
    /// As [`PipeStream::close_write`].
    pub fn close_write(&self, timeout: Duration) -> io::Result<()> {
        self.pipe.close_write(timeout)
    }

    /// [`PipeStream::is_closed`].
    pub fn is_closed(&self) -> bool {
        self.pipe.is_closed()
    }
}

impl fmt::Debug for PipeStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PipeStream")
            .field("handle", self.stream.handle())
            .field("read_timeout", &self.read_timeout())
            .field("write_timeout", &self.write_timeout())
            .finish()
    }
}

impl AsRawHandle for PipeStream {
    /// The handle. Bytes that an async end had read ahead are not to be had from it.
    fn as_raw_handle(&self) -> RawHandle {
        self.stream.handle().as_raw_handle()
    }
}

impl AsHandle for PipeStream {
    /// The handle. Bytes that an async end had read ahead are not to be had from it.
    fn as_handle(&self) -> BorrowedHandle<'_> {
        self.stream.handle().as_handle()
    }
}
