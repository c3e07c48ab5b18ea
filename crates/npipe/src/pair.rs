//! Both ends of a new pipe, connected. Its name is nobody else's business: it cannot be guessed,
//! has one instance, and is open to the user who makes it alone.

use std::io;

use crate::driver::Driver;
use crate::machine::verdict::{self, Open, RetryReason};
use crate::name::PipeName;
use crate::security::SecurityDescriptor;
use crate::stream::{Settings, Stream};
use crate::sys::{self, OwnedHandle};
use crate::{ClientOptions, NamedPipeClient, NamedPipeServer, ServerOptions};

/// How often the one instance may be taken by somebody who looks into every pipe that appears, as
/// monitors do.
const ATTEMPTS: u32 = 3;

/// A connected pair: both ends of a pipe that nobody else has. For tests, and to hand one end to
/// another task or, made with [`blocking::pair_with`](crate::blocking::pair_with), to another
/// process.
///
/// The pipe has a name that cannot be guessed, one instance, which refuses clients of other
/// machines, and is open to this user only.
///
/// For stdin and stdout of a program that does not use npipe there is
/// [`blocking::child_stdio`](crate::blocking::child_stdio()): the handles of a pair are overlapped,
/// and such a program fails on them.
///
/// ```no_run
/// # #[cfg(all(windows, feature = "tokio"))]
/// # async fn talk() -> std::io::Result<()> {
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// let (mut server, mut client) = npipe::pair()?;
/// server.write_all(b"hello").await?;
/// let mut bytes = [0; 5];
/// client.read_exact(&mut bytes).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// The system's.
pub fn pair() -> io::Result<(NamedPipeServer, NamedPipeClient)> {
    pair_with(&ServerOptions::new(), &ClientOptions::new())
}

/// [`pair`] with options. The number of instances and that it is the first are not theirs to say;
/// the access list is if they have one.
///
/// # Errors
///
/// Those of the options: see [`ServerOptions::create`] and [`ClientOptions::open`].
pub fn pair_with(
    server: &ServerOptions,
    client: &ClientOptions,
) -> io::Result<(NamedPipeServer, NamedPipeClient)> {
    server.refuse_inheritable()?;
    client.refuse_inheritable()?;
    let [server, client] =
        handles(server, client)?.map(|(handle, settings)| Stream::new(handle, Driver::current()?, settings));
    Ok((NamedPipeServer::from_stream(server?), NamedPipeClient::from_stream(client?)))
}

/// The server's and the client's handle.
pub(crate) fn handles(
    server: &ServerOptions,
    client: &ClientOptions,
) -> io::Result<[(OwnedHandle, Settings); 2]> {
    let (server, client) =
        connected(server, |name| client.open_once(name, sys::SecurityAttributes::DEFAULT))?;
    Ok([server, client])
}

/// The server's handle, and the client's as `open` makes it.
pub(crate) fn connected<T>(
    server: &ServerOptions,
    open: impl Fn(&PipeName) -> io::Result<T>,
) -> io::Result<((OwnedHandle, Settings), T)> {
    let mut server = server.clone();
    server.first_pipe_instance(true).max_instances(1);
    server.protect_by_default(&SecurityDescriptor::current_user_only()?);
    let mut attempt = 1;
    loop {
        let name = PipeName::unguessable("pair");
        let created = server.create_any_handle(&name, sys::SecurityAttributes::DEFAULT)?;
        match open(&name) {
            // The instance listens from its creation, so this is its client.
            Ok(opened) => return Ok((created, opened)),
            Err(error) if attempt < ATTEMPTS && is_busy(&error) => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

fn is_busy(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| verdict::open(code as u32) == Open::Later(RetryReason::Busy))
}
