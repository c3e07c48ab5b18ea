//! GnuPG's sockets on Windows: a file names a port of loopback and holds a nonce, which shows the
//! agent that its client may read the file. Reads such files in both forms, makes the connection
//! with the handshake that belongs to each, finds the files of gpg-agent, and starts it when told.
//! Formats and handshakes are those of libassuan, `assuan-socket.c`, and of Cygwin,
//! `fhandler_socket_local.cc`.

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::exit::{Exit, Failure};
use socket_file::{Form, Nonce, SocketFile};

mod socket_file;

impl SocketFile {
    async fn connect(self) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await?;
        stream.set_nodelay(true)?;
        stream.write_all(&self.nonce).await?;
        if self.form == Form::Cygwin {
            let mut answer = Nonce::default();
            stream.read_exact(&mut answer).await?;
            if answer != self.nonce {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the server does not know the nonce"));
            }
            // A process id and two of user and group, which nobody checks; libassuan sends zeros too.
            let mut credentials = [0; 8];
            credentials[..4].copy_from_slice(&std::process::id().to_le_bytes());
            stream.write_all(&credentials).await?;
            stream.read_exact(&mut credentials).await?;
        }
        Ok(stream)
    }
}

/// Why there is no connection.
#[derive(Debug)]
enum Refusal {
    Missing,
    Unreadable(io::Error),
    Malformed(&'static str),
    /// The agent that wrote the file has gone, and did not remove it.
    Stale {
        port: u16,
    },
    Handshake(io::Error),
}

impl Refusal {
    fn ends_with_a_new_agent(&self) -> bool {
        matches!(self, Refusal::Missing | Refusal::Stale { .. } | Refusal::Handshake(_))
    }

    fn exit(&self) -> Exit {
        match self {
            Refusal::Missing | Refusal::Stale { .. } => Exit::NotFound,
            Refusal::Unreadable(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Exit::AccessDenied
            }
            Refusal::Unreadable(_) | Refusal::Malformed(_) | Refusal::Handshake(_) => Exit::Failure,
        }
    }
}

const REMEDY: &str = "start the agent with `gpgconf --launch gpg-agent`, or let --launch do it";

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Missing => write!(formatter, "there is no such file; {REMEDY}"),
            Refusal::Unreadable(error) => write!(formatter, "the file cannot be read: {error}"),
            Refusal::Malformed(reason) => write!(formatter, "this is no socket file of GnuPG's: {reason}"),
            Refusal::Stale { port } => {
                write!(formatter, "the file is stale, nobody listens on its port {port}; {REMEDY}")
            }
            Refusal::Handshake(error) => write!(
                formatter,
                "the program on its port did not accept the nonce ({error}), so the file is probably stale; {REMEDY}"
            ),
        }
    }
}

/// Connects to the agent behind `file`; with `launch`, starts it first if it does not run.
pub(crate) async fn connect(file: &Path, launch: bool) -> Result<TcpStream, Failure> {
    let attempted = match attempt(file).await {
        Err(refusal) if launch && refusal.ends_with_a_new_agent() => {
            launch_agent().await?;
            attempt(file).await
        }
        attempted => attempted,
    };
    attempted.map_err(|refusal| {
        Failure::new(refusal.exit(), format!("cannot connect to assuan:{}: {refusal}", file.display()))
    })
}

/// More than the longest file of either form has.
const LONGEST_FILE: u64 = 128;

/// The file is read each time: an agent that is started anew has another port and another nonce.
async fn attempt(file: &Path) -> Result<TcpStream, Refusal> {
    let mut bytes = Vec::new();
    let read = async { File::open(file).await?.take(LONGEST_FILE).read_to_end(&mut bytes).await };
    match read.await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Refusal::Missing),
        Err(error) => return Err(Refusal::Unreadable(error)),
    }
    let socket = SocketFile::parse(&bytes).map_err(Refusal::Malformed)?;
    socket.connect().await.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => Refusal::Stale { port: socket.port },
        _ => Refusal::Handshake(error),
    })
}

/// Returns when the agent takes clients, which is what gpgconf waits for.
async fn launch_agent() -> Result<(), Failure> {
    let failure = |reason: String| {
        Failure::new(
            Exit::Failure,
            format!("cannot start gpg-agent by `gpgconf --launch gpg-agent`: {reason}"),
        )
    };
    let status = Command::new(gpgconf())
        .args(["--launch", "gpg-agent"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .await
        .map_err(|error| failure(error.to_string()))?;
    if status.success() { Ok(()) } else { Err(failure(status.to_string())) }
}

/// Where GnuPG's installer puts it, else by PATH.
fn gpgconf() -> PathBuf {
    ["ProgramFiles(x86)", "ProgramFiles"]
        .into_iter()
        .filter_map(std::env::var_os)
        .map(|programs| Path::new(&programs).join("GnuPG").join("bin").join("gpgconf.exe"))
        .find(|installed| installed.exists())
        .unwrap_or_else(|| "gpgconf".into())
}

#[cfg(windows)]
pub(crate) mod find {
    //! Where gpg-agent's socket files are. GnuPG itself knows best; without it, where it documents
    //! that they are.

    use std::path::PathBuf;
    use std::process::{Command, Stdio};

    use super::gpgconf;
    use crate::endpoint::GpgSocket;

    pub(crate) fn socket_file(socket: GpgSocket) -> Option<PathBuf> {
        told_by_gpgconf(socket).or_else(|| {
            let files: Vec<_> = documented_files(socket).collect();
            let existing = files.iter().find(|file| file.exists());
            existing.or(files.first()).cloned()
        })
    }

    fn told_by_gpgconf(socket: GpgSocket) -> Option<PathBuf> {
        let name = match socket {
            GpgSocket::Agent => "agent-socket",
            GpgSocket::Ssh => "agent-ssh-socket",
        };
        let output =
            Command::new(gpgconf()).args(["--list-dirs", name]).stdin(Stdio::null()).output().ok()?;
        let line = String::from_utf8(output.stdout).ok()?;
        let path = line.trim();
        (output.status.success() && !path.is_empty()).then(|| path.into())
    }

    /// Since GnuPG 2.3 in the local profile, before that in the roaming one.
    fn documented_files(socket: GpgSocket) -> impl Iterator<Item = PathBuf> {
        let name = match socket {
            GpgSocket::Agent => "S.gpg-agent",
            GpgSocket::Ssh => "S.gpg-agent.ssh",
        };
        let homes = std::env::var_os("GNUPGHOME").map(PathBuf::from).into_iter();
        let profiles = ["LOCALAPPDATA", "APPDATA"].into_iter().filter_map(std::env::var_os);
        homes
            .chain(profiles.map(|profile| PathBuf::from(profile).join("gnupg")))
            .map(move |home| home.join(name))
    }
}
