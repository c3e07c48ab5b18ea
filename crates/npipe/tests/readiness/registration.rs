//! What may be registered, and what is told of it from then on.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::windows::io::OwnedHandle;
use std::thread;
use std::time::Duration;

use npipe::readiness::event::Source;
use npipe::readiness::{Event, Events, Interest, NamedPipe, Poll, Registry, Token};
use npipe::{ClientOptions, PipeEnd, ServerOptions};
use windows_sys::Win32::Foundation::{ERROR_FILE_NOT_FOUND, ERROR_PIPE_LISTENING};

use crate::world::*;

#[test]
fn everything_would_block_before() {
    let name = unique_name();
    let mut server = NamedPipe::new(&name).unwrap();
    let mut client = NamedPipe::open(&ClientOptions::new(), &name).unwrap();
    assert!(would_block(server.connect()));
    for pipe in [&mut server, &mut client] {
        assert!(would_block(pipe.read(&mut [0; 8])));
        assert!(would_block(pipe.write(b"x")));
        assert!(would_block(pipe.drain()));
        pipe.flush().unwrap();
        assert!(pipe.take_error().unwrap().is_none());
    }
    assert_eq!(server.info().unwrap().end, PipeEnd::Server);
    assert_eq!(client.info().unwrap().end, PipeEnd::Client);
}

#[test]
fn errors_are_of_the_kinds_that_mio_gives() {
    let poll = Poll::new().unwrap();
    let other = Poll::new().unwrap();
    let mut pipe = NamedPipe::new(unique_name()).unwrap();
    let (registry, stranger) = (poll.registry(), other.registry());

    assert_kind(registry.reregister(&mut pipe, SERVER, BOTH), io::ErrorKind::NotFound);
    assert_kind(registry.deregister(&mut pipe), io::ErrorKind::NotFound);

    registry.register(&mut pipe, SERVER, BOTH).unwrap();
    assert_kind(registry.register(&mut pipe, SERVER, BOTH), io::ErrorKind::AlreadyExists);
    assert_kind(stranger.register(&mut pipe, SERVER, BOTH), io::ErrorKind::AlreadyExists);
    assert_kind(stranger.reregister(&mut pipe, SERVER, BOTH), io::ErrorKind::AlreadyExists);
    assert_kind(stranger.deregister(&mut pipe), io::ErrorKind::AlreadyExists);
    registry.reregister(&mut pipe, CLIENT, BOTH).unwrap();

    registry.deregister(&mut pipe).unwrap();
    assert_kind(registry.reregister(&mut pipe, SERVER, BOTH), io::ErrorKind::NotFound);
    assert_kind(registry.deregister(&mut pipe), io::ErrorKind::NotFound);
    assert_kind(stranger.register(&mut pipe, SERVER, BOTH), io::ErrorKind::AlreadyExists);
    registry.register(&mut pipe, SERVER, BOTH).unwrap();
}

#[test]
fn values_that_make_no_sense_are_refused() {
    let mut poll = Poll::new().unwrap();
    let mut pipe = NamedPipe::new(unique_name()).unwrap();
    let refused = poll.registry().register(&mut pipe, SERVER, Interest::ERROR);
    assert_kind(refused, io::ErrorKind::InvalidInput);
    let refused = Source::register(&mut pipe, poll.registry(), SERVER, Interest::ERROR);
    assert_kind(refused, io::ErrorKind::InvalidInput);
    poll.registry().register(&mut pipe, SERVER, BOTH).unwrap();
    let refused = poll.registry().reregister(&mut pipe, SERVER, Interest::ERROR);
    assert_kind(refused, io::ErrorKind::InvalidInput);

    let mut none = Events::with_capacity(0);
    assert_kind(poll.poll(&mut none, Some(Duration::ZERO)), io::ErrorKind::InvalidInput);
    assert_eq!(Events::with_capacity(usize::MAX).capacity(), usize::MAX);

    for name in ["", r"\\.\pipe\", "with\0nul", r"\\?\C:\file"] {
        assert_kind(NamedPipe::new(name).map(|_| name), io::ErrorKind::InvalidInput);
        let opened = NamedPipe::open(&ClientOptions::new(), name);
        assert_kind(opened.map(|_| name), io::ErrorKind::InvalidInput);
    }
    let options = ServerOptions::new().max_instances(0).clone();
    assert_kind(NamedPipe::create(&options, unique_name()), io::ErrorKind::InvalidInput);
    assert_code(NamedPipe::open(&ClientOptions::new(), unique_name()), ERROR_FILE_NOT_FOUND);
}

#[test]
fn a_name_whose_instances_all_exist_is_another_programs() {
    let name = unique_name();
    let _owner = NamedPipe::create(ServerOptions::new().max_instances(1), &name).unwrap();
    assert_kind(NamedPipe::new(&name), io::ErrorKind::PermissionDenied);
}

#[test]
fn a_handle_that_does_not_fit_is_refused_and_kept() {
    let poll = Poll::new().unwrap();
    let file = File::open(std::env::current_exe().unwrap()).unwrap();
    let name = unique_name();
    let _server = NamedPipe::new(&name).unwrap();
    NamedPipe::try_from(OwnedHandle::from(file)).unwrap_err();
    let mut pipe = NamedPipe::try_from(OwnedHandle::from(foreign_client(&name))).unwrap();
    assert!(poll.registry().register(&mut pipe, CLIENT, BOTH).is_err());
    assert_kind(poll.registry().deregister(&mut pipe), io::ErrorKind::NotFound);
    assert!(would_block(pipe.read(&mut [0; 8])));
}

