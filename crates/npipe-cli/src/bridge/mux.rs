//! How yamux is set up, alike in both halves of the bridge.

use tokio::io::{AsyncRead, AsyncWrite, BufStream};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};
use yamux::{Config, Connection, Mode};

use super::records::LONGEST_RECORD;

/// Connections at a time. The Windows half takes more than the Linux half asks for: what one has dropped the other may
/// not have noticed yet, and yamux answers one stream too many by ending all.
pub(super) const MOST_CONNECTIONS: usize = 1024;
const MOST_STREAMS_ACCEPTED: usize = 4 * MOST_CONNECTIONS;

/// What all connections together may have in buffers beyond yamux's 256 KiB for each.
const ADDITIONAL_WINDOW: usize = 64 * 1024 * 1024;

/// yamux reads and writes headers of twelve bytes by themselves; a system call for each would cost more than the copy. On
/// Windows a write of stdout is a thread's errand: what comes together meanwhile goes with the next one, if there is room.
const TRANSPORT_BUFFER: usize = 8 * LONGEST_RECORD;

pub(super) type Mux<T> = Connection<Compat<BufStream<T>>>;

pub(super) fn mux<T: AsyncRead + AsyncWrite + Unpin>(transport: T, mode: Mode) -> Mux<T> {
    let streams = match mode {
        Mode::Client => MOST_CONNECTIONS,
        Mode::Server => MOST_STREAMS_ACCEPTED,
    };
    let mut config = Config::default();
    config
        .set_max_connection_receive_window(None)
        .set_max_num_streams(streams)
        .set_max_connection_receive_window(Some(streams * yamux::DEFAULT_CREDIT as usize + ADDITIONAL_WINDOW))
        .set_split_send_size(LONGEST_RECORD);
    let buffered = BufStream::with_capacity(TRANSPORT_BUFFER, TRANSPORT_BUFFER, transport);
    Connection::new(buffered.compat(), config, mode)
}
