//! Access tokens: in whose name a process or a thread acts.

use std::ffi::c_void;
use std::io;
use std::os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
use std::ptr;

use windows_sys::Wdk::Storage::FileSystem::FSCTL_PIPE_IMPERSONATE;
use windows_sys::Win32::Foundation::{ERROR_CANT_OPEN_ANONYMOUS, ERROR_NO_TOKEN, HANDLE};
use windows_sys::Win32::Security::{
    CheckTokenMembership, GetLengthSid, GetTokenInformation, RevertToSelf, SECURITY_IMPERSONATION_LEVEL,
    SECURITY_MAX_SID_SIZE, TOKEN_INFORMATION_CLASS, TOKEN_QUERY, TOKEN_USER, TokenImpersonationLevel,
    TokenUser,
};
use windows_sys::Win32::System::Threading::{GetCurrentThread, OpenProcessToken, OpenThreadToken};

use super::event::control;
use super::security::encode_sid;

/// In whose name the calling thread acts.
#[derive(Debug)]
pub(crate) enum ThreadToken {
    /// In that of its process.
    None,
    /// In nobody's: the token of an anonymous user cannot be looked at.
    Anonymous,
    /// In that of this token's user.
    Of(OwnedHandle),
}

/// The user of this process, as the bytes of a security identifier. It can be asked in anybody's
/// name: nothing is opened, which a thread that impersonates somebody would be refused.
pub(crate) fn user_of_this_process() -> io::Result<Vec<u8>> {
    /// `GetCurrentProcessToken`, of which the system has no function: its header has this number.
    const THIS_PROCESS: HANDLE = ptr::without_provenance_mut(-4_isize as usize);
    // SAFETY: a pseudo handle is open for as long as the process lives, and needs no closing.
    user_of(unsafe { BorrowedHandle::borrow_raw(THIS_PROCESS) })
}

/// The user of a process, as the bytes of a security identifier.
pub(crate) fn user_of_process(process: &OwnedHandle) -> io::Result<Vec<u8>> {
    user_of_token(&process_token(process)?)
}

/// The user of a token, as the bytes of a security identifier.
pub(crate) fn user_of_token(token: &OwnedHandle) -> io::Result<Vec<u8>> {
    user_of(token.as_handle())
}

/// [`OpenProcessToken`](https://learn.microsoft.com/windows/win32/api/processthreadsapi/nf-processthreadsapi-openprocesstoken),
/// to ask.
fn process_token(process: &OwnedHandle) -> io::Result<OwnedHandle> {
    let mut token = ptr::null_mut();
    // SAFETY: the handle is open for the call, the place is writable.
    let done = unsafe { OpenProcessToken(process.as_raw_handle(), TOKEN_QUERY, &mut token) };
    if done == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call gave a handle that nobody else owns.
    Ok(unsafe { OwnedHandle::from_raw_handle(token) })
}

/// `TokenUser`.
fn user_of(token: BorrowedHandle<'_>) -> io::Result<Vec<u8>> {
    /// The structure, and behind it the SID that it points to.
    #[repr(C)]
    struct User {
        user: TOKEN_USER,
        _sid: [u8; SECURITY_MAX_SID_SIZE as usize],
    }
    // SAFETY: integers and pointers, of which zero is a value.
    let mut buffer: User = unsafe { std::mem::zeroed() };
    // SAFETY: the buffer is writable, and as long as is said.
    unsafe { information(token, TokenUser, (&raw mut buffer).cast(), size_of::<User>()) }?;
    let sid = buffer.user.User.Sid;
    // SAFETY: the system has written a valid SID there, into the buffer, which lives on.
    let length = unsafe { GetLengthSid(sid) } as usize;
    // SAFETY: as many bytes are initialised there.
    Ok(unsafe { std::slice::from_raw_parts(sid.cast::<u8>(), length) }.to_vec())
}

