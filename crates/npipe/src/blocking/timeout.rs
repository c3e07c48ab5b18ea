//! The end of a wait.

use std::io;
use std::time::{Duration, Instant};

/// The end of a wait that begins now. One beyond the end of the clock is none.
pub(super) fn deadline_after(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}

/// The error of a wait whose time was over.
pub(super) fn timed_out(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}
