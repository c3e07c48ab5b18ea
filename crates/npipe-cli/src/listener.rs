//! Waiting for clients, on whatever they come to. A listener takes its name or refuses when it is
//! made; after that no error ends it: what goes wrong with one client, or for want of memory or
//! handles, is reported and passes.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

#[cfg(unix)]
use rustix::io::Errno;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep, interval_at, sleep};

use crate::dial::Stream;
use crate::endpoint::{Listener, Target, TcpAddress};
#[cfg(unix)]
use crate::ends::leads_back_by_path;
use crate::ends::{leads_back, leads_to_itself};
use crate::exit::{Exit, Failure};
#[cfg(unix)]
use crate::limit;
use crate::limit::Recurring;
use crate::report::Report;

/// The pause before another attempt when a client cannot be taken: the causes, such as memory or
/// the limit of handles, pass when clients leave.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(200);

fn failure(listener: &dyn fmt::Display, error: &io::Error) -> Failure {
    let exit = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::AddrInUse => Exit::AccessDenied,
        _ => Exit::Failure,
    };
    Failure::new(exit, format!("cannot listen on {listener}: {error}"))
}

/// Accepts clients for a listener, whose errors pass.
struct Acceptor {
    report: Report,
    failure: Recurring,
}

impl Acceptor {
    fn new(report: Report) -> Acceptor {
        Acceptor { report, failure: Recurring::default() }
    }

    /// Repeats `attempt` until it succeeds. A cause that lasts is reported once.
    async fn until_it_succeeds<T, F>(&self, mut attempt: impl FnMut() -> F) -> T
    where
        F: Future<Output = io::Result<T>>,
    {
        let mut reported = false;
        loop {
            match attempt().await {
                Ok(done) => return done,
                Err(error) => {
                    if !reported {
                        self.report(&error);
                        reported = true;
                    }
                    sleep(PAUSE_AFTER_ERROR).await;
                }
            }
        }
    }

    fn report(&self, error: &io::Error) {
        #[cfg(unix)]
        if error.raw_os_error() == Some(Errno::MFILE.raw_os_error())
            && let Some(limit) = limit::open_files()
        {
            return self.failure.report(
                self.report,
                format_args!(
                    "a client waits until another has left: {limit} files are open, and the kernel \
                     allows no more; raise that with `ulimit -n` (LimitNOFILE= in a unit)"
                ),
            );
        }
        self.failure.report(self.report, format_args!("cannot take a client, trying on: {error}"));
    }
}

/// A listener whose clients are sockets.
pub(crate) enum Socket {
    Tcp(Tcp),
    #[cfg(unix)]
    Unix(unix::Unix),
}

impl Socket {
    /// A listener for connections to `target`, which must not lead back to it.
    pub(crate) async fn bind(listen: &Listener, target: &Target, report: Report) -> Result<Socket, Failure> {
        match listen {
            Listener::Tcp(address) => Tcp::bind(address, target, report).await.map(Socket::Tcp),
            #[cfg(unix)]
            Listener::Unix(path) if leads_back_by_path(target, path) => Err(leads_to_itself(listen, target)),
            #[cfg(unix)]
            Listener::Unix(path) => unix::Unix::bind(path, report).await.map(Socket::Unix),
            #[cfg(unix)]
            Listener::Systemd => systemd::take(target, report).await,
            _ => unreachable!("{listen} is no socket, or was refused before"),
        }
    }

    pub(crate) async fn accept(&mut self) -> Box<dyn Client> {
        match self {
            Socket::Tcp(listener) => Box::new(listener.accept().await),
            #[cfg(unix)]
            Socket::Unix(listener) => Box::new(listener.accept().await),
        }
    }
}

/// A stream to a client that came to a listener.
pub(crate) trait Client: Stream {
    fn presence(&self) -> Presence;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It has not left, or the kernel does not show it.
    Here,
    /// It has left, and bytes that it sent are still to be read.
    #[cfg_attr(
        windows,
        expect(dead_code, reason = "Windows shows that a client has left only after its bytes")
    )]
    LeftBytes,
    Left,
}

impl Client for Box<dyn Client> {
    fn presence(&self) -> Presence {
        (**self).presence()
    }
}

