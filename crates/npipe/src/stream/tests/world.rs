//! A schedule: two ends, a kernel, and what they owe each other.
//!
//! Checked in every one: no byte lost, repeated or reordered, no message split where the buffer was
//! large enough; no waiter forgotten; what a pipe holds is bounded; every operation ends exactly
//! once (the kernel checks that), whatever packets others cause on the port; a new client sees
//! nothing of the last one; at the end nothing is left in memory.

use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use super::peer::{Ledger, Pattern, Peer, Waiter};
use crate::driver::{Driver, Waiting};
use crate::error::MessageTooLong;
use crate::info::PipeEnd;
use crate::machine::Framing;
use crate::stream::tests::PLAIN;
use crate::stream::{Core, Settings, Stream};
use crate::sys::{Entry, Packets, Pipe, Temper};

const SERVER: usize = 0;
const CLIENT: usize = 1;

/// What all sizes are divided by: under Miri each byte costs microseconds.
const SCALE: usize = if cfg!(miri) { 20 } else { 1 };

/// What a schedule is made of.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    seed: u64,
    messages: bool,
    hesitates: bool,
    splits: bool,
    cancels_late: bool,
    final_with_packet: bool,
    discards_with_success: bool,
    aborts: bool,
    client_first: bool,
    /// Messages are received whole, and only so.
    receives: bool,
    quota: usize,
    read_limit: usize,
    write_limit: usize,
    steps: Vec<(u8, u16)>,
}

impl Plan {
    /// A plan by its parts: `bits` are its switches.
    pub(super) fn new(
        seed: u64,
        bits: u16,
        [quota, read_limit, write_limit]: [usize; 3],
        steps: Vec<(u8, u16)>,
    ) -> Self {
        let bit = |place: u8| bits & (1 << place) != 0;
        Self {
            seed,
            messages: bit(0),
            hesitates: bit(1),
            splits: bit(2),
            cancels_late: bit(3),
            final_with_packet: bit(7),
            discards_with_success: bit(8),
            aborts: bit(4),
            client_first: bit(5),
            receives: bit(0) && bit(6),
            quota: quota / SCALE,
            read_limit: read_limit.div_ceil(SCALE),
            write_limit: write_limit.div_ceil(SCALE),
            steps,
        }
    }
}

/// Two ends, their kernel, and what they owe each other.
struct World {
    plan: Plan,
    driver: Arc<Driver>,
    pipe: Pipe,
    settings: Settings,
    peers: [Option<Peer>; 2],
    /// By the end that sends.
    ledgers: [Ledger; 2],
    connector: Waiter,
    connections: u64,
    cores: Vec<Weak<Core>>,
}

impl World {
    fn new(plan: Plan) -> Self {
        let driver = Driver::new().unwrap();
        let temper = Temper {
            seed: plan.seed,
            hesitates: plan.hesitates,
            splits: plan.splits,
            cancels_late: plan.cancels_late,
            final_with_packet: plan.final_with_packet,
            discards_with_success: plan.discards_with_success,
            ..Temper::default()
        };
        let (pipe, handle) = Pipe::create(plan.messages, plan.quota, temper);
        let framing = if plan.messages { Framing::Messages } else { Framing::Bytes };
        let settings = Settings {
            reads: framing,
            writes: framing,
            read_limit: plan.read_limit,
            write_limit: plan.write_limit,
            packets: if plan.seed % 4 == 0 { Packets::OfAll } else { Packets::OfPending },
            ..PLAIN
        };
        let server = Stream::new(handle, driver.clone(), settings).unwrap();
        let cores = vec![Arc::downgrade(&server.core)];
        let ledgers = Self::ledgers(0, &plan);
        let mut world = Self {
            plan,
            driver,
            pipe,
            settings,
            peers: [Some(Peer::new(server)), None],
            ledgers,
            connector: Waiter::default(),
            connections: 0,
            cores,
        };
        world.connect();
        world
    }

    fn ledgers(connection: u64, plan: &Plan) -> [Ledger; 2] {
        [1, 2]
            .map(|direction| Ledger::new(Pattern(connection * 4 + direction), plan.messages, !plan.receives))
    }

    /// Opens the pipe, if it listens.
    fn open_client(&mut self) {
        let Ok(handle) = self.pipe.open() else { return };
        // A client does not know what its writes are until it has asked.
        let settings = Settings { end: PipeEnd::Client, writes: Framing::Unknown, ..self.settings };
        let client = Stream::new(handle, self.driver.clone(), settings).unwrap();
        self.cores.push(Arc::downgrade(&client.core));
        self.peers[CLIENT] = Some(Peer::new(client));
    }

