//! The bytes of one connection within the bridge, as records, so that the three ways in which a
//! direction ends are told apart: it ended, it failed (with an error of the other system), or the
//! bridge broke off. yamux alone has one end of file for all three, and forgets to tell a peer that
//! still sends that a half-closed stream was dropped; so yamux's half-close is not used, and
//! dropping the stream tells the other half at once.
//!
//! A record is a number of four bytes, big-endian, and what it announces: so many bytes of data,
//! the end (0), an error (`0xffff` and the length of a [`RemoteError`]), or how many bytes of the
//! other direction have been taken for good (`0xfffe0008`, and a number of eight bytes).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::protocol::{LONGEST_BLOCK, Malformed, RemoteError};

/// As much as a relay reads at once.
const LONGEST_DATA: usize = 64 * 1024;
pub(super) const LONGEST_RECORD: usize = HEADER + LONGEST_DATA;

const HEADER: usize = 4;
const END: u32 = 0;
const ERROR: u32 = 0xffff_0000;
const TAKEN: u32 = 0xfffe_0008;

/// A stream of records, seen as a stream of bytes with half-close (`shutdown`) and errors.
///
/// A read after the end waits until the other half drops the connection, and then fails: how else
/// would one who has nothing to say himself learn that his listener has gone.
#[derive(Debug)]
pub(crate) struct Records<S> {
    stream: S,
    incoming: Incoming,
    /// One record, of which `sent` bytes are with the stream.
    outgoing: Vec<u8>,
    sent: usize,
    /// Nothing can follow in this direction.
    said_all: bool,
    /// What the other half told of the bytes that we sent.
    taken: Option<u64>,
}

#[derive(Debug)]
enum Incoming {
    Header {
        bytes: [u8; HEADER],
        filled: usize,
    },
    Data {
        left: usize,
    },
    Error {
        body: Vec<u8>,
        filled: usize,
    },
    Taken {
        bytes: [u8; 8],
        filled: usize,
    },
    /// `told`: the reader has seen the end.
    Ended {
        told: bool,
    },
}

impl Incoming {
    const NEXT: Incoming = Incoming::Header { bytes: [0; HEADER], filled: 0 };

    fn announced(header: [u8; HEADER]) -> Result<Incoming, Malformed> {
        let number = u32::from_be_bytes(header);
        match (number, (number & !ERROR) as usize) {
            (END, _) => Ok(Incoming::Ended { told: false }),
            (TAKEN, _) => Ok(Incoming::Taken { bytes: [0; 8], filled: 0 }),
            (ERROR.., length) if length <= LONGEST_BLOCK => {
                Ok(Incoming::Error { body: vec![0; length], filled: 0 })
            }
            _ if number as usize <= LONGEST_DATA => Ok(Incoming::Data { left: number as usize }),
            _ => Err(Malformed("a record that is too long")),
        }
    }
}

impl<S> Records<S> {
    pub(crate) fn new(stream: S) -> Records<S> {
        Records {
            stream,
            incoming: Incoming::NEXT,
            outgoing: Vec::new(),
            sent: 0,
            said_all: false,
            taken: None,
        }
    }

    /// Returns whether the next read returns more of the same data record.
    pub(crate) fn is_inside_data(&self) -> bool {
        matches!(self.incoming, Incoming::Data { left: 1.. })
    }

    /// How many of the bytes that we sent were taken by whom they were for, if the other half has
    /// told.
    #[cfg(unix)]
    pub(crate) fn taken(&self) -> Option<u64> {
        self.taken
    }
}

impl<S: AsyncWrite + Unpin> Records<S> {
    /// Tells the other half how many of its bytes were taken by whom they were for.
    pub(crate) async fn tell_taken(&mut self, bytes: u64) -> io::Result<()> {
        self.flush().await?;
        self.start(TAKEN, &bytes.to_be_bytes());
        self.flush().await
    }

    /// Ends what we say with an error instead of an end, so that the other half does not take it
    /// for complete.
    pub(crate) async fn fail(&mut self, error: &io::Error) -> io::Result<()> {
        self.flush().await?;
        let body = RemoteError::from(error).encode();
        self.start(ERROR | body.len() as u32, &body);
        self.said_all = true;
        self.flush().await
    }

    fn start(&mut self, number: u32, payload: &[u8]) {
        self.outgoing.clear();
        self.outgoing.extend(number.to_be_bytes());
        self.outgoing.extend(payload);
        self.sent = 0;
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.outgoing.len() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.outgoing[self.sent..])) {
                Ok(0) => return Poll::Ready(Err(gone())),
                Ok(taken) => self.sent += taken,
                Err(error) => return Poll::Ready(Err(closed(error))),
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// yamux says "write zero" when its peer has closed the stream.
fn closed(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WriteZero { gone() } else { error }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the other half of the bridge has closed the connection")
}

fn broke_off() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the bridge broke off before the connection ended")
}

