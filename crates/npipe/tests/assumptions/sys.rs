//! Bare Win32 calls for the assumptions: each reports what the system said and judges nothing.
#![expect(unsafe_code, reason = "the beliefs under test are about Win32 calls")]

use std::io;
use std::mem::offset_of;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle, RawHandle};
use std::process::Child;
use std::ptr::{null, null_mut};
use std::thread::JoinHandle;

use windows_sys::Wdk::Storage::FileSystem::{
    FILE_COMPLETION_INFORMATION, FILE_DIRECTORY_INFORMATION, FILE_PIPE_PEEK_BUFFER, FSCTL_PIPE_FLUSH,
    FSCTL_PIPE_PEEK, FileDirectoryInformation, FileIoCompletionNotificationInformation,
    FileReplaceCompletionInformation, NtFsControlFile, NtQueryDirectoryFile, NtQueryInformationFile,
    NtSetInformationFile,
};
use windows_sys::Win32::Foundation::{
    DUPLICATE_SAME_ACCESS, DuplicateHandle, ERROR_IO_PENDING, ERROR_SUCCESS, GENERIC_READ, GENERIC_WRITE,
    GetLastError, INVALID_HANDLE_VALUE, LocalFree, RtlNtStatusToDosError, WAIT_OBJECT_0, WAIT_TIMEOUT,
};
use windows_sys::Win32::Security::Authorization::{
    ConvertStringSecurityDescriptorToSecurityDescriptorW, SDDL_REVISION_1,
};
use windows_sys::Win32::Security::{RevertToSelf, SECURITY_ATTRIBUTES};
use windows_sys::Win32::Storage::FileSystem::{
    CreateFileW, FILE_FLAG_FIRST_PIPE_INSTANCE, FILE_FLAG_OVERLAPPED, FILE_WRITE_ATTRIBUTES,
    FlushFileBuffers, OPEN_EXISTING, PIPE_ACCESS_DUPLEX, PIPE_ACCESS_OUTBOUND, ReadFile,
    SetFileCompletionNotificationModes, WriteFile,
};
use windows_sys::Win32::System::IO::{
    CancelIoEx, CancelSynchronousIo, CreateIoCompletionPort, GetQueuedCompletionStatus, IO_STATUS_BLOCK,
    OVERLAPPED, PostQueuedCompletionStatus,
};
use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleW, GetProcAddress};
use windows_sys::Win32::System::Pipes::{
    ConnectNamedPipe, CreateNamedPipeW, DisconnectNamedPipe, GetNamedPipeClientProcessId, GetNamedPipeInfo,
    GetNamedPipeServerProcessId, ImpersonateNamedPipeClient, PIPE_READMODE_BYTE, PIPE_READMODE_MESSAGE,
    PIPE_SERVER_END, PIPE_TYPE_BYTE, PIPE_TYPE_MESSAGE, PIPE_UNLIMITED_INSTANCES, PeekNamedPipe,
    SetNamedPipeHandleState, TransactNamedPipe,
};
use windows_sys::Win32::System::Threading::{CreateEventW, GetCurrentProcess, WaitForSingleObject};
use windows_sys::Win32::System::WindowsProgramming::{
    FILE_SKIP_COMPLETION_PORT_ON_SUCCESS, FILE_SKIP_SET_EVENT_ON_HANDLE,
};

pub(crate) type Handle = OwnedHandle;

/// What a system error is to these tests: its number.
type Outcome<T> = Result<T, u32>;

fn last_error() -> u32 {
    // SAFETY: takes no pointers.
    unsafe { GetLastError() }
}

fn outcome(done: i32) -> Outcome<()> {
    if done == 0 { Err(last_error()) } else { Ok(()) }
}

fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

fn owned(handle: RawHandle) -> Outcome<Handle> {
    if handle == INVALID_HANDLE_VALUE {
        return Err(last_error());
    }
    // SAFETY: the handle was just made and nothing else owns it.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle) })
}

/// Wine exports its version from ntdll; Windows has no such function.
pub(crate) fn runs_under_wine() -> bool {
    let ntdll = wide("ntdll.dll");
    // SAFETY: the name is NUL-terminated; ntdll is mapped into every process and never unloaded.
    let module = unsafe { GetModuleHandleW(ntdll.as_ptr()) };
    // SAFETY: `module` is ntdll, the name is NUL-terminated.
    unsafe { GetProcAddress(module, c"wine_get_version".as_ptr().cast()) }.is_some()
}

