//! A *family* is a way of driving a pipe: a face of the library, or a set of I/O traits, with something that runs
//! futures. Test bodies are written once against [`Family`], or against one of its sub-traits if they need more than every
//! face has, and know neither face nor executor; nothing here knows a test.

#[macro_use]
mod async_pipe;
mod executor;
#[cfg(feature = "futures-io")]
pub(crate) mod on_smol;
#[cfg(feature = "tokio")]
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

use async_pipe::AsyncPipe;
use npipe::{ClientOptions, NamedPipeClient, NamedPipeServer, PipeInfo, ServerOptions};

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

    /// Reads while something else borrows the end.
    fn read_by_reference(&self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> + Send;

    /// Waits until the peer has read everything that was written.
    fn drain(&self) -> impl Future<Output = io::Result<()>> + Send;

    /// The orderly end: everything written has been read, then the pipe is closed.
    fn close(self) -> impl Future<Output = io::Result<()>> + Send;

    fn set_linger(&self, linger: Option<Duration>);

    fn linger(&self) -> Option<Duration>;
}

/// A server instance: it waits for a client and throws it out again.
pub(crate) trait ServerEnd: End {
    fn connect(&self) -> impl Future<Output = io::Result<()>> + Send;

    fn disconnect(&self) -> io::Result<()>;
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

    /// Whether tasks end, and drop what they hold, with the `block_on` that they were spawned in. Not those of
    /// `npipe::spawn`: their executor is the process's.
    const TASKS_END_WITH_BLOCK_ON: bool = true;

    fn create(options: &ServerOptions, name: impl AsRef<OsStr>) -> io::Result<Self::Server>;

    fn open(options: &ClientOptions, name: impl AsRef<OsStr>) -> io::Result<Self::Client>;

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

/// A family whose operations may be given up half-way: dropping one of its futures, or polling it once and no more, does
/// to the pipe what the face promises for it. Where a future merely waits for a thread that is in the call, it does not.
pub(crate) trait CancellingFamily: Family<Server: Waiting, Client: Waiting> {}

/// A family whose ends are those of the async face, for bodies that need what only that face has.
pub(crate) trait AsyncFamily:
    CancellingFamily<Server: AsRef<NamedPipeServer>, Client: AsRef<NamedPipeClient>>
{
    fn server(pipe: NamedPipeServer) -> Self::Server;

    fn client(pipe: NamedPipeClient) -> Self::Client;
}

/// `for_each_family!(body, other => word);` makes a test of each generic `async fn body<F: Family>()` for each family.
/// The word, if there is one, is `alone` for a body that measures the whole process, `cancelling` for one that takes a
/// [`CancellingFamily`], and `asynchronous` for one that takes an [`AsyncFamily`].
macro_rules! for_each_family {
    // A test, whatever the word says of families.
    (@every $family:ty, $body:ident alone) => {
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
    ($($body:ident $(=> $word:ident)?),+ $(,)?) => {
        #[cfg(feature = "tokio")]
        mod on_tokio {
            $(for_each_family!(@every $crate::family::on_tokio::Tokio, $body $($word)?);)+
        }

        #[cfg(feature = "tokio")]
        mod on_the_port {
            $(for_each_family!(@every $crate::family::on_the_port::Port, $body $($word)?);)+
        }

        #[cfg(feature = "futures-io")]
        mod on_smol {
            $(for_each_family!(@every $crate::family::on_smol::Futures, $body $($word)?);)+
        }
    };
}
