//! Calls of Win32 and Linux that no safe crate offers: the tool's only `unsafe`.

#![allow(unsafe_code, reason = "one door to the OS, as in the library")]

#[cfg(target_os = "linux")]
pub(crate) use linux::end_with_this_thread;
#[cfg(windows)]
pub(crate) use windows::{close_stdout, leave_console_of_our_own};

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
    use std::io;
    use std::ptr::null_mut;

    use windows_sys::Win32::Foundation::{CloseHandle, INVALID_HANDLE_VALUE};
    use windows_sys::Win32::System::Console::{
        FreeConsole, GetConsoleProcessList, GetStdHandle, STD_ERROR_HANDLE, STD_INPUT_HANDLE,
        STD_OUTPUT_HANDLE, SetStdHandle,
    };

    /// Closes the handle that this process has for its stdout, which has none from then on: its
    /// reader sees the end unless another handle exists. A handle that is stdin or stderr too stays
    /// open.
    ///
    /// [`GetStdHandle`](https://learn.microsoft.com/windows/console/getstdhandle),
    /// [`SetStdHandle`](https://learn.microsoft.com/windows/console/setstdhandle),
    /// [`CloseHandle`](https://learn.microsoft.com/windows/win32/api/handleapi/nf-handleapi-closehandle).
    pub(crate) fn close_stdout() {
        // Threads that write to stdout by the standard library hold this lock during the call.
        let _nothing_is_written = io::stdout().lock();
        // SAFETY: no preconditions.
        let handles = [STD_INPUT_HANDLE, STD_OUTPUT_HANDLE, STD_ERROR_HANDLE]
            .map(|which| unsafe { GetStdHandle(which) });
        let [stdin, stdout, stderr] = handles;
        let is_shared = [stdin, stderr].contains(&stdout);
        if stdout.is_null() || stdout == INVALID_HANDLE_VALUE || is_shared {
            return;
        }
        // SAFETY: no preconditions; null means that there is no stdout.
        if unsafe { SetStdHandle(STD_OUTPUT_HANDLE, null_mut()) } != 0 {
            // SAFETY: the process was given this handle for its stdout and nothing owns it: the
            // standard library and Tokio call `GetStdHandle` for each use, which returns null by
            // now, and no use is in progress while the lock is held. The tool keeps no copy of its
            // value, and its own stream has a duplicate.
            unsafe { CloseHandle(stdout) };
        }
    }

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
