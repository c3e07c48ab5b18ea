//! A server instance's wait for its client.

use super::slot::{Claim, Slot};
use super::verdict;

/// The state of `connect`.
#[derive(Debug, Default)]
pub(crate) struct Lifecycle {
    slot: Slot,
    /// The result of a wait that ended while nobody looked: the next `connect` takes it.
    result: Option<Connected>,
    /// A `connect` has been asked for while the operation of the last connection is still on its
    /// way back.
    asked: bool,
    /// The operation in flight has been cancelled for good: it is not submitted again.
    stopping: bool,
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connected {
    /// A client is there.
    Client,
    /// A client came and went. If it left data, that is a session; if not, nobody was there.
    ClientLeft,
    /// The system's error.
    Failed(u32),
}

/// What `connect` should do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectStep {
    /// Ask the system.
    Submit,
    /// An operation is in flight.
    Wait,
    /// It is over.
    Done(Connected),
}

impl Lifecycle {
    pub(crate) fn step(&mut self) -> ConnectStep {
        match (self.result.take(), self.slot) {
            (Some(result), _) => ConnectStep::Done(result),
            (None, Slot::Free) => ConnectStep::Submit,
            (None, Slot::InFlight) => ConnectStep::Wait,
            (None, Slot::Abandoned) => {
                self.asked = true;
                ConnectStep::Wait
            }
        }
    }

    /// The wait goes on.
    pub(crate) fn on_pending(&mut self) {
        self.slot.submit();
    }

    /// The wait was over at once. `None`: ask again.
    pub(crate) fn on_finished(&mut self, code: u32) -> Option<Connected> {
        debug_assert_eq!(self.slot, Slot::Free);
        judge(code)
    }

    /// The packet of a wait has come. Tells whether to ask the system at once: the wait was cut
    /// short though nobody cancelled it, or it was the last connection's and there has been a
    /// `connect` since.
    pub(crate) fn on_packet(&mut self, code: u32) -> bool {
        let stopping = std::mem::take(&mut self.stopping);
        if self.slot.complete() == Claim::Unwanted {
            return std::mem::take(&mut self.asked) && !stopping;
        }
        self.result = judge(code);
        self.result.is_none() && !stopping
    }

    /// The repeated wait was over at once.
    pub(crate) fn on_again_finished(&mut self, code: u32) {
        self.result = judge(code);
    }

    /// The handle is to be used elsewhere: the operation in flight, if any, is being cancelled.
    /// Returns whether there is one. A client that it brings in spite of that is there for the next
    /// `connect`.
    #[cfg(any(windows, test))]
    pub(crate) fn stop(&mut self) -> bool {
        self.stopping = self.slot != Slot::Free;
        self.stopping
    }

    /// The connection is over: a result that is on its way is not for the next one. Tells whether
    /// to cancel.
    pub(crate) fn reset(&mut self) -> bool {
        self.result = None;
        self.asked = false;
        self.slot.abandon()
    }
}

fn judge(code: u32) -> Option<Connected> {
    match verdict::connect(code) {
        verdict::Connect::Complete => Some(Connected::Client),
        verdict::Connect::ClientLeft => Some(Connected::ClientLeft),
        verdict::Connect::Failed(code) => Some(Connected::Failed(code)),
        verdict::Connect::Aborted => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windows_sys::Win32::Foundation::{ERROR_OPERATION_ABORTED, ERROR_PIPE_CONNECTED};

    #[test]
    fn a_client_that_arrives_between_two_connects_is_not_missed() {
        let mut lifecycle = Lifecycle::default();
        assert_eq!(lifecycle.step(), ConnectStep::Submit);
        lifecycle.on_pending();
        assert_eq!(lifecycle.step(), ConnectStep::Wait);
        assert!(!lifecycle.on_packet(0));
        assert_eq!(lifecycle.step(), ConnectStep::Done(Connected::Client));
        assert_eq!(lifecycle.step(), ConnectStep::Submit);
    }

    #[test]
    fn a_client_before_the_call_counts() {
        assert_eq!(Lifecycle::default().on_finished(ERROR_PIPE_CONNECTED), Some(Connected::Client));
    }

    #[test]
    fn a_wait_cut_short_by_nobody_is_asked_again() {
        let mut lifecycle = Lifecycle::default();
        lifecycle.on_pending();
        assert!(lifecycle.on_packet(ERROR_OPERATION_ABORTED));
        assert_eq!(lifecycle.step(), ConnectStep::Submit);
    }

    #[test]
    fn a_wait_that_is_submitted_again_and_is_over_at_once_is_the_result() {
        let mut lifecycle = Lifecycle::default();
        lifecycle.on_pending();
        assert!(lifecycle.on_packet(ERROR_OPERATION_ABORTED));
        lifecycle.on_again_finished(ERROR_PIPE_CONNECTED);
        assert_eq!(lifecycle.step(), ConnectStep::Done(Connected::Client));
    }

    #[test]
    fn a_wait_that_is_stopped_is_not_asked_again_and_loses_no_client() {
        let mut lifecycle = Lifecycle::default();
        assert!(!lifecycle.stop());
        for code in [ERROR_OPERATION_ABORTED, 0] {
            assert_eq!(lifecycle.step(), ConnectStep::Submit);
            lifecycle.on_pending();
            assert!(lifecycle.stop());
            assert!(!lifecycle.on_packet(code), "it is not submitted again");
            assert!(!lifecycle.stop());
        }
        assert_eq!(lifecycle.step(), ConnectStep::Done(Connected::Client));
        lifecycle.on_pending();
        assert!(lifecycle.on_packet(ERROR_OPERATION_ABORTED), "later ones are");
    }

    #[test]
    fn a_stale_result_does_not_reach_the_next_connection() {
        let mut lifecycle = Lifecycle::default();
        lifecycle.on_pending();
        assert!(lifecycle.reset());
        assert!(!lifecycle.on_packet(0), "nobody has asked");
        assert_eq!(lifecycle.step(), ConnectStep::Submit);
    }

    #[test]
    fn a_connect_that_was_asked_for_too_early_is_not_forgotten() {
        let mut lifecycle = Lifecycle::default();
        lifecycle.on_pending();
        assert!(lifecycle.reset());
        assert_eq!(lifecycle.step(), ConnectStep::Wait, "the stale operation must end first");
        assert!(lifecycle.on_packet(0), "whether or not the one who asked still waits");
    }
}
