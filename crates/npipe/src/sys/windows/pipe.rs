//! Making, opening and asking about named pipes.

use std::ffi::c_void;
use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr;
use std::thread::JoinHandle;
use std::time::Duration;

use windows_sys::Wdk::Storage::FileSystem::{
    FILE_PIPE_CLOSING_STATE, FILE_PIPE_DISCONNECTED_STATE, FILE_PIPE_LISTENING_STATE,
    FILE_PIPE_LOCAL_INFORMATION, FILE_SYNCHRONOUS_IO_ALERT, FILE_SYNCHRONOUS_IO_NONALERT,
    FSCTL_PIPE_DISCONNECT, FSCTL_PIPE_PEEK, FileModeInformation, FilePipeLocalInformation,
    NtQueryInformationFile,
};
use windows_sys::Win32::Foundation::{
    GENERIC_READ, GENERIC_WRITE, INVALID_HANDLE_VALUE, RtlNtStatusToDosError,
};
use windows_sys::Win32::Security::SECURITY_ATTRIBUTES;
use windows_sys::Win32::Storage::FileSystem::{
    CreateFileW, FILE_FLAG_FIRST_PIPE_INSTANCE, FILE_FLAG_OVERLAPPED, FILE_TYPE_PIPE, FILE_TYPE_UNKNOWN,
    FILE_WRITE_ATTRIBUTES, FlushFileBuffers, GetFileType, OPEN_EXISTING, PIPE_ACCESS_INBOUND,
    PIPE_ACCESS_OUTBOUND, READ_CONTROL, WRITE_DAC, WRITE_OWNER,
};
use windows_sys::Win32::System::IO::{CancelSynchronousIo, IO_STATUS_BLOCK};
use windows_sys::Win32::System::Pipes::{
    CreateNamedPipeW, GetNamedPipeHandleStateW, GetNamedPipeInfo, PIPE_ACCEPT_REMOTE_CLIENTS,
    PIPE_READMODE_BYTE, PIPE_READMODE_MESSAGE, PIPE_REJECT_REMOTE_CLIENTS, PIPE_SERVER_END, PIPE_TYPE_BYTE,
    PIPE_TYPE_MESSAGE, PIPE_UNLIMITED_INSTANCES, SetNamedPipeHandleState, WaitNamedPipeW,
};
use windows_sys::Win32::System::SystemServices::ACCESS_SYSTEM_SECURITY;

use super::Descriptor;
use super::event::control;
use crate::sys::Peeked;

/// A `SECURITY_ATTRIBUTES` that stays valid for as long as the value, or none: the system's
/// default.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SecurityAttributes(*const c_void);

impl SecurityAttributes {
    pub(crate) const DEFAULT: Self = Self(ptr::null());

    /// # Safety
    ///
    /// `attributes` must be null or point to a `SECURITY_ATTRIBUTES` that is valid for as long as
    /// the value is used.
    pub(crate) unsafe fn from_raw(attributes: *const c_void) -> Self {
        Self(attributes)
    }

    /// These, or else `own`.
    fn or(self, own: &SECURITY_ATTRIBUTES) -> *const SECURITY_ATTRIBUTES {
        if self.0.is_null() { own } else { self.0.cast() }
    }
}

/// Without a descriptor and not inheritable they say what none would.
fn own_attributes(descriptor: Option<&Descriptor>, inheritable: bool) -> SECURITY_ATTRIBUTES {
    SECURITY_ATTRIBUTES {
        nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
        lpSecurityDescriptor: descriptor.map_or(ptr::null_mut(), |descriptor| descriptor.as_ptr().cast_mut()),
        bInheritHandle: inheritable.into(),
    }
}

/// The arguments of [`create`].
#[derive(Debug)]
pub(crate) struct CreateNamedPipe<'a> {
    pub(crate) name: &'a [u16],
    pub(crate) message_type: bool,
    pub(crate) inbound: bool,
    pub(crate) outbound: bool,
    pub(crate) first_instance: bool,
    pub(crate) write_dac: bool,
    pub(crate) write_owner: bool,
    pub(crate) access_system_security: bool,
    pub(crate) reject_remote_clients: bool,
    /// `None`: any number.
    pub(crate) max_instances: Option<u32>,
    pub(crate) out_buffer_size: u32,
    pub(crate) in_buffer_size: u32,
    /// This and the next unless attributes say more.
    pub(crate) inheritable: bool,
    pub(crate) security_descriptor: Option<&'a Descriptor>,
}

