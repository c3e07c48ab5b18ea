//! What `npipe forward` refuses before it does anything: two ends that lead to each other, ends
//! that this platform does not have, and flags that cannot take effect between the two ends. The
//! flags are one table, and the refusals are its texts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
#[cfg(unix)]
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory};
use npipe::PipeName;
use tokio::net::lookup_host;

use crate::cli::{Cli, ForwardArguments};
#[cfg(unix)]
use crate::dial::on_windows_side;
use crate::endpoint::{Listener, Target};
use crate::exit::{Exit, Failure};

/// A flag, the ends between which it takes effect, and the words for the others.
struct Rule {
    flag: &'static str,
    takes_effect: fn(&Listener, &Target) -> bool,
    needs: &'static str,
}

const fn rule(flag: &'static str, takes_effect: fn(&Listener, &Target) -> bool, needs: &'static str) -> Rule {
    Rule { flag, takes_effect, needs }
}

const POLLED: &str = "is for a target that may be missing for a while: a pipe, tcp:, unix:, assuan:, \
                      gpg-agent or gpg-agent-ssh";
const TARGET_PIPE: &str = "is for a target that is a pipe, such as npipe:NAME";
const SERVED_PIPE: &str = "is for pipes: listen at npipe:NAME to use it";

/// Every flag of `npipe forward`, but for those of every command.
const RULES: &[Rule] = &[
    rule(
        "wait",
        |_, target| is_pipe(target),
        "is for a target that can be busy, which is a pipe: npipe:NAME, ssh-agent or docker",
    ),
    rule("read-only", |_, target| is_pipe(target), TARGET_PIPE),
    rule("write-only", |_, target| is_pipe(target), TARGET_PIPE),
    rule("poll", |_, target| may_be_missing(there(target)), POLLED),
    rule("poll-deadline", |_, target| may_be_missing(there(target)), POLLED),
    rule(
        "max-connections",
        |listen, target| !has_stdio(listen, target),
        "is for several clients, and stdio has one connection",
    ),
    rule("idle-timeout", |_, _| true, ""),
    rule(
        "instances",
        |listen, target| matches!(listen, Listener::Pipe(_)) && *target != Target::Stdio,
        "is for pipes with several clients: listen at npipe:NAME, with another target than stdio",
    ),
    rule("message", |listen, _| matches!(listen, Listener::Pipe(_)), SERVED_PIPE),
    rule("sddl", |listen, _| matches!(listen, Listener::Pipe(_)), SERVED_PIPE),
    rule(
        "launch",
        |_, target| target.can_be_launched(),
        "is for the targets ssh-agent, gpg-agent, gpg-agent-ssh, docker and assuan:",
    ),
    rule("progress", has_stdio, "counts the bytes of stdio, so one end has to be stdio"),
    rule(
        "agent-compat",
        |_, target| *target != Target::Stdio,
        "is for targets that npipe connects to, which stdio is not",
    ),
    #[cfg(unix)]
    rule(
        "windows-exe",
        |_, target| on_windows_side(target).is_some(),
        "is for targets on the Windows side: pipes, gpg-agent and windows:TARGET",
    ),
    #[cfg(unix)]
    rule(
        "bridge-idle",
        |listen, target| on_windows_side(target).is_some() && *listen != Listener::Stdio,
        "is for targets on the Windows side that several clients use, one after the other",
    ),
];

/// The target itself, where it is on the Windows side.
fn there(target: &Target) -> &Target {
    match target {
        Target::Windows(target) => target,
        target => target,
    }
}

fn is_pipe(target: &Target) -> bool {
    matches!(there(target), Target::Pipe(_))
}

fn may_be_missing(target: &Target) -> bool {
    !matches!(target, Target::Stdio | Target::Exec(_))
}

fn has_stdio(listen: &Listener, target: &Target) -> bool {
    *listen == Listener::Stdio || *target == Target::Stdio
}

