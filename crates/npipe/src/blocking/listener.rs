//! Accepting clients for threads: waiting on all instances of the backlog at once, and how another
//! thread stops that. Which instances there are, and which is given away when, is the [`Backlog`]'s
//! business.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::iter::FusedIterator;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::timeout::{cancelled, deadline_after, timed_out};
use super::{Canceller, PipeStream};
use crate::machine::{Backlog, Found, Look, verdict};
use crate::name::PipeName;
use crate::options::{Instances, ServerOptions};
use crate::retry::Retry;
use crate::stream::{Settings, has_left};
use crate::sync::lock;
use crate::sys::{self, Asked, Event, Instance, OwnedHandle, Until};

/// A server that accepts clients of a pipe, for threads.
///
/// It holds a [backlog](ServerOptions::backlog) of instances that no client has been accepted from,
/// and creates the next before it hands one out. So a burst of clients finds the pipe free, and the
/// name exists for as long as the listener does: no client finds it missing, and no other program
/// can take it.
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
///
/// # With a limit of instances
///
/// Of a pipe that has [`max_instances`](ServerOptions::max_instances) of *n*, the listener keeps
/// one: *n* - 1 clients are served at a time, the next one connects and is accepted when another
/// has gone. Of a pipe of one instance that instance is handed out. Its name goes with it, until
/// the listener can create the next.
pub struct PipeListener {
    instances: Instances,
    /// Set when something may have become of an instance.
    event: Arc<Event>,
    /// `None` while a thread waits, and after the listener was closed.
    backlog: Mutex<Option<Backlog<Waiting>>>,
    turns: Arc<Turns>,
}

/// An instance that waits for its client.
struct Waiting {
    instance: Instance,
    settings: Settings,
}

/// The turns of the threads that accept, and whether the listener goes on.
pub(super) struct Turns {
    state: Mutex<State>,
    changed: Condvar,
    stop: Event,
}

#[derive(Default)]
struct State {
    taken: bool,
    course: Course,
}

/// In this order: a listener does not go back.
#[derive(Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Course {
    #[default]
    Listening,
    /// Only clients that have connected are accepted.
    Stopping,
    Cancelled,
}

impl Turns {
    fn course(&self) -> Course {
        lock(&self.state).course
    }

    pub(super) fn cancel(&self) {
        self.advance(Course::Cancelled);
    }

    fn advance(&self, course: Course) {
        let mut state = lock(&self.state);
        state.course = state.course.max(course);
        drop(state);
        self.stop.set();
        self.changed.notify_all();
    }
}

impl ServerOptions {
    /// Creates the pipe `name` and a listener for threads: [`listen`](Self::listen) of the blocking
    /// API, with the same options.
    ///
    /// ```no_run
    /// use npipe::{PipeMode, ServerOptions};
    ///
    /// let listener = ServerOptions::new().pipe_mode(PipeMode::Message).listen_blocking("inventory")?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`listen`](Self::listen).
    #[doc(alias = "CreateNamedPipe")]
    pub fn listen_blocking(&self, name: impl AsRef<OsStr>) -> io::Result<PipeListener> {
        self.listen_blocking_timeout(name, Duration::ZERO)
    }

    /// [`listen_blocking`](Self::listen_blocking) that tries again for `timeout` while another
    /// program has the name: a service that is started again may find its predecessor still about
    /// to end.
    ///
    /// # Errors
    ///
    /// As [`listen_timeout`](Self::listen_timeout).
    pub fn listen_blocking_timeout(
        &self,
        name: impl AsRef<OsStr>,
        timeout: Duration,
    ) -> io::Result<PipeListener> {
        let instances = self.instances(name.as_ref())?;
        let event = Arc::new(Event::auto_reset()?);
        let mut retry = Retry::new(Some(timeout));
        let backlog = loop {
            match instances.begin(|made| Ok(Waiting::new(made, &event))) {
                Ok(backlog) => break backlog,
                Err(error) => thread::sleep(Instances::pause_before_retry(error, &mut retry)?),
            }
        };
        Ok(PipeListener {
            instances,
            event,
            backlog: Mutex::new(Some(backlog)),
            turns: Arc::new(Turns {
                state: Mutex::new(State::default()),
                changed: Condvar::new(),
                stop: Event::new()?,
            }),
        })
    }
}

impl PipeListener {
    /// Creates the pipe `name`, in any of the forms of [`PipeName::new`], for bytes in both
    /// directions. It is refused if the name exists already, and refuses clients on other
    /// machines. [`ServerOptions::listen_blocking`] has the options.
    ///
    /// Clients can open the pipe from now on, also before [`accept`](Self::accept) is called.
    ///
    /// Calls [`CreateNamedPipeW`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-createnamedpipew).
    ///
    /// # Errors
    ///
    /// As [`ServerOptions::create`]: [`PermissionDenied`](io::ErrorKind::PermissionDenied) when the
    /// name exists.
    pub fn bind(name: impl AsRef<OsStr>) -> io::Result<Self> {
        ServerOptions::new().listen_blocking(name)
    }

