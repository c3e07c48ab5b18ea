//! How sessions end, as a table: the cause of the end, the kinds of both sides and the flags, and
//! for each the exit code, the bytes that arrive, and the words on stderr. A change of a rule is a
//! change of its row.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::oneshot;

use crate::process::{Npipe, within_limit};

/// More than the pipes of a session hold.
#[cfg(windows)]
const BULK: usize = 4 * 1024 * 1024;

/// More than the pipes of stdin and of the server hold together, 64 KiB each, so that npipe has
/// read bytes that the server cannot take. Less than these and npipe hold.
const FLOOD: usize = 144 * 1024;

/// What the server of a session does.
#[derive(Clone, Copy, Debug)]
enum Server {
    /// Reads so many bytes, replies, and closes.
    RepliesAfter(usize, &'static [u8]),
    /// Reads to the end, replies, and closes.
    RepliesAtTheEnd(&'static [u8]),
    /// Replies, and only then reads to the end.
    RepliesFirst(&'static [u8]),
    /// Reads so many bytes, replies, and breaks off: a socket is reset, a pipe disconnected.
    BreaksOffAfter(usize, &'static [u8]),
    /// Replies with an empty message behind it, and then reads to the end.
    #[cfg(windows)]
    SendsEmptyMessage(&'static [u8]),
}

/// What is done to stdin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stdin {
    Ends,
    StaysOpen,
    /// The input, and so much after it that nothing holds it.
    #[cfg(windows)]
    Floods,
}

/// More than any stream holds on its way from stdin to the server.
const BULK_INPUT: &[u8] = &[7; 8 << 20];

struct Row {
    server: Server,
    flags: &'static [&'static str],
    input: &'static [u8],
    stdin: Stdin,
    /// Whether stdout has a reader.
    stdout_is_read: bool,
    code: i32,
    stdout: &'static [u8],
    received: &'static [u8],
    stderr: &'static str,
}

const ROW: Row = Row {
    server: Server::RepliesAfter(0, b""),
    flags: &[],
    input: b"",
    stdin: Stdin::Ends,
    stdout_is_read: true,
    code: 0,
    stdout: b"",
    received: b"",
    stderr: "",
};

/// One connection of the server.
trait Connection: AsyncRead + AsyncWrite + Unpin {
    async fn break_off(self);
}

impl Row {
    async fn run<C: Connection>(&self, arguments: &[&str], accepted: impl Future<Output = C>) {
        let arguments = [&arguments[..1], self.flags, &arguments[1..]].concat();
        let mut npipe = Npipe::start(&arguments);
        let mut input = npipe.stdin.take().unwrap();
        if !self.stdout_is_read {
            drop(npipe.stdout.take());
        }
        let (fed, is_fed) = oneshot::channel::<()>();
        let feed = async {
            let _ = input.write_all(self.input).await;
            #[cfg(windows)]
            if self.stdin == Stdin::Floods {
                let _ = input.write_all(&vec![7; FLOOD]).await;
            }
            let _ = input.flush().await;
            let _ = fed.send(());
            match self.stdin {
                Stdin::Ends => None,
                Stdin::StaysOpen => Some(input),
                #[cfg(windows)]
                Stdin::Floods => {
                    let _ = input.write_all(&vec![7; BULK]).await;
                    Some(input)
                }
            }
        };
        let serve = async {
            let connection = accepted.await;
            if !matches!(self.server, Server::RepliesFirst(_)) {
                within_limit("stdin", is_fed).await.unwrap();
            }
            serve(connection, self.server).await
        };
        // Stdin is held until the process has ended.
        let (outcome, _stdin, received) = tokio::join!(npipe.finish(), feed, serve);
        outcome.code(self.code).stdout(self.stdout).stderr_has(self.stderr);
        if self.stderr.is_empty() {
            outcome.no_stderr();
        }
        let (bytes, expected) = (received.len(), self.received.len());
        let Row { server, flags, .. } = self;
        assert!(received == self.received, "{server:?} {flags:?}: {bytes} bytes of {expected}");
    }
}

/// Returns what the server received.
async fn serve<C: Connection>(mut connection: C, server: Server) -> Vec<u8> {
    let mut received = Vec::new();
    within_limit("the server", async {
        match server {
            Server::RepliesAfter(length, reply) => {
                received.resize(length, 0);
                connection.read_exact(&mut received).await.unwrap();
                connection.write_all(reply).await.unwrap();
            }
            Server::RepliesAtTheEnd(reply) => {
                connection.read_to_end(&mut received).await.unwrap();
                connection.write_all(reply).await.unwrap();
                connection.shutdown().await.unwrap();
            }
            Server::RepliesFirst(reply) => {
                connection.write_all(reply).await.unwrap();
                connection.read_to_end(&mut received).await.unwrap();
            }
            Server::BreaksOffAfter(length, reply) => {
                received.resize(length, 0);
                connection.read_exact(&mut received).await.unwrap();
                connection.write_all(reply).await.unwrap();
                connection.break_off().await;
            }
            #[cfg(windows)]
            Server::SendsEmptyMessage(reply) => {
                connection.write_all(reply).await.unwrap();
                assert_eq!(connection.write(b"").await.unwrap(), 0);
                let _ = connection.read_to_end(&mut received).await;
            }
        }
    })
    .await;
    received
}

/// `npipe forward stdio TARGET` over sockets, where each direction ends for itself.
mod sockets {
    use socket2::SockRef;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::{BULK_INPUT, Connection, ROW, Row, Server, Stdin};
    use crate::process::Npipe;

    impl Connection for TcpStream {
        async fn break_off(self) {
            SockRef::from(&self).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        }
    }

    async fn row(row: Row) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = format!("tcp:{}", listener.local_addr().unwrap());
        row.run(&["forward", "stdio", &target], async { listener.accept().await.unwrap().0 }).await;
    }

    #[tokio::test]
    async fn the_end_of_the_server_ends_the_session_although_stdin_is_open() {
        let server = Server::RepliesAfter(7, b"bye");
        row(Row {
            server,
            input: b"request",
            stdin: Stdin::StaysOpen,
            stdout: b"bye",
            received: b"request",
            ..ROW
        })
        .await;
    }

    #[tokio::test]
    async fn the_end_of_stdin_is_passed_on_and_the_reply_delivered() {
        let server = Server::RepliesAtTheEnd(b"reply");
        row(Row { server, input: b"request", stdout: b"reply", received: b"request", ..ROW }).await;
    }

    /// Under Wine a reset arrives as an end.
    #[cfg(unix)]
    #[tokio::test]
    async fn a_server_that_breaks_off_has_a_code() {
        let server = Server::BreaksOffAfter(7, b"");
        row(Row {
            server,
            input: b"request",
            stdin: Stdin::StaysOpen,
            code: 7,
            received: b"request",
            stderr: "broke off",
            ..ROW
        })
        .await;
    }

    /// Whatever ends: nothing, stdin, or the server.
    #[tokio::test]
    async fn an_idle_session_whose_stdout_is_not_read_fails_unless_stdout_holds_it_all() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = format!("tcp:{}", listener.local_addr().unwrap());
        for (reply, code) in [(&b"reply"[..], 0), (BULK_INPUT, 1)] {
            for stdin in [Stdin::Ends, Stdin::StaysOpen] {
                for server_ends in [false, true] {
                    let mut npipe = Npipe::start(&["forward", "--idle-timeout", "1", "stdio", &target]);
                    let _unread = npipe.stdout.take();
                    if stdin == Stdin::Ends {
                        drop(npipe.stdin.take());
                    }
                    let serve = async {
                        let mut connection = listener.accept().await.unwrap().0;
                        // Where more is sent than stdout holds, this ends with the session.
                        let _ = connection.write_all(reply).await;
                        (!server_ends).then_some(connection)
                    };
                    let (outcome, _connection) = tokio::join!(npipe.finish(), serve);
                    outcome.code(code);
                    if code == 0 {
                        outcome.no_stderr();
                    } else {
                        outcome.stderr_has("stdout took what tcp:").stderr_has("bytes were not delivered");
                    }
                }
            }
        }
    }

    /// Windows shows it at the next reply only.
    #[tokio::test]
    async fn a_stdout_without_reader_ends_the_session_and_what_is_in_stdin_is_delivered() {
        for stdin in [Stdin::Ends, Stdin::StaysOpen] {
            for input in [&b""[..], b"request", BULK_INPUT] {
                for reply in [&b""[..], b"nobody reads this"] {
                    if cfg!(windows) && reply.is_empty() {
                        continue;
                    }
                    let server = Server::RepliesFirst(reply);
                    let (stdout_is_read, code) = (false, 8);
                    let stderr = "the reader of stdout went away";
                    row(Row { server, input, stdin, stdout_is_read, code, received: input, stderr, ..ROW })
                        .await;
                }
            }
        }
    }
}

/// `npipe forward stdio exec:COMMAND`.
#[cfg(unix)]
mod processes {
    use tokio::io::AsyncWriteExt;

