//! An echo server: every client gets back what it sends, all of them at once.
//!
//!     cargo run --example echo_server -- [NAME [CONNECTIONS]]
//!
//! Serves `\\.\pipe\npipe-echo` until Ctrl-C, or the pipe NAME until CONNECTIONS clients have come
//! and gone. The other side is `echo_client`.

#[cfg(windows)]
#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| r"\\.\pipe\npipe-echo".to_owned());
    let connections = match arguments.next() {
        Some(number) => number.parse().map_err(std::io::Error::other)?,
        None => usize::MAX,
    };
    tokio::select! {
        served = serve(&name, connections) => served,
        interrupted = tokio::signal::ctrl_c() => interrupted,
    }
}

#[cfg(windows)]
async fn serve(name: &str, connections: usize) -> std::io::Result<()> {
    use npipe::ServerOptions;
    use tokio::task::JoinSet;

    // If somebody else owns the name already, that is an error and not a surprise.
    let listener = ServerOptions::new().listen(name)?;
    println!("listening on {name}");

    let mut clients = JoinSet::new();
    for _ in 0..connections {
        clients.spawn(echo(listener.accept().await?));
        while let Some(ended) = clients.try_join_next() {
            report(ended);
        }
    }
    while let Some(ended) = clients.join_next().await {
        report(ended);
    }
    Ok(())
}

#[cfg(windows)]
async fn echo(pipe: npipe::NamedPipeServer) -> std::io::Result<u64> {
    let (mut reader, mut writer) = tokio::io::split(pipe);
    tokio::io::copy(&mut reader, &mut writer).await
}

/// One client's failure is no reason to turn away the others.
#[cfg(windows)]
fn report(ended: Result<std::io::Result<u64>, tokio::task::JoinError>) {
    match ended {
        Ok(Ok(bytes)) => println!("echoed {bytes} bytes"),
        Ok(Err(error)) => eprintln!("a client failed: {error}"),
        Err(error) => eprintln!("a client's task ended: {error}"),
    }
}

#[cfg(not(windows))]
fn main() {
    println!("Named pipes are Windows'; build this example for Windows.");
}
