//! Who has become ready and has not been handed out: the list between those who find it out, on any
//! thread, and the poll.
//!
//! Knows tokens and readiness; no pipe.

use std::collections::VecDeque;
use std::io;
use std::mem;

use super::event::Event;
use super::token::Token;
use crate::driver::Driver;
use crate::interest::{Interest, Ready};
use crate::stream::{Settings, Stream};
use crate::sync::{Arc, Mutex, MutexGuard, lock};
use crate::sys::OwnedHandle;

/// The list of a [`Poll`](super::Poll), which its registries and all that is registered share.
pub(super) struct Queue {
    driver: Arc<Driver>,
    alarm: Alarm,
    list: Mutex<List>,
}

/// What wakes the thread that would poll.
pub(super) enum Alarm {
    /// It sleeps in the port.
    Port,
    /// It sleeps in a loop of mio's.
    #[cfg(feature = "mio")]
    Mio(Arc<mio::Waker>),
}

struct List {
    ready: VecDeque<Arc<Registration>>,
    /// The next one who becomes ready has to wake the thread that would poll.
    asleep: bool,
    /// The poll is gone.
    closed: bool,
}

impl Queue {
    pub(super) fn new(driver: Arc<Driver>, alarm: Alarm) -> Arc<Self> {
        let asleep = !matches!(alarm, Alarm::Port);
        let list = List { ready: VecDeque::new(), asleep, closed: false };
        Arc::new(Self { driver, alarm, list: Mutex::new(list) })
    }

    pub(super) fn driver(&self) -> &Arc<Driver> {
        &self.driver
    }

    /// Whether the poll does not sleep in the port, so that somebody else dequeues.
    pub(super) fn is_attached(&self) -> bool {
        !matches!(self.alarm, Alarm::Port)
    }

    /// Ties a pipe to the port of the poll.
    pub(super) fn admit(&self, handle: Arc<OwnedHandle>, settings: Settings) -> io::Result<Stream> {
        // Under the lock: a poll that goes now either sees the pipe on its port, and leaves the port to
        // somebody, or is seen here to have gone.
        let list = lock(&self.list);
        list.check_open()?;
        Stream::on(handle, self.driver.clone(), settings)
    }

    fn check_open(&self) -> io::Result<()> {
        lock(&self.list).check_open()
    }

    fn push(&self, registration: Arc<Registration>) {
        let mut list = lock(&self.list);
        if list.closed {
            return;
        }
        list.ready.push_back(registration);
        let wake = mem::take(&mut list.asleep);
        drop(list);
        if wake {
            self.wake();
        }
    }

    /// Wakes the thread that would poll.
    pub(super) fn wake(&self) {
        match &self.alarm {
            Alarm::Port => self.driver.wake(),
            #[cfg(feature = "mio")]
            Alarm::Mio(waker) => {
                if waker.wake().is_err() {
                    lock(&self.list).asleep = true;
                }
            }
        }
    }

    /// Moves everybody who is ready behind `ready`.
    pub(super) fn take(&self, ready: &mut VecDeque<Arc<Registration>>) {
        let mut list = lock(&self.list);
        if ready.is_empty() {
            mem::swap(ready, &mut list.ready);
        } else {
            ready.append(&mut list.ready);
        }
        list.asleep = self.is_attached();
    }

    /// Whether the poll may sleep. If so, whoever becomes ready from now on wakes it.
    pub(super) fn fall_asleep(&self) -> bool {
        let mut list = lock(&self.list);
        list.asleep = list.ready.is_empty();
        list.asleep
    }

    /// The poll does not sleep any more.
    pub(super) fn awake(&self) {
        lock(&self.list).asleep = false;
    }

    /// The poll is gone, and nobody will ask.
    pub(super) fn close(&self) {
        let mut list = lock(&self.list);
        list.closed = true;
        let forgotten = mem::take(&mut list.ready);
        drop(list);
        drop(forgotten);
    }
}

impl List {
    fn check_open(&self) -> io::Result<()> {
        if self.closed {
            let why = "the `Poll` of this `Registry` is gone, so nothing can be registered with it";
            return Err(io::Error::new(io::ErrorKind::NotConnected, why));
        }
        Ok(())
    }
}

/// The place of a pipe, or of a waker, on a [`Queue`]: for life, registered or not.
pub(super) struct Registration {
    queue: Arc<Queue>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    registered: Option<(Token, Interest)>,
    /// What has become ready and has neither been handed out nor used up.
    ready: Ready,
    /// A `connect` has ended, which shows with this, whatever the interest.
    connected: Option<Ready>,
    /// It is on the list.
    queued: bool,
}

