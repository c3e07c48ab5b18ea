//! The time at which a connection was made, and its order with the start of a process.
//!
//! Windows stamps the start of a process with the wall clock, and that clock can be set back. So a
//! moment is read from two clocks. The difference on the steady clock shows what the wall clock,
//! with its present setting, would have shown at that moment.

use std::time::{Duration, Instant};

use crate::sys::{self, FileTime};

/// The resolution of the clock that stamps the start of a process, in units of 100 ns: 64 ticks a
/// second, and a margin.
const TICK: FileTime = 200_000;

/// A moment on the wall clock and on a steady clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    system: FileTime,
    steady: Instant,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self { system: sys::now(), steady: Instant::now() }
    }

    /// A moment of the past.
    #[cfg(all(windows, test))]
    pub(crate) fn at(system: FileTime) -> Self {
        let now = Self::now();
        let ago = Duration::from_nanos(now.system.saturating_sub(system) * 100);
        Self { system, steady: now.steady.checked_sub(ago).unwrap_or(now.steady) }
    }

    /// The moment on the wall clock as that clock is set `now`.
    #[cfg(any(windows, test))]
    fn as_set(self, now: Self) -> FileTime {
        let elapsed: Duration = now.steady.saturating_duration_since(self.steady);
        let elapsed = FileTime::try_from(elapsed.as_nanos() / 100).unwrap_or(FileTime::MAX);
        now.system.saturating_sub(elapsed)
    }
}

/// The known bounds of the time at which a connection was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionTime {
    /// It was made later than this. `None`: unknown.
    pub(crate) after: Option<Moment>,
    /// It existed by then. `None`: it has not been waited for, and may have been made just now.
    pub(crate) by: Option<Moment>,
}

/// The start of a process, compared with the time of a connection.
#[cfg(any(windows, test))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Started {
    Before,
    /// Between the moments that are known, or one of them is unknown.
    Perhaps,
    After,
}

#[cfg(any(windows, test))]
impl ConnectionTime {
    /// Compares the start of a process, `started_at` on the wall clock, with the connection.
    pub(crate) fn order(&self, started_at: FileTime, now: Moment) -> Started {
        // A clock that was set in between leaves two answers, of which the stricter counts.
        let is_before =
            |after: Moment| started_at.saturating_add(TICK) <= after.system.min(after.as_set(now));
        let is_after = |by: Moment| started_at > by.system.max(by.as_set(now));
        if self.after.is_some_and(is_before) {
            Started::Before
        } else if self.by.is_some_and(is_after) {
            Started::After
        } else {
            Started::Perhaps
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: FileTime = 10_000_000;

    /// A wall clock that can be set, with a steady clock.
    struct Clock {
        moment: Moment,
    }

    impl Clock {
        fn new() -> Self {
            Self { moment: Moment { system: 1_000_000 * SECOND, steady: Instant::now() } }
        }

        fn wait(&mut self, seconds: u32) -> Moment {
            self.moment.system += FileTime::from(seconds) * SECOND;
            self.moment.steady += Duration::from_secs(seconds.into());
            self.moment
        }

        fn set_back(&mut self, seconds: u32) {
            self.moment.system -= FileTime::from(seconds) * SECOND;
        }

        fn set_forward(&mut self, seconds: u32) {
            self.moment.system += FileTime::from(seconds) * SECOND;
        }

        /// The stamp of a process that is started now.
        fn start(&self) -> FileTime {
            self.moment.system
        }
    }

    #[test]
    fn processes_are_ordered_by_both_moments() {
        let mut clock = Clock::new();
        let older = clock.start();
        let after = clock.wait(10);
        let meanwhile = clock.wait(10).system;
        let by = clock.wait(10);
        let later = clock.wait(10).system;
        let now = clock.wait(10);
        let connected = ConnectionTime { after: Some(after), by: Some(by) };
        assert_eq!(connected.order(older, now), Started::Before);
        assert_eq!(connected.order(meanwhile, now), Started::Perhaps);
        assert_eq!(connected.order(later, now), Started::After);
        let unknown = ConnectionTime { after: None, by: None };
        for start in [older, meanwhile, later] {
            assert_eq!(unknown.order(start, now), Started::Perhaps);
        }
    }

    /// The stamp is that of the last tick.
    #[test]
    fn a_process_of_the_same_tick_is_not_older() {
        let mut clock = Clock::new();
        let after = clock.wait(10);
        let now = clock.wait(10);
        let connected = ConnectionTime { after: Some(after), by: None };
        assert_eq!(connected.order(after.system, now), Started::Perhaps);
        assert_eq!(connected.order(after.system - TICK + 1, now), Started::Perhaps);
        assert_eq!(connected.order(after.system - TICK, now), Started::Before);
    }

    /// Whenever the clock is set, in whichever direction: a process that was started after the
    /// connection is never taken for an older one. An older one is taken for a later one only if
    /// the clock was set back between its start and the connection: the stamps are the same in both
    /// cases.
    #[test]
    fn a_clock_that_is_set_makes_no_later_process_an_older_one() {
        for set in 0..5 {
            for back in [true, false] {
                let mut clock = Clock::new();
                let mut step = |number| {
                    if number == set {
                        if back { clock.set_back(3600) } else { clock.set_forward(3600) }
                    }
                    clock.wait(10)
                };
                let older = step(0).system;
                let after = step(1);
                let by = step(2);
                let later = step(3).system;
                let now = step(4);
                let connected = ConnectionTime { after: Some(after), by: Some(by) };
                let situation = format!("set {} before step {set}", if back { "back" } else { "forward" });
                assert_ne!(connected.order(later, now), Started::Before, "{situation}");
                let is_ambiguous = back && (set == 1 || set == 2);
                assert_eq!(connected.order(older, now) == Started::After, is_ambiguous, "{situation}");
            }
        }
    }
}
