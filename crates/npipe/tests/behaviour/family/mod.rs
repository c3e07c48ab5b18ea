//! A *family* is a way of driving a pipe: a face of the library, or a set of I/O traits, with
//! something that runs futures. Test bodies are written once against [`Family`], or against one of
//! its sub-traits if they need more than every face has, and know neither face nor executor;
//! nothing here knows a test.

#[macro_use]
mod async_pipe;
mod executor;
#[cfg(not(npipe_test_always_queue))]
pub(crate) mod on_blocking;
pub(crate) mod on_readiness;
#[cfg(feature = "futures-io")]
pub(crate) mod on_smol;
#[cfg(all(feature = "tokio", not(npipe_test_always_queue)))]
pub(crate) mod on_the_port;
#[cfg(feature = "tokio")]
pub(crate) mod on_tokio;

use std::ffi::OsStr;
use std::fmt::Debug;
use std::future::Future;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::windows::io::{AsHandle, BorrowedHandle, OwnedHandle};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_pipe::{AsyncListener, AsyncPipe};
use bytes::BytesMut;
use npipe::{
    ClientOptions, Impersonation, NamedPipeClient, NamedPipeServer, Peek, Peer, PipeInfo, PipeName,
    SecurityDescriptor, ServerOptions,
};
use windows_sys::Win32::Foundation::ERROR_PIPE_BUSY;

use crate::sys;

/// The reading half of what the family calls a stream.
pub(crate) trait Reading: Send + 'static {
    fn read(&mut self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> + Send;

    fn read_vectored(
        &mut self,
        buffers: &mut [IoSliceMut<'_>],
    ) -> impl Future<Output = io::Result<usize>> + Send;

    fn read_exact(&mut self, buffer: &mut [u8]) -> impl Future<Output = io::Result<()>> + Send {
        async move {
            let mut filled = 0;
            while filled < buffer.len() {
                match self.read(&mut buffer[filled..]).await? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    read => filled += read,
                }
            }
            Ok(())
        }
    }

    /// Everything up to the end of the file.
    fn read_to_end(&mut self) -> impl Future<Output = io::Result<Vec<u8>>> + Send {
        async move {
            let mut all = Vec::new();
            let mut buffer = vec![0; 64 * 1024];
            loop {
                match self.read(&mut buffer).await? {
                    0 => return Ok(all),
                    read => all.extend_from_slice(&buffer[..read]),
                }
            }
        }
    }
}

/// The writing half of what the family calls a stream.
pub(crate) trait Writing: Send + 'static {
    fn write(&mut self, data: &[u8]) -> impl Future<Output = io::Result<usize>> + Send;

    fn write_vectored(&mut self, data: &[IoSlice<'_>]) -> impl Future<Output = io::Result<usize>> + Send;

    /// A write that is given up, with nothing written, where it would have to wait for the reader.
    fn write_without_waiting(&mut self, data: &[u8]) -> impl Future<Output = Poll<io::Result<usize>>> + Send {
        async move { pin!(self.write(data)).poll(&mut Context::from_waker(Waker::noop())) }
    }

    fn flush(&mut self) -> impl Future<Output = io::Result<()>> + Send;

    /// The face's way of saying "no more from me": `shutdown` in Tokio, `close` in `futures-io`.
    fn finish(&mut self) -> impl Future<Output = io::Result<()>> + Send;

    fn write_all(&mut self, data: &[u8]) -> impl Future<Output = io::Result<()>> + Send {
        async move {
            let mut written = 0;
            while written < data.len() {
                match self.write(&data[written..]).await? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    count => written += count,
                }
            }
            Ok(())
        }
    }
}

/// One end of a pipe, driven by the means of a family.
pub(crate) trait End: Reading + Writing + AsHandle + Debug + Sync {
    type Reader: Reading;
    type Writer: Writing;

    /// Both directions for two tasks, the way the family's users do it.
    fn split(self) -> (Self::Reader, Self::Writer);

    fn info(&self) -> io::Result<PipeInfo>;

    fn security_descriptor(&self) -> io::Result<SecurityDescriptor>;

    fn peer(&self) -> io::Result<Peer>;

    /// Reads while something else borrows the end.
    fn read_by_reference(&self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> + Send;

    /// Receives a message of at most `limit` bytes.
    fn recv_message(
        &self,
        buffer: &mut BytesMut,
        limit: usize,
    ) -> impl Future<Output = io::Result<Option<usize>>> + Send;

    fn send_message(&self, message: &[u8]) -> impl Future<Output = io::Result<()>> + Send;

    fn is_message_complete(&self) -> bool;

    fn peek(&self) -> io::Result<Peek>;

    fn set_empty_message_is_end(&self, is_end: bool) -> io::Result<()>;

    /// Half-close; where the face has it, with this patience.
    fn close_write(&self, patience: Duration) -> impl Future<Output = io::Result<()>> + Send;

    /// Waits until the peer has read everything that was written.
    fn drain(&self) -> impl Future<Output = io::Result<()>> + Send;
}

/// A server instance: it waits for a client and throws it out again.
pub(crate) trait ServerEnd: End {
    fn connect(&self) -> impl Future<Output = io::Result<()>> + Send;

