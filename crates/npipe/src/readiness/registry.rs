//! Where pipes are registered.

use std::io;

use super::event::Source;
use super::queue::Queue;
use super::token::Token;
use crate::interest::Interest;
use crate::sync::Arc;

/// Registers pipes with a [`Poll`](super::Poll), from any thread.
///
/// A handle is tied to a completion port for life, so a pipe that was registered with one `Poll`
/// cannot be with another, also when it has been deregistered.
pub struct Registry {
    queue: Arc<Queue>,
}

impl Registry {
    pub(super) fn new(queue: Arc<Queue>) -> Self {
        Self { queue }
    }

    pub(super) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// From now on the `Poll` tells when something of `interests` becomes ready, and that `token`
    /// is concerned. What is ready already is told by the next poll.
    ///
    /// # Errors
    ///
    /// - [`AlreadyExists`](io::ErrorKind::AlreadyExists) when it is registered already, or has once
    ///   been with another `Poll`.
    /// - [`InvalidInput`](io::ErrorKind::InvalidInput) when `interests` has neither reading nor
    ///   writing in it.
    /// - [`NotConnected`](io::ErrorKind::NotConnected) when the `Poll` is gone.
    /// - The system's, when a handle that was made elsewhere is not a pipe's, was not opened with
    ///   `FILE_FLAG_OVERLAPPED`, or belongs to a completion port already.
    ///
    /// It is then as before.
    pub fn register<S>(&self, source: &mut S, token: Token, interests: Interest) -> io::Result<()>
    where
        S: Source + ?Sized,
    {
        source.register(self, token, interests)
    }

    /// Another token, another interest. What is ready is told again.
    ///
    /// # Errors
    ///
    /// - [`NotFound`](io::ErrorKind::NotFound) when it is not registered.
    /// - [`AlreadyExists`](io::ErrorKind::AlreadyExists) when it is with another `Poll`.
    /// - [`InvalidInput`](io::ErrorKind::InvalidInput) when `interests` has neither reading nor
    ///   writing in it.
    pub fn reregister<S>(&self, source: &mut S, token: Token, interests: Interest) -> io::Result<()>
    where
        S: Source + ?Sized,
    {
        source.reregister(self, token, interests)
    }

    /// From now on no poll tells of it. Reads and writes say "would block" until it is registered
    /// again.
    ///
    /// # Errors
    ///
    /// - [`NotFound`](io::ErrorKind::NotFound) when it is not registered.
    /// - [`AlreadyExists`](io::ErrorKind::AlreadyExists) when it is with another `Poll`.
    pub fn deregister<S>(&self, source: &mut S) -> io::Result<()>
    where
        S: Source + ?Sized,
    {
        source.deregister(self)
    }

    /// Another registry of the same `Poll`.
    ///
    /// # Errors
    ///
    /// None today.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { queue: self.queue.clone() })
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Registry").finish_non_exhaustive()
    }
}
