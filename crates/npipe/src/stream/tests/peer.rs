//! One end under test, with what it should have sent and received.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::{Bytes, BytesMut};

use crate::machine::Framing;
use crate::stream::{Drain, Key, Settings, Slice, Stream};
use crate::sync::lock;

/// A waker that remembers.
#[derive(Default)]
pub(super) struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

/// Someone who polls, gets told to wait, and polls again only when woken.
#[derive(Default)]
pub(super) struct Waiter {
    flag: Arc<Flag>,
    waits: bool,
}

impl Waiter {
    /// Whether it has reason to poll.
    pub(super) fn may_poll(&self) -> bool {
        !self.waits || self.flag.0.load(Ordering::Acquire)
    }

    pub(super) fn poll<T>(&mut self, poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        self.flag.0.store(false, Ordering::Release);
        let waker = Waker::from(self.flag.clone());
        let result = poll(&mut Context::from_waker(&waker));
        self.waits = result.is_pending();
        result
    }
}

/// The bytes of one direction of one connection, computable at every place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pattern(pub(super) u64);

impl Pattern {
    pub(super) fn byte(self, place: usize) -> u8 {
        ((place as u64 ^ self.0).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
    }

    pub(super) fn bytes(self, place: usize, length: usize) -> Vec<u8> {
        (place..place + length).map(|place| self.byte(place)).collect()
    }
}

/// What has been accepted in one direction and not been received.
pub(super) struct Ledger {
    pattern: Pattern,
    messages: bool,
    accepted: usize,
    received: usize,
    /// The messages on their way, by what remains of them.
    lengths: VecDeque<usize>,
    /// Whether bytes are read, too, which passes over empty messages, at a time that the reader
    /// does not see.
    reads_bytes: bool,
}

impl Ledger {
    pub(super) fn new(pattern: Pattern, messages: bool, reads_bytes: bool) -> Self {
        Self { pattern, messages, accepted: 0, received: 0, lengths: VecDeque::new(), reads_bytes }
    }

    pub(super) fn next_bytes(&self, length: usize) -> Vec<u8> {
        self.pattern.bytes(self.accepted, length)
    }

    pub(super) fn accept(&mut self, count: usize) {
        self.accepted += count;
        if self.messages {
            self.lengths.push_back(count);
        }
    }

    /// Checks a message that was received whole, or what was left of one.
    pub(super) fn receive_message(&mut self, bytes: &[u8]) {
        if self.reads_bytes && !bytes.is_empty() {
            self.pass_over_empty();
        }
        let length = *self.lengths.front().expect("a message was sent");
        assert_eq!(bytes.len(), length, "a message was split, merged or lost");
        self.check(bytes);
        self.lengths.pop_front();
    }

    /// Checks the refusal of a message for its length.
    pub(super) fn refuse(&mut self, refused: usize) {
        self.pass_over_empty();
        let length = self.lengths.pop_front().expect("a message was sent");
        assert_eq!(refused, length, "another message was refused");
        self.received += length;
    }

    fn pass_over_empty(&mut self) {
        while self.lengths.front() == Some(&0) {
            self.lengths.pop_front();
        }
    }

    /// Checks what a read of `room` bytes brought, which may be less than there was room for if the
    /// kernel `splits`. Returns whether it ends with the end of a message.
    pub(super) fn receive(&mut self, bytes: &[u8], room: usize, splits: bool) -> bool {
        self.check(bytes);
        if !self.messages {
            return true;
        }
        self.pass_over_empty();
        let remaining = self.lengths.front_mut().expect("a message was sent");
        let whole = room.min(*remaining);
        assert!(bytes.len() == whole || (splits && bytes.len() < whole), "a message was split or merged");
        *remaining -= bytes.len();
        let ended = *remaining == 0;
        if ended {
            self.lengths.pop_front();
        }
        ended
    }

    fn check(&mut self, bytes: &[u8]) {
        assert!(self.received + bytes.len() <= self.accepted, "more was received than was sent");
        assert_eq!(
            bytes,
            self.pattern.bytes(self.received, bytes.len()),
            "bytes lost, repeated or reordered"
        );
        self.received += bytes.len();
    }

