//! `flush`, `drain`, `set_linger` and `close`: what each waits for, and what it reports (promises 2
//! and 3).

use std::io::{ErrorKind, Read};
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use npipe::{ClientOptions, ServerOptions};
use windows_sys::Win32::Foundation::{ERROR_BROKEN_PIPE, ERROR_PIPE_NOT_CONNECTED};

use crate::family::{
    AsyncFamily, Closing, End, Family, Lingering, NonBlockingFamily, Reading, ServerEnd, Writing,
};
use crate::harness::{
    Within, assert_os_error, eventually, pair, poll_and_drop, poll_once, unique_name, with_foreign,
    write_until_stopped,
};
use crate::stream_data::StreamData;
use crate::sys;

/// A server of the library and a foreign client, which reads nothing ahead: what it has not asked
/// for is unread.
async fn server_and_foreign_client<F: Family>() -> (F::Server, std::fs::File) {
    let name = unique_name();
    let server = F::create(&ServerOptions::new(), &name).unwrap();
    let client = sys::blocking_client(&name, false).unwrap();
    server.connect().within("connect").await.unwrap();
    (server, client)
}

async fn read_all(client: &std::fs::File, count: usize) -> Vec<u8> {
    with_foreign(client, move |client| {
        let mut received = vec![0; count];
        client.read_exact(&mut received).map(|()| received)
    })
    .await
}

async fn read_to_end(client: &std::fs::File) -> Vec<u8> {
    with_foreign(client, |client| {
        let mut received = Vec::new();
        client.read_to_end(&mut received).map(|_| received)
    })
    .await
}

async fn drain_waits_until_the_peer_has_read<F: Family>() {
    let (mut server, client) = server_and_foreign_client::<F>().await;
    server.write_all(b"unread").within("write").await.unwrap();
    server.flush().within("flush does not wait for the reader").await.unwrap();
    let mut drain = pin!(server.drain());
    assert!(poll_once(drain.as_mut()).is_pending(), "nobody has read");
    assert_eq!(read_all(&client, 5).await, b"unrea");
    assert!(poll_once(drain.as_mut()).is_pending(), "one byte is unread");
    assert_eq!(read_all(&client, 1).await, b"d");
    drain.within("drain once all was read").await.unwrap();
}

async fn drain_with_nothing_written_is_done<F: Family>() {
    let (server, client) = pair::<F>().await;
    server.drain().within("drain of the server").await.unwrap();
    client.drain().within("drain of the client").await.unwrap();
}

async fn client_drains_too<F: Family>() {
    let (mut server, mut client) = pair::<F>().await;
    client.write_all(&StreamData::new(71).take(50_000)).within("write").await.unwrap();
    let mut received = vec![0; 50_000];
    let (drained, read) = smol::future::zip(client.drain(), server.read_exact(&mut received))
        .within("drain while the peer reads")
        .await;
    drained.unwrap();
    read.unwrap();
    StreamData::new(71).expect(&received);
}

async fn dropped_drain_leaves_the_pipe_as_it_was<F: NonBlockingFamily>() {
    let (mut server, client) = server_and_foreign_client::<F>().await;
    server.write_all(b"abc").within("write").await.unwrap();
    for _ in 0..20 {
        assert!(poll_and_drop(server.drain()).is_pending());
    }
    server.write_all(b"def").within("write").await.unwrap();
    assert_eq!(read_all(&client, 6).await, b"abcdef");
    server.drain().within("drain after dropped drains").await.unwrap();
}

/// Once the peer has closed, the system no longer tells whether it had read everything: a drain
/// ends, with ERROR_BROKEN_PIPE if it was waiting in the kernel by then.
async fn drain_ends_when_the_peer_leaves_without_reading<F: Family>() {
    let (mut server, client) = server_and_foreign_client::<F>().await;
    server.write_all(b"never read").within("write").await.unwrap();
    let mut drain = pin!(server.drain());
    assert!(poll_once(drain.as_mut()).is_pending());
    drop(client);
    let drained = drain.within("drain when the peer leaves").await;
    if drained.is_err() {
        assert_os_error(drained, ERROR_BROKEN_PIPE, "drain, the peer left without reading");
    }
    let _ = server.drain().within("drain after the peer has left").await;
}

