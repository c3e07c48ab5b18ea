//! One future, run by the thread that asks for it.

use std::cell::RefCell;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::nesting::Nesting;
use super::sleeper::Sleeper;
use crate::driver::{Batch, Driver, Entered};
use crate::sync::Arc;

/// How often a future that wakes itself is polled before the port is looked at.
const POLLS_BEFORE_LOOKING: u32 = 32;

/// Runs a future to its end on the calling thread, which waits on a completion port meanwhile. No
/// other thread takes part in the reads and writes of pipes that are made in here.
///
/// Inside a Tokio context, as [`Runtime::enter`](tokio::runtime::Runtime::enter) gives one, Tokio's
/// timers, sockets and channels work in the future, served by that runtime's threads. No Tokio is
/// needed otherwise.
///
/// Pipes may outlive the call. A thread of ours then waits on the port for them, until they are
/// gone or the thread that made them calls `block_on` again: they go on working, at the price of a
/// thread switch. So one `block_on` around a program is faster than one around each operation; for
/// the latter there are blocking pipes.
///
/// # Inside a task
///
/// It may be called inside another `block_on` or a task. Everything else that the thread runs
/// stands still until it returns: the other tasks of an executor's thread, and the other branches
/// of the outer future. So it must not wait for them. A wait for a task of the same thread panics
/// where it is certain that nothing else ends the wait, as in `block_on(spawn(..))` inside a
/// spawned task. Every other wait of this kind hangs: for a channel whose sender is a task of the
/// same thread, for tasks in a combinator that has wakers of its own, such as `FuturesUnordered`,
/// or by the `block_on` of another crate. Inside a task, prefer `.await`.
///
/// # Panics
///
/// Panics if Windows has no completion port left
/// ([`CreateIoCompletionPort`](https://learn.microsoft.com/windows/win32/fileio/createiocompletionport)),
/// if the future panics, and if it waits inside a task for a task of the same thread.
///
/// ```no_run
/// # #[cfg(all(windows, feature = "tokio"))] {
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// let answer = npipe::block_on(async {
///     let mut client = npipe::ClientOptions::new().open(r"\\.\pipe\inventory")?;
///     client.write_all(b"how many apples?").await?;
///     let mut answer = [0; 16];
///     client.read_exact(&mut answer).await?;
///     Ok::<_, std::io::Error>(answer)
/// })?;
/// # let _ = answer;
/// # }
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn block_on<F: Future>(future: F) -> F::Output {
    let seat = Seat::take();
    // Dropped before the seat is given up, with the pipes in it.
    let mut future = pin!(future);
    let signal =
        Arc::new(Signal { sleeper: Sleeper::new(seat.driver.clone()), woken: AtomicBool::new(false) });
    let waker = Waker::from(signal.clone());
    let nesting = seat.nested.then(|| Nesting::enter(waker.clone()));
    // Those of `signal`, `waker` and `nesting`.
    let clones = || Arc::strong_count(&signal) - 3;
    let mut context = Context::from_waker(&waker);
    let mut batch = Batch::new();
    let mut polls = 0;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        polls += 1;
        if polls == POLLS_BEFORE_LOOKING {
            polls = 0;
            signal.sleeper.look(&mut batch);
        }
        while !signal.woken.swap(false, Ordering::SeqCst) {
            polls = 0;
            let is_stuck = nesting.as_ref().is_some_and(|nesting| nesting.is_stuck(clones));
            assert!(
                !is_stuck || signal.woken.load(Ordering::SeqCst),
                "block_on inside a task waits for a task of the same thread, which cannot run before \
                 block_on returns: await the task instead, or spawn it on another executor"
            );
            signal.sleeper.sleep(&mut batch, || signal.woken.load(Ordering::SeqCst));
        }
    }
}

struct Signal {
    sleeper: Sleeper,
    woken: AtomicBool,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        self.sleeper.wake();
    }
}

thread_local! {
    /// The port of this thread's last `block_on`. Pipes on it may still be there.
    #[allow(clippy::missing_const_for_thread_local, reason = "it is; the lint misreads the GNU target's expansion")]
    static LAST: RefCell<Option<Arc<Driver>>> = const { RefCell::new(None) };
}

/// A thread's right to dequeue from a port.
struct Seat {
    driver: Arc<Driver>,
    _entered: Entered,
    /// It belongs to the caller: an outer `block_on` or an executor's thread.
    nested: bool,
}

impl Seat {
    fn take() -> Self {
        let outer = Driver::entered();
        let nested = outer.is_some();
        let driver = outer.or_else(|| LAST.take()).unwrap_or_else(|| {
            Driver::new().unwrap_or_else(|error| panic!("no completion port for block_on: {error}"))
        });
        if !nested {
            driver.take_back();
        }
        Self { _entered: driver.enter(), driver, nested }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if !self.nested {
            self.driver.hand_over();
            LAST.set(Some(self.driver.clone()));
        }
    }
}
