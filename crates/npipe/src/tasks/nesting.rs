//! A `block_on` inside a task keeps its thread from running the thread's other tasks. If it waits
//! for one of them it never returns, and that can be proved.
//!
//! Only a clone of its waker can wake a `block_on`. A wait for a task of the same thread holds one
//! clone, and a [`Stuck`] next to it. With as many of these as there are clones, every clone
//! belongs to a task that cannot run. A clone elsewhere, in a pipe, a timer or a combinator, may
//! wake: the `block_on` goes on waiting.

use std::cell::RefCell;
use std::sync::Weak;
use std::sync::atomic::{Ordering, fence};
use std::task::{Context, Waker};

use crate::driver::Driver;
use crate::sync::Arc;

thread_local! {
    /// The innermost `block_on` of the thread that runs inside a task or another `block_on`.
    #[allow(clippy::missing_const_for_thread_local, reason = "it is; the lint misreads the GNU target's expansion")]
    static INNERMOST: RefCell<Option<Nested>> = const { RefCell::new(None) };
}

struct Nested {
    waker: Waker,
    stuck: Arc<()>,
}

/// A wait, by a `block_on`, for a task that its own thread would have to run.
#[derive(Debug)]
pub(super) struct Stuck(#[expect(dead_code, reason = "it is counted")] Arc<()>);

/// Returns the guard that a pending wait must keep if the task's thread is this one and `context`
/// is that of a nested `block_on`.
pub(super) fn stuck(driver: &Weak<Driver>, context: &Context<'_>) -> Option<Stuck> {
    INNERMOST.with_borrow(|innermost| {
        let nested = innermost.as_ref()?;
        let here =
            Driver::entered().is_some_and(|entered| std::ptr::eq(driver.as_ptr(), Arc::as_ptr(&entered)));
        // Not `will_wake`: tables of functions may exist several times, and then it denies what is
        // so. The data of a `block_on` belongs to its wakers alone.
        let is_innermost = nested.waker.data() == context.waker().data();
        (here && is_innermost).then(|| Stuck(nested.stuck.clone()))
    })
}

/// A nested `block_on` that runs. Dropped, the one around it is the innermost again.
pub(super) struct Nesting {
    stuck: Arc<()>,
    outer: Option<Nested>,
}

impl Nesting {
    pub(super) fn enter(waker: Waker) -> Self {
        let stuck = Arc::new(());
        let nested = Nested { waker, stuck: stuck.clone() };
        Self { stuck, outer: INNERMOST.replace(Some(nested)) }
    }

    /// Returns whether all clones of the waker belong to waits for tasks of this thread. `clones`
    /// counts them, without the caller's and the one in here. If so, only a wake-up that has
    /// happened can end the wait.
    pub(super) fn is_stuck(&self, clones: impl FnOnce() -> usize) -> bool {
        // In this order: another thread may end waits meanwhile, and begins none.
        let clones = clones();
        fence(Ordering::Acquire);
        clones > 0 && clones == Arc::strong_count(&self.stuck) - 2
    }
}

impl Drop for Nesting {
    fn drop(&mut self) {
        let ended = INNERMOST.replace(self.outer.take());
        drop(ended);
    }
}
