//! Spans and events for `tracing`, by the feature of that name. Without it, all of this is empty.
//!
//! Each end has a span, `pipe`, from its creation to its drop. The events are those of a
//! connection, and not of single reads and writes: nothing is emitted while data flows. They are
//! emitted with no lock held, since a subscriber is code of the user.

use std::io;
#[cfg(feature = "tracing")]
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;
use std::time::Duration;

use crate::info::PipeEnd;
use crate::name::PipeName;

/// A drain that takes longer than this is reported.
#[cfg(feature = "tracing")]
const SLOW_DRAIN: Duration = Duration::from_secs(1);

/// The span of an end.
#[derive(Debug)]
pub(crate) struct PipeSpan(#[cfg(feature = "tracing")] AssertUnwindSafe<tracing::Span>);

#[cfg(not(feature = "tracing"))]
impl PipeSpan {
    pub(crate) const NONE: Self = Self();

    pub(crate) fn new(_: PipeEnd, _: &PipeName) -> Self {
        Self()
    }

    pub(crate) fn opened(&self) {}

    pub(crate) fn connected(&self) {}

    pub(crate) fn failed(&self, _: &'static str, _: &impl Outcome) {}

    pub(crate) fn drained(&self, _: &impl Outcome, _: Duration) {}

    pub(crate) fn closed(&self, _: bool) {}
}

#[cfg(feature = "tracing")]
impl PipeSpan {
    pub(crate) const NONE: Self = Self(AssertUnwindSafe(tracing::Span::none()));

    /// An end of the pipe `name`, which has just been made.
    pub(crate) fn new(end: PipeEnd, name: &PipeName) -> Self {
        let end = match end {
            PipeEnd::Server => "server",
            PipeEnd::Client => "client",
        };
        Self(AssertUnwindSafe(tracing::debug_span!(target: "npipe", parent: None, "pipe", end, %name)))
    }

    /// The end exists.
    pub(crate) fn opened(&self) {
        tracing::debug!(target: "npipe", parent: &*self.0, "opened");
    }

    /// The server's end has a client.
    pub(crate) fn connected(&self) {
        tracing::debug!(target: "npipe", parent: &*self.0, "connected");
    }

    /// Reports the error in `outcome`, if there is one.
    pub(crate) fn failed(&self, operation: &'static str, outcome: &impl Outcome) {
        if let Some(error) = outcome.error().filter(|error| error.kind() != io::ErrorKind::WouldBlock) {
            let code = crate::error::win32_code(error);
            tracing::debug!(target: "npipe", parent: &*self.0, operation, code, %error, "failed");
        }
    }

    /// The wait for the peer to read has ended, after so long.
    pub(crate) fn drained(&self, outcome: &impl Outcome, elapsed: Duration) {
        self.failed("drain", outcome);
        if outcome.error().is_none() && elapsed >= SLOW_DRAIN {
            tracing::info!(target: "npipe", parent: &*self.0, ?elapsed, "slow drain");
        }
    }

    /// The end has been dropped. `lingers`: writes are still on their way.
    pub(crate) fn closed(&self, lingers: bool) {
        // A subscriber that panics while a panic drops the end would abort the process.
        let _ = catch_unwind(|| tracing::debug!(target: "npipe", parent: &*self.0, lingers, "closed"));
    }
}

/// The result of an operation.
pub(crate) trait Outcome {
    #[cfg_attr(not(feature = "tracing"), allow(dead_code, reason = "for the events"))]
    fn error(&self) -> Option<&io::Error>;
}

impl<T> Outcome for io::Result<T> {
    fn error(&self) -> Option<&io::Error> {
        self.as_ref().err()
    }
}

impl<T> Outcome for Poll<io::Result<T>> {
    fn error(&self) -> Option<&io::Error> {
        match self {
            Poll::Ready(result) => result.error(),
            Poll::Pending => None,
        }
    }
}
