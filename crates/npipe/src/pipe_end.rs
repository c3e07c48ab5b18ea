//! What both ends have in common, documented and implemented once.

use std::io;

use crate::info::{PipeEnd, PipeInfo, PipeMode};
use crate::sys::{self, OwnedHandle};

/// What the system says of a pipe.
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

/// Gives a pipe end, a struct with a field `stream: Stream`, what it shares with the other.
macro_rules! pipe_end {
    ($pipe:ident) => {
        impl $pipe {
            /// Takes over a pipe's handle.
            ///
            /// # Errors
            ///
            /// The system's, when the handle is not a pipe's (`ERROR_INVALID_HANDLE`, `ERROR_INVALID_FUNCTION`), was not
            /// opened with `FILE_FLAG_OVERLAPPED`, or belongs to a completion port already (both
            /// `ERROR_INVALID_PARAMETER`). The handle is closed then.
            ///
            /// # Safety
            ///
            /// `handle` must be open, and the caller's to give away. Nobody else may read, write or wait on it, or on a
            /// duplicate that shares its state.
            #[expect(unsafe_code, reason = "Tokio's signature: the handle is the caller's word")]
            pub unsafe fn from_raw_handle(handle: RawHandle) -> io::Result<Self> {
                // SAFETY: the caller gives the handle away.
                let handle = unsafe { OwnedHandle::from_raw_handle(handle) };
                let settings = Settings::of_foreign(&handle)?;
                Stream::new(handle, Driver::current()?, settings).map(Self::from_stream)
            }

            pub(crate) fn from_stream(stream: Stream) -> Self {
                Self { stream }
            }

            /// What the system says of the pipe.
            ///
            /// Calls [`GetNamedPipeInfo`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-getnamedpipeinfo).
            ///
            /// # Errors
            ///
            /// The system's.
            pub fn info(&self) -> io::Result<PipeInfo> {
                crate::pipe_end::info(self.stream.handle())
            }

            /// What protects the pipe: owner, group, access list and integrity label. Both ends may ask.
            ///
            /// Calls [`GetSecurityInfo`](https://learn.microsoft.com/windows/win32/api/aclapi/nf-aclapi-getsecurityinfo).
            ///
            /// # Errors
            ///
            /// The system's: [`PermissionDenied`](io::ErrorKind::PermissionDenied) (`ERROR_ACCESS_DENIED`) on a client's end that was
            /// opened for neither reading nor writing nor
            /// [`read_control`](crate::ClientOptions::read_control).
            pub fn security_descriptor(&self) -> io::Result<SecurityDescriptor> {
                SecurityDescriptor::of(self.stream.handle())
            }

            /// The process at the other end.
            ///
            /// Calls
            /// [`GetNamedPipeServerProcessId`](https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-getnamedpipeserverprocessid)
            /// on a client's end and
            /// [`GetNamedPipeClientProcessId`](https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-getnamedpipeclientprocessid)
            /// on a server's.
            ///
            /// # Errors
            ///
            /// The system's, when there is no client yet, or the other end is on another machine.
            pub fn peer(&self) -> io::Result<Peer> {
                Peer::of(self.stream.handle(), self.stream.connected_at())
            }

            /// Waits until something of `interest`, Tokio's or ours, is ready, and tells what.
            ///
            /// Readiness may be gone when it is acted upon: another task may have been faster. So follow it with
            /// [`try_read`](Self::try_read) or [`try_write`](Self::try_write) and wait again on
            /// [`WouldBlock`](io::ErrorKind::WouldBlock).
            ///
            /// # Cancellation
            ///
            /// Nothing is lost when the future is dropped. A read that it started goes on, and its bytes are there for
            /// the next one.
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

            /// Whether a read would have a result; if not, the context's task is woken when it would. The last task that
            /// asked or called a reading poll function is the one that is woken.
            ///
            /// # Errors
            ///
            /// As [`ready`](Self::ready).
            pub fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.stream.poll_readable(context, Key::POLL, None).map(|_| Ok(()))
            }

            /// Reads what there is, without waiting. `Ok(0)` means that the peer has closed its end and everything it
            /// wrote has been read, or that `buf` is empty.
            ///
            /// On a message pipe it reads from one message at most: all of it if `buf` is large enough, else its next
            /// part. Empty messages are passed over.
            ///
            /// # Errors
            ///
            /// [`WouldBlock`](io::ErrorKind::WouldBlock) when there is nothing yet; a read is then in flight, and
            /// [`readable`](Self::readable) tells when it has ended. Else the system's:
            #[doc = crate::documentation::read_errors!()]
            pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
                self.stream.try_read(&mut Slice { bytes: buf, filled: 0 })
            }

            /// [`try_read`](Self::try_read) into several buffers, filled one after the other.
            ///
            /// # Errors
            ///
            /// As [`try_read`](Self::try_read).
            pub fn try_read_vectored(&self, bufs: &mut [io::IoSliceMut<'_>]) -> io::Result<usize> {
                self.stream.try_read(&mut Slices { slices: bufs, filled: 0 })
            }

            /// [`try_read`](Self::try_read) behind what `buf` holds already, 64 KiB at most.
            ///
            /// # Errors
            ///
            /// As [`try_read`](Self::try_read).
            pub fn try_read_buf<B: BufMut>(&self, buf: &mut B) -> io::Result<usize> {
                self.stream.try_read(&mut Growing { buffer: buf })
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

            /// Whether a write would be accepted, or fail; if not, the context's task is woken when it would. The last
            /// task that asked or called a writing poll function is the one that is woken.
            ///
            /// # Errors
            ///
            /// As [`ready`](Self::ready).
            pub fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.stream.poll_writable(context, Key::POLL, None).map(|_| Ok(()))
            }

            /// Writes what there is room for, without waiting, and tells how much that was. On a message pipe it writes
            /// all of `buf`, as one message, or nothing; an empty `buf` is an empty message there, and nothing on a byte
            /// pipe.
            ///
            /// What was accepted may still be on its way to the pipe. It arrives if the peer reads, also when this end
            /// is dropped now; [`flush`](Self::flush) waits until the pipe has it.
            ///
            /// # Errors
            ///
            /// [`WouldBlock`](io::ErrorKind::WouldBlock) when there is no room. Else the system's, of this write or of
            /// one that was accepted earlier:
            #[doc = crate::documentation::write_errors!()]
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

            /// Calls `f` each time that something of `interest` has become ready, until it returns something else than
            /// [`WouldBlock`](io::ErrorKind::WouldBlock).
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

            /// Waits until the pipe has accepted everything that was written. It does not wait for the peer to read:
            /// that is [`drain`](Self::drain).
            ///
            /// # Cancellation
            ///
            /// Nothing is lost when the future is dropped; writing goes on.
            ///
            /// # Errors
            ///
            /// The system's, of a write that was accepted and then failed. It is reported once, here or by the next
            /// write.
            pub async fn flush(&self) -> io::Result<()> {
                self.stream.flush().await
            }

            /// Waits until the peer has read everything that was written. Never implied by anything else: two ends that
            /// both wait for the other to read would wait for ever.
            ///
            /// Calls [`FlushFileBuffers`](https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-flushfilebuffers),
            /// on a thread that lasts as long as the call.
            ///
            /// # Cancellation
            ///
            /// Nothing is lost when the future is dropped: the call is cancelled
            /// ([`CancelSynchronousIo`](https://learn.microsoft.com/windows/win32/fileio/cancelsynchronousio-func)).
            ///
            /// # Errors
            ///
            /// The system's: `ERROR_BROKEN_PIPE` when the peer closes its end while this waits (the system does not tell of
            /// one that had closed before whether it had read everything),
            /// `ERROR_PIPE_NOT_CONNECTED` when the server disconnected us, `ERROR_ACCESS_DENIED` on an end that may not
            /// write.
            pub async fn drain(&self) -> io::Result<()> {
                self.stream.drain().await
            }

            /// Bounds how long writes that are still on their way keep the pipe open after this end is dropped, and how
            /// long [`close`](Self::close) waits for the peer to read. With `None`, the default, that is until the peer has
            /// made room for them, or read them, or has closed its end.
            pub fn set_linger(&self, linger: Option<Duration>) {
                self.stream.set_linger(linger);
            }

            /// What [`set_linger`](Self::set_linger) was told last.
            pub fn linger(&self) -> Option<Duration> {
                self.stream.linger()
            }
        }

        impl AsRawHandle for $pipe {
            /// The handle. Bytes that were read ahead are not to be had from it.
            fn as_raw_handle(&self) -> RawHandle {
                self.stream.handle().as_raw_handle()
            }
        }

        impl AsHandle for $pipe {
            /// The handle. Bytes that were read ahead are not to be had from it.
            fn as_handle(&self) -> BorrowedHandle<'_> {
                self.stream.handle().as_handle()
            }
        }
    };
}

pub(crate) use pipe_end;