fn create_with(name: &str, open_mode: u32, pipe_mode: u32, instances: u32, quota: u32) -> Outcome<Handle> {
    let name = wide(name);
    // SAFETY: the name is NUL-terminated and outlives the call; no security attributes are given.
    owned(unsafe {
        CreateNamedPipeW(name.as_ptr(), open_mode, pipe_mode, instances, quota, quota, 0, null())
    })
}

fn pipe_mode(message: bool) -> u32 {
    if message { PIPE_TYPE_MESSAGE | PIPE_READMODE_MESSAGE } else { PIPE_TYPE_BYTE }
}

pub(crate) fn create(name: &str, message: bool, quota: u32) -> Outcome<Handle> {
    let open_mode = PIPE_ACCESS_DUPLEX | FILE_FLAG_OVERLAPPED;
    create_with(name, open_mode, pipe_mode(message), PIPE_UNLIMITED_INSTANCES, quota)
}

pub(crate) fn create_first(name: &str, instances: u32) -> Outcome<Handle> {
    let open_mode = PIPE_ACCESS_DUPLEX | FILE_FLAG_OVERLAPPED | FILE_FLAG_FIRST_PIPE_INSTANCE;
    create_with(name, open_mode, PIPE_TYPE_BYTE, instances, 4096)
}

pub(crate) fn create_limited(name: &str, instances: u32) -> Outcome<Handle> {
    create_with(name, PIPE_ACCESS_DUPLEX | FILE_FLAG_OVERLAPPED, PIPE_TYPE_BYTE, instances, 4096)
}

pub(crate) fn create_outbound(name: &str, message: bool) -> Outcome<Handle> {
    let open_mode = PIPE_ACCESS_OUTBOUND | FILE_FLAG_OVERLAPPED;
    create_with(name, open_mode, pipe_mode(message), PIPE_UNLIMITED_INSTANCES, 4096)
}

/// `GetNamedPipeInfo`: whether this is a server's end.
pub(crate) fn is_server_end(pipe: &Handle) -> Outcome<bool> {
    let mut flags = 0;
    // SAFETY: the handle is open, the place is writable; null asks for nothing else.
    outcome(unsafe {
        GetNamedPipeInfo(pipe.as_raw_handle(), &mut flags, null_mut(), null_mut(), null_mut())
    })?;
    Ok(flags & PIPE_SERVER_END != 0)
}

/// Makes the handle read messages, or bytes.
pub(crate) fn set_message_reads(pipe: &Handle, message: bool) -> Outcome<()> {
    let mode = if message { PIPE_READMODE_MESSAGE } else { PIPE_READMODE_BYTE };
    // SAFETY: the handle is open; the mode outlives the call.
    outcome(unsafe { SetNamedPipeHandleState(pipe.as_raw_handle(), &mode, null(), null()) })
}

pub(crate) fn create_synchronous(name: &str) -> Outcome<Handle> {
    create_with(name, PIPE_ACCESS_DUPLEX, PIPE_TYPE_BYTE, PIPE_UNLIMITED_INSTANCES, 4096)
}

/// With an access list, in SDDL.
pub(crate) fn create_protected(name: &str, sddl: &str) -> Outcome<Handle> {
    let (name, sddl) = (wide(name), wide(sddl));
    let mut descriptor = null_mut();
    // SAFETY: the text is NUL-terminated, the place is writable.
    outcome(unsafe {
        ConvertStringSecurityDescriptorToSecurityDescriptorW(
            sddl.as_ptr(),
            SDDL_REVISION_1,
            &mut descriptor,
            null_mut(),
        )
    })?;
    let attributes = SECURITY_ATTRIBUTES {
        nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
        lpSecurityDescriptor: descriptor,
        bInheritHandle: 0,
    };
    let open_mode = PIPE_ACCESS_DUPLEX | FILE_FLAG_OVERLAPPED;
    // SAFETY: the name is NUL-terminated and outlives the call, as do the attributes and the
    // descriptor.
    let pipe = owned(unsafe {
        CreateNamedPipeW(
            name.as_ptr(),
            open_mode,
            PIPE_TYPE_BYTE,
            PIPE_UNLIMITED_INSTANCES,
            4096,
            4096,
            0,
            &attributes,
        )
    });
    // SAFETY: the call above says to free it so; nobody has it any more.
    unsafe { LocalFree(descriptor) };
    pipe
}

