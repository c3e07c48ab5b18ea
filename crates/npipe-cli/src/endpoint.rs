//! What may stand at an end of a relay, and how it is written on the command line. Parsing only: nothing is opened
//! or looked up here, and it behaves alike on every system.

use std::fmt;
use std::str::FromStr;

/// The namespace of the pipes of this machine.
const LOCAL_PREFIX: &str = r"\\.\pipe\";

/// The longest path that the documentation of CreateNamedPipe allows, prefix included, in UTF-16 units.
const LONGEST_PATH: usize = 256;

/// A named pipe, written `npipe:NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PipeName(String);

impl PipeName {
    /// The path to open or create, `\\.\pipe\NAME`.
    pub(crate) fn path(&self) -> &str {
        &self.0
    }
}

impl FromStr for PipeName {
    type Err = String;

    /// Takes `npipe:` and then a bare name or a path. Slashes stand for backslashes in a path, because shells eat
    /// backslashes, and Docker's way to write it as a URL (`npipe:////./pipe/x`) is one of those paths.
    fn from_str(address: &str) -> Result<PipeName, String> {
        let written = address
            .strip_prefix("npipe:")
            .ok_or("expected npipe:NAME, for example npipe:openssh-ssh-agent")?;
        let written = if written.starts_with("////") { &written[2..] } else { written };
        let path = if written.starts_with("//") || written.starts_with(r"\\") {
            written.replace('/', r"\")
        } else {
            format!("{LOCAL_PREFIX}{written}")
        };

        let name = path
            .strip_prefix(r"\\")
            .and_then(|rest| rest.split_once('\\'))
            .filter(|(host, _)| !host.is_empty())
            .and_then(|(_, rest)| strip_prefix_ignoring_case(rest, r"pipe\"))
            .ok_or_else(|| format!(r"{path} is not the path of a pipe; expected {LOCAL_PREFIX}NAME"))?;
        if name.is_empty() {
            return Err("the name of the pipe is empty; expected npipe:NAME".to_owned());
        }
        if path.contains('\0') {
            return Err("the name of the pipe contains a NUL character".to_owned());
        }
        if path.encode_utf16().count() > LONGEST_PATH {
            return Err(format!(
                r"the name of the pipe is too long: {LONGEST_PATH} characters with {LOCAL_PREFIX}"
            ));
        }
        Ok(PipeName(path))
    }
}

impl fmt::Display for PipeName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Names of pipes are case-insensitive, the word `pipe` in their path too.
fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
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
            .and_then(|rest| rest.rsplit_once(':'))
            .ok_or("expected tcp:HOST:PORT, for example tcp:127.0.0.1:8080")?;
        let host = match host.strip_prefix('[') {
            Some(rest) => {
                rest.strip_suffix(']').ok_or("the bracket around the IPv6 address is not closed")?
            }
            None if host.contains(':') => {
                return Err(format!("put the IPv6 address in brackets: tcp:[{host}]:{port}"));
            }
            None => host,
        };
        if host.is_empty() {
            return Err("the host is empty; expected tcp:HOST:PORT".to_owned());
        }
        match port.parse() {
            Ok(0) | Err(_) => Err(format!("{port:?} is not a port; expected a number from 1 to 65535")),
            Ok(port) => Ok(TcpAddress { host: host.to_owned(), port }),
        }
    }
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
    use super::{PipeName, TcpAddress};

    fn path(address: &str) -> String {
        address.parse::<PipeName>().expect(address).path().to_owned()
    }

    fn pipe_error(address: &str) -> String {
        address.parse::<PipeName>().expect_err(address)
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
    fn dockers_url_is_taken() {
        assert_eq!(path("npipe:////./pipe/docker_engine"), r"\\.\pipe\docker_engine");
    }

    #[test]
    fn what_is_no_pipe_is_refused_with_the_expected_form() {
        assert!(pipe_error("agent").contains("expected npipe:NAME"));
        assert!(pipe_error("tcp:localhost:1").contains("expected npipe:NAME"));
        assert!(pipe_error("npipe:").contains("empty"));
        assert!(pipe_error(r"npipe:\\.\pipe\").contains("empty"));
        assert!(pipe_error(r"npipe:\\.\mailslot\x").contains(r"\\.\mailslot\x is not the path of a pipe"));
        assert!(pipe_error(r"npipe:\\\pipe\x").contains("is not the path of a pipe"));
        assert!(pipe_error("npipe:a\0b").contains("NUL"));
    }

    #[test]
    fn the_length_limit_counts_the_prefix() {
        let longest = "x".repeat(256 - r"\\.\pipe\".len());
        assert_eq!(path(&format!("npipe:{longest}")).len(), 256);
        assert!(pipe_error(&format!("npipe:{longest}x")).contains("too long"));
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
}