    /// [`bind`](Self::bind) that tries again for `timeout` while another program has the name: a
    /// service that is started again may find its predecessor still about to end.
    ///
    /// # Errors
    ///
    /// As [`ServerOptions::listen_blocking_timeout`].
    pub fn bind_timeout(name: impl AsRef<OsStr>, timeout: Duration) -> io::Result<Self> {
        ServerOptions::new().listen_blocking_timeout(name, timeout)
    }

    /// The pipe's name.
    pub fn local_name(&self) -> &PipeName {
        self.instances.name()
    }

    /// Returns a handle by which another thread stops this listener: an [`accept`](Self::accept)
    /// that waits, and all later ones, fail with
    /// [`ConnectionAborted`](io::ErrorKind::ConnectionAborted), and [`incoming`](Self::incoming)
    /// ends. A listener that was cancelled is there to be dropped, or [closed](Self::close).
    ///
    /// No client is lost: one that an `accept` has got is returned by it. A client that comes later
    /// finds the connection closed when the listener is dropped.
    pub fn canceller(&self) -> Canceller {
        Canceller::of_listener(&self.turns)
    }

    /// Stops listening, and loses no client that has connected: [`accept`](Self::accept) goes on to
    /// return those, then fails with [`ConnectionAborted`](io::ErrorKind::ConnectionAborted), and
    /// [`incoming`](Self::incoming) ends. So go on to accept until then. An `accept` that waits in
    /// another thread ends.
    ///
    /// No instance is added from now on. Those without a client are closed by the calls of `accept`
    /// that follow. A client that connects to one before is accepted too; one that connects in the
    /// instant in which it is closed reads the end of the pipe. Connections that were accepted go
    /// on, and keep the name in use until they end.
    ///
    /// ```no_run
    /// # fn serve(listener: npipe::blocking::PipeListener) {
    /// # fn answer(client: npipe::blocking::PipeStream) {}
    /// listener.stop_listening();
    /// while let Ok(client) = listener.accept() {
    ///     answer(client);
    /// }
    /// # }
    /// ```
    pub fn stop_listening(&self) {
        self.turns.advance(Course::Stopping);
    }

    /// Waits for a client.
    ///
    /// A client that came, wrote something and left before the call is a client: its bytes can be
    /// read, then the end. One that came and left without writing, as programs do that merely check
    /// whether a pipe exists, is passed over.
    ///
    /// Calls [`ConnectNamedPipe`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-connectnamedpipe).
    ///
    /// # Errors
    ///
    /// [`ConnectionAborted`](io::ErrorKind::ConnectionAborted) when the listener has been
    /// [cancelled](Canceller::cancel) or [closed](Self::close), or has
    /// [stopped](Self::stop_listening) and all its clients have been accepted. Other errors do not
    /// end the listener: one client could not be accepted, or memory or handles are exhausted, and
    /// the last instance cannot be handed out because no other can be created. That client stays;
    /// accept again after a moment.
    #[doc(alias = "ConnectNamedPipe")]
    pub fn accept(&self) -> io::Result<PipeStream> {
        self.accept_until(None)
    }

