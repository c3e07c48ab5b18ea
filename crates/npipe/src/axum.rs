//! A listener that `axum::serve` takes, by the feature `axum`.

use std::future;
use std::io;
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};

use crate::driver;
use crate::{NamedPipeListener, NamedPipeServer, PipeConnectInfo, PipeName};

/// The pause after a client that could not be accepted. It stays connected meanwhile.
const PAUSE: Duration = Duration::from_millis(200);

/// For `axum::serve`. Clients have no address, so that of each is the name of the pipe; the client
/// is [`PipeConnectInfo`].
///
/// An `accept` that fails is repeated after a pause. When the listener has been
/// [closed](NamedPipeListener::close), it never returns: the graceful shutdown of `axum::serve`
/// ends the server, and drops the listener.
impl Listener for NamedPipeListener {
    type Io = NamedPipeServer;
    type Addr = PipeName;

    async fn accept(&mut self) -> (NamedPipeServer, PipeName) {
        loop {
            match self.next().await {
                Some(Ok(connection)) => return (connection, self.local_name().clone()),
                // Without a timer, the next attempt follows at once.
                Some(Err(_)) => drop(driver::pause(PAUSE).await),
                None => future::pending().await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<PipeName> {
        Ok(self.local_name().clone())
    }
}

impl Connected<IncomingStream<'_, NamedPipeListener>> for PipeConnectInfo {
    fn connect_info(stream: IncomingStream<'_, NamedPipeListener>) -> Self {
        Self::of(stream.io())
    }
}
