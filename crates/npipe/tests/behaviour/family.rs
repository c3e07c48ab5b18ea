//! A *family* is a way of driving a pipe: a set of I/O traits with an executor. Test bodies are written once against
//! [`Family`] and know neither; nothing here knows a test.

use std::future::Future;
use std::io::{self, IoSlice, IoSliceMut};

use npipe::{ClientOptions, NamedPipeClient, NamedPipeServer, ServerOptions};

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

    fn flush(&mut self) -> impl Future<Output = io::Result<()>> + Send;

    /// The trait's way of saying "no more from me": `shutdown` in Tokio, `close` in `futures-io`.
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

/// One end of a pipe, driven by a family's traits.
pub(crate) trait End<Pipe>: Reading + Writing + AsRef<Pipe> {
    type Reader: Reading;
    type Writer: Writing;

    /// Both directions for two tasks, the way the family's users do it.
    fn split(self) -> (Self::Reader, Self::Writer);
}

pub(crate) trait Family: Send + Sync + 'static {
    type Server: End<NamedPipeServer>;
    type Client: End<NamedPipeClient>;

    fn server(pipe: NamedPipeServer) -> Self::Server;
    fn client(pipe: NamedPipeClient) -> Self::Client;

    /// Runs the future on an executor made for it, with whatever was spawned beside it, all on the calling thread.
    fn block_on<T>(future: impl Future<Output = T>) -> T;

    /// Runs the future beside the caller; the returned future ends with it and passes its panic on.
    fn spawn<T: Send + 'static>(
        future: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = T> + Send + Unpin;

    fn create(options: &ServerOptions, name: &str) -> io::Result<Self::Server> {
        options.create(name).map(Self::server)
    }

    fn open(options: &ClientOptions, name: &str) -> io::Result<Self::Client> {
        options.open(name).map(Self::client)
    }
}

#[cfg(feature = "tokio")]
pub(crate) mod tokio_family {
    //! Tokio's traits on Tokio's current-thread runtime.

    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};

    use super::*;

    pub(crate) struct Tokio;

    pub(crate) struct TokioStream<S>(S);

    impl<S> AsRef<S> for TokioStream<S> {
        fn as_ref(&self) -> &S {
            &self.0
        }
    }

    impl<S: AsyncRead + Unpin + Send + 'static> Reading for TokioStream<S> {
        async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer).await
        }

        /// `AsyncRead` of Tokio has no vectored form; the pipe's own is used where there is one.
        async fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
            match buffers.iter_mut().find(|buffer| !buffer.is_empty()) {
                Some(buffer) => self.0.read(buffer).await,
                None => Ok(0),
            }
        }
    }

    impl<S: AsyncWrite + Unpin + Send + 'static> Writing for TokioStream<S> {
        async fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.0.write(data).await
        }

        async fn write_vectored(&mut self, data: &[IoSlice<'_>]) -> io::Result<usize> {
            self.0.write_vectored(data).await
        }

        async fn flush(&mut self) -> io::Result<()> {
            self.0.flush().await
        }

        async fn finish(&mut self) -> io::Result<()> {
            self.0.shutdown().await
        }
    }

    impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> End<S> for TokioStream<S> {
        type Reader = TokioStream<ReadHalf<S>>;
        type Writer = TokioStream<WriteHalf<S>>;

        fn split(self) -> (Self::Reader, Self::Writer) {
            let (reader, writer) = tokio::io::split(self.0);
            (TokioStream(reader), TokioStream(writer))
        }
    }

    impl Family for Tokio {
        type Server = TokioStream<NamedPipeServer>;
        type Client = TokioStream<NamedPipeClient>;

        fn server(pipe: NamedPipeServer) -> Self::Server {
            TokioStream(pipe)
        }

        fn client(pipe: NamedPipeClient) -> Self::Client {
            TokioStream(pipe)
        }

        fn block_on<T>(future: impl Future<Output = T>) -> T {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a Tokio runtime can be built")
                .block_on(future)
        }

        fn spawn<T: Send + 'static>(
            future: impl Future<Output = T> + Send + 'static,
        ) -> impl Future<Output = T> + Send + Unpin {
            let task = tokio::spawn(future);
            Box::pin(async move {
                match task.await {
                    Ok(output) => output,
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                }
            })
        }
    }
}

