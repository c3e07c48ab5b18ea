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
        let _ = requests.poll(cx, client, server);
        let _ = dropped.poll(cx, server, &mut nowhere);
        if requests.has_ended() || dropped.has_ended() { Poll::Ready(()) } else { Poll::Pending }
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
