//! Servers and their clients: connects, disconnects, instances that are used again.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::thread;

use npipe::ServerOptions;
use npipe::readiness::{Event, Interest, NamedPipe, Token};
use windows_sys::Win32::Foundation::{ERROR_PIPE_LISTENING, ERROR_PIPE_NOT_CONNECTED};

use crate::world::*;

#[test]
fn a_finished_connect_is_writable_whatever_the_interest() {
    for interest in [BOTH, Interest::READABLE, Interest::WRITABLE] {
        let mut events = Loop::new();
        let name = unique_name();
        let mut server = NamedPipe::new(&name).unwrap();
        events.registry().register(&mut server, SERVER, interest).unwrap();
        assert!(would_block(server.connect()));
        assert!(would_block(server.connect()), "it is under way");
        events.assert_quiet();
        let mut client = foreign_client(&name);
        assert!(!events.until(SERVER, Event::is_writable).is_error());
        assert!(server.take_error().unwrap().is_none());
        server.connect().unwrap();
        client.write_all(b"hello").unwrap();
        events.registry().reregister(&mut server, SERVER, BOTH).unwrap();
        assert_eq!(events.read(&server, SERVER, 5), b"hello");
    }
}

#[test]
fn a_client_that_is_there_connects_at_once_and_is_told_of_too() {
    let mut events = Loop::new();
    let name = unique_name();
    let mut server = NamedPipe::new(&name).unwrap();
    events.add(&mut server, SERVER);
    events.assert_quiet();
    let mut client = foreign_client(&name);
    server.connect().unwrap();
    events.until(SERVER, Event::is_writable);
    client.write_all(b"hello").unwrap();
    events.until(SERVER, Event::is_readable);
    assert_eq!(events.read(&server, SERVER, 5), b"hello");
}

#[test]
fn a_client_that_came_and_went_without_a_word_is_passed_over() {
    let mut events = Loop::new();
    let name = unique_name();
    let mut server = NamedPipe::new(&name).unwrap();
    events.add(&mut server, SERVER);
    drop(foreign_client(&name));
    assert!(would_block(server.connect()));
    events.assert_quiet();
    assert!(would_block(server.read(&mut [0; 8])));
    let mut client = foreign_client(&name);
    events.until(SERVER, Event::is_writable);
    client.write_all(b"me").unwrap();
    assert_eq!(events.read(&server, SERVER, 2), b"me");
}

#[test]
fn a_client_that_wrote_and_went_is_a_client() {
    let mut events = Loop::new();
    let name = unique_name();
    let mut server = NamedPipe::new(&name).unwrap();
    events.add(&mut server, SERVER);
    foreign_client(&name).write_all(b"and gone").unwrap();
    server.connect().unwrap();
    events.until(SERVER, Event::is_readable);
    assert_eq!(events.read(&server, SERVER, 8), b"and gone");
    assert_eq!(events.read_some(&server, SERVER, &mut [0; 8]).unwrap(), 0);
}

#[test]
fn a_clients_end_refuses_to_connect_and_to_disconnect_and_loses_nothing() {
    let mut events = Loop::new();
    let (server, client) = events.pair();
    events.write(&server, SERVER, b"still here");
    events.until(CLIENT, Event::is_readable);
    assert!(!would_block(client.connect().or_else(|error| {
        assert_ne!(error.kind(), io::ErrorKind::WouldBlock);
        Ok(())
    })));
    assert!(client.disconnect().is_err());
    assert_eq!(events.read(&client, CLIENT, 10), b"still here");
}

#[test]
fn disconnecting_without_a_client_ends_the_wait() {
    let mut events = Loop::new();
    let name = unique_name();
    let mut server = NamedPipe::new(&name).unwrap();
    events.add(&mut server, SERVER);
    assert!(would_block(server.connect()));
    assert_code(server.disconnect(), ERROR_PIPE_LISTENING);
    events.assert_quiet();
    let mut client = foreign_client(&name);
    events.assert_quiet();
    events.connect(&server, SERVER);
    client.write_all(b"x").unwrap();
    assert_eq!(events.read(&server, SERVER, 1), b"x");
}

/// Each client leaves something behind that the next must not see: unread bytes, an unread answer, an event.
#[test]
fn a_reused_instance_starts_clean() {
    let mut events = Loop::new();
    let name = unique_name();
    let mut server = NamedPipe::new(&name).unwrap();
    events.add(&mut server, SERVER);
    for round in 0..100_u32 {
        assert!(would_block(server.connect()), "round {round}: a client that has not come yet");
        if round % 10 < 3 {
            events.assert_quiet();
        }
        let mut client = foreign_client(&name);
        events.until(SERVER, Event::is_writable);
        client.write_all(&round.to_le_bytes()).unwrap();
        client.write_all(&vec![0xee; (round as usize % 7) * 1000]).unwrap();
        assert_eq!(events.read(&server, SERVER, 4), round.to_le_bytes());
        if round % 2 == 0 {
            let _ = server.write(&data(1000));
        }
        if round % 3 == 0 {
            drop(client);
        }
        server.disconnect().unwrap();
        assert_code(server.disconnect(), ERROR_PIPE_NOT_CONNECTED);
    }
}

#[test]
fn a_read_that_waited_for_the_last_client_is_no_news_for_who_waits_for_the_next() {
    let mut events = Loop::new();
    let (mut server, _client) = events.server_and_foreign_client();
    assert!(would_block(server.read(&mut [0; 8])));
    server.disconnect().unwrap();
    assert!(would_block(server.connect()));
    events.assert_quiet();
}

#[test]
fn many_clients_are_accepted_and_served_in_one_loop() {
    const CLIENTS: usize = 60;
    const INSTANCES: usize = 4;
    let mut events = Loop::new();
    let name = unique_name();
    let mut servers = Vec::new();
    for index in 0..INSTANCES {
        let mut server =
            NamedPipe::create(ServerOptions::new().first_pipe_instance(index == 0), &name).unwrap();
        events.add(&mut server, Token(index));
        assert!(would_block(server.connect()));
        servers.push(server);
    }
    let clients = thread::spawn({
        let name = name.clone();
        move || {
            let mut clients: VecDeque<_> = (0..CLIENTS).collect();
            while let Some(number) = clients.pop_front() {
                let Ok(mut client) = OpenOptions::new().read(true).write(true).open(&name) else {
                    clients.push_front(number);
                    thread::yield_now();
                    continue;
                };
                client.write_all(&number.to_le_bytes()).unwrap();
                let mut answer = [0; 8];
                client.read_exact(&mut answer).unwrap();
                assert_eq!(usize::from_le_bytes(answer), !number);
            }
        }
    });
    let mut served = 0;
    while served < CLIENTS {
        for event in events.poll(STEP) {
            let server = &mut servers[event.token().0];
            assert!(server.take_error().unwrap().is_none());
            let mut question = [0; 8];
            match server.read(&mut question) {
                Ok(8) => {
                    let answer = !usize::from_le_bytes(question);
                    assert_eq!(server.write(&answer.to_le_bytes()).unwrap(), 8);
                }
                Ok(0) => {
                    served += 1;
                    server.disconnect().unwrap();
                    let _ = would_block(server.connect());
                }
                Ok(count) => panic!("{count} bytes of a question"),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
    }
    clients.join().unwrap();
}
