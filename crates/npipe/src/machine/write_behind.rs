//! The outbound direction: what has been accepted from the caller and not yet by the pipe.
//!
//! A write is submitted with a copy of the caller's bytes, since a caller of Tokio's or futures'
//! traits may drop its buffer at any time and a write that was begun cannot be taken back. If the
//! pipe takes it at once, nothing remains. If not, the caller is told that it was written all the
//! same, and what it writes next is queued behind, up to a *window* that starts small and grows
//! while the queue keeps running full. The window is a right, not memory: a queue that has run
//! dry holds nothing.
//!
//! What was queued in small pieces goes out in large ones. So a slow reader costs memory up to the
//! limit and then stops the writer.
//!
//! Whoever gives its bytes away ([`WriteBehind::queue_given`]) saves the copy, and has them
//! accepted as a whole.
//!
//! On a message pipe the unit is a message: never merged with the next, never split, and one alone
//! may exceed the limit.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::guard::guard;

use super::slot::{Claim, Slot};
use super::{Framing, LARGEST_TRANSFER, is_sendable, verdict};

/// Where the window starts.
const FIRST_WINDOW: usize = 4 * 1024;

#[derive(Debug)]
pub(crate) struct WriteBehind {
    framing: Framing,
    limit: usize,
    /// Whether anything is accepted behind a write in flight.
    queueing: bool,
    window: usize,
    slot: Slot,
    /// What waits behind the write in flight: the writes to come.
    queue: VecDeque<Queued>,
    /// Their bytes. Pieces that are given may be one and the same, so that the sum need not fit
    /// into memory.
    queued: u64,
    /// Whether a writer found the queue full since the last write ended.
    ran_full: bool,
    /// The error of a write that the caller believes written: reported once, at the next occasion.
    error: Option<u32>,
    /// The caller has said that it writes no more.
    ended: bool,
}

/// A write to come.
#[derive(Debug)]
enum Queued {
    /// Copies of what the caller wrote in pieces.
    Gathered(Vec<u8>),
    /// The caller's own.
    Given(Bytes),
}

impl Queued {
    fn into_bytes(self) -> Bytes {
        match self {
            Self::Gathered(bytes) => bytes.into(),
            Self::Given(bytes) => bytes,
        }
    }
}

/// What a write should do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteStep {
    /// Report this error of an earlier write.
    Fail(u32),
    Refuse(Refused),
    /// The queue is full.
    Wait,
    /// It depends on whether the pipe carries messages: find out, then ask again.
    Classify,
    /// There is nothing to do: an empty write means something on message pipes only.
    Nothing,
    /// Submit this many of the bytes.
    Submit(usize),
    /// Queue this many of the bytes.
    Queue(usize),
}

/// Why nothing of a write is accepted, now or later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The direction was ended.
    Ended,
    /// It is a message that the system does not take in one call.
    TooLong,
}

/// What ending the direction should do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndStep {
    /// Report this error of an earlier write.
    Fail(u32),
    /// A write of the last connection is still on its way.
    Wait,
    /// Submit the empty message.
    Submit,
    /// It follows what is on its way.
    Done,
}

/// What a flush should do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FlushStep {
    /// Report this error of an earlier write.
    Fail(u32),
    /// The pipe does not have everything yet.
    Wait,
    /// The pipe has everything.
    Done,
}

/// What the end of a write asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WriteDone {
    /// Submit this next.
    pub(crate) next: Option<Bytes>,
    /// There is news for those who wait. A writer is woken when most of the queue is free, not for
    /// every write that ends: a thread switch for each would cost more than the write.
    pub(crate) wake: bool,
}

impl WriteBehind {
    pub(crate) fn new(framing: Framing, limit: usize) -> Self {
        Self {
            framing,
            limit,
            queueing: true,
            window: FIRST_WINDOW.min(limit),
            slot: Slot::Free,
            queue: VecDeque::new(),
            queued: 0,
            ran_full: false,
            error: None,
            ended: false,
        }
    }

    /// Accepts nothing any more while a write is in flight: what was accepted is then with the
    /// system, and arrives also when nobody dequeues packets. In return, one write takes up to
    /// the limit.
    #[cfg(any(windows, test))]
    pub(crate) fn stop_queueing(&mut self) {
        self.queueing = false;
    }

