//! The inbound direction: what has been read from the pipe and not yet by the caller.
//!
//! A read that may have to wait goes into a buffer of ours, because a caller of Tokio's or futures' traits may take its
//! own away at any time. That buffer starts at 512 bytes, so that a pipe that waits holds next to nothing; it grows
//! while reads come back full and is small again when the pipe has been idle.
//!
//! Two things make it fast. A read that filled its buffer suggests that more is there: then the next goes straight into
//! the caller's buffer, if that is large ([`ReadStep::Direct`]), and is taken back if it would have to wait. A read that
//! did not fill its buffer suggests that the pipe is empty: then the next is submitted from where the packet was
//! dequeued, before the caller asks.
//!
//! On a message pipe a read brings one message at most, and a message larger than our buffer continues straight into
//! the caller's, so a message arrives whole wherever the caller's buffer has room for it.

use super::slot::{Claim, Slot};
use super::{Framing, LARGEST_TRANSFER, verdict};

/// What a pipe that waits for its first byte, or has been idle, holds.
const SMALLEST: usize = 512;
/// The next size after [`SMALLEST`]; from here it grows fourfold.
const SECOND: usize = 4 * 1024;
/// A read straight into the caller's buffer saves a copy but may cost a cancellation; below this, or where our own buffer
/// would bring more for one system call, it does not pay.
const DIRECT: usize = 4 * 1024;

#[derive(Debug)]
pub(crate) struct ReadAhead {
    framing: Framing,
    limit: usize,
    /// The size of the next buffer.
    size: usize,
    slot: Slot,
    /// What the caller reads from.
    front: Option<Chunk>,
    /// What came while `front` was not used up.
    back: Option<Chunk>,
    /// The caller has had a part of a message whose end has not been read yet.
    inside_message: bool,
    /// How reading ended; reported once, behind all bytes. The system knows what comes after.
    end: Option<ReadEnd>,
    /// Someone waits for the operation in flight.
    wanted: bool,
    /// No more reading ahead: someone waits for the operation in flight to be over, whatever it brings.
    stopping: bool,
    forecast: Forecast,
    /// A used-up buffer, kept for the next read.
    spare: Option<Vec<u8>>,
}

/// Bytes of one read.
#[derive(Debug)]
struct Chunk {
    bytes: Vec<u8>,
    consumed: usize,
    message_goes_on: bool,
}

/// How reading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadEnd {
    /// The peer closed its end.
    EndOfFile,
    /// The system's error.
    Failed(u32),
}

/// What a read should do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadStep {
    /// Take bytes from [`ReadAhead::buffered`] and [`ReadAhead::consume`] them.
    Copy,
    /// Read into the caller's buffer, without waiting.
    Direct,
    /// Submit a read into a buffer of this size.
    Submit(usize),
    /// A read is in flight.
    Wait,
    /// What has been copied is the result.
    Done,
    /// Report this.
    End(ReadEnd),
}

/// What the end of a read asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReadDone {
    /// There is news for those who wait.
    pub(crate) wake: bool,
    /// Submit a read of this size now.
    pub(crate) submit: Option<usize>,
}

/// Whether a read straight into the caller's buffer is likely to find data.
///
/// A right guess saves a copy, a wrong one costs two system calls, so a guess has to be nearly always right. The last read
/// tells half of it: one that was not filled left the pipe empty. The other half is habit: a writer fills the pipe and
/// is stopped, so a busy pipe runs empty after about as many reads as the last time. Around that number reads go into a
/// buffer of ours, which may wait as well as not.
#[derive(Debug, Default)]
struct Forecast {
    /// The last read was filled: more may be there.
    more: bool,
    /// Reads since the pipe was last found empty.
    run: u32,
    /// How many there were before that.
    last_run: u32,
}

impl Forecast {
    fn is_sure(&self) -> bool {
        let margin = self.last_run.div_ceil(4);
        self.more && (self.run < self.last_run - margin || self.run > self.last_run + margin)
    }

    fn on_data(&mut self, more: bool) {
        self.more = more;
        self.run = self.run.saturating_add(1);
    }

    fn on_empty(&mut self) {
        self.more = false;
        if self.run > 0 {
            self.last_run = std::mem::take(&mut self.run);
        }
    }
}

impl ReadAhead {
    pub(crate) fn new(framing: Framing, limit: usize) -> Self {
        let mut read_ahead = Self {
            framing,
            limit,
            size: 0,
            slot: Slot::Free,
            front: None,
            back: None,
            inside_message: false,
            end: None,
            wanted: false,
            stopping: false,
            forecast: Forecast::default(),
            spare: None,
        };
        read_ahead.shrink();
        read_ahead
    }

