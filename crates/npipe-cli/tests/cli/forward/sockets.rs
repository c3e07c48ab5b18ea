//! Unix sockets, TCP and processes. The test is the server and the clients; nothing here needs a
//! pipe.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::process::{Npipe, within_limit};

const MEBIBYTE: usize = 1024 * 1024;

fn random(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

/// A running `npipe forward` that listens on a Unix socket.
struct Forward {
    process: Npipe,
    directory: TempDir,
}

impl Forward {
    async fn start(options: &[&str], target: &str) -> Forward {
        let directory = tempfile::tempdir().unwrap();
        let listen = format!("unix:{}", socket(&directory).display());
        let mut arguments = vec!["-v", "forward"];
        arguments.extend(options);
        arguments.extend([listen.as_str(), target]);
        let mut process = Npipe::start(&arguments);
        assert_eq!(process.stderr_line("").await, format!("listening on {listen}"));
        Forward { process, directory }
    }

    fn path(&self) -> PathBuf {
        socket(&self.directory)
    }

    async fn client(&self) -> UnixStream {
        connect(&self.path()).await
    }
}

fn socket(directory: &TempDir) -> PathBuf {
    directory.path().join("listener.sock")
}

async fn connect(path: &Path) -> UnixStream {
    within_limit("connecting", UnixStream::connect(path)).await.unwrap()
}

/// A server of the test, and its address.
fn unix_server(directory: &TempDir) -> (UnixListener, String) {
    let path = directory.path().join("server.sock");
    (UnixListener::bind(&path).unwrap(), format!("unix:{}", path.display()))
}

async fn accept(server: &UnixListener) -> UnixStream {
    within_limit("the connection of the client", server.accept()).await.unwrap().0
}

async fn read_to_end(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    within_limit("reading to the end", stream.read_to_end(&mut bytes)).await.unwrap();
    bytes
}

async fn listening_tcp(process: &mut Npipe) -> String {
    let line = process.stderr_line("listening on tcp:").await;
    line.trim_start_matches("listening on tcp:").to_owned()
}

fn terminate(process: &Npipe) {
    kill_process(process.id(), Signal::TERM).unwrap();
}

/// Waits until the process runs no more. A zombie does not: whom it was left to (process 1, for
/// those that our own child had started) may take its time.
async fn ended(id: Pid) {
    let stat = format!("/proc/{}/stat", id.as_raw_pid());
    within_limit("the end of a process that was started", async {
        // The state follows the name of the program, which is in parentheses.
        while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_ends_first_gets_the_whole_reply() {
    let servers = tempfile::tempdir().unwrap();
    let (server, target) = unix_server(&servers);
    let forward = Forward::start(&[], &target).await;
    let (request, reply) = (random(1, 4 * MEBIBYTE), random(2, 4 * MEBIBYTE));
    let mut client = forward.client().await;
    let (received, ()) = tokio::join!(
        async {
            client.write_all(&request).await.unwrap();
            client.shutdown().await.unwrap();
            read_to_end(&mut client).await
        },
        async {
            let mut stream = accept(&server).await;
            assert!(read_to_end(&mut stream).await == request);
            stream.write_all(&reply).await.unwrap();
        }
    );
    assert!(received == reply);
}

#[tokio::test]
async fn a_server_that_ends_first_gets_the_whole_request() {
    let servers = tempfile::tempdir().unwrap();
    let (server, target) = unix_server(&servers);
    let mut forward = Forward::start(&[], &target).await;
    let request = random(3, 4 * MEBIBYTE);
    let mut client = forward.client().await;
    let (received, ()) = tokio::join!(
        async {
            let mut stream = accept(&server).await;
            stream.write_all(b"that was all").await.unwrap();
            stream.shutdown().await.unwrap();
            read_to_end(&mut stream).await
        },
        async {
            assert_eq!(read_to_end(&mut client).await, b"that was all");
            client.write_all(&request).await.unwrap();
            client.shutdown().await.unwrap();
        }
    );
    assert!(received == request);
    forward.process.stderr_line("client 1: ended, 4194304 bytes to the server, 12 bytes to the client").await;
}

#[tokio::test]
async fn what_a_slow_reader_did_not_take_is_named() {
    let servers = tempfile::tempdir().unwrap();
    let (server, target) = unix_server(&servers);
    let mut forward = Forward::start(&["--idle-timeout", "1"], &target).await;
    let bytes = random(7, 4 * MEBIBYTE);

    let _slow = forward.client().await;
    let mut stream = accept(&server).await;
    let _ = within_limit("the end of the session", stream.write_all(&bytes)).await;
    let line = forward.process.stderr_line("client 1: the client took the replies too slowly").await;
    assert!(line.ends_with("bytes were not delivered"), "{line}");

    let mut client = forward.client().await;
    let _slow = accept(&server).await;
    let _ = within_limit("the end of the session", client.write_all(&bytes)).await;
    let line = forward.process.stderr_line("client 2: the server took the requests too slowly").await;
    assert!(line.ends_with("bytes were not delivered"), "{line}");
}

#[tokio::test]
async fn each_step_of_a_connection_is_told_when_asked_for_twice() {
    let mut forward = Forward::start(&["-vv"], "exec:cat").await;
    let mut client = forward.client().await;
    client.write_all(b"ping").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut client).await, b"ping");
    for step in [
        "client 1: came, connecting to exec:cat",
        "client 1: connected to exec:cat",
        "client 1: that took ",
        "client 1: the client ended its side, and the server took it all, after 4 bytes and ",
        "client 1: the server ended its side, and the client took it all, after 4 bytes and ",
        "client 1: ended, 4 bytes to the server, 4 bytes to the client, ",
    ] {
        forward.process.stderr_line(step).await;
    }
}

#[tokio::test]
async fn tcp_listens_on_loopback_and_joins_with_a_unix_socket_both_ways_at_once() {
    let servers = tempfile::tempdir().unwrap();
    let (server, target) = unix_server(&servers);
    let mut forward = Npipe::start(&["forward", "tcp:0", &target]);
    let address = listening_tcp(&mut forward).await;
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    let (request, reply) = (random(4, 8 * MEBIBYTE), random(5, 8 * MEBIBYTE));
    let client = TcpStream::connect(&address).await.unwrap();
    let exchange =
        async |stream: (Box<dyn tokio::io::AsyncRead + Unpin>, Box<dyn tokio::io::AsyncWrite + Unpin>),
               sent: &[u8]| {
            let (mut read, mut write) = stream;
            let (received, ()) = tokio::join!(read_to_end(&mut read), async {
                write.write_all(sent).await.unwrap();
                write.shutdown().await.unwrap();
            });
            received
        };
    let (at_client, at_server) = tokio::join!(
        async {
            let (read, write) = client.into_split();
            exchange((Box::new(read), Box::new(write)), &request).await
        },
        async {
            let (read, write) = accept(&server).await.into_split();
            exchange((Box::new(read), Box::new(write)), &reply).await
        }
    );
    assert!(at_client == reply && at_server == request);
}

#[tokio::test]
async fn tcp_that_others_can_reach_is_warned_of() {
    let mut forward = Npipe::start(&["forward", "tcp:0.0.0.0:0", "exec:cat"]);
    forward.stderr_line("other machines can connect to tcp:0.0.0.0:0").await;
    forward.stderr_line("listening on tcp:0.0.0.0:").await;
}

#[tokio::test]
async fn many_clients_at_once_each_get_their_own_connection() {
    let forward = Forward::start(&[], "exec:cat").await;
    let mut clients = tokio::task::JoinSet::new();
    for seed in 0..20 {
        let mut client = forward.client().await;
        clients.spawn(async move {
            let request = random(seed, 100_000 + seed as usize);
            let (mut read, mut write) = client.split();
            let (reply, ()) = tokio::join!(read_to_end(&mut read), async {
                write.write_all(&request).await.unwrap();
                write.shutdown().await.unwrap();
            });
            assert!(reply == request, "client {seed} got other bytes than it sent");
        });
    }
    within_limit("the clients", clients.join_all()).await;
}

#[tokio::test]
async fn a_process_is_told_the_end_of_its_input_and_its_reply_arrives() {
    let forward = Forward::start(&[], "exec:sort -n | tr '\\n' ' '").await;
    let mut client = forward.client().await;
    client.write_all(b"3\n10\n2\n").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut client).await, b"2 3 10 ");
}

