//! Buffers that are given away: reads and writes without a copy, and what becomes of both when
//! nobody waits for them any more.

use std::io::Write;

use bytes::{Bytes, BytesMut};
use npipe::ServerOptions;

use crate::family::{AsyncFamily, Reading, ServerEnd, Writing};
use crate::harness::{
    Within, message_pair, pair, pair_with, poll_and_drop, poll_once, unique_name, with_foreign,
    write_until_stopped,
};
use crate::stream_data::StreamData;
use crate::sys;

async fn read_that_waits_lands_in_the_buffer_it_was_given<F: AsyncFamily>() {
    let (server, mut client) = pair::<F>().await;
    let buffer = BytesMut::with_capacity(10_000);
    let given = buffer.as_ptr();
    let mut read = std::pin::pin!(server.as_ref().read_owned(buffer));
    assert!(poll_once(read.as_mut()).is_pending());
    client.write_all(b"hello").within("write").await.unwrap();
    let buffer = read.within("read").await.unwrap();
    assert_eq!(buffer, b"hello"[..]);
    assert_eq!(buffer.as_ptr(), given, "another buffer came back");
}

async fn read_goes_behind_what_the_buffer_holds<F: AsyncFamily>() {
    let (server, mut client) = pair::<F>().await;
    let mut buffer = BytesMut::with_capacity(8);
    buffer.extend_from_slice(b"held:");
    let mut read = std::pin::pin!(server.as_ref().read_owned(buffer));
    assert!(poll_once(read.as_mut()).is_pending());
    client.write_all(b"abcdef").within("write").await.unwrap();
    assert_eq!(read.within("read").await.unwrap(), b"held:abc"[..], "as much as there was room for");
    assert_eq!(server.as_ref().read_owned(BytesMut::new()).within("read").await.unwrap(), b"def"[..]);
    drop(client);
    let kept = BytesMut::from(&b"kept"[..]);
    assert_eq!(server.as_ref().read_owned(kept).within("the end").await.unwrap(), b"kept"[..]);
}

async fn reads_that_were_dropped_lose_nothing<F: AsyncFamily>() {
    let (mut server, mut client) = pair::<F>().await;
    let mut data = StreamData::new(91);
    let mut received = Vec::new();
    for round in 0..50 {
        assert!(poll_and_drop(server.as_ref().read_owned(BytesMut::with_capacity(300))).is_pending());
        client.write_all(&data.take(100 + round)).within("write").await.unwrap();
        while received.len() < (0..=round).map(|round| 100 + round).sum() {
            // In turns with the reads of the traits.
            if round % 2 == 0 {
                let read = server.as_ref().read_owned(BytesMut::with_capacity(64));
                received.extend(read.within("read").await.unwrap());
            } else {
                let mut buffer = [0; 64];
                let count = server.read(&mut buffer).within("read").await.unwrap();
                received.extend_from_slice(&buffer[..count]);
            }
        }
    }
    StreamData::new(91).expect(&received);
}

/// One read of the system fills many small buffers, as with the reads of the traits: it would cost
/// a call each otherwise. A foreign writer beyond the quota shows it: it ends when all but 4 KiB
/// has been read, by whomever.
async fn small_buffers_are_filled_from_what_was_read_ahead<F: AsyncFamily>() {
    const SMALL: usize = 4 * 1024;
    const TOTAL: usize = 16 * SMALL;
    let name = unique_name();
    let server = F::create(ServerOptions::new().in_buffer_size(SMALL as u32), &name).unwrap();
    let client = sys::blocking_client(&name, false).unwrap();
    server.connect().within("connect").await.unwrap();
    let sent = StreamData::new(94).take(TOTAL);
    let writing = F::spawn(async move { with_foreign(&client, move |client| client.write_all(&sent)).await });
    let mut expected = StreamData::new(94);
    for _ in 0..8 {
        let mut buffer = BytesMut::with_capacity(SMALL);
        while buffer.len() < SMALL {
            buffer = server.as_ref().read_owned(buffer).within("read").await.unwrap();
        }
        expected.expect(&buffer);
    }
    writing.within("the writer, of which half has been taken").await;
}

async fn bulk_of_owned_buffers_arrives<F: AsyncFamily>() {
    const TOTAL: usize = 3 << 20;
    let (server, client) = pair::<F>().await;
    let data = Bytes::from(StreamData::new(92).take(TOTAL));
    let expected = data.clone();
    let writing = async {
        client.as_ref().write_owned(data.slice(..TOTAL / 2)).await.unwrap();
        client
            .as_ref()
            .write_owned_vectored(vec![data.slice(TOTAL / 2..TOTAL - 7), data.slice(TOTAL - 7..)])
            .await
            .unwrap();
        client.as_ref().flush().await.unwrap();
        drop(client);
    };
    let reading = async {
        let (mut all, mut buffer) = (Vec::new(), BytesMut::new());
        loop {
            buffer.reserve(64 * 1024);
            buffer = server.as_ref().read_owned(buffer).await.unwrap();
            if buffer.is_empty() {
                break all;
            }
            all.extend(buffer.split());
        }
    };
    let ((), all) = smol::future::zip(writing, reading).within("bulk").await;
    assert!(all == expected, "what came is not what was written");
}

