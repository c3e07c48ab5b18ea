//! A web service of axum's on a named pipe, and a client of hyper's that asks it.
//!
//!     cargo run --example axum
//!
//! `axum::serve` takes anything that implements its trait `Listener`; for ours that is a dozen
//! lines.

#[cfg(windows)]
mod pipe {
    use std::time::Duration;

    use npipe::{NamedPipeListener, NamedPipeServer, PipeName};

    /// The trait and the listener are both others', hence a type in between.
    pub(crate) struct Listener(pub(crate) NamedPipeListener);

    impl axum::serve::Listener for Listener {
        type Io = NamedPipeServer;
        type Addr = PipeName;

        /// The trait leaves no room for errors: those of an accept pass.
        async fn accept(&mut self) -> (NamedPipeServer, PipeName) {
            loop {
                match self.0.accept().await {
                    Ok(pipe) => return (pipe, self.0.local_name().clone()),
                    Err(error) => {
                        eprintln!("cannot take a client of {}: {error}", self.0.local_name());
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                }
            }
        }

        fn local_addr(&self) -> std::io::Result<PipeName> {
            Ok(self.0.local_name().clone())
        }
    }
}

#[cfg(windows)]
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    use axum::Router;
    use axum::extract::Path;
    use axum::routing::get;
    use http_body_util::{BodyExt, Empty};
    use hyper::Request;
    use hyper::body::Bytes;
    use hyper_util::rt::TokioIo;
    use npipe::{ClientOptions, ServerOptions};
    use tokio::sync::oneshot;

    let name = format!(r"\\.\pipe\npipe-axum-{}", std::process::id());
    let service = Router::new().route(
        "/apples/{colour}",
        get(async |Path(colour): Path<String>| format!("there are three {colour} apples")),
    );
    let listener = pipe::Listener(ServerOptions::new().listen(&name)?);
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        let until = async move { drop(stopped.await) };
        axum::serve(listener, service).with_graceful_shutdown(until).await
    });

    for path in ["/apples/red", "/pears"] {
        let pipe = ClientOptions::new().connect(&name).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(pipe)).await?;
        let connection = tokio::spawn(connection);
        // HTTP/1.1 wants a Host; over a pipe its value is of no meaning.
        let request = Request::get(path).header("host", "pipe").body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        println!("{path}: {status} {}", String::from_utf8_lossy(&body));
        drop(sender);
        connection.await??;
    }

    drop(stop);
    serving.await??;
    Ok(())
}

#[cfg(not(windows))]
fn main() {
    println!("Named pipes are Windows'; build this example for Windows.");
}
