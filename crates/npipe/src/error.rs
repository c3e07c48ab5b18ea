//! The errors that are not plain ones of Windows, and their texts.

use std::fmt;
use std::io;

use crate::name::PipeName;

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

/// Refuses an exchange on an end that has one direction only.
#[cfg_attr(not(windows), allow(dead_code, reason = "exchanges are made on Windows"))]
pub(crate) fn one_way() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "an exchange needs an end that reads and writes: this end was made for one direction only",
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

impl PipeName {
    /// Adds this name and what was tried to an error, for people to read: `cannot open
    /// \\.\pipe\inventory: ...`. The kind stays, and [`win32_code`] returns the
    /// code. An error of this crate that names its pipe already is returned as it is.
    ///
    /// ```
    /// # fn open(_: &npipe::PipeName) -> std::io::Result<()> { Err(std::io::ErrorKind::NotFound.into()) }
    /// let name = npipe::PipeName::new("inventory")?;
    /// let result = open(&name).map_err(|error| name.describe("open", error));
    /// assert_eq!(result.unwrap_err().to_string(), r"cannot open \\.\pipe\inventory: entity not found");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use = "it returns the error with the description"]
    pub fn describe(&self, operation: &str, error: io::Error) -> io::Error {
        if error.get_ref().is_some_and(|inner| inner.is::<Explained>()) {
            return error;
        }
        let text = format!("cannot {operation} {self}: {error}");
        io::Error::new(error.kind(), Explained { text, source: error })
    }
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

/// Returns the Win32 code of an error of this crate: its
/// [`raw_os_error`](io::Error::raw_os_error), or that of its source where the error has a text.
///
/// An [`io::Error`] has either a code or a text. Most errors of this crate are the plain ones of
/// Windows. Some have a text because the code alone would mislead: a name that another program has,
/// a time to connect that is over, and those made by
/// [`PipeName::describe`](crate::PipeName::describe).
///
/// ```
/// const ERROR_FILE_NOT_FOUND: i32 = 2;
///
/// let name = npipe::PipeName::new("inventory")?;
/// let error = std::io::Error::from_raw_os_error(ERROR_FILE_NOT_FOUND);
/// let error = name.describe("open", error);
/// assert_eq!(error.raw_os_error(), None);
/// assert_eq!(npipe::win32_code(&error), Some(ERROR_FILE_NOT_FOUND));
/// # Ok::<(), std::io::Error>(())
/// ```
#[doc(alias = "GetLastError")]
#[doc(alias = "raw_os_error")]
#[must_use]
pub fn win32_code(error: &io::Error) -> Option<i32> {
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
    fn a_description_names_operation_and_pipe_and_keeps_kind_and_code() {
        let error = PipeName::new("x").unwrap().describe("open", io::Error::from_raw_os_error(2));
        assert!(error.to_string().starts_with(r"cannot open \\.\pipe\x: "), "{error}");
        assert_eq!(error.kind(), io::Error::from_raw_os_error(2).kind());
        assert_eq!(win32_code(&error), Some(2));
        let described = PipeName::new("x").unwrap().describe("open", error);
        assert_eq!(described.to_string().matches("cannot open").count(), 1, "not twice: {described}");
        assert_eq!(win32_code(&io::ErrorKind::NotFound.into()), None);
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
            assert_eq!(win32_code(&error), Some(code));
        }
    }
}
