//! `FlushFileBuffers`, off the caller's thread, where the system has no operation for it: it blocks until the peer has read
//! everything, on overlapped handles too.

use std::io;
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;

use crate::sync::{Arc, Mutex, lock};
use crate::sys::{self, OwnedHandle};

/// A flush that runs on a thread of its own. Dropping it cancels the flush.
pub(crate) struct BlockingFlush {
    progress: Arc<Mutex<Progress>>,
    thread: JoinHandle<()>,
}

enum Progress {
    Running(Option<Waker>),
    Over(Option<io::Result<()>>),
    Cancelled,
}

impl BlockingFlush {
    pub(crate) fn start(handle: Arc<OwnedHandle>) -> io::Result<Self> {
        let progress = Arc::new(Mutex::new(Progress::Running(None)));
        let shared = progress.clone();
        let thread = std::thread::Builder::new().name("npipe-drain".into()).spawn(move || {
            if matches!(*lock(&shared), Progress::Cancelled) {
                return;
            }
            let result = sys::flush_blocking(&handle);
            drop(handle);
            let before = std::mem::replace(&mut *lock(&shared), Progress::Over(Some(result)));
            if let Progress::Running(Some(waker)) = before {
                waker.wake();
            }
        })?;
        Ok(Self { progress, thread })
    }

    pub(crate) fn poll(&mut self, context: &Context<'_>) -> Poll<io::Result<()>> {
        let mut progress = lock(&self.progress);
        match &mut *progress {
            Progress::Over(result) => Poll::Ready(result.take().unwrap_or(Ok(()))),
            Progress::Cancelled => Poll::Ready(Ok(())),
            Progress::Running(waker) => {
                let replaced = waker.replace(context.waker().clone());
                drop(progress);
                drop(replaced);
                Poll::Pending
            }
        }
    }
}

impl Drop for BlockingFlush {
    fn drop(&mut self) {
        let running = {
            let mut progress = lock(&self.progress);
            let running = matches!(*progress, Progress::Running(_));
            if running {
                *progress = Progress::Cancelled;
            }
            running
        };
        if running {
            sys::cancel_blocking(&self.thread);
        }
    }
}
