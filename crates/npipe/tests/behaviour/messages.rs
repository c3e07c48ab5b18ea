//! Message pipes read through the stream traits: boundaries where the buffer allows it, and an end
//! of file only at the end.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};

use npipe::{ClientOptions, PipeMode, ServerOptions};

use crate::family::{AsyncFamily, End, Family, NonBlockingFamily, Reading, ServerEnd, Writing};
use crate::harness::{LONG, Within, message_pair, poll_and_drop, poll_once, unique_name, with_foreign};
use crate::stream_data::StreamData;
use crate::sys;

const SIZES: [usize; 16] = [
    1,
    100,
    4095,
    4096,
    4097,
    5000,
    8191,
    8192,
    8193,
    10_000,
    20_000,
    65_535,
    65_536,
    65_537,
    100_000,
    1 << 20,
];

/// A message server of ours and a foreign client that writes and reads synchronously.
async fn server_and_foreign_client<F: Family>() -> (F::Server, std::fs::File) {
    let name = unique_name();
    let server =
        F::create(ServerOptions::new().pipe_mode(PipeMode::Message).in_buffer_size(1 << 20), &name).unwrap();
    let client = sys::blocking_client(&name, true).unwrap();
    server.connect().within("connect").await.unwrap();
    (server, client)
}

async fn message_of_any_size_is_one_read<F: Family>() {
    let (server, mut client) = message_pair::<F>().await;
    let (_reader, mut writer) = server.split();
    let writing = F::spawn(async move {
        let mut data = StreamData::new(41);
        for size in SIZES {
            // One write is one message: `write` may not accept a part of it.
            let message = data.take(size);
            assert_eq!(writer.write(&message).await.unwrap(), size);
        }
        writer.flush().await.unwrap();
        writer
    });
    let mut expected = StreamData::new(41);
    let mut buffer = vec![0; 2 << 20];
    for size in SIZES {
        let read = client.read(&mut buffer).within("a message").await.unwrap();
        assert_eq!(read, size, "the buffer holds the whole message");
        expected.expect(&buffer[..read]);
    }
    writing.within("the writer").await;
}

/// The read is there first, with a buffer larger than anything the library reads ahead.
async fn pending_read_gets_the_whole_message<F: Family>() {
    for size in [1, 4096, 4097, 8193, 100_000] {
        let (mut server, client) = message_pair::<F>().await;
        let (_reader, mut writer) = client.split();
        let mut buffer = vec![0; 1 << 20];
        let mut read = Box::pin(server.read(&mut buffer));
        assert!(poll_once(read.as_mut()).is_pending());
        let message = StreamData::new(size as u64).take(size);
        let (read, written) =
            smol::future::zip(read, writer.write_all(&message)).within("a message and its read").await;
        written.unwrap();
        assert_eq!(read.unwrap(), size);
        assert!(buffer[..size] == message);
    }
}

async fn messages_are_never_merged<F: Family>() {
    let (mut server, mut client) = message_pair::<F>().await;
    let words: [&[u8]; 5] = [b"a", b"message", b"is", b"not", b"merged"];
    for word in words {
        client.write_all(word).within("write").await.unwrap();
    }
    client.flush().within("flush").await.unwrap();
    let mut buffer = [0; 100];
    for word in words {
        let read = server.read(&mut buffer).within("a message").await.unwrap();
        assert_eq!(&buffer[..read], word);
    }
}

async fn rest_of_a_message_comes_before_the_next<F: Family>() {
    let (mut server, mut client) = message_pair::<F>().await;
    client.write_all(b"0123456789").within("write").await.unwrap();
    client.write_all(b"next").within("write").await.unwrap();
    client.flush().within("flush").await.unwrap();
    let mut buffer = [0; 4];
    for piece in ["0123", "4567", "89", "next"] {
        let read = server.read(&mut buffer).within("a piece of a message").await.unwrap();
        assert_eq!(&buffer[..read], piece.as_bytes());
    }
}

