//! Stdin and stdout for data. Reads of stdin can be neither polled nor cancelled on Windows, so
//! threads of Tokio's pool read and write; the end of the process ends one that still waits.

use std::io;
#[cfg(windows)]
use std::pin::Pin;
#[cfg(windows)]
use std::task::{Context, Poll, ready};

#[cfg(unix)]
use rustix::event::PollFlags;
#[cfg(windows)]
use tokio::io::AsyncWrite;

use crate::dial::Stream;
use crate::exit::{Exit, Failure};
#[cfg(unix)]
use crate::nonblocking::stdio;

/// The streams, and a future that completes when the reader of stdout has gone, which a write would
/// show otherwise.
pub(crate) fn open() -> Result<(impl Stream, impl Future<Output = ()>), Failure> {
    streams().map_err(|error| Failure::new(Exit::Failure, format!("cannot use stdin and stdout: {error}")))
}

#[cfg(unix)]
fn streams() -> io::Result<(impl Stream, impl Future<Output = ()>)> {
    let (closed, while_open) = io::pipe()?;
    Ok((stdio(Some(while_open))?, hang_up(closed)))
}

/// `closed` ends when stdout is closed here: a poll(2) in progress would keep its file open.
#[cfg(unix)]
async fn hang_up(closed: io::PipeReader) {
    use rustix::event::{PollFd, poll};
    use rustix::io::Errno;

    // A thread of its own, which the end of the process ends. What is not polled for is reported
    // too: that the reader of a pipe has gone, and that a socket or a terminal has hung up.
    let gone = tokio::task::spawn_blocking(move || {
        let stdout = io::stdout();
        let Some(event) = event_of_hang_up(&stdout) else { return false };
        let mut files = [PollFd::new(&stdout, event), PollFd::new(&closed, PollFlags::IN)];
        loop {
            match poll(&mut files, None) {
                Err(Errno::INTR) => {}
                Ok(_) => return files[0].revents().intersects(PollFlags::ERR | PollFlags::HUP),
                Err(_) => return false,
            }
        }
    });
    if !matches!(gone.await, Ok(true)) {
        std::future::pending::<()>().await;
    }
}

#[cfg(all(unix, not(target_vendor = "apple")))]
fn event_of_hang_up(_: &io::Stdout) -> Option<PollFlags> {
    Some(PollFlags::empty())
}

/// XNU reports nothing where no event is polled for, and the hang-up of a pipe with this one, on
/// which iopoll.c of GNU coreutils relies. The end of a socket's other direction would be reported
/// as well, so that a failed write has to show that the reader of a socket has gone.
#[cfg(target_vendor = "apple")]
fn event_of_hang_up(stdout: &io::Stdout) -> Option<PollFlags> {
    use rustix::fs::{FileType, fstat};

    let kind = FileType::from_raw_mode(fstat(stdout).ok()?.st_mode);
    (kind == FileType::Fifo).then_some(PollFlags::RDBAND)
}

/// A stdout that is no console, until it is shut down: then it is closed for the whole process.
#[cfg(windows)]
struct Stdout(Option<tokio::fs::File>);

#[cfg(windows)]
impl AsyncWrite for Stdout {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Some(file) => Pin::new(file).poll_write(cx, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Some(file) => Pin::new(file).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // No thread writes after that.
        let flushed = ready!(self.as_mut().poll_flush(cx));
        if self.0.take().is_some() {
            crate::sys::close_stdout();
        }
        Poll::Ready(flushed)
    }
}

/// A console needs the standard library's streams, which convert between UTF-16 and UTF-8, and so
/// does a process without a stdin or stdout. All else is a file on the same handle: `Stdin` reads
/// through a buffer of its own, and `Stdout` splits a write at the last newline.
///
/// Windows shows by a failed write only that the reader of stdout has gone.
#[cfg(windows)]
fn streams() -> io::Result<(impl Stream, impl Future<Output = ()>)> {
    use std::io::IsTerminal;
    use std::os::windows::io::{AsHandle, AsRawHandle};

    use tokio::fs::File;
    use tokio_util::either::Either;

    fn is_plain(stream: &(impl AsHandle + IsTerminal)) -> bool {
        !stream.is_terminal() && !stream.as_handle().as_raw_handle().is_null()
    }
    let file = |handle: std::os::windows::io::BorrowedHandle<'_>| {
        Ok::<_, io::Error>(File::from_std(handle.try_clone_to_owned()?.into()))
    };
    let (stdin, stdout) = (io::stdin(), io::stdout());
    let stdin = if is_plain(&stdin) {
        Either::Left(file(stdin.as_handle())?)
    } else {
        Either::Right(tokio::io::stdin())
    };
    let stdout = if is_plain(&stdout) {
        Either::Left(Stdout(Some(file(stdout.as_handle())?)))
    } else {
        Either::Right(tokio::io::stdout())
    };
    Ok((tokio::io::join(stdin, stdout), std::future::pending()))
}
