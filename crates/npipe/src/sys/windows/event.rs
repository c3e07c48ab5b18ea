//! Overlapped calls that the calling thread waits for: each is over when its function returns, so
//! it may use the caller's memory.
//!
//! The calls report to an event, whose low bit keeps their packets from a port: a pipe may be tied
//! to one already, or be tied by another thread while the call waits. The event is the thread's
//! own, and is used again: the kernel resets it when an operation starts, so an operation that ends
//! at once costs one system call.

use std::cell::Cell;
use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr;
use std::time::Instant;

use windows_sys::Wdk::Storage::FileSystem::FSCTL_PIPE_FLUSH;
use windows_sys::Win32::Foundation::{
    ERROR_IO_PENDING, ERROR_MORE_DATA, ERROR_OPERATION_ABORTED, WAIT_OBJECT_0, WAIT_TIMEOUT,
};
use windows_sys::Win32::Storage::FileSystem::{ReadFile, WriteFile};
use windows_sys::Win32::System::IO::OVERLAPPED;
use windows_sys::Win32::System::Pipes::TransactNamedPipe;
use windows_sys::Win32::System::Threading::{
    CreateEventW, INFINITE, SetEvent, WaitForMultipleObjects, WaitForSingleObject,
};

use super::io::{Control, Overlapped, cancel, code_of};
use crate::sys::Outcome;

/// An event: a thing to wait for.
#[derive(Debug)]
pub(crate) struct Event(OwnedHandle);

impl Event {
    /// One that stays set until it is reset.
    pub(crate) fn new() -> io::Result<Self> {
        Self::create(true)
    }

    /// One that the first wait which it ends resets.
    pub(crate) fn auto_reset() -> io::Result<Self> {
        Self::create(false)
    }

    /// [`CreateEventW`](https://learn.microsoft.com/windows/win32/api/synchapi/nf-synchapi-createeventw).
    fn create(manual_reset: bool) -> io::Result<Self> {
        // SAFETY: an unnamed event with default security needs no memory of ours.
        let event = unsafe { CreateEventW(ptr::null(), manual_reset.into(), 0, ptr::null()) };
        if event.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call gave a handle that nobody else owns.
        Ok(Self(unsafe { OwnedHandle::from_raw_handle(event) }))
    }

    /// [`SetEvent`](https://learn.microsoft.com/windows/win32/api/synchapi/nf-synchapi-setevent).
    pub(crate) fn set(&self) {
        // SAFETY: the event is open for as long as `self`.
        unsafe { SetEvent(self.0.as_raw_handle()) };
    }

    pub(super) fn handle(&self) -> &OwnedHandle {
        &self.0
    }

    /// Waits until the event is set. Tells what else ended the wait, if so.
    pub(crate) fn wait(&self, until: Until<'_>) -> Option<Cut> {
        const STOP: u32 = WAIT_OBJECT_0 + 1;
        loop {
            let limit = until.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            match self.wait_once(until.stop, super::milliseconds(limit)) {
                WAIT_OBJECT_0 => return None,
                STOP => return Some(Cut::Stopped),
                WAIT_TIMEOUT if until.deadline.is_some_and(|deadline| Instant::now() < deadline) => {}
                WAIT_TIMEOUT => return Some(Cut::Late),
                // Both events are ours and open. If they cannot be waited for, there is no sound way on.
                _ => std::process::abort(),
            }
        }
    }

    fn wait_once(&self, stop: Option<&Event>, milliseconds: u32) -> u32 {
        let event = self.0.as_raw_handle();
        match stop {
            // SAFETY: the event is open for the call.
            None => unsafe { WaitForSingleObject(event, milliseconds) },
            Some(stop) => {
                let events = [event, stop.0.as_raw_handle()];
                // SAFETY: both events are open for the call.
                unsafe { WaitForMultipleObjects(2, events.as_ptr(), 0, milliseconds) }
            }
        }
    }
}

/// How long a call may wait.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Until<'a> {
    /// Until this time, if any.
    pub(crate) deadline: Option<Instant>,
    /// Until this other event is set, if any.
    pub(crate) stop: Option<&'a Event>,
}

/// Why a call was cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Its time was over.
    Late,
    /// The event to stop it was set.
    Stopped,
}

/// The end of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waited {
    /// What it came to: of a call that was cancelled too late, or after it had moved bytes, just
    /// that.
    pub(crate) outcome: Outcome,
    /// Whether it was cancelled here.
    pub(crate) cut: Option<Cut>,
}

/// [`ReadFile`](https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-readfile) straight into `buffer`. An error
/// says that nothing was tried, for lack of an event.
pub(crate) fn read_waiting(handle: &OwnedHandle, buffer: &mut [u8], until: Until<'_>) -> io::Result<Waited> {
    read_within(handle, buffer, Some(until))
}

/// Reads straight into `buffer`, for as long as that takes no waiting: `None` when there is nothing
/// to read yet.
pub(crate) fn read_now(handle: &OwnedHandle, buffer: &mut [u8]) -> Option<Outcome> {
    let outcome = read_within(handle, buffer, None).ok()?.outcome;
    (outcome.bytes > 0 || outcome.code != ERROR_OPERATION_ABORTED).then_some(outcome)
}

fn read_within(handle: &OwnedHandle, buffer: &mut [u8], until: Option<Until<'_>>) -> io::Result<Waited> {
    let length = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
    run(handle, until, |overlapped| {
        // SAFETY: the handle is open; buffer and block outlive the operation, which is over when `run`
        // returns.
        code_of(unsafe {
            ReadFile(handle.as_raw_handle(), buffer.as_mut_ptr(), length, ptr::null_mut(), overlapped)
        })
    })
}

