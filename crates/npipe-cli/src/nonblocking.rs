//! Stdin, stdout and stderr as they were inherited. Another program that has the same terminal or
//! socket may have made it non-blocking, and may do so at any time: the flag belongs to the open
//! file, and is left as it is. A call that would block waits with poll(2) instead.
//!
//! Files and terminals that are blocking cannot be polled for a task, so threads of Tokio's pool
//! make the calls; the end of the process ends one that still waits.

use std::io::{self, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncWrite, Join, ReadBuf, join};
use tokio::task::{JoinHandle, spawn_blocking};

/// The longest call: as much as a relay holds.
const LONGEST: usize = 64 * 1024;

/// Stdin and stdout for data. `while_open` is dropped when stdout is closed.
pub(crate) fn stdio(while_open: Option<PipeWriter>) -> io::Result<Join<Stdin, Stdout>> {
    let file = |file: BorrowedFd<'_>| file.try_clone_to_owned().map(Arc::new);
    let stdin = Stdin {
        file: file(io::stdin().as_fd())?,
        reading: Reading::Buffered { bytes: Vec::new(), taken: 0 },
    };
    let stdout = Stdout { file: Some(file(io::stdout().as_fd())?), writing: None, while_open };
    Ok(join(stdin, stdout))
}

#[derive(Debug)]
pub(crate) struct Stdin {
    file: Arc<OwnedFd>,
    reading: Reading,
}

#[derive(Debug)]
enum Reading {
    /// Of which so many are with the caller.
    Buffered {
        bytes: Vec<u8>,
        taken: usize,
    },
    Running(JoinHandle<io::Result<Vec<u8>>>),
}

impl AsyncRead for Stdin {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Stdin { file, reading } = &mut *self;
        loop {
            match reading {
                Reading::Buffered { bytes, taken } if *taken < bytes.len() => {
                    let length = buffer.remaining().min(bytes.len() - *taken);
                    buffer.put_slice(&bytes[*taken..*taken + length]);
                    *taken += length;
                    return Poll::Ready(Ok(()));
                }
                Reading::Buffered { bytes, .. } => {
                    if buffer.remaining() == 0 {
                        return Poll::Ready(Ok(()));
                    }
                    let (file, mut bytes) = (Arc::clone(file), std::mem::take(bytes));
                    bytes.resize(buffer.remaining().min(LONGEST), 0);
                    *reading = Reading::Running(spawn_blocking(move || {
                        let length = read(&*file, &mut bytes)?;
                        bytes.truncate(length);
                        Ok(bytes)
                    }));
                }
                Reading::Running(running) => {
                    let read = ready!(Pin::new(running).poll(cx)).map_err(io::Error::other);
                    // What follows an end or an error is read by the next call.
                    *reading = Reading::Buffered { bytes: Vec::new(), taken: 0 };
                    let bytes = read??;
                    if bytes.is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                    *reading = Reading::Buffered { bytes, taken: 0 };
                }
            }
        }
    }
}

/// A write that was accepted is reported by the next call, or by `flush`. `shutdown` closes stdout
/// for the whole process.
#[derive(Debug)]
pub(crate) struct Stdout {
    /// None once it is closed.
    file: Option<Arc<OwnedFd>>,
    writing: Option<JoinHandle<io::Result<()>>>,
    while_open: Option<PipeWriter>,
}

impl AsyncWrite for Stdout {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.as_mut().poll_flush(cx))?;
        let Some(file) = &self.file else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
        let (file, bytes) = (Arc::clone(file), bytes[..bytes.len().min(LONGEST)].to_vec());
        let length = bytes.len();
        self.writing = Some(spawn_blocking(move || write_all(&*file, &bytes)));
        Poll::Ready(Ok(length))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(writing) = &mut self.writing else { return Poll::Ready(Ok(())) };
        let written = ready!(Pin::new(writing).poll(cx)).map_err(io::Error::other);
        self.writing = None;
        Poll::Ready(written?)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // No thread writes after that.
        let flushed = ready!(self.as_mut().poll_flush(cx));
        if self.file.take().is_some() {
            self.while_open = None;
            close_stdout();
        }
        Poll::Ready(flushed)
    }
}

/// Puts `/dev/null` in the place of stdout, so that no other file gets its number. Where that cannot
/// be opened, the end of the process closes stdout.
fn close_stdout() {
    let null = rustix::fs::open("/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
    if let Ok(null) = null {
        let _ = rustix::stdio::dup2_stdout(null);
    }
}

fn read(file: impl AsFd, bytes: &mut [u8]) -> io::Result<usize> {
    let file = file.as_fd();
    loop {
        match rustix::io::read(file, &mut *bytes) {
            Ok(read) => return Ok(read),
            Err(error) => wait_if_it_would_block(file, error, PollFlags::IN)?,
        }
    }
}

pub(crate) fn write_all(file: impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    let file = file.as_fd();
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) => wait_if_it_would_block(file, error, PollFlags::OUT)?,
        }
    }
    Ok(())
}

fn wait_if_it_would_block(file: BorrowedFd<'_>, error: Errno, event: PollFlags) -> io::Result<()> {
    match error {
        Errno::INTR => Ok(()),
        Errno::AGAIN => match poll(&mut [PollFd::from_borrowed_fd(file, event)], None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        },
        error => Err(error.into()),
    }
}
