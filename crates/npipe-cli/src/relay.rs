//! Two byte streams joined: what a client says goes to a server, what the server says goes to the client.
//!
//! The rules of endings live here, once for every kind of end. What decides is the server: when it has no more to
//! say, and all it said has been taken by the client, the session is over. The end of the client's bytes is passed
//! on (`shutdown`: half-close where the server's stream has one, else a flush) and the replies keep coming, so that
//! no reply is lost; what it means beyond that differs, see [`ClientEnd`]. Relays that stop both directions at the
//! first end lose the reply (winsocat), those that wait for both ends hang on a stdin that stays open.
//!
//! Nothing here knows what the streams are or what an error is called: it sees `AsyncRead` and `AsyncWrite`.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

/// A buffer starts small, because most connections are idle or short, and doubles while reads fill it.
const SMALLEST_BUFFER: usize = 8 * 1024;
const LARGEST_BUFFER: usize = 64 * 1024;

/// How many steps a direction may take before the other one, and other connections, get their turn: a stream that
/// is always ready would keep the thread for itself.
const STEPS_PER_TURN: usize = 32;

/// How long a server may keep its side open after it was told that its client has gone. It cannot be told more than
/// that, and a server that never ends its side must not hold a connection for ever.
pub(crate) const FAREWELL: Duration = Duration::from_secs(30);

/// How long the system may take to accept the last bytes for the server once the session is over.
const LAST_FLUSH: Duration = Duration::from_secs(2);

/// What the end of the client's bytes says about the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientEnd {
    /// It has no more to say and still listens: stdin, a socket. The session goes on until the server ends it, or
    /// until the client takes no more replies.
    HalfClose,
    /// It has gone: a byte pipe ends in both directions at once. What it said is still delivered; replies have no
    /// reader and are dropped until the server ends its side, or for [`FAREWELL`] at most.
    Gone,
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
    /// The session was over first. So many bytes had been read and were not yet taken by the receiver.
    Abandoned {
        undelivered: usize,
    },
}

/// Joins the two until the session is over. On return all that was delivered is flushed, and neither stream is closed
/// beyond what the rules above say: dropping them is the caller's part.
pub(crate) async fn relay<C, S>(client: &mut C, server: &mut S, client_end: ClientEnd) -> Summary
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut requests = Pump::new();
    let mut replies = Pump::new();
    let client_has_gone = poll_fn(|cx| {
        let _ = requests.poll(cx, client, server);
        let _ = replies.poll(cx, server, client);
        let gone = client_end == ClientEnd::Gone && (requests.sender_ended() || replies.receiver_failed());
        if gone || replies.has_ended() { Poll::Ready(gone) } else { Poll::Pending }
    })
    .await;
    if client_has_gone {
        say_farewell(&mut requests, client, server).await;
    }
    if !requests.has_ended() {
        // The last bytes that the server's stream took may still be on their way to the kernel.
        if let Ok(Err(error)) = timeout(LAST_FLUSH, server.flush()).await {
            requests.state = State::Ended(End::WriteFailed(error));
        }
    }
    Summary { requests: requests.into_flow(), replies: replies.into_flow() }
}

/// Delivers the rest of what a client said that has gone, and drops what the server still says, so that a server that
/// is busy talking gets round to reading and its stream is not cut off with unread bytes (TCP would reset it, and the
/// server might lose the requests).
async fn say_farewell<C, S>(requests: &mut Pump, client: &mut C, server: &mut S)
where
    C: AsyncRead + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut dropped = Pump::new();
    let mut nowhere = tokio::io::sink();
    poll_fn(|cx| {
        let _ = dropped.poll(cx, server, &mut nowhere);
        requests.poll(cx, client, server)
    })
    .await;
    let _ = timeout(FAREWELL, poll_fn(|cx| dropped.poll(cx, server, &mut nowhere))).await;
}

/// One direction at work.
struct Pump {
    buffer: Vec<u8>,
    bytes: u64,
    state: State,
}

enum State {
    /// `unflushed`: the receiver took bytes since the last flush. They are flushed when the sender pauses, not after
    /// each chunk: a flush in a stream of chunks only costs.
    Reading {
        unflushed: bool,
    },
    /// `buffer[start..end]` is for the receiver.
    Writing {
        start: usize,
        end: usize,
    },
    /// The sender ended, well or not; the receiver flushes, and is told.
    Closing(Result<(), io::Error>),
    Ended(End),
}

