//! Pauses between attempts at something that may be had later: short at first, since most servers
//! make a new instance at once, then longer, and of random length, so that many who wait do not all
//! come at the same moment.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(50);

/// The pauses of one who waits.
#[derive(Debug, Clone)]
pub(crate) struct BackOff {
    longest_next: Duration,
    attempts: u64,
    random: RandomState,
}

impl BackOff {
    pub(crate) fn new() -> Self {
        Self { longest_next: FIRST, attempts: 0, random: RandomState::new() }
    }

    /// The pause before the next attempt: half to all of what is due.
    pub(crate) fn pause(&mut self) -> Duration {
        let longest = self.longest_next;
        self.longest_next = LONGEST.min(longest * 2);
        self.attempts += 1;
        let random = self.random.hash_one(self.attempts) as u32;
        let half = longest / 2;
        half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    /// [`pause`](Self::pause) of one who has only so much time left. `None`: none at all. So there
    /// is an attempt when the time is over, and it is the last.
    pub(crate) fn pause_within(&mut self, left: Option<Duration>) -> Option<Duration> {
        match left {
            Some(Duration::ZERO) => None,
            Some(left) => Some(left.min(self.pause())),
            None => Some(self.pause()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_differ() {
        let mut back_off = BackOff::new();
        let pauses: Vec<Duration> = (0..40).map(|_| back_off.pause()).collect();
        for (number, pause) in pauses.iter().enumerate() {
            let longest = LONGEST.min(FIRST * (1 << number.min(16)));
            assert!((longest / 2..=longest).contains(pause), "pause {number} is {pause:?}");
        }
        let mut others = BackOff::new();
        assert!(pauses.iter().any(|pause| *pause != others.pause()), "everybody pauses alike");
        assert!(pauses[10..].iter().any(|pause| *pause != pauses[9]), "there is no jitter");
    }

    #[test]
    fn the_last_attempt_is_when_the_time_is_over() {
        let mut back_off = BackOff::new();
        for _ in 0..10 {
            back_off.pause();
        }
        let left = Duration::from_micros(10);
        assert_eq!(back_off.pause_within(Some(left)), Some(left));
        assert_eq!(back_off.pause_within(Some(Duration::ZERO)), None);
        assert!(back_off.pause_within(None).is_some());
    }
}
