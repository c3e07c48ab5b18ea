//! The command line: flags and their help texts, nothing else. What a flag does is decided where it
//! is used.

use std::fmt::Write;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand, ValueHint};
use clap_complete::Shell;
use npipe::PipeName;
#[cfg(windows)]
use npipe::SecurityDescriptor;

use crate::bridge::protocol::Hello;
use crate::endings::Direction;
use crate::endpoint::{Listener, Target, begins_with_scheme, in_our_form, nearest, pipe_name};
use crate::exit::Exit;
use crate::progress::When;
#[cfg(unix)]
use crate::wsl::service::{Listening, Service};

/// Connect and forward Windows named pipes
///
/// Only data goes to stdout; everything that npipe itself has to say goes to stderr.
#[derive(Debug, Parser)]
#[command(name = "npipe", version = version(), after_long_help = exit_codes())]
pub(crate) struct Cli {
    /// Say on stderr what becomes of each connection, with byte counts and durations; twice (-vv):
    /// each step of it
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The version of the program, its commit, its target, and the bridge protocols that it speaks.
fn version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| {
        let protocols = Hello::ours().versions;
        format!(
            "{} (commit {}, {}, bridge protocol {})",
            env!("CARGO_PKG_VERSION"),
            env!("NPIPE_COMMIT"),
            env!("NPIPE_TARGET"),
            match (protocols.start(), protocols.end()) {
                (oldest, newest) if oldest == newest => newest.to_string(),
                (oldest, newest) => format!("{oldest} to {newest}"),
            }
        )
    });
    &VERSION
}

/// Returns whether only npipe itself calls the command `name`.
pub(crate) fn is_hidden(name: &str) -> bool {
    Cli::command().find_subcommand(name).is_some_and(clap::Command::is_hide_set)
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Connect stdin and stdout to a pipe
    ///
    /// Bytes go both ways unchanged. A byte pipe has no way to say "that was all" in one direction
    /// only, so the end of stdin closes nothing: replies are still delivered, and the session
    /// ends when the server closes the pipe. It then ends at once, even when stdin is still
    /// open. When the reader of stdout goes away, the session ends too: on Linux at once, on
    /// Windows with the server's next bytes. The server still gets what lies in stdin, for 30
    /// seconds at most; on Linux, what is on its way to Windows by then has 30 more.
    ///
    /// The command line of npiperelay and its forks works too, without a command: npipe -ei -s
    /// //./pipe/NAME. So a copy of this program that is called npiperelay.exe takes its place.
    /// One flag is accepted and asks for what is always so: -bg, since this program opens no
    /// window and needs no console. A window that Windows opens for it before it runs is closed at
    /// once.
    #[command(after_long_help = CONNECT_EXAMPLES)]
    Connect(ConnectArguments),

    /// Listen on a pipe or socket and make a connection for each client
    ///
    /// Says "listening on ..." on stderr once clients can connect, and runs until it is stopped. A
    /// client for which no connection can be made is closed and named on stderr; the others go
    /// on.
    ///
    /// Between sockets, each direction ends for itself, and so it does on a message pipe: by an
    /// empty message, which is Docker's convention. A byte pipe cannot be closed in one
    /// direction only. When a server ends its side, what it sent is handed to the client of the
    /// pipe and then the pipe is closed. When the client closes the pipe, what it sent is
    /// handed to the server, which is then told the end; the server has 30 seconds to end its
    /// own side.
    ///
    /// With stdio at one end there is one connection, and npipe ends with it.
    #[command(after_long_help = FORWARD_EXAMPLES)]
    Forward(ForwardArguments),

    /// List the pipes of this machine
    ///
    /// With the number of instances that each has at the moment, and how many it may have. No pipe
    /// is opened for that.
    ///
    /// On Linux, npipe.exe on the Windows side answers.
    #[command(after_long_help = LIST_EXAMPLES)]
    List(ListArguments),

    /// Tell what a pipe is: bytes or messages, its buffers, who serves it, who owns it, who may do
    /// what
    ///
    /// The system tells that to clients only. So the pipe is opened for a moment, without the right
    /// to read or to write: it takes an instance, and the server sees a client that comes and
    /// goes. What cannot be had is there with the reason.
    ///
    /// On Linux, npipe.exe on the Windows side answers.
    #[command(after_long_help = INFO_EXAMPLES)]
    Info(InfoArguments),

    /// Print the completions of this command line for a shell
    #[command(after_long_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// The shell
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },

    /// Print the manual page, or write one for each command into a directory
    #[command(after_long_help = MAN_EXAMPLES)]
    Man {
        /// Where to write npipe.1, npipe-connect.1 and so on; without it, npipe.1 goes to stdout
        #[arg(value_name = "DIRECTORY", value_hint = ValueHint::DirPath)]
        directory: Option<PathBuf>,
    },

    /// Set up how Linux programs reach what is on the Windows side, and see what is wrong with that
    #[cfg(unix)]
    #[command(subcommand)]
    Wsl(WslCommand),

    /// The Windows half of the bridge, which the Linux half starts
    #[command(hide = true)]
    BridgeServer,
}

