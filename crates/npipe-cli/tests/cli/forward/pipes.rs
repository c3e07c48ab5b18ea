//! Pipes that are served. The test is the TCP server, and the clients too.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::windows::named_pipe::{ClientOptions, NamedPipeClient, PipeMode, ServerOptions};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::connect::{path, random, unique_name};
use crate::process::{Npipe, within_limit};
use crate::wine::skipped_under_wine;

const ERROR_PIPE_BUSY: i32 = 231;
const MEBIBYTE: usize = 1024 * 1024;

/// A running `npipe forward` to a TCP server of the test.
struct Forward {
    name: String,
    process: Npipe,
    server: TcpListener,
}

impl Forward {
    async fn start() -> Forward {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (name, process) = start_forward(&server.local_addr().unwrap().to_string()).await;
        Forward { name, process, server }
    }

    async fn client(&self) -> NamedPipeClient {
        open(&self.name).await
    }

    async fn accept(&self) -> TcpStream {
        within_limit("the connection of the client", self.server.accept()).await.unwrap().0
    }
}

async fn start_forward(target: &str) -> (String, Npipe) {
    let name = unique_name();
    let mut process = Npipe::start(&["-v", "forward", &format!("npipe:{name}"), &format!("tcp:{target}")]);
    assert_eq!(process.stderr_line("").await, format!(r"listening on \\.\pipe\{name}"));
    (name, process)
}

/// How Docker's clients end what they send, and still wait for the answer.
#[tokio::test]
async fn the_server_of_a_message_pipe_is_told_the_end_of_a_client_by_an_empty_message() {
    let name = unique_name();
    let options = npipe::ServerOptions::new().pipe_mode(npipe::PipeMode::Message).clone();
    let listener = options.listen_blocking(path(&name)).unwrap();
    let server = tokio::task::spawn_blocking(move || {
        let mut pipe = listener.accept_timeout(std::time::Duration::from_secs(100)).unwrap();
        pipe.set_empty_message_is_end(true).unwrap();
        let request = io::read_to_string(&pipe).unwrap();
        io::Write::write_all(&mut pipe, b"the answer to ").unwrap();
        io::Write::write_all(&mut pipe, request.as_bytes()).unwrap();
    });
    let outcome =
        Npipe::start(&["forward", "stdio", &format!("npipe:{name}")]).finish_with(b"the question").await;
    outcome.stdout(b"the answer to the question").code(0);
    server.await.unwrap();
}

/// More clients may come at once than instances wait for them; that the name is missing is never
/// right.
async fn open(name: &str) -> NamedPipeClient {
    loop {
        match ClientOptions::new().open(path(name)) {
            Err(error) if error.raw_os_error() == Some(ERROR_PIPE_BUSY) => tokio::task::yield_now().await,
            opened => return opened.unwrap(),
        }
    }
}

fn reset(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
    drop(stream);
}

async fn read_to_end(mut stream: impl tokio::io::AsyncRead + Unpin) -> Vec<u8> {
    let mut bytes = Vec::new();
    within_limit("reading to the end", stream.read_to_end(&mut bytes)).await.unwrap();
    bytes
}

#[tokio::test]
async fn many_clients_at_once_each_get_their_own_connection() {
    let forward = Forward::start().await;
    let all_served = Arc::new(Barrier::new(40));
    let mut echoes = JoinSet::new();
    let mut clients = JoinSet::new();
    for seed in 0..40 {
        let name = forward.name.clone();
        let all_served = Arc::clone(&all_served);
        clients.spawn(async move {
            let (mut read, mut write) = tokio::io::split(open(&name).await);
            let request = random(seed, 200_000 + seed as usize);
            let mut reply = vec![0; request.len()];
            let exchange = async { tokio::join!(write.write_all(&request), read.read_exact(&mut reply)) };
            let (written, read) = within_limit("the echo", exchange).await;
            written.unwrap();
            read.unwrap();
            assert!(reply == request, "client {seed} got other bytes than it sent");
            // Nobody leaves before the last one is served: clients that stay keep nobody out.
            within_limit("the other clients", all_served.wait()).await;
        });
    }
    for _ in 0..40 {
        let stream = forward.accept().await;
        echoes.spawn(async move {
            let (mut read, mut write) = stream.into_split();
            tokio::io::copy(&mut read, &mut write).await.unwrap();
        });
    }
    within_limit("the clients", clients.join_all()).await;
    // Each echo ends because the end of its client arrives.
    within_limit("the echo servers", echoes.join_all()).await;
}