    /// The largest buffer. There may be two of them, one being read from and one being filled.
    fn largest(&self) -> usize {
        (self.limit / 2).clamp(1, LARGEST_TRANSFER)
    }

    fn shrink(&mut self) {
        self.size = SMALLEST.min(self.largest());
        self.spare = None;
    }

    fn grow(&mut self) {
        let next = if self.size < SECOND { SECOND } else { self.size * 4 };
        self.size = next.min(self.largest());
    }

    /// Decides about a read that has `copied` bytes so far and room for `room` more.
    pub(crate) fn step(&mut self, copied: usize, room: usize) -> ReadStep {
        let started = copied > 0;
        if started && (room == 0 || (self.framing == Framing::Messages && !self.inside_message)) {
            return ReadStep::Done;
        }
        if self.front.is_some() {
            return if room == 0 { ReadStep::Done } else { ReadStep::Copy };
        }
        match self.slot {
            Slot::InFlight | Slot::Abandoned if started => return ReadStep::Done,
            Slot::InFlight | Slot::Abandoned => {
                self.wanted = true;
                return ReadStep::Wait;
            }
            Slot::Free => {}
        }
        if let Some(end) = self.end {
            if started {
                return ReadStep::Done;
            }
            self.end = None;
            return ReadStep::End(end);
        }
        let worth_it = room >= self.size.max(DIRECT);
        let direct = room > 0 && (self.inside_message || (worth_it && self.forecast.is_sure()));
        match (direct, started) {
            (true, _) => ReadStep::Direct,
            (false, true) => ReadStep::Done,
            (false, false) => ReadStep::Submit(self.size),
        }
    }

    /// Whether a read would have a result without waiting. If not, and nothing is in flight, a read has to be
    /// submitted for it to become so.
    pub(crate) fn is_ready(&self) -> bool {
        self.front.is_some() || (self.slot == Slot::Free && self.end.is_some())
    }

    /// Whether the next thing a reader sees is the end.
    pub(crate) fn is_ended(&self) -> bool {
        self.front.is_none() && self.end.is_some()
    }

    /// Bytes to copy from.
    pub(crate) fn buffered(&self) -> &[u8] {
        self.front.as_ref().map_or(&[], |chunk| &chunk.bytes[chunk.consumed..])
    }

    /// The caller has taken `count` of [`buffered`](Self::buffered).
    pub(crate) fn consume(&mut self, count: usize) {
        let Some(chunk) = &mut self.front else { return };
        chunk.consumed += count;
        if chunk.consumed < chunk.bytes.len() {
            self.inside_message = true;
            return;
        }
        self.inside_message = chunk.message_goes_on;
        let used = std::mem::replace(&mut self.front, self.back.take());
        if let Some(Chunk { mut bytes, .. }) = used {
            bytes.clear();
            self.spare = Some(bytes);
        }
    }

    /// A buffer for [`ReadStep::Submit`].
    pub(crate) fn buffer(&mut self, size: usize) -> Vec<u8> {
        match self.spare.take() {
            Some(spare) if spare.capacity() == size => spare,
            _ => Vec::with_capacity(size),
        }
    }

    /// A read submitted for a caller goes on, and the caller waits for it.
    pub(crate) fn on_pending(&mut self) {
        self.slot.submit();
        self.forecast.on_empty();
        self.wanted = true;
    }

    /// A read submitted ahead of any caller goes on.
    pub(crate) fn on_ahead_pending(&mut self) {
        self.slot.submit();
        self.forecast.on_empty();
    }

    /// A submitted read was over at once.
    pub(crate) fn on_finished(&mut self, code: u32, buffer: Vec<u8>) {
        debug_assert_eq!(self.slot, Slot::Free);
        self.accept(code, buffer);
    }

    /// The packet of a read has come.
    pub(crate) fn on_packet(&mut self, code: u32, buffer: Vec<u8>) -> ReadDone {
        if self.slot.complete() == Claim::Unwanted {
            return ReadDone { wake: true, submit: None };
        }
        let news = self.accept(code, buffer);
        let stopping = std::mem::take(&mut self.stopping);
        if !news {
            return ReadDone { wake: stopping, submit: self.wanted.then_some(self.size) };
        }
        // More reading ahead only for those who read, only when the pipe seems empty (else the caller can read
        // directly), and never inside a message, whose rest belongs straight into the caller's buffer.
        let ahead = std::mem::take(&mut self.wanted)
            && self.end.is_none()
            && self.back.is_none()
            && !self.forecast.more
            && !self.front.as_ref().is_some_and(|chunk| chunk.message_goes_on);
        ReadDone { wake: true, submit: ahead.then_some(self.size) }
    }