/// The ids of processes that a target has started.
async fn two_ids(client: &mut (impl tokio::io::AsyncRead + Unpin)) -> [Pid; 2] {
    let mut lines = BufReader::new(client).lines();
    let mut next = async || {
        let line = within_limit("the ids", lines.next_line()).await.unwrap().unwrap();
        Pid::from_raw(line.parse().unwrap()).unwrap()
    };
    [next().await, next().await]
}

/// A process with a child of its own, both of which would stay for ever, and say their ids.
const TWO_THAT_STAY: &str = "exec:sleep 1000 & echo $!; echo $$; wait; exec sleep 1000";

#[tokio::test]
async fn a_process_and_its_children_end_with_an_idle_connection() {
    let mut forward = Forward::start(&["--idle-timeout", "1"], TWO_THAT_STAY).await;
    let mut client = forward.client().await;
    let ids = two_ids(&mut client).await;
    assert_eq!(read_to_end(&mut client).await, b"");
    forward.process.stderr_line(", idle").await;
    for id in ids {
        ended(id).await;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_process_and_its_children_end_when_npipe_is_told_to_stop() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let forward = Forward::start(&[], TWO_THAT_STAY).await;
        let mut client = forward.client().await;
        let ids = two_ids(&mut client).await;
        kill_process(forward.process.id(), signal).unwrap();
        let Forward { process, directory } = forward;
        process.finish().await.code(0).stdout(b"");
        for id in ids {
            ended(id).await;
        }
        assert!(!socket(&directory).exists(), "the socket was left behind");
    }
}

