//! The whole way: `ssh-add` -> Unix socket -> `npipe.exe connect` -> named pipe -> `npipe.exe forward` -> TCP -> Unix
//! socket -> `ssh-agent`. Only the pipe and its two ends are ours; xtask joins the sockets, which Wine lacks.

use std::io::{self, BufRead, BufReader};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{Stage, Tool};
use crate::process::{Ending, Family, Limits, follow, line_of};
use crate::scratch::Scratch;

/// The name that OpenSSH for Windows uses and its clients look for.
const PIPE: &str = "openssh-ssh-agent";

const COMMENT: &str = "npipe-demo";

/// A command of the demo takes milliseconds; one that waits for a lost byte waits for ever.
const COMMAND_LIMIT: Limits = Limits::total(Duration::from_secs(60));

pub(super) fn list_and_sign(stage: &Stage, tool: &Tool) -> Result<()> {
    // The family is declared last, so that it is stopped before its folder is removed.
    let scratch = Scratch::new("demo")?;
    let family = Arc::new(Family::new());
    let agent = start_agent(stage, &family, scratch.path())?;
    let fingerprint = make_key(stage, scratch.path(), &agent)?;

    let port = join_tcp_to(agent)?;
    stage.say(&format!("tcp:{port} leads to the agent's socket"));
    tool.serve(stage, &family, PIPE, port)?;
    let socket = scratch.path().join("windows.sock");
    join_socket_to_pipe(&socket, tool, &family)?;
    stage.say(&format!("{} leads to npipe.exe connect npipe:{PIPE}", socket.display()));

    stage.say("OpenSSH through the named pipe:");
    let mut list = Command::new("ssh-add");
    let keys = perform(stage, list.arg("-l").env("SSH_AUTH_SOCK", &socket))?;
    if !keys.contains(&fingerprint) {
        bail!("ssh-add does not list the key {fingerprint}");
    }
    sign_and_verify(stage, scratch.path(), &socket)?;
    family.stop();
    stage.say("the key was listed and used through \\\\.\\pipe\\openssh-ssh-agent; everything is stopped");
    Ok(())
}

/// Starts an agent and gives its socket.
fn start_agent(stage: &Stage, family: &Family, folder: &Path) -> Result<PathBuf> {
    let socket = folder.join("agent.sock");
    let mut command = Command::new("ssh-agent");
    // In the foreground: the agent ends with us.
    command.arg("-D").arg("-a").arg(&socket).stdin(Stdio::null()).stdout(Stdio::piped());
    stage.say(&format!("$ {} &", line_of(&command)));
    let mut agent = family.spawn(&mut command)?;
    // It prints where it listens once it does.
    let mut line = String::new();
    let mut output = BufReader::new(agent.stdout.take().expect("stdout is piped"));
    output.read_line(&mut line).context("failed to read what ssh-agent says")?;
    std::thread::spawn(move || {
        let _ = io::copy(&mut output, &mut io::sink());
        let _ = agent.wait();
    });
    if !line.contains("SSH_AUTH_SOCK") {
        bail!("ssh-agent does not say where it listens");
    }
    Ok(socket)
}

/// Gives the agent a key that exists nowhere else. Returns its fingerprint.
fn make_key(stage: &Stage, folder: &Path, agent: &Path) -> Result<String> {
    let key = folder.join("key");
    let mut generate = Command::new("ssh-keygen");
    generate.args(["-q", "-t", "ed25519", "-N", "", "-C", COMMENT, "-f"]).arg(&key);
    perform(stage, &mut generate)?;
    let mut add = Command::new("ssh-add");
    perform(stage, add.arg("-q").arg(&key).env("SSH_AUTH_SOCK", agent))?;
    // From here on only the agent can sign.
    std::fs::remove_file(&key).context("failed to remove the private key")?;
    let mut show = Command::new("ssh-keygen");
    let shown = perform(stage, show.arg("-l").arg("-f").arg(key.with_extension("pub")))?;
    let fingerprint = shown.split_whitespace().find(|word| word.starts_with("SHA256:"));
    fingerprint.map(str::to_owned).with_context(|| format!("ssh-keygen shows no fingerprint: {shown}"))
}

