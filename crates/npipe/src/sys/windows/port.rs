//! The completion port: where finished operations are picked up.

use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr;
use std::time::Duration;

use windows_sys::Wdk::Storage::FileSystem::{
    FILE_COMPLETION_INFORMATION, FileReplaceCompletionInformation, NtSetInformationFile,
};
use windows_sys::Win32::Foundation::{INVALID_HANDLE_VALUE, RtlNtStatusToDosError, WAIT_TIMEOUT};
use windows_sys::Win32::Storage::FileSystem::SetFileCompletionNotificationModes;
use windows_sys::Win32::System::IO::{
    CreateIoCompletionPort, GetQueuedCompletionStatusEx, IO_STATUS_BLOCK, OVERLAPPED, OVERLAPPED_ENTRY,
    PostQueuedCompletionStatus,
};
use windows_sys::Win32::System::WindowsProgramming::FILE_SKIP_COMPLETION_PORT_ON_SUCCESS;

use super::Overlapped;
use crate::sys::Packets;

/// A completion port.
#[derive(Debug)]
pub(crate) struct Port(OwnedHandle);

/// A dequeued packet.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Entry(OVERLAPPED_ENTRY);

// SAFETY: what the kernel wrote is copied out and final; the address is a name until somebody takes
// the packet, which is that one's matter.
unsafe impl Send for Entry {}
// SAFETY: as above; nothing is reached through a shared entry.
unsafe impl Sync for Entry {}

impl Entry {
    pub(crate) const EMPTY: Self = Self(OVERLAPPED_ENTRY {
        lpCompletionKey: 0,
        lpOverlapped: ptr::null_mut(),
        Internal: 0,
        dwNumberOfBytesTransferred: 0,
    });

    /// What the handle of the operation was tied to the port with.
    pub(crate) fn key(&self) -> usize {
        self.0.lpCompletionKey
    }

    /// The block of the operation that ended, null for a packet that was posted to wake the waiter.
    pub(crate) fn overlapped(&self) -> *const Overlapped {
        self.0.lpOverlapped.cast_const().cast()
    }
}

impl Port {
    /// [`CreateIoCompletionPort`](https://learn.microsoft.com/windows/win32/fileio/createiocompletionport).
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: INVALID_HANDLE_VALUE asks for a new port, which needs no memory of ours.
        let port = unsafe { CreateIoCompletionPort(INVALID_HANDLE_VALUE, ptr::null_mut(), 0, 1) };
        if port.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call gave a handle that nobody else owns.
        Ok(Self(unsafe { OwnedHandle::from_raw_handle(port) }))
    }

    /// Ties a handle to this port, so that its packets carry `key`, and, unless all are to, keeps
    /// operations that succeed at once from queueing a packet
    /// ([`SetFileCompletionNotificationModes`](https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-setfilecompletionnotificationmodes)).
    pub(crate) fn associate(&self, handle: &OwnedHandle, key: usize, packets: Packets) -> io::Result<()> {
        // SAFETY: both handles are open for the call.
        let port = unsafe { CreateIoCompletionPort(handle.as_raw_handle(), self.0.as_raw_handle(), key, 0) };
        if port.is_null() {
            return Err(io::Error::last_os_error());
        }
        if packets == Packets::OfAll {
            return Ok(());
        }
        let modes = FILE_SKIP_COMPLETION_PORT_ON_SUCCESS;
        // SAFETY: the handle is open for the call.
        if unsafe { SetFileCompletionNotificationModes(handle.as_raw_handle(), modes as u8) } == 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Unties a handle on which nothing is in flight from its port, which Windows 8.1 and later can
    /// ([`FileReplaceCompletionInformation`](https://learn.microsoft.com/windows-hardware/drivers/ddi/ntifs/ns-ntifs-_file_completion_information)).
    pub(crate) fn dissociate(handle: &OwnedHandle) -> io::Result<()> {
        let none = FILE_COMPLETION_INFORMATION { Port: ptr::null_mut(), Key: ptr::null_mut() };
        let mut status_block = IO_STATUS_BLOCK::default();
        // SAFETY: the handle is open for the call, which reads the structure that is lent, of the size that
        // is told.
        let status = unsafe {
            NtSetInformationFile(
                handle.as_raw_handle(),
                &mut status_block,
                (&raw const none).cast(),
                size_of_val(&none) as u32,
                FileReplaceCompletionInformation,
            )
        };
        if status < 0 {
            // SAFETY: no preconditions; it translates a number.
            let code = unsafe { RtlNtStatusToDosError(status) };
            return Err(io::Error::from_raw_os_error(code as i32));
        }
        Ok(())
    }

    /// [`GetQueuedCompletionStatusEx`](https://learn.microsoft.com/windows/win32/fileio/getqueuedcompletionstatusex-func):
    /// waits for packets and returns those that came; none when `timeout` passed.
    pub(crate) fn dequeue<'e>(
        &self,
        entries: &'e mut [Entry],
        timeout: Option<Duration>,
    ) -> io::Result<&'e [Entry]> {
        let mut count = 0;
        // SAFETY: the port is open; `Entry` is a transparent OVERLAPPED_ENTRY and the slice is writable for
        // as many as are named.
        let succeeded = unsafe {
            GetQueuedCompletionStatusEx(
                self.0.as_raw_handle(),
                entries.as_mut_ptr().cast(),
                entries.len() as u32,
                &mut count,
                super::milliseconds(timeout),
                0,
            )
        };
        if succeeded != 0 {
            return Ok(&entries[..count as usize]);
        }
        match super::last_error() {
            WAIT_TIMEOUT => Ok(&[]),
            code => Err(io::Error::from_raw_os_error(code as i32)),
        }
    }

    /// [`PostQueuedCompletionStatus`](https://learn.microsoft.com/windows/win32/fileio/postqueuedcompletionstatus) with
    /// no block: wakes the waiter.
    pub(crate) fn wake(&self) {
        // SAFETY: the port is open; without a block the packet refers to no memory.
        unsafe { PostQueuedCompletionStatus(self.0.as_raw_handle(), 0, 0, ptr::null::<OVERLAPPED>()) };
    }
}
