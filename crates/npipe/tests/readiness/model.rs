//! The rules of readiness as a model, and generated sequences of operations that are checked
//! against it.
//!
//! The pipe carries messages and has one client at a time, a stream of the blocking API outside the
//! loop. The model has two rules. An event is *due* when its direction is armed and ready, or a
//! `connect` has ended. An event *lies* when nothing is ready. A direction is armed by a
//! registration, by a call that would block, and by one that moved something; not by one that
//! reported an error or the end of the pipe. An event disarms it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

use bytes::BytesMut;
use npipe::blocking::PipeStream;
use npipe::readiness::{Event, Interest, NamedPipe};
use npipe::{ClientOptions, PipeMode, ServerOptions};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use crate::world::*;

#[derive(Debug, Clone)]
enum Step {
    ClientComes,
    /// A message of this length.
    ClientWrites(usize),
    /// Everything that the server has written.
    ClientReads,
    ClientLeaves,
    Register(Interest),
    Reregister(Interest),
    Deregister,
    Connect,
    Disconnect,
    Read,
    Receive,
    Write,
    Send,
    Flush,
    Drain,
    CloseWrite,
    EmptyMessageIsEnd(bool),
    Poll,
}

fn step() -> impl Strategy<Value = Step> {
    let interest = || prop::sample::select(vec![BOTH, BOTH, Interest::READABLE, Interest::WRITABLE]);
    prop_oneof![
        4 => Just(Step::ClientComes),
        5 => prop::sample::select(vec![0_usize, 0, 1, 7, 40]).prop_map(Step::ClientWrites),
        2 => Just(Step::ClientReads),
        2 => Just(Step::ClientLeaves),
        3 => interest().prop_map(Step::Register),
        2 => interest().prop_map(Step::Reregister),
        1 => Just(Step::Deregister),
        4 => Just(Step::Connect),
        1 => Just(Step::Disconnect),
        5 => Just(Step::Read),
        3 => Just(Step::Receive),
        2 => Just(Step::Write),
        1 => Just(Step::Send),
        1 => Just(Step::Flush),
        2 => Just(Step::Drain),
        1 => Just(Step::CloseWrite),
        2 => any::<bool>().prop_map(Step::EmptyMessageIsEnd),
        6 => Just(Step::Poll),
    ]
}

/// The kernel's side of the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Instance {
    /// Clients can come.
    Listens,
    Connected,
    /// The client has left. The next one needs another `connect`.
    Left,
    Disconnected,
}

/// How far the server is with its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Connection {
    Unasked,
    Asked,
    Made,
}

struct World {
    events: Loop,
    name: String,
    server: NamedPipe,
    client: Option<PipeStream>,
    attached: bool,
    registered: Option<Interest>,
    instance: Instance,
    connection: Connection,
    /// The lengths of the messages for the server.
    unread: VecDeque<usize>,
    /// Bytes and messages for the client.
    unread_by_client: Vec<usize>,
    empty_message_is_end: bool,
    write_ended: bool,
    drains: bool,
    reading_armed: bool,
    writing_armed: bool,
    connect_ended: bool,
    /// A read of the last connection may still be on its way back. Its packet is a hint.
    stale_packet: bool,
}

impl World {
    fn new() -> Self {
        let name = unique_name();
        Self {
            events: Loop::new(),
            server: NamedPipe::create(ServerOptions::new().pipe_mode(PipeMode::Message), &name).unwrap(),
            name,
            client: None,
            attached: false,
            registered: None,
            instance: Instance::Listens,
            connection: Connection::Unasked,
            unread: VecDeque::new(),
            unread_by_client: Vec::new(),
            empty_message_is_end: false,
            write_ended: false,
            drains: false,
            reading_armed: false,
            writing_armed: false,
            connect_ended: false,
            stale_packet: false,
        }
    }

    /// Returns whether there is a client or one that has left data. Without a `connect`, the call
    /// that looks for the client notices it.
    fn has_client(&mut self) -> bool {
        let is_there = match self.instance {
            Instance::Connected => true,
            Instance::Left => !self.unread.is_empty(),
            Instance::Listens | Instance::Disconnected => false,
        };
        if self.connection == Connection::Unasked && is_there {
            self.connection = Connection::Made;
        }
        self.connection == Connection::Made
    }

