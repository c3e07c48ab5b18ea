//! The Win32 calls themselves, one noun a file.

mod directory;
mod event;
mod instance;
mod io;
mod pipe;
mod port;
mod process;
mod security;
mod token;

pub(crate) use directory::{next_pipes, open_pipe_directory};
pub(crate) use event::{
    Cut, Event, Until, Waited, exchange_waiting, flush_waiting, read_now, read_waiting, write_waiting,
};
pub(crate) use instance::{Asked, Instance};
pub(crate) use io::{Overlapped, cancel, connect, exchange, flush, read, write};
pub(crate) use pipe::{
    CreateNamedPipe, OpenPipe, PipeState, SecurityAttributes, bytes_available, cancel_blocking, create,
    describe, disconnect, flush_blocking, is_connected, is_overlapped, is_pipe, open, peek, reads_messages,
    set_message_reads, state, wait_for_instance,
};
pub(crate) use port::{Entry, Port};
pub(crate) use process::{FileTime, now, open_process, peer, program_of, started_at};
pub(crate) use security::{
    Descriptor, DescriptorParts, account_name, descriptor_from_sddl, descriptor_of, descriptor_to_sddl,
    set_descriptor, sid_of_account,
};
pub(crate) use std::os::windows::io::OwnedHandle;
pub(crate) use token::{
    ThreadToken, impersonate_client, impersonation_level, is_member, revert_to_self, thread_token,
    user_of_process, user_of_this_process, user_of_token,
};

use std::time::Duration;

use windows_sys::Win32::Foundation::GetLastError;
use windows_sys::Win32::System::Threading::INFINITE;

/// The calling thread's last error code.
fn last_error() -> u32 {
    // SAFETY: no preconditions; it reads a value of the calling thread.
    unsafe { GetLastError() }
}

/// A time to wait as Win32 takes it. Rounded up: a wait that ends a fraction early would come round
/// again at once.
fn milliseconds(limit: Option<Duration>) -> u32 {
    limit.map_or(INFINITE, |limit| {
        u32::try_from(limit.as_nanos().div_ceil(1_000_000)).unwrap_or(INFINITE - 1).min(INFINITE - 1)
    })
}