pub(crate) fn client_process_id(server: &Handle) -> Outcome<u32> {
    let mut id = 0;
    // SAFETY: the handle is open; the number outlives the call.
    outcome(unsafe { GetNamedPipeClientProcessId(server.as_raw_handle(), &mut id) })?;
    Ok(id)
}

pub(crate) fn server_process_id(client: &Handle) -> Outcome<u32> {
    let mut id = 0;
    // SAFETY: the handle is open; the number outlives the call.
    outcome(unsafe { GetNamedPipeServerProcessId(client.as_raw_handle(), &mut id) })?;
    Ok(id)
}

/// Gives `process` a handle of its own to the same file object.
pub(crate) fn give_to(process: &Child, pipe: &Handle) -> Outcome<()> {
    // The process owns the handle and closes it when it ends.
    let mut its_handle = null_mut();
    // SAFETY: takes no pointers.
    let this_process = unsafe { GetCurrentProcess() };
    // SAFETY: all handles are open for the call, and the place for the new one is writable.
    outcome(unsafe {
        DuplicateHandle(
            this_process,
            pipe.as_raw_handle(),
            process.as_raw_handle(),
            &mut its_handle,
            0,
            0,
            DUPLICATE_SAME_ACCESS,
        )
    })
}

/// Takes on the client's name and lets go of it.
pub(crate) fn impersonate(server: &Handle) -> Outcome<()> {
    // SAFETY: the handle is open for the call.
    outcome(unsafe { ImpersonateNamedPipeClient(server.as_raw_handle()) })?;
    // SAFETY: no preconditions.
    outcome(unsafe { RevertToSelf() })
}

#[derive(Clone, Copy)]
pub(crate) enum Access {
    ReadWrite,
    Read,
    Write,
    ReadAndWriteAttributes,
}

/// Opens a client's end and sets its read mode.
pub(crate) fn open(name: &str, access: Access, message: bool) -> Outcome<Handle> {
    let name = wide(name);
    let access = match access {
        Access::ReadWrite => GENERIC_READ | GENERIC_WRITE,
        Access::Read => GENERIC_READ,
        Access::Write => GENERIC_WRITE,
        Access::ReadAndWriteAttributes => GENERIC_READ | FILE_WRITE_ATTRIBUTES,
    };
    // SAFETY: the name is NUL-terminated and outlives the call; no security attributes, no template.
    let client = owned(unsafe {
        CreateFileW(name.as_ptr(), access, 0, null(), OPEN_EXISTING, FILE_FLAG_OVERLAPPED, null_mut())
    })?;
    if message {
        set_message_reads(&client, true)?;
    }
    Ok(client)
}

/// What an overlapped call answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Issued {
    /// Finished, with this many bytes.
    Done(u32),
    Pending,
    Failed(u32),
}

impl Issued {
    pub(crate) fn pending(self) -> Option<()> {
        (self == Issued::Pending).then_some(())
    }
}

/// STATUS_PENDING, which the calls write into `Internal` and an immediate failure leaves there.
const STATUS_PENDING: usize = 0x103;

struct Block {
    overlapped: OVERLAPPED,
    buffer: Vec<u8>,
}

/// An OVERLAPPED with its buffer. Once it was pending it is never freed: a test does not wait for
/// every packet.
pub(crate) struct Operation {
    block: *mut Block,
    was_pending: bool,
}

// SAFETY: the block is owned by the operation, and by the kernel, which does not mind threads.
unsafe impl Send for Operation {}

impl Operation {
    pub(crate) fn new() -> Self {
        let block = Box::new(Block { overlapped: OVERLAPPED::default(), buffer: Vec::new() });
        Self { block: Box::into_raw(block), was_pending: false }
    }

    fn overlapped(&self) -> *mut OVERLAPPED {
        // SAFETY: the block lives as long as the operation.
        unsafe { &raw mut (*self.block).overlapped }
    }

    /// Resets the OVERLAPPED and gives it a buffer.
    fn prepare(&mut self, buffer: Vec<u8>) -> (*mut u8, u32, *mut OVERLAPPED) {
        assert!(!self.was_pending, "an operation that was pending is not used again");
        // SAFETY: the operation is not in flight, so the block is ours alone.
        let block = unsafe { &mut *self.block };
        *block = Block { overlapped: OVERLAPPED::default(), buffer };
        (block.buffer.as_mut_ptr(), block.buffer.len() as u32, &raw mut block.overlapped)
    }