    /// Ends a direction of messages with an empty one, behind what was accepted and however full
    /// the queue is. Nothing is accepted from then on.
    pub(crate) fn end(&mut self) -> EndStep {
        if let Some(code) = self.error.take() {
            return EndStep::Fail(code);
        }
        match self.slot {
            _ if self.ended => return EndStep::Done,
            Slot::Abandoned => return EndStep::Wait,
            Slot::Free | Slot::InFlight => self.ended = true,
        }
        if self.slot == Slot::Free {
            return EndStep::Submit;
        }
        self.queue(0);
        EndStep::Done
    }

    /// Whether a write of this length is never accepted, nor the request of an exchange, which goes
    /// past the queue.
    pub(crate) fn refuses(&self, length: usize) -> Option<Refused> {
        if self.ended {
            return Some(Refused::Ended);
        }
        (self.framing == Framing::Messages && !is_sendable(length)).then_some(Refused::TooLong)
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    pub(crate) fn framing(&self) -> Framing {
        self.framing
    }

    pub(crate) fn classify(&mut self, framing: Framing) {
        self.framing = framing;
    }

    /// The largest write of bytes. One such write in flight and one behind it keep the pipe busy.
    fn largest_write(&self) -> usize {
        if self.queueing { (self.limit / 2).clamp(1, LARGEST_TRANSFER) } else { self.limit }
    }

    /// Decides about a write of `length` bytes.
    pub(crate) fn step(&mut self, length: usize) -> WriteStep {
        if let Some(code) = self.error.take() {
            return WriteStep::Fail(code);
        }
        if let Some(refused) = self.refuses(length) {
            return WriteStep::Refuse(refused);
        }
        match (self.slot, self.framing) {
            (Slot::Free, Framing::Unknown) if length == 0 || length > self.largest_write() => {
                WriteStep::Classify
            }
            (Slot::InFlight, Framing::Unknown) => WriteStep::Classify,
            (_, Framing::Bytes) if length == 0 => WriteStep::Nothing,
            (Slot::Free, Framing::Messages) => WriteStep::Submit(length),
            (Slot::Free, Framing::Bytes | Framing::Unknown) => {
                WriteStep::Submit(length.min(self.largest_write()))
            }
            (Slot::InFlight, _) if !self.queueing => WriteStep::Wait,
            (Slot::InFlight, framing) => {
                let room = self.room();
                let accepted = match framing {
                    Framing::Messages if self.queue.is_empty() || self.cost(length) <= room => Some(length),
                    Framing::Messages => None,
                    Framing::Bytes | Framing::Unknown => {
                        (room > 0).then(|| length.min(room).min(self.room_in_last()))
                    }
                };
                self.ran_full |= accepted.is_none();
                accepted.map_or(WriteStep::Wait, WriteStep::Queue)
            }
            // The connection it belonged to is over; what comes next must not be mixed with its end.
            (Slot::Abandoned, _) => WriteStep::Wait,
        }
    }

    /// What the queue still takes, counting the write in flight as a largest one.
    fn room(&self) -> usize {
        self.largest_queue()
            .min(self.window)
            .saturating_sub(usize::try_from(self.queued).unwrap_or(usize::MAX))
    }

    fn largest_queue(&self) -> usize {
        (self.limit - self.largest_write()).max(1)
    }

    /// What queueing so many bytes counts: an empty message takes memory, too.
    fn cost(&self, length: usize) -> usize {
        match self.framing {
            Framing::Messages => length.max(size_of::<Vec<u8>>()),
            Framing::Bytes | Framing::Unknown => length,
        }
    }

    /// What the next write of bytes still takes before another one is begun.
    fn room_in_last(&self) -> usize {
        match self.queue.back() {
            Some(Queued::Gathered(last)) if last.len() < self.largest_write() => {
                self.largest_write() - last.len()
            }
            Some(Queued::Gathered(_) | Queued::Given(_)) | None => self.largest_write(),
        }
    }

    /// Whether a write would be accepted, or fail, now.
    pub(crate) fn is_ready(&mut self) -> bool {
        let ready = self.error.is_some()
            || self.ended
            || match self.slot {
                Slot::Free => true,
                Slot::InFlight => self.queueing && self.room() > 0,
                Slot::Abandoned => false,
            };
        self.ran_full |= !ready;
        ready
    }

    /// A submitted write goes on.
    pub(crate) fn on_pending(&mut self) {
        self.slot.submit();
    }

    /// A write that was submitted for a caller was over at once: nothing remains, or the caller
    /// gets this error.
    pub(crate) fn on_finished(&mut self, code: u32) -> Result<(), u32> {
        match verdict::write(code) {
            verdict::Write::Complete => Ok(()),
            verdict::Write::Failed(code) => Err(code),
        }
    }

    /// The queue's place for bytes that [`WriteStep::Queue`] accepted.
    pub(crate) fn queue(&mut self, length: usize) -> &mut Vec<u8> {
        self.queued += self.cost(length) as u64;
        let goes_on = match self.queue.back() {
            Some(Queued::Gathered(last)) => {
                self.framing != Framing::Messages && last.len() < self.largest_write()
            }
            Some(Queued::Given(_)) | None => false,
        };
        if !goes_on {
            self.queue.push_back(Queued::Gathered(Vec::with_capacity(length)));
        }
        let Some(Queued::Gathered(last)) = self.queue.back_mut() else {
            unreachable!("an element for copies was just made sure of")
        };
        last
    }

    /// Queues the caller's own bytes, all of them however full the queue gets: they take no memory
    /// that was not there.
    pub(crate) fn queue_given(&mut self, mut bytes: Bytes) {
        self.queued += self.cost(bytes.len()) as u64;
        if self.framing != Framing::Messages {
            while bytes.len() > self.largest_write() {
                let part = bytes.split_to(self.largest_write());
                self.queue.push_back(Queued::Given(part));
            }
        }
        self.queue.push_back(Queued::Given(bytes));
    }

    /// The packet of a write has come.
    pub(crate) fn on_packet(&mut self, code: u32) -> WriteDone {
        match self.slot.complete() {
            Claim::Unwanted => WriteDone { next: None, wake: true },
            Claim::Wanted => self.proceed(code),
        }
    }

    /// A write that the queue had submitted was over at once.
    pub(crate) fn on_next_finished(&mut self, code: u32) -> WriteDone {
        self.proceed(code)
    }

    fn proceed(&mut self, code: u32) -> WriteDone {
        match verdict::write(code) {
            verdict::Write::Complete => {
                if std::mem::take(&mut self.ran_full) {
                    self.window = self.window.saturating_mul(4).min(self.largest_queue());
                }
                let next = self.queue.pop_front().map(Queued::into_bytes);
                self.queued -= next.as_ref().map_or(0, |next| self.cost(next.len()) as u64);
                if next.is_none() {
                    // The queue's own memory goes back as well: an idle pipe holds next to nothing.
                    self.queue = VecDeque::new();
                }
                let wake =
                    next.is_none() || self.queued <= (self.largest_queue().min(self.window) / 4) as u64;
                WriteDone { next, wake }
            }
            verdict::Write::Failed(code) => {
                // Bytes behind a write that failed would arrive out of order, if at all.
                self.discard();
                self.error = Some(code);
                WriteDone { next: None, wake: true }
            }
        }
    }

    fn discard(&mut self) {
        // Bytes of the caller's may run a destructor.
        let discarded = std::mem::take(&mut self.queue);
        discarded.into_iter().for_each(|queued| guard(|| drop(queued)));
        self.queued = 0;
        self.ran_full = false;
        self.window = FIRST_WINDOW.min(self.limit);
    }

    pub(crate) fn flush(&mut self) -> FlushStep {
        match (self.error.take(), self.slot) {
            (Some(code), _) => FlushStep::Fail(code),
            (None, Slot::Free) => FlushStep::Done,
            (None, Slot::InFlight | Slot::Abandoned) => FlushStep::Wait,
        }
    }

    /// Whether everything accepted has reached the pipe, or failed to.
    pub(crate) fn is_idle(&self) -> bool {
        self.slot == Slot::Free
    }

    /// The connection is over: forget what was queued. Tells whether to cancel.
    pub(crate) fn reset(&mut self) -> bool {
        self.discard();
        self.error = None;
        self.ended = false;
        self.slot.abandon()
    }

    /// What this direction holds behind the write in flight, in bytes.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn queued(&self) -> usize {
        self.queued as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windows_sys::Win32::Foundation::ERROR_NO_DATA;

    const LIMIT: usize = 64 * 1024;

    /// A direction of bytes with a write in flight.
    fn busy(framing: Framing) -> WriteBehind {
        let mut machine = WriteBehind::new(framing, LIMIT);
        assert_eq!(machine.step(1), WriteStep::Submit(1));
        machine.on_pending();
        machine
    }

    fn accept(machine: &mut WriteBehind, length: usize) -> Option<usize> {
        match machine.step(length) {
            WriteStep::Queue(count) => {
                machine.queue(count).extend_from_slice(&vec![0; count]);
                Some(count)
            }
            WriteStep::Wait => None,
            step => panic!("{step:?}"),
        }
    }

    #[test]
    fn small_writes_behind_one_in_flight_go_out_as_one() {
        let mut machine = busy(Framing::Bytes);
        machine.step(3);
        machine.queue(3).extend(b"abc");
        machine.step(3);
        machine.queue(3).extend(b"def");
        assert_eq!(machine.on_packet(0).next.as_deref(), Some(&b"abcdef"[..]));
    }

    #[test]
    fn bytes_that_were_given_are_written_as_they_are_and_large_ones_in_parts() {
        let mut machine = busy(Framing::Bytes);
        machine.step(3);
        machine.queue(3).extend(b"abc");
        let given = Bytes::from(vec![7; LIMIT]);
        machine.queue_given(given.clone());
        machine.step(3);
        assert_eq!(machine.queued(), LIMIT + 3);
        assert_eq!(machine.step(1), WriteStep::Wait, "the queue is more than full");
        assert_eq!(machine.on_packet(0).next.as_deref(), Some(&b"abc"[..]));
        let half = machine.on_next_finished(0).next.unwrap();
        assert_eq!((half.len(), half.as_ptr()), (LIMIT / 2, given.as_ptr()), "a part, and no copy");
        assert_eq!(machine.on_next_finished(0).next.unwrap().len(), LIMIT / 2);
        assert_eq!(machine.on_next_finished(0), WriteDone { next: None, wake: true });
    }

    #[test]
    fn what_is_copied_behind_given_bytes_is_a_write_of_its_own() {
        let mut machine = busy(Framing::Bytes);
        machine.queue_given(Bytes::from_static(b"given"));
        assert_eq!(accept(&mut machine, 3), Some(3));
        assert_eq!(machine.on_packet(0).next.as_deref(), Some(&b"given"[..]));
        assert_eq!(machine.on_next_finished(0).next.map(|next| next.len()), Some(3));
    }

    #[test]
    fn messages_are_never_merged() {
        let mut machine = busy(Framing::Messages);
        machine.step(1);
        machine.queue(1).extend(b"a");
        machine.step(0);
        machine.queue(0);
        assert_eq!(machine.on_packet(0).next.as_deref(), Some(&b"a"[..]));
        machine.on_pending();
        assert_eq!(machine.on_packet(0).next.as_deref(), Some(&b""[..]), "an empty message is a message");
    }

    #[test]
    fn a_message_over_the_limit_is_accepted_alone() {
        let mut machine = busy(Framing::Messages);
        assert_eq!(accept(&mut machine, 10 * LIMIT), Some(10 * LIMIT));
        assert_eq!(accept(&mut machine, 1), None);
    }

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn a_message_that_no_call_takes_is_refused_also_behind_others() {
        const LONGEST: usize = u32::MAX as usize;
        for mut machine in [WriteBehind::new(Framing::Messages, LIMIT), busy(Framing::Messages)] {
            assert_ne!(machine.step(LONGEST), WriteStep::Refuse(Refused::TooLong));
            assert_eq!(machine.step(LONGEST + 1), WriteStep::Refuse(Refused::TooLong));
        }
        assert!(matches!(WriteBehind::new(Framing::Bytes, LIMIT).step(LONGEST + 1), WriteStep::Submit(_)));
    }

    #[test]
    fn empty_messages_fill_the_queue_too() {
        let mut machine = busy(Framing::Messages);
        let accepted = (0..LIMIT).take_while(|_| accept(&mut machine, 0).is_some()).count();
        assert!(accepted < 1000, "{accepted} empty messages were queued");
        for _ in 0..accepted {
            assert_eq!(machine.on_packet(0).next.as_deref(), Some(&[][..]));
            machine.on_pending();
        }
        assert_eq!(machine.queued(), 0);
    }

    #[test]
    fn the_window_starts_small_grows_under_pressure_and_stops_at_the_limit() {
        let mut machine = busy(Framing::Bytes);
        let mut windows = Vec::new();
        for _ in 0..5 {
            let mut window = machine.queued();
            while let Some(count) = accept(&mut machine, LIMIT) {
                window += count;
            }
            windows.push(window);
            while machine.on_packet(0).next.is_some() {
                machine.on_pending();
            }
            machine.on_pending();
        }
        assert_eq!(windows, [4096, 16384, 32768, 32768, 32768]);
    }

    #[test]
    fn without_a_queue_everything_accepted_is_with_the_system() {
        for framing in [Framing::Bytes, Framing::Messages] {
            let mut machine = WriteBehind::new(framing, LIMIT);
            machine.stop_queueing();
            assert_eq!(machine.step(LIMIT), WriteStep::Submit(LIMIT));
            machine.on_pending();
            assert_eq!(machine.step(1), WriteStep::Wait);
            assert!(!machine.is_ready());
            assert_eq!(machine.on_packet(0), WriteDone { next: None, wake: true });
            assert!(machine.is_ready());
        }
        let mut machine = WriteBehind::new(Framing::Bytes, LIMIT);
        machine.stop_queueing();
        assert_eq!(machine.step(10 * LIMIT), WriteStep::Submit(LIMIT), "back-pressure");
    }

    #[test]
    fn the_error_of_an_accepted_write_is_reported_once_and_takes_the_queue_with_it() {
        let mut machine = busy(Framing::Bytes);
        accept(&mut machine, 100);
        assert_eq!(machine.on_packet(ERROR_NO_DATA), WriteDone { next: None, wake: true });
        assert_eq!(machine.queued(), 0);
        assert_eq!(machine.flush(), FlushStep::Fail(ERROR_NO_DATA));
        assert_eq!(machine.flush(), FlushStep::Done);
    }

    #[test]
    fn nothing_is_accepted_behind_the_end_of_the_direction_until_the_next_connection() {
        let mut machine = busy(Framing::Messages);
        accept(&mut machine, LIMIT);
        assert_eq!(machine.step(0), WriteStep::Wait, "the queue is full");
        assert_eq!(machine.end(), EndStep::Done);
        assert_eq!(machine.step(1), WriteStep::Refuse(Refused::Ended));
        assert!(machine.is_ready(), "a write fails at once");
        assert_eq!(machine.on_packet(0).next.map(|next| next.len()), Some(LIMIT));
        machine.on_pending();
        assert_eq!(machine.on_packet(0).next.as_deref(), Some(&[][..]));
        machine.on_pending();
        machine.reset();
        assert_eq!(machine.end(), EndStep::Wait);
        machine.on_packet(0);
        assert_eq!(machine.step(1), WriteStep::Submit(1));
        assert_eq!(machine.end(), EndStep::Submit);
        assert_eq!(machine.end(), EndStep::Done);
    }

    #[test]
    fn an_empty_write_is_nothing_on_a_byte_pipe_and_a_message_on_the_other() {
        assert_eq!(WriteBehind::new(Framing::Bytes, LIMIT).step(0), WriteStep::Nothing);
        assert_eq!(WriteBehind::new(Framing::Messages, LIMIT).step(0), WriteStep::Submit(0));
    }

    #[test]
    fn the_system_is_asked_for_the_type_only_where_it_matters() {
        let mut machine = WriteBehind::new(Framing::Unknown, LIMIT);
        assert_eq!(machine.step(0), WriteStep::Classify);
        assert_eq!(machine.step(LIMIT), WriteStep::Classify, "a message must not be split");
        assert_eq!(machine.step(10), WriteStep::Submit(10));
        machine.on_pending();
        assert_eq!(machine.step(10), WriteStep::Classify, "messages must not be merged");
    }

    #[test]
    fn what_follows_a_disconnect_waits_until_the_old_write_is_back() {
        let mut machine = busy(Framing::Bytes);
        assert!(machine.reset());
        assert_eq!(machine.step(1), WriteStep::Wait);
        assert_eq!(machine.on_packet(0), WriteDone { next: None, wake: true });
        assert_eq!(machine.step(1), WriteStep::Submit(1));
    }
}
