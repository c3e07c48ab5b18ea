//! Whole messages, and what there is to them beyond reading and writing: the end of a direction,
//! exchanges, a look ahead.

use std::io;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::BytesMut;

use super::read::{Skips, Wait};
use super::write::refusal;
use super::{Inbound, Key, OperationPlace, Outbound, Stream, system_error, wait};
use crate::coop::poll_fn;
use crate::driver::Submitted;
use crate::error::{
    MessageTooLong, carries_bytes, no_answer, one_way, reads_bytes, sent_behind_unread, too_long_to_send,
};
use crate::info::Peek;
use crate::machine::verdict::{self, ExchangeRefused};
use crate::machine::{EndStep, Framing, LONGEST_BUFFER, MessageStep, ReadEnd, RestDone, Unread};
use crate::sync::lock;
use crate::sys;

/// Room for the reply of an exchange; a longer one goes on as any other message.
const REPLY: usize = 4 * 1024;

/// What a receiver gets: the length of a message, or `None` at the end.
type Received = Option<usize>;

impl Stream {
    /// Appends the next message to `buffer`, if it has at most `limit` bytes.
    pub(crate) async fn recv_message(&self, buffer: &mut BytesMut, limit: usize) -> io::Result<Received> {
        let waiter = self.reader();
        poll_fn(|context| self.poll_recv_message(context, waiter.key(), buffer, limit)).await
    }

    pub(crate) fn poll_recv_message(
        &self,
        context: &Context<'_>,
        key: Key,
        buffer: &mut BytesMut,
        limit: usize,
    ) -> Poll<io::Result<Received>> {
        self.reporting("receive", || {
            let mut inbound = lock(&self.core.inbound);
            let mut skips = Skips::new();
            loop {
                match self.receive(&mut inbound, buffer, limit, &mut skips)? {
                    Receiving::Received(received) => return Poll::Ready(Ok(received)),
                    Receiving::Submit(size) => self.submit_read(&mut inbound, size),
                    Receiving::Wait(wait) => {
                        wait.leave(&self.core.inbound, inbound, key, context);
                        return Poll::Pending;
                    }
                }
            }
        })
    }

    /// Receives a message as far as that takes no waiting: one that was read ahead before the
    /// stream came to rest, or the rest of one that was begun. `None`: the calling thread has
    /// to read from the pipe, and reports that to
    /// [`on_thread_received`](Self::on_thread_received).
    #[cfg(any(windows, test))]
    pub(crate) fn recv_now(&self, buffer: &mut BytesMut, limit: usize) -> io::Result<Option<Received>> {
        match self.receive(&mut lock(&self.core.inbound), buffer, limit, &mut Skips::new())? {
            Receiving::Received(received) => Ok(Some(received)),
            Receiving::Submit(_) | Receiving::Wait(_) => Ok(None),
        }
    }

    /// A thread that receives a message has read this from the pipe itself. If it is the end of a
    /// message, returns the beginning.
    #[cfg(any(windows, test))]
    pub(crate) fn on_thread_received(&self, code: u32, bytes: &[u8]) -> Option<Vec<u8>> {
        lock(&self.core.inbound).machine.on_thread_received(code, bytes)
    }

    /// Throws away what there is of a refused message. Returns whether there is more of it than one
    /// call may discard.
    #[cfg(any(windows, test))]
    pub(crate) fn discard_refused(&self) -> bool {
        self.pass_over_refused(&mut lock(&self.core.inbound)).is_err()
    }

    /// Throws away what there is of a refused message, or as much as one call may.
    pub(super) fn pass_over_refused(&self, inbound: &mut Inbound) -> Result<(), Wait> {
        let mut skips = Skips::new();
        while inbound.machine.is_refusing() {
            if !skips.take() {
                return Err(Wait::Turn);
            }
            if self.discard(inbound, &mut skips).is_some() {
                break;
            }
        }
        Ok(())
    }

