//! A kernel for native tests: named pipes in memory, with a seeded temper.
//!
//! It follows what ReactOS' re-implementation of NPFS shows of the Windows kernel: two queues a
//! pipe, each with data or with waiting reads; a write beyond the quota is queued whole and ends
//! later; closing keeps what the closer wrote; disconnecting discards everything. Where Windows
//! leaves a choice, a seeded random number takes it: whether an operation that could end at once
//! answers *pending* instead, how many of the available bytes a read of a byte pipe gets, whether a
//! cancellation takes effect at once, whether the end of an operation shows before its packet has
//! been dequeued, whether a refused exchange has a packet, whether a flush ends before the write
//! that lets it end, and whether discarded bytes make room for a write that then succeeds. A test
//! can also have another holder of the handle cancel operations. Packets wait in the port until the
//! test has the driver dequeue them.
//!
//! It checks what no caller may do: submit a block twice, close a handle with an operation in
//! flight that was not cancelled, start a second read of one end. It writes through the pointers
//! that it was given, so a sanitizer sees every misuse.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, PoisonError};
use std::thread::{JoinHandle, ThreadId};
use std::time::Duration;

use windows_sys::Win32::Foundation::{
    ERROR_BAD_PIPE, ERROR_BROKEN_PIPE, ERROR_MORE_DATA, ERROR_NO_DATA, ERROR_OPERATION_ABORTED,
    ERROR_PIPE_BUSY, ERROR_PIPE_CONNECTED, ERROR_PIPE_LISTENING, ERROR_PIPE_NOT_CONNECTED,
};

use super::{Outcome, Packets, Peeked, Submission};
use crate::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering};
use crate::sync::{Condvar, Mutex, lock};

/// The block by which the kernel knows an operation.
#[derive(Debug)]
pub(crate) struct Overlapped {
    status: AtomicU8,
    code: AtomicU32,
    bytes: AtomicUsize,
}

/// [`Overlapped::status`] of a block that the kernel has nothing to do with.
const FINAL: u8 = 0;
/// Of one whose operation goes on.
const PENDING: u8 = 1;
/// Of one whose operation has ended, where the packet is to make that known.
const ENDED: u8 = 2;

impl Overlapped {
    pub(crate) fn new() -> Self {
        Self { status: AtomicU8::new(FINAL), code: AtomicU32::new(0), bytes: AtomicUsize::new(0) }
    }

    pub(crate) fn final_outcome(&self) -> Option<Outcome> {
        (self.status.load(Ordering::Acquire) == FINAL).then(|| Outcome {
            code: self.code.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        })
    }
}

/// A packet.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    key: usize,
    overlapped: *const Overlapped,
    /// Dequeuing it is what makes the operation's end known.
    ends: bool,
}

// SAFETY: the pointer is followed only for an operation in flight, whose block is valid in every
// thread.
unsafe impl Send for Entry {}

impl Entry {
    pub(crate) const EMPTY: Self = Self { key: 0, overlapped: std::ptr::null(), ends: false };

    pub(crate) fn key(&self) -> usize {
        self.key
    }

    pub(crate) fn overlapped(&self) -> *const Overlapped {
        self.overlapped
    }
}

/// A completion port.
pub(crate) struct Port(Arc<Queued>);

#[derive(Default)]
struct Queued {
    queue: Mutex<VecDeque<Entry>>,
    arrived: Condvar,
}