/// How far a token that is not a process's allows to act in its user's name
/// (`TokenImpersonationLevel`): 0, anonymous, to 3, delegation.
pub(crate) fn impersonation_level(token: &OwnedHandle) -> io::Result<SECURITY_IMPERSONATION_LEVEL> {
    let mut level = 0;
    let place = (&raw mut level).cast();
    // SAFETY: the place is writable, and as long as is said.
    unsafe { information(token.as_handle(), TokenImpersonationLevel, place, size_of_val(&level)) }?;
    Ok(level)
}

/// [`GetTokenInformation`](https://learn.microsoft.com/windows/win32/api/securitybaseapi/nf-securitybaseapi-gettokeninformation).
///
/// # Safety
///
/// `buffer` must be writable for `length` bytes, and aligned for what is asked for.
unsafe fn information(
    token: BorrowedHandle<'_>,
    class: TOKEN_INFORMATION_CLASS,
    buffer: *mut c_void,
    length: usize,
) -> io::Result<()> {
    let mut needed = 0;
    // SAFETY: the handle is open for the call; the caller vouches for the buffer.
    let done =
        unsafe { GetTokenInformation(token.as_raw_handle(), class, buffer, length as u32, &mut needed) };
    if done == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether the user of a thread's token is this account, or in this group with it enabled
/// ([`CheckTokenMembership`](https://learn.microsoft.com/windows/win32/api/securitybaseapi/nf-securitybaseapi-checktokenmembership)).
pub(crate) fn is_member(token: &OwnedHandle, authority: u64, sub_authorities: &[u32]) -> io::Result<bool> {
    let mut sid = encode_sid(authority, sub_authorities);
    let mut member = 0;
    // SAFETY: the handle is open for the call; the SID is well formed and aligned; the place is
    // writable.
    let done = unsafe { CheckTokenMembership(token.as_raw_handle(), sid.as_mut_ptr().cast(), &mut member) };
    if done == 0 { Err(io::Error::last_os_error()) } else { Ok(member != 0) }
}

/// [`OpenThreadToken`](https://learn.microsoft.com/windows/win32/api/processthreadsapi/nf-processthreadsapi-openthreadtoken) of
/// the calling thread, to ask. The process asks, since the one whose name the thread bears may not
/// be allowed to.
pub(crate) fn thread_token() -> io::Result<ThreadToken> {
    const AS_THE_PROCESS: i32 = 1;
    let mut token = ptr::null_mut();
    // SAFETY: no preconditions; the pseudo handle needs no closing.
    let thread = unsafe { GetCurrentThread() };
    // SAFETY: the handle is valid, the place is writable.
    let done = unsafe { OpenThreadToken(thread, TOKEN_QUERY, AS_THE_PROCESS, &mut token) };
    match (done, super::last_error()) {
        (0, ERROR_NO_TOKEN) => Ok(ThreadToken::None),
        (0, ERROR_CANT_OPEN_ANONYMOUS) => Ok(ThreadToken::Anonymous),
        (0, code) => Err(io::Error::from_raw_os_error(code as i32)),
        // SAFETY: the call gave a handle that nobody else owns.
        _ => Ok(ThreadToken::Of(unsafe { OwnedHandle::from_raw_handle(token) })),
    }
}

/// Sends the request of
/// [`ImpersonateNamedPipeClient`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-impersonatenamedpipeclient):
/// the calling thread acts in the name of the client of `server`.
pub(crate) fn impersonate_client(server: &OwnedHandle) -> io::Result<()> {
    control(server, FSCTL_PIPE_IMPERSONATE, &[], &mut [])
}

/// [`RevertToSelf`](https://learn.microsoft.com/windows/win32/api/securitybaseapi/nf-securitybaseapi-reverttoself): the calling
/// thread acts in the name of its process.
pub(crate) fn revert_to_self() -> io::Result<()> {
    // SAFETY: no preconditions.
    let done = unsafe { RevertToSelf() };
    if done == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