/// [`WriteFile`](https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-writefile)
/// straight from `bytes`, 4 GiB at most, until the pipe has them. Never cut short, because a write
/// that was begun cannot be taken back. An error means that no write was begun, because no event
/// could be created. `submitting` is dropped once the kernel has the write.
pub(crate) fn write_waiting<S>(handle: &OwnedHandle, bytes: &[u8], submitting: S) -> io::Result<Outcome> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let waited = run(handle, Some(Until::default()), |overlapped| {
        // SAFETY: the handle is open; bytes and block outlive the operation, which is over when `run`
        // returns.
        let code = code_of(unsafe {
            WriteFile(handle.as_raw_handle(), bytes.as_ptr(), length, ptr::null_mut(), overlapped)
        });
        drop(submitting);
        code
    })?;
    Ok(waited.outcome)
}

/// [`TransactNamedPipe`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-transactnamedpipe), 4 GiB
/// each way at most. Cut short, it may have sent the request all the same. An error says that
/// nothing was tried, for lack of an event. `submitting` is dropped once the kernel has the
/// request.
pub(crate) fn exchange_waiting<S>(
    handle: &OwnedHandle,
    request: &[u8],
    reply: &mut [u8],
    until: Until<'_>,
    submitting: S,
) -> io::Result<Waited> {
    let length = u32::try_from(request.len()).unwrap_or(u32::MAX);
    let room = u32::try_from(reply.len()).unwrap_or(u32::MAX);
    run(handle, Some(until), |overlapped| {
        // SAFETY: the handle is open; buffers and block outlive the operation, which is over when `run`
        // returns.
        let code = code_of(unsafe {
            TransactNamedPipe(
                handle.as_raw_handle(),
                request.as_ptr().cast(),
                length,
                reply.as_mut_ptr().cast(),
                room,
                ptr::null_mut(),
                overlapped,
            )
        });
        drop(submitting);
        code
    })
}

/// Waits until the peer has read everything, as `FlushFileBuffers` does, but no longer than it may.
/// An error says that nothing was tried, for lack of an event.
pub(crate) fn flush_waiting(handle: &OwnedHandle, until: Until<'_>) -> io::Result<Waited> {
    control_within(
        handle,
        &Control { code: FSCTL_PIPE_FLUSH, input: &[], output: (ptr::null_mut(), 0) },
        until,
    )
}

/// Makes a request of the file system of the pipes and waits for the answer, which goes into
/// `output`: for one that is answered promptly, but which the kernel may answer with *pending* on a
/// handle that is tied to a port. The Win32 functions would then wait on the handle, which other
/// operations signal.
pub(super) fn control(handle: &OwnedHandle, code: u32, input: &[u8], output: &mut [u32]) -> io::Result<()> {
    let request = Control { code, input, output: (output.as_mut_ptr().cast(), size_of_val(output)) };
    let waited = control_within(handle, &request, Until::default())?;
    match waited.outcome.code {
        0 | ERROR_MORE_DATA => Ok(()),
        code => Err(io::Error::from_raw_os_error(code as i32)),
    }
}

fn control_within(handle: &OwnedHandle, request: &Control<'_>, until: Until<'_>) -> io::Result<Waited> {
    run(handle, Some(until), |overlapped| {
        // SAFETY: the block is `run`'s, and holds its event.
        let event = unsafe { (*overlapped).hEvent };
        // SAFETY: block and output outlive the operation, which is over when `run` returns. No
        // packet is requested.
        unsafe { super::io::control(handle, request, event, ptr::null(), overlapped) }
    })
}

/// Submits an operation, which gives a code, and sees it to its end. Without `until` it is
/// cancelled if it has to wait.
fn run(
    handle: &OwnedHandle,
    until: Option<Until<'_>>,
    submit: impl FnOnce(*mut OVERLAPPED) -> u32,
) -> io::Result<Waited> {
    let event = Borrowed::take()?;
    let overlapped = Overlapped::with_event(&event.get().0);
    let code = submit(overlapped.as_ptr());
    match code {
        ERROR_IO_PENDING => {
            let cut = until.map_or(Some(Cut::Late), |until| event.get().wait(until));
            if cut.is_some() {
                cancel(handle, &overlapped);
            }
            // Whatever it takes: the kernel would else write into memory that is gone.
            while !overlapped.is_final() {
                event.get().wait_once(None, INFINITE);
                std::thread::yield_now();
            }
            Ok(Waited { outcome: overlapped.outcome(), cut })
        }
        // Of an immediate failure the block is untouched: there is no count in it.
        0 | ERROR_MORE_DATA => {
            Ok(Waited { outcome: Outcome { code, bytes: overlapped.outcome().bytes }, cut: None })
        }
        code => Ok(Waited { outcome: Outcome { code, bytes: 0 }, cut: None }),
    }
}

thread_local! {
    /// The thread's event, unless a call is using it.
    #[allow(clippy::missing_const_for_thread_local, reason = "it is; the lint misreads the GNU target's expansion")]
    static SPARE: Cell<Option<Event>> = const { Cell::new(None) };
}

/// An event for one operation, given back to the thread when it is over.
struct Borrowed(Option<Event>);

impl Borrowed {
    fn take() -> io::Result<Self> {
        // A thread that is ending has none any more.
        let spare = SPARE.try_with(Cell::take).ok().flatten();
        Ok(Self(Some(spare.map_or_else(Event::new, Ok)?)))
    }

    fn get(&self) -> &Event {
        self.0.as_ref().expect("an event is given back on drop only")
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        let event = self.0.take();
        let _ = SPARE.try_with(|spare| spare.set(event));
    }
}
