//! The command line of npiperelay and its forks: each flag by what it does, and one test for each
//! defect of theirs and each complaint of their users that a program of this kind can do something
//! about.

use std::fs::File;
use std::io::{self, Write};
use std::os::windows::fs::FileExt;
use std::os::windows::io::AsHandle;
use std::path::PathBuf;
use std::time::Duration;

use npipe::blocking::PipeStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::windows::named_pipe::{ClientOptions, NamedPipeServer, ServerOptions};

use crate::connect::{path, random, unique_name};
use crate::process::{Npipe, within_limit};

const LIMIT: Duration = Duration::from_secs(100);

/// As scripts write it.
fn slashed(name: &str) -> String {
    format!("//./pipe/{name}")
}

fn serve(name: &str) -> NamedPipeServer {
    ServerOptions::new().first_pipe_instance(true).max_instances(1).create(path(name)).unwrap()
}

async fn accepted(server: &NamedPipeServer) {
    within_limit("accepting the client", server.connect()).await.unwrap();
}

/// Serves one client on a thread: the async ends take an empty message and the end of a pipe for
/// the same.
fn serve_blocking<T: Send + 'static>(
    mode: npipe::PipeMode,
    name: &str,
    serve: impl FnOnce(PipeStream) -> T + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    let listener = npipe::ServerOptions::new().pipe_mode(mode).listen_blocking(path(name)).unwrap();
    tokio::task::spawn_blocking(move || serve(listener.accept_timeout(LIMIT).unwrap()))
}

/// What each read brings: a message, or the error that is the end of the pipe. The standard library
/// takes that error for an empty read where no offset is given; a pipe ignores the offset.
fn read_raw(stream: &PipeStream) -> io::Result<Vec<u8>> {
    let file = File::from(stream.as_handle().try_clone_to_owned()?);
    let mut buffer = [0; 100];
    let read = file.seek_read(&mut buffer, 0)?;
    Ok(buffer[..read].to_vec())
}

#[tokio::test]
async fn with_s_an_empty_message_follows_the_end_of_stdin_and_the_reply_is_delivered() {
    let name = unique_name();
    let server = serve_blocking(npipe::PipeMode::Message, &name, |mut stream| {
        assert_eq!(read_raw(&stream).unwrap(), b"request");
        assert_eq!(read_raw(&stream).unwrap(), b"");
        stream.write_all(b"reply").unwrap();
    });
    let outcome = Npipe::start(&["-s", &slashed(&name)]).finish_with(b"request").await;
    outcome.code(0).stdout(b"reply").no_stderr();
    server.await.unwrap();
}