    fn disconnect(&self) -> io::Result<()>;

    fn set_security_descriptor(&self, descriptor: &SecurityDescriptor) -> io::Result<()>;

    /// Does something in the client's name.
    fn impersonate<T>(&self, act: impl FnOnce(&Impersonation) -> io::Result<T>) -> io::Result<T>;
    fn client_user(&self) -> io::Result<npipe::Sid>;
}

/// A server that accepts one client after the other, so that none finds the name missing.
pub(crate) trait Listening<Server>: Send + 'static {
    fn accept(&mut self) -> impl Future<Output = io::Result<Server>> + Send;
}

/// A listener of the library. A clone is the same listener, for another task.
pub(crate) trait Listener<Server>: Listening<Server> + Clone + Sync {
    fn local_name(&self) -> PipeName;

    fn stop_listening(&self);

    fn close(&self);
}

/// The server loop of faces without a listener: the next instance is made before the last one is
/// handed on.
pub(crate) struct InstanceLoop<F: Family> {
    next: F::Server,
    options: ServerOptions,
    name: String,
}

impl<F: Family> InstanceLoop<F> {
    fn start(options: &ServerOptions, name: &str) -> io::Result<Self> {
        Ok(Self { next: F::create(options, name)?, options: options.clone(), name: name.to_owned() })
    }
}

impl<F: Family> Listening<F::Server> for InstanceLoop<F> {
    async fn accept(&mut self) -> io::Result<F::Server> {
        self.next.connect().await?;
        let next = F::create(&self.options, &self.name)?;
        Ok(std::mem::replace(&mut self.next, next))
    }
}

/// An end that can be told how long what it wrote may keep the pipe open after it was dropped.
pub(crate) trait Lingering {
    fn set_linger(&self, linger: Option<Duration>);

    fn linger(&self) -> Option<Duration>;
}

/// An end that can be closed in an orderly way, which takes as long as the peer takes to read.
pub(crate) trait Closing {
    fn close(self) -> impl Future<Output = io::Result<()>> + Send;

    fn close_timeout(self, timeout: Duration) -> impl Future<Output = io::Result<()>> + Send;
}

/// An end that can send a message and receive the answer in one go.
pub(crate) trait Exchanging {
    fn transact(
        &mut self,
        request: &[u8],
        reply: &mut BytesMut,
    ) -> impl Future<Output = io::Result<usize>> + Send;
}

/// An end that can be waited for without reading or writing.
pub(crate) trait Waiting {
    fn readable(&self) -> impl Future<Output = io::Result<()>> + Send;

    fn writable(&self) -> impl Future<Output = io::Result<()>> + Send;
}

/// What every face of the library can do.
pub(crate) trait Family: Send + Sync + 'static {
    type Server: ServerEnd;
    type Client: End;
    type Listener: Listening<Self::Server>;

    /// What an operation costs, that of the async face being 1: a switch of threads or more. The
    /// longest bodies do that much less.
    const COST: u32 = 1;

    /// Whether tasks end, and drop what they hold, with the `block_on` that they were spawned in.
    /// Not those of `npipe::spawn`: their executor is the process's.
    const TASKS_END_WITH_BLOCK_ON: bool = true;

    /// Whether a handle is tied to a completion port when it is taken over, so that one that is
    /// tied to another is refused.
    const TIES_HANDLES_TO_A_PORT: bool = true;

    fn create(options: &ServerOptions, name: impl AsRef<OsStr>) -> io::Result<Self::Server>;

    /// `create` of an instance that has to be the first of its name.
    fn create_first(options: &ServerOptions, name: impl AsRef<OsStr>) -> io::Result<Self::Server> {
        Self::create(options.clone().first_pipe_instance(true), name)
    }

    /// A server of many clients, the way the face's users write it.
    fn listen(options: &ServerOptions, name: &str) -> io::Result<Self::Listener>;

    /// It does not wait for a free instance.
    fn open(options: &ClientOptions, name: impl AsRef<OsStr>) -> io::Result<Self::Client>;

    /// Whether `open` failed because all instances of the pipe are taken.
    fn is_busy(error: &io::Error) -> bool {
        error.raw_os_error() == Some(ERROR_PIPE_BUSY as i32)
    }

    /// Takes over the handle of a server instance that was made elsewhere.
    fn adopt_server(handle: OwnedHandle) -> io::Result<Self::Server>;

    /// Takes over a client's handle that was made elsewhere.
    fn adopt_client(handle: OwnedHandle) -> io::Result<Self::Client>;

    /// Runs the future on the calling thread, by an executor made for it.
    fn block_on<T>(future: impl Future<Output = T>) -> T;

    /// Runs the future beside the caller; the returned future ends with it and passes its panic on.
    fn spawn<T: Send + 'static>(
        future: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = T> + Send + Unpin;
}