#[derive(Args, Debug)]
pub(crate) struct ConnectArguments {
    /// The pipe: npipe:NAME, npipe:\\.\pipe\NAME or npipe://./pipe/NAME, or the name ssh-agent or
    /// docker
    #[arg(value_name = "TARGET", value_parser = connect_target)]
    pub(crate) target: PipeName,

    /// How many seconds to wait while every instance of the pipe is busy
    ///
    /// Servers often have a single instance that is free, so that clients which come together meet
    /// a busy pipe for a moment. A pipe that does not exist is waited for with --poll only.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub(crate) wait: Duration,

    /// Try again while the pipe does not exist or is busy [npiperelay: -p]
    #[arg(long, conflicts_with = "wait")]
    pub(crate) poll: bool,

    /// Give up after so many attempts, of which there are about five a second [npiperelay: -l,
    /// which is 300]
    // Clap does not require what another flag excludes.
    #[arg(long, value_name = "ATTEMPTS", requires = "poll", conflicts_with = "wait", value_parser = attempts)]
    pub(crate) poll_limit: Option<u32>,

    /// Give up after so many seconds
    #[arg(long, value_name = "SECONDS", requires = "poll", conflicts_with = "wait", value_parser = seconds)]
    pub(crate) poll_deadline: Option<Duration>,

    /// At the end of stdin, send a message of zero bytes [npiperelay: -s]
    ///
    /// Servers with message pipes, Docker's among them, take it for the end of the client's data.
    /// On a pipe of bytes there is no such message, and nothing is sent.
    #[arg(long, conflicts_with = "read_only")]
    pub(crate) eof_message: bool,

    /// Take an empty message from the server for the end of what it says [npiperelay: -ep]
    ///
    /// It then ends the session, as the end of the pipe always does. Servers with message pipes,
    /// Docker's among them, send one when they have no more to say and still listen.
    #[arg(long, conflicts_with = "write_only")]
    pub(crate) end_at_empty_message: bool,

    /// Close stdout at an empty message from the server, and go on with stdin [npiperelay: always,
    /// without -ep]
    ///
    /// Without it, and without --end-at-empty-message, an empty message is passed over.
    #[arg(long, conflicts_with_all = ["write_only", "end_at_empty_message"])]
    pub(crate) close_at_empty_message: bool,

    /// End the session when stdin ends [npiperelay: -ei]
    ///
    /// All of stdin has been handed to the pipe by then, and the message of --eof-message. Replies
    /// that have arrived are delivered: the session ends when the server has been silent for a
    /// tenth of a second.
    #[arg(long)]
    pub(crate) exit_on_stdin_eof: bool,

    /// Take a server that disconnects for one that closes
    ///
    /// A server that disconnects its client may discard what it has said, so it has an exit code of
    /// its own. npiperelay makes no difference, and neither does its command line here.
    #[arg(long)]
    pub(crate) accept_disconnect: bool,

    #[command(flatten)]
    pub(crate) one_way: OneWay,

    #[cfg(unix)]
    #[command(flatten)]
    pub(crate) windows_program: WindowsProgram,

    #[command(flatten)]
    pub(crate) progress: ProgressArguments,
}

/// A pipe of which one direction is wanted.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct OneWay {
    /// Open the target pipe for reading only, and send nothing to it
    ///
    /// Without this and --write-only it is opened for both directions, and where its server allows
    /// one only, for that.
    #[arg(long)]
    pub(crate) read_only: bool,

    /// Open the target pipe for writing only, and read nothing from it
    ///
    /// The session then ends with the end of what is sent.
    #[arg(long, conflicts_with = "read_only")]
    pub(crate) write_only: bool,
}

