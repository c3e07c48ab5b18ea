//! `closed` and `is_closed`: the peer has gone, and what it wrote is still there.

use std::pin::pin;
use std::time::Duration;

use bytes::BytesMut;
use npipe::{ClientOptions, End, NamedPipeClient, NamedPipeServer, Pipe, PipeMode, ServerOptions};

use crate::family::on_tokio::Tokio;
use crate::harness::{Within, eventually, poll_once, run, unique_name};

fn pair(server: &ServerOptions, client: &ClientOptions) -> (NamedPipeServer, NamedPipeClient) {
    npipe::pair_with(server, client).unwrap()
}

async fn assert_noticed<E: End, O: End>(end: Pipe<E>, peer: Pipe<O>) {
    assert!(!end.is_closed());
    let mut closed = pin!(end.closed());
    assert!(poll_once(closed.as_mut()).is_pending(), "the peer is there");
    drop(peer);
    closed.within("the peer has gone").await.unwrap();
    assert!(end.is_closed());
}

#[test]
fn either_end_notices_that_an_idle_peer_goes() {
    run::<Tokio>("closed::either_end_notices_that_an_idle_peer_goes", async {
        let (server, client) = npipe::pair().unwrap();
        assert_noticed(server, client).await;
        let (server, client) = npipe::pair().unwrap();
        assert_noticed(client, server).await;
    });
}

/// Data in the pipe hides the end from a reader.
#[test]
fn what_the_peer_wrote_before_stays() {
    run::<Tokio>("closed::what_the_peer_wrote_before_stays", async {
        let data = vec![7; 300_000];
        for mode in [PipeMode::Byte, PipeMode::Message] {
            let (server, client) = pair(
                ServerOptions::new().pipe_mode(mode).in_buffer_size(1 << 20),
                ClientOptions::new().pipe_mode(mode),
            );
            client.write_owned(data.clone().into()).within("write").await.unwrap();
            client.flush().within("flush").await.unwrap();
            {
                let mut closed = pin!(server.closed());
                assert!(poll_once(closed.as_mut()).is_pending() && !server.is_closed());
                drop(client);
                closed.within("the peer has gone").await.unwrap();
            }
            let mut received = Vec::new();
            loop {
                let part =
                    server.read_owned(BytesMut::with_capacity(64 * 1024)).within("read").await.unwrap();
                if part.is_empty() {
                    break;
                }
                received.extend_from_slice(&part);
            }
            assert!(received == data, "{} bytes of {}", received.len(), data.len());
        }
    });
}

#[test]
fn a_server_that_disconnects_is_noticed_on_both_sides() {
    run::<Tokio>("closed::a_server_that_disconnects_is_noticed_on_both_sides", async {
        let (server, client) = npipe::pair().unwrap();
        server.disconnect().unwrap();
        client.closed().within("the server disconnected").await.unwrap();
        server.closed().within("it ended the connection itself").await.unwrap();
    });
}

#[test]
fn a_server_without_a_client_is_not_closed() {
    run::<Tokio>("closed::a_server_without_a_client_is_not_closed", async {
        let name = unique_name();
        let server = ServerOptions::new().create(&name).unwrap();
        let mut closed = pin!(server.closed());
        assert!(!server.is_closed() && poll_once(closed.as_mut()).is_pending());
        let client = ClientOptions::new().open(&name).unwrap();
        server.connect().within("connect").await.unwrap();
        assert!(!server.is_closed() && poll_once(closed.as_mut()).is_pending());
        drop(client);
        closed.within("the client has gone").await.unwrap();
    });
}

/// Windows denies a server's end that only writes the question for the state.
#[test]
fn ends_of_one_direction_notice_it_too() {
    run::<Tokio>("closed::ends_of_one_direction_notice_it_too", async {
        let outbound = || pair(ServerOptions::new().access_inbound(false), ClientOptions::new().write(false));
        let inbound = || pair(ServerOptions::new().access_outbound(false), ClientOptions::new().read(false));
        let (server, client) = outbound();
        // Unread data does not hide it.
        server.write_owned(vec![1; 100].into()).within("write").await.unwrap();
        server.flush().within("flush").await.unwrap();
        assert_noticed(server, client).await;
        let (server, client) = outbound();
        assert_noticed(client, server).await;
        let (server, client) = inbound();
        assert_noticed(server, client).await;
        let (server, client) = inbound();
        assert_noticed(client, server).await;
    });
}

#[test]
fn halves_notice_it_beside_a_reader() {
    run::<Tokio>("closed::halves_notice_it_beside_a_reader", async {
        let mut options = ServerOptions::new();
        options.pipe_mode(PipeMode::Message);
        let (server, client) = pair(&options, ClientOptions::new().pipe_mode(PipeMode::Message));
        let (reader, writer) = server.into_split();
        let (from_server, to_server) = client.into_split();
        to_server.send_message(b"one").within("send").await.unwrap();
        let mut received = BytesMut::new();
        assert_eq!(reader.recv_message(&mut received).within("a message").await.unwrap(), Some(3));
        to_server.close_write(Duration::from_secs(10)).within("half-close").await.unwrap();
        assert_eq!(reader.recv_message(&mut received).within("an empty one").await.unwrap(), Some(0));
        assert!(!reader.is_closed() && !writer.is_closed());
        drop(to_server.reunite(from_server).unwrap());
        eventually("both halves notice it", || reader.is_closed() && writer.is_closed()).await;
        writer.closed().within("the peer has gone").await.unwrap();
        assert_eq!(reader.recv_message(&mut received).within("the end").await.unwrap(), None);
    });
}

#[test]
fn threads_can_ask() {
    let (server, client) = npipe::blocking::pair().unwrap();
    assert!(!server.is_closed() && !client.is_closed());
    std::io::Write::write_all(&mut &client, b"left behind").unwrap();
    drop(client);
    assert!(server.is_closed());
    let mut received = String::new();
    std::io::Read::read_to_string(&mut &server, &mut received).unwrap();
    assert_eq!(received, "left behind");
}
