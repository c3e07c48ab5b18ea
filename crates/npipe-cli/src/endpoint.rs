//! What may stand at an end of a relay, and how it is written on the command line. Parsing only:
//! nothing is opened or looked up here, and it behaves alike on every system.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use npipe::PipeName;

/// Where `npipe` waits for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Listener {
    Pipe(PipeName),
    /// Port 0 lets the system choose.
    Tcp(TcpAddress),
    Unix(PathBuf),
    /// One client, that is there from the start.
    Stdio,
    /// A socket that systemd, or whoever started us, listens on and hands over.
    Systemd,
}

/// What `npipe` makes a connection to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Pipe(PipeName),
    Tcp(TcpAddress),
    Unix(PathBuf),
    Stdio,
    /// A command line, whose process talks by its stdin and stdout.
    Exec(String),
    /// A file of GnuPG's that stands for a socket: see `assuan`.
    Assuan(PathBuf),
    /// The same, where GnuPG itself knows which file it is.
    Gpg(GpgSocket),
    /// Any of these on the Windows side, from Linux. Pipes and GnuPG itself are there also without
    /// being told.
    Windows(Box<Target>),
}

/// The sockets of gpg-agent that people use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GpgSocket {
    Agent,
    Ssh,
}

/// What Windows' own ssh-agent serves, and what all ssh clients for Windows look for.
const SSH_AGENT: &str = "openssh-ssh-agent";
const DOCKER: &str = "docker_engine";

/// Pipes whose server is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WellKnown {
    SshAgent,
    Docker,
}

impl WellKnown {
    pub(crate) fn of(name: &PipeName) -> Option<WellKnown> {
        match name.to_string().strip_prefix(r"\\.\pipe\") {
            Some(SSH_AGENT) => Some(WellKnown::SshAgent),
            Some(DOCKER) => Some(WellKnown::Docker),
            _ => None,
        }
    }
}

impl Target {
    /// Whether it is known what starts it.
    pub(crate) fn can_be_launched(&self) -> bool {
        match self {
            Target::Assuan(_) | Target::Gpg(_) => true,
            Target::Pipe(name) => WellKnown::of(name).is_some(),
            Target::Windows(target) => target.can_be_launched(),
            Target::Tcp(_) | Target::Unix(_) | Target::Stdio | Target::Exec(_) => false,
        }
    }
}

/// The refusal of `address`: the nearest form that is accepted, then every form. The usual mistake
/// is an address without its kind.
fn unknown_listener(address: &str) -> String {
    let nearest = did_you_mean(address, |candidate| candidate.parse::<Listener>().is_ok());
    format!(
        "no address to listen at{nearest} expected npipe:NAME, tcp:PORT, tcp:HOST:PORT, unix:PATH, stdio, \
         systemd, ssh-agent or docker, for example tcp:8080"
    )
}

fn unknown_target(address: &str) -> String {
    let nearest = did_you_mean(address, |candidate| candidate.parse::<Target>().is_ok());
    format!(
        "no target{nearest} expected tcp:HOST:PORT, npipe:NAME, unix:PATH, exec:COMMAND, assuan:FILE, stdio, \
         ssh-agent, gpg-agent, gpg-agent-ssh or docker, for example tcp:127.0.0.1:8080"
    )
}

/// The words between the reason of a refusal and the expected forms.
fn did_you_mean(address: &str, is_accepted: impl Fn(&str) -> bool) -> String {
    match nearest(address, is_accepted) {
        Some(form) => format!("; did you mean {form}?"),
        None => ";".to_owned(),
    }
}

