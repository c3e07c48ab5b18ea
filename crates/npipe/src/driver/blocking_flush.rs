//! `FlushFileBuffers`, off the caller's thread, where the kernel has no operation for it: it blocks
//! until the peer has read everything, on overlapped handles too.

use std::io;
use std::mem;
use std::sync::Weak;
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Driver, GuardedWaker, Scheduled, Timer};
use crate::sync::{Arc, Mutex, lock};
use crate::sys::{self, OwnedHandle};

/// The time between two attempts to cancel the call of a thread that has not left it.
const REPEAT: Duration = Duration::from_millis(10);

/// A flush that runs on a thread of its own. Dropping it cancels the flush.
pub(crate) struct BlockingFlush {
    flush: Arc<Flush>,
    /// Taken on drop.
    thread: Option<JoinHandle<()>>,
}

/// The state that the thread shares with the owner of the flush, and with the timer that cancels
/// it.
struct Flush {
    driver: Arc<Driver>,
    progress: Mutex<Progress>,
}

enum Progress {
    /// The thread is about to call, in the call, or has just left it.
    Running(Option<GuardedWaker>),
    /// The same, but the result is not wanted any more.
    Cancelled { thread: JoinHandle<()>, repeat: Scheduled },
    /// The thread has left the call, and closed its handle.
    Over(Option<io::Result<()>>),
}

impl BlockingFlush {
    pub(crate) fn start(handle: Arc<OwnedHandle>) -> io::Result<Self> {
        let progress = Mutex::new(Progress::Running(None));
        let flush = Arc::new(Flush { driver: Driver::global()?, progress });
        let running = flush.clone();
        let thread = std::thread::Builder::new().name("npipe-drain".into()).spawn(move || {
            let result = if running.is_wanted() { sys::flush_blocking(&handle) } else { Ok(()) };
            drop(handle);
            running.on_left(result);
        })?;
        Ok(Self { flush, thread: Some(thread) })
    }

    pub(crate) fn poll(&mut self, context: &Context<'_>) -> Poll<io::Result<()>> {
        let waker = GuardedWaker::new(context);
        let mut progress = lock(&self.flush.progress);
        match &mut *progress {
            Progress::Over(result) => Poll::Ready(result.take().unwrap_or(Ok(()))),
            Progress::Running(place) => {
                let replaced = place.replace(waker);
                drop(progress);
                drop(replaced);
                Poll::Pending
            }
            Progress::Cancelled { .. } => unreachable!("the flush is cancelled by its drop"),
        }
    }
}

impl Drop for BlockingFlush {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.flush.cancel(thread);
        }
    }
}

impl Flush {
    fn is_wanted(&self) -> bool {
        matches!(*lock(&self.progress), Progress::Running(_))
    }

    fn on_left(&self, result: io::Result<()>) {
        let before = mem::replace(&mut *lock(&self.progress), Progress::Over(Some(result)));
        if let Progress::Running(Some(waker)) = before {
            waker.wake();
        }
    }

    /// Cancels the call of `thread`, unless it has left the call. That does not reach a thread
    /// which is about to call, so a timer repeats it until the thread has left. The caller does not
    /// wait.
    fn cancel(self: &Arc<Self>, thread: JoinHandle<()>) {
        let mut progress = lock(&self.progress);
        if matches!(*progress, Progress::Over(_)) {
            return;
        }
        let repeat = self.attempt(&thread);
        let before = mem::replace(&mut *progress, Progress::Cancelled { thread, repeat });
        drop(progress);
        drop(before);
    }

    /// Called with the lock held: a thread that has left the call runs other code, which must not
    /// be cancelled.
    fn attempt(self: &Arc<Self>, thread: &JoinHandle<()>) -> Scheduled {
        sys::cancel_blocking(thread);
        let target: Weak<Self> = Arc::downgrade(self);
        self.driver.schedule(Instant::now() + REPEAT, target)
    }
}

impl Timer for Flush {
    fn on_timer(self: Arc<Self>) {
        let mut progress = lock(&self.progress);
        if let Progress::Cancelled { thread, repeat } = &mut *progress {
            *repeat = self.attempt(thread);
        }
    }
}
