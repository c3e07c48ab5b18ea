//! The inbound direction: what has been read from the pipe and not yet by the caller.
//!
//! A read that may have to wait goes into a buffer of ours, because a caller of Tokio's or futures'
//! traits may take its own away at any time. That buffer starts at 512 bytes, so that a pipe that
//! waits holds next to nothing; it grows while reads come back full and is small again when the
//! pipe has been idle.
//!
//! Two things make it fast. A read that filled its buffer suggests that more is there: then the
//! next goes straight into the caller's buffer, if that is large ([`ReadStep::Direct`]), and is
//! taken back if it would have to wait. A read that did not fill its buffer suggests that the pipe
//! is empty: then the next is submitted from where the packet was dequeued, before the caller asks.
//!
//! On a message pipe a read brings one message at most, and a message larger than our buffer
//! continues straight into the caller's, so a message arrives whole wherever the caller's buffer
//! has room for it. Whoever receives whole messages ([`ReadAhead::message_step`]) gets each in one
//! piece, with no bytes in between kept by anybody else: what has been read of one that is not
//! whole yet stays here. An empty message is kept like any other, and passed over by who reads
//! bytes.

use super::slot::{Claim, Slot};
use super::{Framing, LARGEST_TRANSFER, verdict};

/// What a pipe that waits for its first byte, or has been idle, holds.
const SMALLEST: usize = 512;
/// The next size after [`SMALLEST`]; from here it grows fourfold.
const SECOND: usize = 4 * 1024;
/// A read straight into the caller's buffer saves a copy but may cost a cancellation; below this,
/// or where our own buffer would bring more for one system call, it does not pay.
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
    position: Position,
    /// An empty message reads as the end.
    empty_message_is_end: bool,
    /// How reading ended; reported once, behind all bytes. The system knows what comes after.
    end: Option<ReadEnd>,
    /// The end of the pipe was reported last, and not that of an empty message.
    over: bool,
    purpose: Purpose,
    /// The last exchange was not begun, and its caller has not received the reason yet.
    exchange_refused: Option<verdict::ExchangeRefused>,
    forecast: Forecast,
    /// A used-up buffer, kept for the next read.
    spare: Option<Vec<u8>>,
}

/// The use of the operation in flight, or of the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Nothing waits for it: it reads ahead.
    Ahead,
    /// A reader waits for its result.
    Reader,
    /// As `Reader`, and it fills a buffer that the reader gave away. The next read will do so too,
    /// so reading ahead would bring bytes into a buffer of this type, to be copied.
    ReaderOfGiven,
    /// A caller waits for its end, whatever it brings. There is no reading ahead behind it.
    Stop,
}

impl Purpose {
    fn is_reading(self) -> bool {
        match self {
            Self::Reader | Self::ReaderOfGiven => true,
            Self::Ahead | Self::Stop => false,
        }
    }
}

/// Where the caller is in the pipe's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    /// Between two, or in a stream of bytes.
    Between,
    /// It has had a part of a message whose end has not been read yet.
    Inside,
    /// As `Inside`, and the next part was not there when it was to be read: a read that waits has
    /// to be submitted for it.
    Behind,
    /// It has refused a message whose end has not been read yet: the rest is thrown away.
    Refused,
}

/// Bytes of one read, or of several that brought parts of one message.
#[derive(Debug)]
struct Chunk {
    bytes: Vec<u8>,
    consumed: usize,
    message_goes_on: bool,
}

impl Chunk {
    fn unread(&self) -> &[u8] {
        &self.bytes[self.consumed..]
    }

    fn is_empty_message(&self) -> bool {
        self.bytes.is_empty() && !self.message_goes_on
    }
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
    /// Throw away what there is of a refused message: read it, without waiting, into memory that
    /// nobody wants.
    Discard,
    /// What has been copied is the result.
    Done,
    /// Report this.
    End(ReadEnd),
}

/// What receiving a message should do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MessageStep {
    /// [`ReadAhead::buffered`] is the message: [`ReadAhead::consume`] all of it.
    Whole,
    /// [`ReadAhead::buffered`] is its beginning. Ask the pipe how much is left, offer that to
    /// [`ReadAhead::rest`], and read it.
    Rest,
    /// As [`ReadStep::Discard`].
    Discard,
    /// It is longer than allowed, and is thrown away.
    TooLong { length: usize },
    /// Submit a read into a buffer of this size.
    Submit(usize),
    /// A read is in flight.
    Wait,
    /// Report this.
    End(ReadEnd),
}

/// What reading the rest of a message came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RestDone {
    /// The message is whole, in the caller's memory.
    Whole,
    /// What came is here now, behind the beginning; ask for the next step.
    Part,
    /// Nothing is there yet: submit a read into a buffer of this size.
    Submit(usize),
}