    /// By which its packet knows it.
    pub(crate) fn id(&self) -> usize {
        self.overlapped() as usize
    }

    /// The count in the OVERLAPPED.
    pub(crate) fn count(&self) -> u32 {
        // SAFETY: read only when the operation is over.
        unsafe { (*self.overlapped()).InternalHigh as u32 }
    }

    /// Whether the system has finished it.
    pub(crate) fn is_final(&self) -> bool {
        // SAFETY: the block lives as long as the operation.
        let status = unsafe { &raw const (*self.overlapped()).Internal };
        // SAFETY: one aligned word, which the system writes whole.
        unsafe { status.read_volatile() != STATUS_PENDING }
    }

    /// Whether a result was written into the OVERLAPPED.
    pub(crate) fn is_untouched(&self) -> bool {
        // SAFETY: read only when the operation is over.
        let overlapped = unsafe { *self.overlapped() };
        [0, STATUS_PENDING].contains(&overlapped.Internal) && overlapped.InternalHigh == 0
    }

    pub(crate) fn buffer(&self, count: usize) -> &[u8] {
        // SAFETY: read only when the operation is over; the block lives as long as the operation.
        let block = unsafe { &*self.block };
        &block.buffer[..count]
    }

    fn issued(&mut self, done: i32) -> Issued {
        self.issued_with(if done != 0 { ERROR_SUCCESS } else { last_error() })
    }

    fn issued_with(&mut self, code: u32) -> Issued {
        match code {
            ERROR_SUCCESS => Issued::Done(self.count()),
            ERROR_IO_PENDING => {
                self.was_pending = true;
                Issued::Pending
            }
            code => Issued::Failed(code),
        }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if !self.was_pending {
            // SAFETY: made by `Box::into_raw`, and the kernel never had it for longer than a call.
            drop(unsafe { Box::from_raw(self.block) });
        }
    }
}

pub(crate) fn read(pipe: &Handle, count: usize, operation: &mut Operation) -> Issued {
    let (buffer, length, overlapped) = operation.prepare(vec![0; count]);
    // SAFETY: buffer and OVERLAPPED live in the operation's block, which outlives the operation in
    // flight.
    let done = unsafe { ReadFile(pipe.as_raw_handle(), buffer, length, null_mut(), overlapped) };
    operation.issued(done)
}

/// [`read`] that reports to an event, and to no port.
pub(crate) fn read_with(pipe: &Handle, event: &Event, count: usize, operation: &mut Operation) -> Issued {
    let (buffer, length, overlapped) = operation.prepare(vec![0; count]);
    // SAFETY: the operation is not in flight, so the block is ours alone.
    unsafe { (*overlapped).hEvent = event.without_packet() };
    // SAFETY: buffer and OVERLAPPED live in the operation's block, which outlives the operation in
    // flight.
    let done = unsafe { ReadFile(pipe.as_raw_handle(), buffer, length, null_mut(), overlapped) };
    operation.issued(done)
}

pub(crate) fn write(pipe: &Handle, data: &[u8], operation: &mut Operation) -> Issued {
    let (buffer, length, overlapped) = operation.prepare(data.to_vec());
    // SAFETY: buffer and OVERLAPPED live in the operation's block, which outlives the operation in
    // flight.
    let done = unsafe { WriteFile(pipe.as_raw_handle(), buffer, length, null_mut(), overlapped) };
    operation.issued(done)
}

/// Sends the request and waits for a reply of up to `room` bytes.
pub(crate) fn exchange(pipe: &Handle, request: &[u8], room: usize, operation: &mut Operation) -> Issued {
    let (reply, length, overlapped) = operation.prepare(vec![0; room]);
    // Copied by the system before the call returns, or in its hands for good.
    let request: &'static [u8] = request.to_vec().leak();
    // SAFETY: the request is never freed; reply and OVERLAPPED live in the operation's block, which
    // outlives the operation in flight.
    let done = unsafe {
        TransactNamedPipe(
            pipe.as_raw_handle(),
            request.as_ptr().cast(),
            request.len() as u32,
            reply.cast(),
            length,
            null_mut(),
            overlapped,
        )
    };
    operation.issued(done)
}