async fn drain_of_a_disconnected_client_fails<F: Family>() {
    let (server, mut client) = pair::<F>().await;
    // Fills the peer's read-ahead and the kernel, so that something is unread for sure.
    let _ = write_until_stopped(&mut client, &mut StreamData::new(72)).await;
    let mut drain = pin!(client.drain());
    assert!(poll_once(drain.as_mut()).is_pending());
    server.disconnect().unwrap();
    let drained = drain.within("drain when the server disconnects").await;
    assert_os_error(drained, ERROR_PIPE_NOT_CONNECTED, "drain, disconnected by the server");
}

/// Reads and writes go on while a drain waits.
async fn drain_does_not_block_the_pipe<F: Family>() {
    let (mut server, mut client) = server_and_foreign_client::<F>().await;
    server.write_all(b"unread").within("write").await.unwrap();
    let mut drain = pin!(server.drain());
    assert!(poll_once(drain.as_mut()).is_pending());
    std::io::Write::write_all(&mut client, b"meanwhile").unwrap();
    let mut received = Vec::new();
    while received.len() < 9 {
        let mut buffer = [0; 9];
        let read = server.read_by_reference(&mut buffer).within("read while a drain waits").await.unwrap();
        assert_ne!(read, 0);
        received.extend_from_slice(&buffer[..read]);
    }
    assert_eq!(received, b"meanwhile");
    assert!(poll_once(drain.as_mut()).is_pending());
    assert_eq!(read_all(&client, 6).await, b"unread");
    drain.within("drain").await.unwrap();
}

async fn both_ends_drain_at_once_when_both_read<F: Family>() {
    let (mut server, mut client) = pair::<F>().await;
    server.write_all(&[1; 1000]).within("write").await.unwrap();
    client.write_all(&[2; 1000]).within("write").await.unwrap();
    let mut of_client = [0; 1000];
    let mut of_server = [0; 1000];
    server.read_exact(&mut of_client).within("read").await.unwrap();
    client.read_exact(&mut of_server).within("read").await.unwrap();
    let (first, second) = smol::future::zip(server.drain(), client.drain()).within("both drain").await;
    first.unwrap();
    second.unwrap();
}

/// A server that reads nothing and accepts little; `linger` is that of the client that writes to it
/// and is dropped.
async fn drop_with_linger<F: NonBlockingFamily>(linger: Option<Duration>) -> (F::Server, usize) {
    let name = unique_name();
    let mut options = ServerOptions::new();
    options.in_buffer_size(4096).read_buffer_limit(4096);
    let server = F::create(&options, &name).unwrap();
    let mut client = F::open(&ClientOptions::new(), &name).unwrap();
    server.connect().within("connect").await.unwrap();
    client.set_linger(linger);
    assert_eq!(client.linger(), linger);
    let accepted = write_until_stopped(&mut client, &mut StreamData::new(73)).await;
    (server, accepted)
}

async fn default_linger_is_five_minutes<F: NonBlockingFamily>() {
    let (server, client) = pair::<F>().await;
    assert_eq!(server.linger(), Some(Duration::from_secs(300)));
    client.set_linger(None);
    assert_eq!(client.linger(), None, "no bound is there for those who ask for it");
    client.set_linger(Some(Duration::from_secs(1)));
    assert_eq!(client.linger(), Some(Duration::from_secs(1)));
}

async fn long_linger_delivers<F: NonBlockingFamily>() {
    let (mut server, accepted) = drop_with_linger::<F>(Some(Duration::from_secs(3600))).await;
    let received = server.read_to_end().within("all that was accepted").await.unwrap();
    assert_eq!(received.len(), accepted);
    StreamData::new(73).expect(&received);
}

/// A peer that never reads holds the handle no longer than that.
async fn short_linger_gives_the_handle_up<F: NonBlockingFamily>() {
    let (mut server, _accepted) = drop_with_linger::<F>(Some(Duration::from_millis(50))).await;
    // Writing tells without reading that the client's end is closed.
    async {
        while !matches!(server.write_without_waiting(b"x").await, Poll::Ready(Err(_))) {
            smol::Timer::after(Duration::from_millis(2)).await;
        }
    }
    .within("the client's handle is closed")
    .await;
}