/// The number of looks for which a client that left bytes behind still waits for its target.
const LOOKS_FOR_BYTES: u32 = 5;

/// Completes when the client has left, and it is of no use any more to connect it to a target.
pub(crate) async fn left(client: &mut impl Client) {
    let mut looks = 0;
    loop {
        sleep(LOOK).await;
        match client.presence() {
            Presence::Here => {}
            Presence::LeftBytes if looks < LOOKS_FOR_BYTES => looks += 1,
            Presence::LeftBytes | Presence::Left => return,
        }
    }
}

/// Looks at a client during its session: a target that takes nothing or says nothing does not show
/// that the client has left.
pub(crate) struct Looks(Interval);

impl Looks {
    pub(crate) fn new() -> Looks {
        let mut interval = interval_at(Instant::now() + LOOK, LOOK);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Looks(interval)
    }

    /// Ready when the client has left, whether or not all of its bytes have been read.
    pub(crate) fn poll_left(&mut self, cx: &mut Context<'_>, client: &impl Client) -> Poll<()> {
        loop {
            ready!(self.0.poll_tick(cx));
            if client.presence() != Presence::Here {
                return Poll::Ready(());
            }
        }
    }
}

/// How often a client is looked at that has said all, or for which no target is there yet.
const LOOK: Duration = Duration::from_secs(1);

/// A client that tells having gone from having said all. A pipe at the other end can be told only
/// the first; without it, each client that leaves, such as `ssh-add`, would leave a connection
/// behind.
///
/// A read after the end waits until the client has gone, and then fails. Once the client has been
/// told our end, its own is the end of the connection, and going is no news.
struct SocketClient<S> {
    stream: S,
    /// Since the client has said all.
    next_look: Option<Pin<Box<Sleep>>>,
    is_told_the_end: bool,
}

trait Connected {
    fn presence(&self) -> Presence;
}

impl<S> SocketClient<S> {
    fn new(stream: S) -> SocketClient<S> {
        SocketClient { stream, next_look: None, is_told_the_end: false }
    }
}

impl<S: Connected + Stream> Client for SocketClient<S> {
    fn presence(&self) -> Presence {
        self.stream.presence()
    }
}

impl<S: Connected + Stream> Stream for SocketClient<S> {}

impl<S: AsyncRead + Connected + Unpin> AsyncRead for SocketClient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let SocketClient { stream, next_look, is_told_the_end } = &mut *self;
        let has_gone = |stream: &S| !*is_told_the_end && stream.presence() != Presence::Here;
        let gone = || Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        match next_look {
            None => {
                let before = buffer.filled().len();
                ready!(Pin::new(&mut *stream).poll_read(cx, buffer))?;
                if buffer.filled().len() == before && buffer.remaining() > 0 {
                    if has_gone(stream) {
                        return gone();
                    }
                    *next_look = Some(Box::pin(sleep(LOOK)));
                }
                Poll::Ready(Ok(()))
            }
            Some(next_look) => loop {
                if has_gone(stream) {
                    return gone();
                }
                ready!(next_look.as_mut().poll(cx));
                next_look.as_mut().reset(Instant::now() + LOOK);
            },
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for SocketClient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_told_the_end = true;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

pub(crate) struct Tcp {
    listener: TcpListener,
    acceptor: Acceptor,
}

impl Tcp {
    async fn bind(address: &TcpAddress, target: &Target, report: Report) -> Result<Tcp, Failure> {
        let host = (address.host.as_str(), address.port);
        let listener = TcpListener::bind(host).await;
        let local = match &listener {
            Ok(listener) => listener.local_addr().ok(),
            // Such as one that is taken.
            Err(_) => lookup_host(host).await.ok().and_then(|mut addresses| addresses.next()),
        };
        if let Some(local) = local
            && leads_back(target, local).await
        {
            return Err(leads_to_itself(&Listener::Tcp(address.clone()), target));
        }
        listener
            .and_then(|listener| Tcp::new(listener, address, report))
            .map_err(|error| failure(address, &error))
    }

    fn new(listener: TcpListener, address: &dyn fmt::Display, report: Report) -> io::Result<Tcp> {
        let local = listener.local_addr()?;
        if !local.ip().is_loopback() {
            report.warning(format_args!(
                "other machines can connect to {address}, and npipe checks no password; tcp:{} is for \
                 this machine only",
                local.port()
            ));
        }
        report.listening(&format_args!("tcp:{local}"));
        Ok(Tcp { listener, acceptor: Acceptor::new(report) })
    }

    async fn accept(&self) -> SocketClient<TcpStream> {
        let (stream, _) = self.acceptor.until_it_succeeds(|| self.listener.accept()).await;
        // Small replies would otherwise wait for an acknowledgement. A client that has gone already shows
        // soon enough.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_tcp_keepalive(&PROBES);
        SocketClient::new(stream)
    }
}

/// A client that has closed its socket looks like one that has said all and listens, until it is
/// asked: its system forgets the socket after a minute (tcp_fin_timeout), and refuses the next
/// probe.
const PROBES: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(30));

