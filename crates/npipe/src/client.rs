//! The client's end.

use std::io;
use std::os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle, RawHandle};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};

use crate::coop;
use crate::driver::Driver;
use crate::halves::{OwnedReadHalf, OwnedWriteHalf, split};
use crate::info::{Peek, PipeInfo};
use crate::interest::{Interest, Ready};
use crate::peer::Peer;
use crate::pipe_end::pipe_end;
use crate::security::SecurityDescriptor;
use crate::stream::{Growing, Key, LingerTime, Settings, Slice, Slices, Stream};

/// The client's end of a pipe. Made by [`ClientOptions::open`](crate::ClientOptions::open).
///
/// Reading and writing are those of the async traits, or [`try_read`](Self::try_read) and
/// [`try_write`](Self::try_write).
///
/// Dropping it closes the connection. Written data arrives if the server reads within five minutes,
/// which [`set_linger`](Self::set_linger) changes, also when the runtime is dropped too. The end of
/// the process cuts that short.
///
/// ```no_run
/// # #[cfg(feature = "tokio")]
/// # async fn ask() -> std::io::Result<()> {
/// use npipe::ClientOptions;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// let mut client = ClientOptions::new().open(r"\\.\pipe\inventory")?;
/// client.write_all(b"how many apples?").await?;
/// let mut answer = [0; 16];
/// client.read_exact(&mut answer).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct NamedPipeClient {
    pub(crate) stream: Stream,
}

pipe_end!(NamedPipeClient);
