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
use std::time::{Duration, Instant};

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

    /// The reason for the end of the process. Returns when it is written, or stderr has not taken
    /// it in time.
    pub(crate) fn failure(self, failure: &Failure) {
        QUEUE.finish(self.line(FAILURE, format_args!("{failure}")));
    }

    /// Programs wait for exactly this line before they connect.
    pub(crate) fn listening(self, name: &dyn fmt::Display) {
        QUEUE.push(Line::Plain(format!("listening on {name}\n")));
    }

    /// Something went wrong and the process goes on.
    pub(crate) fn warning(self, what: fmt::Arguments<'_>) {
        QUEUE.push(self.line(WARNING, what));
    }

    pub(crate) fn verbosity(self) -> u8 {
        self.verbosity
    }

    /// What those who asked for it with `-v` want to read: connections, and what became of them.
    pub(crate) fn detail(self, what: fmt::Arguments<'_>) {
        if self.verbosity >= 1 {
            QUEUE.push(self.line(DETAIL, what));
        }
    }

    /// What those who asked with `-vv` want to read: each step of a connection.
    pub(crate) fn step(self, what: fmt::Arguments<'_>) {
        if self.verbosity >= 2 {
            QUEUE.push(self.line(DETAIL, what));
        }
    }

    fn line(self, style: Style, text: fmt::Arguments<'_>) -> Line {
        if self.colours {
            Line::Coloured(format!("{style}npipe:{style:#} {text}\n"))
        } else {
            Line::Plain(format!("npipe: {text}\n"))
        }
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

static QUEUE: Queue = Queue::new(write);

enum Line {
    Plain(String),
    /// The console of Windows has to be set up for colours.
    Coloured(String),
    /// In place of so many.
    Dropped(usize),
}

#[derive(PartialEq, Eq)]
enum Writer {
    NotStarted,
    Waits,
    Writes,
}

struct Lines {
    waiting: VecDeque<Line>,
    writer: Writer,
}

impl Lines {
    fn push(&mut self, line: Line) {
        if self.waiting.len() < MOST_LINES {
            self.waiting.push_back(line);
        } else if let Some(Line::Dropped(lines)) = self.waiting.back_mut() {
            *lines += 1;
        } else {
            self.waiting.push_back(Line::Dropped(1));
        }
    }

    /// Drops all lines before the last one.
    fn keep_last(&mut self) {
        let Some(last) = self.waiting.pop_back() else { return };
        let dropped =
            self.waiting.drain(..).map(|line| if let Line::Dropped(lines) = line { lines } else { 1 });
        let dropped = dropped.sum();
        if dropped > 0 {
            self.waiting.push_back(Line::Dropped(dropped));
        }
        self.waiting.push_back(last);
    }
}

struct Queue {
    lines: Mutex<Lines>,
    changed: Condvar,
    write: fn(&Line),
}

impl Queue {
    const fn new(write: fn(&Line)) -> Queue {
        let lines = Lines { waiting: VecDeque::new(), writer: Writer::NotStarted };
        Queue { lines: Mutex::new(lines), changed: Condvar::new(), write }
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn push(&'static self, line: Line) {
        let mut lines = self.lock();
        lines.push(line);
        drop(self.write_waiting(lines, Duration::ZERO));
    }

    /// Writes `last` after all others, or, where these take too long, in place of them.
    fn finish(&'static self, last: Line) {
        self.lock().waiting.push_back(last);
        if !self.flush() {
            self.lock().keep_last();
            self.flush();
        }
    }

    /// Returns whether all is written.
    fn flush(&'static self) -> bool {
        let is_busy = |lines: &mut Lines| !lines.waiting.is_empty() || lines.writer == Writer::Writes;
        let lines = self.write_waiting(self.lock(), LONGEST_FLUSH);
        match self.changed.wait_timeout_while(lines, LONGEST_FLUSH, is_busy) {
            Ok((_, waited)) => !waited.timed_out(),
            Err(_) => false,
        }
    }

    /// Has the thread write the lines. Where it cannot be started, as at a limit of threads, the
    /// caller writes them, while stderr takes the next one within `time`; the rest waits for the
    /// next call.
    fn write_waiting<'a>(
        &'static self,
        mut lines: MutexGuard<'a, Lines>,
        time: Duration,
    ) -> MutexGuard<'a, Lines> {
        if lines.writer == Writer::NotStarted && !lines.waiting.is_empty() {
            match thread::Builder::new().name("npipe-stderr".to_owned()).spawn(|| self.run()) {
                Ok(_) => lines.writer = Writer::Waits,
                Err(_) => {
                    let deadline = Instant::now() + time;
                    let left = || deadline.saturating_duration_since(Instant::now());
                    lines = self.write_while(lines, || takes_a_line(left()));
                    lines.writer = Writer::NotStarted;
                }
            }
        }
        self.changed.notify_all();
        lines
    }

    fn run(&self) {
        let mut lines = self.lock();
        loop {
            lines = self.write_while(lines, || true);
            lines.writer = Writer::Waits;
            self.changed.notify_all();
            lines = self.changed.wait(lines).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    fn write_while<'a>(
        &'a self,
        mut lines: MutexGuard<'a, Lines>,
        takes_a_line: impl Fn() -> bool,
    ) -> MutexGuard<'a, Lines> {
        while !lines.waiting.is_empty()
            && takes_a_line()
            && let Some(line) = lines.waiting.pop_front()
        {
            lines.writer = Writer::Writes;
            // No other thread waits for stderr.
            drop(lines);
            (self.write)(&line);
            lines = self.lock();
        }
        lines
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
        Line::Dropped(lines) => {
            write_to_stderr(&format!("npipe: {lines} lines were dropped here, since stderr took none\n"))
        }
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

/// Returns whether a write to stderr within `time` does not block. An error of the write counts.
#[cfg(unix)]
fn takes_a_line(time: Duration) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    let time = Timespec::try_from(time).expect("a second is no overflow");
    poll(&mut [PollFd::new(&io::stderr(), PollFlags::OUT)], Some(&time)).is_ok_and(|ready| ready > 0)
}

/// Windows does not show it. While the process serves, the line waits for a thread.
#[cfg(windows)]
fn takes_a_line(time: Duration) -> bool {
    !time.is_zero()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
    use std::sync::{Mutex, OnceLock};
    use std::thread;
    use std::time::Duration;

    use super::{Line, MOST_LINES, Queue};

    const LIMIT: Duration = Duration::from_secs(60);

    fn text(line: &Line) -> String {
        match line {
            Line::Plain(text) | Line::Coloured(text) => text.clone(),
            Line::Dropped(lines) => format!("{lines} dropped"),
        }
    }

    fn line(number: usize) -> Line {
        Line::Plain(number.to_string())
    }

    #[test]
    fn the_last_line_is_written_when_as_many_wait_as_are_kept() {
        type Lines = (SyncSender<String>, Mutex<Receiver<String>>);
        static STDERR: OnceLock<Lines> = OnceLock::new();
        static QUEUE: Queue = Queue::new(|line| STDERR.get().unwrap().0.send(text(line)).unwrap());
        // Each line waits until it is read.
        let (send, receive) = sync_channel(0);
        STDERR.set((send, Mutex::new(receive))).unwrap();
        (0..MOST_LINES + 500).for_each(|number| QUEUE.push(line(number)));
        let reader = thread::spawn(|| {
            let lines = STDERR.get().unwrap().1.lock().unwrap();
            let next = || lines.recv_timeout(LIMIT).expect("the last line");
            std::iter::repeat_with(next).take_while(|line| line != "the end").collect::<Vec<_>>()
        });
        QUEUE.finish(Line::Plain("the end".to_owned()));
        let lines = reader.join().unwrap();
        let dropped = lines.last().unwrap().strip_suffix(" dropped").unwrap().parse::<usize>().unwrap();
        assert_eq!(lines.len() - 1 + dropped, MOST_LINES + 500);
    }

    #[test]
    fn the_last_line_takes_the_place_of_others_that_stderr_takes_too_slowly() {
        static WRITTEN: Mutex<Vec<String>> = Mutex::new(Vec::new());
        static QUEUE: Queue = Queue::new(|line| {
            thread::sleep(Duration::from_millis(100));
            WRITTEN.lock().unwrap().push(text(line));
        });
        (0..MOST_LINES).for_each(|number| QUEUE.push(line(number)));
        QUEUE.finish(Line::Plain("the end".to_owned()));
        let written = WRITTEN.lock().unwrap();
        let [.., dropped, last] = &written[..] else { panic!("{written:?}") };
        assert_eq!(last, "the end");
        assert_eq!(*dropped, format!("{} dropped", MOST_LINES + 2 - written.len()));
    }
}
