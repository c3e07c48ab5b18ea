//! HTTP over a named pipe, as Docker and others speak it: a hyper server and a hyper client, one
//! GET from end to end.
//!
//!     cargo run --example hyper
//!
//! A pipe is a byte stream like a socket, so hyper needs nothing but `TokioIo` around it, and a
//! server an accept loop.

#[cfg(windows)]
type Error = Box<dyn std::error::Error + Send + Sync>;

#[cfg(windows)]
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    use http_body_util::{BodyExt, Empty};
    use hyper::Request;
    use hyper::body::Bytes;
    use hyper_util::rt::TokioIo;
    use npipe::{ClientOptions, ServerOptions};

    let name = format!(r"\\.\pipe\npipe-hyper-{}", std::process::id());
    let listener = ServerOptions::new().listen(&name)?;
    let serving = tokio::spawn(serve(listener));

    let pipe = ClientOptions::new().connect(&name).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(pipe)).await?;
    let connection = tokio::spawn(connection);

    // HTTP/1.1 wants a Host; over a pipe its value is of no meaning.
    let request = Request::get("/greeting").header("host", "pipe").body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    println!("status {}", response.status());
    let body = response.into_body().collect().await?.to_bytes();
    println!("{}", String::from_utf8_lossy(&body));

    // Without a sender the client ends the connection.
    drop(sender);
    connection.await??;
    serving.abort();
    Ok(())
}

#[cfg(windows)]
async fn serve(listener: npipe::NamedPipeListener) -> std::io::Result<()> {
    use hyper_util::rt::TokioIo;

    loop {
        let pipe = listener.accept().await?;
        tokio::spawn(
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(pipe), hyper::service::service_fn(answer)),
        );
    }
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
