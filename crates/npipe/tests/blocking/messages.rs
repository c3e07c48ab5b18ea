//! Whole messages, half-close and exchanges, by threads.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use npipe::{ClientOptions, PipeMode, ServerOptions};

use crate::world::*;

#[test]
fn a_read_is_one_message_or_its_next_part() {
    let _watchdog = watchdog();
    let (mut server, mut client) = message_pair();
    assert_eq!(client.info().unwrap().mode, PipeMode::Message);
    client.write_all(b"one").unwrap();
    assert_eq!(client.write_vectored(&[IoSlice::new(b"tw"), IoSlice::new(b"o")]).unwrap(), 3);
    assert_eq!(client.write(b"").unwrap(), 0, "an empty message, which reads pass over");
    client.set_write_timeout(Some(LONG)).unwrap();
    assert_eq!(client.write_vectored(&[IoSlice::new(b"thr"), IoSlice::new(b"ee")]).unwrap(), 5);
    client.write_all(&[4; 300_000]).unwrap();
    client.write_all(b"five").unwrap();

    let mut buffer = [0; 10];
    let mut read = |room: usize| {
        let count = server.read(&mut buffer[..room]).unwrap();
        buffer[..count].to_vec()
    };
    assert_eq!([read(10), read(2), read(10), read(10)], [&b"one"[..], b"tw", b"o", b"three"]);
    // A message is whole where there is room for it, in however many slices.
    let (mut first, mut second) = (vec![0; 100_000], vec![0; 250_000]);
    let mut buffers = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
    assert_eq!(server.read_vectored(&mut buffers).unwrap(), 300_000);
    assert!(first.iter().chain(&second[..200_000]).all(|byte| *byte == 4));
    assert_eq!(server.read(&mut [0; 10]).unwrap(), 4);

    // An empty message is not the end, and the time-out goes on behind it.
    client.write_all(b"").unwrap();
    assert_eq!(client.write(b"").unwrap(), 0);
    server.set_read_timeout(Some(SHORT)).unwrap();
    assert_kind(server.read(&mut buffer), ErrorKind::TimedOut);
    drop(client);
    assert_eq!(server.read(&mut buffer).unwrap(), 0);
}

#[test]
fn an_empty_message_is_the_end_where_that_is_agreed() {
    let _watchdog = watchdog();
    let (mut server, mut client) = message_pair();
    client.write_all(b"that was all").unwrap();
    assert_eq!(client.write(b"").unwrap(), 0);
    client.write_all(b"or not").unwrap();
    server.try_clone().unwrap().set_empty_message_is_end(true).unwrap();
    let mut said = String::new();
    server.read_to_string(&mut said).unwrap();
    assert_eq!(said, "that was all");
    server.set_empty_message_is_end(false).unwrap();
    assert_eq!(client.write(b"").unwrap(), 0);
    client.write_all(b", after all").unwrap();
    drop(client);
    server.read_to_string(&mut said).unwrap();
    assert_eq!(said, "that was allor not, after all");
}

#[test]
fn an_empty_message_is_seen_between_others_by_an_end_that_read_bytes() {
    let _watchdog = watchdog();
    let (mut server, mut client) =
        pair_with(ServerOptions::new().pipe_mode(PipeMode::Message), &ClientOptions::new());
    client.set_empty_message_is_end(true).unwrap();
    server.write_all(b"that was all").unwrap();
    assert_eq!(server.write(b"").unwrap(), 0);
    server.write_all(b"or not").unwrap();
    let mut said = String::new();
    client.read_to_string(&mut said).unwrap();
    assert_eq!(said, "that was all");
}

/// The largest, once, each way and on either face: the rest of the sizes is the behaviour suite's.
#[test]
fn a_message_of_64_mib_goes_whole_between_the_faces() {
    const SIZE: usize = 64 << 20;
    let _watchdog = watchdog();
    let name = unique_name();
    let server = ServerOptions::new().pipe_mode(PipeMode::Message).create(&name).unwrap();
    let client = ClientOptions::new().pipe_mode(PipeMode::Message).connect_blocking(&name).unwrap();
    let message: Vec<u8> = (0..SIZE).map(|place| (place % 251) as u8).collect();
    thread::scope(|scope| {
        let echo = scope.spawn(move || {
            npipe::block_on(async {
                server.connect().await.unwrap();
                let mut buffer = BytesMut::new();
                assert_eq!(server.recv_message(&mut buffer).await.unwrap(), Some(SIZE));
                server.send_message(&buffer).await.unwrap();
                server.drain().await.unwrap();
            });
        });
        client.send_message(&message).unwrap();
        let mut buffer = BytesMut::new();
        assert_eq!(client.recv_message_limited(&mut buffer, SIZE).unwrap(), Some(SIZE));
        assert!(buffer == message);
        echo.join().unwrap();
    });
}