impl Connected for TcpStream {
    /// It has left if nothing can be written any more, not even nothing: a reset, which discards
    /// what was not read.
    fn presence(&self) -> Presence {
        match self.try_write(&[]) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Presence::Left,
            Ok(_) | Err(_) => Presence::Here,
        }
    }
}

#[cfg(unix)]
pub(crate) mod unix {
    //! A Unix socket that only its owner may connect to. Its file is removed when the listener
    //! goes, and made again when another program removes it.

    use std::fs;
    use std::io;
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::fs::{FlockOperation, Mode, OFlags, flock};
    use rustix::io::{Errno, ioctl_fionread};
    use rustix::process::umask;
    use tokio::net::{UnixListener, UnixStream};
    use tokio::time::{Instant, sleep};

    use super::{Acceptor, Connected, Presence, SocketClient};
    use crate::endpoint::Listener;
    use crate::exit::{Exit, Failure};
    use crate::report::Report;

    /// How long another start may take to look at a stale socket and replace it.
    const LONGEST_LOCK: Duration = Duration::from_secs(2);
    const PAUSE_FOR_LOCK: Duration = Duration::from_millis(10);

    /// How often the socket's file is looked for: programs that clean up may remove it.
    const LOOK_AT_FILE: Duration = Duration::from_secs(1);

    /// The longest pause between attempts to take the place of one and the same file. Each connects
    /// to the program that may serve it.
    const LONGEST_PAUSE: Duration = Duration::from_secs(60);

    pub(crate) struct Unix {
        /// The file, if this process made it and removes it. It goes before the listener: another
        /// start that finds it meanwhile finds that it is served, and leaves it alone.
        file: Option<SocketFile>,
        listener: UnixListener,
        acceptor: Acceptor,
    }

    struct SocketFile {
        path: PathBuf,
        /// Device and inode: a file that another program has put there since stays. The kernel
        /// gives the number to no other file while the listener lives.
        identity: (u64, u64),
        /// Since the file is missing and could not be made again, which has been reported.
        retry: Option<Retry>,
    }

    /// The next attempt to make the file again.
    #[derive(Clone, Copy)]
    struct Retry {
        /// What was in its place at the last attempt, if anything. The next one comes at once where
        /// that changes.
        found: Option<(u64, u64)>,
        pause: Duration,
        at: Instant,
    }

    impl Unix {
        pub(super) async fn bind(path: &Path, report: Report) -> Result<Unix, Failure> {
            let (listener, file) = bind(path).await?;
            report.listening(&Listener::Unix(path.to_owned()));
            Ok(Unix { listener, file: Some(file), acceptor: Acceptor::new(report) })
        }

        /// A socket that another program made, and will remove.
        pub(super) fn inherited(listener: UnixListener, report: Report) -> Unix {
            Unix { listener, file: None, acceptor: Acceptor::new(report) }
        }

