//! What cannot be measured without `unsafe`: the heap, and overlapped calls with nothing around
//! them. Knows no case.

#![expect(
    unsafe_code,
    reason = "a counting allocator and the bare Win32 calls that the libraries are compared with"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::OpenOptions;
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::{AsRawHandle, FromRawHandle, IntoRawHandle, OwnedHandle};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use windows_sys::Win32::Foundation::{
    ERROR_BROKEN_PIPE, ERROR_IO_PENDING, ERROR_PIPE_CONNECTED, INVALID_HANDLE_VALUE,
};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_FLAG_OVERLAPPED, PIPE_ACCESS_DUPLEX, ReadFile, WriteFile,
};
use windows_sys::Win32::System::IO::{GetOverlappedResult, OVERLAPPED};
use windows_sys::Win32::System::Pipes::{
    ConnectNamedPipe, CreateNamedPipeW, PIPE_READMODE_BYTE, PIPE_REJECT_REMOTE_CLIENTS, PIPE_TYPE_BYTE,
    PIPE_UNLIMITED_INSTANCES, PIPE_WAIT,
};
use windows_sys::Win32::System::Threading::CreateEventW;

/// The system's allocator, and how many bytes of it are in use.
struct CountingAllocator;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Bytes of heap this process has asked for and not given back.
pub(crate) fn heap_in_use() -> usize {
    IN_USE.load(Ordering::Relaxed)
}

// SAFETY: every call goes to `System` unchanged; counting neither allocates nor panics.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise about `layout` is the one `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: `memory` came from `System` with this `layout`, because every allocation here does.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        IN_USE.fetch_add(new_size, Ordering::Relaxed);
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as in `dealloc`; `new_size` is the caller's promise.
        unsafe { System.realloc(memory, layout, new_size) }
    }
}

/// One end of a pipe, used by one thread: each operation is submitted and waited for on the end's
/// own event.
///
/// This is the least a Win32 program does, hence the measure of what a library costs.
pub(crate) struct Pipe {
    handle: OwnedHandle,
    event: OwnedHandle,
}

impl Pipe {
    /// Creates an instance with the usual quotas. npipe's default, eight times as much, makes no
    /// difference to this.
    pub(crate) fn create(name: &str) -> io::Result<Self> {
        const BUFFER: u32 = 64 * 1024;
        let wide: Vec<u16> = std::ffi::OsStr::new(name).encode_wide().chain([0]).collect();
        // SAFETY: `wide` is a string with a closing zero that outlives the call; no security attributes are
        // given.
        let handle = unsafe {
            CreateNamedPipeW(
                wide.as_ptr(),
                PIPE_ACCESS_DUPLEX | FILE_FLAG_OVERLAPPED,
                PIPE_TYPE_BYTE | PIPE_READMODE_BYTE | PIPE_WAIT | PIPE_REJECT_REMOTE_CLIENTS,
                PIPE_UNLIMITED_INSTANCES,
                BUFFER,
                BUFFER,
                0,
                ptr::null(),
            )
        };
        if handle == INVALID_HANDLE_VALUE {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the handle was just opened and belongs to nobody else.
        Self::around(unsafe { OwnedHandle::from_raw_handle(handle) })
    }

    pub(crate) fn open(name: &str) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).custom_flags(FILE_FLAG_OVERLAPPED).open(name)?;
        Self::around(file.into())
    }

    fn around(handle: OwnedHandle) -> io::Result<Self> {
        // SAFETY: no attributes, no name: nothing is passed that could be invalid.
        let event = unsafe { CreateEventW(ptr::null(), 1, 0, ptr::null()) };
        if event.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the event was just created and belongs to nobody else.
        Ok(Self { handle, event: unsafe { OwnedHandle::from_raw_handle(event) } })
    }

    pub(crate) fn connect(&mut self) -> io::Result<()> {
        let mut overlapped = self.overlapped();
        // SAFETY: `finish` returns only after the operation has ended, so `overlapped` outlives it.
        let done = unsafe { ConnectNamedPipe(self.handle.as_raw_handle(), &mut overlapped) };
        match self.finish(done, &overlapped) {
            Err(error) if is(&error, ERROR_PIPE_CONNECTED) => Ok(()),
            other => other.map(drop),
        }
    }

    fn overlapped(&self) -> OVERLAPPED {
        OVERLAPPED { hEvent: self.event.as_raw_handle(), ..OVERLAPPED::default() }
    }

    fn finish(&self, done: i32, overlapped: &OVERLAPPED) -> io::Result<usize> {
        if done == 0 {
            let error = io::Error::last_os_error();
            if !is(&error, ERROR_IO_PENDING) {
                return Err(error);
            }
        }
        let mut transferred = 0;
        // SAFETY: the operation on this handle uses `overlapped`; waiting ends when it does. Of one that is
        // over, this reads the result without a system call.
        if unsafe { GetOverlappedResult(self.handle.as_raw_handle(), overlapped, &mut transferred, 1) } == 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(transferred as usize)
    }
}

impl io::Read for Pipe {
    /// `Ok(0)` when the other end has closed the pipe.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut overlapped = self.overlapped();
        let length = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
        // SAFETY: `finish` returns only after the operation has ended, so `overlapped` and `buffer` outlive
        // it.
        let done = unsafe {
            ReadFile(
                self.handle.as_raw_handle(),
                buffer.as_mut_ptr(),
                length,
                ptr::null_mut(),
                &mut overlapped,
            )
        };
        match self.finish(done, &overlapped) {
            Err(error) if is(&error, ERROR_BROKEN_PIPE) => Ok(0),
            other => other,
        }
    }
}

impl io::Write for Pipe {
    /// All of `data`: a byte pipe in waiting mode never takes a part.
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut overlapped = self.overlapped();
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        // SAFETY: `finish` returns only after the operation has ended, so `overlapped` and `data` outlive
        // it.
        let done = unsafe {
            WriteFile(self.handle.as_raw_handle(), data.as_ptr(), length, ptr::null_mut(), &mut overlapped)
        };
        self.finish(done, &overlapped)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A client's end for a library that takes over handles.
pub(crate) fn open_overlapped<T: FromRawHandle>(name: &str) -> io::Result<T> {
    let file = OpenOptions::new().read(true).write(true).custom_flags(FILE_FLAG_OVERLAPPED).open(name)?;
    // SAFETY: the handle is open, and given away.
    Ok(unsafe { T::from_raw_handle(file.into_raw_handle()) })
}

fn is(error: &io::Error, code: u32) -> bool {
    error.raw_os_error() == Some(code.cast_signed())
}