/// Of either face. What is refused is never looked at, so it takes no memory.
#[test]
#[cfg(target_pointer_width = "64")]
fn a_message_of_4_gib_is_refused_before_any_of_it_is_sent() {
    let _watchdog = watchdog();
    let message = vec![0; 1 << 32];
    let name = unique_name();
    let mut server = ServerOptions::new().pipe_mode(PipeMode::Message).create(&name).unwrap();
    let client = ClientOptions::new().pipe_mode(PipeMode::Message).connect_blocking(&name).unwrap();
    assert_kind(client.send_message(&message), ErrorKind::InvalidInput);
    assert_kind(client.transact(&message, &mut BytesMut::new()), ErrorKind::InvalidInput);
    npipe::block_on(async {
        server.connect().await.unwrap();
        assert_kind(server.send_message(&message).await, ErrorKind::InvalidInput);
        assert_kind(server.transact(&message, &mut BytesMut::new()).await, ErrorKind::InvalidInput);
        server.send_message(b"next").await.unwrap();
    });
    let mut next = BytesMut::new();
    client.recv_message(&mut next).unwrap();
    assert_eq!(next, b"next"[..]);
}

#[test]
fn a_wait_for_a_message_ends_in_time_and_takes_nothing() {
    let _watchdog = watchdog();
    let (server, client) = message_pair();
    server.set_read_timeout(Some(SHORT)).unwrap();
    let mut buffer = BytesMut::from("kept");
    assert_kind(server.recv_message(&mut buffer), ErrorKind::TimedOut);
    assert_eq!(buffer, "kept");
    client.send_message(&[7; 9000]).unwrap();
    assert_eq!(server.recv_message(&mut buffer).unwrap(), Some(9000));
    assert_eq!(buffer.len(), 9004);
}

#[test]
fn half_close_waits_for_no_longer_than_it_has_patience() {
    let _watchdog = watchdog();
    for on_its_way in [false, true] {
        let (mut server, client) = message_pair();
        client.send_message(b"unread").unwrap();
        let mut expected = 1;
        if on_its_way {
            // A write that the peer has no room for, and that counts as written.
            client.set_write_timeout(Some(SHORT)).unwrap();
            client.send_message(&vec![7; 8 << 20]).unwrap();
            client.set_write_timeout(None).unwrap();
            expected = 2;
        }
        assert_kind(client.close_write(SHORT), ErrorKind::TimedOut);
        client.close_write(SHORT).unwrap();
        assert_kind(client.send_message(b"late"), ErrorKind::BrokenPipe);
        assert_kind(
            (&client).write_vectored(&[IoSlice::new(b"la"), IoSlice::new(b"te")]),
            ErrorKind::BrokenPipe,
        );
        let mut buffer = BytesMut::new();
        for _ in 0..expected {
            assert!(server.recv_message(&mut buffer).unwrap().is_some_and(|length| length > 0));
        }
        assert_eq!(server.recv_message(&mut buffer).unwrap(), Some(0), "the mark");
        server.write_all(b"answer").unwrap();
        buffer.clear();
        assert_eq!(client.recv_message(&mut buffer).unwrap(), Some(6));
    }
}

