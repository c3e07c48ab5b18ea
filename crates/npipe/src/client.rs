//! The client's end.

use crate::pipe_end::{Client, Pipe};

/// The client's end of a pipe. Made by [`ClientOptions::open`](crate::ClientOptions::open).
///
/// Reading and writing are those of the async traits, or [`try_read`](NamedPipeClient::try_read)
/// and [`try_write`](NamedPipeClient::try_write).
///
/// Dropping it closes the connection. Written data arrives if the server reads within five minutes,
/// which [`set_linger`](NamedPipeClient::set_linger) changes, also when the runtime is dropped too.
/// The end of the process cuts that short.
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
pub type NamedPipeClient = Pipe<Client>;