/// As by SIGKILL: neither half of a bridge can do anything for its processes any more.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_process_ends_when_npipe_is_killed() {
    let windows_exe = concat!("--windows-exe=", env!("CARGO_BIN_EXE_npipe"));
    for (options, side) in [(&[][..], ""), (&[windows_exe], "windows:")] {
        for kills_windows_half in [false, true] {
            let target = format!("{side}exec:echo $$; echo $PPID; exec sleep 1000");
            let forward = Forward::start(options, &target).await;
            let mut client = forward.client().await;
            let [process, npipe] = two_ids(&mut client).await;
            if kills_windows_half {
                kill_process(npipe, Signal::KILL).unwrap();
            } else {
                kill_process(forward.process.id(), Signal::KILL).unwrap();
            }
            for id in [process, npipe] {
                ended(id).await;
            }
        }
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_socket_is_removed_when_the_terminal_goes_away() {
    let forward = Forward::start(&[], "exec:cat").await;
    let path = forward.path();
    kill_process(forward.process.id(), Signal::HUP).unwrap();
    forward.process.finish().await.code(0);
    assert!(!path.exists(), "the socket was left behind");
}

#[tokio::test]
async fn what_was_told_to_ignore_the_terminals_end_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let listen = format!("unix:{}", socket(&directory).display());
    let nohup = [
        "-c",
        "trap '' HUP; exec \"$@\"",
        "sh",
        env!("CARGO_BIN_EXE_npipe"),
        "forward",
        &listen,
        "exec:echo served",
    ];
    let mut forward = Npipe::start_program(Path::new("/bin/sh"), &nohup, |_| {});
    forward.stderr_line("listening on").await;
    kill_process(forward.id(), Signal::HUP).unwrap();
    assert_eq!(read_to_end(&mut connect(&socket(&directory)).await).await, b"served\n");
    // The end by this signal shows that the other one did not end it.
    terminate(&forward);
    forward.finish().await.code(0);
    assert!(!socket(&directory).exists());
}

#[tokio::test]
async fn a_program_that_does_not_exist_costs_its_client_only() {
    let mut forward = Forward::start(&[], "exec:/nonexistent/program").await;
    for number in 1..3 {
        assert_eq!(read_to_end(&mut forward.client().await).await, b"");
        forward.process.stderr_line(&format!("client {number}: ended")).await;
    }
}

#[tokio::test]
async fn the_socket_is_its_owners_only_whatever_the_mask_is() {
    let directory = tempfile::tempdir().unwrap();
    let listen = format!("unix:{}", socket(&directory).display());
    let shell =
        ["-c", "umask 000; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_npipe"), "forward", &listen, "exec:umask"];
    let mut forward = Npipe::start_program(Path::new("/bin/sh"), &shell, |_| {});
    forward.stderr_line("listening on").await;
    let mode = fs::symlink_metadata(socket(&directory)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // The mask is the caller's again.
    assert_eq!(read_to_end(&mut connect(&socket(&directory)).await).await, b"0000\n");
}

