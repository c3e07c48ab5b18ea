//! A `Poll` attached to a loop of mio's.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use npipe::readiness::{Event, Events, NamedPipe, Poll, Token};

use crate::world::*;

const PIPES: mio::Token = mio::Token(1000);

/// A loop of mio's with a `Poll` of ours beside it.
struct Both {
    mio: mio::Poll,
    mio_events: mio::Events,
    ours: Loop,
}

impl Both {
    fn new() -> Self {
        let mio = mio::Poll::new().unwrap();
        let waker = Arc::new(mio::Waker::new(mio.registry(), PIPES).unwrap());
        let ours = Loop::on(Poll::attach(waker).unwrap());
        Self { mio, mio_events: mio::Events::with_capacity(16), ours }
    }

    /// One turn of the loop: what mio's waker announced.
    fn turn(&mut self, timeout: Duration) -> Vec<Event> {
        self.mio.poll(&mut self.mio_events, Some(timeout)).unwrap();
        match self.mio_events.iter().next() {
            None => Vec::new(),
            Some(event) => {
                assert_eq!(event.token(), PIPES);
                self.ours.poll(Duration::ZERO)
            }
        }
    }

    #[track_caller]
    fn until(&mut self, token: Token, wanted: fn(&Event) -> bool) {
        loop {
            let events = self.turn(STEP);
            assert!(!self.mio_events.is_empty(), "mio was not woken within {STEP:?}");
            if events.iter().any(|event| event.token() == token && wanted(event)) {
                return;
            }
        }
    }
}

#[test]
fn the_loop_is_woken_for_everything_that_becomes_ready() {
    let mut both = Both::new();
    let name = unique_name();
    let mut server = NamedPipe::new(&name).unwrap();
    both.ours.add(&mut server, SERVER);
    assert!(would_block(server.connect()));
    assert!(both.turn(QUIET).is_empty());
    let mut client = foreign_client(&name);
    both.until(SERVER, Event::is_writable);
    for round in 0..1000_u32 {
        client.write_all(&round.to_le_bytes()).unwrap();
        let mut question = [0; 4];
        while would_block(server.read(&mut question)) {
            both.until(SERVER, Event::is_readable);
        }
        assert_eq!(question, round.to_le_bytes());
        while would_block(server.write(&question)) {
            both.until(SERVER, Event::is_writable);
        }
        client.read_exact(&mut question).unwrap();
    }
    drop(client);
    let end = loop {
        match server.read(&mut [0; 4]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                both.until(SERVER, Event::is_readable);
            }
            end => break end,
        }
    };
    assert_eq!(end.unwrap(), 0);
}

#[test]
fn events_that_had_no_room_are_announced_again() {
    let mut both = Both::new();
    let mut pipes = Vec::new();
    for number in 0..5 {
        let name = unique_name();
        let mut server = NamedPipe::new(&name).unwrap();
        let client = foreign_client(&name);
        both.ours.add(&mut server, Token(number));
        pipes.push((server, client));
    }
    both.ours.events = Events::with_capacity(2);
    let mut told = Vec::new();
    while told.len() < pipes.len() {
        let events = both.turn(STEP);
        assert!(!events.is_empty());
        told.extend(events.iter().map(|event| event.token().0));
    }
    assert_eq!(told, [0, 1, 2, 3, 4]);
}

#[test]
fn an_attached_poll_does_not_wait_itself() {
    let mut both = Both::new();
    for timeout in [None, Some(Duration::from_millis(1))] {
        let waited = both.ours.poll.poll(&mut both.ours.events, timeout);
        assert_kind(waited, io::ErrorKind::InvalidInput);
    }
}
