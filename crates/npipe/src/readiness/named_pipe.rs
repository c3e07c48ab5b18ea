//! What people hold: a pipe end that never waits.

use std::ffi::OsStr;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle, RawHandle};
use std::time::Duration;

use bytes::BytesMut;

use super::attached::Attached;
use super::event::Source;
use super::queue::not_found;
use super::{Registry, Token};
use crate::info::{Peek, PipeEnd, PipeInfo};
use crate::interest::Interest;
use crate::name::PipeName;
use crate::options::Verified;
use crate::security::{Impersonation, Peer, SecurityDescriptor, Sid};
use crate::stream::{LingerTime, Settings, Slice, Slices, Stream};
use crate::sync::{Arc, Mutex, lock};
use crate::sys;
use crate::trace::PipeSpan;
use crate::{ClientOptions, ServerOptions};

/// A pipe end, server's or client's, whose calls never wait: they say
/// [`WouldBlock`](io::ErrorKind::WouldBlock), and the [`Poll`](super::Poll) that it is
/// [registered](Registry::register) with tells when to try again.
///
/// Before it is registered, everything would block. Reading and writing are those of the traits,
/// which `&NamedPipe` has too, so that two threads can share one.
///
/// Dropping it closes the connection. Written data arrives if the peer reads within five minutes,
/// which [`set_linger`](Self::set_linger) changes, also when the `Poll` is dropped too. The end of
/// the process cuts that short.
///
/// # Reading
///
/// `Ok(0)` means that the peer has closed its end and everything it wrote has been read. On a
/// message pipe a read takes from one message at most; empty messages are passed over. Before a
/// client has come, reading would block, and [`connect`](Self::connect) tells when one has.
///
/// Else the system's errors:
#[doc = crate::documentation::read_errors!()]
///
/// # Writing
///
/// One write may be on its way, of up to 256 KiB
/// ([`write_buffer_limit`](ServerOptions::write_buffer_limit)), and the next would block. It
/// arrives if the peer reads, whether anybody polls or not. [`flush`](Write::flush) says "would
/// block" until the system has it. On a message pipe a write takes a message whole; an empty one is
/// an empty message there, and nothing on a pipe of bytes.
///
/// Else the system's errors, of this write or of one that was accepted earlier:
#[doc = crate::documentation::write_errors!()]
#[doc(alias("ReadFile", "WriteFile"))]
pub struct NamedPipe {
    state: State,
}

enum State {
    /// On no port: a handle is tied to one for life, and to which is not known yet.
    Loose {
        handle: Arc<OwnedHandle>,
        /// `None`: the handle was made elsewhere, so it has to be asked.
        settings: Option<Settings>,
        linger: Mutex<LingerTime>,
        span: PipeSpan,
    },
    Attached(Arc<Attached>),
}

