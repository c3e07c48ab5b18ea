//! The system's errors by number and kind, each with the situation that causes it (promises 6 and
//! 8). Codes that must *not* reach the user are here too: the end of a file, a client that is
//! already there, a message longer than the buffer, a cancelled operation.

use std::io;
use std::pin::pin;

use npipe::{ClientOptions, PipeMode, ServerOptions};
use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_BROKEN_PIPE, ERROR_FILE_NOT_FOUND, ERROR_INVALID_PARAMETER, ERROR_NO_DATA,
    ERROR_PIPE_LISTENING, ERROR_PIPE_NOT_CONNECTED,
};

use crate::family::{End, Family, NonBlockingFamily, Reading, ServerEnd, Writing};
use crate::harness::{
    Within, assert_os_error, message_pair, pair, pair_with, poll_and_drop, poll_once, unique_name,
    write_until_stopped,
};
use crate::stream_data::StreamData;
use crate::sys;

// 2
async fn open_of_a_missing_pipe_is_file_not_found<F: Family>() {
    assert_os_error(F::open(&ClientOptions::new(), unique_name()), ERROR_FILE_NOT_FOUND, "no such pipe");
    let error = F::open(&ClientOptions::new(), unique_name()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

// 5
async fn second_instance_with_other_access_is_access_denied<F: Family>() {
    let name = unique_name();
    let _duplex = F::create(&ServerOptions::new(), &name).unwrap();
    let inbound = F::create(ServerOptions::new().access_outbound(false), &name);
    assert_os_error(inbound, ERROR_ACCESS_DENIED, "an inbound instance of a duplex pipe");
}

// 87, which the library must pass on with its handle closed: the pipe is free for the next client.
async fn message_reads_from_a_byte_pipe_are_an_invalid_parameter<F: Family>() {
    let name = unique_name();
    let mut options = ServerOptions::new();
    options.max_instances(1);
    let server = F::create(&options, &name).unwrap();
    let refused = F::open(ClientOptions::new().pipe_mode(PipeMode::Message), &name);
    assert_os_error(refused, ERROR_INVALID_PARAMETER, "message reads from a byte pipe");
    // Had the refused client's handle been leaked, the server would be connected to it.
    let mut connect = pin!(server.connect());
    assert!(poll_once(connect.as_mut()).is_pending(), "connected to a client that was refused");
    let _client = async {
        loop {
            match F::open(&ClientOptions::new(), &name) {
                Ok(client) => break client,
                Err(error) => assert!(F::is_busy(&error), "{error:?}"),
            }
            // The server notices that the refused client left when it is polled.
            assert!(poll_once(connect.as_mut()).is_pending(), "connected to a client that was refused");
            smol::future::yield_now().await;
        }
    }
    .within("the instance is free again")
    .await;
    connect.within("connect").await.unwrap();
}

// 109 is not an error but the end of the file: after the data, for good, on both ends.
async fn broken_pipe_is_the_end_of_the_file<F: Family>() {
    let (mut server, mut client) = pair::<F>().await;
    client.write_all(b"all").within("write").await.unwrap();
    drop(client);
    assert_eq!(server.read_to_end().within("read_to_end").await.unwrap(), b"all");
    for _ in 0..3 {
        assert_eq!(server.read(&mut [0; 8]).within("read at the end").await.unwrap(), 0);
    }
    let (mut server, mut client) = pair::<F>().await;
    server.write_all(b"all").within("write").await.unwrap();
    drop(server);
    assert_eq!(client.read_to_end().within("read_to_end").await.unwrap(), b"all");
    for _ in 0..3 {
        assert_eq!(client.read(&mut [0; 8]).within("read at the end").await.unwrap(), 0);
    }
}

async fn pending_read_ends_when_the_peer_closes<F: Family>() {
    let (mut server, client) = pair::<F>().await;
    let mut buffer = [0; 8];
    let mut read = Box::pin(server.read(&mut buffer));
    assert!(poll_once(read.as_mut()).is_pending());
    drop(client);
    assert_eq!(read.within("a pending read when the peer closes").await.unwrap(), 0);
}

/// Waits until the peer has noticed that `drop` closed the other end.
async fn end_of_file<R: Reading>(reader: &mut R) {
    assert_eq!(reader.read(&mut [0; 8]).within("the end of the file").await.unwrap(), 0);
}

// 232
async fn write_to_a_closed_pipe_is_no_data<F: Family>() {
    let (mut server, client) = pair::<F>().await;
    drop(client);
    end_of_file(&mut server).await;
    for _ in 0..3 {
        assert_os_error(server.write(b"x").within("write").await, ERROR_NO_DATA, "write, client closed");
    }
    let (server, mut client) = pair::<F>().await;
    drop(server);
    end_of_file(&mut client).await;
    for _ in 0..3 {
        assert_os_error(client.write(b"x").within("write").await, ERROR_NO_DATA, "write, server closed");
    }
    assert_eq!(io::Error::from_raw_os_error(ERROR_NO_DATA as i32).kind(), io::ErrorKind::BrokenPipe);
}

// 232, too: a closed pipe is noticed by a write without any read.
async fn write_to_a_pipe_just_closed_by_a_foreign_client<F: Family>() {
    let name = unique_name();
    let mut server = F::create(&ServerOptions::new(), &name).unwrap();
    let client = sys::blocking_client(&name, false).unwrap();
    server.connect().within("connect").await.unwrap();
    drop(client);
    assert_os_error(server.write(b"x").within("write").await, ERROR_NO_DATA, "write, client closed");
}

// A write that waits for room when the peer closes fails, it does not wait for ever.
async fn pending_write_ends_when_the_peer_closes<F: Family>() {
    let (mut server, client) = pair::<F>().await;
    write_until_stopped(&mut server, &mut StreamData::new(82)).await;
    let mut write = pin!(server.write(b"one more"));
    assert!(poll_once(write.as_mut()).is_pending());
    drop(client);
    let error = write.within("a pending write when the peer closes").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe, "{error:?}");
}

/// Bytes that were accepted and then could not be delivered: the next call says so, be it a write
/// or a flush.
async fn lost_background_write_is_reported<F: NonBlockingFamily>() {
    for report_by_flush in [true, false] {
        let (mut server, client) = pair_with::<F>(
            ServerOptions::new().in_buffer_size(4096).out_buffer_size(4096).read_buffer_limit(4096),
            ClientOptions::new().read_buffer_limit(4096),
        )
        .await;
        write_until_stopped(&mut server, &mut StreamData::new(81)).await;
        assert!(poll_and_drop(server.flush()).is_pending(), "what was accepted does not fit into the kernel");
        drop(client);
        let error = if report_by_flush {
            server.flush().within("flush").await.unwrap_err()
        } else {
            async {
                loop {
                    // Writes may still be accepted until the failure is known, but not for ever.
                    if let Err(error) = server.write(&[0; 1000]).await {
                        break error;
                    }
                }
            }
            .within("a write reports the failure")
            .await
        };
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe, "flush: {report_by_flush}, {error:?}");
        let code = error.raw_os_error().expect("the system's error");
        assert!([ERROR_BROKEN_PIPE as i32, ERROR_NO_DATA as i32].contains(&code), "{error:?}");
        let again = server.write(b"x").within("write").await;
        assert_os_error(again, ERROR_NO_DATA, "a write after the failure was reported");
    }
}