    /// Receives a message as far as that takes no waiting. `buffer` changes only when it is whole.
    fn receive(
        &self,
        inbound: &mut Inbound,
        buffer: &mut BytesMut,
        limit: usize,
        skips: &mut Skips,
    ) -> io::Result<Receiving> {
        if !inbound.machine.reads_messages() {
            return Err(reads_bytes());
        }
        let limit = limit.min(LONGEST_BUFFER - buffer.len());
        let mut step = inbound.machine.message_step(limit);
        loop {
            step = match step {
                MessageStep::Whole => {
                    let message = inbound.machine.buffered();
                    let length = message.len();
                    buffer.extend_from_slice(message);
                    inbound.machine.consume(length);
                    return Ok(Receiving::Received(Some(length)));
                }
                MessageStep::Rest | MessageStep::Discard | MessageStep::Submit(_) if !skips.take() => {
                    return Ok(Receiving::Wait(Wait::Turn));
                }
                MessageStep::Rest => {
                    let left = sys::peek(&self.handle).map_or(0, |peeked| peeked.left_in_message);
                    match inbound.machine.rest(left, limit) {
                        Ok(room) => match self.receive_rest(inbound, buffer, room) {
                            Some(receiving) => return Ok(receiving),
                            None => inbound.machine.message_step(limit),
                        },
                        Err(refused) => refused,
                    }
                }
                MessageStep::Discard => match self.discard(inbound, skips) {
                    Some(size) => return Ok(Receiving::Submit(size)),
                    None => inbound.machine.message_step(limit),
                },
                MessageStep::TooLong { length } => {
                    // The sender may wait until it has been read. More is discarded by the next call.
                    let _ = self.pass_over_refused(inbound);
                    return Err(MessageTooLong::new(length, limit).into());
                }
                MessageStep::Submit(size) => return Ok(Receiving::Submit(size)),
                MessageStep::Wait => return Ok(Receiving::Wait(Wait::Packet)),
                MessageStep::End(ReadEnd::EndOfFile) => return Ok(Receiving::Received(None)),
                MessageStep::End(ReadEnd::Failed(code)) => return Err(system_error(code)),
            };
        }
    }

    /// Reads the rest of a message behind its beginning, straight into `buffer`. `None`: the
    /// machine has to be asked again.
    fn receive_rest(&self, inbound: &mut Inbound, buffer: &mut BytesMut, room: usize) -> Option<Receiving> {
        let start = buffer.len();
        buffer.extend_from_slice(inbound.machine.buffered());
        let begun = buffer.len();
        buffer.resize(begun + room, 0);
        let outcome = sys::read_now(&self.handle, &mut buffer[begun..]);
        let end = begun + outcome.map_or(0, |outcome| outcome.bytes);
        let done = inbound.machine.on_rest(outcome.map(|outcome| (outcome.code, &buffer[begun..end])));
        if done == RestDone::Whole {
            buffer.truncate(end);
            return Some(Receiving::Received(Some(end - start)));
        }
        buffer.truncate(start);
        match done {
            RestDone::Submit(size) => Some(Receiving::Submit(size)),
            RestDone::Whole | RestDone::Part => None,
        }
    }

    /// Sends all of `message`, as one.
    pub(crate) async fn send_message(&self, message: &[u8]) -> io::Result<()> {
        let waiter = self.writer();
        poll_fn(|context| self.poll_send_message(context, waiter.key(), message)).await
    }

    pub(crate) fn poll_send_message(
        &self,
        context: &Context<'_>,
        key: Key,
        message: &[u8],
    ) -> Poll<io::Result<()>> {
        self.reporting("send", || {
            let mut outbound = lock(&self.core.outbound);
            self.check_messages(&mut outbound)?;
            match self.try_accept(&mut outbound, &message) {
                Ok(Some(_)) => Poll::Ready(Ok(())),
                Ok(None) => wait(&self.core.outbound, outbound, key, context),
                Err(error) => Poll::Ready(Err(error)),
            }
        })
    }