pub(crate) fn connect(server: &Handle, operation: &mut Operation) -> Issued {
    let (_, _, overlapped) = operation.prepare(Vec::new());
    // SAFETY: the OVERLAPPED lives in the operation's block, which outlives the operation in flight.
    let done = unsafe { ConnectNamedPipe(server.as_raw_handle(), overlapped) };
    operation.issued(done)
}

/// An event that the wait which it ends resets.
pub(crate) struct Event(Handle);

impl Event {
    pub(crate) fn new() -> Self {
        // SAFETY: an unnamed event with default security needs no memory of ours.
        let event = unsafe { CreateEventW(null(), 0, 0, null()) };
        assert!(!event.is_null(), "{}", io::Error::last_os_error());
        // SAFETY: the handle was just made and nothing else owns it.
        Self(unsafe { OwnedHandle::from_raw_handle(event) })
    }

    /// For an OVERLAPPED: the low bit keeps the packet from the port.
    fn without_packet(&self) -> RawHandle {
        self.0.as_raw_handle().map_addr(|address| address | 1)
    }

    /// Waits until it is set, and resets it.
    pub(crate) fn wait(&self) {
        // SAFETY: the event is open for as long as `self`.
        let result = unsafe { WaitForSingleObject(self.0.as_raw_handle(), 20_000) };
        assert_eq!(result, WAIT_OBJECT_0, "the event was not set in 20 seconds");
    }

    /// Whether it is set, which it is no more afterwards.
    pub(crate) fn take(&self) -> bool {
        // SAFETY: the event is open for as long as `self`.
        unsafe { WaitForSingleObject(self.0.as_raw_handle(), 0) == WAIT_OBJECT_0 }
    }
}

/// [`connect`] that reports to an event, and to no port.
pub(crate) fn connect_with(server: &Handle, event: &Event, operation: &mut Operation) -> Issued {
    let (_, _, overlapped) = operation.prepare(Vec::new());
    // SAFETY: the operation is not in flight, so the block is ours alone.
    unsafe { (*overlapped).hEvent = event.without_packet() };
    // SAFETY: the OVERLAPPED lives in the operation's block, which outlives the operation in flight.
    let done = unsafe { ConnectNamedPipe(server.as_raw_handle(), overlapped) };
    operation.issued(done)
}

/// `FSCTL_PIPE_FLUSH`.
pub(crate) fn flush(pipe: &Handle, operation: &mut Operation) -> Issued {
    let (_, _, overlapped) = operation.prepare(Vec::new());
    // SAFETY: the OVERLAPPED, which begins with an IO_STATUS_BLOCK, lives in the operation's block,
    // which outlives the operation in flight; the request has no buffers.
    let status = unsafe {
        NtFsControlFile(
            pipe.as_raw_handle(),
            null_mut(),
            None,
            overlapped.cast(),
            overlapped.cast(),
            FSCTL_PIPE_FLUSH,
            null(),
            0,
            null_mut(),
            0,
        )
    };
    // SAFETY: it translates a number.
    operation.issued_with(unsafe { RtlNtStatusToDosError(status) })
}

pub(crate) fn disconnect(server: &Handle) -> Outcome<()> {
    // SAFETY: the handle is open for as long as it is borrowed.
    outcome(unsafe { DisconnectNamedPipe(server.as_raw_handle()) })
}

/// `FSCTL_PIPE_PEEK` with an event of its own and without a completion context.
pub(crate) fn peek_with(pipe: &Handle, event: &Event, operation: &mut Operation) -> Issued {
    const SIZE: usize = size_of::<FILE_PIPE_PEEK_BUFFER>();
    let (buffer, length, overlapped) = operation.prepare(vec![0; SIZE]);
    // SAFETY: buffer and OVERLAPPED, which begins with an IO_STATUS_BLOCK, live in the operation's
    // block, which outlives the operation in flight; the event is open for the call.
    let status = unsafe {
        NtFsControlFile(
            pipe.as_raw_handle(),
            event.0.as_raw_handle(),
            None,
            null(),
            overlapped.cast(),
            FSCTL_PIPE_PEEK,
            null(),
            0,
            buffer.cast(),
            length,
        )
    };
    // SAFETY: it translates a number.
    operation.issued_with(unsafe { RtlNtStatusToDosError(status) })
}

