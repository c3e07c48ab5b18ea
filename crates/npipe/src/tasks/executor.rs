//! Many futures, run by threads of ours.

use std::collections::VecDeque;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_task::Runnable;

use super::sleeper::Sleeper;
use super::task::Task;
use crate::driver::{Batch, Driver};
use crate::sync::{Arc, Mutex, lock};

/// How many tasks are polled before the port is looked at.
const POLLS_BEFORE_LOOKING: usize = 64;

/// Runs a future on the process's executor, which has one thread and starts when it is first
/// needed. That thread waits on a completion port of its own, so the reads and writes of pipes that
/// are made in here involve no other.
///
/// Spawned inside a Tokio context, the future runs in that context: Tokio's timers, sockets and
/// channels work in it, served by that runtime. No Tokio is needed otherwise.
///
/// A future that computes for long or blocks keeps all others of its thread waiting; an
/// [`Executor`] has as many threads as it is told.
///
/// # Panics
///
/// When the system gives no thread or no completion port for the first task. [`Executor::new`]
/// reports that instead.
///
/// ```no_run
/// # #[cfg(all(windows, feature = "tokio"))]
/// # async fn serve() -> std::io::Result<()> {
/// use npipe::ServerOptions;
///
/// let task = npipe::spawn(async {
///     let server = ServerOptions::new().first_pipe_instance(true).create(r"\\.\pipe\inventory")?;
///     server.connect().await?;
///     let (mut reader, mut writer) = tokio::io::split(server);
///     tokio::io::copy(&mut reader, &mut writer).await
/// });
/// let bytes = task.await?;
/// # let _ = bytes;
/// # Ok(())
/// # }
/// ```
pub fn spawn<F>(future: F) -> Task<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    static EXECUTOR: OnceLock<Executor> = OnceLock::new();
    EXECUTOR
        .get_or_init(|| {
            Executor::new(1)
                .unwrap_or_else(|error| panic!("the executor of the process cannot be started: {error}"))
        })
        .spawn(future)
}

/// Threads that run tasks, each waiting on a completion port of its own.
///
/// A task stays on its thread, and so do the pipes that it makes. What a task spawns on its own
/// executor stays on the same thread, beside its pipes; what is spawned from elsewhere goes to the
/// threads in turn. A server of several threads thus has a task on each that creates instances of
/// the pipe and accepts.
///
/// Dropping it lets its tasks come to their ends; then its threads end.
#[derive(Debug)]
pub struct Executor {
    workers: Vec<Arc<Worker>>,
    next: AtomicUsize,
}

/// What a thread shares with those who give it work.
struct Worker {
    sleeper: Sleeper,
    queue: Mutex<VecDeque<Runnable>>,
    /// Tasks that have not ended, and one for the executor.
    reasons_to_run: AtomicUsize,
}

/// One reason to run.
struct Reason(Arc<Worker>);

impl Executor {
    /// Starts `threads` threads.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for 0 threads; the system's when it gives no
    /// thread or no completion port.
    pub fn new(threads: usize) -> io::Result<Self> {
        if threads == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "an executor without a thread would never run a task",
            ));
        }
        let mut executor = Self { workers: Vec::new(), next: AtomicUsize::new(0) };
        for _ in 0..threads {
            executor.workers.push(Worker::start()?);
        }
        Ok(executor)
    }

    /// Runs a future on one of the threads; see [`spawn`].
    pub fn spawn<F>(&self, future: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let worker = self.choose();
        let reason = Reason::new(worker);
        let future = async move {
            let _reason = reason;
            future.await
        };
        let queue = worker.clone();
        let (runnable, task) = async_task::Builder::new()
            .propagate_panic(true)
            .spawn(|()| in_context(future), move |runnable| queue.push(runnable));
        runnable.schedule();
        Task::new(task, worker.sleeper.driver())
    }

    /// The thread that is spawning, if it is one of ours, else the next.
    fn choose(&self) -> &Arc<Worker> {
        let here = Driver::entered().and_then(|driver| {
            self.workers.iter().find(|worker| Arc::ptr_eq(worker.sleeper.driver(), &driver))
        });
        here.unwrap_or_else(|| {
            let next = self.next.fetch_add(1, Ordering::Relaxed);
            &self.workers[next % self.workers.len()]
        })
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        for worker in &self.workers {
            worker.has_one_reason_less();
        }
    }
}

/// Has the future polled in the Tokio context that this is called in.
#[cfg(feature = "tokio")]
fn in_context<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let runtime = ::tokio::runtime::Handle::try_current().ok();
    async move {
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|context| {
            let _context = runtime.as_ref().map(::tokio::runtime::Handle::enter);
            future.as_mut().poll(context)
        })
        .await
    }
}

#[cfg(not(feature = "tokio"))]
fn in_context<F: Future>(future: F) -> F {
    future
}

impl Worker {
    fn start() -> io::Result<Arc<Self>> {
        let worker = Arc::new(Self {
            sleeper: Sleeper::new(Driver::new()?),
            queue: Mutex::new(VecDeque::new()),
            reasons_to_run: AtomicUsize::new(1),
        });
        let running = worker.clone();
        std::thread::Builder::new().name("npipe-executor".into()).spawn(move || running.run())?;
        Ok(worker)
    }

    fn run(&self) {
        let _entered = self.sleeper.driver().enter();
        let mut batch = Batch::new();
        while self.reasons_to_run.load(Ordering::SeqCst) > 0 {
            if self.run_tasks() {
                self.sleeper.look(&mut batch);
            } else {
                self.sleeper.sleep(&mut batch, || {
                    !lock(&self.queue).is_empty() || self.reasons_to_run.load(Ordering::SeqCst) == 0
                });
            }
        }
        self.sleeper.driver().serve_to_the_end();
    }

    /// Polls tasks that are ready, and tells whether there are more.
    fn run_tasks(&self) -> bool {
        for _ in 0..POLLS_BEFORE_LOOKING {
            let Some(runnable) = lock(&self.queue).pop_front() else { return false };
            runnable.run();
        }
        true
    }

    fn push(&self, runnable: Runnable) {
        lock(&self.queue).push_back(runnable);
        self.sleeper.wake();
    }

    fn has_one_reason_less(&self) {
        if self.reasons_to_run.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.sleeper.wake();
        }
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Worker").finish_non_exhaustive()
    }
}

impl Reason {
    fn new(worker: &Arc<Worker>) -> Self {
        worker.reasons_to_run.fetch_add(1, Ordering::SeqCst);
        Self(worker.clone())
    }
}

impl Drop for Reason {
    fn drop(&mut self) {
        self.0.has_one_reason_less();
    }
}
