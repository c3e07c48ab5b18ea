//! Bytes and messages through a loop, and draining.

use std::fs::OpenOptions;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::OwnedHandle;

use npipe::readiness::{Event, NamedPipe};
use npipe::{ClientOptions, PipeMode, ServerOptions};

use crate::world::*;

#[test]
fn messages_arrive_whole() {
    let mut events = Loop::new();
    let (server, mut client, _) = events.pair_with(
        ServerOptions::new().pipe_mode(PipeMode::Message),
        ClientOptions::new().pipe_mode(PipeMode::Message),
    );
    let mut buffer = vec![0; 200_000];
    for length in [1, 511, 512, 513, 4096, 65_536, 65_537, 150_000] {
        let message = data(length);
        assert_eq!(events.write_some(&server, SERVER, &message), length);
        events.write(&server, SERVER, b"next");
        let count = events.read_some(&client, CLIENT, &mut buffer).unwrap();
        assert!(buffer[..count] == message, "{count} bytes of a message of {length}");
        let count = events.read_some(&client, CLIENT, &mut buffer).unwrap();
        assert_eq!(&buffer[..count], b"next");
    }
    assert_eq!(events.write_some(&client, CLIENT, b""), 0);
    let parts = [IoSlice::new(b"one "), IoSlice::new(b"message")];
    while would_block(client.write_vectored(&parts)) {
        events.until(CLIENT, Event::is_writable);
    }
    let count = events.read_some(&server, SERVER, &mut buffer).unwrap();
    assert_eq!(&buffer[..count], b"one message", "the empty one is passed over");
}