    /// A read that [`ReadDone::submit`] asked for was over at once.
    pub(crate) fn on_ahead_finished(&mut self, code: u32, buffer: Vec<u8>) -> ReadDone {
        let news = self.accept(code, buffer);
        ReadDone { wake: news, submit: (!news && self.wanted).then_some(self.size) }
    }

    /// Takes the result of a read into a buffer of ours, and tells whether it is news to a reader.
    fn accept(&mut self, code: u32, buffer: Vec<u8>) -> bool {
        let message_goes_on = match verdict::read(code) {
            verdict::Read::Complete => false,
            verdict::Read::MessageGoesOn => true,
            // A cancelled read that had taken bytes counts as what it took.
            verdict::Read::Aborted if !buffer.is_empty() => self.framing == Framing::Messages,
            verdict::Read::Aborted => {
                self.shrink();
                return false;
            }
            verdict::Read::EndOfFile => {
                self.end = Some(ReadEnd::EndOfFile);
                return true;
            }
            verdict::Read::Failed(code) => {
                self.end = Some(ReadEnd::Failed(code));
                return true;
            }
        };
        if buffer.is_empty() {
            // An empty message, or the empty write of a byte pipe's peer: not the end, and no bytes. It may also be
            // the end of a message of which the caller has had every byte.
            self.inside_message = false;
            self.spare = Some(buffer);
            return false;
        }
        let full = buffer.len() == buffer.capacity();
        self.forecast.on_data(full && !message_goes_on);
        if full {
            self.grow();
        }
        let chunk = Chunk { bytes: buffer, consumed: 0, message_goes_on };
        match &self.front {
            None => self.front = Some(chunk),
            Some(_) => self.back = Some(chunk),
        }
        true
    }

    /// A read straight into `room` bytes of the caller's ended, or would have had to wait (`None`). Gives the number of
    /// bytes it brought.
    pub(crate) fn on_direct(&mut self, outcome: Option<(u32, usize)>, room: usize) -> usize {
        let Some((code, bytes)) = outcome else {
            self.forecast.on_empty();
            // Inside a message its rest is always there, unless another handle took it: then there is no rest.
            self.inside_message = false;
            return 0;
        };
        match verdict::read(code) {
            verdict::Read::Complete | verdict::Read::Aborted => {
                self.inside_message = false;
                self.forecast.on_data(bytes == room && self.framing != Framing::Messages);
            }
            verdict::Read::MessageGoesOn => self.inside_message = true,
            verdict::Read::EndOfFile => {
                self.inside_message = false;
                self.end = Some(ReadEnd::EndOfFile);
            }
            verdict::Read::Failed(code) => {
                self.inside_message = false;
                self.end = Some(ReadEnd::Failed(code));
            }
        }
        bytes
    }

    /// Whether a read in flight holds a buffer worth giving back if the pipe stays idle.
    pub(crate) fn holds_large_buffer(&self) -> bool {
        self.slot == Slot::InFlight && self.size > SMALLEST
    }

    /// The pipe has been idle: the read in flight, if any, is being cancelled to give its buffer back.
    pub(crate) fn on_idle(&mut self) {
        self.shrink();
    }

    /// Reading goes on elsewhere, behind what is here: the read in flight, if any, is being cancelled. Tells whether there is
    /// one; what it brings all the same is here then.
    pub(crate) fn stop(&mut self) -> bool {
        self.wanted = false;
        self.stopping = self.slot != Slot::Free;
        self.stopping
    }

    /// Whether there is anything that a reader has not had. A read in flight may have taken it.
    pub(crate) fn may_have_bytes(&self) -> bool {
        self.front.is_some() || self.slot == Slot::InFlight
    }

    /// The connection is over: forget what was read. Tells whether to cancel.
    pub(crate) fn reset(&mut self) -> bool {
        self.front = None;
        self.back = None;
        self.inside_message = false;
        self.end = None;
        self.wanted = false;
        self.stopping = false;
        self.forecast = Forecast::default();
        self.shrink();
        self.slot.abandon()
    }

