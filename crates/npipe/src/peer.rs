//! Who is at the other end of a pipe.

use std::io;
use std::path::PathBuf;

use crate::sys::{self, OwnedHandle};

/// The process at the other end of a pipe. Asked for with [`NamedPipeServer::peer`](crate::NamedPipeServer::peer) and its like.
///
/// It is for people and their logs. It proves nothing: a handle can be given to another process, and the system uses the number
/// of a process that has ended for another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    process_id: u32,
}

impl Peer {
    pub(crate) fn of(handle: &OwnedHandle) -> io::Result<Self> {
        let process_id = if sys::describe(handle)?.server_end {
            sys::client_process(handle)?
        } else {
            sys::server_process(handle)?
        };
        Ok(Self { process_id })
    }

    /// The process that created or opened the other end.
    pub fn process_id(&self) -> u32 {
        self.process_id
    }

    /// The file of the program that this process runs, if it still does.
    ///
    /// Calls
    /// [`QueryFullProcessImageNameW`](https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-queryfullprocessimagenamew).
    ///
    /// # Errors
    ///
    /// The system's: [`InvalidInput`](io::ErrorKind::InvalidInput) (`ERROR_INVALID_PARAMETER`) when no process has the number any
    /// more, [`PermissionDenied`](io::ErrorKind::PermissionDenied) (`ERROR_ACCESS_DENIED`) for some of other users and of the
    /// system.
    pub fn program(&self) -> io::Result<PathBuf> {
        sys::program_of(self.process_id).map(PathBuf::from)
    }
}
