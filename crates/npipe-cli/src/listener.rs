//! Waiting for clients, on whatever they come to. A listener takes its name or refuses when it is made; after that no
//! error ends it: what goes wrong with one client, or for want of memory or handles, is reported and passes.

use std::fmt;
use std::io;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use crate::endpoint::TcpAddress;
use crate::exit::{Exit, Failure};
use crate::report::Report;

/// The pause before another attempt when a client cannot be taken: the causes, such as memory or the limit of
/// handles, pass when clients leave.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(200);

fn failure(listener: &dyn fmt::Display, error: &io::Error) -> Failure {
    let exit = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::AddrInUse => Exit::AccessDenied,
        _ => Exit::Failure,
    };
    Failure::new(exit, format!("cannot listen on {listener}: {error}"))
}

/// Repeats `attempt` until it succeeds. A cause that lasts is reported once.
async fn until_it_succeeds<T, F>(report: Report, what: &'static str, mut attempt: impl FnMut() -> F) -> T
where
    F: Future<Output = io::Result<T>>,
{
    let mut reported = false;
    loop {
        match attempt().await {
            Ok(done) => return done,
            Err(error) => {
                if !reported {
                    report.warning(format_args!("{what}, trying on: {error}"));
                    reported = true;
                }
                sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
}

pub(crate) struct Tcp {
    listener: TcpListener,
    report: Report,
}

impl Tcp {
    pub(crate) async fn bind(address: &TcpAddress, report: Report) -> Result<Tcp, Failure> {
        let listener = TcpListener::bind((address.host.as_str(), address.port))
            .await
            .map_err(|error| failure(address, &error))?;
        let local = listener.local_addr().map_err(|error| failure(address, &error))?;
        if !local.ip().is_loopback() {
            report.warning(format_args!(
                "{address} is open to other machines, and nothing here asks who comes; tcp:{} is not",
                local.port()
            ));
        }
        report.listening(&format_args!("tcp:{local}"));
        Ok(Tcp { listener, report })
    }

    pub(crate) async fn accept(&self) -> TcpStream {
        let what = "cannot take a client";
        let (stream, _) = until_it_succeeds(self.report, what, || self.listener.accept()).await;
        // Small replies would otherwise wait for an acknowledgement. A client that has gone already shows soon enough.
        let _ = stream.set_nodelay(true);
        stream
    }
}

#[cfg(unix)]
pub(crate) mod unix {
    //! A Unix socket that only its owner may connect to, and that is removed when its listener goes.

    use std::fs;
    use std::io;
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    use std::path::{Path, PathBuf};
    use std::pin::Pin;
    use std::task::{Context, Poll, ready};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::fs::Mode;
    use rustix::process::umask;
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
    use tokio::net::{UnixListener, UnixStream};

    use super::until_it_succeeds;
    use crate::endpoint::Listener;
    use crate::exit::{Exit, Failure};
    use crate::report::Report;

    pub(crate) struct Unix {
        listener: UnixListener,
        path: PathBuf,
        /// Device and inode: whoever has put another file there since keeps it.
        identity: (u64, u64),
        report: Report,
    }

    impl Unix {
        pub(crate) async fn bind(path: &Path, report: Report) -> Result<Unix, Failure> {
            let address = Listener::Unix(path.to_owned());
            let failure = |error: io::Error| match error.kind() {
                io::ErrorKind::NotFound => Failure::new(
                    Exit::Failure,
                    format!("cannot listen on {address}: the directory does not exist; make it first"),
                ),
                _ => super::failure(&address, &error),
            };
            let listener = match private_socket(path) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    remove_stale(path, &address).await?;
                    private_socket(path).map_err(failure)?
                }
                bound => bound.map_err(failure)?,
            };
            let identity = identity(path).map_err(failure)?;
            report.listening(&address);
            Ok(Unix { listener, path: path.to_owned(), identity, report })
        }

        pub(crate) async fn accept(&self) -> Client {
            let what = "cannot take a client";
            Client(until_it_succeeds(self.report, what, || self.listener.accept()).await.0)
        }
    }

    impl Drop for Unix {
        fn drop(&mut self) {
            if identity(&self.path).is_ok_and(|found| found == self.identity) {
                let _ = fs::remove_file(&self.path);
            }
        }
    }

    /// A client that tells having gone from having said all. A pipe at the other end can be told only the first; without
    /// it, each client that leaves, such as `ssh-add`, would leave a connection behind.
    #[derive(Debug)]
    pub(crate) struct Client(UnixStream);

    impl Client {
        /// Closed, and not only for what it says.
        fn has_gone(&self) -> bool {
            let mut asked = [PollFd::new(&self.0, PollFlags::empty())];
            poll(&mut asked, Some(&Timespec::default())).is_ok()
                && asked[0].revents().contains(PollFlags::HUP)
        }
    }

    impl AsyncRead for Client {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut self.0).poll_read(cx, buffer))?;
            let ended = buffer.filled().len() == before && buffer.remaining() > 0;
            Poll::Ready(if ended && self.has_gone() {
                Err(io::ErrorKind::ConnectionReset.into())
            } else {
                Ok(())
            })
        }
    }

    impl AsyncWrite for Client {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.0).poll_write(cx, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    /// The mode is the socket's from its first moment. The mask is the process's: nothing else makes files yet.
    fn private_socket(path: &Path) -> io::Result<UnixListener> {
        let before = umask(Mode::from_raw_mode(0o177));
        let bound = UnixListener::bind(path);
        umask(before);
        bound
    }

    fn identity(path: &Path) -> io::Result<(u64, u64)> {
        let metadata = fs::symlink_metadata(path)?;
        Ok((metadata.dev(), metadata.ino()))
    }

    /// Only a refused connection shows that nobody listens any more. Whatever else is found there belongs to somebody.
    async fn remove_stale(path: &Path, address: &Listener) -> Result<(), Failure> {
        let refusal =
            |reason: &str| Failure::new(Exit::AccessDenied, format!("cannot listen on {address}: {reason}"));
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Ok(metadata) if !metadata.file_type().is_socket() => {
                return Err(refusal("there is a file of that name that is not a socket"));
            }
            Ok(_) | Err(_) => {}
        }
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(|error| {
                    refusal(&format!("nobody listens there, and the old socket cannot be removed: {error}"))
                })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Ok(_) => Err(refusal("another program listens there; stop it, or choose another path")),
            Err(error) => {
                Err(refusal(&format!("cannot tell whether another program listens there: {error}")))
            }
        }
    }
}

