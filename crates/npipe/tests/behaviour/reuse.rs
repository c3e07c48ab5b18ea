//! One server instance for many clients, one after the other: nothing of one is seen by the next
//! (promise 7).

use std::io;
use std::pin::pin;

use npipe::{ClientOptions, PipeMode, ServerOptions};
use windows_sys::Win32::Foundation::ERROR_PIPE_NOT_CONNECTED;

use crate::family::{AsyncFamily, Family, NonBlockingFamily, Reading, ServerEnd, Waiting, Writing};
use crate::harness::{Within, assert_os_error, poll_and_drop, poll_once, unique_name};

/// Opens the pipe once its instance listens again.
async fn open_when_listening<F: Family>(options: &ClientOptions, name: &str) -> F::Client {
    async {
        loop {
            match F::open(options, name) {
                Ok(client) => return client,
                Err(error) => assert!(F::is_busy(&error), "{error:?}"),
            }
            smol::future::yield_now().await;
        }
    }
    .within("the instance listens again")
    .await
}

/// The next client of this server.
async fn next_client<F: Family>(server: &F::Server, options: &ClientOptions, name: &str) -> F::Client {
    let connect = async { server.connect().await.unwrap() };
    let (client, ()) = smol::future::zip(open_when_listening::<F>(options, name), connect)
        .within("the next client connects")
        .await;
    client
}

/// A request and its reply, both marked with the client's number.
async fn exchange<F: Family>(server: &mut F::Server, client: &mut F::Client, number: u32) {
    client.write_all(&number.to_le_bytes()).within("request").await.unwrap();
    let mut received = [0; 4];
    server.read_exact(&mut received).within("request").await.unwrap();
    assert_eq!(u32::from_le_bytes(received), number, "the server read another client's request");
    server.write_all(&(!number).to_le_bytes()).within("reply").await.unwrap();
    client.read_exact(&mut received).within("reply").await.unwrap();
    assert_eq!(u32::from_le_bytes(received), !number, "the client read another client's reply");
}

/// A reply larger than the quota: what a write that waits brings along with it is this client's,
/// too.
async fn large_reply<F: Family>(server: &mut F::Server, client: &mut F::Client, number: u32) {
    let reply = vec![number as u8; 12_000];
    let mut received = vec![0; reply.len()];
    // Two writes: the second is queued behind the first.
    let writing = async {
        server.write_all(&reply[..9000]).await.unwrap();
        server.write_all(&reply[9000..]).await.unwrap();
        server.flush().await.unwrap();
    };
    let ((), read) =
        smol::future::zip(writing, client.read_exact(&mut received)).within("a large reply").await;
    read.unwrap();
    assert!(received == reply, "the client read another client's reply");
}

/// What may be under way when a client is thrown out.
#[derive(Clone, Copy, Debug)]
enum Left {
    Nothing,
    ReadPending,
    ReadableUnread,
    PartlyRead,
    UnreadByClient,
    WriteInFlight,
    ClientGone,
    ClientGoneWithDataUnread,
}

const LEFTOVERS: [Left; 8] = [
    Left::Nothing,
    Left::ReadPending,
    Left::ReadableUnread,
    Left::PartlyRead,
    Left::UnreadByClient,
    Left::WriteInFlight,
    Left::ClientGone,
    Left::ClientGoneWithDataUnread,
];

async fn stale_results_for_a_thousand_clients<F: NonBlockingFamily>(mode: PipeMode) {
    let name = unique_name();
    let mut options = ServerOptions::new();
    options.pipe_mode(mode).in_buffer_size(4096).out_buffer_size(4096);
    let mut server = F::create(&options, &name).unwrap();
    let mut client_options = ClientOptions::new();
    client_options.pipe_mode(mode);
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut generator = fastrand::Rng::with_seed(seed);
    let stale = vec![0xEE; 20_000];
    for number in 0..1000 / F::COST {
        let mut client = next_client::<F>(&server, &client_options, &name).await;
        exchange::<F>(&mut server, &mut client, number).await;
        large_reply::<F>(&mut server, &mut client, number).await;
        exchange::<F>(&mut server, &mut client, number).await;
        let left = LEFTOVERS[generator.usize(0..LEFTOVERS.len())];
        match left {
            Left::Nothing => {}
            Left::ReadPending => assert!(poll_and_drop(server.read(&mut [0; 64])).is_pending()),
            Left::ReadableUnread => {
                client.write_all(b"stale").within("stale").await.unwrap();
                server.readable().within("readable").await.unwrap();
            }
            Left::PartlyRead => {
                client.write_all(b"stale").within("stale").await.unwrap();
                assert_ne!(server.read(&mut [0; 2]).within("a part").await.unwrap(), 0);
            }
            Left::UnreadByClient => server.write_all(b"stale").within("stale").await.unwrap(),
            Left::WriteInFlight => {
                // More than the client's read-ahead and the kernel take from a client that does not read.
                for _ in 0..20 {
                    let _ = poll_and_drop(server.write(&stale));
                }
            }
            Left::ClientGone => drop(client),
            Left::ClientGoneWithDataUnread => {
                client.write_all(b"stale").within("stale").await.unwrap();
                drop(client);
            }
        }
        if let Err(error) = server.disconnect() {
            panic!("client {number}, {left:?}: disconnect: {error:?}");
        }
    }
}

