//! Win32 without decisions: one function a call, which reports what the system said.
//!
//! Nothing here knows what a code means for a reader or a writer, when to call what, or what a pipe
//! is for. The layers above see the same small surface on Windows and, in native tests, on a
//! simulated kernel.

#![expect(unsafe_code, reason = "the door to the operating system")]

use ::windows_sys::Win32::Foundation::{ERROR_MORE_DATA, ERROR_SUCCESS};

#[cfg(windows)]
mod windows;
#[cfg(windows)]
pub(crate) use windows::*;

#[cfg(all(any(test, fuzzing), not(windows)))]
pub(crate) mod simulated;
#[cfg(all(any(test, fuzzing), not(windows)))]
pub(crate) use simulated::*;

/// How an operation ended: a Win32 code (0 is success) and the bytes it moved.
///
/// Both are reported as the system gave them. `ERROR_MORE_DATA`, a warning, comes with a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The Win32 error code, 0 for success.
    pub(crate) code: u32,
    /// Bytes transferred.
    pub(crate) bytes: usize,
}

impl Outcome {
    /// Returns whether the operation has succeeded, if with a warning. Then it may have queued a
    /// packet; a failure at once never does.
    pub(crate) fn is_success(self) -> bool {
        matches!(self.code, ERROR_SUCCESS | ERROR_MORE_DATA)
    }
}

/// Which operations on a handle queue a packet on its port. It holds for the file object, for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packets {
    /// Those that could not be finished at once: `FILE_SKIP_COMPLETION_PORT_ON_SUCCESS`.
    OfPending,
    /// All but those that failed at once, which is how Windows begins.
    OfAll,
}

impl Default for Packets {
    fn default() -> Self {
        if cfg!(npipe_test_always_queue) { Self::OfAll } else { Self::OfPending }
    }
}

/// What `PeekNamedPipe` says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peeked {
    pub(crate) available: usize,
    /// Of the message that is next, or was begun. 0 on a pipe of bytes, and for an empty message.
    pub(crate) left_in_message: usize,
}

/// The kernel's answer to submitting an overlapped operation on a handle with
/// [`Packets::OfPending`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Submission {
    /// It is over, and no packet will come: the block is the caller's again.
    Finished(Outcome),
    /// It goes on, and exactly one packet will come: until then the block is the kernel's.
    Pending,
}
