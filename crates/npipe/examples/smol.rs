//! npipe without Tokio: a server and a client on smol, through the traits of `futures-io`.
//!
//!     cargo run --example smol --no-default-features --features futures-io

#[cfg(windows)]
fn main() -> std::io::Result<()> {
    use npipe::{ClientOptions, ServerOptions};
    use smol::io::{AsyncReadExt, AsyncWriteExt};

    smol::block_on(async {
        let name = format!(r"\\.\pipe\npipe-smol-{}", std::process::id());
        let mut server = ServerOptions::new().first_pipe_instance(true).create(&name)?;
        let serving = smol::spawn(async move {
            server.connect().await?;
            let mut question = [0; 5];
            server.read_exact(&mut question).await?;
            question.reverse();
            server.write_all(&question).await?;
            server.flush().await
        });

        let mut client = ClientOptions::new().open(&name)?;
        client.write_all(b"npipe").await?;
        // The server closes its end after the answer: that is the end of the stream.
        let mut answer = String::new();
        client.read_to_string(&mut answer).await?;
        println!("npipe backwards is {answer}");
        serving.await
    })
}

#[cfg(not(windows))]
fn main() {
    println!("Named pipes are Windows'; build this example for Windows.");
}
