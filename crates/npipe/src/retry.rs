//! Trying again: the pauses between attempts, and the limits on the time that they take. The
//! caller knows what is tried, and which errors are worth another attempt.

use std::time::{Duration, Instant};

use crate::machine::BackOff;

/// The attempts of one call. `R` is the reason for another attempt.
#[derive(Debug)]
pub(crate) struct Retry<R> {
    began: Instant,
    /// Of all attempts together. `None` is no limit.
    limit: Option<Duration>,
    back_off: BackOff,
    /// The reason of the last failure, and when it was.
    last: Option<(R, Instant)>,
    /// The time that has been waited for each reason.
    waited: Vec<(R, Duration)>,
}

impl<R: Copy + PartialEq> Retry<R> {
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        Self { began: Instant::now(), limit, back_off: BackOff::new(), last: None, waited: Vec::new() }
    }

    /// Returns the pause before the next attempt, after one that failed for `reason`. `limit` is
    /// that of the time waited for this reason. `None`: this time is over, or that of all attempts.
    pub(crate) fn pause(&mut self, reason: R, limit: Option<Duration>) -> Option<Duration> {
        self.pause_at(Instant::now(), reason, limit)
    }

    fn pause_at(&mut self, now: Instant, reason: R, limit: Option<Duration>) -> Option<Duration> {
        if let Some((last, since)) = self.last.replace((reason, now)) {
            *self.waited(last) += now.saturating_duration_since(since);
        }
        let waited = *self.waited(reason);
        let left = limit.map(|limit| limit.saturating_sub(waited));
        let left_of_all =
            self.limit.map(|limit| limit.saturating_sub(now.saturating_duration_since(self.began)));
        self.back_off.pause_within(left.into_iter().chain(left_of_all).min())
    }

    fn waited(&mut self, reason: R) -> &mut Duration {
        let index = self.waited.iter().position(|(of, _)| *of == reason).unwrap_or_else(|| {
            self.waited.push((reason, Duration::ZERO));
            self.waited.len() - 1
        });
        &mut self.waited[index].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn each_reason_has_a_time_of_its_own() {
        let mut retry = Retry::new(None);
        let begin = Instant::now();
        // For three seconds the pipe is missing, then for one busy, then missing again.
        assert!(retry.pause_at(begin, 'm', Some(5 * SECOND)).is_some());
        assert!(retry.pause_at(begin + 3 * SECOND, 'b', Some(2 * SECOND)).is_some());
        assert!(retry.pause_at(begin + 4 * SECOND, 'm', Some(5 * SECOND)).is_some());
        assert!(retry.pause_at(begin + 5 * SECOND, 'm', Some(5 * SECOND)).is_some());
        assert_eq!(retry.pause_at(begin + 6 * SECOND, 'm', Some(5 * SECOND)), None, "five of missing");
        assert!(retry.pause_at(begin + 6 * SECOND, 'b', Some(2 * SECOND)).is_some(), "one of busy");
        assert_eq!(retry.pause_at(begin + 7 * SECOND, 'b', Some(2 * SECOND)), None, "two of busy");
    }

    #[test]
    fn the_limit_of_all_attempts_holds_for_every_reason() {
        let mut retry = Retry::new(Some(SECOND));
        let began = retry.began;
        assert!(retry.pause_at(began + SECOND / 2, 'm', None).is_some());
        assert_eq!(retry.pause_at(began + SECOND, 'b', Some(5 * SECOND)), None);
    }

    #[test]
    fn without_limits_there_is_always_a_pause() {
        let mut retry = Retry::new(None);
        let began = retry.began;
        assert!(retry.pause_at(began + 1_000_000 * SECOND, (), None).is_some());
    }

    #[test]
    fn a_limit_of_zero_is_one_attempt() {
        assert_eq!(Retry::new(None).pause((), Some(Duration::ZERO)), None);
        assert_eq!(Retry::new(Some(Duration::ZERO)).pause((), None), None);
    }
}
