//! Overlapped reads, writes, connects and flushes, and how to stop them.
//!
//! The rules that every caller leans on are those of `FILE_SKIP_COMPLETION_PORT_ON_SUCCESS` (set
//! when a handle is associated with a port): an operation that is over when the call returns has no
//! packet; one that is pending has exactly one, also when it is cancelled. Without that mode an
//! operation that has succeeded at once has a packet as well.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use windows_sys::Wdk::Storage::FileSystem::{FSCTL_PIPE_FLUSH, NtFsControlFile};
use windows_sys::Win32::Foundation::{
    ERROR_IO_PENDING, ERROR_MORE_DATA, HANDLE, RtlNtStatusToDosError, STATUS_PENDING,
};
use windows_sys::Win32::Storage::FileSystem::{ReadFile, WriteFile};
use windows_sys::Win32::System::IO::{CancelIoEx, OVERLAPPED, OVERLAPPED_0};
use windows_sys::Win32::System::Pipes::{ConnectNamedPipe, TransactNamedPipe};

use crate::sys::{Outcome, Submission};

/// The block by which the kernel knows an operation. Its address is the operation's identity.
#[repr(transparent)]
pub(crate) struct Overlapped(UnsafeCell<OVERLAPPED>);

/// What an operation starts with: not every call marks it as pending itself (Wine's
/// `TransactNamedPipe` does not).
const NOT_FINAL: OVERLAPPED = OVERLAPPED {
    Internal: STATUS_PENDING as usize,
    InternalHigh: 0,
    Anonymous: OVERLAPPED_0 { Pointer: ptr::null_mut() },
    hEvent: ptr::null_mut(),
};

impl Overlapped {
    pub(crate) fn new() -> Self {
        Self(UnsafeCell::new(OVERLAPPED::default()))
    }

    /// A block whose operation sets `event` when it ends, and queues no packet on any port: that is
    /// what the low bit says ([documentation](https://learn.microsoft.com/windows/win32/api/ioapiset/nf-ioapiset-getqueuedcompletionstatus)).
    pub(super) fn with_event(event: &OwnedHandle) -> Self {
        let event = event.as_raw_handle().map_addr(|address| address | 1);
        Self(UnsafeCell::new(OVERLAPPED { hEvent: event, ..NOT_FINAL }))
    }

    pub(super) fn as_ptr(&self) -> *mut OVERLAPPED {
        self.0.get()
    }

    /// Returns whether the kernel has written the operation's final status, so that it touches
    /// neither the block nor the buffer any more. On Windows that can be when its packet is
    /// dequeued, and not before.
    pub(super) fn is_final(&self) -> bool {
        // SAFETY: the block is valid for as long as `self`; no reference is made to what the kernel may
        // write.
        let status = unsafe { &raw mut (*self.as_ptr()).Internal };
        // SAFETY: the word is valid and aligned for as long as `self`, and while the kernel may
        // write it, it is read in this way alone, as the macro HasOverlappedIoCompleted does.
        let status = unsafe { AtomicUsize::from_ptr(status) };
        // Acquire: what the kernel wrote before, as the buffer of a read, is to be seen after.
        status.load(Ordering::Acquire) != STATUS_PENDING as usize
    }

    /// The outcome, once the kernel has written the operation's final status.
    pub(crate) fn final_outcome(&self) -> Option<Outcome> {
        self.is_final().then(|| self.outcome())
    }

    /// Marks an operation that has not been submitted, or that the kernel has finished, as new.
    ///
    /// # Safety
    ///
    /// `overlapped` must be valid, and the kernel must not own it.
    unsafe fn reset(overlapped: *const Self) {
        // SAFETY: per the contract the block is valid and nobody else accesses it now. The type is
        // transparent around a cell.
        unsafe { overlapped.cast_mut().cast::<OVERLAPPED>().write(NOT_FINAL) }
    }