impl OneWay {
    /// The only direction that is wanted, if one is.
    pub(crate) fn direction(self) -> Option<Direction> {
        match self {
            OneWay { read_only: true, .. } => Some(Direction::Replies),
            OneWay { write_only: true, .. } => Some(Direction::Requests),
            OneWay { .. } => None,
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct ForwardArguments {
    /// Where clients come: npipe:NAME, tcp:PORT, tcp:HOST:PORT, unix:PATH, stdio, systemd, or the
    /// name ssh-agent or docker
    ///
    /// Pipes are served on Windows, Unix sockets elsewhere. tcp:PORT listens on loopback: only
    /// programs of this machine can connect, but those of all its users. Port 0 is any free
    /// one. A Unix socket is accessible to its owner only and removed at the end; one that was
    /// left behind is replaced. systemd stands for the one socket that a socket unit hands over
    /// (LISTEN_FDS), a Unix socket or one of TCP.
    #[arg(value_name = "LISTEN")]
    pub(crate) listen: Listener,

    /// What to connect to: tcp:HOST:PORT, npipe:NAME, unix:PATH, exec:COMMAND, assuan:FILE, stdio,
    /// or the name ssh-agent, gpg-agent, gpg-agent-ssh or docker
    ///
    /// exec: starts the command once for each client, joined by its stdin and stdout, and ends it
    /// and all that it started with the connection, and when npipe ends. Where npipe is killed,
    /// Windows ends all of them, Linux the command alone, and macOS none. On Windows it is a
    /// command line, elsewhere a line for /bin/sh. The end of its output is the end of the
    /// connection. A command that fails is reported; with stdio at the other end npipe then exits
    /// with 12.
    ///
    /// On Linux pipes, gpg-agent and an assuan: file with a Windows path are on the Windows side;
    /// windows:TARGET says so of any other.
    #[arg(value_name = "TARGET")]
    pub(crate) target: Target,

    #[cfg(unix)]
    #[command(flatten)]
    pub(crate) bridge: BridgeArguments,

    /// How many seconds a client waits while every instance of the pipe is busy
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub(crate) wait: Duration,

    #[command(flatten)]
    pub(crate) one_way: OneWay,

    /// For each client, try again while the target does not exist, does not answer or is busy
    ///
    /// A client that leaves meanwhile frees its place. That of a TCP client is kept until the
    /// target is there or the deadline is over, since a closed socket looks like one that only
    /// ended its writing; so is that of a client on Linux that left bytes behind, for a few
    /// seconds.
    #[arg(long, conflicts_with = "wait")]
    pub(crate) poll: bool,

    /// Give up after so many seconds
    #[arg(long, value_name = "SECONDS", requires = "poll", conflicts_with = "wait", value_parser = seconds)]
    pub(crate) poll_deadline: Option<Duration>,

    /// Serve at most N clients at once; others wait until one has left
    ///
    /// Without it 1,024 are served at once, so that a loop over two programs ends.
    #[arg(long, value_name = "N", value_parser = connections)]
    pub(crate) max_connections: Option<u16>,

    /// Close a connection on which nothing was sent either way for so long
    #[arg(long, value_name = "SECONDS", value_parser = some_seconds)]
    pub(crate) idle_timeout: Option<u32>,

    /// Make so many instances of the pipe and no more: clients beyond that find it busy
    ///
    /// Without it there are always some that wait, so that clients which come together find one
    /// each. A client that has not closed the pipe yet keeps its instance, also when its
    /// session is over.
    #[arg(long, value_name = "N", value_parser = instances)]
    pub(crate) instances: Option<u8>,

    /// Make the pipe one of messages: what is sent to a client arrives in messages as it was read
    /// from the target
    ///
    /// Messages of up to 64 MiB cross from pipe to pipe whole. Of other targets, what one read
    /// returns is one message, 64 KiB at most.
    #[arg(long)]
    pub(crate) message: bool,

    /// Who may do what with the pipe, in SDDL; without it, everyone may read and only this account,
    /// administrators and the system may write
    ///
    /// `npipe info` shows it of any pipe. 0x12019b is what a client needs, FA is everything. This
    /// account has to be in the list with FA, since it adds instances.
    #[arg(long, value_name = "SDDL", value_parser = security_descriptor)]
    pub(crate) sddl: Option<SecurityDescriptor>,

    /// Start the target when it does not run as a client comes: gpg-agent by gpgconf, ssh-agent as
    /// a service of Windows, Docker by its program
    ///
    /// Windows starts the service for every user, unless it is disabled, as it is delivered; an
    /// administrator changes that by `Set-Service ssh-agent -StartupType Manual`.
    #[arg(long)]
    pub(crate) launch: bool,

    /// Answer OpenSSH's session-bind in the agent's place, with failure
    ///
    /// OpenSSH 8.9 and later send it first, and some agents close the connection there. Without the
    /// flag npipe does so once ssh-agent or gpg-agent-ssh has closed a connection at it.
    #[arg(long)]
    pub(crate) agent_compat: bool,

    #[command(flatten)]
    pub(crate) progress: ProgressArguments,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ProgressArguments {
    /// When to show on stderr, if that is a terminal, how much of stdin and stdout has moved
    #[arg(
        long = "progress",
        value_name = "WHEN",
        value_enum,
        default_value = "auto",
        num_args = 0..=1,
        default_missing_value = "always",
        require_equals = true
    )]
    pub(crate) when: When,
}

#[derive(Args, Debug)]
pub(crate) struct ListArguments {
    /// Only pipes whose name has this in it, or matches it as a whole where it has * or ?; case
    /// does not matter
    #[arg(value_name = "PATTERN")]
    pub(crate) pattern: Option<String>,

    /// Print a JSON document
    #[arg(long)]
    pub(crate) json: bool,

    /// Go on, and print a line for each pipe that comes (+), goes (-) or has another number of
    /// instances (=)
    #[arg(long, conflicts_with = "json")]
    pub(crate) watch: bool,

    #[cfg(unix)]
    #[command(flatten)]
    pub(crate) windows_program: WindowsProgram,
}

#[derive(Args, Debug)]
pub(crate) struct InfoArguments {
    /// The pipe: NAME, or a path with either slash; ssh-agent and docker stand for theirs, unless
    /// npipe: is before them
    #[arg(value_name = "NAME", value_parser = any_pipe_name)]
    pub(crate) name: PipeName,

    /// Print a JSON document
    #[arg(long)]
    pub(crate) json: bool,

    /// How many seconds to wait while every instance of the pipe is busy
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub(crate) wait: Duration,

    #[cfg(unix)]
    #[command(flatten)]
    pub(crate) windows_program: WindowsProgram,
}

fn any_pipe_name(name: &str) -> Result<PipeName, String> {
    match name.parse() {
        Ok(Target::Pipe(name)) => Ok(name),
        _ if in_our_form(name).starts_with("npipe:") => pipe_name(name),
        _ if begins_with_scheme(name) => {
            let form = format!("npipe:{name}");
            Err(match pipe_name(&form) {
                Ok(_) => {
                    format!("info is for pipes, and this is another kind of address; did you mean {form}?")
                }
                Err(_) => "info is for pipes, and this is another kind of address".to_owned(),
            })
        }
        _ => pipe_name(&format!("npipe:{name}")),
    }
}

/// Elsewhere there is no pipe to give it to, which is said before it is looked at.
#[cfg(not(windows))]
type SecurityDescriptor = String;

fn security_descriptor(sddl: &str) -> Result<SecurityDescriptor, String> {
    sddl.parse::<SecurityDescriptor>().map_err(|error| {
        format!("{error}; the grammar is at https://learn.microsoft.com/windows/win32/secauthz/security-descriptor-string-format")
    })
}

fn seconds(text: &str) -> Result<Duration, String> {
    whole_seconds(text).map(|seconds| Duration::from_secs(seconds.into()))
}

fn whole_seconds(text: &str) -> Result<u32, String> {
    whole_number(text, "a whole number of seconds", 0..=u32::MAX)
}

fn some_seconds(text: &str) -> Result<u32, String> {
    whole_number(text, "a whole number of seconds", 1..=u32::MAX)
}

fn attempts(text: &str) -> Result<u32, String> {
    whole_number(text, "a whole number of attempts", 1..=u32::MAX)
}

fn connections(text: &str) -> Result<u16, String> {
    whole_number(text, "a whole number of clients", 1..=u32::from(u16::MAX))
        .map(|number| u16::try_from(number).unwrap_or(u16::MAX))
}

fn instances(text: &str) -> Result<u8, String> {
    whole_number(text, "a whole number of instances", 1..=254)
        .map(|number| u8::try_from(number).unwrap_or(u8::MAX))
}

/// Digits only: the standard library accepts a sign too.
fn whole_number(text: &str, expected: &str, range: RangeInclusive<u32>) -> Result<u32, String> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| is_number && range.contains(number));
    number.ok_or_else(|| match (range.start(), range.end()) {
        _ if !is_number => format!("expected {expected}, for example 5"),
        (least, most) => format!("expected {expected} from {least} to {most}"),
    })
}