async fn message_read_in_pieces_of_every_size<F: Family>() {
    const MESSAGE: usize = 20_000;
    for piece in [1, 100, 4095, 4096, 4097, 8192, 19_999, 20_000, 20_001] {
        let (mut server, mut client) = message_pair::<F>().await;
        let data = StreamData::new(piece as u64).take(MESSAGE);
        let mut received = Vec::new();
        let reading = async {
            let mut buffer = vec![0; piece];
            while received.len() < MESSAGE {
                let read = server.read(&mut buffer).await.unwrap();
                // Pieces are full up to the last one.
                assert_eq!(read, piece.min(MESSAGE - received.len()), "piece at {}", received.len());
                received.extend_from_slice(&buffer[..read]);
            }
        };
        let (written, ()) = smol::future::zip(client.write_all(&data), reading)
            .within_time("a message in pieces", LONG)
            .await;
        written.unwrap();
        assert!(received == data, "pieces of {piece}");
    }
}

/// A message of no bytes is not an end of file: it is skipped by reads of a stream, before, between
/// and after others.
async fn empty_messages_are_no_end_of_file<F: Family>() {
    let (mut server, mut client) = server_and_foreign_client::<F>().await;
    for message in ["", "one", "", "", "two", "", "three", ""] {
        // `write` of `std` is one `NtWriteFile` and sends an empty message, too.
        assert_eq!(client.write(message.as_bytes()).unwrap(), message.len());
    }
    drop(client);
    let mut buffer = [0; 100];
    for message in ["one", "two", "three"] {
        let read = server.read(&mut buffer).within("a message").await.unwrap();
        assert_eq!(&buffer[..read], message.as_bytes());
    }
    assert_eq!(server.read(&mut buffer).within("the end of the file").await.unwrap(), 0);
    assert_eq!(server.read(&mut buffer).within("the end of the file, again").await.unwrap(), 0);
}

async fn pending_read_sleeps_through_an_empty_message<F: Family>() {
    let (mut server, mut client) = server_and_foreign_client::<F>().await;
    let mut buffer = [0; 100];
    let mut read = Box::pin(server.read(&mut buffer));
    assert!(poll_once(read.as_mut()).is_pending());
    assert_eq!(client.write(b"").unwrap(), 0);
    assert_eq!(client.write(b"after").unwrap(), 5);
    assert_eq!(read.within("the message after an empty one").await.unwrap(), 5);
    assert_eq!(&buffer[..5], b"after");
}

async fn try_read_skips_empty_messages<F: AsyncFamily>() {
    let (server, mut client) = server_and_foreign_client::<F>().await;
    assert_eq!(client.write(b"").unwrap(), 0);
    assert_eq!(client.write(b"x").unwrap(), 1);
    let mut buffer = [0; 100];
    let read = async {
        loop {
            server.as_ref().readable().await.unwrap();
            match server.as_ref().try_read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => break read.unwrap(),
            }
        }
    }
    .within("try_read")
    .await;
    assert_eq!(&buffer[..read], b"x");
}

async fn only_empty_messages_and_then_the_end<F: Family>() {
    let (mut server, mut client) = server_and_foreign_client::<F>().await;
    for _ in 0..1000 {
        assert_eq!(client.write(b"").unwrap(), 0);
    }
    drop(client);
    assert_eq!(server.read_to_end().within("the end of the file").await.unwrap(), b"");
}

/// Every write is one message for a foreign reader, in the order of the writes.
async fn each_write_is_one_message<F: Family>() {
    let (mut server, client) = server_and_foreign_client::<F>().await;
    let mut data = StreamData::new(43);
    let mut expected = StreamData::new(43);
    for size in [1, 2, 4096, 4097, 10_000, 65_536, 100_000] {
        let message = data.take(size);
        assert_eq!(server.write(&message).within("write").await.unwrap(), size);
    }
    for size in [1, 2, 4096, 4097, 10_000, 65_536, 100_000] {
        // Nobody polls the server meanwhile: the writes go on by themselves.
        let message = with_foreign(&client, |client| {
            let mut buffer = vec![0; 200_000];
            let read = client.read(&mut buffer)?;
            Ok(buffer[..read].to_vec())
        })
        .await;
        assert_eq!(message.len(), size);
        expected.expect(&message);
    }
}

