//! The process at the other end of a pipe.

use std::ffi::OsString;
use std::io;
use std::os::windows::ffi::OsStringExt;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};

use windows_sys::Wdk::Storage::FileSystem::{
    FSCTL_PIPE_GET_CONNECTION_ATTRIBUTE, FSCTL_PIPE_GET_PIPE_ATTRIBUTE,
};
use windows_sys::Win32::Foundation::{ERROR_INVALID_FUNCTION, ERROR_NOT_SUPPORTED, FILETIME};
use windows_sys::Win32::System::RemoteDesktop::ProcessIdToSessionId;
use windows_sys::Win32::System::SystemInformation::GetSystemTimePreciseAsFileTime;
use windows_sys::Win32::System::Threading::{
    GetProcessTimes, OpenProcess, PROCESS_NAME_WIN32, PROCESS_QUERY_LIMITED_INFORMATION,
    QueryFullProcessImageNameW,
};

use super::event::control;
use crate::info::PipeEnd;

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

/// Returns the process at the other end of `end`'s pipe and its session: the numbers of
/// [`GetNamedPipeServerProcessId`](https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-getnamedpipeserverprocessid)
/// and
/// [`GetNamedPipeServerSessionId`](https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-getnamedpipeserversessionid)
/// on a client's end, and of
/// [`GetNamedPipeClientProcessId`](https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-getnamedpipeclientprocessid)
/// and
/// [`GetNamedPipeClientSessionId`](https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-getnamedpipeclientsessionid)
/// on a server's.
///
/// Wine's pipes have no session, which is that of the process there, and keep the server's process
/// with the connection.
pub(crate) fn peer(handle: &OwnedHandle, end: PipeEnd) -> io::Result<(u32, u32)> {
    const CONNECTION: u32 = FSCTL_PIPE_GET_CONNECTION_ATTRIBUTE;
    const PIPE: u32 = FSCTL_PIPE_GET_PIPE_ATTRIBUTE;
    let (place, process, session) = match end {
        PipeEnd::Server => (CONNECTION, &b"ClientProcessId\0"[..], &b"ClientSessionId\0"[..]),
        PipeEnd::Client => (PIPE, &b"ServerProcessId\0"[..], &b"ServerSessionId\0"[..]),
    };
    let process =
        attribute(handle, place, process).or_else(unknown(|| attribute(handle, CONNECTION, process)))?;
    let session = attribute(handle, place, session).or_else(unknown(|| session_of(process)))?;
    Ok((process, session))
}

/// A number that the file system of the pipes keeps under a name.
fn attribute(handle: &OwnedHandle, code: u32, name: &[u8]) -> io::Result<u32> {
    let mut number = [0];
    control(handle, code, name, &mut number)?;
    Ok(number[0])
}

/// Asks otherwise where the file system does not know the attribute.
fn unknown(otherwise: impl FnOnce() -> io::Result<u32>) -> impl FnOnce(io::Error) -> io::Result<u32> {
    |error| match error.raw_os_error().map(|code| code as u32) {
        Some(ERROR_NOT_SUPPORTED | ERROR_INVALID_FUNCTION) => otherwise(),
        _ => Err(error),
    }
}

/// [`ProcessIdToSessionId`](https://learn.microsoft.com/windows/win32/api/processthreadsapi/nf-processthreadsapi-processidtosessionid).
fn session_of(process: u32) -> io::Result<u32> {
    let mut session = 0;
    // SAFETY: the place is writable.
    let done = unsafe { ProcessIdToSessionId(process, &mut session) };
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
