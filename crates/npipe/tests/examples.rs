//! The examples, run as a reader would run them: what they print is part of what they teach.
//!
//! Cargo builds them with `cargo test`; they lie in the directory `examples` beside the one of this
//! test. Between them they need every feature, hence `--all-features`.
#![cfg(all(
    windows,
    feature = "axum",
    feature = "futures-io",
    feature = "hyper-util",
    feature = "mio",
    feature = "tokio",
    feature = "tonic",
))]

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

#[test]
fn the_echo_client_gets_back_from_the_echo_server_what_it_sent() {
    let name = format!(r"\\.\pipe\npipe-example-echo-{}", std::process::id());
    let mut server =
        Command::new(example("echo_server")).args([&name, "2"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(server.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(said.next(), Some(format!("listening on {name}")));

    assert_eq!(output_of("echo_client", &[&name, "ping"]), "ping\n");
    assert_eq!(output_of("echo_client", &[&name, "a longer question"]), "a longer question\n");

    assert_eq!(said.collect::<Vec<_>>(), ["echoed 4 bytes", "echoed 17 bytes"]);
    assert!(server.wait().unwrap().success());
}

#[test]
fn the_blocking_server_answers_the_blocking_client() {
    let name = format!(r"\\.\pipe\npipe-example-blocking-{}", std::process::id());
    let mut server = Command::new(example("blocking_echo"))
        .args(["serve", &name, "2"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(server.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(said.next(), Some(format!("listening on {name}")));

    assert_eq!(output_of("blocking_echo", &["ask", &name, "ping"]), "ping\n");
    assert_eq!(output_of("blocking_echo", &["ask", &name, "a longer question"]), "a longer question\n");

    // From a thread each, so in any order.
    let mut said: Vec<String> = said.collect();
    said.sort_by_key(String::len);
    assert_eq!(said, ["echoed 4 bytes", "echoed 17 bytes"]);
    assert!(server.wait().unwrap().success());
}

#[test]
fn a_private_pipe_is_for_who_it_should_be() {
    assert_eq!(
        output_of("private", &[]),
        "not served by the system: PermissionDenied\nprivate.exe sends 6 bytes\nin my own name: true\n"
    );
}

#[test]
fn a_child_process_answers_over_its_end() {
    assert_eq!(output_of("child_process", &[]), "6 * 7 = 42\n2 * 21 = 42\n");
}

#[test]
fn tokios_accept_loop_serves_one_client_after_the_other() {
    let lines: String = (1..=5).map(|n| format!("client {n}: the square is {}\n", n * n)).collect();
    assert_eq!(output_of("tokio_loop", &[]), lines);
}

#[test]
fn hyper_answers_two_requests_over_one_pipe() {
    assert_eq!(
        output_of("hyper", &[]),
        "status 200 OK\nyou asked for /greeting\nstatus 200 OK\nyou asked for /farewell\nconnections: 1\n"
    );
}

#[test]
fn axum_serves_a_pipe_and_a_port() {
    assert_eq!(
        output_of("axum", &[]),
        "over the pipe: 200 OK this process, of a known user\nover TCP: 200 OK a program at 127.0.0.1\n\
         over the pipe: 404 Not Found \nstopped\n"
    );
}

#[test]
fn tonic_answers_calls_over_a_pipe() {
    assert_eq!(
        output_of("tonic", &[]),
        "asked by this process: true\norchard: Serving\nasked by this process: true\n\
         kitchen: service not registered\n"
    );
}

#[test]
fn tasks_on_the_port_serve_clients_on_tokio() {
    assert_eq!(output_of("spawn", &[]), "order 1 done\norder 2 done\norder 3 done\n");
}

#[test]
fn smol_needs_no_tokio() {
    assert_eq!(output_of("smol", &[]), "npipe backwards is epipn\n");
}

#[test]
fn a_loop_of_mios_serves_a_socket_and_a_pipe() {
    assert_eq!(
        output_of("mio_loop", &[]),
        "over TCP: 17 bytes\nover the pipe: 9 bytes\nover the pipe: 13 bytes\n"
    );
}

#[test]
fn a_pipe_in_front_of_a_tcp_server_carries_both_directions_and_disconnects_at_the_end() {
    let name = format!(r"\\.\pipe\npipe-example-to-tcp-{}", std::process::id());
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut gateway = Endless(
        Command::new(example("pipe_to_tcp"))
            .args([&name, &server.local_addr().unwrap().to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut said = BufReader::new(gateway.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(said.next(), Some(format!("listening on {name}")));

    let mut client = npipe::blocking::PipeStream::connect_timeout(&name, Duration::from_secs(60)).unwrap();
    let (mut connection, _) = server.accept().unwrap();
    client.write_all(b"a question").unwrap();
    let mut question = [0; 10];
    connection.read_exact(&mut question).unwrap();
    assert_eq!(&question, b"a question");
    connection.write_all(b"an answer").unwrap();
    drop(connection);
    let mut answer = [0; 9];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"an answer");
    const ERROR_PIPE_NOT_CONNECTED: i32 = 233;
    assert_eq!(client.read(&mut answer).unwrap_err().raw_os_error(), Some(ERROR_PIPE_NOT_CONNECTED));

    let mut client = npipe::blocking::PipeStream::connect_timeout(&name, Duration::from_secs(60)).unwrap();
    let (mut connection, _) = server.accept().unwrap();
    client.write_all(b"last words").unwrap();
    drop(client);
    let mut heard = Vec::new();
    connection.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"last words");
}

/// A program that would go on for ever.
struct Endless(Child);

impl Drop for Endless {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn output_of(name: &str, arguments: &[&str]) -> String {
    let output = Command::new(example(name)).args(arguments).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn example(name: &str) -> PathBuf {
    let test = env::current_exe().unwrap();
    let path = test.parent().unwrap().with_file_name("examples").join(name).with_extension("exe");
    assert!(
        path.exists(),
        "{} is not built: run `cargo build --examples --all-features` first",
        path.display()
    );
    path
}
