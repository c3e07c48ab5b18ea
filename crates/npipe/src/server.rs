//! One server instance: waiting for its client, and the end of the connection.

use std::io;

use crate::pipe_end::{Pipe, Server};
use crate::security::{Impersonation, SecurityDescriptor, Sid};

/// The server's end of a pipe: one instance, which serves one client at a time. Made by
/// [`ServerOptions::create`](crate::ServerOptions::create).
///
/// Reading and writing are those of the async traits, or [`try_read`](NamedPipeServer::try_read)
/// and [`try_write`](NamedPipeServer::try_write).
///
/// Dropping it closes the connection. Written data arrives if the client reads within five minutes,
/// which [`set_linger`](NamedPipeServer::set_linger) changes, also when the runtime is dropped too.
/// The end of the process cuts that short.
///
/// # A server
///
/// The next instance is created before the one that has a client is served. So there is always one,
/// and no client finds the name missing.
///
/// ```no_run
/// # #[cfg(feature = "tokio")]
/// # async fn serve() -> std::io::Result<()> {
/// use npipe::ServerOptions;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// const NAME: &str = r"\\.\pipe\inventory";
///
/// let mut next = ServerOptions::new().first_pipe_instance(true).create(NAME)?;
/// loop {
///     next.connect().await?;
///     let mut connection = next;
///     next = ServerOptions::new().create(NAME)?;
///     tokio::spawn(async move {
///         let mut request = [0; 16];
///         connection.read_exact(&mut request).await?;
///         connection.write_all(&request).await
///     });
/// }
/// # }
/// ```
pub type NamedPipeServer = Pipe<Server>;

impl Pipe<Server> {
    /// Waits for a client. Returns at once when one is there already.
    ///
    /// A client that came, wrote something and left is a client: its bytes can be read, then the
    /// end. One that came and left without a word, as programs do that merely look whether a
    /// pipe exists, is passed over: the instance is disconnected and waits for the next.
    ///
    /// Calls [`ConnectNamedPipe`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-connectnamedpipe).
    ///
    /// # Cancellation
    ///
    /// Nothing is lost when the future is dropped: waiting goes on, and the next `connect` learns
    /// of a client that has come meanwhile.
    ///
    /// # Errors
    ///
    /// The system's.
    #[doc(alias("ConnectNamedPipe", "ERROR_PIPE_CONNECTED", "535", "ERROR_PIPE_LISTENING", "536"))]
    pub async fn connect(&self) -> io::Result<()> {
        self.stream.connect().await
    }

    /// Ends the connection, so that the instance can [`connect`](Self::connect) to the next client.
    /// What the client has not read is discarded, and so is what was read ahead from it;
    /// nothing of either reaches the next one. [`drain`](Self::drain) first if the client must
    /// have everything.
    ///
    /// Calls [`DisconnectNamedPipe`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-disconnectnamedpipe).
    ///
    /// # Errors
    ///
    /// The system's: `ERROR_PIPE_NOT_CONNECTED` when it was disconnected already.
    #[doc(alias("DisconnectNamedPipe", "ERROR_PIPE_NOT_CONNECTED", "233"))]
    pub fn disconnect(&self) -> io::Result<()> {
        self.stream.disconnect()
    }