/// The first way of writing `address` in full that is accepted.
pub(crate) fn nearest(address: &str, is_accepted: impl Fn(&str) -> bool) -> Option<String> {
    let slashed = address.replace('\\', "/");
    let mut candidates = Vec::new();
    if address == "-" {
        candidates.push("stdio".to_owned());
    } else if is_path_of_pipe(address) {
        candidates.push(format!("npipe://{}", slashed.trim_start_matches('/')));
    } else if slashed.starts_with(['/', '.']) || slashed.ends_with(".sock") {
        candidates.push(format!("unix:{slashed}"));
    } else if let Some((scheme, rest)) = address.split_once(':') {
        candidates.push(format!("{}:{rest}", scheme.to_ascii_lowercase()));
        candidates.extend(of_url(&scheme.to_ascii_lowercase(), rest));
        let host = if scheme == "*" { "0.0.0.0" } else { scheme };
        candidates.push(match scheme {
            "" => format!("tcp:{rest}"),
            _ => format!("tcp:{host}:{rest}"),
        });
        candidates.push(format!("tcp:127.0.0.1:{rest}"));
        candidates.push(format!("tcp:{address}"));
    } else if address.bytes().all(|byte| byte.is_ascii_digit()) {
        candidates.extend([format!("tcp:{address}"), format!("tcp:127.0.0.1:{address}")]);
    } else {
        candidates.extend([address.to_ascii_lowercase(), format!("npipe:{address}")]);
    }
    candidates.into_iter().find(|candidate| candidate != address && is_accepted(candidate))
}

/// The server that a URL names, for schemes whose port is known or written.
fn of_url(scheme: &str, rest: &str) -> Option<String> {
    let authority = rest.strip_prefix("//")?;
    if scheme == "file" {
        return Some(format!("unix:{authority}"));
    }
    let host = authority.split(['/', '?', '#']).next().unwrap_or(authority);
    let host = host.rsplit('@').next().unwrap_or(host);
    let port = match scheme {
        "https" | "wss" => 443,
        "ssh" | "sftp" => 22,
        _ => 80,
    };
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port_number(port).is_some());
    Some(if has_port { format!("tcp:{host}") } else { format!("tcp:{host}:{port}") })
}

/// Returns whether `address` begins with a scheme, of two or more characters, and a colon. A drive
/// has one letter.
pub(crate) fn begins_with_scheme(address: &str) -> bool {
    address.split_once(':').is_some_and(|(scheme, _)| {
        scheme.len() > 1
            && scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+.-".contains(&byte))
    })
}

/// Returns whether `address` is the path of a pipe: `//SERVER/pipe/NAME`, with either slash. The
/// shells of MSYS, as Git's, hand `//./pipe/x` on with one slash less.
pub(crate) fn is_path_of_pipe(address: &str) -> bool {
    let address = address.replace('\\', "/");
    let server_first = address
        .strip_prefix("//")
        .or_else(|| address.strip_prefix('/').filter(|rest| rest.starts_with("./")));
    server_first.and_then(|path| path.split('/').nth(1)).is_some_and(|part| part.eq_ignore_ascii_case("pipe"))
}

/// An address as npipe writes it. Other programs write `np:` (SQL Server), `pipe:` and URLs. Docker
/// writes the path of a pipe as a URL: two slashes, then the path with its own two.
pub(crate) fn in_our_form(address: &str) -> Cow<'_, str> {
    match address.split_once(':') {
        Some(("npipe" | "np" | "pipe", rest)) => {
            let name = rest.strip_prefix("//").filter(|path| path.starts_with("//")).unwrap_or(rest);
            Cow::Owned(format!("npipe:{name}"))
        }
        Some(("unix", rest)) if rest.starts_with("//") => {
            Cow::Owned(format!("unix:/{}", rest.trim_start_matches('/')))
        }
        Some(("tcp", rest)) if rest.starts_with("//") => {
            Cow::Owned(format!("tcp:{}", rest.trim_matches('/')))
        }
        Some(_) | None => Cow::Borrowed(address),
    }
}

impl FromStr for Listener {
    type Err = String;

