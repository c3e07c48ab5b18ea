//! What may stand at an end of a relay, and how it is written on the command line. Parsing only: nothing is opened
//! or looked up here, and it behaves alike on every system.

use std::fmt;
use std::str::FromStr;

use npipe::PipeName;

/// A named pipe, written `npipe:NAME`, where NAME is bare or a path with either slash.
pub(crate) fn pipe_name(address: &str) -> Result<PipeName, String> {
    let written =
        address.strip_prefix("npipe:").ok_or("expected npipe:NAME, for example npipe:openssh-ssh-agent")?;
    // The library knows Docker's way to write a path as a URL, whose scheme is ours.
    let written = if written.starts_with("////") { address } else { written };
    let name = PipeName::new(written).map_err(|error| error.to_string())?;
    if lost_backslashes(written) {
        return Err(format!(
            r"{written} has lost backslashes to a shell; write npipe:NAME, or quote npipe:'\\.\pipe\NAME'"
        ));
    }
    Ok(name)
}

/// Whether this was a path of a pipe until a shell read it: `\.\pipe\x` or `.pipex`, with or without a backslash first.
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
    use super::{TcpAddress, pipe_name};

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
            assert!(pipe_error(eaten).contains(r"quote npipe:'\\.\pipe\NAME'"), "{eaten}");
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
}
