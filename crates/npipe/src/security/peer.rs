//! The process at the other end of a pipe, and the check of a server's identity.
//!
//! Windows records the ID of the process that created or opened an end, and reuses the IDs of
//! processes that have ended. A process cannot be the peer if it was started after the connection
//! was made. It is the peer if it was started before. It also is the peer if the peer's end is
//! still open once the process has been opened: a handle to a process keeps its ID from being
//! reused, and an end is closed when its process ends. From then on the handle identifies the
//! process.

use std::io;
use std::os::windows::io::{AsHandle, BorrowedHandle};
use std::path::PathBuf;
use std::sync::Arc;

use crate::info::PipeEnd;
use crate::moment::{ConnectionTime, Moment, Started};
use crate::security::{SecurityDescriptor, Sid, Trustee};
use crate::sys::{self, OwnedHandle};

/// The process at the other end of a pipe, as
/// [`NamedPipeServer::peer`](crate::NamedPipeServer::peer) and its like return it.
///
/// ```no_run
/// # fn log(server: &npipe::NamedPipeServer) -> std::io::Result<()> {
/// let peer = server.peer()?;
/// println!("process {} in session {}", peer.process_id(), peer.session_id());
/// println!("runs {} as {}", peer.program()?.display(), peer.user()?.account_name()?);
/// # Ok(())
/// # }
/// ```
///
/// # How far to trust it
///
/// Windows gives the number of a process that has ended to a new one. A `Peer` holds the process
/// that it found, whose number is not given away meanwhile, and it never takes a process for the
/// peer that was started after the connection was made:
///
/// | the process with the number was started | and the peer's end is | then |
/// |---|---|---|
/// | before this end was created or opened, or before it began to wait for the client | open or closed | it is the peer |
/// | between that and the end of the wait (accept, or `connect`) | open | it is the peer |
/// | between that and the end of the wait | closed, or this end may not ask | [`NotFound`](io::ErrorKind::NotFound) |
/// | after the end of the wait | open or closed | [`NotFound`](io::ErrorKind::NotFound) |
///
/// So ask while the peer is connected. A server's end that only writes may not ask whether the
/// peer's end is open. An end that was made by other code, and taken over by its handle, has waited
/// since an unknown time: ask while the peer is connected.
///
/// A program that hands its end to another program, and a program that is changed while it runs,
/// are not noticed. Windows stamps processes with the wall clock. If that clock was set back, a
/// process that was started before the connection may be refused. A later process is still not
/// taken for the peer, unless the clock was set back and forward again in the life of the pipe. So
/// this is for logs, limits and a first look. To decide what a client may do, use the pipe's
/// [access list](crate::SecurityDescriptor), or try the action in [the client's
/// name](crate::NamedPipeServer::impersonate).
#[derive(Debug, Clone)]
#[doc(alias = "GetNamedPipeClientComputerName")]
pub struct Peer {
    process_id: u32,
    session_id: u32,
    process: Process,
}

#[derive(Debug, Clone)]
enum Process {
    /// It made the connection.
    Found(Arc<OwnedHandle>),
    /// The one that has the number now was started after the connection was made.
    Replaced,
    /// The one that has the number now may have been.
    Uncertain,
    /// The system's error of looking for it.
    Unknown(i32),
}

impl Peer {
    /// The peer of this end, which `handle` is.
    pub(crate) fn of(handle: &OwnedHandle, end: PipeEnd, connected: ConnectionTime) -> io::Result<Self> {
        let (process_id, session_id) = sys::peer(handle, end)?;
        // A disconnect in between would leave the ID of another client, so the ID is read again.
        let is_there = || {
            sys::peer(handle, end).is_ok_and(|(again, _)| again == process_id)
                && sys::is_connected(handle).unwrap_or(false)
        };
        Ok(Self { process_id, session_id, process: Process::find(process_id, connected, is_there) })
    }

