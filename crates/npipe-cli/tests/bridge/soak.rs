//! For days: connections come, talk, idle and go, and neither process grows.

use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;

use crate::world::*;

/// Connections of one wave, which are open at the same time.
const WAVE: usize = 40;

/// A leak grows in every phase. Allocators, pools of threads and a busy machine add in some of
/// them.
const PHASES: usize = 10;

/// `NPIPE_TEST_LONG` makes it half an hour.
fn waves_of_a_phase() -> usize {
    if is_long() { 1000 } else { 10 }
}

/// The number of times in a phase that no client uses the bridge, and the Windows process is ended.
fn idle_times_of_a_phase() -> usize {
    if is_long() { 100 } else { 5 }
}

on_both_sides! {
    connections_that_come_and_go_leave_nothing_in_either_process
    idle_times_without_a_windows_process_leave_nothing_in_the_linux_one
}

async fn connections_that_come_and_go_leave_nothing_in_either_process(side: Side) {
    let world = World::new(side).await;
    let (idle, idle_server) = world.connection().await;
    let processes = [("Linux", world.bridge.process()), ("Windows", world.windows_process())];
    let connections = waves_of_a_phase() * WAVE;
    let least_leak = Owned { memory: connections * 200, handles: connections / 5 };
    assert_no_leak(&processes, least_leak, async || {
        for number in 0..waves_of_a_phase() {
            wave(&world, number).await;
        }
    })
    .await;
    // The same process still, and the connection that was there before all others.
    assert_eq!(world.windows_process(), processes[1].1);
    tokio::join!(echo(idle_server), async { drop(exchange(idle, 1, 1000).await) });
}

async fn idle_times_without_a_windows_process_leave_nothing_in_the_linux_one(side: Side) {
    let mut world = World::with(side, &["--bridge-idle", "0"]).await;
    let process = world.bridge.process();
    let idle_handles = handles(process);
    let least_leak = Owned { memory: idle_times_of_a_phase() << 13, handles: 1 };
    assert_no_leak(&[("Linux", process)], least_leak, async || {
        for number in 0..idle_times_of_a_phase() {
            let (client, server) = world.connection().await;
            tokio::join!(echo(server), async { drop(exchange(client, number, 1000).await) });
            world.bridge.line("was idle and ended").await;
            until("the end of every Windows process", || world.windows_processes().is_empty()).await;
        }
        until("the handles of before", || handles(process) <= idle_handles).await;
    })
    .await;
}

/// The memory, in bytes, and the number of handles of a process.
#[derive(Debug, Clone, Copy)]
struct Owned {
    memory: usize,
    handles: usize,
}

impl Owned {
    fn of(process: u32) -> Self {
        Self { memory: memory(process), handles: handles(process) }
    }

    fn growth_since(self, before: Self) -> Self {
        Self {
            memory: self.memory.saturating_sub(before.memory),
            handles: self.handles.saturating_sub(before.handles),
        }
    }

    fn least(self, other: Self) -> Self {
        Self { memory: self.memory.min(other.memory), handles: self.handles.min(other.handles) }
    }
}

/// Runs phases until each process has had one in which its memory grew by less than `least_leak`,
/// and one in which its handles did.
async fn assert_no_leak(processes: &[(&str, u32)], least_leak: Owned, mut phase: impl AsyncFnMut()) {
    let owned = || processes.iter().map(|(_, process)| Owned::of(*process)).collect::<Vec<_>>();
    let mut before = owned();
    let mut least_growth = vec![Owned { memory: usize::MAX, handles: usize::MAX }; processes.len()];
    for number in 1..=PHASES {
        phase().await;
        let now = owned();
        for ((least, now), before) in least_growth.iter_mut().zip(&now).zip(before) {
            *least = least.least(now.growth_since(before));
        }
        eprintln!("phase {number}: {now:?}, least growth {least_growth:?}");
        let leaks = |least: &Owned| least.memory >= least_leak.memory || least.handles >= least_leak.handles;
        if number > 1 && !least_growth.iter().any(leaks) {
            return;
        }
        before = now;
    }
    let names: Vec<_> = processes.iter().map(|(name, _)| *name).collect();
    panic!("of {names:?} one grew in each of {PHASES} phases, at the least by {least_growth:?}");
}

/// Until the client has ended.
async fn echo(server: TcpStream) {
    let (mut read, mut write) = server.into_split();
    let _ = tokio::io::copy(&mut read, &mut write).await;
}

async fn wave(world: &World, number: usize) {
    let mut clients = JoinSet::new();
    for seed in 0..WAVE {
        let socket = world.socket.clone();
        clients.spawn(async move {
            let client = UnixStream::connect(socket).await.unwrap();
            drop(exchange(client, number * WAVE + seed, 1 + seed * 100).await);
        });
    }
    tokio::join!(world.echo(WAVE), async { drop(within_limit("the clients", clients.join_all()).await) });
}
