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

/// An allocator keeps some pages more after the one wave than after the other.
const MOST_GROWTH: usize = 2 << 20;

on_both_sides! {
    connections_that_come_and_go_leave_nothing_in_either_process
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
        processes.into_iter().zip(idle_handles).all(|(process, idle)| handles(process) <= idle)
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