async fn stale_bytes_are_never_seen<F: NonBlockingFamily>() {
    stale_results_for_a_thousand_clients::<F>(PipeMode::Byte).await;
}

async fn stale_messages_are_never_seen<F: NonBlockingFamily>() {
    stale_results_for_a_thousand_clients::<F>(PipeMode::Message).await;
}

/// A wait for data of the client that is thrown out ends; it does not wait for data of the next.
async fn wait_of_the_last_client_ends_with_it<F: AsyncFamily>() {
    let name = unique_name();
    let mut server = F::create(&ServerOptions::new(), &name).unwrap();
    for number in 0..100 {
        let mut client = next_client::<F>(&server, &ClientOptions::new(), &name).await;
        exchange::<F>(&mut server, &mut client, number).await;
        {
            let mut readable = pin!(server.as_ref().readable());
            assert!(poll_once(readable.as_mut()).is_pending());
            server.disconnect().unwrap();
            // Ready or an error: the next read tells which.
            let _ = readable.within("a wait for readiness when its client is thrown out").await;
        }
        match server.as_ref().try_read(&mut [0; 8]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => assert_os_error(read, ERROR_PIPE_NOT_CONNECTED, "read on a disconnected server"),
        }
    }
}

async fn client_that_was_thrown_out_does_not_get_the_next_ones_data<F: NonBlockingFamily>() {
    let name = unique_name();
    let mut server = F::create(&ServerOptions::new(), &name).unwrap();
    let mut last = next_client::<F>(&server, &ClientOptions::new(), &name).await;
    for number in 0..100 {
        server.disconnect().unwrap();
        let mut client = next_client::<F>(&server, &ClientOptions::new(), &name).await;
        exchange::<F>(&mut server, &mut client, number).await;
        let read = last.read(&mut [0; 8]).within("read").await;
        assert_os_error(read, ERROR_PIPE_NOT_CONNECTED, "read of a client that was thrown out");
        let written = last.write(b"x").within("write").await;
        assert_os_error(written, ERROR_PIPE_NOT_CONNECTED, "write of a client that was thrown out");
        last = client;
    }
}

/// A client that came while nobody waited for it, and was thrown out, is not what the next
/// `connect` reports.
async fn connection_nobody_took_is_not_the_next_one<F: NonBlockingFamily>() {
    let name = unique_name();
    let mut server = F::create(&ServerOptions::new(), &name).unwrap();
    for round in 0..100_u8 {
        let mut client = async {
            loop {
                // Again until the instance listens: the last wait may have to end first.
                let connect = poll_and_drop(server.connect());
                assert!(connect.is_pending(), "round {round}: the last client's connection");
                if let Ok(client) = F::open(&ClientOptions::new(), &name) {
                    break client;
                }
                smol::future::yield_now().await;
            }
        }
        .within("the instance listens again")
        .await;
        client.write_all(&[round]).within("write").await.unwrap();
        let mut byte = [0];
        server.read_exact(&mut byte).within("read without a connect").await.unwrap();
        assert_eq!(byte[0], round);
        server.disconnect().unwrap();
    }
}

/// The documented way to serve one client after the other: read to the end, then disconnect, then
/// connect.
async fn one_instance_serves_clients_in_turn<F: NonBlockingFamily>() {
    let name = unique_name();
    let mut server = F::create(&ServerOptions::new(), &name).unwrap();
    for number in 0..300 {
        let mut client = next_client::<F>(&server, &ClientOptions::new(), &name).await;
        exchange::<F>(&mut server, &mut client, number).await;
        drop(client);
        assert_eq!(server.read_to_end().within("the client leaves").await.unwrap(), b"");
        server.disconnect().unwrap();
    }
}

for_each_family!(
    stale_bytes_are_never_seen => nonblocking,
    stale_messages_are_never_seen => nonblocking,
    wait_of_the_last_client_ends_with_it => asynchronous,
    client_that_was_thrown_out_does_not_get_the_next_ones_data => nonblocking,
    connection_nobody_took_is_not_the_next_one => nonblocking,
    one_instance_serves_clients_in_turn => nonblocking,
);
