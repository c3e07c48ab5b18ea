//! Accepting clients: instances of the pipe that wait for them, and who waits for those.
//!
//! Which instances there are, and which is given away when, is the [`Backlog`]'s business. Here
//! they are created and asked for their clients. Any number of tasks may accept: what concerns one
//! of them, a client that has come or a time to look again, rings a bell that wakes them all, and
//! the first that comes takes what there is.

use std::borrow::Borrow;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::NamedPipeServer;
use crate::coop;
use crate::driver::{self, Deadline, Driver, Waiting};
use crate::machine::{Backlog, Look};
use crate::name::PipeName;
use crate::options::{Instances, ServerOptions};
use crate::retry::Retry;
use crate::stream::{Key, Settings, Stream, Waiters, register};
use crate::sync::{Arc, Mutex, lock};
use crate::sys::OwnedHandle;

/// For how many instances one poll calls the kernel. Then the other tasks of the thread have their
/// turn.
const CALLED_AT_ONCE: usize = 8;

impl ServerOptions {
    /// Creates the pipe `name`, in any of the forms of [`PipeName::new`], with as many instances as
    /// [`backlog`](Self::backlog) says, and a listener that accepts its clients. It needs no
    /// runtime.
    ///
    /// The options hold for every instance. Only [`first_pipe_instance`](Self::first_pipe_instance)
    /// concerns the first alone, and is yes unless it was set. Clients can open the pipe from
    /// now on, also before [`accept`](NamedPipeListener::accept) is called.
    ///
    /// Calls [`CreateNamedPipeW`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-createnamedpipew).
    ///
    /// ```no_run
    /// # async fn f() -> std::io::Result<()> {
    /// use npipe::ServerOptions;
    ///
    /// let listener = ServerOptions::new().backlog(16).listen(r"\\.\pipe\inventory")?;
    /// let first = listener.accept().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create): [`PermissionDenied`](io::ErrorKind::PermissionDenied) when the
    /// name exists, or when the access list that the first instance was given does not let us
    /// add others.
    #[doc(alias = "CreateNamedPipe")]
    pub fn listen(&self, name: impl AsRef<OsStr>) -> io::Result<NamedPipeListener> {
        self.refuse_inheritable()?;
        let instances = self.instances(name.as_ref())?;
        let backlog = instances.begin(on_port)?;
        Ok(NamedPipeListener::new(instances, backlog))
    }

    /// [`listen`](Self::listen) that tries again for `timeout` while another program has the name:
    /// a service that is started anew may find its predecessor still about to end.
    ///
    /// # Cancellation
    ///
    /// Nothing is left behind when the future is dropped.
    ///
    /// # Errors
    ///
    /// As [`listen`](Self::listen); those of a name that is taken when the time is over, the others
    /// at once. A name that this process may not create at all can be indistinguishable from one
    /// that is taken (both are `ERROR_ACCESS_DENIED`), and is waited for too.
    pub async fn listen_timeout(
        &self,
        name: impl AsRef<OsStr>,
        timeout: Duration,
    ) -> io::Result<NamedPipeListener> {
        self.refuse_inheritable()?;
        let instances = self.instances(name.as_ref())?;
        let mut retry = Retry::new(Some(timeout));
        coop::result().await;
        loop {
            let error = match instances.begin(on_port) {
                Ok(backlog) => return Ok(NamedPipeListener::new(instances, backlog)),
                Err(error) => error,
            };
            driver::pause(Instances::pause_before_retry(error, &mut retry)?).await?;
        }
    }
}

fn on_port((handle, settings): (OwnedHandle, Settings)) -> io::Result<Stream> {
    Stream::new(handle, Driver::current()?, settings)
}

/// A server that accepts clients of a pipe. Made by [`ServerOptions::listen`].
///
/// It holds a [backlog](ServerOptions::backlog) of instances that no client has been accepted from,
/// and creates the next before it hands one out. So a burst of clients finds the pipe free, and the
/// name exists for as long as the listener does: no client finds it missing, and no other program
/// can take it.
///
/// ```no_run
/// # #[cfg(feature = "tokio")]
/// # async fn serve() -> std::io::Result<()> {
/// use npipe::ServerOptions;
///
/// let listener = ServerOptions::new().listen(r"\\.\pipe\inventory")?;
/// loop {
///     let connection = listener.accept().await?;
///     tokio::spawn(async move {
///         let (mut reader, mut writer) = tokio::io::split(connection);
///         tokio::io::copy(&mut reader, &mut writer).await
///     });
/// }
/// # }
/// ```
///
/// Any number of tasks may accept from one listener; share it in an [`Arc`], or by reference.
///
/// # With a limit of instances
///
/// Of a pipe that has [`max_instances`](ServerOptions::max_instances) of *n*, the listener keeps
/// one: *n* - 1 clients are served at a time, the next one connects and is accepted when another
/// has gone. Of a pipe of one instance that instance is handed out. Its name goes with it, until
/// the listener can create the next: a server of one client at a time keeps its name by
/// [`NamedPipeServer::disconnect`] and [`NamedPipeServer::connect`] instead.
pub struct NamedPipeListener {
    instances: Instances,
    state: Mutex<State>,
    bell: Arc<Bell>,
    /// Rings the bell.
    waker: Waker,
}

