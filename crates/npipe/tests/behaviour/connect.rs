//! How a server and its clients find each other.

use std::io;
use std::pin::pin;

use npipe::{ClientOptions, NamedPipeServer, ServerOptions};

use crate::family::{Family, Listening, NonBlockingFamily, Reading, ServerEnd, Writing};
use crate::harness::{Within, eventually, poll_and_drop, poll_once, unique_name};
use crate::sys;

/// Sends one byte each way, which proves that these two are connected to each other.
async fn assert_connected<F: Family>(server: &mut F::Server, client: &mut F::Client) {
    let mut byte = [0];
    client.write_all(b"?").within("the client's byte is accepted").await.unwrap();
    server.read_exact(&mut byte).within("the client's byte arrives").await.unwrap();
    assert_eq!(byte, *b"?");
    server.write_all(b"!").within("the server's byte is accepted").await.unwrap();
    client.read_exact(&mut byte).within("the server's byte arrives").await.unwrap();
    assert_eq!(byte, *b"!");
}

async fn server_waits_for_the_client<F: Family>() {
    let name = unique_name();
    let mut server = F::create(&ServerOptions::new(), &name).unwrap();
    let mut client = {
        let mut connect = pin!(server.connect());
        assert!(poll_once(connect.as_mut()).is_pending());
        let client = F::open(&ClientOptions::new(), &name).unwrap();
        connect.within("connect once the client is there").await.unwrap();
        client
    };
    assert_connected::<F>(&mut server, &mut client).await;
}

async fn client_is_there_first<F: Family>() {
    let name = unique_name();
    let mut server = F::create(&ServerOptions::new(), &name).unwrap();
    let mut client = F::open(&ClientOptions::new(), &name).unwrap();
    server.connect().within("connect with a client already there").await.unwrap();
    assert_connected::<F>(&mut server, &mut client).await;
}

async fn client_writes_before_the_server_connects<F: Family>() {
    let name = unique_name();
    let mut server = F::create(&ServerOptions::new(), &name).unwrap();
    let mut client = F::open(&ClientOptions::new(), &name).unwrap();
    client.write_all(b"early").within("write before connect").await.unwrap();
    server.connect().within("connect").await.unwrap();
    let mut received = [0; 5];
    server.read_exact(&mut received).within("what was written before connect").await.unwrap();
    assert_eq!(&received, b"early");
}

async fn connect_on_a_connected_server_is_ok<F: Family>() {
    let (mut server, mut client) = crate::harness::pair::<F>().await;
    server.connect().within("connect while connected").await.unwrap();
    assert_connected::<F>(&mut server, &mut client).await;
}

async fn client_that_wrote_and_left_before_connect_is_served<F: Family>() {
    let name = unique_name();
    let mut server = F::create(&ServerOptions::new(), &name).unwrap();
    let mut client = F::open(&ClientOptions::new(), &name).unwrap();
    client.write_all(b"last words").within("write").await.unwrap();
    client.flush().within("flush").await.unwrap();
    drop(client);
    server.connect().within("connect after the client has gone").await.unwrap();
    let received = server.read_to_end().within("what the client left").await.unwrap();
    assert_eq!(received, b"last words");
}

/// Asking again whether a client is there must not throw out one that has left: its bytes may be
/// with a read that nobody has looked at.
async fn connect_on_a_server_whose_client_has_left_keeps_its_bytes<F: NonBlockingFamily>() {
    let (mut server, mut client) = crate::harness::pair::<F>().await;
    assert!(poll_and_drop(server.read(&mut [0; 16])).is_pending());
    client.write_all(b"last words").within("write").await.unwrap();
    drop(client);
    server.connect().within("connect after the client has gone").await.unwrap();
    let received = server.read_to_end().within("what the client left").await.unwrap();
    assert_eq!(received, b"last words");
}

async fn client_that_came_and_left_before_connect_is_not_reported<F: Family>() {
    let name = unique_name();
    let mut server = F::create(&ServerOptions::new(), &name).unwrap();
    // A foreign client: its handle is closed when the call returns.
    drop(sys::blocking_client(&name, false).unwrap());
    let mut client = {
        let mut connect = pin!(server.connect());
        let client = loop {
            assert!(poll_once(connect.as_mut()).is_pending(), "a client that has left was reported");
            match F::open(&ClientOptions::new(), &name) {
                Ok(client) => break client,
                Err(error) => assert!(F::is_busy(&error), "{error:?}"),
            }
            async { smol::future::yield_now().await }.within("yield").await;
        };
        connect.within("connect with the second client").await.unwrap();
        client
    };
    assert_connected::<F>(&mut server, &mut client).await;
}

async fn dropped_connect_does_not_lose_the_client_that_comes_later<F: NonBlockingFamily>() {
    let name = unique_name();
    let mut server = F::create(&ServerOptions::new(), &name).unwrap();
    assert!(poll_and_drop(server.connect()).is_pending());
    let mut client = F::open(&ClientOptions::new(), &name).unwrap();
    server.connect().within("connect after a dropped connect").await.unwrap();
    assert_connected::<F>(&mut server, &mut client).await;
}

async fn dropped_connect_does_not_lose_the_client_that_had_come<F: NonBlockingFamily>() {
    let name = unique_name();
    let mut server = F::create(&ServerOptions::new(), &name).unwrap();
    let mut client = {
        let mut connect = pin!(server.connect());
        assert!(poll_once(connect.as_mut()).is_pending());
        // Dropped with the client there and its arrival not yet seen.
        F::open(&ClientOptions::new(), &name).unwrap()
    };
    server.connect().within("connect after a dropped connect").await.unwrap();
    assert_connected::<F>(&mut server, &mut client).await;
}