/// A reader that does not read: the first is accepted whole however large, the next waits before
/// its first byte.
async fn writes_that_were_dropped_wrote_nothing<F: AsyncFamily>() {
    let (mut server, client) = pair_with::<F>(
        ServerOptions::new().in_buffer_size(4096).read_buffer_limit(4096),
        &npipe::ClientOptions::new(),
    )
    .await;
    let first = StreamData::new(93).take(500_000);
    client.as_ref().write_owned(first.clone().into()).within("accepted as a whole").await.unwrap();
    for _ in 0..10 {
        assert!(poll_and_drop(client.as_ref().write_owned(Bytes::from_static(b"never"))).is_pending());
    }
    drop(client);
    let received = server.read_to_end().within("all that was accepted").await.unwrap();
    assert!(received == first, "{} bytes of {}", received.len(), first.len());
}

async fn owned_writes_of_messages_are_one_each<F: AsyncFamily>() {
    let (server, mut client) = message_pair::<F>().await;
    let pipe = server.as_ref();
    pipe.write_owned(Bytes::from_static(b"one")).within("write").await.unwrap();
    let pieces = vec![Bytes::from_static(b"t"), Bytes::new(), Bytes::from_static(b"wo")];
    pipe.write_owned_vectored(pieces).within("write").await.unwrap();
    let large = StreamData::new(94).take(100_000);
    pipe.write_owned(large.clone().into()).within("accepted").await.unwrap();
    let mut buffer = vec![0; 200_000];
    for expected in [&b"one"[..], b"two", &large] {
        let count = client.read(&mut buffer).within("read").await.unwrap();
        assert!(buffer[..count] == *expected, "a message of {count} bytes");
    }
}

async fn owned_reads_of_messages_bring_one_each<F: AsyncFamily>() {
    let (mut server, client) = message_pair::<F>().await;
    for message in [&b"one"[..], b"", b"two", b"a long one"] {
        assert_eq!(server.write(message).within("write").await.unwrap(), message.len());
    }
    let pipe = client.as_ref();
    let empty = || BytesMut::with_capacity(4);
    for expected in [&b"one"[..], b"two"] {
        let buffers = pipe.read_owned_vectored(vec![empty(), empty()]).within("read").await.unwrap();
        assert_eq!(buffers, [expected, b""]);
    }
    let buffers = pipe.read_owned_vectored(vec![empty(), empty(), empty()]).within("read").await.unwrap();
    assert_eq!(buffers.concat(), b"a long one");
}

async fn vectored_read_fills_one_buffer_after_the_other<F: AsyncFamily>() {
    let (server, mut client) = pair::<F>().await;
    client.write_all(&StreamData::new(95).take(30_000)).within("write").await.unwrap();
    let buffers =
        vec![BytesMut::with_capacity(100), BytesMut::with_capacity(8192), BytesMut::with_capacity(8192)];
    let mut received = Vec::new();
    for buffer in server.as_ref().read_owned_vectored(buffers).within("read").await.unwrap() {
        received.extend(buffer);
    }
    assert!(received.len() >= 100, "{} bytes", received.len());
    assert_eq!(server.as_ref().read_owned_vectored(Vec::new()).within("of nothing").await.unwrap().len(), 0);
    while received.len() < 30_000 {
        let read = server.as_ref().read_owned(BytesMut::with_capacity(10_000));
        received.extend(read.within("read").await.unwrap());
    }
    StreamData::new(95).expect(&received);
}

async fn owned_writes_end_with_a_peer_that_vanishes<F: AsyncFamily>() {
    let (server, mut client) = pair::<F>().await;
    let _ = write_until_stopped(&mut client, &mut StreamData::new(96)).await;
    let mut write = std::pin::pin!(client.as_ref().write_owned(Bytes::from_static(b"x")));
    assert!(poll_once(write.as_mut()).is_pending());
    server.disconnect().unwrap();
    write.within("write to a client that was disconnected").await.unwrap_err();
}

for_each_family!(
    read_that_waits_lands_in_the_buffer_it_was_given => asynchronous,
    read_goes_behind_what_the_buffer_holds => asynchronous,
    reads_that_were_dropped_lose_nothing => asynchronous,
    small_buffers_are_filled_from_what_was_read_ahead => asynchronous,
    bulk_of_owned_buffers_arrives => asynchronous,
    writes_that_were_dropped_wrote_nothing => asynchronous,
    owned_writes_of_messages_are_one_each => asynchronous,
    owned_reads_of_messages_bring_one_each => asynchronous,
    vectored_read_fills_one_buffer_after_the_other => asynchronous,
    owned_writes_end_with_a_peer_that_vanishes => asynchronous,
);