async fn no_linger_gives_the_handle_up_at_once<F: NonBlockingFamily>() {
    let (mut server, accepted) = drop_with_linger::<F>(Some(Duration::ZERO)).await;
    // What the kernel had taken may come, in order; then it is over.
    let received = server.read_to_end().within("the end of the file").await.unwrap();
    assert!(received.len() <= accepted);
    StreamData::new(73).expect(&received);
}

async fn close_delivers_and_frees_the_name<F: AsyncFamily>() {
    let name = unique_name();
    let mut options = ServerOptions::new();
    options.max_instances(1);
    let mut server = F::create(&options, &name).unwrap();
    let mut client = F::open(&ClientOptions::new(), &name).unwrap();
    server.connect().within("connect").await.unwrap();
    server.write_all(b"goodbye").within("write").await.unwrap();
    let (closed, received) =
        smol::future::zip(server.close(), client.read_to_end()).within("close while the peer reads").await;
    closed.unwrap();
    assert_eq!(received.unwrap(), b"goodbye");
    drop(client);
    eventually("the only instance is free again", || F::create(&options, &name).is_ok()).await;
}

async fn client_closes<F: AsyncFamily>() {
    let (mut server, mut client) = pair::<F>().await;
    client.write_all(b"goodbye").within("write").await.unwrap();
    let (closed, received) =
        smol::future::zip(client.close(), server.read_to_end()).within("close while the peer reads").await;
    closed.unwrap();
    assert_eq!(received.unwrap(), b"goodbye");
}

/// Dropped like the pipe itself: what was written is there for the reader, then the end of the
/// file.
async fn dropped_close_is_a_dropped_pipe<F: AsyncFamily>() {
    let (mut server, client) = server_and_foreign_client::<F>().await;
    server.write_all(b"read later").within("write").await.unwrap();
    assert!(poll_and_drop(server.close()).is_pending(), "nobody has read");
    assert_eq!(read_to_end(&client).await, b"read later");
}

/// A reader that stops: nothing is lost by giving up, and the next drain ends when it goes on.
async fn drain_with_a_time_out_gives_up_and_loses_nothing<F: AsyncFamily>() {
    let (mut server, client) = server_and_foreign_client::<F>().await;
    server.write_all(b"unread").within("write").await.unwrap();
    let timeout = Duration::from_millis(30);
    let start = Instant::now();
    let error = server.as_ref().drain_timeout(timeout).within("drain with a time-out").await.unwrap_err();
    assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::TimedOut, None));
    assert!(start.elapsed() >= timeout, "gave up after {:?}", start.elapsed());
    assert_eq!(read_all(&client, 6).await, b"unread");
    server.as_ref().drain_timeout(Duration::MAX).within("drain once all was read").await.unwrap();
}

/// A reader that is slow, but reads all: a byte at a time.
async fn close_waits_for_a_slow_reader<F: AsyncFamily>() {
    let (mut server, client) = server_and_foreign_client::<F>().await;
    server.write_all(b"slowly").within("write").await.unwrap();
    let reading = async {
        let mut received = Vec::new();
        while received.len() < 6 {
            received.extend(read_all(&client, 1).await);
        }
        received
    };
    let (closed, received) = smol::future::zip(server.close(), reading).within("close").await;
    closed.unwrap();
    assert_eq!(received, b"slowly");
}

/// A reader that dies while the server waits for it: there is nobody left to wait for.
async fn close_ends_when_the_peer_dies<F: AsyncFamily>() {
    let (mut server, client) = server_and_foreign_client::<F>().await;
    server.write_all(b"never read").within("write").await.unwrap();
    let mut close = pin!(server.close());
    assert!(poll_once(close.as_mut()).is_pending());
    drop(client);
    close.within("close when the peer has gone").await.unwrap();
}

