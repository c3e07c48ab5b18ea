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
    let second = within_limit("the second client", second).await.unwrap();

    // The next time it is no news.
    let before = files(&forward);
    let mut third = UnixStream::connect(&socket).await.unwrap();
    within_limit("the third client's coming", async {
        while files(&forward) == before {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(second);
    third.write_all(b"x").await.unwrap();
    within_limit("the third client's echo", third.read_exact(&mut [0])).await.unwrap();
    rustix::process::kill_process(forward.id(), rustix::process::Signal::TERM).unwrap();
    forward.finish().await.code(0).no_stderr_has("waits");
}

/// The number of files that the process has open.
fn files(npipe: &Npipe) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", npipe.id().as_raw_pid())).unwrap().count()
}

/// A loop over two programs ends there.
#[tokio::test]
async fn without_a_limit_of_connections_there_is_one() {
    const MOST: u64 = 1024;
    allow_files(2 * MOST + 200);
    let directory = tempfile::tempdir().unwrap();
    let (socket, server) = (directory.path().join("listener.sock"), directory.path().join("server.sock"));
    let listener = tokio::net::UnixListener::bind(&server).unwrap();
    tokio::spawn(async move {
        let mut clients = Vec::new();
        loop {
            clients.push(listener.accept().await.unwrap());
        }
    });
    let (listen, target) = (format!("unix:{}", socket.display()), format!("unix:{}", server.display()));
    let mut forward = Npipe::start(&["forward", &listen, &target]);
    forward.stderr_line("listening on").await;
    let mut clients = Vec::new();
    for _ in 0..=MOST {
        clients.push(UnixStream::connect(&socket).await.unwrap());
    }
    let line = forward.stderr_line("waits until another has left").await;
    assert!(line.contains(&format!("client {} ", MOST + 1)), "{line}");
}

/// For this process, where its user may.
fn allow_files(files: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < files) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(files), maximum }).unwrap();
    }
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
