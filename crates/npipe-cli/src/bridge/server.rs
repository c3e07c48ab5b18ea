//! The half of the bridge that runs on Windows: it takes connections from its stdin and stdout, opens a pipe for each,
//! and ends when stdin ends, so that nothing is left behind however the Linux half went.

use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use npipe::PipeName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::compat::FuturesAsyncReadCompatExt;
use yamux::Mode;

use super::mux::mux;
use super::protocol::{Answer, EndOfInput, Hello, OpenRequest, read_block, shake_hands, write_block};
use super::records::Records;
use crate::account::Lasted;
#[cfg(unix)]
use crate::bridge::client::{Bridge, Settings};
#[cfg(windows)]
use crate::dial;
use crate::dial::{Connection, Dialer, Stream};
use crate::endpoint::Target;
use crate::exit::{Exit, Failure};
use crate::patience::Patience;
use crate::relay::Kind;
use crate::report::Report;

/// How long pipes may take to accept what their clients had sent when stdin ends.
const LAST_DELIVERY: Duration = Duration::from_secs(1);

/// How long the last write may take once the target has ended: it ends with an error at once, or not at all.
const LAST_FLUSH: Duration = Duration::from_secs(1);

/// How long the target has to be silent until the end of the client's bytes ends the connection, where that was asked for. As
/// in `session`: what the pipe holds is read without waiting.
const SILENCE: Duration = Duration::from_millis(100);

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
        let (sent, received) = (Moved::default(), Moved::default());
        let ended = relay(Records::new(stream), opened, request.end_of_input, &sent, &received).await;
        report.step(format_args!("connection {id}: {ended}"));
        report.detail(format_args!(
            "connection {id}: ended, {} bytes to {target}, {} bytes from it, {}",
            sent.bytes(),
            received.bytes(),
            Lasted(begin.elapsed())
        ));
    }
}

async fn read_request<R: AsyncRead + Unpin>(stream: &mut R) -> io::Result<OpenRequest> {
    Ok(OpenRequest::decode(&read_block(stream).await?)?)
}

async fn open(request: &OpenRequest, report: Report) -> io::Result<Opened> {
    let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidInput, reason);
    let patience = patience(request);
    match request.target.parse().map_err(invalid)? {
        // Not by the dialer: the code of the error is to arrive on the other side.
        Target::Pipe(name) => open_pipe(&name, patience, request, report).await,
        Target::Stdio | Target::Windows(_) => {
            Err(invalid(format!("{} cannot be reached through the bridge", request.target)))
        }
        target => match dial(target, patience, request.launch, report).await {
            Ok(Connection { stream, kind }) => Ok(Opened { stream, kind }),
            Err(failure) => {
                let kind = match failure.exit {
                    Exit::NotFound => io::ErrorKind::NotFound,
                    Exit::AccessDenied => io::ErrorKind::PermissionDenied,
                    _ => io::ErrorKind::Other,
                };
                Err(io::Error::new(kind, failure.to_string()))
            }
        },
    }
}

fn patience(request: &OpenRequest) -> Patience {
    match (request.poll, request.limit) {
        (true, time) => Patience::Poll { attempts: None, time },
        (false, limit) => Patience::WhileBusy(limit.unwrap_or(Duration::MAX)),
    }
}

async fn dial(
    target: Target,
    patience: Patience,
    launch: bool,
    report: Report,
) -> Result<Connection, Failure> {
    #[cfg(windows)]
    let dialer = Dialer::new(target, patience, launch, report)?;
    #[cfg(unix)]
    let dialer = Dialer::new(
        target,
        patience,
        launch,
        report,
        Bridge::new(Settings { program: None, idle: None }, report),
    )?;
    dialer.dial().await
}

#[cfg(windows)]
async fn open_pipe(
    name: &PipeName,
    patience: Patience,
    request: &OpenRequest,
    report: Report,
) -> io::Result<Opened> {
    let pipe = dial::pipe::open(name, patience, request.launch, report).await?;
    pipe.set_empty_message_is_end(request.end_at_empty_message)?;
    let stream: Box<dyn Stream> = if request.end_of_input.sends_message {
        Box::new(dial::pipe::HalfClose::new(pipe))
    } else {
        Box::new(pipe)
    };
    Ok(Opened { stream, kind: Kind::Pipe })
}