        pub(super) async fn accept(&mut self) -> SocketClient<UnixStream> {
            loop {
                tokio::select! {
                    // In this order: clients that came before the file was removed are served.
                    biased;
                    (stream, _) = self.acceptor.until_it_succeeds(|| self.listener.accept()) => {
                        return SocketClient::new(stream);
                    }
                    () = missing(self.file.as_ref()) => {}
                }
                if let Some(file) = &mut self.file {
                    let report = self.acceptor.report;
                    let address = Listener::Unix(file.path.clone());
                    match bind(&file.path).await {
                        Ok((listener, bound)) => {
                            // In this order: the old listener keeps the old identity from reuse.
                            *file = bound;
                            self.listener = listener;
                            report.warning(format_args!("{address} was removed, and is bound again"));
                        }
                        Err(failure) => {
                            if file.retry.is_none() {
                                report.warning(format_args!("{address} was removed, trying on: {failure}"));
                            }
                            file.retry = Some(file.next_retry());
                        }
                    }
                }
            }
        }
    }

    /// Completes when another program has removed or replaced the file, and it is time to make it
    /// again.
    async fn missing(file: Option<&SocketFile>) {
        let Some(file) = file else { return std::future::pending().await };
        loop {
            sleep(LOOK_AT_FILE).await;
            if file.is_due() {
                return;
            }
        }
    }

    /// Makes the socket, with the directory locked from before it exists until its identity is
    /// known: another start would take one that does not listen yet for stale, and both would
    /// remove the file at their end.
    async fn bind(path: &Path) -> Result<(UnixListener, SocketFile), Failure> {
        let address = Listener::Unix(path.to_owned());
        let failure = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => Failure::new(
                Exit::Failure,
                format!("cannot listen on {address}: the directory does not exist; make it first"),
            ),
            _ => super::failure(&address, &error),
        };
        let _alone = lock_directory(path).await;
        remove_stale(path, &address).await?;
        let listener = private_socket(path).map_err(failure)?;
        let identity = identity(path).map_err(failure)?;
        Ok((listener, SocketFile { path: path.to_owned(), identity, retry: None }))
    }

    impl SocketFile {
        fn is_there(&self) -> bool {
            identity(&self.path).is_ok_and(|found| found == self.identity)
        }

        /// Returns whether the file is not there and an attempt to make it is due. A look does not
        /// show whether another program's file is stale, and an attempt connects to that program:
        /// the pauses grow while the file stays the same.
        fn is_due(&self) -> bool {
            let found = identity(&self.path).ok();
            match self.retry {
                _ if found == Some(self.identity) => false,
                Some(retry) if found.is_some() && found == retry.found => Instant::now() >= retry.at,
                Some(_) | None => true,
            }
        }

        /// The attempt after one that has failed.
        fn next_retry(&self) -> Retry {
            let found = identity(&self.path).ok();
            let pause = match self.retry {
                Some(retry) if retry.found == found => LONGEST_PAUSE.min(retry.pause * 2),
                Some(_) | None => LOOK_AT_FILE,
            };
            Retry { found, pause, at: Instant::now() + pause }
        }
    }

    impl Drop for SocketFile {
        fn drop(&mut self) {
            if self.is_there() {
                let _ = fs::remove_file(&self.path);
            }
        }
    }

    impl Connected for UnixStream {
        /// It has left if its socket is closed, and not only shut down for writing.
        fn presence(&self) -> Presence {
            // XNU reports that both directions have ended for this event only.
            let mut asked = [PollFd::new(self, PollFlags::OUT)];
            let polled = poll(&mut asked, Some(&Timespec::default()));
            if polled.is_err() || !asked[0].revents().contains(PollFlags::HUP) {
                Presence::Here
            } else if ioctl_fionread(self).is_ok_and(|unread| unread > 0) {
                Presence::LeftBytes
            } else {
                Presence::Left
            }
        }
    }

    /// The mode is the socket's from its first moment. The mask is the process's: no other thread
    /// makes files or starts processes.
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

    /// The lock is on the directory, so that no file of it stays. It is held for an instant. Where
    /// it is not available, such as on a file system without locks, or because another program
    /// holds it, the start goes on without.
    async fn lock_directory(path: &Path) -> Option<OwnedFd> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(".".as_ref());
        let directory =
            rustix::fs::open(directory, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let deadline = Instant::now() + LONGEST_LOCK;
        while let Err(error) = flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            if error != Errno::WOULDBLOCK || Instant::now() >= deadline {
                return None;
            }
            sleep(PAUSE_FOR_LOCK).await;
        }
        Some(directory)
    }

    /// Only a refused connection shows that nobody listens any more. Whatever else is found there
    /// belongs to somebody.
    async fn remove_stale(path: &Path, address: &Listener) -> Result<(), Failure> {
        let refusal =
            |reason: &str| Failure::new(Exit::AccessDenied, format!("cannot listen on {address}: {reason}"));
        // Where nothing is there, or it is not visible, the bind shows whether that is an error.
        let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
        if !metadata.file_type().is_socket() {
            return Err(refusal("there is a file of that name that is not a socket"));
        }
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(|error| {
                    refusal(&format!("nobody listens there, and the old socket cannot be removed: {error}"))
                })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            // It has no room for another client.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                Err(refusal(&format!("cannot tell whether another program listens there: {error}")))
            }
            Ok(_) | Err(_) => Err(refusal("another program listens there; stop it, or choose another path")),
        }
    }

    #[cfg(test)]
    mod tests {
        use std::fs;
        use std::path::PathBuf;
        use std::sync::Arc;
        use std::sync::atomic::{AtomicU32, Ordering};
        use std::time::Duration;

        use tokio::net::UnixListener;
        use tokio::task::JoinHandle;
        use tokio::time::timeout;

        use super::{Acceptor, SocketFile, Unix, identity};
        use crate::report::Report;

        /// A program that listens at `path`, and counts those that connect to it.
        fn other_program(path: &PathBuf) -> (Arc<AtomicU32>, JoinHandle<()>) {
            let listener = UnixListener::bind(path).unwrap();
            let count = Arc::new(AtomicU32::new(0));
            let counted = Arc::clone(&count);
            let serves = tokio::spawn(async move {
                while listener.accept().await.is_ok() {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            });
            (count, serves)
        }

        #[tokio::test(start_paused = true)]
        async fn a_program_that_has_taken_the_place_is_connected_to_ever_less_often() {
            const SECOND: Duration = Duration::from_secs(1);
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("listener.sock");
            let listener = UnixListener::bind(&path).unwrap();
            let file = SocketFile { path: path.clone(), identity: identity(&path).unwrap(), retry: None };
            let mut relay = Unix { file: Some(file), listener, acceptor: Acceptor::new(Report::new(0)) };
            fs::remove_file(&path).unwrap();
            let (connections, _serves) = other_program(&path);
            timeout(600 * SECOND, relay.accept()).await.map(drop).unwrap_err();
            // After 1, 2, 4, 8, 16, 32 and 60 seconds, and each minute from then on.
            let count = connections.load(Ordering::Relaxed);
            assert!((7..=20).contains(&count), "{count} connections within ten minutes");

            // Another one is looked at soon, and then less often too.
            let moved = directory.path().join("moved.sock");
            fs::rename(&path, moved).unwrap();
            let (connections, _serves) = other_program(&path);
            timeout(5 * SECOND, relay.accept()).await.map(drop).unwrap_err();
            let count = connections.load(Ordering::Relaxed);
            assert!((2..=3).contains(&count), "{count} connections within five seconds");
        }
    }
}

