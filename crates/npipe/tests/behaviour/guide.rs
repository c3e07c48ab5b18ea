//! Sentences of the guides that no other file has a test for. Each test names its guide.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use npipe::{ClientOptions, Interest, PipeMode, ServerOptions};
use windows_sys::Win32::Foundation::{ERROR_PIPE_LISTENING, ERROR_PIPE_NOT_CONNECTED};

use crate::family::{AsyncFamily, End, Reading, ServerEnd, Writing};
use crate::harness::{
    Within, assert_os_error, message_pair, on_a_thread, pair, pair_with, poll_and_drop, unique_name,
    write_until_stopped,
};
use crate::stream_data::StreamData;

const PATIENCE: Duration = Duration::from_secs(100);

/// Cancellation, of `close_write`: the empty message was not sent, and what was written stays in
/// the pipe.
async fn a_dropped_close_write_has_ended_nothing<F: AsyncFamily>() {
    let (server, client) = message_pair::<F>().await;
    client.send_message(b"one").within("send").await.unwrap();
    assert!(poll_and_drop(client.close_write(PATIENCE)).is_pending());
    client.send_message(b"two").within("send").await.unwrap();
    drop(client);
    let mut received = bytes::BytesMut::new();
    for length in [Some(3), Some(3), None] {
        let message = server.recv_message(&mut received, usize::MAX).within("a message").await;
        assert_eq!(message.unwrap(), length);
    }
    assert_eq!(received, "onetwo");
}

/// Cancellation, of conversions: they own the pipe, and writes are still delivered.
async fn what_was_written_before_a_dropped_conversion_is_delivered<F: AsyncFamily>() {
    for into_blocking in [false, true] {
        let name = unique_name();
        let mut server = F::create(&ServerOptions::new(), &name).unwrap();
        let client = ClientOptions::new().open(&name).unwrap();
        server.connect().within("connect").await.unwrap();
        let mut written = 0;
        while let Ok(count) = client.try_write(&[7; 64 * 1024]) {
            written += count;
        }
        if into_blocking {
            assert!(poll_and_drop(client.into_blocking()).is_pending());
        } else {
            assert!(poll_and_drop(client.into_owned_handle()).is_pending());
        }
        let received = server.read_to_end().within("everything").await.unwrap();
        assert_eq!(received.len(), written);
    }
}

/// Cancellation, of readiness: the waiter is forgotten, with its waker.
async fn a_dropped_wait_keeps_no_waker<F: AsyncFamily>() {
    struct Silent;
    impl Wake for Silent {
        fn wake(self: Arc<Self>) {}
    }
    let (mut server, client) = pair::<F>().await;
    write_until_stopped(&mut server, &mut StreamData::new(61)).await;
    let (server, client) = (server.as_ref(), client.as_ref());
    let silent = Arc::new(Silent);
    let waker = Waker::from(silent.clone());
    let mut context = Context::from_waker(&waker);
    let unused = Arc::strong_count(&silent);
    assert!(pin!(server.readable()).poll(&mut context).is_pending());
    assert!(pin!(server.writable()).poll(&mut context).is_pending());
    assert!(pin!(server.ready(Interest::READABLE | Interest::WRITABLE)).poll(&mut context).is_pending());
    let would_block = || -> std::io::Result<()> { Err(ErrorKind::WouldBlock.into()) };
    assert!(pin!(client.async_io(Interest::WRITABLE, would_block)).poll(&mut context).is_pending());
    assert_eq!(Arc::strong_count(&silent), unused);
}

