//! Stdin and stdout for data: whatever they are, with no copy that can be had without.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::windows::io::{AsHandle, AsRawHandle};

/// A console needs the standard library's `Stdin`, which turns UTF-16 into UTF-8, and so does a process without a stdin,
/// where it reads nothing. All else is read past its buffer, by a file of our own on the same handle.
pub(crate) fn stdin() -> io::Result<Box<dyn Read + Send>> {
    let stdin = io::stdin();
    if stdin.is_terminal() || is_missing(&stdin) {
        return Ok(Box::new(stdin));
    }
    Ok(Box::new(File::from(stdin.as_handle().try_clone_to_owned()?)))
}

/// `Stdout` splits what it is given at the last newline, which costs binary data a second write for each chunk and a
/// copy; a file of our own on the same handle does not. A console needs `Stdout`, which turns UTF-8 into UTF-16, and so
/// does a process without a stdout, whose data goes nowhere.
pub(crate) fn stdout() -> io::Result<Box<dyn Write + Send>> {
    let stdout = io::stdout();
    if stdout.is_terminal() || is_missing(&stdout) {
        return Ok(Box::new(stdout));
    }
    Ok(Box::new(File::from(stdout.as_handle().try_clone_to_owned()?)))
}

fn is_missing(stream: &impl AsHandle) -> bool {
    stream.as_handle().as_raw_handle().is_null()
}
