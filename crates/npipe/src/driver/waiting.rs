//! A task that waits, and how the many that one batch of packets concerns are woken with one thread switch.

use std::task::{Context, Waker};

#[cfg(feature = "tokio")]
use super::tokio_inbox::Inbox;
#[cfg(feature = "tokio")]
use crate::sync::Arc;

/// A task that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    waker: Waker,
    /// Of the Tokio runtime that polled the task.
    #[cfg(feature = "tokio")]
    inbox: Option<Arc<Inbox>>,
}

impl Waiting {
    pub(crate) fn new(context: &Context<'_>) -> Self {
        Self {
            waker: context.waker().clone(),
            #[cfg(feature = "tokio")]
            inbox: Inbox::of_caller(),
        }
    }

    pub(crate) fn is_task_of(&self, context: &Context<'_>) -> bool {
        self.waker.will_wake(context.waker())
    }

    /// Wakes the task from here.
    pub(crate) fn wake(self) {
        wake(self.waker);
    }

    /// Wakes all from a thread that is none of theirs, those of one Tokio runtime together.
    pub(super) fn wake_together(all: &mut Vec<Self>, driver: &super::Driver) {
        #[cfg(feature = "tokio")]
        if all.len() > 1 {
            super::tokio_inbox::post(driver, all.drain(..).map(|waiting| (waiting.waker, waiting.inbox)));
        }
        #[cfg(not(feature = "tokio"))]
        let _ = driver;
        all.drain(..).for_each(Self::wake);
    }
}

/// A waker is foreign code. One that panics must not take every pipe on a port with it.
pub(super) fn wake(waker: Waker) {
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| waker.wake()));
}
