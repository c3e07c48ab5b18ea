//! Programs that people use, through the bridge: curl, OpenSSH, GnuPG.

use std::env;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::process::{Child, Command};

use crate::world::*;

on_both_sides! {
    curl_gets_and_posts_over_the_socket
    openssh_lists_and_uses_a_key_of_an_agent_behind_the_bridge
    gnupg_signs_with_a_key_of_an_agent_behind_a_native_socket_file
    gnupg_signs_with_a_key_of_an_agent_behind_a_socket_file_of_cygwin
}

/// Whether all programs are here; says so if not.
fn are_installed(programs: &[&str]) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let missing =
        programs.iter().find(|program| !env::split_paths(&path).any(|folder| folder.join(program).is_file()));
    if let Some(program) = missing {
        eprintln!("skipped: there is no {program} here");
    }
    missing.is_none()
}

/// Runs a program to its end and gives what it wrote to stdout.
async fn output(command: &mut Command) -> Vec<u8> {
    let what = format!("{command:?}");
    let run = command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true).output();
    let output = within_limit(&what, run).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what} ended with {}: {said}", output.status);
    output.stdout
}

async fn curl_gets_and_posts_over_the_socket(side: Side) {
    if !are_installed(&["curl"]) {
        return;
    }
    let world = World::new(side).await;
    let folder = TempDir::new().unwrap();
    let upload = random(2, 3_000_000);
    fs::write(folder.path().join("upload"), &upload).unwrap();
    let curl = || {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--unix-socket"]).arg(&world.socket);
        curl.current_dir(&folder);
        curl
    };
    let requests = async {
        for length in [0, 1, 70_000, 5_000_000] {
            let body = output(curl().arg(format!("http://windows/{length}"))).await;
            assert!(body == random(length, length), "{length} bytes were asked for, {} came", body.len());
        }
        let sum = output(curl().args(["--data-binary", "@upload", "http://windows/sum"])).await;
        assert_eq!(String::from_utf8(sum).unwrap(), sum_of(&upload).to_string());
        // Forty at a time, a connection for each.
        let urls = "http://windows/[100001-100200]";
        output(curl().args(["--parallel", "--parallel-max", "40", "--output", "got-#1", urls])).await;
        for length in 100_001..=100_200 {
            assert!(fs::read(folder.path().join(format!("got-{length}"))).unwrap() == random(length, length));
        }
    };
    tokio::select! {
        () = serve_http(&world.server) => unreachable!("it serves for ever"),
        () = requests => {}
    }
}

/// Answers `GET /LENGTH` with so many random bytes, and a `POST` with the sum of the bytes it
/// brought.
async fn serve_http(listener: &TcpListener) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let mut client = BufReader::new(client);
            let (mut request, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                if client.read_line(&mut line).await.unwrap() == 0 {
                    return;
                }
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line == "\r\n" {
                    break;
                }
                if request.is_empty() {
                    request = line;
                }
            }
            let body = if request.starts_with("POST") {
                client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
                let mut sent = vec![0; length];
                client.read_exact(&mut sent).await.unwrap();
                sum_of(&sent).to_string().into_bytes()
            } else {
                let length = request.split(['/', ' ']).nth(2).unwrap().parse().unwrap();
                random(length, length)
            };
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            client.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
        });
    }
}

fn sum_of(bytes: &[u8]) -> u64 {
    bytes.iter().zip(1..).map(|(byte, place)| u64::from(*byte) * place).sum()
}

/// A process of the test's that ends with it.
async fn agent(command: &mut Command, socket: &Path) -> Child {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    until("the agent's socket", || std::os::unix::net::UnixStream::connect(socket).is_ok()).await;
    child
}

async fn openssh_lists_and_uses_a_key_of_an_agent_behind_the_bridge(side: Side) {
    if !are_installed(&["ssh-agent", "ssh-add", "ssh-keygen"]) {
        return;
    }
    let world = World::new(side).await;
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("agent.sock");
    let _agent = agent(Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket), &socket).await;
    let ssh = |program: &str, socket: &Path| {
        let mut command = Command::new(program);
        command.current_dir(&folder).env("SSH_AUTH_SOCK", socket);
        command
    };
    output(ssh("ssh-keygen", &socket).args(["-q", "-t", "ed25519", "-N", "", "-C", "key", "-f", "key"]))
        .await;
    output(ssh("ssh-add", &socket).args(["-q", "key"])).await;
    fs::remove_file(folder.path().join("key")).unwrap();
    let public = fs::read_to_string(folder.path().join("key.pub")).unwrap();
    fs::write(folder.path().join("message"), "a message").unwrap();

    let use_it = async {
        let listed = output(ssh("ssh-add", &world.socket).arg("-L")).await;
        assert_eq!(String::from_utf8(listed).unwrap(), public);
        output(
            ssh("ssh-keygen", &world.socket).args(["-Y", "sign", "-n", "file", "-f", "key.pub", "message"]),
        )
        .await;
        fs::write(folder.path().join("signers"), format!("me {public}")).unwrap();
        let verify = "ssh-keygen -Y verify -n file -I me -f signers -s message.sig < message";
        output(ssh("sh", &socket).args(["-c", verify])).await;
    };
    tokio::select! {
        () = world.lead_to(&socket) => unreachable!("it leads for ever"),
        () = use_it => {}
    }
}

