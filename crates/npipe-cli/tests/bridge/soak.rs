//! For days: connections come, talk, idle and go, and neither process grows.

use std::time::{Duration, Instant};

use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;

use crate::world::*;

/// Connections of one wave, which are open at the same time.
const WAVE: usize = 40;

/// Until allocators and pools have what they need.
const FIRST_WAVES: usize = 10;

/// `NPIPE_TEST_LONG` makes it half an hour.
fn duration() -> Duration {
    if is_long() { Duration::from_secs(30 * 60) } else { Duration::from_secs(3) }
}

/// Tokio's threads that read stdin and write stdout come and go, and one that is used now and then stays. Under Wine each has four
/// handles. A leak would have one for each of hundreds of connections.
const HANDLES_OF_THREADS: usize = 48;

/// An allocator keeps some pages more after the one wave than after the other.
const MOST_GROWTH: usize = 2 << 20;

/// Times that nobody uses the bridge, for which the Windows process is ended.
fn idle_times() -> usize {
    if is_long() { 1000 } else { 10 }
}

on_both_sides! {
    connections_that_come_and_go_leave_nothing_in_either_process
    idle_times_without_a_windows_process_leave_nothing_in_the_linux_one
}

async fn connections_that_come_and_go_leave_nothing_in_either_process(side: Side) {
    let world = World::new(side).await;
    let (idle, idle_server) = world.connection().await;
    let processes = [world.bridge.process(), world.windows_process()];
    let idle_handles = processes.map(handles);
    for number in 0..FIRST_WAVES {
        wave(&world, number).await;
    }
    let before = processes.map(memory);
    let begun = Instant::now();
    let mut waves = 0;
    while begun.elapsed() < duration() || waves < FIRST_WAVES {
        wave(&world, waves).await;
        waves += 1;
    }
    until("the handles that the waves had", || {
        processes
            .into_iter()
            .zip(idle_handles)
            .all(|(process, idle)| handles(process) <= idle + HANDLES_OF_THREADS)
    })
    .await;
    for ((process, name), before) in processes.into_iter().zip(["Linux", "Windows"]).zip(before) {
        let now = memory(process);
        eprintln!(
            "{} connections: the {name} process went from {} KiB to {} KiB",
            waves * WAVE,
            before / 1024,
            now / 1024
        );
        assert!(now < before + MOST_GROWTH, "the {name} process grew by {} bytes", now - before);
    }
    // The same process still, and the connection that was there before all others.
    assert_eq!(world.windows_process(), processes[1]);
    tokio::join!(echo(idle_server), async { drop(exchange(idle, 1, 1000).await) });
}

async fn idle_times_without_a_windows_process_leave_nothing_in_the_linux_one(side: Side) {
    let mut world = World::with(side, &["--bridge-idle", "0"]).await;
    let idle_handles = handles(world.bridge.process());
    let mut before = 0;
    for number in 0..FIRST_WAVES + idle_times() {
        if number == FIRST_WAVES {
            before = memory(world.bridge.process());
        }
        let (client, server) = world.connection().await;
        tokio::join!(echo(server), async { drop(exchange(client, number, 1000).await) });
        world.bridge.line("was idle and ended").await;
        until("the end of every Windows process", || world.windows_processes().is_empty()).await;
    }
    until("the handles of before", || handles(world.bridge.process()) <= idle_handles).await;
    let now = memory(world.bridge.process());
    eprintln!("{} idle times: from {} KiB to {} KiB", idle_times(), before / 1024, now / 1024);
    assert!(now < before + MOST_GROWTH, "the Linux process grew by {} bytes", now - before);
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