#[tokio::test]
async fn clients_that_come_together_do_not_meet_a_busy_pipe() {
    let forward = Forward::start().await;
    let together: io::Result<Vec<_>> =
        (0..4).map(|_| ClientOptions::new().open(path(&forward.name))).collect();
    for mut client in together.unwrap() {
        client.write_all(b"x").await.unwrap();
        let mut received = [0];
        within_limit("the byte", forward.accept().await.read_exact(&mut received)).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_closes_first_has_its_whole_reply_delivered_before_the_pipe_ends() {
    let forward = Forward::start().await;
    let mut client = forward.client().await;
    let mut server = forward.accept().await;
    let reply = random(1, 4 * MEBIBYTE);
    client.write_all(b"request").await.unwrap();
    let ((), received) = tokio::join!(
        async {
            server.read_exact(&mut [0; 7]).await.unwrap();
            server.write_all(&reply).await.unwrap();
            drop(server);
        },
        read_to_end(client)
    );
    assert!(received == reply);
}

#[tokio::test]
async fn a_client_that_closes_first_has_its_whole_request_delivered_before_the_connection_ends() {
    let mut forward = Forward::start().await;
    let mut client = forward.client().await;
    let server = forward.accept().await;
    let request = random(2, 4 * MEBIBYTE);
    let ((), received) = tokio::join!(
        async {
            client.write_all(&request).await.unwrap();
            drop(client);
        },
        read_to_end(server)
    );
    assert!(received == request);
    let line = forward.process.stderr_line("client 1: ended").await;
    assert!(line.contains("4194304 bytes to the server, 0 bytes to the client"), "{line}");
}

#[tokio::test]
async fn a_connection_that_is_reset_ends_the_pipe_and_is_reported() {
    let mut forward = Forward::start().await;
    let client = forward.client().await;
    reset(forward.accept().await);
    assert_eq!(read_to_end(client).await, b"");

    let mut probe = TcpStream::connect(forward.server.local_addr().unwrap()).await.unwrap();
    reset(forward.accept().await);
    if within_limit("the reset", probe.read(&mut [0; 1])).await.is_ok() {
        return eprintln!("skipped: this system (Wine) shows a reset connection as one that ended");
    }
    forward.process.stderr_line("client 1: tcp:127.0.0.1:").await;
}

#[tokio::test]
async fn a_server_that_refuses_costs_one_client_and_not_the_listener() {
    let refusing = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = refusing.local_addr().unwrap();
    drop(refusing);
    let (name, mut process) = start_forward(&address.to_string()).await;

    let client = open(&name).await;
    assert_eq!(read_to_end(client).await, b"");
    let line = process.stderr_line("client 1").await;
    assert!(line.contains(&format!("cannot connect to tcp:{address}")), "{line}");

    let server = TcpListener::bind(address).await.unwrap();
    let mut client = open(&name).await;
    let (mut stream, _) = within_limit("the second client", server.accept()).await.unwrap();
    stream.write_all(b"welcome").await.unwrap();
    let mut greeting = [0; 7];
    within_limit("the greeting", client.read_exact(&mut greeting)).await.unwrap();
    assert_eq!(&greeting, b"welcome");
}

#[tokio::test]
async fn the_name_never_vanishes_while_clients_come_and_go() {
    let forward = Forward::start().await;
    let done = AtomicBool::new(false);
    let serve = async {
        while !done.load(Ordering::Relaxed) {
            tokio::select! {
                accepted = forward.server.accept() => drop(accepted),
                () = tokio::task::yield_now() => {}
            }
        }
    };
    let come_and_go = async {
        for _ in 0..60 {
            let mut crowd = Vec::new();
            for _ in 0..6 {
                // `open` fails on anything but "busy".
                crowd.push(open(&forward.name).await);
            }
            drop(crowd);
        }
        done.store(true, Ordering::Relaxed);
    };
    within_limit("the clients", async { tokio::join!(serve, come_and_go) }).await;
}

#[tokio::test]
async fn connect_and_forward_work_together() {
    let forward = Forward::start().await;
    let connect = Npipe::start(&["connect", &format!("npipe:{}", forward.name)]);
    let request = random(3, MEBIBYTE);
    let (outcome, ()) = tokio::join!(connect.finish_with(&request), async {
        let mut stream = forward.accept().await;
        let mut received = vec![0; request.len()];
        within_limit("the request", stream.read_exact(&mut received)).await.unwrap();
        stream.write_all(&received).await.unwrap();
    });
    outcome.code(0).no_stderr().stdout(&request);
}

#[tokio::test]
async fn a_name_that_is_taken_is_refused() {
    let name = unique_name();
    let first = || ServerOptions::new().first_pipe_instance(true).create(path(&name));
    let _taken = first().unwrap();
    let system = match first() {
        Ok(_) => return eprintln!("skipped: this system (Wine) ignores FILE_FLAG_FIRST_PIPE_INSTANCE"),
        Err(error) => error,
    };
    assert_eq!(system.kind(), io::ErrorKind::PermissionDenied);
    let outcome = Npipe::start(&["forward", &format!("npipe:{name}"), "tcp:127.0.0.1:1"]).finish().await;
    outcome.code(5).stdout(b"").stderr_has(&format!(r"cannot listen on \\.\pipe\{name}"));
}

/// The far end of a chain of two: a client on TCP, whose listener forwards to a pipe, which is the
/// test's.
#[tokio::test]
async fn tcp_clients_reach_a_pipe() {
    let name = unique_name();
    let mut server = ServerOptions::new().first_pipe_instance(true).create(path(&name)).unwrap();
    let mut forward = Npipe::start(&["forward", "tcp:0", &format!("npipe:{name}")]);
    let address = forward.stderr_line("listening on tcp:127.0.0.1:").await.replace("listening on tcp:", "");
    let mut client = TcpStream::connect(&address).await.unwrap();
    within_limit("the pipe's client", server.connect()).await.unwrap();
    client.write_all(b"request").await.unwrap();
    // A pipe cannot be told that there is no more to come: its reply is still delivered.
    client.shutdown().await.unwrap();
    let reply = random(4, MEBIBYTE);
    let ((), received) = tokio::join!(
        async {
            let mut request = [0; 7];
            within_limit("the request", server.read_exact(&mut request)).await.unwrap();
            server.write_all(&reply).await.unwrap();
            drop(server);
        },
        read_to_end(&mut client)
    );
    assert!(received == reply);
}

#[tokio::test]
async fn a_pipe_that_nobody_serves_costs_its_client_only() {
    let mut forward = Npipe::start(&["forward", "tcp:0", &format!("npipe:{}", unique_name())]);
    let address = forward.stderr_line("listening on tcp:").await.replace("listening on tcp:", "");
    for number in 1..3 {
        assert_eq!(read_to_end(TcpStream::connect(&address).await.unwrap()).await, b"");
        forward.stderr_line(&format!("client {number}: cannot open")).await;
    }
}

#[tokio::test]
async fn a_limit_of_instances_holds_and_each_is_used_again_with_the_last_reply_read() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let name = unique_name();
    let target = format!("tcp:{}", server.local_addr().unwrap());
    let mut process = Npipe::start(&["forward", "--instances", "1", &format!("npipe:{name}"), &target]);
    process.stderr_line("listening on").await;
    let reply = random(5, MEBIBYTE);
    for _ in 0..3 {
        let client = open(&name).await;
        let (mut stream, _) = within_limit("the client", server.accept()).await.unwrap();
        let second = ClientOptions::new().open(path(&name)).unwrap_err();
        assert_eq!(second.raw_os_error(), Some(ERROR_PIPE_BUSY));
        let ((), received) = tokio::join!(
            async {
                stream.write_all(&reply).await.unwrap();
                drop(stream);
            },
            read_to_end(client)
        );
        assert!(received == reply);
    }
}

/// The end of a session closes the instance and does not disconnect its client.
#[tokio::test]
async fn the_client_of_an_instance_reads_what_it_was_sent_when_its_session_is_over() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let name = unique_name();
    let target = format!("tcp:{}", server.local_addr().unwrap());
    let listen = format!("npipe:{name}");
    let mut process = Npipe::start(&["-v", "forward", "--instances", "1", &listen, &target]);
    process.stderr_line("listening on").await;
    for number in 1..5 {
        let client = open(&name).await;
        let (mut stream, _) = within_limit("the client", server.accept()).await.unwrap();
        let reply = random(number, 60_000);
        stream.write_all(&reply).await.unwrap();
        drop(stream);
        process.stderr_line(&format!("client {number}: ended")).await;
        assert!(read_to_end(client).await == reply);
    }
}

