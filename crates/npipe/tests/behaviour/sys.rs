//! Every Win32 call of the suite: a foreign process's side of a pipe, handles made elsewhere, and
//! the measures of the process (threads, memory, handles). No assertion and no use of the library
//! beyond handing it a handle.
#![expect(unsafe_code, reason = "tests play the part of programs that do not use the library")]

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::windows::io::{AsHandle, AsRawHandle, FromRawHandle, IntoRawHandle, OwnedHandle, RawHandle};
use std::ptr::{null, null_mut};

use npipe::{ClientOptions, NamedPipeClient, NamedPipeServer, ServerOptions};
use windows_sys::Win32::Foundation::{
    CloseHandle, ERROR_IO_PENDING, ERROR_NO_TOKEN, GENERIC_READ, GENERIC_WRITE, GetHandleInformation,
    HANDLE_FLAG_INHERIT, INVALID_HANDLE_VALUE,
};
use windows_sys::Win32::Security::{
    ImpersonateAnonymousToken, RevertToSelf, SECURITY_ATTRIBUTES, TOKEN_QUERY,
};
use windows_sys::Win32::Storage::FileSystem::{
    CreateFileW, FILE_FLAG_OVERLAPPED, FILE_WRITE_ATTRIBUTES, OPEN_EXISTING, PIPE_ACCESS_DUPLEX,
    PIPE_ACCESS_INBOUND, PIPE_ACCESS_OUTBOUND, ReadFile, SECURITY_IDENTIFICATION, SECURITY_SQOS_PRESENT,
    WriteFile,
};
use windows_sys::Win32::System::Diagnostics::ToolHelp::{
    CreateToolhelp32Snapshot, TH32CS_SNAPTHREAD, THREADENTRY32, Thread32First, Thread32Next,
};
use windows_sys::Win32::System::IO::{CreateIoCompletionPort, GetOverlappedResult, OVERLAPPED};
use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleW, GetProcAddress};
use windows_sys::Win32::System::Pipes::{
    CreateNamedPipeW, DisconnectNamedPipe, GetNamedPipeHandleStateW, PIPE_READMODE_MESSAGE, PIPE_TYPE_BYTE,
    PIPE_TYPE_MESSAGE, PIPE_UNLIMITED_INSTANCES, SetNamedPipeHandleState,
};
use windows_sys::Win32::System::ProcessStatus::{GetProcessMemoryInfo, PROCESS_MEMORY_COUNTERS};
use windows_sys::Win32::System::Threading::{
    CreateEventW, GetCurrentProcess, GetCurrentProcessId, GetCurrentThread, GetProcessHandleCount,
    OpenThreadToken,
};

fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

/// Wine exports its version from ntdll; Windows has no such function.
pub(crate) fn runs_under_wine() -> bool {
    let ntdll = wide("ntdll.dll");
    // SAFETY: the name is NUL-terminated; ntdll is mapped into every process and never unloaded.
    let module = unsafe { GetModuleHandleW(ntdll.as_ptr()) };
    // SAFETY: `module` is ntdll, the name is NUL-terminated.
    unsafe { GetProcAddress(module, c"wine_get_version".as_ptr().cast()) }.is_some()
}

/// How a handle made here is opened: what the library expects, or what it must refuse.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum HandleKind {
    Overlapped,
    Synchronous,
}

impl HandleKind {
    fn flag(self) -> u32 {
        match self {
            HandleKind::Overlapped => FILE_FLAG_OVERLAPPED,
            HandleKind::Synchronous => 0,
        }
    }
}

/// A server instance of byte type, made without the library.
pub(crate) fn create_pipe(name: &str, kind: HandleKind) -> io::Result<OwnedHandle> {
    create_pipe_of_type(name, kind, PIPE_TYPE_BYTE)
}

