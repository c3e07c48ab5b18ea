//! A wait until the peer has read everything, against each thing that can end it.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::peer::Peer;
use crate::driver::{Driver, Waiting};
use crate::stream::Stream;
use crate::stream::tests::PLAIN;
use crate::sys::{Entry, Pipe, Temper};

struct Pair {
    driver: Arc<Driver>,
    pipe: Pipe,
    server: Peer,
    client: Peer,
}

impl Pair {
    fn new() -> Self {
        let driver = Driver::new().unwrap();
        let temper = Temper { seed: 1, ..Temper::default() };
        let (pipe, server) = Pipe::create(false, 100, temper);
        let settings = PLAIN;
        let client = Peer::new(Stream::new(pipe.open().unwrap(), driver.clone(), settings).unwrap());
        let server = Peer::new(Stream::new(server, driver.clone(), settings).unwrap());
        Self { driver, pipe, server, client }
    }

    /// A pair whose server waits until what it has written is read.
    fn draining() -> Self {
        let mut pair = Self::new();
        assert!(matches!(pair.server.write(b"unread"), Poll::Ready(Ok(6))));
        assert!(pair.server.drain().is_pending());
        pair
    }

    /// Lets the operations that are in flight end, which own what they work on until then.
    fn end(self) {
        let Self { driver, pipe: _, server, client } = self;
        drop((server, client));
        driver.turn(&mut [Entry::EMPTY; 8], Some(Duration::ZERO), &mut Vec::new()).unwrap();
    }

    fn turn(&self) {
        let mut wake = Vec::new();
        self.driver.turn(&mut [Entry::EMPTY; 8], Some(Duration::ZERO), &mut wake).unwrap();
        wake.into_iter().for_each(Waiting::wake);
    }

    /// Whether the drain, polled only if it was woken, is over.
    fn drained(&mut self) -> bool {
        self.turn();
        self.server.drainer.may_poll()
            && match self.server.drain() {
                Poll::Ready(result) => {
                    result.unwrap();
                    true
                }
                Poll::Pending => false,
            }
    }
}

#[test]
fn it_is_over_when_the_last_byte_has_been_read() {
    let mut pair = Pair::draining();
    assert!(matches!(pair.client.read(5), Poll::Ready(Ok(bytes)) if bytes.len() <= 5));
    while !pair.drained() {
        assert!(pair.client.read(5).is_ready(), "the drain goes on although everything was read");
    }
    assert!(pair.pipe.is_quiet());
}

#[test]
fn it_waits_for_what_was_written_before_it_and_not_for_what_came_later() {
    let mut pair = Pair::draining();
    // More than the reader takes ahead, so that some of it stays in the pipe.
    while pair.server.write(&[7; 60]).is_ready() {
        pair.turn();
    }
    while !pair.drained() {
        assert!(pair.client.read(1).is_ready(), "the drain goes on although what preceded it was read");
    }
    assert!(!pair.pipe.is_quiet(), "a later write is unread");
    pair.end();
}

#[test]
fn without_anything_unread_it_is_over_at_once() {
    assert!(matches!(Pair::new().server.drain(), Poll::Ready(Ok(()))));
}

#[test]
fn one_that_somebody_cancels_asks_again() {
    let mut pair = Pair::draining();
    pair.pipe.abort(0);
    assert!(!pair.drained(), "nobody has read");
    while pair.client.read(6).is_ready() {}
    assert!(pair.drained());
    pair.end();
}

#[test]
fn dropping_it_leaves_nothing_in_flight_and_the_bytes_in_the_pipe() {
    let mut pair = Pair::draining();
    pair.server.stop_draining();
    assert!(pair.pipe.is_quiet());
    assert!(matches!(pair.client.read(6), Poll::Ready(Ok(bytes)) if bytes == b"unread"));
    pair.end();
}

#[test]
fn the_end_of_the_peer_ends_it() {
    let mut pair = Pair::draining();
    pair.client = Pair::new().client;
    pair.turn();
    assert!(matches!(pair.server.drain(), Poll::Ready(Err(_))));
}

#[test]
fn its_pipe_may_go_first() {
    let Pair { driver, pipe, server, client } = Pair::draining();
    let core = Arc::downgrade(&server.stream.core);
    drop(server);
    assert!(!pipe.is_open(0), "closed when it was dropped, and not when its packet comes");
    driver.turn(&mut [Entry::EMPTY; 8], Some(Duration::ZERO), &mut Vec::new()).unwrap();
    assert_eq!(core.strong_count(), 0);
    drop(client);
}
