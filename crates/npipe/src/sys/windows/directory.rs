//! The directory of pipes.

use std::io;
use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::ptr;
use std::slice;

use windows_sys::Wdk::Storage::FileSystem::{FileDirectoryInformation, NtQueryDirectoryFile};
use windows_sys::Win32::Foundation::{GENERIC_READ, RtlNtStatusToDosError, STATUS_NO_MORE_FILES};
use windows_sys::Win32::Storage::FileSystem::{
    CreateFileW, FILE_SHARE_READ, FILE_SHARE_WRITE, OPEN_EXISTING,
};
use windows_sys::Win32::System::IO::IO_STATUS_BLOCK;
use windows_sys::w;

/// [`CreateFileW`](https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-createfilew) of the file system of pipes
/// itself. Not overlapped: what is asked of it has been answered when the call returns.
pub(crate) fn open_pipe_directory() -> io::Result<OwnedHandle> {
    // SAFETY: the name is a literal that ends with a NUL.
    let handle = unsafe {
        CreateFileW(
            w!(r"\\.\pipe\"),
            GENERIC_READ,
            FILE_SHARE_READ | FILE_SHARE_WRITE,
            ptr::null(),
            OPEN_EXISTING,
            0,
            ptr::null_mut(),
        )
    };
    super::pipe::owned(handle)
}

/// [`NtQueryDirectoryFile`](https://learn.microsoft.com/windows-hardware/drivers/ddi/ntifs/nf-ntifs-ntquerydirectoryfile): the
/// entries that follow those of the last call, as many as there is room for. `None`: there are no
/// more.
pub(crate) fn next_pipes<'b>(directory: &OwnedHandle, buffer: &'b mut [u64]) -> io::Result<Option<&'b [u8]>> {
    let mut status_block = IO_STATUS_BLOCK::default();
    let size = size_of_val(buffer);
    // SAFETY: the handle is open for the call and not overlapped, so the call writes nothing after it
    // has returned; the buffer is aligned and writable for as many bytes as are named; no name
    // selects all.
    let status = unsafe {
        NtQueryDirectoryFile(
            directory.as_raw_handle(),
            ptr::null_mut(),
            None,
            ptr::null(),
            &mut status_block,
            buffer.as_mut_ptr().cast(),
            size as u32,
            FileDirectoryInformation,
            false,
            ptr::null(),
            false,
        )
    };
    match status {
        STATUS_NO_MORE_FILES => Ok(None),
        status if status < 0 => {
            // SAFETY: no preconditions; it translates a number.
            let code = unsafe { RtlNtStatusToDosError(status) };
            Err(io::Error::from_raw_os_error(code as i32))
        }
        _ => {
            let length = status_block.Information.min(size);
            // SAFETY: the bytes are in the buffer, initialised, and borrowed for as long as it is.
            Ok(Some(unsafe { slice::from_raw_parts(buffer.as_ptr().cast(), length) }))
        }
    }
}
