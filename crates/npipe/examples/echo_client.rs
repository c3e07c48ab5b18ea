//! A client of `echo_server`: sends a text, prints what comes back.
//!
//!     cargo run --example echo_client -- [NAME [TEXT]]

#[cfg(windows)]
#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| r"\\.\pipe\npipe-echo".to_owned());
    let text = arguments.next().unwrap_or_else(|| "hello through the pipe".to_owned());

    // Waits while every instance of the pipe is taken, as it is for a moment when many clients come at
    // once.
    let mut pipe = npipe::ClientOptions::new().connect(&name).await?;
    pipe.write_all(text.as_bytes()).await?;
    // A pipe has no half-close, so the answer's length has to be known: here it is the question's.
    let mut answer = vec![0; text.len()];
    pipe.read_exact(&mut answer).await?;
    println!("{}", String::from_utf8_lossy(&answer));
    Ok(())
}

#[cfg(not(windows))]
fn main() {
    println!("Named pipes are Windows'; build this example for Windows.");
}