// 233, on both directions of the client that was disconnected.
async fn disconnected_client_is_told<F: Family>() {
    let (server, mut client) = pair::<F>().await;
    server.disconnect().unwrap();
    for _ in 0..3 {
        let read = client.read(&mut [0; 8]).within("read").await;
        assert_os_error(read, ERROR_PIPE_NOT_CONNECTED, "read, disconnected by the server");
        let written = client.write(b"x").within("write").await;
        assert_os_error(written, ERROR_PIPE_NOT_CONNECTED, "write, disconnected by the server");
    }
}

async fn pending_read_of_a_disconnected_client<F: Family>() {
    let (server, mut client) = pair::<F>().await;
    let mut buffer = [0; 8];
    let mut read = Box::pin(client.read(&mut buffer));
    assert!(poll_once(read.as_mut()).is_pending());
    server.disconnect().unwrap();
    let read = read.within("a pending read when the server disconnects").await;
    assert_os_error(read, ERROR_PIPE_NOT_CONNECTED, "pending read, disconnected by the server");
}

/// What was read ahead before the disconnect is still handed out; then comes 233, never an end of
/// file.
async fn disconnect_is_not_an_end_of_file<F: Family>() {
    let (mut server, mut client) = pair::<F>().await;
    server.write_all(b"before").within("write").await.unwrap();
    server.flush().within("flush").await.unwrap();
    server.disconnect().unwrap();
    let mut received = Vec::new();
    let mut buffer = [0; 4];
    let error = loop {
        match client.read(&mut buffer).within("read").await {
            Ok(0) => panic!("a disconnect was taken for the end of the file after {received:?}"),
            Ok(read) => received.extend_from_slice(&buffer[..read]),
            Err(error) => break error,
        }
    };
    assert_eq!(error.raw_os_error(), Some(ERROR_PIPE_NOT_CONNECTED as i32));
    assert!(b"before".starts_with(&received), "{received:?}");
}

