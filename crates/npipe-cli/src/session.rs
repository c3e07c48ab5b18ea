//! A session of `npipe connect`: stdin goes to a server, what the server says goes to stdout, each on a thread of its
//! own, since reads of stdin can be neither polled nor cancelled on Windows.
//!
//! The rules of endings live here. What decides is the server: when it has no more to say, and all it said has been
//! taken by stdout, the session is over, although stdin may be open. The end of stdin leaves the replies alone, unless
//! it was asked to end the session; then what has arrived by that time is still delivered. Nothing here knows what
//! the streams are or what an error is called: it sees `Read` and `Write`.

use std::io::{self, Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::account::Account;
use crate::endings::{Direction, Stop};
use crate::relay::{End, Flow, Summary};

/// A buffer starts small, because most sessions are a question and an answer, and doubles while reads fill it.
const SMALLEST_BUFFER: usize = 8 * 1024;
const LARGEST_BUFFER: usize = 256 * 1024;

/// How long the last write may take once the server has ended: it ends with an error at once, but on another thread.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// How long the server has to be silent until the end of stdin ends the session, where that was asked for. What is in
/// the pipe already is read without waiting, so that it counts only whether the thread gets its turn meanwhile.
const SILENCE: Duration = Duration::from_millis(100);

/// Whether the end of stdin is the end of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndOfInput {
    /// The server goes on talking, and ends the session when it ends.
    KeepsSession,
    /// The session ends as soon as the server is silent.
    EndsSession,
}

/// The four ends of a session's streams.
pub(crate) struct Streams<Stdin, Stdout, ToServer, FromServer> {
    pub(crate) stdin: Stdin,
    pub(crate) stdout: Stdout,
    pub(crate) to_server: ToServer,
    pub(crate) from_server: FromServer,
}

/// Runs the session. `farewell` is called with the server's stream when stdin has ended well and all of it was sent:
/// some protocols have a word for that, and a server that has gone meanwhile is not worse for missing it. A thread may still
/// sit in a read on return; the end of the process ends it.
pub(crate) fn run<Stdin, Stdout, ToServer, FromServer>(
    streams: Streams<Stdin, Stdout, ToServer, FromServer>,
    end_of_input: EndOfInput,
    account: Account,
    farewell: impl FnOnce(&mut ToServer) + Send + 'static,
) -> io::Result<Summary>
where
    Stdin: Read + Send + 'static,
    Stdout: Write + Send + 'static,
    ToServer: Write + Send + 'static,
    FromServer: Read + Send + 'static,
{
    let Streams { stdin, stdout, to_server, from_server } = streams;
    let board = Arc::new(Board { account, notes: Mutex::default(), changed: Condvar::new() });
    let requests = Pump { board: Arc::clone(&board), direction: Direction::Requests };
    let replies = Pump { board: Arc::clone(&board), direction: Direction::Replies };
    thread::Builder::new()
        .name("stdin to server".to_owned())
        .spawn(move || requests.run(stdin, to_server, farewell))?;
    thread::Builder::new()
        .name("server to stdout".to_owned())
        .spawn(move || replies.run(from_server, stdout, |_| {}))?;
    Ok(board.wait(end_of_input))
}

/// Where both directions note how far they are, and where their end is waited for.
struct Board {
    account: Account,
    notes: Mutex<Notes>,
    changed: Condvar,
}

#[derive(Default)]
struct Notes {
    requests: Note,
    replies: Note,
    /// Whoever waits wants to hear of each step and not of ends only: near the end of the session. In its midst every
    /// chunk would cost a wake-up.
    every_step_counts: bool,
}

#[derive(Default)]
struct Note {
    /// Bytes that the receiver took.
    bytes: u64,
    phase: Phase,
}

#[derive(Default)]
enum Phase {
    #[default]
    Reading,
    /// So many bytes have been read and are not yet taken by the receiver.
    Writing {
        left: usize,
    },
    Ended(End),
}

impl Notes {
    fn of(&mut self, direction: Direction) -> &mut Note {
        match direction {
            Direction::Requests => &mut self.requests,
            Direction::Replies => &mut self.replies,
        }
    }
}

impl Note {
    fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended(_))
    }

    fn is_writing(&self) -> bool {
        matches!(self.phase, Phase::Writing { .. })
    }

    fn into_flow(self) -> Flow {
        let end = match self.phase {
            Phase::Reading => End::Abandoned { undelivered: 0 },
            Phase::Writing { left } => End::Abandoned { undelivered: left },
            Phase::Ended(end) => end,
        };
        Flow { bytes: self.bytes, end }
    }
}

