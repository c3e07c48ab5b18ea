//! Starts who serves a pipe that everybody knows, when told: the service of Windows' own ssh-agent,
//! and Docker Desktop.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::endpoint::WellKnown;
use crate::patience::Patience;

/// What has been started takes its time until it serves its pipe.
pub(crate) const AFTER_START: Patience =
    Patience::Poll { attempts: None, time: Some(Duration::from_secs(60)) };

/// ERROR_SERVICE_ALREADY_RUNNING: somebody was faster.
const ALREADY_RUNNING: i32 = 1056;

pub(crate) async fn start(server: WellKnown) -> io::Result<()> {
    let (program, arguments): (_, &[&str]) = match server {
        WellKnown::SshAgent => ("sc", &["start", "ssh-agent"]),
        // https://docs.docker.com/desktop/features/desktop-cli/
        WellKnown::Docker => ("docker", &["desktop", "start"]),
    };
    let shown = format!("{program} {}", arguments.join(" "));
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("cannot run `{shown}`: {error}")))?;
    if output.status.success() || output.status.code() == Some(ALREADY_RUNNING) {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).split_whitespace().collect::<Vec<_>>().join(" ");
    Err(io::Error::other(format!("`{shown}` failed ({}): {said}", output.status)))
}
