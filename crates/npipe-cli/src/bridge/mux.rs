//! How yamux is set up, alike in both halves of the bridge, and why it ended.

use std::cell::RefCell;
use std::sync::Once;
use std::task::{Context, Poll};

use log::{Level, LevelFilter, Log, Metadata, Record};
use tokio::io::{AsyncRead, AsyncWrite, BufStream};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};
use yamux::{Config, Connection, Mode, Stream};

use super::records::LONGEST_RECORD;

/// Connections at a time. yamux may have more streams than that, in the Windows half more than in
/// the Linux half: it may not have noticed yet that one was dropped, and ends all for one stream
/// too many.
pub(super) const MOST_CONNECTIONS: usize = 1024;
const MOST_STREAMS: usize = 2 * MOST_CONNECTIONS;
const MOST_STREAMS_ACCEPTED: usize = 2 * MOST_STREAMS;

/// What all connections together may have in buffers beyond yamux's 256 KiB for each.
const ADDITIONAL_WINDOW: usize = 64 * 1024 * 1024;

/// yamux reads and writes headers of twelve bytes by themselves; a system call for each would cost
/// more than the copy. On Windows a write of stdout is a thread's errand: what comes together
/// meanwhile goes with the next one, if there is room.
const TRANSPORT_BUFFER: usize = 8 * LONGEST_RECORD;

pub(super) type Mux<T> = Connection<Compat<BufStream<T>>>;

pub(super) fn mux<T: AsyncRead + AsyncWrite + Unpin>(transport: T, mode: Mode) -> Mux<T> {
    let streams = match mode {
        Mode::Client => MOST_STREAMS,
        Mode::Server => MOST_STREAMS_ACCEPTED,
    };
    let mut config = Config::default();
    config
        .set_max_connection_receive_window(None)
        .set_max_num_streams(streams)
        .set_max_connection_receive_window(Some(streams * yamux::DEFAULT_CREDIT as usize + ADDITIONAL_WINDOW))
        .set_split_send_size(LONGEST_RECORD);
    static INSTALL: Once = Once::new();
    // The process has no other logger.
    INSTALL.call_once(|| {
        let _ = log::set_logger(&Reasons);
        log::set_max_level(LevelFilter::Error);
    });
    let buffered = BufStream::with_capacity(TRANSPORT_BUFFER, TRANSPORT_BUFFER, transport);
    Connection::new(buffered.compat(), config, mode)
}

/// The next stream that the other half opens, or none once the transport has ended. The error is
/// the reason in words.
pub(super) fn poll_inbound<T: AsyncRead + AsyncWrite + Unpin>(
    mux: &mut Mux<T>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Stream, String>>> {
    REASON.set(None);
    let polled = mux.poll_next_inbound(cx);
    if let Some(reason) = REASON.take() {
        return Poll::Ready(Some(Err(reason)));
    }
    polled.map_err(|error| error.to_string())
}

thread_local! {
    static REASON: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps the reason when the other half violates the protocol of yamux, which gives it to `log`
/// alone and goes on, until the other half takes its farewell for the end.
struct Reasons;

impl Log for Reasons {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() == Level::Error && metadata.target().starts_with("yamux")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            REASON.set(Some(record.args().to_string()));
        }
    }

    fn flush(&self) {}
}
