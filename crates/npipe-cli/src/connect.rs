//! `npipe connect`: stdin and stdout, joined with a pipe. On Linux the pipe is on the other side of
//! the bridge, over a Windows process of its own, and the end of stdin takes effect there.

#[cfg(windows)]
use std::io;
use std::pin::pin;
use std::task::Context;

#[cfg(windows)]
use npipe::PipeMode;

use crate::account::Account;
#[cfg(unix)]
use crate::bridge::{
    client::{Bridge, BridgeStream, Opening, Settings},
    process::find,
    protocol,
};
use crate::cli::ConnectArguments;
#[cfg(windows)]
use crate::dial::{Connection, pipe};
#[cfg(unix)]
use crate::endings::Stop;
use crate::endings::{Direction, EndOfInput, EndOfReplies, Kind, Session};
use crate::exit::{Exit, Failure};
use crate::patience::Patience;
use crate::progress::Progress;
use crate::relay::relay;
#[cfg(unix)]
use crate::relay::{End, Summary};
use crate::report::Report;
use crate::stdio;
use crate::verdict::{open_failure, verdict};

pub(crate) async fn run(arguments: ConnectArguments, report: Report) -> Result<(), Failure> {
    let name = &arguments.target;
    let (mut stdio, hang_up) = stdio::open()?;
    #[cfg(windows)]
    let Connection { stream: mut server, kind, directions } = open(&arguments, report).await?;
    #[cfg(unix)]
    let (bridge, mut server) = open(&arguments, report).await?;
    // The other half sends the end of a pipe of bytes, and then closes the connection.
    #[cfg(unix)]
    let (kind, directions) = (Kind::Messages, server.directions());
    report.detail(format_args!("connected to {name}"));
    // Over the bridge the other half sees the end of stdin, unless nothing of it is sent.
    let ends_here = cfg!(windows) || !directions.has(Direction::Requests);
    let end_of_input = EndOfInput::new(arguments.exit_on_stdin_eof && ends_here);
    let end_of_replies = EndOfReplies::ClosesStdout;
    let session = Session { directions, end_of_input, end_of_replies, ..Session::new(Kind::Stdio, kind) };
    let account = Account::of_stdio(name, Progress::new(arguments.progress.when, report), report);
    let mut hang_up = pin!(hang_up);
    let hung_up = |cx: &mut Context<'_>, _: &_| hang_up.as_mut().poll(cx);
    let ended = relay(&mut stdio, &mut server, session, hung_up, &account).await;
    #[cfg(windows)]
    let (_, summary) = ended;
    #[cfg(unix)]
    let summary = settled(ended, server, bridge).await;
    verdict(name, summary, arguments.accept_disconnect)
}

#[cfg(windows)]
async fn open(arguments: &ConnectArguments, report: Report) -> Result<Connection, Failure> {
    let name = &arguments.target;
    let patience = Patience::of_connect(arguments);
    let only = arguments.one_way.direction();
    let opened = match pipe::open_for_data(name, only, patience, false, report).await {
        Ok(opened) => opened,
        Err(gave_up) => return Err(open_failure(name, &gave_up.error, Some(gave_up.waited))),
    };
    if arguments.eof_message && opened.pipe.info().is_ok_and(|info| info.mode == PipeMode::Byte) {
        report.detail(format_args!(
            "{name} carries bytes, which have no empty message: the end of stdin is not passed on"
        ));
    }
    opened
        .for_stdio(arguments.end_at_empty_message, arguments.close_at_empty_message, arguments.eof_message)
        .map_err(|error| unusable(name, &error))
}

#[cfg(windows)]
fn unusable(name: &npipe::PipeName, error: &io::Error) -> Failure {
    Failure::new(Exit::Failure, format!("cannot ask what {name} is: {error}"))
}

#[cfg(unix)]
async fn open(arguments: &ConnectArguments, report: Report) -> Result<(Bridge, BridgeStream), Failure> {
    let program = find(arguments.windows_program.path.as_deref()).map_err(|reason| {
        Failure::new(
            Exit::Unsupported,
            format!("named pipes of this kind exist on Windows only, and {reason}"),
        )
    })?;
    let bridge = Bridge::new(Settings { program: Some(program), idle: None }, report);
    let opening = Opening {
        target: &format!("npipe:{}", arguments.target),
        patience: Patience::of_connect(arguments),
        launch: false,
        end_of_input: protocol::EndOfInput {
            sends_message: arguments.eof_message,
            ends_session: arguments.exit_on_stdin_eof,
        },
        end_at_empty_message: arguments.end_at_empty_message,
        half_close: arguments.close_at_empty_message,
        only: arguments.one_way.direction(),
    };
    match bridge.open(opening).await {
        Ok(stream) => Ok((bridge, stream)),
        Err(error) => Err(open_failure(&arguments.target, &error, None)),
    }
}

/// What the bridge took is not yet with the server: the other half reports what was, or delivers it
/// where nothing of it is read here any more.
#[cfg(unix)]
async fn settled((stop, mut summary): (Stop, Summary), server: BridgeStream, bridge: Bridge) -> Summary {
    let undelivered = match summary.requests.end {
        End::Abandoned { undelivered } => undelivered as u64,
        _ => 0,
    };
    let read = summary.requests.bytes + undelivered;
    if let (Some(taken), End::Eof | End::Abandoned { .. }) = (server.taken(), &summary.requests.end)
        && taken < read
    {
        summary.requests.bytes = taken;
        summary.requests.end = End::Abandoned { undelivered: (read - taken) as usize };
    }
    // A server that has ended its side earlier, and listens, is given the rest without a report.
    let is_on_its_way = matches!(summary.requests.end, End::Eof) && server.taken().is_none();
    drop(server);
    if stop == Stop::ClientHasGone || is_on_its_way {
        bridge.close().await;
    }
    summary
}
