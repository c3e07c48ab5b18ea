//! What a task's owner holds.

use std::pin::{Pin, pin};
use std::sync::Weak;
use std::task::{Context, Poll, Wake, Waker};

use super::nesting::{self, Stuck};
use crate::driver::{Driver, GuardedWaker};
use crate::sync::Arc;

/// A task that was [spawned](crate::spawn). Awaiting it gives its output.
///
/// Dropping it lets the task go on, as with Tokio's `JoinHandle`. Unlike there, awaiting it gives
/// the output itself: the panic of a task goes on in the one that awaits it.
///
/// # Panics
///
/// Awaiting a task that panicked goes on with its panic.
///
/// Inside a task, a [`block_on`](crate::block_on) that waits for a task of the same thread panics:
/// that wait could not end.
#[derive(Debug)]
pub struct Task<T> {
    /// `None` once it was given up, so that dropping the handle does nothing to it.
    task: Option<async_task::Task<T>>,
    waiting: Waiting,
}

impl<T> Task<T> {
    /// `driver` is that of the thread which runs the task.
    pub(super) fn new(task: async_task::Task<T>, driver: &Arc<Driver>) -> Self {
        Self {
            task: Some(task),
            waiting: Waiting { stuck: None, driver: Arc::downgrade(driver), waker: None },
        }
    }

    /// Stops the task: its future is not polled again, and dropped on its thread soon after. If it
    /// has come to an end already its output is dropped.
    pub fn abort(mut self) {
        drop(self.task.take());
    }

    /// [`abort`](Self::abort), and waits until the future has been dropped. Gives the output if the
    /// task had come to an end already.
    ///
    /// # Cancellation
    ///
    /// When this future is dropped the task is stopped all the same.
    pub async fn cancel(mut self) -> Option<T> {
        let mut cancelled = pin!(self.task.take()?.cancel());
        std::future::poll_fn(|context| self.waiting.poll(context, |context| cancelled.as_mut().poll(context)))
            .await
    }

    /// Lets the task go on without anybody waiting for it; the same as dropping the handle, but
    /// says so. If it panics, nobody learns of it but the panic hook.
    pub fn detach(self) {}

    /// Whether the task has come to an end, so that awaiting it would not wait.
    pub fn is_finished(&self) -> bool {
        self.task.as_ref().is_none_or(async_task::Task::is_finished)
    }
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Self { task, waiting } = &mut *self;
        match task {
            Some(task) => waiting.poll(context, |context| Pin::new(task).poll(context)),
            // Given up by a method that took the handle itself.
            None => Poll::Pending,
        }
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.detach();
        }
    }
}

/// A wait for a task.
#[derive(Debug)]
struct Waiting {
    /// While the thread that waits is the only one that could run the task. Ahead of `waker`: see
    /// [`nesting`].
    stuck: Option<Stuck>,
    /// That of the thread which runs the task.
    driver: Weak<Driver>,
    waker: Option<Arc<TaskWaker>>,
}

/// The waker of a wait. The task's thread wakes and drops it, where a panic would abort the
/// process.
#[derive(Debug)]
struct TaskWaker(GuardedWaker);

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.wake_by_ref();
    }
}

impl Waiting {
    fn poll<T>(&mut self, context: &Context<'_>, poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        self.stuck = None;
        let waker = self.waker.take().filter(|waker| waker.0.will_wake(context));
        let waker = waker.unwrap_or_else(|| Arc::new(TaskWaker(GuardedWaker::new(context))));
        let result = poll(&mut Context::from_waker(&Waker::from(waker.clone())));
        if result.is_pending() {
            self.waker = Some(waker);
            self.stuck = nesting::stuck(&self.driver, context);
        }
        result
    }
}