    /// Changes what protects the pipe, for all its instances: every part that `descriptor` has, or
    /// none if it fails. A part that the descriptor does not have stays as it was. Clients that are
    /// connected stay; later ones are checked against the new access list.
    ///
    /// The instance needs the right to do so, which its options request when it is created:
    ///
    /// | part | right |
    /// |---|---|
    /// | access list | [`write_dac`](crate::ServerOptions::write_dac) |
    /// | owner, group, integrity label | [`write_owner`](crate::ServerOptions::write_owner) |
    /// | audit entries | [`access_system_security`](crate::ServerOptions::access_system_security) |
    ///
    /// An empty audit list, `S:` in SDDL, removes audit entries and label, and needs the rights of
    /// both. In a descriptor that was read from a pipe it concerns the label alone, since audit
    /// entries are not read.
    ///
    /// ```no_run
    /// use npipe::{Access, SecurityDescriptor, ServerOptions, Trustee};
    ///
    /// let private = SecurityDescriptor::current_user_only()?;
    /// let server = ServerOptions::new().write_dac(true).security_descriptor(&private).create("inventory")?;
    /// // The stock has been counted: now everyone may look.
    /// let open = SecurityDescriptor::builder()
    ///     .allow(Trustee::CurrentUser, Access::Full)
    ///     .allow(Trustee::AuthenticatedUsers, Access::Connect)
    ///     .build()?;
    /// server.set_security_descriptor(&open)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// Calls [`SetKernelObjectSecurity`](https://learn.microsoft.com/windows/win32/api/securitybaseapi/nf-securitybaseapi-setkernelobjectsecurity).
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput), with nothing changed, when `descriptor` has
    /// no part at all, or one that cannot be applied: an integrity label that Windows would not
    /// obey (more than one, with the flag `IO`, of another SID than `S-1-16-N`, with other policies
    /// than `NW`, `NR` and `NX`), or entries of the audit list other than audits and labels.
    /// Otherwise Windows' error: `ERROR_ACCESS_DENIED` when the instance was created without the
    /// right, `ERROR_INVALID_OWNER` when this process may not set that owner,
    /// `ERROR_PRIVILEGE_NOT_HELD` for a label above that of the process.
    #[doc(alias = "SetSecurityInfo")]
    pub fn set_security_descriptor(&self, descriptor: &SecurityDescriptor) -> io::Result<()> {
        descriptor.apply_to(self.stream.handle())
    }

    /// Does something in the client's name: what this thread opens while `act` runs, it opens with
    /// the client's rights. That is over when `act` returns or panics, and as a closure cannot
    /// await, no other work comes under it. If it could not be ended the process would be,
    /// since all that the thread did later would be done in the client's name.
    ///
    /// How far it goes is for the client to say. One that allows identification only, as ours and
    /// Tokio's unless told otherwise, can be asked who it is and nothing more. It is who the
    /// client was when it opened the pipe, or when it wrote what this end has read last.
    ///
    /// ```no_run
    /// # fn serve(server: &npipe::NamedPipeServer) -> std::io::Result<()> {
    /// let user = server.impersonate(|client| client.user())?;
    /// println!("{} is there", user.account_name()?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Calls
    /// [`ImpersonateNamedPipeClient`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-impersonatenamedpipeclient)
    /// and [`RevertToSelf`](https://learn.microsoft.com/windows/win32/api/securitybaseapi/nf-securitybaseapi-reverttoself).
    ///
    /// # Errors
    ///
    /// The error of `act`. If `act` does not run: `ERROR_CANNOT_IMPERSONATE` before anything has
    /// been read from a client that did not set an impersonation level, since Windows learns its
    /// account from what it writes; [`InvalidInput`](io::ErrorKind::InvalidInput) when this thread
    /// impersonates a client already; Windows' error when there is no client.
    #[doc(alias("ImpersonateNamedPipeClient", "RevertToSelf"))]
    pub fn impersonate<T>(&self, act: impl FnOnce(&Impersonation) -> io::Result<T>) -> io::Result<T> {
        Impersonation::during(self.stream.handle(), self.stream.settings().end, act)
    }

    /// Returns the account of the client: [`impersonate`](Self::impersonate) with
    /// [`user`](Impersonation::user). It works with every client that allows
    /// [identification](crate::ImpersonationLevel::Identification), the default of this crate and
    /// of Tokio.
    ///
    /// # Errors
    ///
    /// As [`impersonate`](Self::impersonate) and [`Impersonation::user`].
    #[doc(alias("GetNamedPipeHandleState", "lpUserName"))]
    pub fn client_user(&self) -> io::Result<Sid> {
        self.impersonate(Impersonation::user)
    }
}
