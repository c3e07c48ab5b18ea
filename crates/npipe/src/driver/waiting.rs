//! A task that waits, and how the many that one batch of packets concerns are woken with one thread
//! switch.

use std::task::Context;

use super::GuardedWaker;
#[cfg(feature = "tokio")]
use super::tokio_inbox::Inbox;
#[cfg(feature = "tokio")]
use crate::sync::Arc;

/// A task that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    waker: GuardedWaker,
    /// Of the Tokio runtime that polled the task.
    #[cfg(feature = "tokio")]
    inbox: Option<Arc<Inbox>>,
}

impl Waiting {
    pub(crate) fn new(context: &Context<'_>) -> Self {
        Self {
            waker: GuardedWaker::new(context),
            #[cfg(feature = "tokio")]
            inbox: Inbox::of_caller(),
        }
    }

    pub(crate) fn is_task_of(&self, context: &Context<'_>) -> bool {
        self.waker.will_wake(context)
    }

    /// Wakes the task from here.
    pub(crate) fn wake(self) {
        self.waker.wake();
    }

    /// Wakes all from a thread that is none of theirs, those of one Tokio runtime together.
    pub(super) fn wake_together(all: &mut Vec<Self>) {
        #[cfg(feature = "tokio")]
        if all.len() > 1 {
            super::tokio_inbox::post(all.drain(..).map(|waiting| (waiting.waker, waiting.inbox)));
        }
        all.drain(..).for_each(Self::wake);
    }
}
