//! The poll itself: time-outs, capacity, wakers, several at once.

use std::io::{Read, Write};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use npipe::ClientOptions;
use npipe::readiness::{Event, Events, NamedPipe, Poll, Token, Waker};

use crate::world::*;

#[test]
fn time_outs_are_kept() {
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(4);
    for milliseconds in [0, 1, 40] {
        let timeout = Duration::from_millis(milliseconds);
        let start = Instant::now();
        poll.poll(&mut events, Some(timeout)).unwrap();
        assert!(events.is_empty());
        assert!(start.elapsed() >= timeout, "{:?} of {timeout:?}", start.elapsed());
        assert!(start.elapsed() < STEP);
    }
    poll.poll(&mut events, Some(Duration::from_nanos(1))).unwrap();
}

#[test]
fn a_time_out_is_not_cut_short_by_what_concerns_nobody() {
    let mut events = Loop::new();
    let (mut server, _client) = events.server_and_foreign_client();
    assert!(would_block(server.read(&mut [0; 8])));
    drop(server);
    // The packet of the read that was given up is in the port.
    let timeout = Duration::from_millis(40);
    let start = Instant::now();
    assert!(events.poll(timeout).is_empty());
    assert!(start.elapsed() >= timeout, "{:?}", start.elapsed());
}

#[test]
fn events_are_used_again_and_hold_no_more_than_their_capacity() {
    let mut events = Loop::new();
    let mut pipes = Vec::new();
    for number in 0..5 {
        let name = unique_name();
        let mut server = NamedPipe::new(&name).unwrap();
        let client = foreign_client(&name);
        events.add(&mut server, Token(number));
        pipes.push((server, client));
    }
    events.events = Events::with_capacity(2);
    assert!(events.events.is_empty());
    let told: Vec<_> =
        (0..3).map(|_| events.poll(STEP).iter().map(|event| event.token().0).collect::<Vec<_>>()).collect();
    assert_eq!(told, [vec![0, 1], vec![2, 3], vec![4]], "in the order in which they became ready");
    assert_eq!(events.events.capacity(), 2);
    assert_eq!((&events.events).into_iter().len(), 1);
    events.events.clear();
    assert!(events.events.is_empty());
    events.assert_quiet();
}

#[test]
fn a_waker_ends_a_poll_from_another_thread() {
    let mut events = Loop::new();
    let waker = Waker::new(events.registry(), Token(77)).unwrap();
    let waking = thread::spawn(move || {
        waker.wake().unwrap();
        waker
    });
    events.poll.poll(&mut events.events, None).unwrap();
    let told: Vec<_> = events.events.iter().collect();
    assert_eq!(told.len(), 1);
    assert!(told[0].token() == Token(77) && told[0].is_readable());
    let waker = waking.join().unwrap();

    events.assert_quiet();
    for _ in 0..3 {
        waker.wake().unwrap();
    }
    assert_eq!(events.poll(STEP).len(), 1, "wakes before the poll count as one");
    events.assert_quiet();
    waker.wake().unwrap();
    drop(waker);
    events.assert_quiet();
}

#[test]
fn thousands_of_wakes_from_another_thread_are_all_seen() {
    const WAKES: usize = 5000;
    let mut events = Loop::new();
    let waker = Waker::new(events.registry(), Token(0)).unwrap();
    let (seen, wait_seen) = mpsc::channel();
    let waking = thread::spawn(move || {
        for _ in 0..WAKES {
            waker.wake().unwrap();
            wait_seen.recv_timeout(STEP).unwrap();
        }
    });
    for _ in 0..WAKES {
        events.until(Token(0), Event::is_readable);
        seen.send(()).unwrap();
    }
    waking.join().unwrap();
}

#[test]
fn two_polls_in_one_thread_are_apart() {
    let (mut left, mut right) = (Loop::new(), Loop::new());
    let name = unique_name();
    let mut server = NamedPipe::new(&name).unwrap();
    let mut client = NamedPipe::open(&ClientOptions::new(), &name).unwrap();
    left.add(&mut server, SERVER);
    right.add(&mut client, CLIENT);
    left.settle();
    right.settle();
    for round in 0..100_u8 {
        left.write(&server, SERVER, &[round]);
        assert_eq!(right.read(&client, CLIENT, 1), [round]);
        right.write(&client, CLIENT, &[!round]);
        assert_eq!(left.read(&server, SERVER, 1), [!round]);
    }
}

#[test]
fn a_busy_list_does_not_keep_the_poll_from_its_port() {
    let mut events = Loop::new();
    let waker = Waker::new(events.registry(), Token(0)).unwrap();
    let (mut server, mut client) = events.server_and_foreign_client();
    assert!(would_block(server.read(&mut [0; 8])));
    client.write_all(b"x").unwrap();
    for polls in 0.. {
        assert!(polls < 10, "an event that never stops being told hides the others");
        waker.wake().unwrap();
        if events.poll(STEP).iter().any(|event| event.token() == SERVER && event.is_readable()) {
            break;
        }
    }
}

#[test]
fn several_wakers_of_one_poll_are_all_told() {
    let mut events = Loop::new();
    let tokens = [Token(70), Token(71)];
    let wakers = tokens.map(|token| Waker::new(events.registry(), token).unwrap());
    for waker in &wakers {
        waker.wake().unwrap();
    }
    let mut told: Vec<Token> = events.settle().iter().map(Event::token).collect();
    told.sort();
    assert_eq!(told, tokens);
}
