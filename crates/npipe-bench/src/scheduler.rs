//! What runs the futures of a case. Knows no pipe.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;

use tokio::runtime::Builder;

/// What runs the futures of a case.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scheduler {
    /// Tokio's runtime of one thread.
    CurrentThread,
    /// Tokio's runtime of two worker threads.
    TwoWorkers,
    /// `npipe::spawn`: a thread that waits on the completion port itself.
    NpipeSpawn,
    /// `npipe::block_on`, all futures in one.
    NpipeBlockOn,
}

type Job = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// Futures that run at once.
pub(crate) struct Tasks {
    scheduler: Scheduler,
    jobs: Vec<Job>,
}

impl Scheduler {
    /// Runs the body of a case, as a task where the scheduler has tasks.
    pub(crate) fn run<T: Send + 'static>(
        self,
        body: impl Future<Output = io::Result<T>> + Send + 'static,
    ) -> io::Result<T> {
        match self {
            Self::CurrentThread => Builder::new_current_thread().enable_all().build()?.block_on(body),
            Self::TwoWorkers => {
                Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(body)
            }
            Self::NpipeSpawn => npipe::block_on(npipe::spawn(body)),
            Self::NpipeBlockOn => npipe::block_on(body),
        }
    }
}

impl Tasks {
    pub(crate) fn new(scheduler: Scheduler) -> Self {
        Self { scheduler, jobs: Vec::new() }
    }

    /// Starts the future, or lets it wait for [`all`](Self::all) where the scheduler has no tasks.
    pub(crate) fn spawn(&mut self, job: impl Future<Output = io::Result<()>> + Send + 'static) {
        self.jobs.push(match self.scheduler {
            Scheduler::CurrentThread | Scheduler::TwoWorkers => {
                let task = tokio::spawn(job);
                Box::pin(async move { task.await.map_err(io::Error::other)? })
            }
            Scheduler::NpipeSpawn => Box::pin(npipe::spawn(job)),
            Scheduler::NpipeBlockOn => Box::pin(job),
        });
    }

    /// Waits for all, or for the first error.
    pub(crate) async fn all(mut self) -> io::Result<()> {
        poll_fn(|context| {
            let mut index = 0;
            while index < self.jobs.len() {
                match self.jobs[index].as_mut().poll(context) {
                    Poll::Pending => index += 1,
                    Poll::Ready(result) => {
                        result?;
                        drop(self.jobs.swap_remove(index));
                    }
                }
            }
            if self.jobs.is_empty() { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await
    }
}
