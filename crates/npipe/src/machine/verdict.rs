//! (operation, Win32 code) → meaning. The same number means different things to a reader, a writer
//! and a listener, so it is judged here, once for each, and nowhere else.
//!
//! Sources: the pages of
//! [`ReadFile`](https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-readfile),
//! [`WriteFile`](https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-writefile) and
//! [`ConnectNamedPipe`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-connectnamedpipe).

use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_BAD_PIPE, ERROR_BROKEN_PIPE, ERROR_FILE_NOT_FOUND, ERROR_HANDLE_EOF,
    ERROR_INVALID_FUNCTION, ERROR_MORE_DATA, ERROR_NO_DATA, ERROR_NOT_SUPPORTED, ERROR_OPERATION_ABORTED,
    ERROR_PIPE_BUSY, ERROR_PIPE_CONNECTED, ERROR_PIPE_NOT_CONNECTED, ERROR_SUCCESS,
};

/// How a read ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    /// Bytes, or a whole message.
    Complete,
    /// The buffer is full and the message goes on.
    MessageGoesOn,
    /// The peer closed its end, and everything it wrote has been read.
    EndOfFile,
    /// Cancelled: by us, by someone else with a duplicate of the handle, or by the system.
    Aborted,
    /// The system's error.
    Failed(u32),
}

/// How a write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Write {
    /// The pipe has it.
    Complete,
    /// The system's error.
    Failed(u32),
}

/// How waiting for a client ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connect {
    /// A client is there; it may have been there before the call.
    Complete,
    /// A client came and went before anyone looked. What it wrote can still be read.
    ClientLeft,
    /// Cancelled: by us, by someone else with a duplicate of the handle, or by the system.
    Aborted,
    /// The system's error.
    Failed(u32),
}

/// Why an exchange of messages was not begun. Windows 8 and later find that out by packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExchangeRefused {
    /// A message waits to be read, or a read is in flight: the message would be taken for the
    /// reply.
    Unread,
    /// There is no peer. Sending the request tells more.
    NotConnected,
    /// The end does not both read and write.
    OneWay,
}

/// The code with which the kernel refuses an exchange while a message waits to be read.
pub(crate) const UNREAD_MESSAGES: u32 = ERROR_PIPE_BUSY;

/// How waiting until the peer has read everything ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flush {
    /// It has, or there was nothing to read.
    Complete,
    /// The system does not do this as an operation: Wine, or the network behind a pipe of another
    /// machine.
    Unsupported,
    /// Cancelled: by us, by someone else with a duplicate of the handle, or by the system.
    Aborted,
    /// The system's error.
    Failed(u32),
}

/// Why a pipe could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Open {
    /// For what passes.
    Later(RetryReason),
    /// The system's error.
    Failed,
}

/// What may be in a client's way for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetryReason {
    /// Every instance is taken.
    Busy,
    /// There is no instance. A server may be about to start.
    Missing,
}

/// Why an instance could not be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Create {
    /// There are as many instances as there may be, which passes.
    Full,
    /// Of the first instance: another program has the name, perhaps one that is about to end; or we
    /// may not create it.
    NameTaken,
    /// The system's error.
    Failed,
}

pub(crate) fn open(code: u32) -> Open {
    match code {
        ERROR_PIPE_BUSY => Open::Later(RetryReason::Busy),
        ERROR_FILE_NOT_FOUND => Open::Later(RetryReason::Missing),
        _ => Open::Failed,
    }
}

pub(crate) fn create(code: u32) -> Create {
    match code {
        ERROR_PIPE_BUSY => Create::Full,
        ERROR_ACCESS_DENIED => Create::NameTaken,
        _ => Create::Failed,
    }
}

/// Returns whether creating the first instance of a name failed because another program has the
/// name. Windows checks the number of instances before it looks at `FILE_FLAG_FIRST_PIPE_INSTANCE`,
/// so a name all of whose instances exist is "busy".
#[cfg_attr(not(windows), allow(dead_code, reason = "options exist on Windows"))]
pub(crate) fn is_name_taken(code: u32) -> bool {
    matches!(create(code), Create::Full | Create::NameTaken)
}

pub(crate) fn read(code: u32) -> Read {
    match code {
        ERROR_SUCCESS => Read::Complete,
        ERROR_MORE_DATA => Read::MessageGoesOn,
        ERROR_BROKEN_PIPE | ERROR_HANDLE_EOF => Read::EndOfFile,
        ERROR_OPERATION_ABORTED => Read::Aborted,
        code => Read::Failed(code),
    }
}

pub(crate) fn exchange_refused(code: u32) -> Option<ExchangeRefused> {
    match code {
        UNREAD_MESSAGES => Some(ExchangeRefused::Unread),
        ERROR_BAD_PIPE => Some(ExchangeRefused::NotConnected),
        // The call needs the rights to read and to write, and nothing else is denied to it.
        ERROR_ACCESS_DENIED => Some(ExchangeRefused::OneWay),
        _ => None,
    }
}