/// Each session ends with the only instance. The next client comes at once, and finds the pipe busy
/// at most.
#[tokio::test]
async fn the_name_of_one_instance_is_there_between_sessions() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let name = unique_name();
    let target = format!("tcp:{}", server.local_addr().unwrap());
    let mut process = Npipe::start(&["forward", "--instances", "1", &format!("npipe:{name}"), &target]);
    process.stderr_line("listening on").await;
    for _ in 0..100 {
        let client = open(&name).await;
        drop(within_limit("the client", server.accept()).await.unwrap());
        assert_eq!(read_to_end(client).await, b"");
    }
}

/// By the convention of go-winio, in both directions and with what comes before it whole.
#[tokio::test]
async fn an_empty_message_ends_one_direction_of_a_pipe_of_messages() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let name = unique_name();
    let target = format!("tcp:{}", server.local_addr().unwrap());
    let mut process = Npipe::start(&["forward", "--message", &format!("npipe:{name}"), &target]);
    process.stderr_line("listening on").await;
    let client = npipe::ClientOptions::new().open(&name).unwrap();
    client.set_empty_message_is_end(true).unwrap();
    assert_eq!(client.info().unwrap().mode, npipe::PipeMode::Message);
    let (mut stream, _) = within_limit("the client", server.accept()).await.unwrap();
    let (mut read, write) = client.into_split();
    // The client ends first, or the server.
    write.as_ref().send_message(b"request").await.unwrap();
    write.as_ref().close_write(std::time::Duration::from_secs(100)).await.unwrap();
    let mut request = Vec::new();
    within_limit("the end of the client", stream.read_to_end(&mut request)).await.unwrap();
    assert_eq!(request, b"request");
    stream.write_all(b"reply").await.unwrap();
    drop(stream);
    let mut reply = Vec::new();
    within_limit("the end of the server", read.read_to_end(&mut reply)).await.unwrap();
    assert_eq!(reply, b"reply");
    drop((read, write));

    let client = npipe::ClientOptions::new().open(&name).unwrap();
    client.set_empty_message_is_end(true).unwrap();
    let (mut stream, _) = within_limit("the client", server.accept()).await.unwrap();
    let (mut read, mut write) = client.into_split();
    stream.write_all(b"all").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut all = Vec::new();
    within_limit("the end of the server", read.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all, b"all");
    write.write_all(b"late").await.unwrap();
    let mut late = [0; 4];
    within_limit("what comes after it", stream.read_exact(&mut late)).await.unwrap();
    // It closes without an empty message.
    drop((read, write));
    within_limit("the end of the client", stream.read_to_end(&mut Vec::new())).await.unwrap();
    assert_eq!(&late, b"late");
}

