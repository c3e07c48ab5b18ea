//! The process at the other end of a pipe.

use std::ffi::OsString;
use std::io;
use std::os::windows::ffi::OsStringExt;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};

use windows_sys::Win32::Foundation::FILETIME;
use windows_sys::Win32::System::Pipes::{
    GetNamedPipeClientProcessId, GetNamedPipeClientSessionId, GetNamedPipeServerProcessId,
    GetNamedPipeServerSessionId,
};
use windows_sys::Win32::System::SystemInformation::GetSystemTimePreciseAsFileTime;
use windows_sys::Win32::System::Threading::{
    GetProcessTimes, OpenProcess, PROCESS_NAME_WIN32, PROCESS_QUERY_LIMITED_INFORMATION,
    QueryFullProcessImageNameW,
};

/// A moment, in units of 100 ns since the year 1601.
pub(crate) type FileTime = u64;

fn file_time(time: FILETIME) -> FileTime {
    u64::from(time.dwHighDateTime) << 32 | u64::from(time.dwLowDateTime)
}

/// [`GetSystemTimePreciseAsFileTime`](https://learn.microsoft.com/windows/win32/api/sysinfoapi/nf-sysinfoapi-getsystemtimepreciseasfiletime),
/// which does not enter the kernel.
pub(crate) fn now() -> FileTime {
    let mut time = FILETIME::default();
    // SAFETY: the place is writable.
    unsafe { GetSystemTimePreciseAsFileTime(&mut time) };
    file_time(time)
}

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

/// [`GetNamedPipeServerSessionId`](https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-getnamedpipeserversessionid).
pub(crate) fn server_session(handle: &OwnedHandle) -> io::Result<u32> {
    let mut session = 0;
    // SAFETY: the handle is open for the call, the place is writable.
    let done = unsafe { GetNamedPipeServerSessionId(handle.as_raw_handle(), &mut session) };
    if done == 0 { Err(io::Error::last_os_error()) } else { Ok(session) }
}

/// [`GetNamedPipeClientSessionId`](https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-getnamedpipeclientsessionid).
pub(crate) fn client_session(handle: &OwnedHandle) -> io::Result<u32> {
    let mut session = 0;
    // SAFETY: the handle is open for the call, the place is writable.
    let done = unsafe { GetNamedPipeClientSessionId(handle.as_raw_handle(), &mut session) };
    if done == 0 { Err(io::Error::last_os_error()) } else { Ok(session) }
}

/// [`OpenProcess`](https://learn.microsoft.com/windows/win32/api/processthreadsapi/nf-processthreadsapi-openprocess), to ask.
/// For as long as the handle is open, no other process gets the number.
pub(crate) fn open_process(process: u32) -> io::Result<OwnedHandle> {
    // SAFETY: takes no pointers.
    let handle = unsafe { OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, process) };
    if handle.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call gave a handle that nobody else owns.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle) })
}

/// When the process was started
/// ([`GetProcessTimes`](https://learn.microsoft.com/windows/win32/api/processthreadsapi/nf-processthreadsapi-getprocesstimes)).
pub(crate) fn started_at(process: &OwnedHandle) -> io::Result<FileTime> {
    let [mut started, mut ended, mut kernel, mut user] = [FILETIME::default(); 4];
    // SAFETY: the handle is open for the call, the places are writable.
    let done =
        unsafe { GetProcessTimes(process.as_raw_handle(), &mut started, &mut ended, &mut kernel, &mut user) };
    if done == 0 { Err(io::Error::last_os_error()) } else { Ok(file_time(started)) }
}

/// [`QueryFullProcessImageNameW`](https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-queryfullprocessimagenamew):
/// the file of the program that a process runs.
pub(crate) fn program_of(process: &OwnedHandle) -> io::Result<OsString> {
    // The longest path that Windows has.
    let mut path = vec![0_u16; 32_768];
    let mut length = path.len() as u32;
    // SAFETY: the handle is open for the call; the buffer is writable for as many units as are named.
    let done = unsafe {
        QueryFullProcessImageNameW(
            process.as_raw_handle(),
            PROCESS_NAME_WIN32,
            path.as_mut_ptr(),
            &mut length,
        )
    };
    if done == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(OsString::from_wide(&path[..length as usize]))
}