/// How much can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unread {
    pub(crate) bytes: usize,
    /// Of these, what belongs to the message that is read next, or was begun.
    pub(crate) in_message: usize,
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
/// A right guess saves a copy, a wrong one costs two system calls, so a guess has to be nearly
/// always right. The last read tells half of it: one that was not filled left the pipe empty. The
/// other half is habit: a writer fills the pipe and is stopped, so a busy pipe runs empty after
/// about as many reads as the last time. Around that number reads go into a buffer of ours, which
/// may wait as well as not.
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
            position: Position::Between,
            empty_message_is_end: false,
            end: None,
            over: false,
            purpose: Purpose::Ahead,
            exchange_refused: None,
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
        let inside = self.is_inside();
        if started && (room == 0 || (self.framing == Framing::Messages && !inside)) {
            return ReadStep::Done;
        }
        // Who asks without room takes nothing, not even an empty message.
        while room > 0 && self.front.as_ref().is_some_and(Chunk::is_empty_message) {
            self.consume(0);
            if self.empty_message_is_end {
                self.over = false;
                return ReadStep::End(ReadEnd::EndOfFile);
            }
        }
        if self.front.is_some() {
            return if room == 0 { ReadStep::Done } else { ReadStep::Copy };
        }
        match self.slot {
            Slot::InFlight | Slot::Abandoned if started => return ReadStep::Done,
            Slot::InFlight | Slot::Abandoned => {
                self.want();
                return ReadStep::Wait;
            }
            Slot::Free => {}
        }
        if let Some(end) = self.end {
            if started {
                return ReadStep::Done;
            }
            self.end = None;
            self.over = true;
            return ReadStep::End(end);
        }
        if self.position == Position::Refused {
            return ReadStep::Discard;
        }
        let worth_it = room >= self.size.max(DIRECT);
        let direct = match self.position {
            Position::Inside => room > 0,
            Position::Behind => false,
            Position::Between | Position::Refused => room > 0 && worth_it && self.forecast.is_sure(),
        };
        match (direct, started) {
            (true, _) => ReadStep::Direct,
            (false, true) => ReadStep::Done,
            (false, false) => ReadStep::Submit(self.size),
        }
    }

    /// A reader waits for the operation in flight. One that is stopped wakes it all the same.
    fn want(&mut self) {
        if self.purpose == Purpose::Ahead {
            self.purpose = Purpose::Reader;
        }
    }

    /// Decides about receiving a message of at most `limit` bytes.
    pub(crate) fn message_step(&mut self, limit: usize) -> MessageStep {
        let have = self.buffered().len();
        match &self.front {
            Some(chunk) if !chunk.message_goes_on && have > limit => {
                self.refuse();
                return MessageStep::TooLong { length: have };
            }
            Some(chunk) if !chunk.message_goes_on => return MessageStep::Whole,
            Some(_) | None => {}
        }
        if self.slot != Slot::Free {
            self.want();
            return MessageStep::Wait;
        }
        if let Some(end) = self.end.take() {
            // The rest of what was begun is not to come any more, and a part of a message is none.
            self.front = None;
            self.position = Position::Between;
            self.over = true;
            return MessageStep::End(end);
        }
        match (&self.front, self.position) {
            (Some(_), _) | (None, Position::Inside | Position::Behind) => MessageStep::Rest,
            (None, Position::Refused) => MessageStep::Discard,
            (None, Position::Between) => MessageStep::Submit(self.size),
        }
    }

    /// Offers room for the rest of a message, of which the pipe has `left` bytes, unless that is
    /// more than `limit` in all.
    pub(crate) fn rest(&mut self, left: usize, limit: usize) -> Result<usize, MessageStep> {
        let length = self.buffered().len().saturating_add(left);
        if length > limit {
            self.refuse();
            return Err(MessageStep::TooLong { length });
        }
        // Nothing left can also mean that the pipe does not tell.
        Ok(if left == 0 { SECOND } else { left })
    }

    /// The rest of a message, read straight into the caller's memory, came with this code and these
    /// bytes; `None`: it would have had to wait.
    pub(crate) fn on_rest(&mut self, outcome: Option<(u32, &[u8])>) -> RestDone {
        let Some((code, bytes)) = outcome else { return RestDone::Submit(self.size) };
        match verdict::read(code) {
            verdict::Read::Complete => {
                self.front = None;
                self.position = Position::Between;
                self.forecast.on_data(false);
                return RestDone::Whole;
            }
            verdict::Read::Aborted if bytes.is_empty() => return RestDone::Submit(self.size),
            verdict::Read::Aborted | verdict::Read::MessageGoesOn => {
                let begun = Chunk { bytes: Vec::new(), consumed: 0, message_goes_on: true };
                self.front.get_or_insert(begun).bytes.extend_from_slice(bytes);
            }
            verdict::Read::EndOfFile => self.end = Some(ReadEnd::EndOfFile),
            verdict::Read::Failed(code) => self.end = Some(ReadEnd::Failed(code)),
        }
        RestDone::Part
    }

    /// Forgets the message that is read next, or was begun.
    fn refuse(&mut self) {
        let goes_on = self.front.as_ref().is_none_or(|chunk| chunk.message_goes_on);
        self.front = self.back.take();
        self.position = if goes_on { Position::Refused } else { Position::Between };
    }

    /// A part of a refused message was read and thrown away, or it would have had to wait (`None`):
    /// then a read of the given size has to be submitted.
    pub(crate) fn on_discarded(&mut self, code: Option<u32>) -> Option<usize> {
        match code.map(verdict::read) {
            Some(verdict::Read::Complete) => self.position = Position::Between,
            Some(verdict::Read::MessageGoesOn) => {}
            Some(verdict::Read::EndOfFile) => self.end = Some(ReadEnd::EndOfFile),
            Some(verdict::Read::Failed(code)) => self.end = Some(ReadEnd::Failed(code)),
            Some(verdict::Read::Aborted) | None => return Some(self.size),
        }
        None
    }

    /// Returns whether the rest of a refused message can be read, to be thrown away.
    pub(crate) fn is_refusing(&self) -> bool {
        self.position == Position::Refused && self.slot == Slot::Free && self.end.is_none()
    }

    /// Returns whether a message has not been received, or not to its end. It would be taken for
    /// the reply of an exchange.
    pub(crate) fn has_message(&self) -> bool {
        self.front.is_some() || self.is_inside()
    }

    /// The result of an exchange of messages that was over at once. The reply is the next message,
    /// or the end in its place.
    pub(crate) fn on_exchanged(&mut self, code: u32, reply: Vec<u8>) -> Result<(), u32> {
        self.exchange_refused = verdict::exchange_refused(code);
        match verdict::read(code) {
            _ if self.exchange_refused.is_some() => {}
            verdict::Read::Failed(code) => return Err(code),
            verdict::Read::Complete
            | verdict::Read::MessageGoesOn
            | verdict::Read::Aborted
            | verdict::Read::EndOfFile => self.on_finished(code, reply),
        }
        Ok(())
    }

    /// The packet of an exchange has come.
    pub(crate) fn on_exchange_packet(&mut self, code: u32, reply: Vec<u8>) -> ReadDone {
        let refused = verdict::exchange_refused(code);
        if refused.is_none() {
            return self.on_packet(code, reply);
        }
        self.purpose = Purpose::Ahead;
        if self.slot.complete() == Claim::Wanted {
            self.exchange_refused = refused;
        }
        // A receiver that waits at the same time has to read by itself.
        ReadDone { wake: true, submit: None }
    }

    /// Returns why the last exchange was not begun, for its caller. A receiver must not take it.
    pub(crate) fn take_exchange_refused(&mut self) -> Option<verdict::ExchangeRefused> {
        self.exchange_refused.take()
    }

    /// Whether messages are read, and not bytes.
    pub(crate) fn reads_messages(&self) -> bool {
        self.framing == Framing::Messages
    }

    /// The system has been told to read messages from now on.
    pub(crate) fn read_messages(&mut self) {
        self.framing = Framing::Messages;
    }

    pub(crate) fn set_empty_message_is_end(&mut self, is_end: bool) {
        self.empty_message_is_end = is_end;
    }

    /// Whether what the caller has read so far ends with the end of a message.
    pub(crate) fn is_message_complete(&self) -> bool {
        self.framing != Framing::Messages || !self.is_inside()
    }

    /// Returns whether the caller has already received a part of the next message.
    fn is_inside(&self) -> bool {
        match self.position {
            Position::Inside | Position::Behind => true,
            Position::Between | Position::Refused => false,
        }
    }

    /// What can be read, of which `pipe` is what the system says.
    pub(crate) fn unread(&self, pipe: Unread) -> Unread {
        let behind = self.back.as_ref().map_or(0, |chunk| chunk.unread().len());
        let in_message = match &self.front {
            _ if self.framing != Framing::Messages => 0,
            None if self.position == Position::Refused => 0,
            None => pipe.in_message,
            Some(chunk) if chunk.message_goes_on => chunk.unread().len().saturating_add(pipe.in_message),
            Some(chunk) => chunk.unread().len(),
        };
        let refused = if self.position == Position::Refused { pipe.in_message } else { 0 };
        let pipe = pipe.bytes.saturating_sub(refused);
        Unread { bytes: pipe.saturating_add(self.buffered().len() + behind), in_message }
    }

    /// Whether a read would have a result without waiting. If not, and nothing is in flight, a read
    /// has to be submitted for it to become so.
    pub(crate) fn is_ready(&self) -> bool {
        self.front.is_some() || (self.slot == Slot::Free && self.end.is_some())
    }

    /// Returns whether the next read reports the end.
    pub(crate) fn is_ended(&self) -> bool {
        match &self.front {
            Some(chunk) => self.empty_message_is_end && chunk.is_empty_message(),
            None => self.end.is_some(),
        }
    }

    /// Returns whether the end that was reported last is the pipe's. Nothing comes behind that one,
    /// as it may behind an empty message.
    #[cfg(any(windows, test))]
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// Bytes to copy from.
    pub(crate) fn buffered(&self) -> &[u8] {
        self.front.as_ref().map_or(&[], Chunk::unread)
    }

    /// The caller has taken `count` of [`buffered`](Self::buffered).
    pub(crate) fn consume(&mut self, count: usize) {
        let Some(chunk) = &mut self.front else { return };
        chunk.consumed += count;
        if chunk.consumed < chunk.bytes.len() {
            self.position = Position::Inside;
            return;
        }
        self.position = if chunk.message_goes_on { Position::Inside } else { Position::Between };
        let used = std::mem::replace(&mut self.front, self.back.take());
        if let Some(Chunk { bytes, .. }) = used {
            self.reuse(bytes);
        }
    }

    /// The whole of a read's result, for a reader with this much room who takes it without a copy.
    /// `None`: there is none, or not in one piece.
    pub(crate) fn take(&mut self, room: usize) -> Option<Vec<u8>> {
        let whole = self.front.take_if(|chunk| {
            chunk.consumed == 0 && !chunk.message_goes_on && (1..=room).contains(&chunk.bytes.len())
        })?;
        self.position = Position::Between;
        self.front = self.back.take();
        Some(whole.bytes)
    }

    /// Keeps a used-up buffer for the next read.
    fn reuse(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > 0 {
            buffer.clear();
            self.spare = Some(buffer);
        }
    }

    /// Everything that was read ahead, in the units in which it came: of a message pipe each is a
    /// message, or a part of one.
    #[cfg(any(windows, test))]
    pub(crate) fn surrender(&mut self) -> Vec<Vec<u8>> {
        let chunks = self.front.take().into_iter().chain(self.back.take());
        chunks.map(|Chunk { mut bytes, consumed, .. }| bytes.split_off(consumed)).collect()
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
        self.purpose = Purpose::Reader;
    }

    /// The read that was submitted goes into a buffer that its reader gave away.
    pub(crate) fn on_given(&mut self) {
        if self.slot == Slot::InFlight {
            self.purpose = Purpose::ReaderOfGiven;
        }
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
        let purpose = self.purpose;
        if self.slot.complete() == Claim::Unwanted {
            self.purpose = Purpose::Ahead;
            return ReadDone { wake: true, submit: None };
        }
        if !self.accept(code, buffer) {
            self.purpose = if purpose.is_reading() { Purpose::Reader } else { Purpose::Ahead };
            return ReadDone {
                wake: purpose == Purpose::Stop,
                submit: purpose.is_reading().then_some(self.size),
            };
        }
        self.purpose = Purpose::Ahead;
        // More reading ahead only for those who read, only when the pipe seems empty (else the caller can
        // read directly), and never inside a message, whose rest belongs straight into the caller's
        // buffer.
        let ahead = purpose == Purpose::Reader
            && self.end.is_none()
            && self.back.is_none()
            && !self.forecast.more
            && !self.front.as_ref().is_some_and(|chunk| chunk.message_goes_on);
        ReadDone { wake: true, submit: ahead.then_some(self.size) }
    }

    /// A read that [`ReadDone::submit`] asked for was over at once.
    pub(crate) fn on_ahead_finished(&mut self, code: u32, buffer: Vec<u8>) -> ReadDone {
        let news = self.accept(code, buffer);
        let submit = (!news && self.purpose.is_reading()).then_some(self.size);
        if news {
            self.purpose = Purpose::Ahead;
        }
        ReadDone { wake: news, submit }
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
        if self.position == Position::Refused {
            if !message_goes_on {
                self.position = Position::Between;
            }
            self.reuse(buffer);
            return false;
        }
        if let Some(begun) = self.front.as_mut().filter(|chunk| chunk.message_goes_on) {
            begun.bytes.extend_from_slice(&buffer);
            begun.message_goes_on = message_goes_on;
            return true;
        }
        if buffer.is_empty() {
            // An empty message, or the empty write of a byte pipe's peer: not the end, and no bytes. It may
            // also be the end of a message of which the caller has had every byte.
            self.reuse(buffer);
            if self.front.is_none() && self.is_inside() {
                self.position = Position::Between;
                return false;
            }
            let is_message = self.framing == Framing::Messages;
            if is_message {
                self.keep(Chunk { bytes: Vec::new(), consumed: 0, message_goes_on: false });
            }
            return is_message;
        }
        let full = buffer.len() == buffer.capacity();
        self.forecast.on_data(full && !message_goes_on);
        if full {
            self.grow();
        }
        self.keep(Chunk { bytes: buffer, consumed: 0, message_goes_on });
        true
    }

    fn keep(&mut self, chunk: Chunk) {
        match &self.front {
            None => self.front = Some(chunk),
            Some(_) => self.back = Some(chunk),
        }
    }

    /// A read straight into `room` bytes of the caller's ended, or would have had to wait (`None`).
    /// Gives the number of bytes it brought.
    pub(crate) fn on_direct(&mut self, outcome: Option<(u32, usize)>, room: usize) -> usize {
        let Some((code, bytes)) = outcome else {
            self.on_direct_waiting();
            return 0;
        };
        match verdict::read(code) {
            verdict::Read::Complete => {
                self.position = Position::Between;
                self.forecast.on_data(bytes == room && self.framing != Framing::Messages);
            }
            // Cancelled behind a part of a message: the rest of it is not there yet.
            verdict::Read::Aborted if bytes > 0 && self.framing == Framing::Messages => {
                self.position = Position::Behind;
                self.forecast.on_empty();
            }
            verdict::Read::Aborted if bytes > 0 => self.forecast.on_data(bytes == room),
            verdict::Read::Aborted => self.on_direct_waiting(),
            verdict::Read::MessageGoesOn => self.position = Position::Inside,
            verdict::Read::EndOfFile => {
                self.position = Position::Between;
                self.end = Some(ReadEnd::EndOfFile);
            }
            verdict::Read::Failed(code) => {
                self.position = Position::Between;
                self.end = Some(ReadEnd::Failed(code));
            }
        }
        bytes
    }

    /// A read straight into the caller's buffer would have had to wait. The rest of a message is in
    /// a local pipe as a whole, but on another machine's it may come later.
    fn on_direct_waiting(&mut self) {
        self.forecast.on_empty();
        if self.is_inside() {
            self.position = Position::Behind;
        }
    }

    /// A thread has read so many bytes from the pipe into its own memory, and a message goes on
    /// behind them, or does not. Returns whether that is a result. It is none if it belongs to a
    /// refused message, or is an empty message that is passed over.
    #[cfg(any(windows, test))]
    pub(crate) fn on_thread_read(&mut self, bytes: usize, message_goes_on: bool) -> bool {
        let before = self.position;
        self.position = match (before, message_goes_on) {
            (_, false) => Position::Between,
            (Position::Refused, true) => Position::Refused,
            (Position::Between | Position::Inside | Position::Behind, true) => Position::Inside,
        };
        match before {
            Position::Refused => false,
            // No bytes are the end of a message whose bytes the reader has had.
            Position::Inside | Position::Behind => bytes > 0,
            Position::Between => bytes > 0 || self.empty_message_is_end,
        }
    }

    /// A thread that receives a message has read this into its own memory. If it is the end of a
    /// message that is to be received, returns the beginning, which may be nothing. Otherwise a
    /// part of it is kept here, and so is the end of the pipe: ask for the next step.
    #[cfg(any(windows, test))]
    pub(crate) fn on_thread_received(&mut self, code: u32, bytes: &[u8]) -> Option<Vec<u8>> {
        if self.position == Position::Refused {
            self.on_discarded(Some(code));
            return None;
        }
        let begun = self.front.take_if(|chunk| chunk.message_goes_on);
        if verdict::read(code) == verdict::Read::Complete {
            self.position = Position::Between;
            return Some(begun.map_or_else(Vec::new, |chunk| chunk.unread().to_vec()));
        }
        self.front = begun.or_else(|| self.front.take());
        self.on_rest(Some((code, bytes)));
        None
    }

    /// Whether a read in flight holds a buffer worth giving back if the pipe stays idle.
    pub(crate) fn holds_large_buffer(&self) -> bool {
        self.slot == Slot::InFlight && self.size > SMALLEST
    }

    /// The pipe has been idle: the read in flight, if any, is being cancelled to give its buffer
    /// back.
    pub(crate) fn on_idle(&mut self) {
        self.shrink();
    }

    /// Reading goes on elsewhere, behind what is here: the read in flight, if any, is being
    /// cancelled. Tells whether there is one; what it brings all the same is here then.
    pub(crate) fn stop(&mut self) -> bool {
        let in_flight = self.slot != Slot::Free;
        self.purpose = if in_flight { Purpose::Stop } else { Purpose::Ahead };
        in_flight
    }

    /// Whether there is anything that a reader has not had. A read in flight may have taken it.
    pub(crate) fn may_have_bytes(&self) -> bool {
        self.front.is_some() || self.slot == Slot::InFlight
    }

    /// Another connection is about to begin: the end that was found of the last one is not its end.
    pub(crate) fn forget_end(&mut self) {
        self.end = None;
        self.over = false;
    }

    /// The connection is over: forget what was read. Tells whether to cancel.
    pub(crate) fn reset(&mut self) -> bool {
        self.front = None;
        self.back = None;
        self.position = Position::Between;
        self.end = None;
        self.over = false;
        self.purpose = Purpose::Ahead;
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
        // At once and not byte by byte, which would take Miri minutes.
        buffer.extend_from_slice(&vec![b'x'; length]);
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

    /// Reads `count` times from a pipe that has data for so many and is empty then; tells how many
    /// reads were direct, and whether the one that found nothing was.
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
    fn a_forecast_is_sure_unless_the_pipe_is_about_to_run_empty_as_before() {
        let is_sure = |more, run| Forecast { more, run, last_run: 8 }.is_sure();
        for run in 0..20 {
            assert_eq!(is_sure(true, run), !(6..=10).contains(&run), "after {run} reads");
            assert!(!is_sure(false, run));
        }
    }

    #[test]
    fn a_buffer_whose_bytes_have_been_read_is_that_of_the_next_read() {
        let mut machine = waiting(Framing::Bytes);
        machine.on_packet(0, buffer(10, SMALLEST));
        machine.consume(10);
        assert_eq!(machine.spare.as_ref().map(|spare| (spare.len(), spare.capacity())), Some((0, SMALLEST)));
        assert_eq!(machine.buffer(SMALLEST).capacity(), SMALLEST);
        assert_eq!(machine.spare, None, "it is used");
    }

    #[test]
    fn a_direct_read_that_was_cancelled_when_it_was_full_is_followed_by_another() {
        let mut machine = ReadAhead::new(Framing::Bytes, LIMIT);
        machine.forecast.on_data(true);
        assert_eq!(machine.step(0, 100_000), ReadStep::Direct);
        machine.on_direct(Some((ERROR_OPERATION_ABORTED, 100_000)), 100_000);
        assert_eq!(machine.step(0, 100_000), ReadStep::Direct);
        machine.on_direct(Some((ERROR_OPERATION_ABORTED, 5)), 100_000);
        assert_eq!(machine.step(0, 100_000), ReadStep::Submit(SMALLEST));
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
    fn a_rest_that_was_not_there_when_it_was_read_directly_is_waited_for() {
        for outcome in [None, Some((ERROR_OPERATION_ABORTED, 0)), Some((ERROR_OPERATION_ABORTED, 8))] {
            let mut machine = waiting(Framing::Messages);
            machine.on_packet(ERROR_MORE_DATA, buffer(SMALLEST, SMALLEST));
            machine.consume(SMALLEST);
            assert_eq!(machine.step(SMALLEST, 100), ReadStep::Direct);
            let count = machine.on_direct(outcome, 100);
            assert_eq!(machine.step(SMALLEST + count, 100 - count), ReadStep::Done);
            assert!(!machine.is_message_complete(), "its end has not been read");
            assert_eq!(machine.step(0, 100), ReadStep::Submit(SECOND));
            machine.on_pending();
            machine.on_packet(0, buffer(2, SECOND));
            assert_eq!(machine.step(0, 100), ReadStep::Copy);
            machine.consume(2);
            assert_eq!(machine.step(2, 98), ReadStep::Done);
            assert!(machine.is_message_complete());
        }
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
        assert_eq!(done, ReadDone { wake: true, submit: Some(SMALLEST) }, "who receives messages wants it");
        machine.on_ahead_pending();
        assert_eq!(machine.step(0, 100), ReadStep::Wait, "who reads bytes does not");
    }

    #[test]
    fn an_empty_message_is_kept_for_who_receives_messages() {
        let mut machine = waiting(Framing::Messages);
        machine.on_packet(0, buffer(0, SMALLEST));
        assert!(matches!(machine.step(0, 0), ReadStep::Done), "a look takes nothing");
        assert_eq!(machine.message_step(0), MessageStep::Whole);
        assert!(machine.buffered().is_empty());
        machine.consume(0);
        assert_eq!(machine.message_step(0), MessageStep::Submit(SMALLEST));
    }

    #[test]
    fn an_empty_message_behind_a_half_read_one_is_kept() {
        let mut machine = waiting(Framing::Messages);
        machine.on_packet(0, buffer(10, SMALLEST));
        machine.consume(4);
        machine.on_ahead_finished(0, buffer(0, SMALLEST));
        assert!(!machine.is_message_complete());
        machine.consume(6);
        assert!(machine.is_message_complete());
        assert_eq!(machine.message_step(0), MessageStep::Whole);
    }

    #[test]
    fn an_empty_message_is_the_end_where_that_is_agreed_and_what_follows_is_read() {
        let mut machine = waiting(Framing::Messages);
        machine.set_empty_message_is_end(true);
        machine.on_packet(0, buffer(0, SMALLEST));
        machine.on_ahead_finished(0, buffer(3, SMALLEST));
        assert_eq!(machine.step(0, 100), ReadStep::End(ReadEnd::EndOfFile));
        assert_eq!(machine.step(0, 100), ReadStep::Copy);
    }

    #[test]
    fn a_message_is_received_whole_with_its_rest_straight_from_the_pipe() {
        let mut machine = waiting(Framing::Messages);
        machine.on_packet(ERROR_MORE_DATA, buffer(SMALLEST, SMALLEST));
        assert_eq!(machine.message_step(1000), MessageStep::Rest);
        assert_eq!(machine.rest(488, 1000), Ok(488));
        assert_eq!(machine.on_rest(Some((0, &[b'x'; 488]))), RestDone::Whole);
        assert_eq!(machine.message_step(1000), MessageStep::Submit(SECOND));
    }

    #[test]
    fn a_rest_that_has_to_be_waited_for_is_collected_here() {
        let mut machine = waiting(Framing::Messages);
        machine.on_packet(ERROR_MORE_DATA, buffer(SMALLEST, SMALLEST));
        assert_eq!(machine.message_step(1000), MessageStep::Rest);
        assert_eq!(machine.rest(0, 1000), Ok(SECOND), "the pipe does not tell");
        assert_eq!(machine.on_rest(Some((ERROR_MORE_DATA, &[b'x'; 8]))), RestDone::Part);
        assert_eq!(machine.on_rest(None), RestDone::Submit(SECOND));
        machine.on_pending();
        assert_eq!(machine.message_step(1000), MessageStep::Wait);
        machine.on_packet(0, buffer(100, SECOND));
        assert_eq!(machine.message_step(1000), MessageStep::Whole);
        assert_eq!(machine.buffered().len(), SMALLEST + 108);
    }

    #[test]
    fn a_message_over_the_limit_is_thrown_away_and_the_next_is_whole() {
        let mut machine = waiting(Framing::Messages);
        machine.on_packet(ERROR_MORE_DATA, buffer(SMALLEST, SMALLEST));
        assert_eq!(machine.rest(1 << 30, 1000), Err(MessageStep::TooLong { length: SMALLEST + (1 << 30) }));
        for _ in 0..2 {
            assert_eq!(machine.message_step(1000), MessageStep::Discard);
            assert_eq!(machine.on_discarded(Some(ERROR_MORE_DATA)), None);
        }
        assert_eq!(machine.on_discarded(None), Some(SECOND), "its rest has to be waited for");
        machine.on_pending();
        machine.on_packet(ERROR_MORE_DATA, buffer(SECOND, SECOND));
        assert_eq!(machine.step(0, 100), ReadStep::Discard, "who reads bytes does not get it either");
        assert_eq!(machine.on_discarded(Some(0)), None);
        assert!(matches!(machine.message_step(1000), MessageStep::Submit(_)));
        machine.on_finished(0, buffer(7, SECOND));
        assert_eq!(
            machine.message_step(6),
            MessageStep::TooLong { length: 7 },
            "also one that is here whole"
        );
        assert!(matches!(machine.message_step(6), MessageStep::Submit(_)));
    }

    #[test]
    fn a_message_whose_rest_never_comes_is_none() {
        let mut machine = waiting(Framing::Messages);
        machine.on_packet(ERROR_MORE_DATA, buffer(SMALLEST, SMALLEST));
        assert_eq!(machine.on_rest(Some((ERROR_PIPE_NOT_CONNECTED, &[]))), RestDone::Part);
        assert_eq!(machine.message_step(1000), MessageStep::End(ReadEnd::Failed(ERROR_PIPE_NOT_CONNECTED)));
        assert_eq!(machine.message_step(1000), MessageStep::Submit(SECOND));
    }

    #[test]
    fn what_is_unread_counts_what_is_here_and_what_is_in_the_pipe() {
        let mut machine = waiting(Framing::Messages);
        machine.on_packet(0, buffer(10, SMALLEST));
        machine.on_ahead_finished(0, buffer(5, SMALLEST));
        machine.consume(4);
        let pipe = Unread { bytes: 100, in_message: 60 };
        assert_eq!(machine.unread(pipe), Unread { bytes: 111, in_message: 6 });
        machine.consume(6);
        machine.consume(5);
        assert_eq!(machine.unread(pipe), pipe);
        machine.on_finished(ERROR_MORE_DATA, buffer(SMALLEST, SMALLEST));
        assert_eq!(machine.unread(pipe), Unread { bytes: 100 + SMALLEST, in_message: 60 + SMALLEST });
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
        for (framing, message_goes_on) in [(Framing::Bytes, false), (Framing::Messages, true)] {
            let mut machine = waiting(framing);
            let done = machine.on_packet(ERROR_OPERATION_ABORTED, buffer(7, SMALLEST));
            assert!(done.wake);
            assert_eq!(machine.buffered().len(), 7);
            machine.consume(7);
            assert_eq!(machine.is_message_complete(), !message_goes_on, "{framing:?}");
        }
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
    fn behind_a_buffer_that_was_given_there_is_no_reading_ahead() {
        let mut machine = waiting(Framing::Bytes);
        machine.on_given();
        assert_eq!(machine.on_packet(0, buffer(9, 1000)), ReadDone { wake: true, submit: None });
        assert_eq!(machine.take(1000).map(|bytes| bytes.len()), Some(9));
        let ReadStep::Submit(_) = machine.step(0, 10) else { panic!("nothing is in flight") };
        machine.on_pending();
        assert!(machine.on_packet(0, buffer(9, 1000)).submit.is_some(), "it was for the one read");
    }

    #[test]
    fn a_result_is_taken_whole_or_not_at_all() {
        let mut machine = waiting(Framing::Messages);
        machine.on_packet(0, vec![1, 2, 3]);
        assert_eq!(machine.take(2), None, "no room");
        assert_eq!(machine.take(3), Some(vec![1, 2, 3]));
        assert_eq!(machine.take(3), None, "nothing more");
        machine.on_ahead_pending();
        machine.on_packet(0, vec![4, 5]);
        machine.consume(1);
        assert_eq!(machine.take(9), None, "it was begun");
        let mut machine = waiting(Framing::Messages);
        machine.on_packet(ERROR_MORE_DATA, vec![1, 2]);
        assert_eq!(machine.take(9), None, "the rest of the message belongs to it");
        let mut machine = waiting(Framing::Messages);
        machine.on_packet(0, Vec::new());
        assert_eq!(machine.take(9), None, "an empty message is for the next step");
    }

    #[test]
    fn what_was_read_ahead_is_given_up_whole_and_in_order() {
        let mut machine = waiting(Framing::Messages);
        machine.on_packet(0, vec![1, 2, 3]);
        machine.on_ahead_pending();
        machine.on_packet(0, vec![4]);
        machine.consume(1);
        assert_eq!(machine.surrender(), [vec![2, 3], vec![4]]);
        assert!(!machine.is_ready());
    }

    #[test]
    fn a_read_in_flight_may_hold_the_last_bytes_of_a_client_that_left() {
        let mut machine = waiting(Framing::Bytes);
        assert!(machine.may_have_bytes());
        machine.on_packet(ERROR_BROKEN_PIPE, buffer(0, SMALLEST));
        assert!(!machine.may_have_bytes());
    }

    #[test]
    fn an_empty_message_that_reads_as_the_end_is_not_that_of_the_pipe() {
        let mut machine = waiting(Framing::Messages);
        machine.set_empty_message_is_end(true);
        machine.on_packet(0, buffer(0, SMALLEST));
        assert!(machine.is_ended());
        assert_eq!(machine.step(0, 10), ReadStep::End(ReadEnd::EndOfFile));
        assert!(!machine.is_over());
        let ReadStep::Submit(size) = machine.step(0, 10) else { panic!("more may come") };
        machine.on_finished(ERROR_BROKEN_PIPE, buffer(0, size));
        assert!(machine.is_ended());
        assert_eq!(machine.step(0, 10), ReadStep::End(ReadEnd::EndOfFile));
        assert!(machine.is_over());
        machine.reset();
        assert!(!machine.is_over());
    }

    #[test]
    fn nothing_of_a_connection_outlives_it() {
        let mut machine = waiting(Framing::Bytes);
        assert!(machine.reset());
        assert_eq!(machine.step(0, 10), ReadStep::Wait);
        machine.on_packet(0, buffer(5, SMALLEST));
        assert_eq!(machine.step(0, 10), ReadStep::Submit(SMALLEST));
    }

    #[test]
    fn a_thread_that_receives_leaves_a_part_here_until_the_rest_has_come() {
        let mut machine = ReadAhead::new(Framing::Messages, LIMIT);
        assert_eq!(machine.on_thread_received(ERROR_MORE_DATA, b"be"), None);
        assert_eq!(machine.on_thread_received(ERROR_OPERATION_ABORTED, b"gin"), None);
        assert_eq!(machine.on_thread_received(ERROR_OPERATION_ABORTED, b""), None);
        assert_eq!(machine.message_step(LIMIT), MessageStep::Rest);
        assert!(machine.is_message_complete(), "nothing of it has been received");
        assert_eq!(machine.unread(Unread { bytes: 3, in_message: 3 }), Unread { bytes: 8, in_message: 8 });
        machine.consume(1);
        assert_eq!(machine.on_thread_received(0, b"ning").as_deref(), Some(&b"egin"[..]));
        assert!(machine.is_message_complete() && !machine.has_message());
        assert_eq!(machine.on_thread_received(0, b"whole").as_deref(), Some(&b""[..]));

        // An end makes a part of a message none.
        assert_eq!(machine.on_thread_received(ERROR_MORE_DATA, b"begin"), None);
        assert_eq!(machine.on_thread_received(ERROR_BROKEN_PIPE, b""), None);
        assert_eq!(machine.message_step(LIMIT), MessageStep::End(ReadEnd::EndOfFile));
        assert!(!machine.has_message());
    }

    #[test]
    fn a_thread_gets_nothing_of_a_refused_message() {
        for reads in [false, true] {
            for last in [0, 3] {
                let mut machine = ReadAhead::new(Framing::Messages, LIMIT);
                machine.set_empty_message_is_end(true);
                assert_eq!(machine.on_thread_received(ERROR_MORE_DATA, b"begin"), None);
                assert_eq!(machine.rest(100, 10), Err(MessageStep::TooLong { length: 105 }));
                let part = Unread { bytes: 100, in_message: 100 };
                assert_eq!(machine.unread(part), Unread { bytes: 0, in_message: 0 });
                for part in [50, 50 - last] {
                    assert!(machine.is_refusing() && machine.is_message_complete());
                    let part = vec![0; part];
                    if reads {
                        assert!(!machine.on_thread_read(part.len(), true));
                    } else {
                        assert_eq!(machine.on_thread_received(ERROR_MORE_DATA, &part), None);
                    }
                }
                if reads {
                    assert!(!machine.on_thread_read(last, false), "it is not the end either");
                    assert!(machine.on_thread_read(0, false));
                } else {
                    assert_eq!(machine.on_thread_received(0, &vec![0; last]), None);
                    assert_eq!(machine.on_thread_received(0, b""), Some(Vec::new()));
                }
            }
        }
    }

    #[test]
    fn no_bytes_behind_a_message_that_was_read_are_its_end_and_no_message() {
        let mut machine = ReadAhead::new(Framing::Messages, LIMIT);
        machine.set_empty_message_is_end(true);
        assert!(machine.on_thread_read(5, true));
        assert!(!machine.is_message_complete() && machine.has_message());
        assert!(!machine.on_thread_read(0, false));
        assert!(machine.is_message_complete() && !machine.has_message());
        assert!(machine.on_thread_read(0, false), "an empty message is the end");
        machine.set_empty_message_is_end(false);
        assert!(!machine.on_thread_read(0, false));
    }
}
