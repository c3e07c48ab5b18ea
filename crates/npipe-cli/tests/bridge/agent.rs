//! An ssh-agent on Windows' pipe: the questions of `npipe wsl doctor`, and session-bind answered in
//! the agent's place.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::process::{Child, Command};

use crate::world::*;

const PIPE: &str = "openssh-ssh-agent";
const REQUEST_IDENTITIES: &[u8] = &[0, 0, 0, 1, 11];
const TWO_KEYS: &[u8] = &[0, 0, 0, 5, 12, 0, 0, 0, 2];
const FAILURE: &[u8] = &[0, 0, 0, 1, 5];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Agent {
    AnswersAll,
    ClosesAtSessionBind,
    Closes,
    Refuses,
    SpeaksHttp,
    IsSilent,
}

/// The pipe of Windows' agent, and how it answers now.
struct Served {
    agent: Arc<Mutex<Agent>>,
    _pipe: Child,
}

impl Served {
    async fn new() -> Served {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let agent = Arc::new(Mutex::new(Agent::AnswersAll));
        let now = Arc::clone(&agent);
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(answer(client, *now.lock().unwrap()));
            }
        });
        Served { agent, _pipe: serve_pipe(PIPE, &address).await }
    }

    fn becomes(&self, agent: Agent) {
        *self.agent.lock().unwrap() = agent;
    }
}

async fn answer(mut client: TcpStream, agent: Agent) -> io::Result<()> {
    loop {
        let mut request = vec![0; client.read_u32().await? as usize];
        client.read_exact(&mut request).await?;
        match (agent, request[0]) {
            (Agent::Closes, _) | (Agent::ClosesAtSessionBind, 27) => return Ok(()),
            (Agent::IsSilent, _) => {}
            (Agent::SpeaksHttp, _) => client.write_all(b"HTTP/1.0 400 Bad Request\r\n").await?,
            (Agent::AnswersAll | Agent::ClosesAtSessionBind, 11) => client.write_all(TWO_KEYS).await?,
            (Agent::AnswersAll | Agent::ClosesAtSessionBind | Agent::Refuses, _) => {
                client.write_all(FAILURE).await?;
            }
        }
    }
}

fn session_bind() -> Vec<u8> {
    let name = b"session-bind@openssh.com";
    let rest = [0; 100];
    let length = 1 + 4 + name.len() + rest.len();
    [&(length as u32).to_be_bytes()[..], &[27, 0, 0, 0, name.len() as u8], name, &rest].concat()
}

/// A home and a directory of a login in which a relay for the agent is set up.
struct Login(TempDir);

impl Login {
    fn new() -> Login {
        let login = Login(TempDir::new().unwrap());
        fs::create_dir_all(login.0.path().join("npipe")).unwrap();
        fs::create_dir_all(login.0.path().join("systemd/private")).unwrap();
        let units = login.0.path().join(".config/systemd/user");
        fs::create_dir_all(&units).unwrap();
        fs::write(units.join("npipe-ssh-agent.socket"), "").unwrap();
        login
    }

    async fn relay(&self, program: &Path) -> Npipe {
        start_bridge_at(&self.0.path().join("npipe/ssh-agent.sock"), program, "ssh-agent", &[], None).await
    }

    /// The lines of the doctor about the agent and its relay, and about nothing else.
    async fn doctor(&self, program: &Path) -> String {
        let doctor = Command::new(env!("CARGO_BIN_EXE_npipe"))
            .args(["wsl", "doctor", "--windows-exe", program.to_str().unwrap()])
            .env("HOME", self.0.path())
            .env("XDG_RUNTIME_DIR", self.0.path())
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("SSH_AUTH_SOCK")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let Output { stdout, .. } = within_limit("the doctor", doctor).await.unwrap();
        String::from_utf8(stdout).unwrap()
    }
}

