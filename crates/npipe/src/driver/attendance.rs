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
#[cfg(windows)]
use crate::sys::Port;

/// The state of a port's attendance.
#[derive(Default)]
pub(super) struct Attendance {
    tenants: AtomicUsize,
    attendant: Mutex<Attendant>,
    caretaker_left: Condvar,
    last_key: AtomicUsize,
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
pub(crate) struct Tenancy {
    driver: Arc<Driver>,
    /// What the packets of the pipe carry.
    #[cfg_attr(not(windows), allow(dead_code, reason = "for handles that are given away, on Windows"))]
    key: usize,
}

impl std::ops::Deref for Tenancy {
    type Target = Driver;

    fn deref(&self) -> &Driver {
        &self.driver
    }
}

impl Drop for Tenancy {
    fn drop(&mut self) {
        let attendance = &self.driver.attendance;
        let last = attendance.tenants.fetch_sub(1, Ordering::SeqCst) == 1;
        if last && *lock(&attendance.attendant) == Attendant::Caretaker {
            self.driver.port.wake();
        }
    }
}

#[cfg(windows)]
impl Tenancy {
    /// Unties the handle, on which nothing is in flight, from the port. Where that cannot be done, as under Wine, packets may come
    /// of what its next owner does with it: they are not ours to look into.
    pub(crate) fn give_away(&self, handle: &OwnedHandle) {
        if Port::dissociate(handle).is_err() {
            self.driver.strangers.add(self.key);
        }
    }
}

impl Driver {
    /// Ties a handle to the port.
    pub(crate) fn admit(self: &Arc<Self>, handle: &OwnedHandle) -> std::io::Result<Tenancy> {
        let key = 1 + self.attendance.last_key.fetch_add(1, Ordering::Relaxed);
        self.port.associate(handle, key)?;
        self.attendance.tenants.fetch_add(1, Ordering::SeqCst);
        Ok(Tenancy { driver: self.clone(), key })
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
