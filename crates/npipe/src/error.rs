//! Errors with what was tried and on which pipe.

use std::fmt;
use std::io;

use crate::name::PipeName;

/// What was being done to a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Creating an instance.
    Create,
    /// Opening the client's end.
    Open,
    /// Waiting for a client.
    Connect,
    /// Reading.
    Read,
    /// Writing or flushing.
    Write,
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Create => "create",
            Self::Open => "open",
            Self::Connect => "wait for a client of",
            Self::Read => "read from",
            Self::Write => "write to",
        })
    }
}

/// A system error with the operation and the pipe's name, for people to read.
///
/// The methods of this crate return plain [`io::Error`]s of the system, because a program tests
/// their [`raw_os_error`](io::Error::raw_os_error), and the standard library keeps that number only
/// in an error without a text of its own. This type carries both: wrap an error where it is shown,
/// or convert it back with `?` and lose nothing.
///
/// ```
/// use npipe::{Error, Operation, PipeName};
///
/// let error = std::io::Error::from(std::io::ErrorKind::NotFound);
/// let error = Error::new(Operation::Open, PipeName::new("inventory")?, error);
/// assert_eq!(error.to_string(), r"cannot open \\.\pipe\inventory: entity not found");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Error {
    operation: Operation,
    name: PipeName,
    source: io::Error,
}

impl Error {
    /// Adds the operation and the name to `source`.
    pub fn new(operation: Operation, name: PipeName, source: io::Error) -> Self {
        Self { operation, name, source }
    }

    /// What was being done.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// To which pipe.
    pub fn name(&self) -> &PipeName {
        &self.name
    }

    /// The kind of the system's error.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// The Win32 code, also where the error has a text of its own and carries the code as its
    /// [`source`](std::error::Error::source).
    pub fn raw_os_error(&self) -> Option<i32> {
        win32_code(&self.source)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "cannot {} {}: {}", self.operation, self.name, self.source)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl From<Error> for io::Error {
    /// The system's error, number and all.
    fn from(error: Error) -> Self {
        error.source
    }
}

/// A message was longer than its receiver allows. It is inside the [`io::Error`] of
/// [`recv_message_limited`](crate::NamedPipeServer::recv_message_limited) and its like, whose kind
/// is [`InvalidData`](io::ErrorKind::InvalidData).
///
/// ```
/// fn is_too_long(error: &std::io::Error) -> bool {
///     error.get_ref().is_some_and(|error| error.is::<npipe::MessageTooLong>())
/// }
/// # assert!(!is_too_long(&std::io::ErrorKind::InvalidData.into()));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageTooLong {
    length: usize,
    limit: usize,
}

impl MessageTooLong {
    #[cfg_attr(not(windows), allow(dead_code, reason = "the faces exist on Windows"))]
    pub(crate) fn new(length: usize, limit: usize) -> Self {
        Self { length, limit }
    }

    /// How long it was, in bytes, as far as it was not read before.
    pub fn length(&self) -> usize {
        self.length
    }

    /// How long it might have been.
    pub fn limit(&self) -> usize {
        self.limit
    }
}

impl fmt::Display for MessageTooLong {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the peer sent a message of {} bytes, and {} are allowed", self.length, self.limit)
    }
}

impl std::error::Error for MessageTooLong {}

/// Whether an error says so of a message, so that the next one may be received.
#[cfg_attr(not(windows), allow(dead_code, reason = "the faces exist on Windows"))]
pub(crate) fn is_message_too_long(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|error| error.is::<MessageTooLong>())
}

impl From<MessageTooLong> for io::Error {
    fn from(error: MessageTooLong) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// Refuses a handle of something else than a pipe.
#[cfg(windows)]
pub(crate) fn not_a_pipe() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a pipe, but a file or another device")
}

/// Refuses to send messages where there are none.
#[cfg_attr(not(windows), allow(dead_code, reason = "the faces exist on Windows"))]
pub(crate) fn carries_bytes() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "the pipe carries bytes, which have no messages: its server has to create it with PipeMode::Message",
    )
}

