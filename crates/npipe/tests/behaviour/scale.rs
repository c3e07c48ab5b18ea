//! Many connections at once and many one after the other: no thread a connection, nothing left behind. These tests have
//! the process to themselves, as they measure it.

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
    const CYCLES: usize = 10_000;
    let name = unique_name();
    // What is kept for good (the port, its thread, allocator pages) is there after the first cycles.
    async {
        for _ in 0..500 {
            come_and_go::<F>(&name).await;
        }
    }
    .within("the first cycles")
    .await;
    let memory = sys::memory();
    let handles = sys::handle_watermark();
    let threads = sys::thread_count();
    for _ in 0..CYCLES / 500 {
        async {
            for _ in 0..500 {
                come_and_go::<F>(&name).await;
            }
        }
        .within("500 cycles")
        .await;
    }
    assert_no_growth(memory, handles, threads, CYCLES).await;
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
    const CYCLES: usize = 10_000;
    let name = unique_name();
    let mut server = F::create(ServerOptions::new().max_instances(1), &name).unwrap();
    serve_in_turn::<F>(&mut server, &name, 500).await;
    let memory = sys::memory();
    let handles = sys::handle_watermark();
    let threads = sys::thread_count();
    for _ in 0..CYCLES / 500 {
        serve_in_turn::<F>(&mut server, &name, 500).await;
    }
    assert_eq!(sys::instances(&server), 1);
    assert_no_growth(memory, handles, threads, CYCLES).await;
}

async fn serve_in_turn<F: NonBlockingFamily>(server: &mut F::Server, name: &str, clients: usize) {
    async {
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
    .within("clients in turn")
    .await;
}

/// Less than a tenth of what the least leak imaginable (a kilobyte or a handle for every tenth cycle) would show.
async fn assert_no_growth(before: sys::Memory, handles: usize, threads: usize, cycles: usize) {
    eventually("no handle is left over", || sys::handle_watermark() <= handles + cycles / 100).await;
    let threads_now = sys::thread_count();
    assert!(threads_now <= threads + 2, "{threads_now} threads, {threads} before");
    let now = sys::memory();
    println!("{cycles} cycles: {before:?} before, {now:?} after");
    for (what, before, now) in
        [("resident", before.resident, now.resident), ("committed", before.committed, now.committed)]
    {
        let grown = now.saturating_sub(before);
        assert!(grown <= cycles * 100, "{what} memory grew by {grown} bytes in {cycles} cycles");
    }
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
    let threads_now = sys::thread_count();
    assert!(
        threads_now <= threads + 2,
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