impl<S: AsyncRead + Unpin> AsyncRead for Records<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Records { stream, incoming, taken, .. } = &mut *self;
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            match incoming {
                Incoming::Header { bytes, filled } if *filled < HEADER => {
                    *filled += ready!(read_some(stream, cx, &mut bytes[*filled..]))?;
                }
                Incoming::Header { bytes, .. } => *incoming = Incoming::announced(*bytes)?,
                Incoming::Data { left: 0 } => *incoming = Incoming::NEXT,
                Incoming::Data { left } => {
                    let room = buffer.initialize_unfilled_to(buffer.remaining().min(*left));
                    let read = ready!(read_some(stream, cx, room))?;
                    buffer.advance(read);
                    *left -= read;
                    return Poll::Ready(Ok(()));
                }
                Incoming::Error { body, filled } if *filled < body.len() => {
                    *filled += ready!(read_some(stream, cx, &mut body[*filled..]))?;
                }
                Incoming::Error { body, .. } => {
                    let error = RemoteError::decode(body)?;
                    *incoming = Incoming::Ended { told: true };
                    return Poll::Ready(Err(error.into()));
                }
                Incoming::Taken { bytes, filled } if *filled < bytes.len() => {
                    *filled += ready!(read_some(stream, cx, &mut bytes[*filled..]))?;
                }
                Incoming::Taken { bytes, .. } => {
                    *taken = Some(u64::from_be_bytes(*bytes));
                    *incoming = Incoming::NEXT;
                }
                Incoming::Ended { told: told @ false } => {
                    *told = true;
                    return Poll::Ready(Ok(()));
                }
                Incoming::Ended { told: true } => {
                    ready!(read_some(stream, cx, &mut [0]))?;
                    return Poll::Ready(Err(Malformed("data after its end").into()));
                }
            }
        }
    }
}

/// Reads at least one byte: the end of the stream is not the end of the connection.
fn read_some<S: AsyncRead + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    bytes: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(bytes);
    ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
    Poll::Ready(match buffer.filled().len() {
        0 => Err(broke_off()),
        read => Ok(read),
    })
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Records<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(cx))?;
        if self.said_all {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let length = bytes.len().min(LONGEST_DATA);
        if length == 0 {
            return Poll::Ready(Ok(0));
        }
        self.start(length as u32, &bytes[..length]);
        // What does not fit now is sent with the next write or flush.
        match self.poll_send(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(length)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx).map_err(closed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        if !self.said_all {
            self.start(END, &[]);
            self.said_all = true;
        }
        self.poll_flush(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::{LONGEST_BLOCK, LONGEST_DATA, Records};

    fn pair(room: usize) -> (Records<tokio::io::DuplexStream>, Records<tokio::io::DuplexStream>) {
        let (here, there) = duplex(room);
        (Records::new(here), Records::new(there))
    }

    #[tokio::test]
    async fn both_directions_carry_everything_and_end_apart() {
        let (mut here, mut there) = pair(1000);
        let request: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
        let sent = async {
            here.write_all(&request).await.unwrap();
            here.shutdown().await.unwrap();
            let mut reply = Vec::new();
            here.read_to_end(&mut reply).await.unwrap();
            reply
        };
        let received = async {
            let mut received = Vec::new();
            there.read_to_end(&mut received).await.unwrap();
            there.write_all(b"a reply after the end of the request").await.unwrap();
            there.shutdown().await.unwrap();
            received
        };
        let (reply, received) = tokio::join!(sent, received);
        assert_eq!(reply, b"a reply after the end of the request");
        assert!(received == request);
    }

    #[tokio::test]
    async fn an_error_arrives_after_the_data_with_its_kind_and_text() {
        let (mut here, mut there) = pair(1000);
        there.write_all(b"half").await.unwrap();
        there.fail(&io::Error::from_raw_os_error(2)).await.unwrap();
        let mut received = Vec::new();
        let error = here.read_to_end(&mut received).await.unwrap_err();
        assert_eq!((&received[..], error.kind()), (&b"half"[..], io::ErrorKind::NotFound));
        assert!(error.to_string().contains("(os error 2)"), "{error}");
        assert_eq!(there.write(b"more").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn what_was_taken_is_told_between_data_and_is_no_data() {
        let (mut here, mut there) = pair(1000);
        there.write_all(b"before").await.unwrap();
        there.tell_taken(0x0102_0304_0506).await.unwrap();
        there.write_all(b" and after").await.unwrap();
        there.shutdown().await.unwrap();
        assert_eq!(here.taken(), None);
        let mut received = Vec::new();
        here.read_to_end(&mut received).await.unwrap();
        assert_eq!((&received[..], here.taken()), (&b"before and after"[..], Some(0x0102_0304_0506)));
    }

    #[tokio::test]
    async fn a_stream_that_breaks_off_is_no_end() {
        let (mut here, mut there) = pair(1000);
        there.write_all(b"half").await.unwrap();
        there.flush().await.unwrap();
        drop(there);
        let mut received = Vec::new();
        let error = here.read_to_end(&mut received).await.unwrap_err();
        assert_eq!((&received[..], error.kind()), (&b"half"[..], io::ErrorKind::ConnectionReset));
    }

    #[tokio::test]
    async fn after_the_end_a_read_tells_when_the_other_half_has_gone() {
        let (mut here, mut there) = pair(1000);
        there.shutdown().await.unwrap();
        assert_eq!(here.read(&mut [0]).await.unwrap(), 0);
        let mut listening = tokio_test::task::spawn(async { here.read(&mut [0]).await });
        assert!(listening.poll().is_pending());
        drop(there);
        assert_eq!(listening.await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_record_of_impossible_length_is_refused() {
        for number in [LONGEST_DATA as u32 + 1, 0xffff_0001 + LONGEST_BLOCK as u32, 0xfffe_ffff] {
            let (mut there, here) = duplex(100);
            there.write_all(&number.to_be_bytes()).await.unwrap();
            let error = Records::new(here).read(&mut [0; 10]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{number:x}");
        }
    }

    proptest! {
        #[test]
        fn whatever_arrives_is_data_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300), small in any::<bool>()) {
            // With the first two bytes zero, most of it are lengths that could be true.
            let bytes = if small { [&[0, 0], &bytes[..]].concat() } else { bytes };
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let mut received = Vec::new();
                let _ = Records::new(&bytes[..]).read_to_end(&mut received).await;
                assert!(received.len() <= bytes.len());
            });
        }
    }
}
