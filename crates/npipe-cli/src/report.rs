//! Every byte that goes to stderr (clap's refusal of a command line and the progress line apart),
//! and nothing that decides anything. A line is one write, so that the lines of processes that
//! share a terminal or a log do not mix.
//!
//! A thread writes them: a stderr that nobody reads, or that is closed or full, holds up no client.
//! Lines that find too many before them are dropped and counted.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

use crate::exit::Failure;

const FAILURE: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const DETAIL: Style = Style::new().dimmed();

#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    /// How often `-v` was given.
    verbosity: u8,
    /// Whether stderr is a terminal with colours and the user wants them: NO_COLOR and CLICOLOR say
    /// otherwise.
    colours: bool,
}

impl Report {
    pub(crate) fn new(verbosity: u8) -> Report {
        Report { verbosity, colours: AutoStream::choice(&io::stderr()) != ColorChoice::Never }
    }

    /// The last words of the process.
    pub(crate) fn failure(self, failure: &Failure) {
        self.line(FAILURE, format_args!("{failure}"));
        flush();
    }

    /// Programs wait for exactly this line before they connect.
    pub(crate) fn listening(self, name: &dyn fmt::Display) {
        QUEUE.push(Line::Plain(format!("listening on {name}\n")));
    }

    /// Something went wrong and the process goes on.
    pub(crate) fn warning(self, what: fmt::Arguments<'_>) {
        self.line(WARNING, what);
    }

    pub(crate) fn verbosity(self) -> u8 {
        self.verbosity
    }

    /// What those who asked for it with `-v` want to read: connections, and what became of them.
    pub(crate) fn detail(self, what: fmt::Arguments<'_>) {
        if self.verbosity >= 1 {
            self.line(DETAIL, what);
        }
    }

    /// What those who asked with `-vv` want to read: each step of a connection.
    pub(crate) fn step(self, what: fmt::Arguments<'_>) {
        if self.verbosity >= 2 {
            self.line(DETAIL, what);
        }
    }

    fn line(self, style: Style, text: fmt::Arguments<'_>) {
        QUEUE.push(if self.colours {
            Line::Coloured(format!("{style}npipe:{style:#} {text}\n"))
        } else {
            Line::Plain(format!("npipe: {text}\n"))
        });
    }
}

/// Waits until what was reported is written, as far as stderr takes it. Called before the end of
/// the process.
pub(crate) fn flush() {
    QUEUE.flush();
}

/// The number of lines that wait for a stderr that takes none.
const MOST_LINES: usize = 1000;

/// The time that a stderr has to take the last lines at the end of the process.
const LONGEST_FLUSH: Duration = Duration::from_secs(1);

static QUEUE: Queue = Queue {
    lines: Mutex::new(Lines { waiting: VecDeque::new(), dropped: 0, writer: Writer::NotStarted }),
    changed: Condvar::new(),
};

enum Line {
    Plain(String),
    /// The console of Windows has to be set up for colours.
    Coloured(String),
}

struct Lines {
    waiting: VecDeque<Line>,
    /// Since the last line that was queued.
    dropped: usize,
    writer: Writer,
}

#[derive(PartialEq, Eq)]
enum Writer {
    NotStarted,
    Waits,
    Writes,
}

struct Queue {
    lines: Mutex<Lines>,
    changed: Condvar,
}

impl Lines {
    fn note_dropped(&mut self) {
        if self.dropped > 0 {
            let dropped = std::mem::take(&mut self.dropped);
            let note = format!("npipe: {dropped} lines were dropped here, since stderr took none\n");
            self.waiting.push_back(Line::Plain(note));
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn push(&'static self, line: Line) {
        let mut lines = self.lock();
        if lines.waiting.len() >= MOST_LINES {
            lines.dropped += 1;
            return;
        }
        lines.note_dropped();
        if lines.writer == Writer::NotStarted {
            match thread::Builder::new().name("npipe-stderr".to_owned()).spawn(|| self.write()) {
                Ok(_) => lines.writer = Writer::Waits,
                // A process at its limit of threads had better say so.
                Err(_) => return write(&line),
            }
        }
        lines.waiting.push_back(line);
        self.changed.notify_all();
    }

    fn write(&self) {
        let mut lines = self.lock();
        loop {
            match lines.waiting.pop_front() {
                Some(line) => {
                    lines.writer = Writer::Writes;
                    drop(lines);
                    write(&line);
                    lines = self.lock();
                }
                None if lines.dropped > 0 => lines.note_dropped(),
                None => {
                    lines.writer = Writer::Waits;
                    self.changed.notify_all();
                    lines = self.changed.wait(lines).unwrap_or_else(|poisoned| poisoned.into_inner());
                }
            }
        }
    }

    fn flush(&self) {
        let is_busy = |lines: &mut Lines| !lines.waiting.is_empty() || lines.writer == Writer::Writes;
        let _ = self.changed.wait_timeout_while(self.lock(), LONGEST_FLUSH, is_busy);
    }
}

/// Nothing is left to do where stderr is closed or full.
fn write(line: &Line) {
    match line {
        Line::Plain(text) => write_to_stderr(text),
        #[cfg(windows)]
        Line::Coloured(text) => {
            let _ = io::Write::write_all(&mut AutoStream::always(io::stderr()), text.as_bytes());
        }
        #[cfg(not(windows))]
        Line::Coloured(text) => write_to_stderr(text),
    }
}

#[cfg(unix)]
fn write_to_stderr(text: &str) {
    let _ = crate::nonblocking::write_all(io::stderr(), text.as_bytes());
}

#[cfg(not(unix))]
fn write_to_stderr(text: &str) {
    let _ = io::Write::write_all(&mut io::stderr(), text.as_bytes());
}
