//! HTTP over a named pipe, as Docker and others speak it: a hyper server with a time limit for
//! headers and an orderly stop, and a client that keeps its connection for the next request.
//!
//!     cargo run --example hyper
//!
//! A pipe is a byte stream like a socket, so hyper needs nothing but `TokioIo` around it. A router
//! of axum's can take the place of `answer`, in a `hyper_util::service::TowerToHyperService`.

#[cfg(windows)]
type Error = Box<dyn std::error::Error + Send + Sync>;

#[cfg(windows)]
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    use http_body_util::{BodyExt, Empty};
    use hyper::body::Bytes;
    use hyper_util::client::legacy::Client;
    use hyper_util::rt::TokioExecutor;
    use npipe::{PipeConnector, ServerOptions};
    use tokio::sync::oneshot;

    let name = format!(r"\\.\pipe\npipe-hyper-{}", std::process::id());
    let listener = ServerOptions::new().listen(&name)?;
    let (stop, stopped) = oneshot::channel();
    let serving = tokio::spawn(serve(listener, stopped));

    let client: Client<_, Empty<Bytes>> =
        Client::builder(TokioExecutor::new()).build(PipeConnector::new(&name)?);
    for path in ["/greeting", "/farewell"] {
        // Over a pipe the host of a URI is the header `Host` and nothing else.
        let response = client.get(format!("http://pipe{path}").parse()?).await?;
        println!("status {}", response.status());
        // Once its body has been read, the connection serves the next request.
        let body = response.into_body().collect().await?.to_bytes();
        println!("{}", String::from_utf8_lossy(&body));
    }

    drop(stop);
    println!("connections: {}", serving.await??);
    Ok(())
}

/// Serves the clients that connect until `stopped`, and ends after the requests that have begun.
/// Returns the number of connections.
#[cfg(windows)]
async fn serve(
    listener: npipe::NamedPipeListener,
    mut stopped: tokio::sync::oneshot::Receiver<()>,
) -> std::io::Result<usize> {
    use std::io::ErrorKind;
    use std::time::Duration;

    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::{TokioIo, TokioTimer};
    use hyper_util::server::graceful::GracefulShutdown;

    let mut server = http1::Builder::new();
    // A client that connects and sends no request may not stay.
    server.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(10));
    let graceful = GracefulShutdown::new();
    let (mut connections, mut listening_is_over) = (0, false);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = &mut stopped, if !listening_is_over => {
                // Clients that have connected are served before the end.
                listener.stop_listening();
                listening_is_over = true;
                continue;
            }
        };
        let pipe = match accepted {
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => break,
            accepted => accepted?,
        };
        connections += 1;
        tokio::spawn(graceful.watch(server.serve_connection(TokioIo::new(pipe), service_fn(answer))));
    }
    tokio::select! {
        () = graceful.shutdown() => {}
        // Those that do not come to an end by themselves are dropped with the runtime.
        () = tokio::time::sleep(Duration::from_secs(10)) => {}
    }
    Ok(connections)
}

#[cfg(windows)]
async fn answer(
    request: hyper::Request<hyper::body::Incoming>,
) -> Result<hyper::Response<String>, std::convert::Infallible> {
    Ok(hyper::Response::new(format!("you asked for {}", request.uri().path())))
}

#[cfg(not(windows))]
fn main() {
    println!("Named pipes are Windows'; build this example for Windows.");
}