#[tokio::test]
async fn what_a_slow_reader_did_not_take_is_named() {
    for message in [&[][..], &["--message"]] {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let name = unique_name();
        let (listen, target) = (format!("npipe:{name}"), format!("tcp:{}", server.local_addr().unwrap()));
        let arguments = [&["forward", "--idle-timeout", "1"], message, &[&listen, &target]];
        let mut process = Npipe::start(&arguments.concat());
        process.stderr_line("listening on").await;
        let _slow = open(&name).await;
        let (mut stream, _) = within_limit("the client", server.accept()).await.unwrap();
        // More than all that is on the way holds, so it ends with the session.
        let _ = stream.write_all(&random(7, 16 * MEBIBYTE)).await;
        let line = process.stderr_line("client 1: the client took the replies too slowly").await;
        assert!(line.ends_with("bytes were not delivered"), "{line}");
    }
}

/// A target that takes nothing, says nothing, or has one direction does not show that its client
/// has left.
#[tokio::test]
async fn a_client_that_leaves_is_noticed_whatever_the_target_does() {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("tcp:{}", tcp.local_addr().unwrap());
    // It says nothing, and ends when it is told the end.
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            tokio::spawn(async move { stream.read_to_end(&mut Vec::new()).await });
        }
    });
    let (sends_only, receives_only) = (unique_name(), unique_name());
    // Each client has an instance to itself, and none is read or written.
    let instances = |name: &str, inbound: bool| {
        let options = || {
            let mut options = ServerOptions::new();
            options.access_inbound(inbound).access_outbound(!inbound);
            options
        };
        (0..6).map(|_| options().create(path(name)).unwrap()).collect::<Vec<_>>()
    };
    let _sends_only = instances(&sends_only, false);
    let _receives_only = instances(&receives_only, true);
    let own = env!("CARGO_BIN_EXE_npipe");
    let targets = [
        silent.clone(),
        format!("npipe:{sends_only}"),
        format!("npipe:{receives_only}"),
        format!(r#"exec:"{own}" forward stdio {silent}"#),
    ];
    for target in &targets {
        for message in [&[][..], &["--message"]] {
            let name = unique_name();
            let listen = format!("npipe:{name}");
            let arguments = [&["-v", "forward"], message, &["--max-connections", "1", &listen, target]];
            let mut process = Npipe::start(&arguments.concat());
            process.stderr_line("listening on").await;
            for number in 1..=3 {
                let mut client = open(&name).await;
                process.stderr_line(&format!("client {number}: connected to")).await;
                match number {
                    1 => {}
                    2 => client.write_all(b"request").await.unwrap(),
                    // On a pipe of messages an end.
                    _ => assert_eq!(client.write(b"").await.unwrap(), 0),
                }
                drop(client);
                process.stderr_line(&format!("client {number}: ended")).await;
            }
        }
    }
}

