//! Accepting clients, one instance of the pipe after the other, and how another thread stops that.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::iter::FusedIterator;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::PipeStream;
use super::stream::Shared;
use super::timeout::{deadline_after, timed_out};
use crate::machine::verdict;
use crate::name::PipeName;
use crate::options::ServerOptions;
use crate::stream::Settings;
use crate::sync::lock;
use crate::sys::{self, Cut, Event, OwnedHandle, Until, Waited};

/// A server that accepts clients of a pipe, for threads.
///
/// It holds one instance that no client has yet, and creates the next before it hands out one that has. So the name exists for
/// as long as the listener does, and is never somebody else's in between.
///
/// ```no_run
/// use npipe::blocking::PipeListener;
///
/// let listener = PipeListener::bind("inventory")?;
/// for stream in listener.incoming() {
///     let mut stream = stream?;
///     std::thread::spawn(move || std::io::copy(&mut stream.try_clone()?, &mut stream));
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Several threads may accept at once; they take turns.
pub struct PipeListener {
    name: PipeName,
    options: ServerOptions,
    settings: Settings,
    /// The instance that waits for its client. `None` while a thread waits on it, and after one could not be created.
    instance: Mutex<Option<OwnedHandle>>,
    turns: Arc<Turns>,
}

/// Whose turn it is to accept, and whether that is over.
struct Turns {
    state: Mutex<State>,
    changed: Condvar,
    stop: Event,
}

#[derive(Default)]
struct State {
    taken: bool,
    cancelled: bool,
}

/// Stops a [`PipeListener`] from any thread. Made by [`PipeListener::canceller`]; it does not keep the pipe's name alive.
#[derive(Clone)]
pub struct Canceller(Arc<Turns>);

impl Canceller {
    /// Makes an [`accept`](PipeListener::accept) that waits, and all later ones, fail with
    /// [`ConnectionAborted`](io::ErrorKind::ConnectionAborted); [`incoming`](PipeListener::incoming) ends. For good: a listener
    /// that was cancelled is there to be dropped.
    ///
    /// No client is lost in between: one that an `accept` has got is returned by it. One that comes later finds the
    /// connection closed when the listener is dropped.
    pub fn cancel(&self) {
        lock(&self.0.state).cancelled = true;
        self.0.stop.set();
        self.0.changed.notify_all();
    }
}

impl fmt::Debug for Canceller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Canceller").finish_non_exhaustive()
    }
}

impl PipeListener {
    /// Creates the pipe `name`, in any of the forms of [`PipeName::new`], for bytes in both directions. It is refused if the
    /// name exists already, and refuses clients on other machines.
    ///
    /// Clients can open the pipe from now on, also before [`accept`](Self::accept) is called.
    ///
    /// Calls [`CreateNamedPipeW`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-createnamedpipew).
    ///
    /// # Errors
    ///
    /// As [`ServerOptions::create`]: [`PermissionDenied`](io::ErrorKind::PermissionDenied) when the name exists.
    pub fn bind(name: impl AsRef<OsStr>) -> io::Result<Self> {
        Self::bind_with(&ServerOptions::new(), name)
    }

    /// [`bind`](Self::bind) with options, which hold for every instance. Only
    /// [`first_pipe_instance`](ServerOptions::first_pipe_instance) concerns the first alone, and is yes unless it was set.
    ///
    /// ```no_run
    /// use npipe::blocking::PipeListener;
    /// use npipe::{PipeMode, ServerOptions};
    ///
    /// let listener = PipeListener::bind_with(ServerOptions::new().pipe_mode(PipeMode::Message), "inventory")?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`ServerOptions::create`].
    pub fn bind_with(options: &ServerOptions, name: impl AsRef<OsStr>) -> io::Result<Self> {
        let name = PipeName::new(name)?;
        let (first, later) = options.of_listener();
        let (handle, settings) = first.create_handle(name.as_os_str(), sys::SecurityAttributes::DEFAULT)?;
        Ok(Self {
            name,
            options: later,
            settings,
            instance: Mutex::new(Some(handle)),
            turns: Arc::new(Turns {
                state: Mutex::new(State::default()),
                changed: Condvar::new(),
                stop: Event::new()?,
            }),
        })
    }

    /// The pipe's name.
    pub fn name(&self) -> &PipeName {
        &self.name
    }

    /// A handle by which another thread stops this listener.
    pub fn canceller(&self) -> Canceller {
        Canceller(self.turns.clone())
    }