/// albertony's `-ei` ends the process before `-s` has its turn, and most scripts give both.
#[tokio::test]
async fn with_ei_and_s_the_empty_message_is_sent_before_the_process_ends() {
    let name = unique_name();
    let server = serve_blocking(npipe::PipeMode::Message, &name, |stream| {
        assert_eq!(read_raw(&stream).unwrap(), b"request");
        assert_eq!(read_raw(&stream).unwrap(), b"");
        read_raw(&stream).unwrap_err().kind()
    });
    let outcome = Npipe::start(&["-ei", "-s", &slashed(&name)]).finish_with(b"request").await;
    outcome.code(0).stdout(b"").no_stderr();
    assert_eq!(server.await.unwrap(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn with_ep_an_empty_message_ends_the_session() {
    let name = unique_name();
    let (ended, goes_on) = std::sync::mpsc::channel();
    let server = serve_blocking(npipe::PipeMode::Message, &name, move |mut stream| {
        stream.write_all(b"first").unwrap();
        assert_eq!(stream.write(b"").unwrap(), 0);
        // A client that has gone by now is what -ep is for.
        let _ = stream.write_all(b"second");
        goes_on.recv_timeout(LIMIT).unwrap();
    });
    let outcome = Npipe::start(&["-ep", &slashed(&name)]).finish().await;
    outcome.code(0).stdout(b"first").no_stderr();
    let _ = ended.send(());
    server.await.unwrap();
}

/// npiperelay closes stdout and goes on to copy stdin to the pipe.
#[tokio::test]
async fn without_ep_an_empty_message_closes_stdout_and_stdin_goes_on() {
    let name = unique_name();
    let target = format!("npipe:{name}");
    let own_form = ["connect", "--close-at-empty-message", &target];
    let path = slashed(&name);
    for (arguments, ends_stdin) in [
        (&[path.as_str()][..], false),
        (&["-s", &path], true),
        (&["-s", &path], false),
        (&["-ei", &path], true),
        (&own_form, false),
    ] {
        let sends_end = arguments[0] == "-s" && ends_stdin;
        let server = serve_blocking(npipe::PipeMode::Message, &name, move |mut stream| {
            stream.write_all(b"first").unwrap();
            assert_eq!(stream.write(b"").unwrap(), 0);
            // What follows has no reader any more, and holds nothing up.
            stream.write_all(b"second").unwrap();
            assert_eq!(read_raw(&stream).unwrap(), b"late");
            if ends_stdin {
                if sends_end {
                    assert_eq!(read_raw(&stream).unwrap(), b"");
                }
                assert_eq!(read_raw(&stream).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
            }
        });
        let mut client = Npipe::start(arguments);
        let mut stdout = Vec::new();
        let mut reader = client.stdout.take().unwrap();
        within_limit("the end of stdout", reader.read_to_end(&mut stdout)).await.unwrap();
        assert_eq!(stdout, b"first");
        let mut stdin = client.stdin.take().unwrap();
        stdin.write_all(b"late").await.unwrap();
        stdin.flush().await.unwrap();
        // The session ends with stdin or with the server, whichever ends first.
        let _open = (!ends_stdin).then_some(stdin);
        client.finish().await.code(0).no_stderr();
        server.await.unwrap();
    }
}

#[tokio::test]
async fn without_s_the_end_of_stdin_sends_nothing() {
    let name = unique_name();
    let server = serve_blocking(npipe::PipeMode::Message, &name, |stream| {
        assert_eq!(read_raw(&stream).unwrap(), b"request");
        read_raw(&stream).unwrap_err().kind()
    });
    Npipe::start(&["-ei", &slashed(&name)]).finish_with(b"request").await.code(0).no_stderr();
    assert_eq!(server.await.unwrap(), io::ErrorKind::BrokenPipe);
}

/// A write of nothing to a pipe of bytes ends a read of the peer's with nothing, which many take
/// for the end.
#[tokio::test]
async fn s_on_a_pipe_of_bytes_sends_nothing_and_v_says_so() {
    let name = unique_name();
    let server = serve_blocking(npipe::PipeMode::Byte, &name, |stream| {
        assert_eq!(read_raw(&stream).unwrap(), b"request");
        read_raw(&stream).unwrap_err().kind()
    });
    let outcome = Npipe::start(&["-v", "-ei", "-s", &slashed(&name)]).finish_with(b"request").await;
    outcome.code(0).stderr_has("carries bytes, which have no empty message");
    assert_eq!(server.await.unwrap(), io::ErrorKind::BrokenPipe);
}

/// npiperelay: "pipe error".
#[tokio::test]
async fn a_pipe_that_is_not_connected_after_its_end_is_no_failure() {
    let name = unique_name();
    let server = serve_blocking(npipe::PipeMode::Message, &name, |mut stream| {
        stream.write_all(b"reply").unwrap();
        assert_eq!(stream.write(b"").unwrap(), 0);
        stream.drain().unwrap();
        stream.disconnect().unwrap();
    });
    let outcome = Npipe::start(&[&slashed(&name)]).finish().await;
    outcome.code(0).stdout(b"reply").no_stderr();
    server.await.unwrap();
}

/// npiperelay ends with "copy from stdin to pipe failed" and leaves the reply where it is.
#[tokio::test]
async fn a_server_that_takes_no_more_has_its_reply_delivered() {
    let name = unique_name();
    let mut server = serve(&name);
    let client = Npipe::start(&["-ei", &slashed(&name)]);
    let reply = random(1, 60_000);
    let request = random(2, 4 * 1024 * 1024);
    let (outcome, ()) = tokio::join!(client.finish_with(&request), async {
        accepted(&server).await;
        within_limit("the first byte", server.read_exact(&mut [0])).await.unwrap();
        server.write_all(&reply).await.unwrap();
        drop(server);
    });
    outcome.code(6).stdout(&reply).stderr_has("before the server took all that was read from stdin");
}

/// npiperelay's `-ei` exits in the middle of a reply.
#[tokio::test]
async fn with_ei_what_the_server_has_said_is_delivered() {
    let name = unique_name();
    let server = serve(&name);
    let reply = random(3, 3 * 1024 * 1024);
    let mut client = Npipe::start(&["-ei", &slashed(&name)]);
    accepted(&server).await;
    let (mut from_client, mut to_client) = tokio::io::split(server);
    // More is on its way than the pipes hold, when stdin ends.
    let mut stdout = client.stdout.take().unwrap();
    let mut beginning = vec![0; 1024 * 1024];
    let rest = async {
        stdout.read_exact(&mut beginning).await.unwrap();
        drop(client.stdin.take());
        let mut rest = Vec::new();
        stdout.read_to_end(&mut rest).await.unwrap();
        rest
    };
    let both = async { tokio::join!(to_client.write_all(&reply), rest) };
    let (written, rest) = within_limit("the reply", both).await;
    written.unwrap();
    assert!(beginning == reply[..beginning.len()] && rest == reply[beginning.len()..]);
    client.finish().await.code(0).no_stderr();
    assert_eq!(from_client.read(&mut [0]).await.unwrap(), 0);
}

/// "npiperelay.exe likes to hang around."
#[tokio::test]
async fn with_ei_no_process_stays_when_its_client_has_gone_and_the_server_is_silent() {
    let name = unique_name();
    let server = serve(&name);
    let client = Npipe::start(&["-ei", &slashed(&name)]);
    accepted(&server).await;
    client.finish_with(b"").await.code(0).stdout(b"").no_stderr();
    drop(server);
}

/// npiperelay waits for both ends, and hangs on a stdin that stays open.
#[tokio::test]
async fn the_end_of_the_pipe_ends_the_process_with_ep_and_without() {
    for flags in [&[][..], &["-ep"]] {
        let name = unique_name();
        let mut server = serve(&name);
        let target = slashed(&name);
        let client = Npipe::start(&[flags, &[&target]].concat());
        accepted(&server).await;
        server.write_all(b"bye").await.unwrap();
        drop(server);
        client.finish().await.code(0).stdout(b"bye").no_stderr();
    }
}

#[tokio::test]
async fn with_p_a_pipe_that_does_not_exist_is_waited_for() {
    let name = unique_name();
    let mut client = Npipe::start(&["-v", "-p", &slashed(&name)]);
    client.stderr_line("no program serves").await;
    let mut server = serve(&name);
    accepted(&server).await;
    server.write_all(b"here now").await.unwrap();
    drop(server);
    client.finish().await.code(0).stdout(b"here now");
}

/// "All pipe instances are busy": npiperelay gives up at once, with `-p` too.
#[tokio::test]
async fn a_busy_pipe_is_waited_for_with_p_and_without() {
    for flags in [&["-v"][..], &["-v", "-p"]] {
        let name = unique_name();
        let _taken = ServerOptions::new().create(path(&name)).unwrap();
        let _other = ClientOptions::new().open(path(&name)).unwrap();
        let target = slashed(&name);
        let mut client = Npipe::start(&[flags, &[&target]].concat());
        client.stderr_line("busy, waiting").await;
        let mut server = ServerOptions::new().create(path(&name)).unwrap();
        accepted(&server).await;
        server.write_all(b"your turn").await.unwrap();
        drop(server);
        client.finish().await.code(0).stdout(b"your turn");
    }
}

/// "A build-up of stuck npiperelay processes." `-l` itself is 300 attempts and takes a minute.
#[tokio::test]
async fn polling_ends_at_its_limit() {
    let name = unique_name();
    let address = format!("npipe:{name}");
    let outcome = Npipe::start(&["connect", "--poll", "--poll-limit", "3", &address]).finish().await;
    outcome.code(3).stdout(b"").stderr_has("in 3 attempts");
    let outcome = Npipe::start(&["connect", "--poll", "--poll-deadline", "0", &address]).finish().await;
    outcome.code(3).stdout(b"").stderr_has("no program serves");
    let _taken = serve(&name);
    let _other = ClientOptions::new().open(path(&name)).unwrap();
    let outcome = Npipe::start(&["connect", "--poll", "--poll-limit", "2", &address]).finish().await;
    outcome.code(4).stdout(b"").stderr_has("stayed busy");
}

/// `-bg` of the fork: "hide console window to run in background failed: no console associated".
#[tokio::test]
async fn bg_does_not_fail_for_want_of_a_console() {
    const DETACHED_PROCESS: u32 = 8;
    let name = unique_name();
    let mut server = serve(&name);
    let target = slashed(&name);
    let client = Npipe::start_with(&["-bg", &target], |command| {
        command.creation_flags(DETACHED_PROCESS);
    });
    accepted(&server).await;
    server.write_all(b"from afar").await.unwrap();
    drop(server);
    client.finish().await.code(0).stdout(b"from afar").no_stderr();
}

/// What npiperelay hides with `-bg` after it has been seen, and who closes it ends the relay.
#[tokio::test]
async fn a_window_that_was_opened_for_the_program_alone_is_closed() {
    const CREATE_NEW_CONSOLE: u32 = 0x10;
    let name = unique_name();
    let mut server = serve(&name);
    let target = slashed(&name);
    let client = Npipe::start_with(&["-v", "-bg", &target], |command| {
        command.creation_flags(CREATE_NEW_CONSOLE);
    });
    accepted(&server).await;
    server.write_all(b"from afar").await.unwrap();
    drop(server);
    let outcome = client.finish().await;
    outcome
        .code(0)
        .stdout(b"from afar")
        .stderr_has("closed the window that was opened for this program alone");
}

/// A copy of the program under npiperelay's name, which goes with the value.
struct Renamed(PathBuf);

impl Renamed {
    fn new() -> Renamed {
        let directory = std::env::temp_dir().join(unique_name());
        std::fs::create_dir(&directory).unwrap();
        let program = directory.join("npiperelay.exe");
        std::fs::copy(env!("CARGO_BIN_EXE_npipe"), &program).unwrap();
        Renamed(program)
    }
}

impl Drop for Renamed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0.parent().unwrap());
    }
}

#[tokio::test]
async fn called_npiperelay_it_takes_its_place() {
    let program = Renamed::new();
    let name = unique_name();
    let mut server = serve(&name);
    let client = Npipe::start_program(&program.0, &["-ep", "-s", &path(&name)], |_| {});
    let (outcome, ()) = tokio::join!(client.finish_with(b"ping"), async {
        accepted(&server).await;
        let mut request = [0; 4];
        within_limit("the request", server.read_exact(&mut request)).await.unwrap();
        server.write_all(b"pong").await.unwrap();
        drop(server);
    });
    outcome.code(0).stdout(b"pong").no_stderr();
}

/// The forks know one of the two forms of these files; gpg-agent writes the one for ssh in the
/// other.
#[tokio::test]
async fn with_a_a_socket_file_of_gnupg_is_connected_to() {
    let agent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let file = std::env::temp_dir().join(unique_name());
    let nonce = b"0123456789abcdef";
    let port = agent.local_addr().unwrap().port();
    std::fs::write(&file, [port.to_string().as_bytes(), b"\n", nonce].concat()).unwrap();
    let client = Npipe::start(&["-ei", "-ep", "-s", "-a", file.to_str().unwrap()]);
    let (outcome, ()) = tokio::join!(client.finish_with(b"BYE\n"), async {
        let (mut agent, _) = within_limit("the connection", agent.accept()).await.unwrap();
        let mut request = [0; 20];
        within_limit("nonce and request", agent.read_exact(&mut request)).await.unwrap();
        assert_eq!(request[..16], nonce[..]);
        agent.write_all(b"OK closing connection\n").await.unwrap();
    });
    std::fs::remove_file(&file).unwrap();
    outcome.code(0).stdout(b"OK closing connection\n").no_stderr();
}
