//! Whole messages, and what there is to them beyond reading and writing: the end of a direction,
//! exchanges, a look ahead.
//!
//! Receiving is a loop of its own here, and not that of the async API (`stream/message.rs`). That
//! one is fed by reads in flight while no caller waits, so a message, or its beginning, is in a
//! buffer of the stream and is copied. A thread waits in its read, which goes straight into the
//! caller's buffer: one call and no copy for a message that fits. One loop for both would cost a
//! thread that copy, or a `PeekNamedPipe` before each read. Everything that is decided about a
//! message is in one place all the same, `ReadAhead`: where one ends, what belongs to the next,
//! what is refused and discarded. The rest of a message that was begun, and one that was read
//! ahead, are received by the function of the async API (`recv_now`).

use std::io;
use std::time::Duration;

use bytes::BytesMut;

use super::PipeStream;
use super::timeout::{cut_short, deadline_after, passed_over};
use super::transfer::system_error;
use crate::error::{MessageTooLong, no_answer, one_way, sent_behind_unread};
use crate::info::Peek;
use crate::machine::LONGEST_BUFFER;
use crate::machine::verdict::{self, ExchangeRefused};
use crate::stream::Limit;
use crate::sys::{self, Waited};

/// Room for a message whose length is not known yet: at least, and at most where the caller's
/// buffer has more.
const SMALLEST_ROOM: usize = 4 * 1024;
const LARGEST_ROOM: usize = 64 * 1024;

impl PipeStream {
    /// Waits for a message and appends it to `buffer`, whole. Returns its length, 0 for an empty
    /// one, and `None` when the peer has closed its end and everything it sent has been received.
    ///
    /// A message may have [`max_message_size`](crate::ServerOptions::max_message_size) bytes, 64
    /// MiB by default. [`recv_message_limited`](Self::recv_message_limited) has a limit of its own.
    /// If a part of a message has been read by other means, this receives the rest of it. One
    /// thread at a time should receive: of two, each may get a part of a long message.
    ///
    /// ```no_run
    /// # fn serve(stream: npipe::blocking::PipeStream) -> std::io::Result<()> {
    /// let mut buffer = bytes::BytesMut::new();
    /// while let Some(length) = stream.recv_message(&mut buffer)? {
    ///     let message = buffer.split_to(length).freeze();
    ///     println!("{message:?}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Unsupported`](io::ErrorKind::Unsupported) on an end that reads bytes.
    /// [`TimedOut`](io::ErrorKind::TimedOut) after the time of
    /// [`set_read_timeout`](Self::set_read_timeout): `buffer` is unchanged then. If a part of a
    /// message had come, a later call receives all of it, and a read begins with that part.
    /// [`InvalidData`](io::ErrorKind::InvalidData), with a [`MessageTooLong`] inside, for a message
    /// that is longer: it is discarded without allocating memory for it, and the stream stays
    /// usable. The next call discards the rest, if there is one, and receives the next message.
    /// Other errors of Windows:
    #[doc = crate::documentation::read_errors!()]
    #[doc(alias("ERROR_MORE_DATA", "234"))]
    pub fn recv_message(&self, buffer: &mut BytesMut) -> io::Result<Option<usize>> {
        self.recv_message_limited(buffer, self.stream.max_message_size())
    }

    /// [`recv_message`](Self::recv_message) of at most `limit` bytes, whatever the options say.
    ///
    /// # Errors
    ///
    /// As [`recv_message`](Self::recv_message).
    pub fn recv_message_limited(&self, buffer: &mut BytesMut, limit: usize) -> io::Result<Option<usize>> {
        self.stream.reporting("receive", || self.receive(buffer, limit, self.stream.timeouts().read_limit()))
    }