impl Port {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(Arc::default()))
    }

    pub(crate) fn associate(&self, handle: &OwnedHandle, key: usize, queued: Packets) -> io::Result<()> {
        lock(&handle.pipe.0).ports[handle.end] = Some(Association { packets: self.0.clone(), key, queued });
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn dissociate(handle: &OwnedHandle) -> io::Result<()> {
        lock(&handle.pipe.0).ports[handle.end] = None;
        Ok(())
    }

    pub(crate) fn dequeue<'e>(
        &self,
        entries: &'e mut [Entry],
        timeout: Option<Duration>,
    ) -> io::Result<&'e [Entry]> {
        let mut queue = lock(&self.0.queue);
        while queue.is_empty() {
            queue = match timeout {
                None => self.0.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => return Ok(&[]),
                Some(timeout) => {
                    let (queue, waited) =
                        self.0.arrived.wait_timeout(queue, timeout).unwrap_or_else(PoisonError::into_inner);
                    if waited.timed_out() && queue.is_empty() {
                        return Ok(&[]);
                    }
                    queue
                }
            };
        }
        let count = queue.len().min(entries.len());
        for (place, entry) in entries.iter_mut().zip(queue.drain(..count)) {
            if entry.ends {
                // SAFETY: the operation is in flight until this packet has been dequeued, so its
                // block is valid.
                unsafe { &*entry.overlapped }.status.store(FINAL, Ordering::Release);
            }
            *place = entry;
        }
        Ok(&entries[..count])
    }

    pub(crate) fn wake(&self) {
        self.0.push(Entry::EMPTY);
    }
}

impl Queued {
    fn push(&self, entry: Entry) {
        lock(&self.queue).push_back(entry);
        self.arrived.notify_one();
    }
}

/// How the kernel behaves where it has a choice.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Temper {
    pub(crate) seed: u64,
    /// Operations that could end at once may answer *pending*.
    pub(crate) hesitates: bool,
    /// Reads of a byte pipe may get less than there is; on a message pipe, what could be read may
    /// seem not to be there yet to who does not wait, as on another machine's.
    pub(crate) splits: bool,
    /// A cancellation may take effect later.
    pub(crate) cancels_late: bool,
    /// The end of an operation can be seen once its packet has been dequeued, as on Windows, and
    /// not before.
    pub(crate) final_with_packet: bool,
    /// A refused exchange answers *pending*, and its packet has the code, as on Windows 8 and
    /// later.
    pub(crate) refuses_by_packet: bool,
    /// Discarding what is unread makes room for the write behind it, which ends with success.
    pub(crate) discards_with_success: bool,
}

impl Temper {
    /// No whims.
    pub(crate) const PLAIN: Self = Self {
        seed: 1,
        hesitates: false,
        splits: false,
        cancels_late: false,
        final_with_packet: false,
        refuses_by_packet: false,
        discards_with_success: false,
    };
}

/// A pipe, which both ends share.
#[derive(Clone)]
pub(crate) struct Pipe(Arc<Mutex<State>>);

struct State {
    temper: Temper,
    random: u64,
    messages: bool,
    quota: usize,
    phase: Phase,
    /// Counts disconnects: a client's handle belongs to one connection.
    connection: u64,
    /// By the end that reads.
    queues: [Queue; 2],
    connect: Option<Pending>,
    /// Counts submissions: an address may be that of a later operation, the number of a submission
    /// is not.
    submissions: u64,
    /// The ends and the submissions.
    late_cancels: Vec<(usize, u64)>,
    blocking_flushes: usize,
    open: [bool; 2],
    /// The ports of the ends' file objects, by the end.
    ports: [Option<Association>; 2],
}

/// A file object's tie to a port.
#[derive(Clone)]
struct Association {
    packets: Arc<Queued>,
    key: usize,
    queued: Packets,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Listening,
    Connected,
    /// One end has closed.
    Closing,
    Disconnected,
}

#[derive(Default)]
struct Queue {
    data: VecDeque<Data>,
    /// Counts the writes that were queued.
    writes: u64,
    reader: Option<Pending>,
    flushes: Vec<Flush>,
}

/// A flush of the end that writes: it ends when what was queued before it has been read.
struct Flush {
    operation: Pending,
    /// The number of the write that it does not wait for.
    next: u64,
}

/// What one write left in the queue.
struct Data {
    number: u64,
    bytes: Vec<u8>,
    /// How many of them have been read.
    taken: usize,
    /// The write, while it has not ended.
    writer: Option<Pending>,
}