#[tokio::test]
async fn what_is_written_at_once_crosses_as_one_message() {
    const SIZES: [usize; 4] = [1, 8192, 8193, 60_000];
    let (front, back) = (unique_name(), unique_name());
    let mut server =
        npipe::ServerOptions::new().pipe_mode(npipe::PipeMode::Message).create(path(&back)).unwrap();
    server.set_empty_message_is_end(true).unwrap();
    let mut process =
        Npipe::start(&["forward", "--message", &format!("npipe:{front}"), &format!("npipe:{back}")]);
    process.stderr_line("listening on").await;
    let client = npipe::ClientOptions::new().open(path(&front)).unwrap();
    let whole = async |server: &mut npipe::NamedPipeServer, size| {
        let mut message = vec![0; 100_000];
        let received = within_limit("a message", server.read(&mut message)).await.unwrap();
        assert_eq!((received, server.is_message_complete()), (size, true));
    };
    within_limit("the client", server.connect()).await.unwrap();
    for size in SIZES {
        client.send_message(&random(6, size)).await.unwrap();
        whole(&mut server, size).await;
    }
    drop((client, server, process));

    let mut server =
        npipe::ServerOptions::new().pipe_mode(npipe::PipeMode::Message).create(path(&back)).unwrap();
    server.set_empty_message_is_end(true).unwrap();
    let mut process = Npipe::start(&["connect", &format!("npipe:{back}")]);
    within_limit("the client", server.connect()).await.unwrap();
    let mut stdin = process.stdin.take().unwrap();
    for size in &SIZES[..3] {
        let size = *size;
        stdin.write_all(&random(6, size)).await.unwrap();
        stdin.flush().await.unwrap();
        whole(&mut server, size).await;
    }
}

/// The calls of Docker's clients: FlushFileBuffers and an empty write end their direction, and a
/// read of no bytes is the end of the other.
fn ask_with_half_close(name: &str, chunks: usize, chunk: &[u8]) -> io::Result<Vec<u8>> {
    let mut pipe = std::fs::OpenOptions::new().read(true).write(true).open(path(name))?;
    for _ in 0..chunks {
        assert_eq!(pipe.write(chunk)?, chunk.len());
    }
    pipe.sync_all()?;
    assert_eq!(pipe.write(b"")?, 0);
    let mut answer = Vec::new();
    pipe.read_to_end(&mut answer)?;
    Ok(answer)
}

