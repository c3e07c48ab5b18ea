//! GnuPG's socket files. The test is what libassuan is on Windows: a server on loopback that wants
//! the nonce. Behind it is a real gpg-agent where the test is about what GnuPG says, and an echo
//! elsewhere.

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::process::{Npipe, within_limit};

const NONCE: &[u8; 16] = b"\n0123456789abcd\0";
const NONCE_IN_WORDS: &str = "3231300a-36353433-61393837-00646362";
const FORMS: [Form; 2] = [Form::Native, Form::Cygwin];

#[derive(Clone, Copy, Debug)]
enum Form {
    Native,
    Cygwin,
}

impl Form {
    fn file(self, port: u16) -> Vec<u8> {
        match self {
            Form::Native => [format!("{port}\n").as_bytes(), NONCE].concat(),
            Form::Cygwin => format!("!<socket >{port} s {NONCE_IN_WORDS}\0").into_bytes(),
        }
    }

    /// The server's part of the handshake, after `_assuan_sock_check_nonce`.
    async fn check(self, stream: &mut TcpStream) {
        let mut nonce = [0; 16];
        stream.read_exact(&mut nonce).await.unwrap();
        assert_eq!(&nonce, NONCE);
        if matches!(self, Form::Cygwin) {
            stream.write_all(&nonce).await.unwrap();
            let mut credentials = [0; 8];
            stream.read_exact(&mut credentials).await.unwrap();
            assert_eq!(credentials[4..], [0; 4]);
            stream.write_all(&credentials).await.unwrap();
        }
    }
}

/// A server of the test, and the file that stands for it.
struct Server {
    listener: TcpListener,
    form: Form,
    directory: TempDir,
}

impl Server {
    async fn start(form: Form) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let server = Server { listener, form, directory };
        server.write_file("S.gpg-agent");
        server
    }

    fn write_file(&self, name: &str) {
        let port = self.listener.local_addr().unwrap().port();
        fs::write(self.directory.path().join(name), self.form.file(port)).unwrap();
    }

    fn target(&self) -> String {
        assuan(&self.directory.path().join("S.gpg-agent"))
    }

    async fn accept(&self) -> TcpStream {
        within_limit("the handshake", async {
            let (mut stream, _) = self.listener.accept().await.unwrap();
            self.form.check(&mut stream).await;
            stream
        })
        .await
    }

    async fn echo(&self) {
        let mut stream = self.accept().await;
        let (mut read, mut write) = stream.split();
        tokio::io::copy(&mut read, &mut write).await.unwrap();
    }
}

fn assuan(file: &Path) -> String {
    format!("assuan:{}", file.display())
}

#[tokio::test]
async fn both_forms_are_connected_to_with_their_handshake() {
    for form in FORMS {
        let server = Server::start(form).await;
        let client = Npipe::start(&["forward", "stdio", &server.target()]);
        let (outcome, ()) = tokio::join!(client.finish_with(b"GETINFO pid\n"), server.echo());
        outcome.code(0).stdout(b"GETINFO pid\n").no_stderr();
    }
}

/// The file is a fifo, so that the test sees each attempt: the first finds an agent that has gone,
/// the second one that runs.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_agent_that_does_not_run_yet_is_waited_for_when_told() {
    use std::time::Duration;

    use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};

    for form in FORMS {
        let server = Server::start(form).await;
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let path = server.directory.path().join("fifo");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let client = Npipe::start(&["-p", "-l", "-a", path.to_str().unwrap()]);
        // Refused where nobody reads.
        let opened = || open(&path, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty());
        let attempts = async {
            for port in [gone, server.listener.local_addr().unwrap().port()] {
                within_limit("an attempt and its end", async {
                    let fifo = loop {
                        match opened() {
                            Ok(fifo) => break fifo,
                            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
                        }
                    };
                    rustix::io::write(fifo, &form.file(port)).unwrap();
                    while opened().is_ok() {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                })
                .await;
            }
            server.echo().await;
        };
        let (outcome, ()) = tokio::join!(client.finish_with(b"GETINFO pid\n"), attempts);
        outcome.code(0).stdout(b"GETINFO pid\n").no_stderr();
    }
}

#[tokio::test]
async fn a_stale_file_is_told_with_what_to_do() {
    for form in FORMS {
        let Server { listener, directory, .. } = Server::start(form).await;
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let target = assuan(&directory.path().join("S.gpg-agent"));
        let outcome = Npipe::start(&["forward", "stdio", &target]).finish().await;
        outcome
            .code(3)
            .stderr_has(&format!("the file is stale, nobody listens on its port {port}"))
            .stderr_has("gpgconf --launch gpg-agent");
    }
}

#[tokio::test]
async fn a_program_that_took_the_port_since_is_told_from_an_agent() {
    let server = Server::start(Form::Cygwin).await;
    let client = Npipe::start(&["forward", "stdio", &server.target()]);
    let (outcome, ()) = tokio::join!(client.finish_with(b""), async {
        let (mut stream, _) = within_limit("the client", server.listener.accept()).await.unwrap();
        stream.write_all(b"220 another program, which greets at once\r\n").await.unwrap();
        // It reads, so that what it said is not lost to a reset.
        let _ = within_limit("the client's end", stream.read_to_end(&mut Vec::new())).await;
    });
    outcome.code(1).stderr_has("did not accept the nonce").stderr_has("probably stale");
}