    /// Waits for a client.
    ///
    /// A client that came, wrote something and left before anybody looked is a client: its bytes can be read, then the end. One
    /// that came and left without a word, as programs do that merely look whether a pipe exists, is passed over.
    ///
    /// Calls [`ConnectNamedPipe`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-connectnamedpipe).
    ///
    /// # Errors
    ///
    /// [`ConnectionAborted`](io::ErrorKind::ConnectionAborted) when the listener has been [cancelled](Canceller::cancel).
    /// Else the system's. Where the *next* instance cannot be created, this client is returned and the next `accept` tries
    /// again and says why: `ERROR_PIPE_BUSY` when there are as many as
    /// [`max_instances`](ServerOptions::max_instances) allows, so accept again when a stream has been dropped.
    pub fn accept(&self) -> io::Result<PipeStream> {
        self.accept_until(None)
    }

    /// [`accept`](Self::accept) that waits no longer than `timeout`. Zero waits for nothing: it takes a client that is there.
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept), and [`TimedOut`](io::ErrorKind::TimedOut) when no client came. Nothing is lost then: one
    /// that comes later, or came in that very moment, is there for the next `accept`.
    pub fn accept_timeout(&self, timeout: Duration) -> io::Result<PipeStream> {
        self.accept_until(deadline_after(timeout))
    }

    /// The clients as they come: [`accept`](Self::accept), again and again. Ends when the listener is cancelled.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    fn accept_until(&self, deadline: Option<Instant>) -> io::Result<PipeStream> {
        let mut turn = self.take_turn(deadline)?;
        let connected = turn.wait_for_client(deadline)?;
        // Before the client's is handed out, so that there always is one.
        turn.instance = self.create_next().ok();
        drop(turn);
        Ok(PipeStream::from_shared(Shared::new(Arc::new(connected), self.settings, true)))
    }

    fn create_next(&self) -> io::Result<OwnedHandle> {
        let (handle, _) =
            self.options.create_handle(self.name.as_os_str(), sys::SecurityAttributes::DEFAULT)?;
        Ok(handle)
    }

    fn take_turn(&self, deadline: Option<Instant>) -> io::Result<Turn<'_>> {
        let mut state = lock(&self.turns.state);
        loop {
            if state.cancelled {
                return Err(cancelled());
            }
            if !state.taken {
                state.taken = true;
                return Ok(Turn { listener: self, instance: lock(&self.instance).take() });
            }
            let changed = &self.turns.changed;
            state = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return Err(no_client()),
                Some(left) => changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }
}

/// The right to wait for a client, and the instance to wait on. Given back when dropped.
struct Turn<'a> {
    listener: &'a PipeListener,
    instance: Option<OwnedHandle>,
}

impl Turn<'_> {
    /// Waits on the instance and takes it out when it has a client.
    fn wait_for_client(&mut self, deadline: Option<Instant>) -> io::Result<OwnedHandle> {
        let until = Until { deadline, stop: Some(&self.listener.turns.stop) };
        let instance = match self.instance.take() {
            Some(instance) => instance,
            None => self.listener.create_next()?,
        };
        // From here on the instance is put back whatever happens: it keeps the name.
        let instance = self.instance.insert(instance);
        loop {
            let Waited { outcome, cut } = sys::connect_waiting(instance, until)?;
            match (verdict::connect(outcome.code), cut) {
                (verdict::Connect::Complete, _) => break,
                (verdict::Connect::ClientLeft, _) => {
                    if sys::bytes_available(instance).is_ok_and(|bytes| bytes > 0) {
                        break;
                    }
                    sys::disconnect(instance)?;
                }
                (verdict::Connect::Aborted, Some(Cut::Late)) => return Err(no_client()),
                (verdict::Connect::Aborted, Some(Cut::Stopped)) => return Err(cancelled()),
                // By someone else.
                (verdict::Connect::Aborted, None) => {}
                (verdict::Connect::Failed(code), _) => return Err(io::Error::from_raw_os_error(code as i32)),
            }
        }
        Ok(self.instance.take().expect("it was put there above"))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let turns = &self.listener.turns;
        let mut state = lock(&turns.state);
        *lock(&self.listener.instance) = self.instance.take();
        state.taken = false;
        drop(state);
        turns.changed.notify_one();
    }
}

fn cancelled() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "this listener has been cancelled")
}

fn no_client() -> io::Error {
    timed_out("no client came until the time to accept was over")
}

impl fmt::Debug for PipeListener {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PipeListener").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<'a> IntoIterator for &'a PipeListener {
    type Item = io::Result<PipeStream>;
    type IntoIter = Incoming<'a>;

    fn into_iter(self) -> Incoming<'a> {
        self.incoming()
    }
}

/// The clients of a [`PipeListener`]; made by [`PipeListener::incoming`].
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a PipeListener,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<PipeStream>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.listener.accept() {
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => None,
            result => Some(result),
        }
    }
}

impl FusedIterator for Incoming<'_> {}