/// A server instance that writes and reads messages, made without the library.
pub(crate) fn create_message_pipe(name: &str, kind: HandleKind) -> io::Result<OwnedHandle> {
    create_pipe_of_type(name, kind, PIPE_TYPE_MESSAGE | PIPE_READMODE_MESSAGE)
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Directions {
    Both,
    /// From the server to the client.
    Outbound,
    /// From the client to the server.
    Inbound,
}

impl Directions {
    pub(crate) fn outbound(self) -> bool {
        !matches!(self, Directions::Inbound)
    }

    pub(crate) fn inbound(self) -> bool {
        !matches!(self, Directions::Outbound)
    }
}

/// An overlapped server instance that has no more rights than its directions need.
pub(crate) fn create_pipe_of(name: &str, directions: Directions, messages: bool) -> io::Result<OwnedHandle> {
    let access = match directions {
        Directions::Both => PIPE_ACCESS_DUPLEX,
        Directions::Outbound => PIPE_ACCESS_OUTBOUND,
        Directions::Inbound => PIPE_ACCESS_INBOUND,
    };
    let pipe_type = if messages { PIPE_TYPE_MESSAGE | PIPE_READMODE_MESSAGE } else { PIPE_TYPE_BYTE };
    create_pipe_with(name, access | FILE_FLAG_OVERLAPPED, pipe_type)
}

/// An overlapped client of it, which reads messages where it can, and may be identified from the
/// beginning.
pub(crate) fn open_pipe_of(name: &str, directions: Directions, messages: bool) -> io::Result<OwnedHandle> {
    let access = match directions {
        Directions::Both => GENERIC_READ | GENERIC_WRITE,
        Directions::Outbound => GENERIC_READ | FILE_WRITE_ATTRIBUTES,
        Directions::Inbound => GENERIC_WRITE,
    };
    let flags = FILE_FLAG_OVERLAPPED | SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION;
    let handle = open_pipe_with(name, access, flags)?;
    if messages && directions.outbound() {
        read_messages(&handle)?;
    }
    Ok(handle)
}

fn create_pipe_of_type(name: &str, kind: HandleKind, pipe_type: u32) -> io::Result<OwnedHandle> {
    create_pipe_with(name, PIPE_ACCESS_DUPLEX | kind.flag(), pipe_type)
}

fn create_pipe_with(name: &str, open_mode: u32, pipe_type: u32) -> io::Result<OwnedHandle> {
    let name = wide(name);
    // SAFETY: the name is NUL-terminated and outlives the call; no security attributes are given.
    let handle = unsafe {
        CreateNamedPipeW(name.as_ptr(), open_mode, pipe_type, PIPE_UNLIMITED_INSTANCES, 4096, 4096, 0, null())
    };
    owned(handle)
}

/// A client's handle, opened without the library.
pub(crate) fn open_pipe(name: &str, kind: HandleKind) -> io::Result<OwnedHandle> {
    open_pipe_with(name, GENERIC_READ | GENERIC_WRITE, kind.flag())
}

fn open_pipe_with(name: &str, access: u32, flags: u32) -> io::Result<OwnedHandle> {
    let name = wide(name);
    // SAFETY: the name is NUL-terminated and outlives the call; no security attributes, no template.
    let handle = unsafe { CreateFileW(name.as_ptr(), access, 0, null(), OPEN_EXISTING, flags, null_mut()) };
    owned(handle)
}

fn owned(handle: RawHandle) -> io::Result<OwnedHandle> {
    if handle == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the handle was just made and nothing else owns it.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle) })
}

/// A blocking client, as any program's `CreateFile` makes it; it reads whole messages if asked.
pub(crate) fn blocking_client(name: &str, message_reads: bool) -> io::Result<File> {
    let handle = open_pipe(name, HandleKind::Synchronous)?;
    if message_reads {
        read_messages(&handle)?;
    }
    Ok(File::from(handle))
}