async fn close_with_a_time_out_gives_up<F: AsyncFamily>() {
    let (mut server, client) = server_and_foreign_client::<F>().await;
    server.write_all(b"read later").within("write").await.unwrap();
    let close = server.close_timeout(Duration::from_millis(30));
    assert_eq!(close.within("close with a time-out").await.unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(read_to_end(&client).await, b"read later");
}

/// The time-out is that of the close and not of the writes, which linger as after every drop.
async fn dropped_close_with_a_time_out_is_a_dropped_pipe<F: AsyncFamily>() {
    let time_out = Duration::from_millis(20);
    // A machine that is busy may be late with the first poll.
    let (client, accepted) = loop {
        let (mut server, client) = server_and_foreign_client::<F>().await;
        let accepted = write_until_stopped(&mut server, &mut StreamData::new(75)).await;
        if poll_and_drop(server.close_timeout(time_out)).is_pending() {
            break (client, accepted);
        }
    };
    // When this timer has fired, so has an earlier one.
    let (mut clock, _unread) = server_and_foreign_client::<F>().await;
    clock.write_all(b"x").within("write").await.unwrap();
    let late = clock.close_timeout(3 * time_out).within("a timer").await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
    let received = read_to_end(&client).await;
    assert_eq!(received.len(), accepted);
    StreamData::new(75).expect(&received);
}

/// The peer keeps its end open and never reads: the time to linger is the time that `close` takes.
async fn close_gives_up_when_the_time_to_linger_is_over<F: AsyncFamily>() {
    let (mut server, client) = server_and_foreign_client::<F>().await;
    server.write_all(b"read later").within("write").await.unwrap();
    let linger = Duration::from_millis(50);
    server.set_linger(Some(linger));
    let start = Instant::now();
    let error = server.close().within("close with a reader that does not read").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(start.elapsed() >= linger, "gave up after {:?}", start.elapsed());
    // Closed, not disconnected: what the system had accepted is still there, then the end.
    assert_eq!(read_to_end(&client).await, b"read later");
}

async fn close_after_the_peer_has_gone_is_ok<F: AsyncFamily>() {
    let (server, client) = server_and_foreign_client::<F>().await;
    drop(client);
    server.close().within("close of a server whose client has gone").await.unwrap();
    let name = unique_name();
    let server = sys::create_pipe(&name, sys::HandleKind::Synchronous).unwrap();
    let client = F::open(&ClientOptions::new(), &name).unwrap();
    drop(server);
    client.close().within("close of a client whose server has gone").await.unwrap();
}

/// The pipe's own `flush` and that of the traits are the same.
async fn flush_by_reference<F: AsyncFamily>() {
    let (mut server, client) = pair::<F>().await;
    let (mut reader, _writer) = client.split();
    let accepted = write_until_stopped(&mut server, &mut StreamData::new(74)).await;
    let mut flush = pin!(server.as_ref().flush());
    assert!(poll_once(flush.as_mut()).is_pending());
    let mut received = vec![0; accepted];
    reader.read_exact(&mut received).within("read").await.unwrap();
    flush.within("flush once the peer has read").await.unwrap();
}

for_each_family!(
    drain_waits_until_the_peer_has_read,
    drain_with_nothing_written_is_done,
    client_drains_too,
    dropped_drain_leaves_the_pipe_as_it_was => nonblocking,
    drain_ends_when_the_peer_leaves_without_reading,
    drain_of_a_disconnected_client_fails,
    drain_does_not_block_the_pipe,
    both_ends_drain_at_once_when_both_read,
    default_linger_is_five_minutes => nonblocking,
    long_linger_delivers => nonblocking,
    short_linger_gives_the_handle_up => nonblocking,
    no_linger_gives_the_handle_up_at_once => nonblocking,
    close_delivers_and_frees_the_name => asynchronous,
    client_closes => asynchronous,
    dropped_close_is_a_dropped_pipe => asynchronous,
    dropped_close_with_a_time_out_is_a_dropped_pipe => asynchronous,
    close_gives_up_when_the_time_to_linger_is_over => asynchronous,
    drain_with_a_time_out_gives_up_and_loses_nothing => asynchronous,
    close_waits_for_a_slow_reader => asynchronous,
    close_ends_when_the_peer_dies => asynchronous,
    close_with_a_time_out_gives_up => asynchronous,
    close_after_the_peer_has_gone_is_ok => asynchronous,
    flush_by_reference => asynchronous,
);
