//! `npipe connect`: bytes, ends, and refusals. The test is the server.

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::windows::named_pipe::{ClientOptions, NamedPipeServer, PipeMode, ServerOptions};

use crate::process::{Npipe, Outcome, within_limit};

const MEBIBYTE: usize = 1024 * 1024;

/// A pipe name that no other test has, not even in another process.
pub(crate) fn unique_name() -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    format!("npipe-cli-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn path(name: &str) -> String {
    format!(r"\\.\pipe\{name}")
}

pub(crate) fn random(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

/// A server with one instance, and the address of its pipe.
fn serve() -> (NamedPipeServer, String) {
    let name = unique_name();
    let server = ServerOptions::new().first_pipe_instance(true).max_instances(1).create(path(&name)).unwrap();
    (server, format!("npipe:{name}"))
}

async fn accepted(server: &NamedPipeServer) {
    within_limit("accepting the client", server.connect()).await.unwrap();
}

async fn read_exactly(server: &mut NamedPipeServer, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    within_limit("reading the request", server.read_exact(&mut bytes)).await.unwrap();
    bytes
}

/// Runs a session: `input` on the client's stdin, then its end; `serve` on the server's side.
async fn session<F, S>(input: &[u8], serve_client: F) -> Outcome
where
    F: FnOnce(NamedPipeServer) -> S,
    S: Future<Output = ()>,
{
    let (server, address) = serve();
    let client = Npipe::start(&["connect", &address]);
    let (outcome, ()) = tokio::join!(client.finish_with(input), async {
        accepted(&server).await;
        serve_client(server).await;
    });
    outcome
}

#[tokio::test]
async fn an_empty_session_ends_well() {
    session(b"", async |server| drop(server)).await.code(0).stdout(b"").no_stderr();
}

#[tokio::test]
async fn one_byte_each_way() {
    let outcome = session(b"?", async |mut server| {
        assert_eq!(read_exactly(&mut server, 1).await, b"?");
        server.write_all(b"!").await.unwrap();
    });
    outcome.await.code(0).stdout(b"!").no_stderr();
}

#[tokio::test]
async fn sixty_four_mebibytes_both_ways_at_once_unchanged() {
    let (request, reply) = (random(1, 64 * MEBIBYTE), random(2, 64 * MEBIBYTE));
    let outcome = session(&request, async |server| {
        let (mut read, mut write) = tokio::io::split(server);
        let mut received = vec![0; request.len()];
        let (read, written) = within_limit("64 MiB", async {
            tokio::join!(read.read_exact(&mut received), write.write_all(&reply))
        })
        .await;
        read.unwrap();
        written.unwrap();
        assert!(received == request, "the request was changed on its way");
    });
    outcome.await.code(0).no_stderr().stdout(&reply);
}

#[tokio::test]
async fn a_reply_after_the_end_of_stdin_arrives_whole() {
    let reply = random(3, 8 * MEBIBYTE);
    let outcome = session(b"request", async |mut server| {
        read_exactly(&mut server, 7).await;
        // Byte by byte first: whoever takes the end of stdin for the end of the session is gone by then.
        for byte in &reply[..100] {
            server.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        server.write_all(&reply[100..]).await.unwrap();
    });
    outcome.await.code(0).no_stderr().stdout(&reply);
}

#[tokio::test]
async fn the_end_of_the_pipe_ends_the_process_although_stdin_is_open() {
    let (mut server, address) = serve();
    let client = Npipe::start(&["connect", &address]);
    accepted(&server).await;
    server.write_all(b"that was all").await.unwrap();
    drop(server);
    client.finish().await.code(0).stdout(b"that was all").no_stderr();
}

#[tokio::test]
async fn stdin_is_passed_on_while_it_is_open() {
    let (mut server, address) = serve();
    let mut client = Npipe::start(&["connect", &address]);
    accepted(&server).await;
    let mut stdin = client.stdin.take().unwrap();
    for line in ["first\n", "second\n"] {
        stdin.write_all(line.as_bytes()).await.unwrap();
        stdin.flush().await.unwrap();
        assert_eq!(read_exactly(&mut server, line.len()).await, line.as_bytes());
        server.write_all(line.as_bytes()).await.unwrap();
        let mut answer = vec![0; line.len()];
        let read = client.stdout.as_mut().unwrap().read_exact(&mut answer);
        within_limit("an answer on stdout", read).await.unwrap();
        assert_eq!(answer, line.as_bytes());
    }
    drop(server);
    client.finish().await.code(0).stdout(b"").no_stderr();
}

#[tokio::test]
async fn a_server_that_closes_half_way_is_told_by_the_exit_code_and_its_reply_delivered() {
    // What the pipe and the stdin of a child process hold at most. All that is fed beyond that, and
    // beyond what the server reads, is in the hands of the process.
    const PIPES: usize = 2 * 64 * 1024;
    let input = random(4, MEBIBYTE + PIPES + 4096);
    let (mut server, address) = serve();
    let mut client = Npipe::start(&["connect", &address]);
    accepted(&server).await;
    let stdin = client.stdin.as_mut().unwrap();
    let fed = async {
        stdin.write_all(&input).await.unwrap();
        stdin.flush().await.unwrap();
    };
    within_limit("feeding stdin", async { tokio::join!(fed, read_exactly(&mut server, MEBIBYTE)) }).await;
    server.write_all(b"too long").await.unwrap();
    drop(server);
    let outcome = client.finish().await;
    outcome.code(6).stdout(b"too long").stderr_has("before the server took all that was read from stdin");
}

#[tokio::test]
async fn a_server_process_that_is_killed_ends_the_session() {
    let name = unique_name();
    let address = format!("npipe:{name}");
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("tcp:{}", silent.local_addr().unwrap());
    let mut server = Npipe::start(&["forward", &address, &target]);
    server.stderr_line("listening on").await;
    let client = Npipe::start(&["connect", &address]);
    let _served = within_limit("the client's connection", silent.accept()).await.unwrap();
    drop(server);
    client.finish().await.code(0).stdout(b"").no_stderr();
}

#[tokio::test]
async fn a_server_that_disconnects_is_told_from_one_that_closes() {
    let outcome = session(b"", async |server| server.disconnect().unwrap());
    outcome.await.code(7).stdout(b"").stderr_has("disconnected");
}

#[tokio::test]
async fn a_stdout_that_is_closed_ends_the_session_with_its_own_code() {
    let (mut server, address) = serve();
    let mut client = Npipe::start(&["connect", &address]);
    accepted(&server).await;
    drop(client.stdout.take());
    server.write_all(b"nobody reads this").await.unwrap();
    client.finish().await.code(8).stderr_has("the reader of stdout went away");
    let gone = within_limit("the end of the client", server.read(&mut [0; 1])).await;
    assert_eq!(gone.unwrap(), 0);
}

#[tokio::test]
async fn an_empty_message_is_not_taken_for_the_end() {
    let name = unique_name();
    let mut server = ServerOptions::new().pipe_mode(PipeMode::Message).create(path(&name)).unwrap();
    let client = Npipe::start(&["connect", &format!("npipe:{name}")]);
    accepted(&server).await;
    for message in [&b"before"[..], b"", b" and after"] {
        assert_eq!(server.write(message).await.unwrap(), message.len());
    }
    drop(server);
    client.finish().await.code(0).stdout(b"before and after").no_stderr();
}

#[tokio::test]
async fn stdin_and_stdout_may_be_files() {
    let directory = std::env::temp_dir();
    let name = unique_name();
    let (input, output) = (directory.join(format!("{name}.in")), directory.join(format!("{name}.out")));
    let (request, reply) = (random(5, MEBIBYTE), random(6, MEBIBYTE));
    std::fs::write(&input, &request).unwrap();
    let (mut server, address) = serve();
    let mut client = tokio::process::Command::new(env!("CARGO_BIN_EXE_npipe"))
        .args(["connect", &address])
        .stdin(std::fs::File::open(&input).unwrap())
        .stdout(std::fs::File::create(&output).unwrap())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    accepted(&server).await;
    assert!(read_exactly(&mut server, request.len()).await == request);
    server.write_all(&reply).await.unwrap();
    drop(server);
    let status = within_limit("npipe connect", client.wait()).await.unwrap();
    let written = std::fs::read(&output).unwrap();
    let _ = (std::fs::remove_file(&input), std::fs::remove_file(&output));
    assert_eq!(status.code(), Some(0));
    assert!(written == reply);
}

#[tokio::test]
async fn a_name_that_nobody_serves_is_named() {
    let name = unique_name();
    let outcome = Npipe::start(&["connect", &format!("npipe://./pipe/{name}")]).finish().await;
    let sentence = format!(r"npipe: no program serves \\.\pipe\{name}; is the server running?");
    outcome.code(3).stdout(b"").stderr_has(&sentence);
}

#[tokio::test]
async fn a_pipe_that_everybody_knows_has_a_short_name() {
    // Whether an agent runs on this machine or not: the pipe is named when the session is over.
    let outcome = Npipe::start(&["-v", "connect", "--exit-on-stdin-eof", "ssh-agent"]).finish_with(b"").await;
    outcome.stdout(b"").stderr_has(r"\\.\pipe\openssh-ssh-agent");
}

#[tokio::test]
async fn a_pipe_that_has_one_direction_is_opened_for_that() {
    for command in [&["connect"][..], &["forward", "stdio"]] {
        let name = unique_name();
        let address = format!("npipe:{name}");
        let start = || Npipe::start(&[command, &[&address]].concat());
        let mut server = ServerOptions::new().access_inbound(false).create(path(&name)).unwrap();
        let client = start();
        accepted(&server).await;
        server.write_all(b"news").await.unwrap();
        drop(server);
        // Stdin stays open: nothing reads it.
        client.finish().await.code(0).stdout(b"news").no_stderr();

        let mut server = ServerOptions::new().access_outbound(false).create(path(&name)).unwrap();
        let mut log = Vec::new();
        let (outcome, ()) = tokio::join!(start().finish_with(b"a line"), async {
            accepted(&server).await;
            within_limit("the log", server.read_to_end(&mut log)).await.unwrap();
        });
        outcome.code(0).stdout(b"").no_stderr();
        assert_eq!(log, b"a line");
    }
}

#[tokio::test]
async fn one_direction_is_opened_where_that_was_asked_for() {
    let (mut server, address) = serve();
    // The server stays, so that the end of stdin is the end.
    let client = Npipe::start(&["connect", "--read-only", "--exit-on-stdin-eof", &address]);
    let received = async {
        accepted(&server).await;
        server.write_all(b"news").await.unwrap();
        let mut received = Vec::new();
        within_limit("the end", server.read_to_end(&mut received)).await.unwrap();
        received
    };
    let (outcome, received) = tokio::join!(client.finish_with(b"goes nowhere"), received);
    outcome.code(0).stdout(b"news").no_stderr();
    assert_eq!(received, b"");

    for command in [&["connect"][..], &["forward", "stdio"]] {
        let (mut server, address) = serve();
        let client = Npipe::start(&[command, &["--read-only", &address]].concat());
        accepted(&server).await;
        server.write_all(b"news").await.unwrap();
        drop(server);
        client.finish().await.code(0).stdout(b"news").no_stderr();

        let (mut server, address) = serve();
        let client = Npipe::start(&[command, &["--write-only", &address]].concat());
        let received = async {
            accepted(&server).await;
            server.write_all(b"goes nowhere").await.unwrap();
            let mut received = Vec::new();
            within_limit("the end", server.read_to_end(&mut received)).await.unwrap();
            received
        };
        let (outcome, received) = tokio::join!(client.finish_with(b"a line"), received);
        outcome.code(0).stdout(b"").no_stderr();
        assert_eq!(received, b"a line");
    }
}

#[tokio::test]
async fn a_direction_that_the_server_does_not_allow_is_refused() {
    for (flag, inbound) in [("--read-only", true), ("--write-only", false)] {
        let name = unique_name();
        let server =
            ServerOptions::new().access_inbound(inbound).access_outbound(!inbound).create(path(&name));
        let _server = server.unwrap();
        for command in [&["connect"][..], &["forward", "stdio"]] {
            let outcome = Npipe::start(&[command, &[flag, &format!("npipe:{name}")]].concat()).finish().await;
            outcome.code(5).stdout(b"").stderr_has(&name);
        }
    }
}

/// The server stays.
#[tokio::test]
async fn an_empty_message_of_a_server_that_only_sends_is_its_end() {
    for flags in [&["--end-at-empty-message"][..], &["--end-at-empty-message", "--read-only"]] {
        let name = unique_name();
        let server =
            ServerOptions::new().access_inbound(false).pipe_mode(PipeMode::Message).create(path(&name));
        let mut server = server.unwrap();
        let client = Npipe::start(&[&["connect"], flags, &[&format!("npipe:{name}")]].concat());
        accepted(&server).await;
        server.write_all(b"all").await.unwrap();
        assert_eq!(server.write(b"").await.unwrap(), 0);
        client.finish().await.code(0).stdout(b"all").no_stderr();
        drop(server);
    }
}

#[tokio::test]
async fn the_end_of_stdin_ends_a_session_that_sends_nothing() {
    let name = unique_name();
    let mut server = ServerOptions::new().access_inbound(false).create(path(&name)).unwrap();
    let client = Npipe::start(&["-ei", "-s", &format!("//./pipe/{name}")]);
    let (outcome, ()) = tokio::join!(client.finish_with(b"goes nowhere"), async {
        accepted(&server).await;
        server.write_all(b"news").await.unwrap();
    });
    outcome.code(0).stdout(b"news");
    drop(server);
}

#[tokio::test]
async fn a_busy_pipe_is_waited_for_no_longer_than_told() {
    let (_server, address) = serve();
    let _other = ClientOptions::new().open(path(address.trim_start_matches("npipe:"))).unwrap();
    let outcome = Npipe::start(&["connect", "--wait", "0", &address]).finish().await;
    outcome.code(4).stdout(b"").stderr_has("stayed busy");
}

#[tokio::test]
async fn a_busy_pipe_that_becomes_free_is_connected_to() {
    let name = unique_name();
    let _taken = ServerOptions::new().create(path(&name)).unwrap();
    let _other = ClientOptions::new().open(path(&name)).unwrap();
    let mut client = Npipe::start(&["-v", "connect", "--wait", "100", &format!("npipe:{name}")]);
    client.stderr_line("busy, waiting").await;
    let mut server = ServerOptions::new().create(path(&name)).unwrap();
    accepted(&server).await;
    server.write_all(b"your turn").await.unwrap();
    drop(server);
    client.finish().await.code(0).stdout(b"your turn");
}

#[tokio::test]
async fn the_verbose_flag_given_twice_tells_each_step() {
    let (mut server, address) = serve();
    let client = Npipe::start(&["-vv", "connect", &address]);
    accepted(&server).await;
    server.write_all(b"pong!").await.unwrap();
    drop(server);
    let outcome = client.finish().await;
    outcome.code(0).stdout(b"pong!").stderr_has("ended its side, and stdout took it all, after 5 bytes and ");
    let missing = Npipe::start(&["-vv", "connect", &format!("npipe:{}", unique_name())]).finish().await;
    missing.code(3).stderr_has("attempt 1 to connect to");
}

#[tokio::test]
async fn the_verbose_flag_counts_bytes_on_stderr() {
    let (mut server, address) = serve();
    let client = Npipe::start(&["connect", "--verbose", &address]);
    let (outcome, ()) = tokio::join!(client.finish_with(b"ping"), async {
        accepted(&server).await;
        read_exactly(&mut server, 4).await;
        server.write_all(b"pong!").await.unwrap();
        drop(server);
    });
    outcome.code(0).stdout(b"pong!").stderr_has("connected to").stderr_has("4 bytes sent, 5 bytes received");
}
