//! What people reach on the Windows side every day, and where Linux programs look for it. Names and
//! paths only: what is made of them is the business of `setup`, whether it works that of `doctor`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::ValueEnum;

/// Who listens on the sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Listening {
    /// systemd, which starts npipe with the first client.
    Systemd,
    /// npipe, which a shell starts as its user logs in.
    Shell,
}

impl Listening {
    /// What there is here: a manager of the user's services, or shells alone.
    pub(crate) fn available() -> Listening {
        let manager =
            env::var_os("XDG_RUNTIME_DIR").map(|runtime| Path::new(&runtime).join("systemd/private"));
        if manager.is_some_and(|manager| manager.exists()) { Listening::Systemd } else { Listening::Shell }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Service {
    SshAgent,
    GpgAgent,
    Docker,
}

/// One socket of a service.
pub(crate) struct Socket {
    /// The name of what serves it, without a suffix.
    pub(crate) name: &'static str,
    pub(crate) path: SocketPath,
    /// What it leads to, as on the command line.
    pub(crate) target: &'static str,
    pub(crate) protocol: Protocol,
}

/// The protocol in which a client begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    SshAgent,
    GpgAgent,
    Docker,
}

pub(crate) enum SocketPath {
    /// Below the directory that the system makes for each login: `%t` to systemd,
    /// `$XDG_RUNTIME_DIR` to shells.
    InRuntimeDirectory(&'static str),
    Absolute(PathBuf),
}

impl SocketPath {
    /// None where a login has no directory.
    pub(crate) fn resolved(&self) -> Option<PathBuf> {
        match self {
            SocketPath::InRuntimeDirectory(file) => {
                env::var_os("XDG_RUNTIME_DIR").map(|runtime| Path::new(&runtime).join(file))
            }
            SocketPath::Absolute(path) => Some(path.clone()),
        }
    }
}

impl Service {
    pub(crate) const ALL: [Service; 3] = [Service::SshAgent, Service::GpgAgent, Service::Docker];

    /// As on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Service::SshAgent => "ssh-agent",
            Service::GpgAgent => "gpg-agent",
            Service::Docker => "docker",
        }
    }

    /// For the one line by which systemd shows a unit.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Service::SshAgent => "The ssh-agent of Windows",
            Service::GpgAgent => "The gpg-agent of Windows",
            Service::Docker => "Docker on Windows",
        }
    }

    pub(crate) fn sockets(self, listening: Listening) -> Vec<Socket> {
        let own = |file: &'static str| match listening {
            Listening::Systemd => SocketPath::InRuntimeDirectory(file),
            // Without systemd nobody can be relied on to make a directory for each login.
            Listening::Shell => SocketPath::Absolute(home().join(format!(".{file}"))),
        };
        match self {
            Service::SshAgent => {
                vec![Socket {
                    name: "npipe-ssh-agent",
                    path: own("npipe/ssh-agent.sock"),
                    target: "ssh-agent",
                    protocol: Protocol::SshAgent,
                }]
            }
            Service::Docker => {
                vec![Socket {
                    name: "npipe-docker",
                    path: own("npipe/docker.sock"),
                    target: "docker",
                    protocol: Protocol::Docker,
                }]
            }
            Service::GpgAgent => vec![
                Socket {
                    name: "npipe-gpg-agent",
                    path: gpg("agent-socket", listening),
                    target: "gpg-agent",
                    protocol: Protocol::GpgAgent,
                },
                Socket {
                    name: "npipe-gpg-agent-ssh",
                    path: gpg("agent-ssh-socket", listening),
                    target: "gpg-agent-ssh",
                    protocol: Protocol::SshAgent,
                },
            ],
        }
    }

    /// The variable that tells programs of Linux where the service is, and what its value begins
    /// with.
    pub(crate) fn variable(self) -> Option<(&'static str, &'static str)> {
        match self {
            Service::SshAgent => Some(("SSH_AUTH_SOCK", "")),
            Service::Docker => Some(("DOCKER_HOST", "unix://")),
            // gpg looks where gpgconf says.
            Service::GpgAgent => None,
        }
    }

    /// Units of the distribution that listen on the same sockets.
    pub(crate) fn rivals(self) -> &'static [&'static str] {
        match self {
            Service::GpgAgent => &["gpg-agent.socket", "gpg-agent-ssh.socket"],
            Service::SshAgent | Service::Docker => &[],
        }
    }
}

pub(crate) fn home() -> PathBuf {
    env::home_dir().unwrap_or_else(|| "/".into())
}

/// Where GnuPG's programs look for a socket of the agent.
fn gpg(name: &'static str, listening: Listening) -> SocketPath {
    let told = Command::new("gpgconf").args(["--list-dirs", name]).stdin(Stdio::null()).output();
    let told = told.ok().filter(|output| output.status.success());
    let path = told.and_then(|output| String::from_utf8(output.stdout).ok());
    if let Some(path) = path.as_deref().map(str::trim).filter(|path| path.starts_with('/')) {
        return SocketPath::Absolute(path.into());
    }
    // Where they look once they are installed.
    let below = match name {
        "agent-socket" => "gnupg/S.gpg-agent",
        _ => "gnupg/S.gpg-agent.ssh",
    };
    match listening {
        Listening::Systemd => SocketPath::InRuntimeDirectory(below),
        Listening::Shell => SocketPath::Absolute(home().join(format!(".{below}"))),
    }
}