    use crate::process::{Npipe, within_limit};

    async fn ends(command: &str, code: i32, stdout: &[u8]) {
        let outcome = Npipe::start(&["forward", "stdio", &format!("exec:{command}")]).finish_with(b"request");
        outcome.await.code(code).stdout(stdout);
    }

    #[tokio::test]
    async fn the_end_of_stdin_is_passed_on_and_the_reply_delivered() {
        ends("cat; echo ' and reply'", 0, b"request and reply\n").await;
    }

    #[tokio::test]
    async fn what_the_process_did_not_take_has_a_code() {
        let directory = tempfile::tempdir().unwrap();
        let go = directory.path().join("go");
        let command = format!("exec:until test -e {}; do sleep 0.01; done; head -c 7", go.display());
        let mut npipe = Npipe::start(&["forward", "stdio", &command]);
        let mut input = npipe.stdin.take().unwrap();
        within_limit("stdin", input.write_all(&[b'7'; super::FLOOD])).await.unwrap();
        std::fs::write(go, "").unwrap();
        let outcome = npipe.finish().await;
        outcome.code(6).stdout(b"7777777").stderr_has("before it took all that was read from stdin");
    }

    #[tokio::test]
    async fn a_command_that_fails_has_a_code_and_its_output_is_delivered() {
        for (command, status, stdout) in [
            ("cat; exit 7", "exit status: 7", &b"request"[..]),
            ("no-such-program-anywhere", "exit status: 127", b""),
            ("cat; kill -9 $$", "signal: 9", b"request"),
        ] {
            let windows_exe = concat!("--windows-exe=", env!("CARGO_BIN_EXE_npipe"));
            let here = Npipe::start(&["forward", "stdio", &format!("exec:{command}")]);
            let across = Npipe::start(&["forward", windows_exe, "stdio", &format!("windows:exec:{command}")]);
            for npipe in [here, across] {
                npipe.finish_with(b"request").await.code(12).stdout(stdout).stderr_has(status);
            }
        }
    }

