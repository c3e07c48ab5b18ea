//! `npipe connect` where pipes are on the other side of the bridge: stdin and stdout, joined with one connection over a
//! Windows process of their own. What the end of stdin means is carried out there, beside the pipe.

use std::io;

use super::client::{Bridge, BridgeStream, Opening, Settings};
use super::process::find;
use super::protocol::{EndOfInput, RemoteError};
use crate::account::Account;
use crate::cli::ConnectArguments;
use crate::endings::{Kind, Session};
use crate::exit::{Exit, Failure};
use crate::patience::Patience;
use crate::progress::Progress;
use crate::relay::{End, Summary, relay};
use crate::report::Report;
use crate::verdict::verdict;

pub(crate) async fn run(arguments: ConnectArguments, report: Report) -> Result<(), Failure> {
    let name = &arguments.target;
    let program = find(arguments.windows_program.path.as_deref()).map_err(|reason| {
        Failure::new(
            Exit::Unsupported,
            format!("named pipes of this kind exist on Windows only, and {reason}"),
        )
    })?;
    let bridge = Bridge::new(Settings { program: Some(program), idle: None }, report);
    let opening = Opening {
        target: &format!("npipe:{name}"),
        patience: Patience::of_connect(&arguments),
        launch: false,
        end_of_input: EndOfInput {
            sends_message: arguments.eof_message,
            ends_session: arguments.exit_on_stdin_eof,
        },
        end_at_empty_message: arguments.end_at_empty_message,
    };
    let mut server = bridge.open(opening).await.map_err(|error| open_failure(&arguments, &error))?;
    report.detail(format_args!("connected to {name}"));
    let mut stdio = tokio::io::join(tokio::io::stdin(), tokio::io::stdout());
    let session = Session::new(Kind::Stdio, Kind::Pipe);
    let account = Account::of_stdio(name, Progress::new(arguments.progress.when, report), report);
    let (_, summary) = relay(&mut stdio, &mut server, session, &account).await;
    verdict(name, settled(summary, &server), arguments.accept_disconnect)
}

/// What the bridge took is not yet with the server: the other half tells what was.
fn settled(mut summary: Summary, server: &BridgeStream) -> Summary {
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
    summary
}

/// `ERROR_PIPE_BUSY`.
const PIPE_BUSY: i32 = 231;

fn open_failure(arguments: &ConnectArguments, error: &io::Error) -> Failure {
    let name = &arguments.target;
    let remote = error.get_ref().and_then(|error| error.downcast_ref::<RemoteError>());
    let (exit, words) = match remote {
        Some(remote) if remote.code == Some(PIPE_BUSY) => (
            Exit::Busy,
            format!("every instance of {name} stayed busy; try later, or wait longer with --wait or --poll"),
        ),
        Some(remote) if remote.kind == io::ErrorKind::NotFound => {
            (Exit::NotFound, format!("no program on the Windows side serves {name}; is the server running?"))
        }
        Some(remote) if remote.kind == io::ErrorKind::PermissionDenied => (
            Exit::AccessDenied,
            format!(
                "access to {name} is denied; its server may belong to another user, need elevation, or send in one \
                 direction only"
            ),
        ),
        Some(_) | None => (Exit::Failure, format!("cannot open {name}: {error}")),
    };
    Failure::new(exit, words)
}
