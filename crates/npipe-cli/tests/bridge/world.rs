//! The bridge of a test and what is on both of its sides: a server of the test on the one that
//! plays Windows, and clients on Linux.

use std::env;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

const WINDOWS_PROGRAM: &str = "NPIPE_TEST_WINDOWS_EXE";

/// Runs the library's example `pipe_to_tcp`, which serves a pipe for [`World`]. `npipe forward`
/// could, but Tokio has the system poll its sockets, and when one closes in that moment wineserver
/// 8.0 may abort ("fd.c: set_fd_events: Assertion `poll_users[user] == fd'") and leave every
/// Windows process waiting for ever. The example's threads block.
const PIPE_SERVER: &str = "NPIPE_TEST_PIPE_TO_TCP";

/// The variable with the time that a half of the bridge may send nothing, in milliseconds.
const SILENCE: &str = "NPIPE_BRIDGE_SILENCE";

/// Far above what any step takes on a slow machine: reached only when something hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// How long to look away while waiting for what nobody announces, such as the end of a process that
/// is not our child.
pub(crate) const GLANCE: Duration = Duration::from_millis(10);

/// Whether tests that show more the longer they run are to run for long.
pub(crate) fn is_long() -> bool {
    env::var_os("NPIPE_TEST_LONG").is_some()
}

pub(crate) async fn within_limit<F: Future>(what: &str, step: F) -> F::Output {
    match tokio::time::timeout(LIMIT, step).await {
        Ok(output) => output,
        Err(_) => panic!("{what}: nothing within {LIMIT:?}"),
    }
}

pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    within_limit(what, async {
        while !holds() {
            sleep(GLANCE).await;
        }
    })
    .await;
}

pub(crate) fn unique() -> String {
    static COUNTER: AtomicUsize = AtomicUsize::new(0);
    format!("npipe-bridge-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn random(seed: usize, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(seed as u64).fill(&mut bytes);
    bytes
}

/// What plays the Windows side.
#[derive(Clone)]
pub(crate) enum Side {
    Native,
    Windows(PathBuf),
}

impl Side {
    pub(crate) fn program(&self) -> &Path {
        match self {
            Side::Native => Path::new(env!("CARGO_BIN_EXE_npipe")),
            Side::Windows(program) => program,
        }
    }
}

/// A running `npipe`. It is killed when it is dropped.
pub(crate) struct Npipe {
    pub(crate) child: Child,
    /// What it says on stderr, which is read all the time: nobody is to wait for room in there.
    said: mpsc::UnboundedReceiver<String>,
    /// Where it listens, which one that is killed leaves behind.
    socket: Option<PathBuf>,
}

impl Drop for Npipe {
    fn drop(&mut self) {
        if let Some(socket) = &self.socket {
            let _ = fs::remove_file(socket);
        }
    }
}

impl Npipe {
    pub(crate) fn start(program: &Path, arguments: &[&str], silence: Option<Duration>) -> Npipe {
        let mut command = Command::new(program);
        if let Some(silence) = silence {
            command.env(SILENCE, silence.as_millis().to_string());
        }
        let mut child = command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        let (lines, said) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(line)) = stderr.next_line().await {
                let _ = lines.send(line);
            }
        });
        Npipe { child, said, socket: None }
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// The next line of stderr that contains `text`.
    pub(crate) async fn line(&mut self, text: &str) -> String {
        let mut seen = String::new();
        loop {
            let what = format!("a line with {text:?} after\n{seen}");
            match within_limit(&what, self.said.recv()).await {
                Some(line) if line.contains(text) => return line,
                Some(line) => seen += &format!("{line}\n"),
                None => panic!("no line with {text:?} in\n{seen}"),
            }
        }
    }
}

/// A server of the test, seen from Linux through the bridge.
pub(crate) struct World {
    pub(crate) side: Side,
    pub(crate) server: TcpListener,
    pub(crate) bridge: Npipe,
    pub(crate) socket: PathBuf,
    /// Puts the server behind a pipe, where there are pipes.
    _pipe: Option<Child>,
}

impl World {
    pub(crate) async fn new(side: Side) -> World {
        World::with(side, &[]).await
    }

    pub(crate) async fn with(side: Side, options: &[&str]) -> World {
        World::start(side, options, None).await
    }

    /// A world where either half takes the other for dead after `silence`.
    pub(crate) async fn with_silence(side: Side, silence: Duration) -> World {
        World::start(side, &[], Some(silence)).await
    }

    async fn start(side: Side, options: &[&str], silence: Option<Duration>) -> World {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap().to_string();
        let (target, pipe) = match &side {
            Side::Native => (format!("windows:tcp:{address}"), None),
            Side::Windows(_) => {
                let name = unique();
                (format!("npipe:{name}"), Some(serve_pipe(&name, &address).await))
            }
        };
        let socket = socket();
        let bridge = start_bridge_at(&socket, side.program(), &target, options, silence).await;
        World { side, server, bridge, socket, _pipe: pipe }
    }

    pub(crate) async fn client(&self) -> UnixStream {
        UnixStream::connect(&self.socket).await.unwrap()
    }

    pub(crate) async fn accept(&self) -> TcpStream {
        within_limit("a client of the server", self.server.accept()).await.unwrap().0
    }

    /// Both ends of a new connection.
    pub(crate) async fn connection(&self) -> (UnixStream, TcpStream) {
        let client = self.client().await;
        (client, self.accept().await)
    }

    /// The Windows processes that run now.
    pub(crate) fn windows_processes(&self) -> Vec<u32> {
        children(self.bridge.process())
    }

    pub(crate) fn windows_process(&self) -> u32 {
        match self.windows_processes()[..] {
            [process] => process,
            ref other => panic!("one Windows process was expected: {other:?}"),
        }
    }