impl Data {
    fn unread(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Address(*const Overlapped);

// SAFETY: a name, and what it names is alive while its operation is in flight.
unsafe impl Send for Address {}

struct Pending {
    submission: u64,
    overlapped: Address,
    buffer: *mut u8,
    length: usize,
    port: Association,
    final_with_packet: bool,
}

// SAFETY: whoever submitted the operation guarantees that its memory may be written from any
// thread.
unsafe impl Send for Pending {}

impl Pending {
    fn finish(self, code: u32, bytes: usize) {
        // SAFETY: the operation is in flight, so its block is valid.
        let overlapped = unsafe { &*self.overlapped.0 };
        overlapped.code.store(code, Ordering::Relaxed);
        overlapped.bytes.store(bytes, Ordering::Relaxed);
        let ends = self.final_with_packet;
        let before = overlapped.status.swap(if ends { ENDED } else { FINAL }, Ordering::Release);
        assert_eq!(before, PENDING, "an operation ended twice");
        self.port.packets.push(Entry { key: self.port.key, overlapped: self.overlapped.0, ends });
    }
}

/// A pipe end.
pub(crate) struct OwnedHandle {
    pipe: Pipe,
    end: usize,
    connection: u64,
}

const SERVER: usize = 0;
const CLIENT: usize = 1;

impl std::fmt::Debug for OwnedHandle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(if self.end == SERVER { "server" } else { "client" })
    }
}

impl OwnedHandle {
    /// An end at rest has one holder.
    #[cfg(test)]
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        unreachable!("a handle is duplicated if a thread is about to let go of it")
    }

    /// Whether the server has disconnected the client that this is.
    fn is_cut_off(&self, state: &State) -> bool {
        self.end == CLIENT && self.connection != state.connection
    }

    /// Or else the code of a write.
    fn may_write(&self, state: &State) -> Result<(), u32> {
        match state.phase {
            _ if self.is_cut_off(state) => Err(ERROR_PIPE_NOT_CONNECTED),
            Phase::Listening => Err(ERROR_PIPE_LISTENING),
            Phase::Disconnected => Err(ERROR_PIPE_NOT_CONNECTED),
            Phase::Closing => Err(ERROR_NO_DATA),
            Phase::Connected => Ok(()),
        }
    }
}

const CUT_OFF: Outcome = Outcome { code: ERROR_PIPE_NOT_CONNECTED, bytes: 0 };

/// What `GetNamedPipeInfo` says.
pub(crate) struct PipeDescription {
    pub(crate) message_type: bool,
}

impl Pipe {
    pub(crate) fn create(messages: bool, quota: usize, temper: Temper) -> (Self, OwnedHandle) {
        let pipe = Self(Arc::new(Mutex::new(State {
            temper,
            random: temper.seed | 1,
            messages,
            quota,
            phase: Phase::Listening,
            connection: 0,
            queues: Default::default(),
            connect: None,
            submissions: 0,
            late_cancels: Vec::new(),
            blocking_flushes: 0,
            open: [true, false],
            ports: [None, None],
        })));
        let server = pipe.handle(SERVER, 0);
        (pipe, server)
    }

    fn handle(&self, end: usize, connection: u64) -> OwnedHandle {
        OwnedHandle { pipe: self.clone(), end, connection }
    }

    /// What a client's `CreateFile` does.
    pub(crate) fn open(&self) -> io::Result<OwnedHandle> {
        let mut state = lock(&self.0);
        if state.phase != Phase::Listening {
            return Err(io::Error::from_raw_os_error(ERROR_PIPE_BUSY as i32));
        }
        state.phase = Phase::Connected;
        state.open[CLIENT] = true;
        state.ports[CLIENT] = None;
        if let Some(connect) = state.connect.take() {
            connect.finish(0, 0);
        }
        Ok(self.handle(CLIENT, state.connection))
    }

    /// Cancellations that were late take effect.
    pub(crate) fn settle(&self) {
        let mut state = lock(&self.0);
        for (end, submission) in std::mem::take(&mut state.late_cancels) {
            state.cancel(end, submission);
        }
    }

    /// Ends the waiting read, connect and flushes of one end, though nobody cancelled them.
    pub(crate) fn abort(&self, end: usize) {
        let mut state = lock(&self.0);
        let reader = state.queues[end].reader.take();
        let connect = if end == SERVER { state.connect.take() } else { None };
        let flushes = std::mem::take(&mut state.queues[1 - end].flushes);
        let flushes = flushes.into_iter().map(|flush| flush.operation);
        for operation in reader.into_iter().chain(connect).chain(flushes) {
            operation.finish(ERROR_OPERATION_ABORTED, 0);
        }
    }