    fn is_readable(&self) -> bool {
        !self.unread.is_empty() || self.instance != Instance::Connected
    }

    fn arm(&mut self, interest: Interest) {
        if self.has_client() {
            self.reading_armed |= interest.is_readable();
            self.writing_armed |= interest.is_writable();
        }
    }

    fn interest(&self, wanted: fn(Interest) -> bool) -> bool {
        self.registered.is_some_and(wanted)
    }

    fn end_connection(&mut self, instance: Instance) {
        self.instance = instance;
        self.stale_packet = true;
        self.unread.clear();
        self.unread_by_client.clear();
        self.client = None;
        self.drains = false;
        self.write_ended = false;
        self.reading_armed = false;
        self.writing_armed = false;
        self.connect_ended = false;
    }

    fn play(&mut self, step: &Step) {
        match *step {
            Step::ClientComes if self.instance == Instance::Listens => {
                let mut options = ClientOptions::new();
                options.pipe_mode(PipeMode::Message);
                self.client = Some(options.connect_blocking(&self.name).unwrap());
                self.instance = Instance::Connected;
            }
            Step::ClientWrites(length) if self.unread.len() < 4 => {
                if let Some(client) = &mut self.client {
                    client.send_message(&data(length)).unwrap();
                    self.unread.push_back(length);
                }
            }
            Step::ClientReads => self.client_reads(),
            Step::ClientLeaves if self.client.take().is_some() => {
                self.instance = Instance::Left;
                self.unread_by_client.clear();
                self.writing_armed |= std::mem::take(&mut self.drains);
            }
            Step::Register(interest) => self.register(interest),
            Step::Reregister(interest) => {
                let result = self.events.registry().reregister(&mut self.server, SERVER, interest);
                if self.registered.is_none() {
                    return assert_kind(result, ErrorKind::NotFound);
                }
                result.unwrap();
                self.registered = Some(interest);
                self.arm(interest);
            }
            Step::Deregister => {
                let result = self.events.registry().deregister(&mut self.server);
                if self.registered.take().is_none() {
                    return assert_kind(result, ErrorKind::NotFound);
                }
                result.unwrap();
                self.reading_armed = false;
                self.writing_armed = false;
            }
            Step::Connect => self.connect(),
            Step::Disconnect if self.attached => self.disconnect(),
            Step::Read => self.read(false),
            Step::Receive => self.read(true),
            Step::Write | Step::Send if self.unread_by_client.len() < 8 => {
                self.write(matches!(step, Step::Send))
            }
            Step::Flush => assert!(self.server.flush().is_ok()),
            Step::Drain if self.instance == Instance::Connected && self.attached => self.drain(),
            Step::CloseWrite if self.instance == Instance::Connected && self.attached => self.close_write(),
            Step::EmptyMessageIsEnd(is_end) if self.attached => {
                self.server.set_empty_message_is_end(is_end).unwrap();
                self.empty_message_is_end = is_end;
            }
            Step::Poll => self.poll(),
            // There is nothing to do it to, or too much.
            _ => {}
        }
    }

    fn client_reads(&mut self) {
        let Some(client) = &mut self.client else { return };
        for length in self.unread_by_client.drain(..) {
            let mut message = BytesMut::new();
            assert_eq!(client.recv_message(&mut message).unwrap(), Some(length));
        }
        self.writing_armed |= std::mem::take(&mut self.drains);
    }

    fn register(&mut self, interest: Interest) {
        let result = self.events.registry().register(&mut self.server, SERVER, interest);
        if self.registered.is_some() {
            return assert_kind(result, ErrorKind::AlreadyExists);
        }
        result.unwrap();
        self.attached = true;
        self.registered = Some(interest);
        self.arm(interest);
    }

    fn make_connection(&mut self) {
        self.connection = Connection::Made;
        self.connect_ended = true;
        self.reading_armed |= self.interest(Interest::is_readable);
    }

