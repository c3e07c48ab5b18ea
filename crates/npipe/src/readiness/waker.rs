//! Ending a poll from another thread.

use std::io;

use super::queue::Registration;
use super::{Registry, Token};
use crate::interest::{Interest, Ready};
use crate::sync::Arc;

/// Makes a [`Poll`](super::Poll) return, from any thread, with a readable event that has the
/// waker's token.
///
/// Wakes before a poll asks count as one. A `Poll` may have several wakers. When one is dropped,
/// nothing more is heard of it.
pub struct Waker {
    registration: Arc<Registration>,
}

impl Waker {
    /// A waker of the registry's `Poll`.
    ///
    /// # Errors
    ///
    /// [`NotConnected`](io::ErrorKind::NotConnected) when that `Poll` is gone.
    pub fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let registration = Registration::new(registry.queue().clone());
        registration.register(token, Interest::READABLE)?;
        Ok(Self { registration })
    }

    /// Wakes the `Poll`. A system call only if its thread sleeps.
    ///
    /// # Errors
    ///
    /// None today.
    pub fn wake(&self) -> io::Result<()> {
        self.registration.show(Ready::READABLE);
        Ok(())
    }
}

impl std::fmt::Debug for Waker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Waker").finish_non_exhaustive()
    }
}

impl Drop for Waker {
    fn drop(&mut self) {
        let _ = self.registration.deregister();
    }
}