    /// Another holder of an end's file object, perhaps in another process, has ended an operation.
    /// Its address means nothing in this process, but may be that of one of the driver's
    /// operations.
    pub(crate) fn end_foreign_operation(&self, end: usize) {
        let mut state = lock(&self.0);
        let operations = state.in_flight(SERVER).chain(state.in_flight(CLIENT));
        let mut addresses: Vec<_> = operations.map(|operation| operation.overlapped).collect();
        addresses.push(Address(std::ptr::without_provenance(0x1000)));
        let place = state.chance(addresses.len() as u64) as usize;
        if let Some(Association { packets, key, .. }) = &state.ports[end] {
            packets.push(Entry { key: *key, overlapped: addresses[place].0, ends: false });
        }
    }

    /// Whether anything is in flight.
    pub(crate) fn is_quiet(&self) -> bool {
        let state = lock(&self.0);
        state.connect.is_none()
            && state
                .queues
                .iter()
                .all(|queue| queue.reader.is_none() && queue.writers() == 0 && queue.flushes.is_empty())
    }

    /// The number of bytes that an end has not read, or of messages if all of them are empty.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn queued(&self, end: usize) -> usize {
        let queue = &lock(&self.0).queues[end];
        queue.unread().max(queue.data.len())
    }

    /// Returns whether a thread is in a flush that blocks.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn is_flushed(&self) -> bool {
        lock(&self.0).blocking_flushes > 0
    }

    pub(crate) fn is_open(&self, end: usize) -> bool {
        lock(&self.0).open[end]
    }
}

impl Queue {
    fn writers(&self) -> usize {
        self.data.iter().filter(|data| data.writer.is_some()).count()
    }

    fn unread(&self) -> usize {
        self.data.iter().map(|data| data.unread().len()).sum()
    }

    fn push(&mut self, bytes: Vec<u8>) {
        self.data.push_back(Data { number: self.writes, bytes, taken: 0, writer: None });
        self.writes += 1;
    }

    /// Discards unread data, from the front, and ends all operations.
    fn end_all(&mut self, code: u32, quota: usize, discards_with_success: bool) {
        while let Some(data) = self.data.pop_front() {
            if let Some(writer) = data.writer {
                writer.finish(code, 0);
            }
            if discards_with_success {
                self.end_writes(quota);
            }
        }
        let flushes = self.flushes.drain(..).map(|flush| flush.operation);
        for operation in self.reader.take().into_iter().chain(flushes) {
            operation.finish(code, 0);
        }
    }

    fn has_read_before(&self, next: u64) -> bool {
        self.data.front().is_none_or(|data| data.number >= next)
    }

    fn end_flushes(&mut self) {
        let (ended, going_on) =
            std::mem::take(&mut self.flushes).into_iter().partition(|flush| self.has_read_before(flush.next));
        self.flushes = going_on;
        let ended: Vec<Flush> = ended;
        ended.into_iter().for_each(|flush| flush.operation.finish(0, 0));
    }

    /// Writes whose rest fits the quota end.
    fn end_writes(&mut self, quota: usize) {
        let unread = self.unread();
        for data in &mut self.data {
            if unread <= quota {
                if let Some(writer) = data.writer.take() {
                    writer.finish(0, data.bytes.len());
                }
            }
        }
    }
}

impl State {
    /// xorshift: enough to take sides.
    fn chance(&mut self, of: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % of
    }

    fn hesitates(&mut self) -> bool {
        self.temper.hesitates && self.chance(3) == 0
    }

