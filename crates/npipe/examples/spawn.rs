//! Pipes on tasks without a thread switch, in a program that is Tokio's otherwise: the tasks that
//! own pipes run on `npipe::spawn`, and Tokio's time-outs and channels work in them.
//!
//!     cargo run --example spawn

#[cfg(windows)]
#[tokio::main]
async fn main() -> std::io::Result<()> {
    use npipe::{ClientOptions, ServerOptions};
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const CLIENTS: u32 = 3;

    let name = format!(r"\\.\pipe\npipe-spawn-{}", std::process::id());
    let (served, mut orders) = tokio::sync::mpsc::channel(8);
    let (ready, is_ready) = tokio::sync::oneshot::channel();

    let accepting = npipe::spawn({
        let name = name.clone();
        async move {
            // Made inside the task: the pipe is on the port that this task's thread waits on.
            let mut server = ServerOptions::new().first_pipe_instance(true).create(&name)?;
            let _ = ready.send(());
            for _ in 0..CLIENTS {
                server.connect().await?;
                let mut connected = std::mem::replace(&mut server, ServerOptions::new().create(&name)?);
                let served = served.clone();
                // Stays on this thread, beside its pipe.
                npipe::spawn(async move {
                    let mut order = [0; 4];
                    let read = connected.read_exact(&mut order);
                    if let Ok(Ok(_)) = tokio::time::timeout(Duration::from_secs(5), read).await {
                        let _ = served.send(u32::from_le_bytes(order)).await;
                        let _ = connected.write_all(b"done").await;
                    }
                })
                .detach();
            }
            std::io::Result::Ok(())
        }
    });

    let _ = is_ready.await;
    for number in 1..=CLIENTS {
        // The clients are ordinary tasks of the runtime, and the pipes are the same type.
        let mut client = ClientOptions::new().open(&name)?;
        client.write_all(&number.to_le_bytes()).await?;
        let mut answer = String::new();
        client.read_to_string(&mut answer).await?;
        println!("order {} {answer}", orders.recv().await.expect("a served order"));
    }
    accepting.await
}

#[cfg(not(windows))]
fn main() {
    println!("Named pipes are Windows'; build this example for Windows.");
}