fn sign_and_verify(stage: &Stage, folder: &Path, socket: &Path) -> Result<()> {
    let public_key = folder.join("key.pub");
    let message = folder.join("message");
    std::fs::write(&message, "signed through a Windows named pipe\n")?;
    let mut sign = Command::new("ssh-keygen");
    sign.args(["-Y", "sign", "-n", "file", "-f"]).arg(&public_key).arg(&message).env("SSH_AUTH_SOCK", socket);
    perform(stage, &mut sign)?;

    let key = std::fs::read_to_string(&public_key)?;
    let signers = folder.join("allowed_signers");
    std::fs::write(&signers, format!("{COMMENT} {key}"))?;
    // A shell, because ssh-keygen reads the message from its standard input and the audience should see it.
    let mut verify = Command::new("sh");
    verify.arg("-c").arg(format!(
        "ssh-keygen -Y verify -n file -I {COMMENT} -f {signers} -s {message}.sig < {message}",
        signers = signers.display(),
        message = message.display()
    ));
    perform(stage, &mut verify).map(drop)
}

/// Joins each connection to the address it returns with one to the Unix socket `target`.
fn join_tcp_to(target: PathBuf) -> Result<SocketAddr> {
    let listener =
        TcpListener::bind(("127.0.0.1", 0)).context("failed to listen on the loopback interface")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            match UnixStream::connect(&target) {
                Ok(server) => join(client, server),
                Err(error) => eprintln!("failed to connect to {}: {error}", target.display()),
            }
        }
    });
    Ok(address)
}

/// Copies both ways; the end of one direction travels on alone.
fn join(client: TcpStream, server: UnixStream) {
    let (Ok(client_again), Ok(server_again)) = (client.try_clone(), server.try_clone()) else { return };
    std::thread::spawn(move || {
        let _ = io::copy(&mut &client, &mut &server);
        let _ = server.shutdown(Shutdown::Write);
    });
    std::thread::spawn(move || {
        let _ = io::copy(&mut &server_again, &mut &client_again);
        let _ = client_again.shutdown(Shutdown::Write);
    });
}

/// Makes the Unix socket `socket`; each connection becomes the standard input and output of an `npipe.exe connect`.
fn join_socket_to_pipe(socket: &Path, tool: &Tool, family: &Arc<Family>) -> Result<()> {
    let listener =
        UnixListener::bind(socket).with_context(|| format!("failed to listen on {}", socket.display()))?;
    let family = Arc::clone(family);
    let tool = tool.clone();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            if let Err(error) = hand_over(client, tool.connect(PIPE), &family) {
                eprintln!("failed to connect a client to the pipe: {error:#}");
            }
        }
    });
    Ok(())
}

fn hand_over(client: UnixStream, mut command: Command, family: &Family) -> Result<()> {
    let input: OwnedFd = client.try_clone()?.into();
    let output: OwnedFd = client.into();
    let mut process = family.spawn(command.stdin(input).stdout(output))?;
    std::thread::spawn(move || process.wait());
    Ok(())
}

/// Runs `command` before the audience and gives its output.
fn perform(stage: &Stage, command: &mut Command) -> Result<String> {
    let settings = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={} ", name.to_str()?, value?.to_str()?)))
        .filter(|setting| setting.starts_with("SSH_"));
    stage.say(&format!("$ {}{}", settings.collect::<String>(), line_of(command)));
    let begun = Instant::now();
    let mut output = String::new();
    let ending = follow(command, COMMAND_LIMIT, |_, line| {
        println!("             {line}");
        output.push_str(line);
        output.push('\n');
        true
    })?;
    match ending {
        Ending::Exited(status) if status.success() => {
            stage.say(&format!("  took {:.0} ms", begun.elapsed().as_secs_f64() * 1000.0));
            Ok(output)
        }
        Ending::Exited(status) => {
            bail!("`{}` ended with {status}; its output is above", line_of(command))
        }
        Ending::TooLong(_) => bail!("`{}` hung and was killed", line_of(command)),
    }
}
