//! Who may be dropped when, and what arrives all the same.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use npipe::readiness::{NamedPipe, Poll, Token, Waker};
use npipe::{ClientOptions, PipeMode, ServerOptions};
use windows_sys::Win32::Foundation::ERROR_FILE_NOT_FOUND;

use crate::world::*;

fn read_slowly(mut client: File, bytes: &[u8]) {
    let mut received = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        match client.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => received.extend_from_slice(&buffer[..count]),
            // How the standard library's file reports it.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            Err(error) => panic!("{error}"),
        }
        thread::yield_now();
    }
    assert!(received == bytes, "{} of {} bytes", received.len(), bytes.len());
}

#[test]
fn the_pipe_first_then_a_slow_reader_while_the_poll_goes_on() {
    let mut events = Loop::new();
    let (server, client) = events.server_and_foreign_client();
    let bytes = events.fill(&server);
    drop(server);
    let reading = thread::spawn(move || read_slowly(client, &bytes));
    let end = Instant::now() + STEP;
    while !reading.is_finished() {
        assert!(Instant::now() < end, "what was written does not arrive");
        assert!(events.poll(QUIET).is_empty(), "nothing is told of a dropped pipe");
    }
    reading.join().unwrap();
}

/// A program that has written its last and turns to something else.
#[test]
fn nothing_at_all_and_what_was_accepted_arrives_though_nobody_polls() {
    for pipe_mode in [PipeMode::Byte, PipeMode::Message] {
        let mut events = Loop::new();
        let name = unique_name();
        let mut server = NamedPipe::create(ServerOptions::new().pipe_mode(pipe_mode), &name).unwrap();
        events.add(&mut server, SERVER);
        let mut client = foreign_client(&name);
        events.connect(&server, SERVER);
        let bytes = events.fill(&server);
        let (received, wait_received) = mpsc::channel();
        thread::spawn(move || {
            let mut all = vec![0; bytes.len()];
            let read = client.read_exact(&mut all);
            let _ = received.send(read.is_ok() && all == bytes);
        });
        assert_eq!(wait_received.recv_timeout(STEP), Ok(true));
    }
}

#[test]
fn the_pipe_first_and_then_the_poll() {
    let mut events = Loop::new();
    let (server, client) = events.server_and_foreign_client();
    let bytes = events.fill(&server);
    drop(server);
    drop(events.poll);
    read_slowly(client, &bytes);
}

#[test]
fn the_poll_first_and_then_the_pipe() {
    let mut events = Loop::new();
    let (server, client) = events.server_and_foreign_client();
    let bytes = events.fill(&server);
    drop(events.poll);
    drop(server);
    read_slowly(client, &bytes);
}

#[test]
fn a_pipe_works_on_when_its_poll_is_gone_and_nothing_new_can_be_registered() {
    let mut events = Loop::new();
    let (mut server, mut client) = events.server_and_foreign_client();
    let registry = events.registry().try_clone().unwrap();
    let waker = Waker::new(&registry, Token(5)).unwrap();
    drop(events.poll);

    assert!(would_block(server.read(&mut [0; 8])));
    client.write_all(b"after").unwrap();
    let mut buffer = [0; 8];
    let end = Instant::now() + STEP;
    while would_block(server.read(&mut buffer)) {
        assert!(Instant::now() < end);
        thread::yield_now();
    }
    assert_eq!(&buffer[..5], b"after");
    server.write_all(b"all").unwrap();
    client.read_exact(&mut buffer[..3]).unwrap();
    assert_eq!(&buffer[..3], b"all");

    waker.wake().unwrap();
    assert_kind(Waker::new(&registry, Token(6)), io::ErrorKind::NotConnected);
    let mut other = NamedPipe::new(unique_name()).unwrap();
    assert_kind(registry.register(&mut other, Token(7), BOTH), io::ErrorKind::NotConnected);
    Poll::new().unwrap().registry().register(&mut other, Token(7), BOTH).unwrap();
    registry.deregister(&mut server).unwrap();
    assert_kind(registry.register(&mut server, SERVER, BOTH), io::ErrorKind::NotConnected);
}

#[test]
fn a_dropped_server_is_gone_at_once() {
    let events = Loop::new();
    let name = unique_name();
    let mut server = NamedPipe::new(&name).unwrap();
    events.add(&mut server, SERVER);
    assert!(would_block(server.connect()));
    drop(server);
    assert_code(NamedPipe::open(&ClientOptions::new(), &name), ERROR_FILE_NOT_FOUND);

    let mut server = NamedPipe::new(&name).unwrap();
    events.add(&mut server, SERVER);
    let mut client = foreign_client(&name);
    server.connect().unwrap();
    assert!(would_block(server.read(&mut [0; 8])));
    drop(server);
    let end = client.read(&mut [0; 8]);
    assert!(matches!(&end, Ok(0)) || end.is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe));
}

#[test]
fn a_linger_of_nothing_gives_up_what_is_in_flight() {
    let mut events = Loop::new();
    let name = unique_name();
    let mut server = NamedPipe::new(&name).unwrap();
    server.set_linger(Some(Duration::ZERO));
    assert_eq!(server.linger(), Some(Duration::ZERO));
    events.add(&mut server, SERVER);
    assert_eq!(server.linger(), Some(Duration::ZERO));
    let mut client = foreign_client(&name);
    events.connect(&server, SERVER);
    let bytes = events.fill(&server);
    drop(server);
    events.settle();
    let mut received = Vec::new();
    let _ = client.read_to_end(&mut received);
    assert!(received.len() < bytes.len(), "nothing was given up");
    assert!(bytes.starts_with(&received));
}

#[test]
fn many_in_any_order() {
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..40 {
        let mut events = Loop::new();
        let mut parts: Vec<Box<dyn std::any::Any>> = Vec::new();
        for number in 0..3 {
            let name = unique_name();
            let mut server = NamedPipe::new(&name).unwrap();
            events.add(&mut server, Token(number));
            let _ = server.connect();
            if random.bool() {
                let mut client = NamedPipe::open(&ClientOptions::new(), &name).unwrap();
                events.add(&mut client, Token(number + 10));
                if random.bool() {
                    events.poll(Duration::ZERO);
                    let _ = fill_or_not(&mut client, random.bool());
                }
                parts.push(Box::new(client));
            }
            parts.push(Box::new(server));
        }
        parts.push(Box::new(Waker::new(events.registry(), Token(99)).unwrap()));
        parts.push(Box::new(events.registry().try_clone().unwrap()));
        parts.push(Box::new(events.poll));
        random.shuffle(&mut parts);
        drop(parts);
    }
}

fn fill_or_not(pipe: &mut NamedPipe, full: bool) -> io::Result<usize> {
    pipe.write(&vec![1; if full { 2 << 20 } else { 10 }])
}
