//! Stdin, stdout and stderr as they were inherited. Another program that has the same terminal or socket
//! may have made it non-blocking, and may do so at any time: the flag belongs to the open file, and is
//! left as it is. A call that would block waits with poll(2) instead.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

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
