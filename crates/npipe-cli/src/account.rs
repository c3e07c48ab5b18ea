//! What is told of one connection: its steps (`-vv`), how far it is (the progress line) and what
//! became of it (`-v`). It is told by whoever joins the streams, and decides nothing.

use std::fmt;
use std::time::{Duration, Instant};

use indicatif::{FormattedDuration, HumanBytes};

use crate::endings::{Direction, Stop};
use crate::progress::Progress;
use crate::relay::{End, Flow, Summary};
use crate::report::Report;

/// From here on it is of interest how fast bytes moved.
const BULK: u64 = 1024 * 1024;

pub(crate) struct Account {
    report: Report,
    subject: Subject,
    started: Instant,
    progress: Option<Progress>,
}

enum Subject {
    /// One of many connections, as it is called with its number.
    Numbered(String),
    /// Stdin and stdout, joined with what is called so.
    Stdio(String),
}

impl Account {
    pub(crate) fn of_client(number: u64, report: Report) -> Account {
        Account::of_number("client", number, report)
    }

    /// A connection in the Windows half of the bridge.
    pub(crate) fn of_connection(id: impl fmt::Display, report: Report) -> Account {
        Account::of_number("connection", id, report)
    }

    fn of_number(what: &str, number: impl fmt::Display, report: Report) -> Account {
        let subject = Subject::Numbered(format!("{what} {number}"));
        Account { report, subject, started: Instant::now(), progress: None }
    }

    pub(crate) fn of_stdio(peer: &dyn fmt::Display, progress: Option<Progress>, report: Report) -> Account {
        Account { report, subject: Subject::Stdio(peer.to_string()), started: Instant::now(), progress }
    }

    /// So many bytes have been taken in this direction, all in all.
    pub(crate) fn moved(&self, direction: Direction, bytes: u64) {
        if let Some(progress) = &self.progress {
            progress.moved(direction, bytes);
        }
    }

    /// This direction has ended, the other may go on.
    pub(crate) fn ended(&self, direction: Direction, bytes: u64, end: &End) {
        if self.report.verbosity() < 2 {
            return;
        }
        let (sender, receiver) = match (&self.subject, direction) {
            (Subject::Numbered(_), Direction::Requests) => ("the client", "the server"),
            (Subject::Numbered(_), Direction::Replies) => ("the server", "the client"),
            (Subject::Stdio(peer), Direction::Requests) => ("stdin", peer.as_str()),
            (Subject::Stdio(peer), Direction::Replies) => (peer.as_str(), "stdout"),
        };
        let what = match end {
            End::Eof => format!("{sender} ended its side, and {receiver} took it all"),
            End::ReadFailed(error) => format!("{sender} broke off: {error}"),
            End::WriteFailed(error) => format!("{receiver} takes no more: {error}"),
            End::Abandoned { undelivered } => format!("{receiver} did not take {undelivered} bytes more"),
        };
        let time = Lasted(self.started.elapsed());
        match &self.subject {
            Subject::Numbered(name) => {
                self.report.step(format_args!("{name}: {what}, after {bytes} bytes and {time}"));
            }
            Subject::Stdio(_) => self.report.step(format_args!("{what}, after {bytes} bytes and {time}")),
        }
    }

    /// Names bytes whose receiver is there and took them too slowly. A server that ends before it
    /// has taken all, and a client that leaves before, do not want them.
    fn warn_of_lost(&self, stop: Stop, summary: &Summary) {
        let lost = |flow: &Flow, whose: &str, receiver: &str| {
            let End::Abandoned { undelivered: bytes @ 1.. } = flow.end else { return };
            match &self.subject {
                Subject::Numbered(name) => self.report.warning(format_args!(
                    "{name}: {receiver} took {whose} too slowly: {bytes} bytes were not delivered"
                )),
                Subject::Stdio(peer) => {
                    self.report.warning(format_args!(
                        "{peer} took stdin too slowly: {bytes} bytes were not delivered"
                    ));
                }
            }
        };
        let is_numbered = matches!(self.subject, Subject::Numbered(_));
        // What is lost between stdin, stdout and a peer that is there decides the exit code as well.
        if stop == Stop::ClientHasGone || (stop == Stop::Idle && is_numbered) {
            lost(&summary.requests, "the requests", "the server");
        }
        if stop == Stop::Idle && is_numbered {
            lost(&summary.replies, "the replies", "the client");
        }
    }

    /// The session is over.
    pub(crate) fn closed(&self, stop: Stop, summary: &Summary) {
        if let Some(progress) = &self.progress {
            progress.clear();
        }
        let Summary { requests, replies } = summary;
        for (direction, flow) in [(Direction::Requests, requests), (Direction::Replies, replies)] {
            if let Flow { bytes, end: end @ End::Abandoned { undelivered: 1.. } } = flow {
                self.ended(direction, *bytes, end);
            }
        }
        self.warn_of_lost(stop, summary);
        let time = self.started.elapsed();
        let (lasted, speed) = (Lasted(time), Speed { bytes: requests.bytes + replies.bytes, time });
        let (sent, received) = (requests.bytes, replies.bytes);
        let idle = if stop == Stop::Idle { ", idle" } else { "" };
        match &self.subject {
            Subject::Numbered(name) => self.report.detail(format_args!(
                "{name}: ended, {sent} bytes to the server, {received} bytes to the client, {lasted}{speed}{idle}"
            )),
            Subject::Stdio(peer) => self.report.detail(format_args!(
                "{peer} ended after {lasted}: {sent} bytes sent, {received} bytes received{speed}{idle}"
            )),
        }
    }
}

/// A duration for people.
pub(crate) struct Lasted(pub(crate) Duration);

impl fmt::Display for Lasted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            short if short < Duration::from_secs(60) => write!(formatter, "{short:.1?}"),
            long => FormattedDuration(long).fmt(formatter),
        }
    }
}

/// How fast so many bytes moved, if they were many.
struct Speed {
    bytes: u64,
    time: Duration,
}

impl fmt::Display for Speed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let &Speed { bytes, time } = self;
        if bytes < BULK || time.is_zero() {
            return Ok(());
        }
        write!(formatter, ", {}/s", HumanBytes((bytes as f64 / time.as_secs_f64()) as u64))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Lasted, Speed};

    #[test]
    fn durations_are_as_exact_as_they_are_short() {
        let shown = |microseconds| Lasted(Duration::from_micros(microseconds)).to_string();
        assert_eq!(shown(1_234), "1.2ms");
        assert_eq!(shown(12_345_678), "12.3s");
        assert_eq!(shown(3_723_000_000), "01:02:03");
    }

    #[test]
    fn the_speed_of_bulk_is_told_and_no_other() {
        let shown =
            |bytes, milliseconds| Speed { bytes, time: Duration::from_millis(milliseconds) }.to_string();
        assert_eq!(shown(64 * 1024 * 1024, 500), ", 128.00 MiB/s");
        assert_eq!(shown(64 * 1024, 500), "");
        assert_eq!(shown(u64::MAX, 0), "");
    }
}
