//! One operation: its block, its buffer, and who may touch them when.
//!
//! The block is shared by reference count between three parties, and each part of it has one owner
//! at a time:
//!
//! | part | not in flight | in flight |
//! |---|---|---|
//! | `overlapped` | the [`Operation`] | the kernel; its final status is looked for when a packet has come |
//! | `load` (buffers, target) | the [`Operation`] | the kernel, then the thread that takes the block back |
//! | `handle` | no owner | behind a lock: its last holder closes the handle |
//!
//! The kernel's share of a block is kept by the pipe's
//! [`Operations`](super::registration::Operations), from before the call that submits it until its
//! packet has been dequeued.
//!
//! An operation in flight keeps its handle open by holding it, so a write is not cut short when its
//! caller stops waiting. A cancelled operation need not hold the handle: the kernel keeps the file
//! object for it, and its packet comes whether the handle is open or not.

use std::cell::UnsafeCell;

use bytes::Bytes;

use crate::guard::guard;
use crate::sync::{Arc, Mutex, lock};
use crate::sys::{self, Outcome, Overlapped, OwnedHandle, Submission};

use super::Completion;
use super::registration::Registration;

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
    /// Writes a message and reads one: the request is at the start of the buffer, and the reply
    /// comes behind it.
    Exchange,
    Connect,
    Flush,
}

/// The block that the kernel knows by the address of its first field.
#[repr(C)]
pub(super) struct Block {
    overlapped: Overlapped,
    load: UnsafeCell<Load>,
    handle: Mutex<Option<Arc<OwnedHandle>>>,
}

struct Load {
    kind: Kind,
    /// What a read fills, and an exchange.
    buffer: Vec<u8>,
    /// What a write writes. Others may hold it too, and read it.
    source: Bytes,
    target: Option<Arc<dyn Completion>>,
}

// SAFETY: `overlapped` and `load` are reached only by the one party that owns them (table above);
// the hand-overs between threads go through the lock of `Operations` and the kernel's final status,
// which order memory.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

/// An operation that is not in flight.
pub(crate) struct Operation(Arc<Block>);

/// An operation in flight, seen by the one who asked for it: it can be cancelled, no more.
pub(crate) struct InFlight(Arc<Block>);

/// How a submission went.
pub(crate) enum Submitted {
    /// It is over, and no packet will come.
    Finished { operation: Operation, outcome: Outcome, buffer: Vec<u8> },
    /// A packet will come, to the target.
    Pending(InFlight),
}

/// An operation whose packet has been dequeued.
pub(crate) struct Finished {
    pub(crate) kind: Kind,
    pub(crate) operation: Operation,
    pub(crate) outcome: Outcome,
    pub(crate) buffer: Vec<u8>,
    /// The handle it ran on, unless [`InFlight::cancel_and_release`] gave it up early.
    pub(crate) handle: Option<Arc<OwnedHandle>>,
}

impl Operation {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Block {
            overlapped: Overlapped::new(),
            load: UnsafeCell::new(Load {
                kind: Kind::Read,
                buffer: Vec::new(),
                source: Bytes::new(),
                target: None,
            }),
            handle: Mutex::new(None),
        }))
    }

    /// Reads into the spare capacity of `buffer`, which must be empty.
    pub(crate) fn read(
        self,
        registration: &Registration,
        handle: &Arc<OwnedHandle>,
        buffer: Vec<u8>,
        target: Arc<dyn Completion>,
    ) -> Submitted {
        debug_assert!(buffer.is_empty());
        self.submit(registration, Kind::Read, handle, buffer, Bytes::new(), target)
    }

    /// Writes all of `source`.
    pub(crate) fn write(
        self,
        registration: &Registration,
        handle: &Arc<OwnedHandle>,
        source: Bytes,
        target: Arc<dyn Completion>,
    ) -> Submitted {
        self.submit(registration, Kind::Write, handle, Vec::new(), source, target)
    }

    /// Writes all of `request` as one message, and reads one into its spare capacity: what comes
    /// back is the reply alone.
    pub(crate) fn exchange(
        self,
        registration: &Registration,
        handle: &Arc<OwnedHandle>,
        request: Vec<u8>,
        target: Arc<dyn Completion>,
    ) -> Submitted {
        self.submit(registration, Kind::Exchange, handle, request, Bytes::new(), target)
    }

    /// Waits for a client.
    pub(crate) fn connect(
        self,
        registration: &Registration,
        handle: &Arc<OwnedHandle>,
        target: Arc<dyn Completion>,
    ) -> Submitted {
        self.submit(registration, Kind::Connect, handle, Vec::new(), Bytes::new(), target)
    }

    /// Waits until the peer has read everything that the pipe has.
    pub(crate) fn flush(
        self,
        registration: &Registration,
        handle: &Arc<OwnedHandle>,
        target: Arc<dyn Completion>,
    ) -> Submitted {
        self.submit(registration, Kind::Flush, handle, Vec::new(), Bytes::new(), target)
    }

    fn submit(
        self,
        registration: &Registration,
        kind: Kind,
        handle: &Arc<OwnedHandle>,
        buffer: Vec<u8>,
        source: Bytes,
        target: Arc<dyn Completion>,
    ) -> Submitted {
        // An `InFlight` of the previous round may linger in another thread for a moment: it keeps its own
        // block.
        let mut block = self.0;
        if Arc::get_mut(&mut block).is_none() {
            block = Self::new().0;
        }
        *lock(&block.handle) = Some(handle.clone());
        // SAFETY: the block is not in flight and this is its only owner.
        let load = unsafe { &mut *block.load.get() };
        *load = Load { kind, buffer, source, target: Some(target) };
        let start = load.buffer.as_mut_ptr();
        let (length, capacity) = (load.buffer.len(), load.buffer.capacity());
        let (source, source_length) = (load.source.as_ptr(), load.source.len());
        let overlapped = Arc::as_ptr(&block).cast::<Overlapped>();
        // The packet may be dequeued before the call below returns, so the kernel's share is handed over
        // first.
        registration.operations().add(block.clone());
        // SAFETY (all five): the kernel's share keeps block and buffers alive, and unmoved, until
        // the final status has been written; `load` is not touched again before that, see the table
        // above.
        let submission = match kind {
            // SAFETY: as above; the buffer has `capacity` writable bytes.
            Kind::Read => unsafe { sys::read(handle, start, clamp(capacity), overlapped) },
            // SAFETY: as above; the source has that many readable bytes, which nobody changes.
            Kind::Write => unsafe { sys::write(handle, source, clamp(source_length), overlapped) },
            Kind::Exchange => {
                // SAFETY: `length` is within the buffer's allocation.
                let reply = unsafe { start.add(length) };
                // SAFETY: as above; the buffer has `length` readable bytes and, behind them, writable ones up
                // to its capacity.
                unsafe {
                    sys::exchange(handle, start, clamp(length), reply, clamp(capacity - length), overlapped)
                }
            }
            // SAFETY: as above.
            Kind::Connect => unsafe { sys::connect(handle, overlapped) },
            // SAFETY: as above.
            Kind::Flush => unsafe { sys::flush(handle, overlapped) },
        };
        match submission {
            Submission::Pending => Submitted::Pending(InFlight(block)),
            Submission::Finished(outcome) if registration.queues_all() && outcome.is_success() => {
                Submitted::Pending(InFlight(block))
            }
            // Another thread has already found the operation over, and completes its target.
            Submission::Finished(_) if !registration.operations().remove(&block) => {
                Submitted::Pending(InFlight(block))
            }
            Submission::Finished(outcome) => {
                lock(&block.handle).take();
                // SAFETY: the operation is over, so its load is this owner's again.
                let buffer = unsafe { reclaim(&block, outcome) }.0;
                Submitted::Finished { operation: Self(block), outcome, buffer }
            }
        }
    }
}

