//! Whether the other half of the bridge still answers. Everything that arrives from it is counted
//! below yamux, and the Linux half sends pings over a stream of its own, which the Windows half
//! sends back, so that something arrives also when no connection moves.
//!
//! Silence is measured in looks, not by a clock: while a process or its machine is suspended no
//! look is taken, and that time does not count.

#[cfg(unix)]
use std::env;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
#[cfg(unix)]
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy, split};
#[cfg(unix)]
use tokio::io::{AsyncWriteExt, sink};
use tokio::sync::oneshot;
use tokio::time::sleep;
#[cfg(unix)]
use tokio::time::{MissedTickBehavior, interval};

#[cfg(unix)]
use super::protocol::write_block;
use super::protocol::{Silence, read_block};

/// The number of looks without a byte after which the other half counts as dead.
const LOOKS: u32 = 10;

/// The number of pings in that time.
#[cfg(unix)]
const PINGS: u32 = 2;

/// The variable with the limit in milliseconds, for tests.
#[cfg(unix)]
const LIMIT_VARIABLE: &str = "NPIPE_BRIDGE_SILENCE";

#[cfg(unix)]
impl Silence {
    /// The limit of this process, which the Linux half announces to the Windows half.
    pub(super) fn of_environment() -> Silence {
        let told = env::var(LIMIT_VARIABLE).ok().and_then(|milliseconds| milliseconds.parse().ok());
        let told = told.filter(|milliseconds| *milliseconds > 0);
        told.map_or(Silence::default(), |milliseconds: u32| Silence {
            limit: Duration::from_millis(milliseconds.into()),
        })
    }
}

/// The number of bytes that have arrived from the other half.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Arc<AtomicU64>);

impl Heard {
    fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Completes when nothing has arrived for as long as `silence` allows.
    pub(super) async fn silence(&self, silence: Silence) {
        let mut before = self.bytes();
        let mut silent = 0;
        while silent < LOOKS {
            // One that comes late, since the process did not run, counts as one.
            sleep(silence.limit / LOOKS).await;
            let now = self.bytes();
            silent = if now == before { silent + 1 } else { 0 };
            before = now;
        }
    }
}

/// A transport that counts the bytes that arrive on it.
#[derive(Debug)]
pub(super) struct Monitored<T> {
    transport: T,
    heard: Heard,
}

impl<T> Monitored<T> {
    pub(super) fn new(transport: T) -> (Monitored<T>, Heard) {
        let heard = Heard::default();
        (Monitored { transport, heard: heard.clone() }, heard)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Monitored<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.transport).poll_read(cx, buffer))?;
        self.heard.0.fetch_add((buffer.filled().len() - before) as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Monitored<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}

/// Announces `silence` to the Windows half and pings it, until the stream breaks.
#[cfg(unix)]
pub(super) async fn ping<S: AsyncRead + AsyncWrite>(stream: S, silence: Silence) -> io::Result<()> {
    let (mut echoes, mut pings) = split(stream);
    let send = async {
        write_block(&mut pings, &silence.encode()).await?;
        let mut due = interval(silence.limit / PINGS);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            due.tick().await;
            pings.write_all(&[0]).await?;
            pings.flush().await?;
        }
    };
    let ended = async { copy(&mut echoes, &mut sink()).await.map(drop) };
    tokio::select! {
        sent = send => sent,
        ended = ended => ended,
    }
}

/// Receives the announcement of [`ping`] and passes it on. Afterwards it sends each ping back,
/// until the stream breaks.
pub(super) async fn echo<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    announced: oneshot::Sender<Silence>,
) -> io::Result<()> {
    let silence = Silence::decode(&read_block(&mut stream).await?)?;
    let _ = announced.send(silence);
    let (mut pings, mut echoes) = split(stream);
    copy(&mut pings, &mut echoes).await.map(drop)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::{Instant, advance, timeout};
    use tokio_test::{assert_pending, assert_ready, task};

    use super::{LOOKS, Monitored, Silence};

    #[tokio::test(start_paused = true)]
    async fn a_byte_ends_the_silence_and_the_limit_begins_again() {
        let (mut there, here) = duplex(100);
        let (mut here, heard) = Monitored::new(here);
        let silence = Silence { limit: Duration::from_secs(20) };
        let begin = Instant::now();
        let mut waiting = task::spawn(heard.silence(silence));
        for _ in 0..5 {
            assert!(timeout(Duration::from_secs(17), &mut waiting).await.is_err(), "too early");
            there.write_all(b"x").await.unwrap();
            here.read_exact(&mut [0]).await.unwrap();
        }
        waiting.await;
        // Of the last byte, at 85 s, the next look shows, one second later.
        assert_eq!(begin.elapsed(), Duration::from_secs(106));
    }

    /// A suspended process takes no look. The first look after it is one, however late.
    #[tokio::test(start_paused = true)]
    async fn time_without_a_look_does_not_count() {
        let (_there, here) = duplex(100);
        let (_here, heard) = Monitored::new(here);
        let silence = Silence::default();
        let mut waiting = task::spawn(heard.silence(silence));
        assert_pending!(waiting.poll());
        for _ in 1..LOOKS {
            advance(Duration::from_secs(3600)).await;
            assert_pending!(waiting.poll());
        }
        advance(silence.limit / LOOKS).await;
        assert_ready!(waiting.poll());
    }
}
