//! The traits of `futures-io` on a smol executor: there is no Tokio context anywhere.

use std::future::poll_fn;
use std::pin::Pin;

use futures_lite::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};

use super::*;

pub(crate) struct Futures;

#[derive(Debug)]
pub(crate) struct FuturesStream<S>(pub(crate) S);

async_stream!(FuturesStream);

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

impl<S: AsyncPipe + AsyncRead + AsyncWrite> End for FuturesStream<S> {
    type Reader = FuturesStream<ReadHalf<S>>;
    type Writer = FuturesStream<WriteHalf<S>>;

    fn split(self) -> (Self::Reader, Self::Writer) {
        let (reader, writer) = futures_lite::io::split(self.0);
        (FuturesStream(reader), FuturesStream(writer))
    }

    async_end!();
}

impl Family for Futures {
    async_family!(FuturesStream);

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        executor::block_on(future)
    }

    fn spawn<T: Send + 'static>(
        future: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = T> + Send + Unpin {
        executor::spawn(future)
    }
}

async_listening_family!(Futures, FuturesStream);

impl NonBlockingFamily for Futures {}

impl AsyncFamily for Futures {}
