//! Much at once: connections, bytes, and readers that do not keep up.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::world::*;

const MIB: usize = 1 << 20;

/// Each way. `NPIPE_TEST_LONG` makes it one GiB.
fn bulk() -> usize {
    if is_long() { 1024 * MIB } else { 128 * MIB }
}

on_both_sides! {
    five_hundred_connections_are_open_at_once_and_each_has_its_own_bytes
    bulk_goes_both_ways_at_once_unchanged
    readers_that_do_not_read_stop_their_writers_and_cost_little
    readers_that_are_slow_get_everything
}

async fn five_hundred_connections_are_open_at_once_and_each_has_its_own_bytes(side: Side) {
    const CONNECTIONS: usize = 500;
    // All at once they find the pipe busy for longer than clients commonly wait. A socket is never
    // busy.
    let options: &[&str] = if let Side::Windows(_) = side { &["--wait", "60"] } else { &[] };
    let world = World::with(side, options).await;
    let all = async {
        let mut clients = JoinSet::new();
        for seed in 0..CONNECTIONS {
            let socket = world.socket.clone();
            clients.spawn(async move {
                (seed, exchange(UnixStream::connect(socket).await.unwrap(), seed, 1000 + seed).await)
            });
        }
        // All of them have been served and are open; now each says something once more.
        let clients = within_limit("the first exchanges", clients.join_all()).await;
        assert_eq!(world.windows_processes().len(), 1);
        let mut again = JoinSet::new();
        for (seed, client) in clients {
            again.spawn(async move { drop(exchange(client, seed + CONNECTIONS, 1000).await) });
        }
        within_limit("the second exchanges", again.join_all()).await;
    };
    tokio::join!(world.echo(CONNECTIONS), all);
}

/// As many as the bridge carries, by a process that was started with a low soft limit of open
/// files, and raises it.
#[tokio::test]
async fn clients_beyond_the_number_that_the_bridge_carries_are_announced_and_served_later() {
    const MOST: usize = 1024;
    // Two files of the test for each client, and those of other tests.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("listener.sock");
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let npipe = env!("CARGO_BIN_EXE_npipe");
    let line = format!(
        "ulimit -Sn 200; exec {npipe} -v forward --max-connections 2000 --windows-exe {npipe} unix:{} \
         windows:tcp:{}",
        path.display(),
        server.local_addr().unwrap()
    );
    let mut bridge = Npipe::start(Path::new("/bin/sh"), &["-c", &line], None);
    bridge.line("listening on").await;
    let connect = async || UnixStream::connect(&path).await.unwrap();
    let accept = async || within_limit("a client of the server", server.accept()).await.unwrap().0;
    let mut served = VecDeque::new();
    for _ in 0..MOST {
        served.push_back((connect().await, accept().await));
    }
    for number in MOST + 1..MOST + 3 {
        let mut client = connect().await;
        let line = bridge.line("a client waits until another has left").await;
        assert!(line.contains(&format!("the bridge carries {MOST} at once")), "{line}");
        client.write_all(b"x").await.unwrap();
        drop(served.pop_front());
        let mut server = accept().await;
        within_limit("the byte", server.read_exact(&mut [0])).await.unwrap();
        bridge.line(&format!("client {number}: connected to")).await;
        served.push_back((client, server));
    }
    // Those that are served all the time are, also now.
    for (client, server) in &mut served {
        server.write_all(b"x").await.unwrap();
        within_limit("the byte", client.read_exact(&mut [0])).await.unwrap();
    }
}

/// Blocks that differ from each other: one that is lost, repeated or out of its order is seen.
struct Blocks {
    block: Vec<u8>,
    number: u64,
}

impl Blocks {
    fn new(seed: usize) -> Blocks {
        Blocks { block: random(seed, MIB), number: 0 }
    }

    fn next(&mut self) -> &[u8] {
        self.block[..8].copy_from_slice(&self.number.to_le_bytes());
        self.number += 1;
        &self.block
    }
}

async fn send_blocks(writer: &mut (impl AsyncWrite + Unpin), seed: usize) {
    let mut blocks = Blocks::new(seed);
    for _ in 0..bulk() / MIB {
        within_limit("room for a block", writer.write_all(blocks.next())).await.unwrap();
    }
}

