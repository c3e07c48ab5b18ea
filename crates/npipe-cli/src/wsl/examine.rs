//! The requests with which the clients of a service begin, for `npipe wsl doctor`: it names the
//! cause that a client would meet. The requests to an ssh-agent are those of OpenSSH.

use std::fmt;
use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::LONGEST_ANSWER;
use super::service::Protocol;
use crate::agent;
use crate::patience::Patience;

/// A server as its clients see it.
#[derive(Debug)]
pub(super) enum Examined {
    /// It answers. The text is an agent's number of keys.
    Good(Option<String>),
    /// No connection was made.
    Unreachable(io::Error),
    /// It took the connection.
    Fault(Fault),
    /// An agent that answers, if no session-bind comes first.
    AtSessionBind(Fault),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Closed,
    Silent,
    OtherProtocol,
    Refused,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Closed => formatter.write_str("closed the connection"),
            Fault::Silent => write!(formatter, "did not answer for {} seconds", LONGEST_ANSWER.as_secs()),
            Fault::OtherProtocol => formatter.write_str("sent bytes of another protocol"),
            Fault::Refused => formatter.write_str("answered with a failure"),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        match error.kind() {
            io::ErrorKind::InvalidData => Fault::OtherProtocol,
            _ => Fault::Closed,
        }
    }
}

/// Examines a server. Identities are requested on a connection of their own before session-bind is
/// sent: a server that closes every connection has not failed at session-bind.
pub(super) async fn examine<S>(
    protocol: Protocol,
    connect: impl AsyncFn(Patience) -> io::Result<S>,
) -> Examined
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut server = match connect(Patience::WhileBusy(LONGEST_ANSWER)).await {
        Ok(server) => server,
        Err(error) => return Examined::Unreachable(error),
    };
    let first = match protocol {
        Protocol::SshAgent => within_limit(identities(&mut server)).await.map(|keys| Some(keys.to_string())),
        Protocol::GpgAgent => within_limit(greeting(&mut server)).await.map(|()| None),
        Protocol::Docker => within_limit(ping(&mut server)).await.map(|()| None),
    };
    drop(server);
    if let (Protocol::SshAgent, Ok(_)) = (protocol, &first) {
        // A server with one instance makes the next when the first client has left.
        let again = Patience::Poll { attempts: None, time: Some(LONGEST_ANSWER) };
        let mut server = match connect(again).await {
            Ok(server) => server,
            Err(error) => {
                let words = format!("it answered one connection, and took no other: {error}");
                return Examined::Unreachable(io::Error::new(error.kind(), words));
            }
        };
        let bound = async {
            agent::exchange(&mut server, &agent::session_bind()).await?;
            identities(&mut server).await
        };
        match within_limit(bound).await {
            // An agent may refuse its keys after a signature that is not the server's.
            Ok(_) | Err(Fault::Refused) => {}
            Err(fault) => return Examined::AtSessionBind(fault),
        }
    }
    first.map_or_else(Examined::Fault, Examined::Good)
}

async fn within_limit<T>(answer: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    timeout(LONGEST_ANSWER, answer).await.unwrap_or(Err(Fault::Silent))
}

