//! The result of a read: the count of the bytes that it appended, for each kind of buffer, and the
//! place in a message after a read whose rest was not there.

use std::io::{ErrorKind, IoSliceMut};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{BufMut, BytesMut};

use super::peer::Waiter;
use crate::driver::{Driver, Waiting};
use crate::interest::Interest;
use crate::machine::Framing;
use crate::stream::tests::PLAIN;
use crate::stream::{Destination, Growing, Key, Settings, Slice, Slices, Stream};
use crate::sys::{Entry, Pipe, Temper};

const CALM: Temper = Temper::PLAIN;

/// Two ends on a driver that the test turns.
struct Pair {
    driver: std::sync::Arc<Driver>,
    pipe: Pipe,
    reader: Stream,
    writer: Option<Stream>,
}

impl Pair {
    fn new(framing: Framing, temper: Temper) -> Self {
        let driver = Driver::new().unwrap();
        let (pipe, server) = Pipe::create(framing == Framing::Messages, 1 << 26, temper);
        let settings =
            Settings { reads: framing, writes: framing, read_limit: 1 << 18, write_limit: 1 << 18, ..PLAIN };
        let writer = Stream::new(pipe.open().unwrap(), driver.clone(), settings).unwrap();
        let reader = Stream::new(server, driver.clone(), settings).unwrap();
        Self { driver, pipe, reader, writer: Some(writer) }
    }

    fn write(&self, bytes: &[u8]) {
        let writer = self.writer.as_ref().expect("the writer is there");
        assert_eq!(writer.try_write(&bytes).unwrap(), bytes.len());
    }

    fn turn(&self) {
        let mut wake = Vec::new();
        self.driver.turn(&mut [Entry::EMPTY; 4], Some(Duration::ZERO), &mut wake).unwrap();
        wake.into_iter().for_each(Waiting::wake);
        self.pipe.settle();
    }

    /// Reads "hello", with the traits' poll function or without waiting, then nothing, then the
    /// end.
    fn reads_hello(mut self, polls: bool, destination: &mut dyn Destination, what: &str) {
        let mut read = |pair: &Self| {
            if !polls {
                return pair.reader.try_read(destination).map_err(|error| error.kind());
            }
            match pair.reader.poll_read(&Context::from_waker(Waker::noop()), destination) {
                Poll::Ready(count) => count.map_err(|error| error.kind()),
                Poll::Pending => Err(ErrorKind::WouldBlock),
            }
        };
        self.write(b"hello");
        assert_eq!(read(&self), Ok(5), "{what}");
        assert_eq!(read(&self), Err(ErrorKind::WouldBlock), "{what}");
        self.write(b"again");
        self.turn();
        assert_eq!(read(&self), Ok(5), "{what}");
        self.write(b"last");
        self.writer = None;
        for _ in 0..3 {
            self.turn();
        }
        assert_eq!(read(&self), Ok(4), "{what}");
        assert_eq!(read(&self), Ok(0), "{what}");
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.writer = None;
        self.reader.disconnect().ok();
        for _ in 0..4 {
            self.turn();
        }
    }
}

const ALL: &[u8] = b"helloagainlast";

fn each_way(test: impl Fn(Pair, bool)) {
    for framing in [Framing::Bytes, Framing::Messages] {
        for polls in [false, true] {
            test(Pair::new(framing, CALM), polls);
        }
    }
}

#[test]
fn a_read_returns_what_it_appended_to_a_buffer_that_grows() {
    each_way(|pair, polls| {
        let mut buffer = Vec::new();
        pair.reads_hello(polls, &mut Growing::new(&mut buffer), "Vec");
        assert_eq!(buffer, ALL);
    });
    each_way(|pair, polls| {
        let mut buffer = BytesMut::new();
        pair.reads_hello(polls, &mut Growing::new(&mut buffer), "BytesMut");
        assert_eq!(buffer, ALL);
    });
    each_way(|pair, polls| {
        let mut buffer = Vec::new().limit(100);
        pair.reads_hello(polls, &mut Growing::new(&mut buffer), "Limit");
        assert_eq!(buffer.into_inner(), ALL);
    });
    each_way(|pair, polls| {
        let mut buffer = BytesMut::new().limit(3).chain_mut(Vec::new());
        pair.reads_hello(polls, &mut Growing::new(&mut buffer), "Chain");
        let (first, last) = buffer.into_inner();
        assert_eq!([&first.into_inner()[..], &last].concat(), ALL);
    });
}

#[test]
fn a_read_returns_what_it_copied_into_slices() {
    each_way(|pair, polls| {
        let mut buffer = [0; 100];
        pair.reads_hello(polls, &mut Slice { bytes: &mut buffer, filled: 0 }, "Slice");
        assert_eq!(&buffer[..ALL.len()], ALL);
    });
    each_way(|pair, polls| {
        let (mut first, mut last) = ([0; 3], [0; 97]);
        let mut slices = [&mut [][..], &mut first, &mut last].map(IoSliceMut::new);
        pair.reads_hello(polls, &mut Slices::new(&mut slices), "Slices");
        assert_eq!([&first[..], &last].concat()[..ALL.len()], *ALL);
    });
}

#[test]
fn one_read_appends_64_kib_at_most() {
    let pair = Pair::new(Framing::Bytes, CALM);
    for _ in 0..4 {
        pair.write(&[7; 1 << 16]);
    }
    let (mut buffer, mut count) = (Vec::new(), 0);
    while buffer.len() < 1 << 18 {
        let read = pair.reader.try_read(&mut Growing::new(&mut buffer)).unwrap();
        assert!((1..=1 << 16).contains(&read), "{read}");
        count += read;
        assert_eq!(buffer.len(), count);
    }
}