/// What reaches pipes from Linux.
#[cfg(unix)]
#[derive(Args, Clone, Debug)]
pub(crate) struct WindowsProgram {
    /// The Windows program npipe.exe, by which pipes are reached from Linux
    ///
    /// Without it NPIPE_WINDOWS_EXE names the program, and without both it is looked for beside
    /// this one and on PATH. It must speak the same version of the bridge's protocol as this one,
    /// and starts fastest from a Windows drive.
    #[arg(long = "windows-exe", value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(crate) path: Option<PathBuf>,
}

/// Pipes are on the Windows side of WSL: one Windows process carries all connections there.
#[cfg(unix)]
#[derive(Args, Clone, Debug)]
pub(crate) struct BridgeArguments {
    #[command(flatten)]
    pub(crate) windows_program: WindowsProgram,

    /// End the Windows process when there was no connection for so long; the next one starts it
    /// again
    ///
    /// Without it the process stays for as long as this one runs.
    #[arg(long, value_name = "SECONDS", value_parser = whole_seconds)]
    pub(crate) bridge_idle: Option<u32>,
}

#[cfg(unix)]
#[derive(Debug, Subcommand)]
pub(crate) enum WslCommand {
    /// Make a service of Windows reachable where Linux programs look for it
    ///
    /// With systemd, by a socket unit and a service unit of the user: nothing runs before the first
    /// client comes. Else by a file that a shell reads when its user logs in. Without --install
    /// it is printed, as a script.
    #[command(after_long_help = SETUP_EXAMPLES)]
    Setup(SetupArguments),

