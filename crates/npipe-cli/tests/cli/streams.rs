//! Stdin, stdout and stderr that are not what a program expects: non-blocking, full, files,
//! directories.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, UnixListener, UnixStream};

use crate::process::{Npipe, within_limit};

/// A socket for a child, which is non-blocking there too, and the other end of it.
fn non_blocking() -> (OwnedFd, UnixStream) {
    let (theirs, ours) = StdUnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    ours.set_nonblocking(true).unwrap();
    (theirs.into(), UnixStream::from_std(ours).unwrap())
}

struct Server {
    listener: UnixListener,
    target: String,
    _directory: tempfile::TempDir,
}

impl Server {
    fn new() -> Server {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("server.sock");
        let target = format!("unix:{}", path.display());
        Server { listener: UnixListener::bind(path).unwrap(), target, _directory: directory }
    }

    async fn accept(&self) -> UnixStream {
        within_limit("the connection", self.listener.accept()).await.unwrap().0
    }

    /// `npipe forward stdio` to it, with these streams.
    fn client(&self, stdin: impl Into<Stdio>, stdout: impl Into<Stdio>) -> Npipe {
        Npipe::start_with(&["forward", "stdio", &self.target], |command| {
            command.stdin(stdin).stdout(stdout);
        })
    }
}

#[tokio::test]
async fn non_blocking_streams_carry_every_byte_in_both_directions() {
    let server = Server::new();
    let (stdio, ours) = non_blocking();
    let client = server.client(stdio.try_clone().unwrap(), stdio);
    let mut connection = server.accept().await;
    let (mut read, mut write) = ours.into_split();
    let bytes = vec![7; 4 << 20];
    // By now the first read of stdin has found nothing, and writes of stdout will find no room.
    let echo = async {
        let mut question = [0; 8];
        within_limit("the question", connection.read_exact(&mut question)).await.unwrap();
        assert_eq!(&question, b"question");
        within_limit("the reply", connection.write_all(&bytes)).await.unwrap();
        drop(connection);
    };
    let ask = async {
        write.write_all(b"question").await.unwrap();
        let mut received = Vec::new();
        within_limit("the end", read.read_to_end(&mut received)).await.unwrap();
        assert!(received == bytes, "{} of {} bytes", received.len(), bytes.len());
    };
    tokio::join!(echo, ask);
    client.finish().await.code(0).no_stderr();
}

#[tokio::test]
async fn a_non_blocking_stderr_takes_whole_lines() {
    let refusing = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("tcp:{}", refusing.local_addr().unwrap());
    drop(refusing);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("listener.sock");
    let (stderr, ours) = non_blocking();
    let _forward =
        Npipe::start_with(&["-v", "forward", &format!("unix:{}", path.display()), &target], |command| {
            command.stderr(stderr);
        });
    let mut lines = BufReader::new(ours).lines();
    let listening = within_limit("the first line", lines.next_line()).await.unwrap().unwrap();
    assert!(listening.starts_with("listening on"), "{listening}");
    const CLIENTS: usize = 3000;
    for _ in 0..CLIENTS {
        let mut client = UnixStream::connect(&path).await.unwrap();
        assert_eq!(within_limit("the end", client.read(&mut [0])).await.unwrap(), 0);
    }
    let mut next = 1;
    while next <= CLIENTS {
        let line = within_limit("a line", lines.next_line()).await.unwrap().unwrap();
        match line.strip_suffix(" lines were dropped here, since stderr took none") {
            Some(dropped) => next += dropped.strip_prefix("npipe: ").unwrap().parse::<usize>().unwrap(),
            None => {
                let expected = format!("npipe: client {next}: cannot connect to {target}");
                assert!(line.starts_with(&expected) && line.ends_with("; connection closed"), "{line}");
                next += 1;
            }
        }
    }
}

#[tokio::test]
async fn files_are_read_and_written_and_what_cannot_be_is_named() {
    let server = Server::new();
    let directory = tempfile::tempdir().unwrap();
    let (input, output) = (directory.path().join("input"), directory.path().join("output"));
    fs::write(&input, "question").unwrap();
    let client = server.client(File::open(&input).unwrap(), File::create(&output).unwrap());
    let mut connection = server.accept().await;
    let mut question = Vec::new();
    within_limit("the question", connection.read_to_end(&mut question)).await.unwrap();
    assert_eq!(question, b"question");
    connection.write_all(b"answer").await.unwrap();
    drop(connection);
    client.finish().await.code(0).no_stderr();
    assert_eq!(fs::read(&output).unwrap(), b"answer");

    let client = server.client(Stdio::piped(), File::options().write(true).open("/dev/full").unwrap());
    let mut connection = server.accept().await;
    connection.write_all(b"answer").await.unwrap();
    client.finish().await.code(1).stderr_has("cannot write to stdout: No space left on device");

    let client = server.client(File::open(directory.path()).unwrap(), Stdio::piped());
    let mut connection = server.accept().await;
    let _ = within_limit("the end of nothing", connection.read_to_end(&mut Vec::new())).await;
    drop(connection);
    client.finish().await.code(1).stderr_has("cannot read from stdin: Is a directory");
}