enum State {
    Open {
        backlog: Backlog<Stream>,
        /// Rings when to look whether an instance that could not be created can be now.
        retry: Option<Deadline>,
    },
    Closed,
}

/// Who waits for a client.
#[derive(Default)]
struct Bell(Mutex<Waiters>);

impl Bell {
    fn ring(&self) {
        let mut waiting: Vec<Waiting> = Vec::new();
        lock(&self.0).take(&mut waiting);
        waiting.into_iter().for_each(Waiting::wake);
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

impl NamedPipeListener {
    fn new(instances: Instances, backlog: Backlog<Stream>) -> Self {
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(bell.clone());
        Self { instances, state: Mutex::new(State::Open { backlog, retry: None }), bell, waker }
    }

    /// Waits for a client.
    ///
    /// A client that came, wrote something and left before anybody looked is a client: its bytes
    /// can be read, then the end. One that came and left without a word, as programs do that
    /// merely look whether a pipe exists, is passed over.
    ///
    /// Calls [`ConnectNamedPipe`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-connectnamedpipe).
    ///
    /// # Cancellation
    ///
    /// Nothing is lost when the future is dropped: a client that has come, or comes, is there for
    /// the next `accept`.
    ///
    /// # Errors
    ///
    /// [`ConnectionAborted`](io::ErrorKind::ConnectionAborted) when the listener has been
    /// [closed](Self::close), or has [stopped](Self::stop_listening) and all its clients have been
    /// accepted. Else the system's, which do not end the listener: of one client
    /// that could not be taken, or for want of memory or handles, when the last instance cannot
    /// be handed out because no other can be created. That client stays; accept again after a
    /// moment.
    #[doc(alias = "ConnectNamedPipe")]
    pub async fn accept(&self) -> io::Result<NamedPipeServer> {
        self.next().await.unwrap_or_else(|| Err(closed()))
    }

    /// `None`: the listener is closed, or has stopped and accepted its last client.
    pub(crate) async fn next(&self) -> Option<io::Result<NamedPipeServer>> {
        let incoming = self.incoming();
        coop::poll_fn(|context| incoming.poll(context)).await
    }

    /// [`accept`](Self::accept) for a task that polls. The last task that asked is the one that is
    /// woken.
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept).
    pub fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<NamedPipeServer>> {
        coop::poll(context, |context| self.poll_client(context, Key::POLL))
            .map(|client| client.unwrap_or_else(|| Err(closed())))
    }

    /// The clients as they come: [`accept`](Self::accept), again and again. The stream ends when
    /// the listener is [closed](Self::close), or has [stopped](Self::stop_listening) and all its
    /// clients have been accepted.
    pub fn incoming(&self) -> Incoming<&Self> {
        Incoming::of(self)
    }

    /// [`incoming`](Self::incoming) of a listener that goes with the stream, for those who want it
    /// whole, such as tonic.
    pub fn into_incoming(self) -> Incoming<Self> {
        Incoming::of(self)
    }

    /// The pipe's name.
    pub fn local_name(&self) -> &PipeName {
        self.instances.name()
    }

    /// Stops listening, and loses no client that has connected: [`accept`](Self::accept) goes on to
    /// return those, then fails with [`ConnectionAborted`](io::ErrorKind::ConnectionAborted), and
    /// [`incoming`](Self::incoming) ends. So go on to accept until then.
    ///
    /// No instance is added from now on. Those without a client are closed by the calls of `accept`
    /// that follow. A client that connects to one before is accepted too; one that connects in the
    /// instant in which it is closed reads the end of the pipe. Connections that were accepted go
    /// on, and keep the name in use until they end.
    ///
    /// ```no_run
    /// # async fn serve(listener: npipe::NamedPipeListener) {
    /// # async fn answer(client: npipe::NamedPipeServer) {}
    /// listener.stop_listening();
    /// while let Ok(client) = listener.accept().await {
    ///     answer(client).await;
    /// }
    /// # }
    /// ```
    pub fn stop_listening(&self) {
        if let State::Open { backlog, .. } = &mut *lock(&self.state) {
            backlog.stop(|stream| stream.stop_connecting());
        }
        self.bell.ring();
    }

    /// Ends the listener, whatever its clients do. Each [`accept`](Self::accept) that waits, and
    /// all later ones, fail with [`ConnectionAborted`](io::ErrorKind::ConnectionAborted), and
    /// [`incoming`](Self::incoming) ends.
    ///
    /// A client that has connected and was not accepted reads the end of the pipe, as does one that
    /// comes in the instant that the system needs to end the wait for it; one that comes later
    /// finds no such name. Connections that were accepted go on, and keep the name in use until
    /// they end.
    pub fn close(&self) {
        let before = std::mem::replace(&mut *lock(&self.state), State::Closed);
        drop(before);
        self.bell.ring();
    }

    /// `None`: the listener is closed, or has stopped and accepted its last client.
    fn poll_client(&self, context: &Context<'_>, key: Key) -> Poll<Option<io::Result<NamedPipeServer>>> {
        // First: what happens from here on rings.
        if let Err(missed) = register(&self.bell.0, lock(&self.bell.0), key, context) {
            missed.wake();
        }
        let look = lock(&self.state).look(&self.instances, &self.waker);
        let result = match look {
            Some(Ok(Look::Nobody(_))) => return Poll::Pending,
            Some(Ok(Look::Again)) => {
                self.bell.ring();
                return Poll::Pending;
            }
            Some(Ok(Look::Client(stream))) => {
                let stream = stream.named(self.local_name());
                stream.span().connected();
                Some(Ok(NamedPipeServer::from_stream(stream)))
            }
            Some(Err(error)) => Some(Err(error)),
            Some(Ok(Look::Stopped)) | None => None,
        };
        // The others need not be told of the instance that has taken the client's place: the client rang
        // for all of them.
        self.forget(key);
        Poll::Ready(result)
    }

    fn forget(&self, key: Key) {
        let waiting = lock(&self.bell.0).remove(key);
        drop(waiting);
    }
}

impl State {
    /// `None`: the listener is closed.
    fn look(&mut self, instances: &Instances, waker: &Waker) -> Option<io::Result<Look<Stream>>> {
        let Self::Open { backlog, retry } = self else { return None };
        let context = Context::from_waker(waker);
        let mut called = 0;
        let look = backlog.look(
            || on_port(instances.next()?),
            |stream| stream.find_client(&context, Key::POLL),
            || {
                called += 1;
                called == CALLED_AT_ONCE
            },
        );
        Some(look.and_then(|look| {
            let Look::Nobody(pause) = look else { return Ok(look) };
            *retry = pause.map(Deadline::after).transpose()?;
            let is_due = retry.as_ref().is_some_and(|retry| retry.poll(&context).is_ready());
            Ok(if is_due { Look::Again } else { look })
        }))
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "this listener has been closed")
}

impl fmt::Debug for NamedPipeListener {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("NamedPipeListener")
            .field("local_name", self.local_name())
            .finish_non_exhaustive()
    }
}