    fn from_str(address: &str) -> Result<Listener, String> {
        let address = &*in_our_form(address);
        let Some((kind, rest)) = address.split_once(':') else {
            return match address {
                "stdio" => Ok(Listener::Stdio),
                "systemd" => Ok(Listener::Systemd),
                "ssh-agent" => known_pipe(SSH_AGENT).map(Listener::Pipe),
                "docker" => known_pipe(DOCKER).map(Listener::Pipe),
                "gpg-agent" | "gpg-agent-ssh" => {
                    Err(format!("{address} can be a target only; gpg-agent itself listens there"))
                }
                _ => Err(unknown_listener(address)),
            };
        };
        match kind {
            "npipe" => pipe_name(address).map(Listener::Pipe),
            "tcp" => tcp_listener(rest).map(Listener::Tcp),
            "unix" => unix_path(rest).map(Listener::Unix),
            "exec" | "assuan" | "windows" => {
                Err(format!("{kind}: can be a target only; listen at unix:PATH or tcp:PORT, for example"))
            }
            _ => Err(unknown_listener(address)),
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(address: &str) -> Result<Target, String> {
        let address = &*in_our_form(address);
        let Some((kind, rest)) = address.split_once(':') else {
            return match address {
                "stdio" => Ok(Target::Stdio),
                "ssh-agent" => known_pipe(SSH_AGENT).map(Target::Pipe),
                "docker" => known_pipe(DOCKER).map(Target::Pipe),
                "gpg-agent" => Ok(Target::Gpg(GpgSocket::Agent)),
                "gpg-agent-ssh" => Ok(Target::Gpg(GpgSocket::Ssh)),
                "systemd" => Err("systemd can be listened at only, as the first of the two ends".to_owned()),
                _ => Err(unknown_target(address)),
            };
        };
        match kind {
            "npipe" => pipe_name(address).map(Target::Pipe),
            "tcp" => address.parse().map(Target::Tcp),
            "unix" => unix_path(rest).map(Target::Unix),
            "exec" => command(rest).map(Target::Exec),
            "assuan" => assuan_file(rest).map(Target::Assuan),
            "windows" => windows_target(rest),
            _ => Err(unknown_target(address)),
        }
    }
}

fn windows_target(address: &str) -> Result<Target, String> {
    match address.parse()? {
        Target::Stdio | Target::Windows(_) => Err(format!(
            "{address} cannot be on the Windows side; expected for example windows:tcp:127.0.0.1:80"
        )),
        target => Ok(Target::Windows(Box::new(target))),
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listener::Pipe(name) => write!(formatter, "{name}"),
            Listener::Tcp(address) => write!(formatter, "{address}"),
            Listener::Unix(path) => write!(formatter, "unix:{}", path.display()),
            Listener::Stdio => formatter.write_str("stdio"),
            Listener::Systemd => formatter.write_str("systemd"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Pipe(name) => write!(formatter, "{name}"),
            Target::Tcp(address) => write!(formatter, "{address}"),
            Target::Unix(path) => write!(formatter, "unix:{}", path.display()),
            Target::Stdio => formatter.write_str("stdio"),
            Target::Exec(command) => write!(formatter, "exec:{command}"),
            Target::Assuan(file) => write!(formatter, "assuan:{}", file.display()),
            Target::Gpg(GpgSocket::Agent) => formatter.write_str("gpg-agent"),
            Target::Gpg(GpgSocket::Ssh) => formatter.write_str("gpg-agent-ssh"),
            Target::Windows(target) => write!(formatter, "windows:{target}"),
        }
    }
}

fn known_pipe(name: &str) -> Result<PipeName, String> {
    PipeName::new(name).map_err(|error| error.to_string())
}

/// The bytes that `sockaddr_un` has for a path, without the NUL at its end: unix(7).
const LONGEST_SOCKET_PATH: usize = if cfg!(target_os = "macos") { 103 } else { 107 };

fn unix_path(path: &str) -> Result<PathBuf, String> {
    if path.len() > LONGEST_SOCKET_PATH {
        return Err(format!(
            "a socket path has at most {LONGEST_SOCKET_PATH} bytes, and this one has {}; use a shorter \
             directory, or a relative path",
            path.len()
        ));
    }
    local_path(path)
        .map_err(|reason| format!("{reason}; expected unix:PATH, for example unix:/tmp/agent.sock"))
}

fn assuan_file(path: &str) -> Result<PathBuf, String> {
    local_path(path).map_err(|reason| {
        format!(
            r"{reason}; expected assuan:FILE, for example assuan:C:\Users\me\AppData\Local\gnupg\S.gpg-agent"
        )
    })
}

fn local_path(path: &str) -> Result<PathBuf, String> {
    if path.is_empty() {
        Err("the path is empty".to_owned())
    } else if path.contains('\0') {
        Err("the path contains a NUL character".to_owned())
    } else if path == "~" || path.starts_with("~/") {
        // Shells replace a tilde at the beginning of a word only. A directory of that name is never meant.
        Err(format!("the shell did not expand {path}: write $HOME instead of the tilde"))
    } else if path.starts_with('~') {
        Err(format!(
            "the shell did not expand {path}: write that user's home directory in full, or ./{path} for a \
             file whose name begins with a tilde"
        ))
    } else {
        Ok(PathBuf::from(path))
    }
}

fn command(line: &str) -> Result<String, String> {
    if line.trim().is_empty() {
        return Err("the command is empty; expected exec:COMMAND, for example 'exec:ssh-add -l'".to_owned());
    }
    if line.contains('\0') {
        return Err("the command contains a NUL character".to_owned());
    }
    Ok(line.to_owned())
}

/// A named pipe, written `npipe:NAME`, where NAME is bare or a path with either slash.
pub(crate) fn pipe_name(address: &str) -> Result<PipeName, String> {
    let address = in_our_form(address);
    let written =
        address.strip_prefix("npipe:").ok_or("expected npipe:NAME, for example npipe:openssh-ssh-agent")?;
    if lost_backslashes(written) {
        return Err(format!(
            r"{written} has lost backslashes to a shell; write npipe:NAME, or quote npipe:'\\.\pipe\NAME'"
        ));
    }
    if let Some((scheme, _)) = written.split_once("://") {
        return Err(format!(
            "{scheme}: is the scheme of another kind of address{} expected npipe:NAME",
            did_you_mean(written, |candidate| candidate.parse::<Target>().is_ok()),
        ));
    }
    if let Some(name) =
        written.strip_prefix("//").filter(|name| !name.is_empty() && !name.contains(['/', '\\']))
    {
        return Err(format!("a path of a pipe is //./pipe/NAME; did you mean npipe:{name}?"));
    }
    // The library accepts the prefix as well, so it would take one that is part of the name.
    let begins_with_prefix =
        written.get(.."npipe:".len()).is_some_and(|start| start.eq_ignore_ascii_case("npipe:"));
    let name = if begins_with_prefix { format!(r"\\.\pipe\{written}") } else { written.to_owned() };
    PipeName::new(name).map_err(|error| match written.starts_with('/') && !written.starts_with("//") {
        true => format!("{error}; did you mean unix:{written}?"),
        false => error.to_string(),
    })
}

/// Whether this was a path of a pipe until a shell read it: `\.\pipe\x` or `.pipex`, with or
/// without a backslash first.
fn lost_backslashes(written: &str) -> bool {
    let rest = written.strip_prefix('\\').unwrap_or(written);
    !rest.starts_with('\\') && [r".\pipe", ".pipe"].into_iter().any(|eaten| rest.starts_with(eaten))
}

/// A TCP server, written `tcp:HOST:PORT`, an IPv6 address in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TcpAddress {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl FromStr for TcpAddress {
    type Err = String;

    fn from_str(address: &str) -> Result<TcpAddress, String> {
        let (host, port) = address
            .strip_prefix("tcp:")
            .map(|rest| rest.rsplit_once(':').ok_or(rest))
            .ok_or("expected tcp:HOST:PORT, for example tcp:127.0.0.1:8080")?
            .map_err(|port| match port_number(port) {
                Some(1..) => format!("expected tcp:HOST:PORT; did you mean tcp:127.0.0.1:{port}?"),
                Some(0) | None => "expected tcp:HOST:PORT, for example tcp:127.0.0.1:8080".to_owned(),
            })?;
        let host = tcp_host(host, port)?;
        match port_number(port) {
            None | Some(0) => Err(format!("{port} is not a port; expected a number from 1 to 65535")),
            Some(port) => Ok(TcpAddress { host, port }),
        }
    }
}

/// A port alone is one of loopback: what others may reach is to be said aloud.
fn tcp_listener(rest: &str) -> Result<TcpAddress, String> {
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) => (tcp_host(host, port)?, port),
        None => ("127.0.0.1".to_owned(), rest),
    };
    let port = port_number(port).ok_or_else(|| {
        format!(
            "{port} is not a port; expected a number from 0 (any free port) to 65535, for example tcp:8080"
        )
    })?;
    Ok(TcpAddress { host, port })
}