#[tokio::test]
async fn a_file_that_is_missing_or_something_else_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("S.gpg-agent");
    let outcome = Npipe::start(&["forward", "stdio", &assuan(&file)]).finish().await;
    outcome.code(3).stderr_has("there is no such file").stderr_has("--launch");
    fs::write(&file, vec![b'7'; 100_000]).unwrap();
    let outcome = Npipe::start(&["forward", "stdio", &assuan(&file)]).finish().await;
    outcome.code(1).stderr_has("no socket file of GnuPG's");
}

#[cfg(windows)]
#[tokio::test]
async fn the_files_of_gpg_agent_are_found_where_gnupg_puts_them() {
    let server = Server::start(Form::Cygwin).await;
    let home = server.directory.path().join("gnupg");
    fs::create_dir(&home).unwrap();
    server.write_file("gnupg/S.gpg-agent.ssh");
    let client = Npipe::start_with(&["forward", "stdio", "gpg-agent-ssh"], |command| {
        command.env("LOCALAPPDATA", server.directory.path()).env_remove("GNUPGHOME");
    });
    let (outcome, ()) = tokio::join!(client.finish_with(b"hello"), server.echo());
    outcome.code(0).stdout(b"hello");
}

#[cfg(unix)]
mod with_gnupg {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;
    use std::process::Stdio;

    use tokio::net::UnixStream;
    use tokio::process::Command;

    use super::*;

    /// A gpg-agent with a home of its own, which ends with the test.
    struct Agent {
        home: TempDir,
        socket: PathBuf,
    }

    impl Agent {
        /// Nothing where GnuPG is not installed.
        async fn start() -> Option<Agent> {
            let home = tempfile::tempdir().unwrap();
            let told = gpgconf(&home).args(["--list-dirs", "agent-socket"]).output().ok()?;
            let socket = PathBuf::from(String::from_utf8(told.stdout).unwrap().trim());
            let agent = Agent { home, socket };
            let launched = Command::new("gpg-agent")
                .arg("--homedir")
                .arg(agent.home.path())
                .arg("--daemon")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            assert!(within_limit("the start of gpg-agent", launched).await.ok()?.success());
            Some(agent)
        }

        /// Relays one client to the agent.
        async fn serve(&self, server: &Server) {
            let mut client = server.accept().await;
            let mut agent = UnixStream::connect(&self.socket).await.unwrap();
            tokio::io::copy_bidirectional(&mut client, &mut agent).await.unwrap();
        }
    }

    impl Drop for Agent {
        fn drop(&mut self) {
            let _ = gpgconf(&self.home).args(["--kill", "gpg-agent"]).status();
        }
    }

    fn gpgconf(home: &TempDir) -> std::process::Command {
        let mut command = std::process::Command::new("gpgconf");
        command.arg("--homedir").arg(home.path());
        command
    }

    #[tokio::test]
    async fn gpg_connect_agent_talks_to_gpg_agent_through_both_forms() {
        let Some(agent) = Agent::start().await else {
            return eprintln!("skipped: GnuPG is not installed");
        };
        for form in FORMS {
            let server = Server::start(form).await;
            let socket = server.directory.path().join("listener.sock");
            let listen = format!("unix:{}", socket.display());
            let mut forward = Npipe::start(&["forward", &listen, &server.target()]);
            forward.stderr_line("listening on").await;
            let client = Command::new("gpg-connect-agent")
                .arg("--homedir")
                .arg(agent.home.path())
                .arg("-S")
                .arg(&socket)
                .args(["GETINFO socket_name", "/bye"])
                .kill_on_drop(true)
                .output();
            let (output, ()) =
                within_limit("gpg-connect-agent", async { tokio::join!(client, agent.serve(&server)) }).await;
            let output = output.unwrap();
            let expected = format!("D {}\nOK\n", agent.socket.display());
            assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{form:?}: {output:?}");
        }
    }

    #[tokio::test]
    async fn the_agent_is_launched_when_told_and_only_then_again() {
        let server = Server::start(Form::Native).await;
        let directory = server.directory.path();
        let (file, ready) = (directory.join("S.gpg-agent"), directory.join("ready"));
        fs::rename(&file, &ready).unwrap();
        // In place of GnuPG's: notes that it was called, and the agent's file appears.
        let gpgconf = directory.join("gpgconf");
        let script = format!(
            "#!/bin/sh\necho \"$@\" >> {0}/calls\nmv {1} {2}\n",
            directory.display(),
            ready.display(),
            file.display()
        );
        fs::write(&gpgconf, script).unwrap();
        fs::set_permissions(&gpgconf, fs::Permissions::from_mode(0o700)).unwrap();
        let path = format!("{}:{}", directory.display(), std::env::var("PATH").unwrap());
        let calls = directory.join("calls");
        let own = env!("CARGO_BIN_EXE_npipe");
        // By ourselves, and by the other half of the bridge.
        for target in [server.target(), format!("windows:{}", server.target())] {
            for _ in 0..2 {
                let arguments = ["forward", "--launch", "stdio", &target];
                let client = Npipe::start_with(&arguments, |command| {
                    command.env("PATH", &path).env("NPIPE_WINDOWS_EXE", own);
                });
                let (outcome, ()) = tokio::join!(client.finish_with(b"hello"), server.echo());
                outcome.code(0).stdout(b"hello").no_stderr();
            }
            assert_eq!(fs::read_to_string(&calls).unwrap(), "--launch gpg-agent\n");
            fs::remove_file(&calls).unwrap();
            fs::rename(&file, &ready).unwrap();
        }
    }
}
