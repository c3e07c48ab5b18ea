//! One connection in the Windows half of the bridge: its records joined with what was opened for it.
//!
//! These are the rules of endings as far as this half knows them: it sees the target's end, and not who the client is.
//! What an end means beyond that is for the Linux half to decide, which runs `crate::relay`.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::protocol::EndOfInput;
use super::records::Records;
use crate::dial::Stream;
use crate::relay::Kind;

/// How long the last write may take once the target has ended: it ends with an error at once, or not at all.
const LAST_FLUSH: Duration = Duration::from_secs(1);

/// How long the target has to be silent until the end of the client's bytes ends the connection, where that was asked for. As
/// in `session`: what the pipe holds is read without waiting.
const SILENCE: Duration = Duration::from_millis(100);

const SMALLEST_BUFFER: usize = 8 * 1024;
const LARGEST_BUFFER: usize = 64 * 1024;

/// What was opened.
pub(super) struct Opened {
    pub(super) stream: Box<dyn Stream>,
    pub(super) kind: Kind,
}

/// What went one way.
#[derive(Default)]
pub(super) struct Moved {
    /// Bytes that the receiver took.
    bytes: AtomicU64,
    /// Some have been read and are not yet with the receiver.
    is_writing: AtomicBool,
}

impl Moved {
    pub(super) fn bytes(&self) -> u64 {
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
pub(super) async fn relay<C>(
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
pub(super) mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::timeout;

    use super::{EndOfInput, Kind, Moved, Opened, Records, relay};

    pub(in crate::bridge) const LIMIT: Duration = Duration::from_secs(60);

    /// Runs a connection to `target`, and gives its other end.
    pub(in crate::bridge) fn connection(target: Opened, end_of_input: EndOfInput) -> Records<DuplexStream> {
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

    pub(in crate::bridge) async fn read_to_end(client: &mut Records<DuplexStream>) -> Vec<u8> {
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
}