    /// What this direction holds, in bytes: unread, and kept for reuse.
    #[cfg(all(any(test, fuzzing), not(any(windows, loom))))]
    pub(crate) fn held(&self) -> usize {
        [&self.front, &self.back].into_iter().flatten().map(|chunk| chunk.bytes.capacity()).sum::<usize>()
            + self.spare.as_ref().map_or(0, Vec::capacity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windows_sys::Win32::Foundation::{
        ERROR_BROKEN_PIPE, ERROR_MORE_DATA, ERROR_OPERATION_ABORTED, ERROR_PIPE_NOT_CONNECTED,
    };

    const LIMIT: usize = 256 * 1024;

    fn buffer(length: usize, capacity: usize) -> Vec<u8> {
        let mut buffer = Vec::with_capacity(capacity);
        buffer.resize(length, b'x');
        buffer
    }

    /// A direction with a read in flight, and someone who waits for it.
    fn waiting(framing: Framing) -> ReadAhead {
        let mut machine = ReadAhead::new(framing, LIMIT);
        assert_eq!(machine.step(0, 100), ReadStep::Submit(SMALLEST));
        machine.on_pending();
        machine
    }

    #[test]
    fn a_read_that_drained_the_pipe_is_followed_by_one_ahead() {
        let mut machine = waiting(Framing::Bytes);
        let done = machine.on_packet(0, buffer(10, SMALLEST));
        assert_eq!(done, ReadDone { wake: true, submit: Some(SMALLEST) });
    }

    #[test]
    fn a_read_that_came_back_full_leaves_the_rest_to_a_direct_one() {
        let mut machine = waiting(Framing::Bytes);
        let done = machine.on_packet(0, buffer(SMALLEST, SMALLEST));
        assert_eq!(done, ReadDone { wake: true, submit: None });
        machine.consume(SMALLEST);
        assert_eq!(machine.step(SMALLEST, 100_000), ReadStep::Direct);
        assert_eq!(machine.on_direct(Some((0, 100_000)), 100_000), 100_000);
        assert_eq!(machine.step(SMALLEST + 100_000, 0), ReadStep::Done);
    }

    /// Reads `count` times from a pipe that has data for so many and is empty then; tells how many reads were direct, and
    /// whether the one that found nothing was.
    fn drain(machine: &mut ReadAhead, count: u32) -> (u32, bool) {
        const ROOM: usize = LARGEST_TRANSFER;
        let mut direct = 0;
        for _ in 0..count {
            match machine.step(0, ROOM) {
                ReadStep::Direct => {
                    machine.on_direct(Some((0, ROOM)), ROOM);
                    direct += 1;
                }
                ReadStep::Submit(size) => {
                    machine.on_finished(0, buffer(size, size));
                    machine.consume(size);
                }
                step => panic!("{step:?}"),
            }
        }
        let missed = machine.step(0, ROOM) == ReadStep::Direct;
        if missed {
            machine.on_direct(None, ROOM);
        }
        assert!(matches!(machine.step(0, ROOM), ReadStep::Submit(_)), "a wrong guess is not repeated");
        machine.on_pending();
        let filled = buffer(machine.size, machine.size);
        machine.on_packet(0, filled);
        machine.consume(machine.size);
        (direct, missed)
    }

    #[test]
    fn a_pipe_that_runs_empty_regularly_is_not_asked_in_vain() {
        let mut machine = ReadAhead::new(Framing::Bytes, LIMIT);
        drain(&mut machine, 20);
        for _ in 0..5 {
            let (direct, missed) = drain(&mut machine, 20);
            assert!(direct >= 12 && !missed, "{direct} direct of 20, missed: {missed}");
        }
    }

    #[test]
    fn a_pipe_that_turns_busier_than_its_habit_is_read_directly_again() {
        let mut machine = ReadAhead::new(Framing::Bytes, LIMIT);
        drain(&mut machine, 20);
        drain(&mut machine, 20);
        let (direct, _) = drain(&mut machine, 1000);
        assert!(direct >= 980, "{direct} direct of 1000");
    }

    #[test]
    fn buffers_grow_to_the_largest_transfer_and_shrink_when_idle() {
        let mut machine = ReadAhead::new(Framing::Bytes, LIMIT);
        let mut sizes = Vec::new();
        for _ in 0..5 {
            let ReadStep::Submit(size) = machine.step(0, 1) else { panic!("nothing is in flight") };
            sizes.push(size);
            machine.on_finished(0, buffer(size, size));
            machine.consume(size);
        }
        assert_eq!(sizes, [512, 4096, 16384, 65536, 65536]);
        machine.step(0, 1);
        machine.on_pending();
        assert!(machine.holds_large_buffer());
        machine.on_idle();
        let done = machine.on_packet(ERROR_OPERATION_ABORTED, buffer(0, 65536));
        assert_eq!(done, ReadDone { wake: false, submit: Some(SMALLEST) });
    }

    #[test]
    fn a_long_message_goes_on_straight_into_the_callers_buffer() {
        let mut machine = waiting(Framing::Messages);
        let done = machine.on_packet(ERROR_MORE_DATA, buffer(SMALLEST, SMALLEST));
        assert_eq!(done, ReadDone { wake: true, submit: None }, "no read ahead into a message");
        assert_eq!(machine.step(0, 10_000), ReadStep::Copy);
        machine.consume(SMALLEST);
        assert_eq!(machine.step(SMALLEST, 9488), ReadStep::Direct);
        assert_eq!(machine.on_direct(Some((0, 488)), 9488), 488);
        assert_eq!(machine.step(1000, 9000), ReadStep::Done, "the message is whole");
    }

    #[test]
    fn two_messages_are_two_results() {
        let mut machine = waiting(Framing::Messages);
        machine.on_packet(0, buffer(3, SMALLEST));
        machine.on_ahead_pending();
        machine.on_packet(0, buffer(4, SMALLEST));
        machine.consume(3);
        assert_eq!(machine.step(3, 97), ReadStep::Done);
        assert_eq!(machine.step(0, 100), ReadStep::Copy);
        assert_eq!(machine.buffered().len(), 4);
    }

    #[test]
    fn an_empty_message_is_neither_bytes_nor_the_end() {
        let mut machine = waiting(Framing::Messages);
        let done = machine.on_packet(0, buffer(0, SMALLEST));
        assert_eq!(done, ReadDone { wake: false, submit: Some(SMALLEST) });
    }

    #[test]
    fn the_end_comes_behind_the_bytes_and_is_what_the_system_said() {
        for (code, end) in [
            (ERROR_BROKEN_PIPE, ReadEnd::EndOfFile),
            (ERROR_PIPE_NOT_CONNECTED, ReadEnd::Failed(ERROR_PIPE_NOT_CONNECTED)),
        ] {
            let mut machine = waiting(Framing::Bytes);
            machine.on_packet(0, buffer(1, SMALLEST));
            machine.on_ahead_finished(code, buffer(0, SMALLEST));
            assert_eq!(machine.step(0, 10), ReadStep::Copy);
            assert!(!machine.is_ended());
            machine.consume(1);
            assert_eq!(machine.step(1, 9), ReadStep::Done);
            assert!(machine.is_ended());
            assert_eq!(machine.step(0, 10), ReadStep::End(end));
        }
    }

    #[test]
    fn a_cancelled_read_that_had_taken_bytes_counts_as_what_it_took() {
        let mut machine = waiting(Framing::Bytes);
        let done = machine.on_packet(ERROR_OPERATION_ABORTED, buffer(7, SMALLEST));
        assert!(done.wake);
        assert_eq!(machine.buffered().len(), 7);
    }

    #[test]
    fn reading_that_stops_starts_no_other_read_and_keeps_what_came() {
        let mut machine = waiting(Framing::Bytes);
        assert!(machine.stop());
        let done = machine.on_packet(ERROR_OPERATION_ABORTED, buffer(0, SMALLEST));
        assert_eq!(done, ReadDone { wake: true, submit: None });
        assert!(!machine.stop(), "nothing is in flight any more");

        let mut machine = waiting(Framing::Bytes);
        assert!(machine.stop());
        assert_eq!(machine.on_packet(0, buffer(3, SMALLEST)), ReadDone { wake: true, submit: None });
        assert_eq!(machine.buffered().len(), 3);
    }

    #[test]
    fn a_read_in_flight_may_hold_the_last_bytes_of_a_client_that_left() {
        let mut machine = waiting(Framing::Bytes);
        assert!(machine.may_have_bytes());
        machine.on_packet(ERROR_BROKEN_PIPE, buffer(0, SMALLEST));
        assert!(!machine.may_have_bytes());
    }

    #[test]
    fn nothing_of_a_connection_outlives_it() {
        let mut machine = waiting(Framing::Bytes);
        assert!(machine.reset());
        assert_eq!(machine.step(0, 10), ReadStep::Wait);
        machine.on_packet(0, buffer(5, SMALLEST));
        assert_eq!(machine.step(0, 10), ReadStep::Submit(SMALLEST));
    }
}
