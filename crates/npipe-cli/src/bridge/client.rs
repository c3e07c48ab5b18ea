//! The half of the bridge that runs on Linux: connections to Windows pipes for whoever asks, all
//! through one Windows process. It is started by the first connection, again after it has died, and
//! ended when it has been idle for as long as told. When it dies or answers no more, its
//! connections end with an error.

use std::future::poll_fn;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Mutex, OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt};
use yamux::Mode;

use super::liveness::{Heard, Monitored, ping};
use super::mux::{MOST_CONNECTIONS, Mux, mux, poll_inbound};
use super::process::{self, FAREWELL, Process, Transport};
use super::protocol::{
    Answer, EndOfInput, Hello, LONGEST_START, OpenRequest, Silence, read_block, shake_hands, write_block,
};
use super::records::Records;
use super::server::LAST_DELIVERY;
use crate::account::Lasted;
use crate::cli::BridgeArguments;
use crate::dial::Stream;
use crate::endings::{Direction, Directions};
use crate::limit::Limit;
use crate::patience::Patience;
use crate::report::Report;

/// The pauses after a failure to start. Connections asked for meanwhile are refused at once with
/// what went wrong.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How a bridge is set up.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The Windows program, where it is not to be looked for.
    pub(crate) program: Option<PathBuf>,
    /// How long the Windows process stays without a connection; for ever if none.
    pub(crate) idle: Option<Duration>,
}

impl From<BridgeArguments> for Settings {
    fn from(arguments: BridgeArguments) -> Settings {
        Settings {
            program: arguments.windows_program.path,
            idle: arguments.bridge_idle.map(|seconds| Duration::from_secs(seconds.into())),
        }
    }
}

/// The way to Windows. Clones share one Windows process.
#[derive(Clone, Debug)]
pub(crate) struct Bridge {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    report: Report,
    state: Mutex<State>,
    room: Limit,
}

#[derive(Debug)]
enum State {
    /// No process was needed yet, or the last one is not needed any more.
    Down,
    Up(Session),
    Failed {
        error: Arc<str>,
        until: Instant,
        pause: Duration,
    },
}

/// What is left in the hand of a running Windows process, which a task of its own looks after.
#[derive(Clone, Debug)]
struct Session {
    streams: mpsc::Sender<oneshot::Sender<yamux::Stream>>,
    connections: Arc<watch::Sender<usize>>,
    hello: Arc<Hello>,
    /// Why it ended, if not in order.
    cause: Arc<OnceLock<String>>,
    /// Closed when the process has ended.
    ended: watch::Receiver<()>,
}

impl Session {
    fn broke_off(&self) -> io::Error {
        let cause = self.cause.get().map(|cause| format!(": {cause}")).unwrap_or_default();
        io::Error::new(io::ErrorKind::ConnectionReset, format!("the bridge to Windows broke off{cause}"))
    }
}

/// What is asked of the Windows side.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening<'a> {
    /// An address as on the command line.
    pub(crate) target: &'a str,
    pub(crate) patience: Patience,
    /// Whether to start the target, if it is known how and it does not run.
    pub(crate) launch: bool,
    pub(crate) end_of_input: EndOfInput,
    /// Whether an empty message of the target is the end of what it says.
    pub(crate) end_at_empty_message: bool,
    /// Whether an empty message of the target ends that direction, and the other goes on.
    pub(crate) half_close: bool,
    /// The only direction for which to open a pipe; by default those that it has.
    pub(crate) only: Option<Direction>,
}

/// One connection to a target on the Windows side.
#[derive(Debug)]
pub(crate) struct BridgeStream {
    records: Records<Compat<yamux::Stream>>,
    directions: Directions,
    _counted: Counted,
}

/// A connection that is, or is about to be. The process is not idle meanwhile.
#[derive(Debug)]
struct Counted {
    /// Kept, so that the process is looked after also when the bridge is dropped before its
    /// connections.
    session: Session,
    _room: OwnedSemaphorePermit,
}

impl Counted {
    fn new(session: Session, room: OwnedSemaphorePermit) -> Counted {
        session.connections.send_modify(|count| *count += 1);
        Counted { session, _room: room }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.session.connections.send_modify(|count| *count -= 1);
    }
}

impl Bridge {
    pub(crate) fn new(settings: Settings, report: Report) -> Bridge {
        let shared =
            Shared { settings, report, state: Mutex::new(State::Down), room: Limit::new(MOST_CONNECTIONS) };
        Bridge { shared: Arc::new(shared) }
    }

    /// Who the Windows program says that it is. It is started if none runs.
    pub(crate) async fn greet(&self) -> io::Result<Arc<Hello>> {
        self.session().await.map(|session| session.hello)
    }

