//! Random sequences of the operations behind the public methods, on two connected ends, compared
//! with a model of what was sent.
//!
//! The public types exist on Windows; this applies what they call. Each end is used as by one of
//! the three APIs: with futures, some of which are dropped after one poll; without a queue, as by
//! the readiness API; or at rest, from the calling thread. The integration test `combinations` does
//! the same with the public methods on real pipes.

use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::model::{Direction, Zero};
use super::schedules::{schedules, seed};
use crate::driver::{Driver, Waiting};
use crate::error::MessageTooLong;
use crate::halves::split;
use crate::machine::{Framing, verdict};
use crate::stream::tests::PLAIN;
use crate::stream::{Core, Key, Settings, Slice, Stream};
use crate::sync::lock;
use crate::sys::{self, Entry, Packets, Pipe, Temper};

const SERVER: usize = 0;
const CLIENT: usize = 1;

/// Of the ways to read: what has no result after one poll is dropped.
const GIVES_UP: usize = 4;

/// The API that an end is used by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Api {
    Async,
    Readiness,
    Blocking,
}

#[derive(Debug, Clone)]
struct Plan {
    seed: u64,
    bits: u16,
    sizes: [usize; 3],
    steps: Vec<(u8, u16)>,
}

impl Plan {
    fn bit(&self, place: u8) -> bool {
        self.bits & (1 << place) != 0
    }

    fn messages(&self) -> bool {
        self.bit(0)
    }

    fn splits(&self) -> bool {
        self.bit(1)
    }
}

struct End {
    stream: Stream,
    api: Api,
    zero: Zero,
    /// A message was refused, and its rest may still be in the pipe.
    refused: bool,
}

struct World {
    plan: Plan,
    driver: Arc<Driver>,
    pipe: Pipe,
    settings: Settings,
    ends: [Option<End>; 2],
    /// By the end that sends.
    directions: [Direction; 2],
    cores: Vec<Weak<Core>>,
}

fn now<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

impl World {
    fn new(plan: Plan) -> Self {
        let driver = Driver::new().unwrap();
        let temper = Temper {
            seed: plan.seed,
            splits: plan.splits(),
            hesitates: plan.bit(2),
            cancels_late: plan.bit(3),
            final_with_packet: plan.bit(4),
            ..Temper::default()
        };
        let [quota, read_limit, write_limit] = plan.sizes;
        let (pipe, server) = Pipe::create(plan.messages(), quota, temper);
        let framing = Framing::of(plan.messages());
        let settings = Settings {
            reads: framing,
            writes: framing,
            read_limit,
            write_limit,
            packets: if plan.bit(5) { Packets::OfAll } else { Packets::OfPending },
            ..PLAIN
        };
        let client = pipe.open().unwrap();
        let directions = [1, 2].map(|seed| Direction::new(plan.messages(), seed));
        let api = [6, 7].map(|bit| if plan.bit(bit) { Api::Async } else { Api::Readiness });
        let mut world =
            Self { plan, driver, pipe, settings, ends: [None, None], directions, cores: Vec::new() };
        world.place(SERVER, server, api[SERVER]);
        world.place(CLIENT, client, api[CLIENT]);
        world
    }

    /// Makes an end of a handle.
    fn place(&mut self, end: usize, handle: sys::OwnedHandle, api: Api) {
        let stream = Stream::new(handle, self.driver.clone(), self.settings).unwrap();
        if api == Api::Readiness {
            stream.stop_queueing();
        }
        self.cores.push(Arc::downgrade(&stream.core));
        self.ends[end] = Some(End { stream, api, zero: Zero::End, refused: false });
    }

    fn pump(&mut self, count: usize) -> bool {
        let mut wake = Vec::new();
        let mut entries = vec![Entry::EMPTY; count];
        let packets = self.driver.turn(&mut entries, Some(Duration::ZERO), &mut wake).unwrap();
        wake.into_iter().for_each(Waiting::wake);
        packets > 0
    }

    /// Everything that can end without another call ends.
    fn settle(&mut self) {
        while self.pump(8) {
            self.pipe.settle();
        }
        self.pipe.settle();
        while self.pump(8) {}
    }

    /// Whether all that `end` has written is in the pipe or has been read. Not known of one that
    /// lingers.
    fn is_written(&self, end: usize) -> bool {
        self.ends[end].as_ref().is_some_and(|end| lock(&end.stream.core.outbound).machine.is_idle())
    }

