//! The end of a wait.

use std::io;
use std::time::{Duration, Instant};

use crate::sys::Until;

/// The end of a wait that begins now. One beyond the end of the clock is none.
pub(super) fn deadline_after(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}

/// The error of a wait whose time was over.
pub(super) fn timed_out(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

/// Fails if the time of a wait is over, after a read that is no result. A peer causes any number of
/// these, so each checks the time.
pub(super) fn passed_over(until: Until<'_>) -> io::Result<()> {
    if until.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
        return Err(timed_out(
            "nothing but empty messages, or the rest of a refused one, came until the time to read was over",
        ));
    }
    Ok(())
}
