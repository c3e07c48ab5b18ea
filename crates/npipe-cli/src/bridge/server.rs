//! The half of the bridge that runs on Windows: it takes connections from its stdin and stdout, opens a pipe for each,
//! and ends when stdin ends, so that nothing is left behind however the Linux half went.

use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use npipe::PipeName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::compat::FuturesAsyncReadCompatExt;
use yamux::Mode;

use super::mux::mux;
use super::protocol::{Answer, Hello, OpenRequest, read_block, shake_hands, write_block};
use super::records::Records;
use crate::account::Lasted;
#[cfg(unix)]
use crate::bridge::client::{Bridge, Settings};
#[cfg(windows)]
use crate::dial;
use crate::dial::{Dialer, Stream};
use crate::endpoint::Target;
use crate::exit::{Exit, Failure};
use crate::patience::Patience;
use crate::report::Report;

/// How long pipes may take to accept what their clients had sent when stdin ends.
const LAST_DELIVERY: Duration = Duration::from_secs(1);

const SMALLEST_BUFFER: usize = 8 * 1024;
const LARGEST_BUFFER: usize = 64 * 1024;

/// Serves the Linux half at stdin and stdout until stdin ends.
pub(crate) async fn run(report: Report) -> Result<(), Failure> {
    let transport = stdio()
        .map_err(|error| Failure::new(Exit::Failure, format!("cannot use stdin and stdout: {error}")))?;
    serve(transport, report)
        .await
        .map_err(|error| Failure::new(Exit::Failure, format!("the bridge broke off: {error}")))
}

/// Threads of Tokio's pool read and write, since neither stream can be polled on Windows. `Stdout` would split what it
/// is given at the last newline; a file of our own on the same handle does not.
fn stdio() -> io::Result<impl AsyncRead + AsyncWrite + Unpin> {
    #[cfg(unix)]
    let stdout = std::os::fd::AsFd::as_fd(&io::stdout()).try_clone_to_owned()?;
    #[cfg(windows)]
    let stdout = std::os::windows::io::AsHandle::as_handle(&io::stdout()).try_clone_to_owned()?;
    Ok(tokio::io::join(tokio::io::stdin(), tokio::fs::File::from_std(stdout.into())))
}

async fn serve<T: AsyncRead + AsyncWrite + Unpin>(mut transport: T, report: Report) -> io::Result<()> {
    let client = shake_hands(&mut transport, &Hello::ours())
        .await
        .map_err(|error| io::Error::other(format!("cannot agree with the Linux half: {error}")))?;
    report.detail(format_args!("serving {client}"));
    let mut mux = mux(transport, Mode::Server);
    let mut connections = JoinSet::new();
    let ended = loop {
        match poll_fn(|cx| mux.poll_next_inbound(cx)).await {
            Some(Ok(stream)) => {
                connections.spawn(connection(stream, report));
            }
            Some(Err(error)) => break Err(io::Error::other(error)),
            None => break Ok(()),
        }
        while connections.try_join_next().is_some() {}
    };
    let _ = timeout(LAST_DELIVERY, connections.join_all()).await;
    ended
}

async fn connection(stream: yamux::Stream, report: Report) {
    let (id, begin) = (stream.id(), Instant::now());
    let mut stream = stream.compat();
    let request = match read_request(&mut stream).await {
        Ok(request) => request,
        Err(error) => return report.warning(format_args!("connection {id} without a request: {error}")),
    };
    let target = &request.target;
    let mut early = [0];
    let answer = tokio::select! {
        answer = open(&request, report) => answer,
        // Nothing is said before the answer: the client has gone, and waits for the target no more.
        _ = stream.read(&mut early) => {
            return report.detail(format_args!("connection {id}: the client has gone before {target} was there"));
        }
    };
    let sent = match &answer {
        Ok(_) => write_block(&mut stream, &Answer::Opened.encode()).await,
        Err(error) => {
            report.detail(format_args!("connection {id}: cannot open {target}: {error}"));
            write_block(&mut stream, &Answer::Failed(error.into()).encode()).await
        }
    };
    if let (Ok(opened), Ok(())) = (answer, sent) {
        report.detail(format_args!("connection {id}: connected to {target}"));
        report.step(format_args!("connection {id}: that took {}", Lasted(begin.elapsed())));
        let (sent, received) = (AtomicU64::new(0), AtomicU64::new(0));
        let ended = relay(Records::new(stream), opened, &sent, &received).await;
        report.step(format_args!("connection {id}: {ended}"));
        report.detail(format_args!(
            "connection {id}: ended, {} bytes to {target}, {} bytes from it, {}",
            sent.into_inner(),
            received.into_inner(),
            Lasted(begin.elapsed())
        ));
    }
}

