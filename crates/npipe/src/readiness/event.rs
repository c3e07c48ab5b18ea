//! What a poll tells, and who can be registered with one. The names are those of `mio::event`.

use std::{io, slice};

use super::{Registry, Token};
use crate::interest::{Interest, Ready};

/// That something has become ready. What it is, is a hint: the operation tells, and may say "would
/// block" all the same.
#[derive(Debug, Clone)]
pub struct Event {
    token: Token,
    ready: Ready,
}

impl Event {
    pub(super) fn new(token: Token, ready: Ready) -> Self {
        Self { token, ready }
    }

    /// The token that it was registered with.
    pub fn token(&self) -> Token {
        self.token
    }

    /// A read would have a result: bytes, the end, or an error. Also what a [`Waker`](super::Waker)
    /// shows.
    pub fn is_readable(&self) -> bool {
        self.ready.is_readable()
    }

    /// A write would be accepted, or fail; or a [`connect`](super::NamedPipe::connect) has ended.
    pub fn is_writable(&self) -> bool {
        self.ready.is_writable()
    }

    /// A [`connect`](super::NamedPipe::connect) has failed:
    /// [`take_error`](super::NamedPipe::take_error) has the reason. Other errors are told by
    /// the read or the write that they belong to.
    pub fn is_error(&self) -> bool {
        self.ready.is_error()
    }

    /// The next read will report the end or an error, as far as is known. An end behind bytes shows
    /// up later, when those have been read.
    pub fn is_read_closed(&self) -> bool {
        self.ready.is_read_closed()
    }

    /// Never so for a pipe: a write tells.
    pub fn is_write_closed(&self) -> bool {
        self.ready.is_write_closed()
    }

    /// Never so for a pipe.
    pub fn is_priority(&self) -> bool {
        false
    }

    /// Never so for a pipe.
    pub fn is_aio(&self) -> bool {
        false
    }

    /// Never so for a pipe.
    pub fn is_lio(&self) -> bool {
        false
    }
}

/// Memory for what a poll tells, to be used again for the next.
#[derive(Debug)]
pub struct Events {
    events: Vec<Event>,
    capacity: usize,
}

/// How many events [`Events::with_capacity`] makes room for ahead. Beyond, room is made when they
/// come.
const ALLOCATED_AHEAD: usize = 1024;

impl Events {
    /// Room for so many events a poll. What does not fit comes with the next poll. A poll refuses a
    /// capacity of 0.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { events: Vec::with_capacity(capacity.min(ALLOCATED_AHEAD)), capacity }
    }

    /// How many events a poll gives at most.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether the last poll gave none.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The events of the last poll.
    pub fn iter(&self) -> Iter<'_> {
        Iter(self.events.iter())
    }

    /// Forgets the events of the last poll, as the next one does by itself.
    pub fn clear(&mut self) {
        self.events.clear();
    }

    pub(super) fn is_full(&self) -> bool {
        self.events.len() >= self.capacity
    }

    pub(super) fn push(&mut self, event: Event) {
        self.events.push(event);
    }
}

impl<'a> IntoIterator for &'a Events {
    type Item = &'a Event;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The events of one poll, in the order in which they became ready.
#[derive(Debug, Clone)]
pub struct Iter<'a>(slice::Iter<'a, Event>);

impl<'a> Iterator for Iter<'a> {
    type Item = &'a Event;

    fn next(&mut self) -> Option<&'a Event> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for Iter<'_> {}

/// A type that can be registered with a [`Poll`](super::Poll): a [`NamedPipe`](super::NamedPipe), or
/// a type of a program that passes these calls on to one. They are called by the methods of the
/// same names of [`Registry`], which document them.
///
/// The trait is not sealed, as that of mio is not. A `Registry` calls each method once for each
/// call of its own, on the thread of the caller, holds no lock meanwhile, and returns its result. A
/// method without a default implementation is added in a new major version only.
pub trait Source {
    /// See [`Registry::register`].
    ///
    /// # Errors
    ///
    /// As there.
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()>;

    /// See [`Registry::reregister`].
    ///
    /// # Errors
    ///
    /// As there.
    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()>;

    /// See [`Registry::deregister`].
    ///
    /// # Errors
    ///
    /// As there.
    fn deregister(&mut self, registry: &Registry) -> io::Result<()>;
}

impl<S: Source + ?Sized> Source for Box<S> {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        (**self).register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        (**self).reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        (**self).deregister(registry)
    }
}
