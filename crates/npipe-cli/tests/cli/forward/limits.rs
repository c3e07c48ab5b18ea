//! Limits that many clients meet: each is announced, and the clients are served later.

use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::process::{Npipe, within_limit};

/// `npipe forward OPTIONS unix:SOCKET exec:cat`, started by a shell after `ulimit ULIMIT`.
fn forward_after(ulimit: &str, socket: &Path, options: &str) -> Npipe {
    let npipe = env!("CARGO_BIN_EXE_npipe");
    let line = format!("{ulimit}; exec {npipe} forward {options} unix:{} exec:cat", socket.display());
    Npipe::start_program(Path::new("/bin/sh"), &["-c", &line], |_| {})
}

/// A client that is served. The files of others are closed one by one: it may find enough for
/// itself and too few for its target, and comes again.
async fn served(socket: &Path) -> UnixStream {
    within_limit("the echo", async {
        loop {
            let mut client = UnixStream::connect(socket).await.unwrap();
            if client.write_all(b"x").await.is_ok() && client.read_exact(&mut [0]).await.is_ok() {
                return client;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_client_beyond_the_number_of_connections_is_announced_and_served_later() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("listener.sock");
    let mut forward = forward_after(":", &socket, "--max-connections 1");
    forward.stderr_line("listening on").await;
    let first = served(&socket).await;
    let second = tokio::spawn({
        let socket = socket.clone();
        async move { served(&socket).await }
    });
    let line = forward.stderr_line("client 2 waits").await;
    assert!(line.contains("--max-connections"), "{line}");
    drop(first);
    within_limit("the second client", second).await.unwrap();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_limit_of_open_files_is_raised_and_announced_where_it_cannot_be() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("soft.sock");
    let mut forward = forward_after("ulimit -Sn 40; ulimit -Hn 60", &socket, "");
    forward.stderr_line("listening on").await;
    let limits = format!("/proc/{}/limits", forward.id().as_raw_pid());
    let limits = std::fs::read_to_string(limits).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(line.split_whitespace().collect::<Vec<_>>()[3..5], ["60", "60"]);

    // More than there can be, which wait until they are dropped.
    let mut waiting = Vec::new();
    for _ in 0..60 {
        waiting.push(UnixStream::connect(&socket).await.unwrap());
    }
    let line = forward.stderr_line("a client waits").await;
    assert!(line.contains("60 files are open") && line.contains("ulimit -n"), "{line}");
    drop(waiting);
    served(&socket).await;
}
