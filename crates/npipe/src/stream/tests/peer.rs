//! One end under test, with what it should have sent and received.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use crate::machine::Framing;
use crate::stream::{Key, Settings, Slice, Stream};
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
    /// The messages on their way, by what remains of them. Empty ones are passed over by a stream of bytes.
    lengths: VecDeque<usize>,
    inside: bool,
}

impl Ledger {
    pub(super) fn new(pattern: Pattern, messages: bool) -> Self {
        Self { pattern, messages, accepted: 0, received: 0, lengths: VecDeque::new(), inside: false }
    }

    pub(super) fn next_bytes(&self, length: usize) -> Vec<u8> {
        self.pattern.bytes(self.accepted, length)
    }

    pub(super) fn accept(&mut self, count: usize) {
        self.accepted += count;
        if self.messages && count > 0 {
            self.lengths.push_back(count);
        }
    }

    /// Checks what a read of `room` bytes brought.
    pub(super) fn receive(&mut self, bytes: &[u8], room: usize) {
        assert!(self.received + bytes.len() <= self.accepted, "more was received than was sent");
        assert_eq!(
            bytes,
            self.pattern.bytes(self.received, bytes.len()),
            "bytes lost, repeated or reordered"
        );
        self.received += bytes.len();
        if self.messages {
            let remaining = self.lengths.front_mut().expect("a message was sent");
            assert_eq!(bytes.len(), room.min(*remaining), "a message was split or merged");
            *remaining -= bytes.len();
            if *remaining == 0 {
                self.lengths.pop_front();
            }
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        self.received == self.accepted
    }
}

/// An end with those who use it.
pub(super) struct Peer {
    pub(super) stream: Stream,
    pub(super) reader: Waiter,
    /// Writes and flushes: one task, as under the traits.
    pub(super) writer: Waiter,
    pub(super) watcher: Waiter,
}

impl Peer {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, reader: Waiter::default(), writer: Waiter::default(), watcher: Waiter::default() }
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

    pub(super) fn write(&mut self, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let stream = &self.stream;
        self.writer.poll(|context| stream.poll_write(context, &bytes))
    }

    pub(super) fn flush(&mut self) -> Poll<std::io::Result<()>> {
        let stream = &self.stream;
        self.writer.poll(|context| stream.poll_flush(context, Key::POLL))
    }

    /// Waits for readability for a moment, and gives up.
    pub(super) fn glance(&mut self) {
        let key = self.stream.reader_key();
        let stream = &self.stream;
        let _ = self.watcher.poll(|context| stream.poll_readable(context, key, None));
        self.stream.forget_reader(key);
    }

    pub(super) fn assert_bounded(&self, settings: Settings) {
        let held = lock(&self.stream.core.inbound).machine.held();
        assert!(held <= settings.read_limit.max(2), "{held} bytes read ahead, limit {}", settings.read_limit);
        if settings.writes == Framing::Bytes {
            let queued = lock(&self.stream.core.outbound).machine.queued();
            assert!(queued <= settings.write_limit, "{queued} bytes queued, limit {}", settings.write_limit);
        }
    }
}