    fn write(&mut self, end: usize, length: usize, way: usize) {
        let direction = &mut self.directions[end];
        let Some(this) = &self.ends[end] else { return };
        let bytes = direction.next_bytes(length);
        let stream = &this.stream;
        let context = Context::from_waker(Waker::noop());
        let blocks = this.api == Api::Blocking;
        if blocks && stream.poll_flush(&context, Key::POLL).is_pending() {
            return;
        }
        let written = match way % 4 {
            0 => stream.poll_write(&context, &bytes.as_slice()),
            1 if !blocks => {
                let mut first = Bytes::from(bytes);
                let pieces = vec![first.split_to(length / 3), Bytes::new(), first];
                now(stream.write_owned(pieces)).map_ok(|()| length)
            }
            2 if self.plan.messages() => now(stream.send_message(&bytes)).map_ok(|()| length),
            _ => match stream.try_write(&bytes.as_slice()) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Poll::Pending,
                result => Poll::Ready(result),
            },
        };
        match written {
            Poll::Ready(Ok(count)) => {
                assert!(!self.plan.messages() || count == length, "a message was cut");
                assert!(length == 0 || count > 0, "a write of bytes took nothing");
                direction.accept(count);
            }
            Poll::Ready(Err(error)) => {
                assert!(direction.is_ended || self.ends[1 - end].is_none(), "a write failed: {error}");
            }
            Poll::Pending => {}
        }
    }

    /// Reads as the thread of a caller does, without waiting.
    fn read_on_thread(stream: &Stream, bytes: &mut [u8]) -> Poll<std::io::Result<usize>> {
        loop {
            if let Some(count) = stream.read_rest(&mut Slice { bytes, filled: 0 })? {
                return Poll::Ready(Ok(count));
            }
            let Some(outcome) = sys::read_now(stream.handle(), bytes) else { return Poll::Pending };
            let goes_on = match verdict::read(outcome.code) {
                verdict::Read::MessageGoesOn => true,
                verdict::Read::Complete => false,
                verdict::Read::EndOfFile => {
                    stream.on_thread_read(0, false);
                    return Poll::Ready(Ok(0));
                }
                other => panic!("{other:?}"),
            };
            if stream.on_thread_read(outcome.bytes, goes_on) {
                return Poll::Ready(Ok(outcome.bytes));
            }
        }
    }

    fn receive_on_thread(stream: &Stream, limit: usize) -> Poll<std::io::Result<Option<BytesMut>>> {
        let mut buffer = BytesMut::new();
        loop {
            while stream.discard_refused() {}
            if let Some(received) = stream.recv_now(&mut buffer, limit)? {
                return Poll::Ready(Ok(received.map(|_| buffer)));
            }
            let mut bytes = vec![0; 512];
            let Some(outcome) = sys::read_now(stream.handle(), &mut bytes) else { return Poll::Pending };
            let Some(mut message) = stream.on_thread_received(outcome.code, &bytes[..outcome.bytes]) else {
                continue;
            };
            message.extend_from_slice(&bytes[..outcome.bytes]);
            if message.len() > limit {
                return Poll::Ready(Err(MessageTooLong::new(message.len(), limit).into()));
            }
            return Poll::Ready(Ok(Some(BytesMut::from(&message[..]))));
        }
    }

    /// Reads once. Returns whether there was a result.
    fn read_once(&mut self, end: usize, room: usize, way: usize) -> bool {
        let Some(this) = &self.ends[end] else { return true };
        let (stream, direction) = (&this.stream, &mut self.directions[1 - end]);
        let mut bytes = vec![0; room];
        let context = Context::from_waker(Waker::noop());
        let count = match way % 4 {
            _ if this.api == Api::Blocking => Self::read_on_thread(stream, &mut bytes),
            0 => stream.poll_read(&context, &mut Slice { bytes: &mut bytes, filled: 0 }),
            1 => now(stream.read_owned(BytesMut::with_capacity(room))).map_ok(|read| {
                bytes = read.to_vec();
                read.len()
            }),
            2 if stream.poll_readable(&context, Key::POLL, None).is_pending() => Poll::Pending,
            _ => match stream.try_read(&mut Slice { bytes: &mut bytes, filled: 0 }) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Poll::Pending,
                result => Poll::Ready(result),
            },
        };
        match count {
            Poll::Ready(Ok(count)) => {
                direction.read(&bytes[..count], room, this.zero, self.plan.splits());
                assert!(
                    !self.plan.messages() || stream.is_message_complete() == direction.is_message_complete(),
                    "the place in the message was lost"
                );
                true
            }
            Poll::Ready(Err(error)) => panic!("a read failed: {error}"),
            Poll::Pending => {
                direction.read_waits(this.zero);
                false
            }
        }
    }

    fn receive_once(&mut self, end: usize, limit: usize) -> bool {
        let Some(this) = &mut self.ends[end] else { return true };
        let direction = &mut self.directions[1 - end];
        let received = if this.api == Api::Blocking {
            Self::receive_on_thread(&this.stream, limit)
        } else {
            let mut buffer = BytesMut::from(&b"before"[..]);
            let received = now(this.stream.recv_message(&mut buffer, limit));
            let message = buffer.split_off(b"before".len());
            match received {
                Poll::Ready(Ok(Some(length))) => assert_eq!(length, message.len()),
                _ => assert!(message.is_empty(), "a part of a message was given"),
            }
            received.map_ok(|received| received.map(|_| message))
        };
        this.refused = false;
        match received {
            Poll::Ready(Ok(Some(message))) => direction.receive(&message),
            Poll::Ready(Ok(None)) => direction.receive_end(),
            Poll::Ready(Err(error)) => {
                let refused = error.get_ref().and_then(|error| error.downcast_ref::<MessageTooLong>());
                let refused = refused.unwrap_or_else(|| panic!("receiving failed: {error}"));
                direction.refuse(refused.length(), limit);
                this.refused = true;
            }
            Poll::Pending => return false,
        }
        true
    }

    /// Reads or receives. What has no result is given up, or goes on until there is one if the
    /// model says so.
    fn take(&mut self, end: usize, whole: bool, size: usize, way: usize) {
        let gives_up = way & GIVES_UP != 0;
        for attempt in 0.. {
            let taken = if whole {
                self.receive_once(end, size)
            } else {
                self.read_once(end, size.clamp(1, 3000), way)
            };
            let zero = self.ends[end].as_ref().map_or(Zero::End, |end| end.zero);
            let direction = &self.directions[1 - end];
            let is_there = if whole { direction.has_message() } else { direction.has_bytes(zero) };
            if taken || gives_up || !is_there {
                return;
            }
            assert!(attempt < 100, "what was sent does not arrive");
            self.settle();
        }
    }

    fn peek(&mut self, end: usize) {
        self.settle();
        let written = self.is_written(1 - end);
        let Some(this) = &self.ends[end] else { return };
        let direction = &self.directions[1 - end];
        match this.stream.peek() {
            Ok(peek) => {
                let is_exact = direction.is_peeked(peek.bytes_available, peek.bytes_left_in_message);
                assert!(is_exact || !written || this.refused, "{peek:?} of {direction:?}");
            }
            Err(error) => assert!(direction.is_closed && direction.unread() == 0, "a peek failed: {error}"),
        }
    }

    /// Goes over to another API, if all that was written is in the pipe.
    fn convert(&mut self, end: usize, api: Api) {
        self.settle();
        if !self.is_written(end) {
            return;
        }
        let Some(mut this) = self.ends[end].take() else { return };
        {
            let mut rest = pin!(this.stream.rest());
            let mut turns = 0..100;
            while rest.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
                assert!(turns.next().is_some(), "a stream does not come to rest");
                self.settle();
            }
        }
        let is_same = (this.api, api) != (Api::Readiness, api) && api != Api::Readiness;
        if is_same {
            this.api = api;
            self.ends[end] = Some(this);
            return;
        }
        if this.refused && self.plan.splits() {
            // The rest of a refused message that is not there yet cannot be discarded.
            self.ends[end] = Some(this);
            return;
        }
        let (handle, read_ahead) = this.stream.surrender().unwrap();
        self.directions[1 - end].release(&read_ahead);
        // A handle does not carry this.
        self.directions[end].is_ended = false;
        self.place(end, handle, if api == Api::Blocking { Api::Async } else { api });
        if api == Api::Blocking {
            self.convert(end, api);
        }
    }

    fn split_and_reunite(&mut self, end: usize) {
        let Some(this) = self.ends[end].take() else { return };
        let (reader, writer) = split(this);
        // Reads ahead, which only ends on a port do.
        let _ = reader.as_ref().api != Api::Blocking && writer.as_ref().stream.is_readable();
        self.ends[end] = reader.reunite(writer).ok();
        assert!(self.ends[end].is_some(), "the halves are of one end");
    }

    fn close_write(&mut self, end: usize) {
        self.settle();
        let Some(this) = &self.ends[end] else { return };
        let was_ended = this.stream.is_write_ended();
        match now(this.stream.close_write(None)) {
            Poll::Ready(Ok(())) if !was_ended => {
                self.directions[end].accept(0);
                self.directions[end].is_ended = true;
            }
            Poll::Ready(Ok(())) | Poll::Pending => {}
            Poll::Ready(Err(error)) => {
                // Ended or not: nothing can be written.
                return assert!(self.ends[1 - end].is_none(), "{error}");
            }
        }
        let is_ended = self.directions[end].is_ended;
        assert!(this.stream.is_write_ended() == is_ended || self.ends[1 - end].is_none());
    }

    fn set_empty_message_is_end(&mut self, end: usize, is_end: bool) {
        let Some(this) = &mut self.ends[end] else { return };
        this.stream.set_empty_message_is_end(is_end).unwrap();
        this.zero = if is_end { Zero::EmptyMessage } else { Zero::End };
    }

    fn close(&mut self, end: usize) {
        if self.ends[end].take().is_some() {
            self.directions[end].is_closed = true;
        }
    }

    fn step(&mut self, what: u8, how: u16) {
        let end = usize::from(how & 1);
        let way = usize::from(how >> 1 & 7);
        let size = usize::from(how >> 4);
        let messages = self.plan.messages();
        match what % 24 {
            0..=5 => self.write(end, size % 1500, way),
            6 if messages => self.write(end, 0, way),
            7..=11 => self.take(end, false, size % 3000, way),
            12..=14 if messages => self.take(end, true, size % 3000, way),
            15 => self.peek(end),
            16 => self.convert(end, [Api::Async, Api::Readiness, Api::Blocking][way % 3]),
            17 => self.split_and_reunite(end),
            18 if messages && size % 4 == 0 => self.close_write(end),
            19 if messages && size % 4 == 0 => self.set_empty_message_is_end(end, way & 1 == 0),
            // Two ends that linger, each for the other to read, would do so until the time is over.
            20 if size % 16 == 0 && self.ends[1 - end].is_some() => self.close(end),
            21 => self.pipe.abort(end),
            22 => self.pipe.settle(),
            _ => {
                self.pump(1 + size % 3);
            }
        }
    }

    /// Everything that was accepted arrives, and then the end if the sender has gone.
    fn finish(&mut self) {
        let whole = self.plan.messages() && self.plan.bit(8);
        loop {
            self.settle();
            let mut waits = false;
            for end in [SERVER, CLIENT] {
                let zero = self.ends[end].as_ref().map_or(Zero::End, |end| end.zero);
                let direction = &self.directions[1 - end];
                let is_there = if whole { direction.has_message() } else { direction.has_bytes(zero) };
                if self.ends[end].is_some() && is_there && !(direction.is_closed && direction.is_settled()) {
                    waits = true;
                    self.take(end, whole, usize::MAX, 0);
                }
            }
            if !waits {
                break;
            }
        }
        // The rest of a refused message is no message, and its writer waits for it.
        for _ in 0..8 {
            [SERVER, CLIENT].into_iter().for_each(|end| self.take(end, whole, usize::MAX, GIVES_UP));
            self.settle();
        }
        for end in [SERVER, CLIENT] {
            let direction = &self.directions[1 - end];
            assert!(self.ends[end].is_none() || direction.unread() == 0, "not everything arrived");
            if self.ends[end].is_some() && direction.is_closed {
                self.take(end, whole, usize::MAX, 0);
            }
        }
        self.ends = [None, None];
        for _ in 0..4 {
            self.settle();
        }
        assert!(self.pipe.is_quiet(), "an operation outlived its pipe");
        assert!(!self.pipe.is_open(SERVER) && !self.pipe.is_open(CLIENT), "a handle was not closed");
        assert!(self.cores.iter().all(|core| core.upgrade().is_none()), "a pipe's state was leaked");
    }
}

fn plans() -> impl Strategy<Value = Plan> {
    let quota = prop_oneof![1 => Just(0), 9 => 0..6000_usize];
    let sizes = (quota, 1usize..20_000, 1usize..20_000);
    let steps = proptest::collection::vec((any::<u8>(), any::<u16>()), 0..40);
    (any::<u64>(), any::<u16>(), sizes, steps).prop_map(|(seed, bits, (quota, read, write), steps)| Plan {
        seed,
        bits,
        sizes: [quota, read, write],
        steps,
    })
}

#[test]
fn every_combination_of_operations_delivers_what_was_sent() {
    let mut bytes = [1; 32];
    bytes[..8].copy_from_slice(&seed().to_le_bytes());
    let config = Config { cases: schedules(), failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    if let Err(error) = runner.run(&plans(), |plan| {
        let steps = plan.steps.clone();
        let mut world = World::new(plan);
        steps.into_iter().for_each(|(what, how)| world.step(what, how));
        world.finish();
        Ok(())
    }) {
        panic!("NPIPE_SEED={} NPIPE_SCHEDULES={}: {error}", seed(), schedules());
    }
}
