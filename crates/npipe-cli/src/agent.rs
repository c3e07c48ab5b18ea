//! The protocol of ssh-agents, as far as npipe has to know it: draft-miller-ssh-agent, and
//! OpenSSH's PROTOCOL.agent for `session-bind@openssh.com`. Since version 8.9 OpenSSH sends that
//! extension as the first request of a connection. Some agents close the connection there, and
//! `ssh` reports that they are unreachable. [`AgentStream`] answers the extension in their place.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
#[cfg(unix)]
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::bridge::protocol::RemoteError;
use crate::dial::Stream;
use crate::endpoint::{GpgSocket, Target, WellKnown};
use crate::report::Report;

const SSH_AGENTC_EXTENSION: u8 = 27;
const SESSION_BIND: &[u8] = b"session-bind@openssh.com";

/// The message `SSH_AGENT_FAILURE`: the agent does not have the extension. Success would claim that
/// the agent restricts the keys to the session.
const FAILURE: [u8; 5] = [0, 0, 0, 1, 5];

/// The length of a message, its type, and the name of an extension with its length.
const BIND_PREFIX: usize = 4 + 1 + 4 + SESSION_BIND.len();

/// Returns whether the server of `target` is an ssh-agent.
pub(crate) fn is_ssh_agent(target: &Target) -> bool {
    match target {
        Target::Pipe(name) => WellKnown::of(name) == Some(WellKnown::SshAgent),
        Target::Gpg(GpgSocket::Ssh) => true,
        Target::Windows(target) => is_ssh_agent(target),
        _ => false,
    }
}

/// The state of answering session-bind here, for all connections to one agent.
#[derive(Clone)]
pub(crate) struct Compatibility {
    /// Since the flag was given, or since the agent closed a connection at session-bind.
    answers: Arc<AtomicBool>,
    report: Report,
}

impl Compatibility {
    pub(crate) fn new(answers: bool, report: Report) -> Compatibility {
        Compatibility { answers: Arc::new(AtomicBool::new(answers)), report }
    }

    fn agent_closed_at_session_bind(&self) {
        if !self.answers.swap(true, Ordering::Relaxed) {
            self.report.warning(format_args!(
                "the agent closed the connection at session-bind@openssh.com, which OpenSSH 8.9 and later \
                 send first; npipe answers it for the next clients, and with --agent-compat from the start"
            ));
        }
    }
}

/// The requests that the client sends, message by message.
enum Requests {
    /// The beginning of a message, until it shows whether that is session-bind.
    Beginning(Vec<u8>),
    /// The bytes that are left of a message that the agent gets, or does not.
    Passing {
        left: usize,
    },
    Discarding {
        left: usize,
    },
    /// Not the agent's protocol: bytes pass as they are.
    Raw,
}

/// A reply that the client expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    OfAgent { to_session_bind: bool },
    Failure,
}

/// A connection to an agent, which is not asked for session-bind if it cannot answer.
pub(crate) struct AgentStream<S> {
    stream: S,
    compatibility: Compatibility,
    requests: Requests,
    /// Bytes of requests that the agent has not taken yet.
    unsent: Vec<u8>,
    due: VecDeque<Reply>,
    /// Of the agent's current reply: the bytes of its length, then how many are left.
    header: Vec<u8>,
    left: usize,
    /// The rest of a failure that the client reads.
    failure: &'static [u8],
    reader: Option<Waker>,
}

impl<S> AgentStream<S> {
    pub(crate) fn new(stream: S, compatibility: Compatibility) -> AgentStream<S> {
        AgentStream {
            stream,
            compatibility,
            requests: Requests::Beginning(Vec::new()),
            unsent: Vec::new(),
            due: VecDeque::new(),
            header: Vec::new(),
            left: 0,
            failure: &[],
            reader: None,
        }
    }

