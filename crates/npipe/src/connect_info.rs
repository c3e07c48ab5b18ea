//! The client of a connection, as web frameworks hand it to their handlers.

use std::io;

use crate::{NamedPipeServer, Peer, Sid};

/// The client of an accepted connection: axum's connect info and tonic's, by the features `axum`
/// and `tonic`.
///
/// It is made when the connection is accepted, by a few short system calls. The account is read
/// when [`user`](Self::user) is called.
///
/// ```no_run
/// # #[cfg(feature = "axum")]
/// # async fn serve() -> std::io::Result<()> {
/// use axum::Router;
/// use axum::extract::ConnectInfo;
/// use axum::routing::get;
/// use npipe::{PipeConnectInfo, ServerOptions};
///
/// async fn whoami(ConnectInfo(client): ConnectInfo<PipeConnectInfo>) -> String {
///     match client.process_id() {
///         Ok(id) => format!("you are process {id}"),
///         Err(error) => format!("Windows does not say: {error}"),
///     }
/// }
///
/// let router = Router::new().route("/whoami", get(whoami));
/// let listener = ServerOptions::new().listen("inventory")?;
/// axum::serve(listener, router.into_make_service_with_connect_info::<PipeConnectInfo>()).await
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct PipeConnectInfo {
    /// Or the Win32 code of looking for it.
    peer: Result<Peer, i32>,
}

impl PipeConnectInfo {
    /// Returns that of the client of `connection`, for servers that accept by themselves.
    pub fn of(connection: &NamedPipeServer) -> Self {
        Self { peer: connection.peer().map_err(|error| error.raw_os_error().unwrap_or_default()) }
    }

    /// Returns the client's process. [How far to trust it](Peer#how-far-to-trust-it) depends on
    /// what it is used for.
    ///
    /// # Errors
    ///
    /// As [`NamedPipeServer::peer`], for instance when the client had left before it was accepted.
    pub fn peer(&self) -> io::Result<&Peer> {
        self.peer.as_ref().map_err(|code| io::Error::from_raw_os_error(*code))
    }

    /// Returns the number of the client's process.
    ///
    /// # Errors
    ///
    /// As [`peer`](Self::peer).
    pub fn process_id(&self) -> io::Result<u32> {
        self.peer().map(Peer::process_id)
    }

    /// Returns the account that the client's process runs as: [`Peer::user`]. Its name is
    /// [`Sid::account_name`], which may ask a domain controller: call that on a thread that may
    /// block.
    ///
    /// # Errors
    ///
    /// As [`peer`](Self::peer) and [`Peer::user`]: Windows reports the user of other users'
    /// processes to administrators and services only.
    pub fn user(&self) -> io::Result<Sid> {
        self.peer()?.user()
    }
}
