//! Servers and their clients: connects, disconnects, instances that are used again.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::windows::io::AsHandle;
use std::thread;

use npipe::readiness::{Event, Interest, NamedPipe, Token};
use npipe::{PipeMode, ServerOptions};
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

/// Registration is no reason to take one for a client, nor is an event of it left for the `connect`
/// that follows.
#[test]
fn a_client_that_came_and_went_before_the_registration_is_passed_over() {
    for connects_first in [false, true] {
        let mut events = Loop::new();
        let name = unique_name();
        let mut server = NamedPipe::new(&name).unwrap();
        drop(foreign_client(&name));
        events.add(&mut server, SERVER);
        if !connects_first {
            events.assert_quiet();
            assert!(would_block(server.read(&mut [0; 8])));
        }
        assert!(would_block(server.connect()));
        events.assert_quiet();
        let mut client = foreign_client(&name);
        assert!(!events.until(SERVER, Event::is_writable).is_error());
        server.write_all(b"you").unwrap();
        client.read_exact(&mut [0; 3]).unwrap();
    }
}

/// Of a handle that was made elsewhere the client may have been accepted there.
#[test]
fn a_client_that_left_a_foreign_handle_is_its_end() {
    let mut events = Loop::new();
    let name = unique_name();
    let server = NamedPipe::new(&name).unwrap();
    let mut server = NamedPipe::try_from(server.as_handle().try_clone_to_owned().unwrap()).unwrap();
    drop(foreign_client(&name));
    events.add(&mut server, SERVER);
    assert!(events.until(SERVER, Event::is_readable).is_read_closed());
    assert_eq!(server.read(&mut [0; 8]).unwrap(), 0);
    // Asked for another, it has nothing left to tell of the first.
    events.registry().reregister(&mut server, SERVER, BOTH).unwrap();
    assert!(would_block(server.connect()));
    events.assert_quiet();
}

/// The kernel does not let such an end look, nor describe itself.
#[test]
fn a_server_that_only_writes_is_not_writable_before_its_client_has_come() {
    for (mode, interest) in [
        (PipeMode::Byte, BOTH),
        (PipeMode::Byte, Interest::WRITABLE),
        (PipeMode::Message, Interest::WRITABLE),
    ] {
        let mut events = Loop::new();
        let name = unique_name();
        let options = ServerOptions::new().access_inbound(false).pipe_mode(mode).clone();
        let client = || OpenOptions::new().read(true).open(&name).unwrap();
        let mut server = NamedPipe::create(&options, &name).unwrap();
        events.registry().register(&mut server, SERVER, interest).unwrap();
        events.assert_quiet();
        assert!(would_block(server.connect()));
        events.assert_quiet();
        let first = client();
        assert!(!events.until(SERVER, Event::is_writable).is_error());
        server.write_all(b"!").unwrap();
        drop((server, first));

        // One that left before the registration is passed over.
        let mut server = NamedPipe::create(&options, &name).unwrap();
        drop(client());
        events.registry().register(&mut server, SERVER, interest).unwrap();
        events.assert_quiet();
        assert!(would_block(server.connect()));
        events.assert_quiet();
        drop(server);

        // One that stays is connected; on a pipe of messages only a `connect` or a write finds out.
        let mut server = NamedPipe::create(&options, &name).unwrap();
        let mut client = client();
        events.registry().register(&mut server, SERVER, interest).unwrap();
        if mode == PipeMode::Message {
            events.assert_quiet();
            server.write_all(b"?").unwrap();
            client.read_exact(&mut [0]).unwrap();
        }
        events.until(SERVER, Event::is_writable);
        server.write_all(b"!").unwrap();
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"!", "looking for the client wrote nothing");
    }
}

#[test]
fn an_event_of_a_connect_does_not_outlive_its_connection() {
    let mut events = Loop::new();
    let name = unique_name();
    let mut server = NamedPipe::new(&name).unwrap();
    events.add(&mut server, SERVER);
    let _client = foreign_client(&name);
    server.connect().unwrap();
    server.disconnect().unwrap();
    assert!(would_block(server.connect()));
    events.assert_quiet();
}

#[test]
fn a_connect_that_ends_while_it_is_not_registered_shows_when_it_is_again() {
    let mut events = Loop::new();
    let name = unique_name();
    let mut server = NamedPipe::new(&name).unwrap();
    events.registry().register(&mut server, SERVER, Interest::READABLE).unwrap();
    assert!(would_block(server.connect()));
    events.registry().deregister(&mut server).unwrap();
    let _client = foreign_client(&name);
    events.assert_quiet();
    events.registry().register(&mut server, SERVER, Interest::READABLE).unwrap();
    events.until(SERVER, Event::is_writable);
    events.registry().deregister(&mut server).unwrap();
    events.registry().register(&mut server, SERVER, Interest::READABLE).unwrap();
    events.assert_quiet();
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

/// Each client leaves something behind that the next must not see: unread bytes, an unread answer,
/// an event.
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