    /// Joins each client with a connection of its own to a Unix socket, until it is dropped.
    pub(crate) async fn lead_to(&self, socket: &Path) {
        let mut sessions = JoinSet::new();
        loop {
            let (mut client, _) = self.server.accept().await.unwrap();
            let mut server = UnixStream::connect(socket).await.unwrap();
            sessions.spawn(async move {
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    }

    pub(crate) async fn echo(&self, streams: usize) {
        let mut echoes = JoinSet::new();
        for _ in 0..streams {
            let (mut read, mut write) = self.accept().await.into_split();
            echoes.spawn(async move { drop(tokio::io::copy(&mut read, &mut write).await) });
        }
        within_limit("the echoes", echoes.join_all()).await;
    }
}

pub(crate) async fn serve_pipe(name: &str, server: &str) -> Child {
    serve_pipe_with(name, server, &[]).await
}

/// [`serve_pipe`] of messages, where the end of either direction is an empty one.
pub(crate) async fn serve_message_pipe(name: &str, server: &str) -> Child {
    serve_pipe_with(name, server, &["messages"]).await
}

/// [`serve_pipe`] of one direction: `inbound` or `outbound`.
pub(crate) async fn serve_one_way_pipe(name: &str, server: &str, direction: &str) -> Child {
    serve_pipe_with(name, server, &[direction]).await
}

async fn serve_pipe_with(name: &str, server: &str, options: &[&str]) -> Child {
    let program = env::var_os(PIPE_SERVER)
        .unwrap_or_else(|| panic!("{PIPE_SERVER} has to be set with {WINDOWS_PROGRAM}"));
    let mut child = Command::new(program)
        .args([name, server])
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut first_line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    within_limit("the pipe", stdout.read_line(&mut first_line)).await.unwrap();
    assert_eq!(first_line.trim_end(), format!(r"listening on \\.\pipe\{name}"));
    child
}

pub(crate) async fn start_bridge(program: &Path, target: &str, options: &[&str]) -> (Npipe, PathBuf) {
    let socket = socket();
    (start_bridge_at(&socket, program, target, options, None).await, socket)
}

pub(crate) fn socket() -> PathBuf {
    env::temp_dir().join(format!("{}.sock", unique()))
}

pub(crate) async fn start_bridge_at(
    socket: &Path,
    program: &Path,
    target: &str,
    options: &[&str],
    silence: Option<Duration>,
) -> Npipe {
    let listen = format!("unix:{}", socket.display());
    let program = program.to_str().unwrap();
    let arguments = ["-v", "forward", &listen, target, "--windows-exe", program];
    let mut bridge =
        Npipe::start(Path::new(env!("CARGO_BIN_EXE_npipe")), &[&arguments, options].concat(), silence);
    bridge.socket = Some(socket.to_owned());
    bridge.line("listening on").await;
    bridge
}

pub(crate) fn children(process: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten();
    threads
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| list.split_whitespace().map(|id| id.parse().unwrap()).collect::<Vec<_>>())
        .collect()
}

/// Whether it does something still: a process that has ended stays visible until its parent asks
/// for it.
pub(crate) fn runs(process: u32) -> bool {
    state(process).is_some_and(|state| !"ZX".contains(state))
}

fn state(process: u32) -> Option<char> {
    let status = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    status.rsplit(')').next()?.trim().chars().next()
}

/// The memory that a process has, in bytes.
pub(crate) fn memory(process: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
}

pub(crate) fn handles(process: u32) -> usize {
    fs::read_dir(format!("/proc/{process}/fd")).unwrap().count()
}

pub(crate) fn kill(process: u32) {
    send(process, Signal::KILL);
}

/// Keeps it from running until [`go_on`]: it answers nothing, and none of its files is closed.
pub(crate) async fn stop(process: u32) {
    send(process, Signal::STOP);
    until("the process to stop", || state(process) == Some('T')).await;
}

pub(crate) fn go_on(process: u32) {
    send(process, Signal::CONT);
}

fn send(process: u32, signal: Signal) {
    match kill_process(Pid::from_raw(process.cast_signed()).unwrap(), signal) {
        // It has ended meanwhile.
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => panic!("cannot send {signal:?}: {error}"),
    }
}

pub(crate) async fn exchange(client: UnixStream, seed: usize, length: usize) -> UnixStream {
    let request = random(seed, length);
    let mut reply = vec![0; length];
    let (mut read, mut write) = client.into_split();
    let exchange = async { tokio::join!(write.write_all(&request), read.read_exact(&mut reply)) };
    let (written, read_all) = within_limit("the echo", exchange).await;
    written.unwrap();
    read_all.unwrap();
    assert!(reply == request, "client {seed} got other bytes than it sent");
    read.reunite(write).unwrap()
}

pub(crate) async fn read_to_end(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A connection that breaks off may be reset.
    let _ = within_limit("the end", stream.read_to_end(&mut bytes)).await;
    bytes
}

/// The program that plays Windows, or none and a word about it.
pub(crate) fn windows_program(test: &str) -> Option<PathBuf> {
    let program = env::var_os(WINDOWS_PROGRAM).map(PathBuf::from);
    if program.is_none() {
        eprintln!("skipped: {test}: {WINDOWS_PROGRAM} names no Windows program");
    }
    program
}

macro_rules! on_both_sides {
    ($($test:ident)*) => {
        mod native {
            $(#[tokio::test]
            async fn $test() {
                super::$test($crate::world::Side::Native).await;
            })*
        }

        mod wine {
            $(#[tokio::test]
            async fn $test() {
                if let Some(program) = $crate::world::windows_program(stringify!($test)) {
                    super::$test($crate::world::Side::Windows(program)).await;
                }
            })*
        }
    };
}

pub(crate) use on_both_sides;
