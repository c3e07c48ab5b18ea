//! Server instances whose wait for a client outlasts the call that began it: many of them are
//! waited for together, by one event. It is reset by the wait that it ends, and by the kernel when
//! an operation that reports to it begins; so who waits has to look at every instance after the
//! last one was asked, and before it waits.

use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::rc::Rc;
use std::sync::Arc;

use windows_sys::Win32::Foundation::ERROR_IO_PENDING;
use windows_sys::Win32::System::Pipes::ConnectNamedPipe;

use super::event::{Event, Until};
use super::io::{Overlapped, cancel};
use crate::sys::Outcome;

/// An instance that waits for its client, or has one.
pub(crate) struct Instance {
    /// `None`: it was given away.
    handle: Option<OwnedHandle>,
    /// Reached by reference only while it is the kernel's too, hence no `Box`.
    waiting: Option<Rc<Overlapped>>,
    event: Arc<Event>,
}

// SAFETY: the block has no other owner than this value, and nothing else touches its count. It is
// shared with the kernel alone, which accepts requests about it from any thread. Reading it
// meanwhile is for `Overlapped::is_final`.
unsafe impl Send for Instance {}

/// What [`Instance::ask`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The wait is over.
    Over(Outcome),
    /// It goes on, as before.
    Waits,
    /// It has just begun.
    Begun,
}

impl Instance {
    /// An instance that reports to `event`, which has to be an [auto-reset](Event::auto_reset) one.
    pub(crate) fn new(handle: OwnedHandle, event: &Arc<Event>) -> Self {
        Self { handle: Some(handle), waiting: None, event: event.clone() }
    }

    pub(crate) fn handle(&self) -> &OwnedHandle {
        self.handle.as_ref().expect("only a value that is gone has given its handle away")
    }

    /// [`ConnectNamedPipe`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-connectnamedpipe), unless one
    /// goes on; its outcome, if it is over.
    pub(crate) fn ask(&mut self) -> Asked {
        if let Some(waiting) = &self.waiting {
            if !waiting.is_final() {
                return Asked::Waits;
            }
            let outcome = waiting.outcome();
            self.waiting = None;
            return Asked::Over(outcome);
        }
        let overlapped = Rc::new(Overlapped::with_event(self.event.handle()));
        // SAFETY: the handle is open, and so is the event; the block stays in place until it is final, by
        // `waiting` and by `drop`.
        let connected = unsafe { ConnectNamedPipe(self.handle().as_raw_handle(), overlapped.as_ptr()) };
        match if connected != 0 { 0 } else { super::last_error() } {
            ERROR_IO_PENDING => {
                self.waiting = Some(overlapped);
                Asked::Begun
            }
            code => Asked::Over(Outcome { code, bytes: 0 }),
        }
    }

    /// The handle, of an instance that does not wait.
    pub(crate) fn into_handle(mut self) -> OwnedHandle {
        self.stop();
        self.handle.take().expect("only a value that is gone has given its handle away")
    }

    /// Ends the wait, if there is one. The next [`ask`](Self::ask) has its outcome.
    pub(crate) fn end_wait(&mut self) {
        let Some(waiting) = &self.waiting else { return };
        cancel(self.handle(), waiting);
        while !waiting.is_final() {
            // Set when this wait ends, if not before by another.
            self.event.wait(Until::default());
        }
    }

    fn stop(&mut self) {
        self.end_wait();
        self.waiting = None;
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.stop();
    }
}
