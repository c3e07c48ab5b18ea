//! Ends of one direction or of both, of bytes or of messages, made by the library or elsewhere: all
//! of them can do all that their direction allows.

use std::fmt::Debug;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Write};
use std::os::windows::io::OwnedHandle;
use std::time::Duration;

use bytes::BytesMut;
use npipe::blocking::PipeStream;
use npipe::readiness::{Interest, NamedPipe};
use npipe::{ClientOptions, NamedPipeClient, NamedPipeServer, PipeMode, ServerOptions};

use windows_sys::Win32::Foundation::ERROR_ACCESS_DENIED;

use crate::family::on_tokio::Tokio;
use crate::family::{End, Exchanging, Family, Reading, ServerEnd};
use crate::harness::{Within, run, unique_name};
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

/// Of each kind of one-way pipe, what an end lacks is an error, of one number or kind in every API,
/// and what it has works beside that.
async fn the_absent_direction_is_an_error<F: Family>() {
    for directions in [Directions::Outbound, Directions::Inbound] {
        for mode in [PipeMode::Byte, PipeMode::Message] {
            for origin in [Origin::Ours, Origin::Elsewhere] {
                println!("{directions:?}, {mode:?}, {origin:?}");
                let (mut server, mut client) = make::<F>(directions, mode, origin);
                server.connect().within("connect").await.unwrap();
                if directions.outbound() {
                    cannot_read(&mut server).await;
                    cannot_write(&mut client, mode).await;
                    carries(&mut server, &mut client, mode).await;
                } else {
                    cannot_write(&mut server, mode).await;
                    cannot_read(&mut client).await;
                    carries(&mut client, &mut server, mode).await;
                }
            }
        }
    }
}

async fn cannot_read<E: End>(end: &mut E) {
    assert_denied(end.read(&mut [0; 8]).within("read").await, "read");
    assert_denied(
        end.read_vectored(&mut [IoSliceMut::new(&mut [0; 8])]).within("read").await,
        "read vectored",
    );
    assert_denied(end.read_by_reference(&mut [0; 8]).within("read").await, "read by reference");
    let received = end.recv_message(&mut BytesMut::new(), usize::MAX).within("receive").await;
    assert_denied_or_unsupported(received, "recv_message");
    assert_denied(end.peek(), "peek");
    end.flush().within("flush").await.unwrap();
}

async fn cannot_write<E: End>(end: &mut E, mode: PipeMode) {
    assert_denied(end.write(b"x").within("write").await, "write");
    assert_denied(end.write_vectored(&[IoSlice::new(b"x")]).within("write").await, "write vectored");
    let sent = end.send_message(b"x").within("send").await;
    let ended = end.close_write(Duration::from_secs(10)).within("half-close").await;
    match mode {
        PipeMode::Message => {
            assert_denied(sent, "send_message");
            assert_denied(ended, "close_write");
        }
        _ => {
            assert_eq!(sent.unwrap_err().kind(), ErrorKind::Unsupported, "send_message");
            assert_eq!(ended.unwrap_err().kind(), ErrorKind::Unsupported, "close_write");
        }
    }
    // The `FlushFileBuffers` of Wine does not ask for the right.
    if let Err(error) = end.drain().within("drain").await {
        assert_denied(Err::<(), _>(error), "drain");
    }
    end.flush().within("flush").await.unwrap();
}

#[track_caller]
fn assert_denied<T: Debug>(result: io::Result<T>, operation: &str) {
    assert_eq!(result.unwrap_err().raw_os_error(), Some(ERROR_ACCESS_DENIED as i32), "{operation}");
}

/// An end that does not read has a mode of reading all the same.
#[track_caller]
fn assert_denied_or_unsupported<T: Debug>(result: io::Result<T>, operation: &str) {
    let error = result.unwrap_err();
    let kinds = [ErrorKind::PermissionDenied, ErrorKind::Unsupported];
    assert!(kinds.contains(&error.kind()), "{operation}: {error}");
}

/// `transact` is for ends that read and write messages.
async fn an_exchange_is_unsupported<F: Family<Server: Exchanging, Client: Exchanging>>() {
    for directions in [Directions::Outbound, Directions::Inbound] {
        for mode in [PipeMode::Byte, PipeMode::Message] {
            for origin in [Origin::Ours, Origin::Elsewhere] {
                println!("{directions:?}, {mode:?}, {origin:?}");
                let (mut server, mut client) = make::<F>(directions, mode, origin);
                server.connect().within("connect").await.unwrap();
                let mut reply = BytesMut::from("kept");
                let of_server = server.transact(b"x", &mut reply).within("transact").await;
                let of_client = client.transact(b"x", &mut reply).within("transact").await;
                assert_eq!(of_server.unwrap_err().kind(), ErrorKind::Unsupported);
                assert_eq!(of_client.unwrap_err().kind(), ErrorKind::Unsupported);
                assert_eq!(reply, "kept");
            }
        }
    }
}

#[test]
fn an_exchange_on_one_direction_is_unsupported() {
    let name = "directions::an_exchange_on_one_direction_is_unsupported";
    run::<Tokio>(name, an_exchange_is_unsupported::<Tokio>());
    #[cfg(not(npipe_test_always_queue))]
    run::<crate::family::on_blocking::Blocking>(
        name,
        an_exchange_is_unsupported::<crate::family::on_blocking::Blocking>(),
    );
}

/// What does not concern a direction: the end of a connection, conversions, handles.
#[test]
fn ends_of_one_direction_are_closed_released_and_converted() {
    run::<Tokio>("directions::ends_of_one_direction_are_closed_released_and_converted", async {
        for directions in [Directions::Outbound, Directions::Inbound] {
            for mode in [PipeMode::Byte, PipeMode::Message] {
                println!("{directions:?}, {mode:?}");
                let mut server = ServerOptions::new();
                server
                    .pipe_mode(mode)
                    .access_inbound(directions.inbound())
                    .access_outbound(directions.outbound());
                let mut client = ClientOptions::new();
                client.read(directions.outbound()).write(directions.inbound());
                let pair = || npipe::pair_with(&server, &client).unwrap();

                // Closed in order: the writer waits for the reader, which has nothing to wait for.
                let (server_end, client_end) = pair();
                assert!(!server_end.is_closed() && !client_end.is_closed());
                client_end.close().within("close").await.unwrap();
                // Windows denies this end the question, and an empty write would be a message.
                if !(matches!(directions, Directions::Outbound) && mode == PipeMode::Message) {
                    server_end.closed().within("the client has gone").await.unwrap();
                }
                server_end.close().within("close").await.unwrap();

                // Through the blocking API and back, and across a handle.
                let (server_end, client_end) = pair();
                let server_end = server_end.into_blocking().await.into_server().unwrap();
                let client_end = client_end.into_blocking().await.into_client().unwrap();
                let (server_handle, server_rest) =
                    server_end.into_owned_handle().within("release").await.unwrap();
                let (client_handle, client_rest) =
                    client_end.into_owned_handle().within("release").await.unwrap();
                assert!(server_rest.is_empty() && client_rest.is_empty());
                let (writes, reads) = match directions {
                    Directions::Outbound => (server_handle, client_handle),
                    _ => (client_handle, server_handle),
                };
                let mut file = std::fs::File::from(writes);
                file.write_all(b"bytes").unwrap();
                let mut bytes = [0; 5];
                std::io::Read::read_exact(&mut std::fs::File::from(reads), &mut bytes).unwrap();
                assert_eq!(&bytes, b"bytes");
                drop(file);
            }
        }
    });
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

for_each_family!(every_end_does_what_its_direction_allows, the_absent_direction_is_an_error);
