//! Calls of Win32 that no safe crate offers: the tool's only `unsafe`.

#![allow(unsafe_code, reason = "one door to the OS, as in the library")]

use windows_sys::Win32::System::Console::{FreeConsole, GetConsoleProcessList};

/// Leaves the console if no other process is attached to it, whose window then closes. Tells
/// whether that was so. The caller has no stream on it.
///
/// [`GetConsoleProcessList`](https://learn.microsoft.com/windows/console/getconsoleprocesslist),
/// [`FreeConsole`](https://learn.microsoft.com/windows/console/freeconsole).
pub(crate) fn leave_console_of_our_own() -> bool {
    let mut processes = [0; 2];
    // SAFETY: the list is writable for as many numbers as are named.
    let attached = unsafe { GetConsoleProcessList(processes.as_mut_ptr(), processes.len() as u32) };
    // SAFETY: no preconditions.
    attached == 1 && unsafe { FreeConsole() } != 0
}