    /// A connection to a target on the Windows side.
    pub(crate) async fn open(&self, opening: Opening<'_>) -> io::Result<BridgeStream> {
        let Opening { target, patience, launch, end_of_input, end_at_empty_message, half_close, only } =
            opening;
        let request = OpenRequest {
            target: target.to_owned(),
            limit: patience.limit(),
            poll: matches!(patience, Patience::Poll { .. }),
            launch,
            end_of_input,
            end_at_empty_message,
            half_close,
            only,
        };
        let request = request.encode()?;
        // The process may end, idle or not, between two of these steps: then a new one is asked once.
        let (stream, counted) = match self.stream().await? {
            Ok(stream) => stream,
            Err(_) => self.stream().await?.map_err(|ended| ended.broke_off())?,
        };
        let (id, begin) = (stream.id(), Instant::now());
        let mut stream = stream.compat();
        let answer = async {
            write_block(&mut stream, &request).await?;
            read_block(&mut stream).await
        };
        // yamux's words for the end of its transport ("unexpected end of file", "write zero") say nothing
        // to people.
        let answer = answer.await.map_err(|_| counted.session.broke_off())?;
        match Answer::decode(&answer)? {
            Answer::Opened(directions) => {
                let time = Lasted(begin.elapsed());
                self.shared
                    .report
                    .step(format_args!("connection {id} of the bridge: {target} opened in {time}"));
                Ok(BridgeStream { records: Records::new(stream), directions, _counted: counted })
            }
            Answer::Failed(error) => Err(error.into()),
        }
    }

    /// A new stream to the Windows process, or the session if the process has ended meanwhile.
    async fn stream(&self) -> io::Result<Result<(yamux::Stream, Counted), Session>> {
        let Shared { room, report, .. } = &*self.shared;
        let what = || {
            format!("a client waits until another has left: the bridge carries {MOST_CONNECTIONS} at once")
        };
        let room = room.acquire(*report, what).await;
        let session = self.session().await?;
        let counted = Counted::new(session, room);
        let (send, receive) = oneshot::channel();
        let _ = counted.session.streams.send(send).await;
        Ok(match receive.await {
            Ok(stream) => Ok((stream, counted)),
            Err(_) => Err(counted.session.clone()),
        })
    }

    /// The session that runs, or a new one. Clients that come while it starts wait for the same
    /// one, and one that leaves meanwhile does not end the start.
    async fn session(&self) -> io::Result<Session> {
        let bridge = self.clone();
        tokio::spawn(async move { bridge.current_session().await }).await.map_err(io::Error::other)?
    }

    async fn current_session(&self) -> io::Result<Session> {
        let mut state = self.shared.state.lock().await;
        let pause = match &*state {
            State::Up(session) if !session.streams.is_closed() => return Ok(session.clone()),
            State::Up(_) | State::Down => FIRST_PAUSE,
            State::Failed { error, until, .. } if Instant::now() < *until => {
                return Err(io::Error::other(format!("{error} (not tried again so soon)")));
            }
            State::Failed { pause, .. } => LONGEST_PAUSE.min(*pause * 2),
        };
        match self.start().await {
            Ok(session) => {
                *state = State::Up(session.clone());
                Ok(session)
            }
            Err(error) => {
                let error = Arc::from(error);
                let failed =
                    State::Failed { error: Arc::clone(&error), until: Instant::now() + pause, pause };
                *state = failed;
                Err(io::Error::other(error.to_string()))
            }
        }
    }

    /// Waits until the Windows process has delivered what its connections were given, and has
    /// ended. All connections and all clones of the bridge have been dropped.
    pub(crate) async fn close(self) {
        let state = std::mem::replace(&mut *self.shared.state.lock().await, State::Down);
        if let State::Up(Session { mut ended, streams, .. }) = state {
            drop(streams);
            // An error means that it has ended.
            let _ = ended.changed().await;
        }
    }