    /// Appends a message to `buffer`. The stream keeps the parts of a message until the last has
    /// come.
    fn receive(&self, buffer: &mut BytesMut, limit: usize, until: Limit<'_>) -> io::Result<Option<usize>> {
        let start = buffer.len();
        loop {
            self.discard_refused(until)?;
            if let Some(received) = self.stream.recv_now(buffer, limit)? {
                return Ok(received);
            }
            let spare = buffer.capacity() - start;
            buffer.resize(start + spare.clamp(SMALLEST_ROOM, LARGEST_ROOM), 0);
            let waited = sys::read_waiting(self.stream.handle(), &mut buffer[start..], until.until());
            if let Some(length) = self.accept(buffer, start, waited, limit)? {
                return Ok(Some(length));
            }
        }
    }

    /// Accepts the result of a read into `buffer`, at `start`. Returns the length of the message if
    /// all of it is there. Otherwise `buffer` ends at `start`.
    fn accept(
        &self,
        buffer: &mut BytesMut,
        start: usize,
        waited: io::Result<Waited>,
        limit: usize,
    ) -> io::Result<Option<usize>> {
        let end = start + waited.as_ref().map_or(0, |waited| waited.outcome.bytes);
        let judged = waited.and_then(|waited| match (verdict::read(waited.outcome.code), waited.cut) {
            (verdict::Read::Aborted, Some(cut)) if waited.outcome.bytes == 0 => {
                Err(cut_short(cut, "no message came until the time to read was over"))
            }
            _ => Ok(self.stream.on_thread_received(waited.outcome.code, &buffer[start..end])),
        });
        let Ok(Some(beginning)) = judged else {
            buffer.truncate(start);
            return judged.map(|_| None);
        };
        let length = beginning.len() + (end - start);
        if length > limit.min(LONGEST_BUFFER - start) {
            buffer.truncate(start);
            return Err(MessageTooLong::new(length, limit).into());
        }
        buffer.truncate(end);
        if !beginning.is_empty() {
            let rest = buffer.split_off(start);
            buffer.extend_from_slice(&beginning);
            buffer.extend_from_slice(&rest);
        }
        Ok(Some(length))
    }

    fn discard_refused(&self, until: Limit<'_>) -> io::Result<()> {
        while self.stream.discard_refused() {
            passed_over(until)?;
        }
        Ok(())
    }

    /// Whether what was read last, by whatever means, ends with the end of a message. For those who
    /// read messages in pieces: when it does not, the next read brings more of the same
    /// message, and [`recv_message`](Self::recv_message) the rest of it. Always so on an end
    /// that reads bytes.
    #[doc(alias = "IsMessageComplete")]
    pub fn is_message_complete(&self) -> bool {
        self.stream.is_message_complete()
    }

    /// How much could be read now, and how much of it belongs to one message. Nothing is taken by
    /// it.
    ///
    /// Calls [`PeekNamedPipe`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-peeknamedpipe).
    ///
    /// # Errors
    ///
    /// The system's: `ERROR_BROKEN_PIPE` when the peer has closed its end and everything has been
    /// read, `ERROR_PIPE_NOT_CONNECTED` or `ERROR_BAD_PIPE` when the server has disconnected,
    /// `ERROR_ACCESS_DENIED` on an end that may not read.
    #[doc(alias("PeekNamedPipe", "ERROR_BAD_PIPE", "230"))]
    pub fn peek(&self) -> io::Result<Peek> {
        self.stream.peek()
    }

    /// Waits until the pipe has all of `message`, as one message; an empty one is a message too.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](io::ErrorKind::Unsupported) on a byte pipe;
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for 4 GiB or more;
    /// [`BrokenPipe`](io::ErrorKind::BrokenPipe) after [`close_write`](Self::close_write);
    /// [`TimedOut`](io::ErrorKind::TimedOut) as [`set_write_timeout`](Self::set_write_timeout)
    /// says. Else the system's:
    #[doc = crate::documentation::write_errors!()]
    pub fn send_message(&self, message: &[u8]) -> io::Result<()> {
        self.stream.require_messages()?;
        self.write_slice(message).map(drop)
    }

