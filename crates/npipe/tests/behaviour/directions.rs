//! Ends of one direction or of both, of bytes or of messages, made by the library or elsewhere: all
//! of them can do all that their direction allows.

use std::io::Write;
use std::os::windows::io::OwnedHandle;
use std::time::Duration;

use bytes::BytesMut;
use npipe::blocking::PipeStream;
use npipe::readiness::{Interest, NamedPipe};
use npipe::{ClientOptions, NamedPipeClient, NamedPipeServer, PipeMode, ServerOptions};

use crate::family::{End, Family, Reading, ServerEnd};
use crate::harness::{Within, unique_name};
use crate::sys::{self, Directions};

/// How an end is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Ours,
    Elsewhere,
}

/// A pair, the server of which is not connected yet.
fn make<F: Family>(directions: Directions, mode: PipeMode, origin: Origin) -> (F::Server, F::Client) {
    let name = unique_name();
    let (inbound, outbound) = (directions.inbound(), directions.outbound());
    match origin {
        Origin::Ours => {
            let mut server = ServerOptions::new();
            server.pipe_mode(mode).access_inbound(inbound).access_outbound(outbound);
            let mut client = ClientOptions::new();
            client.pipe_mode(mode).read(outbound).write(inbound);
            if !outbound {
                client.pipe_mode(PipeMode::Byte);
            }
            (F::create(&server, &name).unwrap(), F::open(&client, &name).unwrap())
        }
        Origin::Elsewhere => {
            let messages = mode == PipeMode::Message;
            let server = sys::create_pipe_of(&name, directions, messages).unwrap();
            let client = sys::open_pipe_of(&name, directions, messages).unwrap();
            (F::adopt_server(server).unwrap(), F::adopt_client(client).unwrap())
        }
    }
}

async fn every_end_does_what_its_direction_allows<F: Family>() {
    for directions in [Directions::Both, Directions::Outbound, Directions::Inbound] {
        for mode in [PipeMode::Byte, PipeMode::Message] {
            for origin in [Origin::Ours, Origin::Elsewhere] {
                println!("{directions:?}, {mode:?}, {origin:?}");
                let (mut server, mut client) = make::<F>(directions, mode, origin);
                server.connect().within("connect").await.unwrap();
                if directions.outbound() {
                    carries(&mut server, &mut client, mode).await;
                }
                if directions.inbound() {
                    carries(&mut client, &mut server, mode).await;
                }
                // Neither asks the kernel which end this is.
                assert_eq!(server.peer().unwrap().process_id(), std::process::id());
                assert_eq!(client.peer().unwrap().process_id(), std::process::id());
                assert_eq!(server.impersonate(|_| Ok(sys::thread_impersonates())).ok(), Some(true));
                server.disconnect().unwrap();
                if directions.outbound() {
                    client.read(&mut [0]).within("a read after the disconnect").await.unwrap_err();
                }
            }
        }
    }
}

/// Writes on one end and reads on the other, also messages and the end of the direction where the
/// pipe has them.
async fn carries<From: End, To: End>(from: &mut From, to: &mut To, mode: PipeMode) {
    from.write_all(b"some bytes").within("write").await.unwrap();
    to.read_exact(&mut [0; 10]).within("read").await.unwrap();
    if mode == PipeMode::Byte {
        assert_eq!(
            from.send_message(b"m").await.unwrap_err().kind(),
            std::io::ErrorKind::Unsupported,
            "bytes are carried"
        );
        return;
    }
    let mut message = BytesMut::new();
    from.send_message(b"").within("send").await.unwrap();
    let received = to.recv_message(&mut message, usize::MAX).within("receive").await.unwrap();
    assert_eq!(received, Some(0), "an empty message is one");
    to.set_empty_message_is_end(true).unwrap();
    from.close_write(Duration::from_secs(10)).within("close_write").await.unwrap();
    assert_eq!(to.read(&mut [0; 10]).within("the end").await.unwrap(), 0);
    from.write(b"late").await.unwrap_err();
}

/// One convention in all three APIs, and duplicates of the handle do no harm.
#[test]
fn handles_with_duplicates_are_taken_over_by_try_from() {
    let make = |messages| {
        let name = unique_name();
        let server = sys::create_pipe_of(&name, Directions::Outbound, messages).unwrap();
        let client = sys::open_pipe_of(&name, Directions::Outbound, messages).unwrap();
        let duplicates = [server.try_clone().unwrap(), client.try_clone().unwrap()];
        (server, client, duplicates)
    };
    for messages in [false, true] {
        let (server, client, _duplicates) = make(messages);
        let server = NamedPipeServer::try_from(server).unwrap();
        let client = NamedPipeClient::try_from(client).unwrap();
        assert_eq!(server.peer().unwrap().process_id(), client.peer().unwrap().process_id());
        server.try_write(b"bytes").unwrap();

        let (server, client, _duplicates) = make(messages);
        let server = PipeStream::try_from(server).unwrap();
        server.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
        (&server).write_all(b"bytes").unwrap();
        let mut bytes = [0; 5];
        std::io::Read::read_exact(&mut &PipeStream::try_from(client).unwrap(), &mut bytes).unwrap();
        server.into_server().unwrap();

        let (server, _client, _duplicates) = make(messages);
        let mut server = NamedPipe::try_from(server).unwrap();
        server.peer().unwrap();
        let poll = npipe::readiness::Poll::new().unwrap();
        poll.registry().register(&mut server, npipe::readiness::Token(1), Interest::WRITABLE).unwrap();
        assert_eq!((&server).write(b"bytes").unwrap(), 5);
        server.disconnect().unwrap();
    }
    let file = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
    NamedPipe::try_from(OwnedHandle::from(file.try_clone().unwrap())).map(drop).unwrap_err();
    PipeStream::try_from(OwnedHandle::from(file.try_clone().unwrap())).map(drop).unwrap_err();
    NamedPipeServer::try_from(OwnedHandle::from(file)).map(drop).unwrap_err();
}

for_each_family!(every_end_does_what_its_direction_allows);
