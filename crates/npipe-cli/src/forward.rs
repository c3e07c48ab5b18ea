//! `npipe forward`: listens on a pipe and joins each client with a TCP connection of its own. What befalls one client
//! is that client's matter: it is reported, its pipe is closed, and the others and the listener go on.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use npipe::{NamedPipeServer, PipeName, ServerOptions};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::cli::ForwardArguments;
use crate::endpoint::TcpAddress;
use crate::exit::{Exit, Failure};
use crate::relay::{ClientEnd, End, Flow, relay};
use crate::report::Report;

/// Instances that wait for a client at any time. With one, clients that come together meet ERROR_PIPE_BUSY, and many
/// (OpenSSH's among them) do not try again.
const BACKLOG: usize = 4;

/// The pause before another attempt when no instance can be made or none takes clients: the causes, such as memory or
/// the limit of instances, pass when clients leave.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(200);

pub(crate) async fn run(arguments: ForwardArguments, report: Report) -> Result<(), Failure> {
    let forward = Arc::new(Forward {
        listen: arguments.listen,
        target: arguments.target,
        report,
        clients: AtomicU64::new(0),
    });
    let first = instance(&forward.listen, true).map_err(|error| listen_failure(&forward.listen, &error))?;
    for _ in 1..BACKLOG {
        let spare =
            instance(&forward.listen, false).map_err(|error| listen_failure(&forward.listen, &error))?;
        tokio::spawn(Arc::clone(&forward).accept(spare));
    }
    report.listening(&forward.listen);
    match forward.accept(first).await {}
}

fn listen_failure(name: &PipeName, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Failure::new(
            Exit::AccessDenied,
            format!("cannot listen on {name}: another program serves that name, or you may not create it"),
        ),
        _ => Failure::new(Exit::Failure, format!("cannot listen on {name}: {error}")),
    }
}

fn instance(name: &PipeName, first: bool) -> io::Result<NamedPipeServer> {
    ServerOptions::new().first_pipe_instance(first).create(name)
}

/// What all clients of one listener share.
struct Forward {
    listen: PipeName,
    target: TcpAddress,
    report: Report,
    clients: AtomicU64,
}

impl Forward {
    /// Takes clients with one instance after another. The next instance exists before the client of the last one is
    /// served, and before a broken one is dropped: the name never vanishes, so that nobody else can take it and no
    /// client finds it missing.
    async fn accept(self: Arc<Self>, mut waiting: NamedPipeServer) -> Infallible {
        loop {
            let accepted = waiting.connect().await;
            let served = std::mem::replace(&mut waiting, self.next_instance().await);
            match accepted {
                Ok(()) => {
                    let client = self.clients.fetch_add(1, Ordering::Relaxed) + 1;
                    tokio::spawn(Arc::clone(&self).serve(client, served));
                }
                Err(error) => {
                    self.report.warning(format_args!("cannot take a client of {}: {error}", self.listen));
                    sleep(PAUSE_AFTER_ERROR).await;
                }
            }
        }
    }

    async fn next_instance(&self) -> NamedPipeServer {
        let mut reported = false;
        loop {
            match instance(&self.listen, false) {
                Ok(next) => return next,
                Err(error) => {
                    if !reported {
                        let name = &self.listen;
                        self.report
                            .warning(format_args!("cannot add an instance of {name}, trying on: {error}"));
                        reported = true;
                    }
                    sleep(PAUSE_AFTER_ERROR).await;
                }
            }
        }
    }

    async fn serve(self: Arc<Self>, client: u64, mut pipe: NamedPipeServer) {
        let Forward { target, report, .. } = &*self;
        let mut server = match connect(target).await {
            Ok(server) => server,
            Err(error) => {
                report.warning(format_args!(
                    "client {client}: cannot connect to {target}: {error}; pipe closed"
                ));
                return;
            }
        };
        report.detail(format_args!("client {client}: connected to {target}"));
        let summary = relay(&mut pipe, &mut server, ClientEnd::Gone).await;
        self.report_tcp_failure(client, &summary.requests, &summary.replies);
        report.detail(format_args!(
            "client {client}: ended, {} bytes to the server, {} bytes to the client",
            summary.requests.bytes, summary.replies.bytes
        ));
    }

    /// An error of the pipe means that the client went, which is its right. An error of TCP cut the session short.
    fn report_tcp_failure(&self, client: u64, requests: &Flow, replies: &Flow) {
        let error = match (&replies.end, &requests.end) {
            (End::ReadFailed(error), _) | (_, End::WriteFailed(error)) => error,
            _ => return,
        };
        self.report.warning(format_args!("client {client}: {} broke off: {error}", self.target));
    }
}

async fn connect(target: &TcpAddress) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((target.host.as_str(), target.port)).await?;
    // Pipes send at once what they are given; requests of a few bytes would otherwise wait for an acknowledgement.
    stream.set_nodelay(true)?;
    Ok(stream)
}