impl Pump {
    fn new() -> Pump {
        Pump { buffer: vec![0; SMALLEST_BUFFER], bytes: 0, state: State::Reading { unflushed: false } }
    }

    /// Ready when this direction has ended. May be asked again after that.
    fn poll<R, W>(&mut self, cx: &mut Context<'_>, sender: &mut R, receiver: &mut W) -> Poll<()>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        for _ in 0..STEPS_PER_TURN {
            if self.has_ended() {
                return Poll::Ready(());
            }
            self.state = ready!(self.poll_step(cx, sender, receiver));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_step<R, W>(&mut self, cx: &mut Context<'_>, sender: &mut R, receiver: &mut W) -> Poll<State>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let sender = Pin::new(sender);
        let receiver = Pin::new(receiver);
        let next = match &mut self.state {
            State::Reading { unflushed } => {
                let mut chunk = ReadBuf::new(&mut self.buffer);
                match sender.poll_read(cx, &mut chunk) {
                    Poll::Ready(Ok(())) if chunk.filled().is_empty() => State::Closing(Ok(())),
                    Poll::Ready(Ok(())) => State::Writing { start: 0, end: chunk.filled().len() },
                    Poll::Ready(Err(error)) => State::Closing(Err(error)),
                    Poll::Pending if *unflushed => match ready!(receiver.poll_flush(cx)) {
                        Ok(()) => State::Reading { unflushed: false },
                        Err(error) => State::Ended(End::WriteFailed(error)),
                    },
                    Poll::Pending => return Poll::Pending,
                }
            }
            State::Writing { start, end } => {
                match ready!(receiver.poll_write(cx, &self.buffer[*start..*end])) {
                    Ok(0) => State::Ended(End::WriteFailed(io::ErrorKind::WriteZero.into())),
                    Ok(taken) => {
                        self.bytes += taken as u64;
                        let (start, end) = (*start + taken, *end);
                        if start < end {
                            State::Writing { start, end }
                        } else {
                            self.grow_after(end);
                            State::Reading { unflushed: true }
                        }
                    }
                    Err(error) => State::Ended(End::WriteFailed(error)),
                }
            }
            State::Closing(read) => {
                let shutdown = ready!(receiver.poll_shutdown(cx));
                State::Ended(match (std::mem::replace(read, Ok(())), shutdown) {
                    (Err(error), _) => End::ReadFailed(error),
                    (Ok(()), Err(error)) => End::WriteFailed(error),
                    (Ok(()), Ok(())) => End::Eof,
                })
            }
            State::Ended(_) => return Poll::Pending,
        };
        Poll::Ready(next)
    }

    /// A read that filled the buffer has probably left more behind.
    fn grow_after(&mut self, read: usize) {
        if read == self.buffer.len() && read < LARGEST_BUFFER {
            self.buffer.resize(read * 2, 0);
        }
    }

    fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended(_))
    }

    fn sender_ended(&self) -> bool {
        matches!(self.state, State::Ended(End::Eof | End::ReadFailed(_)))
    }

    fn receiver_failed(&self) -> bool {
        matches!(self.state, State::Ended(End::WriteFailed(_)))
    }

    fn into_flow(self) -> Flow {
        let end = match self.state {
            State::Ended(end) => end,
            State::Writing { start, end } => End::Abandoned { undelivered: end - start },
            State::Reading { .. } | State::Closing(_) => End::Abandoned { undelivered: 0 },
        };
        Flow { bytes: self.bytes, end }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use tokio::io::{
        AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufWriter, DuplexStream, Join, duplex, empty,
        join, repeat, sink,
    };
    use tokio::time::{Instant, timeout};
    use tokio_test::io::Builder;

    use super::{ClientEnd, End, FAREWELL, LAST_FLUSH, Summary, relay};

    /// Small, so that a direction that nobody reads is blocked after a few bytes.
    const ROOM: usize = 64;

    /// A stream whose two directions have far ends of their own: what the relay reads, and what it writes.
    fn stream() -> (Join<DuplexStream, DuplexStream>, DuplexStream, DuplexStream) {
        let (read, feed) = duplex(ROOM);
        let (write, output) = duplex(ROOM);
        (join(read, write), feed, output)
    }

    async fn run<C, S>(mut client: C, mut server: S, client_end: ClientEnd) -> Summary
    where
        C: AsyncRead + AsyncWrite + Unpin,
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // The clock is paused: it jumps to this limit as soon as everything waits for something that will not come.
        let session = timeout(FAREWELL * 10, relay(&mut client, &mut server, client_end));
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

    #[tokio::test(start_paused = true)]
    async fn both_directions_carry_everything_at_once() {
        let (client, stdin, stdout) = stream();
        let (server, replies, requests) = stream();
        let (sent, answered) = (random(1, 1_000_003), random(2, 700_001));
        let (summary, (), requests, stdout) = tokio::join!(
            run(client, server, ClientEnd::HalfClose),
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
            run(client, server, ClientEnd::HalfClose),
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
            tokio::join!(run(client, server, ClientEnd::HalfClose), feed(replies, b"bye"), drink(stdout));
        assert_eq!(stdout, b"bye");
        assert!(matches!(summary.requests.end, End::Abandoned { undelivered: 0 }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_does_not_read_can_still_reply() {
        let (client, stdin, stdout) = stream();
        let (server, replies, _never_read) = stream();
        let answer = random(4, 10_000);
        let (summary, stdout, _) = tokio::join!(
            run(client, server, ClientEnd::HalfClose),
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
            _ = run(client, server, ClientEnd::HalfClose) => unreachable!("the server has not ended"),
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
            run(join(repeat(7), sink()), join(read, sink()), ClientEnd::HalfClose),
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
            _ = run(client, join(read, sink()), ClientEnd::HalfClose) => unreachable!("the server has not ended"),
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
            tokio::join!(run(join(read, write), server, ClientEnd::HalfClose), replies.write_all(b"reply"));
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
            run(client, join(read, refuses), ClientEnd::HalfClose),
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
        let (summary, stdout) = tokio::join!(run(client, server, ClientEnd::HalfClose), drink(stdout));
        assert_eq!(stdout, b"half a reply");
        assert!(matches!(summary.replies.end, End::ReadFailed(error) if error.kind() == reset().kind()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_of_stdin_does_not_cut_the_reply_off() {
        let (write, stdout) = duplex(ROOM);
        let client = join(Builder::new().read(b"request").read_error(reset()).build(), write);
        let (server, replies, requests) = stream();
        let (summary, (), stdout) = tokio::join!(
            run(client, server, ClientEnd::HalfClose),
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
        let (summary, ()) = tokio::join!(run(client, join(read, refuses), ClientEnd::HalfClose), async {
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
        let (summary, ()) = tokio::join!(run(client, server, ClientEnd::HalfClose), async {
            stdin.write_all(b"accepted, not sent").await.unwrap();
            drop(replies);
        });
        assert_eq!(start.elapsed(), LAST_FLUSH);
        assert!(matches!(summary.requests.end, End::Abandoned { .. }), "{summary:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_has_gone_has_its_requests_delivered_and_the_server_told() {
        let (client, pipe, client_output) = stream();
        let (server, replies, requests) = stream();
        drop(client_output);
        let sent = random(6, 10_000);
        let (summary, (), requests) =
            tokio::join!(run(client, server, ClientEnd::Gone), feed(pipe, &sent), async {
                // The server talks before it reads: replies that nobody wants must not keep it from the requests.
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
            tokio::join!(run(client, server, ClientEnd::Gone), feed(pipe, b"request"), drink(requests));
        assert_eq!((start.elapsed(), requests), (FAREWELL, b"request".to_vec()));
        assert!(matches!(summary.replies.end, End::Abandoned { undelivered: 0 }), "{summary:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_server_ends_the_session_of_a_pipe_client_too() {
        let (client, _pipe_stays_open, client_output) = stream();
        let (server, replies, _requests) = stream();
        let (summary, (), output) =
            tokio::join!(run(client, server, ClientEnd::Gone), feed(replies, b"bye"), drink(client_output));
        assert_eq!(output, b"bye");
        assert!(matches!(summary.replies.end, End::Eof));
    }
}