pub(crate) fn write(code: u32) -> Write {
    match code {
        ERROR_SUCCESS => Write::Complete,
        code => Write::Failed(code),
    }
}

pub(crate) fn connect(code: u32) -> Connect {
    match code {
        ERROR_SUCCESS | ERROR_PIPE_CONNECTED => Connect::Complete,
        ERROR_NO_DATA => Connect::ClientLeft,
        ERROR_OPERATION_ABORTED => Connect::Aborted,
        code => Connect::Failed(code),
    }
}

pub(crate) fn flush(code: u32) -> Flush {
    match code {
        ERROR_SUCCESS => Flush::Complete,
        ERROR_NOT_SUPPORTED | ERROR_INVALID_FUNCTION => Flush::Unsupported,
        ERROR_OPERATION_ABORTED => Flush::Aborted,
        code => Flush::Failed(code),
    }
}

/// Whether the error of waiting until the peer has read everything says that there is nothing to
/// wait for: the peer has gone, or this end may not write and so has written nothing.
#[cfg_attr(not(windows), allow(dead_code, reason = "for a face, which exists on Windows"))]
pub(crate) fn nothing_is_unread(code: u32) -> bool {
    code == ERROR_ACCESS_DENIED || is_peer_gone(code)
}

/// The state of a server's client that can be determined without waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(windows), allow(dead_code, reason = "for a face, which exists on Windows"))]
pub(crate) enum Client {
    /// It is there, or has left something to be read, or was cut off, which reading reports.
    Here,
    /// It has left, and there is nothing to be read from it.
    Left,
    /// None has come since the instance was created or disconnected.
    Missing,
    /// An end that does not read is denied the look.
    Unknown,
}

/// The error of a look at what is to be read.
#[cfg_attr(not(windows), allow(dead_code, reason = "for a face, which exists on Windows"))]
pub(crate) fn client_by_look(code: u32) -> Client {
    match code {
        ERROR_BAD_PIPE => Client::Missing,
        ERROR_BROKEN_PIPE => Client::Left,
        ERROR_ACCESS_DENIED => Client::Unknown,
        _ => Client::Here,
    }
}

/// The end of a write of nothing to a pipe of bytes, which leaves nothing there.
#[cfg_attr(not(windows), allow(dead_code, reason = "for a face, which exists on Windows"))]
pub(crate) fn client_by_empty_write(code: u32) -> Client {
    match code {
        ERROR_SUCCESS => Client::Here,
        ERROR_NO_DATA => Client::Left,
        _ => Client::Missing,
    }
}