/// The clients of a listener, as they come: a [`Stream`](futures_core::Stream). Made by
/// [`NamedPipeListener::incoming`] and [`NamedPipeListener::into_incoming`].
///
/// Nothing is lost when it is dropped: a client that has come is there for the next `accept`.
#[must_use = "streams do nothing unless they are polled"]
pub struct Incoming<L: Borrow<NamedPipeListener>> {
    listener: L,
    key: Key,
    /// `poll_next` has returned `None`.
    ended: bool,
}

impl<L: Borrow<NamedPipeListener>> Incoming<L> {
    fn of(listener: L) -> Self {
        let key = lock(&listener.borrow().bell.0).key();
        Self { listener, key, ended: false }
    }

    fn poll(&self, context: &Context<'_>) -> Poll<Option<io::Result<NamedPipeServer>>> {
        self.listener.borrow().poll_client(context, self.key)
    }
}

impl<L: Borrow<NamedPipeListener>> futures_core::Stream for Incoming<L> {
    type Item = io::Result<NamedPipeServer>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = coop::poll(context, |context| self.poll(context));
        self.ended = matches!(next, Poll::Ready(None));
        next
    }
}

/// The listener is never pinned.
impl<L: Borrow<NamedPipeListener>> Unpin for Incoming<L> {}

impl<L: Borrow<NamedPipeListener>> futures_core::FusedStream for Incoming<L> {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl<L: Borrow<NamedPipeListener>> Drop for Incoming<L> {
    fn drop(&mut self) {
        self.listener.borrow().forget(self.key);
    }
}

impl<L: Borrow<NamedPipeListener>> fmt::Debug for Incoming<L> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Incoming").field(self.listener.borrow()).finish()
    }
}