#[tokio::test]
async fn the_doctor_names_the_fault_of_an_agent_and_of_its_relay() {
    let Some(program) = windows_program("the doctor's questions to an agent") else { return };
    let has = |words: &str, expected: &str| assert!(words.contains(expected), "{expected:?} in\n{words}");

    let login = Login::new();
    let relay = login.relay(&program).await;
    let words = login.doctor(&program).await;
    has(&words, "problem  ssh-agent does not answer on Windows: no program on the Windows side serves");
    has(&words, "Start-Service ssh-agent");
    has(&words, "problem  npipe-ssh-agent is served here, and closed the connection at the request for its");
    has(&words, "keys, as a relay does whose server fails on Windows");

    let served = Served::new().await;
    for (agent, fault, remedy) in [
        (Agent::AnswersAll, "", ""),
        (
            Agent::Closes,
            "closed the connection at the request for its keys",
            "unlock it, if it is a password manager's; else in PowerShell as administrator: Restart-Service",
        ),
        (Agent::Refuses, "answered with a failure at the request for its keys", "or by ssh-add -X"),
        (
            Agent::SpeaksHttp,
            "sent bytes of another protocol at the request for its keys",
            "npipe info ssh-agent",
        ),
        (
            Agent::IsSilent,
            "did not answer for 5 seconds at the request for its keys",
            "see whether it waits for you in a window on Windows",
        ),
        // Last: the relay learns to answer session-bind.
        (
            Agent::ClosesAtSessionBind,
            "closed the connection at session-bind@openssh.com",
            "npipe forward --agent-compat unix:SOCKET ssh-agent",
        ),
    ] {
        served.becomes(agent);
        let words = login.doctor(&program).await;
        if agent == Agent::AnswersAll {
            has(&words, "ok       ssh-agent answers on Windows, and has 2 keys");
            has(&words, "ok       npipe-ssh-agent is served here, and has 2 keys");
        } else {
            has(&words, &format!("problem  ssh-agent on Windows {fault}"));
            has(&words, remedy);
            has(&words, &format!("problem  npipe-ssh-agent is served here, and {fault}"));
        }
        if !matches!(agent, Agent::AnswersAll | Agent::ClosesAtSessionBind) {
            has(&words, "as a relay does whose server fails on Windows");
        }
        assert_eq!(words.contains("session-bind"), agent == Agent::ClosesAtSessionBind, "{words}");
    }
    let words = login.doctor(&program).await;
    has(&words, "problem  ssh-agent on Windows closed the connection at session-bind");
    has(&words, "ok       npipe-ssh-agent is served here, and has 2 keys");

    // The agent is well, and the relay's way to it is not.
    served.becomes(Agent::AnswersAll);
    let windows_half = children(relay.process());
    for process in &windows_half {
        stop(*process).await;
    }
    let words = login.doctor(&program).await;
    for process in windows_half {
        go_on(process);
    }
    has(&words, "ok       ssh-agent answers on Windows, and has 2 keys");
    has(&words, "did not answer for 5 seconds at the request for its keys: its Windows process may be");
    has(&words, "systemctl --user restart npipe-ssh-agent.service");
    drop(relay);
    let _relay = login.relay(Path::new("/nonexistent/npipe.exe")).await;
    let words = login.doctor(&program).await;
    has(&words, "ok       ssh-agent answers on Windows, and has 2 keys");
    has(&words, "closed the connection at the request for its keys: it does not reach Windows");
    has(&words, "systemctl --user restart npipe-ssh-agent.service");

    session_bind_is_answered_for_an_agent_that_closes_there(&program, &served).await;
}

/// With the flag from the first client on, without it from the second. A part of the test above,
/// since the pipe's name has one server.
async fn session_bind_is_answered_for_an_agent_that_closes_there(program: &Path, served: &Served) {
    served.becomes(Agent::ClosesAtSessionBind);
    for options in [&["--agent-compat"][..], &[]] {
        let (mut bridge, socket) = start_bridge(program, "ssh-agent", options).await;
        if options.is_empty() {
            let mut first = UnixStream::connect(&socket).await.unwrap();
            first.write_all(&session_bind()).await.unwrap();
            assert_eq!(read_to_end(&mut first).await, b"");
            bridge.line("the agent closed the connection at session-bind@openssh.com").await;
        }
        let mut client = UnixStream::connect(&socket).await.unwrap();
        client.write_all(&[&session_bind()[..], REQUEST_IDENTITIES].concat()).await.unwrap();
        let mut replies = vec![0; FAILURE.len() + TWO_KEYS.len()];
        within_limit("the replies", client.read_exact(&mut replies)).await.unwrap();
        assert_eq!(replies, [FAILURE, TWO_KEYS].concat());
    }
}
