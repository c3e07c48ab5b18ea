//! Access tokens: in whose name a process or a thread acts.

use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr;

use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::Security::{
    GetLengthSid, GetTokenInformation, SECURITY_MAX_SID_SIZE, TOKEN_QUERY, TOKEN_USER, TokenUser,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

/// The user of this process, as the bytes of a security identifier. A thread that impersonates somebody changes nothing in it.
pub(crate) fn user_of_this_process() -> io::Result<Vec<u8>> {
    // SAFETY: no preconditions; the pseudo handle needs no closing.
    user_of(&process_token(unsafe { GetCurrentProcess() })?)
}

/// [`OpenProcessToken`](https://learn.microsoft.com/windows/win32/api/processthreadsapi/nf-processthreadsapi-openprocesstoken),
/// to ask.
fn process_token(process: HANDLE) -> io::Result<OwnedHandle> {
    let mut token = ptr::null_mut();
    // SAFETY: the caller's handle is open for the call, the place is writable.
    let done = unsafe { OpenProcessToken(process, TOKEN_QUERY, &mut token) };
    if done == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call gave a handle that nobody else owns.
    Ok(unsafe { OwnedHandle::from_raw_handle(token) })
}

/// [`GetTokenInformation`](https://learn.microsoft.com/windows/win32/api/securitybaseapi/nf-securitybaseapi-gettokeninformation),
/// `TokenUser`.
fn user_of(token: &OwnedHandle) -> io::Result<Vec<u8>> {
    /// The structure, and behind it the SID that it points to.
    #[repr(C)]
    struct User {
        user: TOKEN_USER,
        _sid: [u8; SECURITY_MAX_SID_SIZE as usize],
    }
    // SAFETY: integers and pointers, of which zero is a value.
    let mut buffer: User = unsafe { std::mem::zeroed() };
    let mut length = 0;
    // SAFETY: the handle is open for the call; the buffer is writable, aligned for the structure, and as long as is said.
    let done = unsafe {
        GetTokenInformation(
            token.as_raw_handle(),
            TokenUser,
            (&raw mut buffer).cast(),
            size_of::<User>() as u32,
            &mut length,
        )
    };
    if done == 0 {
        return Err(io::Error::last_os_error());
    }
    let sid = buffer.user.User.Sid;
    // SAFETY: the system has written a valid SID there, into the buffer, which lives on.
    let length = unsafe { GetLengthSid(sid) } as usize;
    // SAFETY: as many bytes are initialised there.
    Ok(unsafe { std::slice::from_raw_parts(sid.cast::<u8>(), length) }.to_vec())
}