impl NamedPipe {
    /// Creates the first instance of the pipe `addr`, in any of the forms of
    /// [`PipeName::new`](crate::PipeName::new), for bytes, both ways, and local clients only.
    /// For other wishes there is [`create`](Self::create).
    ///
    /// Calls [`CreateNamedPipeW`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-createnamedpipew).
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput), before any system call, for a name that makes
    /// no sense; [`PermissionDenied`](io::ErrorKind::PermissionDenied) when the name exists, as
    /// [`ServerOptions::first_pipe_instance`].
    pub fn new<A: AsRef<OsStr>>(addr: A) -> io::Result<Self> {
        Self::create(ServerOptions::new().first_pipe_instance(true), addr)
    }

    /// Creates an instance of the pipe `addr`, a server's end.
    ///
    /// # Errors
    ///
    /// As [`ServerOptions::create`].
    #[doc(alias = "CreateNamedPipe")]
    pub fn create(options: &ServerOptions, addr: impl AsRef<OsStr>) -> io::Result<Self> {
        options.refuse_inheritable()?;
        let name = PipeName::new(addr)?;
        let (handle, settings) = options.create_any_handle(&name, sys::SecurityAttributes::DEFAULT)?;
        Ok(Self::named(handle, settings, &name))
    }

    /// Opens the pipe `addr`, a client's end. It does not wait.
    ///
    /// # Errors
    ///
    /// As [`ClientOptions::open`].
    #[doc(alias = "CreateFile")]
    pub fn open(options: &ClientOptions, addr: impl AsRef<OsStr>) -> io::Result<Self> {
        options.refuse_inheritable()?;
        let name = PipeName::new(addr)?;
        let attributes = sys::SecurityAttributes::DEFAULT;
        let (handle, settings) = options.open_any_handle(&name, attributes, &mut Verified::default())?;
        Ok(Self::named(handle, settings, &name))
    }

    fn named(handle: OwnedHandle, settings: Settings, name: &PipeName) -> Self {
        let span = PipeSpan::new(settings.end, name);
        span.opened();
        Self::loose(handle, Some(settings), span)
    }

    fn loose(handle: OwnedHandle, settings: Option<Settings>, span: PipeSpan) -> Self {
        let handle = Arc::new(handle);
        Self { state: State::Loose { handle, settings, linger: Mutex::default(), span } }
    }

    fn attached(&self) -> Option<&Arc<Attached>> {
        match &self.state {
            State::Loose { .. } => None,
            State::Attached(attached) => Some(attached),
        }
    }

    /// What has been attached, or the error for what needs to be registered.
    fn working(&self) -> io::Result<&Arc<Attached>> {
        self.attached().ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    fn end(&self) -> io::Result<PipeEnd> {
        match &self.state {
            State::Loose { handle, settings, .. } => {
                settings_of(handle, *settings).map(|settings| settings.end)
            }
            State::Attached(attached) => Ok(attached.stream().settings().end),
        }
    }

    fn handle(&self) -> &OwnedHandle {
        match &self.state {
            State::Loose { handle, .. } => handle,
            State::Attached(attached) => attached.stream().handle(),
        }
    }

    /// Asks for a client, on a server's end. `Ok`: one is there.
    ///
    /// When it would block, the wait goes on, and its end shows as *writable*, whatever the
    /// interest. [`take_error`](Self::take_error) then says whether it ended well. A client
    /// that came and left without a word is passed over.
    ///
    /// Calls [`ConnectNamedPipe`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-connectnamedpipe).
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) when no client is there yet, and before the pipe
    /// is registered: then nothing has been asked for. Else the system's.
    #[doc(alias = "ConnectNamedPipe")]
    pub fn connect(&self) -> io::Result<()> {
        self.working()?.connect()
    }

    /// Why the last [`connect`](Self::connect) that would block has failed: told once. `None` when
    /// a client is there, and when the wait goes on.
    ///
    /// # Errors
    ///
    /// None today.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(self.attached().and_then(|attached| attached.take_error()))
    }

    /// Ends the connection, so that the instance can [`connect`](Self::connect) to the next client.
    /// What the client has not read is discarded, and so is what was read ahead from it;
    /// nothing of either reaches the next one. [`drain`](Self::drain) first if the client must
    /// have everything.
    ///
    /// Calls [`DisconnectNamedPipe`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-disconnectnamedpipe).
    ///
    /// # Errors
    ///
    /// The system's: `ERROR_PIPE_NOT_CONNECTED` when it was disconnected already,
    /// `ERROR_PIPE_LISTENING` when no client has come (a `connect` that was under way is over
    /// all the same), and one for a client's end, which has no such thing.
    #[doc(alias = "DisconnectNamedPipe")]
    pub fn disconnect(&self) -> io::Result<()> {
        match self.attached() {
            Some(attached) => attached.disconnect(),
            None => sys::disconnect(self.handle()),
        }
    }

    /// Returns `Ok` once the peer has read everything that was written. Until then it would block,
    /// and a writable event comes when the peer has. A write that follows begins a new wait.
    ///
    /// It is what [`FlushFileBuffers`](https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-flushfilebuffers) waits for,
    /// as an operation (`FSCTL_PIPE_FLUSH`), or, where the system does not have it as one, on a
    /// thread that lasts as long as the call. Dropping the pipe ends either.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock). Else the system's: `ERROR_BROKEN_PIPE` when the
    /// peer closes its end while this waits, `ERROR_PIPE_NOT_CONNECTED` when the server
    /// disconnected us, `ERROR_ACCESS_DENIED` on an end that may not write.
    #[doc(alias = "FlushFileBuffers")]
    pub fn drain(&self) -> io::Result<()> {
        self.working()?.drain()
    }

    /// Receives a message of at most [`max_message_size`](ServerOptions::max_message_size) bytes,
    /// 64 MiB by default: appends it to `buffer`, whole. Returns its length, 0 for an empty one,
    /// and `None` when the peer has closed its end and everything it sent has been received. If a
    /// part of a message has been read by other means, this receives the rest of it.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock): `buffer` is as it was then.
    /// [`Unsupported`](io::ErrorKind::Unsupported) on an end that reads bytes;
    /// [`InvalidData`](io::ErrorKind::InvalidData), with a
    /// [`MessageTooLong`](crate::MessageTooLong) inside, for a message that is longer: it is
    /// discarded, and the next call receives the next message. Other errors of Windows:
    #[doc = crate::documentation::read_errors!()]
    #[doc(alias("ERROR_MORE_DATA", "234"))]
    pub fn recv_message(&self, buffer: &mut BytesMut) -> io::Result<Option<usize>> {
        let attached = self.working()?;
        attached.recv_message(buffer, attached.stream().max_message_size())
    }

    /// [`recv_message`](Self::recv_message) of at most `limit` bytes, whatever the options say.
    ///
    /// # Errors
    ///
    /// As [`recv_message`](Self::recv_message); [`InvalidData`](io::ErrorKind::InvalidData), with a
    /// [`MessageTooLong`](crate::MessageTooLong) inside, for a message that is longer. It takes no
    /// room in `buffer` and is discarded, and the pipe stays usable: the next call receives the
    /// next message.
    pub fn recv_message_limited(&self, buffer: &mut BytesMut, limit: usize) -> io::Result<Option<usize>> {
        self.working()?.recv_message(buffer, limit)
    }

    /// Sends all of `message`, as one; an empty one is a message too.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) while a write is on its way: nothing of the
    /// message was taken then. [`Unsupported`](io::ErrorKind::Unsupported) on a byte pipe. Else
    /// the system's:
    #[doc = crate::documentation::write_errors!()]
    pub fn send_message(&self, message: &[u8]) -> io::Result<()> {
        self.working()?.send_message(message)
    }

    /// Tells the peer that this end has no more to say, and still listens, by an empty message:
    /// half-close, by the convention of go-winio. It [drains](Self::drain) first, which would
    /// block, and writing fails once it is done. A caller that no longer waits for a peer that does
    /// not read sends the empty message with [`send_message`](Self::send_message).
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock); [`Unsupported`](io::ErrorKind::Unsupported) on a
    /// byte pipe; those of [`drain`](Self::drain).
    #[doc(alias = "CloseWrite")]
    pub fn close_write(&self) -> io::Result<()> {
        self.working()?.close_write()
    }

    /// Whether what was read last, by whatever means, ends with the end of a message.
    /// [`NamedPipeServer::is_message_complete`](crate::NamedPipeServer::is_message_complete) tells
    /// more.
    pub fn is_message_complete(&self) -> bool {
        self.attached().is_none_or(|attached| attached.stream().is_message_complete())
    }

    /// How much could be read now, and how much of it belongs to one message. Nothing is taken by
    /// it. [`NamedPipeServer::peek`](crate::NamedPipeServer::peek) tells more.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) before the pipe is registered. Else the system's.
    #[doc(alias("PeekNamedPipe", "ERROR_BAD_PIPE", "230"))]
    pub fn peek(&self) -> io::Result<Peek> {
        self.working()?.stream().peek()
    }

    /// Whether an empty message reads as the end, as in the convention of Docker and of others who
    /// use go-winio.
    /// [`NamedPipeServer::set_empty_message_is_end`](crate::NamedPipeServer::set_empty_message_is_end) tells more.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) before the pipe is registered. Else the system's.
    #[doc(alias = "SetNamedPipeHandleState")]
    pub fn set_empty_message_is_end(&self, is_end: bool) -> io::Result<()> {
        self.working()?.stream().set_empty_message_is_end(is_end)
    }

    /// Bounds how long writes that are still on their way keep the pipe open after this end is
    /// dropped: five minutes unless this is called, since a hostile peer that never reads would
    /// keep the memory of each connection. `None` is no bound: until the peer has made room for
    /// them or has closed its end.
    pub fn set_linger(&self, linger: Option<Duration>) {
        match &self.state {
            State::Loose { linger: kept, .. } => *lock(kept) = LingerTime::Set(linger),
            State::Attached(attached) => attached.stream().set_linger(LingerTime::Set(linger)),
        }
    }

    /// Returns how long this end lingers after a drop: five minutes, or the time that was last
    /// [set](Self::set_linger).
    pub fn linger(&self) -> Option<Duration> {
        match &self.state {
            State::Loose { linger, .. } => lock(linger).after_drop(),
            State::Attached(attached) => attached.stream().linger().after_drop(),
        }
    }

    /// Returns whether the peer has gone, without taking data: see
    /// [`NamedPipeServer::is_closed`](crate::NamedPipeServer::is_closed). The pipe need not be
    /// registered for this.
    #[doc(alias("ERROR_BROKEN_PIPE", "109"))]
    pub fn is_closed(&self) -> bool {
        match &self.state {
            State::Loose { handle, settings, .. } => settings_of(handle, *settings)
                .is_ok_and(|settings| Stream::untied(handle.clone(), settings).is_closed()),
            State::Attached(attached) => attached.stream().is_closed(),
        }
    }

    #[doc = crate::documentation::info!()]
    #[doc(alias("GetNamedPipeInfo", "GetNamedPipeHandleState"))]
    pub fn info(&self) -> io::Result<PipeInfo> {
        crate::pipe_end::info(self.handle())
    }

    #[doc = crate::documentation::security_descriptor!()]
    #[doc(alias = "GetSecurityInfo")]
    pub fn security_descriptor(&self) -> io::Result<SecurityDescriptor> {
        SecurityDescriptor::of(self.handle())
    }

    /// Changes what protects the pipe, on a server's end: see
    /// [`NamedPipeServer::set_security_descriptor`](crate::NamedPipeServer::set_security_descriptor).
    ///
    /// # Errors
    ///
    /// As there. A client's end never has the right.
    #[doc(alias = "SetSecurityInfo")]
    pub fn set_security_descriptor(&self, descriptor: &SecurityDescriptor) -> io::Result<()> {
        descriptor.apply_to(self.handle())
    }

    #[doc = crate::documentation::peer!()]
    #[doc(alias("GetNamedPipeClientProcessId", "GetNamedPipeServerProcessId"))]
    pub fn peer(&self) -> io::Result<Peer> {
        let connected = match &self.state {
            State::Loose { handle, settings, .. } => settings_of(handle, *settings)?.connected(),
            State::Attached(attached) => attached.stream().connected(),
        };
        Peer::of(self.handle(), self.end()?, connected)
    }

    /// Does something in the client's name, on a server's end: see
    /// [`NamedPipeServer::impersonate`](crate::NamedPipeServer::impersonate).
    ///
    /// # Errors
    ///
    /// As there, and [`InvalidInput`](io::ErrorKind::InvalidInput) on a client's end.
    #[doc(alias("ImpersonateNamedPipeClient", "RevertToSelf"))]
    pub fn impersonate<T>(&self, act: impl FnOnce(&Impersonation) -> io::Result<T>) -> io::Result<T> {
        Impersonation::during(self.handle(), self.end()?, act)
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

    fn check_same(&self, registry: &Registry) -> io::Result<&Arc<Attached>> {
        let attached = self.attached().ok_or_else(not_found)?;
        attached.registration().check_same(registry.queue())?;
        Ok(attached)
    }
}