/// On another machine's pipe the rest of a message may come later than its beginning.
#[test]
fn a_message_whose_rest_is_not_there_yet_goes_on_with_the_next_read() {
    let mut outran = 0;
    for seed in 1..if cfg!(miri) { 4 } else { 200 } {
        let pair = Pair::new(Framing::Messages, Temper { seed, splits: true, ..CALM });
        pair.write(&[1; 3000]);
        pair.write(&[2; 10]);
        let mut received = Vec::new();
        while received.len() < 3000 {
            let mut buffer = [0; 2500];
            match pair.reader.try_read(&mut Slice { bytes: &mut buffer, filled: 0 }) {
                Ok(count) => received.extend_from_slice(&buffer[..count]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            let whole = received.len() == 3000;
            outran += u32::from(!whole && received.len() != 2500);
            assert_eq!(pair.reader.is_message_complete(), whole, "seed {seed}: {} bytes", received.len());
            pair.turn();
        }
        assert_eq!(received, [1; 3000], "seed {seed}");
        let mut next = BytesMut::new();
        let context = Context::from_waker(Waker::noop());
        let mut receive = || pair.reader.poll_recv_message(&context, Key::POLL, &mut next, usize::MAX);
        while receive().is_pending() {
            pair.turn();
        }
        assert_eq!(next, [2; 10][..], "seed {seed}");
    }
    assert!(cfg!(miri) || outran > 10, "the rest was there nearly every time");
}

/// Polls until there is a result, and returns how often there was none although nothing had to be
/// waited for.
fn turns_until_ready<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> (T, usize) {
    let (mut waiter, mut turns) = (Waiter::default(), 0);
    loop {
        match waiter.poll(&mut poll) {
            Poll::Ready(result) => return (result, turns),
            Poll::Pending => assert!(waiter.may_poll(), "a task that yields was not woken"),
        }
        turns += 1;
    }
}

/// A peer queues as many empty messages as it likes. One poll passes over few of them.
#[test]
#[cfg_attr(miri, ignore = "takes thousands of messages")]
fn empty_messages_are_passed_over_in_many_turns() {
    const EMPTY: usize = 3000;
    const LEAST_TURNS: usize = EMPTY / 100;
    let flooded = || {
        let pair = Pair::new(Framing::Messages, CALM);
        (0..EMPTY).for_each(|_| pair.write(b""));
        pair.write(b"behind");
        pair
    };
    let pair = flooded();
    let mut buffer = [0; 10];
    let (count, turns) = turns_until_ready(|context| {
        pair.reader.poll_read(context, &mut Slice { bytes: &mut buffer, filled: 0 })
    });
    assert!(count.unwrap() == 6 && turns >= LEAST_TURNS, "{turns} turns");

    let pair = flooded();
    let mut read = pin!(pair.reader.read_owned(BytesMut::with_capacity(10)));
    let (bytes, turns) = turns_until_ready(|context| read.as_mut().poll(context));
    assert!(bytes.unwrap() == b"behind"[..] && turns >= LEAST_TURNS, "{turns} turns");

    let pair = flooded();
    let calls = std::cell::Cell::new(0);
    let read = || {
        calls.set(calls.get() + 1);
        pair.reader.try_read(&mut Slice { bytes: &mut buffer, filled: 0 })
    };
    let mut read = pin!(pair.reader.async_io(Interest::READABLE, read));
    let (count, turns) = turns_until_ready(|context| read.as_mut().poll(context));
    assert!(turns >= LEAST_TURNS, "{turns} turns");
    assert!(count.unwrap() == 6 && calls.get() >= LEAST_TURNS, "{} calls", calls.get());
}

#[test]
#[cfg_attr(miri, ignore = "moves 32 MiB")]
fn a_refused_message_is_discarded_in_many_turns() {
    let length = 32 << 20;
    let refused = || {
        let pair = Pair::new(Framing::Messages, CALM);
        pair.write(&vec![0; length]);
        pair.write(b"behind");
        let mut buffer = BytesMut::new();
        let mut receive =
            |context: &mut Context<'_>| pair.reader.poll_recv_message(context, Key::POLL, &mut buffer, 1000);
        assert!(turns_until_ready(&mut receive).0.is_err());
        pair
    };
    let pair = refused();
    let mut buffer = BytesMut::new();
    let (received, turns) =
        turns_until_ready(|context| pair.reader.poll_recv_message(context, Key::POLL, &mut buffer, 1000));
    assert!(received.unwrap() == Some(6) && turns >= 5, "{turns} turns");

    let pair = refused();
    let ((), turns) =
        turns_until_ready(|context| pair.reader.poll_readable(context, Key::POLL, None).map(|_| ()));
    assert!(turns >= 5, "{turns} turns");
}

#[test]
fn buffers_that_are_given_away_are_filled_one_after_the_other() {
    for framing in [Framing::Bytes, Framing::Messages] {
        let pair = Pair::new(framing, CALM);
        pair.write(b"abcdefgh");
        let buffers = Vec::from([4, 3, 8].map(BytesMut::with_capacity));
        let mut read = pin!(pair.reader.read_owned_vectored(buffers));
        let Poll::Ready(Ok(read)) = read.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("the bytes are there");
        };
        assert_eq!(read, [&b"abcd"[..], b"efg", b"h"], "{framing:?}");
    }
}
