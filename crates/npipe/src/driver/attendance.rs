//! Who waits on a port, and for how long somebody has to.
//!
//! A port of its own saves its owner the switch to another thread: the owner dequeues where it would otherwise sleep. But
//! pipes may outlive the owner's interest, with operations in flight whose packets must not go unheard. So each pipe is a
//! *tenant* of its port, and an owner that goes while it has tenants leaves the port to a *caretaker*: a thread that dequeues
//! until the last of them is gone.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Batch, Driver};
use crate::sync::{Arc, Condvar, Mutex, lock};
use crate::sys::OwnedHandle;

/// The state of a port's attendance.
#[derive(Default)]
pub(super) struct Attendance {
    tenants: AtomicUsize,
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

/// A pipe's place on a port. The port is attended for as long as there is one.
pub(crate) struct Tenancy(Arc<Driver>);

impl std::ops::Deref for Tenancy {
    type Target = Driver;

    fn deref(&self) -> &Driver {
        &self.0
    }
}

impl Drop for Tenancy {
    fn drop(&mut self) {
        let attendance = &self.0.attendance;
        let last = attendance.tenants.fetch_sub(1, Ordering::SeqCst) == 1;
        if last && *lock(&attendance.attendant) == Attendant::Caretaker {
            self.0.port.wake();
        }
    }
}

impl Driver {
    /// Ties a handle to the port, for life.
    pub(crate) fn admit(self: &Arc<Self>, handle: &OwnedHandle) -> std::io::Result<Tenancy> {
        self.port.associate(handle)?;
        self.attendance.tenants.fetch_add(1, Ordering::SeqCst);
        Ok(Tenancy(self.clone()))
    }

    /// The owner will not call [`turn`](Self::turn) any more, or not before [`take_back`](Self::take_back).
    pub(crate) fn hand_over(self: &Arc<Self>) {
        self.see_off();
        {
            let mut attendant = lock(&self.attendance.attendant);
            if *attendant != Attendant::Owner || !self.has_tenants() {
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

    /// Dequeues until the last tenant is gone.
    pub(crate) fn serve_to_the_end(&self) {
        *lock(&self.attendance.attendant) = Attendant::Caretaker;
        self.take_care();
    }

    /// Dequeues what is there: a pipe that was dropped is a tenant until the packets of its cancelled operations have come.
    fn see_off(&self) {
        let mut batch = Batch::new();
        while self.has_tenants() && self.collect(&mut batch, Some(Duration::ZERO)) > 0 {
            batch.wake_all();
        }
    }

    fn has_tenants(&self) -> bool {
        self.attendance.tenants.load(Ordering::SeqCst) > 0
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
        let wanted = *attendant == Attendant::Caretaker && self.has_tenants();
        if !wanted {
            *attendant = Attendant::Owner;
            self.attendance.caretaker_left.notify_all();
        }
        wanted
    }
}
