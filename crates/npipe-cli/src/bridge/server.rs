//! The half of the bridge that runs on Windows: it takes connections from its stdin and stdout,
//! opens a pipe for each, and ends when stdin ends or nothing arrives there any more, so that
//! nothing is left behind however the Linux half went.

use std::future::poll_fn;
use std::io;
use std::time::Duration;

use npipe::PipeName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::compat::FuturesAsyncReadCompatExt;
use yamux::Mode;

use super::liveness::{Heard, Monitored, echo};
use super::mux::{mux, poll_inbound};
use super::protocol::{
    Answer, Hello, LONGEST_START, OpenRequest, Silence, read_block, shake_hands, write_block,
};
use super::records::Records;
use super::relay::relay;
use crate::account::{Account, Lasted};
#[cfg(unix)]
use crate::bridge::client::{Bridge, Settings};
#[cfg(windows)]
use crate::dial;
use crate::dial::{Connection, Dialer};
use crate::endings::{EndOfInput, FAREWELL};
use crate::endpoint::Target;
use crate::exit::{Exit, Failure};
#[cfg(unix)]
use crate::nonblocking::stdio;
use crate::patience::Patience;
use crate::report::Report;

/// How long targets may take to accept what their clients had sent when the Linux half ends.
pub(super) const LAST_DELIVERY: Duration = FAREWELL;

/// Serves the Linux half at stdin and stdout until stdin ends.
pub(crate) async fn run(report: Report) -> Result<(), Failure> {
    #[cfg(unix)]
    let transport = stdio(None);
    #[cfg(windows)]
    let transport = stdio();
    let transport = transport
        .map_err(|error| Failure::new(Exit::Failure, format!("cannot use stdin and stdout: {error}")))?;
    serve(transport, report)
        .await
        .map_err(|error| Failure::new(Exit::Failure, format!("the bridge broke off: {error}")))
}

/// Threads of Tokio's pool read and write, since neither stream can be polled on Windows. `Stdout`
/// would split a write at the last newline; a file on the same handle does not.
#[cfg(windows)]
fn stdio() -> io::Result<impl AsyncRead + AsyncWrite + Unpin> {
    let stdout = std::os::windows::io::AsHandle::as_handle(&io::stdout()).try_clone_to_owned()?;
    Ok(tokio::io::join(tokio::io::stdin(), tokio::fs::File::from_std(stdout.into())))
}

async fn serve<T: AsyncRead + AsyncWrite + Unpin>(mut transport: T, report: Report) -> io::Result<()> {
    let client = timeout(LONGEST_START, shake_hands(&mut transport, &Hello::ours()))
        .await
        .map_err(|_| io::Error::other(format!("the Linux half said nothing within {LONGEST_START:?}")))?
        .map_err(|error| io::Error::other(format!("cannot agree with the Linux half: {error}")))?;
    report.detail(format_args!("serving {client}"));
    let (transport, heard) = Monitored::new(transport);
    let mut mux = mux(transport, Mode::Server);
    let (announce, announced) = oneshot::channel();
    let mut announce = Some(announce);
    let mut connections = JoinSet::new();
    let accept = async {
        loop {
            match poll_fn(|cx| poll_inbound(&mut mux, cx)).await {
                Some(Ok(stream)) => match announce.take() {
                    Some(announce) => drop(connections.spawn(answer_pings(stream, announce, report))),
                    None => drop(connections.spawn(connection(stream, report))),
                },
                Some(Err(reason)) => return Err(io::Error::other(reason)),
                None => return Ok(()),
            }
            while connections.try_join_next().is_some() {}
        }
    };
    let ended = tokio::select! {
        biased;
        ended = accept => ended,
        silence = silence(&heard, announced) => {
            Err(io::Error::other(format!("the Linux half sent nothing for {:?}", silence.limit)))
        }
    };
    // No connection waits for more: each has what has come for it, and then its end.
    drop(mux);
    let deadline = Instant::now() + LAST_DELIVERY;
    while let Ok(Some(_)) = timeout_at(deadline, connections.join_next()).await {}
    if !connections.is_empty() {
        report.warning(format_args!(
            "{} connections ended before their targets took all that their clients had sent: they had \
             {LAST_DELIVERY:?}",
            connections.len()
        ));
    }
    ended
}

async fn answer_pings(stream: yamux::Stream, announce: oneshot::Sender<Silence>, report: Report) {
    if let Err(error) = echo(stream.compat(), announce).await {
        report.detail(format_args!("pings ended: {error}"));
    }
}