    fn poll_connect(&mut self) -> bool {
        let server = self.peers[SERVER].as_ref().unwrap();
        let key = crate::stream::Key::POLL;
        match self.connector.poll(|context| server.stream.poll_connect(context, key)) {
            Poll::Ready(result) => {
                result.unwrap();
                true
            }
            Poll::Pending => false,
        }
    }

    fn connect(&mut self) {
        if self.plan.client_first && self.connections == 0 {
            self.open_client();
        }
        for _ in 0..1000 {
            if self.connector.may_poll() && self.poll_connect() {
                self.connector = Waiter::default();
                self.connections += 1;
                return;
            }
            if self.peers[CLIENT].is_none() {
                self.open_client();
            }
            self.pump(4);
            self.pipe.settle();
        }
        panic!("connect was forgotten");
    }

    /// Dequeues up to `count` packets, and tells whether there were any.
    fn pump(&mut self, count: usize) -> bool {
        let mut entries = vec![Entry::EMPTY; count];
        let mut wake = Vec::new();
        let packets = self.driver.turn(&mut entries, Some(Duration::ZERO), &mut wake).unwrap();
        wake.into_iter().for_each(Waiting::wake);
        packets > 0
    }

    fn write(&mut self, end: usize, length: usize) {
        let bytes = self.ledgers[end].next_bytes(length);
        let Some(peer) = &mut self.peers[end] else { return };
        let written = if length % 4 == 1 { peer.write_owned(&bytes) } else { peer.write(&bytes) };
        match written {
            Poll::Ready(Ok(count)) => {
                assert!(!self.plan.messages || count == length, "a message was cut");
                self.ledgers[end].accept(count);
            }
            Poll::Ready(Err(error)) => assert!(self.peers[1 - end].is_none(), "{error}"),
            Poll::Pending => {}
        }
    }

    /// Receives a message of at most `limit` bytes, and tells whether it was the end.
    fn receive(&mut self, end: usize, limit: usize) -> bool {
        let Some(peer) = &mut self.peers[end] else { return false };
        let ledger = &mut self.ledgers[1 - end];
        match peer.receive(limit) {
            Poll::Ready(Ok(Some(message))) => ledger.receive_message(&message),
            Poll::Ready(Ok(None)) => {
                assert!(self.peers[1 - end].is_none(), "an end of file that nobody caused");
                assert!(ledger.is_settled(), "end of file before everything was received");
                return true;
            }
            Poll::Ready(Err(error)) => {
                let inner = error.get_ref().and_then(|error| error.downcast_ref::<MessageTooLong>());
                let refused = inner.unwrap_or_else(|| panic!("receiving failed: {error}"));
                assert!(refused.length() > limit, "a message within the limit was refused");
                ledger.refuse(refused.length());
            }
            Poll::Pending => {}
        }
        false
    }

    /// Reads as this plan's readers do. Tells whether it was the end.
    fn read_or_receive(&mut self, end: usize, room: usize) -> bool {
        if self.plan.receives { self.receive(end, usize::MAX) } else { self.read(end, room) }
    }

    fn read(&mut self, end: usize, room: usize) -> bool {
        let Some(peer) = &mut self.peers[end] else { return false };
        let read = if room % 4 == 1 { peer.read_owned(room) } else { peer.read(room) };
        match read {
            Poll::Ready(Ok(bytes)) if bytes.is_empty() => {
                assert!(self.peers[1 - end].is_none(), "an end of file that nobody caused");
                assert!(self.ledgers[1 - end].is_settled(), "end of file before everything was read");
                true
            }
            Poll::Ready(Ok(bytes)) => {
                let ledger = &mut self.ledgers[1 - end];
                let whole = ledger.receive(&bytes, room, self.plan.splits);
                assert_eq!(peer.stream.is_message_complete(), whole, "the place in the message was lost");
                false
            }
            Poll::Ready(Err(error)) => panic!("a read failed: {error}"),
            Poll::Pending => false,
        }
    }

