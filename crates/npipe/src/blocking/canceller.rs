//! Ending waits from another thread.

use std::fmt;
use std::sync::Arc;

use super::listener::Turns;
use crate::stream::Stop;

/// Ends the waits of a [`PipeListener`](super::PipeListener) or a [`PipeStream`](super::PipeStream)
/// from any thread. Made by [`PipeListener::canceller`](super::PipeListener::canceller) and
/// [`PipeStream::canceller`](super::PipeStream::canceller), which describe what happens then. It
/// does not keep the pipe open.
///
/// ```no_run
/// use std::io::{ErrorKind, Read};
/// use std::thread;
///
/// let stream = npipe::blocking::PipeStream::connect("inventory")?;
/// let canceller = stream.canceller()?;
/// let reading = thread::spawn(move || {
///     let error = (&stream).read(&mut [0; 64]).unwrap_err();
///     assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
/// });
/// canceller.cancel();
/// reading.join().unwrap();
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
#[must_use = "a canceller that is dropped ends nothing"]
pub struct Canceller(Of);

#[derive(Clone)]
enum Of {
    Listener(Arc<Turns>),
    Stream(Arc<Stop>),
}

impl Canceller {
    pub(super) fn of_listener(turns: &Arc<Turns>) -> Self {
        Self(Of::Listener(turns.clone()))
    }

    pub(super) fn of_stream(stop: Arc<Stop>) -> Self {
        Self(Of::Stream(stop))
    }

    /// Makes calls that wait, and later ones that would have to, fail with
    /// [`ConnectionAborted`](std::io::ErrorKind::ConnectionAborted); a write that waits
    /// [counts as written](super::PipeStream::canceller). For good: there is no way back.
    pub fn cancel(&self) {
        match &self.0 {
            Of::Listener(turns) => turns.cancel(),
            Of::Stream(stop) => stop.request(),
        }
    }
}

impl fmt::Debug for Canceller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Canceller").finish_non_exhaustive()
    }
}
