//! `npipe forward`: joins each client of a listener with a connection of its own to the target.
//! What befalls one client is that client's matter: it is reported, its connection is closed, and
//! the others and the listener go on.

use std::future::ready;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Context;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::account::{Account, Lasted};
use crate::agent::{Compatibility, is_ssh_agent};
#[cfg(unix)]
use crate::bridge::{client::Bridge, process::find};
use crate::cli::ForwardArguments;
#[cfg(unix)]
use crate::dial::on_windows_side;
use crate::dial::{Connection, Dialer};
use crate::endings::{Kind, Session, Stop};
use crate::endpoint::{Listener, Target};
use crate::exec;
use crate::exit::{Exit, Failure};
#[cfg(unix)]
use crate::limit;
use crate::limit::Limit;
#[cfg(windows)]
use crate::listener::pipe::{self, Pipe};
use crate::listener::{Client, Looks, Socket, left};
use crate::output::reader_has_gone;
use crate::patience::Patience;
use crate::progress::{Progress, When};
use crate::relay::{End, Summary, relay};
use crate::report::Report;
use crate::stdio;

pub(crate) async fn run(arguments: ForwardArguments, report: Report) -> Result<(), Failure> {
    #[cfg(unix)]
    limit::raise_open_files();
    tokio::select! {
        // In this order: by the time that clients are told to come, signals no longer end the process by themselves.
        biased;
        () = told_to_stop() => {
            report.detail(format_args!("stopped"));
            Ok(())
        }
        outcome = forward(arguments, report) => outcome,
    }
}

/// The default of `--max-connections`. It bounds a loop over two programs, which would otherwise go
/// on until memory or files run out.
const MAX_CONNECTIONS: usize = 1024;

async fn forward(arguments: ForwardArguments, report: Report) -> Result<(), Failure> {
    let progress = arguments.progress.when;
    let idle_timeout = arguments.idle_timeout.map(|seconds| Duration::from_secs(seconds.into()));
    if arguments.target == Target::Stdio {
        return stdio_serves_the_first_client(&arguments, idle_timeout, progress, report).await;
    }
    let patience = Patience::of_forward(&arguments);
    let ForwardArguments { listen, target, max_connections, launch, agent_compat, one_way, .. } = arguments;
    let agent = (agent_compat || is_ssh_agent(&target)).then(|| Compatibility::new(agent_compat, report));
    #[cfg(unix)]
    if listen != Listener::Stdio
        && on_windows_side(&target).is_some()
        && let Err(reason) = find(arguments.bridge.windows_program.path.as_deref())
    {
        report.warning(format_args!("{reason}; until then each client is closed"));
    }
    #[cfg(unix)]
    let dialer = Dialer::new(target, patience, launch, report, Bridge::new(arguments.bridge.into(), report))?;
    #[cfg(windows)]
    let dialer = Dialer::new(target, patience, launch, report)?;
    let dialer = dialer.one_way(one_way.direction());
    let dialer = match agent {
        Some(agent) => dialer.with_agent(agent),
        None => dialer,
    };
    if listen == Listener::Stdio {
        let connection = dialer.dial().await?;
        let name = dialer.target().clone();
        #[cfg(unix)]
        let delivered = dialer.close();
        #[cfg(windows)]
        let delivered = ready(());
        return join_stdio(connection, idle_timeout, &name, progress, report, delivered).await;
    }
    let forward = Arc::new(Forward {
        dialer,
        report,
        idle_timeout,
        room: Limit::new(max_connections.map_or(MAX_CONNECTIONS, usize::from)),
        clients: AtomicU64::new(0),
    });
    match listen {
        #[cfg(windows)]
        Listener::Pipe(name) => {
            let options = pipe_options(arguments.message, arguments.sddl.as_ref());
            if let Some(limit) = arguments.instances {
                let instances = Arc::new(pipe::Instances::bind(&name, &options, limit, report)?);
                for _ in 0..limit {
                    tokio::spawn(Arc::clone(&forward).serve_instances(Arc::clone(&instances)));
                }
                return std::future::pending().await;
            }
            let pipe = Pipe::bind(&name, &options, report)?;
            loop {
                let client = pipe.accept().await;
                let kind = client.kind();
                forward.serve_in_background(client, kind).await;
            }
        }
        listen => {
            let mut listener = Socket::bind(&listen, forward.dialer.target(), report).await?;
            loop {
                forward.serve_in_background(listener.accept().await, Kind::Socket).await;
            }
        }
    }
}