    /// The outcome that the kernel wrote into the block of an operation that is over.
    pub(super) fn outcome(&self) -> Outcome {
        // SAFETY: plain words of a block that is valid for as long as `self`.
        let overlapped = unsafe { ptr::read_volatile(self.as_ptr()) };
        // SAFETY: no preconditions; it translates a number.
        let code = unsafe { RtlNtStatusToDosError(overlapped.Internal as i32) };
        Outcome { code, bytes: overlapped.InternalHigh }
    }
}

/// The code of a call that returned `succeeded`.
pub(super) fn code_of(succeeded: i32) -> u32 {
    if succeeded != 0 { 0 } else { super::last_error() }
}

/// What a call that ended with `code` means for its operation.
///
/// On an immediate failure the block is untouched, so the count is zero; a message cut short
/// (`ERROR_MORE_DATA`, answered at once by Wine and Windows 7 with no packet to follow) has its
/// count in the block.
///
/// # Safety
///
/// `overlapped` must be valid.
unsafe fn submission(code: u32, overlapped: *const Overlapped) -> Submission {
    match code {
        0 | ERROR_MORE_DATA => {
            // SAFETY: valid per the contract; the operation is over, so its count has been written.
            let bytes = unsafe { &*overlapped }.outcome().bytes;
            Submission::Finished(Outcome { code, bytes })
        }
        ERROR_IO_PENDING => Submission::Pending,
        code => Submission::Finished(Outcome { code, bytes: 0 }),
    }
}

fn raw(handle: &OwnedHandle) -> HANDLE {
    handle.as_raw_handle()
}

/// [`ReadFile`](https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-readfile).
///
/// # Safety
///
/// `overlapped` and `length` bytes at `buffer` must stay valid, in place and untouched until the
/// operation is over: at once when this returns [`Submission::Finished`], else when its packet has
/// been dequeued.
pub(crate) unsafe fn read(
    handle: &OwnedHandle,
    buffer: *mut u8,
    length: u32,
    overlapped: *const Overlapped,
) -> Submission {
    // SAFETY: the caller owns a valid block that is not in flight.
    unsafe { Overlapped::reset(overlapped) };
    // SAFETY: the handle is open for the call; buffer and block stay valid per this function's
    // contract.
    let succeeded =
        unsafe { ReadFile(raw(handle), buffer, length, ptr::null_mut(), overlapped.cast_mut().cast()) };
    // SAFETY: the block is valid, and this call has not given it away: a pending outcome is not read.
    unsafe { submission(code_of(succeeded), overlapped) }
}

/// [`WriteFile`](https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-writefile).
///
/// # Safety
///
/// As for [`read`], except that the buffer may be read meanwhile.
pub(crate) unsafe fn write(
    handle: &OwnedHandle,
    buffer: *const u8,
    length: u32,
    overlapped: *const Overlapped,
) -> Submission {
    // SAFETY: the caller owns a valid block that is not in flight.
    unsafe { Overlapped::reset(overlapped) };
    // SAFETY: the handle is open for the call; buffer and block stay valid per this function's
    // contract.
    let succeeded =
        unsafe { WriteFile(raw(handle), buffer, length, ptr::null_mut(), overlapped.cast_mut().cast()) };
    // SAFETY: the block is valid, and this call has not given it away: a pending outcome is not read.
    unsafe { submission(code_of(succeeded), overlapped) }
}

/// [`TransactNamedPipe`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-transactnamedpipe): writes
/// `length` bytes at `request` as one message and reads one into `room` bytes at `reply`.
///
/// # Safety
///
/// As for [`read`], except that the request may be read meanwhile.
pub(crate) unsafe fn exchange(
    handle: &OwnedHandle,
    request: *const u8,
    length: u32,
    reply: *mut u8,
    room: u32,
    overlapped: *const Overlapped,
) -> Submission {
    // SAFETY: the caller owns a valid block that is not in flight.
    unsafe { Overlapped::reset(overlapped) };
    // SAFETY: the handle is open for the call; buffers and block stay valid per this function's
    // contract.
    let succeeded = unsafe {
        TransactNamedPipe(
            raw(handle),
            request.cast(),
            length,
            reply.cast(),
            room,
            ptr::null_mut(),
            overlapped.cast_mut().cast(),
        )
    };
    // SAFETY: the block is valid, and this call has not given it away: a pending outcome is not read.
    unsafe { submission(code_of(succeeded), overlapped) }
}