#[tokio::test]
async fn a_socket_that_was_left_behind_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    drop(std::os::unix::net::UnixListener::bind(socket(&directory)).unwrap());
    let listen = format!("unix:{}", socket(&directory).display());
    let mut forward = Npipe::start(&["forward", &listen, "exec:echo served"]);
    forward.stderr_line("listening on").await;
    assert_eq!(read_to_end(&mut connect(&socket(&directory)).await).await, b"served\n");
}

#[tokio::test]
async fn of_several_that_start_at_once_on_a_stale_socket_one_serves_and_the_others_refuse() {
    for _ in 0..5 {
        let directory = tempfile::tempdir().unwrap();
        drop(std::os::unix::net::UnixListener::bind(socket(&directory)).unwrap());
        let listen = format!("unix:{}", socket(&directory).display());
        let mut starting = tokio::task::JoinSet::new();
        for number in 0..8 {
            let mut forward = Npipe::start(&["forward", &listen, &format!("exec:echo {number}")]);
            starting.spawn(async move {
                let line = forward.stderr_line("").await;
                (number, line.starts_with("listening on").then_some(forward))
            });
        }
        let serving = within_limit("the starts", starting.join_all()).await;
        let serving: Vec<_> = serving.into_iter().filter(|(_, forward)| forward.is_some()).collect();
        let [(number, _forward)] = &serving[..] else { panic!("{} listen at one path", serving.len()) };
        assert_eq!(
            read_to_end(&mut connect(&socket(&directory)).await).await,
            format!("{number}\n").as_bytes()
        );
    }
}

/// A start that has to wait for its turn finds the socket of the one before it, which it would
/// otherwise take for stale between the two calls that make it.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_socket_is_made_by_one_at_a_time() {
    use rustix::fs::{FlockOperation, flock};

    for is_stale in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        if is_stale {
            drop(std::os::unix::net::UnixListener::bind(socket(&directory)).unwrap());
        }
        let lock = fs::File::open(directory.path()).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        let listen = format!("unix:{}", socket(&directory).display());
        let forward = Npipe::start(&["forward", &listen, "exec:echo late"]);
        let handles = format!("/proc/{}/fd", forward.id().as_raw_pid());
        within_limit("the second one waits for its turn", async {
            let waits = || {
                let mut handles = fs::read_dir(&handles).unwrap().flatten();
                handles.any(|handle| fs::read_link(handle.path()).is_ok_and(|file| file == directory.path()))
            };
            while !waits() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let _ = fs::remove_file(socket(&directory));
        let _first = UnixListener::bind(socket(&directory)).unwrap();
        drop(lock);
        forward.finish().await.code(5).stderr_has("another program listens there");
        assert!(socket(&directory).exists());
    }
}

#[tokio::test]
async fn a_socket_whose_file_is_removed_is_bound_again() {
    let mut forward = Forward::start(&[], "exec:echo served").await;
    for _ in 0..2 {
        fs::remove_file(forward.path()).unwrap();
        forward.process.stderr_line("was removed, and is bound again").await;
        assert_eq!(read_to_end(&mut forward.client().await).await, b"served\n");
        assert_eq!(fs::metadata(forward.path()).unwrap().permissions().mode() & 0o777, 0o600);
    }
    // Its directory, too.
    fs::remove_dir_all(forward.directory.path()).unwrap();
    forward.process.stderr_line("the directory does not exist").await;
    fs::create_dir(forward.directory.path()).unwrap();
    forward.process.stderr_line("is bound again").await;
    // A socket of another program stays, until that program goes.
    fs::remove_file(forward.path()).unwrap();
    let other = UnixListener::bind(forward.path()).unwrap();
    let line = forward.process.stderr_line("was removed, trying on").await;
    assert!(line.contains("another program listens there"), "{line}");
    drop(other);
    forward.process.stderr_line("is bound again").await;
    assert_eq!(read_to_end(&mut forward.client().await).await, b"served\n");
    let Forward { process, directory } = forward;
    terminate(&process);
    process.finish().await.code(0);
    assert!(!socket(&directory).exists());
}

