//! Both ends of a new pipe, for threads.

use std::io;

use super::PipeStream;
use crate::options::{ClientOptions, ServerOptions};
use crate::pair::handles;

/// A connected pair, the server's end first: both ends of a pipe that nobody else has. As
/// [`npipe::pair`](crate::pair()), which tells more of it.
///
/// ```no_run
/// use std::io::{Read, Write};
///
/// let (mut server, mut client) = npipe::blocking::pair()?;
/// server.write_all(b"hello")?;
/// client.read_exact(&mut [0; 5])?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// The system's.
pub fn pair() -> io::Result<(PipeStream, PipeStream)> {
    pair_with(&ServerOptions::new(), &ClientOptions::new())
}

/// [`pair`] with options. The number of instances and that it is the first are not theirs to say;
/// the access list is if they have one.
///
/// An end for a child process that uses npipe, and an async one for this process. For other
/// programs there is [`child_stdio`](super::child_stdio()).
///
/// ```no_run
/// # async fn start() -> Result<(), Box<dyn std::error::Error>> {
/// use std::os::windows::io::OwnedHandle;
/// use std::process::{Command, Stdio};
///
/// let (ours, theirs) = npipe::blocking::pair()?;
/// let child = Command::new("worker").stdin(Stdio::from(OwnedHandle::try_from(theirs)?)).spawn()?;
/// let ours = ours.into_server()?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Those of the options: see [`ServerOptions::create`] and [`ClientOptions::open`].
pub fn pair_with(server: &ServerOptions, client: &ClientOptions) -> io::Result<(PipeStream, PipeStream)> {
    let [server, client] =
        handles(server, client)?.map(|(handle, settings)| PipeStream::new(handle, settings));
    Ok((server, client))
}