/// Completes when the Linux half is silent for as long as it has announced, or as is usual until
/// then.
async fn silence(heard: &Heard, announced: oneshot::Receiver<Silence>) -> Silence {
    let usual = Silence::default();
    let silence = tokio::select! {
        announced = announced => announced.unwrap_or(usual),
        () = heard.silence(usual) => return usual,
    };
    heard.silence(silence).await;
    silence
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
        Ok(opened) => write_block(&mut stream, &Answer::Opened(opened.directions).encode()).await,
        Err(error) => {
            report.detail(format_args!("connection {id}: cannot open {target}: {error}"));
            write_block(&mut stream, &Answer::Failed(error.into()).encode()).await
        }
    };
    if let (Ok(opened), Ok(())) = (answer, sent) {
        report.detail(format_args!("connection {id}: connected to {target}"));
        report.step(format_args!("connection {id}: that took {}", Lasted(begin.elapsed())));
        let account = Account::of_connection(id, report);
        relay(Records::new(stream), opened, EndOfInput::new(request.end_of_input.ends_session), &account)
            .await;
    }
}

async fn read_request<R: AsyncRead + Unpin>(stream: &mut R) -> io::Result<OpenRequest> {
    Ok(OpenRequest::decode(&read_block(stream).await?)?)
}

async fn open(request: &OpenRequest, report: Report) -> io::Result<Connection> {
    let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidInput, reason);
    let patience = patience(request);
    match request.target.parse().map_err(invalid)? {
        // Not by the dialer: the code of the error is to arrive on the other side.
        Target::Pipe(name) => open_pipe(&name, patience, request, report).await,
        Target::Stdio | Target::Windows(_) => {
            Err(invalid(format!("{} cannot be reached through the bridge", request.target)))
        }
        target => match dial(target, patience, request.launch, report).await {
            Ok(connection) => Ok(connection),
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
) -> io::Result<Connection> {
    let opened = dial::pipe::open_for_data(name, request.only, patience, request.launch, report).await;
    let opened = opened.map_err(|gave_up| gave_up.error)?;
    let OpenRequest { end_at_empty_message, half_close, end_of_input, .. } = request;
    opened.for_stdio(*end_at_empty_message, *half_close, end_of_input.sends_message)
}

#[cfg(not(windows))]
async fn open_pipe(_: &PipeName, _: Patience, _: &OpenRequest, _: Report) -> io::Result<Connection> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this half of the bridge does not run on Windows"))
}

#[cfg(all(test, windows))]
mod tests {
    use bytes::BytesMut;
    use npipe::PipeName;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::windows::named_pipe::{PipeMode, ServerOptions};
    use tokio::time::timeout;

    use super::{OpenRequest, Report, open_pipe};
    use crate::bridge::protocol::EndOfInput;
    use crate::bridge::relay::tests::{LIMIT, connection, read_to_end};
    use crate::endings;
    use crate::patience::Patience;

    /// It crosses the bridge in pieces, here of a thousand bytes.
    #[tokio::test]
    async fn bytes_that_the_other_half_read_in_one_call_are_one_message() {
        let name = PipeName::new(format!("npipe-bridge-message-{}", std::process::id())).unwrap();
        for half_close in [true, false] {
            for sends_message in [true, false] {
                let options = npipe::ServerOptions::new().pipe_mode(npipe::PipeMode::Message).clone();
                let server = options.create(&name).unwrap();
                let request = OpenRequest {
                    target: name.to_string(),
                    limit: None,
                    poll: false,
                    launch: false,
                    end_of_input: EndOfInput { sends_message, ends_session: false },
                    end_at_empty_message: false,
                    half_close,
                    only: None,
                };
                let opened =
                    open_pipe(&name, Patience::WhileBusy(LIMIT), &request, Report::new(0)).await.unwrap();
                server.connect().await.unwrap();
                let mut client = connection(opened, endings::EndOfInput::KeepsSession);
                for size in [1, 8192, 8193, 65_535, 65_536, 1] {
                    let sent = vec![7; size];
                    let mut message = BytesMut::new();
                    let (taken, received) = timeout(LIMIT, async {
                        tokio::join!(
                            async {
                                let taken = client.write(&sent).await.unwrap();
                                client.flush().await.unwrap();
                                taken
                            },
                            server.recv_message(&mut message)
                        )
                    })
                    .await
                    .unwrap();
                    assert_eq!((taken, received.unwrap()), (size, Some(size)));
                }
            }
        }
    }

    #[tokio::test]
    async fn a_pipe_of_messages_is_told_the_end_of_the_clients_bytes_by_an_empty_one_and_tells_its_own() {
        let name = PipeName::new(format!("npipe-bridge-eof-{}", std::process::id())).unwrap();
        for mode in [PipeMode::Message, PipeMode::Byte] {
            let mut server = ServerOptions::new().pipe_mode(mode).create(name.to_string()).unwrap();
            let request = OpenRequest {
                target: name.to_string(),
                limit: None,
                poll: false,
                launch: false,
                end_of_input: EndOfInput { sends_message: true, ends_session: false },
                end_at_empty_message: true,
                half_close: false,
                only: None,
            };
            let opened =
                open_pipe(&name, Patience::WhileBusy(LIMIT), &request, Report::new(0)).await.unwrap();
            server.connect().await.unwrap();
            let mut client = connection(opened, endings::EndOfInput::KeepsSession);
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