/// [`ConnectNamedPipe`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-connectnamedpipe).
///
/// # Safety
///
/// As for [`read`], for the block alone.
pub(crate) unsafe fn connect(handle: &OwnedHandle, overlapped: *const Overlapped) -> Submission {
    // SAFETY: the caller owns a valid block that is not in flight.
    unsafe { Overlapped::reset(overlapped) };
    // SAFETY: the handle is open for the call; the block stays valid per this function's contract.
    let succeeded = unsafe { ConnectNamedPipe(raw(handle), overlapped.cast_mut().cast()) };
    // SAFETY: the block is valid, and this call has not given it away: a pending outcome is not read.
    unsafe { submission(code_of(succeeded), overlapped) }
}

/// Asks for the time when the peer has read everything that the pipe has of this end: what
/// [`FlushFileBuffers`](https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-flushfilebuffers) waits for, as an
/// operation. The control code has no page.
///
/// # Safety
///
/// As for [`read`], for the block alone.
pub(crate) unsafe fn flush(handle: &OwnedHandle, overlapped: *const Overlapped) -> Submission {
    // SAFETY: the caller owns a valid block that is not in flight.
    unsafe { Overlapped::reset(overlapped) };
    let request = Control { code: FSCTL_PIPE_FLUSH, input: &[], output: (ptr::null_mut(), 0) };
    // SAFETY: the block stays valid per this function's contract. Its packet is to name it, as that of
    // a Win32 function would.
    let code = unsafe {
        control(handle, &request, ptr::null_mut(), overlapped.cast(), overlapped.cast_mut().cast())
    };
    // SAFETY: the block is valid, and this call has not given it away: a pending outcome is not read.
    unsafe { submission(code, overlapped) }
}

/// A request to the file system of the pipes.
pub(super) struct Control<'a> {
    pub(super) code: u32,
    pub(super) input: &'a [u8],
    /// The buffer for the answer, and its length in bytes.
    pub(super) output: (*mut c_void, usize),
}

/// [`NtFsControlFile`](https://learn.microsoft.com/windows-hardware/drivers/ddi/ntifs/nf-ntifs-ntfscontrolfile),
/// which sets `event` when the request has been answered, if that is not null, and queues a packet
/// for `packet`, if that is not null. `DeviceIoControl` sends a code of this kind elsewhere.
///
/// # Safety
///
/// `overlapped` and the output must stay valid and in place until the operation is over.
pub(super) unsafe fn control(
    handle: &OwnedHandle,
    request: &Control<'_>,
    event: HANDLE,
    packet: *const c_void,
    overlapped: *mut OVERLAPPED,
) -> u32 {
    let Control { code, input, output: (output, output_length) } = *request;
    // SAFETY: handle and event are open for the call, which copies the input. An OVERLAPPED begins
    // with an IO_STATUS_BLOCK: its fields `Internal` and `InternalHigh`. The output is valid per
    // the contract.
    let status = unsafe {
        NtFsControlFile(
            raw(handle),
            event,
            None,
            packet,
            overlapped.cast(),
            code,
            input.as_ptr().cast(),
            input.len() as u32,
            output,
            output_length as u32,
        )
    };
    // SAFETY: no preconditions; it translates a number, "pending" to ERROR_IO_PENDING.
    unsafe { RtlNtStatusToDosError(status) }
}

/// [`CancelIoEx`](https://learn.microsoft.com/windows/win32/api/ioapiset/nf-ioapiset-cancelioex): asks for the end of
/// one operation. A request, not a result: the packet tells how the operation ended.
pub(crate) fn cancel(handle: &OwnedHandle, overlapped: &Overlapped) {
    // SAFETY: the handle is open for the call; the block's address serves as a name only.
    unsafe { CancelIoEx(raw(handle), overlapped.as_ptr()) };
}