/// Refuses to receive messages where there are none.
#[cfg_attr(not(windows), allow(dead_code, reason = "the faces exist on Windows"))]
pub(crate) fn reads_bytes() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "this end reads bytes, not messages: the pipe has to be created, and a client's end be opened, with PipeMode::Message",
    )
}

/// Refuses to send a message that the system would not take as one.
#[cfg_attr(not(windows), allow(dead_code, reason = "the faces exist on Windows"))]
pub(crate) fn too_long_to_send() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "a message of 4 GiB or more cannot be written")
}

/// Refuses to write where `close_write` has said that nothing more comes.
#[cfg_attr(not(windows), allow(dead_code, reason = "the faces exist on Windows"))]
pub(crate) fn write_ended() -> io::Error {
    io::Error::new(
        io::ErrorKind::BrokenPipe,
        "nothing can be written any more: close_write has ended this direction",
    )
}

/// The error of an exchange that the peer ended.
#[cfg_attr(not(windows), allow(dead_code, reason = "the faces exist on Windows"))]
pub(crate) fn no_answer() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed its end of the pipe before it answered")
}

/// The error of an empty message that had to be sent before the peer had read what is before it.
#[cfg_attr(not(windows), allow(dead_code, reason = "the faces exist on Windows"))]
pub(crate) fn sent_behind_unread() -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        "the peer did not read everything in time; the empty message was sent behind it all the same",
    )
}

/// An error whose Win32 code alone would mislead: a text, and the error with the code as its
/// source.
#[derive(Debug)]
struct Explained {
    text: String,
    source: io::Error,
}

/// The error of one who waited until the time was over. `waiting` says what for; `last` is its
/// source.
#[cfg_attr(not(windows), expect(dead_code, reason = "the faces exist on Windows"))]
pub(crate) fn gave_up(waiting: String, last: io::Error) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, Explained { text: waiting, source: last })
}

/// The error of a first instance whose name another program has. `source` is `ERROR_ACCESS_DENIED`,
/// or `ERROR_PIPE_BUSY` when all instances exist.
#[cfg_attr(not(windows), allow(dead_code, reason = "the options exist on Windows"))]
pub(crate) fn name_taken(name: &PipeName, source: io::Error) -> io::Error {
    let text = format!(
        "cannot create the first instance of {name}: another program has the name, or this process may not create it: \
         {source}"
    );
    io::Error::new(io::ErrorKind::PermissionDenied, Explained { text, source })
}

/// The Win32 code of an error, or of its source.
pub(crate) fn win32_code(error: &io::Error) -> Option<i32> {
    let source = || std::error::Error::source(error)?.downcast_ref::<io::Error>()?.raw_os_error();
    error.raw_os_error().or_else(source)
}

impl fmt::Display for Explained {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl std::error::Error for Explained {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_operation_and_pipe_and_the_number_survives() {
        let error =
            Error::new(Operation::Open, PipeName::new("x").unwrap(), io::Error::from_raw_os_error(231));
        assert!(error.to_string().starts_with(r"cannot open \\.\pipe\x: "), "{error}");
        assert_eq!(error.raw_os_error(), Some(231));
        assert_eq!(io::Error::from(error).raw_os_error(), Some(231));
    }

    #[test]
    fn a_taken_name_is_no_permission_and_its_number_is_found() {
        for code in [5, 231] {
            let name = PipeName::new("x").unwrap();
            let error = name_taken(&name, io::Error::from_raw_os_error(code));
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
            assert!(error.to_string().contains(r"\\.\pipe\x: another program has the name"), "{error}");
            let source = std::error::Error::source(&error).unwrap().downcast_ref::<io::Error>().unwrap();
            assert_eq!(source.raw_os_error(), Some(code));
            assert_eq!(Error::new(Operation::Create, name, error).raw_os_error(), Some(code));
        }
    }
}
