//! Events are told once, and none is lost.

use std::io::{self, Read, Write};
use std::sync::mpsc;
use std::thread;

use npipe::readiness::{Event, NamedPipe};
use npipe::{ClientOptions, PipeMode, ServerOptions};
use windows_sys::Win32::Foundation::{ERROR_NO_DATA, ERROR_PIPE_NOT_CONNECTED};

use crate::world::*;

#[test]
fn a_would_block_arms_and_an_event_is_told_once() {
    let mut events = Loop::new();
    let (mut server, mut client) = events.server_and_foreign_client();
    for _ in 0..3 {
        assert!(would_block(server.read(&mut [0; 8])));
        events.assert_quiet();
        client.write_all(b"abc").unwrap();
        events.until(SERVER, Event::is_readable);
        // Not acted upon, and more comes: that is no new readiness.
        events.assert_quiet();
        client.write_all(b"def").unwrap();
        events.settle();
        assert_eq!(events.read(&server, SERVER, 6), b"abcdef");
    }
}

#[test]
fn a_closed_peer_is_readable_and_then_reads_zero() {
    let mut events = Loop::new();
    let (mut server, mut client) = events.server_and_foreign_client();
    assert!(would_block(server.read(&mut [0; 8])));
    client.write_all(b"last words").unwrap();
    drop(client);
    events.until(SERVER, Event::is_readable);
    assert_eq!(events.read(&server, SERVER, 10), b"last words");
    assert_eq!(events.read_some(&server, SERVER, &mut [0; 8]).unwrap(), 0);
    events.settle();
    assert_eq!(server.read(&mut [0; 8]).unwrap(), 0, "the end stays the end");
    events.assert_quiet();
    assert_code(server.write(b"x"), ERROR_NO_DATA);
}

/// By the convention of a half-close; a peer that does not keep to it may go on.
#[test]
fn an_empty_message_that_reads_as_the_end_does_not_silence_what_follows() {
    let mut events = Loop::new();
    let mut options = (ServerOptions::new(), ClientOptions::new());
    options.0.pipe_mode(PipeMode::Message);
    options.1.pipe_mode(PipeMode::Message);
    let (mut server, client, _) = events.pair_with(&options.0, &options.1);
    server.set_empty_message_is_end(true).unwrap();
    for message in [&b"after the end"[..], b"and again"] {
        client.send_message(b"").unwrap();
        assert!(events.until(SERVER, Event::is_readable).is_read_closed());
        assert_eq!(server.read(&mut [0; 20]).unwrap(), 0);
        events.settle();
        client.send_message(message).unwrap();
        assert!(!events.until(SERVER, Event::is_readable).is_read_closed());
        assert_eq!(server.read(&mut [0; 20]).unwrap(), message.len());
        events.settle();
    }
    client.send_message(b"").unwrap();
    events.until(SERVER, Event::is_readable);
    assert_eq!(server.read(&mut [0; 20]).unwrap(), 0);
    drop(client);
    events.until(SERVER, Event::is_readable);
    assert_eq!(server.read(&mut [0; 20]).unwrap(), 0);
    events.assert_quiet();
}

/// The end of a drain does not cover data that was written after the drain began.
#[test]
fn a_drain_does_not_answer_for_a_write_that_followed_it() {
    let mut events = Loop::new();
    let (mut server, mut client) = events.server_and_foreign_client();
    server.write_all(b"one").unwrap();
    assert!(would_block(server.drain()));
    client.read_exact(&mut [0; 3]).unwrap();
    events.settle();
    server.write_all(b"two").unwrap();
    assert!(would_block(server.drain()));
    events.settle();
    client.read_exact(&mut [0; 3]).unwrap();
    while would_block(server.drain()) {
        events.until(SERVER, Event::is_writable);
    }
}