    /// Fills `buffer` from what is queued for `end`. `None`: it has to wait.
    fn take(&mut self, end: usize, buffer: &mut [u8]) -> Option<(u32, usize)> {
        match self.phase {
            Phase::Listening => return Some((ERROR_PIPE_LISTENING, 0)),
            Phase::Disconnected => return Some((ERROR_PIPE_NOT_CONNECTED, 0)),
            Phase::Connected | Phase::Closing => {}
        }
        if self.queues[end].data.is_empty() {
            return (self.phase == Phase::Closing).then_some((ERROR_BROKEN_PIPE, 0));
        }
        let mut wanted = buffer.len();
        if self.temper.splits && !self.messages && wanted > 1 && self.chance(2) == 0 {
            wanted = 1 + self.chance(wanted as u64 - 1) as usize;
        }
        let flushes_first = !self.queues[end].flushes.is_empty() && self.chance(2) == 0;
        let queue = &mut self.queues[end];
        let (mut filled, mut code) = (0, 0);
        let mut written = Vec::new();
        while let Some(head) = queue.data.front_mut() {
            let count = head.unread().len().min(wanted - filled);
            buffer[filled..filled + count].copy_from_slice(&head.unread()[..count]);
            head.taken += count;
            filled += count;
            if head.unread().is_empty() {
                written.extend(head.writer.take().map(|writer| (writer, head.bytes.len())));
                queue.data.pop_front();
            } else if self.messages {
                code = ERROR_MORE_DATA;
            }
            if self.messages || filled == wanted {
                break;
            }
        }
        // A flush may end before the write that lets it end.
        if flushes_first {
            queue.end_flushes();
        }
        written.into_iter().for_each(|(writer, length)| writer.finish(0, length));
        queue.end_writes(self.quota);
        queue.end_flushes();
        Some((code, filled))
    }

    /// A waiting read of `end` gets what has come.
    fn serve(&mut self, end: usize) {
        let Some(reader) = self.queues[end].reader.take() else { return };
        // SAFETY: the read is in flight, so its buffer is valid and the kernel's.
        let buffer = unsafe { std::slice::from_raw_parts_mut(reader.buffer, reader.length) };
        match self.take(end, buffer) {
            Some((code, bytes)) => reader.finish(code, bytes),
            None => self.queues[end].reader = Some(reader),
        }
    }

    /// The operations of one end.
    fn in_flight(&self, end: usize) -> impl Iterator<Item = &Pending> {
        let connect = self.connect.as_ref().filter(|_| end == SERVER);
        let sent = &self.queues[1 - end];
        let flushes = sent.flushes.iter().map(|flush| &flush.operation);
        let writes = sent.data.iter().filter_map(|data| data.writer.as_ref());
        self.queues[end].reader.iter().chain(connect).chain(flushes).chain(writes)
    }

    fn cancel(&mut self, end: usize, submission: u64) {
        let is_it = |pending: &mut Pending| pending.submission == submission;
        if let Some(reader) = self.queues[end].reader.take_if(is_it) {
            reader.finish(ERROR_OPERATION_ABORTED, 0);
        }
        if let Some(connect) = self.connect.take_if(is_it) {
            connect.finish(ERROR_OPERATION_ABORTED, 0);
        }
        let queue = &mut self.queues[1 - end];
        let withdrawn = queue.data.iter_mut().position(|data| data.writer.as_mut().is_some_and(is_it));
        if let Some(writer) = withdrawn.and_then(|index| queue.data.remove(index)?.writer) {
            writer.finish(ERROR_OPERATION_ABORTED, 0);
            queue.end_flushes();
        }
        if let Some(index) = queue.flushes.iter().position(|flush| flush.operation.submission == submission) {
            queue.flushes.remove(index).operation.finish(ERROR_OPERATION_ABORTED, 0);
        }
    }
}

fn pending(
    state: &mut State,
    handle: &OwnedHandle,
    buffer: *mut u8,
    length: usize,
    overlapped: *const Overlapped,
) -> Pending {
    // SAFETY: the submitter guarantees a valid block.
    let before = unsafe { &*overlapped }.status.swap(PENDING, Ordering::AcqRel);
    assert_eq!(before, FINAL, "a block was submitted twice");
    let port = state.ports[handle.end].clone().expect("the handle is tied to a port");
    let final_with_packet = state.temper.final_with_packet;
    state.submissions += 1;
    let submission = state.submissions;
    Pending { submission, overlapped: Address(overlapped), buffer, length, port, final_with_packet }
}

