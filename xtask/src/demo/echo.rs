//! The demo for where OpenSSH's Unix agent is not: Windows' own agent service is asked what keys it
//! has, and where that does not run, bytes go through the pipe to an echo and back.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::{Stage, Tool, tool};
use crate::process::{Family, line_of};

/// Of OpenSSH's agent protocol: "which identities do you have?", with its length before it.
pub(super) const REQUEST_IDENTITIES: [u8; 5] = [0, 0, 0, 1, 11];

pub(super) const IDENTITIES_ANSWER: u8 = 12;

const ECHOED_BYTES: usize = 8 << 20;

/// Asks the agent service of Windows for its keys. Where it does not run, shows [`there_and_back`].
pub(super) fn agent_service_or_echo(stage: &Stage, tool: &Tool) -> Result<()> {
    match exchange(stage, tool, "openssh-ssh-agent", &REQUEST_IDENTITIES, 9) {
        Ok(answer) => {
            let [_, _, _, _, IDENTITIES_ANSWER, count @ ..] = answer.as_slice() else {
                bail!("the agent service answers what is no list of keys: {answer:?}");
            };
            let count = count.iter().fold(0_u32, |count, byte| count << 8 | u32::from(*byte));
            stage.say(&format!(
                "the agent service of Windows holds {count} keys, asked through its named pipe"
            ));
            Ok(())
        }
        Err(error) => {
            stage.say(&format!("no agent service here ({error:#}): an echo instead"));
            there_and_back(stage, tool)
        }
    }
}

/// Sends bytes through `npipe connect`, the pipe and `npipe forward` to an echo, and compares what
/// comes back.
pub(super) fn there_and_back(stage: &Stage, tool: &Tool) -> Result<()> {
    let family = Family::new();
    let echo = start_echo()?;
    stage.say(&format!("tcp:{echo} echoes"));
    let pipe = format!("npipe-demo-{}", std::process::id());
    tool::start(stage, &family, tool.forward(&format!("npipe:{pipe}"), &format!("tcp:{echo}")))?;
    let sent: Vec<u8> = (0_u32..).flat_map(u32::to_le_bytes).take(ECHOED_BYTES).collect();
    let begun = Instant::now();
    let received = exchange(stage, tool, &pipe, &sent, sent.len())?;
    if received != sent {
        bail!("the echo differs from what was sent");
    }
    let speed = 2.0 * (ECHOED_BYTES >> 20) as f64 / begun.elapsed().as_secs_f64();
    stage.say(&format!(
        "{} MiB came back unchanged, at {speed:.0} MiB/s both ways together",
        ECHOED_BYTES >> 20
    ));
    Ok(())
}

/// Sends `request` by `npipe connect`, and gives the first `length` bytes of what comes back.
fn exchange(stage: &Stage, tool: &Tool, pipe: &str, request: &[u8], length: usize) -> Result<Vec<u8>> {
    let family = Family::new();
    let mut command = tool.connect(pipe);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    stage.say(&format!("$ {}", line_of(&command)));
    let mut client = family.spawn(&mut command)?;
    let mut input = client.stdin.take().expect("stdin is piped");
    let mut output = client.stdout.take().expect("stdout is piped");
    let mut answer = vec![0; length];
    // Both ways at once: neither side holds all of a large request. A client that has gone says why on
    // its own.
    let received = std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(request));
        output.read_exact(&mut answer)
    });
    if let Err(error) = received {
        let mut said = String::new();
        client.stderr.take().expect("stderr is piped").read_to_string(&mut said)?;
        return Err(error).with_context(|| format!("`{}` says: {}", line_of(&command), said.trim()));
    }
    family.stop();
    client.wait()?;
    Ok(answer)
}

fn start_echo() -> Result<SocketAddr> {
    let listener =
        TcpListener::bind(("127.0.0.1", 0)).context("failed to listen on the loopback interface")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = io::copy(&mut &client, &mut &client);
                let _ = client.shutdown(Shutdown::Write);
            });
        }
    });
    Ok(address)
}
