//! What the two ends of the async face have by the same name, as a trait, and what follows from it
//! for the streams of the families that are made of them.

use std::future::Future;
use std::io;
use std::os::windows::io::AsHandle;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use npipe::{NamedPipeClient, NamedPipeListener, NamedPipeServer, Peek, Peer, PipeInfo, SecurityDescriptor};

pub(crate) trait AsyncPipe: AsHandle + std::fmt::Debug + Send + Sync + Unpin + 'static {
    fn info(&self) -> io::Result<PipeInfo>;
    fn security_descriptor(&self) -> io::Result<SecurityDescriptor>;
    fn peer(&self) -> io::Result<Peer>;
    fn read_by_reference(&self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> + Send;
    fn recv_message(
        &self,
        buffer: &mut BytesMut,
        limit: usize,
    ) -> impl Future<Output = io::Result<Option<usize>>> + Send;
    fn send_message(&self, message: &[u8]) -> impl Future<Output = io::Result<()>> + Send;
    fn is_message_complete(&self) -> bool;
    fn peek(&self) -> io::Result<Peek>;
    fn set_empty_message_is_end(&self, is_end: bool) -> io::Result<()>;
    fn close_write(&self, patience: Duration) -> impl Future<Output = io::Result<()>> + Send;
    fn drain(&self) -> impl Future<Output = io::Result<()>> + Send;
    fn transact(
        &mut self,
        request: &[u8],
        reply: &mut BytesMut,
    ) -> impl Future<Output = io::Result<usize>> + Send;
    fn close(self) -> impl Future<Output = io::Result<()>> + Send;
    fn close_timeout(self, timeout: Duration) -> impl Future<Output = io::Result<()>> + Send;
    fn set_linger(&self, linger: Option<Duration>);
    fn linger(&self) -> Option<Duration>;
    fn readable(&self) -> impl Future<Output = io::Result<()>> + Send;
    fn writable(&self) -> impl Future<Output = io::Result<()>> + Send;
}

macro_rules! async_pipe {
    ($($pipe:ty),+) => { $(
        impl AsyncPipe for $pipe {
            fn info(&self) -> io::Result<PipeInfo> {
                self.info()
            }
            fn security_descriptor(&self) -> io::Result<SecurityDescriptor> {
                self.security_descriptor()
            }
            fn peer(&self) -> io::Result<Peer> {
                self.peer()
            }
            async fn read_by_reference(&self, buffer: &mut [u8]) -> io::Result<usize> {
                loop {
                    self.readable().await?;
                    match self.try_read(buffer) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        result => return result,
                    }
                }
            }
            async fn recv_message(&self, buffer: &mut BytesMut, limit: usize) -> io::Result<Option<usize>> {
                match limit {
                    usize::MAX => self.recv_message(buffer).await,
                    limit => self.recv_message_limited(buffer, limit).await,
                }
            }
            async fn send_message(&self, message: &[u8]) -> io::Result<()> {
                self.send_message(message).await
            }
            fn is_message_complete(&self) -> bool {
                self.is_message_complete()
            }
            fn peek(&self) -> io::Result<Peek> {
                self.peek()
            }
            fn set_empty_message_is_end(&self, is_end: bool) -> io::Result<()> {
                self.set_empty_message_is_end(is_end)
            }
            async fn close_write(&self, patience: Duration) -> io::Result<()> {
                self.close_write(patience).await
            }
            async fn drain(&self) -> io::Result<()> {
                self.drain().await
            }
            async fn transact(&mut self, request: &[u8], reply: &mut BytesMut) -> io::Result<usize> {
                self.transact(request, reply).await
            }
            async fn close(self) -> io::Result<()> {
                self.close().await
            }
            async fn close_timeout(self, timeout: Duration) -> io::Result<()> {
                self.close_timeout(timeout).await
            }
            fn set_linger(&self, linger: Option<Duration>) {
                self.set_linger(linger);
            }
            fn linger(&self) -> Option<Duration> {
                self.linger()
            }
            async fn readable(&self) -> io::Result<()> {
                self.readable().await
            }
            async fn writable(&self) -> io::Result<()> {
                self.writable().await
            }
        }
    )+ };
}

async_pipe!(NamedPipeServer, NamedPipeClient);

