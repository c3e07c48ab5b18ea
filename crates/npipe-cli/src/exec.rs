//! A process as a stream: what is written goes to its stdin, what it writes to stdout is read. It
//! and all that it started end with the stream. Its stderr is ours. Where it fails, its output ends
//! with an error.
//!
//! When npipe is ended without a moment for itself (SIGKILL, TerminateProcess), the kernel ends on
//! Windows all processes of the job, on Linux the process alone, and elsewhere none: those that go
//! on notice it by the end of their streams.

use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use process_wrap::tokio::{ChildWrapper, CommandWrap, KillOnDrop};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, Sleep, sleep};

use crate::dial::Stream;
#[cfg(target_os = "linux")]
use crate::sys;

pub(crate) struct Process {
    /// Gone once the process has been told the end of its input.
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    output: Output,
    child: Box<dyn ChildWrapper>,
}

/// How far the output is, at whose end the process has a moment to end itself.
enum Output {
    Open,
    Ended { looks: u32, pause: Pin<Box<Sleep>> },
    Settled,
}

/// How often a process is looked at whose output has ended, and how many times.
const LOOK: Duration = Duration::from_millis(10);
const LOOKS: u32 = 100;

/// The kind of the error that takes the place of the end of a process that failed.
pub(crate) const FAILED: io::ErrorKind = io::ErrorKind::UnexpectedEof;

impl Process {
    pub(crate) fn start(line: &str) -> io::Result<Process> {
        let mut command = command(line);
        // This is the main thread, which runs all tasks and ends with the process.
        #[cfg(target_os = "linux")]
        sys::end_with_this_thread(&mut command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut wrapped = CommandWrap::from(command);
        wrapped.wrap(KillOnDrop);
        contain(&mut wrapped);
        let mut child = wrapped.spawn()?;
        let stdout = child.stdout().take().ok_or_else(|| io::Error::other("the process has no stdout"))?;
        Ok(Process { stdin: child.stdin().take(), stdout, output: Output::Open, child })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // `KillOnDrop` knows of the first process only, and reaps it. An error means that all are gone.
        let _ = self.child.start_kill();
    }
}

#[cfg(unix)]
fn command(line: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(line);
    command
}

/// The program is the first word; the rest is its own to take apart, as always on Windows.
#[cfg(windows)]
fn command(line: &str) -> Command {
    let (program, arguments) = split_program(line);
    let mut command = Command::new(program);
    command.raw_arg(arguments);
    command
}

#[cfg(any(windows, test))]
fn split_program(line: &str) -> (&str, &str) {
    let line = line.trim_start();
    let (program, arguments) = match line.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
        None => line.split_once(char::is_whitespace).unwrap_or((line, "")),
    };
    (program, arguments.trim_start())
}

#[cfg(unix)]
fn contain(command: &mut CommandWrap) {
    command.wrap(process_wrap::tokio::ProcessGroup::leader());
}

#[cfg(windows)]
fn contain(command: &mut CommandWrap) {
    use process_wrap::tokio::{CreationFlags, JobObject};
    use windows::Win32::System::Threading::CREATE_NO_WINDOW;

    command.wrap(CreationFlags(CREATE_NO_WINDOW)).wrap(JobObject);
}

impl Stream for Process {}

impl AsyncRead for Process {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Process { stdout, output, child, .. } = &mut *self;
        loop {
            match output {
                Output::Open => {
                    let before = buffer.filled().len();
                    ready!(Pin::new(&mut *stdout).poll_read(cx, buffer))?;
                    if buffer.filled().len() > before || buffer.remaining() == 0 {
                        return Poll::Ready(Ok(()));
                    }
                    *output = Output::Ended { looks: 0, pause: Box::pin(sleep(Duration::ZERO)) };
                }
                Output::Ended { looks, pause } => match child.try_wait()? {
                    Some(status) => {
                        *output = Output::Settled;
                        if !status.success() {
                            let failed = io::Error::new(FAILED, format!("the command failed: {status}"));
                            return Poll::Ready(Err(failed));
                        }
                    }
                    None if *looks == LOOKS => *output = Output::Settled,
                    None => {
                        ready!(pause.as_mut().poll(cx));
                        pause.as_mut().reset(Instant::now() + LOOK);
                        *looks += 1;
                    }
                },
                Output::Settled => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl AsyncWrite for Process {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stdin {
            Some(stdin) => Pin::new(stdin).poll_write(cx, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stdin {
            Some(stdin) => Pin::new(stdin).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(self.as_mut().poll_flush(cx));
        self.stdin = None;
        Poll::Ready(flushed)
    }
}

#[cfg(test)]
mod tests {
    use super::split_program;

    #[test]
    fn the_program_is_the_first_word_and_the_rest_is_left_alone() {
        for (line, program, arguments) in [
            ("cat", "cat", ""),
            (r"  ssh-add  -l ", "ssh-add", "-l "),
            (r#""C:\Program Files\x.exe" "a b" c"#, r"C:\Program Files\x.exe", r#""a b" c"#),
            (r#""never closed"#, "never closed", ""),
        ] {
            assert_eq!(split_program(line), (program, arguments), "{line}");
        }
    }
}
