//! One router of axum's on a TCP port and a named pipe, which reports who asks, and stops in order.
//!
//!     cargo run --example axum
//!
//! `axum::serve` takes a `NamedPipeListener` as it takes a `TcpListener`. The two have different
//! clients: a type of one's own, `Caller`, lets handlers serve both. `axum::serve` has no time-out
//! for slow headers; the example `hyper` sets one.

#[cfg(windows)]
mod service {
    use std::net::SocketAddr;

    use axum::Router;
    use axum::extract::connect_info::{ConnectInfo, Connected};
    use axum::routing::get;
    use axum::serve::IncomingStream;
    use npipe::{NamedPipeListener, PipeConnectInfo};
    use tokio::net::TcpListener;

    /// The client of a request.
    #[derive(Clone)]
    pub(crate) enum Caller {
        Tcp(SocketAddr),
        Pipe(PipeConnectInfo),
    }

    impl Connected<IncomingStream<'_, TcpListener>> for Caller {
        fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
            Self::Tcp(*stream.remote_addr())
        }
    }

    impl Connected<IncomingStream<'_, NamedPipeListener>> for Caller {
        fn connect_info(stream: IncomingStream<'_, NamedPipeListener>) -> Self {
            Self::Pipe(PipeConnectInfo::connect_info(stream))
        }
    }

    pub(crate) fn router() -> Router {
        Router::new().route("/whoami", get(whoami))
    }

    async fn whoami(ConnectInfo(caller): ConnectInfo<Caller>) -> String {
        match caller {
            Caller::Tcp(address) => format!("a program at {}", address.ip()),
            Caller::Pipe(client) => match (client.process_id(), client.user()) {
                (Ok(id), Ok(_)) if id == std::process::id() => "this process, of a known user".to_owned(),
                (Ok(id), Ok(user)) => format!("process {id} of {user}"),
                (Ok(id), Err(error)) => format!("process {id} of an unknown user: {error}"),
                (Err(error), _) => format!("an unknown process: {error}"),
            },
        }
    }
}

#[cfg(windows)]
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    use http_body_util::{BodyExt, Empty};
    use hyper::body::Bytes;
    use hyper_util::client::legacy::Client;
    use hyper_util::client::legacy::connect::HttpConnector;
    use hyper_util::rt::TokioExecutor;
    use npipe::{PipeConnector, ServerOptions};
    use tokio::net::TcpListener;
    use tokio::sync::watch;

    let name = format!(r"\\.\pipe\npipe-axum-{}", std::process::id());
    let pipe = ServerOptions::new().listen(&name)?;
    let tcp = TcpListener::bind("127.0.0.1:0").await?;
    let port = tcp.local_addr()?.port();

    let (stop, stopped) = watch::channel(());
    let until = |mut stopped: watch::Receiver<()>| async move { drop(stopped.changed().await) };
    let service = service::router().into_make_service_with_connect_info::<service::Caller>();
    let serving = tokio::spawn({
        let on_tcp = axum::serve(tcp, service.clone()).with_graceful_shutdown(until(stopped.clone()));
        let on_pipe = axum::serve(pipe, service).with_graceful_shutdown(until(stopped));
        async { tokio::try_join!(on_tcp, on_pipe) }
    });

    let over_pipe: Client<_, Empty<Bytes>> =
        Client::builder(TokioExecutor::new()).build(PipeConnector::new(&name)?);
    let over_tcp: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
    let text = async |response: hyper::Response<hyper::body::Incoming>| {
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        Ok::<_, hyper::Error>(format!("{status} {}", String::from_utf8_lossy(&body)))
    };
    // Over a pipe the host of a URI is the header `Host` and nothing else.
    let response = over_pipe.get("http://pipe/whoami".parse()?).await?;
    println!("over the pipe: {}", text(response).await?);
    let response = over_tcp.get(format!("http://127.0.0.1:{port}/whoami").parse()?).await?;
    println!("over TCP: {}", text(response).await?);
    let response = over_pipe.get("http://pipe/pears".parse()?).await?;
    println!("over the pipe: {}", text(response).await?);

    // No further client is accepted; connections end after the answer that they are at.
    stop.send(())?;
    serving.await??;
    println!("stopped");
    Ok(())
}

#[cfg(not(windows))]
fn main() {
    println!("Named pipes are Windows'; build this example for Windows.");
}
