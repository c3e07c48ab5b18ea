//! One round of a case: what was done, in what time, with how much heap. Knows no library.

use std::time::{Duration, Instant};

use crate::sys;

/// What one round brought.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    pub(crate) operations: u32,
    pub(crate) elapsed: Duration,
    /// Bytes of heap in use at the end and not at the start.
    pub(crate) heap_growth: usize,
}

/// Starts when the pipes are connected and the tasks ready, so that a round is traffic and nothing
/// else.
pub(crate) struct Stopwatch {
    start: Instant,
    heap: usize,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        let heap = sys::heap_in_use();
        Self { start: Instant::now(), heap }
    }

    pub(crate) fn stop(&self, operations: u32) -> Round {
        let elapsed = self.start.elapsed();
        Round { operations, elapsed, heap_growth: sys::heap_in_use().saturating_sub(self.heap) }
    }
}

/// A pipe name that no other round and no other process uses.
pub(crate) fn unique_pipe_name() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(r"\\.\pipe\npipe-bench-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
