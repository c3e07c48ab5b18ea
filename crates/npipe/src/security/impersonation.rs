//! Acting in a client's name, for as long as a closure lasts.
//!
//! The system ties it to the thread. So it must end on the thread where it began, and before that
//! thread does anything else: a closure that cannot await is what says so in types.

use std::io;
use std::marker::PhantomData;
use std::process;

use crate::info::PipeEnd;
use crate::security::{Sid, Trustee};
use crate::sys::{self, OwnedHandle, ThreadToken};

/// A server's thread acts in its client's name: lent to the closure of
/// [`NamedPipeServer::impersonate`](crate::NamedPipeServer::impersonate), and over when that
/// returns or panics.
///
/// It belongs to its thread, so it is neither `Send` nor `Sync`, and the closure has nothing to
/// await with:
///
/// ```compile_fail,E0728
/// # async fn serve(server: &npipe::NamedPipeServer) -> std::io::Result<()> {
/// server.impersonate(|client| tokio::task::yield_now().await)?;
/// # Ok(())
/// # }
/// ```
///
/// nor can it be taken out of it, as by a future that would use it later, on whichever thread:
///
/// ```compile_fail
/// # fn serve(server: &npipe::NamedPipeServer) -> std::io::Result<()> {
/// let later = server.impersonate(|client| Ok(async move { client.user() }))?;
/// # Ok(())
/// # }
/// ```
///
/// nor to another thread:
///
/// ```compile_fail,E0277
/// # fn serve(server: &npipe::NamedPipeServer) -> std::io::Result<()> {
/// server.impersonate(|client| std::thread::scope(|scope| { scope.spawn(|| client.user()); Ok(()) }))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Impersonation {
    /// Of the thread.
    bound: PhantomData<*const ()>,
}

/// What a server may do in a client's name. The client sets it when it opens the pipe:
/// [`ClientOptions::impersonation_level`](crate::ClientOptions::impersonation_level).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[doc(alias = "SECURITY_IMPERSONATION_LEVEL")]
pub enum ImpersonationLevel {
    /// Nothing: the server does not learn the client's account.
    Anonymous,
    /// Learn the client's account and groups, and nothing else. It is the default of this crate's
    /// clients and of Tokio's.
    Identification,
    /// Act as the client on this machine. It is the level of every client that does not set one:
    /// `CreateFile` without `SECURITY_SQOS_PRESENT`, and so
    /// [`std::fs::OpenOptions`] unless its `security_qos_flags` are set.
    Impersonation,
    /// Act as the client on other machines too.
    Delegation,
}

impl Impersonation {
    /// Calls `act` in the name of the client of this end, which `handle` is.
    pub(crate) fn during<T>(
        handle: &OwnedHandle,
        end: PipeEnd,
        act: impl FnOnce(&Self) -> io::Result<T>,
    ) -> io::Result<T> {
        if end == PipeEnd::Client {
            let why = "this is a client's end: only a server can act in its client's name";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        match sys::thread_token()? {
            ThreadToken::None => {}
            ThreadToken::Anonymous | ThreadToken::Of(_) => {
                let why = "this thread acts in somebody's name already, which the end of this would end too";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
        }
        sys::impersonate_client(handle)?;
        let client = Self { bound: PhantomData };
        act(&client)
    }

    /// The client's account.
    ///
    /// # Errors
    ///
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied) when the client wants to remain
    /// [anonymous](ImpersonationLevel::Anonymous). Else the system's.
    pub fn user(&self) -> io::Result<Sid> {
        match sys::thread_token()? {
            ThreadToken::Of(token) => Sid::of_system(&sys::user_of_token(&token)?),
            ThreadToken::Anonymous => Err(anonymous()),
            ThreadToken::None => Err(no_longer()),
        }
    }

    /// How far the client allows servers to act in its name. Below
    /// [`Impersonation`](ImpersonationLevel::Impersonation), what is opened meanwhile is
    /// refused with `ERROR_BAD_IMPERSONATION_LEVEL`, and only questions about the client are
    /// answered.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn level(&self) -> io::Result<ImpersonationLevel> {
        match sys::thread_token()? {
            ThreadToken::Of(token) => Ok(match sys::impersonation_level(&token)? {
                0 => ImpersonationLevel::Anonymous,
                1 => ImpersonationLevel::Identification,
                2 => ImpersonationLevel::Impersonation,
                _ => ImpersonationLevel::Delegation,
            }),
            ThreadToken::Anonymous => Ok(ImpersonationLevel::Anonymous),
            ThreadToken::None => Err(no_longer()),
        }
    }

    /// Whether the client is this account, or belongs to this group and makes use of it: an
    /// administrator whose program is not elevated does not count as one of the
    /// [`Administrators`](Trustee::Administrators).
    ///
    /// ```no_run
    /// # fn decide(server: &npipe::NamedPipeServer) -> std::io::Result<()> {
    /// use npipe::Trustee;
    ///
    /// if server.impersonate(|client| client.is_member_of(&Trustee::Administrators))? {
    ///     // ...
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Calls
    /// [`CheckTokenMembership`](https://learn.microsoft.com/windows/win32/api/securitybaseapi/nf-securitybaseapi-checktokenmembership).
    ///
    /// # Errors
    ///
    /// As [`user`](Self::user).
    pub fn is_member_of(&self, group: &Trustee) -> io::Result<bool> {
        match sys::thread_token()? {
            ThreadToken::Of(token) => group.sid()?.has_member(&token),
            ThreadToken::Anonymous => Err(anonymous()),
            ThreadToken::None => Err(no_longer()),
        }
    }
}

impl Drop for Impersonation {
    /// Reverting fails only where going on would be worse: everything that this thread does from
    /// then on would be done in the client's name. Microsoft's page says to end the process.
    fn drop(&mut self) {
        if sys::revert_to_self().is_err() {
            process::abort();
        }
    }
}

fn anonymous() -> io::Error {
    let why = "the client allows no server to learn who it is (SECURITY_ANONYMOUS)";
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

fn no_longer() -> io::Error {
    io::Error::other("the thread acts in its own name again: something else has called RevertToSelf")
}
