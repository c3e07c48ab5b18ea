//! The program `npipe.exe`, as the demo uses it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use anyhow::{Result, bail};

use super::Stage;
use crate::process::{Family, line_of};
use crate::windows::Windows;

/// Cold, Wine takes seconds.
const READY_LIMIT: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub(super) struct Tool {
    pub(super) executable: PathBuf,
    pub(super) windows: Arc<Windows>,
}

impl Tool {
    /// `npipe connect`: standard input and output are the pipe.
    pub(super) fn connect(&self, pipe: &str) -> Command {
        let mut command = self.windows.program(&self.executable);
        command.arg("connect").arg(format!("npipe:{pipe}"));
        command
    }

    /// `npipe forward`, started in `family`. Returns once clients can connect.
    pub(super) fn serve(&self, stage: &Stage, family: &Family, pipe: &str, target: SocketAddr) -> Result<()> {
        let mut command = self.windows.program(&self.executable);
        command.arg("forward").arg(format!("npipe:{pipe}")).arg(format!("tcp:{target}"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        stage.say(&format!("$ {} &", line_of(&command)));
        let mut server = family.spawn(&mut command)?;
        let (sender, said) = mpsc::channel();
        let reports = BufReader::new(server.stderr.take().expect("stderr is piped"));
        std::thread::spawn(move || {
            for line in reports.lines().map_while(Result::ok) {
                println!("             {line}");
                // After the first line nobody waits any more, but the server may still have something to say.
                let _ = sender.send(line);
            }
            let _ = server.wait();
        });
        match said.recv_timeout(READY_LIMIT) {
            Ok(line) if line.contains("listening on") => Ok(()),
            Ok(line) => bail!("the pipe server does not listen: {line}"),
            Err(mpsc::RecvTimeoutError::Disconnected) => bail!("the pipe server ended before it listened"),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                bail!("the pipe server does not listen after {} s", READY_LIMIT.as_secs())
            }
        }
    }
}
