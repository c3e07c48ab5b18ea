//! The line by which a bulk transfer shows on a terminal how far it is.

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::ValueEnum;
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::endings::Direction;
use crate::report::Report;

/// Who waits for less does not look.
const PATIENCE: Duration = Duration::from_secs(1);
/// The line is drawn anew although nothing moves, so that a transfer that hangs is seen to.
const TICK: Duration = Duration::from_millis(500);

/// When there is a progress line. Never where stderr is no terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// When stdin or stdout is a file and stdout no terminal, and -v does not report already
    Auto,
    Always,
    Never,
}

/// What stdin and stdout are.
#[derive(Clone, Copy)]
struct Streams {
    stdout_is_terminal: bool,
    one_is_file: bool,
}

impl When {
    fn applies(self, verbosity: u8, streams: Streams) -> bool {
        match self {
            When::Never => false,
            When::Always => true,
            When::Auto => verbosity == 0 && !streams.stdout_is_terminal && streams.one_is_file,
        }
    }
}

pub(crate) struct Progress {
    bar: ProgressBar,
    sent: Arc<AtomicU64>,
    received: Arc<AtomicU64>,
    shown: Once,
}

impl Progress {
    pub(crate) fn new(when: When, report: Report) -> Option<Progress> {
        let streams = Streams {
            stdout_is_terminal: io::stdout().is_terminal(),
            one_is_file: is_file(io::stdin()) || is_file(io::stdout()),
        };
        let wanted = io::stderr().is_terminal() && when.applies(report.verbosity(), streams);
        wanted.then(|| Progress::on(ProgressDrawTarget::stderr()))
    }

    fn on(target: ProgressDrawTarget) -> Progress {
        let (sent, received) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let style =
            ProgressStyle::with_template("{sent} sent, {received} received, {bytes_per_sec}, {elapsed}")
                .expect("the template is a constant")
                .with_key("sent", shows(&sent))
                .with_key("received", shows(&received));
        let bar = ProgressBar::with_draw_target(None, target).with_style(style);
        Progress { bar, sent, received, shown: Once::new() }
    }

    /// So many bytes have been taken in this direction, all in all.
    pub(crate) fn moved(&self, direction: Direction, bytes: u64) {
        let counter = match direction {
            Direction::Requests => &self.sent,
            Direction::Replies => &self.received,
        };
        counter.store(bytes, Ordering::Relaxed);
        if self.bar.elapsed() >= PATIENCE {
            self.shown.call_once(|| self.bar.enable_steady_tick(TICK));
            let (sent, received) = (self.sent.load(Ordering::Relaxed), self.received.load(Ordering::Relaxed));
            self.bar.set_position(sent + received);
        }
    }

    /// Leaves the terminal to others.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn shows(counter: &Arc<AtomicU64>) -> impl Fn(&ProgressState, &mut dyn fmt::Write) + Clone + use<> {
    let counter = Arc::clone(counter);
    move |_, line| {
        let _ = write!(line, "{}", HumanBytes(counter.load(Ordering::Relaxed)));
    }
}

#[cfg(unix)]
fn is_file(stream: impl std::os::fd::AsFd) -> bool {
    let owned = stream.as_fd().try_clone_to_owned();
    owned.and_then(|owned| File::from(owned).metadata()).is_ok_and(|metadata| metadata.is_file())
}

#[cfg(windows)]
fn is_file(stream: impl std::os::windows::io::AsHandle) -> bool {
    let owned = stream.as_handle().try_clone_to_owned();
    owned.and_then(|owned| File::from(owned).metadata()).is_ok_and(|metadata| metadata.is_file())
}

#[cfg(test)]
mod tests {
    use super::{Streams, When};

    #[test]
    fn files_have_a_progress_line_where_nothing_else_is_on_the_terminal() {
        let streams = |stdout_is_terminal, one_is_file| Streams { stdout_is_terminal, one_is_file };
        assert!(When::Auto.applies(0, streams(false, true)));
        assert!(!When::Auto.applies(1, streams(false, true)), "each connection is reported");
        assert!(!When::Auto.applies(0, streams(true, true)), "the data is on the terminal");
        assert!(!When::Auto.applies(0, streams(false, false)), "a program talks to a program");
        assert!(When::Always.applies(1, streams(true, false)));
        assert!(!When::Never.applies(0, streams(false, true)));
    }
}