/// What an [`End`](super::End) has besides its I/O traits, for a stream that is a tuple of a pipe.
macro_rules! async_end {
    () => {
        fn info(&self) -> io::Result<PipeInfo> {
            self.0.info()
        }
        fn security_descriptor(&self) -> io::Result<npipe::SecurityDescriptor> {
            self.0.security_descriptor()
        }
        fn peer(&self) -> io::Result<npipe::Peer> {
            self.0.peer()
        }
        fn read_by_reference(&self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> + Send {
            self.0.read_by_reference(buffer)
        }
        fn recv_message(
            &self,
            buffer: &mut bytes::BytesMut,
            limit: usize,
        ) -> impl Future<Output = io::Result<Option<usize>>> + Send {
            self.0.recv_message(buffer, limit)
        }
        fn send_message(&self, message: &[u8]) -> impl Future<Output = io::Result<()>> + Send {
            self.0.send_message(message)
        }
        fn is_message_complete(&self) -> bool {
            self.0.is_message_complete()
        }
        fn peek(&self) -> io::Result<npipe::Peek> {
            self.0.peek()
        }
        fn set_empty_message_is_end(&self, is_end: bool) -> io::Result<()> {
            self.0.set_empty_message_is_end(is_end)
        }
        fn close_write(&self, patience: Duration) -> impl Future<Output = io::Result<()>> + Send {
            self.0.close_write(patience)
        }
        fn drain(&self) -> impl Future<Output = io::Result<()>> + Send {
            self.0.drain()
        }
    };
}

/// The traits of such a stream that do not depend on its I/O traits.
macro_rules! async_stream {
    ($stream:ident) => {
        impl<S> AsRef<S> for $stream<S> {
            fn as_ref(&self) -> &S {
                &self.0
            }
        }

        impl<S: AsHandle> AsHandle for $stream<S> {
            fn as_handle(&self) -> BorrowedHandle<'_> {
                self.0.as_handle()
            }
        }

        impl<S: AsyncPipe> Lingering for $stream<S> {
            fn set_linger(&self, linger: Option<Duration>) {
                self.0.set_linger(linger);
            }

            fn linger(&self) -> Option<Duration> {
                self.0.linger()
            }
        }

        impl<S: AsyncPipe> Closing for $stream<S> {
            fn close(self) -> impl Future<Output = io::Result<()>> + Send {
                self.0.close()
            }

            fn close_timeout(self, timeout: Duration) -> impl Future<Output = io::Result<()>> + Send {
                self.0.close_timeout(timeout)
            }
        }

        impl<S: AsyncPipe> Exchanging for $stream<S> {
            fn transact(
                &mut self,
                request: &[u8],
                reply: &mut bytes::BytesMut,
            ) -> impl Future<Output = io::Result<usize>> + Send {
                self.0.transact(request, reply)
            }
        }

        impl<S: AsyncPipe> Waiting for $stream<S> {
            fn readable(&self) -> impl Future<Output = io::Result<()>> + Send {
                self.0.readable()
            }

            fn writable(&self) -> impl Future<Output = io::Result<()>> + Send {
                self.0.writable()
            }
        }

        impl Listening<$stream<NamedPipeServer>> for AsyncListener {
            async fn accept(&mut self) -> io::Result<$stream<NamedPipeServer>> {
                self.0.accept().await.map($stream)
            }
        }

        impl Listener<$stream<NamedPipeServer>> for AsyncListener {
            fn local_name(&self) -> PipeName {
                self.0.local_name().clone()
            }

            fn stop_listening(&self) {
                self.0.stop_listening();
            }

            fn close(&self) {
                self.0.close();
            }
        }

        impl ServerEnd for $stream<NamedPipeServer> {
            fn connect(&self) -> impl Future<Output = io::Result<()>> + Send {
                self.0.connect()
            }

            fn disconnect(&self) -> io::Result<()> {
                self.0.disconnect()
            }

            fn set_security_descriptor(&self, descriptor: &npipe::SecurityDescriptor) -> io::Result<()> {
                self.0.set_security_descriptor(descriptor)
            }

            fn impersonate<T>(
                &self,
                act: impl FnOnce(&npipe::Impersonation) -> io::Result<T>,
            ) -> io::Result<T> {
                self.0.impersonate(act)
            }

            fn client_user(&self) -> io::Result<npipe::Sid> {
                self.0.client_user()
            }
        }
    };
}

/// The listener of the async face.
#[derive(Debug, Clone)]
pub(crate) struct AsyncListener(pub(super) Arc<NamedPipeListener>);

impl AsyncListener {
    pub(super) fn new(listener: NamedPipeListener) -> Self {
        Self(Arc::new(listener))
    }
}

/// What the families of the async face can do as a [`ListeningFamily`].
macro_rules! async_listening_family {
    ($family:ident, $stream:ident) => {
        impl ListeningFamily for $family {
            async fn connect(options: &ClientOptions, name: &str) -> io::Result<Self::Client> {
                options.connect(name).await.map($stream)
            }

            async fn listen_timeout(
                options: &ServerOptions,
                name: &str,
                timeout: Duration,
            ) -> io::Result<AsyncListener> {
                options.listen_timeout(name, timeout).await.map(AsyncListener::new)
            }
        }
    };
}

/// What the families of the async face differ in only by the name of their stream.
macro_rules! async_family {
    ($stream:ident) => {
        type Server = $stream<NamedPipeServer>;
        type Client = $stream<NamedPipeClient>;
        type Listener = AsyncListener;

        fn create(options: &ServerOptions, name: impl AsRef<OsStr>) -> io::Result<Self::Server> {
            options.create(name).map($stream)
        }

        fn listen(options: &ServerOptions, name: &str) -> io::Result<Self::Listener> {
            options.listen(name).map(AsyncListener::new)
        }

        fn open(options: &ClientOptions, name: impl AsRef<OsStr>) -> io::Result<Self::Client> {
            options.open(name).map($stream)
        }

        fn adopt_server(handle: OwnedHandle) -> io::Result<Self::Server> {
            sys::adopt_server(handle).map($stream)
        }

        fn adopt_client(handle: OwnedHandle) -> io::Result<Self::Client> {
            sys::adopt_client(handle).map($stream)
        }
    };
}