/// A length for a call that takes 32 bits. Longer buffers are refused or split by the layers above.
fn clamp(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Takes buffer, target and kind out of a block whose operation is over; what a read brought counts
/// as the buffer's.
///
/// # Safety
///
/// The operation must be over and the caller the block's owner.
unsafe fn reclaim(block: &Block, outcome: Outcome) -> (Vec<u8>, Option<Arc<dyn Completion>>, Kind) {
    // SAFETY: per the contract nobody else touches the load.
    let load = unsafe { &mut *block.load.get() };
    let source = std::mem::take(&mut load.source);
    // It may run a destructor of the caller's.
    guard(|| drop(source));
    let mut buffer = std::mem::take(&mut load.buffer);
    let request = buffer.len();
    if matches!(load.kind, Kind::Read | Kind::Exchange) {
        let read = outcome.bytes.min(buffer.capacity() - request);
        // SAFETY: the kernel wrote that many bytes behind what the buffer held, which was nothing for a
        // read.
        unsafe { buffer.set_len(request + read) };
    }
    if load.kind == Kind::Exchange {
        buffer.drain(..request);
    }
    (buffer, load.target.take(), load.kind)
}

impl Block {
    /// Returns whether this block has the address `overlapped`, which may point anywhere.
    pub(super) fn is_at(&self, overlapped: *const Overlapped) -> bool {
        std::ptr::eq(&self.overlapped, overlapped)
    }

    /// Returns whether the kernel has written the final status of the operation, and so has
    /// finished with block and buffer.
    pub(super) fn is_over(&self) -> bool {
        self.overlapped.final_outcome().is_some()
    }

    /// Returns the target and the result of an operation that [is over](Self::is_over). The caller
    /// must have taken the kernel's share of the block.
    pub(super) fn into_finished(self: Arc<Self>) -> (Arc<dyn Completion>, Finished) {
        let outcome = self.overlapped.final_outcome().expect("the operation is over");
        let handle = lock(&self.handle).take();
        // SAFETY: the kernel has done with the operation, and its share, of which there was one,
        // was taken by this thread.
        let (buffer, target, kind) = unsafe { reclaim(&self, outcome) };
        let target = target.expect("an operation in flight has a target");
        (target, Finished { kind, operation: Operation(self), outcome, buffer, handle })
    }
}

impl InFlight {
    /// Asks the kernel to end the operation. Its packet comes in any case and brings how it ended.
    pub(crate) fn cancel(&self) {
        if let Some(handle) = &*lock(&self.0.handle) {
            sys::cancel(handle, &self.0.overlapped);
        }
    }

    /// [`cancel`](Self::cancel), and lets go of the handle: so a pipe that is dropped is closed
    /// now, and not when the packet is dequeued. On Windows the cancellation itself is final only
    /// then.
    pub(crate) fn cancel_and_release(self) {
        let mut held = lock(&self.0.handle);
        let Some(handle) = held.take() else { return };
        sys::cancel(&handle, &self.0.overlapped);
        drop(held);
        drop(handle);
    }
}