    /// Refuses what makes sense for messages only.
    pub(crate) fn require_messages(&self) -> io::Result<()> {
        self.check_messages(&mut lock(&self.core.outbound))
    }

    fn check_messages(&self, outbound: &mut Outbound) -> io::Result<()> {
        if self.carries_messages(outbound)? { Ok(()) } else { Err(carries_bytes()) }
    }

    /// Whether what is written are messages.
    pub(super) fn carries_messages(&self, outbound: &mut Outbound) -> io::Result<bool> {
        if outbound.machine.framing() == Framing::Unknown {
            self.classify(outbound)?;
        }
        Ok(outbound.machine.framing() == Framing::Messages)
    }

    /// Ends this direction with an empty message, once the peer has read everything before it or
    /// the time has come.
    pub(crate) async fn close_write(&self, end: Option<Instant>) -> io::Result<()> {
        self.require_messages()?;
        if self.is_write_ended() {
            return Ok(());
        }
        let in_time = self.drain_until(end).await.transpose()?.is_some();
        let waiter = self.writer();
        poll_fn(|context| self.poll_end_write(context, waiter.key())).await?;
        if in_time { Ok(()) } else { Err(sent_behind_unread()) }
    }

    pub(crate) fn is_write_ended(&self) -> bool {
        lock(&self.core.outbound).machine.is_ended()
    }

    /// Sends the empty message that ends this direction, which carries messages. It has to wait
    /// only while a write of the last connection is on its way.
    pub(crate) fn poll_end_write(&self, context: &Context<'_>, key: Key) -> Poll<io::Result<()>> {
        let mut outbound = lock(&self.core.outbound);
        match outbound.machine.end() {
            EndStep::Fail(code) => Poll::Ready(Err(system_error(code))),
            EndStep::Submit => Poll::Ready(self.submit_write(&mut outbound, &b"".as_slice(), 0).map(drop)),
            EndStep::Done => Poll::Ready(Ok(())),
            EndStep::Wait => wait(&self.core.outbound, outbound, key, context),
        }
    }

    /// Sends `request` and receives its reply. Nobody else may use the stream meanwhile.
    pub(crate) async fn transact(&self, request: &[u8], reply: &mut BytesMut) -> io::Result<usize> {
        self.check_request(request.len())?;
        self.flush().await?;
        let waiter = self.reader();
        poll_fn(|context| self.poll_exchange(context, waiter.key(), request)).await?;
        let received = poll_fn(|context| self.poll_reply(context, waiter.key(), reply)).await;
        drop(waiter);
        match received {
            Ok(received) => received?.ok_or_else(no_answer),
            Err(ExchangeRefused::Unread) => Err(system_error(verdict::UNREAD_MESSAGES)),
            Err(ExchangeRefused::OneWay) => Err(one_way()),
            Err(ExchangeRefused::NotConnected) => {
                // This fails with the reason, unless a client has come just now.
                self.send_message(request).await?;
                self.recv_message(reply, self.max_message_size()).await?.ok_or_else(no_answer)
            }
        }
    }

    /// Receives the reply of an exchange, unless it was not begun.
    fn poll_reply(
        &self,
        context: &Context<'_>,
        key: Key,
        reply: &mut BytesMut,
    ) -> Poll<Result<io::Result<Received>, ExchangeRefused>> {
        let refused = || lock(&self.core.inbound).machine.take_exchange_refused();
        if let Some(refused) = refused() {
            return Poll::Ready(Err(refused));
        }
        match self.poll_recv_message(context, key, reply, self.max_message_size()) {
            Poll::Ready(received) => Poll::Ready(Ok(received)),
            // Asked again after the waker was left: the packet may have come just before.
            Poll::Pending => refused().map_or(Poll::Pending, |refused| Poll::Ready(Err(refused))),
        }
    }