    #[tokio::test]
    async fn a_command_that_goes_on_without_its_output_ends_with_the_session() {
        ends("cat; exec >&-; exec sleep 1000", 0, b"request").await;
    }

    /// The process is given what it has not read yet, also by the other half of the bridge.
    #[tokio::test]
    async fn a_stdout_without_reader_loses_nothing_that_is_in_stdin() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("received");
        let go = directory.path().join("go");
        let windows_exe = concat!("--windows-exe=", env!("CARGO_BIN_EXE_npipe"));
        let command = format!(
            "echo hello; until test -e {}; do sleep 0.01; done; cat >{}",
            go.display(),
            file.display()
        );
        for (flags, prefix) in [(&[][..], "exec:"), (&[windows_exe], "windows:exec:")] {
            for stays_open in [false, true] {
                let _ = std::fs::remove_file(&go);
                let target = format!("{prefix}{command}");
                let mut npipe = Npipe::start(&[&["forward"], flags, &["stdio", &target]].concat());
                let mut stdin = npipe.stdin.take().unwrap();
                drop(npipe.stdout.take());
                // The process reads only when stdout has hung up.
                let feed = async {
                    stdin.write_all(b"request").await.unwrap();
                    std::fs::write(&go, "").unwrap();
                    let _ = stdin.write_all(super::BULK_INPUT).await;
                    stays_open.then_some(stdin)
                };
                let (outcome, _stdin) = tokio::join!(npipe.finish(), feed);
                outcome.code(8).stderr_has("the reader of stdout went away");
                let received = std::fs::read(&file).unwrap();
                assert_eq!(received.len(), b"request".len() + super::BULK_INPUT.len(), "{prefix}");
                std::fs::remove_file(&file).unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_stdout_that_loses_its_reader_ends_the_session_of_a_silent_server() {
        for command in ["sleep 1000", "cat"] {
            let mut npipe = Npipe::start(&["forward", "stdio", &format!("exec:{command}")]);
            let _stays_open = npipe.stdin.take();
            drop(npipe.stdout.take());
            npipe.finish().await.code(8).stderr_has("the reader of stdout went away");
        }
    }
}

/// `npipe connect`, over a pipe.
#[cfg(windows)]
mod pipes {
    use tokio::net::windows::named_pipe::{NamedPipeServer, PipeMode, ServerOptions};

    use super::{BULK_INPUT, Connection, ROW, Row, Server, Stdin};
    use crate::connect::{path, unique_name};

    impl Connection for NamedPipeServer {
        async fn break_off(self) {
            self.disconnect().unwrap();
        }
    }

    async fn row(mode: PipeMode, row: Row) {
        let name = unique_name();
        let server = ServerOptions::new().pipe_mode(mode).create(path(&name)).unwrap();
        row.run(&["connect", &format!("npipe:{name}")], async {
            server.connect().await.unwrap();
            server
        })
        .await;
    }

    #[tokio::test]
    async fn the_end_of_the_server_ends_the_session_although_stdin_is_open() {
        for mode in [PipeMode::Byte, PipeMode::Message] {
            let server = Server::RepliesAfter(7, b"bye");
            let (stdin, stdout) = (Stdin::StaysOpen, &b"bye"[..]);
            row(mode, Row { server, input: b"request", stdin, stdout, received: b"request", ..ROW }).await;
        }
    }

    #[tokio::test]
    async fn the_end_of_stdin_ends_a_session_that_is_told_so_after_what_has_come() {
        let server = Server::SendsEmptyMessage(b"so far");
        let flags = &["--exit-on-stdin-eof"];
        let row_of = Row { server, flags, input: b"request", stdout: b"so far", received: b"request", ..ROW };
        row(PipeMode::Message, row_of).await;
    }

    #[tokio::test]
    async fn what_the_server_did_not_take_has_a_code() {
        let server = Server::RepliesAfter(7, b"too long");
        let (stdin, code, stdout) = (Stdin::Floods, 6, &b"too long"[..]);
        let stderr = "before the server took all that was read from stdin";
        let row_of =
            Row { server, input: b"request", stdin, code, stdout, received: b"request", stderr, ..ROW };
        row(PipeMode::Byte, row_of).await;
    }

    #[tokio::test]
    async fn a_server_that_disconnects_has_a_code_unless_that_is_accepted() {
        let server = Server::BreaksOffAfter(7, b"");
        let row_of = |flags, code, stderr| {
            let (input, stdin, received) = (&b"request"[..], Stdin::StaysOpen, &b"request"[..]);
            Row { server, flags, input, stdin, code, received, stderr, ..ROW }
        };
        row(PipeMode::Byte, row_of(&[], 7, "disconnected")).await;
        row(PipeMode::Byte, row_of(&["--accept-disconnect"], 0, "")).await;
    }

    #[tokio::test]
    async fn a_stdout_without_reader_ends_the_session_and_what_is_in_stdin_is_delivered() {
        for mode in [PipeMode::Byte, PipeMode::Message] {
            for stdin in [Stdin::Ends, Stdin::StaysOpen] {
                for input in [&b"request"[..], BULK_INPUT] {
                    let server = Server::RepliesFirst(b"nobody reads this");
                    let (stdout_is_read, code) = (false, 8);
                    let stderr = "the reader of stdout went away";
                    row(
                        mode,
                        Row { server, input, stdin, stdout_is_read, code, received: input, stderr, ..ROW },
                    )
                    .await;
                }
            }
        }
    }

    #[tokio::test]
    async fn an_empty_message_of_the_server_ends_the_session_where_that_was_asked_for() {
        let server = Server::SendsEmptyMessage(b"so far");
        let flags = &["--end-at-empty-message"];
        row(PipeMode::Message, Row { server, flags, stdin: Stdin::StaysOpen, stdout: b"so far", ..ROW })
            .await;
    }
}