/// The settings of a handle. Those of a handle that was made elsewhere are queried.
fn settings_of(handle: &OwnedHandle, settings: Option<Settings>) -> io::Result<Settings> {
    settings.map_or_else(|| Settings::of_foreign(handle), Ok)
}

fn check(interests: Interest) -> io::Result<()> {
    if !interests.is_readable() && !interests.is_writable() {
        let why = "an interest in neither reading nor writing would never be met";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    Ok(())
}

impl Drop for NamedPipe {
    fn drop(&mut self) {
        if let State::Loose { span, .. } = &self.state {
            span.closed(false);
        }
    }
}

impl Source for NamedPipe {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        check(interests)?;
        if let State::Loose { handle, settings, linger, span } = &mut self.state {
            let settings = settings_of(handle, *settings)?;
            let attached = Attached::new(handle, settings, *lock(linger), span, registry.queue())?;
            self.state = State::Attached(attached);
        }
        let attached = self.check_same(registry)?;
        attached.registration().register(token, interests)?;
        attached.show_readiness(interests);
        Ok(())
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        check(interests)?;
        let attached = self.check_same(registry)?;
        attached.registration().reregister(token, interests)?;
        attached.show_readiness(interests);
        Ok(())
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.check_same(registry)?.registration().deregister()
    }
}