/// Returns whether a request failed because the peer has closed its end or the server has ended the
/// connection.
#[cfg_attr(not(windows), allow(dead_code, reason = "for an API that exists on Windows"))]
pub(crate) fn is_peer_gone(code: u32) -> bool {
    matches!(code, ERROR_NO_DATA | ERROR_BROKEN_PIPE | ERROR_PIPE_NOT_CONNECTED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use windows_sys::Win32::Foundation::{
        ERROR_BAD_NETPATH, ERROR_NO_SYSTEM_RESOURCES, ERROR_PIPE_LISTENING,
    };

    #[test]
    fn the_table_of_reads() {
        for (code, verdict) in [
            (ERROR_SUCCESS, Read::Complete),
            (ERROR_MORE_DATA, Read::MessageGoesOn),
            (ERROR_BROKEN_PIPE, Read::EndOfFile),
            (ERROR_HANDLE_EOF, Read::EndOfFile),
            (ERROR_OPERATION_ABORTED, Read::Aborted),
            // A server that disconnected may have discarded data: never end-of-file.
            (ERROR_PIPE_NOT_CONNECTED, Read::Failed(ERROR_PIPE_NOT_CONNECTED)),
            (ERROR_PIPE_LISTENING, Read::Failed(ERROR_PIPE_LISTENING)),
            (ERROR_NO_DATA, Read::Failed(ERROR_NO_DATA)),
        ] {
            assert_eq!(read(code), verdict, "code {code}");
        }
    }

    #[test]
    fn the_tables_of_clients() {
        for (code, look, write) in [
            (ERROR_SUCCESS, Client::Here, Client::Here),
            (ERROR_BAD_PIPE, Client::Missing, Client::Missing),
            (ERROR_PIPE_LISTENING, Client::Here, Client::Missing),
            (ERROR_PIPE_NOT_CONNECTED, Client::Here, Client::Missing),
            (ERROR_BROKEN_PIPE, Client::Left, Client::Missing),
            (ERROR_NO_DATA, Client::Here, Client::Left),
            (ERROR_ACCESS_DENIED, Client::Unknown, Client::Missing),
        ] {
            assert_eq!((client_by_look(code), client_by_empty_write(code)), (look, write), "code {code}");
        }
    }

    #[test]
    fn the_table_of_exchanges_that_are_refused() {
        for (code, verdict) in [
            (ERROR_PIPE_BUSY, Some(ExchangeRefused::Unread)),
            (ERROR_BAD_PIPE, Some(ExchangeRefused::NotConnected)),
            (ERROR_ACCESS_DENIED, Some(ExchangeRefused::OneWay)),
            (ERROR_SUCCESS, None),
            (ERROR_MORE_DATA, None),
            (ERROR_BROKEN_PIPE, None),
            (ERROR_OPERATION_ABORTED, None),
            (ERROR_PIPE_NOT_CONNECTED, None),
        ] {
            assert_eq!(exchange_refused(code), verdict, "code {code}");
        }
    }

    #[test]
    fn the_table_of_writes() {
        for (code, verdict) in [
            (ERROR_SUCCESS, Write::Complete),
            (ERROR_NO_DATA, Write::Failed(ERROR_NO_DATA)),
            (ERROR_BROKEN_PIPE, Write::Failed(ERROR_BROKEN_PIPE)),
            (ERROR_PIPE_NOT_CONNECTED, Write::Failed(ERROR_PIPE_NOT_CONNECTED)),
            (ERROR_OPERATION_ABORTED, Write::Failed(ERROR_OPERATION_ABORTED)),
        ] {
            assert_eq!(write(code), verdict, "code {code}");
        }
    }

    #[test]
    fn the_table_of_connects() {
        for (code, verdict) in [
            (ERROR_SUCCESS, Connect::Complete),
            (ERROR_PIPE_CONNECTED, Connect::Complete),
            (ERROR_NO_DATA, Connect::ClientLeft),
            (ERROR_OPERATION_ABORTED, Connect::Aborted),
            (ERROR_PIPE_LISTENING, Connect::Failed(ERROR_PIPE_LISTENING)),
        ] {
            assert_eq!(connect(code), verdict, "code {code}");
        }
    }

    #[test]
    fn the_table_of_flushes() {
        for (code, verdict) in [
            (ERROR_SUCCESS, Flush::Complete),
            (ERROR_NOT_SUPPORTED, Flush::Unsupported),
            (ERROR_INVALID_FUNCTION, Flush::Unsupported),
            (ERROR_OPERATION_ABORTED, Flush::Aborted),
            // The peer closed, and did not read everything.
            (ERROR_BROKEN_PIPE, Flush::Failed(ERROR_BROKEN_PIPE)),
            (ERROR_PIPE_NOT_CONNECTED, Flush::Failed(ERROR_PIPE_NOT_CONNECTED)),
            (ERROR_ACCESS_DENIED, Flush::Failed(ERROR_ACCESS_DENIED)),
        ] {
            assert_eq!(flush(code), verdict, "code {code}");
        }
    }

    #[test]
    fn nobody_is_waited_for_who_has_gone_or_was_told_nothing() {
        for code in [ERROR_ACCESS_DENIED, ERROR_BROKEN_PIPE, ERROR_NO_DATA, ERROR_PIPE_NOT_CONNECTED] {
            assert!(nothing_is_unread(code), "code {code}");
        }
        for code in [ERROR_SUCCESS, ERROR_OPERATION_ABORTED, ERROR_NOT_SUPPORTED, ERROR_PIPE_LISTENING] {
            assert!(!nothing_is_unread(code), "code {code}");
        }
    }

    #[test]
    fn the_table_of_opens() {
        for (code, verdict) in [
            (ERROR_PIPE_BUSY, Open::Later(RetryReason::Busy)),
            (ERROR_FILE_NOT_FOUND, Open::Later(RetryReason::Missing)),
            (ERROR_ACCESS_DENIED, Open::Failed),
            (ERROR_BAD_NETPATH, Open::Failed),
        ] {
            assert_eq!(open(code), verdict, "code {code}");
        }
    }

    #[test]
    fn the_table_of_creates() {
        for (code, verdict) in [
            (ERROR_PIPE_BUSY, Create::Full),
            (ERROR_ACCESS_DENIED, Create::NameTaken),
            (ERROR_NO_SYSTEM_RESOURCES, Create::Failed),
        ] {
            assert_eq!(create(code), verdict, "code {code}");
        }
    }

    #[test]
    fn a_first_instance_finds_the_name_taken_while_there_is_room_and_when_there_is_none() {
        for (code, taken) in [
            (ERROR_ACCESS_DENIED, true),
            (ERROR_PIPE_BUSY, true),
            (ERROR_NO_SYSTEM_RESOURCES, false),
            (ERROR_FILE_NOT_FOUND, false),
            (ERROR_BAD_NETPATH, false),
        ] {
            assert_eq!(is_name_taken(code), taken, "code {code}");
        }
    }
}