fn tcp_host(host: &str, port: &str) -> Result<String, String> {
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').ok_or("the bracket around the IPv6 address is not closed")?,
        None if host.contains(':') => {
            return Err(format!("put the IPv6 address in brackets: tcp:[{host}]:{port}"));
        }
        None => host,
    };
    if host.is_empty() {
        return Err("the host is empty; expected tcp:HOST:PORT, for example tcp:127.0.0.1:8080".to_owned());
    }
    Ok(host.to_owned())
}

/// Digits only: the standard library would take a sign too.
fn port_number(port: &str) -> Option<u16> {
    port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok())?
}

impl fmt::Display for TcpAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "tcp:[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "tcp:{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{GpgSocket, Listener, Target, TcpAddress, pipe_name};

    fn path(address: &str) -> String {
        pipe_name(address).expect(address).to_string()
    }

    fn pipe_error(address: &str) -> String {
        pipe_name(address).expect_err(address)
    }

    fn tcp(address: &str) -> (String, u16) {
        let TcpAddress { host, port } = address.parse().expect(address);
        (host, port)
    }

    fn tcp_error(address: &str) -> String {
        address.parse::<TcpAddress>().expect_err(address)
    }

    #[test]
    fn a_bare_name_is_local() {
        assert_eq!(path("npipe:agent"), r"\\.\pipe\agent");
        assert_eq!(
            path(r"npipe:ProtectedPrefix\Administrators\x"),
            r"\\.\pipe\ProtectedPrefix\Administrators\x"
        );
        assert_eq!(path("npipe:name with spaces: and colons"), r"\\.\pipe\name with spaces: and colons");
    }