    pub(super) fn is_settled(&self) -> bool {
        self.received == self.accepted && (self.reads_bytes || self.lengths.is_empty())
    }
}

/// An end with those who use it.
pub(super) struct Peer {
    pub(super) stream: Stream,
    pub(super) reader: Waiter,
    /// Writes and flushes: one task, as under the traits.
    pub(super) writer: Waiter,
    pub(super) watcher: Waiter,
    pub(super) drainer: Waiter,
    drain: Option<Drain>,
    /// The largest buffers that were given away: what is held may be as much more.
    given_to_read: usize,
    given_to_write: usize,
}

impl Peer {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            reader: Waiter::default(),
            writer: Waiter::default(),
            watcher: Waiter::default(),
            drainer: Waiter::default(),
            drain: None,
            given_to_read: 0,
            given_to_write: 0,
        }
    }

    pub(super) fn read(&mut self, room: usize) -> Poll<std::io::Result<Vec<u8>>> {
        let mut bytes = vec![0; room];
        let stream = &self.stream;
        let count = self
            .reader
            .poll(|context| stream.poll_read(context, &mut Slice { bytes: &mut bytes, filled: 0 }));
        count.map(|count| {
            count.map(|count| {
                bytes.truncate(count);
                bytes
            })
        })
    }

    /// Receives a message behind bytes that must stay as they are.
    pub(super) fn receive(&mut self, limit: usize) -> Poll<std::io::Result<Option<Vec<u8>>>> {
        const BEFORE: &[u8] = b"before";
        let mut buffer = BytesMut::from(BEFORE);
        let stream = &self.stream;
        let received =
            self.reader.poll(|context| stream.poll_recv_message(context, Key::POLL, &mut buffer, limit));
        assert!(buffer.starts_with(BEFORE));
        let message = buffer.split_off(BEFORE.len());
        match received {
            Poll::Ready(Ok(Some(length))) => {
                assert_eq!(message.len(), length);
                Poll::Ready(Ok(Some(message.to_vec())))
            }
            received => {
                assert!(message.is_empty(), "a part of a message was given");
                received.map(|received| received.map(|_| None))
            }
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let stream = &self.stream;
        self.writer.poll(|context| stream.poll_write(context, &bytes))
    }

    /// A read into a buffer that is given away.
    pub(super) fn read_owned(&mut self, room: usize) -> Poll<std::io::Result<Vec<u8>>> {
        let mut bytes = BytesMut::with_capacity(room);
        self.given_to_read = self.given_to_read.max(room);
        let stream = &self.stream;
        let read = self.reader.poll(|context| stream.poll_read_owned(context, Key::POLL, &mut bytes, room));
        read.map(|read| read.map(|()| bytes.to_vec()))
    }

    /// A write of bytes that are given away, in two pieces.
    pub(super) fn write_owned(&mut self, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let mut first = Bytes::copy_from_slice(bytes);
        let second = first.split_off(bytes.len() / 3);
        self.given_to_write = self.given_to_write.max(bytes.len());
        let mut pieces = vec![first, second];
        let stream = &self.stream;
        let written = self.writer.poll(|context| stream.poll_write_owned(context, Key::POLL, &mut pieces));
        written.map(|written| written.map(|()| bytes.len()))
    }

    pub(super) fn flush(&mut self) -> Poll<std::io::Result<()>> {
        let stream = &self.stream;
        self.writer.poll(|context| stream.poll_flush(context, Key::POLL))
    }

    /// Goes on waiting until the other end has read what the pipe has, and tells whether that is
    /// over.
    pub(super) fn drain(&mut self) -> Poll<std::io::Result<()>> {
        let drain = self.drain.get_or_insert_with(|| self.stream.start_drain());
        let result = self.drainer.poll(|context| drain.poll(context));
        if result.is_ready() {
            self.drain = None;
        }
        result
    }

    /// Gives that up.
    pub(super) fn stop_draining(&mut self) {
        self.drain = None;
        self.drainer = Waiter::default();
    }

    pub(super) fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// Waits for readability for a moment, and gives up.
    pub(super) fn glance(&mut self) {
        let stream = &self.stream;
        let reader = stream.reader();
        let _ = self.watcher.poll(|context| stream.poll_readable(context, reader.key(), None));
    }

    pub(super) fn assert_bounded(&self, settings: Settings) {
        let held = lock(&self.stream.core.inbound).machine.held();
        let limit = settings.read_limit.max(2) + 2 * self.given_to_read;
        assert!(held <= limit, "{held} bytes read ahead, limit {}", settings.read_limit);
        if settings.writes == Framing::Bytes {
            let queued = lock(&self.stream.core.outbound).machine.queued();
            let limit = settings.write_limit + self.given_to_write;
            assert!(queued <= limit, "{queued} bytes queued, limit {}", settings.write_limit);
        }
    }
}