#[cfg(unix)]
mod systemd {
    //! Socket activation: the socket that systemd listens on, since before this process was
    //! started, and hands over with the first client. The protocol is that of sd_listen_fds(3).

    use std::io;
    use std::os::fd::AsFd;

    use listenfd::ListenFd;
    #[cfg(target_os = "linux")]
    use socket2::SockRef;
    use tokio::net::{TcpListener, UnixListener};

    use super::unix::Unix;
    use super::{Socket, Tcp};
    use crate::endpoint::{Listener, Target};
    use crate::ends::{leads_back, leads_back_by_path, leads_to_itself};
    use crate::exit::{Exit, Failure};
    use crate::report::Report;

    pub(super) async fn take(target: &Target, report: Report) -> Result<Socket, Failure> {
        let refuse =
            |reason: &str| Err(Failure::new(Exit::Failure, format!("cannot listen on systemd: {reason}")));
        let mut handed_over = ListenFd::from_env();
        match handed_over.len() {
            1 => {}
            0 => {
                return refuse(
                    "no socket was handed over (LISTEN_FDS); it is for the service of a socket unit, or for \
                     systemd-socket-activate",
                );
            }
            several => {
                return refuse(&format!(
                    "{several} sockets were handed over, and one is served; give each its own service"
                ));
            }
        }
        let failure = |error: io::Error| super::failure(&Listener::Systemd, &error);
        if let Ok(Some(listener)) = handed_over.take_unix_listener(0) {
            let address = listener.local_addr().ok();
            if let Some(path) = address.as_ref().and_then(|address| address.as_pathname())
                && leads_back_by_path(target, path)
            {
                return Err(leads_to_itself(&Listener::Unix(path.to_owned()), target));
            }
            if !listens(&listener) {
                return refuse(CONNECTION);
            }
            listener.set_nonblocking(true).map_err(failure)?;
            report.listening(&Listener::Systemd);
            let listener = UnixListener::from_std(listener).map_err(failure)?;
            return Ok(Socket::Unix(Unix::inherited(listener, report)));
        }
        let listener = handed_over.take_tcp_listener(0).map_err(failure)?;
        let listener = listener.ok_or_else(|| failure(io::ErrorKind::NotFound.into()))?;
        if !listens(&listener) {
            return refuse(CONNECTION);
        }
        if let Ok(address) = listener.local_addr()
            && leads_back(target, address).await
        {
            return Err(leads_to_itself(&Listener::Systemd, target));
        }
        listener.set_nonblocking(true).map_err(failure)?;
        let listener = TcpListener::from_std(listener).map_err(failure)?;
        Tcp::new(listener, &Listener::Systemd, report).map(Socket::Tcp).map_err(failure)
    }

