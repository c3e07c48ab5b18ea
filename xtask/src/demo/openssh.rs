//! The whole way: `ssh-add` -> Unix socket -> `npipe forward` -> one `npipe.exe` -> named pipe -> a
//! server of that pipe -> TCP -> `npipe forward` -> Unix socket -> `ssh-agent`. What comes after
//! the pipe makes a Windows agent of one for Linux; the rest is what people have in WSL.

use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::tool::{Forward, start};
use super::{Stage, Tool, comparison};
use crate::launcher;
use crate::process::{Ending, Family, Limits, follow, line_of};
use crate::scratch::Scratch;

/// The name that OpenSSH for Windows uses and its clients look for; npipe calls it ssh-agent.
const PIPE: &str = "openssh-ssh-agent";

const COMMENT: &str = "npipe-demo";

/// A command of the demo takes milliseconds; one that waits for a lost byte waits for ever.
const COMMAND_LIMIT: Limits = Limits::total(Duration::from_secs(60));

/// `pipe_server` is the library's example `pipe_to_tcp`. `npipe.exe forward` could take its place,
/// but Tokio has the system poll its sockets, and wineserver 8.0 may abort when one of them closes
/// in that moment.
pub(super) fn list_and_sign(stage: &Stage, tool: &Tool, pipe_server: &Path) -> Result<()> {
    // The family is declared last, so that it is stopped before its folder is removed.
    let scratch = Scratch::new("demo")?;
    let folder = scratch.path();
    let family = Family::new();
    let agent = start_agent(stage, &family, folder)?;
    let fingerprint = make_key(stage, folder, &agent)?;

    stage.say("the Windows side: a pipe that leads to the agent, by TCP since Wine has no Unix sockets");
    let tcp = start(stage, &family, here(tool, "tcp:0", &format!("unix:{}", agent.display())))?;
    let address = tcp.address.strip_prefix("tcp:").context("npipe does not say where it listens")?;
    let mut serve = tool.windows.program(pipe_server);
    serve.args([PIPE, address]);
    start(stage, &family, serve)?;

    stage.say("the Linux side: a socket whose connections share one Windows process");
    let npipe_exe = folder.join("npipe.exe");
    launcher::write(&npipe_exe, &tool.windows.program(&tool.executable))?;
    let socket = folder.join("windows.sock");
    let mut command = here(tool, &format!("unix:{}", socket.display()), "ssh-agent");
    command.arg("--windows-exe").arg(&npipe_exe);
    let bridge = start(stage, &family, command)?;

    stage.say("OpenSSH on Linux uses the named pipe:");
    let mut list = Command::new("ssh-add");
    let keys = perform(stage, list.arg("-l").env("SSH_AUTH_SOCK", &socket))?;
    if !keys.contains(&fingerprint) {
        bail!("ssh-add does not list the key {fingerprint}");
    }
    sign_and_verify(stage, folder, &socket)?;

    stage.say("beside it, a socket for whose connections a Windows process is started each time");
    let socket_of_processes = folder.join("processes.sock");
    let line = format!("exec:{} -ei -s //./pipe/{PIPE}", npipe_exe.display());
    start(stage, &family, here(tool, &format!("unix:{}", socket_of_processes.display()), &line))?;
    comparison::compare(stage, &socket, &socket_of_processes)?;
    let processes = windows_processes(&bridge);
    stage.say(&format!("Windows processes of the bridge after all that: {processes}"));
    if processes != 1 {
        bail!("the bridge was to have one Windows process");
    }
    family.stop();
    stage.say(&format!("the key was listed and used through \\\\.\\pipe\\{PIPE}; everything is stopped"));
    Ok(())
}

/// `npipe forward` on Linux.
fn here(tool: &Tool, listen: &str, target: &str) -> Command {
    let mut command = Command::new(&tool.native);
    command.args(["forward", listen, target]);
    command
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
    // A shell, because ssh-keygen reads the message from its standard input and the audience should see
    // it.
    let mut verify = Command::new("sh");
    verify.arg("-c").arg(format!(
        "ssh-keygen -Y verify -n file -I {COMMENT} -f {signers} -s {message}.sig < {message}",
        signers = signers.display(),
        message = message.display()
    ));
    perform(stage, &mut verify).map(drop)
}

/// The processes that the Windows side of `forward` is made of at this moment.
fn windows_processes(forward: &Forward) -> usize {
    let threads =
        std::fs::read_dir(format!("/proc/{}/task", forward.process)).into_iter().flatten().flatten();
    let children = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    children.map(|list| list.split_whitespace().count()).sum()
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
