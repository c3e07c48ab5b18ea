//! Calls of Win32 and Linux that no safe crate offers: the tool's only `unsafe`.

#![allow(unsafe_code, reason = "one door to the OS, as in the library")]

#[cfg(target_os = "linux")]
pub(crate) use linux::end_with_this_thread;
#[cfg(windows)]
pub(crate) use windows::leave_console_of_our_own;

#[cfg(target_os = "linux")]
mod linux {
    use rustix::io::Errno;
    use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};
    use tokio::process::Command;

    /// Has the kernel kill the process that `command` starts when the thread that starts it ends,
    /// also by SIGKILL: PR_SET_PDEATHSIG(2const). What that process has started goes on. A program
    /// with set-user-ID or capabilities of its file is not killed.
    pub(crate) fn end_with_this_thread(command: &mut Command) {
        let parent = getpid();
        let prepare = move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // The parent may have ended before. It is not visible from another PID namespace.
            match getppid() {
                Some(found) if found != parent => Err(Errno::SRCH.into()),
                Some(_) | None => Ok(()),
            }
        };
        // SAFETY: between fork and exec the closure makes two system calls, prctl and getppid, and
        // turns an error number into an `io::Error`. It neither allocates, locks, panics nor uses
        // memory that other threads may have been changing.
        unsafe { command.pre_exec(prepare) };
    }
}

#[cfg(windows)]
mod windows {
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
}