    const CONNECTION: &str = "a connection was handed over and not a listener, as with Accept=yes in the \
                              socket unit; remove that line, and npipe serves all clients";

    /// Without an answer of the kernel the socket counts as a listener, and then fails as one.
    #[cfg(target_os = "linux")]
    fn listens(socket: &impl AsFd) -> bool {
        SockRef::from(socket).is_listener().unwrap_or(true)
    }

    /// systemd runs on Linux only.
    #[cfg(not(target_os = "linux"))]
    fn listens(_: &impl AsFd) -> bool {
        true
    }
}

#[cfg(windows)]
pub(crate) mod pipe {
    //! A named pipe, whose name never vanishes, so that nobody else can take it and no client finds
    //! it missing. With a limit it is a fixed number of instances; without, the library's
    //! listener makes them as they are needed.

    use std::io;
    use std::sync::{Mutex, PoisonError};
    use std::time::Duration;

    use tokio::time::sleep;

    use npipe::{ClientOptions, NamedPipeListener, NamedPipeServer, PipeName, ServerOptions};

    use super::Acceptor;
    use crate::dial::pipe::HalfClose;
    use crate::exit::{Exit, Failure};
    use crate::patience::Obstacle;
    use crate::report::Report;
    use crate::verdict::obstacle_of;

    const LOOK_FOR_PLACE: Duration = Duration::from_millis(10);

    pub(crate) struct Pipe {
        listener: NamedPipeListener,
        acceptor: Acceptor,
    }

    impl Pipe {
        pub(crate) fn bind(
            name: &PipeName,
            options: &ServerOptions,
            report: Report,
        ) -> Result<Pipe, Failure> {
            let listener = options.listen(name).map_err(|error| failure(name, &error))?;
            report.listening(name);
            Ok(Pipe { listener, acceptor: Acceptor::new(report) })
        }

        pub(crate) async fn accept(&self) -> HalfClose<NamedPipeServer> {
            let accept = async || HalfClose::new(self.listener.accept().await?);
            self.acceptor.until_it_succeeds(accept).await
        }
    }

    fn failure(name: &PipeName, error: &io::Error) -> Failure {
        match error.kind() {
            // The first instance sets the access list by which the others are judged.
            io::ErrorKind::PermissionDenied => Failure::new(
                Exit::AccessDenied,
                format!(
                    "cannot listen on {name}: another program serves that name, or you may not create it, or the pipe's \
                     access list does not let this account add instances; give it FA in --sddl"
                ),
            ),
            _ => super::failure(name, error),
        }
    }

