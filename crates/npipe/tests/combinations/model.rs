//! One direction of a connection as a model: the bytes and messages that were accepted and not
//! received.
//!
//! It is exact but for one thing. A read of bytes passes over empty messages, also when it then
//! finds nothing and has to wait. How many it has passed over by then is not visible from outside.
//!
//! The unit tests of the library use it too, over the simulated kernel.

use std::collections::VecDeque;

/// What a read of bytes may return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Zero {
    /// The end of the pipe alone.
    End,
    /// An empty message too, which reads as the end.
    EmptyMessage,
}

#[derive(Debug)]
pub(crate) struct Direction {
    messages: bool,
    seed: u64,
    accepted: usize,
    received: usize,
    /// What remains of each message.
    lengths: VecDeque<usize>,
    /// The number of empty messages, from the front, that a read may have passed over.
    passed_over: usize,
    /// A part of the first message has been received.
    inside: bool,
    /// The sender has closed its end.
    pub(crate) is_closed: bool,
    /// The sender has ended its direction with an empty message.
    pub(crate) is_ended: bool,
}

impl Direction {
    pub(crate) fn new(messages: bool, seed: u64) -> Self {
        Self {
            messages,
            seed,
            accepted: 0,
            received: 0,
            lengths: VecDeque::new(),
            passed_over: 0,
            inside: false,
            is_closed: false,
            is_ended: false,
        }
    }

    fn bytes_at(&self, place: usize, length: usize) -> Vec<u8> {
        let byte =
            |place: usize| ((place as u64 ^ self.seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8;
        (place..place + length).map(byte).collect()
    }

    /// The bytes to write next.
    pub(crate) fn next_bytes(&self, length: usize) -> Vec<u8> {
        self.bytes_at(self.accepted, length)
    }

    pub(crate) fn accept(&mut self, length: usize) {
        assert!(!self.is_ended && !self.is_closed, "a write was accepted behind the end");
        self.accepted += length;
        if self.messages {
            self.lengths.push_back(length);
        }
    }

    /// Returns whether a read of bytes need not wait.
    pub(crate) fn has_bytes(&self, zero: Zero) -> bool {
        let empty = zero == Zero::EmptyMessage && self.leading_empty() > self.passed_over;
        self.received < self.accepted || empty || self.is_closed
    }

    /// Returns whether the receiver of a message need not wait.
    pub(crate) fn has_message(&self) -> bool {
        self.received < self.accepted || self.leading_empty() > self.passed_over || self.is_closed
    }

    /// Returns whether everything has been received.
    pub(crate) fn is_settled(&self) -> bool {
        self.received == self.accepted && self.leading_empty() == self.passed_over
    }

    /// Returns whether the pipe is empty, also of empty messages.
    #[cfg_attr(not(windows), allow(dead_code, reason = "for the public API"))]
    pub(crate) fn is_received(&self) -> bool {
        self.received == self.accepted && self.lengths.is_empty()
    }

    pub(crate) fn unread(&self) -> usize {
        self.accepted - self.received
    }

    pub(crate) fn is_message_complete(&self) -> bool {
        !self.inside
    }

    fn leading_empty(&self) -> usize {
        self.lengths.iter().take_while(|length| **length == 0).count()
    }

    /// A read of bytes found nothing.
    pub(crate) fn read_waits(&mut self, zero: Zero) {
        if zero == Zero::End {
            self.passed_over = self.leading_empty();
        }
    }

    fn pass_over(&mut self, count: usize) {
        self.lengths.drain(..count);
        self.passed_over = 0;
    }

    fn check(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.unread(), "more was received than was sent");
        let expected = self.bytes_at(self.received, bytes.len());
        assert!(bytes == expected, "bytes were lost, repeated or reordered");
        self.received += bytes.len();
    }

    /// A read into `room` bytes returned these. It may have `split` what was there.
    pub(crate) fn read(&mut self, bytes: &[u8], room: usize, zero: Zero, split: bool) {
        assert!(room > 0 && bytes.len() <= room);
        if bytes.is_empty() {
            if zero == Zero::EmptyMessage && self.leading_empty() > 0 {
                self.receive(bytes);
                return;
            }
            assert!(self.is_closed, "an end that nothing has caused");
            assert!(self.unread() == 0, "the end came before everything was received");
            self.lengths.clear();
            self.passed_over = 0;
            return;
        }
        if self.messages {
            let empty = self.leading_empty();
            assert!(zero == Zero::End || empty <= self.passed_over, "a read passed over an empty message");
            self.pass_over(empty);
            let remaining = *self.lengths.front().expect("a message was sent");
            let whole = remaining.min(room);
            assert!(
                bytes.len() == whole || (split && bytes.len() < whole),
                "{} bytes of a message of which {remaining} are left, with room for {room}",
                bytes.len()
            );
            self.take(bytes.len(), remaining);
        }
        self.check(bytes);
    }

    fn take(&mut self, count: usize, remaining: usize) {
        self.inside = count < remaining;
        if self.inside {
            self.lengths[0] = remaining - count;
        } else {
            self.lengths.pop_front();
        }
    }

    /// A whole message was received, or the rest of one.
    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            assert!(self.leading_empty() > 0, "an empty message that was not sent");
            self.lengths.pop_front();
            self.passed_over = self.passed_over.min(self.leading_empty());
            return;
        }
        self.begin_message();
        let length = *self.lengths.front().expect("a message was sent");
        assert_eq!(bytes.len(), length, "a message was split, merged or lost");
        self.lengths.pop_front();
        self.inside = false;
        self.check(bytes);
    }

    /// A message was refused for its length.
    pub(crate) fn refuse(&mut self, refused: usize, limit: usize) {
        self.begin_message();
        let length = self.lengths.pop_front().expect("a message was sent");
        assert_eq!(refused, length, "another message was refused");
        assert!(refused > limit, "a message within the limit was refused");
        self.inside = false;
        self.received += length;
    }

    /// Only empty messages that were passed over are missing before the next one.
    fn begin_message(&mut self) {
        let empty = self.leading_empty();
        assert!(empty <= self.passed_over, "an empty message was lost");
        self.pass_over(empty);
    }

    /// The receiver of messages got the end.
    pub(crate) fn receive_end(&self) {
        assert!(self.is_closed, "an end that nothing has caused");
        assert!(self.is_settled(), "the end came before everything was received");
    }

    /// The handle was given up, with this that had been read from it ahead.
    pub(crate) fn release<B: AsRef<[u8]>>(&mut self, read_ahead: &[B]) {
        for bytes in read_ahead.iter().map(AsRef::as_ref) {
            if bytes.is_empty() {
                self.receive(bytes);
                continue;
            }
            if self.messages {
                self.begin_message();
                let remaining = *self.lengths.front().expect("a message was sent");
                assert!(bytes.len() <= remaining, "messages were merged");
                self.take(bytes.len(), remaining);
            }
            self.check(bytes);
        }
        // The next owner of the handle does not know of a message that was begun.
        self.inside = false;
    }

    /// Returns whether these are the bytes that are available, and those of them in the first
    /// message, of a pipe that has got everything.
    pub(crate) fn is_peeked(&self, bytes: usize, in_message: usize) -> bool {
        assert!(bytes <= self.unread(), "more bytes are available than were sent");
        let first = |passed_over| self.lengths.get(passed_over).copied().unwrap_or(0);
        bytes == self.unread() && (in_message == first(0) || in_message == first(self.passed_over))
    }
}