    /// Refuses an exchange that cannot be one: of bytes, or with a request that could not be sent at
    /// all, and so must not be sent past the queue.
    pub(crate) fn check_request(&self, length: usize) -> io::Result<()> {
        self.require_messages()?;
        if !lock(&self.core.inbound).machine.reads_messages() {
            return Err(reads_bytes());
        }
        let outbound = lock(&self.core.outbound);
        outbound.machine.refuses(length).map_or(Ok(()), |refused| Err(refusal(refused)))
    }

    /// Starts an exchange as soon as no read is in flight, which the system would not let it pass.
    fn poll_exchange(&self, context: &Context<'_>, key: Key, request: &[u8]) -> Poll<io::Result<()>> {
        let mut inbound = lock(&self.core.inbound);
        if inbound.machine.stop() {
            inbound.operation.cancel();
            return wait(&self.core.inbound, inbound, key, context);
        }
        if let Err(turn) = self.pass_over_refused(&mut inbound) {
            turn.leave(&self.core.inbound, inbound, key, context);
            return Poll::Pending;
        }
        Poll::Ready(self.exchange(&mut inbound, request))
    }

    fn exchange(&self, inbound: &mut Inbound, request: &[u8]) -> io::Result<()> {
        if inbound.machine.has_message() {
            return Err(system_error(verdict::UNREAD_MESSAGES));
        }
        // Of an exchange whose future was dropped.
        inbound.machine.take_exchange_refused();
        let capacity = request.len().checked_add(REPLY).filter(|capacity| *capacity <= LONGEST_BUFFER);
        let mut buffer = Vec::with_capacity(capacity.ok_or_else(too_long_to_send)?);
        buffer.extend_from_slice(request);
        match inbound.operation.take().exchange(&self.core.driver, &self.handle, buffer, self.core.clone()) {
            Submitted::Pending(in_flight) => {
                inbound.operation = OperationPlace::Away(in_flight);
                inbound.machine.on_pending();
                Ok(())
            }
            Submitted::Finished { operation, outcome, buffer } => {
                inbound.operation = OperationPlace::Here(operation);
                inbound.machine.on_exchanged(outcome.code, buffer).map_err(system_error)
            }
        }
    }

    /// Returns whether a message that was read ahead, or was begun, has not been received.
    #[cfg(windows)]
    pub(crate) fn has_message(&self) -> bool {
        lock(&self.core.inbound).machine.has_message()
    }

    /// What could be read now.
    pub(crate) fn peek(&self) -> io::Result<Peek> {
        let inbound = lock(&self.core.inbound);
        let pipe = match sys::peek(&self.handle) {
            Ok(peeked) => Unread { bytes: peeked.available, in_message: peeked.left_in_message },
            // What was read ahead is there, whatever has become of the peer.
            Err(_) if inbound.machine.is_ready() => Unread { bytes: 0, in_message: 0 },
            Err(error) => return Err(error),
        };
        let unread = inbound.machine.unread(pipe);
        Ok(Peek { bytes_available: unread.bytes, bytes_left_in_message: unread.in_message })
    }

    /// Whether what was read last ends with the end of a message.
    pub(crate) fn is_message_complete(&self) -> bool {
        lock(&self.core.inbound).machine.is_message_complete()
    }

    /// Lets an empty message read as the end, or not.
    pub(crate) fn set_empty_message_is_end(&self, is_end: bool) -> io::Result<()> {
        let is_end = is_end && self.carries_messages(&mut lock(&self.core.outbound))?;
        let mut inbound = lock(&self.core.inbound);
        if is_end && !inbound.machine.reads_messages() {
            sys::set_message_reads(&self.handle)?;
            inbound.machine.read_messages();
        }
        inbound.machine.set_empty_message_is_end(is_end);
        Ok(())
    }
}

/// How far receiving a message comes without submitting an operation.
enum Receiving {
    Received(Received),
    /// To where a read into a buffer of this size has to be submitted.
    Submit(usize),
    /// To where there is nothing to return yet.
    Wait(Wait),
}