/// The arguments of [`open`].
#[derive(Debug)]
pub(crate) struct OpenPipe<'a> {
    pub(crate) name: &'a [u16],
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) read_control: bool,
    /// The right that a read-only handle needs to change its read mode; `write` includes it.
    pub(crate) write_attributes: bool,
    /// Unless attributes say more.
    pub(crate) inheritable: bool,
    /// Calls on the handle wait, and for one another, as programs that do not know of overlapped
    /// I/O expect.
    pub(crate) synchronous: bool,
    pub(crate) security_quality_of_service: u32,
}

/// What `GetNamedPipeInfo` says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PipeDescription {
    pub(crate) server_end: bool,
    pub(crate) message_type: bool,
    pub(crate) max_instances: u32,
    pub(crate) out_buffer_size: u32,
    pub(crate) in_buffer_size: u32,
}

fn succeeded(result: i32) -> io::Result<()> {
    if result == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// [`CreateNamedPipeW`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-createnamedpipew),
/// overlapped.
pub(crate) fn create(
    parameters: &CreateNamedPipe<'_>,
    attributes: SecurityAttributes,
) -> io::Result<OwnedHandle> {
    debug_assert_eq!(parameters.name.last(), Some(&0));
    let flag = |wanted: bool, flag: u32| if wanted { flag } else { 0 };
    let open_mode = FILE_FLAG_OVERLAPPED
        | flag(parameters.inbound, PIPE_ACCESS_INBOUND)
        | flag(parameters.outbound, PIPE_ACCESS_OUTBOUND)
        | flag(parameters.first_instance, FILE_FLAG_FIRST_PIPE_INSTANCE)
        | flag(parameters.write_dac, WRITE_DAC)
        | flag(parameters.write_owner, WRITE_OWNER)
        | flag(parameters.access_system_security, ACCESS_SYSTEM_SECURITY);
    let kind = if parameters.message_type {
        PIPE_TYPE_MESSAGE | PIPE_READMODE_MESSAGE
    } else {
        PIPE_TYPE_BYTE | PIPE_READMODE_BYTE
    };
    let remote = if parameters.reject_remote_clients {
        PIPE_REJECT_REMOTE_CLIENTS
    } else {
        PIPE_ACCEPT_REMOTE_CLIENTS
    };
    let own_attributes = own_attributes(parameters.security_descriptor, parameters.inheritable);
    let attributes = attributes.or(&own_attributes);
    // SAFETY: the name ends with a NUL; the attributes are null or valid, as their type says, or our
    // own, whose descriptor is borrowed for the call.
    let handle = unsafe {
        CreateNamedPipeW(
            parameters.name.as_ptr(),
            open_mode,
            kind | remote,
            parameters.max_instances.unwrap_or(PIPE_UNLIMITED_INSTANCES),
            parameters.out_buffer_size,
            parameters.in_buffer_size,
            0,
            attributes,
        )
    };
    owned(handle)
}

/// [`CreateFileW`](https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-createfilew).
pub(crate) fn open(parameters: &OpenPipe<'_>, attributes: SecurityAttributes) -> io::Result<OwnedHandle> {
    debug_assert_eq!(parameters.name.last(), Some(&0));
    let mut access = 0;
    if parameters.read {
        access |= GENERIC_READ;
    }
    if parameters.write {
        access |= GENERIC_WRITE;
    } else if parameters.write_attributes {
        access |= FILE_WRITE_ATTRIBUTES;
    }
    if parameters.read_control {
        access |= READ_CONTROL;
    }
    let overlapped = if parameters.synchronous { 0 } else { FILE_FLAG_OVERLAPPED };
    let own_attributes = own_attributes(None, parameters.inheritable);
    // SAFETY: the name ends with a NUL; the attributes are null or valid, as their type says, or our
    // own.
    let handle = unsafe {
        CreateFileW(
            parameters.name.as_ptr(),
            access,
            0,
            attributes.or(&own_attributes),
            OPEN_EXISTING,
            overlapped | parameters.security_quality_of_service,
            ptr::null_mut(),
        )
    };
    owned(handle)
}

/// Returns whether the handle is one of a pipe, as Windows counts sockets too, and not of a file or
/// another device
/// ([`GetFileType`](https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-getfiletype)).
pub(crate) fn is_pipe(handle: &OwnedHandle) -> io::Result<bool> {
    // SAFETY: takes no pointers.
    let kind = unsafe { GetFileType(handle.as_raw_handle()) };
    let error = io::Error::last_os_error();
    if kind == FILE_TYPE_UNKNOWN && error.raw_os_error() != Some(0) {
        return Err(error);
    }
    Ok(kind == FILE_TYPE_PIPE)
}

/// Makes this handle read messages rather than bytes
/// ([`SetNamedPipeHandleState`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-setnamedpipehandlestate)).
pub(crate) fn set_message_reads(handle: &OwnedHandle) -> io::Result<()> {
    let mode = PIPE_READMODE_MESSAGE;
    // SAFETY: the handle is open; null leaves the other settings alone.
    succeeded(unsafe { SetNamedPipeHandleState(handle.as_raw_handle(), &mode, ptr::null(), ptr::null()) })
}

/// [`WaitNamedPipeW`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-waitnamedpipew): waits
/// until an instance of the pipe seems to be free, at least for a millisecond, since 0 means the
/// server's default.
pub(crate) fn wait_for_instance(name: &[u16], limit: Duration) -> io::Result<()> {
    debug_assert_eq!(name.last(), Some(&0));
    // SAFETY: the name ends with a NUL.
    succeeded(unsafe { WaitNamedPipeW(name.as_ptr(), super::milliseconds(Some(limit)).max(1)) })
}

pub(super) fn owned(handle: *mut c_void) -> io::Result<OwnedHandle> {
    if handle == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call that gave the handle succeeded, and nobody else owns it.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle) })
}