/// A family of a face whose calls do not wait. So its futures may be given up half-way: dropping
/// one, or polling it once and no more, does to the pipe what the face promises for it, where a
/// future of the blocking face's family merely waits for a thread that is in the call. It can be
/// told how long to linger, as it closes behind writes that are on their way. And a server can be
/// connected again after a disconnect; a blocking listener creates its instances itself instead.
pub(crate) trait NonBlockingFamily:
    Family<Server: Waiting + Lingering, Client: Waiting + Lingering>
{
}

/// A family of a face that has a listener, and clients that wait.
pub(crate) trait ListeningFamily: Family<Listener: Listener<Self::Server>> {
    /// `open` that waits, as the options say.
    fn connect(options: &ClientOptions, name: &str) -> impl Future<Output = io::Result<Self::Client>> + Send;

    /// `listen` that waits while the name is taken.
    fn listen_timeout(
        options: &ServerOptions,
        name: &str,
        timeout: Duration,
    ) -> impl Future<Output = io::Result<Self::Listener>> + Send;
}

/// A family whose ends are those of the async face, for bodies that need what only that face has.
pub(crate) trait AsyncFamily:
    NonBlockingFamily<
        Server: AsRef<NamedPipeServer> + Closing + Exchanging,
        Client: AsRef<NamedPipeClient> + Closing + Exchanging,
    >
{
}

/// `for_each_family!(body, other => words);` makes a test of each generic `async fn body<F:
/// Family>()` for each family. Words, if there are any, are `alone` for a body that measures the
/// whole process, and `nonblocking`, `listening` or `asynchronous` for one that takes a
/// [`NonBlockingFamily`], a [`ListeningFamily`] or an [`AsyncFamily`].
///
/// Where every completion is queued (`--cfg npipe_test_always_queue`), a family for each kind of
/// port is enough: that of the process and one's own. Blocking calls have nothing queued at all.
macro_rules! for_each_family {
    // Whatever the words say of families.
    (@every $family:ty, $body:ident alone $($words:ident)*) => {
        #[test]
        fn $body() {
            $crate::harness::run_alone::<$family>(
                concat!(module_path!(), "::", stringify!($body)),
                super::$body::<$family>(),
            )
        }
    };
    (@every $family:ty, $body:ident $($word:ident)?) => {
        #[test]
        fn $body() {
            $crate::harness::run::<$family>(
                concat!(module_path!(), "::", stringify!($body)),
                super::$body::<$family>(),
            )
        }
    };
    (@nonblocking $family:ty, $body:ident asynchronous) => {};
    (@nonblocking $family:ty, $body:ident $(alone)? listening) => {};
    (@nonblocking $family:ty, $body:ident $($words:ident)*) => {
        for_each_family!(@every $family, $body $($words)*);
    };
    (@blocking $family:ty, $body:ident $(alone)? asynchronous) => {};
    (@blocking $family:ty, $body:ident $(alone)? nonblocking) => {};
    (@blocking $family:ty, $body:ident $($words:ident)*) => {
        for_each_family!(@every $family, $body $($words)*);
    };
    ($($body:ident $(=> $($words:ident)+)?),+ $(,)?) => {
        #[cfg(feature = "tokio")]
        mod on_tokio {
            $(for_each_family!(@every $crate::family::on_tokio::Tokio, $body $($($words)+)?);)+
        }

        #[cfg(all(feature = "tokio", not(npipe_test_always_queue)))]
        mod on_the_port {
            $(for_each_family!(@every $crate::family::on_the_port::Port, $body $($($words)+)?);)+
        }

        #[cfg(all(feature = "futures-io", not(npipe_test_always_queue)))]
        mod on_smol {
            $(for_each_family!(@every $crate::family::on_smol::Futures, $body $($($words)+)?);)+
        }

        mod on_readiness {
            $(for_each_family!(@nonblocking $crate::family::on_readiness::Readiness, $body $($($words)+)?);)+
        }

        #[cfg(not(npipe_test_always_queue))]
        mod on_blocking {
            $(for_each_family!(@blocking $crate::family::on_blocking::Blocking, $body $($($words)+)?);)+
        }
    };
}
