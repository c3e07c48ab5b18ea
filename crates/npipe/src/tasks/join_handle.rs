//! What a task's owner holds.

use std::pin::Pin;
use std::task::{Context, Poll};

use async_task::Task;

/// A task that was [spawned](crate::spawn). Awaiting it gives its output.
///
/// Dropping it lets the task go on.
///
/// # Panics
///
/// Awaiting a task that panicked goes on with its panic.
#[derive(Debug)]
pub struct JoinHandle<T> {
    /// `None` once it was given up, so that dropping the handle does nothing to it.
    task: Option<Task<T>>,
}

impl<T> JoinHandle<T> {
    pub(super) fn new(task: Task<T>) -> Self {
        Self { task: Some(task) }
    }

    /// Stops the task: its future is not polled again, and dropped on its thread soon after. If it has come to an end already
    /// its output is dropped.
    pub fn abort(mut self) {
        drop(self.task.take());
    }

    /// [`abort`](Self::abort), and waits until the future has been dropped. Gives the output if the task had come to an end
    /// already.
    ///
    /// # Cancellation
    ///
    /// When this future is dropped the task is stopped all the same.
    pub async fn cancel(mut self) -> Option<T> {
        match self.task.take() {
            Some(task) => task.cancel().await,
            None => None,
        }
    }

    /// Lets the task go on without anybody waiting for it; the same as dropping the handle, but says so. If it panics, nobody
    /// learns of it but the panic hook.
    pub fn detach(self) {}

    /// Whether the task has come to an end, so that awaiting it would not wait.
    pub fn is_finished(&self) -> bool {
        self.task.as_ref().is_none_or(Task::is_finished)
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match &mut self.task {
            Some(task) => Pin::new(task).poll(context),
            // Given up by a method that took the handle itself.
            None => Poll::Pending,
        }
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.detach();
        }
    }
}
