//! Cooperative scheduling: a task whose pipes are always ready lets the other tasks of its thread
//! run.
//!
//! Every future and every poll function of the async API goes through [`poll`]. In a task of a
//! Tokio runtime it spends the task's
//! [budget](https://docs.rs/tokio/latest/tokio/task/coop/index.html), like Tokio's own types. Other
//! executors have no budget, and [`block_on`](crate::block_on) has none even inside a Tokio
//! context. So the results that each thread gets are counted as well, and after [`LONGEST_RUN`] of
//! them the task is woken and yields.

use std::cell::Cell;
use std::future;
use std::task::{Context, Poll};

/// The most results that the tasks of a thread get before one of them yields. A yield costs about
/// as much as a result.
const LONGEST_RUN: u32 = 128;

/// The largest number of results that a run is shortened by. With runs of one length, a task that
/// alternates with one that gets exactly a run's results could have to yield each time that it is
/// polled.
const VARIATION: u32 = 32;

thread_local! {
    /// The number of results left until a task yields, and a number that varies the length of runs.
    static RUN: Cell<(u32, u32)> = const { Cell::new((LONGEST_RUN, 0)) };
}

/// Polls `operation`, unless other tasks are to run first: then the task is woken at once.
pub(crate) fn poll<T>(context: &mut Context<'_>, operation: impl FnOnce(&Context<'_>) -> Poll<T>) -> Poll<T> {
    #[cfg(feature = "tokio")]
    let budget = std::task::ready!(tokio::task::coop::poll_proceed(context));
    let result = std::task::ready!(poll_in_run(context, operation));
    #[cfg(feature = "tokio")]
    budget.made_progress();
    Poll::Ready(result)
}

/// [`poll`] without regard to a Tokio runtime, which would wake the task only when it is back in
/// that runtime's hands.
pub(crate) fn poll_in_run<T>(
    context: &Context<'_>,
    operation: impl FnOnce(&Context<'_>) -> Poll<T>,
) -> Poll<T> {
    if is_run_over() {
        context.waker().wake_by_ref();
        return Poll::Pending;
    }
    let result = std::task::ready!(operation(context));
    count_result();
    Poll::Ready(result)
}

/// A future that [polls](poll) `operation`.
pub(crate) fn poll_fn<T>(mut operation: impl FnMut(&Context<'_>) -> Poll<T>) -> impl Future<Output = T> {
    future::poll_fn(move |context| poll(context, &mut operation))
}

/// Counts as a result: for a future that may come to its end without waiting for a pipe.
pub(crate) async fn result() {
    poll_fn(|_| Poll::Ready(())).await;
}

/// Has the thread's next result wait until other tasks have run: for a call that does not wait and
/// has done as much as it may.
pub(crate) fn end_run() {
    let (_, number) = RUN.get();
    RUN.set((0, number));
}

fn is_run_over() -> bool {
    let (left, number) = RUN.get();
    if left > 0 {
        return false;
    }
    // The constants of a linear congruential generator; the high bits are the better ones.
    let number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    RUN.set((LONGEST_RUN - (number >> 16) % VARIATION, number));
    true
}

fn count_result() {
    let (left, number) = RUN.get();
    RUN.set((left.saturating_sub(1), number));
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn poll_once(result: Poll<()>) -> Poll<()> {
        poll(&mut Context::from_waker(Waker::noop()), |_| result)
    }

    fn results_until_a_yield() -> u32 {
        let results = (0..=LONGEST_RUN).take_while(|_| poll_once(Poll::Ready(())).is_ready()).count();
        results as u32
    }

    #[test]
    #[cfg_attr(miri, ignore = "counts tens of thousands of calls, without pointers")]
    fn a_run_of_results_ends_with_one_yield() {
        for _ in 0..100 {
            let results = results_until_a_yield();
            assert!((LONGEST_RUN - VARIATION..=LONGEST_RUN).contains(&results), "{results} results in a row");
        }
    }

    #[test]
    fn who_waits_anyway_is_not_counted() {
        for _ in 0..1000 {
            assert!(poll_once(Poll::Pending).is_pending());
        }
        assert_eq!(results_until_a_yield(), LONGEST_RUN);
    }

    #[test]
    #[cfg_attr(miri, ignore = "counts tens of thousands of calls, without pointers")]
    fn nobody_yields_each_time_beside_a_task_of_any_length() {
        for length in 1..2 * LONGEST_RUN {
            let yields = (0..10).filter(|_| {
                (0..length).for_each(|_| while poll_once(Poll::Ready(())).is_pending() {});
                poll_once(Poll::Ready(())).is_pending()
            });
            assert!(yields.count() < 5, "beside a task of {length} results");
        }
    }
}