/// Sends the request of
/// [`DisconnectNamedPipe`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-disconnectnamedpipe).
pub(crate) fn disconnect(handle: &OwnedHandle) -> io::Result<()> {
    control(handle, FSCTL_PIPE_DISCONNECT, &[], &mut [])
}

/// [`GetNamedPipeInfo`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-getnamedpipeinfo).
pub(crate) fn describe(handle: &OwnedHandle) -> io::Result<PipeDescription> {
    let (mut flags, mut out_buffer_size, mut in_buffer_size, mut max_instances) = (0, 0, 0, 0);
    // SAFETY: the handle is open for the call and the four places are writable.
    succeeded(unsafe {
        GetNamedPipeInfo(
            handle.as_raw_handle(),
            &mut flags,
            &mut out_buffer_size,
            &mut in_buffer_size,
            &mut max_instances,
        )
    })?;
    Ok(PipeDescription {
        server_end: flags & PIPE_SERVER_END != 0,
        message_type: flags & PIPE_TYPE_MESSAGE != 0,
        max_instances,
        out_buffer_size,
        in_buffer_size,
    })
}

/// Whether this handle reads messages rather than bytes
/// ([`GetNamedPipeHandleStateW`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-getnamedpipehandlestatew)).
pub(crate) fn reads_messages(handle: &OwnedHandle) -> io::Result<bool> {
    let mut state = 0;
    // SAFETY: the handle is open for the call; null asks for nothing else.
    succeeded(unsafe {
        GetNamedPipeHandleStateW(
            handle.as_raw_handle(),
            &mut state,
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            0,
        )
    })?;
    Ok(state & PIPE_READMODE_MESSAGE != 0)
}