    /// Queues the bytes of the client that are for the agent. What came in one write goes on in
    /// one, since a pipe may be one of messages.
    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = match &mut self.requests {
                Requests::Beginning(begun) => {
                    let taken = bytes.len().min(begun_length(begun) - begun.len());
                    begun.extend_from_slice(&bytes[..taken]);
                    if begun.len() == begun_length(begun) {
                        let begun = std::mem::take(begun);
                        self.begin(begun);
                    }
                    taken
                }
                Requests::Passing { left } => {
                    let taken = bytes.len().min(*left);
                    self.unsent.extend_from_slice(&bytes[..taken]);
                    *left -= taken;
                    taken
                }
                Requests::Discarding { left } => {
                    let taken = bytes.len().min(*left);
                    *left -= taken;
                    taken
                }
                Requests::Raw => {
                    self.unsent.extend_from_slice(bytes);
                    bytes.len()
                }
            };
            bytes = &bytes[taken..];
            if let Requests::Passing { left: 0 } | Requests::Discarding { left: 0 } = self.requests {
                self.requests = Requests::Beginning(Vec::new());
            }
        }
    }

    fn begin(&mut self, begun: Vec<u8>) {
        /// As OpenSSH has it: AGENT_MAX_LEN.
        const LONGEST_MESSAGE: usize = 256 * 1024;

        let length = length_of(&begun);
        if length == 0 || length > LONGEST_MESSAGE {
            self.requests = Requests::Raw;
            self.unsent.extend(begun);
            return;
        }
        let left = length + 4 - begun.len();
        let to_session_bind = is_session_bind(&begun);
        if to_session_bind && self.compatibility.answers.load(Ordering::Relaxed) {
            self.due.push_back(Reply::Failure);
            self.requests = Requests::Discarding { left };
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        } else {
            self.due.push_back(Reply::OfAgent { to_session_bind });
            self.requests = Requests::Passing { left };
            self.unsent.extend(begun);
        }
    }

    /// The number of bytes of the agent that may be read at once: no more than its current reply
    /// has.
    fn readable(&self) -> usize {
        match self.left {
            0 => 4 - self.header.len(),
            left => left,
        }
    }

    fn on_reply_bytes(&mut self, bytes: &[u8]) {
        if self.left == 0 {
            self.header.extend_from_slice(bytes);
            if self.header.len() == 4 {
                self.left = length_of(&self.header);
                self.header.clear();
                if self.left == 0 {
                    self.due.pop_front();
                }
            }
        } else {
            self.left -= bytes.len();
            if self.left == 0 {
                self.due.pop_front();
            }
        }
    }

    fn is_between_replies(&self) -> bool {
        self.left == 0 && self.header.is_empty()
    }

    fn on_end(&self) {
        if self.is_between_replies() && self.due.front() == Some(&Reply::OfAgent { to_session_bind: true }) {
            self.compatibility.agent_closed_at_session_bind();
        }
    }
}

fn length_of(begun: &[u8]) -> usize {
    match begun {
        [a, b, c, d, ..] => u32::from_be_bytes([*a, *b, *c, *d]) as usize,
        _ => 0,
    }
}

/// The number of bytes that identify a message.
fn begun_length(begun: &[u8]) -> usize {
    match (begun.len(), begun.get(4)) {
        (..4, _) => 4,
        // Nothing with such a length is looked at any further.
        (4, _) if !(1..=256 * 1024).contains(&length_of(begun)) => 4,
        (4, _) => 5,
        (_, Some(&SSH_AGENTC_EXTENSION)) => BIND_PREFIX.min(4 + length_of(begun)),
        _ => 5,
    }
}

fn is_session_bind(begun: &[u8]) -> bool {
    let name =
        begun.strip_prefix(&begun[..4]).and_then(|message| message.strip_prefix(&[SSH_AGENTC_EXTENSION]));
    let length = (SESSION_BIND.len() as u32).to_be_bytes();
    name.and_then(|name| name.strip_prefix(&length)) == Some(SESSION_BIND)
}