    #[test]
    fn a_path_is_taken_with_either_slash() {
        assert_eq!(path(r"npipe:\\.\pipe\agent"), r"\\.\pipe\agent");
        assert_eq!(path("npipe://./pipe/agent"), r"\\.\pipe\agent");
        assert_eq!(path(r"npipe:\\.\PIPE\agent"), r"\\.\PIPE\agent");
        assert_eq!(path(r"npipe:\\server\pipe\agent"), r"\\server\pipe\agent");
    }

    #[test]
    fn the_forms_of_other_programs_are_taken() {
        for address in [
            r"np:\\.\pipe\x",
            "np:x",
            "np://./pipe/x",
            "pipe://./pipe/x",
            "pipe:////./pipe/x",
            "npipe:////./pipe/x",
            "npipe:/./pipe/x",
        ] {
            assert_eq!(path(address), r"\\.\pipe\x", "{address}");
            assert_eq!(address.parse::<Target>().unwrap().to_string(), r"\\.\pipe\x", "{address}");
            assert_eq!(address.parse::<Listener>().unwrap().to_string(), r"\\.\pipe\x", "{address}");
        }
        for (address, ours) in [
            ("unix:///run/x", "unix:/run/x"),
            ("unix://run/x", "unix:/run/x"),
            ("unix:/run//x", "unix:/run//x"),
            ("tcp://127.0.0.1:2375", "tcp:127.0.0.1:2375"),
            ("tcp://localhost:80/", "tcp:localhost:80"),
        ] {
            assert_eq!(address.parse::<Target>().unwrap().to_string(), ours, "{address}");
            assert_eq!(address.parse::<Listener>().unwrap().to_string(), ours, "{address}");
        }
        assert_eq!("windows:np:x".parse::<Target>().unwrap().to_string(), r"windows:\\.\pipe\x");
    }