    async fn start(&self) -> Result<Session, String> {
        let Shared { settings, report, .. } = &*self.shared;
        let program = process::find(settings.program.as_deref())?;
        let shown = program.display();
        let begin = Instant::now();
        let (process, mut transport) = Process::start(&program, *report)
            .map_err(|error| format!("cannot start the Windows program {shown}: {error}"))?;
        let agreed = timeout(LONGEST_START, shake_hands(&mut transport, &Hello::ours())).await;
        let cause = match agreed {
            Ok(Ok(theirs)) => {
                report.detail(format_args!("{shown} runs {theirs}, started in {:.1?}", begin.elapsed()));
                return Ok(self.look_after(process, transport, theirs));
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("it did not answer within {LONGEST_START:?}"),
        };
        drop(transport);
        Err(format!("the Windows program {shown} is of no use: {cause}; it {}", process.end(FAREWELL).await))
    }

    fn look_after(&self, process: Process, transport: Transport, hello: Hello) -> Session {
        let Shared { settings, report, .. } = &*self.shared;
        let (streams, asked) = mpsc::channel(1);
        let (connections, counted) = watch::channel(0);
        let (transport, heard) = Monitored::new(transport);
        let cause = Arc::default();
        let (end, ended) = watch::channel(());
        let process = look_after(
            process,
            mux(transport, Mode::Client),
            heard,
            asked,
            idle(counted, settings.idle),
            Arc::clone(&cause),
            *report,
        );
        tokio::spawn(async move {
            process.await;
            drop(end);
        });
        Session { streams, connections: Arc::new(connections), hello: Arc::new(hello), cause, ended }
    }
}

/// Ends when there has been no connection for `limit`.
async fn idle(mut connections: watch::Receiver<usize>, limit: Option<Duration>) {
    let Some(limit) = limit else { return std::future::pending().await };
    loop {
        // An error means that the bridge and all its connections are gone.
        let _ = connections.wait_for(|count| *count == 0).await;
        tokio::select! {
            () = sleep(limit) => return,
            _ = connections.changed() => {}
        }
    }
}

enum Ended {
    Idle,
    /// Neither the bridge nor a connection exists any more.
    Unused,
    Broken {
        cause: String,
        /// The time that the process has to end by itself.
        farewell: Duration,
    },
}

impl Ended {
    fn broken(cause: impl Into<String>) -> Ended {
        Ended::Broken { cause: cause.into(), farewell: FAREWELL }
    }
}

/// Looks after one Windows process until it ends, or is to be ended.
async fn look_after(
    process: Process,
    mut mux: Mux<Monitored<Transport>>,
    heard: Heard,
    mut asked: mpsc::Receiver<oneshot::Sender<yamux::Stream>>,
    idle: impl Future<Output = ()>,
    session_cause: Arc<OnceLock<String>>,
    report: Report,
) {
    let silence = Silence::of_environment();
    let ended = match poll_fn(|cx| mux.poll_new_outbound(cx)).await {
        Ok(pings) => tokio::select! {
            // In this order: the process is not silent if something of it can be read now.
            biased;
            ended = hand_out_streams(&mut mux, &mut asked) => ended,
            () = heard.silence(silence) => Ended::Broken {
                cause: format!("the Windows process did not answer for {:?}", silence.limit),
                farewell: Duration::ZERO,
            },
            _ = ping(pings.compat(), silence) => Ended::broken("the Windows process takes no pings"),
            () = idle => Ended::Idle,
        },
        Err(error) => Ended::broken(error.to_string()),
    };
    if let Ended::Broken { cause, .. } = &ended {
        // The first one; there is no second.
        let _ = session_cause.set(cause.clone());
    }
    // From here on a new process is started for new connections.
    drop(asked);
    match ended {
        Ended::Idle => {
            let end = end_in_order(process, mux).await;
            report.detail(format_args!("the Windows process was idle and {end}"));
        }
        Ended::Unused => drop(end_in_order(process, mux).await),
        Ended::Broken { cause, farewell } => {
            // Without its stdin the process ends.
            drop(mux);
            let end = process.end(farewell).await;
            report.warning(format_args!(
                "the bridge to Windows broke off ({cause}): the Windows process {end}"
            ));
        }
    }
}

/// Tells the process to end, behind all that its connections were given. It delivers that first.
async fn end_in_order(process: Process, mut mux: Mux<Monitored<Transport>>) -> String {
    let _ = timeout(FAREWELL, poll_fn(|cx| mux.poll_close(cx))).await;
    // Its stdin and stdout stay open until then: an error there would cut the delivery short.
    process.end(LAST_DELIVERY + FAREWELL).await
}

/// Drives the transport, without which no connection moves, and makes a stream for each who asks.
async fn hand_out_streams<T: AsyncRead + AsyncWrite + Unpin>(
    mux: &mut Mux<T>,
    asked: &mut mpsc::Receiver<oneshot::Sender<yamux::Stream>>,
) -> Ended {
    let mut asking = None;
    poll_fn(|cx| {
        loop {
            match poll_inbound(mux, cx) {
                Poll::Ready(Some(Ok(_))) => {
                    return Poll::Ready(Ended::broken("it opened a connection to us"));
                }
                Poll::Ready(Some(Err(reason))) => return Poll::Ready(Ended::broken(reason)),
                Poll::Ready(None) => return Poll::Ready(Ended::broken("its stdout ended")),
                Poll::Pending => {}
            }
            if asking.is_none() {
                match asked.poll_recv(cx) {
                    Poll::Ready(Some(next)) => asking = Some(next),
                    Poll::Ready(None) => return Poll::Ready(Ended::Unused),
                    Poll::Pending => return Poll::Pending,
                }
            }
            match mux.poll_new_outbound(cx) {
                Poll::Ready(Ok(stream)) => {
                    // Dropped if its client has left meanwhile.
                    if let Some(asking) = asking.take() {
                        let _ = asking.send(stream);
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Ended::broken(error.to_string())),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

impl BridgeStream {
    /// The directions to relay. The replies of a target without them are its end, which comes when
    /// it has taken all that was sent.
    pub(crate) fn directions(&self) -> Directions {
        match self.directions {
            Directions::Only(Direction::Replies) => self.directions,
            Directions::Both | Directions::Only(Direction::Requests) => Directions::Both,
        }
    }

    /// How many of the bytes that were sent the target has taken; known when it has ended well.
    pub(crate) fn taken(&self) -> Option<u64> {
        self.records.taken()
    }
}

impl Stream for BridgeStream {
    fn gives_bytes(&self) -> bool {
        self.directions.has(Direction::Replies)
    }
}

impl AsyncRead for BridgeStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.records).poll_read(cx, buffer)
    }
}

impl AsyncWrite for BridgeStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.records).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.records).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.records).poll_shutdown(cx)
    }
}