    /// The number of the process that created or opened the other end.
    #[doc(alias("GetNamedPipeClientProcessId", "GetNamedPipeServerProcessId"))]
    pub fn process_id(&self) -> u32 {
        self.process_id
    }

    /// The session that it was in: 0 is that of services, each user who has logged on has another.
    ///
    /// Calls
    /// [`GetNamedPipeServerSessionId`](https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-getnamedpipeserversessionid) and
    /// [`GetNamedPipeClientSessionId`](https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-getnamedpipeclientsessionid).
    #[doc(alias("GetNamedPipeClientSessionId", "GetNamedPipeServerSessionId"))]
    pub fn session_id(&self) -> u32 {
        self.session_id
    }

    /// The account that the process runs as; its name is [`Sid::account_name`]. A client may have
    /// opened the pipe in the name of another account: that one is known to
    /// [`impersonate`](crate::NamedPipeServer::impersonate).
    ///
    /// Calls
    /// [`OpenProcessToken`](https://learn.microsoft.com/windows/win32/api/processthreadsapi/nf-processthreadsapi-openprocesstoken).
    ///
    /// # Errors
    ///
    /// As [`program`](Self::program). The user of other users' processes, and of services, is
    /// available to administrators and services only.
    pub fn user(&self) -> io::Result<Sid> {
        Sid::of_system(&sys::user_of_process(self.handle()?)?)
    }

    /// The file of the program that this process runs, if it still does.
    ///
    /// Calls
    /// [`QueryFullProcessImageNameW`](https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-queryfullprocessimagenamew).
    ///
    /// # Errors
    ///
    /// [`NotFound`](io::ErrorKind::NotFound) when the process has ended and another has its number,
    /// or [may have](Self#how-far-to-trust-it). Errors of Windows:
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) (`ERROR_INVALID_PARAMETER`) when it had ended
    /// and no process had the number, `ERROR_GEN_FAILURE` when it has ended since,
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied) (`ERROR_ACCESS_DENIED`) for some of
    /// other users and of services.
    pub fn program(&self) -> io::Result<PathBuf> {
        sys::program_of(self.handle()?).map(PathBuf::from)
    }

    /// The process itself, for other questions. Its handle allows
    /// [`PROCESS_QUERY_LIMITED_INFORMATION`](https://learn.microsoft.com/windows/win32/procthread/process-security-and-access-rights).
    ///
    /// # Errors
    ///
    /// As [`program`](Self::program).
    pub fn process(&self) -> io::Result<BorrowedHandle<'_>> {
        self.handle().map(AsHandle::as_handle)
    }

    fn handle(&self) -> io::Result<&OwnedHandle> {
        match &self.process {
            Process::Found(handle) => Ok(handle),
            Process::Replaced => {
                let why = format!("process {} has ended, and its number is another's now", self.process_id);
                Err(io::Error::new(io::ErrorKind::NotFound, why))
            }
            Process::Uncertain => {
                let why = format!(
                    "the connection of process {} has ended, and its number may be another's: the process that has it was \
                     started after this end began to wait",
                    self.process_id
                );
                Err(io::Error::new(io::ErrorKind::NotFound, why))
            }
            Process::Unknown(code) => Err(io::Error::from_raw_os_error(*code)),
        }
    }
}

impl Process {
    /// `is_there` returns whether the peer's end is still open.
    fn find(process_id: u32, connected: ConnectionTime, is_there: impl FnOnce() -> bool) -> Self {
        let found =
            sys::open_process(process_id).and_then(|process| Ok((sys::started_at(&process)?, process)));
        let (started_at, process) = match found {
            Ok(found) => found,
            Err(error) => return Self::Unknown(error.raw_os_error().unwrap_or_default()),
        };
        match connected.order(started_at, Moment::now()) {
            Started::Before => Self::Found(Arc::new(process)),
            Started::Perhaps if is_there() => Self::Found(Arc::new(process)),
            Started::Perhaps => Self::Uncertain,
            Started::After => Self::Replaced,
        }
    }
}

