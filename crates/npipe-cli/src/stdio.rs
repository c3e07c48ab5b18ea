//! Stdin and stdout for data. Reads of stdin can be neither polled nor cancelled on Windows, so
//! threads of Tokio's pool read and write; the end of the process ends one that still waits.

use std::io;

#[cfg(unix)]
use rustix::event::PollFlags;

use crate::dial::Stream;
use crate::exit::{Exit, Failure};
#[cfg(unix)]
use crate::nonblocking::stdio as streams;

pub(crate) fn open() -> Result<impl Stream, Failure> {
    streams().map_err(|error| Failure::new(Exit::Failure, format!("cannot use stdin and stdout: {error}")))
}

/// Completes when the reader of stdout has gone, which a write would show otherwise.
#[cfg(unix)]
pub(crate) async fn hang_up() {
    use rustix::event::{PollFd, poll};
    use rustix::io::Errno;

    // A thread of its own, which the end of the process ends. What is not polled for is reported
    // too: that the reader of a pipe has gone, and that a socket or a terminal has hung up.
    let gone = tokio::task::spawn_blocking(|| {
        let stdout = io::stdout();
        let Some(event) = event_of_hang_up(&stdout) else { return false };
        let mut stdout = [PollFd::new(&stdout, event)];
        loop {
            match poll(&mut stdout, None) {
                Err(Errno::INTR) => {}
                Ok(_) => return stdout[0].revents().intersects(PollFlags::ERR | PollFlags::HUP),
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

/// Windows shows it by a failed write only.
#[cfg(windows)]
pub(crate) async fn hang_up() {
    std::future::pending().await
}

/// A console needs the standard library's streams, which convert between UTF-16 and UTF-8, and so
/// does a process without a stdin or stdout. All else is a file on the same handle: `Stdin` reads
/// through a buffer of its own, and `Stdout` splits a write at the last newline.
#[cfg(windows)]
fn streams() -> io::Result<impl Stream> {
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
        Either::Left(file(stdout.as_handle())?)
    } else {
        Either::Right(tokio::io::stdout())
    };
    Ok(tokio::io::join(stdin, stdout))
}
