//! `npipe connect` on Linux, with a pipe on the Windows side. The rules of endings are tested where
//! they live; here is whether they arrive.

use std::path::Path;
use std::process::{Output, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::process::Command;

use crate::world::{serve_message_pipe, serve_pipe, start_bridge, unique, windows_program, within_limit};

/// Runs `npipe` with `input` for its stdin until it ends.
async fn npipe(program: &Path, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_npipe"))
        .args(arguments)
        .env("NPIPE_WINDOWS_EXE", program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).await.unwrap();
    within_limit("the end of npipe", child.wait_with_output()).await.unwrap()
}

#[tokio::test]
async fn stdin_and_stdout_are_joined_with_a_pipe_on_the_windows_side() {
    let Some(program) = windows_program("connect") else { return };
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let name = unique();
    let _pipe = serve_pipe(&name, &server.local_addr().unwrap().to_string()).await;
    let answer = async |stays: bool| {
        let (mut stream, _) = within_limit("the connection", server.accept()).await.unwrap();
        let mut question = [0; 8];
        within_limit("the question", stream.read_exact(&mut question)).await.unwrap();
        assert_eq!(&question, b"question");
        stream.write_all(b"answer").await.unwrap();
        stays.then_some(stream)
    };

    let target = format!("npipe:{name}");
    // The server of this test disconnects its client, which has an exit code of its own.
    for (arguments, code) in [(&["connect"][..], 7), (&["connect", "--accept-disconnect"], 0)] {
        let arguments = [arguments, &[&target]].concat();
        let (output, _) = tokio::join!(npipe(&program, &arguments, b"question"), answer(false));
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(code), &b"answer"[..]), "{output:?}");
    }

    // In npiperelay's words, with a server that stays.
    let path = format!("//./pipe/{name}");
    let arguments = ["-ei", "-s", "-p", &path];
    let (output, stream) = tokio::join!(npipe(&program, &arguments, b"question"), answer(true));
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b"answer"[..]), "{output:?}");
    drop(stream);
}

/// The server says all, by an empty message, and still listens: so the pipe does not end.
#[tokio::test]
async fn an_empty_message_ends_the_session_where_that_was_asked_for() {
    let Some(program) = windows_program("an empty message") else { return };
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let name = unique();
    let _pipe = serve_message_pipe(&name, &server.local_addr().unwrap().to_string()).await;
    let (target, path) = (format!("npipe:{name}"), format!("//./pipe/{name}"));
    for arguments in [&["connect", "--end-at-empty-message", &target][..], &["-ep", "-s", &path]] {
        let answer = async {
            let (mut stream, _) = within_limit("the connection", server.accept()).await.unwrap();
            let mut question = [0; 8];
            within_limit("the question", stream.read_exact(&mut question)).await.unwrap();
            stream.write_all(b"answer").await.unwrap();
            stream.shutdown().await.unwrap();
            stream
        };
        let (output, _stream) = tokio::join!(npipe(&program, arguments, b"question"), answer);
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b"answer"[..]), "{output:?}");
    }
}

#[tokio::test]
async fn an_empty_message_ends_one_direction_of_a_connection() {
    let Some(program) = windows_program("half-close") else { return };
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let name = unique();
    let _pipe = serve_message_pipe(&name, &server.local_addr().unwrap().to_string()).await;
    let (_bridge, socket) = start_bridge(&program, &format!("npipe:{name}"), &[]).await;
    let mut client = UnixStream::connect(socket).await.unwrap();
    let (mut stream, _) = within_limit("the connection", server.accept()).await.unwrap();
    stream.write_all(b"all").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut all = Vec::new();
    within_limit("the end of the server", client.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all, b"all");
    client.write_all(b"late").await.unwrap();
    client.shutdown().await.unwrap();
    let mut late = Vec::new();
    within_limit("the end of the client", stream.read_to_end(&mut late)).await.unwrap();
    assert_eq!(late, b"late");
}

#[tokio::test]
async fn a_pipe_that_nobody_serves_has_its_exit_code() {
    let Some(program) = windows_program("connect to nobody") else { return };
    let target = format!("npipe:{}", unique());
    for options in [&["connect"][..], &["connect", "--poll", "--poll-limit", "2"]] {
        let output = npipe(&program, &[options, &[&target]].concat(), b"").await;
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(words.contains("no program on the Windows side serves"), "{words}");
    }
}