    /// Tells the peer that this stream has no more to say, and still listens: half-close, by the
    /// convention of go-winio, which Docker uses. A pipe has nothing of the kind, so it is an
    /// empty message, and writing fails from then on, for all clones.
    ///
    /// First it waits until the peer has read everything that was written, as
    /// [`drain`](Self::drain): a peer that reads bytes would miss an empty message that comes
    /// behind others. It waits for `timeout` at most, since there are peers that never read, and
    /// sends the empty message in any case. A peer that does not know the convention passes over
    /// it.
    ///
    /// The other side of it is [`set_empty_message_is_end`](Self::set_empty_message_is_end). Called
    /// again, it does nothing.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](io::ErrorKind::Unsupported) on a byte pipe;
    /// [`TimedOut`](io::ErrorKind::TimedOut) when the peer had not read everything in time, and
    /// the empty message was sent behind the rest. Those of [`drain`](Self::drain).
    #[doc(alias = "CloseWrite")]
    pub fn close_write(&self, timeout: Duration) -> io::Result<()> {
        self.stream.require_messages()?;
        if self.stream.is_write_ended() {
            return Ok(());
        }
        let in_time = match self.drain_until(deadline_after(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => false,
            drained => drained.map(|()| true)?,
        };
        if let Some(submitting) = self.stream.begin_end()? {
            self.submit_whole(&[], submitting)?;
        }
        if in_time { Ok(()) } else { Err(sent_behind_unread()) }
    }

    /// Sends `request` and appends the message that comes back to `reply`, by one system call.
    /// Returns its length, which may be
    /// [`max_message_size`](crate::ServerOptions::max_message_size).
    ///
    /// Calls [`TransactNamedPipe`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-transactnamedpipe). It is
    /// [`send_message`](Self::send_message) and [`recv_message`](Self::recv_message) in one, for a
    /// peer that answers each message with one: the two as calls of their own work as well.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](io::ErrorKind::Unsupported) on an end that does not read messages, and on one
    /// that does not both read and write;
    /// `ERROR_PIPE_BUSY` when a message is there that has not been received, which would be
    /// taken for the reply, or another thread waits for one;
    /// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) when the peer closed its end instead of
    /// answering; [`TimedOut`](io::ErrorKind::TimedOut) when the reply takes longer than
    /// [`set_read_timeout`](Self::set_read_timeout) allows: it is then the next message
    /// received. Those of [`send_message`](Self::send_message) and
    /// [`recv_message`](Self::recv_message).
    #[doc(alias("TransactNamedPipe", "CallNamedPipe"))]
    pub fn transact(&self, request: &[u8], reply: &mut BytesMut) -> io::Result<usize> {
        self.stream.check_request(request.len())?;
        self.flush_accepted()?;
        let until = self.stream.timeouts().read_limit();
        self.discard_refused(until)?;
        // The kernel does not know of a message that an async end has read ahead.
        if self.stream.has_message() {
            return Err(system_error(verdict::UNREAD_MESSAGES));
        }
        self.exchange(request, reply, until)?.ok_or_else(no_answer)
    }

    fn exchange(&self, request: &[u8], reply: &mut BytesMut, until: Limit<'_>) -> io::Result<Option<usize>> {
        let limit = self.stream.max_message_size();
        let start = reply.len();
        let submitting = self.stream.begin_write(request.len())?;
        reply.resize(start + SMALLEST_ROOM, 0);
        let waited = sys::exchange_waiting(
            self.stream.handle(),
            request,
            &mut reply[start..],
            until.until(),
            submitting,
        );
        let refused = waited.as_ref().ok().and_then(|waited| verdict::exchange_refused(waited.outcome.code));
        match refused {
            Some(ExchangeRefused::NotConnected) => {
                reply.truncate(start);
                // This fails with the reason, unless a client has come just now.
                self.write_whole(request)?;
            }
            Some(ExchangeRefused::Unread) => {
                reply.truncate(start);
                return Err(system_error(verdict::UNREAD_MESSAGES));
            }
            Some(ExchangeRefused::OneWay) => {
                reply.truncate(start);
                return Err(one_way());
            }
            None => {
                if let Some(length) = self.accept(reply, start, waited, limit)? {
                    return Ok(Some(length));
                }
            }
        }
        // What is missing is received as any message would be: the rest of this one, or all of it.
        self.receive(reply, limit, until)
    }
}