    /// Say what is wrong with the way to Windows, and what helps
    ///
    /// Looks at the system, the Windows program, the agents on Windows, and what Linux programs
    /// find here. Each line begins with ok, note or problem. It changes nothing.
    #[command(after_long_help = DOCTOR_EXAMPLES)]
    Doctor(DoctorArguments),
}

#[cfg(unix)]
#[derive(Args, Debug)]
pub(crate) struct SetupArguments {
    /// What to reach
    #[arg(value_name = "SERVICE")]
    pub(crate) service: Service,

    /// Print what would be done, which is so without any flag
    #[arg(long, conflicts_with_all = ["install", "remove"])]
    pub(crate) print: bool,

    /// Do it; what is there already is left alone
    #[arg(long, conflicts_with = "remove")]
    pub(crate) install: bool,

    /// Undo it
    #[arg(long, conflicts_with = "path")]
    pub(crate) remove: bool,

    /// Replace files that were changed since, and keep the old ones beside them
    #[arg(long, requires = "install", conflicts_with_all = ["print", "remove"])]
    pub(crate) force: bool,

    /// Who listens; without it systemd, where it manages the services of users
    #[arg(long, value_name = "WHO", conflicts_with = "remove")]
    pub(crate) listening: Option<Listening>,

    #[command(flatten)]
    pub(crate) windows_program: WindowsProgram,
}

#[cfg(unix)]
#[derive(Args, Debug)]
pub(crate) struct DoctorArguments {
    #[command(flatten)]
    pub(crate) windows_program: WindowsProgram,

    /// Where the system is looked at, in tests
    #[arg(long, value_name = "DIRECTORY", default_value = "/", hide = true)]
    pub(crate) root: PathBuf,
}