#[test]
fn an_exchange_brings_the_reply_whole_and_is_refused_while_a_message_waits() {
    let _watchdog = watchdog();
    let (server, client) = message_pair();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut request = BytesMut::new();
            for length in [3, 0, 4096, 4097, 100_000] {
                assert_eq!(server.recv_message(&mut request).unwrap(), Some(7));
                server.send_message(&vec![7; length]).unwrap();
            }
        });
        let mut reply = BytesMut::new();
        for length in [3, 0, 4096, 4097, 100_000] {
            assert_eq!(client.transact(b"request", &mut reply).unwrap(), length);
            assert!(reply.split() == vec![7; length]);
        }
    });
    server.send_message(b"news").unwrap();
    let mut reply = BytesMut::new();
    let refused = client.transact(b"request", &mut reply).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(ERROR_PIPE_BUSY));
    client.recv_message(&mut reply).unwrap();
    client.set_read_timeout(Some(SHORT)).unwrap();
    assert_kind(client.transact(b"request", &mut reply), ErrorKind::TimedOut);
    assert_eq!(reply, "news");
    server.send_message(b"late").unwrap();
    client.recv_message(&mut reply).unwrap();
    assert_eq!(reply, "newslate", "it is the next message");
    server.send_message(b"").unwrap();
    let refused = client.transact(b"request", &mut reply).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(ERROR_PIPE_BUSY), "an empty message waits");
    assert_eq!(client.recv_message(&mut reply).unwrap(), Some(0));
    drop(server);
    client.set_read_timeout(None).unwrap();
    assert_kind(client.transact(b"request", &mut reply), ErrorKind::BrokenPipe);
    assert_eq!(client.recv_message(&mut reply).unwrap(), None, "the end");
    assert_eq!(reply, "newslate");
}

/// What an async end had read ahead is received first, whole, empty messages too.
#[test]
fn messages_that_were_read_ahead_are_received_in_order() {
    let _watchdog = watchdog();
    let name = unique_name();
    let server = ServerOptions::new().pipe_mode(PipeMode::Message).create(&name).unwrap();
    let client = ClientOptions::new().pipe_mode(PipeMode::Message).connect_blocking(&name).unwrap();
    let messages: [&[u8]; 6] = [b"first", b"", &[7; 600], b"", &[8; 5000], b"last"];
    for message in messages {
        client.send_message(message).unwrap();
    }
    let server = npipe::block_on(async {
        server.connect().await.unwrap();
        server.readable().await.unwrap();
        server.into_blocking().await
    });
    let mut buffer = BytesMut::new();
    for message in messages {
        assert_eq!(server.recv_message(&mut buffer).unwrap(), Some(message.len()));
        assert!(buffer.split() == message);
    }
}

#[test]
fn a_byte_pipe_has_no_empty_message_to_end_at() {
    let _watchdog = watchdog();
    let (mut server, mut client) = pair();
    client.set_empty_message_is_end(true).unwrap();
    server.write_all(b"one").unwrap();
    assert_eq!(server.write(b"").unwrap(), 0);
    server.write_all(b"two").unwrap();
    drop(server);
    let mut said = String::new();
    client.read_to_string(&mut said).unwrap();
    assert_eq!(said, "onetwo");
}

#[test]
fn a_message_that_times_out_is_whole_or_not_there() {
    let _watchdog = watchdog();
    let (mut server, mut client) = pair_with(
        ServerOptions::new().pipe_mode(PipeMode::Message).in_buffer_size(4096),
        // Of such a client only the system knows that what it writes are messages.
        &ClientOptions::new(),
    );
    client.set_write_timeout(Some(SHORT)).unwrap();
    assert_eq!(client.write(&[1; 400_000]).unwrap(), 400_000);
    assert_kind(client.write(&[2; 10]), ErrorKind::TimedOut);
    let mut buffer = vec![0; 500_000];
    assert_eq!(server.read(&mut buffer).unwrap(), 400_000);
    client.set_write_timeout(Some(LONG)).unwrap();
    assert_eq!(client.write(&[3; 10]).unwrap(), 10);
    assert_eq!(server.read(&mut buffer).unwrap(), 10);
    assert_eq!(buffer[0], 3);
}

