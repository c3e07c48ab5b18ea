//! The decisions, without an operating system: what to submit next, whom to wake, what an outcome
//! means.
//!
//! Events go in, effects come out. No handle, no clock, no thread, no lock and no waker in here, so
//! every schedule of a kernel can be played through on any machine, from a seed. [`verdict`] is the
//! one place that knows what a Win32 code means; its constants are the only thing taken from
//! Windows.
//!
//! A connected pipe is two independent machines, [`ReadAhead`] and [`WriteBehind`]; a server's
//! instance has a third for its [`Lifecycle`]. Each owns a [`slot::Slot`], which says whose the
//! operation is. A listener's instances are a [`Backlog`]; whoever waits for what may be had later
//! pauses as a [`BackOff`] says.

mod back_off;
mod backlog;
mod lifecycle;
mod read_ahead;
mod slot;
pub(crate) mod verdict;
mod write_behind;

pub(crate) use back_off::BackOff;
pub(crate) use backlog::{Backlog, Found, Look};
pub(crate) use lifecycle::{ConnectStep, Connected, Lifecycle};
pub(crate) use read_ahead::{MessageStep, ReadAhead, ReadDone, ReadEnd, ReadStep, RestDone, Unread};
pub(crate) use write_behind::{EndStep, FlushStep, Refused, WriteBehind, WriteStep};

/// Whether the units of a direction are bytes or messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// A stream of bytes: what one call wrote may be merged or split.
    Bytes,
    /// Messages: what one call wrote is one unit.
    Messages,
    /// Not asked yet. A client cannot tell from how it opened a pipe whether its writes are
    /// messages.
    Unknown,
}

impl Framing {
    /// The framing of a direction of which it is known.
    pub(crate) fn of(messages: bool) -> Self {
        if messages { Self::Messages } else { Self::Bytes }
    }
}

/// What one direction of a pipe holds at most, in bytes, unless told otherwise.
pub(crate) const DEFAULT_LIMIT: usize = 256 * 1024;

/// The default limit of a received message, in bytes: far more than messages usually have, and not
/// more than a process can spare for a hostile peer.
pub(crate) const DEFAULT_MESSAGE_LIMIT: usize = 64 * 1024 * 1024;

/// No buffer has more bytes than that.
pub(crate) const LONGEST_BUFFER: usize = isize::MAX as usize;

/// Returns whether a message of this length can be sent: one buffer has to hold it, and one call
/// has to take it.
pub(crate) fn is_sendable(length: usize) -> bool {
    length <= LONGEST_BUFFER && u32::try_from(length).is_ok()
}

/// The sum of the lengths of slices. They may overlap, so that the sum need not fit: then it is one
/// that no buffer has.
pub(crate) fn total_length(lengths: impl IntoIterator<Item = usize>) -> usize {
    lengths.into_iter().fold(0, usize::saturating_add)
}

/// What one read into a buffer of ours or one write of bytes moves at most. More costs the kernel's
/// allocator what it saves in calls, and a pipe with Windows' usual quota of 64 KiB would make it
/// wait (measured: 128 KiB is no faster).
const LARGEST_TRANSFER: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_that_do_not_fit_are_not_sendable() {
        assert_eq!(total_length([1, 2, 3]), 6);
        assert!(is_sendable(total_length([1 << 20, 5])));
        assert!(!is_sendable(total_length([u32::MAX as usize, 1])));
        assert!(!is_sendable(total_length([usize::MAX, 1])));
        assert!(!is_sendable(total_length([usize::MAX / 2; 3])));
    }
}