    fn connect(&mut self) {
        if self.instance == Instance::Left
            && !self.unread.is_empty()
            && self.unread.iter().all(|length| *length == 0)
        {
            // Windows does not say whether it left an empty message.
            return;
        }
        if self.instance == Instance::Left && self.connection == Connection::Made {
            // A read that is in flight may have something of it.
            return;
        }
        let result = self.server.connect();
        if !self.attached {
            return assert_kind(result, ErrorKind::WouldBlock);
        }
        if self.connection == Connection::Asked {
            // Also when a client has come: a poll has to find out.
            return assert_kind(result, ErrorKind::WouldBlock);
        }
        let is_left = self.instance == Instance::Left && self.unread.is_empty();
        match self.instance {
            Instance::Connected | Instance::Left if !is_left => {
                result.unwrap();
                self.make_connection();
            }
            _ => {
                assert_kind(result, ErrorKind::WouldBlock);
                self.end_connection(Instance::Listens);
                self.connection = Connection::Asked;
            }
        }
    }

    fn disconnect(&mut self) {
        let result = self.server.disconnect();
        let waited = self.connection == Connection::Asked;
        if waited {
            self.connection = Connection::Unasked;
        }
        match self.instance {
            Instance::Connected | Instance::Left => {
                result.unwrap();
                self.end_connection(Instance::Disconnected);
            }
            Instance::Listens | Instance::Disconnected => {
                result.unwrap_err();
                let instance = self.instance;
                self.end_connection(instance);
            }
        }
        if waited {
            // A `connect` would block until the packet of this wait has been dequeued.
            assert!(self.poll_once(QUIET).is_empty());
        }
    }

    /// The expected result of a read. Empty messages that it skips are removed.
    fn next_read(&mut self, whole: bool) -> Expected {
        if self.registered.is_none() || !self.has_client() {
            return Expected::Nothing;
        }
        while !whole && !self.empty_message_is_end && self.unread.front() == Some(&0) {
            self.unread.pop_front();
        }
        match (self.unread.front(), self.instance) {
            (Some(length), _) => Expected::Moved(*length),
            (None, Instance::Connected) => Expected::Pending,
            // No message at all; an empty one is one.
            (None, Instance::Left) => Expected::Over(if whole { usize::MAX } else { 0 }),
            (None, Instance::Listens | Instance::Disconnected) => Expected::Error,
        }
    }