    fn flush(&mut self, end: usize) -> bool {
        let gone = self.peers[1 - end].is_none();
        let Some(peer) = &mut self.peers[end] else { return true };
        match peer.flush() {
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(error)) => {
                assert!(gone, "{error}");
                true
            }
            Poll::Pending => false,
        }
    }

    fn drain(&mut self, end: usize) {
        let gone = self.peers[1 - end].is_none();
        let Some(peer) = &mut self.peers[end] else { return };
        if let Poll::Ready(Err(error)) = peer.drain() {
            assert!(gone, "a drain failed: {error}");
        }
    }

    /// The server ends the connection and takes the next client.
    fn reuse(&mut self) {
        let Some(server) = &self.peers[SERVER] else { return };
        server.stream.disconnect().unwrap();
        self.peers[CLIENT] = None;
        if let Some(server) = &mut self.peers[SERVER] {
            server.reader = Waiter::default();
            server.writer = Waiter::default();
            server.stop_draining();
        }
        self.ledgers = Self::ledgers(self.connections, &self.plan);
        self.connect();
    }

    fn step(&mut self, what: u8, how: u16) {
        let end = usize::from(how & 1);
        let size = usize::from(how >> 1);
        match what % 23 {
            0..=4 => self.write(end, size % (3000 / SCALE)),
            5..=9 => {
                self.read_or_receive(end, 1 + size % (9000 / SCALE));
            }
            10..=13 => {
                self.pump(1 + size % 3);
            }
            14 => self.pipe.settle(),
            15 => {
                self.flush(end);
            }
            16 if self.plan.aborts => self.pipe.abort(end),
            17 => {
                if let Some(peer) = &mut self.peers[end] {
                    match size % 4 {
                        0 => peer.glance(),
                        1 => peer.stop_draining(),
                        _ => self.drain(end),
                    }
                }
            }
            18 if size % 8 == 0 && self.peers.iter().all(Option::is_some) => self.reuse(),
            19 if size % 8 == 0 && self.peers.iter().all(Option::is_some) => self.peers[end] = None,
            20 if self.plan.messages => {
                self.receive(end, size % (9000 / SCALE));
            }
            21 if self.plan.messages => self.write(end, size % 2),
            22 => self.pipe.end_foreign_operation(end),
            _ => {}
        }
        // A message whose rest has to be waited for is collected, whatever its size.
        let collects = self.plan.messages && self.plan.splits;
        for peer in self.peers.iter().flatten().filter(|_| !collects) {
            peer.assert_bounded(self.settings);
        }
    }

    /// Everyone goes on, polling only when woken, until everything has arrived.
    fn finish(&mut self) {
        let mut ended = [false; 2];
        let mut idle = 0;
        while idle < 3 {
            let mut progress = false;
            for end in [SERVER, CLIENT] {
                let polls = self.peers[end].as_ref().is_some_and(|peer| peer.reader.may_poll());
                if polls && !ended[end] {
                    ended[end] = self.read_or_receive(end, 700 / SCALE);
                    progress = true;
                }
                let polls = self.peers[end].as_ref().is_some_and(|peer| peer.writer.may_poll());
                progress |= polls && !self.flush(end);
                if self.peers[end].as_ref().is_some_and(|peer| peer.is_draining() && peer.drainer.may_poll())
                {
                    self.drain(end);
                    progress = true;
                }
            }
            progress |= self.pump(2);
            self.pipe.settle();
            idle = if progress { 0 } else { idle + 1 };
        }
        for end in [SERVER, CLIENT] {
            let reader = self.peers[1 - end].is_some();
            assert!(!reader || self.ledgers[end].is_settled(), "a reader was forgotten");
            let forgotten = self.peers[end].as_ref().is_some_and(|peer| !peer.writer.may_poll());
            assert!(!forgotten, "a writer was forgotten");
            let drains = self.peers[end].as_ref().is_some_and(Peer::is_draining);
            assert!(!drains || self.peers[1 - end].is_none(), "a drain was forgotten");
            assert!(self.flush(end), "a flush was not finished");
            let must_end = self.peers[end].is_some() && self.peers[1 - end].is_none();
            assert!(!must_end || ended[end], "a reader was not told the end");
        }
    }

    fn tear_down(mut self) {
        self.peers = [None, None];
        for _ in 0..100 {
            self.pump(4);
            self.pipe.settle();
        }
        assert!(self.pipe.is_quiet(), "an operation outlived its pipe");
        assert!(![SERVER, CLIENT].into_iter().any(|end| self.pipe.is_open(end)), "a handle was not closed");
        assert!(self.cores.iter().all(|core| core.upgrade().is_none()), "a pipe's state was leaked");
    }
}

pub(super) fn run(plan: Plan) {
    let steps = plan.steps.clone();
    let mut world = World::new(plan);
    for (what, how) in steps {
        world.step(what, how);
    }
    world.finish();
    world.tear_down();
}

/// Runs the schedule that `bytes` spell; too few spell none.
#[cfg(fuzzing)]
pub fn run_bytes(bytes: &[u8]) {
    let Some((head, steps)) = bytes.split_first_chunk::<16>() else { return };
    let short = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]) as usize;
    let seed = u64::from_le_bytes(std::array::from_fn(|place| head[place]));
    let sizes = [short(10) % 6000, 1 + short(12) % 20_000, 1 + short(14) % 20_000];
    let steps = steps.chunks_exact(3).map(|step| (step[0], u16::from_le_bytes([step[1], step[2]]))).collect();
    run(Plan::new(seed, short(8) as u16, sizes, steps));
}