/// `given` is how the command line was written: a default or a variable is no flag.
pub(crate) fn check(arguments: &ForwardArguments, given: &ArgMatches) -> Result<(), Failure> {
    let ForwardArguments { listen, target, .. } = arguments;
    let usage = |reason: String| Err(Failure::new(Exit::Usage, reason));
    let unsupported =
        |reason: &str| Err(Failure::new(Exit::Unsupported, format!("cannot listen on {listen}: {reason}")));
    match (listen, target) {
        (Listener::Stdio, Target::Stdio) => {
            return usage("stdin and stdout cannot be both ends".to_owned());
        }
        (Listener::Pipe(here), Target::Pipe(there)) if is_same_pipe(here, there) => {
            return Err(leads_to_itself(listen, target));
        }
        (Listener::Pipe(_), _) if cfg!(not(windows)) => {
            return unsupported("named pipes of this kind exist on Windows only; use unix: or tcp: here");
        }
        (Listener::Systemd, _) if cfg!(not(unix)) => {
            return unsupported("systemd is not on this platform; use npipe: or tcp: here");
        }
        (Listener::Unix(_), _) if cfg!(not(unix)) => {
            return unsupported("npipe has no Unix sockets on this platform; use npipe: or tcp: here");
        }
        _ => {}
    }
    let is_given = |rule: &&Rule| flag_id(rule.flag).is_some_and(|id| is_written(given, &id));
    match RULES.iter().filter(is_given).find(|rule| !(rule.takes_effect)(listen, target)) {
        Some(Rule { flag, needs, .. }) => {
            usage(format!("--{flag} {needs}; it has no effect between {listen} and {target}"))
        }
        None => Ok(()),
    }
}

fn is_written(given: &ArgMatches, id: &str) -> bool {
    given.value_source(id) == Some(ValueSource::CommandLine)
}

/// How clap calls the flag.
fn flag_id(flag: &str) -> Option<String> {
    let command = Cli::command();
    let forward = command.find_subcommand("forward")?;
    let found = forward.get_arguments().find(|argument| argument.get_long() == Some(flag))?;
    Some(found.get_id().to_string())
}

pub(crate) fn leads_to_itself(listen: &Listener, target: &Target) -> Failure {
    Failure::new(
        Exit::Usage,
        format!(
            "{listen} and {target} are the same: each client would be forwarded to npipe itself, without \
             end; choose another address for one of them"
        ),
    )
}

/// Windows reaches this machine by several names of it.
fn is_same_pipe(one: &PipeName, other: &PipeName) -> bool {
    let own = std::env::var("COMPUTERNAME").unwrap_or_default();
    let local = |name: &PipeName| {
        let name = name.to_string();
        let (server, path) = name.strip_prefix(r"\\")?.split_once('\\')?;
        let is_local =
            ["localhost", "127.0.0.1", "::1", &own].iter().any(|own| server.eq_ignore_ascii_case(own));
        is_local.then(|| PipeName::new(format!(r"\\.\{path}")).ok())?
    };
    local(one).as_ref().unwrap_or(one) == local(other).as_ref().unwrap_or(other)
}

/// Returns whether a connection to `target` would come to `listener`.
pub(crate) async fn leads_back(target: &Target, listener: SocketAddr) -> bool {
    let Target::Tcp(address) = target else { return false };
    if address.port != listener.port() {
        return false;
    }
    let Ok(mut addresses) = lookup_host((address.host.as_str(), address.port)).await else { return false };
    addresses.any(|address| accepts(listener, address))
}

fn accepts(listener: SocketAddr, connect: SocketAddr) -> bool {
    let here = listener.ip().to_canonical();
    let there = match connect.ip().to_canonical() {
        // A connection to the unspecified address goes to loopback.
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        there => there,
    };
    let is_family_accepted = match here {
        IpAddr::V4(_) => there.is_ipv4(),
        // Linux and macOS accept both on `[::]`.
        IpAddr::V6(_) => there.is_ipv6() || cfg!(unix),
    };
    here == there || (here.is_unspecified() && is_family_accepted && is_of_this_machine(connect))
}

