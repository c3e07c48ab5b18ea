//! Makes a connection to a target, once for each client. What this system cannot connect to at all
//! is said when the dialer is made, before anybody listens.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, Join};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::agent::{AgentStream, Compatibility};
use crate::assuan;
#[cfg(unix)]
use crate::bridge::client::{Bridge, Opening};
#[cfg(unix)]
use crate::bridge::protocol::{EndOfInput, OpenRequest, RemoteError};
use crate::endings::{Direction, Directions, Kind};
use crate::endpoint::{Target, TcpAddress};
use crate::exec::Process;
use crate::exit::{Exit, Failure};
use crate::output::printable;
use crate::patience::{Obstacle, Patience};
use crate::report::Report;
#[cfg(windows)]
use crate::verdict::obstacle_of;

/// How long a target may take to answer. Systems wait two minutes for a machine that is not there,
/// and the client does not know what for.
const LONGEST_CONNECT: Duration = Duration::from_secs(30);

/// Any two-way stream of bytes. A relay keeps the boundaries of messages where both sides have
/// them.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    /// Returns whether each write arrives as one message.
    fn sends_messages(&self) -> bool {
        false
    }

    /// Returns whether bytes can come from it, and not its end alone.
    fn gives_bytes(&self) -> bool {
        true
    }

    /// Returns whether the end that was read is that of both directions, where it can be of one.
    fn is_at_its_end(&self) -> bool {
        false
    }

    /// Appends the rest of the message whose beginning the last read returned, if it was not all of
    /// it.
    fn poll_rest_of_message(
        &mut self,
        _cx: &mut Context<'_>,
        _message: &mut BytesMut,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl<S: Stream + ?Sized> Stream for Box<S> {
    fn sends_messages(&self) -> bool {
        (**self).sends_messages()
    }

    fn gives_bytes(&self) -> bool {
        (**self).gives_bytes()
    }

    fn is_at_its_end(&self) -> bool {
        (**self).is_at_its_end()
    }

    fn poll_rest_of_message(&mut self, cx: &mut Context<'_>, message: &mut BytesMut) -> Poll<io::Result<()>> {
        (**self).poll_rest_of_message(cx, message)
    }
}

impl<R: AsyncRead + Send + Unpin, W: AsyncWrite + Send + Unpin> Stream for Join<R, W> {}
impl Stream for TcpStream {}
#[cfg(unix)]
impl Stream for tokio::net::UnixStream {}
#[cfg(test)]
impl Stream for tokio::io::DuplexStream {}
#[cfg(test)]
impl Stream for tokio_test::io::Mock {}

pub(crate) struct Connection {
    pub(crate) stream: Box<dyn Stream>,
    pub(crate) kind: Kind,
    pub(crate) directions: Directions,
}

impl Connection {
    pub(crate) fn new(stream: impl Stream + 'static, kind: Kind) -> Connection {
        Connection { stream: Box::new(stream), kind, directions: Directions::Both }
    }
}

pub(crate) struct Dialer {
    target: Target,
    patience: Patience,
    /// Whether a target that does not run is to be started.
    launch: bool,
    report: Report,
    /// For the target's answers to OpenSSH, if it is an ssh-agent.
    agent: Option<Compatibility>,
    /// The only direction for which to open a pipe; by default those that it has.
    only: Option<Direction>,
    /// The way to what is on the Windows side.
    #[cfg(unix)]
    bridge: Bridge,
}

impl Dialer {
    /// A dialer to `target`. On Linux, what is on the Windows side is reached as `bridge` says.
    pub(crate) fn new(
        target: Target,
        patience: Patience,
        launch: bool,
        report: Report,
        #[cfg(unix)] bridge: Bridge,
    ) -> Result<Dialer, Failure> {
        #[cfg(unix)]
        if let Some((address, _)) = on_windows_side(&target) {
            OpenRequest::check_target(&address).map_err(|reason| {
                Failure::new(Exit::Usage, format!("cannot connect to the target: {reason}"))
            })?;
        }
        match &target {
            #[cfg(not(unix))]
            Target::Windows(target) => Err(Failure::new(
                Exit::Usage,
                format!("this is the Windows side already: write {target} without windows:"),
            )),
            #[cfg(not(unix))]
            Target::Unix(_) => Err(Failure::new(
                Exit::Unsupported,
                format!(
                    "cannot connect to {target}: npipe has no Unix sockets on this system; use npipe: or tcp:"
                ),
            )),
            #[cfg(windows)]
            Target::Gpg(socket) => match assuan::find::socket_file(*socket) {
                Some(file) => {
                    let target = Target::Assuan(file);
                    Ok(Dialer { target, patience, launch, report, agent: None, only: None })
                }
                None => Err(Failure::new(
                    Exit::NotFound,
                    format!("cannot find the socket file of {target}; name it with assuan:FILE"),
                )),
            },
            _ => Ok(Dialer {
                target,
                patience,
                launch,
                report,
                agent: None,
                only: None,
                #[cfg(unix)]
                bridge,
            }),
        }
    }

    /// The target is an ssh-agent: its connections are each an [`AgentStream`].
    pub(crate) fn with_agent(self, compatibility: Compatibility) -> Dialer {
        Dialer { agent: Some(compatibility), ..self }
    }

    /// Opens the target pipe for that direction only, if there is one.
    pub(crate) fn one_way(self, only: Option<Direction>) -> Dialer {
        Dialer { only, ..self }
    }

    /// Waits until the bridge has delivered what its connections were given. They have been dropped.
    #[cfg(unix)]
    pub(crate) async fn close(self) {
        self.bridge.close().await;
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    pub(crate) async fn dial(&self) -> Result<Connection, Failure> {
        let connection = self.dial_unchanged().await?;
        Ok(match &self.agent {
            Some(agent) => Connection {
                stream: Box::new(AgentStream::new(connection.stream, agent.clone())),
                ..connection
            },
            None => connection,
        })
    }

    async fn dial_unchanged(&self) -> Result<Connection, Failure> {
        #[cfg(unix)]
        if let Some((address, kind)) = on_windows_side(&self.target) {
            return self.cross(&address, kind).await;
        }
        #[cfg(windows)]
        if let Target::Pipe(name) = &self.target {
            return self.open(name).await;
        }
        let attempt = async || {
            timeout(LONGEST_CONNECT, self.connect()).await.unwrap_or_else(|_| {
                let seconds = LONGEST_CONNECT.as_secs();
                Err(Failure::new(
                    Exit::NotFound,
                    format!("cannot connect to {}: no answer within {seconds} s", self.target),
                ))
            })
        };
        let obstacle = |failure: &Failure| match failure.exit {
            Exit::NotFound => Obstacle::Missing,
            _ => Obstacle::Other,
        };
        let connection = self.patience.try_on(&self.target, self.report, attempt, obstacle).await;
        connection.map_err(|gave_up| gave_up.error)
    }

    #[cfg(windows)]
    async fn open(&self, name: &npipe::PipeName) -> Result<Connection, Failure> {
        let opened = pipe::open_for_data(name, self.only, self.patience, self.launch, self.report).await;
        let connection = match opened {
            Ok(opened) => opened.half_closing(),
            Err(gave_up) => Err(gave_up.error),
        };
        match connection {
            Ok(connection) => Ok(connection),
            Err(error) if obstacle_of(&error) == Obstacle::Busy => {
                Err(Failure::new(Exit::Busy, format!("every instance of {name} stayed busy")))
            }
            Err(error) => Err(Failure::new(exit_for(&error), format!("cannot open {name}: {error}"))),
        }
    }

    async fn connect(&self) -> Result<Connection, Failure> {
        match &self.target {
            Target::Tcp(address) => match tcp(address).await {
                Ok(stream) => Ok(Connection::new(stream, Kind::Socket)),
                Err(error) => Err(self.failure(&error)),
            },
            #[cfg(unix)]
            Target::Unix(path) => match unix(path).await {
                Ok(stream) => Ok(Connection::new(stream, Kind::Socket)),
                Err(error) => Err(self.failure(&error)),
            },
            Target::Exec(line) => match Process::start(line) {
                Ok(process) => Ok(Connection::new(process, Kind::Process)),
                Err(error) => {
                    Err(Failure::new(exit_for(&error), format!("cannot run '{}': {error}", printable(line))))
                }
            },
            Target::Assuan(file) => {
                assuan::connect(file, self.launch).await.map(|stream| Connection::new(stream, Kind::Socket))
            }
            _ => unreachable!("refused or replaced by Dialer::new, or no matter of connect"),
        }
    }

    /// Without a limit of time of its own: the bridge has one for its start, and the Windows side
    /// for the target.
    #[cfg(unix)]
    async fn cross(&self, address: &str, kind: Kind) -> Result<Connection, Failure> {
        let opening = Opening {
            target: address,
            patience: self.patience,
            launch: self.launch,
            end_of_input: EndOfInput { sends_message: true, ends_session: false },
            end_at_empty_message: false,
            half_close: true,
            only: self.only,
        };
        match self.bridge.open(opening).await {
            Ok(stream) => {
                let directions = stream.directions();
                Ok(Connection { directions, ..Connection::new(stream, kind) })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && kind == Kind::Messages => {
                Err(Failure::new(
                    Exit::NotFound,
                    format!(
                        "no program on the Windows side serves {}; is the server running? ({error})",
                        self.target
                    ),
                ))
            }
            // The other half's dialer has said it all.
            Err(error)
                if kind != Kind::Messages
                    && error.get_ref().is_some_and(|error| error.is::<RemoteError>()) =>
            {
                Err(Failure::new(exit_for(&error), format!("on the Windows side: {error}")))
            }
            Err(error) => Err(self.failure(&error)),
        }
    }

    fn failure(&self, error: &io::Error) -> Failure {
        Failure::new(exit_for(error), format!("cannot connect to {}: {error}", self.target))
    }
}

/// How the Windows side is told of `target`, if it is there, and what it is.
#[cfg(unix)]
pub(crate) fn on_windows_side(target: &Target) -> Option<(String, Kind)> {
    match target {
        Target::Windows(target) => {
            let kind = if let Target::Exec(_) = **target { Kind::Process } else { Kind::Socket };
            on_windows_side(target).or_else(|| Some((target.to_string(), kind)))
        }
        // A pipe of bytes ends both directions, one by one.
        Target::Pipe(name) => Some((format!("npipe:{name}"), Kind::Messages)),
        Target::Gpg(_) => Some((target.to_string(), Kind::Socket)),
        Target::Assuan(file) if is_windows_path(file) => Some((target.to_string(), Kind::Socket)),
        Target::Tcp(_) | Target::Unix(_) | Target::Stdio | Target::Exec(_) | Target::Assuan(_) => None,
    }
}

/// `C:\Users\me` or `C:/Users/me`. A Linux path that begins so is written `./C:`.
#[cfg(unix)]
fn is_windows_path(path: &std::path::Path) -> bool {
    matches!(path.as_os_str().as_encoded_bytes(), [drive, b':', b'\\' | b'/', ..] if drive.is_ascii_alphabetic())
}

fn exit_for(error: &io::Error) -> Exit {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Exit::NotFound,
        io::ErrorKind::PermissionDenied => Exit::AccessDenied,
        _ => Exit::Failure,
    }
}

/// Waits for room among the clients that wait, as a blocking connect does.
#[cfg(unix)]
async fn unix(path: &std::path::Path) -> io::Result<tokio::net::UnixStream> {
    const PAUSE: Duration = Duration::from_millis(10);
    loop {
        match tokio::net::UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(PAUSE).await,
            connected => return connected,
        }
    }
}

async fn tcp(address: &TcpAddress) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
    // Pipes send at once what they are given; requests of a few bytes would otherwise wait for an
    // acknowledgement.
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(windows)]
pub(crate) mod pipe {
    //! Opening a pipe for a client of ours, and the ends of the directions of either end of a pipe.

    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll, ready};
    use std::time::Duration;

    use bytes::BytesMut;
    use npipe::{
        ClientOptions, NamedPipeClient, NamedPipeServer, OwnedReadHalf, OwnedWriteHalf, Pipe, PipeMode,
        PipeName,
    };
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::{Connection, Stream};
    use crate::endings::{Direction, Directions, Kind};
    use crate::endpoint::WellKnown;
    use crate::launch;
    use crate::listener::{Client, Presence};
    use crate::patience::{GaveUp, Obstacle, Patience, Waited};
    use crate::report::Report;
    use crate::verdict::obstacle_of;

    /// Opens a pipe with `options`, which may ask for no data at all.
    pub(crate) async fn open(
        name: &PipeName,
        options: &ClientOptions,
        patience: Patience,
        report: Report,
    ) -> Result<NamedPipeClient, GaveUp<io::Error>> {
        patience.try_on(name, report, async || options.open(name), obstacle_of).await
    }

    /// A pipe with the directions that it has.
    pub(crate) struct Opened {
        pub(crate) pipe: NamedPipeClient,
        pub(crate) directions: Directions,
    }

    impl Opened {
        /// By the convention of [`HalfClose`], where the pipe is read.
        pub(crate) fn half_closing(self) -> io::Result<Connection> {
            let Opened { pipe, directions } = self;
            if !directions.has(Direction::Replies) {
                return Ok(Connection { stream: Box::new(pipe), kind: Kind::Pipe, directions });
            }
            let pipe = HalfClose::new(pipe)?;
            let kind = pipe.kind();
            Ok(Connection { directions, ..Connection::new(pipe, kind) })
        }

        /// For stdin and stdout. An empty message ends the session if `end_at_empty_message`, and
        /// the replies alone if `half_close`. `sends_message`: one is sent at the end of stdin.
        pub(crate) fn for_stdio(
            self,
            end_at_empty_message: bool,
            half_close: bool,
            sends_message: bool,
        ) -> io::Result<Connection> {
            if half_close && sends_message {
                return self.half_closing();
            }
            let ends_replies = half_close
                && self.directions.has(Direction::Replies)
                && PipeEnd::carries_messages(&self.pipe);
            self.set_empty_message_is_end(end_at_empty_message || ends_replies)?;
            let Opened { pipe, directions } = self;
            let stream: Box<dyn Stream> = match (ends_replies, sends_message) {
                (true, _) => Box::new(HalfClose::of_reads(pipe)),
                (false, true) => Box::new(HalfClose::of_writes(pipe)),
                (false, false) => Box::new(pipe),
            };
            let kind = if ends_replies { Kind::Messages } else { Kind::Pipe };
            Ok(Connection { stream, kind, directions })
        }

        /// Whether an empty message ends what is read.
        pub(crate) fn set_empty_message_is_end(&self, is_end: bool) -> io::Result<()> {
            if !self.directions.has(Direction::Replies) {
                return Ok(());
            }
            PipeEnd::set_empty_message_is_end(&self.pipe, is_end)
        }
    }

    fn attempt_for(name: &PipeName, directions: Directions) -> io::Result<Opened> {
        let mut options = ClientOptions::new();
        options.read(directions.has(Direction::Replies)).write(directions.has(Direction::Requests));
        // To read messages takes the right to change the mode, which writing includes. The access list
        // may allow reading alone.
        let opened = match options.write_attributes(true).open(name) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                options.write_attributes(false).open(name)
            }
            opened => opened,
        };
        opened.map(|pipe| Opened { pipe, directions })
    }

    /// Opens a pipe for the direction `only`, or for what it carries: both, or the one that it has.
    /// A server that sends only, or receives only, denies access to all else.
    fn attempt(name: &PipeName, only: Option<Direction>) -> io::Result<Opened> {
        if let Some(only) = only {
            return attempt_for(name, Directions::Only(only));
        }
        let one_way = [Direction::Replies, Direction::Requests].map(Directions::Only);
        let mut opened = attempt_for(name, Directions::Both);
        for directions in one_way {
            match &opened {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                Ok(_) | Err(_) => break,
            }
            opened = attempt_for(name, directions);
        }
        opened
    }

    fn is_of_this_machine(name: &PipeName) -> bool {
        name.as_os_str().as_encoded_bytes().starts_with(br"\\.\")
    }

    /// Opens first and asks later: WaitNamedPipe blocks, cannot be cancelled, and promises nothing,
    /// since another client may take the instance it saw. `launch`: if nobody serves the pipe,
    /// and who should is known.
    pub(crate) async fn open_for_data(
        name: &PipeName,
        only: Option<Direction>,
        patience: Patience,
        launch: bool,
        report: Report,
    ) -> Result<Opened, GaveUp<io::Error>> {
        let attempt = async || {
            if is_of_this_machine(name) {
                return attempt(name, only);
            }
            // The network may take longer than a bridge that does not answer pings is given.
            let name = name.clone();
            tokio::task::spawn_blocking(move || attempt(&name, only)).await.map_err(io::Error::other)?
        };
        if let Some(server) = WellKnown::of(name).filter(|_| launch) {
            match attempt().await {
                Err(error) if obstacle_of(&error) == Obstacle::Missing => {
                    report.detail(format_args!("nobody serves {name}, starting who should"));
                    if let Err(error) = launch::start(server).await {
                        let waited = Waited { attempts: 1, time: Duration::ZERO };
                        return Err(GaveUp { error, waited });
                    }
                    return launch::AFTER_START.try_on(name, report, attempt, obstacle_of).await;
                }
                Ok(opened) => return Ok(opened),
                Err(_) => {}
            }
        }
        patience.try_on(name, report, attempt, obstacle_of).await
    }

    /// How long a server may take to read what was said before it is told that this was all. One
    /// that reads bytes, as go-winio's do, would miss an empty message behind others.
    const PATIENCE: Duration = Duration::from_secs(5);

    /// The longest message that crosses from pipe to pipe.
    const LARGEST_MESSAGE: usize = 64 * 1024 * 1024;

    /// Either end of a pipe.
    pub(crate) trait PipeEnd: Send + Sync + Sized + 'static {
        type Reader: AsyncRead + AsRef<Self> + Send + Unpin;
        type Writer: AsyncWrite + AsRef<Self> + Send + Unpin;

        fn carries_messages(&self) -> bool;
        /// Without the right to read messages, an empty one is passed over.
        fn set_empty_message_is_end(&self, is_end: bool) -> io::Result<()>;
        /// Whether the peer has closed its end, and all it sent has been read.
        fn is_closed(&self) -> bool;
        fn is_message_complete(&self) -> bool;
        /// Appends the rest of a message, if that has at most `limit` bytes.
        fn recv_rest(
            &self,
            message: &mut BytesMut,
            limit: usize,
        ) -> impl Future<Output = io::Result<()>> + Send;
        fn close_write(&self) -> impl Future<Output = io::Result<()>> + Send;
        fn into_split(self) -> (Self::Reader, Self::Writer);
    }

    impl<E: npipe::End> PipeEnd for Pipe<E> {
        type Reader = OwnedReadHalf<Self>;
        type Writer = OwnedWriteHalf<Self>;

        fn carries_messages(&self) -> bool {
            self.info().is_ok_and(|info| info.mode == PipeMode::Message)
        }

        fn set_empty_message_is_end(&self, is_end: bool) -> io::Result<()> {
            match Pipe::set_empty_message_is_end(self, is_end) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
                set => set,
            }
        }

        fn is_closed(&self) -> bool {
            self.peek().is_err()
        }

        fn is_message_complete(&self) -> bool {
            Pipe::is_message_complete(self)
        }

        async fn recv_rest(&self, message: &mut BytesMut, limit: usize) -> io::Result<()> {
            match self.recv_message_limited(message, limit).await? {
                Some(_) => Ok(()),
                None => Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }

        fn close_write(&self) -> impl Future<Output = io::Result<()>> + Send {
            Pipe::close_write(self, PATIENCE)
        }

        fn into_split(self) -> (Self::Reader, Self::Writer) {
            Pipe::into_split(self)
        }
    }

    /// As it is opened, it reads bytes.
    impl Stream for NamedPipeClient {
        fn sends_messages(&self) -> bool {
            self.carries_messages()
        }
    }

    /// A pipe whose directions end one by one, if it carries messages: by an empty one, as Docker's
    /// clients do it. The end of the connection would take the reply with it.
    pub(crate) struct HalfClose<P: PipeEnd> {
        /// `None` while the rest of a message is being received.
        reader: Option<P::Reader>,
        input: Input<P>,
        /// `None` while the peer is being told.
        writer: Option<P::Writer>,
        end: End<P>,
    }

    type Receiving<P> = Pin<Box<dyn Future<Output = (<P as PipeEnd>::Reader, io::Result<BytesMut>)> + Send>>;

    enum Input<P: PipeEnd> {
        /// The pipe's end is the only one.
        OfBoth,
        /// An empty message is an end too.
        OfOne,
        /// As [`Input::OfOne`], and the rest of a message is being received.
        Receiving(Receiving<P>),
        /// That end has been read. What comes behind it is dropped, until the pipe ends. `of_both`:
        /// it was the pipe's.
        Ended { of_both: bool },
    }

    enum End<P: PipeEnd> {
        Due,
        /// The peer, which receives messages, is not told.
        NotTold,
        /// The peer is being told.
        Telling(Pin<Box<dyn Future<Output = P::Writer> + Send>>),
        /// It has been told, or cannot be.
        Settled,
    }

    impl<P: PipeEnd> HalfClose<P> {
        /// Ends both directions by empty messages.
        pub(crate) fn new(pipe: P) -> io::Result<HalfClose<P>> {
            pipe.set_empty_message_is_end(true)?;
            let mut pipe = HalfClose::of_writes(pipe);
            if let End::Due = pipe.end {
                pipe.input = Input::OfOne;
            }
            Ok(pipe)
        }

        /// Ends what is written by an empty message.
        pub(crate) fn of_writes(pipe: P) -> HalfClose<P> {
            let end = if pipe.carries_messages() { End::Due } else { End::Settled };
            let (reader, writer) = pipe.into_split();
            HalfClose { reader: Some(reader), input: Input::OfBoth, writer: Some(writer), end }
        }

        /// Ends what is read by an empty message. The pipe carries messages.
        fn of_reads(pipe: P) -> HalfClose<P> {
            HalfClose { input: Input::OfOne, end: End::NotTold, ..HalfClose::of_writes(pipe) }
        }

        pub(crate) fn kind(&self) -> Kind {
            match self.input {
                Input::OfBoth => Kind::Pipe,
                Input::OfOne | Input::Receiving(_) | Input::Ended { .. } => Kind::Messages,
            }
        }

        /// Completes when no message is being received, with the one that was.
        fn poll_received(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<BytesMut>>> {
            let Input::Receiving(receiving) = &mut self.input else { return Poll::Ready(Ok(None)) };
            let (reader, received) = ready!(receiving.as_mut().poll(cx));
            self.reader = Some(reader);
            self.input = Input::OfOne;
            Poll::Ready(received.map(Some))
        }

        fn poll_writer(&mut self, cx: &mut Context<'_>) -> Poll<Pin<&mut P::Writer>> {
            if let End::Telling(telling) = &mut self.end {
                self.writer = Some(ready!(telling.as_mut().poll(cx)));
                self.end = End::Settled;
            }
            Poll::Ready(Pin::new(self.writer.as_mut().expect("it is there unless the peer is being told")))
        }
    }

    impl<P: PipeEnd> Stream for HalfClose<P> {
        fn sends_messages(&self) -> bool {
            matches!(self.end, End::Due | End::NotTold)
        }

        fn is_at_its_end(&self) -> bool {
            matches!(self.input, Input::Ended { of_both: true })
        }

        fn poll_rest_of_message(
            &mut self,
            cx: &mut Context<'_>,
            message: &mut BytesMut,
        ) -> Poll<io::Result<()>> {
            if let Input::OfOne = self.input
                && let Some(reader) = self.reader.take_if(|reader| !(*reader).as_ref().is_message_complete())
            {
                let mut begun = std::mem::take(message);
                self.input = Input::Receiving(Box::pin(async move {
                    let limit = LARGEST_MESSAGE.saturating_sub(begun.len());
                    let received = reader.as_ref().recv_rest(&mut begun, limit).await;
                    (reader, received.map(|()| begun))
                }));
            }
            if let Some(received) = ready!(self.poll_received(cx))? {
                *message = received;
            }
            Poll::Ready(Ok(()))
        }
    }

    impl Client for HalfClose<NamedPipeServer> {
        fn presence(&self) -> Presence {
            match &self.reader {
                Some(reader) if reader.as_ref().is_closed() => Presence::Left,
                Some(_) | None => Presence::Here,
            }
        }
    }

    /// A peer that has gone meanwhile had all that was said, and one that does not read is told all
    /// the same.
    async fn tell_end<P: PipeEnd>(writer: P::Writer) -> P::Writer {
        let _ = writer.as_ref().close_write().await;
        writer
    }

    impl<P: PipeEnd> AsyncRead for HalfClose<P> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            // The relay that wanted it has none to give it to.
            drop(ready!(self.poll_received(cx))?);
            let HalfClose { reader, input, .. } = &mut *self;
            let reader = reader.as_mut().expect("it is there unless a message is being received");
            while let Input::Ended { .. } = input {
                let mut dropped = [0; 1024];
                let mut dropped = ReadBuf::new(&mut dropped);
                ready!(Pin::new(&mut *reader).poll_read(cx, &mut dropped))?;
                if dropped.filled().is_empty() && reader.as_ref().is_closed() {
                    return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
                }
            }
            let before = buffer.filled().len();
            ready!(Pin::new(&mut *reader).poll_read(cx, buffer))?;
            if let Input::OfOne = input
                && buffer.filled().len() == before
                && buffer.remaining() > 0
            {
                *input = Input::Ended { of_both: reader.as_ref().is_closed() };
            }
            Poll::Ready(Ok(()))
        }
    }

    impl<P: PipeEnd> AsyncWrite for HalfClose<P> {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            ready!(self.poll_writer(cx)).poll_write(cx, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            ready!(self.poll_writer(cx)).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            if let End::Due = self.end
                && let Some(writer) = self.writer.take()
            {
                self.end = End::Telling(Box::pin(tell_end::<P>(writer)));
            }
            // What was said before has been flushed, and its errors told.
            ready!(self.poll_writer(cx)).poll_shutdown(cx).map(|_| Ok(()))
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::on_windows_side;

    #[test]
    fn what_is_on_the_windows_side_is_told_by_its_address() {
        let crosses = |target: &str| on_windows_side(&target.parse().unwrap()).map(|(address, _)| address);
        for target in [r"assuan:C:\Users\me\S.gpg-agent", "assuan:c:/S.gpg-agent", "gpg-agent-ssh"] {
            assert_eq!(crosses(target).as_deref(), Some(target));
        }
        assert_eq!(crosses("ssh-agent").as_deref(), Some(r"npipe:\\.\pipe\openssh-ssh-agent"));
        assert_eq!(crosses("windows:assuan:/x").as_deref(), Some("assuan:/x"));
        for target in
            ["assuan:/mnt/c/S.gpg-agent", "assuan:./C:/x", "assuan:C:", "tcp:localhost:1", "unix:/x"]
        {
            assert_eq!(crosses(target), None, "{target}");
        }
    }
}

#[cfg(all(test, windows))]
mod pipe_tests {
    use npipe::{ClientOptions, PipeMode, ServerOptions};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_test::{assert_pending, task};

    use super::pipe::HalfClose;

    /// One that reads bytes, as go-winio's do, would take an empty message behind others for
    /// nothing.
    #[tokio::test]
    async fn a_server_is_told_the_end_when_it_has_read_what_was_said() {
        let name = format!("npipe-half-close-{}", std::process::id());
        let mut server = ServerOptions::new().pipe_mode(PipeMode::Message).create(&name).unwrap();
        let mut client = HalfClose::new(ClientOptions::new().open(&name).unwrap()).unwrap();
        server.connect().await.unwrap();
        client.write_all(b"all").await.unwrap();
        {
            let mut shutdown = task::spawn(client.shutdown());
            for _ in 0..10 {
                assert_pending!(shutdown.poll(), "it has not read anything");
                tokio::task::yield_now().await;
            }
            assert_eq!(server.peek().unwrap().bytes_available, 3);
            server.set_empty_message_is_end(true).unwrap();
            let (ended, said) = tokio::join!(shutdown, async {
                let mut said = Vec::new();
                server.read_to_end(&mut said).await.unwrap();
                said
            });
            ended.unwrap();
            assert_eq!(said, b"all");
        }
        server.write_all(b"reply").await.unwrap();
        let mut reply = [0; 5];
        client.read_exact(&mut reply).await.unwrap();
        assert_eq!(&reply, b"reply");
    }
}
