//! Handles made elsewhere, and the library's handles used elsewhere.

use std::fs::File;
use std::io::{Read, Write};
use std::os::windows::io::{AsHandle, AsRawHandle};

use npipe::{ClientOptions, PipeEnd, PipeMode, ServerOptions};

use crate::family::{AsyncFamily, End, Family, Reading, ServerEnd, Writing};
use crate::harness::{Within, pair, unique_name};
use crate::sys::{self, HandleKind};

async fn adopted_handles_are_like_our_own<F: Family>() {
    let name = unique_name();
    let server = sys::create_pipe(&name, HandleKind::Overlapped).unwrap();
    let mut server = F::adopt_server(server).unwrap();
    let client = sys::open_pipe(&name, HandleKind::Overlapped).unwrap();
    let mut client = F::adopt_client(client).unwrap();
    server.connect().within("connect").await.unwrap();
    assert_eq!(server.info().unwrap().end, PipeEnd::Server);
    assert_eq!(client.info().unwrap().end, PipeEnd::Client);

    client.write_all(b"to server").within("write").await.unwrap();
    server.write_all(b"to client").within("write").await.unwrap();
    let mut received = [0; 9];
    server.read_exact(&mut received).within("read").await.unwrap();
    assert_eq!(&received, b"to server");
    client.read_exact(&mut received).within("read").await.unwrap();
    assert_eq!(&received, b"to client");
    drop(client);
    assert_eq!(server.read_to_end().within("the end of the file").await.unwrap(), b"");
}

/// A server handle that is connected, with data waiting, when the library gets it.
async fn adopted_server_may_be_connected_already<F: Family>() {
    let name = unique_name();
    let server = sys::create_pipe(&name, HandleKind::Overlapped).unwrap();
    let mut client = sys::blocking_client(&name, false).unwrap();
    client.write_all(b"waiting").unwrap();
    let mut server = F::adopt_server(server).unwrap();
    server.connect().within("connect").await.unwrap();
    let mut received = [0; 7];
    server.read_exact(&mut received).within("what was written before the handle was adopted").await.unwrap();
    assert_eq!(&received, b"waiting");
    server.write_all(b"answer").within("write").await.unwrap();
    let mut answer = [0; 6];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"answer");
}

async fn adopted_message_handles_keep_messages_whole<F: Family>() {
    let name = unique_name();
    let server = sys::create_message_pipe(&name, HandleKind::Overlapped).unwrap();
    let mut server = F::adopt_server(server).unwrap();
    assert_eq!(server.info().unwrap().mode, PipeMode::Message);
    let mut client = F::open(ClientOptions::new().pipe_mode(PipeMode::Message), &name).unwrap();
    server.connect().within("connect").await.unwrap();
    // Both at once: the first message is larger than the pipe's quota.
    let writing = async {
        client.write_all(&[1; 10_000]).await.unwrap();
        client.write_all(&[2; 10]).await.unwrap();
    };
    let reading = async {
        let mut buffer = vec![0; 100_000];
        assert_eq!(server.read(&mut buffer).await.unwrap(), 10_000);
        assert_eq!(server.read(&mut buffer).await.unwrap(), 10);
    };
    smol::future::zip(writing, reading).within("two messages").await;
}

/// Ours on one side, a foreign synchronous handle on the other, in both roles.
async fn foreign_peers<F: Family>() {
    let name = unique_name();
    let mut server = F::create(&ServerOptions::new(), &name).unwrap();
    let mut client = sys::blocking_client(&name, false).unwrap();
    server.connect().within("connect").await.unwrap();
    client.write_all(b"ping").unwrap();
    let mut received = [0; 4];
    server.read_exact(&mut received).within("read").await.unwrap();
    server.write_all(b"pong").within("write").await.unwrap();
    client.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"pong");

    let name = unique_name();
    let mut server = File::from(sys::create_pipe(&name, HandleKind::Synchronous).unwrap());
    let mut client = F::open(&ClientOptions::new(), &name).unwrap();
    client.write_all(b"ping").within("write").await.unwrap();
    server.read_exact(&mut received).unwrap();
    server.write_all(b"pong").unwrap();
    client.read_exact(&mut received).within("read").await.unwrap();
    assert_eq!(&received, b"pong");
    sys::disconnect(&server).unwrap();
    assert!(client.read(&mut received).within("read").await.is_err());
}

async fn our_handle_is_the_pipe<F: Family>() {
    let (server, client) = pair::<F>().await;
    assert_ne!(server.as_handle().as_raw_handle(), client.as_handle().as_raw_handle());
    assert_eq!(sys::instances(&server), 1);
    assert_eq!(sys::instances(&client), 1);
}

async fn values_that_are_no_handles_are_errors<F: Family>() {
    // Null, INVALID_HANDLE_VALUE, the pseudo handle of the thread, and a number far beyond any handle table.
    for value in [0, usize::MAX, usize::MAX - 1, 0x7FFF_FFF0] {
        assert!(F::adopt_server(sys::nonsense(value)).is_err(), "{value:#x} was taken for a server");
        assert!(F::adopt_client(sys::nonsense(value)).is_err(), "{value:#x} was taken for a client");
    }
}

/// Such a handle can not be tied to a completion port; every call on it would block its thread.
async fn synchronous_pipe_handles_are_refused<F: Family>() {
    let name = unique_name();
    let server = sys::create_pipe(&name, HandleKind::Synchronous).unwrap();
    let client = sys::open_pipe(&name, HandleKind::Synchronous).unwrap();
    assert!(F::adopt_server(server).is_err());
    assert!(F::adopt_client(client).is_err());
    // They were owned and are closed.
    crate::harness::eventually("the refused handles are closed", || {
        F::open(&ClientOptions::new(), &name).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    })
    .await;
}

async fn files_are_refused<F: Family>() {
    let program = std::env::current_exe().unwrap();
    assert!(F::adopt_client(File::open(&program).unwrap().into()).is_err());
    assert!(F::adopt_server(File::open(&program).unwrap().into()).is_err());
}

async fn handle_of_another_port_is_refused<F: Family>() {
    let name = unique_name();
    let server = sys::create_pipe(&name, HandleKind::Overlapped).unwrap();
    let _port = sys::tie_to_own_port(&server).unwrap();
    assert_eq!(F::adopt_server(server).is_err(), F::TIES_HANDLES_TO_A_PORT);
}

/// Two names for the one handle.
async fn raw_and_borrowed_handle_are_the_same<F: AsyncFamily>() {
    let (server, client) = pair::<F>().await;
    assert_eq!(server.as_ref().as_raw_handle(), server.as_ref().as_handle().as_raw_handle());
    assert_eq!(client.as_ref().as_raw_handle(), client.as_ref().as_handle().as_raw_handle());
}

for_each_family!(
    adopted_handles_are_like_our_own,
    adopted_server_may_be_connected_already,
    adopted_message_handles_keep_messages_whole,
    foreign_peers,
    our_handle_is_the_pipe,
    raw_and_borrowed_handle_are_the_same => asynchronous,
    values_that_are_no_handles_are_errors,
    synchronous_pipe_handles_are_refused,
    files_are_refused,
    handle_of_another_port_is_refused,
);