async fn receive_blocks(reader: &mut (impl AsyncRead + Unpin), seed: usize) {
    let mut blocks = Blocks::new(seed);
    let mut received = vec![0; MIB];
    for number in 0..bulk() / MIB {
        within_limit("a block", reader.read_exact(&mut received)).await.unwrap();
        assert!(received == blocks.next(), "block {number} is another than was sent");
    }
}

async fn bulk_goes_both_ways_at_once_unchanged(side: Side) {
    let world = World::new(side).await;
    let (client, server) = world.connection().await;
    let ((mut client_read, mut client_write), (mut server_read, mut server_write)) =
        (tokio::io::split(client), tokio::io::split(server));
    tokio::join!(
        send_blocks(&mut client_write, 1),
        receive_blocks(&mut server_read, 1),
        send_blocks(&mut server_write, 2),
        receive_blocks(&mut client_read, 2),
    );
}

async fn readers_that_do_not_read_stop_their_writers_and_cost_little(side: Side) {
    const CONNECTIONS: usize = 20;
    /// What sockets and pipes of the system hold of one connection in one direction, besides what
    /// npipe does.
    const MOST_ON_THE_WAY: usize = 16 * MIB;
    /// yamux has 256 KiB for each direction of a connection in each half, and 64 MiB in each half
    /// for all together.
    const MOST_MEMORY: usize = CONNECTIONS * MIB + 2 * 64 * MIB;

    let world = World::new(side).await;
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(world.connection().await);
    }
    let before = memory(world.bridge.process()) + memory(world.windows_process());
    let mut writers = JoinSet::new();
    for (mut client, mut server) in connections {
        writers.spawn(async move {
            let taken =
                tokio::join!(taken_without_a_reader(&mut client), taken_without_a_reader(&mut server));
            (taken, client, server)
        });
    }
    let stuck = within_limit("the end of what is taken", writers.join_all()).await;
    for (taken, _, _) in &stuck {
        assert!(taken.0.max(taken.1) < MOST_ON_THE_WAY, "{taken:?} bytes were taken and not read");
    }
    let grown = (memory(world.bridge.process()) + memory(world.windows_process())).saturating_sub(before);
    assert!(grown < MOST_MEMORY, "{grown} bytes for {CONNECTIONS} readers that do not read");
    // Who reads is served meanwhile.
    tokio::join!(world.echo(1), async { drop(exchange(world.client().await, 1, 300_000).await) });
}

/// How much is taken of a writer, until nothing is for a while.
async fn taken_without_a_reader(writer: &mut (impl AsyncWrite + Unpin)) -> usize {
    const WHILE: Duration = Duration::from_millis(500);
    let block = vec![7; 64 * 1024];
    let mut taken = 0;
    loop {
        match timeout(WHILE, writer.write(&block)).await {
            Ok(written) => taken += written.unwrap(),
            Err(_) => return taken,
        }
    }
}

async fn readers_that_are_slow_get_everything(side: Side) {
    const CONNECTIONS: usize = 10;
    const LENGTH: usize = MIB;
    let world = World::new(side).await;
    let mut tasks = JoinSet::new();
    for seed in 0..CONNECTIONS {
        let (client, mut server) = world.connection().await;
        tasks.spawn(async move {
            server.write_all(&random(seed, LENGTH)).await.unwrap();
            drop(server);
        });
        tasks.spawn(async move {
            let received = read_slowly(client, seed).await.unwrap();
            assert!(received == random(seed, LENGTH), "reader {seed} got {} bytes", received.len());
        });
    }
    within_limit("the readers", tasks.join_all()).await;
}

/// A little at a time, and everybody else's turn before the next.
async fn read_slowly(mut reader: UnixStream, seed: usize) -> io::Result<Vec<u8>> {
    let mut sizes = fastrand::Rng::with_seed(seed as u64);
    let mut received = Vec::new();
    loop {
        let mut piece = vec![0; sizes.usize(1..5000)];
        let read = reader.read(&mut piece).await?;
        if read == 0 {
            return Ok(received);
        }
        received.extend(&piece[..read]);
        for _ in 0..sizes.u8(0..5) {
            tokio::task::yield_now().await;
        }
    }
}
