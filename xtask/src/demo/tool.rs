//! The program npipe, as the demo uses it: the one for Windows, and beside it the one for this
//! system where that is Linux.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::Stage;
use crate::process::{Family, line_of};
use crate::windows::Windows;

/// Cold, Wine takes seconds.
const READY_LIMIT: Duration = Duration::from_secs(60);

pub(super) struct Tool {
    pub(super) executable: PathBuf,
    pub(super) windows: Windows,
    /// The program of this system, where that is not Windows.
    #[cfg(unix)]
    pub(super) native: PathBuf,
}

/// A server that runs.
#[cfg_attr(
    not(unix),
    expect(dead_code, reason = "the demo on Windows knows the pipe and asks for nothing else")
)]
pub(super) struct Forward {
    pub(super) process: u32,
    /// Where it listens, as it said: with the port, if it was left to the system.
    pub(super) address: String,
}

impl Tool {
    /// `npipe connect` on Windows: standard input and output are the pipe.
    pub(super) fn connect(&self, pipe: &str) -> Command {
        let mut command = self.windows.program(&self.executable);
        command.arg("connect").arg(format!("npipe:{pipe}"));
        command
    }

    /// `npipe forward` on Windows.
    pub(super) fn forward(&self, listen: &str, target: &str) -> Command {
        let mut command = self.windows.program(&self.executable);
        command.args(["forward", listen, target]);
        command
    }
}

/// Starts `command`, an `npipe forward` or what speaks like it, in `family`. Returns once clients
/// can connect.
pub(super) fn start(stage: &Stage, family: &Family, mut command: Command) -> Result<Forward> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    stage.say(&format!("$ {} &", line_of(&command)));
    let server = family.spawn(&mut command)?;
    let process = server.id();
    let address = address_of(server).with_context(|| format!("`{}` is of no use", line_of(&command)))?;
    Ok(Forward { process, address })
}

/// Waits until `server` says where it listens.
fn address_of(mut server: Child) -> Result<String> {
    let (sender, said) = mpsc::channel();
    let streams: [Box<dyn Read + Send>; 2] = [
        Box::new(server.stdout.take().expect("stdout is piped")),
        Box::new(server.stderr.take().expect("stderr is piped")),
    ];
    for stream in streams {
        let sender = sender.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                println!("             {line}");
                // After the first line nobody waits any more, but the server may still have something to say.
                let _ = sender.send(line);
            }
        });
    }
    drop(sender);
    std::thread::spawn(move || server.wait());
    match said.recv_timeout(READY_LIMIT) {
        Ok(line) => match line.strip_prefix("listening on ") {
            Some(address) => Ok(address.to_owned()),
            None => bail!("it does not listen: {line}"),
        },
        Err(mpsc::RecvTimeoutError::Disconnected) => bail!("it ended before it listened"),
        Err(mpsc::RecvTimeoutError::Timeout) => {
            bail!("it does not listen after {} s", READY_LIMIT.as_secs())
        }
    }
}