/// Coming from Tokio, when a read begins: a pipe without a read takes nothing out of the kernel. A
/// `try_read` that finds nothing starts a read, and `readable` ends with it.
async fn a_pipe_that_nobody_reads_takes_nothing_out_of_the_kernel<F: AsyncFamily>() {
    for reads in [false, true] {
        let name = unique_name();
        let mut server = F::create(&ServerOptions::new(), &name).unwrap();
        let client = ClientOptions::new().open(&name).unwrap();
        server.connect().within("connect").await.unwrap();
        assert_eq!(client.try_write(b"no read").unwrap(), 7);
        client.writable().within("writable").await.unwrap();
        if reads {
            assert_eq!(client.try_read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
        }
        server.write_all(b"unread").within("write").await.unwrap();
        server.flush().within("flush").await.unwrap();
        if reads {
            client.readable().within("the read that was started").await.unwrap();
        }
        assert_eq!(client.peek().unwrap().bytes_available, 6);
        let (handle, read_ahead) = client.into_owned_handle().within("the handle").await.unwrap();
        if reads {
            assert_eq!(read_ahead, ["unread"]);
            continue;
        }
        assert!(read_ahead.is_empty(), "{read_ahead:?}");
        let in_the_kernel = on_a_thread(move || {
            let mut bytes = [0; 6];
            File::from(handle).read_exact(&mut bytes).unwrap();
            bytes
        });
        assert_eq!(&in_the_kernel.await, b"unread");
    }
}

/// Limits: `try_read_buf` takes 64 KiB a call at most, and as much where it is there.
async fn try_read_buf_takes_64_kib_a_call<F: AsyncFamily>() {
    let (server, mut client) = pair::<F>().await;
    for _ in 0..4 {
        client.write_all(&[7; 64 * 1024]).within("write").await.unwrap();
    }
    client.flush().within("flush").await.unwrap();
    let (mut received, mut counts) = (Vec::with_capacity(1 << 20), Vec::new());
    while received.len() < 4 * 64 * 1024 {
        match server.as_ref().try_read_buf(&mut received) {
            Ok(count) => counts.push(count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                server.as_ref().readable().within("readable").await.unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(counts.iter().max(), Some(&(64 * 1024)), "{counts:?}");
}

/// Limits: `shutdown` flushes and ends nothing, in either direction. The drop ends reading.
async fn only_the_drop_ends_what_the_peer_reads<F: AsyncFamily>() {
    let (mut server, mut client) = pair::<F>().await;
    client.write_all(b"request").within("write").await.unwrap();
    client.finish().within("shutdown").await.unwrap();
    let mut buffer = [0; 16];
    assert_eq!(server.read(&mut buffer).within("read").await.unwrap(), 7);
    assert!(poll_and_drop(server.read(&mut buffer)).is_pending());
    server.write_all(b"answer").within("write").await.unwrap();
    assert_eq!(client.read(&mut buffer).within("read").await.unwrap(), 6);
    client.write_all(b"more").within("write after shutdown").await.unwrap();
    drop(client);
    assert_eq!(server.read(&mut buffer).within("read").await.unwrap(), 4);
    assert_eq!(server.read(&mut buffer).within("read").await.unwrap(), 0);
}

/// Limits: a message larger than `write_buffer_limit` is accepted behind another, and the next one
/// waits.
async fn one_message_may_exceed_the_write_limit<F: AsyncFamily>() {
    let (server, client) = pair_with::<F>(
        ServerOptions::new().pipe_mode(PipeMode::Message).write_buffer_limit(1000).out_buffer_size(1000),
        ClientOptions::new().pipe_mode(PipeMode::Message),
    )
    .await;
    let message = vec![7; 100_000];
    for place in ["on its way to the pipe", "behind it"] {
        assert!(poll_and_drop(server.send_message(&message)).is_ready(), "{place}");
    }
    assert!(poll_and_drop(server.send_message(&message)).is_pending());
    drop(server);
    let mut received = bytes::BytesMut::new();
    for length in [Some(message.len()), Some(message.len()), None] {
        let next = client.recv_message(&mut received, usize::MAX).within("a message").await;
        assert_eq!(next.unwrap(), length);
    }
}

/// Coming from Tokio: a server that disconnects discards what its client has not read, and one that
/// is dropped does not.
async fn a_disconnect_discards_what_was_not_read<F: AsyncFamily>() {
    for disconnects in [true, false] {
        let (mut server, mut client) = pair::<F>().await;
        server.write_all(b"unread").within("write").await.unwrap();
        server.flush().within("flush").await.unwrap();
        if disconnects {
            server.disconnect().unwrap();
        }
        drop(server);
        let read = client.read_to_end().within("the end").await;
        match disconnects {
            true => assert_os_error(read, ERROR_PIPE_NOT_CONNECTED, "discarded"),
            false => assert_eq!(read.unwrap(), b"unread"),
        }
    }
}

/// Coming from Tokio, before a client has come: readiness comes at once, and the call that follows
/// has the error, also while a `connect` waits. Its session has none.
async fn before_a_client_comes_calls_fail_and_do_not_wait<F: AsyncFamily>() {
    for connect_waits in [false, true] {
        let name = unique_name();
        let created = F::create(&ServerOptions::new(), &name).unwrap();
        let server = created.as_ref();
        if connect_waits {
            assert!(poll_and_drop(server.connect()).is_pending());
        }
        server.readable().within("readable").await.unwrap();
        assert_os_error(server.try_read(&mut [0; 8]), ERROR_PIPE_LISTENING, "read");
        server.writable().within("writable").await.unwrap();
        assert_os_error(server.try_write(b"lost"), ERROR_PIPE_LISTENING, "write");
        // The error that this look finds has not been read when the client comes.
        server.ready(Interest::READABLE | Interest::WRITABLE).within("ready").await.unwrap();

        let mut client = F::open(&ClientOptions::new(), &name).unwrap();
        server.connect().within("connect").await.unwrap();
        assert_eq!(server.try_read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(server.try_write(b"sent").unwrap(), 4);
        let mut received = [0; 4];
        client.read_exact(&mut received).within("what was sent to the client").await.unwrap();
        assert_eq!(&received, b"sent");
    }
}

for_each_family!(
    a_dropped_wait_keeps_no_waker => asynchronous,
    a_pipe_that_nobody_reads_takes_nothing_out_of_the_kernel => asynchronous,
    try_read_buf_takes_64_kib_a_call => asynchronous,
    only_the_drop_ends_what_the_peer_reads => asynchronous,
    one_message_may_exceed_the_write_limit => asynchronous,
    a_disconnect_discards_what_was_not_read => asynchronous,
    before_a_client_comes_calls_fail_and_do_not_wait => asynchronous,
    a_dropped_close_write_has_ended_nothing => asynchronous,
    what_was_written_before_a_dropped_conversion_is_delivered => asynchronous,
);