/// The kernel routes a packet to an address of this machine from that same address. None is sent.
fn is_of_this_machine(address: SocketAddr) -> bool {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let source = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(address)?;
        socket.local_addr()
    });
    address.ip().is_loopback()
        || address.ip().is_unspecified()
        || source.is_ok_and(|source| source.ip() == address.ip())
}

/// Returns whether a connection to `target` would come to the socket at `listener`, also where that
/// does not exist yet.
#[cfg(unix)]
pub(crate) fn leads_back_by_path(target: &Target, listener: &Path) -> bool {
    match target {
        Target::Unix(path) | Target::Assuan(path) => resolved(path) == resolved(listener),
        _ => false,
    }
}

/// Without links and relative parts. Only the last component may be missing.
#[cfg(unix)]
fn resolved(path: &Path) -> PathBuf {
    /// As many links as Linux follows.
    const LINKS: usize = 40;

    let directory_of = |path: &Path| match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        if let Ok(found) = path.canonicalize() {
            return found;
        }
        match path.read_link() {
            Ok(link) => path = directory_of(&path).join(link),
            Err(_) => break,
        }
    }
    match (directory_of(&path).canonicalize(), path.file_name()) {
        (Ok(directory), Some(name)) => directory.join(name),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches};

    use super::{RULES, accepts, check, is_same_pipe};
    use crate::cli::{Cli, Command};
    use crate::exit::{Exit, Failure};

    const LISTENERS: [&str; 5] = ["npipe:a", "tcp:0", "unix:a", "stdio", "systemd"];
    const TARGETS: [&str; 15] = [
        "npipe:x",
        "ssh-agent",
        "docker",
        "tcp:localhost:1",
        "unix:x",
        "stdio",
        "exec:x",
        "assuan:/x",
        r"assuan:C:\x",
        "gpg-agent",
        "gpg-agent-ssh",
        "windows:npipe:x",
        "windows:tcp:localhost:1",
        "windows:exec:x",
        "windows:ssh-agent",
    ];

    fn checked(line: &[&str]) -> Result<(), Failure> {
        let matches = Cli::command().try_get_matches_from(line).unwrap_or_else(|error| panic!("{error}"));
        let Cli { command: Command::Forward(arguments), .. } = Cli::from_arg_matches(&matches).unwrap()
        else {
            panic!("{line:?}")
        };
        check(&arguments, matches.subcommand_matches("forward").unwrap())
    }

    /// The listeners and the targets between which a flag takes effect, as this page of the manual
    /// has them and not as the table is written.
    fn expected(flag: &str, listen: &str, target: &str) -> bool {
        let server = target.strip_prefix("windows:").unwrap_or(target);
        let stdio = listen == "stdio" || target == "stdio";
        let on_windows = target.starts_with("windows:")
            || ["npipe:x", "ssh-agent", "docker", r"assuan:C:\x", "gpg-agent", "gpg-agent-ssh"]
                .contains(&target);
        match flag {
            "idle-timeout" => true,
            "wait" | "read-only" | "write-only" => ["npipe:x", "ssh-agent", "docker"].contains(&server),
            "poll" | "poll-deadline" => !["stdio", "exec:x"].contains(&server),
            "max-connections" => !stdio,
            "instances" => listen == "npipe:a" && target != "stdio",
            "message" | "sddl" => listen == "npipe:a",
            "launch" => {
                ["ssh-agent", "docker", "gpg-agent", "gpg-agent-ssh"].contains(&server)
                    || server.starts_with("assuan:")
            }
            "progress" => stdio,
            "agent-compat" => target != "stdio",
            "windows-exe" => on_windows,
            "bridge-idle" => on_windows && listen != "stdio",
            _ => panic!("--{flag} has no expectation"),
        }
    }

    #[test]
    fn every_flag_is_checked_against_every_pair_of_ends() {
        let command = Cli::command();
        let forward = command.find_subcommand("forward").unwrap();
        let flags: Vec<_> = forward
            .get_arguments()
            .filter(|argument| !argument.is_global_set())
            .filter_map(|argument| argument.get_long())
            .filter(|flag| !["help", "verbose"].contains(flag))
            .collect();
        assert!(flags.len() >= 10, "{flags:?}");
        for flag in flags {
            let rules = RULES.iter().filter(|rule| rule.flag == flag).count();
            assert_eq!(rules, 1, "--{flag} has a rule");
            let written = match flag {
                "poll" | "message" | "launch" | "agent-compat" | "read-only" | "write-only" => {
                    format!("--{flag}")
                }
                "sddl" => "--sddl=D:(A;;FA;;;WD)".to_owned(),
                "progress" => "--progress=never".to_owned(),
                _ => format!("--{flag}=7"),
            };
            for listen in LISTENERS {
                for target in TARGETS {
                    let mut line = vec!["npipe", "forward", &written, listen, target];
                    if flag == "poll-deadline" {
                        line.insert(2, "--poll");
                    }
                    let outcome = checked(&line);
                    let platform_has_it = match listen {
                        "npipe:a" => cfg!(windows),
                        "unix:a" | "systemd" => cfg!(unix),
                        _ => true,
                    };
                    if (listen, target) == ("stdio", "stdio") {
                        assert_eq!(outcome.unwrap_err().exit, Exit::Usage, "{line:?}");
                    } else if !platform_has_it {
                        assert_eq!(outcome.unwrap_err().exit, Exit::Unsupported, "{line:?}");
                    } else if expected(flag, listen, target) {
                        assert!(outcome.is_ok(), "{line:?}: {}", outcome.unwrap_err());
                    } else {
                        let refused = outcome.expect_err(&line.join(" "));
                        assert_eq!(refused.exit, Exit::Usage, "{line:?}");
                        let named = if flag == "poll-deadline" { "--poll" } else { &written };
                        let named = named.split('=').next().unwrap();
                        assert!(refused.to_string().starts_with(&format!("{named} ")), "{refused}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_default_is_no_flag() {
        for listen in LISTENERS {
            for target in TARGETS {
                if let Err(refused) = checked(&["npipe", "forward", listen, target]) {
                    assert!(refused.exit == Exit::Unsupported || (listen, target) == ("stdio", "stdio"));
                }
            }
        }
    }

    #[test]
    fn a_pipe_is_itself_in_any_case_and_by_any_name_of_this_machine() {
        for (one, other, is_same) in [
            ("x", "X", true),
            (r"\\.\pipe\x", "//./PIPE/x", true),
            (r"\\?\pipe\x", "x", true),
            (r"\\localhost\pipe\x", "x", true),
            (r"\\server\pipe\x", r"\\SERVER\pipe\X", true),
            (r"\\server\pipe\x", "x", false),
            ("x", "y", false),
        ] {
            let name = |name: &str| npipe::PipeName::new(name).unwrap();
            assert_eq!(is_same_pipe(&name(one), &name(other)), is_same, "{one} {other}");
        }
        let refused = checked(&["npipe", "forward", "npipe:OpenSSH-ssh-agent", "ssh-agent"]).unwrap_err();
        assert_eq!(refused.exit, Exit::Usage);
    }

    #[test]
    fn a_listener_accepts_what_is_connected_to_its_address() {
        for (listener, connect, comes_back) in [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "[::ffff:127.0.0.1]:1", true),
            ("127.0.0.1:1", "0.0.0.0:1", true),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("127.0.0.1:1", "[::1]:1", false),
            ("0.0.0.0:1", "127.0.0.2:1", true),
            ("0.0.0.0:1", "[::1]:1", false),
            ("0.0.0.0:1", "192.0.2.1:1", false),
            ("[::]:1", "[::1]:1", true),
            ("[::]:1", "127.0.0.1:1", cfg!(unix)),
            ("[::1]:1", "[::]:1", true),
        ] {
            let accepted = accepts(listener.parse().unwrap(), connect.parse().unwrap());
            assert_eq!(accepted, comes_back, "{listener} {connect}");
        }
    }
}