#[cfg(windows)]
fn pipe_options(message: bool, sddl: Option<&npipe::SecurityDescriptor>) -> npipe::ServerOptions {
    let mut options = npipe::ServerOptions::new();
    if message {
        options.pipe_mode(npipe::PipeMode::Message);
    }
    if let Some(descriptor) = sddl {
        options.security_descriptor(descriptor);
    }
    options
}

const TOO_LONG: &str = "a message of more than 64 MiB, and no longer one crosses from pipe to pipe";

fn is_message_too_long(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|error| error.is::<npipe::MessageTooLong>())
}

/// What all clients of one listener share.
struct Forward {
    dialer: Dialer,
    report: Report,
    idle_timeout: Option<Duration>,
    /// Clients beyond it wait, the next of them here, the others in the kernel.
    room: Limit,
    clients: AtomicU64,
}

impl Forward {
    async fn serve_in_background(self: &Arc<Self>, mut client: impl Client + 'static, kind: Kind) {
        let number = self.clients.fetch_add(1, Ordering::Relaxed) + 1;
        let forward = Arc::clone(self);
        let permit = self.place(number).await;
        tokio::spawn(async move {
            let _permit = permit;
            forward.serve(number, &mut client, kind).await;
        });
    }

    #[cfg(windows)]
    async fn serve_instances(self: Arc<Self>, instances: Arc<pipe::Instances>) {
        loop {
            let mut client = instances.accept().await;
            let number = self.clients.fetch_add(1, Ordering::Relaxed) + 1;
            let _permit = self.place(number).await;
            let kind = client.kind();
            self.serve(number, &mut client, kind).await;
        }
    }

    async fn place(&self, number: u64) -> OwnedSemaphorePermit {
        let what = || {
            format!("client {number} waits until another has left: --max-connections allows no more at once")
        };
        self.room.acquire(self.report, what).await
    }

    async fn serve<C: Client>(&self, number: u64, client: &mut C, kind: Kind) {
        let report = self.report;
        let account = Account::of_client(number, report);
        let started = Instant::now();
        report.step(format_args!("client {number}: came, connecting to {}", self.dialer.target()));
        let target = self.dialer.target();
        let dialed = tokio::select! {
            dialed = self.dialer.dial() => dialed,
            () = left(client) => {
                return report.detail(format_args!("client {number}: left before {target} was there"));
            }
        };
        let mut server = match dialed {
            Ok(server) => server,
            Err(failure) => {
                return report.warning(format_args!("client {number}: {failure}; connection closed"));
            }
        };
        report.detail(format_args!("client {number}: connected to {target}"));
        report.step(format_args!("client {number}: that took {}", Lasted(started.elapsed())));
        let session = Session {
            idle_timeout: self.idle_timeout,
            directions: server.directions,
            ..Session::new(kind, server.kind)
        };
        let mut looks = Looks::new();
        let hung_up = |cx: &mut Context<'_>, client: &C| looks.poll_left(cx, client);
        let (_, summary) = relay(client, &mut server.stream, session, hung_up, &account).await;
        self.report_error(number, &summary);
    }

    /// An error of the client means that it went, which is its right, unless its message is too
    /// long. An error of the server cut the session short.
    fn report_error(&self, number: u64, summary: &Summary) {
        let Forward { dialer, report, .. } = self;
        let target = dialer.target();
        match (&summary.replies.end, &summary.requests.end) {
            (End::ReadFailed(error), _) if is_message_too_long(error) => {
                report.warning(format_args!("client {number}: {target} sent {TOO_LONG}; connection closed"));
            }
            (_, End::ReadFailed(error)) if is_message_too_long(error) => {
                report.warning(format_args!("client {number}: it sent {TOO_LONG}; connection closed"));
            }
            (End::ReadFailed(error), _) | (_, End::WriteFailed(error)) => {
                report.warning(format_args!("client {number}: {target} broke off: {error}"));
            }
            _ => {}
        }
    }
}

