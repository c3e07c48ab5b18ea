//! The end of a wait.

use std::io;
use std::time::{Duration, Instant};

use crate::stream::Limit;
use crate::sys::Cut;

/// The end of a wait that begins now. One beyond the end of the clock is none.
pub(super) fn deadline_after(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}

/// The error of a wait whose time was over.
pub(super) fn timed_out(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

/// The error of a wait that a [`Canceller`](super::Canceller) has ended.
pub(super) fn cancelled(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, format!("this {what} has been cancelled"))
}

/// The error of a wait of a stream that was cut short. `late` is the text for one whose time was
/// over.
pub(super) fn cut_short(cut: Cut, late: &str) -> io::Error {
    match cut {
        Cut::Late => timed_out(late),
        Cut::Stopped => cancelled("stream"),
    }
}

/// Fails if the wait is to end, after a read that is no result. A peer causes any number of these,
/// so each checks the time.
pub(super) fn passed_over(limit: Limit<'_>) -> io::Result<()> {
    if limit.is_stopped() {
        return Err(cancelled("stream"));
    }
    if limit.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
        return Err(timed_out(
            "nothing but empty messages, or the rest of a refused one, came until the time to read was over",
        ));
    }
    Ok(())
}