/// An operation that is over when the call returns: at once, or, if the kernel hesitates, by a
/// packet.
fn ended(
    state: &mut State,
    handle: &OwnedHandle,
    overlapped: *const Overlapped,
    code: u32,
    bytes: usize,
) -> Submission {
    let failed = code != 0 && code != ERROR_MORE_DATA;
    if !failed && state.hesitates() {
        pending(state, handle, std::ptr::null_mut(), 0, overlapped).finish(code, bytes);
        return Submission::Pending;
    }
    if !failed && state.ports[handle.end].as_ref().is_some_and(|port| port.queued == Packets::OfAll) {
        pending(state, handle, std::ptr::null_mut(), 0, overlapped).finish(code, bytes);
    }
    Submission::Finished(Outcome { code, bytes })
}

/// # Safety
///
/// As of the Windows function of this name.
pub(crate) unsafe fn read(
    handle: &OwnedHandle,
    buffer: *mut u8,
    length: u32,
    overlapped: *const Overlapped,
) -> Submission {
    let mut state = lock(&handle.pipe.0);
    if handle.is_cut_off(&state) {
        return Submission::Finished(CUT_OFF);
    }
    assert!(state.queues[handle.end].reader.is_none(), "a second read of one end");
    let mut bytes = vec![0; length as usize];
    match state.take(handle.end, &mut bytes) {
        Some((code, count)) => {
            // SAFETY: the submitter guarantees `length` writable bytes, and `count` is at most that.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), buffer, count) };
            ended(&mut state, handle, overlapped, code, count)
        }
        None => {
            let operation = pending(&mut state, handle, buffer, length as usize, overlapped);
            state.queues[handle.end].reader = Some(operation);
            Submission::Pending
        }
    }
}

/// # Safety
///
/// As of the Windows function of this name.
pub(crate) unsafe fn write(
    handle: &OwnedHandle,
    buffer: *const u8,
    length: u32,
    overlapped: *const Overlapped,
) -> Submission {
    let mut state = lock(&handle.pipe.0);
    if let Err(code) = handle.may_write(&state) {
        return Submission::Finished(Outcome { code, bytes: 0 });
    }
    let length = length as usize;
    assert!(length > 0 || state.messages, "an empty write on a byte pipe");
    // SAFETY: the submitter guarantees that many readable bytes.
    let bytes = unsafe { std::slice::from_raw_parts(buffer, length) }.to_vec();
    let reader = 1 - handle.end;
    state.queues[reader].push(bytes);
    state.serve(reader);
    let quota = state.quota;
    if state.queues[reader].unread() > quota {
        let writer = pending(&mut state, handle, std::ptr::null_mut(), length, overlapped);
        state.queues[reader].data.back_mut().expect("it was just queued").writer = Some(writer);
        return Submission::Pending;
    }
    ended(&mut state, handle, overlapped, 0, length)
}

/// # Safety
///
/// As of the Windows function of this name.
pub(crate) unsafe fn exchange(
    handle: &OwnedHandle,
    request: *const u8,
    length: u32,
    reply: *mut u8,
    room: u32,
    overlapped: *const Overlapped,
) -> Submission {
    {
        let mut state = lock(&handle.pipe.0);
        if handle.is_cut_off(&state) {
            return Submission::Finished(CUT_OFF);
        }
        let refusal = match state.phase {
            Phase::Listening | Phase::Disconnected | Phase::Closing => Some(ERROR_BAD_PIPE),
            Phase::Connected if !state.messages => Some(ERROR_BAD_PIPE),
            Phase::Connected if !state.queues[handle.end].data.is_empty() => Some(ERROR_PIPE_BUSY),
            Phase::Connected => None,
        };
        if let Some(code) = refusal {
            if state.temper.refuses_by_packet {
                pending(&mut state, handle, std::ptr::null_mut(), 0, overlapped).finish(code, 0);
                return Submission::Pending;
            }
            return Submission::Finished(Outcome { code, bytes: 0 });
        }
        // SAFETY: the submitter guarantees that many readable bytes.
        let bytes = unsafe { std::slice::from_raw_parts(request, length as usize) }.to_vec();
        let reader = 1 - handle.end;
        state.queues[reader].push(bytes);
        state.serve(reader);
    }
    // SAFETY: the submitter guarantees the same of the reply as of what is read.
    unsafe { read(handle, reply, room, overlapped) }
}

