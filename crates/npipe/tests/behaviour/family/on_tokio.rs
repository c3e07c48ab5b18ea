//! Tokio's traits on Tokio's current-thread runtime.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};

use super::*;

pub(crate) struct Tokio;

#[derive(Debug)]
pub(crate) struct TokioStream<S>(pub(crate) S);

async_stream!(TokioStream);

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

impl<S: AsyncPipe + AsyncRead + AsyncWrite> End for TokioStream<S> {
    type Reader = TokioStream<ReadHalf<S>>;
    type Writer = TokioStream<WriteHalf<S>>;

    fn split(self) -> (Self::Reader, Self::Writer) {
        let (reader, writer) = tokio::io::split(self.0);
        (TokioStream(reader), TokioStream(writer))
    }

    async_end!();
}

impl Family for Tokio {
    async_family!(TokioStream);

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

async_listening_family!(Tokio, TokioStream);

impl NonBlockingFamily for Tokio {}

impl AsyncFamily for Tokio {}