#[tokio::test]
async fn a_client_that_half_closes_a_pipe_of_messages_has_the_answer_of_a_process() {
    const ANSWER: usize = 200_000;
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let name = unique_name();
    let own = env!("CARGO_BIN_EXE_npipe");
    let target = format!(r#"exec:"{own}" forward stdio tcp:{}"#, server.local_addr().unwrap());
    let mut process = Npipe::start(&["forward", "--message", &format!("npipe:{name}"), &target]);
    process.stderr_line("listening on").await;
    for (chunks, size) in [(0, 1), (1, 1), (1, 60_000), (100, 1000), (100, 60_000), (1000, 1)] {
        let chunk = random(7, size);
        let sent = chunk.repeat(chunks);
        let name = name.clone();
        let client = tokio::task::spawn_blocking(move || ask_with_half_close(&name, chunks, &chunk));
        let (mut stream, _) = within_limit("the process", server.accept()).await.unwrap();
        let mut request = Vec::new();
        within_limit("the end of the client", stream.read_to_end(&mut request)).await.unwrap();
        assert!(request == sent, "{chunks} x {size}: {} bytes", request.len());
        stream.write_all(&random(8, ANSWER)).await.unwrap();
        drop(stream);
        let answer = within_limit("the answer", client).await.unwrap().unwrap();
        assert!(answer == random(8, ANSWER), "{chunks} x {size}: {} bytes", answer.len());
    }
}

#[tokio::test]
async fn messages_cross_from_pipe_to_pipe_whole_at_any_size() {
    const SIZES: [usize; 9] = [1, 8192, 8193, 65_535, 65_536, 65_537, MEBIBYTE, 5 * MEBIBYTE, 1];
    let (front, back) = (unique_name(), unique_name());
    let mut process =
        Npipe::start(&["forward", "--message", &format!("npipe:{front}"), &format!("npipe:{back}")]);
    process.stderr_line("listening on").await;
    let server = npipe::ServerOptions::new().pipe_mode(npipe::PipeMode::Message).create(&back).unwrap();
    let client = npipe::ClientOptions::new().pipe_mode(npipe::PipeMode::Message).open(&front).unwrap();
    within_limit("the client", server.connect()).await.unwrap();
    let messages: Vec<_> = (0..).zip(SIZES).map(|(seed, size)| random(seed, size)).collect();
    // Several in a row, of which npipe has read some before the reader takes the first, and one by one.
    for in_a_row in [SIZES.len(), 1] {
        for messages in messages.chunks(in_a_row) {
            let send = async {
                for message in messages {
                    client.send_message(message).await.unwrap();
                }
            };
            let receive = async {
                for message in messages {
                    let mut received = bytes::BytesMut::new();
                    server.recv_message(&mut received).await.unwrap();
                    assert_eq!(received.len(), message.len());
                    assert!(received == message[..]);
                    server.send_message(message).await.unwrap();
                }
            };
            let receive_back = async {
                for message in messages {
                    let mut received = bytes::BytesMut::new();
                    client.recv_message(&mut received).await.unwrap();
                    assert_eq!(received.len(), message.len());
                    assert!(received == message[..]);
                }
            };
            within_limit("the messages", async { tokio::join!(send, receive, receive_back) }).await;
        }
    }
    // A message of no bytes is the end of one direction, and crosses as that.
    client.send_message(b"").await.unwrap();
    let mut end = bytes::BytesMut::new();
    let received = within_limit("the end of the client", server.recv_message(&mut end)).await.unwrap();
    assert_eq!(received, Some(0));
    server.send_message(&messages[5]).await.unwrap();
    server.send_message(b"").await.unwrap();
    for length in [messages[5].len(), 0] {
        let received = within_limit("the server", client.recv_message(&mut end)).await.unwrap();
        assert_eq!(received, Some(length));
    }
}

#[tokio::test]
async fn messages_of_a_pipe_of_one_direction_cross_whole() {
    const SIZES: [usize; 6] = [1, 8193, 65_537, MEBIBYTE, 1, 1];
    for outbound in [true, false] {
        let (front, back) = (unique_name(), unique_name());
        let mut process =
            Npipe::start(&["forward", "--message", &format!("npipe:{front}"), &format!("npipe:{back}")]);
        process.stderr_line("listening on").await;
        let server = npipe::ServerOptions::new()
            .pipe_mode(npipe::PipeMode::Message)
            .access_outbound(outbound)
            .access_inbound(!outbound)
            .create(&back)
            .unwrap();
        let client = npipe::ClientOptions::new().pipe_mode(npipe::PipeMode::Message).open(&front).unwrap();
        within_limit("the client", server.connect()).await.unwrap();
        let send = async {
            for size in SIZES {
                let message = random(6, size);
                let sent = match outbound {
                    true => server.send_message(&message).await,
                    false => client.send_message(&message).await,
                };
                sent.unwrap();
            }
        };
        let receive = async {
            for size in SIZES {
                let mut message = bytes::BytesMut::new();
                let received = match outbound {
                    true => client.recv_message(&mut message).await,
                    false => server.recv_message(&mut message).await,
                };
                assert_eq!(received.unwrap(), Some(size), "outbound: {outbound}");
            }
        };
        within_limit("the messages", async { tokio::join!(send, receive) }).await;
    }
}

#[tokio::test]
async fn a_message_that_is_too_long_ends_the_session_with_the_reason() {
    for from_client in [true, false] {
        let (front, back) = (unique_name(), unique_name());
        let mut process =
            Npipe::start(&["forward", "--message", &format!("npipe:{front}"), &format!("npipe:{back}")]);
        process.stderr_line("listening on").await;
        let server = npipe::ServerOptions::new().pipe_mode(npipe::PipeMode::Message).create(&back).unwrap();
        let client = npipe::ClientOptions::new().pipe_mode(npipe::PipeMode::Message).open(&front).unwrap();
        within_limit("the client", server.connect()).await.unwrap();
        let message = vec![7; 64 * MEBIBYTE + 1];
        let mut received = bytes::BytesMut::new();
        if from_client {
            client.send_message(&message).await.unwrap();
            let received = within_limit("the end", server.recv_message(&mut received)).await.unwrap();
            assert!(matches!(received, None | Some(0)), "the end of messages, or of the pipe");
        } else {
            server.send_message(&message).await.unwrap();
            let received = within_limit("the end", client.recv_message(&mut received)).await.unwrap();
            assert!(matches!(received, None | Some(0)), "the end of messages, or of the pipe");
        }
        let line = process.stderr_line("client 1: ").await;
        let sender = if from_client { "it".to_owned() } else { format!(r"\\.\pipe\{back}") };
        assert!(line.contains(&format!("client 1: {sender} sent a message of more than 64 MiB")), "{line}");
    }
}

#[tokio::test]
async fn an_empty_message_of_the_target_is_its_end_and_the_client_goes_on() {
    let name = unique_name();
    let mut server = ServerOptions::new().pipe_mode(PipeMode::Message).create(path(&name)).unwrap();
    let mut process = Npipe::start(&["forward", "tcp:0", &format!("npipe:{name}")]);
    let line = process.stderr_line("listening on").await;
    let address = line.trim_start_matches("listening on ").trim_start_matches("tcp:").to_owned();
    let mut client = TcpStream::connect(address).await.unwrap();
    within_limit("the client", server.connect()).await.unwrap();
    for message in [&b"all"[..], b""] {
        assert_eq!(server.write(message).await.unwrap(), message.len());
    }
    let mut all = Vec::new();
    within_limit("the end of the server", client.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all, b"all");
    client.write_all(b"late").await.unwrap();
    let mut late = [0; 4];
    within_limit("what comes after it", server.read_exact(&mut late)).await.unwrap();
    assert_eq!(&late, b"late");
    drop(server);
}

#[tokio::test]
async fn a_pipe_has_the_access_list_it_was_given() {
    for target in ["tcp:127.0.0.1:9", "stdio"] {
        let name = unique_name();
        let sddl = "D:(A;;FA;;;WD)(D;;0x12019f;;;AN)";
        let mut process = Npipe::start(&["forward", "--sddl", sddl, &format!("npipe:{name}"), target]);
        process.stderr_line("listening on").await;
        let client = npipe::ClientOptions::new().open(path(&name)).unwrap();
        let given: npipe::SecurityDescriptor = sddl.parse().unwrap();
        assert_eq!(client.security_descriptor().unwrap().access_list(), given.access_list(), "{target}");
    }
}

#[tokio::test]
async fn an_access_list_that_is_none_is_refused_before_there_is_a_pipe() {
    let name = unique_name();
    for (sddl, reason) in [("D:(A;;GA", "os error"), ("", "would mean the system's default")] {
        let listen = format!("npipe:{name}");
        let outcome = Npipe::start(&["forward", "--sddl", sddl, &listen, "tcp:127.0.0.1:9"]).finish().await;
        outcome.code(2).stdout(b"").stderr_has("--sddl").stderr_has(reason).stderr_has("learn.microsoft.com");
    }
}

/// The first instance is made, and its access list keeps its own maker from adding the next.
#[tokio::test]
async fn an_access_list_without_its_maker_is_told() {
    if skipped_under_wine(
        "forward::pipes::an_access_list_without_its_maker_is_told",
        "access lists are not enforced",
    ) {
        return;
    }
    let name = unique_name();
    let outcome = Npipe::start(&["forward", "--sddl", "D:", &format!("npipe:{name}"), "tcp:127.0.0.1:9"])
        .finish()
        .await;
    outcome.code(5).stderr_has("give it FA in --sddl");
}

#[tokio::test]
async fn a_process_is_joined_and_told_the_end_of_its_input() {
    let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // The program at hand that talks by stdin and stdout.
    let own = env!("CARGO_BIN_EXE_npipe");
    let nested = format!(r#"exec:"{own}" forward stdio tcp:{}"#, echo.local_addr().unwrap());
    let mut forward = Npipe::start(&["forward", "tcp:0", &nested]);
    let address = forward.stderr_line("listening on tcp:").await.replace("listening on tcp:", "");
    let mut client = TcpStream::connect(&address).await.unwrap();
    let request = random(6, MEBIBYTE);
    let (read, mut write) = client.split();
    let (received, (), ()) = tokio::join!(
        read_to_end(read),
        async {
            write.write_all(&request).await.unwrap();
            write.shutdown().await.unwrap();
        },
        async {
            let (mut stream, _) = within_limit("the process's connection", echo.accept()).await.unwrap();
            let (mut read, mut write) = stream.split();
            tokio::io::copy(&mut read, &mut write).await.unwrap();
        }
    );
    assert!(received == request);
}

/// By TerminateProcess, of which npipe notices nothing.
#[tokio::test]
async fn a_process_and_its_children_end_when_npipe_is_killed() {
    for starter in ["", "cmd /c "] {
        let name = unique_name();
        let own = env!("CARGO_BIN_EXE_npipe");
        let nested = format!(r#"exec:{starter}"{own}" forward npipe:{name} tcp:127.0.0.1:9"#);
        let mut forward = Npipe::start(&["forward", "tcp:0", &nested]);
        let address = forward.stderr_line("listening on tcp:").await.replace("listening on tcp:", "");
        let _client = TcpStream::connect(&address).await.unwrap();
        let until = async |serves: bool| {
            let is_missing = |opened: &io::Result<_>| {
                opened.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
            };
            while is_missing(&ClientOptions::new().open(path(&name))) == serves {
                tokio::task::yield_now().await;
            }
        };
        within_limit("the pipe of the process", until(true)).await;
        drop(forward);
        within_limit("the end of the process", until(false)).await;
    }
}

#[tokio::test]
async fn what_this_system_cannot_do_is_said_at_once() {
    let outcome = Npipe::start(&["forward", "unix:x.sock", "tcp:127.0.0.1:1"]).finish().await;
    outcome.code(9).stderr_has("cannot listen on unix:x.sock");
    let outcome = Npipe::start(&["forward", "tcp:0", "unix:x.sock"]).finish().await;
    outcome.code(9).stderr_has("cannot connect to unix:x.sock");
}