/// # Safety
///
/// As of the Windows function of this name.
pub(crate) unsafe fn connect(handle: &OwnedHandle, overlapped: *const Overlapped) -> Submission {
    let mut state = lock(&handle.pipe.0);
    let code = match state.phase {
        Phase::Connected => ERROR_PIPE_CONNECTED,
        Phase::Closing => ERROR_NO_DATA,
        Phase::Listening | Phase::Disconnected => {
            state.phase = Phase::Listening;
            let operation = pending(&mut state, handle, std::ptr::null_mut(), 0, overlapped);
            assert!(state.connect.replace(operation).is_none(), "a second connect of one instance");
            return Submission::Pending;
        }
    };
    Submission::Finished(Outcome { code, bytes: 0 })
}

/// # Safety
///
/// As of the Windows function of this name.
pub(crate) unsafe fn flush(handle: &OwnedHandle, overlapped: *const Overlapped) -> Submission {
    let mut state = lock(&handle.pipe.0);
    if handle.is_cut_off(&state) || state.phase == Phase::Disconnected {
        return Submission::Finished(CUT_OFF);
    }
    let reader = 1 - handle.end;
    if state.queues[reader].data.is_empty() {
        return ended(&mut state, handle, overlapped, 0, 0);
    }
    let operation = pending(&mut state, handle, std::ptr::null_mut(), 0, overlapped);
    let next = state.queues[reader].writes;
    state.queues[reader].flushes.push(Flush { operation, next });
    Submission::Pending
}

pub(crate) fn cancel(handle: &OwnedHandle, overlapped: &Overlapped) {
    let mut state = lock(&handle.pipe.0);
    let address = Address(overlapped);
    let found = state.in_flight(handle.end).find(|operation| operation.overlapped == address);
    let Some(submission) = found.map(|operation| operation.submission) else { return };
    if state.temper.cancels_late && state.chance(2) == 0 {
        state.late_cancels.push((handle.end, submission));
    } else {
        state.cancel(handle.end, submission);
    }
}

pub(crate) fn read_now(handle: &OwnedHandle, buffer: &mut [u8]) -> Option<Outcome> {
    let mut state = lock(&handle.pipe.0);
    if handle.is_cut_off(&state) {
        return Some(CUT_OFF);
    }
    assert!(state.queues[handle.end].reader.is_none(), "a second read of one end");
    if state.messages && state.temper.splits && state.chance(3) == 0 {
        return None;
    }
    state.take(handle.end, buffer).map(|(code, bytes)| Outcome { code, bytes })
}

pub(crate) fn disconnect(handle: &OwnedHandle) -> io::Result<()> {
    let mut state = lock(&handle.pipe.0);
    if state.phase == Phase::Disconnected {
        return Err(io::Error::from_raw_os_error(ERROR_PIPE_NOT_CONNECTED as i32));
    }
    state.phase = Phase::Disconnected;
    state.connection += 1;
    state.open[CLIENT] = false;
    if let Some(connect) = state.connect.take() {
        connect.finish(ERROR_PIPE_NOT_CONNECTED, 0);
    }
    let State { quota, temper, .. } = *state;
    for queue in &mut state.queues {
        queue.end_all(ERROR_PIPE_NOT_CONNECTED, quota, temper.discards_with_success);
    }
    Ok(())
}

pub(crate) fn peek(handle: &OwnedHandle) -> io::Result<Peeked> {
    let state = lock(&handle.pipe.0);
    let queue = &state.queues[handle.end];
    let refusal = match state.phase {
        _ if handle.is_cut_off(&state) => Some(ERROR_PIPE_NOT_CONNECTED),
        Phase::Listening | Phase::Disconnected => Some(ERROR_BAD_PIPE),
        Phase::Closing if queue.data.is_empty() => Some(ERROR_BROKEN_PIPE),
        Phase::Closing | Phase::Connected => None,
    };
    if let Some(code) = refusal {
        return Err(io::Error::from_raw_os_error(code as i32));
    }
    let head = queue.data.front().filter(|_| state.messages).map_or(0, |data| data.unread().len());
    Ok(Peeked { available: queue.unread(), left_in_message: head })
}