    #[test]
    fn one_prefix_is_removed_and_a_second_belongs_to_the_name() {
        assert_eq!(path("npipe:npipe:x"), r"\\.\pipe\npipe:x");
        assert_eq!(path("npipe:NPipe:x"), r"\\.\pipe\NPipe:x");
        assert_eq!(path("npipe:np:x"), r"\\.\pipe\np:x");
        assert_eq!(path("np:npipe:x"), r"\\.\pipe\npipe:x");
        assert_eq!(path("npipe:tcp:1"), r"\\.\pipe\tcp:1");
    }

    #[test]
    fn a_name_that_leaves_the_pipes_or_has_a_scheme_is_refused() {
        for address in [
            "npipe:../C:/file",
            r"npipe:..\C:\file",
            "npipe:////./pipe/../C:/file",
            "np:../x",
            "pipe://./pipe/../x",
            "npipe:npipe:////./pipe/x",
            "npipe:http://x",
            r"npipe:np:\\.\pipe\x",
            "npipe:pipe://./pipe/x",
            "npipe:unix:///x",
            "npipe://name",
            "npipe:/tmp/x.sock",
        ] {
            pipe_error(address);
        }
        assert!(pipe_error("npipe://name").contains("did you mean npipe:name?"));
        assert!(pipe_error("npipe:/tmp/x").contains("did you mean unix:/tmp/x?"));
    }

    #[test]
    fn a_refusal_offers_the_nearest_form() {
        for (address, listener, target) in [
            ("//./pipe/x", "npipe://./pipe/x", "npipe://./pipe/x"),
            (r"\\.\pipe\x", "npipe://./pipe/x", "npipe://./pipe/x"),
            ("/./pipe/x", "npipe://./pipe/x", "npipe://./pipe/x"),
            ("openssh-ssh-agent", "npipe:openssh-ssh-agent", "npipe:openssh-ssh-agent"),
            ("SSH-Agent", "ssh-agent", "ssh-agent"),
            ("/tmp/x", "unix:/tmp/x", "unix:/tmp/x"),
            ("./x", "unix:./x", "unix:./x"),
            ("8080", "tcp:8080", "tcp:127.0.0.1:8080"),
            (":8080", "tcp:8080", "tcp:127.0.0.1:8080"),
            ("*:8080", "tcp:0.0.0.0:8080", "tcp:0.0.0.0:8080"),
            ("localhost:80", "tcp:localhost:80", "tcp:localhost:80"),
            ("[::1]:80", "tcp:[::1]:80", "tcp:[::1]:80"),
            ("http://x", "tcp:x:80", "tcp:x:80"),
            ("https://x/path", "tcp:x:443", "tcp:x:443"),
            ("http://x:8080/y", "tcp:x:8080", "tcp:x:8080"),
            ("ssh://me@x", "tcp:x:22", "tcp:x:22"),
            ("file:///x", "unix:/x", "unix:/x"),
            ("TCP:localhost:80", "tcp:localhost:80", "tcp:localhost:80"),
            ("UNIX:/x", "unix:/x", "unix:/x"),
            ("-", "stdio", "stdio"),
        ] {
            let offered = |form: &str| format!("did you mean {form}?");
            let refused = address.parse::<Listener>().expect_err(address);
            assert!(refused.contains(&offered(listener)), "{address}: {refused}");
            let refused = address.parse::<Target>().expect_err(address);
            assert!(refused.contains(&offered(target)), "{address}: {refused}");
        }
        for address in ["tcp:80", "tcp:8080"] {
            let refused = address.parse::<Target>().expect_err(address);
            let form = address.replace("tcp:", "tcp:127.0.0.1:");
            assert!(refused.contains(&format!("did you mean {form}?")), "{refused}");
        }
    }

