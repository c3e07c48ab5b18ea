//! Tasks on threads that wait on a completion port themselves.
//!
//! On another runtime a pipe's packet is dequeued by the driver's thread, which then wakes the
//! runtime's: a switch to the one and a switch to the other. Here the thread that polls the futures
//! is the one that dequeues. Each has a port of its own, and pipes made by what runs on it are tied
//! to that port; other pipes work as well, at the usual price.
//!
//! Knows futures and ports; no pipe and, but for its context, no runtime.

mod block_on;
mod executor;
mod nesting;
mod sleeper;
mod task;

#[cfg(all(test, not(windows), not(loom)))]
mod tests;

pub use block_on::block_on;
pub use executor::{Executor, spawn};
pub use task::Task;