impl Board {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, end_of_input: EndOfInput) -> Summary {
        let over = |notes: &Notes| {
            notes.replies.has_ended()
                || (end_of_input == EndOfInput::EndsSession && notes.requests.has_ended())
        };
        let mut notes = self
            .changed
            .wait_while(self.notes(), |notes| !over(notes))
            .unwrap_or_else(PoisonError::into_inner);
        notes.every_step_counts = true;
        let mut notes = if notes.replies.has_ended() {
            self.wait_for_last_write(notes)
        } else {
            self.wait_for_silence(notes)
        };
        let Notes { requests, replies, .. } = std::mem::take(&mut *notes);
        let summary = Summary { requests: requests.into_flow(), replies: replies.into_flow() };
        self.account.closed(Stop::Over, &summary);
        summary
    }

    /// Learns whether the server took what was being written to it when it ended.
    fn wait_for_last_write<'a>(&self, notes: MutexGuard<'a, Notes>) -> MutexGuard<'a, Notes> {
        if let Phase::Ended(End::WriteFailed(_)) = notes.replies.phase {
            // Nobody reads stdout. The server is there and may take its time; there is nothing to wait for.
            return notes;
        }
        let waited = self.changed.wait_timeout_while(notes, LAST_WRITE, |notes| notes.requests.is_writing());
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Waits until no reply has come for a while and none is on its way to stdout, or the server has ended.
    fn wait_for_silence<'a>(&self, mut notes: MutexGuard<'a, Notes>) -> MutexGuard<'a, Notes> {
        loop {
            let before = notes.replies.bytes;
            let waited = self.changed.wait_timeout_while(notes, SILENCE, |notes| {
                !notes.replies.has_ended() && notes.replies.bytes == before
            });
            let silent;
            (notes, silent) = waited.unwrap_or_else(PoisonError::into_inner);
            if notes.replies.has_ended() || (silent.timed_out() && !notes.replies.is_writing()) {
                return notes;
            }
        }
    }
}

/// One direction at work.
struct Pump {
    board: Arc<Board>,
    direction: Direction,
}

impl Pump {
    fn run<R: Read, W: Write>(self, sender: R, mut receiver: W, farewell: impl FnOnce(&mut W)) {
        let end = self.copy(sender, &mut receiver);
        if let End::Eof = end {
            farewell(&mut receiver);
        }
        self.note(0, Phase::Ended(end));
    }

    fn copy(&self, mut sender: impl Read, receiver: &mut impl Write) -> End {
        let mut buffer = vec![0; SMALLEST_BUFFER];
        loop {
            let read = match sender.read(&mut buffer) {
                Ok(0) => return End::Eof,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return End::ReadFailed(error),
            };
            self.note(0, Phase::Writing { left: read });
            if let Err(error) = self.hand_on(&buffer[..read], receiver) {
                return End::WriteFailed(error);
            }
            if read == buffer.len() && read < LARGEST_BUFFER {
                buffer.resize(read * 2, 0);
            }
        }
    }

