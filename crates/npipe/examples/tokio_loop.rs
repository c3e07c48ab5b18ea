//! Coming from Tokio: the accept loop that Tokio documents for named pipes, and clients for it.
//!
//!     cargo run --example tokio_loop
//!
//! The `use` line names `npipe` where it named `tokio::net::windows::named_pipe`; nothing else
//! changed.

#[cfg(windows)]
use npipe::{ClientOptions, NamedPipeServer, ServerOptions};

#[cfg(windows)]
const CLIENTS: u8 = 5;

#[cfg(windows)]
#[tokio::main]
async fn main() -> std::io::Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let name = format!(r"\\.\pipe\npipe-tokio-loop-{}", std::process::id());
    // Created before the first client is started: a client that finds no instance fails.
    let server = ServerOptions::new().first_pipe_instance(true).create(&name)?;
    let serving = tokio::spawn(accept_loop(server, name.clone()));

    for number in 1..=CLIENTS {
        let mut client = ClientOptions::new().open(&name)?;
        client.write_u8(number).await?;
        println!("client {number}: the square is {}", client.read_u8().await?);
    }
    serving.await.map_err(std::io::Error::other)?
}

#[cfg(windows)]
async fn accept_loop(mut server: NamedPipeServer, name: String) -> std::io::Result<()> {
    for _ in 0..CLIENTS {
        server.connect().await?;
        let connected = server;
        // The next instance exists before this client is served; in between, the next client would get "not
        // found" or "busy".
        server = ServerOptions::new().create(&name)?;
        tokio::spawn(square(connected));
    }
    Ok(())
}

#[cfg(windows)]
async fn square(mut pipe: NamedPipeServer) -> std::io::Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let number = pipe.read_u8().await?;
    pipe.write_u8(number * number).await
}

#[cfg(not(windows))]
fn main() {
    println!("Named pipes are Windows'; build this example for Windows.");
}
