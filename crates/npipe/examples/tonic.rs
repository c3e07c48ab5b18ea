//! gRPC over a named pipe: tonic serves its health service to a client of its own.
//!
//!     cargo run --example tonic
//!
//! A server takes its clients from `into_incoming`; a client is given a way to connect. What tonic
//! wants to know of a connection, and cannot know of ours, takes a type in between.

#[cfg(windows)]
mod pipe {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use npipe::{NamedPipeServer, Peer};
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    /// A connection, with who is at its other end. Services find it in the extensions of a request.
    pub(crate) struct Connection(pub(crate) NamedPipeServer);

    impl tonic::transport::server::Connected for Connection {
        type ConnectInfo = Option<Peer>;

        fn connect_info(&self) -> Option<Peer> {
            self.0.peer().ok()
        }
    }

    impl AsyncRead for Connection {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(context, buffer)
        }
    }

    impl AsyncWrite for Connection {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.0).poll_write(context, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(context)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(context)
        }
    }
}

#[cfg(windows)]
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    use futures_lite::StreamExt;
    use hyper_util::rt::TokioIo;
    use npipe::{ClientOptions, ServerOptions};
    use tokio::sync::oneshot;
    use tonic::transport::{Endpoint, Server};
    use tonic_health::ServingStatus;
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;

    let name = format!(r"\\.\pipe\npipe-tonic-{}", std::process::id());
    let (health, service) = tonic_health::server::health_reporter();
    health.set_service_status("orchard", ServingStatus::Serving).await;
    let incoming = ServerOptions::new().listen(&name)?.into_incoming();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(Server::builder().add_service(service).serve_with_incoming_shutdown(
        incoming.map(|pipe| pipe.map(pipe::Connection)),
        async move {
            drop(stopped.await);
        },
    ));

    // The address says nothing over a pipe, but there has to be one.
    let channel = Endpoint::from_static("http://pipe")
        .connect_with_connector(tower::service_fn(move |_| {
            let name = name.clone();
            async move { ClientOptions::new().connect(&name).await.map(TokioIo::new) }
        }))
        .await?;
    let mut client = HealthClient::new(channel);
    for service in ["orchard", "kitchen"] {
        match client.check(HealthCheckRequest { service: service.into() }).await {
            Ok(answer) => println!("{service}: {:?}", answer.into_inner().status()),
            Err(status) => println!("{service}: {}", status.message()),
        }
    }

    drop((client, stop));
    serving.await??;
    Ok(())
}

#[cfg(not(windows))]
fn main() {
    println!("Named pipes are Windows'; build this example for Windows.");
}
