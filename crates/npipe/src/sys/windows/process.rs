//! The process at the other end of a pipe.

use std::ffi::OsString;
use std::io;
use std::os::windows::ffi::OsStringExt;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};

use windows_sys::Win32::System::Pipes::{GetNamedPipeClientProcessId, GetNamedPipeServerProcessId};
use windows_sys::Win32::System::Threading::{
    OpenProcess, PROCESS_NAME_WIN32, PROCESS_QUERY_LIMITED_INFORMATION, QueryFullProcessImageNameW,
};

/// [`GetNamedPipeServerProcessId`](https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-getnamedpipeserverprocessid).
pub(crate) fn server_process(handle: &OwnedHandle) -> io::Result<u32> {
    let mut process = 0;
    // SAFETY: the handle is open for the call, the place is writable.
    let done = unsafe { GetNamedPipeServerProcessId(handle.as_raw_handle(), &mut process) };
    if done == 0 { Err(io::Error::last_os_error()) } else { Ok(process) }
}

/// [`GetNamedPipeClientProcessId`](https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-getnamedpipeclientprocessid).
pub(crate) fn client_process(handle: &OwnedHandle) -> io::Result<u32> {
    let mut process = 0;
    // SAFETY: the handle is open for the call, the place is writable.
    let done = unsafe { GetNamedPipeClientProcessId(handle.as_raw_handle(), &mut process) };
    if done == 0 { Err(io::Error::last_os_error()) } else { Ok(process) }
}

/// [`QueryFullProcessImageNameW`](https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-queryfullprocessimagenamew):
/// the file of the program that a process runs.
pub(crate) fn program_of(process: u32) -> io::Result<OsString> {
    // SAFETY: takes no pointers.
    let handle = unsafe { OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, process) };
    if handle.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call gave a handle that nobody else owns.
    let handle = unsafe { OwnedHandle::from_raw_handle(handle) };
    // The longest path that Windows has.
    let mut path = vec![0_u16; 32_768];
    let mut length = path.len() as u32;
    // SAFETY: the handle is open for the call; the buffer is writable for as many units as are named.
    let done = unsafe {
        QueryFullProcessImageNameW(handle.as_raw_handle(), PROCESS_NAME_WIN32, path.as_mut_ptr(), &mut length)
    };
    if done == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(OsString::from_wide(&path[..length as usize]))
}
