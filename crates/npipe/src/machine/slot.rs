//! Whose an operation is. Between submission and packet it is the kernel's, and whoever wanted it
//! may have gone.

/// The one operation that a direction may have in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Slot {
    /// None is in flight.
    #[default]
    Free,
    /// One is in flight, and its result is wanted.
    InFlight,
    /// One is in flight for a connection that is over: its result must not reach the next.
    Abandoned,
}

/// What the end of an operation is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    Wanted,
    Unwanted,
}

impl Slot {
    /// An operation has been submitted and goes on.
    pub(crate) fn submit(&mut self) {
        debug_assert_eq!(*self, Self::Free, "one operation a direction");
        *self = Self::InFlight;
    }

    /// The result is not wanted any more. Tells whether there is an operation to cancel.
    pub(crate) fn abandon(&mut self) -> bool {
        let pending = *self == Self::InFlight;
        if pending {
            *self = Self::Abandoned;
        }
        pending
    }

    /// The packet has come.
    pub(crate) fn complete(&mut self) -> Claim {
        debug_assert_ne!(*self, Self::Free, "a packet for an operation that is not in flight");
        match std::mem::take(self) {
            Self::InFlight => Claim::Wanted,
            Self::Abandoned | Self::Free => Claim::Unwanted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completed_operation_is_wanted_unless_it_was_abandoned() {
        let mut slot = Slot::default();
        slot.submit();
        assert_eq!(slot.complete(), Claim::Wanted);
        slot.submit();
        assert!(slot.abandon());
        assert!(!slot.abandon(), "there is nothing to cancel a second time");
        assert_eq!(slot.complete(), Claim::Unwanted);
        assert_eq!(slot, Slot::Free);
    }

    #[test]
    fn abandoning_nothing_leaves_the_slot_free() {
        let mut slot = Slot::default();
        assert!(!slot.abandon());
        assert_eq!(slot, Slot::Free);
    }
}