    fn hand_on(&self, mut bytes: &[u8], receiver: &mut impl Write) -> io::Result<()> {
        while !bytes.is_empty() {
            match receiver.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => {
                    bytes = &bytes[taken..];
                    if bytes.is_empty() {
                        // A console's stdout keeps what follows the last line.
                        receiver.flush()?;
                    }
                    let left = bytes.len();
                    self.note(taken, if left == 0 { Phase::Reading } else { Phase::Writing { left } });
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn note(&self, taken: usize, phase: Phase) {
        let mut notes = self.board.notes();
        let note = notes.of(self.direction);
        note.bytes += taken as u64;
        if let Phase::Ended(end) = &phase {
            self.board.account.ended(self.direction, note.bytes, end);
        }
        self.board.account.moved(self.direction, note.bytes);
        note.phase = phase;
        let somebody_cares = note.has_ended() || notes.every_step_counts;
        drop(notes);
        if somebody_cares {
            self.board.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, PipeReader, PipeWriter, Read, Write};
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::{Account, End, EndOfInput, LARGEST_BUFFER, LAST_WRITE, Streams, Summary, run};
    use crate::report::Report;

    /// Far above what any session here takes: reached only when one hangs.
    const LIMIT: Duration = Duration::from_secs(60);

    /// The far ends of a session's streams.
    struct Outside {
        stdin: PipeWriter,
        stdout: PipeReader,
        requests: PipeReader,
        replies: PipeWriter,
    }

    fn streams() -> (Streams<PipeReader, PipeWriter, PipeWriter, PipeReader>, Outside) {
        let (stdin, feed) = io::pipe().unwrap();
        let (output, stdout) = io::pipe().unwrap();
        let (requests, to_server) = io::pipe().unwrap();
        let (from_server, replies) = io::pipe().unwrap();
        let inside = Streams { stdin, stdout, to_server, from_server };
        (inside, Outside { stdin: feed, stdout: output, requests, replies })
    }

    fn start<I, O, T, F>(streams: Streams<I, O, T, F>, end_of_input: EndOfInput) -> Receiver<Summary>
    where
        I: Read + Send + 'static,
        O: Write + Send + 'static,
        T: Write + Send + 'static,
        F: Read + Send + 'static,
    {
        let (done, summary) = channel();
        thread::spawn(move || {
            done.send(
                run(streams, end_of_input, Account::of_stdio(&"server", None, Report::new(0)), |_| {})
                    .unwrap(),
            )
        });
        summary
    }

    fn finished(summary: &Receiver<Summary>) -> Summary {
        summary.recv_timeout(LIMIT).expect("the session hangs")
    }

    fn read_all(mut stream: impl Read) -> Vec<u8> {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn read_exactly(stream: &mut impl Read, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn random(seed: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        fastrand::Rng::with_seed(seed).fill(&mut bytes);
        bytes
    }

    /// Notes how large the buffers are that it is read into.
    struct Sizes(Sender<usize>);

    impl Read for Sizes {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let _ = self.0.send(buffer.len());
            Ok(if buffer.len() < LARGEST_BUFFER { buffer.len() } else { 0 })
        }
    }

    struct Fails(&'static [u8]);

    impl Read for Fails {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(io::ErrorKind::ConnectionReset.into()),
                read => Ok(read),
            }
        }
    }

    /// Takes its time once it has begun, longer than the server takes to end.
    struct Slow(Sender<()>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.send(());
            thread::sleep(Duration::from_millis(200));
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn both_directions_carry_everything_at_once() {
        let (inside, outside) = streams();
        let summary = start(inside, EndOfInput::KeepsSession);
        let (sent, answered) = (random(1, 3_000_003), random(2, 2_000_001));
        let Outside { mut stdin, stdout, requests, mut replies } = outside;
        thread::scope(|scope| {
            let received = scope.spawn(|| read_all(requests));
            let output = scope.spawn(|| read_all(stdout));
            scope.spawn(|| stdin.write_all(&sent).map(|()| drop(stdin)));
            replies.write_all(&answered).unwrap();
            assert!(received.join().unwrap() == sent);
            drop(replies);
            assert!(output.join().unwrap() == answered);
        });
        let summary = finished(&summary);
        assert_eq!((summary.requests.bytes, summary.replies.bytes), (3_000_003, 2_000_001));
        assert!(matches!((summary.requests.end, summary.replies.end), (End::Eof, End::Eof)));
    }

    #[test]
    fn the_end_of_the_server_ends_the_session_although_stdin_is_open() {
        let (inside, outside) = streams();
        let summary = start(inside, EndOfInput::KeepsSession);
        let Outside { stdin: _stays_open, stdout, requests: _requests, mut replies } = outside;
        replies.write_all(b"bye").unwrap();
        drop(replies);
        let summary = finished(&summary);
        assert_eq!(read_all(stdout), b"bye");
        assert!(matches!(summary.requests.end, End::Abandoned { undelivered: 0 }), "{summary:?}");
    }

    #[test]
    fn a_server_that_takes_no_more_is_known_when_it_ends() {
        let (inside, outside) = streams();
        let summary = start(inside, EndOfInput::KeepsSession);
        let Outside { mut stdin, stdout: _stdout, requests, replies } = outside;
        drop(requests);
        // More than all the pipes hold: it fails once the session has stopped reading.
        assert!(stdin.write_all(&[7; 4 * 1024 * 1024]).is_err());
        drop(replies);
        let summary = finished(&summary);
        assert!(matches!(summary.requests.end, End::WriteFailed(_)), "{summary:?}");
        assert!(matches!(summary.replies.end, End::Eof), "{summary:?}");
    }

    #[test]
    fn a_server_that_takes_the_last_request_and_ends_is_not_waited_for_any_longer() {
        let (Streams { stdin, stdout, from_server, .. }, outside) = streams();
        let (begins, begun) = channel();
        let inside = Streams { stdin, stdout, to_server: Slow(begins), from_server };
        let Outside { mut stdin, replies, .. } = outside;
        stdin.write_all(b"request").unwrap();
        let session = start(inside, EndOfInput::KeepsSession);
        begun.recv_timeout(LIMIT).unwrap();
        let end_of_server = Instant::now();
        drop(replies);
        let summary = finished(&session);
        assert!(end_of_server.elapsed() < LAST_WRITE);
        assert_eq!(summary.requests.bytes, 7);
        assert!(matches!(summary.requests.end, End::Abandoned { undelivered: 0 }), "{summary:?}");
    }

    #[test]
    fn an_error_of_stdin_does_not_cut_the_reply_off() {
        let (Streams { stdout, to_server, from_server, .. }, outside) = streams();
        let inside = Streams { stdin: Fails(b"request"), stdout, to_server, from_server };
        let summary = start(inside, EndOfInput::KeepsSession);
        let Outside { stdout, requests, mut replies, .. } = outside;
        assert_eq!(read_all(requests), b"request");
        replies.write_all(b"reply").unwrap();
        drop(replies);
        assert_eq!(read_all(stdout), b"reply");
        assert!(matches!(finished(&summary).requests.end, End::ReadFailed(_)));
    }

    #[test]
    fn what_came_before_a_read_error_is_delivered() {
        let (Streams { stdin, stdout, to_server, .. }, outside) = streams();
        let inside = Streams { stdin, stdout, to_server, from_server: Fails(b"half a reply") };
        let summary = start(inside, EndOfInput::KeepsSession);
        assert_eq!(read_all(outside.stdout), b"half a reply");
        assert!(matches!(finished(&summary).replies.end, End::ReadFailed(_)));
    }

    #[test]
    fn a_stdout_without_reader_ends_the_session_although_the_server_takes_nothing() {
        let (inside, outside) = streams();
        let summary = start(inside, EndOfInput::KeepsSession);
        let Outside { mut stdin, stdout, requests: _never_read, mut replies } = outside;
        drop(stdout);
        let feed = thread::spawn(move || stdin.write_all(&[7; 4 * 1024 * 1024]));
        replies.write_all(b"nobody reads this").unwrap();
        assert!(matches!(finished(&summary).replies.end, End::WriteFailed(_)));
        drop(feed);
    }

    #[test]
    fn the_end_of_stdin_ends_a_session_that_is_told_so() {
        let (inside, outside) = streams();
        let summary = start(inside, EndOfInput::EndsSession);
        let Outside { mut stdin, stdout: _stdout, mut requests, replies: _stays_open } = outside;
        stdin.write_all(b"request").unwrap();
        drop(stdin);
        assert_eq!(read_exactly(&mut requests, 7), b"request");
        let summary = finished(&summary);
        assert!(matches!(summary.requests.end, End::Eof), "{summary:?}");
        assert!(matches!(summary.replies.end, End::Abandoned { undelivered: 0 }), "{summary:?}");
    }

    #[test]
    fn what_the_server_had_said_when_stdin_ended_is_delivered_to_a_slow_reader() {
        let (inside, outside) = streams();
        let summary = start(inside, EndOfInput::EndsSession);
        let Outside { stdin, mut stdout, requests: _requests, mut replies } = outside;
        let answer = random(3, 1_000_000);
        drop(stdin);
        thread::scope(|scope| {
            scope.spawn(|| replies.write_all(&answer));
            // Nobody has read for longer than the silence that ends a session.
            thread::sleep(Duration::from_millis(300));
            assert!(read_exactly(&mut stdout, answer.len()) == answer);
        });
        assert_eq!(finished(&summary).replies.bytes, 1_000_000);
    }

    #[test]
    fn buffers_grow_while_reads_fill_them() {
        let (Streams { stdout, to_server, from_server, .. }, outside) = streams();
        let (sizes, seen) = channel();
        let inside = Streams { stdin: Sizes(sizes), stdout, to_server, from_server };
        let summary = start(inside, EndOfInput::KeepsSession);
        drop(read_all(outside.requests));
        drop(outside.replies);
        finished(&summary);
        let seen: Vec<usize> = seen.iter().map(|size| size / 1024).collect();
        assert_eq!(seen, [8, 16, 32, 64, 128, 256]);
    }
}