/// The server that a client expects: see
/// [`ClientOptions::verify_server`](crate::ClientOptions::verify_server).
///
/// Both variants name an account, not a group: a process never runs as a group. A pipe may belong
/// to one, as those of elevated administrators do to [`Trustee::Administrators`] unless their
/// [descriptor](SecurityDescriptor::current_user_only) names the user.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerIdentity {
    /// The pipe belongs to this account: that which created its first instance, unless it was given
    /// away. Only an administrator can make another account the owner. It is available for every
    /// server. It does not show which account created this instance: the owner, or another that the
    /// access list allows to create more.
    PipeOwner(Trustee),
    /// The process that created this instance runs as this account. Ordinary programs cannot find
    /// it out for services, other users' processes and perhaps elevated ones, and are then refused.
    ProcessUser(Trustee),
}

impl ServerIdentity {
    /// Whether the server of `handle`, a client's end that has just been opened, is the right one.
    pub(crate) fn check(&self, handle: &OwnedHandle, connected: ConnectionTime) -> io::Result<()> {
        let (what, expected, found) = match self {
            Self::PipeOwner(expected) => ("owner of the pipe", expected, owner(handle)),
            Self::ProcessUser(expected) => ("user of its process", expected, process_user(handle, connected)),
        };
        let expected = expected.sid()?;
        let refuse = |kind, why| Err(io::Error::new(kind, format!("the server is not trusted: {why}")));
        match found {
            Ok(Some(found)) if found == expected => Ok(()),
            Ok(Some(found)) => {
                refuse(io::ErrorKind::PermissionDenied, format!("the {what} is {found} and not {expected}"))
            }
            Ok(None) => refuse(io::ErrorKind::PermissionDenied, format!("there is no {what}")),
            Err(error) => refuse(error.kind(), format!("the {what} is unknown: {error}")),
        }
    }
}

fn owner(pipe: &OwnedHandle) -> io::Result<Option<Sid>> {
    Ok(SecurityDescriptor::of(pipe)?.owner().cloned())
}

fn process_user(pipe: &OwnedHandle, connected: ConnectionTime) -> io::Result<Option<Sid>> {
    Peer::of(pipe, PipeEnd::Client, connected)?.user().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::FileTime;

    fn found(connected: ConnectionTime, is_there: bool) -> io::Result<PathBuf> {
        let process_id = std::process::id();
        let process = Process::find(process_id, connected, || is_there);
        Peer { process_id, session_id: 0, process }.program()
    }

    const SECOND: FileTime = 10_000_000;

    fn a_second_before_us() -> FileTime {
        sys::started_at(&sys::open_process(std::process::id()).unwrap()).unwrap() - SECOND
    }

    /// Windows does not give a number away while a test looks, so this process is the one that has
    /// the number, and the connection was made before it started.
    #[test]
    fn a_process_that_started_after_the_connection_is_another() {
        let before_us = Moment::at(a_second_before_us());
        for is_there in [true, false] {
            let error = found(ConnectionTime { after: None, by: Some(before_us) }, is_there).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
            assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        }
    }

    /// The client of a server that began to wait before this process started, and was accepted
    /// after.
    #[test]
    fn a_process_that_may_have_started_later_is_the_peer_only_while_its_end_is_open() {
        let accepted = Some(Moment::now());
        for after in [None, Some(Moment::at(a_second_before_us()))] {
            assert!(found(ConnectionTime { after, by: accepted }, true).is_ok());
            let error = found(ConnectionTime { after, by: accepted }, false).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
        }
    }

    #[test]
    fn a_process_that_was_there_before_the_wait_is_the_peer() {
        // The stamp of a process is that of the last tick of the clock.
        let connected =
            ConnectionTime { after: Some(Moment::at(a_second_before_us() + SECOND + SECOND / 10)), by: None };
        assert!(found(connected, false).is_ok());
    }
}
