//! Two byte streams joined: what a client says goes to a server, what the server says goes to the
//! client.
//!
//! [`Endings`] decides when that is over; here its decisions are executed, once for every kind of
//! stream. An end is passed on by `shutdown`: half-close where the stream has one, else a flush.
//!
//! Nothing here opens a stream or knows what an error is called: it sees a [`Stream`], and tells an
//! [`Account`] how it goes.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_util::io::poll_read_buf;

use crate::account::Account;
use crate::dial::Stream;
use crate::endings::{Direction, Ending, Endings, Next, Progress, Session, Standstill, Stop};

/// What one read returns is one message where the receiver is a pipe of messages: so a buffer has
/// the size of the largest write of a pipe or a socket that programs commonly make. For a longer
/// message of a pipe it grows, until that is sent.
const BUFFER: usize = 64 * 1024;

/// How much is read of what a server says whose client has gone. One that goes on is left, since it
/// does not read what it would be told.
const LARGEST_DROP: u64 = 16 * 1024 * 1024;

/// How many steps a direction may take before the other one, and other connections, get their turn:
/// a stream that is always ready would keep the thread for itself.
const STEPS_PER_TURN: usize = 32;

/// The most that a stream holds of what it took and has not handed on: the write buffer of a pipe.
const MOST_HELD: u64 = 256 * 1024;

/// How long the system may take to accept the last bytes for the server once the session is over.
const LAST_FLUSH: Duration = Duration::from_secs(2);

/// Whether a side that is watched has left: a read after its end waits for that, and fails.
enum Departure {
    Unknown,
    /// This stream reports another end, and no departure.
    NotReported,
}

impl Departure {
    /// `at_end`: the end of its bytes has been read. Bytes before it have no receiver any
    /// more, and are dropped. `end_is_departure`: that end shows it already.
    fn is_seen(
        &mut self,
        cx: &mut Context<'_>,
        side: &mut (impl AsyncRead + Unpin),
        at_end: &mut bool,
        end_is_departure: bool,
    ) -> bool {
        let mut bytes = [0; 1024];
        for _ in 0..STEPS_PER_TURN {
            if let Departure::NotReported = self {
                return false;
            }
            let mut read = ReadBuf::new(&mut bytes);
            match Pin::new(&mut *side).poll_read(cx, &mut read) {
                Poll::Pending => return false,
                Poll::Ready(Err(_)) => {
                    *at_end = true;
                    return true;
                }
                Poll::Ready(Ok(())) if !read.filled().is_empty() => {}
                Poll::Ready(Ok(())) if end_is_departure => return true,
                Poll::Ready(Ok(())) if *at_end => *self = Departure::NotReported,
                Poll::Ready(Ok(())) => *at_end = true,
            }
        }
        cx.waker().wake_by_ref();
        false
    }
}

