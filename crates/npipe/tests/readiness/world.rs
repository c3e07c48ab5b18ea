//! What the tests of the readiness face share: a loop with patience, pipes in it, data. Knows no
//! test.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use npipe::readiness::{Event, Events, Interest, NamedPipe, Poll, Registry, Token};
use npipe::{ClientOptions, ServerOptions};

pub(crate) const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);
pub(crate) const SERVER: Token = Token(1);
pub(crate) const CLIENT: Token = Token(2);
pub(crate) const FILE_FLAG_OVERLAPPED: u32 = 0x4000_0000;

/// How long one awaited event may take: far above what any does, so only one that was lost gets
/// here.
pub(crate) const STEP: Duration = Duration::from_secs(100);
/// How long a whole test may take before the process is given up: for what blocks a thread.
pub(crate) const TEST: Duration = Duration::from_secs(240);
/// For how long nothing must happen where nothing must. A test can pass wrongly for this being
/// short, not fail.
pub(crate) const QUIET: Duration = Duration::from_millis(30);

pub(crate) fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!(r"\\.\pipe\npipe-readiness-{}-{number}", std::process::id())
}

pub(crate) fn would_block<T: std::fmt::Debug>(result: io::Result<T>) -> bool {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
        Err(error) => panic!("{error}"),
        Ok(_) => false,
    }
}

#[track_caller]
pub(crate) fn assert_kind<T: std::fmt::Debug>(result: io::Result<T>, kind: io::ErrorKind) {
    assert_eq!(result.expect_err("refused").kind(), kind);
}

#[track_caller]
pub(crate) fn assert_code<T: std::fmt::Debug>(result: io::Result<T>, code: u32) {
    assert_eq!(result.expect_err("failed").raw_os_error(), Some(code as i32));
}

/// A `Poll` with a pipe or two and the patience of a test. Ends the process if the test does not
/// end.
pub(crate) struct Loop {
    pub(crate) poll: Poll,
    pub(crate) events: Events,
    _watchdog: mpsc::Sender<()>,
}

impl Loop {
    pub(crate) fn new() -> Self {
        Self::on(Poll::new().unwrap())
    }

    pub(crate) fn on(poll: Poll) -> Self {
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

    pub(crate) fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    pub(crate) fn add(&self, pipe: &mut NamedPipe, token: Token) {
        self.registry().register(pipe, token, BOTH).unwrap();
    }

    /// One poll of at most `timeout`.
    pub(crate) fn poll(&mut self, timeout: Duration) -> Vec<Event> {
        self.poll.poll(&mut self.events, Some(timeout)).unwrap();
        self.events.iter().cloned().collect()
    }

    /// Polls until there is an event of this pipe that is `wanted`. Others are not remembered.
    #[track_caller]
    pub(crate) fn until(&mut self, token: Token, wanted: fn(&Event) -> bool) -> Event {
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
    pub(crate) fn assert_quiet(&mut self) {
        for timeout in [Duration::ZERO, QUIET, Duration::ZERO] {
            assert!(self.poll(timeout).is_empty(), "{:?}", self.events);
        }
    }

    /// Polls until everything that was to be told has been.
    pub(crate) fn settle(&mut self) -> Vec<Event> {
        let mut told = Vec::new();
        loop {
            match self.poll(QUIET) {
                events if events.is_empty() => return told,
                events => told.extend(events),
            }
        }
    }

    #[track_caller]
    pub(crate) fn read_some(
        &mut self,
        mut pipe: &NamedPipe,
        token: Token,
        buffer: &mut [u8],
    ) -> io::Result<usize> {
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
    pub(crate) fn read(&mut self, pipe: &NamedPipe, token: Token, count: usize) -> Vec<u8> {
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
    pub(crate) fn write_some(&mut self, mut pipe: &NamedPipe, token: Token, bytes: &[u8]) -> usize {
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
    pub(crate) fn write(&mut self, pipe: &NamedPipe, token: Token, bytes: &[u8]) {
        let mut written = 0;
        while written < bytes.len() {
            written += self.write_some(pipe, token, &bytes[written..]);
        }
    }

    /// As much as the pipe takes, and then a write that has to wait. Gives what was accepted.
    pub(crate) fn fill(&mut self, mut pipe: &NamedPipe) -> Vec<u8> {
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
    pub(crate) fn connect(&mut self, server: &NamedPipe, token: Token) {
        if would_block(server.connect()) {
            self.until(token, Event::is_writable);
            assert!(server.take_error().unwrap().is_none());
        }
    }

    /// Both ends, connected and registered, with nothing left to be told.
    pub(crate) fn pair(&mut self) -> (NamedPipe, NamedPipe) {
        let (server, client, _) = self.pair_with(&ServerOptions::new(), &ClientOptions::new());
        (server, client)
    }

    pub(crate) fn pair_with(
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

    /// A server that is registered and connected to a client that knows nothing of npipe and reads
    /// nothing ahead.
    pub(crate) fn server_and_foreign_client(&mut self) -> (NamedPipe, File) {
        let name = unique_name();
        let mut server = NamedPipe::new(&name).unwrap();
        self.add(&mut server, SERVER);
        let client = foreign_client(&name);
        self.connect(&server, SERVER);
        self.settle();
        (server, client)
    }
}

pub(crate) fn foreign_client(name: &str) -> File {
    OpenOptions::new().read(true).write(true).open(name).unwrap()
}

/// Bytes of which none can be missing, doubled or out of place unnoticed.
pub(crate) fn data(length: usize) -> Vec<u8> {
    (0..length as u64).map(|place| (place ^ (place >> 8) ^ (place >> 16)) as u8).collect()
}