    /// [`accept`](Self::accept) that gives up after `timeout`. A time-out of zero takes a client
    /// that is there.
    ///
    /// However short the time, the call looks at each instance of the backlog twice. From then on
    /// it looks at the clock after each instance. Clients that connect and leave at once prolong
    /// the call by no more than that.
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept), and [`TimedOut`](io::ErrorKind::TimedOut) when no client came.
    /// Nothing is lost then: one that comes later, or came in that very moment, is there for
    /// the next `accept`.
    pub fn accept_timeout(&self, timeout: Duration) -> io::Result<PipeStream> {
        self.accept_until(deadline_after(timeout))
    }

    /// The clients as they come: [`accept`](Self::accept), again and again. Ends when the listener
    /// is cancelled or closed, or has [stopped](Self::stop_listening) and all its clients have been
    /// accepted.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// Ends the listener, whatever its clients do. Each [`accept`](Self::accept) that waits, and
    /// all later ones, fail with [`ConnectionAborted`](io::ErrorKind::ConnectionAborted), and
    /// [`incoming`](Self::incoming) ends.
    ///
    /// It waits for no client: an `accept` in another thread ends before it looks at its next
    /// instance, and then the kernel ends the wait of each instance. A client that has connected
    /// and was not accepted reads the end of the pipe; one that comes later finds no such name.
    /// Connections that were accepted go on, and keep the name in use until they end.
    pub fn close(&self) {
        self.turns.cancel();
        let mut state = lock(&self.turns.state);
        while state.taken {
            state = self.turns.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        let backlog = lock(&self.backlog).take();
        drop(backlog);
    }

    fn accept_until(&self, deadline: Option<Instant>) -> io::Result<PipeStream> {
        let Waiting { instance, settings } = self.take_turn(deadline)?.wait_for_client(deadline)?;
        Ok(PipeStream::named(instance.into_handle(), settings, self.local_name()))
    }

    fn take_turn(&self, deadline: Option<Instant>) -> io::Result<Turn<'_>> {
        let mut state = lock(&self.turns.state);
        loop {
            if state.course == Course::Cancelled {
                return Err(cancelled("listener"));
            }
            if !state.taken {
                let backlog =
                    lock(&self.backlog).take().expect("it is there between two turns, until the end");
                state.taken = true;
                return Ok(Turn { listener: self, backlog: Some(backlog) });
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

/// The right to wait for a client, and the instances to wait on. Given back when dropped.
struct Turn<'a> {
    listener: &'a PipeListener,
    backlog: Option<Backlog<Waiting>>,
}

impl Turn<'_> {
    fn wait_for_client(&mut self, deadline: Option<Instant>) -> io::Result<Waiting> {
        let PipeListener { instances, event, turns, .. } = self.listener;
        let backlog = self.backlog.as_mut().expect("it is given back by drop alone");
        let create = || instances.next().map(|made| Waiting::new(made, event));
        let is_late = || deadline.is_some_and(|deadline| deadline <= Instant::now());
        // However short the time, each instance is checked before and after the deadline: a client
        // that is connected is accepted.
        let mut looks = 0_u64;
        loop {
            let course = turns.course();
            if course == Course::Stopping {
                backlog.stop(Waiting::end_wait);
            }
            let mut begun = false;
            let ask = |waiting: &mut Waiting| {
                let found = if course == Course::Stopping { waiting.ask_last() } else { waiting.ask() }?;
                begun |= matches!(found, Found::Begun | Found::Renewed);
                Ok(found)
            };
            let cut = || match turns.course() {
                Course::Listening => looks > 1 && is_late(),
                Course::Stopping => course == Course::Listening,
                Course::Cancelled => true,
            };
            let pause = match backlog.look(create, ask, cut)? {
                Look::Client(client) => return Ok(client),
                Look::Stopped => return Err(cancelled("listener")),
                Look::Again => None,
                Look::Nobody(pause) => pause.and_then(deadline_after),
            };
            match turns.course() {
                Course::Listening => {}
                Course::Stopping => continue,
                Course::Cancelled => return Err(cancelled("listener")),
            }
            if looks > 0 && is_late() {
                return Err(no_client());
            }
            looks += 1;
            // An instance that began to listen reset the event, and with it the news of the others.
            if !begun {
                event.wait(Until {
                    deadline: deadline.into_iter().chain(pause).min(),
                    stop: Some(&turns.stop),
                });
            }
        }
    }
}

impl Waiting {
    fn new((handle, settings): (OwnedHandle, Settings), event: &Arc<Event>) -> Self {
        Self { instance: Instance::new(handle, event), settings }
    }

    /// Checks for a client. Without one, the instance listens afterwards: clients can open it
    /// although no accept runs.
    fn ask(&mut self) -> io::Result<Found> {
        let code = match self.instance.ask() {
            Asked::Waits => return Ok(Found::Nobody),
            Asked::Begun => return Ok(Found::Begun),
            Asked::Over(outcome) => outcome.code,
        };
        let available = || sys::bytes_available(self.instance.handle());
        match verdict::connect(code) {
            verdict::Connect::Complete if !has_left(available()) => return Ok(Found::Client),
            verdict::Connect::ClientLeft if available().is_ok_and(|bytes| bytes > 0) => {
                return Ok(Found::Client);
            }
            verdict::Connect::Complete | verdict::Connect::ClientLeft => {}
            // By another who has the handle, or with the thread that began the wait.
            verdict::Connect::Aborted => return Ok(self.listen(Found::Begun)),
            verdict::Connect::Failed(code) => return Err(io::Error::from_raw_os_error(code as i32)),
        }
        sys::disconnect(self.instance.handle())?;
        Ok(self.listen(Found::Renewed))
    }

    /// Ends the wait for a client, if one goes on.
    fn end_wait(&mut self) {
        self.instance.end_wait();
    }

    /// [`ask`](Self::ask) of an instance whose wait has been ended, and that is closed if it has no
    /// client.
    fn ask_last(&mut self) -> io::Result<Found> {
        // The first call has the result of that wait. If there is none, the second one finds a client
        // that has connected since.
        let found = match self.ask()? {
            Found::Client => Found::Client,
            Found::Nobody | Found::Begun | Found::Renewed => self.ask()?,
        };
        Ok(if found == Found::Client { Found::Client } else { Found::Begun })
    }

    /// Begins to listen. A result at once is dropped: the next call gives it again.
    fn listen(&mut self, found: Found) -> Found {
        self.instance.ask();
        found
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let turns = &self.listener.turns;
        let mut state = lock(&turns.state);
        *lock(&self.listener.backlog) = self.backlog.take();
        state.taken = false;
        drop(state);
        turns.changed.notify_all();
    }
}

fn no_client() -> io::Error {
    timed_out("no client came until the time to accept was over")
}

impl fmt::Debug for PipeListener {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PipeListener").field("local_name", self.local_name()).finish_non_exhaustive()
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
#[must_use = "iterators do nothing unless they are advanced"]
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
