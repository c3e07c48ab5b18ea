//! One connection in the Windows half of the bridge: its records joined with what was opened for
//! it. Which end means what is decided as everywhere; here the other half is told.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::io::poll_read_buf;

use super::records::Records;
use crate::account::Account;
use crate::dial::{Connection, Stream};
use crate::endings::{EndOfInput, Kind, Session, Stop};
use crate::relay::{self, End, unseen};

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for Records<S> {
    /// What the other half has read in one call is one record.
    fn poll_rest_of_message(&mut self, cx: &mut Context<'_>, message: &mut BytesMut) -> Poll<io::Result<()>> {
        while self.is_inside_data() {
            ready!(poll_read_buf(Pin::new(&mut *self), cx, message))?;
        }
        Poll::Ready(Ok(()))
    }
}

/// Joins the two until the target has said all, or the client has gone.
pub(super) async fn relay<C>(
    mut client: Records<C>,
    target: Connection,
    end_of_input: EndOfInput,
    account: &Account,
) where
    C: AsyncRead + AsyncWrite + Send + Unpin,
{
    let Connection { mut stream, kind, directions } = target;
    let session = Session { directions, end_of_input, ..Session::new(Kind::Bridge, kind) };
    let (stop, summary) = relay::relay(&mut client, &mut stream, session, unseen, account).await;
    let has_been_told = match &summary.replies.end {
        End::Eof => session.tells_client(true) && !stream.is_at_its_end(),
        End::ReadFailed(_) | End::WriteFailed(_) | End::Abandoned { .. } => false,
    };
    match &summary.replies.end {
        End::ReadFailed(error) => drop(client.fail(error).await),
        End::Eof | End::Abandoned { .. } if stop == Stop::Over && !has_been_told => {
            let taken = match summary.requests.end {
                // How much of it is missing is not known.
                End::WriteFailed(_) => summary.requests.bytes.saturating_sub(1),
                End::Eof | End::ReadFailed(_) | End::Abandoned { .. } => summary.requests.bytes,
            };
            if client.tell_taken(taken).await.is_ok() {
                let _ = client.shutdown().await;
            }
        }
        End::Eof | End::WriteFailed(_) | End::Abandoned { .. } => {}
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::timeout;

    use super::{Connection, EndOfInput, Kind, Records, relay};
    use crate::account::Account;
    use crate::report::Report;

    pub(in crate::bridge) const LIMIT: Duration = Duration::from_secs(60);

    /// Runs a connection to `target`, and gives its other end.
    pub(in crate::bridge) fn connection(
        target: Connection,
        end_of_input: EndOfInput,
    ) -> Records<DuplexStream> {
        let (here, there) = duplex(1000);
        tokio::spawn(async move {
            let account = Account::of_connection(1, Report::new(0));
            relay(Records::new(there), target, end_of_input, &account).await;
        });
        Records::new(here)
    }

    fn target(room: usize) -> (DuplexStream, Connection) {
        let (target, ours) = duplex(room);
        (target, Connection::new(ours, Kind::Pipe))
    }

    pub(in crate::bridge) async fn read_to_end(client: &mut Records<DuplexStream>) -> Vec<u8> {
        let mut received = Vec::new();
        timeout(LIMIT, client.read_to_end(&mut received)).await.expect("it hangs").unwrap();
        received
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_clients_bytes_ends_the_connection_when_asked_and_the_target_is_silent() {
        let (mut target, opened) = target(1000);
        let mut client = connection(opened, EndOfInput::EndsSession);
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
        let mut client = connection(opened, EndOfInput::KeepsSession);
        client.shutdown().await.unwrap();
        assert!(timeout(LIMIT, client.read(&mut [0])).await.is_err());
        target.write_all(b"late").await.unwrap();
        drop(target);
        assert_eq!(read_to_end(&mut client).await, b"late");
    }

    #[tokio::test(start_paused = true)]
    async fn what_lies_in_the_bridge_is_delivered_when_the_client_has_left_and_the_target_speaks() {
        let (mut target, opened) = target(10);
        let mut client = connection(opened, EndOfInput::KeepsSession);
        client.write_all(&[7; 500]).await.unwrap();
        client.shutdown().await.unwrap();
        drop(client);
        target.write_all(&[8; 500]).await.unwrap();
        let mut received = Vec::new();
        timeout(LIMIT, target.read_to_end(&mut received)).await.expect("it hangs").unwrap();
        assert_eq!(received, [7; 500]);
    }

    #[cfg(unix)]
    #[tokio::test(start_paused = true)]
    async fn a_target_that_ends_before_it_took_all_is_told() {
        let (mut target, opened) = target(4);
        let mut client = connection(opened, EndOfInput::KeepsSession);
        client.write_all(b"a long question").await.unwrap();
        client.flush().await.unwrap();
        target.read_exact(&mut [0; 4]).await.unwrap();
        drop(target);
        assert_eq!(read_to_end(&mut client).await, b"");
        assert!(client.taken().unwrap() < 15);
    }
}
