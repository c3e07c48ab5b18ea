//! Who is at the other end of a pipe, and whether a server is who it should be.
//!
//! The system records the number of a process, and gives numbers of processes that have ended to others. So the process
//! behind the number is opened once, and only if it is old enough to have been there; from then on its handle is asked.

use std::io;
use std::os::windows::io::{AsHandle, BorrowedHandle};
use std::path::PathBuf;
use std::sync::Arc;

use crate::info::PipeEnd;
use crate::security::{SecurityDescriptor, Sid, Trustee};
use crate::sys::{self, FileTime, OwnedHandle};

/// The process at the other end of a pipe. Asked for with [`NamedPipeServer::peer`](crate::NamedPipeServer::peer) and its like.
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
/// The number of a process that has ended is given to another. A `Peer` holds on to the process that it found, which keeps
/// its number for as long, and it notices one that was started after the connection was made. What it cannot notice is a
/// program that hands its end to another, or lets itself be changed. So this is for logs, limits and a first look. What a client may
/// do is better left to the pipe's [access list](crate::SecurityDescriptor), or tried in
/// [its own name](crate::NamedPipeServer::impersonate).
#[derive(Debug, Clone)]
pub struct Peer {
    process_id: u32,
    session_id: u32,
    process: Process,
}

#[derive(Debug, Clone)]
enum Process {
    /// It was there when the connection was made.
    Found(Arc<OwnedHandle>),
    /// The one that has the number now was not.
    Replaced,
    /// The system's error of looking for it.
    Unknown(i32),
}

impl Peer {
    /// The peer of this end, which `handle` is.
    pub(crate) fn of(handle: &OwnedHandle, end: PipeEnd, connected_at: FileTime) -> io::Result<Self> {
        let (process_id, session_id) = match end {
            PipeEnd::Server => (sys::client_process(handle)?, sys::client_session(handle)?),
            PipeEnd::Client => (sys::server_process(handle)?, sys::server_session(handle)?),
        };
        Ok(Self { process_id, session_id, process: Process::find(process_id, connected_at) })
    }

    /// The number of the process that created or opened the other end.
    pub fn process_id(&self) -> u32 {
        self.process_id
    }

    /// The session that it was in: 0 is that of services, each user who has logged on has another.
    ///
    /// Calls
    /// [`GetNamedPipeServerSessionId`](https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-getnamedpipeserversessionid) and
    /// [`GetNamedPipeClientSessionId`](https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-getnamedpipeclientsessionid).
    pub fn session_id(&self) -> u32 {
        self.session_id
    }

    /// The account that the process runs as; its name is [`Sid::account_name`]. A client may have opened the pipe in somebody
    /// else's name: [`impersonate`](crate::NamedPipeServer::impersonate) tells that one.
    ///
    /// Calls
    /// [`OpenProcessToken`](https://learn.microsoft.com/windows/win32/api/processthreadsapi/nf-processthreadsapi-openprocesstoken).
    ///
    /// # Errors
    ///
    /// As [`program`](Self::program). Of processes of other users and of the system only administrators and the system are told.
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
    /// [`NotFound`](io::ErrorKind::NotFound) when the process has ended and another has its number. Else the system's:
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) (`ERROR_INVALID_PARAMETER`) when it had ended and no process had the number,
    /// `ERROR_GEN_FAILURE` when it has ended since, [`PermissionDenied`](io::ErrorKind::PermissionDenied) (`ERROR_ACCESS_DENIED`)
    /// for some of other users and of the system.
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
            Process::Unknown(code) => Err(io::Error::from_raw_os_error(*code)),
        }
    }
}

impl Process {
    fn find(process_id: u32, connected_at: FileTime) -> Self {
        let found =
            sys::open_process(process_id).and_then(|process| Ok((sys::started_at(&process)?, process)));
        match found {
            Ok((started_at, process)) if started_at <= connected_at => Self::Found(Arc::new(process)),
            Ok(_) => Self::Replaced,
            Err(error) => Self::Unknown(error.raw_os_error().unwrap_or_default()),
        }
    }
}

/// Whom a client takes for the right server: see [`ClientOptions::verify_server`](crate::ClientOptions::verify_server).
///
/// Both ask for an account, not for a group: a process is never run by one. A pipe may belong to one, as those of elevated
/// administrators do to [`Trustee::Administrators`] unless their [descriptor](SecurityDescriptor::current_user_only) names the
/// user.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerIdentity {
    /// The pipe belongs to this account: who created its first instance, unless he gave it away. Only an administrator can make
    /// it somebody else's. It can be asked of every server. What it does not tell is who created this instance: the
    /// owner, or somebody whom his access list lets create more.
    PipeOwner(Trustee),
    /// The process that created this instance runs as this account. Ordinary programs cannot ask this of services, of other
    /// users' processes and perhaps of elevated ones, and are then refused.
    ProcessUser(Trustee),
}

impl ServerIdentity {
    /// Whether the server of `handle`, a client's end that has just been opened, is the right one.
    pub(crate) fn check(&self, handle: &OwnedHandle) -> io::Result<()> {
        let (what, expected, found) = match self {
            Self::PipeOwner(expected) => ("owner of the pipe", expected, owner(handle)),
            Self::ProcessUser(expected) => ("user of its process", expected, process_user(handle)),
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

fn process_user(pipe: &OwnedHandle) -> io::Result<Option<Sid>> {
    Peer::of(pipe, PipeEnd::Client, sys::now())?.user().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The system never gives a number away while we look, so the process that has it now is told that it came too late.
    #[test]
    fn a_process_that_started_after_the_connection_is_another() {
        let process_id = std::process::id();
        let peer = |connected_at| Peer {
            process_id,
            session_id: 0,
            process: Process::find(process_id, connected_at),
        };
        assert!(peer(sys::now()).program().is_ok());
        let before_us = sys::started_at(&sys::open_process(process_id).unwrap()).unwrap() - 1;
        let error = peer(before_us).user().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains(&process_id.to_string()), "{error}");
    }
}
