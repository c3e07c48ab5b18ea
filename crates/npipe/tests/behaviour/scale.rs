//! Many connections at once and many one after the other: no thread a connection, nothing left
//! behind. These tests have the process to themselves, as they measure it.

use npipe::{ClientOptions, ServerOptions};

use crate::family::{Family, NonBlockingFamily, Reading, ServerEnd, Writing};
use crate::harness::{Within, eventually, unique_name};
use crate::sys;

/// A server and a client that meet, exchange a byte each way, and go.
async fn come_and_go<F: Family>(name: &str) {
    let mut server = F::create(&ServerOptions::new(), name).unwrap();
    let mut client = F::open(&ClientOptions::new(), name).unwrap();
    server.connect().await.unwrap();
    let mut byte = [0];
    client.write_all(b"?").await.unwrap();
    server.read_exact(&mut byte).await.unwrap();
    server.write_all(b"!").await.unwrap();
    client.read_exact(&mut byte).await.unwrap();
    assert_eq!(&byte, b"!");
}

async fn ten_thousand_connections_leave_nothing_behind<F: Family>() {
    let name = unique_name();
    assert_no_leak(async || {
        for _ in 0..PHASE {
            come_and_go::<F>(&name).await;
        }
    })
    .await;
    // Every instance has gone: a pipe of one instance can be created by that name.
    let mut options = ServerOptions::new();
    options.max_instances(1);
    let mut last = None;
    eventually("no instance is left", || {
        last = F::create(&options, &name).ok();
        last.is_some()
            && F::open(&ClientOptions::new(), &name).is_ok_and(|client| sys::instances(&client) == 1)
    })
    .await;
}

async fn ten_thousand_clients_of_one_instance_leave_nothing_behind<F: NonBlockingFamily>() {
    let name = unique_name();
    let mut server = F::create(ServerOptions::new().max_instances(1), &name).unwrap();
    assert_no_leak(async || serve_in_turn::<F>(&mut server, &name, PHASE).await).await;
    assert_eq!(sys::instances(&server), 1);
}

async fn serve_in_turn<F: NonBlockingFamily>(server: &mut F::Server, name: &str, clients: usize) {
    for _ in 0..clients {
        {
            let connect = async { server.connect().await.unwrap() };
            let client = async {
                loop {
                    match F::open(&ClientOptions::new(), name) {
                        Ok(mut client) => break client.write_all(b"?").await.unwrap(),
                        Err(_) => smol::future::yield_now().await,
                    }
                }
            };
            smol::future::zip(connect, client).await;
        }
        let mut byte = [0];
        server.read_exact(&mut byte).await.unwrap();
        server.disconnect().unwrap();
    }
}

/// Cycles of one phase.
const PHASE: usize = 1000;

/// Ten thousand cycles. A leak grows in every phase; allocators, pools of threads and a busy
/// machine add in some of them.
const PHASES: usize = 10;

/// Runs the phases and asserts that there was one in which memory, handles and threads did not
/// grow: by less than half of the least leak imaginable, a kilobyte, a handle or a thread for every
/// tenth cycle.
async fn assert_no_leak(mut phase: impl AsyncFnMut()) {
    let owned = || {
        let memory = sys::memory();
        [memory.resident, memory.committed, sys::handle_watermark(), sys::thread_count()]
    };
    // The port, its thread and the first pages of allocators come with the first cycles, and stay.
    phase().within("the first cycles").await;
    let mut before = owned();
    let mut least_growth = [usize::MAX; 4];
    for _ in 0..PHASES {
        phase().within("a phase").await;
        let now = owned();
        for ((least, now), before) in least_growth.iter_mut().zip(now).zip(before) {
            *least = now.saturating_sub(before).min(*least);
        }
        before = now;
    }
    println!("resident, committed, handles, threads: {before:?}, least growth {least_growth:?}");
    let least_leak = [PHASE * 50, PHASE * 50, PHASE / 20, PHASE / 20];
    let leaks = least_growth.iter().zip(least_leak).any(|(growth, leak)| *growth >= leak);
    assert!(!leaks, "in every phase of {PHASE} cycles grew at least: {least_growth:?}");
}

async fn two_thousand_connections_at_once<F: Family>() {
    const CONNECTIONS: u32 = 2000;
    let name = unique_name();
    // The driver's and the timers' threads start with the first pipe and the first deadline.
    come_and_go::<F>(&name).within("the first connection").await;
    let threads = sys::thread_count();
    let mut connections = Vec::new();
    for number in 0..CONNECTIONS {
        let server = F::create(&ServerOptions::new(), &name).unwrap();
        let client = F::open(&ClientOptions::new(), &name).unwrap();
        server.connect().within("connect").await.unwrap();
        connections.push((number, server, client));
    }
    assert!(sys::instances(&connections[0].1) >= CONNECTIONS);
    // All hold something at once.
    for (number, server, client) in &mut connections {
        server.write_all(&number.to_le_bytes()).within("write").await.unwrap();
        client.write_all(&(!*number).to_le_bytes()).within("write").await.unwrap();
    }
    // Runtimes add a few when a machine is busy.
    let threads_now = sys::thread_count();
    assert!(
        threads_now <= threads + CONNECTIONS as usize / 100,
        "{threads_now} threads with {CONNECTIONS} connections, {threads} with one"
    );
    for (number, server, client) in connections.iter_mut().rev() {
        let mut received = [0; 4];
        client.read_exact(&mut received).within("read").await.unwrap();
        assert_eq!(u32::from_le_bytes(received), *number);
        server.read_exact(&mut received).within("read").await.unwrap();
        assert_eq!(u32::from_le_bytes(received), !*number);
    }
}

/// Tasks that all wait at once, woken in any order.
async fn a_thousand_waiting_reads<F: Family>() {
    const CONNECTIONS: u32 = 1000;
    let name = unique_name();
    let mut servers = Vec::new();
    let mut readers = Vec::new();
    for number in 0..CONNECTIONS {
        let server = F::create(&ServerOptions::new(), &name).unwrap();
        let mut client = F::open(&ClientOptions::new(), &name).unwrap();
        server.connect().within("connect").await.unwrap();
        readers.push(F::spawn(async move {
            let mut received = [0; 4];
            client.read_exact(&mut received).await.unwrap();
            assert_eq!(u32::from_le_bytes(received), number);
        }));
        servers.push((number, server));
    }
    smol::future::yield_now().await;
    fastrand::Rng::with_seed(9).shuffle(&mut servers);
    for (number, server) in &mut servers {
        server.write_all(&number.to_le_bytes()).within("write").await.unwrap();
    }
    async {
        for reader in readers {
            reader.await;
        }
    }
    .within("a thousand waiting reads")
    .await;
}

for_each_family!(
    ten_thousand_connections_leave_nothing_behind => alone,
    ten_thousand_clients_of_one_instance_leave_nothing_behind => alone nonblocking,
    two_thousand_connections_at_once => alone,
    a_thousand_waiting_reads,
);
