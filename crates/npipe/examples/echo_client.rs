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

    let mut pipe = open(&name).await?;
    pipe.write_all(text.as_bytes()).await?;
    // A pipe has no half-close, so the answer's length has to be known: here it is the question's.
    let mut answer = vec![0; text.len()];
    pipe.read_exact(&mut answer).await?;
    println!("{}", String::from_utf8_lossy(&answer));
    Ok(())
}

/// Waits while every instance of the pipe is taken, as it is for a moment whenever many clients come at once.
#[cfg(windows)]
async fn open(name: &str) -> std::io::Result<npipe::NamedPipeClient> {
    const ERROR_PIPE_BUSY: i32 = 231;
    loop {
        match npipe::ClientOptions::new().open(name) {
            Err(error) if error.raw_os_error() == Some(ERROR_PIPE_BUSY) => {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            opened => return opened,
        }
    }
}

#[cfg(not(windows))]
fn main() {
    println!("Named pipes are Windows'; build this example for Windows.");
}
