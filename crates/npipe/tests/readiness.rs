//! The readiness face, by what a user of it can see: which events come, which do not, and what the calls say in between.
//!
//! What every face promises of the bytes is tested by the behaviour suite; this is about edges, registration, and who may be
//! dropped when.
#![cfg(windows)]

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::OwnedHandle;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use npipe::readiness::event::Source;
use npipe::readiness::{Event, Events, Interest, NamedPipe, Poll, Registry, Token, Waker};
use npipe::{ClientOptions, PipeEnd, PipeMode, ServerOptions};
use windows_sys::Win32::Foundation::{
    ERROR_FILE_NOT_FOUND, ERROR_NO_DATA, ERROR_PIPE_LISTENING, ERROR_PIPE_NOT_CONNECTED,
};

const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);
const SERVER: Token = Token(1);
const CLIENT: Token = Token(2);
const FILE_FLAG_OVERLAPPED: u32 = 0x4000_0000;

/// How long one awaited event may take: far above what any does, so only one that was lost gets here.
const STEP: Duration = Duration::from_secs(30);
/// How long a whole test may take before the process is given up: for what blocks a thread.
const TEST: Duration = Duration::from_secs(240);
/// For how long nothing must happen where nothing must. A test can pass wrongly for this being short, not fail.
const QUIET: Duration = Duration::from_millis(30);

fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!(r"\\.\pipe\npipe-readiness-{}-{number}", std::process::id())
}

fn would_block<T: std::fmt::Debug>(result: io::Result<T>) -> bool {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
        Err(error) => panic!("{error}"),
        Ok(_) => false,
    }
}

#[track_caller]
fn assert_kind<T: std::fmt::Debug>(result: io::Result<T>, kind: io::ErrorKind) {
    assert_eq!(result.expect_err("refused").kind(), kind);
}

#[track_caller]
fn assert_code<T: std::fmt::Debug>(result: io::Result<T>, code: u32) {
    assert_eq!(result.expect_err("failed").raw_os_error(), Some(code as i32));
}

/// A `Poll` with a pipe or two and the patience of a test. Ends the process if the test does not end.
struct Loop {
    poll: Poll,
    events: Events,
    _watchdog: mpsc::Sender<()>,
}

impl Loop {
    fn new() -> Self {
        Self::on(Poll::new().unwrap())
    }