impl Read for &NamedPipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.working()?.read(&mut Slice { bytes: buffer, filled: 0 })
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.working()?.read(&mut Slices::new(buffers))
    }
}

impl Write for &NamedPipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.working()?.write(&bytes)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.working()?.write(&buffers)
    }

    /// Says "would block" until the system has everything that was written, and reports an error of
    /// it.
    fn flush(&mut self) -> io::Result<()> {
        self.attached().map_or(Ok(()), |attached| attached.flush())
    }
}

impl Read for NamedPipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(buffers)
    }
}

impl Write for NamedPipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(buffers)
    }

    /// Says "would block" until the system has everything that was written, and reports an error of
    /// it.
    fn flush(&mut self) -> io::Result<()> {
        (&*self).flush()
    }
}

impl TryFrom<OwnedHandle> for NamedPipe {
    type Error = io::Error;

    /// Takes over a pipe's handle, of which there may be duplicates.
    ///
    /// # Errors
    ///
    /// As [`NamedPipeServer::from_raw_handle`](crate::NamedPipeServer::from_raw_handle). A handle
    /// that was not opened with `FILE_FLAG_OVERLAPPED`, or belongs to a completion port, is refused
    /// when it is registered.
    fn try_from(handle: OwnedHandle) -> io::Result<Self> {
        let settings = Settings::of_foreign(&handle)?;
        Ok(Self::loose(handle, Some(settings), PipeSpan::NONE))
    }
}

impl FromRawHandle for NamedPipe {
    /// As `TryFrom<OwnedHandle>`, whose errors come when the pipe is registered.
    #[expect(unsafe_code, reason = "the standard library's signature: the handle is the caller's word")]
    unsafe fn from_raw_handle(handle: RawHandle) -> Self {
        // SAFETY: the caller gives the handle away.
        Self::loose(unsafe { OwnedHandle::from_raw_handle(handle) }, None, PipeSpan::NONE)
    }
}

impl AsRawHandle for NamedPipe {
    /// The handle. Bytes that were read ahead are not to be had from it.
    fn as_raw_handle(&self) -> RawHandle {
        self.handle().as_raw_handle()
    }
}

impl AsHandle for NamedPipe {
    /// The handle. Bytes that were read ahead are not to be had from it.
    fn as_handle(&self) -> BorrowedHandle<'_> {
        self.handle().as_handle()
    }
}

impl std::fmt::Debug for NamedPipe {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("NamedPipe").field(self.handle()).finish()
    }
}