fn read_messages(handle: &OwnedHandle) -> io::Result<()> {
    // SAFETY: the handle is open; the mode outlives the call.
    let set =
        unsafe { SetNamedPipeHandleState(handle.as_raw_handle(), &PIPE_READMODE_MESSAGE, null(), null()) };
    if set == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `DisconnectNamedPipe` on a server instance made here.
pub(crate) fn disconnect(server: &impl AsRawHandle) -> io::Result<()> {
    // SAFETY: the handle is open for as long as it is borrowed.
    match unsafe { DisconnectNamedPipe(server.as_raw_handle()) } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// How many instances the pipe has that this handle belongs to.
pub(crate) fn instances(pipe: &impl AsHandle) -> u32 {
    let mut instances = 0;
    // SAFETY: the handle is open for as long as it is borrowed; only the instance count is asked for.
    let done = unsafe {
        GetNamedPipeHandleStateW(
            pipe.as_handle().as_raw_handle(),
            null_mut(),
            &mut instances,
            null_mut(),
            null_mut(),
            null_mut(),
            0,
        )
    };
    assert_ne!(done, 0, "GetNamedPipeHandleState: {}", io::Error::last_os_error());
    instances
}

/// Does something as the anonymous user, who is nobody.
pub(crate) fn anonymously<T>(act: impl FnOnce() -> T) -> T {
    // SAFETY: the pseudo handle is that of the calling thread, and needs no closing.
    let thread = unsafe { GetCurrentThread() };
    // SAFETY: the handle is valid.
    let done = unsafe { ImpersonateAnonymousToken(thread) };
    assert_ne!(done, 0, "ImpersonateAnonymousToken: {}", io::Error::last_os_error());
    let result = act();
    // SAFETY: no preconditions.
    let done = unsafe { RevertToSelf() };
    assert_ne!(done, 0, "RevertToSelf: {}", io::Error::last_os_error());
    result
}

/// Whether the calling thread acts in somebody's name.
pub(crate) fn thread_impersonates() -> bool {
    let mut token = null_mut();
    // SAFETY: the pseudo handle is that of the calling thread, and needs no closing.
    let thread = unsafe { GetCurrentThread() };
    // SAFETY: the handle is valid, the place is writable.
    let done = unsafe { OpenThreadToken(thread, TOKEN_QUERY, 1, &mut token) };
    if done == 0 {
        let error = io::Error::last_os_error();
        assert_eq!(error.raw_os_error(), Some(ERROR_NO_TOKEN as i32), "OpenThreadToken: {error}");
        return false;
    }
    // SAFETY: the handle was made here and is used nowhere else.
    unsafe { CloseHandle(token) };
    true
}

/// Whether a child process would inherit the handle.
pub(crate) fn is_inheritable(handle: &impl AsHandle) -> bool {
    let mut flags = 0;
    // SAFETY: the handle is open for as long as it is borrowed.
    let done = unsafe { GetHandleInformation(handle.as_handle().as_raw_handle(), &mut flags) };
    assert_ne!(done, 0, "GetHandleInformation: {}", io::Error::last_os_error());
    flags & HANDLE_FLAG_INHERIT != 0
}

/// A completion port that `handle` is tied to from now on: no other port can have it.
pub(crate) fn tie_to_own_port(handle: &impl AsRawHandle) -> io::Result<OwnedHandle> {
    // SAFETY: the handle is open; the key is never looked at, as nothing waits on the port.
    let port = unsafe { CreateIoCompletionPort(handle.as_raw_handle(), null_mut(), 0, 1) };
    if port.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the port was just made and nothing else owns it.
    Ok(unsafe { OwnedHandle::from_raw_handle(port) })
}

/// An overlapped read without an event, whose packet goes to the port that the handle is tied to,
/// if any. Its memory is never freed, and has nothing but zeros around it: who takes it for
/// something else is found out.
pub(crate) fn begin_read_for_ever(pipe: &impl AsRawHandle) {
    let buffer = Box::leak(Box::new([0_u8; 64]));
    let overlapped = &mut Box::leak(Box::new([OVERLAPPED::default(); 64]))[32];
    // SAFETY: the handle is open; buffer and OVERLAPPED live for ever.
    unsafe { ReadFile(pipe.as_raw_handle(), buffer.as_mut_ptr(), 64, null_mut(), overlapped) };
}

/// Reads from the standard input, a pipe, as programs do that use overlapped handles, and writes
/// the answer to it likewise.
pub(crate) fn answer_on_overlapped_stdin() {
    let stdin = io::stdin();
    let pipe = stdin.as_raw_handle();
    let mut answer = read_overlapped(&stdin, true, || ());
    answer.make_ascii_uppercase();
    finish(
        pipe,
        true,
        || (),
        |overlapped| {
            // SAFETY: the handle is open; answer and OVERLAPPED are valid until `finish` has seen
            // the end of the operation.
            unsafe { WriteFile(pipe, answer.as_ptr(), answer.len() as u32, null_mut(), overlapped) }
        },
    );
}

/// A read, which is waited for by an event, or by the handle itself, when `meanwhile` has been
/// done.
pub(crate) fn read_overlapped(
    pipe: &impl AsRawHandle,
    with_event: bool,
    meanwhile: impl FnOnce(),
) -> Vec<u8> {
    let pipe = pipe.as_raw_handle();
    let mut buffer = vec![0_u8; 64];
    let read = finish(pipe, with_event, meanwhile, |overlapped| {
        // SAFETY: the handle is open; buffer and OVERLAPPED are valid until `finish` has seen the
        // end of the operation.
        unsafe { ReadFile(pipe, buffer.as_mut_ptr(), 64, null_mut(), overlapped) }
    });
    buffer.truncate(read as usize);
    buffer
}

/// Starts an overlapped operation, which queues a packet on the port of the handle, if there is
/// one, and waits for it.
fn finish(
    pipe: RawHandle,
    with_event: bool,
    meanwhile: impl FnOnce(),
    begin: impl FnOnce(*mut OVERLAPPED) -> i32,
) -> u32 {
    // SAFETY: takes no pointers that are not null.
    let event = if with_event { unsafe { CreateEventW(null(), 1, 0, null()) } } else { null_mut() };
    let mut overlapped = OVERLAPPED { hEvent: event, ..OVERLAPPED::default() };
    let begun = begin(&mut overlapped);
    let pending = io::Error::last_os_error().raw_os_error() == Some(ERROR_IO_PENDING as i32);
    assert!(begun != 0 || pending, "{}", io::Error::last_os_error());
    meanwhile();
    let mut bytes = 0;
    // SAFETY: the operation was begun with this block.
    let done = unsafe { GetOverlappedResult(pipe, &overlapped, &mut bytes, 1) };
    assert_ne!(done, 0, "GetOverlappedResult: {}", io::Error::last_os_error());
    if with_event {
        // SAFETY: the event was made here and is used nowhere else.
        unsafe { CloseHandle(event) };
    }
    bytes
}

/// Tokio's client on a handle that is given away.
#[cfg(feature = "tokio")]
pub(crate) fn adopt_for_tokio(
    handle: RawHandle,
) -> io::Result<tokio::net::windows::named_pipe::NamedPipeClient> {
    // SAFETY: ownership of the handle moves to Tokio.
    unsafe { tokio::net::windows::named_pipe::NamedPipeClient::from_raw_handle(handle) }
}

/// `NamedPipeServer::from_raw_handle` of a handle made here.
pub(crate) fn adopt_server(handle: OwnedHandle) -> io::Result<NamedPipeServer> {
    // SAFETY: ownership of the handle moves to the library.
    unsafe { NamedPipeServer::from_raw_handle(handle.into_raw_handle()) }
}

/// `NamedPipeClient::from_raw_handle` of a handle made here.
pub(crate) fn adopt_client(handle: OwnedHandle) -> io::Result<NamedPipeClient> {
    // SAFETY: ownership of the handle moves to the library.
    unsafe { NamedPipeClient::from_raw_handle(handle.into_raw_handle()) }
}

/// `PipeStream::from_raw_handle` of a handle made here.
#[cfg(not(npipe_test_always_queue))]
pub(crate) fn adopt_blocking(handle: OwnedHandle) -> io::Result<npipe::blocking::PipeStream> {
    // SAFETY: ownership of the handle moves to the library; there are no duplicates of it.
    unsafe { npipe::blocking::PipeStream::from_raw_handle(handle.into_raw_handle()) }
}

/// What passes for a handle and is none.
pub(crate) fn nonsense(value: usize) -> OwnedHandle {
    // SAFETY: no handle of this process has the value, so nothing is owned twice, and closing it does
    // nothing.
    unsafe { OwnedHandle::from_raw_handle(value as RawHandle) }
}

/// A pair whose handles are inherited by child processes, by explicit security attributes.
pub(crate) fn inheritable_pair(name: &str) -> io::Result<(NamedPipeServer, NamedPipeClient)> {
    let mut attributes = SECURITY_ATTRIBUTES {
        nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
        lpSecurityDescriptor: null_mut(),
        bInheritHandle: 1,
    };
    let attributes: *mut c_void = (&raw mut attributes).cast();
    // SAFETY: the attributes are initialised and outlive the call.
    let server = unsafe { ServerOptions::new().create_with_security_attributes_raw(name, attributes) }?;
    // SAFETY: as above.
    let client = unsafe { ClientOptions::new().open_with_security_attributes_raw(name, attributes) }?;
    Ok((server, client))
}

/// How many threads this process has.
pub(crate) fn thread_count() -> usize {
    // SAFETY: takes no pointers.
    let snapshot = unsafe { CreateToolhelp32Snapshot(TH32CS_SNAPTHREAD, 0) };
    let snapshot = owned(snapshot).expect("a snapshot of the threads can be taken");
    // SAFETY: takes no pointers.
    let process = unsafe { GetCurrentProcessId() };
    let mut entry = THREADENTRY32 { dwSize: size_of::<THREADENTRY32>() as u32, ..THREADENTRY32::default() };
    let mut count = 0;
    // SAFETY: the snapshot is open, the entry says its size.
    let mut more = unsafe { Thread32First(snapshot.as_raw_handle(), &mut entry) };
    while more != 0 {
        if entry.th32OwnerProcessID == process {
            count += 1;
        }
        // SAFETY: as above.
        more = unsafe { Thread32Next(snapshot.as_raw_handle(), &mut entry) };
    }
    count
}

/// Bytes this process has resident, and bytes it has committed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(crate) resident: usize,
    pub(crate) committed: usize,
}

pub(crate) fn memory() -> Memory {
    let mut counters = PROCESS_MEMORY_COUNTERS::default();
    let size = size_of::<PROCESS_MEMORY_COUNTERS>() as u32;
    // SAFETY: takes no pointers; the pseudo handle needs no closing.
    let process = unsafe { GetCurrentProcess() };
    // SAFETY: the structure has the size that is passed.
    let done = unsafe { GetProcessMemoryInfo(process, &mut counters, size) };
    assert_ne!(done, 0, "GetProcessMemoryInfo: {}", io::Error::last_os_error());
    Memory { resident: counters.WorkingSetSize, committed: counters.PagefileUsage }
}

/// A number that grows with the handles this process leaks. Windows counts them. Wine answers 0,
/// but gives a new handle the lowest free place in its table, so that the value of a fresh handle
/// tells how far the table is filled.
pub(crate) fn handle_watermark() -> usize {
    let mut count = 0;
    // SAFETY: takes no pointers; the pseudo handle needs no closing.
    let process = unsafe { GetCurrentProcess() };
    // SAFETY: the count outlives the call.
    let done = unsafe { GetProcessHandleCount(process, &mut count) };
    if done != 0 && count != 0 {
        return count as usize;
    }
    // SAFETY: no name, no attributes.
    let event = unsafe { CreateEventW(null(), 1, 0, null()) };
    assert!(!event.is_null(), "CreateEvent: {}", io::Error::last_os_error());
    // SAFETY: the event was made here and is used nowhere else.
    unsafe { CloseHandle(event) };
    event as usize / 4
}