fn connect_target(address: &str) -> Result<PipeName, String> {
    let is_pipe = |address: &str| matches!(address.parse(), Ok(Target::Pipe(_)));
    match address.parse::<Target>() {
        Ok(Target::Pipe(name)) => Ok(name),
        Ok(_) => Err(format!("connect is for pipes; this is: npipe forward stdio {address}")),
        Err(_) if in_our_form(address).starts_with("npipe:") => pipe_name(address),
        Err(_) => {
            Err(match (nearest(address, is_pipe), nearest(address, |form| form.parse::<Target>().is_ok())) {
                (Some(form), _) => format!("expected npipe:NAME; did you mean {form}?"),
                (None, Some(form)) => {
                    format!(
                        "connect is for pipes, expected npipe:NAME; did you mean npipe forward stdio {form}?"
                    )
                }
                (None, None) => "expected npipe:NAME, for example npipe:openssh-ssh-agent".to_owned(),
            })
        }
    }
}

const CONNECT_EXAMPLES: &str = r"Examples:
  Talk to the OpenSSH agent, whose pipe is npipe:openssh-ssh-agent
      npipe connect ssh-agent
  Ask Docker for its version
      printf 'GET /version HTTP/1.0\r\n\r\n' | npipe connect npipe:docker_engine
  Fail at once when the server is busy, and say why
      npipe -v connect --wait 0 npipe://./pipe/my-service
  Wait until a virtual machine has its serial console, for a minute at most
      npipe connect --poll --poll-deadline 60 npipe:my-vm-com1
  The same words as npiperelay
      npipe -ei -s //./pipe/openssh-ssh-agent

The exit codes are listed by `npipe --help`.";

const FORWARD_EXAMPLES: &str = r#"Examples:
  Let programs that want a pipe use a service on TCP
      npipe forward npipe:my-service tcp:127.0.0.1:8080
  Show each connection and what went through it
      npipe -v forward npipe:my-service tcp:[::1]:8080
  Let a program on TCP use the serial console of a virtual machine; every user of this machine can
      npipe forward tcp:4555 npipe:my-vm-com1
  Join a Unix socket with a program
      npipe forward unix:/tmp/echo.sock exec:cat
  Let ssh of Windows use the keys of GnuPG's agent, started when needed
      npipe forward --launch ssh-agent gpg-agent-ssh
  Serve a pipe that administrators own and every user who is logged on may read and write
      npipe forward --sddl "D:(A;;FA;;;BA)(A;;0x12019b;;;IU)" npipe:my-service tcp:127.0.0.1:8080

The exit codes are listed by `npipe --help`."#;

#[cfg(unix)]
const SETUP_EXAMPLES: &str = r"Examples:
  See what would be done
      npipe wsl setup ssh-agent
  Do it
      npipe wsl setup ssh-agent --install
  GnuPG's agent, whose sockets systemd may serve for the one of Linux: that is masked
      npipe wsl setup gpg-agent --install
  Undo it
      npipe wsl setup docker --remove

The exit codes are listed by `npipe --help`.";

#[cfg(unix)]
const DOCTOR_EXAMPLES: &str = r"Examples:
  See what is wrong
      npipe wsl doctor
  The same for a script, which wants the exit code
      npipe wsl doctor >/dev/null || echo 'the way to Windows is broken'

The exit codes are listed by `npipe --help`.";

const LIST_EXAMPLES: &str = r"Examples:
  Every pipe that has ssh in its name
      npipe list ssh
  The pipes of Docker, for a script
      npipe list --json docker_*

The exit codes are listed by `npipe --help`.";

const INFO_EXAMPLES: &str = r"Examples:
  Does this server carry messages?
      npipe info docker_engine
  Who serves this name, and who may write to it?
      npipe info openssh-ssh-agent
  How many instances may it have? For a script
      npipe info --json //./pipe/my-service

The exit codes are listed by `npipe --help`.";

const COMPLETIONS_EXAMPLES: &str = r"Examples:
  For bash, from the next shell on
      npipe completions bash > ~/.local/share/bash-completion/completions/npipe
  For PowerShell, in its profile
      npipe completions powershell | Out-String | Invoke-Expression

The exit codes are listed by `npipe --help`.";

const MAN_EXAMPLES: &str = r"Examples:
  Read it
      npipe man | man -l -
  Install all pages for yourself
      npipe man ~/.local/share/man/man1

The exit codes are listed by `npipe --help`.";

