//! What the tests of the blocking face share: pairs of ends, data, and a limit of time. Knows no
//! test.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use npipe::blocking::PipeStream;
use npipe::{ClientOptions, PipeMode, ServerOptions};

pub(crate) const ERROR_BROKEN_PIPE: i32 = 109;
pub(crate) const ERROR_NO_DATA: i32 = 232;
pub(crate) const ERROR_PIPE_BUSY: i32 = 231;
pub(crate) const ERROR_PIPE_NOT_CONNECTED: i32 = 233;
pub(crate) const FILE_FLAG_OVERLAPPED: u32 = 0x4000_0000;

/// How long a test may take. Far above what any takes; only a lost wake-up reaches it.
pub(crate) const LIMIT: Duration = Duration::from_secs(180);
pub(crate) const SHORT: Duration = Duration::from_millis(20);
/// Far more than a test waits for anything that comes.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// Ends the process, naming the test, unless dropped in time: a thread that is blocked cannot be
/// ended otherwise.
pub(crate) struct Watchdog {
    _ended: mpsc::Sender<()>,
}

pub(crate) fn watchdog() -> Watchdog {
    let test = thread::current().name().unwrap_or("a test").to_owned();
    let (ended, waiting) = mpsc::channel::<()>();
    thread::spawn(move || {
        if waiting.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
            // Not `eprintln!`: libtest would keep it to itself.
            let _ = writeln!(io::stderr(), "{test} still ran after {LIMIT:?}: a thread is blocked");
            std::process::abort();
        }
    });
    Watchdog { _ended: ended }
}

/// A pipe name no other test, run or process uses.
pub(crate) fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(r"\\.\pipe\npipe-blocking-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn pair() -> (PipeStream, PipeStream) {
    pair_with(&ServerOptions::new(), &ClientOptions::new())
}

pub(crate) fn pair_with(server: &ServerOptions, client: &ClientOptions) -> (PipeStream, PipeStream) {
    let name = unique_name();
    let listener = server.listen_blocking(&name).unwrap();
    let client = client.connect_blocking(&name).unwrap();
    (listener.accept().unwrap(), client)
}

pub(crate) fn message_pair() -> (PipeStream, PipeStream) {
    pair_with(
        ServerOptions::new().pipe_mode(PipeMode::Message),
        ClientOptions::new().pipe_mode(PipeMode::Message),
    )
}

/// A pair on which a write of more than the quota, 4 KiB, has to wait for its reader.
pub(crate) fn narrow_pair() -> (PipeStream, PipeStream) {
    pair_with(ServerOptions::new().in_buffer_size(4096).out_buffer_size(4096), &ClientOptions::new())
}

/// Lets others run for a time that is nothing to wait for: it moves the moments of a race.
pub(crate) fn linger(microseconds: u64) {
    let end = Instant::now() + Duration::from_micros(microseconds);
    while Instant::now() < end {
        thread::yield_now();
    }
}

#[track_caller]
pub(crate) fn assert_kind<T: std::fmt::Debug>(result: io::Result<T>, kind: ErrorKind) {
    match result {
        Ok(value) => panic!("Ok({value:?}) instead of {kind:?}"),
        Err(error) => assert_eq!(error.kind(), kind, "{error:?}"),
    }
}

#[track_caller]
pub(crate) fn assert_code<T: std::fmt::Debug>(result: io::Result<T>, code: i32) {
    match result {
        Ok(value) => panic!("Ok({value:?}) instead of system error {code}"),
        Err(error) => assert_eq!(error.raw_os_error(), Some(code), "{error:?}"),
    }
}

/// An endless sequence of bytes in which a lost, repeated or moved piece shows: its period is a
/// prime.
pub(crate) struct Pattern {
    block: Vec<u8>,
    at: usize,
}

impl Pattern {
    pub(crate) const PERIOD: usize = 65_537;

    pub(crate) fn new(seed: u64) -> Self {
        let mut block = vec![0; Self::PERIOD];
        fastrand::Rng::with_seed(seed).fill(&mut block);
        Self { block, at: 0 }
    }

    /// The next bytes, at most `limit`.
    pub(crate) fn next(&mut self, limit: usize) -> &[u8] {
        let start = self.at;
        let end = Self::PERIOD.min(start + limit);
        self.at = end % Self::PERIOD;
        &self.block[start..end]
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let expected = self.next(bytes.len());
            assert!(bytes[..expected.len()] == *expected, "bytes differ from what was written");
            bytes = &bytes[expected.len()..];
        }
    }
}

pub(crate) fn send(mut stream: &PipeStream, seed: u64, total: usize) {
    let mut data = Pattern::new(seed);
    let mut left = total;
    while left > 0 {
        let bytes = data.next(left);
        stream.write_all(bytes).unwrap();
        left -= bytes.len();
    }
}

pub(crate) fn receive(mut stream: &PipeStream, seed: u64, total: usize) {
    let mut data = Pattern::new(seed);
    let mut buffer = vec![0; 100_000];
    let mut left = total;
    while left > 0 {
        let room = left.min(buffer.len());
        let read = stream.read(&mut buffer[..room]).unwrap();
        assert_ne!(read, 0, "the end comes {left} bytes early");
        data.expect(&buffer[..read]);
        left -= read;
    }
}