#[tokio::test]
async fn a_socket_that_is_served_is_refused_and_left_alone() {
    let forward = Forward::start(&[], "exec:echo first").await;
    let listen = format!("unix:{}", forward.path().display());
    let second = Npipe::start(&["forward", &listen, "exec:echo second"]).finish().await;
    second.code(5).stderr_has(&format!("cannot listen on {listen}: another program listens there"));
    assert_eq!(read_to_end(&mut forward.client().await).await, b"first\n");
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(socket(&directory), "precious").unwrap();
    let listen = format!("unix:{}", socket(&directory).display());
    let outcome = Npipe::start(&["forward", &listen, "exec:cat"]).finish().await;
    outcome.code(5).stderr_has("not a socket");
    assert_eq!(fs::read(socket(&directory)).unwrap(), b"precious");
}

#[tokio::test]
async fn a_socket_of_somebody_else_is_not_removed_at_the_end() {
    let forward = Forward::start(&[], "exec:cat").await;
    let path = forward.path();
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    terminate(&forward.process);
    let directory = forward.directory;
    forward.process.finish().await.code(0);
    assert!(socket(&directory).exists());
}

#[tokio::test]
async fn a_directory_that_does_not_exist_is_named_with_what_to_do() {
    let outcome = Npipe::start(&["forward", "unix:/nonexistent/x.sock", "exec:cat"]).finish().await;
    outcome.code(1).stderr_has("cannot listen on unix:/nonexistent/x.sock: the directory does not exist");
}

