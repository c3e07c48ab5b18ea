//! Stdin and stdout as one asynchronous stream. Neither can be polled on Windows, so threads of Tokio's blocking pool
//! read and write them, a chunk at a time, in whatever sizes the relay asks for.

use std::fs;
use std::io::{self, IsTerminal};
use std::os::windows::io::AsHandle;

use tokio::io::{AsyncRead, AsyncWrite};

pub(crate) fn stdio() -> io::Result<impl AsyncRead + AsyncWrite + Unpin> {
    // Reads larger than the 12 KiB of `Stdin`'s own buffer go past it; the relay's are, once data flows. On a console
    // it turns UTF-16 into UTF-8.
    Ok(tokio::io::join(tokio::io::stdin(), stdout()?))
}

/// `Stdout` splits what it is given at the last newline, which costs binary data a second write for each chunk and a
/// copy; a file of our own on the same handle does not. A console needs `Stdout`, which turns UTF-8 into UTF-16.
fn stdout() -> io::Result<Box<dyn AsyncWrite + Unpin>> {
    let stdout = io::stdout();
    if stdout.is_terminal() {
        return Ok(Box::new(tokio::io::stdout()));
    }
    let file = fs::File::from(stdout.as_handle().try_clone_to_owned()?);
    Ok(Box::new(tokio::fs::File::from_std(file)))
}
