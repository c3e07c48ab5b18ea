//! A pipe of messages as a `Stream` and a `Sink`, for code that is written against those traits.
//! What a message is, and when one is whole, is decided below.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_core::{FusedStream, Stream};
use futures_sink::Sink;

use crate::coop;
use crate::error::is_message_too_long;
use crate::pipe_end::{End, Pipe};
use crate::stream::Key;

/// A pipe end as a [`Stream`] of the messages it receives and a [`Sink`] of those it sends. Either
/// may be an empty one.
///
/// ```no_run
/// # async fn echo(server: npipe::NamedPipeServer) -> std::io::Result<()> {
/// use futures_lite::StreamExt;
/// use npipe::Messages;
///
/// let mut messages = Messages::new(server).with_limit(64 * 1024);
/// while let Some(message) = messages.next().await {
///     println!("{:?}", message?);
/// }
/// # Ok(())
/// # }
/// ```
///
/// # The stream
///
/// It ends when the peer has closed its end, and after an error. A message over the
/// [limit](Self::with_limit) is an error too, with a [`MessageTooLong`](crate::MessageTooLong)
/// inside, and the one after which it goes on.
///
/// # The sink
///
/// It takes a message at a time. Flushing waits until the pipe has what was taken, and reports its
/// errors; closing does the same, and does not tell the peer: that is
/// [`close_write`](Pipe::close_write).
///
/// # Cancellation
///
/// Nothing is lost when a future is dropped that waits for the next message. A sink cannot notice
/// that the future of a `send` was dropped, for instance by a time-out. Its message may have been
/// accepted, or is kept and sent before the next one. [`take_unsent`](Self::take_unsent) finds out,
/// and withdraws a message that was not accepted.
#[derive(Debug)]
#[must_use = "streams and sinks do nothing unless they are polled"]
pub struct Messages<P> {
    pipe: P,
    /// `None`: that of the pipe.
    limit: Option<usize>,
    /// The stream has ended.
    ended: bool,
    received: BytesMut,
    /// A message that the sink has taken and the pipe has not.
    taken: Option<Bytes>,
}

impl<P> Messages<P> {
    /// Of an end of a [`Pipe`] that reads messages.
    pub fn new(pipe: P) -> Self {
        Self { pipe, limit: None, ended: false, received: BytesMut::new(), taken: None }
    }

    /// Receives messages of at most `limit` bytes, instead of the
    /// [`max_message_size`](crate::ServerOptions::max_message_size) of the pipe.
    pub fn with_limit(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }

    /// The pipe.
    pub fn get_ref(&self) -> &P {
        &self.pipe
    }

    /// Takes back the message that the sink has taken and the pipe has not accepted: none of it is
    /// sent. `None`: the pipe has accepted each message that the sink took, and delivers it if the
    /// peer reads; or it has refused it, and the sink returned the error.
    ///
    /// There is one such message at most. Call this after each `send` that was given up: then it is
    /// the message of that `send`.
    pub fn take_unsent(&mut self) -> Option<Bytes> {
        self.taken.take()
    }

    /// The pipe, from which nothing has been taken that was not given. A message that was not
    /// [sent](Self::take_unsent) is lost.
    #[must_use = "the pipe is closed when it is dropped"]
    pub fn into_inner(self) -> P {
        self.pipe
    }
}

impl<E: End> Messages<Pipe<E>> {
    /// Hands what the sink has taken to the pipe.
    fn poll_hand_on(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(message) = &self.taken else { return Poll::Ready(Ok(())) };
        let stream = &self.pipe.stream;
        let sent = coop::poll(context, |context| stream.poll_send_message(context, Key::POLL, message));
        let sent = ready!(sent);
        self.taken = None;
        Poll::Ready(sent)
    }
}

impl<E: End> Stream for Messages<Pipe<E>> {
    type Item = io::Result<BytesMut>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { pipe, limit, ended, received, .. } = self.get_mut();
        if *ended {
            return Poll::Ready(None);
        }
        let limit = limit.unwrap_or_else(|| pipe.stream.max_message_size());
        let next =
            coop::poll(context, |context| pipe.stream.poll_recv_message(context, Key::POLL, received, limit));
        match ready!(next) {
            Ok(Some(_)) => Poll::Ready(Some(Ok(received.split()))),
            Ok(None) => {
                *ended = true;
                Poll::Ready(None)
            }
            Err(error) => {
                *ended = !is_message_too_long(&error);
                Poll::Ready(Some(Err(error)))
            }
        }
    }
}

impl<E: End> FusedStream for Messages<Pipe<E>> {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl<E: End> Sink<Bytes> for Messages<Pipe<E>> {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_hand_on(context)
    }

    fn start_send(self: Pin<&mut Self>, message: Bytes) -> io::Result<()> {
        self.get_mut().taken = Some(message);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_hand_on(context))?;
        coop::poll(context, |context| this.pipe.stream.poll_flush(context, Key::POLL))
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}