    fn read(&mut self, whole: bool) {
        if self.registered.is_some() && self.unread.contains(&0) {
            self.poll();
            // Whether a read that would block has passed one over depends on which packets were
            // dequeued.
            while !self.poll_once(QUIET).is_empty() {}
        }
        let expected = self.next_read(whole);
        let result = self.read_once(whole);
        let result = match expected {
            Expected::Nothing => return assert_kind(result, ErrorKind::WouldBlock),
            Expected::Pending => {
                assert_kind(result, ErrorKind::WouldBlock);
                self.reading_armed = self.interest(Interest::is_readable);
                return;
            }
            // The packet that has it was not dequeued.
            Expected::Moved(_) | Expected::Over(_) | Expected::Error
                if result.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock) =>
            {
                self.reading_armed = self.interest(Interest::is_readable);
                self.poll();
                if !self.interest(Interest::is_readable) {
                    self.poll_once(QUIET);
                }
                self.read_once(whole)
            }
            Expected::Moved(_) | Expected::Over(_) | Expected::Error => result,
        };
        self.reading_armed = false;
        match expected {
            Expected::Moved(length) => {
                assert_eq!(result.unwrap(), length);
                self.unread.pop_front();
                self.reading_armed = self.interest(Interest::is_readable);
            }
            Expected::Over(end) => assert_eq!(result.unwrap(), end),
            Expected::Nothing | Expected::Pending | Expected::Error => {
                assert_ne!(result.unwrap_err().kind(), ErrorKind::WouldBlock);
            }
        }
    }

    fn read_once(&mut self, whole: bool) -> io::Result<usize> {
        if whole {
            let received = self.server.recv_message(&mut BytesMut::new());
            received.map(|length| length.unwrap_or(usize::MAX))
        } else {
            self.server.read(&mut [0; 64])
        }
    }

    fn write(&mut self, as_message: bool) {
        let result =
            if as_message { self.server.send_message(b"abc").map(|()| 3) } else { self.server.write(b"abc") };
        if self.registered.is_none() {
            return assert_kind(result, ErrorKind::WouldBlock);
        }
        self.writing_armed = false;
        if self.instance != Instance::Connected || self.write_ended {
            assert_ne!(result.unwrap_err().kind(), ErrorKind::WouldBlock);
            return;
        }
        assert_eq!(result.unwrap(), 3);
        if self.connection == Connection::Unasked {
            self.connection = Connection::Made;
        }
        self.unread_by_client.push(3);
        self.drains = false;
        self.writing_armed = self.interest(Interest::is_writable);
    }

    fn drain(&mut self) {
        let result = self.server.drain();
        if self.unread_by_client.is_empty() {
            // That of before may still be on its way.
            if would_block(result) {
                self.writing_armed = true;
            }
        } else {
            assert_kind(result, ErrorKind::WouldBlock);
            self.drains = true;
        }
    }

    fn close_write(&mut self) {
        let result = self.server.close_write();
        if !would_block(result) {
            assert!(self.unread_by_client.is_empty());
            if !std::mem::replace(&mut self.write_ended, true) {
                self.unread_by_client.push(0);
            }
        } else if self.unread_by_client.is_empty() {
            self.writing_armed = true;
        } else {
            self.drains = true;
        }
    }

    /// The events that the rules promise come, and no other.
    fn poll(&mut self) {
        let is_registered = self.registered.is_some();
        if self.connection == Connection::Asked && self.instance != Instance::Listens {
            if !is_registered {
                // No event would tell that the poll has found out.
                return;
            }
            self.make_connection();
        }
        while is_registered && (self.read_is_due() || self.write_is_due()) {
            let (read, write) = (self.read_is_due(), self.write_is_due());
            let event = self.events.until(SERVER, |_| true);
            self.take(&event);
            assert!(
                (!read || !self.read_is_due()) || (!write || !self.write_is_due()),
                "an event that is not the one that is due: {event:?}"
            );
        }
        for _ in 0..2 {
            self.poll_once(Duration::ZERO);
        }
    }

    fn poll_once(&mut self, timeout: Duration) -> Vec<Event> {
        let events = self.events.poll(timeout);
        events.iter().for_each(|event| self.take(event));
        events
    }

    fn read_is_due(&self) -> bool {
        self.reading_armed
            && self.connection == Connection::Made
            && self.interest(Interest::is_readable)
            && self.is_readable()
    }

    fn write_is_due(&self) -> bool {
        let writing =
            self.writing_armed && self.connection == Connection::Made && self.interest(Interest::is_writable);
        self.connect_ended || writing
    }

    fn take(&mut self, event: &Event) {
        assert!(self.registered.is_some(), "not registered: {event:?}");
        assert!(self.has_client(), "without a client: {event:?}");
        assert!(!event.is_error(), "{event:?}");
        if event.is_readable() {
            assert!(self.interest(Interest::is_readable), "{event:?}");
            let is_stale = !self.is_readable() && std::mem::take(&mut self.stale_packet);
            assert!(self.is_readable() || is_stale, "there is nothing to read: {event:?}");
            self.reading_armed = false;
        }
        if event.is_writable() {
            assert!(self.connect_ended || self.interest(Interest::is_writable), "{event:?}");
            self.connect_ended = false;
            self.writing_armed = false;
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Expected {
    /// It would block, and arms nothing.
    Nothing,
    /// It would block, and is armed.
    Pending,
    Moved(usize),
    /// The end of the pipe, which is reported as this.
    Over(usize),
    Error,
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        ..ProptestConfig::default()
    })]

    #[test]
    fn events_come_when_they_are_due_and_do_not_lie(steps in prop::collection::vec(step(), 1..40)) {
        let mut world = World::new();
        for step in steps.iter().chain([&Step::Poll]) {
            world.play(step);
        }
    }
}
