//! The two libraries that have the same interface, as one trait: the traffic that is measured is
//! written once and differs in the `use` line only.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

/// What the traffic needs of `tokio::net::windows::named_pipe` and of whatever has the same names.
pub(crate) trait Pipes: 'static {
    type Server: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    type Client: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    fn create(name: &str) -> io::Result<Self::Server>;
    fn open(name: &str) -> io::Result<Self::Client>;
    fn connect(server: &Self::Server) -> impl Future<Output = io::Result<()>> + Send;
}

macro_rules! pipes {
    ($(#[$doc:meta])* $marker:ident, $library:path) => {
        $(#[$doc])*
        pub(crate) struct $marker;

        const _: () = {
            use $library::{ClientOptions, NamedPipeClient, NamedPipeServer, ServerOptions};

            impl Pipes for $marker {
                type Server = NamedPipeServer;
                type Client = NamedPipeClient;

                fn create(name: &str) -> io::Result<NamedPipeServer> {
                    ServerOptions::new().create(name)
                }

                fn open(name: &str) -> io::Result<NamedPipeClient> {
                    ClientOptions::new().open(name)
                }

                fn connect(server: &NamedPipeServer) -> impl Future<Output = io::Result<()>> + Send {
                    server.connect()
                }
            }
        };
    };
}

pipes!(
    /// This repository's library.
    Npipe, npipe
);
pipes!(
    /// Tokio's own named pipes: mio underneath.
    Tokio, tokio::net::windows::named_pipe
);
