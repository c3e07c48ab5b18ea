//! The Win32 calls themselves, one noun a file.

mod io;
mod pipe;
mod port;

pub(crate) use io::{Overlapped, cancel, connect, read, read_now, write};
pub(crate) use pipe::{
    CreateNamedPipe, OpenPipe, SecurityAttributes, bytes_available, cancel_blocking, create, describe,
    disconnect, flush_blocking, open, reads_messages,
};
pub(crate) use port::{Entry, Port};
pub(crate) use std::os::windows::io::OwnedHandle;

use windows_sys::Win32::Foundation::GetLastError;

/// The calling thread's last error code.
fn last_error() -> u32 {
    // SAFETY: no preconditions; it reads a value of the calling thread.
    unsafe { GetLastError() }
}