    fn on(poll: Poll) -> Self {
        let name = thread::current().name().unwrap_or("a test").to_owned();
        let (watchdog, ended) = mpsc::channel();
        thread::spawn(move || {
            if ended.recv_timeout(TEST) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = writeln!(io::stderr(), "{name} still ran after {TEST:?}: a thread is blocked");
                std::process::abort();
            }
        });
        Self { poll, events: Events::with_capacity(64), _watchdog: watchdog }
    }

    fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    fn add(&self, pipe: &mut NamedPipe, token: Token) {
        self.registry().register(pipe, token, BOTH).unwrap();
    }

    /// One poll of at most `timeout`.
    fn poll(&mut self, timeout: Duration) -> Vec<Event> {
        self.poll.poll(&mut self.events, Some(timeout)).unwrap();
        self.events.iter().cloned().collect()
    }

    /// Polls until there is an event of this pipe that is `wanted`. Others are not remembered.
    #[track_caller]
    fn until(&mut self, token: Token, wanted: fn(&Event) -> bool) -> Event {
        let end = Instant::now() + STEP;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no event within {STEP:?}");
            let events = self.poll(left);
            if let Some(event) = events.into_iter().find(|event| event.token() == token && wanted(event)) {
                return event;
            }
        }
    }

    #[track_caller]
    fn assert_quiet(&mut self) {
        for timeout in [Duration::ZERO, QUIET, Duration::ZERO] {
            assert!(self.poll(timeout).is_empty(), "{:?}", self.events);
        }
    }

    /// Polls until everything that was to be told has been.
    fn settle(&mut self) -> Vec<Event> {
        let mut told = Vec::new();
        loop {
            match self.poll(QUIET) {
                events if events.is_empty() => return told,
                events => told.extend(events),
            }
        }
    }

    #[track_caller]
    fn read_some(&mut self, mut pipe: &NamedPipe, token: Token, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match pipe.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.until(token, Event::is_readable);
                }
                result => return result,
            }
        }
    }

    #[track_caller]
    fn read(&mut self, pipe: &NamedPipe, token: Token, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let mut filled = 0;
        while filled < count {
            match self.read_some(pipe, token, &mut bytes[filled..]).unwrap() {
                0 => panic!("the end after {filled} bytes of {count}"),
                read => filled += read,
            }
        }
        bytes
    }

    #[track_caller]
    fn write_some(&mut self, mut pipe: &NamedPipe, token: Token, bytes: &[u8]) -> usize {
        loop {
            match pipe.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.until(token, Event::is_writable);
                }
                result => return result.unwrap(),
            }
        }
    }

    #[track_caller]
    fn write(&mut self, pipe: &NamedPipe, token: Token, bytes: &[u8]) {
        let mut written = 0;
        while written < bytes.len() {
            written += self.write_some(pipe, token, &bytes[written..]);
        }
    }

    /// As much as the pipe takes, and then a write that has to wait. Gives what was accepted.
    fn fill(&mut self, mut pipe: &NamedPipe) -> Vec<u8> {
        let bytes = data(2 << 20);
        let mut written = 0;
        loop {
            match pipe.write(&bytes[written..][..64 * 1024]) {
                Ok(count) => written += count,
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    if self.poll(QUIET).is_empty() {
                        break;
                    }
                }
            }
            assert!(written < bytes.len(), "a reader that does not read stops the writer");
        }
        assert!(would_block(pipe.flush()), "something is in flight");
        bytes[..written].to_vec()
    }

    #[track_caller]
    fn connect(&mut self, server: &NamedPipe, token: Token) {
        if would_block(server.connect()) {
            self.until(token, Event::is_writable);
            assert!(server.take_error().unwrap().is_none());
        }
    }

    /// Both ends, connected and registered, with nothing left to be told.
    fn pair(&mut self) -> (NamedPipe, NamedPipe) {
        let (server, client, _) = self.pair_with(&ServerOptions::new(), &ClientOptions::new());
        (server, client)
    }

    fn pair_with(
        &mut self,
        server: &ServerOptions,
        client: &ClientOptions,
    ) -> (NamedPipe, NamedPipe, String) {
        let name = unique_name();
        let mut server = NamedPipe::create(server, &name).unwrap();
        let mut client = NamedPipe::open(client, &name).unwrap();
        self.add(&mut server, SERVER);
        self.add(&mut client, CLIENT);
        self.settle();
        (server, client, name)
    }

    /// A server that is registered and connected to a client that knows nothing of npipe and reads nothing ahead.
    fn server_and_foreign_client(&mut self) -> (NamedPipe, File) {
        let name = unique_name();
        let mut server = NamedPipe::new(&name).unwrap();
        self.add(&mut server, SERVER);
        let client = foreign_client(&name);
        self.connect(&server, SERVER);
        self.settle();
        (server, client)
    }
}

fn foreign_client(name: &str) -> File {
    OpenOptions::new().read(true).write(true).open(name).unwrap()
}

/// Bytes of which none can be missing, doubled or out of place unnoticed.
fn data(length: usize) -> Vec<u8> {
    (0..length as u64).map(|place| (place ^ (place >> 8) ^ (place >> 16)) as u8).collect()
}

mod registration {
    use super::*;

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
    fn a_handle_that_does_not_fit_is_refused_and_kept() {
        let poll = Poll::new().unwrap();
        let file = File::open(std::env::current_exe().unwrap()).unwrap();
        let name = unique_name();
        let _server = NamedPipe::new(&name).unwrap();
        for handle in [file, foreign_client(&name)] {
            let mut pipe = NamedPipe::from(OwnedHandle::from(handle));
            assert!(poll.registry().register(&mut pipe, CLIENT, BOTH).is_err());
            assert_kind(poll.registry().deregister(&mut pipe), io::ErrorKind::NotFound);
            assert!(would_block(pipe.read(&mut [0; 8])));
        }
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
}

mod connecting {
    use super::*;

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

    /// Each client leaves something behind that the next must not see: unread bytes, an unread answer, an event.
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
}

mod edges {
    use super::*;