async fn pending_write_of_a_disconnected_client<F: Family>() {
    let (server, mut client) = pair::<F>().await;
    write_until_stopped(&mut client, &mut StreamData::new(83)).await;
    let mut write = pin!(client.write(b"one more"));
    assert!(poll_once(write.as_mut()).is_pending());
    server.disconnect().unwrap();
    let write = write.within("a pending write when the server disconnects").await;
    assert_os_error(write, ERROR_PIPE_NOT_CONNECTED, "pending write, disconnected by the server");
}

async fn io_on_a_disconnected_server<F: Family>() {
    let (mut server, _client) = pair::<F>().await;
    server.disconnect().unwrap();
    let read = server.read(&mut [0; 8]).within("read").await;
    assert_os_error(read, ERROR_PIPE_NOT_CONNECTED, "read on a disconnected server");
    let written = server.write(b"x").within("write").await;
    assert_os_error(written, ERROR_PIPE_NOT_CONNECTED, "write on a disconnected server");
    assert_os_error(server.disconnect(), ERROR_PIPE_NOT_CONNECTED, "disconnect twice");
}

fn assert_busy<F: Family>(name: &str, situation: &str) {
    let error = F::open(&ClientOptions::new(), name).expect_err(situation);
    assert!(F::is_busy(&error), "{situation}: {error:?}");
}

// 231
async fn open_while_all_instances_are_taken_is_pipe_busy<F: Family>() {
    let name = unique_name();
    let server = F::create(&ServerOptions::new(), &name).unwrap();
    let _client = F::open(&ClientOptions::new(), &name).unwrap();
    assert_busy::<F>(&name, "all instances are taken");
    server.connect().within("connect").await.unwrap();
    assert_busy::<F>(&name, "all instances are connected");
    server.disconnect().unwrap();
    assert_busy::<F>(&name, "a disconnected instance does not listen");
}

// 234 is not an error either: the message goes on in the next read.
async fn message_longer_than_the_buffer_is_no_error<F: Family>() {
    let (mut server, mut client) = message_pair::<F>().await;
    client.write_all(b"longer than four").within("write").await.unwrap();
    let mut received = Vec::new();
    let mut buffer = [0; 4];
    while received.len() < 16 {
        let read = server.read(&mut buffer).within("a piece").await.unwrap();
        received.extend_from_slice(&buffer[..read]);
    }
    assert_eq!(received, b"longer than four");
}

// 535 is not an error of connect: see `connect::client_is_there_first`.

// 536
async fn io_before_a_client_came<F: NonBlockingFamily>() {
    let name = unique_name();
    let mut server = F::create(&ServerOptions::new(), &name).unwrap();
    // Tokio lets such calls wait; an answer, if one comes, is the system's.
    if let std::task::Poll::Ready(read) = poll_and_drop(server.read(&mut [0; 8])) {
        assert_os_error(read, ERROR_PIPE_LISTENING, "read before a client came");
    }
    if let std::task::Poll::Ready(written) = poll_and_drop(server.write(b"x")) {
        assert_os_error(written, ERROR_PIPE_LISTENING, "write before a client came");
    }
    let mut client = F::open(&ClientOptions::new(), &name).unwrap();
    server.connect().within("connect").await.unwrap();
    server.write_all(b"y").within("write").await.unwrap();
    let mut byte = [0];
    client.read_exact(&mut byte).within("read").await.unwrap();
    assert_eq!(&byte, b"y", "nothing of what was refused is sent");
}

// 995 never reaches a user: nobody asked for the cancellation.
async fn cancelled_operations_are_nobodys_error<F: NonBlockingFamily>() {
    let (server, mut client) = pair::<F>().await;
    let (mut reader, _writer) = server.split();
    for round in 0..200_u8 {
        let _ = poll_and_drop(reader.read(&mut [0; 8]));
        client.write_all(&[round]).within("write").await.unwrap();
        let mut byte = [0];
        reader.read_exact(&mut byte).within("no ERROR_OPERATION_ABORTED from a dropped read").await.unwrap();
        assert_eq!(byte[0], round);
    }
}

for_each_family!(
    open_of_a_missing_pipe_is_file_not_found,
    second_instance_with_other_access_is_access_denied,
    message_reads_from_a_byte_pipe_are_an_invalid_parameter,
    broken_pipe_is_the_end_of_the_file,
    pending_read_ends_when_the_peer_closes,
    write_to_a_closed_pipe_is_no_data,
    write_to_a_pipe_just_closed_by_a_foreign_client,
    pending_write_ends_when_the_peer_closes,
    lost_background_write_is_reported => nonblocking,
    disconnected_client_is_told,
    pending_read_of_a_disconnected_client,
    disconnect_is_not_an_end_of_file,
    pending_write_of_a_disconnected_client,
    io_on_a_disconnected_server,
    open_while_all_instances_are_taken_is_pipe_busy,
    message_longer_than_the_buffer_is_no_error,
    io_before_a_client_came => nonblocking,
    cancelled_operations_are_nobodys_error => nonblocking,
);