#[test]
fn several_buffers_are_one() {
    let mut events = Loop::new();
    let (mut server, mut client) = events.pair();
    let written =
        server.write_vectored(&[IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cdefg")]).unwrap();
    assert_eq!(written, 7);
    events.until(CLIENT, Event::is_readable);
    let (mut first, mut second) = ([0; 3], [0; 9]);
    let mut buffers = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
    assert_eq!(client.read_vectored(&mut buffers).unwrap(), 7);
    assert_eq!((&first, &second[..4]), (b"abc", &b"defg"[..]));
    assert_eq!(client.read(&mut []).unwrap(), 0);
}

#[test]
fn a_handle_made_elsewhere_is_what_it_was_made_for() {
    let mut events = Loop::new();
    let name = unique_name();
    let mut server = NamedPipe::create(ServerOptions::new().pipe_mode(PipeMode::Message), &name).unwrap();
    events.add(&mut server, SERVER);
    let file =
        OpenOptions::new().read(true).write(true).custom_flags(FILE_FLAG_OVERLAPPED).open(&name).unwrap();
    let mut client = NamedPipe::try_from(OwnedHandle::from(file)).unwrap();
    events.connect(&server, SERVER);
    events.add(&mut client, CLIENT);
    events.settle();
    // Of bytes, only a part of the first would be accepted; and the others would become one.
    for message in [&data(300_000)[..], b"b", b"c"] {
        assert_eq!(events.write_some(&client, CLIENT, message), message.len());
    }
    let mut buffer = vec![0; 1 << 20];
    for length in [300_000, 1, 1] {
        assert_eq!(events.read_some(&server, SERVER, &mut buffer).unwrap(), length);
    }
}

#[test]
fn drain_waits_until_the_peer_has_read() {
    let mut events = Loop::new();
    let (mut server, mut client) = events.server_and_foreign_client();
    server
        .drain()
        .or_else(|error| {
            assert!(would_block::<()>(Err(error)));
            events.until(SERVER, Event::is_writable);
            server.drain()
        })
        .unwrap();
    server.write_all(b"unread").unwrap();
    while would_block(server.flush()) {
        events.until(SERVER, Event::is_writable);
    }
    assert!(would_block(server.drain()));
    events.settle();
    assert!(would_block(server.drain()));
    client.read_exact(&mut [0; 6]).unwrap();
    while would_block(server.drain()) {
        events.until(SERVER, Event::is_writable);
    }
    server.disconnect().unwrap();
}

#[test]
fn a_drain_of_the_last_connection_says_nothing_of_the_next() {
    let mut events = Loop::new();
    let name = unique_name();
    let mut server = NamedPipe::new(&name).unwrap();
    events.add(&mut server, SERVER);
    for _ in 0..3 {
        assert!(would_block(server.connect()));
        let _client = foreign_client(&name);
        events.until(SERVER, Event::is_writable);
        events.write(&server, SERVER, b"unread");
        while would_block(server.flush()) {
            events.until(SERVER, Event::is_writable);
        }
        assert!(would_block(server.drain()));
        server.disconnect().unwrap();
    }
}

#[test]
fn a_hundred_mebibytes_go_both_ways_through_one_poll() {
    const TOTAL: usize = 100 << 20;
    struct Side {
        pipe: NamedPipe,
        sent: usize,
        received: usize,
    }

    let mut events = Loop::new();
    let (server, client) = events.pair();
    let mut sides = [server, client].map(|pipe| Side { pipe, sent: 0, received: 0 });
    // No power of two, so that no shift by a buffer's size goes unnoticed.
    let pattern = data((1 << 20) - 3);
    let mut buffer = vec![0; 256 * 1024];
    while sides.iter().any(|side| side.received < TOTAL) {
        for side in &mut sides {
            while side.sent < TOTAL {
                let start = side.sent % pattern.len();
                let end = pattern.len().min(start + TOTAL - side.sent);
                match side.pipe.write(&pattern[start..end]) {
                    Ok(written) => side.sent += written,
                    Err(error) => {
                        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                        break;
                    }
                }
            }
            loop {
                match side.pipe.read(&mut buffer) {
                    Ok(0) => panic!("the end after {} bytes", side.received),
                    Ok(count) => {
                        let mut checked = 0;
                        while checked < count {
                            let start = side.received % pattern.len();
                            let part = (count - checked).min(pattern.len() - start);
                            let expected = &pattern[start..start + part];
                            assert!(buffer[checked..checked + part] == *expected, "{}", side.received);
                            checked += part;
                            side.received += part;
                        }
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                        break;
                    }
                }
            }
        }
        if sides.iter().any(|side| side.received < TOTAL) {
            assert!(!events.poll(STEP).is_empty(), "stuck");
        }
    }
    assert!(sides.iter().all(|side| side.received == TOTAL && side.sent == TOTAL));
}

/// A peer sends as many empty messages as it likes. A read passes over few of them, would block,
/// and another event comes.
#[test]
fn a_flood_of_empty_messages_and_a_refused_one_leave_the_loop_its_turns() {
    const EMPTY: usize = 3000;
    let mut events = Loop::new();
    let (server, client, _) = events.pair_with(
        ServerOptions::new().pipe_mode(PipeMode::Message).in_buffer_size(64 << 20),
        ClientOptions::new().pipe_mode(PipeMode::Message),
    );
    for _ in 0..EMPTY {
        while would_block(client.send_message(b"")) {
            events.until(CLIENT, Event::is_writable);
        }
    }
    assert_eq!(events.write_some(&client, CLIENT, b"behind"), 6);
    let (mut buffer, mut turns) = ([0; 10], 0);
    while would_block((&server).read(&mut buffer)) {
        events.until(SERVER, Event::is_readable);
        turns += 1;
    }
    assert_eq!(&buffer[..6], b"behind");
    assert!(turns >= EMPTY / 100, "{turns} turns");

    assert_eq!(events.write_some(&client, CLIENT, &vec![0; 16 << 20]), 16 << 20);
    assert_eq!(events.write_some(&client, CLIENT, b"behind"), 6);
    let (mut message, mut turns, mut refused) = (bytes::BytesMut::new(), 0, 0);
    loop {
        match server.recv_message_limited(&mut message, 1000) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                events.until(SERVER, Event::is_readable);
                turns += 1;
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => refused += 1,
            received => break assert_eq!(received.unwrap(), Some(6)),
        }
    }
    assert!(refused == 1 && turns >= 3, "{refused} refused, {turns} turns");
}

#[test]
fn the_longest_message_is_what_the_options_say() {
    let mut events = Loop::new();
    let (server, client, _) = events.pair_with(
        ServerOptions::new().pipe_mode(PipeMode::Message).in_buffer_size(1 << 20).max_message_size(5000),
        ClientOptions::new().pipe_mode(PipeMode::Message),
    );
    for length in [5001, 5000] {
        assert_eq!(events.write_some(&client, CLIENT, &vec![0; length]), length);
    }
    let mut buffer = bytes::BytesMut::new();
    let mut receive = || {
        loop {
            match server.recv_message(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    events.until(SERVER, Event::is_readable);
                }
                received => break received,
            }
        }
    };
    assert_eq!(receive().unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert_eq!(receive().unwrap(), Some(5000));
}

/// The guide documents that one write may be on its way, of at most 256 KiB of bytes, and that a
/// flush that would block ends with a writable event.
#[test]
fn a_write_accepts_256_kib_and_a_flush_is_told_of() {
    let mut events = Loop::new();
    let options = ServerOptions::new().out_buffer_size(4096).clone();
    let name = unique_name();
    let mut server = NamedPipe::create(&options, &name).unwrap();
    let mut client = foreign_client(&name);
    events.add(&mut server, SERVER);
    events.connect(&server, SERVER);
    events.settle();
    assert_eq!(server.write(&vec![7; 1 << 20]).unwrap(), 256 * 1024);
    assert!(would_block(server.write(b"x")));
    assert!(would_block(server.flush()));
    events.assert_quiet();
    client.read_exact(&mut vec![0; 256 * 1024]).unwrap();
    events.until(SERVER, Event::is_writable);
    server.flush().unwrap();
}