fn exit_codes() -> String {
    let mut text = "Exit codes:".to_owned();
    for exit in Exit::ALL {
        let _ = write!(text, "\n  {:>2}  {}", exit as u8, exit.meaning());
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::{Cli, any_pipe_name, connect_target};

    #[test]
    fn info_takes_any_name_and_those_that_stand_for_pipes() {
        for (written, path) in [
            ("ssh-agent", r"\\.\pipe\openssh-ssh-agent"),
            ("npipe:ssh-agent", r"\\.\pipe\ssh-agent"),
            ("my-service", r"\\.\pipe\my-service"),
            ("npipe:tcp:1", r"\\.\pipe\tcp:1"),
            ("npipe:npipe:x", r"\\.\pipe\npipe:x"),
            (r"np:\\.\pipe\x", r"\\.\pipe\x"),
            ("pipe://./pipe/x", r"\\.\pipe\x"),
            ("name with spaces: and colons", r"\\.\pipe\name with spaces: and colons"),
            ("//./pipe/x", r"\\.\pipe\x"),
        ] {
            assert_eq!(any_pipe_name(written).unwrap().to_string(), path);
        }
    }

    #[test]
    fn info_refuses_other_kinds_of_addresses() {
        for (written, reason) in [
            ("tcp:1", "did you mean npipe:tcp:1?"),
            ("unix:///x", "info is for pipes"),
            ("http://x", "info is for pipes"),
            ("npipe:http://x", "http: is the scheme"),
            ("../C:/file", "leave the pipes"),
            ("npipe:../C:/file", "leave the pipes"),
        ] {
            let refused = any_pipe_name(written).expect_err(written);
            assert!(refused.contains(reason), "{written}: {refused}");
            let offers_refused_form = refused.contains("did you mean npipe:http");
            assert!(!offers_refused_form, "{refused}");
        }
    }

    #[test]
    fn numbers_are_refused_with_the_expected_form() {
        for (flag, value, expected) in [
            ("--wait", "5s", "expected a whole number of seconds, for example 5"),
            ("--wait", "1.5", "expected a whole number of seconds"),
            ("--wait", "", "expected a whole number of seconds"),
            ("--wait", "+5", "expected a whole number of seconds"),
            ("--wait", "4294967296", "from 0 to 4294967295"),
            ("--idle-timeout", "0", "expected a whole number of seconds from 1"),
            ("--idle-timeout", "x", "expected a whole number of seconds"),
            ("--max-connections", "0", "expected a whole number of clients from 1 to 65535"),
            ("--max-connections", "many", "expected a whole number of clients, for example 5"),
            ("--instances", "255", "expected a whole number of instances from 1 to 254"),
            #[cfg(unix)]
            ("--bridge-idle", "10m", "expected a whole number of seconds"),
        ] {
            let line = ["npipe", "forward", &format!("{flag}={value}"), "tcp:0", "npipe:x"];
            let refused = Cli::try_parse_from(line).unwrap_err().to_string();
            assert!(refused.contains(expected), "{flag} {value}: {refused}");
        }
        let line = ["npipe", "connect", "--poll", "--poll-limit=0", "npipe:x"];
        let refused = Cli::try_parse_from(line).unwrap_err().to_string();
        assert!(refused.contains("expected a whole number of attempts from 1"), "{refused}");
    }

    #[test]
    fn connect_offers_the_nearest_form() {
        for (written, form) in [
            ("agent", "npipe:agent"),
            ("//./pipe/x", "npipe://./pipe/x"),
            ("8080", "npipe forward stdio tcp:127.0.0.1:8080"),
            ("/tmp/x", "npipe forward stdio unix:/tmp/x"),
            ("http://x", "npipe forward stdio tcp:x:80"),
        ] {
            let refused = connect_target(written).expect_err(written);
            assert!(refused.contains(&format!("did you mean {form}?")), "{written}: {refused}");
        }
        assert_eq!(connect_target(r"np:\\.\pipe\x").unwrap().to_string(), r"\\.\pipe\x");
    }

    /// Every user of the machine can connect to a TCP port.
    #[test]
    fn no_example_serves_an_agent_or_docker_on_tcp() {
        let mut command = Cli::command();
        let help = command.find_subcommand_mut("forward").unwrap().render_long_help().to_string();
        let examples = help.lines().filter(|line| line.contains("npipe forward ") && line.contains(" tcp:"));
        for example in examples {
            assert!(!example.contains("agent") && !example.contains("docker"), "{example}");
        }
        assert!(!help.contains("2375"));
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }
}