#[test]
fn the_longest_message_is_what_the_options_say() {
    let name = unique_name();
    let listener = ServerOptions::new()
        .pipe_mode(PipeMode::Message)
        .in_buffer_size(1 << 20)
        .max_message_size(5000)
        .listen_blocking(&name)
        .unwrap();
    let client = ClientOptions::new()
        .pipe_mode(PipeMode::Message)
        .max_message_size(10)
        .connect_blocking(&name)
        .unwrap();
    let server = listener.accept().unwrap();
    let refused = |received: io::Result<usize>, length, limit| {
        let error = received.expect_err("it is too long");
        let inner = error.get_ref().and_then(|error| error.downcast_ref::<npipe::MessageTooLong>()).unwrap();
        assert_eq!((inner.length(), inner.limit()), (length, limit));
    };
    for length in [5001, 5000, 100_000, 0] {
        client.send_message(&vec![0; length]).unwrap();
    }
    let mut buffer = BytesMut::new();
    let mut receive = || server.recv_message(&mut buffer).map(|length| length.unwrap());
    refused(receive(), 5001, 5000);
    assert_eq!(receive().unwrap(), 5000);
    refused(receive(), 100_000, 5000);
    assert_eq!(receive().unwrap(), 0);
    client.send_message(&[0; 6000]).unwrap();
    assert_eq!(server.recv_message_limited(&mut buffer, usize::MAX).unwrap(), Some(6000));

    for length in [11, 5000, 9000] {
        let mut reply = BytesMut::from("before");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                server.recv_message(&mut BytesMut::new()).unwrap();
                server.send_message(&vec![0; length]).unwrap();
                server.send_message(b"next").unwrap();
            });
            refused(client.transact(b"?", &mut reply), length, 10);
            assert_eq!(reply, "before");
            assert_eq!(client.recv_message(&mut reply).unwrap(), Some(4), "the stream stays usable");
        });
    }
}

/// Any number of reads may be needed to discard it: they do not outlast the time-out, and none of
/// it is received later.
#[test]
fn discarding_a_refused_message_ends_in_time_and_goes_on_with_the_next_call() {
    let _watchdog = watchdog();
    for receives_next in [true, false] {
        let (server, client) = message_pair();
        thread::scope(|scope| {
            scope.spawn(|| {
                client.send_message(&vec![7; 32 << 20]).unwrap();
                client.send_message(b"next").unwrap();
            });
            let mut message = BytesMut::new();
            assert_kind(server.recv_message_limited(&mut message, 10), ErrorKind::InvalidData);
            // Over as soon as the call begins.
            server.set_read_timeout(Some(Duration::from_nanos(1))).unwrap();
            let mut buffer = [0; 10];
            let mut timeouts = 0;
            let received = loop {
                let received = if receives_next {
                    server.recv_message(&mut message).map(Option::unwrap)
                } else {
                    (&server).read(&mut buffer)
                };
                match received {
                    Err(error) if error.kind() == ErrorKind::TimedOut => timeouts += 1,
                    received => break received.unwrap(),
                }
            };
            assert_eq!(received, 4);
            assert!(message == b"next"[..] || buffer[..4] == *b"next");
            assert!(timeouts > 0, "32 MiB were discarded by a call whose time was over");
        });
    }
}

#[test]
fn an_exchange_passes_over_the_rest_of_a_refused_message() {
    let _watchdog = watchdog();
    let (server, client) = message_pair();
    client.set_read_timeout(Some(LONG)).unwrap();
    for length in [11, 5000, 32 << 20] {
        thread::scope(|scope| {
            scope.spawn(|| {
                server.send_message(&vec![7; length]).unwrap();
                let mut request = BytesMut::new();
                server.recv_message(&mut request).unwrap();
                server.send_message(b"reply").unwrap();
            });
            let mut reply = BytesMut::new();
            assert_kind(client.recv_message_limited(&mut reply, 10), ErrorKind::InvalidData);
            assert_eq!(client.transact(b"request", &mut reply).unwrap(), 5);
            assert_eq!(reply, "reply");
        });
    }
}

#[test]
fn slices_that_are_too_long_for_a_message_are_refused_before_they_are_copied() {
    let name = unique_name();
    let listener = ServerOptions::new().pipe_mode(PipeMode::Message).listen_blocking(&name).unwrap();
    let mut client = ClientOptions::new().pipe_mode(PipeMode::Message).connect_blocking(&name).unwrap();
    let _server = listener.accept().unwrap();
    let part = vec![0; 64 << 20];
    let slices: Vec<_> = (0..64).map(|_| io::IoSlice::new(&part)).collect();
    let error = io::Write::write_vectored(&mut client, &slices).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert_eq!(io::Write::write(&mut client, b"usable").unwrap(), 6);
}