async fn vectored_write_is_one_message<F: Family>() {
    let (mut server, mut client) = message_pair::<F>().await;
    let mut data = StreamData::new(45);
    for parts in [vec![4, 0, 7], vec![1], vec![5000, 4096, 3], vec![30_000, 1, 30_000]] {
        let parts: Vec<_> = parts.into_iter().map(|size| data.take(size)).collect();
        let message = parts.concat();
        let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut buffer = vec![0; 100_000];
        let (written, read) = smol::future::zip(client.write_vectored(&slices), server.read(&mut buffer))
            .within("a vectored write and its read")
            .await;
        assert_eq!(written.unwrap(), message.len());
        assert!(buffer[..read.unwrap()] == message, "one write of {} slices", parts.len());
    }
}

/// Several buffers may take one message, in order, and never a part of the next.
async fn vectored_reads_stop_at_the_end_of_a_message<F: Family>() {
    let (mut server, mut client) = message_pair::<F>().await;
    for round in 0..20 {
        for message in ["abcdefgh", "next"] {
            client.write_all(message.as_bytes()).within("write").await.unwrap();
        }
        if round % 2 == 0 {
            client.flush().within("flush").await.unwrap();
        }
        for message in ["abcdefgh", "next"] {
            let mut received = Vec::new();
            while received.len() < message.len() {
                let mut parts = [3, 0, 2, 9, 9].map(|size| vec![0; size]);
                let mut slices: Vec<_> = parts.iter_mut().map(|part| IoSliceMut::new(part)).collect();
                let read = server.read_vectored(&mut slices).within("a vectored read").await.unwrap();
                assert_ne!(read, 0);
                received.extend_from_slice(&parts.concat()[..read]);
            }
            assert_eq!(received, message.as_bytes());
        }
    }
}

async fn dropped_read_keeps_the_message_whole<F: NonBlockingFamily>() {
    let (mut server, mut client) = message_pair::<F>().await;
    assert!(poll_and_drop(server.read(&mut [0; 10])).is_pending());
    let message = StreamData::new(44).take(50_000);
    client.write_all(&message).within("write").await.unwrap();
    client.write_all(b"next").within("write").await.unwrap();
    let mut buffer = vec![0; 100_000];
    let read = server.read(&mut buffer).within("the message").await.unwrap();
    assert_eq!(read, message.len());
    assert!(buffer[..read] == message);
    let read = server.read(&mut buffer).within("the next message").await.unwrap();
    assert_eq!(&buffer[..read], b"next");
}

/// The mode of the client's handle decides how it reads, whatever the pipe's type.
async fn byte_client_of_a_message_pipe_reads_across_boundaries<F: Family>() {
    let name = unique_name();
    let mut server = F::create(ServerOptions::new().pipe_mode(PipeMode::Message), &name).unwrap();
    let mut client = F::open(&ClientOptions::new(), &name).unwrap();
    server.connect().within("connect").await.unwrap();
    server.write_all(b"abc").within("write").await.unwrap();
    server.write_all(b"def").within("write").await.unwrap();
    drop(server);
    assert_eq!(client.read_to_end().within("all messages as bytes").await.unwrap(), b"abcdef");
}

for_each_family!(
    message_of_any_size_is_one_read,
    pending_read_gets_the_whole_message,
    messages_are_never_merged,
    rest_of_a_message_comes_before_the_next,
    message_read_in_pieces_of_every_size,
    empty_messages_are_no_end_of_file,
    pending_read_sleeps_through_an_empty_message,
    try_read_skips_empty_messages => asynchronous,
    only_empty_messages_and_then_the_end,
    each_write_is_one_message,
    vectored_write_is_one_message,
    vectored_reads_stop_at_the_end_of_a_message,
    dropped_read_keeps_the_message_whole => nonblocking,
    byte_client_of_a_message_pipe_reads_across_boundaries,
);
