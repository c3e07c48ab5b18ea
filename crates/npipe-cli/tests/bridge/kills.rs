//! Either process is killed or stopped in the middle of traffic, at moments that a seed chooses,
//! and may go on later. No client hangs, no process is left behind, the bytes that arrived are
//! those that were sent, and those that were acknowledged had arrived.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::world::*;

const CONNECTIONS: usize = 8;
const LONGEST_PIECE: usize = 100_000;

/// Either half takes the other for dead after so long.
const SILENCE: Duration = Duration::from_secs(3);

/// `NPIPE_TEST_LONG` makes it hundreds of kills, and half an hour of stops.
fn rounds(long: usize) -> usize {
    if is_long() { long } else { 12 }
}

on_both_sides! {
    a_kill_at_any_moment_leaves_no_hang_no_orphan_and_no_false_byte
    a_stop_at_any_moment_leaves_no_hang_no_orphan_and_no_false_byte
}

async fn a_kill_at_any_moment_leaves_no_hang_no_orphan_and_no_false_byte(side: Side) {
    let first = fastrand::usize(..1_000_000);
    // Rounds of one world, as long as its Linux side lives.
    let mut world = World::new(side.clone()).await;
    for seed in first..first + rounds(300) {
        eprintln!("seed {seed}");
        let mut chance = fastrand::Rng::with_seed(seed as u64);
        let moment = Moment::new(chance.usize(0..60));
        let traffic = traffic(&world, seed, &moment).await;
        let windows = world.windows_process();
        let linux_dies = chance.bool();
        kill(if linux_dies { world.bridge.process() } else { windows });
        within_limit("the ends of all connections", traffic.join_all()).await;
        until("the end of the Windows process", || !runs(windows)).await;
        if linux_dies {
            within_limit("the end of the Linux process", world.bridge.child.wait()).await.unwrap();
            world = World::new(side.clone()).await;
        }
        // What is there now, or is started now, serves.
        tokio::join!(world.echo(1), async { drop(exchange(world.client().await, seed, 50_000).await) });
    }
}

async fn a_stop_at_any_moment_leaves_no_hang_no_orphan_and_no_false_byte(side: Side) {
    let first = fastrand::usize(..1_000_000);
    let mut world = World::with_silence(side.clone(), SILENCE).await;
    for seed in first..first + rounds(5000) {
        eprintln!("seed {seed}");
        let mut chance = fastrand::Rng::with_seed(seed as u64);
        let moment = Moment::new(chance.usize(0..60));
        let traffic = traffic(&world, seed, &moment).await;
        let (linux, windows) = (world.bridge.process(), world.windows_process());
        let (stopped, other) = if chance.bool() { (linux, windows) } else { (windows, linux) };
        stop(stopped).await;
        let killed = match chance.u8(0..4) {
            // It goes on before the other half takes it for dead, or after that.
            0 => None,
            1 => {
                tokio::time::sleep(SILENCE.mul_f64(chance.f64() * 2.0)).await;
                None
            }
            2 => Some(other),
            _ => Some(stopped),
        };
        if let Some(process) = killed {
            kill(process);
        }
        go_on(stopped);
        // Connections whose halves both live are ended like this.
        kill(windows);
        within_limit("the ends of all connections", traffic.join_all()).await;
        until("the end of the Windows process", || !runs(windows)).await;
        if killed == Some(linux) {
            within_limit("the end of the Linux process", world.bridge.child.wait()).await.unwrap();
            world = World::with_silence(side.clone(), SILENCE).await;
        }
        // The bridge that runs now, or that is started now, serves.
        tokio::join!(world.echo(1), async { drop(exchange(world.client().await, seed, 50_000).await) });
    }
}

/// Starts conversations, and waits for `moment`.
async fn traffic(world: &World, seed: usize, moment: &Arc<Moment>) -> JoinSet<()> {
    let mut traffic = JoinSet::new();
    for number in 0..CONNECTIONS {
        let (client, server) = world.connection().await;
        traffic.spawn(converse(client, server, seed + number, Arc::clone(moment)));
    }
    within_limit("the moment", moment.reached.notified()).await;
    traffic
}

/// Comes after so many acknowledgements, over all connections.
struct Moment {
    left: AtomicUsize,
    reached: Notify,
}

impl Moment {
    fn new(acknowledgements: usize) -> Arc<Moment> {
        Arc::new(Moment { left: AtomicUsize::new(acknowledgements), reached: Notify::new() })
    }

    fn acknowledged(&self) {
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if left.is_err() {
            self.reached.notify_one();
        }
    }
}

/// Goes on until the connection breaks. The client sends pieces and waits for the number of bytes
/// that the server has, while the server tells it at any time how far it is.
async fn converse(client: UnixStream, server: TcpStream, seed: usize, moment: Arc<Moment>) {
    let (acknowledged, received) = tokio::join!(
        send_and_count_acknowledged(client, seed, &moment),
        receive_and_acknowledge(server, seed)
    );
    assert!(
        acknowledged <= received,
        "{acknowledged} bytes were acknowledged and {received} had arrived, seed {seed}"
    );
}

async fn send_and_count_acknowledged(mut client: UnixStream, seed: usize, moment: &Moment) -> u64 {
    let mut pieces = Pieces::new(seed);
    let (mut sent, mut acknowledged) = (0, 0);
    loop {
        let piece = pieces.next();
        sent += piece.len() as u64;
        if client.write_all(&piece).await.is_err() {
            return acknowledged;
        }
        while acknowledged < sent {
            match client.read_u64().await {
                Ok(count) => {
                    assert!((acknowledged..=sent).contains(&count), "{count} of {sent} bytes, seed {seed}");
                    acknowledged = count;
                }
                Err(_) => return acknowledged,
            }
        }
        moment.acknowledged();
    }
}

async fn receive_and_acknowledge(mut server: TcpStream, seed: usize) -> u64 {
    let mut pieces = Pieces::new(seed);
    let mut expected = Vec::new();
    let mut received = 0;
    let mut buffer = vec![0; LONGEST_PIECE];
    loop {
        let Ok(read @ 1..) = server.read(&mut buffer).await else { return received };
        while expected.len() < read {
            expected.extend(pieces.next());
        }
        assert!(expected[..read] == buffer[..read], "other bytes than were sent, seed {seed}");
        expected.drain(..read);
        received += read as u64;
        if server.write_u64(received).await.is_err() {
            return received;
        }
    }
}

/// What one connection sends, the same for both of its ends.
struct Pieces(fastrand::Rng);

impl Pieces {
    fn new(seed: usize) -> Pieces {
        Pieces(fastrand::Rng::with_seed(seed as u64))
    }

    fn next(&mut self) -> Vec<u8> {
        let mut piece = vec![0; self.0.usize(1..LONGEST_PIECE)];
        self.0.fill(&mut piece);
        piece
    }
}