async fn read_request<R: AsyncRead + Unpin>(stream: &mut R) -> io::Result<OpenRequest> {
    Ok(OpenRequest::decode(&read_block(stream).await?)?)
}

async fn open(request: &OpenRequest, report: Report) -> io::Result<Box<dyn Stream>> {
    let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidInput, reason);
    let patience = patience(request);
    match request.target.parse().map_err(invalid)? {
        // Not by the dialer: the code of the error is to arrive on the other side.
        Target::Pipe(name) => open_pipe(&name, patience).await,
        Target::Stdio | Target::Windows(_) => {
            Err(invalid(format!("{} cannot be reached through the bridge", request.target)))
        }
        target => dial(target, patience, request.launch, report).await.map_err(|failure| {
            let kind = match failure.exit {
                Exit::NotFound => io::ErrorKind::NotFound,
                Exit::AccessDenied => io::ErrorKind::PermissionDenied,
                _ => io::ErrorKind::Other,
            };
            io::Error::new(kind, failure.to_string())
        }),
    }
}

fn patience(request: &OpenRequest) -> Patience {
    match (request.poll, request.limit) {
        (true, time) => Patience::Poll { attempts: None, time },
        (false, limit) => Patience::WhileBusy(limit.unwrap_or(Duration::MAX)),
    }
}

#[cfg_attr(windows, expect(unused_variables, reason = "only a bridge reports while it is made"))]
async fn dial(
    target: Target,
    patience: Patience,
    launch: bool,
    report: Report,
) -> Result<Box<dyn Stream>, Failure> {
    #[cfg(windows)]
    let dialer = Dialer::new(target, patience, launch)?;
    #[cfg(unix)]
    let dialer =
        Dialer::new(target, patience, launch, Bridge::new(Settings { program: None, idle: None }, report))?;
    Ok(dialer.dial().await?.stream)
}

#[cfg(windows)]
async fn open_pipe(name: &PipeName, patience: Patience) -> io::Result<Box<dyn Stream>> {
    Ok(Box::new(dial::pipe::open(name, patience).await?))
}

#[cfg(not(windows))]
async fn open_pipe(_: &PipeName, _: Patience) -> io::Result<Box<dyn Stream>> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this half of the bridge does not run on Windows"))
}

/// Joins the two until the target has said all, or the client has gone. The end of the client's bytes alone ends
/// nothing: the reply may be still to come. `sent` and `received` count the bytes that the target and the client took. Gives
/// back what ended it, in words.
async fn relay<C, T>(client: Records<C>, target: T, sent: &AtomicU64, received: &AtomicU64) -> String
where
    C: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    let (mut from_target, mut to_target) = split(target);
    let (mut from_client, mut to_client) = split(client);
    let requests = async {
        match pump(&mut from_client, &mut to_target, Flush::Never, sent).await {
            // The client has gone: nobody is there to be told of the reply.
            Err(Broken::Reading(_)) => {}
            // What the target still has to say is worth having, also when it takes no more, for as long as the client
            // is there.
            Ok(()) | Err(Broken::Writing) => {
                let _ = to_target.shutdown().await;
                let mut dropped = vec![0; SMALLEST_BUFFER];
                while from_client.read(&mut dropped).await.is_ok() {}
            }
        }
    };
    let replies = pump(&mut from_target, &mut to_client, Flush::EachChunk, received);
    let ended = tokio::select! {
        ended = replies => ended,
        () = requests => return "the client has gone".to_owned(),
    };
    match ended {
        Ok(()) => {
            let _ = to_client.shutdown().await;
            "the target ended".to_owned()
        }
        Err(Broken::Reading(error)) => {
            let _ = from_client.unsplit(to_client).fail(&error).await;
            format!("the target broke off: {error}")
        }
        Err(Broken::Writing) => "the client takes no more".to_owned(),
    }
}

enum Broken {
    Reading(io::Error),
    Writing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flush {
    /// Records hand what is left of a chunk to yamux, which costs no system call.
    EachChunk,
    /// Pipes and sockets send what they took by themselves; waiting for it would keep the next chunk from being read.
    Never,
}

/// Copies until the reader ends, and counts in `taken`.
async fn pump<R, W>(reader: &mut R, writer: &mut W, flush: Flush, taken: &AtomicU64) -> Result<(), Broken>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; SMALLEST_BUFFER];
    loop {
        let read = reader.read(&mut buffer).await.map_err(Broken::Reading)?;
        if read == 0 {
            return Ok(());
        }
        writer.write_all(&buffer[..read]).await.map_err(|_| Broken::Writing)?;
        taken.fetch_add(read as u64, Ordering::Relaxed);
        if flush == Flush::EachChunk {
            writer.flush().await.map_err(|_| Broken::Writing)?;
        }
        if read == buffer.len() && read < LARGEST_BUFFER {
            buffer.resize(read * 2, 0);
        }
    }
}
