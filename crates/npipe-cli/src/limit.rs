//! Limits that clients meet: of connections, and of open files. Reaching one is reported, the first
//! time as a warning, and the client waits.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::report::Report;

/// An event that may repeat for each client: a warning the first time, afterwards a line with `-v`.
#[derive(Debug, Default)]
pub(crate) struct Recurring {
    has_occurred: AtomicBool,
}

impl Recurring {
    pub(crate) fn report(&self, report: Report, what: fmt::Arguments<'_>) {
        if self.has_occurred.swap(true, Ordering::Relaxed) {
            report.detail(what);
        } else {
            report.warning(what);
        }
    }
}

/// The number of connections at a time.
#[derive(Debug)]
pub(crate) struct Limit {
    /// One permit for each.
    room: Arc<Semaphore>,
    reached: Recurring,
}

impl Limit {
    pub(crate) fn new(connections: usize) -> Limit {
        Limit { room: Arc::new(Semaphore::new(connections)), reached: Recurring::default() }
    }

    /// Waits until there is room for one more connection, and reports `what` if there is none now.
    pub(crate) async fn acquire(
        &self,
        report: Report,
        what: impl FnOnce() -> String,
    ) -> OwnedSemaphorePermit {
        let room = Arc::clone(&self.room);
        match Arc::clone(&room).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                self.reached.report(report, format_args!("{}", what()));
                room.acquire_owned().await.expect("the semaphore is never closed")
            }
        }
    }
}

/// The number of files that this process may have open, if this platform has such a limit.
#[cfg(unix)]
pub(crate) fn open_files() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

/// Raises the limit of open files as far as the user's is higher: a connection needs up to four,
/// and the usual 1,024 are what programs with `select` can use.
#[cfg(unix)]
pub(crate) fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    /// Programs that `exec:` starts inherit the limit, and some close as many files when they
    /// start.
    const ENOUGH: u64 = 65_536;

    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.unwrap_or(ENOUGH).min(ENOUGH);
    if current.is_some_and(|current| current < wanted) {
        // It stays as it is where the kernel refuses, and clients wait earlier.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
    }
}
