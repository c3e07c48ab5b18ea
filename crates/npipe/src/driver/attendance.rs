//! Who waits on a port, and for how long somebody has to.
//!
//! A port of its own saves its owner the switch to another thread: the owner dequeues where it
//! would otherwise sleep. But pipes may outlive the owner's interest, with operations in flight
//! whose packets must not go unheard. So each pipe has a [`Registration`](super::Registration), and
//! an owner that goes while there are any leaves the port to a *caretaker*: a thread that dequeues
//! until the last of them is gone.

use std::time::Duration;

use super::{Batch, Driver};
use crate::sync::{Arc, Condvar, Mutex, lock};

/// The state of a port's attendance.
#[derive(Default)]
pub(super) struct Attendance {
    attendant: Mutex<Attendant>,
    caretaker_left: Condvar,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Attendant {
    /// Somebody who calls [`Driver::turn`] when it suits.
    #[default]
    Owner,
    Caretaker,
    /// The owner has come back and waits for the caretaker to leave.
    CaretakerLeaving,
}

impl Driver {
    /// Nobody is left for whom a background thread would have to dequeue.
    pub(super) fn last_registration_is_gone(&self) {
        if *lock(&self.attendance.attendant) == Attendant::Caretaker {
            self.port.wake();
        }
    }

    /// The owner will not call [`turn`](Self::turn) any more, or not before
    /// [`take_back`](Self::take_back).
    pub(crate) fn hand_over(self: &Arc<Self>) {
        self.see_off();
        {
            let mut attendant = lock(&self.attendance.attendant);
            if *attendant != Attendant::Owner || !self.has_registrations() {
                return;
            }
            *attendant = Attendant::Caretaker;
        }
        let driver = self.clone();
        let started =
            std::thread::Builder::new().name("npipe-caretaker".into()).spawn(move || driver.take_care());
        if started.is_err() {
            // Without a thread these pipes stand still. The owner may come back.
            *lock(&self.attendance.attendant) = Attendant::Owner;
        }
    }

    /// The owner is back: from here it alone dequeues.
    pub(crate) fn take_back(&self) {
        let mut attendant = lock(&self.attendance.attendant);
        if *attendant == Attendant::Caretaker {
            *attendant = Attendant::CaretakerLeaving;
            self.port.wake();
        }
        while *attendant != Attendant::Owner {
            attendant = self
                .attendance
                .caretaker_left
                .wait(attendant)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }

    /// Dequeues until the last registration is gone.
    pub(crate) fn serve_to_the_end(&self) {
        *lock(&self.attendance.attendant) = Attendant::Caretaker;
        self.take_care();
    }

    /// Dequeues what is there: a pipe that was dropped is registered until the packets of its
    /// cancelled operations have come.
    fn see_off(&self) {
        let mut batch = Batch::new();
        while self.has_registrations() && self.collect(&mut batch, Some(Duration::ZERO)) > 0 {
            batch.wake_all();
        }
    }

    fn take_care(&self) {
        let mut batch = Batch::new();
        while self.is_wanted() {
            self.serve(&mut batch);
        }
    }

    /// Whether the caretaker is to go on. If not, it has left.
    fn is_wanted(&self) -> bool {
        let mut attendant = lock(&self.attendance.attendant);
        let wanted = *attendant == Attendant::Caretaker && self.has_registrations();
        if !wanted {
            *attendant = Attendant::Owner;
            self.attendance.caretaker_left.notify_all();
        }
        wanted
    }
}