#[test]
fn the_end_is_told_to_who_waits_for_it() {
    let mut events = Loop::new();
    let (mut server, client) = events.server_and_foreign_client();
    assert!(would_block(server.read(&mut [0; 8])));
    drop(client);
    assert!(events.until(SERVER, Event::is_readable).is_read_closed());
    events.assert_quiet();
    assert_eq!(server.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn being_disconnected_is_an_error_and_not_the_end() {
    let mut events = Loop::new();
    let (server, mut client) = events.pair();
    assert!(would_block(client.read(&mut [0; 8])));
    server.disconnect().unwrap();
    events.until(CLIENT, Event::is_readable);
    assert_code(client.read(&mut [0; 8]), ERROR_PIPE_NOT_CONNECTED);
    assert_code(client.write(b"x"), ERROR_PIPE_NOT_CONNECTED);
    events.assert_quiet();
}

#[test]
fn a_writer_that_would_block_is_told_when_there_is_room_again() {
    let mut events = Loop::new();
    let (mut server, mut client) = events.server_and_foreign_client();
    let bytes = events.fill(&server);
    let reading = thread::spawn(move || {
        let mut received = vec![0; bytes.len()];
        client.read_exact(&mut received).unwrap();
        assert!(received == bytes);
        client
    });
    events.until(SERVER, Event::is_writable);
    while would_block(server.flush()) {
        events.until(SERVER, Event::is_writable);
    }
    let _client = reading.join().unwrap();
    assert_eq!(server.write(b"x").unwrap(), 1);
}

/// What mio's pipes do, beyond what they promise.
#[test]
fn code_that_reads_and_writes_once_an_event_is_not_forgotten() {
    let mut events = Loop::new();
    let (mut server, mut client) = events.pair();
    let bytes = data(200_000);
    let (mut sent, mut received) = (0, Vec::new());
    events.registry().reregister(&mut server, SERVER, BOTH).unwrap();
    while received.len() < bytes.len() {
        let told = events.poll(STEP);
        assert!(!told.is_empty(), "{sent} sent, {} received", received.len());
        for event in told {
            if event.token() == SERVER && event.is_writable() && sent < bytes.len() {
                let end = bytes.len().min(sent + 900);
                match server.write(&bytes[sent..end]) {
                    Ok(count) => sent += count,
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                }
            }
            if event.token() == CLIENT && event.is_readable() {
                let mut buffer = [0; 700];
                match client.read(&mut buffer) {
                    Ok(count) => received.extend_from_slice(&buffer[..count]),
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                }
            }
        }
    }
    assert_eq!(received, bytes);
}

/// The race that an edge is lost in: bytes that arrive while the reader finds that there are none.
#[test]
fn thousands_of_rounds_lose_no_edge() {
    const ROUNDS: usize = 5000;
    let mut events = Loop::new();
    let (mut server, mut client) = events.server_and_foreign_client();
    let writing = thread::spawn(move || {
        let mut random = fastrand::Rng::with_seed(7);
        let mut sent = 0_usize;
        for _ in 0..ROUNDS {
            let count = random.usize(1..=32);
            let bytes: Vec<u8> = (sent..sent + count).map(|place| place as u8).collect();
            client.write_all(&bytes).unwrap();
            sent += count;
            for _ in 0..random.u32(0..3) {
                thread::yield_now();
            }
        }
        sent
    });
    let (mut received, mut polls) = (0_usize, 0);
    let mut buffer = [0; 48];
    'reading: loop {
        loop {
            match server.read(&mut buffer) {
                Ok(0) => break 'reading,
                Ok(count) => {
                    for byte in &buffer[..count] {
                        assert_eq!(*byte, received as u8);
                        received += 1;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        events.until(SERVER, Event::is_readable);
        polls += 1;
    }
    assert_eq!(received, writing.join().unwrap());
    assert!(polls <= ROUNDS + 1, "{polls} events for {ROUNDS} writes: some had no cause");
}

/// As above, the other way: room that appears while the writer finds that there is none.
#[test]
fn thousands_of_full_pipes_lose_no_edge() {
    const TOTAL: usize = 4 << 20;
    let mut events = Loop::new();
    let options = ServerOptions::new().out_buffer_size(4096).write_buffer_limit(4096).clone();
    let name = unique_name();
    let mut server = NamedPipe::create(&options, &name).unwrap();
    events.add(&mut server, SERVER);
    let mut client = foreign_client(&name);
    events.connect(&server, SERVER);
    let reading = thread::spawn(move || {
        let mut received = Vec::new();
        client.read_to_end(&mut received).unwrap();
        received
    });
    let bytes = data(TOTAL);
    events.write(&server, SERVER, &bytes);
    drop(server);
    drop(events);
    assert!(reading.join().unwrap() == bytes);
}

#[test]
fn two_threads_share_a_pipe_while_a_third_polls() {
    const TOTAL: usize = 1 << 20;
    let mut events = Loop::new();
    let (server, mut client) = events.server_and_foreign_client();
    // Echoes in turns, so that a handle on which one operation waits for the other cannot hang it.
    let echoing = thread::spawn(move || {
        let mut buffer = [0; 4096];
        for _ in 0..TOTAL / buffer.len() {
            client.read_exact(&mut buffer).unwrap();
            client.write_all(&buffer).unwrap();
        }
    });
    let (readable, wait_readable) = mpsc::channel();
    let (writable, wait_writable) = mpsc::channel();
    let bytes = data(TOTAL);
    thread::scope(|scope| {
        let (server, bytes) = (&server, &bytes);
        let reading = scope.spawn(move || {
            let mut received = vec![0; TOTAL];
            let mut filled = 0;
            while filled < TOTAL {
                match (&*server).read(&mut received[filled..]) {
                    Ok(count) => filled += count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        wait_readable.recv_timeout(STEP).unwrap();
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            assert!(received == *bytes);
        });
        scope.spawn(move || {
            let mut written = 0;
            while written < TOTAL {
                match (&*server).write(&bytes[written..]) {
                    Ok(count) => written += count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        wait_writable.recv_timeout(STEP).unwrap();
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        });
        while !reading.is_finished() {
            for event in events.poll(QUIET) {
                if event.is_readable() {
                    let _ = readable.send(());
                }
                if event.is_writable() {
                    let _ = writable.send(());
                }
            }
        }
    });
    echoing.join().unwrap();
}

#[test]
fn a_peer_that_has_gone_is_seen_before_and_after_registration() {
    let closed = |registered: bool, server_goes: bool, server: &ServerOptions, client: &ClientOptions| {
        let mut events = Loop::new();
        let name = unique_name();
        let mut server = NamedPipe::create(server, &name).unwrap();
        assert!(!server.is_closed(), "no client has come");
        let mut client = NamedPipe::open(client, &name).unwrap();
        if registered {
            events.add(&mut server, SERVER);
            events.add(&mut client, CLIENT);
            server.connect().unwrap();
            events.settle();
        }
        assert!(!server.is_closed() && !client.is_closed());
        let (goes, stays) = if server_goes { (server, client) } else { (client, server) };
        drop(goes);
        assert!(stays.is_closed(), "registered: {registered}, the server goes: {server_goes}");
    };
    for registered in [false, true] {
        for server_goes in [false, true] {
            let (mut both, mut outbound, mut inbound) =
                (ServerOptions::new(), ServerOptions::new(), ServerOptions::new());
            let (mut reads, mut writes) = (ClientOptions::new(), ClientOptions::new());
            closed(registered, server_goes, &both, &ClientOptions::new());
            closed(registered, server_goes, outbound.access_inbound(false), reads.write(false));
            closed(registered, server_goes, inbound.access_outbound(false), writes.read(false));
            closed(registered, server_goes, both.pipe_mode(PipeMode::Message), &ClientOptions::new());
        }
    }
}