/// How many bytes are there to be read.
pub(crate) fn peek(pipe: &Handle) -> Outcome<u32> {
    let mut available = 0;
    // SAFETY: the handle is open for as long as it is borrowed; only the count is asked for.
    outcome(unsafe {
        PeekNamedPipe(pipe.as_raw_handle(), null_mut(), 0, null_mut(), &mut available, null_mut())
    })?;
    Ok(available)
}

/// How much is left of the message that is next, or was begun.
pub(crate) fn left_in_message(pipe: &Handle) -> Outcome<u32> {
    let mut left = 0;
    // SAFETY: the handle is open; null asks for no data and for no other number.
    let done =
        unsafe { PeekNamedPipe(pipe.as_raw_handle(), null_mut(), 0, null_mut(), null_mut(), &mut left) };
    outcome(done).map(|()| left)
}

pub(crate) fn cancel(pipe: &Handle, operation: &Operation) -> Outcome<()> {
    // SAFETY: the handle is open; the OVERLAPPED is only compared by its address.
    outcome(unsafe { CancelIoEx(pipe.as_raw_handle(), operation.overlapped()) })
}

/// The notification modes of the file object.
pub(crate) fn modes(pipe: &Handle) -> Outcome<u32> {
    // FILE_IO_COMPLETION_NOTIFICATION_INFORMATION, which is this one number.
    let mut modes = 0_u32;
    let mut status_block = IO_STATUS_BLOCK::default();
    // SAFETY: the handle is open for the call, which writes into the number that is lent, of the
    // size given.
    let status = unsafe {
        NtQueryInformationFile(
            pipe.as_raw_handle(),
            &mut status_block,
            (&raw mut modes).cast(),
            size_of_val(&modes) as u32,
            FileIoCompletionNotificationInformation,
        )
    };
    // SAFETY: it translates a number.
    if status < 0 { Err(unsafe { RtlNtStatusToDosError(status) }) } else { Ok(modes) }
}

/// The modes that [`Notify::SkipOnSuccess`] sets.
pub(crate) const SKIP_MODES: u32 = FILE_SKIP_COMPLETION_PORT_ON_SUCCESS | FILE_SKIP_SET_EVENT_ON_HANDLE;

/// When a success at once queues a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notify {
    Always,
    SkipOnSuccess,
}

/// What a completion port hands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) operation: usize,
    pub(crate) code: u32,
    pub(crate) count: u32,
}

/// Takes the handle from its port.
pub(crate) fn untie(pipe: &Handle) -> Outcome<()> {
    let none = FILE_COMPLETION_INFORMATION { Port: null_mut(), Key: null_mut() };
    let mut status_block = IO_STATUS_BLOCK::default();
    // SAFETY: the handle is open for the call, which reads the structure that is lent, of the size that
    // is told.
    let status = unsafe {
        NtSetInformationFile(
            pipe.as_raw_handle(),
            &mut status_block,
            (&raw const none).cast(),
            size_of_val(&none) as u32,
            FileReplaceCompletionInformation,
        )
    };
    // SAFETY: it translates a number.
    if status < 0 { Err(unsafe { RtlNtStatusToDosError(status) }) } else { Ok(()) }
}

pub(crate) struct Port(Handle);

impl Port {
    pub(crate) fn new() -> Self {
        // SAFETY: no handle is tied.
        let port = unsafe { CreateIoCompletionPort(INVALID_HANDLE_VALUE, null_mut(), 0, 1) };
        assert!(!port.is_null(), "CreateIoCompletionPort: {}", io::Error::last_os_error());
        // SAFETY: the port was just made and nothing else owns it.
        Self(unsafe { OwnedHandle::from_raw_handle(port) })
    }

    pub(crate) fn tie(&self, pipe: &Handle, notify: Notify) -> Outcome<()> {
        // SAFETY: both handles are open for as long as they are borrowed.
        let port = unsafe { CreateIoCompletionPort(pipe.as_raw_handle(), self.0.as_raw_handle(), 0, 0) };
        if port.is_null() {
            return Err(last_error());
        }
        match notify {
            Notify::Always => Ok(()),
            Notify::SkipOnSuccess => {
                // SAFETY: the handle is open for as long as it is borrowed.
                outcome(unsafe { SetFileCompletionNotificationModes(pipe.as_raw_handle(), SKIP_MODES as u8) })
            }
        }
    }