/// There is one stdin and one stdout: one client is taken and no other after it.
async fn stdio_serves_the_first_client(
    arguments: &ForwardArguments,
    idle_timeout: Option<Duration>,
    progress: When,
    report: Report,
) -> Result<(), Failure> {
    let listen = &arguments.listen;
    match listen {
        #[cfg(windows)]
        Listener::Pipe(name) => {
            let mut options = pipe_options(arguments.message, arguments.sddl.as_ref());
            // Its only instance, so that who comes later is told that the pipe is busy.
            let pipe = Pipe::bind(name, options.max_instances(1), report)?;
            let client = pipe.accept().await;
            let kind = client.kind();
            let client = Connection::new(client, kind);
            join_stdio(client, idle_timeout, listen, progress, report, ready(())).await
        }
        listen => {
            let client = Socket::bind(listen, &arguments.target, report).await?.accept().await;
            let client = Connection::new(client, Kind::Socket);
            join_stdio(client, idle_timeout, listen, progress, report, ready(())).await
        }
    }
}

/// Joins stdin and stdout with `peer`, which is the one that decides when the session is over.
/// `delivered` completes when what `peer` took, which has been dropped, has arrived.
async fn join_stdio(
    peer: Connection,
    idle_timeout: Option<Duration>,
    name: &dyn std::fmt::Display,
    progress: When,
    report: Report,
    delivered: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let (mut stdio, hang_up) = stdio::open()?;
    let Connection { stream: mut peer, kind, directions } = peer;
    let session = Session { directions, idle_timeout, ..Session::new(Kind::Stdio, kind) };
    let account = Account::of_stdio(name, Progress::new(progress, report), report);
    let mut hang_up = pin!(hang_up);
    let hung_up = |cx: &mut Context<'_>, _: &_| hang_up.as_mut().poll(cx);
    let (stop, summary) = relay(&mut stdio, &mut peer, session, hung_up, &account).await;
    drop(peer);
    if stop == Stop::ClientHasGone {
        delivered.await;
    }
    let failure = |exit, message: String| Err(Failure::new(exit, message));
    match (&summary.replies.end, &summary.requests.end) {
        (End::WriteFailed(error), _) if reader_has_gone(error) => {
            failure(Exit::OutputClosed, format!("the reader of stdout went away before {name} ended"))
        }
        (End::WriteFailed(error), _) => failure(Exit::Failure, format!("cannot write to stdout: {error}")),
        (End::ReadFailed(error), _) if error.kind() == exec::FAILED => {
            failure(Exit::TargetFailed, format!("{name}: {error}"))
        }
        (End::ReadFailed(error), _) => failure(Exit::Disconnected, format!("{name} broke off: {error}")),
        (End::Abandoned { undelivered: bytes @ 1.. }, _) => failure(
            Exit::Failure,
            format!("stdout took what {name} sent too slowly: {bytes} bytes were not delivered"),
        ),
        (_, End::ReadFailed(error)) => failure(Exit::Failure, format!("cannot read from stdin: {error}")),
        (_, End::WriteFailed(_) | End::Abandoned { undelivered: 1.. }) => failure(
            Exit::InputLost,
            format!(
                "{name} ended before it took all that was read from stdin ({} bytes were sent)",
                summary.requests.bytes
            ),
        ),
        _ => Ok(()),
    }
}

/// By somebody who may: the terminal, also by going away, or the service manager. What is to be
/// cleaned up is, when the caller drops it.
#[cfg(unix)]
async fn told_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};

    // Without a handler a signal ends the process, as it does by default. One that is ignored stays so:
    // nohup, and a shell that starts a program in the background, mean that it goes on.
    let told = async |kind: SignalKind, is_ignored_unless_known: bool| {
        if is_ignored(kind.as_raw_value()).unwrap_or(is_ignored_unless_known) {
            return std::future::pending().await;
        }
        match signal(kind) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = told(SignalKind::interrupt(), false) => {}
        () = told(SignalKind::terminate(), false) => {}
        () = told(SignalKind::hangup(), true) => {}
    }
}

/// Returns whether this process was started with the signal ignored, where the kernel shows it:
/// proc_pid_status(5).
#[cfg(unix)]
fn is_ignored(signal: i32) -> Option<bool> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
    // The lowest bit is signal 1.
    Some(mask & (1 << (signal - 1)) != 0)
}

/// Windows ends the process itself, and what is to be cleaned up goes with its handles.
#[cfg(windows)]
async fn told_to_stop() {
    std::future::pending().await
}