    /// A fixed number of instances. A client has one to itself, which is closed after it and made
    /// again: it reads what it was sent whenever it likes, and then the end. Its place is free when
    /// it has closed its own end too.
    pub(crate) struct Instances {
        name: PipeName,
        options: ServerOptions,
        acceptor: Acceptor,
        /// Those that were made before clients were told to come.
        first: Mutex<Vec<NamedPipeServer>>,
        /// One more, which no client can have: it keeps the name while the others come and go.
        _keeper: NamedPipeServer,
    }

    impl Instances {
        pub(crate) fn bind(
            name: &PipeName,
            options: &ServerOptions,
            limit: u8,
            report: Report,
        ) -> Result<Instances, Failure> {
            let mut options = options.clone();
            // More than 254 cannot be a limit to the kernel; no more are made here either way.
            if limit < 254 {
                options.max_instances(usize::from(limit) + 1);
            }
            let refused = |error| failure(name, &error);
            let keeper = keeper(name, options.clone().first_pipe_instance(true)).map_err(refused)?;
            let first = (0..limit).map(|_| options.create(name)).collect::<io::Result<_>>();
            let first = Mutex::new(first.map_err(refused)?);
            report.listening(name);
            let acceptor = Acceptor::new(report);
            Ok(Instances { name: name.clone(), options, acceptor, first, _keeper: keeper })
        }

        pub(crate) async fn accept(&self) -> HalfClose<NamedPipeServer> {
            let accept = async || {
                let pipe = self.instance().await?;
                pipe.connect().await?;
                HalfClose::new(pipe)
            };
            self.acceptor.until_it_succeeds(accept).await
        }

        async fn instance(&self) -> io::Result<NamedPipeServer> {
            if let Some(pipe) = self.first.lock().unwrap_or_else(PoisonError::into_inner).pop() {
                return Ok(pipe);
            }
            loop {
                match self.options.create(&self.name) {
                    // A client that has not closed its end yet has the place.
                    Err(error) if obstacle_of(&error) == Obstacle::Busy => sleep(LOOK_FOR_PLACE).await,
                    created => return created,
                }
            }
        }
    }

    /// A disconnected instance is there and takes no client.
    fn keeper(name: &PipeName, options: &ServerOptions) -> io::Result<NamedPipeServer> {
        let keeper = options.create(name)?;
        // Only one that has had a client can be disconnected.
        let _ = ClientOptions::new().read(false).write(false).open(name);
        keeper.disconnect()?;
        Ok(keeper)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::{Connected, LOOK, SocketClient, Tcp};
    use crate::report::Report;

    const LIMIT: Duration = Duration::from_secs(60);

    /// `client` has said "all", and its end.
    async fn stays_until_its_peer_has_gone<S, P>(mut client: SocketClient<S>, peer: P)
    where
        S: AsyncRead + Connected + Unpin,
    {
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"all");
        assert!(timeout(3 * LOOK, client.read(&mut [0])).await.is_err(), "it listens");
        drop(peer);
        timeout(LIMIT, client.read(&mut [0])).await.expect("it has gone").unwrap_err();
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_unix_client_that_said_all_and_closes_is_noticed() {
        let (ours, mut peer) = tokio::net::UnixStream::pair().unwrap();
        peer.write_all(b"all").await.unwrap();
        peer.shutdown().await.unwrap();
        stays_until_its_peer_has_gone(SocketClient::new(ours), peer).await;
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_unix_client_that_closes_at_once_is_noticed_with_its_end() {
        let (ours, mut peer) = tokio::net::UnixStream::pair().unwrap();
        peer.write_all(b"all").await.unwrap();
        drop(peer);
        SocketClient::new(ours).read_to_end(&mut Vec::new()).await.unwrap_err();
    }

    #[tokio::test]
    async fn a_tcp_client_that_said_all_and_is_not_there_any_more_is_noticed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let listener = Tcp::new(listener, &"the test", Report::new(0)).unwrap();
        let (client, peer) = tokio::join!(listener.accept(), TcpStream::connect(address));
        let mut peer = peer.unwrap();
        peer.write_all(b"all").await.unwrap();
        peer.shutdown().await.unwrap();
        // What its system answers to a probe, a minute later.
        peer.set_zero_linger().unwrap();
        stays_until_its_peer_has_gone(client, peer).await;
    }
}