    /// A packet that belongs to no operation.
    pub(crate) fn post(&self) {
        // SAFETY: no OVERLAPPED is given.
        outcome(unsafe { PostQueuedCompletionStatus(self.0.as_raw_handle(), 0, 0, null()) })
            .expect("PostQueuedCompletionStatus");
    }

    /// The packet that is there, if any.
    pub(crate) fn poll(&self) -> Option<Packet> {
        self.dequeue(0)
    }

    /// The next packet, which must come.
    pub(crate) fn wait(&self) -> Packet {
        self.dequeue(20_000).expect("no packet came in 20 seconds")
    }

    fn dequeue(&self, milliseconds: u32) -> Option<Packet> {
        let (mut count, mut key, mut overlapped) = (0, 0, null_mut());
        // SAFETY: the port is open; the out-parameters outlive the call.
        let done = unsafe {
            GetQueuedCompletionStatus(
                self.0.as_raw_handle(),
                &mut count,
                &mut key,
                &mut overlapped,
                milliseconds,
            )
        };
        let code = if done == 0 { last_error() } else { 0 };
        if overlapped.is_null() && done == 0 {
            assert_eq!(code, WAIT_TIMEOUT);
            return None;
        }
        Some(Packet { operation: overlapped as usize, code, count })
    }
}

/// `FlushFileBuffers` on a thread of its own.
pub(crate) struct Flushing(JoinHandle<Outcome<()>>);

impl Flushing {
    pub(crate) fn start(pipe: &Handle) -> Self {
        let pipe = pipe.try_clone().expect("the handle can be duplicated");
        Self(std::thread::spawn(move || {
            // SAFETY: the thread owns the handle.
            outcome(unsafe { FlushFileBuffers(pipe.as_raw_handle()) })
        }))
    }

    pub(crate) fn cancel(&self) -> Outcome<()> {
        // SAFETY: the thread's handle is open until it is joined.
        outcome(unsafe { CancelSynchronousIo(self.0.as_raw_handle()) })
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    pub(crate) fn join(self) -> Outcome<()> {
        self.0.join().expect("the thread does not panic")
    }
}

/// What the directory of pipes has for `name` where a file has its size and the room that it takes.
pub(crate) fn sizes_in_the_directory(name: &str) -> Option<(u32, u32)> {
    // SAFETY: the name is NUL-terminated.
    let directory = unsafe {
        CreateFileW(wide(r"\\.\pipe\").as_ptr(), GENERIC_READ, 3, null(), OPEN_EXISTING, 0, null_mut())
    };
    let directory = owned(directory).expect("the directory can be opened");
    // Room for all entries at once.
    let mut buffer = vec![0_u64; 1024 * 1024 / size_of::<u64>()];
    let mut status_block = IO_STATUS_BLOCK::default();
    // SAFETY: the directory is open and not overlapped; the buffer has as many bytes as are named.
    let status = unsafe {
        NtQueryDirectoryFile(
            directory.as_raw_handle(),
            null_mut(),
            None,
            null(),
            &mut status_block,
            buffer.as_mut_ptr().cast(),
            size_of_val(&*buffer) as u32,
            FileDirectoryInformation,
            false,
            null(),
            true,
        )
    };
    assert_eq!(status, 0, "NtQueryDirectoryFile: {status:#x}");
    let bytes: Vec<u8> = buffer.into_iter().flat_map(u64::to_ne_bytes).collect();
    let number =
        |place: usize| u32::from_ne_bytes(*bytes[place..].first_chunk().expect("inside of the buffer"));
    let wanted: Vec<u8> = name.encode_utf16().flat_map(u16::to_ne_bytes).collect();
    let mut entry = 0;
    loop {
        let length = number(entry + offset_of!(FILE_DIRECTORY_INFORMATION, FileNameLength)) as usize;
        if bytes[entry + offset_of!(FILE_DIRECTORY_INFORMATION, FileName)..][..length] == wanted {
            return Some((
                number(entry + offset_of!(FILE_DIRECTORY_INFORMATION, EndOfFile)),
                number(entry + offset_of!(FILE_DIRECTORY_INFORMATION, AllocationSize)),
            ));
        }
        match number(entry + offset_of!(FILE_DIRECTORY_INFORMATION, NextEntryOffset)) {
            0 => return None,
            next => entry += next as usize,
        }
    }
}