    #[test]
    fn no_refusal_doubles_backslashes() {
        for address in [r"x\y:z", r"\\.\mailslot\x", r"npipe:\\.\mailslot\x", r"tcp:\x:y", r"unix:~\x"] {
            for refused in [
                address.parse::<Listener>().expect_err(address),
                address.parse::<Target>().expect_err(address),
            ] {
                assert!(!refused.contains(r"\\\") && !refused.contains(r"x\\y"), "{refused}");
            }
        }
    }

    #[test]
    fn a_socket_path_has_a_greatest_length() {
        let path = |bytes: usize| format!("unix:/{}", "x".repeat(bytes - 1));
        let most = super::LONGEST_SOCKET_PATH;
        assert!(path(most).parse::<Listener>().is_ok() && path(most).parse::<Target>().is_ok());
        for refused in [path(most + 1).parse::<Listener>().err(), path(most + 1).parse::<Target>().err()] {
            assert!(refused.unwrap().contains(&format!("at most {most} bytes")));
        }
    }

    #[test]
    fn dockers_url_is_taken() {
        assert_eq!(path("npipe:////./pipe/docker_engine"), r"\\.\pipe\docker_engine");
    }

    #[test]
    fn what_is_no_pipe_is_refused_with_the_expected_form() {
        assert!(pipe_error("agent").contains("expected npipe:NAME"));
        assert!(pipe_error("tcp:localhost:1").contains("expected npipe:NAME"));
        assert!(pipe_error("npipe:").contains("empty"));
        assert!(pipe_error(r"npipe:\\.\pipe\").contains("empty"));
        assert!(pipe_error(r"npipe:\\.\mailslot\x").contains("a path to something else"));
        assert!(pipe_error(r"npipe:\\\pipe\x").contains("a path to something else"));
        assert!(pipe_error("npipe:a\0b").contains("NUL"));
    }

    #[test]
    fn a_path_that_lost_backslashes_to_a_shell_is_refused_with_what_to_write() {
        for eaten in [r"npipe:\.\pipe\agent", r"npipe:\.pipeagent"] {
            let refused = pipe_error(eaten);
            assert!(refused.contains(r"quote npipe:'\\.\pipe\NAME'"), "{refused}");
            assert!(refused.starts_with(&format!("{} has lost", &eaten["npipe:".len()..])), "{refused}");
        }
    }

    #[test]
    fn tcp_takes_names_and_addresses() {
        assert_eq!(tcp("tcp:localhost:22"), ("localhost".to_owned(), 22));
        assert_eq!(tcp("tcp:127.0.0.1:65535"), ("127.0.0.1".to_owned(), 65535));
        assert_eq!(tcp("tcp:[::1]:8080"), ("::1".to_owned(), 8080));
    }

    #[test]
    fn tcp_is_shown_as_it_is_written() {
        for address in ["tcp:localhost:22", "tcp:[::1]:8080"] {
            assert_eq!(address.parse::<TcpAddress>().unwrap().to_string(), address);
        }
    }

    #[test]
    fn what_is_no_tcp_address_is_refused_with_the_reason() {
        assert!(tcp_error("localhost:22").contains("expected tcp:HOST:PORT"));
        assert!(tcp_error("tcp:localhost").contains("expected tcp:HOST:PORT"));
        assert!(tcp_error("tcp::22").contains("host is empty"));
        assert!(tcp_error("tcp:localhost:0").contains("not a port"));
        assert!(tcp_error("tcp:localhost:65536").contains("not a port"));
        assert!(tcp_error("tcp:localhost:ssh").contains("not a port"));
        assert!(tcp_error("tcp:::1:22").contains("tcp:[::1]:22"));
        assert!(tcp_error("tcp:[::1:22").contains("bracket"));
    }

    #[test]
    fn every_target_is_shown_as_it_is_written() {
        for address in [
            "tcp:localhost:22",
            "tcp:[::1]:8080",
            "unix:/run/user/1000/a.sock",
            "unix:relative path: with colon",
            "stdio",
            "exec:ssh-add -l",
            r"assuan:C:\Users\me\AppData\Local\gnupg\S.gpg-agent",
            "gpg-agent",
            "gpg-agent-ssh",
        ] {
            assert_eq!(address.parse::<Target>().unwrap().to_string(), address);
        }
    }

    #[test]
    fn everyday_names_stand_for_pipes_and_sockets() {
        let shown = |name: &str| name.parse::<Target>().unwrap().to_string();
        assert_eq!(shown("ssh-agent"), r"\\.\pipe\openssh-ssh-agent");
        assert_eq!(shown("docker"), r"\\.\pipe\docker_engine");
        assert_eq!("docker".parse::<Listener>().unwrap().to_string(), r"\\.\pipe\docker_engine");
        assert_eq!("gpg-agent-ssh".parse(), Ok(Target::Gpg(GpgSocket::Ssh)));
        for (target, can_be) in
            [("ssh-agent", true), ("docker", true), ("gpg-agent", true), ("npipe:x", false)]
        {
            assert_eq!(target.parse::<Target>().unwrap().can_be_launched(), can_be, "{target}");
        }
    }

    #[test]
    fn a_port_alone_listens_on_loopback() {
        for (address, shown) in [
            ("tcp:8080", "tcp:127.0.0.1:8080"),
            ("tcp:0", "tcp:127.0.0.1:0"),
            ("tcp:0.0.0.0:80", "tcp:0.0.0.0:80"),
            ("tcp:[::]:80", "tcp:[::]:80"),
        ] {
            assert_eq!(address.parse::<Listener>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_cannot_be_listened_at_is_refused_with_the_reason_and_an_example() {
        for (address, reason) in [
            ("8080", "for example tcp:8080"),
            ("localhost:80", "expected npipe:NAME"),
            ("tcp:", "is not a port"),
            ("tcp:+80", "is not a port"),
            ("tcp:65536", "is not a port"),
            ("tcp::80", "host is empty"),
            ("unix:", "for example unix:/tmp/agent.sock"),
            ("unix:~/agent.sock", "$HOME"),
            ("unix:~user", "home directory in full"),
            ("unix:~user/agent.sock", "home directory in full"),
            ("unix:a\0b", "NUL"),
            ("exec:cat", "a target only"),
            ("assuan:x", "a target only"),
            ("gpg-agent", "a target only"),
            ("stdio:", "no address"),
            ("", "no address"),
        ] {
            let error = address.parse::<Listener>().expect_err(address);
            assert!(error.contains(reason), "{address}: {error}");
        }
    }

    #[test]
    fn what_is_no_target_is_refused_with_the_reason_and_an_example() {
        for (address, reason) in [
            ("localhost:80", "expected tcp:HOST:PORT"),
            ("tcp:80", "expected tcp:HOST:PORT"),
            ("npipe:", "empty"),
            ("exec:", "for example 'exec:ssh-add -l'"),
            ("exec:  ", "the command is empty"),
            ("exec:a\0b", "NUL"),
            ("assuan:", "for example assuan:"),
            ("assuan:~/.gnupg/S.gpg-agent", "$HOME"),
            ("GPG-AGENT", "gpg-agent"),
            ("", "no target"),
        ] {
            let error = address.parse::<Target>().expect_err(address);
            assert!(error.contains(reason), "{address}: {error}");
        }
    }
}