impl Registration {
    pub(super) fn new(queue: Arc<Queue>) -> Arc<Self> {
        Arc::new(Self { queue, state: Mutex::default() })
    }

    pub(super) fn register(self: &Arc<Self>, token: Token, interest: Interest) -> io::Result<()> {
        self.queue.check_open()?;
        let mut state = lock(&self.state);
        if state.registered.is_some() {
            return Err(already_exists(
                "already registered with a `Registry`: reregister it, or deregister it first",
            ));
        }
        state.registered = Some((token, interest));
        self.announce(state);
        Ok(())
    }

    pub(super) fn reregister(&self, token: Token, interest: Interest) -> io::Result<()> {
        let mut state = lock(&self.state);
        if state.registered.is_none() {
            return Err(not_found());
        }
        state.registered = Some((token, interest));
        state.ready &= relevant(interest);
        Ok(())
    }

    pub(super) fn deregister(&self) -> io::Result<()> {
        let mut state = lock(&self.state);
        if state.registered.is_none() {
            return Err(not_found());
        }
        // It may still be on the list, and is then passed over. The end of a `connect` shows with
        // the next registration.
        state.registered = None;
        state.ready = Ready::EMPTY;
        Ok(())
    }

    /// Fails if this is the registration with another queue.
    pub(super) fn check_same(&self, queue: &Arc<Queue>) -> io::Result<()> {
        if !Arc::ptr_eq(&self.queue, queue) {
            return Err(already_exists("already registered with a different `Registry`, which is for life"));
        }
        Ok(())
    }

    /// The interest, if it is registered.
    pub(super) fn interest(&self) -> Option<Interest> {
        lock(&self.state).registered.map(|(_, interest)| interest)
    }

    /// Something has become ready: the next poll tells, if anybody is interested.
    pub(super) fn show(self: &Arc<Self>, ready: Ready) {
        self.change(|state, interest| state.ready |= ready & relevant(interest));
    }

    /// Shows that a `connect` has ended, together with `ready`. Of a pipe that is not registered it
    /// shows with the next registration.
    pub(super) fn show_connected(self: &Arc<Self>, ready: Ready) {
        let mut state = lock(&self.state);
        state.connected = Some(ready);
        self.announce(state);
    }

    fn change(self: &Arc<Self>, change: impl FnOnce(&mut State, Interest)) {
        let mut state = lock(&self.state);
        let Some((_, interest)) = state.registered else { return };
        change(&mut state, interest);
        self.announce(state);
    }

    /// Puts it on the list if there is something to tell and it is not there yet.
    fn announce(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let news = state.registered.is_some() && (state.connected.is_some() || !state.ready.is_empty());
        if news && !mem::replace(&mut state.queued, true) {
            drop(state);
            self.queue.push(self.clone());
        }
    }

    /// Drops the events of the last connection: it is over, or a `connect` begins.
    pub(super) fn forget(&self) {
        let mut state = lock(&self.state);
        state.ready = Ready::EMPTY;
        state.connected = None;
    }

    /// `ready` is about to be acted upon. What becomes so from here on is told again. Gives the
    /// interest, if registered.
    pub(super) fn use_up(&self, ready: Ready) -> Option<Interest> {
        let mut state = lock(&self.state);
        state.ready -= ready;
        state.registered.map(|(_, interest)| interest)
    }

    /// What there is to tell, now that it has been taken off the list.
    pub(super) fn hand_out(&self) -> Option<Event> {
        let mut state = lock(&self.state);
        state.queued = false;
        let (token, _) = state.registered?;
        let mut ready = mem::take(&mut state.ready);
        if let Some(beside) = state.connected.take() {
            ready |= Ready::WRITABLE | beside;
        }
        (!ready.is_empty()).then(|| Event::new(token, ready))
    }
}

/// What there is to tell somebody with this interest.
fn relevant(interest: Interest) -> Ready {
    let mut ready = Ready::ERROR;
    if interest.is_readable() {
        ready |= Ready::READABLE | Ready::READ_CLOSED;
    }
    if interest.is_writable() {
        ready |= Ready::WRITABLE | Ready::WRITE_CLOSED;
    }
    ready
}

fn already_exists(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::AlreadyExists, why)
}

pub(super) fn not_found() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "not registered with a `Registry`")
}
