//! How long to go on trying for what may be had later: a limit of time, and the pauses within it.
//! What is tried, and which errors pass, is not known here.

use std::time::{Duration, Instant};

use crate::machine::BackOff;

/// That of one who has just begun to try.
#[derive(Debug)]
pub(crate) struct Patience {
    began: Instant,
    limit: Option<Duration>,
    back_off: BackOff,
}

impl Patience {
    /// `None`: without a limit.
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        Self { began: Instant::now(), limit, back_off: BackOff::new() }
    }

    /// How long to pause before the next attempt. `None`: the time is over.
    pub(crate) fn pause(&mut self) -> Option<Duration> {
        self.back_off.pause_within(self.limit.map(|limit| limit.saturating_sub(self.began.elapsed())))
    }
}