    #[test]
    fn a_would_block_arms_and_an_event_is_told_once() {
        let mut events = Loop::new();
        let (mut server, mut client) = events.server_and_foreign_client();
        for _ in 0..3 {
            assert!(would_block(server.read(&mut [0; 8])));
            events.assert_quiet();
            client.write_all(b"abc").unwrap();
            events.until(SERVER, Event::is_readable);
            // Not acted upon, and more comes: that is no new readiness.
            events.assert_quiet();
            client.write_all(b"def").unwrap();
            events.settle();
            assert_eq!(events.read(&server, SERVER, 6), b"abcdef");
        }
    }

    #[test]
    fn a_closed_peer_is_readable_and_then_reads_zero() {
        let mut events = Loop::new();
        let (mut server, mut client) = events.server_and_foreign_client();
        assert!(would_block(server.read(&mut [0; 8])));
        client.write_all(b"last words").unwrap();
        drop(client);
        events.until(SERVER, Event::is_readable);
        assert_eq!(events.read(&server, SERVER, 10), b"last words");
        assert_eq!(events.read_some(&server, SERVER, &mut [0; 8]).unwrap(), 0);
        events.settle();
        assert_eq!(server.read(&mut [0; 8]).unwrap(), 0, "the end stays the end");
        events.assert_quiet();
        assert_code(server.write(b"x"), ERROR_NO_DATA);
    }

    #[test]
    fn the_end_is_told_to_who_waits_for_it() {
        let mut events = Loop::new();
        let (mut server, client) = events.server_and_foreign_client();
        assert!(would_block(server.read(&mut [0; 8])));
        drop(client);
        assert!(events.until(SERVER, Event::is_readable).is_read_closed());
        events.assert_quiet();
        assert_eq!(server.read(&mut [0; 8]).unwrap(), 0);
    }

    #[test]
    fn being_disconnected_is_an_error_and_not_the_end() {
        let mut events = Loop::new();
        let (server, mut client) = events.pair();
        assert!(would_block(client.read(&mut [0; 8])));
        server.disconnect().unwrap();
        events.until(CLIENT, Event::is_readable);
        assert_code(client.read(&mut [0; 8]), ERROR_PIPE_NOT_CONNECTED);
        assert_code(client.write(b"x"), ERROR_PIPE_NOT_CONNECTED);
        events.assert_quiet();
    }

    #[test]
    fn a_writer_that_would_block_is_told_when_there_is_room_again() {
        let mut events = Loop::new();
        let (mut server, mut client) = events.server_and_foreign_client();
        let bytes = events.fill(&server);
        let reading = thread::spawn(move || {
            let mut received = vec![0; bytes.len()];
            client.read_exact(&mut received).unwrap();
            assert!(received == bytes);
            client
        });
        events.until(SERVER, Event::is_writable);
        while would_block(server.flush()) {
            events.until(SERVER, Event::is_writable);
        }
        let _client = reading.join().unwrap();
        assert_eq!(server.write(b"x").unwrap(), 1);
    }

    /// What mio's pipes do, beyond what they promise.
    #[test]
    fn code_that_reads_and_writes_once_an_event_is_not_forgotten() {
        let mut events = Loop::new();
        let (mut server, mut client) = events.pair();
        let bytes = data(200_000);
        let (mut sent, mut received) = (0, Vec::new());
        events.registry().reregister(&mut server, SERVER, BOTH).unwrap();
        while received.len() < bytes.len() {
            let told = events.poll(STEP);
            assert!(!told.is_empty(), "{sent} sent, {} received", received.len());
            for event in told {
                if event.token() == SERVER && event.is_writable() && sent < bytes.len() {
                    let end = bytes.len().min(sent + 900);
                    match server.write(&bytes[sent..end]) {
                        Ok(count) => sent += count,
                        Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                    }
                }
                if event.token() == CLIENT && event.is_readable() {
                    let mut buffer = [0; 700];
                    match client.read(&mut buffer) {
                        Ok(count) => received.extend_from_slice(&buffer[..count]),
                        Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                    }
                }
            }
        }
        assert_eq!(received, bytes);
    }