async fn gnupg_signs_with_a_key_of_an_agent_behind_a_native_socket_file(side: Side) {
    gnupg_signs_with_a_key_of_an_agent_behind(side, Form::Native).await;
}

async fn gnupg_signs_with_a_key_of_an_agent_behind_a_socket_file_of_cygwin(side: Side) {
    gnupg_signs_with_a_key_of_an_agent_behind(side, Form::Cygwin).await;
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Native,
    Cygwin,
}

const NONCE: [u8; 16] = *b"\x01\n\xff\0nonce of gpg";

/// GnuPG here has the public key; the agent on the other side has the secret one, as on a machine
/// with WSL.
async fn gnupg_signs_with_a_key_of_an_agent_behind(side: Side, form: Form) {
    if !are_installed(&["gpg", "gpg-agent", "gpgconf", "gpg-connect-agent"]) {
        return;
    }
    // Short, since the paths of sockets are.
    let (theirs, ours) = (GnupgHome::new().await, GnupgHome::new().await);
    let socket = theirs.agent_socket().await;
    output(theirs.gpg("gpgconf").args(["--launch", "gpg-agent"])).await;
    let name = "npipe <npipe@example.org>";
    let generate = ["--batch", "--passphrase", "", "--quick-generate-key", name, "ed25519", "sign", "never"];
    output(theirs.gpg("gpg").args(generate)).await;
    let public = theirs.0.path().join("public");
    output(theirs.gpg("gpg").arg("--output").arg(&public).arg("--export")).await;

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let file = ours.0.path().join("S.windows");
    fs::write(&file, contents(form, port)).unwrap();
    let target = match &side {
        Side::Native => format!("windows:assuan:{}", file.display()),
        Side::Windows(_) => format!("windows:assuan:Z:{}", file.display()),
    };
    let here = ours.agent_socket().await;
    let _bridge = start_bridge_at(&here, side.program(), &target, &[], None).await;

    let use_it = async {
        let talk = ["--no-autostart", "GETINFO version", "/bye"];
        let answer = output(ours.gpg("gpg-connect-agent").args(talk)).await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("D 2.") && answer.ends_with("OK\n"), "{answer}");
        output(ours.gpg("gpg").arg("--no-autostart").arg("--import").arg(&public)).await;
        let message = ours.0.path().join("message");
        fs::write(&message, random(1, 200_000)).unwrap();
        let sign = ["--no-autostart", "--batch", "--local-user", name, "--detach-sign"];
        output(ours.gpg("gpg").args(sign).arg(&message)).await;
        let signature = message.with_extension("sig");
        output(ours.gpg("gpg").arg("--no-autostart").arg("--verify").arg(signature).arg(&message)).await;
    };
    tokio::select! {
        () = check_nonces(&listener, form, &socket) => unreachable!("it serves for ever"),
        () = use_it => {}
    }
}

fn contents(form: Form, port: u16) -> Vec<u8> {
    match form {
        Form::Native => [format!("{port}\n").as_bytes(), &NONCE].concat(),
        Form::Cygwin => {
            let words = NONCE
                .chunks_exact(4)
                .map(|word| format!("{:08x}", u32::from_le_bytes(word.try_into().unwrap())));
            format!("!<socket >{port} s {}\0", words.collect::<Vec<_>>().join("-")).into_bytes()
        }
    }
}

/// What gpg-agent does on Windows before it speaks.
async fn check_nonces(listener: &TcpListener, form: Form, socket: &Path) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let socket = socket.to_owned();
        tokio::spawn(async move {
            let client = admit(client, form).await;
            let (mut client, mut server) = (client, UnixStream::connect(socket).await.unwrap());
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        });
    }
}

async fn admit(mut client: TcpStream, form: Form) -> TcpStream {
    let mut nonce = [0; 16];
    client.read_exact(&mut nonce).await.unwrap();
    assert_eq!(nonce, NONCE);
    if form == Form::Cygwin {
        client.write_all(&NONCE).await.unwrap();
        let mut credentials = [0; 8];
        client.read_exact(&mut credentials).await.unwrap();
        client.write_all(&credentials).await.unwrap();
    }
    client
}

/// A home of GnuPG's.
struct GnupgHome(TempDir);

impl GnupgHome {
    async fn new() -> GnupgHome {
        // In /tmp, whose path is short: a socket's has room for 108 bytes.
        let home = GnupgHome(TempDir::with_prefix_in("gpg", "/tmp").unwrap());
        // Where there is a runtime directory, sockets are in there.
        let _ = home.gpg("gpgconf").arg("--create-socketdir").output().await;
        home
    }

    fn gpg(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("GNUPGHOME", self.0.path()).current_dir(&self.0);
        command
    }

    async fn agent_socket(&self) -> PathBuf {
        let path = output(self.gpg("gpgconf").args(["--list-dirs", "agent-socket"])).await;
        PathBuf::from(String::from_utf8(path).unwrap().trim())
    }
}

impl Drop for GnupgHome {
    fn drop(&mut self) {
        for arguments in [&["--kill", "gpg-agent"][..], &["--remove-socketdir"]] {
            let mut gpgconf = std::process::Command::new("gpgconf");
            let _ = gpgconf.args(arguments).env("GNUPGHOME", self.0.path()).stderr(Stdio::null()).status();
        }
    }
}