pub(crate) fn bytes_available(handle: &OwnedHandle) -> io::Result<usize> {
    peek(handle).map(|peeked| peeked.available)
}

pub(crate) fn set_message_reads(handle: &OwnedHandle) -> io::Result<()> {
    assert!(lock(&handle.pipe.0).messages, "a pipe of bytes has no messages to read");
    Ok(())
}

pub(crate) fn describe(handle: &OwnedHandle) -> io::Result<PipeDescription> {
    let state = lock(&handle.pipe.0);
    if handle.is_cut_off(&state) {
        return Err(io::Error::from_raw_os_error(ERROR_PIPE_NOT_CONNECTED as i32));
    }
    Ok(PipeDescription { message_type: state.messages })
}

/// The threads in a flush that blocks, and how often each has been cancelled.
static BLOCKED: std::sync::Mutex<Vec<(ThreadId, u32)>> = std::sync::Mutex::new(Vec::new());
static CANCELLED: std::sync::Condvar = std::sync::Condvar::new();

/// If cancellations come late, the first one misses a thread that is just about to call.
pub(crate) fn flush_blocking(handle: &OwnedHandle) -> io::Result<()> {
    let this = std::thread::current().id();
    let enough = if lock(&handle.pipe.0).temper.cancels_late { 2 } else { 1 };
    let mut blocked = BLOCKED.lock().unwrap_or_else(PoisonError::into_inner);
    blocked.push((this, 0));
    let next = {
        let mut state = lock(&handle.pipe.0);
        state.blocking_flushes += 1;
        state.queues[1 - handle.end].writes
    };
    let result = loop {
        if lock(&handle.pipe.0).queues[1 - handle.end].has_read_before(next) {
            break Ok(());
        }
        if blocked.iter().any(|(thread, cancelled)| *thread == this && *cancelled >= enough) {
            break Err(io::Error::from_raw_os_error(ERROR_OPERATION_ABORTED as i32));
        }
        // Reads of the peer are looked for, and not reported.
        let waited = CANCELLED.wait_timeout(blocked, Duration::from_millis(1));
        blocked = waited.unwrap_or_else(PoisonError::into_inner).0;
    };
    blocked.retain(|(thread, _)| *thread != this);
    lock(&handle.pipe.0).blocking_flushes -= 1;
    result
}

pub(crate) fn cancel_blocking(thread: &JoinHandle<()>) {
    let mut blocked = BLOCKED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, cancelled)) = blocked.iter_mut().find(|(blocked, _)| *blocked == thread.thread().id()) {
        *cancelled += 1;
        CANCELLED.notify_all();
    }
}

/// A moment. Nothing that is simulated depends on it.
pub(crate) type FileTime = u64;

pub(crate) fn now() -> FileTime {
    0
}

impl Drop for OwnedHandle {
    fn drop(&mut self) {
        let mut state = lock(&self.pipe.0);
        let mine = self.end;
        if self.is_cut_off(&state) {
            return;
        }
        // The kernel ends the operations in flight. Their packets come in any case, but callers
        // must not rely on more than that.
        let given_up = std::mem::take(&mut state.late_cancels);
        let in_flight: Vec<_> = state.in_flight(mine).map(|operation| operation.submission).collect();
        for submission in in_flight {
            assert!(
                std::thread::panicking() || given_up.contains(&(mine, submission)),
                "a handle was closed with an operation in flight that nobody had cancelled"
            );
            state.cancel(mine, submission);
        }
        state.late_cancels = given_up;
        state.open[mine] = false;
        state.late_cancels.retain(|(end, _)| *end != mine);
        if state.phase == Phase::Disconnected {
            return;
        }
        state.phase = Phase::Closing;
        // What was queued towards the closer is gone, what it wrote stays, and the peer's waiting read
        // ends.
        let State { quota, temper, .. } = *state;
        state.queues[mine].end_all(ERROR_BROKEN_PIPE, quota, temper.discards_with_success);
        state.serve(1 - mine);
    }
}