    /// The race that an edge is lost in: bytes that arrive while the reader finds that there are none.
    #[test]
    fn thousands_of_rounds_lose_no_edge() {
        const ROUNDS: usize = 5000;
        let mut events = Loop::new();
        let (mut server, mut client) = events.server_and_foreign_client();
        let writing = thread::spawn(move || {
            let mut random = fastrand::Rng::with_seed(7);
            let mut sent = 0_usize;
            for _ in 0..ROUNDS {
                let count = random.usize(1..=32);
                let bytes: Vec<u8> = (sent..sent + count).map(|place| place as u8).collect();
                client.write_all(&bytes).unwrap();
                sent += count;
                for _ in 0..random.u32(0..3) {
                    thread::yield_now();
                }
            }
            sent
        });
        let (mut received, mut polls) = (0_usize, 0);
        let mut buffer = [0; 48];
        'reading: loop {
            loop {
                match server.read(&mut buffer) {
                    Ok(0) => break 'reading,
                    Ok(count) => {
                        for byte in &buffer[..count] {
                            assert_eq!(*byte, received as u8);
                            received += 1;
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
            events.until(SERVER, Event::is_readable);
            polls += 1;
        }
        assert_eq!(received, writing.join().unwrap());
        assert!(polls <= ROUNDS + 1, "{polls} events for {ROUNDS} writes: some had no cause");
    }

    /// As above, the other way: room that appears while the writer finds that there is none.
    #[test]
    fn thousands_of_full_pipes_lose_no_edge() {
        const TOTAL: usize = 4 << 20;
        let mut events = Loop::new();
        let options = ServerOptions::new().out_buffer_size(4096).write_buffer_limit(4096).clone();
        let name = unique_name();
        let mut server = NamedPipe::create(&options, &name).unwrap();
        events.add(&mut server, SERVER);
        let mut client = foreign_client(&name);
        events.connect(&server, SERVER);
        let reading = thread::spawn(move || {
            let mut received = Vec::new();
            client.read_to_end(&mut received).unwrap();
            received
        });
        let bytes = data(TOTAL);
        events.write(&server, SERVER, &bytes);
        drop(server);
        drop(events);
        assert!(reading.join().unwrap() == bytes);
    }

    #[test]
    fn two_threads_share_a_pipe_while_a_third_polls() {
        const TOTAL: usize = 1 << 20;
        let mut events = Loop::new();
        let (server, mut client) = events.server_and_foreign_client();
        // Echoes in turns, so that a handle on which one operation waits for the other cannot hang it.
        let echoing = thread::spawn(move || {
            let mut buffer = [0; 4096];
            for _ in 0..TOTAL / buffer.len() {
                client.read_exact(&mut buffer).unwrap();
                client.write_all(&buffer).unwrap();
            }
        });
        let (readable, wait_readable) = mpsc::channel();
        let (writable, wait_writable) = mpsc::channel();
        let bytes = data(TOTAL);
        thread::scope(|scope| {
            let (server, bytes) = (&server, &bytes);
            let reading = scope.spawn(move || {
                let mut received = vec![0; TOTAL];
                let mut filled = 0;
                while filled < TOTAL {
                    match (&*server).read(&mut received[filled..]) {
                        Ok(count) => filled += count,
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            wait_readable.recv_timeout(STEP).unwrap();
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
                assert!(received == *bytes);
            });
            scope.spawn(move || {
                let mut written = 0;
                while written < TOTAL {
                    match (&*server).write(&bytes[written..]) {
                        Ok(count) => written += count,
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            wait_writable.recv_timeout(STEP).unwrap();
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            });
            while !reading.is_finished() {
                for event in events.poll(QUIET) {
                    if event.is_readable() {
                        let _ = readable.send(());
                    }
                    if event.is_writable() {
                        let _ = writable.send(());
                    }
                }
            }
        });
        echoing.join().unwrap();
    }
}

mod polling {
    use super::*;

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
        let told: Vec<_> = (0..3)
            .map(|_| events.poll(STEP).iter().map(|event| event.token().0).collect::<Vec<_>>())
            .collect();
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
}

mod dropping {
    use super::*;

    fn read_slowly(mut client: File, bytes: &[u8]) {
        let mut received = Vec::new();
        let mut buffer = [0; 8192];
        loop {
            match client.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => received.extend_from_slice(&buffer[..count]),
                // How the standard library's file reports it.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
                Err(error) => panic!("{error}"),
            }
            thread::yield_now();
        }
        assert!(received == bytes, "{} of {} bytes", received.len(), bytes.len());
    }

    #[test]
    fn the_pipe_first_then_a_slow_reader_while_the_poll_goes_on() {
        let mut events = Loop::new();
        let (server, client) = events.server_and_foreign_client();
        let bytes = events.fill(&server);
        drop(server);
        let reading = thread::spawn(move || read_slowly(client, &bytes));
        let end = Instant::now() + STEP;
        while !reading.is_finished() {
            assert!(Instant::now() < end, "what was written does not arrive");
            assert!(events.poll(QUIET).is_empty(), "nothing is told of a dropped pipe");
        }
        reading.join().unwrap();
    }

    /// A program that has written its last and turns to something else.
    #[test]
    fn nothing_at_all_and_what_was_accepted_arrives_though_nobody_polls() {
        for pipe_mode in [PipeMode::Byte, PipeMode::Message] {
            let mut events = Loop::new();
            let name = unique_name();
            let mut server = NamedPipe::create(ServerOptions::new().pipe_mode(pipe_mode), &name).unwrap();
            events.add(&mut server, SERVER);
            let mut client = foreign_client(&name);
            events.connect(&server, SERVER);
            let bytes = events.fill(&server);
            let (received, wait_received) = mpsc::channel();
            thread::spawn(move || {
                let mut all = vec![0; bytes.len()];
                let read = client.read_exact(&mut all);
                let _ = received.send(read.is_ok() && all == bytes);
            });
            assert_eq!(wait_received.recv_timeout(STEP), Ok(true));
        }
    }

    #[test]
    fn the_pipe_first_and_then_the_poll() {
        let mut events = Loop::new();
        let (server, client) = events.server_and_foreign_client();
        let bytes = events.fill(&server);
        drop(server);
        drop(events.poll);
        read_slowly(client, &bytes);
    }

    #[test]
    fn the_poll_first_and_then_the_pipe() {
        let mut events = Loop::new();
        let (server, client) = events.server_and_foreign_client();
        let bytes = events.fill(&server);
        drop(events.poll);
        drop(server);
        read_slowly(client, &bytes);
    }

    #[test]
    fn a_pipe_works_on_when_its_poll_is_gone_and_nothing_new_can_be_registered() {
        let mut events = Loop::new();
        let (mut server, mut client) = events.server_and_foreign_client();
        let registry = events.registry().try_clone().unwrap();
        let waker = Waker::new(&registry, Token(5)).unwrap();
        drop(events.poll);

        assert!(would_block(server.read(&mut [0; 8])));
        client.write_all(b"after").unwrap();
        let mut buffer = [0; 8];
        let end = Instant::now() + STEP;
        while would_block(server.read(&mut buffer)) {
            assert!(Instant::now() < end);
            thread::yield_now();
        }
        assert_eq!(&buffer[..5], b"after");
        server.write_all(b"all").unwrap();
        client.read_exact(&mut buffer[..3]).unwrap();
        assert_eq!(&buffer[..3], b"all");

        waker.wake().unwrap();
        assert_kind(Waker::new(&registry, Token(6)), io::ErrorKind::NotConnected);
        let mut other = NamedPipe::new(unique_name()).unwrap();
        assert_kind(registry.register(&mut other, Token(7), BOTH), io::ErrorKind::NotConnected);
        Poll::new().unwrap().registry().register(&mut other, Token(7), BOTH).unwrap();
        registry.deregister(&mut server).unwrap();
        assert_kind(registry.register(&mut server, SERVER, BOTH), io::ErrorKind::NotConnected);
    }

    #[test]
    fn a_dropped_server_is_gone_at_once() {
        let events = Loop::new();
        let name = unique_name();
        let mut server = NamedPipe::new(&name).unwrap();
        events.add(&mut server, SERVER);
        assert!(would_block(server.connect()));
        drop(server);
        assert_code(NamedPipe::open(&ClientOptions::new(), &name), ERROR_FILE_NOT_FOUND);

        let mut server = NamedPipe::new(&name).unwrap();
        events.add(&mut server, SERVER);
        let mut client = foreign_client(&name);
        server.connect().unwrap();
        assert!(would_block(server.read(&mut [0; 8])));
        drop(server);
        let end = client.read(&mut [0; 8]);
        assert!(matches!(&end, Ok(0)) || end.is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe));
    }

    #[test]
    fn a_linger_of_nothing_gives_up_what_is_in_flight() {
        let mut events = Loop::new();
        let name = unique_name();
        let mut server = NamedPipe::new(&name).unwrap();
        server.set_linger(Some(Duration::ZERO));
        assert_eq!(server.linger(), Some(Duration::ZERO));
        events.add(&mut server, SERVER);
        assert_eq!(server.linger(), Some(Duration::ZERO));
        let mut client = foreign_client(&name);
        events.connect(&server, SERVER);
        let bytes = events.fill(&server);
        drop(server);
        events.settle();
        let mut received = Vec::new();
        let _ = client.read_to_end(&mut received);
        assert!(received.len() < bytes.len(), "nothing was given up");
        assert!(bytes.starts_with(&received));
    }

    #[test]
    fn many_in_any_order() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..40 {
            let mut events = Loop::new();
            let mut parts: Vec<Box<dyn std::any::Any>> = Vec::new();
            for number in 0..3 {
                let name = unique_name();
                let mut server = NamedPipe::new(&name).unwrap();
                events.add(&mut server, Token(number));
                let _ = server.connect();
                if random.bool() {
                    let mut client = NamedPipe::open(&ClientOptions::new(), &name).unwrap();
                    events.add(&mut client, Token(number + 10));
                    if random.bool() {
                        events.poll(Duration::ZERO);
                        let _ = fill_or_not(&mut client, random.bool());
                    }
                    parts.push(Box::new(client));
                }
                parts.push(Box::new(server));
            }
            parts.push(Box::new(Waker::new(events.registry(), Token(99)).unwrap()));
            parts.push(Box::new(events.registry().try_clone().unwrap()));
            parts.push(Box::new(events.poll));
            random.shuffle(&mut parts);
            drop(parts);
        }
    }

    fn fill_or_not(pipe: &mut NamedPipe, full: bool) -> io::Result<usize> {
        pipe.write(&vec![1; if full { 2 << 20 } else { 10 }])
    }
}

mod data_path {
    use super::*;

    #[test]
    fn messages_arrive_whole() {
        let mut events = Loop::new();
        let (server, mut client, _) = events.pair_with(
            ServerOptions::new().pipe_mode(PipeMode::Message),
            ClientOptions::new().pipe_mode(PipeMode::Message),
        );
        let mut buffer = vec![0; 200_000];
        for length in [1, 511, 512, 513, 4096, 65_536, 65_537, 150_000] {
            let message = data(length);
            assert_eq!(events.write_some(&server, SERVER, &message), length);
            events.write(&server, SERVER, b"next");
            let count = events.read_some(&client, CLIENT, &mut buffer).unwrap();
            assert!(buffer[..count] == message, "{count} bytes of a message of {length}");
            let count = events.read_some(&client, CLIENT, &mut buffer).unwrap();
            assert_eq!(&buffer[..count], b"next");
        }
        assert_eq!(events.write_some(&client, CLIENT, b""), 0);
        let parts = [IoSlice::new(b"one "), IoSlice::new(b"message")];
        while would_block(client.write_vectored(&parts)) {
            events.until(CLIENT, Event::is_writable);
        }
        let count = events.read_some(&server, SERVER, &mut buffer).unwrap();
        assert_eq!(&buffer[..count], b"one message", "the empty one is passed over");
    }

    #[test]
    fn several_buffers_are_one() {
        let mut events = Loop::new();
        let (mut server, mut client) = events.pair();
        let written =
            server.write_vectored(&[IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cdefg")]).unwrap();
        assert_eq!(written, 7);
        events.until(CLIENT, Event::is_readable);
        let (mut first, mut second) = ([0; 3], [0; 9]);
        let mut buffers = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
        assert_eq!(client.read_vectored(&mut buffers).unwrap(), 7);
        assert_eq!((&first, &second[..4]), (b"abc", &b"defg"[..]));
        assert_eq!(client.read(&mut []).unwrap(), 0);
    }

    #[test]
    fn a_handle_made_elsewhere_is_what_it_was_made_for() {
        let mut events = Loop::new();
        let name = unique_name();
        let mut server = NamedPipe::create(ServerOptions::new().pipe_mode(PipeMode::Message), &name).unwrap();
        events.add(&mut server, SERVER);
        let file =
            OpenOptions::new().read(true).write(true).custom_flags(FILE_FLAG_OVERLAPPED).open(&name).unwrap();
        let mut client = NamedPipe::from(OwnedHandle::from(file));
        events.connect(&server, SERVER);
        events.add(&mut client, CLIENT);
        events.settle();
        // Of bytes, only a part of the first would be accepted; and the others would become one.
        for message in [&data(300_000)[..], b"b", b"c"] {
            assert_eq!(events.write_some(&client, CLIENT, message), message.len());
        }
        let mut buffer = vec![0; 1 << 20];
        for length in [300_000, 1, 1] {
            assert_eq!(events.read_some(&server, SERVER, &mut buffer).unwrap(), length);
        }
    }

    #[test]
    fn drain_waits_until_the_peer_has_read() {
        let mut events = Loop::new();
        let (mut server, mut client) = events.server_and_foreign_client();
        server
            .drain()
            .or_else(|error| {
                assert!(would_block::<()>(Err(error)));
                events.until(SERVER, Event::is_writable);
                server.drain()
            })
            .unwrap();
        server.write_all(b"unread").unwrap();
        while would_block(server.flush()) {
            events.until(SERVER, Event::is_writable);
        }
        assert!(would_block(server.drain()));
        events.settle();
        assert!(would_block(server.drain()));
        client.read_exact(&mut [0; 6]).unwrap();
        while would_block(server.drain()) {
            events.until(SERVER, Event::is_writable);
        }
        server.disconnect().unwrap();
    }

    #[test]
    fn a_drain_of_the_last_connection_says_nothing_of_the_next() {
        let mut events = Loop::new();
        let name = unique_name();
        let mut server = NamedPipe::new(&name).unwrap();
        events.add(&mut server, SERVER);
        for _ in 0..3 {
            assert!(would_block(server.connect()));
            let _client = foreign_client(&name);
            events.until(SERVER, Event::is_writable);
            events.write(&server, SERVER, b"unread");
            while would_block(server.flush()) {
                events.until(SERVER, Event::is_writable);
            }
            assert!(would_block(server.drain()));
            server.disconnect().unwrap();
        }
    }

    #[test]
    fn a_hundred_mebibytes_go_both_ways_through_one_poll() {
        const TOTAL: usize = 100 << 20;
        struct Side {
            pipe: NamedPipe,
            sent: usize,
            received: usize,
        }

        let mut events = Loop::new();
        let (server, client) = events.pair();
        let mut sides = [server, client].map(|pipe| Side { pipe, sent: 0, received: 0 });
        // No power of two, so that no shift by a buffer's size goes unnoticed.
        let pattern = data((1 << 20) - 3);
        let mut buffer = vec![0; 256 * 1024];
        while sides.iter().any(|side| side.received < TOTAL) {
            for side in &mut sides {
                while side.sent < TOTAL {
                    let start = side.sent % pattern.len();
                    let end = pattern.len().min(start + TOTAL - side.sent);
                    match side.pipe.write(&pattern[start..end]) {
                        Ok(written) => side.sent += written,
                        Err(error) => {
                            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                            break;
                        }
                    }
                }
                loop {
                    match side.pipe.read(&mut buffer) {
                        Ok(0) => panic!("the end after {} bytes", side.received),
                        Ok(count) => {
                            let mut checked = 0;
                            while checked < count {
                                let start = side.received % pattern.len();
                                let part = (count - checked).min(pattern.len() - start);
                                let expected = &pattern[start..start + part];
                                assert!(buffer[checked..checked + part] == *expected, "{}", side.received);
                                checked += part;
                                side.received += part;
                            }
                        }
                        Err(error) => {
                            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                            break;
                        }
                    }
                }
            }
            if sides.iter().any(|side| side.received < TOTAL) {
                assert!(!events.poll(STEP).is_empty(), "stuck");
            }
        }
        assert!(sides.iter().all(|side| side.received == TOTAL && side.sent == TOTAL));
    }
}

#[cfg(feature = "mio")]
mod beside_mio {
    use std::sync::Arc;

    use super::*;

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
}