#[cfg(windows)]
pub(crate) mod pipe {
    //! A named pipe with more than one instance. Its name never vanishes, so that nobody else can take it and no
    //! client finds it missing.

    use std::future::ready;
    use std::io;
    use std::time::Duration;

    use npipe::{NamedPipeServer, PipeMode, PipeName, ServerOptions};
    use tokio::time::{sleep, timeout};

    use super::{PAUSE_AFTER_ERROR, until_it_succeeds};
    use crate::exit::{Exit, Failure};
    use crate::report::Report;

    /// Instances that wait for a client at any time. With one, clients that come together meet ERROR_PIPE_BUSY, and
    /// many (OpenSSH's among them) do not try again.
    const BACKLOG: u8 = 4;

    /// How long a client may take to read the last bytes before its instance is given to the next one.
    const LONGEST_DRAIN: Duration = Duration::from_secs(30);

    pub(crate) struct Pipe {
        name: PipeName,
        mode: PipeMode,
        /// As many as the system allows, made as they are needed, or a fixed number, used again and again.
        limit: Option<u8>,
        report: Report,
    }

    impl Pipe {
        /// The instances are all to be served.
        pub(crate) fn bind(
            name: &PipeName,
            mode: PipeMode,
            limit: Option<u8>,
            report: Report,
        ) -> Result<(Pipe, Vec<NamedPipeServer>), Failure> {
            let pipe = Pipe { name: name.clone(), mode, limit, report };
            let instances = (0..limit.unwrap_or(BACKLOG))
                .map(|number| pipe.instance(number == 0))
                .collect::<io::Result<Vec<_>>>()
                .map_err(|error| match error.kind() {
                    io::ErrorKind::PermissionDenied => Failure::new(
                        Exit::AccessDenied,
                        format!(
                            "cannot listen on {name}: another program serves that name, or you may not create it"
                        ),
                    ),
                    _ => super::failure(name, &error),
                })?;
            report.listening(name);
            Ok((pipe, instances))
        }

        pub(crate) fn has_limit(&self) -> bool {
            self.limit.is_some()
        }

        fn instance(&self, first: bool) -> io::Result<NamedPipeServer> {
            let mut options = ServerOptions::new();
            options.first_pipe_instance(first).pipe_mode(self.mode);
            if let Some(limit) = self.limit {
                options.max_instances(limit.into());
            }
            options.create(&self.name)
        }

        /// Takes a client with `waiting` and puts the next instance in its place before the client is served, and
        /// before a broken one is dropped.
        pub(crate) async fn accept(&self, waiting: &mut NamedPipeServer) -> NamedPipeServer {
            loop {
                let accepted = waiting.connect().await;
                let what = "cannot add an instance of the pipe";
                let next = until_it_succeeds(self.report, what, || ready(self.instance(false))).await;
                let taken = std::mem::replace(waiting, next);
                match accepted {
                    Ok(()) => return taken,
                    Err(error) => {
                        self.report.warning(format_args!("cannot take a client of {}: {error}", self.name));
                        sleep(PAUSE_AFTER_ERROR).await;
                    }
                }
            }
        }

        /// Takes a client with `instance`.
        pub(crate) async fn connect(&self, instance: &NamedPipeServer) {
            let what = "cannot take a client";
            until_it_succeeds(self.report, what, || async {
                let connected = instance.connect().await;
                if connected.is_err() {
                    let _ = instance.disconnect();
                }
                connected
            })
            .await;
        }

        /// Makes `instance` free for the next client, once this one has read what it was sent.
        pub(crate) async fn release(&self, instance: &NamedPipeServer) {
            // Errors of both mean that the client has gone already.
            let _ = timeout(LONGEST_DRAIN, instance.drain()).await;
            let _ = instance.disconnect();
        }
    }
}