/// Whether the handle was opened with `FILE_FLAG_OVERLAPPED`: only then do calls on it not wait for
/// one another ([`NtQueryInformationFile`](https://learn.microsoft.com/windows-hardware/drivers/ddi/ntifs/nf-ntifs-ntqueryinformationfile),
/// `FileModeInformation`).
pub(crate) fn is_overlapped(handle: &OwnedHandle) -> io::Result<bool> {
    let mut mode = 0_u32;
    let mut status_block = IO_STATUS_BLOCK::default();
    // SAFETY: the handle is open for the call; FILE_MODE_INFORMATION is the one word that is lent.
    let status = unsafe {
        NtQueryInformationFile(
            handle.as_raw_handle(),
            &mut status_block,
            (&raw mut mode).cast(),
            size_of_val(&mode) as u32,
            FileModeInformation,
        )
    };
    if status < 0 {
        // SAFETY: no preconditions; it translates a number.
        let code = unsafe { RtlNtStatusToDosError(status) };
        return Err(io::Error::from_raw_os_error(code as i32));
    }
    Ok(mode & (FILE_SYNCHRONOUS_IO_ALERT | FILE_SYNCHRONOUS_IO_NONALERT) == 0)
}

/// Returns the data that could be read at once, with the request of
/// [`PeekNamedPipe`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-peeknamedpipe).
pub(crate) fn peek(handle: &OwnedHandle) -> io::Result<Peeked> {
    // FILE_PIPE_PEEK_BUFFER up to the data, of which there is to be none: state, bytes available,
    // number of messages, length of the next.
    let mut answer = [0; 4];
    control(handle, FSCTL_PIPE_PEEK, &[], &mut answer)?;
    let [_, available, _, left_in_message] = answer;
    Ok(Peeked { available: available as usize, left_in_message: left_in_message as usize })
}

/// The state of a pipe instance, as either end sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PipeState {
    /// The server ended the connection.
    Disconnected,
    /// No client has come since the server's end was created, or began to wait again.
    Listening,
    /// Both ends are open.
    Connected,
    /// The other end was closed. The data that it wrote can still be read.
    Closing,
}

/// Returns the state of the pipe
/// ([`NtQueryInformationFile`](https://learn.microsoft.com/windows-hardware/drivers/ddi/ntifs/nf-ntifs-ntqueryinformationfile),
/// `FilePipeLocalInformation`). `ERROR_ACCESS_DENIED` for a server's end that only writes.
pub(crate) fn state(handle: &OwnedHandle) -> io::Result<PipeState> {
    let mut information = FILE_PIPE_LOCAL_INFORMATION::default();
    let mut status_block = IO_STATUS_BLOCK::default();
    // SAFETY: the handle is open for the call; the structure of this class is lent, with its size.
    let status = unsafe {
        NtQueryInformationFile(
            handle.as_raw_handle(),
            &mut status_block,
            (&raw mut information).cast(),
            size_of_val(&information) as u32,
            FilePipeLocalInformation,
        )
    };
    if status < 0 {
        // SAFETY: no preconditions; it translates a number.
        let code = unsafe { RtlNtStatusToDosError(status) };
        return Err(io::Error::from_raw_os_error(code as i32));
    }
    Ok(match information.NamedPipeState {
        FILE_PIPE_DISCONNECTED_STATE => PipeState::Disconnected,
        FILE_PIPE_LISTENING_STATE => PipeState::Listening,
        FILE_PIPE_CLOSING_STATE => PipeState::Closing,
        _ => PipeState::Connected,
    })
}

/// Returns whether the other end is connected and open.
pub(crate) fn is_connected(handle: &OwnedHandle) -> io::Result<bool> {
    state(handle).map(|state| state == PipeState::Connected)
}

/// How many bytes could be read at once, as [`peek`] says.
pub(crate) fn bytes_available(handle: &OwnedHandle) -> io::Result<usize> {
    peek(handle).map(|peeked| peeked.available)
}

/// [`FlushFileBuffers`](https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-flushfilebuffers): blocks the
/// calling thread until the peer has read everything, also on an overlapped handle.
pub(crate) fn flush_blocking(handle: &OwnedHandle) -> io::Result<()> {
    // SAFETY: the handle is open for the call.
    succeeded(unsafe { FlushFileBuffers(handle.as_raw_handle()) })
}

/// [`CancelSynchronousIo`](https://learn.microsoft.com/windows/win32/fileio/cancelsynchronousio-func): ends the call that
/// another thread is blocked in, if it is.
pub(crate) fn cancel_blocking(thread: &JoinHandle<()>) {
    // SAFETY: the join handle keeps the thread's handle open for the call.
    unsafe { CancelSynchronousIo(thread.as_raw_handle()) };
}