#[cfg(not(windows))]
async fn open_pipe(_: &PipeName, _: Patience, _: &OpenRequest, _: Report) -> io::Result<Opened> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this half of the bridge does not run on Windows"))
}

/// What was opened.
struct Opened {
    stream: Box<dyn Stream>,
    kind: Kind,
}

/// What went one way.
#[derive(Default)]
struct Moved {
    /// Bytes that the receiver took.
    bytes: AtomicU64,
    /// Some have been read and are not yet with the receiver.
    is_writing: AtomicBool,
}

impl Moved {
    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Ends when nothing has come for a while and nothing is on its way.
    async fn silence(&self) {
        loop {
            let before = self.bytes();
            sleep(SILENCE).await;
            if self.bytes() == before && !self.is_writing.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

/// Joins the two until the target has said all, or the client has gone. The end of the client's bytes alone ends
/// nothing, unless that was asked for: the reply may be still to come. Nor does the end of a socket's bytes, which may take
/// requests after it: how long is for the Linux half to decide, which knows both ends. `sent` and `received` tell what the target and the
/// client took. Gives back what ended it, in words.
async fn relay<C>(
    client: Records<C>,
    target: Opened,
    end_of_input: EndOfInput,
    sent: &Moved,
    received: &Moved,
) -> String
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let Opened { stream, kind } = target;
    let (mut from_target, mut to_target) = split(stream);
    let (mut from_client, mut to_client) = split(client);
    let refused = Notify::new();
    let mut requests = Box::pin(async {
        match pump(&mut from_client, &mut to_target, Flush::Never, sent).await {
            // Nobody is there to be told of the reply.
            Err(Broken::Reading(_)) => return Ended::ClientHasGone,
            // What the target still has to say is worth having, also when it takes no more.
            Err(Broken::Writing) => {
                refused.notify_one();
                let _ = to_target.shutdown().await;
            }
            Ok(()) => {
                let _ = to_target.shutdown().await;
                if end_of_input.ends_session {
                    received.silence().await;
                    return Ended::Silent;
                }
            }
        }
        let mut dropped = vec![0; SMALLEST_BUFFER];
        while from_client.read(&mut dropped).await.is_ok() {}
        Ended::ClientHasGone
    });
    let replies =
        async { Ended::Replies(pump(&mut from_target, &mut to_client, Flush::EachChunk, received).await) };
    let ended = tokio::select! {
        ended = replies => ended,
        ended = &mut requests => ended,
    };
    if kind == Kind::Socket && matches!(ended, Ended::Replies(Ok(()))) {
        let _ = to_client.shutdown().await;
        tokio::select! {
            _ = requests => return "both have ended".to_owned(),
            () = refused.notified() => return "the target has gone".to_owned(),
        }
    }
    drop(requests);
    let words = match ended {
        Ended::ClientHasGone => return "the client has gone".to_owned(),
        Ended::Replies(Err(Broken::Writing)) => return "the client takes no more".to_owned(),
        Ended::Replies(Err(Broken::Reading(error))) => {
            let _ = from_client.unsplit(to_client).fail(&error).await;
            return format!("the target broke off: {error}");
        }
        Ended::Replies(Ok(())) => "the target ended",
        Ended::Silent => "the client has said all, and the target is silent",
    };
    let taken = match timeout(LAST_FLUSH, to_target.flush()).await {
        Ok(Ok(())) => sent.bytes(),
        // How much of it is missing is not known.
        Ok(Err(_)) | Err(_) => sent.bytes().saturating_sub(1),
    };
    let mut client = from_client.unsplit(to_client);
    if client.tell_taken(taken).await.is_ok() {
        let _ = client.shutdown().await;
    }
    words.to_owned()
}

enum Ended {
    ClientHasGone,
    Silent,
    Replies(Result<(), Broken>),
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

/// Copies until the reader ends.
async fn pump<R, W>(reader: &mut R, writer: &mut W, flush: Flush, moved: &Moved) -> Result<(), Broken>
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
        moved.is_writing.store(true, Ordering::Relaxed);
        writer.write_all(&buffer[..read]).await.map_err(|_| Broken::Writing)?;
        moved.bytes.fetch_add(read as u64, Ordering::Relaxed);
        if flush == Flush::EachChunk {
            writer.flush().await.map_err(|_| Broken::Writing)?;
        }
        moved.is_writing.store(false, Ordering::Relaxed);
        if read == buffer.len() && read < LARGEST_BUFFER {
            buffer.resize(read * 2, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::timeout;

    use super::{EndOfInput, Kind, Moved, Opened, Records, relay};

    const LIMIT: Duration = Duration::from_secs(60);

    /// Runs a connection to `target`, and gives its other end.
    fn connection(target: Opened, end_of_input: EndOfInput) -> Records<DuplexStream> {
        let (here, there) = duplex(1000);
        tokio::spawn(async move {
            relay(Records::new(there), target, end_of_input, &Moved::default(), &Moved::default()).await
        });
        Records::new(here)
    }

    fn target(room: usize) -> (DuplexStream, Opened) {
        let (target, ours) = duplex(room);
        (target, Opened { stream: Box::new(ours), kind: Kind::Pipe })
    }

    async fn read_to_end(client: &mut Records<DuplexStream>) -> Vec<u8> {
        let mut received = Vec::new();
        timeout(LIMIT, client.read_to_end(&mut received)).await.expect("it hangs").unwrap();
        received
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_clients_bytes_ends_the_connection_when_asked_and_the_target_is_silent() {
        let (mut target, opened) = target(1000);
        let mut client = connection(opened, EndOfInput { sends_message: false, ends_session: true });
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut question = [0; 8];
        target.read_exact(&mut question).await.unwrap();
        target.write_all(b"answer").await.unwrap();
        assert_eq!(read_to_end(&mut client).await, b"answer");
        #[cfg(unix)]
        assert_eq!(client.taken(), Some(8));
    }

    #[tokio::test(start_paused = true)]
    async fn without_being_asked_the_connection_waits_for_the_target() {
        let (mut target, opened) = target(1000);
        let mut client = connection(opened, EndOfInput::default());
        client.shutdown().await.unwrap();
        assert!(timeout(LIMIT, client.read(&mut [0])).await.is_err());
        target.write_all(b"late").await.unwrap();
        drop(target);
        assert_eq!(read_to_end(&mut client).await, b"late");
    }

    #[cfg(unix)]
    #[tokio::test(start_paused = true)]
    async fn a_target_that_ends_before_it_took_all_is_told() {
        let (mut target, opened) = target(4);
        let mut client = connection(opened, EndOfInput::default());
        client.write_all(b"a long question").await.unwrap();
        client.flush().await.unwrap();
        target.read_exact(&mut [0; 4]).await.unwrap();
        drop(target);
        assert_eq!(read_to_end(&mut client).await, b"");
        assert!(client.taken().unwrap() < 15);
    }

    #[cfg(windows)]
    #[tokio::test]
    async fn a_pipe_of_messages_is_told_the_end_of_the_clients_bytes_by_an_empty_one_and_tells_its_own() {
        use npipe::PipeName;
        use tokio::net::windows::named_pipe::{PipeMode, ServerOptions};

        use crate::patience::Patience;

        let name = PipeName::new(format!("npipe-bridge-eof-{}", std::process::id())).unwrap();
        for mode in [PipeMode::Message, PipeMode::Byte] {
            let mut server = ServerOptions::new().pipe_mode(mode).create(name.to_string()).unwrap();
            let request = super::OpenRequest {
                target: name.to_string(),
                limit: None,
                poll: false,
                launch: false,
                end_of_input: EndOfInput { sends_message: true, ends_session: false },
                end_at_empty_message: true,
            };
            let opened = super::open_pipe(&name, Patience::WhileBusy(LIMIT), &request, super::Report::new(0))
                .await
                .unwrap();
            server.connect().await.unwrap();
            let mut client = connection(opened, EndOfInput { sends_message: true, ends_session: false });
            client.write_all(b"all").await.unwrap();
            client.shutdown().await.unwrap();
            let mut buffer = [0; 10];
            assert_eq!(timeout(LIMIT, server.read(&mut buffer)).await.unwrap().unwrap(), 3);
            if mode == PipeMode::Message {
                assert_eq!(timeout(LIMIT, server.read(&mut buffer)).await.unwrap().unwrap(), 0);
            }
            server.write_all(b"reply").await.unwrap();
            // Where an empty message is the end, the server stays.
            let server = if mode == PipeMode::Message {
                assert_eq!(server.write(&[]).await.unwrap(), 0);
                Some(server)
            } else {
                drop(server);
                None
            };
            assert_eq!(read_to_end(&mut client).await, b"reply");
            drop(server);
        }
    }
}