async fn connect_survives_a_thousand_drops<F: NonBlockingFamily>() {
    let name = unique_name();
    let mut server = F::create(&ServerOptions::new(), &name).unwrap();
    for _ in 0..1000 {
        assert!(poll_and_drop(server.connect()).is_pending());
    }
    let mut client = F::open(&ClientOptions::new(), &name).unwrap();
    server.connect().within("connect after dropped connects").await.unwrap();
    assert_connected::<F>(&mut server, &mut client).await;
}

async fn two_connects_wait_for_one_client<F: Family>() {
    let name = unique_name();
    let mut server = F::create(&ServerOptions::new(), &name).unwrap();
    let mut client = {
        let mut first = pin!(server.connect());
        let mut second = pin!(server.connect());
        assert!(poll_once(first.as_mut()).is_pending());
        assert!(poll_once(second.as_mut()).is_pending());
        let client = F::open(&ClientOptions::new(), &name).unwrap();
        let (first, second) = smol::future::zip(first, second).within("both connects").await;
        first.unwrap();
        second.unwrap();
        client
    };
    assert_connected::<F>(&mut server, &mut client).await;
}

/// The documented server loop: no client finds the name missing.
async fn many_clients_of_one_server_loop<F: Family>() {
    const CLIENTS: u32 = 100;
    let name = unique_name();
    let mut listener = F::listen(&ServerOptions::new(), &name).unwrap();
    let server = F::spawn(async move {
        let mut sessions = Vec::new();
        for _ in 0..CLIENTS {
            let mut session = listener.accept().await.unwrap();
            sessions.push(F::spawn(async move {
                let mut request = [0; 4];
                session.read_exact(&mut request).await.unwrap();
                let reply = u32::from_le_bytes(request) + 1;
                session.write_all(&reply.to_le_bytes()).await.unwrap();
                // The client closes first: its reply is safe.
                assert_eq!(session.read_to_end().await.unwrap(), b"");
            }));
        }
        for session in sessions {
            session.await;
        }
    });
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let name = name.clone();
            F::spawn(async move {
                let mut client = loop {
                    match F::open(&ClientOptions::new(), &name) {
                        Ok(client) => break client,
                        Err(error) => assert!(F::is_busy(&error), "{error:?}"),
                    }
                    smol::future::yield_now().await;
                };
                client.write_all(&number.to_le_bytes()).await.unwrap();
                let mut reply = [0; 4];
                client.read_exact(&mut reply).await.unwrap();
                assert_eq!(u32::from_le_bytes(reply), number + 1);
            })
        })
        .collect();
    async {
        for client in clients {
            client.await;
        }
    }
    .within("all clients are served")
    .await;
    server.within("the server has served all").await;
}

async fn instances_serve_their_clients_independently<F: Family>() {
    let name = unique_name();
    let mut connections = Vec::new();
    for _ in 0..20 {
        let server = F::create(&ServerOptions::new(), &name).unwrap();
        let client = F::open(&ClientOptions::new(), &name).unwrap();
        server.connect().within("connect").await.unwrap();
        connections.push((server, client));
    }
    for (server, client) in connections.iter_mut().rev() {
        assert_connected::<F>(server, client).await;
    }
}

async fn dropping_a_server_that_waits_frees_the_name<F: NonBlockingFamily>() {
    let name = unique_name();
    let server = F::create(&ServerOptions::new(), &name).unwrap();
    assert!(poll_and_drop(server.connect()).is_pending());
    drop(server);
    eventually("the name is free", || match F::open(&ClientOptions::new(), &name) {
        Err(error) => error.kind() == io::ErrorKind::NotFound,
        Ok(_) => false,
    })
    .await;
}

/// Futures of the library borrow the pipe and may be sent to another thread, as `tokio::spawn`
/// needs.
#[test]
fn futures_are_send_and_pipes_are_send_and_sync() {
    fn send<T: Send>(_: &T) {}
    fn send_and_sync<T: Send + Sync + Unpin>() {}
    send_and_sync::<NamedPipeServer>();
    send_and_sync::<npipe::NamedPipeClient>();
    send_and_sync::<npipe::NamedPipeListener>();
    let _ = |server: NamedPipeServer| send(&server.connect());
    let _ = |listener: npipe::NamedPipeListener| send(&listener.accept());
    send(&ClientOptions::new().connect("x"));
    send(&ServerOptions::new().listen_timeout("x", std::time::Duration::ZERO));
}

for_each_family!(
    server_waits_for_the_client,
    client_is_there_first,
    client_writes_before_the_server_connects,
    connect_on_a_connected_server_is_ok,
    client_that_wrote_and_left_before_connect_is_served,
    connect_on_a_server_whose_client_has_left_keeps_its_bytes => nonblocking,
    client_that_came_and_left_before_connect_is_not_reported,
    dropped_connect_does_not_lose_the_client_that_comes_later => nonblocking,
    dropped_connect_does_not_lose_the_client_that_had_come => nonblocking,
    connect_survives_a_thousand_drops => nonblocking,
    two_connects_wait_for_one_client,
    many_clients_of_one_server_loop,
    instances_serve_their_clients_independently,
    dropping_a_server_that_waits_frees_the_name => nonblocking,
);