#[cfg(feature = "futures-io")]
pub(crate) mod futures_family {
    //! The traits of `futures-io` on a smol executor: there is no Tokio context anywhere.

    use std::cell::RefCell;
    use std::future::poll_fn;
    use std::pin::Pin;
    use std::rc::Rc;

    use futures_lite::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};

    use super::*;

    pub(crate) struct Futures;

    pub(crate) struct FuturesStream<S>(S);

    thread_local! {
        /// The executor `block_on` is running on this thread.
        #[expect(clippy::missing_const_for_thread_local, reason = "it is; the lint misreads the GNU target's expansion")]
        static EXECUTOR: RefCell<Option<Rc<smol::LocalExecutor<'static>>>> = const { RefCell::new(None) };
    }

    impl<S> AsRef<S> for FuturesStream<S> {
        fn as_ref(&self) -> &S {
            &self.0
        }
    }

    impl<S: AsyncRead + Unpin + Send + 'static> Reading for FuturesStream<S> {
        async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer).await
        }

        async fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
            poll_fn(|context| Pin::new(&mut self.0).poll_read_vectored(context, buffers)).await
        }
    }

    impl<S: AsyncWrite + Unpin + Send + 'static> Writing for FuturesStream<S> {
        async fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.0.write(data).await
        }

        async fn write_vectored(&mut self, data: &[IoSlice<'_>]) -> io::Result<usize> {
            self.0.write_vectored(data).await
        }

        async fn flush(&mut self) -> io::Result<()> {
            self.0.flush().await
        }

        async fn finish(&mut self) -> io::Result<()> {
            self.0.close().await
        }
    }

    impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> End<S> for FuturesStream<S> {
        type Reader = FuturesStream<ReadHalf<S>>;
        type Writer = FuturesStream<WriteHalf<S>>;

        fn split(self) -> (Self::Reader, Self::Writer) {
            let (reader, writer) = futures_lite::io::split(self.0);
            (FuturesStream(reader), FuturesStream(writer))
        }
    }

    impl Family for Futures {
        type Server = FuturesStream<NamedPipeServer>;
        type Client = FuturesStream<NamedPipeClient>;

        fn server(pipe: NamedPipeServer) -> Self::Server {
            FuturesStream(pipe)
        }

        fn client(pipe: NamedPipeClient) -> Self::Client {
            FuturesStream(pipe)
        }

        fn block_on<T>(future: impl Future<Output = T>) -> T {
            let executor = Rc::new(smol::LocalExecutor::new());
            let outer = EXECUTOR.replace(Some(executor.clone()));
            let output = smol::block_on(executor.run(future));
            EXECUTOR.set(outer);
            output
        }

        fn spawn<T: Send + 'static>(
            future: impl Future<Output = T> + Send + 'static,
        ) -> impl Future<Output = T> + Send + Unpin {
            EXECUTOR.with_borrow(|executor| {
                executor.as_ref().expect("spawn is called inside block_on").spawn(future)
            })
        }
    }
}

/// `for_each_family!(body, other => alone);` makes a test of each generic `async fn body<F: Family>()` for each
/// family. `alone` marks those that measure the whole process.
macro_rules! for_each_family {
    (@run $body:ident $family:ty) => {
        $crate::harness::run::<$family>(concat!(module_path!(), "::", stringify!($body)), super::$body::<$family>())
    };
    (@run $body:ident $family:ty, alone) => {
        $crate::harness::run_alone::<$family>(
            concat!(module_path!(), "::", stringify!($body)),
            super::$body::<$family>(),
        )
    };
    ($($body:ident $(=> $alone:ident)?),+ $(,)?) => {
        #[cfg(feature = "tokio")]
        mod on_tokio {
            $(#[test]
            fn $body() {
                for_each_family!(@run $body $crate::family::tokio_family::Tokio $(, $alone)?);
            })+
        }

        #[cfg(feature = "futures-io")]
        mod on_smol {
            $(#[test]
            fn $body() {
                for_each_family!(@run $body $crate::family::futures_family::Futures $(, $alone)?);
            })+
        }
    };
}