#[test]
fn what_is_ready_already_is_told() {
    let mut events = Loop::new();
    let name = unique_name();
    let mut server = NamedPipe::new(&name).unwrap();
    let mut client = foreign_client(&name);
    client.write_all(b"early").unwrap();
    events.add(&mut server, SERVER);
    let (mut readable, mut writable) = (false, false);
    while !(readable && writable) {
        let told = events.poll(STEP);
        assert_eq!(told.len(), 1, "one pipe, one event: {told:?}");
        assert!(told[0].token() == SERVER && !told[0].is_read_closed());
        readable |= told[0].is_readable();
        writable |= told[0].is_writable();
    }
    assert_eq!(events.read(&server, SERVER, 5), b"early");
}

#[test]
fn a_server_without_a_client_is_not_ready_for_anything() {
    let mut events = Loop::new();
    let mut server = NamedPipe::new(unique_name()).unwrap();
    events.add(&mut server, SERVER);
    events.assert_quiet();
    assert!(would_block(server.read(&mut [0; 8])));
    assert_code(server.write(b"x"), ERROR_PIPE_LISTENING);
    events.assert_quiet();
}

#[test]
fn only_what_is_of_interest_is_told() {
    let mut events = Loop::new();
    let (server, mut client) = events.pair();
    events.registry().reregister(&mut client, CLIENT, Interest::READABLE).unwrap();
    events.assert_quiet();
    (&client).write_all(b"x").unwrap();
    events.until(SERVER, Event::is_readable);
    events.assert_quiet();

    events.registry().reregister(&mut client, Token(7), Interest::WRITABLE).unwrap();
    assert!(!events.until(Token(7), Event::is_writable).is_readable());
    (&server).write_all(b"yz").unwrap();
    assert!(events.settle().iter().all(|event| event.token() == SERVER));
    // Asked again, with what came meanwhile.
    events.registry().reregister(&mut client, Token(8), BOTH).unwrap();
    events.until(Token(8), Event::is_readable);
    assert_eq!(events.read(&client, Token(8), 1), b"y");
    // There is more to read, which was about to be told.
    events.registry().reregister(&mut client, Token(9), Interest::WRITABLE).unwrap();
    assert!(events.settle().iter().all(|event| event.is_writable() && !event.is_readable()));
}

#[test]
fn nothing_is_told_of_what_is_deregistered_or_dropped() {
    let mut events = Loop::new();
    let (mut server, mut client) = events.pair();
    events.registry().reregister(&mut server, SERVER, BOTH).unwrap();
    events.registry().reregister(&mut client, CLIENT, BOTH).unwrap();
    // Both have something to tell, and are about to.
    events.registry().deregister(&mut server).unwrap();
    drop(client);
    events.assert_quiet();
    assert!(would_block(server.read(&mut [0; 8])));
    assert!(would_block(server.write(b"x")));
    events.add(&mut server, Token(9));
    assert!(events.until(Token(9), Event::is_readable).is_writable());
    assert_eq!(server.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn bytes_that_came_while_it_was_deregistered_are_there_afterwards() {
    let mut events = Loop::new();
    let (server, mut client) = events.pair();
    events.registry().deregister(&mut client).unwrap();
    events.write(&server, SERVER, b"meanwhile");
    events.settle();
    events.add(&mut client, CLIENT);
    assert_eq!(events.read(&client, CLIENT, 9), b"meanwhile");
}

#[test]
fn another_thread_can_register_while_the_poll_waits() {
    let mut events = Loop::new();
    let registry = events.registry().try_clone().unwrap();
    let name = unique_name();
    let mut server = NamedPipe::new(&name).unwrap();
    let _client = foreign_client(&name);
    let registering = thread::spawn(move || {
        registry.register(&mut server, SERVER, BOTH).unwrap();
        server
    });
    events.until(SERVER, Event::is_writable);
    registering.join().unwrap();
}

#[test]
fn a_type_of_the_users_own_passes_registration_on() {
    struct Connection(NamedPipe);

    impl Source for Connection {
        fn register(&mut self, to: &Registry, token: Token, interests: Interest) -> io::Result<()> {
            self.0.register(to, token, interests)
        }

        fn reregister(&mut self, to: &Registry, token: Token, interests: Interest) -> io::Result<()> {
            self.0.reregister(to, token, interests)
        }

        fn deregister(&mut self, from: &Registry) -> io::Result<()> {
            self.0.deregister(from)
        }
    }

    let mut events = Loop::new();
    let name = unique_name();
    let mut server: Box<dyn Source> = Box::new(Connection(NamedPipe::new(&name).unwrap()));
    let _client = foreign_client(&name);
    events.registry().register(&mut server, SERVER, BOTH).unwrap();
    events.until(SERVER, Event::is_writable);
    events.registry().reregister(&mut server, CLIENT, BOTH).unwrap();
    events.until(CLIENT, Event::is_writable);
    events.registry().deregister(&mut server).unwrap();
    events.assert_quiet();
}
