//! A connector for pooled HTTP clients and an executor for hyper, by the feature `hyper-util`.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tower_service::Service;

use crate::{ClientOptions, Executor, NamedPipeClient, PipeName};

/// Connects the clients of `hyper_util`, which pool connections, with one pipe.
///
/// The URI of a request does not name the pipe, but it must have a host: that becomes the header
/// `Host`, and requests of one host share connections.
///
/// ```no_run
/// # async fn version() -> Result<(), Box<dyn std::error::Error>> {
/// use http_body_util::Empty;
/// use hyper::body::Bytes;
/// use hyper_util::client::legacy::Client;
/// use hyper_util::rt::TokioExecutor;
/// use npipe::PipeConnector;
///
/// let docker: Client<_, Empty<Bytes>> =
///     Client::builder(TokioExecutor::new()).build(PipeConnector::new("docker_engine")?);
/// let response = docker.get("http://docker/version".parse()?).await?;
/// println!("{}", response.status());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct PipeConnector {
    name: PipeName,
    options: ClientOptions,
}

impl PipeConnector {
    /// For the pipe `name`, in any of the forms of [`PipeName::new`]. Each connection is opened as
    /// [`ClientOptions::connect`] does it by default: while all instances are taken, the request
    /// waits.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a name that no pipe can have.
    pub fn new(name: impl AsRef<OsStr>) -> io::Result<Self> {
        Self::with_options(name, ClientOptions::new())
    }

    /// [`new`](Self::new) with `options` for each connection, such as time-outs and the server that
    /// is expected.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_options(name: impl AsRef<OsStr>, options: ClientOptions) -> io::Result<Self> {
        Ok(Self { name: PipeName::new(name)?, options })
    }
}

impl Service<Uri> for PipeConnector {
    type Response = TokioIo<NamedPipeClient>;
    type Error = io::Error;
    type Future = Connecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Connecting {
        let Self { name, options } = self.clone();
        Connecting(Box::pin(async move { options.connect(&name).await.map(TokioIo::new) }))
    }
}

/// The future of a connection that a [`PipeConnector`] opens.
pub struct Connecting(Pin<Box<dyn Future<Output = io::Result<TokioIo<NamedPipeClient>>> + Send>>);

impl Future for Connecting {
    type Output = io::Result<TokioIo<NamedPipeClient>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(context)
    }
}

impl fmt::Debug for Connecting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Connecting").finish_non_exhaustive()
    }
}

impl Connection for NamedPipeClient {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

/// Runs hyper's tasks by [`spawn`](crate::spawn), or on an [`Executor`].
///
/// A connection's task saves a thread switch if its pipe was made on the thread that runs it. A
/// pooled client makes its pipes in the task that sends a request, so run that task on the same
/// executor.
#[derive(Debug, Clone, Default)]
pub struct PipeExecutor(Option<Arc<Executor>>);

impl PipeExecutor {
    /// Runs tasks by [`spawn`](crate::spawn).
    pub fn new() -> Self {
        Self::default()
    }
}

/// Runs tasks on `executor`.
impl From<Arc<Executor>> for PipeExecutor {
    fn from(executor: Arc<Executor>) -> Self {
        Self(Some(executor))
    }
}

impl<F> hyper::rt::Executor<F> for PipeExecutor
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn execute(&self, future: F) {
        match &self.0 {
            Some(executor) => executor.spawn(future).detach(),
            None => crate::spawn(future).detach(),
        }
    }
}