#[tokio::test]
async fn running_out_of_handles_does_not_end_the_listener() {
    let directory = tempfile::tempdir().unwrap();
    let servers = tempfile::tempdir().unwrap();
    let (server, target) = unix_server(&servers);
    let listen = format!("unix:{}", socket(&directory).display());
    let shell =
        ["-c", "ulimit -n 24; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_npipe"), "forward", &listen, &target];
    let mut forward = Npipe::start_program(Path::new("/bin/sh"), &shell, |_| {});
    forward.stderr_line("listening on").await;
    let mut crowd = Vec::new();
    for _ in 0..40 {
        crowd.push(connect(&socket(&directory)).await);
    }
    forward.stderr_line("a client waits until another has left").await;
    drop(crowd);
    // The handles of the crowd come back one by one: a client may get one and find none left for the
    // target.
    let later_clients = async {
        loop {
            let mut client = connect(&socket(&directory)).await;
            let _ = client.write_all(b"!").await;
            let _ = client.read(&mut [0]).await;
        }
    };
    let served = async { while !accept(&server).await.read(&mut [0]).await.is_ok_and(|read| read == 1) {} };
    within_limit("a client that came later", async {
        tokio::select! {
            () = later_clients => {}
            () = served => {}
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_that_refuses_costs_one_client_and_not_the_listener() {
    let refusing = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = refusing.local_addr().unwrap();
    drop(refusing);
    let mut forward = Forward::start(&[], &format!("tcp:{address}")).await;
    assert_eq!(read_to_end(&mut forward.client().await).await, b"");
    let line = forward.process.stderr_line("client 1").await;
    assert!(line.contains(&format!("cannot connect to tcp:{address}")), "{line}");

    let server = TcpListener::bind(address).await.unwrap();
    let mut client = forward.client().await;
    let (mut stream, _) = within_limit("the second client", server.accept()).await.unwrap();
    stream.write_all(b"welcome").await.unwrap();
    drop(stream);
    assert_eq!(read_to_end(&mut client).await, b"welcome");
}

/// A listener at `path` that lets no more clients wait, and those that do.
#[cfg(target_os = "linux")]
fn full_listener(path: &Path) -> (UnixListener, Vec<socket2::Socket>) {
    let stream = || socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    let address = socket2::SockAddr::unix(path).unwrap();
    let listener = stream();
    listener.bind(&address).unwrap();
    listener.listen(0).unwrap();
    let mut waiting = Vec::new();
    loop {
        let client = stream();
        client.set_nonblocking(true).unwrap();
        if client.connect(&address).is_err() {
            listener.set_nonblocking(true).unwrap();
            return (UnixListener::from_std(listener.into()).unwrap(), waiting);
        }
        waiting.push(client);
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_target_with_no_room_for_a_client_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("server.sock");
    let (listener, waiting) = full_listener(&path);
    let mut forward = Forward::start(&["-vv"], &format!("unix:{}", path.display())).await;
    let mut client = forward.client().await;
    forward.process.stderr_line("client 1: came, connecting to").await;
    for _ in waiting {
        drop(accept(&listener).await);
    }
    accept(&listener).await.write_all(b"welcome").await.unwrap();
    assert_eq!(read_to_end(&mut client).await, b"welcome");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_socket_whose_program_has_no_room_for_a_client_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (_listener, _waiting) = full_listener(&socket(&directory));
    let listen = format!("unix:{}", socket(&directory).display());
    let outcome = Npipe::start(&["forward", &listen, "exec:cat"]).finish().await;
    outcome.code(5).stderr_has(": another program listens there; stop it");
}

#[tokio::test]
async fn a_target_that_is_not_there_yet_is_waited_for_when_told() {
    let servers = tempfile::tempdir().unwrap();
    let path = servers.path().join("server.sock");
    let windows_exe = concat!("--windows-exe=", env!("CARGO_BIN_EXE_npipe"));
    // By ourselves, and by the other half of the bridge.
    for (target, options) in [
        (format!("unix:{}", path.display()), &["--poll"][..]),
        (format!("windows:unix:{}", path.display()), &["--poll", windows_exe]),
    ] {
        let mut forward = Forward::start(options, &target).await;
        let mut client = forward.client().await;
        client.write_all(b"early").await.unwrap();
        forward.process.stderr_line("yet, trying again").await;
        let mut impatient = Forward::start(&[&["--poll-deadline", "0"], options].concat(), &target).await;
        assert_eq!(read_to_end(&mut impatient.client().await).await, b"");
        impatient
            .process
            .stderr_line(&format!("cannot connect to {}", target.trim_start_matches("windows:")))
            .await;

        let server = UnixListener::bind(&path).unwrap();
        let mut early = [0; 5];
        within_limit("what was said early", accept(&server).await.read_exact(&mut early)).await.unwrap();
        assert_eq!(&early, b"early");
        fs::remove_file(&path).unwrap();
    }
}

#[tokio::test]
async fn a_connection_that_is_reset_is_reported() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut forward = Forward::start(&[], &format!("tcp:{}", server.local_addr().unwrap())).await;
    let mut client = forward.client().await;
    let (mut stream, _) = within_limit("the client", server.accept()).await.unwrap();
    // What arrives shows that the connection is joined, and not reset while it is being made.
    stream.write_all(b"!").await.unwrap();
    within_limit("the first byte", client.read_exact(&mut [0])).await.unwrap();
    stream.set_zero_linger().unwrap();
    drop(stream);
    assert_eq!(read_to_end(&mut client).await, b"");
    forward.process.stderr_line("broke off").await;
}

#[tokio::test]
async fn clients_beyond_the_limit_wait_until_one_has_left() {
    let mut forward = Forward::start(&["--max-connections", "1"], "exec:echo served; cat").await;
    let mut first = forward.client().await;
    let mut second = forward.client().await;
    let mut greeting = [0; 7];
    within_limit("the first client", first.read_exact(&mut greeting)).await.unwrap();
    drop(first);
    within_limit("the second client", second.read_exact(&mut greeting)).await.unwrap();
    // The order of the lines is the order of what happened.
    forward.process.stderr_line("client 1: ended").await;
    forward.process.stderr_line("client 2: connected").await;
}

/// Starts `npipe forward systemd` as systemd does, with the socket at handle 3.
fn activated(socket: std::os::fd::OwnedFd, options: &[&str]) -> Npipe {
    let shell = ["-c", "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"", "sh"];
    let npipe = [env!("CARGO_BIN_EXE_npipe"), "-v", "forward", "systemd"];
    let arguments = [&shell[..], &npipe, options].concat();
    Npipe::start_program(Path::new("/bin/sh"), &arguments, |command| {
        command.stdin(socket);
    })
}

#[tokio::test]
async fn a_socket_that_is_handed_over_is_served_and_left_behind() {
    let directory = tempfile::tempdir().unwrap();
    let listener = std::os::unix::net::UnixListener::bind(socket(&directory)).unwrap();
    // This one comes before the process does.
    let mut first = connect(&socket(&directory)).await;
    let handed_over = listener.try_clone().unwrap();
    // Neither the socket nor the variables are for the programs that npipe starts.
    let target = "exec:[ -e /proc/$$/fd/3 ] && echo socket; echo \"variable: $LISTEN_FDS\"";
    let mut forward = activated(handed_over.into(), &[target]);
    forward.stderr_line("listening on systemd").await;
    for client in [&mut first, &mut connect(&socket(&directory)).await] {
        assert_eq!(String::from_utf8_lossy(&read_to_end(client).await), "variable: \n");
    }
    terminate(&forward);
    forward.finish().await.code(0);
    assert!(socket(&directory).exists(), "the socket is not npipe's to remove");
    drop(listener);
}

#[tokio::test]
async fn a_tcp_socket_may_be_handed_over_too() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut forward = activated(listener.into(), &["exec:echo served"]);
    forward.stderr_line(&format!("listening on tcp:{address}")).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    assert_eq!(read_to_end(&mut client).await, b"served\n");
}

#[tokio::test]
async fn without_a_socket_that_is_handed_over_it_says_what_it_is_for() {
    let outcome = Npipe::start(&["forward", "systemd", "exec:cat"]).finish().await;
    outcome.code(1).stderr_has("no socket was handed over (LISTEN_FDS)");
    // That of another process, whose variables we have inherited.
    let for_another = |command: &mut tokio::process::Command| {
        command.env("LISTEN_FDS", "1").env("LISTEN_PID", "1");
    };
    let outcome = Npipe::start_with(&["forward", "systemd", "exec:cat"], for_another).finish().await;
    outcome.code(1).stderr_has("no socket was handed over");
    let file = fs::File::open("/dev/null").unwrap();
    activated(file.into(), &["exec:cat"]).finish().await.code(1).stderr_has("cannot listen on systemd");
}

#[tokio::test]
async fn stdin_and_stdout_may_be_the_client() {
    let outcome = Npipe::start(&["forward", "stdio", "exec:tr a-z A-Z"]).finish_with(b"shout").await;
    outcome.code(0).stdout(b"SHOUT").no_stderr();
}

#[tokio::test]
async fn stdin_and_stdout_may_be_the_server_of_one_client() {
    async fn talk(mut client: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin, forward: Npipe) {
        let (outcome, reply) = tokio::join!(forward.finish_with(b"to the client"), async {
            client.write_all(b"to stdout").await.unwrap();
            let reply = read_to_end(&mut client).await;
            // Its end is the second one, and an end like others.
            drop(client);
            reply
        });
        outcome.code(0).stdout(b"to stdout");
        assert_eq!(&reply, b"to the client");
    }

    let mut forward = Npipe::start(&["forward", "tcp:0", "stdio"]);
    let address = listening_tcp(&mut forward).await;
    talk(TcpStream::connect(&address).await.unwrap(), forward).await;

    let directory = tempfile::tempdir().unwrap();
    let listen = format!("unix:{}", socket(&directory).display());
    let mut forward = Npipe::start(&["forward", &listen, "stdio"]);
    forward.stderr_line("listening on").await;
    talk(connect(&socket(&directory)).await, forward).await;
}

#[tokio::test]
async fn a_target_that_nobody_serves_has_its_exit_code() {
    let outcome = Npipe::start(&["forward", "stdio", "unix:/nonexistent/x.sock"]).finish().await;
    outcome.code(3).stderr_has("cannot connect to unix:/nonexistent/x.sock");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_before_anything_is_done() {
    Npipe::start(&["forward", "stdio", "stdio"]).finish().await.code(2).stderr_has("both ends");
    for option in ["--message", "--instances=2", "--sddl=D:(A;;FA;;;WD)"] {
        let outcome = Npipe::start(&["forward", option, "tcp:0", "exec:cat"]).finish().await;
        outcome.code(2).stderr_has("for pipes");
    }
    let outcome = Npipe::start(&["forward", "--launch", "tcp:0", "exec:cat"]).finish().await;
    outcome.code(2).stderr_has("--launch is for the targets");
    let outcome = Npipe::start(&["forward", "tcp:0", "windows:stdio"]).finish().await;
    outcome.code(2).stderr_has("cannot be on the Windows side");
}

/// A socket that the kernel hands over already connected.
#[tokio::test]
async fn a_socket_unit_with_accept_is_refused_with_the_reason() {
    let (ours, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
    activated(ours.into(), &["exec:cat"]).finish().await.code(1).stderr_has("Accept=yes");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let _peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (ours, _) = listener.accept().unwrap();
    activated(ours.into(), &["exec:cat"]).finish().await.code(1).stderr_has("Accept=yes");
}

#[tokio::test]
async fn a_forward_to_its_own_listener_is_refused() {
    let refused = async |listen: &str, target: &str| {
        let outcome = Npipe::start(&["forward", listen, target]).finish().await;
        outcome.code(2).stdout(b"").stderr_has("are the same").no_stderr_has("listening on");
    };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    refused(&format!("tcp:{port}"), &format!("tcp:127.0.0.1:{port}")).await;
    drop(taken);
    for (listen, target) in
        [("", "127.0.0.1:"), ("0.0.0.0:", "127.0.0.1:"), ("", "0.0.0.0:"), ("127.0.0.1:", "localhost:")]
    {
        refused(&format!("tcp:{listen}{port}"), &format!("tcp:{target}{port}")).await;
    }

    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    std::os::unix::fs::symlink(path("x"), path("link")).unwrap();
    std::os::unix::fs::symlink(directory.path(), path("directory")).unwrap();
    for target in ["x", "./x", "link", "directory/x", "directory/link"] {
        refused(&format!("unix:{}", path("x")), &format!("unix:{}", path(target))).await;
    }
    refused(&format!("unix:{}", path("x")), &format!("assuan:{}", path("x"))).await;
    let served = std::os::unix::net::UnixListener::bind(path("x")).unwrap();
    refused(&format!("unix:{}", path("link")), &format!("unix:{}", path("x"))).await;
    let outcome = activated(served.into(), &[&format!("unix:{}", path("x"))]).finish().await;
    outcome.code(2).stderr_has("are the same");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("tcp:{}", taken.local_addr().unwrap());
    activated(taken.into(), &[&target]).finish().await.code(2).stderr_has("are the same");

    let mut other =
        Npipe::start(&["forward", &format!("unix:{}", path("y")), &format!("unix:{}", path("z"))]);
    other.stderr_line("listening on").await;
}

/// 64 KiB of lines, and more, find no reader.
#[tokio::test]
async fn a_stderr_that_is_not_read_holds_up_no_client() {
    let refusing = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("tcp:{}", refusing.local_addr().unwrap());
    drop(refusing);
    let mut forward = Forward::start(&[], &target).await;
    for _ in 0..2000 {
        assert_eq!(read_to_end(&mut forward.client().await).await, b"");
    }
    forward.process.stderr_line("client 1: ").await;
    forward.process.stderr_line("lines were dropped here").await;
    // And those that come later arrive.
    read_to_end(&mut forward.client().await).await;
    forward.process.stderr_line("client 2001: ").await;
}

#[tokio::test]
async fn where_no_thread_can_be_started_a_stderr_that_is_not_read_holds_up_no_client_either() {
    let refusing = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("tcp:{}", refusing.local_addr().unwrap());
    drop(refusing);
    let directory = tempfile::tempdir().unwrap();
    let listen = format!("unix:{}", socket(&directory).display());
    // No stack is that large.
    let no_threads = |command: &mut tokio::process::Command| {
        command.env("RUST_MIN_STACK", (1u64 << 60).to_string());
    };
    let mut forward = Npipe::start_with(&["-v", "forward", &listen, &target], no_threads);
    forward.stderr_line("listening on").await;
    for _ in 0..2000 {
        assert_eq!(read_to_end(&mut connect(&socket(&directory)).await).await, b"");
    }
    terminate(&forward);
    let outcome = forward.finish().await;
    outcome.code(0).stderr_has("client 1: ").stderr_has("lines were dropped here");
    // The reason of an end is written too.
    let outcome = Npipe::start_with(&["forward", "unix:/nonexistent/x", &target], no_threads).finish().await;
    outcome.code(1).stderr_has("the directory does not exist");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_stderr_that_is_closed_or_full_holds_up_no_client() {
    for redirection in ["2>&-", "2>/dev/full"] {
        let directory = tempfile::tempdir().unwrap();
        let path = socket(&directory);
        let npipe = env!("CARGO_BIN_EXE_npipe");
        let line =
            format!("exec {npipe} -vv forward unix:{} 'exec:echo served' {redirection}", path.display());
        let _forward = Npipe::start_program(Path::new("/bin/sh"), &["-c", &line], |_| {});
        within_limit("the socket", async {
            while UnixStream::connect(&path).await.is_err() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(read_to_end(&mut connect(&path).await).await, b"served\n");
    }
}
