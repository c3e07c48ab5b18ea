//! Packets on the driver's port that none of its operations caused: other holders of a pipe's file
//! object caused them, and they carry addresses of those holders.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::driver::Driver;
use crate::stream::tests::PLAIN;
use crate::stream::{Slice, Stream};
use crate::sys::{Entry, Pipe, Temper};

const SERVER: usize = 0;

struct Pair {
    driver: Arc<Driver>,
    pipe: Pipe,
    server: Stream,
    client: Stream,
}

impl Pair {
    fn new(final_with_packet: bool) -> Self {
        let driver = Driver::new().unwrap();
        let temper = Temper { seed: 1, final_with_packet, ..Temper::default() };
        let (pipe, server) = Pipe::create(false, 100, temper);
        let settings = PLAIN;
        let client = Stream::new(pipe.open().unwrap(), driver.clone(), settings).unwrap();
        let server = Stream::new(server, driver.clone(), settings).unwrap();
        Self { driver, pipe, server, client }
    }

    /// Dequeues everything. Returns the number of packets.
    fn turn(&self) -> usize {
        self.driver.turn(&mut [Entry::EMPTY; 64], Some(Duration::ZERO), &mut Vec::new()).unwrap()
    }

    /// Lets the operations that are in flight end, which own what they work on until then.
    fn end(self) {
        let Self { driver, server, client, .. } = self;
        drop((server, client));
        driver.turn(&mut [Entry::EMPTY; 8], Some(Duration::ZERO), &mut Vec::new()).unwrap();
    }

    fn read(&self) -> Poll<Vec<u8>> {
        let mut bytes = [0; 8];
        let mut destination = Slice { bytes: &mut bytes, filled: 0 };
        let read = self.server.poll_read(&Context::from_waker(Waker::noop()), &mut destination);
        read.map(|count| bytes[..count.unwrap()].to_vec())
    }
}

/// The one in twenty of these packets whose address is that of the read in flight does not complete
/// the read either.
#[test]
fn they_end_no_operation_of_ours() {
    for final_with_packet in [false, true] {
        let pair = Pair::new(final_with_packet);
        assert!(pair.read().is_pending());
        for _ in 0..20 {
            pair.pipe.end_foreign_operation(SERVER);
        }
        assert_eq!(pair.turn(), 20);
        assert!(pair.read().is_pending(), "the read was taken for over");
        assert_eq!(pair.client.try_write(&&b"all"[..]).unwrap(), 3);
        assert_eq!(pair.turn(), 1);
        assert_eq!(pair.read(), Poll::Ready(b"all".to_vec()));
        pair.end();
    }
}

/// Another packet may report an operation first, if its final status shows before its packet is
/// dequeued.
#[test]
fn an_operation_that_is_over_is_taken_once_whichever_packet_brings_it() {
    let pair = Pair::new(false);
    assert!(pair.read().is_pending());
    for _ in 0..20 {
        pair.pipe.end_foreign_operation(SERVER);
    }
    assert_eq!(pair.client.try_write(&&b"all"[..]).unwrap(), 3);
    assert_eq!(pair.turn(), 21);
    assert_eq!(pair.read(), Poll::Ready(b"all".to_vec()));
    assert!(pair.read().is_pending());
    pair.end();
}

#[test]
fn they_may_come_after_the_pipe_has_gone() {
    let Pair { driver, pipe, server, client } = Pair::new(true);
    drop(server);
    pipe.end_foreign_operation(SERVER);
    drop(client);
    pipe.end_foreign_operation(SERVER);
    assert_eq!(driver.turn(&mut [Entry::EMPTY; 8], Some(Duration::ZERO), &mut Vec::new()).unwrap(), 2);
}