impl<S: AsyncWrite + Unpin> AgentStream<S> {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.unsent))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.drain(..sent);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Stream> Stream for AgentStream<S> {
    fn gives_bytes(&self) -> bool {
        self.stream.gives_bytes()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for AgentStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.failure.is_empty() && this.is_between_replies() && this.due.front() == Some(&Reply::Failure) {
            this.due.pop_front();
            this.failure = &FAILURE;
        }
        if !this.failure.is_empty() {
            let (now, later) = this.failure.split_at(this.failure.len().min(buffer.remaining()));
            buffer.put_slice(now);
            this.failure = later;
            return Poll::Ready(Ok(()));
        }
        if let Requests::Raw = this.requests {
            return Pin::new(&mut this.stream).poll_read(cx, buffer);
        }
        let most = this.readable().min(buffer.remaining());
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
        match Pin::new(&mut this.stream).poll_read(cx, &mut part) {
            Poll::Pending => {
                this.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(Ok(())) if most > 0 && part.filled().is_empty() => this.on_end(),
            Poll::Ready(Ok(())) => this.on_reply_bytes(part.filled()),
            Poll::Ready(Err(error)) => {
                // A bridge that breaks off says nothing about the agent.
                if error.get_ref().is_some_and(|error| error.is::<RemoteError>()) {
                    this.on_end();
                }
                return Poll::Ready(Err(error));
            }
        }
        let read = part.filled().len();
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AgentStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(this.poll_send(cx))?;
        this.take(bytes);
        // The rest is sent with the next write or flush.
        match this.poll_send(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(bytes.len())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The client ended inside of a message: the agent is to judge that.
        if let Requests::Beginning(begun) = &mut self.requests {
            let begun = std::mem::take(begun);
            self.unsent.extend(begun);
        }
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Sends a request, and returns the reply without its length. An error of the kind `InvalidData` is
/// another protocol's.
#[cfg(unix)]
pub(crate) async fn exchange(
    agent: &mut (impl AsyncRead + AsyncWrite + Unpin),
    request: &[u8],
) -> io::Result<Vec<u8>> {
    agent.write_all(request).await?;
    agent.flush().await?;
    let length = agent.read_u32().await?;
    if !(1..=256 * 1024).contains(&length) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut reply = vec![0; length as usize];
    agent.read_exact(&mut reply).await?;
    Ok(reply)
}

/// As OpenSSH sends it, with a key and a signature that no server has: an agent refuses them.
#[cfg(unix)]
pub(crate) fn session_bind() -> Vec<u8> {
    let string = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes(), bytes].concat();
    let host_key = [string(b"ssh-ed25519"), string(&[0; 32])].concat();
    let signature = [string(b"ssh-ed25519"), string(&[0; 64])].concat();
    let message = [
        vec![SSH_AGENTC_EXTENSION],
        string(SESSION_BIND),
        string(&host_key),
        string(&[0; 32]),
        string(&signature),
        vec![0],
    ];
    string(&message.concat())
}

#[cfg(all(test, unix))]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex, split};
    use tokio::time::timeout;

    use super::{AgentStream, Compatibility, FAILURE, is_ssh_agent, session_bind};
    use crate::report::Report;

    const LIST: [u8; 5] = [0, 0, 0, 1, 11];
    const KEYS: [u8; 9] = [0, 0, 0, 5, 12, 0, 0, 0, 2];

    fn joined(answers: bool) -> (AgentStream<DuplexStream>, DuplexStream, Compatibility) {
        let compatibility = Compatibility::new(answers, Report::new(0));
        let (ours, agent) = duplex(1024 * 1024);
        (AgentStream::new(ours, compatibility.clone()), agent, compatibility)
    }

    /// What would wait for ever fails at once, since the clock is paused.
    async fn within_limit<T>(step: impl Future<Output = io::Result<T>>) -> T {
        timeout(Duration::from_secs(60), step).await.expect("it does not wait for ever").unwrap()
    }

    /// In pieces of `piece` bytes.
    async fn write_in_pieces(stream: &mut AgentStream<DuplexStream>, bytes: &[u8], piece: usize) {
        for bytes in bytes.chunks(piece) {
            stream.write_all(bytes).await.unwrap();
        }
        stream.flush().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn session_bind_is_answered_with_failure_in_its_place_among_the_replies() {
        for piece in [1, 2, 4, 5, 7, 33, 34, 1000] {
            let (mut stream, mut agent, _) = joined(true);
            let requests = [&LIST[..], &session_bind(), &LIST, &session_bind(), &session_bind()].concat();
            write_in_pieces(&mut stream, &requests, piece).await;
            let mut requests = [0; 10];
            within_limit(agent.read_exact(&mut requests)).await;
            assert_eq!(requests, [LIST, LIST].concat()[..], "{piece}");
            agent.write_all(&[KEYS, KEYS].concat()).await.unwrap();
            let expected = [&KEYS[..], &FAILURE, &KEYS, &FAILURE, &FAILURE].concat();
            let mut replies = vec![0; expected.len()];
            within_limit(stream.read_exact(&mut replies)).await;
            assert_eq!(replies, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_came_in_one_write_goes_on_in_one() {
        let request = session_bind();
        let agent = tokio_test::io::Builder::new().write(&request).write(&LIST).build();
        let compatibility = Compatibility::new(false, Report::new(0));
        let mut stream = AgentStream::new(OneWrite(agent, request.len()), compatibility);
        assert_eq!(stream.write(&request).await.unwrap(), request.len());
        stream.stream.1 = LIST.len();
        assert_eq!(stream.write(&LIST).await.unwrap(), LIST.len());
    }

    /// Asserts the length of each write.
    struct OneWrite(tokio_test::io::Mock, usize);

    impl AsyncWrite for OneWrite {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            assert_eq!(bytes.len(), self.1);
            Pin::new(&mut self.0).poll_write(cx, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_waits_is_woken_for_the_failure() {
        let (stream, _agent, _) = joined(true);
        let (mut reader, mut writer) = split(stream);
        let reading = tokio::spawn(async move {
            let mut reply = [0; 5];
            within_limit(reader.read_exact(&mut reply)).await;
            reply
        });
        tokio::task::yield_now().await;
        writer.write_all(&session_bind()).await.unwrap();
        assert_eq!(reading.await.unwrap(), FAILURE);
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_closes_at_session_bind_is_asked_no_more() {
        let (mut stream, mut agent, compatibility) = joined(false);
        write_in_pieces(&mut stream, &session_bind(), 1000).await;
        let mut asked = vec![0; session_bind().len()];
        within_limit(agent.read_exact(&mut asked)).await;
        assert_eq!(asked, session_bind());
        drop(agent);
        assert_eq!(stream.read(&mut [0; 9]).await.unwrap(), 0);

        let (ours, _agent) = duplex(1024);
        let mut next = AgentStream::new(ours, compatibility);
        write_in_pieces(&mut next, &session_bind(), 1000).await;
        let mut reply = [0; 5];
        within_limit(next.read_exact(&mut reply)).await;
        assert_eq!(reply, FAILURE);
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_answers_session_bind_and_closes_is_asked_again() {
        let (mut stream, mut agent, compatibility) = joined(false);
        write_in_pieces(&mut stream, &[&session_bind()[..], &LIST].concat(), 1000).await;
        agent.write_all(&FAILURE).await.unwrap();
        drop(agent);
        let mut reply = Vec::new();
        within_limit(stream.read_to_end(&mut reply)).await;
        assert_eq!(reply, FAILURE);
        assert!(!compatibility.answers.load(std::sync::atomic::Ordering::Relaxed));
    }

    #[tokio::test(start_paused = true)]
    async fn all_else_passes_unchanged() {
        let long = [&[0, 0, 0x10, 0, 27, 0, 0, 0, 24][..], &[b'x'; 4096 - 5]].concat();
        for (answers, requests) in [
            (true, b"GET / HTTP/1.0\r\n\r\n".to_vec()),
            (true, [&LIST[..], &long, &LIST].concat()),
            (false, [&session_bind()[..], &LIST].concat()),
            (true, vec![0, 0, 0, 0, 1, 2]),
            (true, LIST[..3].to_vec()),
            (true, session_bind()[..20].to_vec()),
        ] {
            for piece in [1, 3, 10_000] {
                let (mut stream, mut agent, _) = joined(answers);
                write_in_pieces(&mut stream, &requests, piece).await;
                stream.shutdown().await.unwrap();
                let mut passed = Vec::new();
                within_limit(agent.read_to_end(&mut passed)).await;
                assert_eq!(passed, requests);
            }
        }
        let (mut stream, mut agent, _) = joined(true);
        agent.write_all(b"a greeting that comes before all requests").await.unwrap();
        drop(agent);
        let mut read = Vec::new();
        within_limit(stream.read_to_end(&mut read)).await;
        assert_eq!(read, b"a greeting that comes before all requests");
    }

    #[test]
    fn agents_are_known_by_their_targets() {
        for (target, is_agent) in [
            ("ssh-agent", true),
            ("npipe:openssh-ssh-agent", true),
            ("gpg-agent-ssh", true),
            ("windows:ssh-agent", true),
            ("gpg-agent", false),
            ("docker", false),
            ("unix:/x", false),
        ] {
            assert_eq!(is_ssh_agent(&target.parse().unwrap()), is_agent, "{target}");
        }
    }
}
