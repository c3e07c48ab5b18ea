//! `npipe connect` on Linux, with a pipe on the Windows side. The rules of endings are tested where
//! they live; here is whether they arrive.

use std::path::Path;
use std::process::{Output, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::process::Command;

use crate::world::{
    random, serve_message_pipe, serve_one_way_pipe, serve_pipe, start_bridge, unique, windows_program,
    within_limit,
};

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
async fn an_empty_message_closes_stdout_and_stdin_goes_on_unless_it_ends_the_session() {
    let Some(program) = windows_program("an empty message and stdout") else { return };
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let name = unique();
    let _pipe = serve_message_pipe(&name, &server.local_addr().unwrap().to_string()).await;
    let mut child = Command::new(env!("CARGO_BIN_EXE_npipe"))
        .args(["-s", &format!("//./pipe/{name}")])
        .env("NPIPE_WINDOWS_EXE", program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (mut stream, _) = within_limit("the connection", server.accept()).await.unwrap();
    stream.write_all(b"all").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut all = Vec::new();
    let mut stdout = child.stdout.take().unwrap();
    within_limit("the end of stdout", stdout.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all, b"all");
    let mut stdin = child.stdin.take().unwrap();
    // More than the bridge holds, so that its end is still on its way when stdin ends.
    let late = random(1, 2 << 20);
    let send = async {
        stdin.write_all(&late).await.unwrap();
        drop(stdin);
    };
    let mut received = Vec::new();
    let ((), end) = tokio::join!(send, within_limit("the end of stdin", stream.read_to_end(&mut received)));
    end.unwrap();
    assert!(received == late, "{} bytes", received.len());
    assert_eq!(within_limit("the end of npipe", child.wait()).await.unwrap().code(), Some(0));
}

/// The server talks before it reads, and the bridge holds what it has not read.
#[tokio::test]
async fn a_stdout_without_reader_loses_nothing_that_is_in_stdin() {
    let Some(program) = windows_program("a stdout without reader") else { return };
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let name = unique();
    let _pipe = serve_pipe(&name, &server.local_addr().unwrap().to_string()).await;
    let request = vec![7; 8 << 20];
    for stays_open in [false, true] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_npipe"))
            .args(["connect", &format!("npipe:{name}")])
            .env("NPIPE_WINDOWS_EXE", &program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut stdin = child.stdin.take().unwrap();
        let feed = async {
            let _ = stdin.write_all(&request).await;
            stays_open.then_some(stdin)
        };
        let serve = async {
            let (mut stream, _) = within_limit("the connection", server.accept()).await.unwrap();
            stream.write_all(b"nobody reads this").await.unwrap();
            let mut received = Vec::new();
            let _ = within_limit("the end of stdin", stream.read_to_end(&mut received)).await;
            received.len()
        };
        let (_stdin, received, status) =
            tokio::join!(feed, serve, within_limit("the end of npipe", child.wait()));
        assert_eq!((received, status.unwrap().code()), (request.len(), Some(8)));
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

#[tokio::test]
async fn a_pipe_whose_server_only_sends_is_read_and_takes_no_input() {
    let Some(program) = windows_program("an outbound pipe") else { return };
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let name = unique();
    let _pipe = serve_one_way_pipe(&name, &server.local_addr().unwrap().to_string(), "outbound").await;
    let news = random(1, 1024 * 1024);
    let send = async || {
        let (mut stream, _) = within_limit("the connection", server.accept()).await.unwrap();
        within_limit("the news", stream.write_all(&news)).await.unwrap();
        stream
    };
    let target = format!("npipe:{name}");
    for arguments in [&["connect"][..], &["connect", "--read-only"], &["forward", "stdio"]] {
        let arguments = [arguments, &[&target]].concat();
        let (output, ()) =
            tokio::join!(npipe(&program, &arguments, b"goes nowhere"), async { drop(send().await) });
        assert_eq!(output.status.code(), Some(0), "{:?}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout == news, "{} bytes", output.stdout.len());
    }
    // The server stays, and the end of stdin ends the session.
    let arguments = ["-ei", "-s", &format!("//./pipe/{name}")];
    let (output, _stream) = tokio::join!(npipe(&program, &arguments, b""), send());
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), news.len()), "{output:?}");

    let (_bridge, socket) = start_bridge(&program, &target, &[]).await;
    let mut client = UnixStream::connect(socket).await.unwrap();
    client.write_all(b"goes nowhere").await.unwrap();
    drop(send().await);
    let mut received = Vec::new();
    within_limit("the end", client.read_to_end(&mut received)).await.unwrap();
    assert!(received == news);

    let output = npipe(&program, &["connect", "--write-only", &target], b"").await;
    assert_eq!(output.status.code(), Some(5), "{output:?}");
}

#[tokio::test]
async fn a_pipe_whose_server_only_receives_takes_all_of_the_input() {
    let Some(program) = windows_program("an inbound pipe") else { return };
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let name = unique();
    let _pipe = serve_one_way_pipe(&name, &server.local_addr().unwrap().to_string(), "inbound").await;
    let log = random(1, 1024 * 1024);
    let receive = async || {
        let (mut stream, _) = within_limit("the connection", server.accept()).await.unwrap();
        let mut received = Vec::new();
        within_limit("the log", stream.read_to_end(&mut received)).await.unwrap();
        assert!(received == log, "{} bytes", received.len());
    };
    let target = format!("npipe:{name}");
    for arguments in [
        &["connect"][..],
        &["connect", "--write-only"],
        &["connect", "--exit-on-stdin-eof"],
        &["forward", "stdio"],
    ] {
        let arguments = [arguments, &[&target]].concat();
        let (output, ()) = tokio::join!(npipe(&program, &arguments, &log), receive());
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b""[..]), "{output:?}");
    }
    // Nothing is written to stdout, so that it needs no reader.
    for arguments in [&["connect"][..], &["connect", "--write-only"], &["forward", "stdio"]] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_npipe"))
            .args([arguments, &[&target]].concat())
            .env("NPIPE_WINDOWS_EXE", &program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut stdin = child.stdin.take().unwrap();
        let feed = async {
            stdin.write_all(&log).await.unwrap();
            drop(stdin);
            within_limit("the end of npipe", child.wait()).await.unwrap()
        };
        let (status, ()) = tokio::join!(feed, receive());
        assert_eq!(status.code(), Some(0), "{arguments:?}");
    }
    // A client that leaves as soon as it has sent all, or ends its writing and stays.
    let (_bridge, socket) = start_bridge(&program, &target, &[]).await;
    for stays in [false, true] {
        let send = async {
            let mut client = UnixStream::connect(&socket).await.unwrap();
            client.write_all(&log).await.unwrap();
            client.shutdown().await.unwrap();
            stays.then_some(client)
        };
        let (_client, ()) = tokio::join!(send, receive());
    }

    let output = npipe(&program, &["connect", "--read-only", &target], b"").await;
    assert_eq!(output.status.code(), Some(5), "{output:?}");
}

#[tokio::test]
async fn one_direction_is_opened_where_that_was_asked_for() {
    let Some(program) = windows_program("one direction of two") else { return };
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let name = unique();
    let _pipe = serve_pipe(&name, &server.local_addr().unwrap().to_string()).await;
    let target = format!("npipe:{name}");
    let answer = async || {
        let (mut stream, _) = within_limit("the connection", server.accept()).await.unwrap();
        stream.write_all(b"answer").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut received = Vec::new();
        within_limit("the end", stream.read_to_end(&mut received)).await.unwrap();
        received
    };
    let arguments = ["connect", "--accept-disconnect", "--read-only", &target];
    let (output, received) = tokio::join!(npipe(&program, &arguments, b"goes nowhere"), answer());
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b"answer"[..]), "{output:?}");
    assert_eq!(received, b"");
}