/// Notices that nothing has moved for a while. The timer is set anew when it fires, not with each
/// byte.
struct Silence {
    limit: Option<Duration>,
    since: Instant,
    bytes: u64,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Silence {
    fn new() -> Silence {
        Silence { limit: None, since: Instant::now(), bytes: 0, timer: None }
    }

    /// Ready with what the limit is for when it has lasted for that, counted from the last byte and
    /// from the last change of the limit.
    fn poll<T>(&mut self, cx: &mut Context<'_>, bytes: u64, limit: Option<(Duration, T)>) -> Poll<T> {
        let previous = self.limit;
        self.limit = limit.as_ref().map(|(limit, _)| *limit);
        let Some((limit, reason)) = limit else { return Poll::Pending };
        if previous != Some(limit) || bytes != self.bytes {
            self.bytes = bytes;
            self.since = Instant::now();
        }
        let deadline = self.since + limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if deadline < timer.deadline() {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(reason);
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

/// What went through, and how each direction ended.
#[derive(Debug)]
pub(crate) struct Summary {
    pub(crate) requests: Flow,
    pub(crate) replies: Flow,
}

/// One direction, after the fact.
#[derive(Debug)]
pub(crate) struct Flow {
    /// Bytes that the receiving stream took.
    pub(crate) bytes: u64,
    pub(crate) end: End,
}

#[derive(Debug)]
pub(crate) enum End {
    /// The sender ended, and all it sent was handed on and flushed.
    Eof,
    ReadFailed(io::Error),
    WriteFailed(io::Error),
    /// The session was over first. So many bytes had been read, and the receiver did not take them,
    /// or its stream took and kept them.
    Abandoned {
        undelivered: usize,
    },
}

/// The hang-up of a client whose stream shows it by its bytes alone.
pub(crate) fn unseen<C>(_: &mut Context<'_>, _: &C) -> Poll<()> {
    Poll::Pending
}

/// Joins the two until the session is over. `hung_up` is ready when the client takes no more
/// replies, where its stream shows that only at the next write. On return all that was delivered is
/// flushed, and neither stream is closed beyond what the rules above say: dropping them is the
/// caller's part.
pub(crate) async fn relay<C, S>(
    client: &mut C,
    server: &mut S,
    session: Session,
    mut hung_up: impl FnMut(&mut Context<'_>, &C) -> Poll<()>,
    account: &Account,
) -> (Stop, Summary)
where
    C: Stream,
    S: Stream,
{
    let mut requests = Pump::of(session, Direction::Requests, server.sends_messages(), account);
    let mut replies = Pump::of(session, Direction::Replies, client.sends_messages(), account);
    let mut silence = Silence::new();
    let (mut client_departure, mut server_departure) = (Departure::Unknown, Departure::Unknown);
    let mut endings = Endings::new(session);
    let stop = poll_fn(|cx| {
        let _ = requests.poll(cx, client, server, |_| true);
        let _ = replies.poll(cx, server, client, |well| session.tells_client(well));
        if endings.watches_hang_up(replies.progress(), server.gives_bytes()) && hung_up(cx, client).is_ready()
        {
            if !replies.has_ended() {
                replies.state = State::Ended(End::WriteFailed(io::ErrorKind::BrokenPipe.into()));
            }
            endings.on_client_left();
        }
        let end_is_departure = endings.client_leaves_with_its_end();
        if endings.watches_client(requests.progress())
            && client_departure.is_seen(cx, client, &mut requests.sender_said_all, end_is_departure)
        {
            endings.on_client_left();
        }
        if endings.watches_server(replies.progress())
            && server_departure.is_seen(cx, server, &mut replies.sender_said_all, false)
        {
            endings.on_server_left();
        }
        match endings.next(requests.progress(), replies.progress()) {
            Next::Stop(stop) => Poll::Ready(stop),
            Next::GoOn(limit) => silence.poll(cx, requests.bytes + replies.bytes, limit),
        }
    })
    .await;
    if stop == Stop::ClientHasGone {
        say_farewell(&mut requests, &replies, client, server, endings).await;
    }
    if !requests.has_ended() {
        // The last bytes that the server's stream took may still be on their way to the kernel.
        match timeout(LAST_FLUSH, server.flush()).await {
            Ok(Ok(())) => requests.flushed = requests.bytes,
            Ok(Err(error)) => requests.state = State::Ended(End::WriteFailed(error)),
            Err(_) => {}
        }
    }
    if !replies.has_ended()
        && poll_fn(|cx| Poll::Ready(Pin::new(&mut *client).poll_flush(cx))).await.is_ready()
    {
        replies.flushed = replies.bytes;
    }
    let summary = Summary { requests: requests.into_flow(), replies: replies.into_flow() };
    account.closed(stop, &summary);
    (stop, summary)
}

/// Delivers the rest of what a client said that has gone, and drops what the server still says, so
/// that a server that is busy talking gets round to reading and its stream is not cut off with
/// unread bytes (TCP would reset it, and the server might lose the requests).
///
/// A server that takes nothing and ends nothing is left too: a pipe cannot even be told, so it is
/// closed at once.
async fn say_farewell<C, S>(
    requests: &mut Pump<'_>,
    replies: &Pump<'_>,
    client: &mut C,
    server: &mut S,
    endings: Endings,
) where
    C: Stream,
    S: Stream,
{
    let when_it_left = requests.progress();
    let mut dropped = Pump::new(false, None);
    let mut nowhere = tokio::io::sink();
    let mut silence = Silence::new();
    let delivery = poll_fn(|cx| {
        let _ = dropped.poll(cx, server, &mut nowhere, |_| true);
        if dropped.bytes > LARGEST_DROP {
            return Poll::Ready(false);
        }
        loop {
            if requests.poll(cx, client, server, |_| true).is_ready() {
                return Poll::Ready(true);
            }
            let limit = endings.delivery_standstill(requests.progress());
            match ready!(silence.poll(cx, requests.bytes + dropped.bytes, Some(limit))) {
                Standstill::GivesUp => return Poll::Ready(false),
                Standstill::IsTheirEnd => requests.state = State::Closing(Ok(())),
            }
        }
    });
    let delivered = match endings.longest_delivery() {
        Some(limit) => timeout(limit, delivery).await.unwrap_or(false),
        None => delivery.await,
    };
    // One that has ended already is not asked again: some streams answer that when we have gone.
    if let Some(limit) = endings.awaits_server(when_it_left, requests.bytes)
        && delivered
        && !replies.sender_said_all
    {
        let ended = poll_fn(|cx| {
            let ended = dropped.poll(cx, server, &mut nowhere, |_| true);
            if dropped.bytes > LARGEST_DROP { Poll::Ready(()) } else { ended }
        });
        let _ = timeout(limit, ended).await;
    }
}

/// One direction at work.
struct Pump<'a> {
    buffer: BytesMut,
    /// Whether a message that was begun is sent when it is whole.
    keeps_messages: bool,
    bytes: u64,
    /// Of these, what the receiver has handed on for certain.
    flushed: u64,
    state: State,
    /// The sender's end has been read, whatever became of the receiver.
    sender_said_all: bool,
    /// Who is told how it goes.
    account: Option<(&'a Account, Direction)>,
}

enum State {
    /// The server's stream does not have this direction.
    Absent,
    /// `unflushed`: the receiver took bytes since the last flush. They are flushed when the sender
    /// pauses, not after each chunk: a flush in a stream of chunks only costs.
    Reading {
        unflushed: bool,
    },
    /// The message in the buffer may go on.
    Completing,
    /// `buffer[start..]` is for the receiver.
    Writing {
        start: usize,
    },
    /// The sender ended, well or not; the receiver flushes, and is told.
    Closing(Result<(), io::Error>),
    Ended(End),
}

impl<'a> Pump<'a> {
    fn new(keeps_messages: bool, account: Option<(&'a Account, Direction)>) -> Pump<'a> {
        let state = State::Reading { unflushed: false };
        let buffer = BytesMut::with_capacity(BUFFER);
        Pump { buffer, keeps_messages, bytes: 0, flushed: 0, state, sender_said_all: false, account }
    }

    fn of(session: Session, direction: Direction, keeps_messages: bool, account: &'a Account) -> Pump<'a> {
        let mut pump = Pump::new(keeps_messages, Some((account, direction)));
        if !session.directions.has(direction) {
            pump.state = State::Absent;
        }
        pump
    }

    /// Ready when this direction has ended. May be polled again after that. `tells_end` returns
    /// whether the receiver is told of an end, which came well or not.
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        sender: &mut R,
        receiver: &mut W,
        tells_end: impl Fn(bool) -> bool,
    ) -> Poll<()>
    where
        R: Stream,
        W: AsyncWrite + Unpin,
    {
        for _ in 0..STEPS_PER_TURN {
            if self.has_ended() {
                return Poll::Ready(());
            }
            self.state = ready!(self.poll_step(cx, sender, receiver, &tells_end));
            self.tell();
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_step<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        sender: &mut R,
        receiver: &mut W,
        tells_end: &impl Fn(bool) -> bool,
    ) -> Poll<State>
    where
        R: Stream,
        W: AsyncWrite + Unpin,
    {
        let mut receiver = Pin::new(receiver);
        let next = match &mut self.state {
            State::Reading { unflushed } => match poll_read_buf(Pin::new(sender), cx, &mut self.buffer) {
                Poll::Ready(Ok(0)) => {
                    self.sender_said_all = true;
                    State::Closing(Ok(()))
                }
                Poll::Ready(Ok(_)) if self.keeps_messages => State::Completing,
                Poll::Ready(Ok(_)) => State::Writing { start: 0 },
                Poll::Ready(Err(error)) => State::Closing(Err(error)),
                Poll::Pending if *unflushed => match ready!(receiver.poll_flush(cx)) {
                    Ok(()) => {
                        self.flushed = self.bytes;
                        State::Reading { unflushed: false }
                    }
                    Err(error) => State::Ended(End::WriteFailed(error)),
                },
                Poll::Pending => return Poll::Pending,
            },
            State::Completing => match ready!(sender.poll_rest_of_message(cx, &mut self.buffer)) {
                Ok(()) => State::Writing { start: 0 },
                Err(error) => State::Closing(Err(error)),
            },
            State::Writing { start } => match ready!(receiver.poll_write(cx, &self.buffer[*start..])) {
                Ok(0) => State::Ended(End::WriteFailed(io::ErrorKind::WriteZero.into())),
                Ok(taken) => {
                    self.bytes += taken as u64;
                    let start = *start + taken;
                    if start < self.buffer.len() {
                        State::Writing { start }
                    } else {
                        self.empty_buffer();
                        State::Reading { unflushed: true }
                    }
                }
                Err(error) => State::Ended(End::WriteFailed(error)),
            },
            State::Closing(read) => {
                // A shutdown should flush by itself; Tokio's stdout does not.
                let shutdown = match ready!(receiver.as_mut().poll_flush(cx)) {
                    Ok(()) if tells_end(read.is_ok() && !sender.is_at_its_end()) => {
                        ready!(receiver.poll_shutdown(cx))
                    }
                    flushed => flushed,
                };
                State::Ended(match (std::mem::replace(read, Ok(())), shutdown) {
                    (Err(error), _) => End::ReadFailed(error),
                    (Ok(()), Err(error)) => End::WriteFailed(error),
                    (Ok(()), Ok(())) => End::Eof,
                })
            }
            State::Absent | State::Ended(_) => return Poll::Pending,
        };
        Poll::Ready(next)
    }

    fn empty_buffer(&mut self) {
        self.buffer.clear();
        if self.buffer.capacity() > BUFFER {
            self.buffer = BytesMut::with_capacity(BUFFER);
        }
    }

    fn tell(&self) {
        match (&self.state, self.account) {
            (State::Reading { .. }, Some((account, direction))) => account.moved(direction, self.bytes),
            (State::Ended(end), Some((account, direction))) => account.ended(direction, self.bytes, end),
            _ => {}
        }
    }

    fn has_ended(&self) -> bool {
        matches!(self.state, State::Absent | State::Ended(_))
    }

    fn progress(&self) -> Progress {
        match &self.state {
            State::Absent if self.sender_said_all => Progress::Ended(Ending::Eof),
            State::Absent => Progress::Absent,
            State::Reading { unflushed: false } => Progress::Reading,
            // Some receivers accept bytes at once and write them later, such as a file of Tokio's.
            State::Reading { unflushed: true }
            | State::Completing
            | State::Writing { .. }
            | State::Closing(_) => Progress::Writing,
            State::Ended(End::Eof) => Progress::Ended(Ending::Eof),
            State::Ended(End::ReadFailed(_)) => Progress::Ended(Ending::SenderFailed),
            State::Ended(End::WriteFailed(_) | End::Abandoned { .. }) => {
                Progress::Ended(Ending::ReceiverFailed)
            }
        }
    }

    fn into_flow(self) -> Flow {
        let untaken = match self.state {
            State::Ended(end) => return Flow { bytes: self.bytes, end },
            State::Absent | State::Reading { .. } | State::Closing(_) => 0,
            State::Completing => self.buffer.len(),
            State::Writing { start } => self.buffer.len() - start,
        };
        let held = MOST_HELD.min(self.bytes - self.flushed);
        Flow { bytes: self.bytes - held, end: End::Abandoned { undelivered: untaken + held as usize } }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use std::time::Duration;

    use tokio::io::{
        AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufWriter, DuplexStream, Join, ReadBuf, duplex,
        empty, join, repeat, sink,
    };
    use tokio::time::{Instant, sleep, timeout};
    use tokio_test::io::Builder;

    use super::{
        Account, BUFFER, BytesMut, End, Flow, LAST_FLUSH, Pump, Session, State, Stop, Stream, Summary,
        poll_fn, relay, unseen,
    };
    use crate::endings::{Direction, Directions, EndOfInput, FAREWELL, Kind};
    use crate::report::Report;

    /// Small, so that a direction that nobody reads is blocked after a few bytes.
    const ROOM: usize = 64;

    /// A stream whose two directions have far ends of their own: what the relay reads, and what it
    /// writes.
    fn stream() -> (Join<DuplexStream, DuplexStream>, DuplexStream, DuplexStream) {
        let (read, feed) = duplex(ROOM);
        let (write, output) = duplex(ROOM);
        (join(read, write), feed, output)
    }

    async fn run<C, S>(client: C, server: S, kind: Kind) -> Summary
    where
        C: Stream,
        S: Stream,
    {
        session(client, server, Session::new(kind, Kind::Socket)).await.1
    }

    async fn session<C, S>(client: C, server: S, kinds: Session) -> (Stop, Summary)
    where
        C: Stream,
        S: Stream,
    {
        session_with(client, server, kinds, unseen).await
    }

    async fn session_with<C, S>(
        mut client: C,
        mut server: S,
        kinds: Session,
        hung_up: impl FnMut(&mut Context<'_>, &C) -> Poll<()>,
    ) -> (Stop, Summary)
    where
        C: Stream,
        S: Stream,
    {
        // The clock is paused: it jumps to this limit as soon as everything waits for something that will
        // not come.
        let account = Account::of_client(1, Report::new(0));
        let session = timeout(FAREWELL * 10, relay(&mut client, &mut server, kinds, hung_up, &account));
        session.await.expect("the session hangs")
    }

    async fn feed(mut stream: DuplexStream, bytes: &[u8]) {
        stream.write_all(bytes).await.unwrap();
    }

    async fn drink(mut stream: impl AsyncRead + Unpin) -> Vec<u8> {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        bytes
    }

    fn random(seed: u64, length: usize) -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = vec![0; length];
        random.fill(&mut bytes);
        bytes
    }

    fn reset() -> io::Error {
        io::ErrorKind::ConnectionReset.into()
    }

    /// Says all that it has, listens for a minute, and goes: as sockets of the listener do.
    struct GoesAfterAMinute(Pin<Box<tokio::time::Sleep>>, &'static [u8]);

    impl AsyncRead for GoesAfterAMinute {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            match std::mem::take(&mut self.1) {
                // Its end is read once; from then on it waits.
                b"the end" => Poll::Ready(Ok(())),
                b"" => self.0.as_mut().poll(cx).map(|()| Err(reset())),
                words => {
                    buffer.put_slice(words);
                    self.1 = b"the end";
                    Poll::Ready(Ok(()))
                }
            }
        }
    }

    /// The way to a client that has gone, which nobody has tried yet.
    struct Gone;

    impl AsyncWrite for Gone {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(reset()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(reset()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn replies_that_are_accepted_and_not_yet_written_are_no_silence() {
        let (write, output) = duplex(ROOM);
        let client = join(empty(), BufWriter::with_capacity(1000, write));
        let (server, mut replies, _requests) = stream();
        let end_of_input = EndOfInput::EndsSession;
        let rules = Session { end_of_input, ..Session::new(Kind::Stdio, Kind::Pipe) };
        let say = async {
            replies.write_all(&[7; 500]).await.unwrap();
            replies
        };
        let slow = async {
            sleep(Duration::from_secs(5)).await;
            drink(output).await
        };
        let (_replies, received, (stop, _)) = tokio::join!(say, slow, session(client, server, rules));
        assert_eq!((received.len(), stop), (500, Stop::Over));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_ended_is_not_waited_for_again_when_its_client_has_gone() {
        let begin = Instant::now();
        let server = join(GoesAfterAMinute(Box::pin(sleep(FAREWELL * 2)), b"the end"), sink());
        let kinds = Session::new(Kind::Socket, Kind::Socket);
        let (_, summary) = session(join(empty(), Gone), server, kinds).await;
        assert!(matches!(summary.replies.end, End::WriteFailed(_)), "{summary:?}");
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_socket_that_said_all_and_goes_does_not_hold_a_silent_pipe() {
        let minute = Duration::from_secs(60);
        let begin = Instant::now();
        let client = join(GoesAfterAMinute(Box::pin(sleep(minute)), b"question"), sink());
        let (server, _silent, requests) = stream();
        let kinds = Session::new(Kind::Socket, Kind::Pipe);
        let ((stop, summary), heard) = tokio::join!(session(client, server, kinds), drink(requests));
        assert_eq!((stop, heard), (Stop::ClientHasGone, b"question".to_vec()));
        assert!(matches!(summary.requests.end, End::Eof), "{summary:?}");
        assert_eq!(begin.elapsed(), minute);
    }

    #[tokio::test(start_paused = true)]
    async fn both_directions_carry_everything_at_once() {
        let (client, stdin, stdout) = stream();
        let (server, replies, requests) = stream();
        let (sent, answered) = (random(1, 1_000_003), random(2, 700_001));
        let (summary, (), requests, stdout) = tokio::join!(
            run(client, server, Kind::Stdio),
            feed(stdin, &sent),
            async {
                let mut replies = replies;
                let (requests, written) = tokio::join!(drink(requests), replies.write_all(&answered));
                written.unwrap();
                requests
            },
            drink(stdout),
        );
        assert!(requests == sent && stdout == answered);
        assert_eq!((summary.requests.bytes, summary.replies.bytes), (1_000_003, 700_001));
        assert!(matches!((summary.requests.end, summary.replies.end), (End::Eof, End::Eof)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_after_the_end_of_the_client_arrives_whole() {
        let (client, stdin, stdout) = stream();
        let (server, replies, requests) = stream();
        let answer = random(3, 100_000);
        let (summary, (), stdout) = tokio::join!(
            run(client, server, Kind::Stdio),
            async {
                feed(stdin, b"request").await;
                assert_eq!(drink(requests).await, b"request");
                feed(replies, &answer).await;
            },
            drink(stdout),
        );
        assert_eq!(stdout, answer);
        assert!(matches!((summary.requests.end, summary.replies.end), (End::Eof, End::Eof)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_server_ends_the_session_of_a_client_that_stays() {
        let (client, _stdin_stays_open, stdout) = stream();
        let (server, replies, _requests) = stream();
        let (summary, (), stdout) =
            tokio::join!(run(client, server, Kind::Stdio), feed(replies, b"bye"), drink(stdout));
        assert_eq!(stdout, b"bye");
        assert!(matches!(summary.requests.end, End::Abandoned { undelivered: 0 }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_does_not_read_can_still_reply() {
        let (client, stdin, stdout) = stream();
        let (server, replies, _never_read) = stream();
        let answer = random(4, 10_000);
        let (summary, stdout, _) = tokio::join!(
            run(client, server, Kind::Stdio),
            async {
                let ((), stdout) = tokio::join!(feed(replies, &answer), drink(stdout));
                stdout
            },
            async {
                let mut stdin = stdin;
                stdin.write_all(&[7; 10 * ROOM]).await
            },
        );
        assert_eq!(stdout, answer);
        assert_eq!(summary.requests.bytes, ROOM as u64);
        assert!(matches!(summary.requests.end, End::Abandoned { undelivered: 1.. }), "{summary:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_still_gets_its_requests_through() {
        let (client, stdin, _never_read) = stream();
        let (server, replies, requests) = stream();
        let sent = random(5, 10_000);
        let requests = tokio::select! {
            _ = run(client, server, Kind::Stdio) => unreachable!("the server has not ended"),
            _ = async {
                let mut replies = replies;
                replies.write_all(&[7; 10 * ROOM]).await.unwrap();
                std::future::pending::<()>().await;
            } => unreachable!("the client reads nothing"),
            ((), requests) = async { tokio::join!(feed(stdin, &sent), drink(requests)) } => requests,
        };
        assert_eq!(requests, sent);
    }

    #[tokio::test(start_paused = true)]
    async fn an_endless_direction_leaves_the_other_its_turn() {
        let (read, replies) = duplex(ROOM);
        let (summary, ()) = tokio::join!(
            run(join(repeat(7), sink()), join(read, sink()), Kind::Stdio),
            feed(replies, b"bye"),
        );
        assert_eq!(summary.replies.bytes, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_buffered_receiver_is_flushed_when_the_sender_pauses() {
        let (read, mut replies) = duplex(ROOM);
        let (write, mut stdout) = duplex(ROOM);
        let client = join(empty(), BufWriter::new(write));
        let mut received = [0; 6];
        tokio::select! {
            _ = run(client, join(read, sink()), Kind::Stdio) => unreachable!("the server has not ended"),
            _ = async {
                replies.write_all(b"prompt").await.unwrap();
                stdout.read_exact(&mut received).await.unwrap();
            } => {}
        }
        assert_eq!(&received, b"prompt");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_of_stdout_that_goes_away_ends_the_session_at_once() {
        let (read, _stdin_stays_open) = duplex(ROOM);
        let (write, stdout) = duplex(ROOM);
        drop(stdout);
        let (server, replies, _requests) = stream();
        let mut replies = replies;
        let (summary, _) =
            tokio::join!(run(join(read, write), server, Kind::Stdio), replies.write_all(b"reply"));
        assert!(
            matches!(summary.replies.end, End::WriteFailed(error) if error.kind() == io::ErrorKind::BrokenPipe)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_stops_taking_requests_still_has_its_reply_delivered() {
        let (client, stdin, stdout) = stream();
        let (read, replies) = duplex(ROOM);
        let refuses = Builder::new().write(b"half ").write_error(reset()).build();
        let reason = random(7, 10_000);
        let (summary, (), stdout) = tokio::join!(
            run(client, join(read, refuses), Kind::Stdio),
            async {
                feed(stdin, b"half a request").await;
                feed(replies, &reason).await;
            },
            drink(stdout),
        );
        assert_eq!(stdout, reason);
        assert_eq!(summary.requests.bytes, 5);
        assert!(matches!(summary.requests.end, End::WriteFailed(error) if error.kind() == reset().kind()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_before_a_read_error_is_delivered() {
        let (client, _stdin, stdout) = stream();
        let server = join(Builder::new().read(b"half a reply").read_error(reset()).build(), sink());
        let (summary, stdout) = tokio::join!(run(client, server, Kind::Stdio), drink(stdout));
        assert_eq!(stdout, b"half a reply");
        assert!(matches!(summary.replies.end, End::ReadFailed(error) if error.kind() == reset().kind()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_of_stdin_does_not_cut_the_reply_off() {
        let (write, stdout) = duplex(ROOM);
        let client = join(Builder::new().read(b"request").read_error(reset()).build(), write);
        let (server, replies, requests) = stream();
        let (summary, (), stdout) = tokio::join!(
            run(client, server, Kind::Stdio),
            async {
                assert_eq!(drink(requests).await, b"request");
                feed(replies, b"reply").await;
            },
            drink(stdout),
        );
        assert_eq!(stdout, b"reply");
        assert!(matches!(summary.requests.end, End::ReadFailed(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_that_only_the_last_flush_shows_is_told() {
        let (client, stdin, _stdout) = stream();
        let (read, replies) = duplex(ROOM);
        let refuses = BufWriter::new(Builder::new().write_error(reset()).build());
        let (summary, ()) = tokio::join!(run(client, join(read, refuses), Kind::Stdio), async {
            feed(stdin, b"accepted, not sent").await;
            drop(replies);
        });
        assert!(matches!(summary.requests.end, End::WriteFailed(error) if error.kind() == reset().kind()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_flush_does_not_wait_for_ever() {
        let (client, mut stdin, _stdout) = stream();
        let (read, replies) = duplex(ROOM);
        let (write, _never_read) = duplex(1);
        let server = join(read, BufWriter::new(write));
        let start = Instant::now();
        let (summary, ()) = tokio::join!(run(client, server, Kind::Stdio), async {
            stdin.write_all(b"accepted, not sent").await.unwrap();
            drop(replies);
        });
        assert_eq!(start.elapsed(), LAST_FLUSH);
        assert!(
            matches!(summary.requests, Flow { bytes: 0, end: End::Abandoned { undelivered: 18 } }),
            "{summary:?}"
        );
    }

    /// A thread writes stdout: what it has taken is not yet in the pipe behind.
    #[tokio::test(start_paused = true)]
    async fn replies_that_stdout_took_and_kept_count_as_undelivered() {
        let idle_timeout = Some(Duration::from_secs(10));
        for ends in [false, true] {
            for kind in [Kind::Stdio, Kind::Pipe, Kind::Messages, Kind::Socket] {
                let (read, _stdin) = duplex(ROOM);
                let (write, _never_read) = duplex(1);
                let client = join(read, BufWriter::new(write));
                let (server, mut replies, _requests) = stream();
                let kinds = Session { idle_timeout, ..Session::new(kind, Kind::Pipe) };
                let ((stop, summary), _open) = tokio::join!(session(client, server, kinds), async {
                    replies.write_all(b"reply").await.unwrap();
                    (!ends).then_some(replies)
                });
                assert_eq!(stop, Stop::Idle);
                let Flow { bytes, end } = summary.replies;
                assert!(matches!(end, End::Abandoned { undelivered: 5 }), "{kind:?}: {end:?}");
                assert_eq!(bytes, 0);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_has_gone_has_its_requests_delivered_and_the_server_told() {
        let (client, pipe, client_output) = stream();
        let (server, replies, requests) = stream();
        drop(client_output);
        let sent = random(6, 10_000);
        let (summary, (), requests) =
            tokio::join!(run(client, server, Kind::Pipe), feed(pipe, &sent), async {
                // The server talks before it reads: replies that nobody wants must not keep it from the
                // requests.
                feed(replies, &[7; 10 * ROOM]).await;
                drink(requests).await
            });
        assert_eq!(requests, sent);
        assert!(matches!(summary.requests.end, End::Eof), "{summary:?}");
        assert!(matches!(summary.replies.end, End::WriteFailed(_)), "{summary:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_stays_after_its_client_has_gone_is_left_in_the_end() {
        let (client, pipe, _client_output) = stream();
        let (server, _silent, requests) = stream();
        let start = Instant::now();
        let (summary, (), requests) =
            tokio::join!(run(client, server, Kind::Pipe), feed(pipe, b"request"), drink(requests));
        assert_eq!((start.elapsed(), requests), (FAREWELL, b"request".to_vec()));
        assert!(matches!(summary.replies.end, End::Abandoned { undelivered: 0 }), "{summary:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_endless_server_whose_client_has_gone_is_left_at_once() {
        for kind in [Kind::Pipe, Kind::Socket] {
            let (client, pipe, client_output) = stream();
            drop((pipe, client_output));
            let start = Instant::now();
            let kinds = Session::new(kind, Kind::Process);
            let (stop, _) = session(client, join(repeat(7), sink()), kinds).await;
            assert_eq!((stop, start.elapsed()), (Stop::ClientHasGone, Duration::ZERO));
        }
    }

    #[tokio::test]
    async fn the_memory_of_a_long_message_is_released_when_it_is_sent() {
        let mut pump = Pump::new(true, None);
        pump.buffer = BytesMut::zeroed(100 * BUFFER);
        pump.state = State::Writing { start: 0 };
        poll_fn(|cx| pump.poll(cx, &mut join(empty(), sink()), &mut sink(), |_| true)).await;
        assert_eq!((pump.bytes, pump.buffer.capacity()), (100 * BUFFER as u64, BUFFER));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_read_at_once_is_written_at_once() {
        for length in [1, 8_192, 8_193, 60_000, 65_536] {
            let sent = random(10, length);
            let read = Builder::new().read(&sent).build();
            let mut client = join(read, sink());
            let (silent, _server) = duplex(1);
            let mut server = join(silent, Writes(Vec::new()));
            let account = Account::of_client(1, Report::new(0));
            let kinds = Session::new(Kind::Pipe, Kind::Pipe);
            relay(&mut client, &mut server, kinds, unseen, &account).await;
            assert_eq!(server.writer().0, [length]);
        }
    }

    /// Takes everything, and keeps the length of each write.
    struct Writes(Vec<usize>);

    impl AsyncWrite for Writes {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0.push(bytes.len());
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_server_ends_the_session_of_a_pipe_client_too() {
        let (client, _pipe_stays_open, client_output) = stream();
        let (server, replies, _requests) = stream();
        let (summary, (), output) =
            tokio::join!(run(client, server, Kind::Pipe), feed(replies, b"bye"), drink(client_output));
        assert_eq!(output, b"bye");
        assert!(matches!(summary.replies.end, End::Eof));
    }

    #[tokio::test(start_paused = true)]
    async fn sockets_end_each_direction_for_itself() {
        let (client, mut stdin, stdout) = stream();
        let (server, replies, requests) = stream();
        let late = random(8, 100_000);
        let (summary, (), requests) = tokio::join!(
            run(client, server, Kind::Socket),
            async {
                feed(replies, b"that was all").await;
                assert_eq!(drink(stdout).await, b"that was all");
                // The client was told, and still has something to say, in pieces, each within the time it
                // has.
                for piece in late.chunks(20_000) {
                    sleep(FAREWELL / 2).await;
                    stdin.write_all(piece).await.unwrap();
                }
                drop(stdin);
            },
            drink(requests),
        );
        assert!(requests == late);
        assert!(matches!((summary.requests.end, summary.replies.end), (End::Eof, End::Eof)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stays_silent_after_its_server_has_ended_is_left_in_the_end() {
        let (client, _stdin, stdout) = stream();
        let (server, replies, _requests) = stream();
        let start = Instant::now();
        let kinds = Session::new(Kind::Socket, Kind::Socket);
        let ((stop, _), (), stdout) = tokio::join!(
            session(client, server, kinds),
            async {
                sleep(FAREWELL * 2).await;
                feed(replies, b"").await;
            },
            drink(stdout)
        );
        assert_eq!((start.elapsed(), stdout), (FAREWELL * 3, vec![]));
        assert_eq!(stop, Stop::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_no_replies_has_its_requests_delivered() {
        for client_kind in [Kind::Stdio, Kind::Pipe, Kind::Messages, Kind::Socket, Kind::Bridge] {
            for server_kind in [Kind::Pipe, Kind::Messages, Kind::Socket, Kind::Process] {
                let (client, stdin, stdout) = stream();
                let (server, replies, requests) = stream();
                drop(stdout);
                let sent = random(9, 10_000);
                let ((_, summary), (), requests) = tokio::join!(
                    session(client, server, Session::new(client_kind, server_kind)),
                    feed(stdin, &sent),
                    async {
                        // The server talks before it reads.
                        feed(replies, &[7; 10 * ROOM]).await;
                        drink(requests).await
                    }
                );
                assert_eq!(requests, sent, "{client_kind:?} {server_kind:?}");
                assert!(matches!(summary.replies.end, End::WriteFailed(_)));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_lies_in_a_stdin_that_stays_open_is_delivered_when_stdout_hangs_up() {
        for server_kind in [Kind::Pipe, Kind::Messages, Kind::Socket, Kind::Process] {
            let (client, mut stdin, _stdout) = stream();
            let (server, _silent, requests) = stream();
            let sent = random(11, 10_000);
            let kinds = Session::new(Kind::Stdio, server_kind);
            let start = Instant::now();
            let ((stop, summary), written, requests) = tokio::join!(
                session_with(client, server, kinds, |_, _| Poll::Ready(())),
                stdin.write_all(&sent),
                drink(requests),
            );
            written.unwrap();
            assert_eq!((stop, requests), (Stop::ClientHasGone, sent), "{server_kind:?}");
            assert!(start.elapsed() <= FAREWELL + Duration::from_secs(1));
            assert!(matches!(summary.replies.end, End::WriteFailed(_)));
            assert!(matches!(summary.requests.end, End::Eof));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stdin_without_end_holds_no_session_whose_stdout_has_hung_up() {
        /// Gives a byte each second.
        struct Slow(Pin<Box<tokio::time::Sleep>>);
        impl AsyncRead for Slow {
            fn poll_read(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buffer: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                std::task::ready!(self.0.as_mut().poll(cx));
                self.0.as_mut().reset(Instant::now() + Duration::from_millis(900));
                buffer.put_slice(b"x");
                Poll::Ready(Ok(()))
            }
        }
        let kinds = Session::new(Kind::Stdio, Kind::Pipe);
        let start = Instant::now();
        let client = join(Slow(Box::pin(sleep(Duration::ZERO))), sink());
        let (_silent, replies) = duplex(ROOM);
        let server = join(replies, sink());
        session_with(client, server, kinds, |_, _| Poll::Ready(())).await;
        assert_eq!(start.elapsed(), FAREWELL);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_stdin_ends_a_session_whose_stdout_has_hung_up_soon() {
        for server_kind in [Kind::Pipe, Kind::Socket, Kind::Process] {
            let (client, _stdin_stays_open, _stdout) = stream();
            let (server, _silent, _requests) = stream();
            let start = Instant::now();
            let kinds = Session::new(Kind::Stdio, server_kind);
            session_with(client, server, kinds, |_, _| Poll::Ready(())).await;
            assert_eq!(start.elapsed(), Duration::from_secs(1));
        }
    }

    /// Nothing moves, so that neither direction shows it.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_leaves_is_noticed_whatever_the_server_does() {
        for client_kind in [Kind::Pipe, Kind::Messages, Kind::Socket] {
            for server_kind in [Kind::Pipe, Kind::Messages, Kind::Socket, Kind::Process] {
                let (client, mut feeder, _output) = stream();
                let (server, _silent, _never_read) = stream();
                let kinds = Session::new(client_kind, server_kind);
                feeder.write_all(&[7; ROOM]).await.unwrap();
                let fed = async { feeder.write_all(&[7; 2 * ROOM]).await };
                let start = Instant::now();
                let leaves = sleep(FAREWELL);
                tokio::pin!(leaves);
                let hung_up = |cx: &mut Context<'_>, _: &_| leaves.as_mut().poll(cx);
                let ((stop, _), _) = tokio::join!(session_with(client, server, kinds, hung_up), fed);
                assert_eq!(stop, Stop::ClientHasGone, "{client_kind:?} {server_kind:?}");
                assert_eq!(start.elapsed(), FAREWELL * 2);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pipe_that_leaves_is_noticed_when_the_server_only_sends_or_takes_no_more() {
        let (client, pipe, _output) = stream();
        let (server, _silent, _requests) = stream();
        drop(pipe);
        let directions = Directions::Only(Direction::Replies);
        let kinds = Session { directions, ..Session::new(Kind::Pipe, Kind::Pipe) };
        let (stop, _) = session(client, server, kinds).await;
        assert_eq!(stop, Stop::ClientHasGone);

        let (client, mut pipe, _output) = stream();
        let (read, _silent) = duplex(ROOM);
        let refuses = Builder::new().write_error(reset()).build();
        let ((stop, _), ()) = tokio::join!(
            session(client, join(read, refuses), Session::new(Kind::Pipe, Kind::Process)),
            async {
                pipe.write_all(&[7; 10 * ROOM]).await.unwrap();
                drop(pipe);
            }
        );
        assert_eq!(stop, Stop::ClientHasGone);
    }

    /// A directory, for instance.
    #[tokio::test(start_paused = true)]
    async fn a_stdin_that_cannot_be_read_has_ended_where_only_its_end_counts() {
        let stdin = Builder::new().read_error(io::ErrorKind::IsADirectory.into()).build();
        let (server, _silent, _requests) = stream();
        let (directions, end_of_input) = (Directions::Only(Direction::Replies), EndOfInput::EndsSession);
        let kinds = Session { directions, end_of_input, ..Session::new(Kind::Stdio, Kind::Pipe) };
        let (stop, summary) = session(join(stdin, sink()), server, kinds).await;
        assert_eq!(stop, Stop::Over, "{summary:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pipe_or_a_process_that_ends_ends_the_session() {
        for server_kind in [Kind::Pipe, Kind::Process] {
            let (client, _stdin_stays_open, stdout) = stream();
            let (server, replies, _requests) = stream();
            let kinds = Session::new(Kind::Socket, server_kind);
            let start = Instant::now();
            let ((_, summary), (), stdout) =
                tokio::join!(session(client, server, kinds), feed(replies, b"bye"), drink(stdout));
            assert_eq!((start.elapsed(), stdout), (Duration::ZERO, b"bye".to_vec()));
            assert!(matches!(summary.replies.end, End::Eof));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_session_that_bounds_it_and_any_byte_begins_it_anew() {
        let (client, mut stdin, _stdout) = stream();
        let (server, _replies, requests) = stream();
        let idle_timeout = Duration::from_secs(10);
        let kinds = Session { idle_timeout: Some(idle_timeout), ..Session::new(Kind::Socket, Kind::Socket) };
        let start = Instant::now();
        let ((stop, summary), (), _) = tokio::join!(
            session(client, server, kinds),
            async {
                for _ in 0..5 {
                    sleep(idle_timeout * 9 / 10).await;
                    stdin.write_all(b"alive").await.unwrap();
                }
            },
            drink(requests),
        );
        assert_eq!(start.elapsed(), idle_timeout * 9 / 10 * 5 + idle_timeout);
        assert_eq!(stop, Stop::Idle);
        assert_eq!(summary.requests.bytes, 25);
    }

    /// Keeps what it is given until it is flushed, and forgets it when it is only shut down:
    /// Tokio's stdout.
    struct FlushedByFlushOnly<W>(BufWriter<W>);

    impl<W: AsyncWrite + Unpin> AsyncWrite for FlushedByFlushOnly<W> {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.0).poll_write(cx, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_shutdown_that_does_not_flush_loses_nothing() {
        let (write, stdout) = duplex(ROOM);
        let (stdin, _stays_open) = duplex(ROOM);
        let client = join(stdin, FlushedByFlushOnly(BufWriter::new(write)));
        // The end comes with the last byte, before the relay finds nothing to read and flushes for that
        // reason.
        let server = join(&b"reply"[..], sink());
        let (_, stdout) = tokio::join!(run(client, server, Kind::Stdio), drink(stdout));
        assert_eq!(stdout, b"reply");
    }
}