async fn identities(agent: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<Keys, Fault> {
    const REQUEST_IDENTITIES: [u8; 5] = [0, 0, 0, 1, 11];
    const FAILURE: u8 = 5;
    const IDENTITIES_ANSWER: u8 = 12;
    match agent::exchange(agent, &REQUEST_IDENTITIES).await?[..] {
        [IDENTITIES_ANSWER, a, b, c, d, ..] => Ok(Keys(u32::from_be_bytes([a, b, c, d]))),
        [FAILURE] => Err(Fault::Refused),
        _ => Err(Fault::OtherProtocol),
    }
}

/// gpg-agent speaks first: `OK Pleased to meet you`.
async fn greeting(agent: &mut (impl AsyncRead + Unpin)) -> Result<(), Fault> {
    begins(agent, b"OK").await
}

async fn ping(docker: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<(), Fault> {
    docker.write_all(b"GET /_ping HTTP/1.0\r\n\r\n").await?;
    docker.flush().await?;
    begins(docker, b"HTTP/").await
}

async fn begins(server: &mut (impl AsyncRead + Unpin), expected: &[u8]) -> Result<(), Fault> {
    let mut beginning = vec![0; expected.len()];
    server.read_exact(&mut beginning).await?;
    if beginning == expected { Ok(()) } else { Err(Fault::OtherProtocol) }
}

struct Keys(u32);

impl fmt::Display for Keys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => formatter.write_str("no key: add one there with ssh-add"),
            1 => formatter.write_str("one key"),
            keys => write!(formatter, "{keys} keys"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io;

    use tokio::io::{AsyncWriteExt, duplex};

    use super::{Examined, Fault, examine};
    use crate::wsl::service::Protocol;

    const KEYS: &[u8] = &[0, 0, 0, 5, 12, 0, 0, 0, 2];
    const FAILURE: &[u8] = &[0, 0, 0, 1, 5];

    /// Examines a server that sends `replies` on one connection after the other, and closes each.
    /// It takes no more connections than that.
    async fn examined(protocol: Protocol, replies: &[&[u8]]) -> String {
        let next = Cell::new(0);
        let examined = examine(protocol, async |_| {
            let number = next.replace(next.get() + 1);
            let reply = replies.get(number).ok_or(io::ErrorKind::NotFound)?;
            let (ours, mut server) = duplex(4096);
            server.write_all(reply).await?;
            server.shutdown().await?;
            // What the client sends has to fit, and an agent that closes need not read it.
            Ok::<_, io::Error>(tokio::io::join(ours, tokio::io::sink()))
        });
        match examined.await {
            Examined::Good(detail) => format!("good {}", detail.unwrap_or_default()),
            Examined::Unreachable(error) => format!("unreachable: {error}"),
            Examined::Fault(fault) => format!("{fault:?}"),
            Examined::AtSessionBind(fault) => format!("{fault:?} at session-bind"),
        }
    }

    #[tokio::test]
    async fn an_agent_is_examined_as_openssh_asks_it() {
        let bound = |reply: &[u8]| [reply, KEYS].concat();
        for (replies, expected) in [
            (&[KEYS, &bound(FAILURE)][..], "good 2 keys"),
            (&[KEYS, &bound(&[0, 0, 0, 1, 6])], "good 2 keys"),
            (&[KEYS, &[FAILURE, FAILURE].concat()], "good 2 keys"),
            (&[KEYS, b""], "Closed at session-bind"),
            (&[KEYS, FAILURE], "Closed at session-bind"),
            (&[KEYS, b"HTTP/1.0 400"], "OtherProtocol at session-bind"),
            (&[b"", b""], "Closed"),
            (&[&KEYS[..7], b""], "Closed"),
            (&[FAILURE], "Refused"),
            (&[b"HTTP/1.0 400"], "OtherProtocol"),
            (&[&[0, 0, 0, 0]], "OtherProtocol"),
            (&[&[0, 0, 0, 1, 6]], "OtherProtocol"),
            (&[], "unreachable: entity not found"),
            (&[KEYS], "unreachable: it answered one connection, and took no other: entity not found"),
        ] {
            assert_eq!(examined(Protocol::SshAgent, replies).await, expected, "{replies:?}");
        }
    }

    #[tokio::test]
    async fn other_services_are_examined_in_their_protocols() {
        for (protocol, reply, expected) in [
            (Protocol::GpgAgent, &b"OK Pleased to meet you\n"[..], "good "),
            (Protocol::GpgAgent, b"HTTP/1.0 400", "OtherProtocol"),
            (Protocol::GpgAgent, b"", "Closed"),
            (Protocol::Docker, b"HTTP/1.0 200 OK\r\n", "good "),
            (Protocol::Docker, KEYS, "OtherProtocol"),
            (Protocol::Docker, b"", "Closed"),
        ] {
            assert_eq!(examined(protocol, &[reply]).await, expected, "{protocol:?} {reply:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_never_answers_is_silent() {
        for protocol in [Protocol::SshAgent, Protocol::GpgAgent, Protocol::Docker] {
            let servers = std::cell::RefCell::new(Vec::new());
            let examined = examine(protocol, async |_| {
                let (ours, server) = duplex(4096);
                servers.borrow_mut().push(server);
                Ok(ours)
            });
            assert!(matches!(examined.await, Examined::Fault(Fault::Silent)), "{protocol:?}");
        }
    }
}
