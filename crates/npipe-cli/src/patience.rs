//! How long to go on trying to reach what is busy, or not there yet. What an attempt is and what
//! its error is called is not known here.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::cli::{ConnectArguments, ForwardArguments};
use crate::report::Report;

/// Between attempts. As npiperelay's, so that as many attempts take as long.
const PAUSE: Duration = Duration::from_millis(200);

/// While a pipe is busy, short at first, since most servers make a new instance at once.
const FIRST_PAUSE_WHILE_BUSY: Duration = Duration::from_millis(1);
const LONGEST_PAUSE_WHILE_BUSY: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// While the target is busy, for so long.
    WhileBusy(Duration),
    /// While it is busy or missing, for so many attempts and for so long at most.
    Poll { attempts: Option<u32>, time: Option<Duration> },
}

/// Why an attempt failed, as far as that decides what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    Missing,
    Busy,
    Other,
}

impl Patience {
    pub(crate) fn of_connect(arguments: &ConnectArguments) -> Patience {
        if arguments.poll {
            Patience::Poll { attempts: arguments.poll_limit, time: arguments.poll_deadline }
        } else {
            Patience::WhileBusy(arguments.wait)
        }
    }

    pub(crate) fn of_forward(arguments: &ForwardArguments) -> Patience {
        if arguments.poll {
            Patience::Poll { attempts: None, time: arguments.poll_deadline }
        } else {
            Patience::WhileBusy(arguments.wait)
        }
    }

    /// How long to wait before the next attempt. `None`: no longer. Attempts at what is busy come
    /// faster and do not count: their time does.
    fn pause(self, obstacle: Obstacle, attempts: u32, elapsed: Duration) -> Option<Duration> {
        let (most, time) = match (self, obstacle) {
            (_, Obstacle::Other) | (Patience::WhileBusy(_), Obstacle::Missing) => return None,
            (_, Obstacle::Busy) => (None, self.limit()),
            (Patience::Poll { attempts, time }, Obstacle::Missing) => (attempts, time),
        };
        if most.is_some_and(|most| attempts >= most) {
            return None;
        }
        match time {
            Some(time) => {
                let left = time.saturating_sub(elapsed);
                if left.is_zero() { None } else { Some(left.min(PAUSE)) }
            }
            None => Some(PAUSE),
        }
    }

    /// How long it lasts, where attempts cannot be counted. `None`: for ever.
    pub(crate) fn limit(self) -> Option<Duration> {
        match self {
            Patience::WhileBusy(time) => Some(time),
            Patience::Poll { attempts, time } => {
                let attempts = attempts.map(|attempts| PAUSE * attempts.saturating_sub(1));
                attempts.into_iter().chain(time).min()
            }
        }
    }

    /// Attempts to reach `target` until one succeeds or the policy gives up. The error is that of
    /// the last attempt.
    pub(crate) async fn try_on<T, E, F>(
        self,
        target: &(dyn Display + Sync),
        report: Report,
        mut attempt: impl FnMut() -> F,
        obstacle: impl Fn(&E) -> Obstacle,
    ) -> Result<T, GaveUp<E>>
    where
        E: Display,
        F: Future<Output = Result<T, E>>,
    {
        let mut waited_for = None;
        let begin = Instant::now();
        let (mut attempts, mut counted) = (0, 0);
        let mut while_busy = FIRST_PAUSE_WHILE_BUSY;
        loop {
            let error = match attempt().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            attempts += 1;
            report.step(format_args!("attempt {attempts} to connect to {target}: {error}"));
            let obstacle = obstacle(&error);
            if obstacle != Obstacle::Busy {
                counted += 1;
            }
            let time = begin.elapsed();
            let Some(mut pause) = self.pause(obstacle, counted, time) else {
                return Err(GaveUp { error, waited: Waited { attempts, time } });
            };
            if waited_for.replace(obstacle) != Some(obstacle) {
                match obstacle {
                    Obstacle::Busy => {
                        report.detail(format_args!("every instance of {target} is busy, waiting"));
                    }
                    Obstacle::Missing | Obstacle::Other => {
                        report.detail(format_args!("no program serves {target} yet, trying again: {error}"))
                    }
                }
            }
            if obstacle == Obstacle::Busy {
                pause = pause.min(while_busy);
                while_busy = LONGEST_PAUSE_WHILE_BUSY.min(while_busy * 2);
            }
            sleep(pause).await;
        }
    }
}

/// The last attempt's error, and what came before it.
#[derive(Debug)]
pub(crate) struct GaveUp<E> {
    pub(crate) error: E,
    #[cfg_attr(unix, expect(dead_code, reason = "pipes are opened on Windows"))]
    pub(crate) waited: Waited,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Waited {
    pub(crate) attempts: u32,
    pub(crate) time: Duration,
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Obstacle, Patience};
    use crate::report::Report;

    /// How often and for how long something is tried that fails for ever.
    async fn tried(patience: Patience, obstacle: Obstacle) -> (u32, Duration) {
        let begin = Instant::now();
        let attempts = Cell::new(0);
        let outcome = patience.try_on(
            &"the target",
            Report::new(0),
            || {
                attempts.set(attempts.get() + 1);
                async { Err::<(), _>("gone") }
            },
            |_| obstacle,
        );
        outcome.await.unwrap_err();
        (attempts.get(), begin.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_missing_is_waited_for_only_when_polled() {
        let while_busy = Patience::WhileBusy(Duration::from_secs(5));
        assert_eq!(tried(while_busy, Obstacle::Missing).await, (1, Duration::ZERO));
        let seconds = Patience::Poll { attempts: None, time: Some(Duration::from_secs(2)) };
        assert_eq!(tried(seconds, Obstacle::Missing).await, (11, Duration::from_secs(2)));
        let attempts = Patience::Poll { attempts: Some(3), time: None };
        assert_eq!(tried(attempts, Obstacle::Missing).await, (3, Duration::from_millis(400)));
        assert_eq!(tried(seconds, Obstacle::Other).await.0, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_busy_is_waited_for_and_tried_often() {
        let (attempts, time) = tried(Patience::WhileBusy(Duration::from_secs(1)), Obstacle::Busy).await;
        assert_eq!(time, Duration::from_secs(1));
        assert!(attempts > 20, "{attempts}");
        assert_eq!(tried(Patience::WhileBusy(Duration::ZERO), Obstacle::Busy).await.0, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_at_what_is_busy_are_limited_by_the_time_that_as_many_take() {
        let three = Patience::Poll { attempts: Some(3), time: None };
        assert_eq!(tried(three, Obstacle::Busy).await.1, Duration::from_millis(400));
    }

    #[test]
    fn attempts_last_as_long_as_their_pauses() {
        let limit = |attempts, time| Patience::Poll { attempts, time }.limit();
        assert_eq!(limit(Some(300), None), Some(Duration::from_millis(59_800)));
        assert_eq!(limit(Some(300), Some(Duration::from_secs(1))), Some(Duration::from_secs(1)));
        assert_eq!(limit(None, None), None);
    }
}
