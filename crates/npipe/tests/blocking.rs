//! The blocking face on real pipes: what only threads can do. Time-outs and cancellation are raced against completion, and
//! every byte and every client is accounted for.
//!
//! What all faces have in common is tested by the behaviour suite.
#![cfg(windows)]

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::{AsHandle, AsRawHandle, OwnedHandle};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures_lite::future;
use npipe::blocking::{PipeListener, PipeStream};
use npipe::{
    ClientOptions, NamedPipeClient, PipeEnd, PipeMode, SecurityDescriptor, ServerIdentity, ServerOptions,
    Trustee,
};

#[path = "blocking/sys.rs"]
mod sys;

const ERROR_BROKEN_PIPE: i32 = 109;
const ERROR_NO_DATA: i32 = 232;
const ERROR_PIPE_BUSY: i32 = 231;
const ERROR_PIPE_NOT_CONNECTED: i32 = 233;
const FILE_FLAG_OVERLAPPED: u32 = 0x4000_0000;

/// How long a test may take. Far above what any takes; only a lost wake-up reaches it.
const LIMIT: Duration = Duration::from_secs(180);
const SHORT: Duration = Duration::from_millis(20);
/// Far more than a test waits for anything that comes.
const LONG: Duration = Duration::from_secs(60);

/// Ends the process, naming the test, unless dropped in time: a thread that is blocked cannot be ended otherwise.
struct Watchdog {
    _ended: mpsc::Sender<()>,
}

fn watchdog() -> Watchdog {
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
fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(r"\\.\pipe\npipe-blocking-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn pair() -> (PipeStream, PipeStream) {
    pair_with(&ServerOptions::new(), &ClientOptions::new())
}

fn pair_with(server: &ServerOptions, client: &ClientOptions) -> (PipeStream, PipeStream) {
    let name = unique_name();
    let listener = PipeListener::bind_with(server, &name).unwrap();
    let client = PipeStream::connect_with(client, &name).unwrap();
    (listener.accept().unwrap(), client)
}

fn message_pair() -> (PipeStream, PipeStream) {
    pair_with(
        ServerOptions::new().pipe_mode(PipeMode::Message),
        ClientOptions::new().pipe_mode(PipeMode::Message),
    )
}

/// A pair on which a write of more than the quota, 4 KiB, has to wait for its reader.
fn narrow_pair() -> (PipeStream, PipeStream) {
    pair_with(ServerOptions::new().in_buffer_size(4096).out_buffer_size(4096), &ClientOptions::new())
}

/// Lets others run for a time that is nothing to wait for: it moves the moments of a race.
fn linger(microseconds: u64) {
    let end = Instant::now() + Duration::from_micros(microseconds);
    while Instant::now() < end {
        thread::yield_now();
    }
}

#[track_caller]
fn assert_kind<T: std::fmt::Debug>(result: io::Result<T>, kind: ErrorKind) {
    match result {
        Ok(value) => panic!("Ok({value:?}) instead of {kind:?}"),
        Err(error) => assert_eq!(error.kind(), kind, "{error:?}"),
    }
}

#[track_caller]
fn assert_code<T: std::fmt::Debug>(result: io::Result<T>, code: i32) {
    match result {
        Ok(value) => panic!("Ok({value:?}) instead of system error {code}"),
        Err(error) => assert_eq!(error.raw_os_error(), Some(code), "{error:?}"),
    }
}

/// An endless sequence of bytes in which a lost, repeated or moved piece shows: its period is a prime.
struct Pattern {
    block: Vec<u8>,
    at: usize,
}

impl Pattern {
    const PERIOD: usize = 65_537;

    fn new(seed: u64) -> Self {
        let mut block = vec![0; Self::PERIOD];
        fastrand::Rng::with_seed(seed).fill(&mut block);
        Self { block, at: 0 }
    }

    /// The next bytes, at most `limit`.
    fn next(&mut self, limit: usize) -> &[u8] {
        let start = self.at;
        let end = Self::PERIOD.min(start + limit);
        self.at = end % Self::PERIOD;
        &self.block[start..end]
    }

    #[track_caller]
    fn expect(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let expected = self.next(bytes.len());
            assert!(bytes[..expected.len()] == *expected, "bytes differ from what was written");
            bytes = &bytes[expected.len()..];
        }
    }
}

fn send(mut stream: &PipeStream, seed: u64, total: usize) {
    let mut data = Pattern::new(seed);
    let mut left = total;
    while left > 0 {
        let bytes = data.next(left);
        stream.write_all(bytes).unwrap();
        left -= bytes.len();
    }
}

fn receive(mut stream: &PipeStream, seed: u64, total: usize) {
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

#[test]
fn full_duplex_of_100_mib_on_one_stream_from_two_threads() {
    let _watchdog = watchdog();
    const TOTAL: usize = 100 << 20;
    let (server, client) = pair();
    thread::scope(|scope| {
        scope.spawn(|| send(&server, 1, TOTAL));
        scope.spawn(|| receive(&server, 2, TOTAL));
        scope.spawn(|| send(&client, 2, TOTAL));
        scope.spawn(|| receive(&client, 1, TOTAL));
    });
}

#[test]
fn a_read_that_waits_does_not_keep_others_from_writing() {
    let _watchdog = watchdog();
    let (mut server, client) = pair();
    let reader = client.try_clone().unwrap();
    let answer = thread::spawn(move || {
        let mut answer = [0; 6];
        (&reader).read_exact(&mut answer).unwrap();
        answer
    });
    (&client).write_all(b"question").unwrap();
    let mut question = [0; 8];
    server.read_exact(&mut question).unwrap();
    server.write_all(b"answer").unwrap();
    assert_eq!((&question, &answer.join().unwrap()), (b"question", b"answer"));
}

#[test]
fn reads_that_time_out_while_data_arrive_lose_nothing() {
    let _watchdog = watchdog();
    const MOST_ROUNDS: usize = 100_000;
    let (server, client) = pair();
    let (written, mut timeouts, mut reads) = (AtomicU32::new(0), 0_u32, 0_u32);
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = fastrand::Rng::with_seed(7);
            let mut data = Pattern::new(7);
            for _ in 0..MOST_ROUNDS {
                if enough.load(Ordering::Relaxed) {
                    break;
                }
                // Time-outs are rounded to milliseconds: most writes come close to the end of one.
                linger(random.u64(0..1500));
                let bytes = data.next(random.usize(1..300));
                (&server).write_all(bytes).unwrap();
                written.fetch_add(bytes.len() as u32, Ordering::Relaxed);
            }
            drop(server);
        });
        client.set_read_timeout(Some(Duration::from_micros(300))).unwrap();
        let mut data = Pattern::new(7);
        let mut read = 0;
        let mut buffer = [0; 256];
        loop {
            match (&client).read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    data.expect(&buffer[..count]);
                    read += count as u32;
                    reads += 1;
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error:?}");
                    timeouts += 1;
                }
            }
            enough.store(timeouts > 200 && reads > 3000, Ordering::Relaxed);
        }
        assert_eq!(read, written.load(Ordering::Relaxed), "every byte, with {timeouts} time-outs");
    });
    assert!(
        timeouts > 100 && reads > 1000,
        "{timeouts} time-outs and {reads} reads: there was hardly a race"
    );
}

#[test]
fn a_read_waits_as_long_as_its_time_out_says() {
    let _watchdog = watchdog();
    let (server, mut client) = pair();
    client.set_read_timeout(Some(SHORT)).unwrap();
    let started = Instant::now();
    assert_kind(client.read(&mut [0; 4]), ErrorKind::TimedOut);
    assert!(started.elapsed() >= SHORT);
    // Longer than a clock reaches is no time-out.
    client.set_read_timeout(Some(Duration::MAX)).unwrap();
    let writer = thread::spawn(move || {
        (&server).write_all(b"late").unwrap();
        server
    });
    let mut buffer = [0; 4];
    client.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"late");
    drop(writer.join().unwrap());
    client.set_read_timeout(None).unwrap();
    assert_eq!(client.read(&mut buffer).unwrap(), 0);
}

#[test]
fn time_outs_are_what_was_set_and_zero_is_refused() {
    let _watchdog = watchdog();
    let (_server, client) = pair();
    assert_eq!((client.read_timeout(), client.write_timeout()), (None, None));
    let clone = client.try_clone().unwrap();
    let (read, write) = (Duration::from_nanos(1), Duration::from_secs(3600));
    client.set_read_timeout(Some(read)).unwrap();
    clone.set_write_timeout(Some(write)).unwrap();
    for stream in [&client, &clone] {
        assert_eq!((stream.read_timeout(), stream.write_timeout()), (Some(read), Some(write)));
    }
    assert_kind(client.set_read_timeout(Some(Duration::ZERO)), ErrorKind::InvalidInput);
    assert_kind(client.set_write_timeout(Some(Duration::ZERO)), ErrorKind::InvalidInput);
    assert_eq!((client.read_timeout(), client.write_timeout()), (Some(read), Some(write)), "they are kept");
    client.set_read_timeout(None).unwrap();
    client.set_write_timeout(None).unwrap();
    assert_eq!((clone.read_timeout(), clone.write_timeout()), (None, None));
}

#[test]
fn a_write_that_times_out_stays_on_its_way_and_stops_the_next() {
    let _watchdog = watchdog();
    let (server, mut client) = narrow_pair();
    client.set_write_timeout(Some(SHORT)).unwrap();
    let mut data = Pattern::new(3);
    let big = data.next(50_000).to_vec();
    let started = Instant::now();
    assert_eq!(client.write(&big).unwrap(), big.len(), "late, but it counts");
    assert!(started.elapsed() >= SHORT);
    assert_kind(client.write(b"refused"), ErrorKind::TimedOut);
    assert_kind(client.flush(), ErrorKind::TimedOut);
    assert_kind(
        client.write_vectored(&[IoSlice::new(b"refused"), IoSlice::new(b"too")]),
        ErrorKind::TimedOut,
    );
    thread::scope(|scope| {
        // Without a time-out the next write waits behind.
        client.set_write_timeout(None).unwrap();
        scope.spawn(|| {
            client.write_all(b"next").unwrap();
            client.flush().unwrap();
        });
        receive(&server, 3, big.len());
        let mut next = [0; 4];
        (&server).read_exact(&mut next).unwrap();
        assert_eq!(&next, b"next", "nothing of what was refused");
    });
}

#[test]
fn writes_that_time_out_while_the_peer_reads_lose_nothing() {
    let _watchdog = watchdog();
    const ROUNDS: usize = 1500;
    let (server, client) = narrow_pair();
    let mut timeouts = 0;
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut random = fastrand::Rng::with_seed(9);
            let mut data = Pattern::new(9);
            let mut buffer = [0; 8192];
            let mut total = 0;
            loop {
                linger(random.u64(0..3000));
                let room = random.usize(1..buffer.len());
                match (&server).read(&mut buffer[..room]).unwrap() {
                    0 => return total,
                    count => {
                        data.expect(&buffer[..count]);
                        total += count;
                    }
                }
            }
        });
        client.set_write_timeout(Some(Duration::from_millis(1))).unwrap();
        let mut random = fastrand::Rng::with_seed(10);
        let mut data = Pattern::new(9);
        let mut total = 0;
        for _ in 0..ROUNDS {
            let mut bytes = data.next(random.usize(1..6000));
            while !bytes.is_empty() {
                match (&client).write(bytes) {
                    Ok(count) => {
                        total += count;
                        bytes = &bytes[count..];
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error:?}");
                        timeouts += 1;
                    }
                }
            }
        }
        // With a write on its way, perhaps.
        drop(client);
        assert_eq!(reader.join().unwrap(), total);
    });
    assert!(timeouts > 50, "{timeouts} time-outs: there was hardly a race");
}

#[test]
fn a_write_on_its_way_outlives_its_thread_and_its_stream() {
    let _watchdog = watchdog();
    let (server, client) = narrow_pair();
    thread::spawn(move || {
        client.set_write_timeout(Some(SHORT)).unwrap();
        assert_eq!((&client).write(Pattern::new(4).next(60_000)).unwrap(), 60_000);
        drop(client);
    })
    .join()
    .unwrap();
    receive(&server, 4, 60_000);
    assert_eq!((&server).read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_write_on_its_way_lingers_as_long_as_it_was_told() {
    let _watchdog = watchdog();
    let (server, client) = narrow_pair();
    assert_eq!(client.linger(), None);
    client.set_linger(Some(LONG));
    assert_eq!(client.linger(), Some(LONG));
    client.set_write_timeout(Some(SHORT)).unwrap();
    assert_eq!(client.linger(), Some(LONG), "also when it was told before there was anything to linger");
    assert_eq!((&client).write(&[0; 50_000]).unwrap(), 50_000);
    client.set_linger(Some(SHORT));
    (&server).write_all(b"x").unwrap();
    drop(client);
    // Nobody reads, neither here nor there: only the close of the other end ends this, with an error if it still waits.
    let _ = server.drain();
    assert_code((&server).write(b"x"), ERROR_NO_DATA);
}

#[test]
fn the_error_of_a_write_on_its_way_is_reported_once() {
    let _watchdog = watchdog();
    let (server, mut client) = narrow_pair();
    client.set_write_timeout(Some(SHORT)).unwrap();
    assert_eq!(client.write(&[0; 50_000]).unwrap(), 50_000);
    drop(server);
    let error = client.flush().unwrap_err();
    assert_ne!(error.kind(), ErrorKind::TimedOut, "{error:?}");
    client.flush().unwrap();
    assert_code(client.write(b"x"), ERROR_NO_DATA);

    // By a write without a time-out as well.
    let (server, mut client) = narrow_pair();
    client.set_write_timeout(Some(SHORT)).unwrap();
    assert_eq!(client.write(&[0; 50_000]).unwrap(), 50_000);
    client.set_write_timeout(None).unwrap();
    drop(server);
    client.write(b"x").unwrap_err();
    client.flush().unwrap();
}

#[test]
fn accept_can_be_cancelled_before_while_and_after() {
    let _watchdog = watchdog();
    let name = unique_name();
    let listener = PipeListener::bind(&name).unwrap();
    let canceller = listener.canceller();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| listener.accept());
        let other = scope.spawn(|| listener.accept());
        // One client for one of the two, so that the other waits by now, or will.
        let _client = PipeStream::connect(&name).unwrap();
        while !waiting.is_finished() && !other.is_finished() {
            thread::yield_now();
        }
        canceller.clone().cancel();
        let results = [waiting.join().unwrap(), other.join().unwrap()];
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
        for error in results.into_iter().filter_map(Result::err) {
            assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
        }
    });
    // And so are all later ones, though a client is there.
    let _client = PipeStream::connect(&name).unwrap();
    assert_kind(listener.accept(), ErrorKind::ConnectionAborted);
    assert_kind(listener.accept_timeout(Duration::ZERO), ErrorKind::ConnectionAborted);
    canceller.cancel();
    assert!(listener.incoming().next().is_none());
    drop(listener);
    // It outlives the listener and keeps nothing of it.
    canceller.cancel();
    assert_kind(PipeStream::connect(&name), ErrorKind::NotFound);
}

#[test]
fn accept_raced_against_cancellation_loses_no_client() {
    let _watchdog = watchdog();
    const ROUNDS: u32 = 2000;
    let (mut accepted, mut cancelled) = (0, 0);
    let (names, clients) = mpsc::channel::<String>();
    let (cancellers, cancelling) = mpsc::channel::<npipe::blocking::Canceller>();
    thread::scope(|scope| {
        let (opened, streams) = mpsc::channel();
        scope.spawn(move || {
            let mut random = fastrand::Rng::with_seed(4);
            for name in clients {
                linger(random.u64(0..400));
                opened.send(PipeStream::connect(name)).unwrap();
            }
        });
        scope.spawn(move || {
            let mut random = fastrand::Rng::with_seed(5);
            for canceller in cancelling {
                linger(random.u64(0..600));
                canceller.cancel();
            }
        });
        for round in 0..ROUNDS {
            let name = unique_name();
            let listener = PipeListener::bind(&name).unwrap();
            names.send(name).unwrap();
            cancellers.send(listener.canceller()).unwrap();
            match listener.accept() {
                Ok(mut server) => {
                    accepted += 1;
                    let mut client = streams.recv().unwrap().unwrap();
                    client.write_all(&round.to_le_bytes()).unwrap();
                    let mut number = [0; 4];
                    server.read_exact(&mut number).unwrap();
                    assert_eq!(u32::from_le_bytes(number), round);
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "{error:?}");
                    cancelled += 1;
                    drop(listener);
                    // It came too late, or sees the end: it does not hang.
                    match streams.recv().unwrap() {
                        Ok(mut client) => assert_eq!(client.read(&mut [0]).unwrap(), 0),
                        Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}"),
                    }
                }
            }
        }
        drop((names, cancellers));
    });
    assert!(accepted > 20 && cancelled > 20, "{accepted} accepted, {cancelled} cancelled: hardly a race");
}

#[test]
fn accepts_that_time_out_while_clients_come_lose_none() {
    let _watchdog = watchdog();
    const CLIENTS: u32 = 1500;
    let name = unique_name();
    let listener = PipeListener::bind(&name).unwrap();
    let mut timeouts = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = fastrand::Rng::with_seed(6);
            for number in 0..CLIENTS {
                let mut client = PipeStream::connect(&name).unwrap();
                client.write_all(&number.to_le_bytes()).unwrap();
                client.read_exact(&mut [0]).unwrap();
                linger(random.u64(0..2500));
            }
        });
        let mut next = 0;
        while next < CLIENTS {
            match listener.accept_timeout(Duration::from_micros(500)) {
                Ok(mut server) => {
                    let mut number = [0; 4];
                    server.read_exact(&mut number).unwrap();
                    assert_eq!(u32::from_le_bytes(number), next);
                    next += 1;
                    server.write_all(&[0]).unwrap();
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error:?}");
                    timeouts += 1;
                }
            }
        }
    });
    assert!(timeouts > 50, "{timeouts} time-outs: there was hardly a race");
}

#[test]
fn accept_waits_as_long_as_its_time_out_says() {
    let _watchdog = watchdog();
    let name = unique_name();
    let listener = PipeListener::bind(&name).unwrap();
    let started = Instant::now();
    assert_kind(listener.accept_timeout(SHORT), ErrorKind::TimedOut);
    assert!(started.elapsed() >= SHORT);
    assert_kind(listener.accept_timeout(Duration::ZERO), ErrorKind::TimedOut);
    let mut client = PipeStream::connect(&name).unwrap();
    client.write_all(b"here").unwrap();
    let mut server = listener.accept_timeout(Duration::ZERO).unwrap();
    let mut here = [0; 4];
    server.read_exact(&mut here).unwrap();
    assert_eq!(&here, b"here");
    thread::scope(|scope| {
        // Behind a thread that waits as well.
        let canceller = listener.canceller();
        let first = scope.spawn(|| listener.accept());
        assert_kind(listener.accept_timeout(SHORT), ErrorKind::TimedOut);
        canceller.cancel();
        assert_kind(first.join().unwrap(), ErrorKind::ConnectionAborted);
    });
}

#[test]
fn a_thread_that_waits_for_its_turn_to_accept_gets_it() {
    let _watchdog = watchdog();
    let name = unique_name();
    let listener = PipeListener::bind(&name).unwrap();
    thread::scope(|scope| {
        let accepts = [(); 3].map(|()| scope.spawn(|| listener.accept().unwrap()));
        let clients = [(); 3].map(|()| PipeStream::connect(&name).unwrap());
        for server in accepts {
            (&server.join().unwrap()).write_all(b"x").unwrap();
        }
        for mut client in clients {
            client.read_exact(&mut [0]).unwrap();
        }
    });
}

#[test]
fn several_threads_accept_from_one_listener() {
    let _watchdog = watchdog();
    const CLIENTS: u32 = 300;
    let name = unique_name();
    let listener = PipeListener::bind(&name).unwrap();
    let served = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for stream in &listener {
                    let mut stream = stream.unwrap();
                    io::copy(&mut stream.try_clone().unwrap(), &mut stream).unwrap();
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for number in 0..CLIENTS {
            let mut client = PipeStream::connect(&name).unwrap();
            client.write_all(&number.to_le_bytes()).unwrap();
            let mut echo = [0; 4];
            client.read_exact(&mut echo).unwrap();
            assert_eq!(u32::from_le_bytes(echo), number);
        }
        listener.canceller().cancel();
    });
    assert_eq!(served.into_inner(), CLIENTS);
}

/// One may come to any instance at any moment, also while the next is made to wait, which resets the event of all.
#[test]
fn an_accept_hears_of_every_client_of_its_backlog() {
    let _watchdog = watchdog();
    const CLIENTS: usize = 500;
    let name = unique_name();
    let listener = PipeListener::bind(&name).unwrap();
    thread::scope(|scope| {
        let clients = [(); 3].map(|()| {
            scope.spawn(|| {
                for _ in 0..CLIENTS {
                    PipeStream::connect(&name).unwrap().read_exact(&mut [0]).unwrap();
                }
            })
        });
        scope.spawn(|| listener.incoming().for_each(|stream| stream.unwrap().write_all(b"!").unwrap()));
        clients.into_iter().for_each(|client| client.join().unwrap());
        listener.close();
    });
}

/// The system ends what a thread began when it ends: then another one begins anew, also one that waits already.
#[test]
fn an_accept_outlives_the_thread_that_began_to_wait() {
    let _watchdog = watchdog();
    for _ in 0..10 {
        let name = unique_name();
        let listener = PipeListener::bind(&name).unwrap();
        thread::scope(|scope| {
            let gone = scope.spawn(|| assert_kind(listener.accept_timeout(SHORT / 4), ErrorKind::TimedOut));
            let server = scope.spawn(|| listener.accept());
            gone.join().unwrap();
            let mut client = PipeStream::connect(&name).unwrap();
            server.join().unwrap().unwrap().write_all(b"!").unwrap();
            client.read_exact(&mut [0]).unwrap();
        });
    }
}

#[test]
fn the_name_never_vanishes_while_clients_come_and_go() {
    let _watchdog = watchdog();
    const CLIENTS: usize = 1500;
    let name = unique_name();
    let listener = PipeListener::bind(&name).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| listener.incoming().for_each(|stream| drop(stream.unwrap())));
        for _ in 0..CLIENTS {
            // NotFound would be the gap.
            let mut client = PipeStream::connect(&name).unwrap();
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
        }
        listener.canceller().cancel();
    });
}

#[test]
fn a_client_that_left_without_a_word_is_passed_over_and_one_that_wrote_is_not() {
    let _watchdog = watchdog();
    let name = unique_name();
    let listener = PipeListener::bind(&name).unwrap();
    drop(PipeStream::connect(&name).unwrap());
    assert_kind(listener.accept_timeout(SHORT), ErrorKind::TimedOut);
    PipeStream::connect(&name).unwrap().write_all(b"goodbye").unwrap();
    let mut said = Vec::new();
    listener.accept().unwrap().read_to_end(&mut said).unwrap();
    assert_eq!(said, b"goodbye");
}

#[test]
fn an_accept_that_times_out_since_all_instances_are_taken_keeps_the_client() {
    let _watchdog = watchdog();
    let name = unique_name();
    let listener = PipeListener::bind_with(ServerOptions::new().max_instances(2), &name).unwrap();
    let _first = PipeStream::connect(&name).unwrap();
    let server = listener.accept().unwrap();
    let mut second = PipeStream::connect(&name).unwrap();
    assert_kind(listener.accept_timeout(SHORT), ErrorKind::TimedOut);
    drop(server);
    listener.accept().unwrap().write_all(b"!").unwrap();
    second.read_exact(&mut [0]).unwrap();
}

#[test]
fn connect_tells_a_missing_pipe_from_a_busy_one() {
    let _watchdog = watchdog();
    let name = unique_name();
    assert_kind(PipeStream::connect(&name), ErrorKind::NotFound);
    assert_kind(PipeStream::connect_timeout(&name, LONG), ErrorKind::NotFound);

    let listener = PipeListener::bind_with(ServerOptions::new().backlog(1), &name).unwrap();
    let _first = PipeStream::connect(&name).unwrap();
    let started = Instant::now();
    let timeout = Duration::from_millis(120);
    assert_kind(PipeStream::connect_timeout(&name, timeout), ErrorKind::TimedOut);
    assert!(started.elapsed() >= timeout);
    assert_kind(PipeStream::connect_timeout(&name, Duration::ZERO), ErrorKind::TimedOut);

    // The next instance is made when the first client is accepted.
    let (waiting, also_waiting) = (name.clone(), name.clone());
    let second = thread::spawn(move || PipeStream::connect(waiting));
    let third = thread::spawn(move || PipeStream::connect_timeout(also_waiting, LONG));
    let _servers = [listener.accept().unwrap(), listener.accept().unwrap(), listener.accept().unwrap()];
    second.join().unwrap().unwrap();
    third.join().unwrap().unwrap();

    // Nobody waits for what is gone.
    let listener = PipeListener::bind_with(ServerOptions::new().backlog(1), unique_name()).unwrap();
    let name = listener.local_name().clone();
    let _taken = PipeStream::connect(&name).unwrap();
    let waiting = thread::spawn({
        let name = name.clone();
        move || PipeStream::connect(name)
    });
    drop(listener);
    assert_kind(waiting.join().unwrap(), ErrorKind::NotFound);
}

#[test]
fn the_ends_of_a_connection_are_told_apart() {
    let _watchdog = watchdog();
    let (mut server, mut client) = pair();
    client.write_all(b"last words").unwrap();
    drop(client);
    assert_code(server.write(b"x"), ERROR_NO_DATA);
    let mut said = Vec::new();
    server.read_to_end(&mut said).unwrap();
    assert_eq!(said, b"last words");
    assert_eq!(server.read(&mut [0]).unwrap(), 0, "the end stays");

    let (server, mut client) = pair();
    client.disconnect().unwrap_err();
    let waiting = thread::spawn({
        let clone = server.try_clone().unwrap();
        move || (&clone).read(&mut [0])
    });
    (&server).write_all(b"discarded").unwrap();
    server.disconnect().unwrap();
    assert_code(waiting.join().unwrap(), ERROR_PIPE_NOT_CONNECTED);
    assert_code(client.read(&mut [0; 20]), ERROR_PIPE_NOT_CONNECTED);
    assert_code(client.write(b"x"), ERROR_PIPE_NOT_CONNECTED);
    assert_code((&server).write(b"x"), ERROR_PIPE_NOT_CONNECTED);
    assert_code(server.disconnect(), ERROR_PIPE_NOT_CONNECTED);
}

#[test]
fn drain_waits_until_the_peer_has_read_everything() {
    let _watchdog = watchdog();
    let (server, client) = pair();
    (&server).write_all(&[1; 10_000]).unwrap();
    let read = AtomicU32::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..10 {
                (&client).read_exact(&mut [0; 1000]).unwrap();
                read.fetch_add(1, Ordering::SeqCst);
            }
        });
        server.drain().unwrap();
        // The last read has ended; whether its thread has counted it is open.
        assert!(read.load(Ordering::SeqCst) >= 9);
    });
}

#[test]
fn halves_read_and_write_at_once_and_make_the_stream_again() {
    let _watchdog = watchdog();
    let (mut server, client) = npipe::blocking::pair().unwrap();
    let (mut reader, mut writer) = client.into_split();
    let reading = thread::spawn(move || {
        let mut answer = [0; 6];
        reader.read_exact(&mut answer).unwrap();
        (reader, answer)
    });
    writer.write_all(b"question").unwrap();
    server.read_exact(&mut [0; 8]).unwrap();
    server.write_all(b"answer").unwrap();
    let (reader, answer) = reading.join().unwrap();
    assert_eq!(&answer, b"answer");
    drop(reader.reunite(writer).unwrap());
    assert_eq!(server.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_handle_that_is_given_up_comes_with_what_was_read_ahead() {
    let _watchdog = watchdog();
    let (server, client) = npipe::pair().unwrap();
    assert!(client.try_read(&mut [0]).is_err(), "a read is in flight, into a buffer of the pipe's");
    server.try_write(b"ahead").unwrap();
    let client = future::block_on(async {
        client.readable().await.unwrap();
        client.into_blocking().await
    });
    let clone = client.try_clone().unwrap();
    assert_kind(clone.into_owned_handle(), ErrorKind::InvalidInput);
    let (handle, read_ahead) = client.into_owned_handle().unwrap();
    server.try_write(b", behind").unwrap();
    let mut rest = [0; 8];
    File::from(handle).read_exact(&mut rest).unwrap();
    assert_eq!((&read_ahead.concat()[..], &rest), (&b"ahead"[..], b", behind"));

    let (server, mut client) = npipe::blocking::pair().unwrap();
    server.set_write_timeout(Some(LONG)).unwrap();
    (&server).write_all(b"written").unwrap();
    let (handle, read_ahead) = server.into_owned_handle().unwrap();
    assert!(read_ahead.is_empty());
    drop(handle);
    let mut received = Vec::new();
    client.read_to_end(&mut received).unwrap();
    assert_eq!(received, b"written");
}

/// Set for the process that the next test starts: the value of the handle that it has inherited.
const INHERITED: &str = "NPIPE_TEST_INHERITED_HANDLE";

#[test]
fn a_child_process_has_the_end_that_it_inherits() {
    if let Ok(handle) = std::env::var(INHERITED) {
        let mut inherited = sys::adopt_inherited(handle.parse().unwrap()).unwrap();
        let mut question = [0; 8];
        inherited.read_exact(&mut question).unwrap();
        inherited.write_all(&question.map(|byte| byte.to_ascii_uppercase())).unwrap();
        return;
    }
    let _watchdog = watchdog();
    let (mut ours, theirs) =
        npipe::blocking::pair_with(&ServerOptions::new(), ClientOptions::new().inheritable(true)).unwrap();
    let handle = theirs.as_handle().as_raw_handle().addr().to_string();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_child_process_has_the_end_that_it_inherits"])
        .env(INHERITED, handle)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // Else the end would stay open when the child has gone.
    drop(theirs);
    ours.write_all(b"question").unwrap();
    let mut answer = Vec::new();
    ours.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"QUESTION");
    assert!(child.wait().unwrap().success());
}

#[test]
fn an_inheritable_end_is_never_tied_to_a_port() {
    let _watchdog = watchdog();
    let options = (ServerOptions::new(), ClientOptions::new());
    let (mut server, mut client) = options;
    let (server, client) =
        npipe::blocking::pair_with(server.inheritable(true), client.inheritable(true)).unwrap();
    assert_kind(server.set_write_timeout(Some(LONG)), ErrorKind::Unsupported);
    let error = client.into_client().unwrap_err();
    assert_eq!(error.reason().kind(), ErrorKind::Unsupported);
    let name = unique_name();
    let listener = PipeListener::bind_with(ServerOptions::new().inheritable(true), &name).unwrap();
    let _client = PipeStream::connect_with(ClientOptions::new().inheritable(true), &name).unwrap();
    assert_kind(listener.accept().unwrap().set_write_timeout(Some(LONG)), ErrorKind::Unsupported);
}

#[test]
fn a_drain_with_a_time_out_gives_up_on_a_reader_that_stops_and_loses_nothing() {
    let _watchdog = watchdog();
    let (server, mut client) = pair();
    (&server).write_all(b"unread").unwrap();
    let started = Instant::now();
    assert_kind(server.drain_timeout(SHORT), ErrorKind::TimedOut);
    assert!(started.elapsed() >= SHORT);
    client.read_exact(&mut [0; 6]).unwrap();
    server.drain_timeout(LONG).unwrap();
    server.drain_timeout(Duration::MAX).unwrap();
}

#[test]
fn a_drain_with_a_time_out_waits_for_a_slow_reader_and_ends_with_one_that_dies() {
    let _watchdog = watchdog();
    let (server, client) = pair();
    (&server).write_all(&[1; 10_000]).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| (0..10).for_each(|_| (&client).read_exact(&mut [0; 1000]).unwrap()));
        server.drain_timeout(LONG).unwrap();
    });
    (&server).write_all(b"never read").unwrap();
    thread::scope(|scope| {
        let draining = scope.spawn(|| server.drain_timeout(LONG));
        drop(client);
        // Where it had closed before the drain began, the system does not tell whether it had read everything.
        let ended = draining.join().unwrap();
        assert!(matches!(ended.map_err(|error| error.raw_os_error()), Ok(()) | Err(Some(ERROR_BROKEN_PIPE))));
    });
}

#[test]
fn closing_a_server_waits_for_its_client_to_read_and_disconnects_it() {
    let _watchdog = watchdog();
    let (server, mut client) = pair();
    let clone = server.try_clone().unwrap();
    (&server).write_all(b"goodbye").unwrap();
    let closing = thread::spawn(move || server.close());
    let mut received = [0; 7];
    client.read_exact(&mut received).unwrap();
    closing.join().unwrap().unwrap();
    assert_eq!(&received, b"goodbye");
    assert_code(client.read(&mut received), ERROR_PIPE_NOT_CONNECTED);
    assert_code((&clone).write(b"x"), ERROR_PIPE_NOT_CONNECTED);
}

#[test]
fn closing_a_client_waits_for_its_server_to_read() {
    let _watchdog = watchdog();
    let (mut server, client) = pair();
    (&client).write_all(b"goodbye").unwrap();
    let closing = thread::spawn(move || client.close());
    let mut received = Vec::new();
    server.read_to_end(&mut received).unwrap();
    closing.join().unwrap().unwrap();
    assert_eq!(received, b"goodbye");
    // Of a peer that has gone there is nothing to wait for.
    server.close().unwrap();
}

#[test]
fn ends_of_one_direction_are_closed_as_well() {
    let _watchdog = watchdog();
    let (server, client) =
        pair_with(ServerOptions::new().access_inbound(false), ClientOptions::new().write(false));
    server.close().unwrap();
    assert_code((&client).read(&mut [0]), ERROR_PIPE_NOT_CONNECTED);
    client.close().unwrap();
    let (mut server, client) =
        pair_with(ServerOptions::new().access_outbound(false), ClientOptions::new().read(false));
    (&client).write_all(b"x").unwrap();
    let closing = thread::spawn(move || client.close());
    server.read_to_end(&mut Vec::new()).unwrap();
    closing.join().unwrap().unwrap();
    server.close().unwrap();
}

#[test]
fn closing_gives_up_when_its_time_is_over_and_leaves_what_was_written() {
    let _watchdog = watchdog();
    for with_linger in [true, false] {
        let (server, mut client) = pair();
        (&server).write_all(b"read later").unwrap();
        let closed = if with_linger {
            server.set_linger(Some(SHORT));
            server.close()
        } else {
            server.close_timeout(SHORT)
        };
        assert_kind(closed, ErrorKind::TimedOut);
        let mut received = Vec::new();
        client.read_to_end(&mut received).unwrap();
        assert_eq!(received, b"read later");
    }
}

#[test]
fn nothing_read_and_nothing_written_is_nothing() {
    let _watchdog = watchdog();
    let (mut server, mut client) = pair();
    assert_eq!(client.read(&mut []).unwrap(), 0);
    assert_eq!(client.read_vectored(&mut []).unwrap(), 0);
    assert_eq!(client.read_vectored(&mut [IoSliceMut::new(&mut [])]).unwrap(), 0);
    assert_eq!(client.write(&[]).unwrap(), 0);
    assert_eq!(client.write_vectored(&[]).unwrap(), 0);
    assert_eq!(client.write_vectored(&[IoSlice::new(&[]), IoSlice::new(&[])]).unwrap(), 0);
    client.set_write_timeout(Some(LONG)).unwrap();
    assert_eq!(client.write(&[]).unwrap(), 0);
    server.set_read_timeout(Some(SHORT)).unwrap();
    assert_kind(server.read(&mut [0]), ErrorKind::TimedOut);
    client.flush().unwrap();
}

#[test]
fn several_slices_are_read_and_written_as_one() {
    let _watchdog = watchdog();
    let (mut server, mut client) = pair();
    let slices = [IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cde")];
    assert_eq!(client.write_vectored(&slices).unwrap(), 5);
    client.set_write_timeout(Some(LONG)).unwrap();
    assert_eq!(client.write_vectored(&slices).unwrap(), 5);
    let (mut first, mut second) = ([0; 7], [0; 7]);
    let mut buffers = [IoSliceMut::new(&mut []), IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
    let read = server.read_vectored(&mut buffers).unwrap();
    assert_eq!(&first[..read], b"abcdeab");
    // More than one call copies: a part is accepted, and it is the first.
    client.set_write_timeout(None).unwrap();
    let (one, two) = (vec![1; 200_000], vec![2; 200_000]);
    let accepted = client.write_vectored(&[IoSlice::new(&one), IoSlice::new(&two)]).unwrap();
    assert!((1..=400_000).contains(&accepted));
    drop(client);
    let mut rest = Vec::new();
    server.read_to_end(&mut rest).unwrap();
    let both = [one, two].concat();
    assert!(rest[..3] == *b"cde" && rest[3..] == both[..accepted]);
}

#[test]
fn a_read_is_one_message_or_its_next_part() {
    let _watchdog = watchdog();
    let (mut server, mut client) = message_pair();
    assert_eq!(client.info().unwrap().mode, PipeMode::Message);
    client.write_all(b"one").unwrap();
    assert_eq!(client.write_vectored(&[IoSlice::new(b"tw"), IoSlice::new(b"o")]).unwrap(), 3);
    assert_eq!(client.write(b"").unwrap(), 0, "an empty message, which reads pass over");
    client.set_write_timeout(Some(LONG)).unwrap();
    assert_eq!(client.write_vectored(&[IoSlice::new(b"thr"), IoSlice::new(b"ee")]).unwrap(), 5);
    client.write_all(&[4; 300_000]).unwrap();
    client.write_all(b"five").unwrap();

    let mut buffer = [0; 10];
    let mut read = |room: usize| {
        let count = server.read(&mut buffer[..room]).unwrap();
        buffer[..count].to_vec()
    };
    assert_eq!([read(10), read(2), read(10), read(10)], [&b"one"[..], b"tw", b"o", b"three"]);
    // A message is whole where there is room for it, in however many slices.
    let (mut first, mut second) = (vec![0; 100_000], vec![0; 250_000]);
    let mut buffers = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
    assert_eq!(server.read_vectored(&mut buffers).unwrap(), 300_000);
    assert!(first.iter().chain(&second[..200_000]).all(|byte| *byte == 4));
    assert_eq!(server.read(&mut [0; 10]).unwrap(), 4);

    // An empty message is not the end, and the time-out goes on behind it.
    client.write_all(b"").unwrap();
    assert_eq!(client.write(b"").unwrap(), 0);
    server.set_read_timeout(Some(SHORT)).unwrap();
    assert_kind(server.read(&mut buffer), ErrorKind::TimedOut);
    drop(client);
    assert_eq!(server.read(&mut buffer).unwrap(), 0);
}

#[test]
fn an_empty_message_is_the_end_where_that_is_agreed() {
    let _watchdog = watchdog();
    let (mut server, mut client) = message_pair();
    client.write_all(b"that was all").unwrap();
    assert_eq!(client.write(b"").unwrap(), 0);
    client.write_all(b"or not").unwrap();
    server.try_clone().unwrap().set_empty_message_is_end(true).unwrap();
    let mut said = String::new();
    server.read_to_string(&mut said).unwrap();
    assert_eq!(said, "that was all");
    server.set_empty_message_is_end(false).unwrap();
    assert_eq!(client.write(b"").unwrap(), 0);
    client.write_all(b", after all").unwrap();
    drop(client);
    server.read_to_string(&mut said).unwrap();
    assert_eq!(said, "that was allor not, after all");
}

#[test]
fn an_empty_message_is_seen_between_others_by_an_end_that_read_bytes() {
    let _watchdog = watchdog();
    let (mut server, mut client) =
        pair_with(ServerOptions::new().pipe_mode(PipeMode::Message), &ClientOptions::new());
    client.set_empty_message_is_end(true).unwrap();
    server.write_all(b"that was all").unwrap();
    assert_eq!(server.write(b"").unwrap(), 0);
    server.write_all(b"or not").unwrap();
    let mut said = String::new();
    client.read_to_string(&mut said).unwrap();
    assert_eq!(said, "that was all");
}

/// The largest, once, each way and on either face: the rest of the sizes is the behaviour suite's.
#[test]
fn a_message_of_64_mib_goes_whole_between_the_faces() {
    const SIZE: usize = 64 << 20;
    let _watchdog = watchdog();
    let name = unique_name();
    let server = ServerOptions::new().pipe_mode(PipeMode::Message).create(&name).unwrap();
    let client = PipeStream::connect_with(ClientOptions::new().pipe_mode(PipeMode::Message), &name).unwrap();
    let message: Vec<u8> = (0..SIZE).map(|place| (place % 251) as u8).collect();
    thread::scope(|scope| {
        let echo = scope.spawn(move || {
            npipe::block_on(async {
                server.connect().await.unwrap();
                let mut buffer = BytesMut::new();
                assert_eq!(server.recv_message(&mut buffer).await.unwrap(), Some(SIZE));
                server.send_message(&buffer).await.unwrap();
                server.drain().await.unwrap();
            });
        });
        client.send_message(&message).unwrap();
        let mut buffer = BytesMut::new();
        assert_eq!(client.recv_message_limited(&mut buffer, SIZE).unwrap(), Some(SIZE));
        assert!(buffer == message);
        echo.join().unwrap();
    });
}

#[test]
fn a_wait_for_a_message_ends_in_time_and_takes_nothing() {
    let _watchdog = watchdog();
    let (server, client) = message_pair();
    server.set_read_timeout(Some(SHORT)).unwrap();
    let mut buffer = BytesMut::from("kept");
    assert_kind(server.recv_message(&mut buffer), ErrorKind::TimedOut);
    assert_eq!(buffer, "kept");
    client.send_message(&[7; 9000]).unwrap();
    assert_eq!(server.recv_message(&mut buffer).unwrap(), Some(9000));
    assert_eq!(buffer.len(), 9004);
}

#[test]
fn half_close_waits_for_no_longer_than_it_has_patience() {
    let _watchdog = watchdog();
    for on_its_way in [false, true] {
        let (mut server, client) = message_pair();
        client.send_message(b"unread").unwrap();
        let mut expected = 1;
        if on_its_way {
            // A write that the peer has no room for, and that counts as written.
            client.set_write_timeout(Some(SHORT)).unwrap();
            client.send_message(&vec![7; 8 << 20]).unwrap();
            client.set_write_timeout(None).unwrap();
            expected = 2;
        }
        assert_kind(client.close_write(SHORT), ErrorKind::TimedOut);
        client.close_write(SHORT).unwrap();
        assert_kind(client.send_message(b"late"), ErrorKind::BrokenPipe);
        assert_kind(
            (&client).write_vectored(&[IoSlice::new(b"la"), IoSlice::new(b"te")]),
            ErrorKind::BrokenPipe,
        );
        let mut buffer = BytesMut::new();
        for _ in 0..expected {
            assert!(server.recv_message(&mut buffer).unwrap().is_some_and(|length| length > 0));
        }
        assert_eq!(server.recv_message(&mut buffer).unwrap(), Some(0), "the mark");
        server.write_all(b"answer").unwrap();
        buffer.clear();
        assert_eq!(client.recv_message(&mut buffer).unwrap(), Some(6));
    }
}

#[test]
fn an_exchange_brings_the_reply_whole_and_is_refused_while_a_message_waits() {
    let _watchdog = watchdog();
    let (server, client) = message_pair();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut request = BytesMut::new();
            for length in [3, 0, 4096, 4097, 100_000] {
                assert_eq!(server.recv_message(&mut request).unwrap(), Some(7));
                server.send_message(&vec![7; length]).unwrap();
            }
        });
        let mut reply = BytesMut::new();
        for length in [3, 0, 4096, 4097, 100_000] {
            assert_eq!(client.transact(b"request", &mut reply).unwrap(), length);
            assert!(reply.split() == vec![7; length]);
        }
    });
    server.send_message(b"news").unwrap();
    let mut reply = BytesMut::new();
    let refused = client.transact(b"request", &mut reply).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(ERROR_PIPE_BUSY));
    client.recv_message(&mut reply).unwrap();
    client.set_read_timeout(Some(SHORT)).unwrap();
    assert_kind(client.transact(b"request", &mut reply), ErrorKind::TimedOut);
    assert_eq!(reply, "news");
    server.send_message(b"late").unwrap();
    client.recv_message(&mut reply).unwrap();
    assert_eq!(reply, "newslate", "it is the next message");
    drop(server);
    client.set_read_timeout(None).unwrap();
    client.transact(b"request", &mut reply).unwrap_err();
}

/// What an async end had read ahead is received first, whole, empty messages too.
#[test]
fn messages_that_were_read_ahead_are_received_in_order() {
    let _watchdog = watchdog();
    let name = unique_name();
    let server = ServerOptions::new().pipe_mode(PipeMode::Message).create(&name).unwrap();
    let client = PipeStream::connect_with(ClientOptions::new().pipe_mode(PipeMode::Message), &name).unwrap();
    let messages: [&[u8]; 6] = [b"first", b"", &[7; 600], b"", &[8; 5000], b"last"];
    for message in messages {
        client.send_message(message).unwrap();
    }
    let server = npipe::block_on(async {
        server.connect().await.unwrap();
        server.readable().await.unwrap();
        server.into_blocking().await
    });
    let mut buffer = BytesMut::new();
    for message in messages {
        assert_eq!(server.recv_message(&mut buffer).unwrap(), Some(message.len()));
        assert!(buffer.split() == message);
    }
}

#[test]
fn a_byte_pipe_has_no_empty_message_to_end_at() {
    let _watchdog = watchdog();
    let (mut server, mut client) = pair();
    client.set_empty_message_is_end(true).unwrap();
    server.write_all(b"one").unwrap();
    assert_eq!(server.write(b"").unwrap(), 0);
    server.write_all(b"two").unwrap();
    drop(server);
    let mut said = String::new();
    client.read_to_string(&mut said).unwrap();
    assert_eq!(said, "onetwo");
}

#[test]
fn a_message_that_times_out_is_whole_or_not_there() {
    let _watchdog = watchdog();
    let (mut server, mut client) = pair_with(
        ServerOptions::new().pipe_mode(PipeMode::Message).in_buffer_size(4096),
        // Of such a client only the system knows that what it writes are messages.
        &ClientOptions::new(),
    );
    client.set_write_timeout(Some(SHORT)).unwrap();
    assert_eq!(client.write(&[1; 400_000]).unwrap(), 400_000);
    assert_kind(client.write(&[2; 10]), ErrorKind::TimedOut);
    let mut buffer = vec![0; 500_000];
    assert_eq!(server.read(&mut buffer).unwrap(), 400_000);
    client.set_write_timeout(Some(LONG)).unwrap();
    assert_eq!(client.write(&[3; 10]).unwrap(), 10);
    assert_eq!(server.read(&mut buffer).unwrap(), 10);
    assert_eq!(buffer[0], 3);
}

/// The bytes of an async end that has read ahead what it was sent.
fn read_ahead(client: &NamedPipeClient) {
    future::block_on(client.readable()).unwrap();
}

#[test]
fn an_async_end_becomes_a_blocking_one_and_back_with_what_it_had_read_ahead() {
    let _watchdog = watchdog();
    let name = unique_name();
    let listener = PipeListener::bind(&name).unwrap();
    let client = ClientOptions::new().open(&name).unwrap();
    let server = listener.accept().unwrap();
    send(&server, 11, 300);
    read_ahead(&client);

    let mut stream = future::block_on(client.into_blocking());
    assert_eq!(stream.info().unwrap().end, PipeEnd::Client);
    let mut data = Pattern::new(11);
    let mut buffer = [0; 100];
    stream.read_exact(&mut buffer).unwrap();
    data.expect(&buffer);
    // Back, in the middle of what was read ahead, and then with a read in flight that has nothing yet.
    let client = stream.into_client().unwrap();
    let mut all = Vec::new();
    while all.len() < 200 {
        future::block_on(client.readable()).unwrap();
        let read = client.try_read(&mut buffer).unwrap();
        all.extend_from_slice(&buffer[..read]);
    }
    data.expect(&all);
    assert_kind(client.try_read(&mut buffer), ErrorKind::WouldBlock);
    let mut stream = future::block_on(client.into_blocking());
    stream.set_read_timeout(Some(SHORT)).unwrap();
    assert_kind(stream.read(&mut buffer), ErrorKind::TimedOut);
    (&server).write_all(b"directly").unwrap();
    let mut directly = [0; 8];
    stream.read_exact(&mut directly).unwrap();
    assert_eq!(&directly, b"directly");
    // The other direction, and the end.
    stream.write_all(b"answer").unwrap();
    let mut answer = [0; 6];
    (&server).read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"answer");
    drop(server);
    assert_eq!(stream.read(&mut buffer).unwrap(), 0);
}

#[test]
fn conversions_raced_against_data_lose_nothing() {
    let _watchdog = watchdog();
    const ROUNDS: usize = 1500;
    let name = unique_name();
    let listener = PipeListener::bind(&name).unwrap();
    let mut client = ClientOptions::new().open(&name).unwrap();
    let server = listener.accept().unwrap();
    thread::scope(|scope| {
        let writer = scope.spawn(move || {
            let mut random = fastrand::Rng::with_seed(12);
            let mut data = Pattern::new(12);
            let mut total = 0;
            for _ in 0..ROUNDS {
                let bytes = data.next(random.usize(1..900));
                (&server).write_all(bytes).unwrap();
                total += bytes.len();
                for _ in 0..random.u32(0..4) {
                    thread::yield_now();
                }
            }
            total
        });
        let mut data = Pattern::new(12);
        let mut buffer = [0; 700];
        let mut total = 0;
        for round in 0.. {
            let read = match client.try_read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => None,
                result => Some(result.unwrap()),
            };
            let mut stream = future::block_on(client.into_blocking());
            data.expect(&buffer[..read.unwrap_or(0)]);
            total += read.unwrap_or(0);
            if read == Some(0) {
                break;
            }
            if round % 2 == 0 {
                stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
                match stream.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(read) => {
                        data.expect(&buffer[..read]);
                        total += read;
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut, "{error:?}"),
                }
            }
            client = stream.into_client().unwrap();
        }
        assert_eq!(total, writer.join().unwrap());
    });
}

#[test]
fn conversions_raced_against_messages_leave_them_whole() {
    let _watchdog = watchdog();
    const MESSAGES: u32 = 1500;
    let name = unique_name();
    let listener = PipeListener::bind_with(ServerOptions::new().pipe_mode(PipeMode::Message), &name).unwrap();
    let mut client = ClientOptions::new().pipe_mode(PipeMode::Message).open(&name).unwrap();
    let server = listener.accept().unwrap();
    // Some are longer than what an async end reads ahead.
    let length = |number: u32| 4 + (number * 7919 % 3000) as usize;
    let message = |number: u32| [&number.to_le_bytes()[..], &vec![number as u8; length(number) - 4]].concat();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut random = fastrand::Rng::with_seed(19);
            for number in 0..MESSAGES {
                (&server).write_all(&message(number)).unwrap();
                linger(random.u64(0..50));
            }
        });
        let mut buffer = [0; 4096];
        let mut next = 0;
        for round in 0.. {
            let read = match client.try_read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => None,
                result => Some(result.unwrap()),
            };
            let mut stream = future::block_on(client.into_blocking());
            let read = match read {
                None if round % 2 == 0 => stream.read(&mut buffer).unwrap(),
                None => {
                    client = stream.into_client().unwrap();
                    continue;
                }
                Some(read) => read,
            };
            if read == 0 {
                break;
            }
            assert!(buffer[..read] == message(next), "message {next} is whole");
            next += 1;
            client = stream.into_client().unwrap();
        }
        assert_eq!(next, MESSAGES);
    });
}

#[test]
fn message_boundaries_survive_the_conversions() {
    let _watchdog = watchdog();
    let name = unique_name();
    let listener = PipeListener::bind_with(ServerOptions::new().pipe_mode(PipeMode::Message), &name).unwrap();
    let client = ClientOptions::new().pipe_mode(PipeMode::Message).open(&name).unwrap();
    let mut server = listener.accept().unwrap();
    // More than an async end reads ahead: the rest of the message is still in the pipe.
    let long: Vec<u8> = (0..5000_u32).map(|number| number as u8).collect();
    server.write_all(&long).unwrap();
    server.write_all(b"second").unwrap();
    read_ahead(&client);

    let mut stream = future::block_on(client.into_blocking());
    let mut buffer = [0; 6000];
    assert_eq!(stream.read(&mut buffer).unwrap(), 5000, "whole, since there is room for it");
    assert!(buffer[..5000] == long[..]);
    assert_eq!(stream.read(&mut buffer).unwrap(), 6);
    assert_eq!(&buffer[..6], b"second");

    // The same in parts, and a part of it on either face.
    let client = stream.into_client().unwrap();
    server.write_all(&long).unwrap();
    server.write_all(b"second").unwrap();
    read_ahead(&client);
    let mut stream = future::block_on(client.into_blocking());
    assert_eq!(stream.read(&mut buffer[..10]).unwrap(), 10);
    let (mut small, mut large) = ([0; 1000], [0; 2000]);
    let mut slices = [IoSliceMut::new(&mut small), IoSliceMut::new(&mut large)];
    assert_eq!(stream.read_vectored(&mut slices).unwrap(), 3000);
    assert!([&buffer[..10], &small, &large].concat() == long[..3010]);
    let client = stream.into_client().unwrap();
    read_ahead(&client);
    assert_eq!(client.try_read(&mut buffer).unwrap(), 1990);
    assert!(buffer[..1990] == long[3010..]);
    read_ahead(&client);
    assert_eq!(client.try_read(&mut buffer).unwrap(), 6);
}

#[test]
fn what_was_written_survives_the_conversions() {
    let _watchdog = watchdog();
    let (server, client) = narrow_pair();
    // On its way from a blocking end ...
    client.set_write_timeout(Some(SHORT)).unwrap();
    assert_eq!((&client).write(Pattern::new(13).next(50_000)).unwrap(), 50_000);
    let client = client.into_client().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| receive(&server, 13, 50_000));
        future::block_on(client.flush()).unwrap();
    });
    // ... and from an async one, whose conversion waits until the pipe has it.
    assert_eq!(client.try_write(Pattern::new(14).next(50_000)).unwrap(), 50_000);
    let stream = thread::scope(|scope| {
        scope.spawn(|| receive(&server, 14, 50_000));
        future::block_on(client.into_blocking())
    });
    (&stream).write_all(b"behind").unwrap();
    let mut behind = [0; 6];
    (&server).read_exact(&mut behind).unwrap();
    assert_eq!(&behind, b"behind");

    // An error on the way is the next write's.
    let client = stream.into_client().unwrap();
    assert_eq!(client.try_write(&[0; 50_000]).unwrap(), 50_000);
    drop(server);
    let stream = future::block_on(client.into_blocking());
    (&stream).flush().unwrap_err();
    (&stream).flush().unwrap();
}

#[test]
fn a_server_end_goes_to_and_fro_too_and_from_a_block_on_that_is_over() {
    let _watchdog = watchdog();
    let name = unique_name();
    let (stream, mut client) = npipe::block_on(async {
        let server = ServerOptions::new().create(&name).unwrap();
        let client = PipeStream::connect(&name).unwrap();
        server.connect().await.unwrap();
        (server.into_blocking().await, client)
    });
    // Its port is that of the `block_on`: somebody still attends to it.
    stream.set_write_timeout(Some(LONG)).unwrap();
    let big = vec![1; 1 << 20];
    thread::scope(|scope| {
        scope.spawn(|| (&stream).write_all(&big).unwrap());
        let mut read = vec![0; big.len()];
        client.read_exact(&mut read).unwrap();
        assert!(read == big);
    });
    client.write_all(b"x").unwrap();
    let server = stream.into_server().unwrap();
    future::block_on(server.readable()).unwrap();
    assert_eq!(server.try_read(&mut [0; 2]).unwrap(), 1);
}

#[test]
fn a_stream_on_the_port_of_the_block_on_that_it_is_used_in_hears_of_its_writes() {
    let _watchdog = watchdog();
    let name = unique_name();
    npipe::block_on(async {
        let options = ServerOptions::new().in_buffer_size(4096).clone();
        let server = options.create(&name).unwrap();
        let client = ClientOptions::new().open(&name).unwrap();
        server.connect().await.unwrap();
        let (server, mut client) = (server.into_blocking().await, client.into_blocking().await);
        client.set_write_timeout(Some(SHORT)).unwrap();
        let big = Pattern::new(16).next(50_000).to_vec();
        assert_eq!(client.write(&big).unwrap(), big.len());
        receive(&server, 16, big.len());
        client.set_write_timeout(Some(LONG)).unwrap();
        client.flush().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| receive(&server, 16, big.len()));
            client.write_all(&big).unwrap();
        });
    });
}

#[test]
fn a_conversion_that_makes_no_sense_gives_the_stream_back() {
    let _watchdog = watchdog();
    let (server, client) = pair();
    let clone = client.try_clone().unwrap();
    let error = client.into_client().unwrap_err();
    assert_eq!(error.reason().kind(), ErrorKind::InvalidInput);
    let error = OwnedHandle::try_from(error.into_stream()).unwrap_err();
    assert_eq!(error.reason().kind(), ErrorKind::InvalidInput);
    let client = error.into_stream();
    drop(clone);
    let error = client.into_server().unwrap_err();
    assert_eq!(error.reason().kind(), ErrorKind::InvalidInput);
    let mut client = error.into_stream();
    assert_kind(server.into_client().map(drop).map_err(io::Error::from), ErrorKind::InvalidInput);
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "that one was dropped");

    let (_server, client) = pair();
    client.set_write_timeout(Some(LONG)).unwrap();
    let error = OwnedHandle::try_from(client).unwrap_err();
    assert_eq!(error.reason().kind(), ErrorKind::InvalidInput, "it is tied to a port");
    let client = error.into_stream().into_client().unwrap();
    drop(client);
}

#[test]
fn a_stream_becomes_a_handle_and_back() {
    let _watchdog = watchdog();
    let (server, client) = message_pair();
    let handle = OwnedHandle::try_from(client).unwrap();
    let duplicate = handle.try_clone().unwrap();
    let client = PipeStream::try_from(handle).unwrap();
    (&client).write_all(b"one").unwrap();
    (&client).write_all(b"two").unwrap();
    let mut buffer = [0; 10];
    assert_eq!((&server).read(&mut buffer).unwrap(), 3);
    assert_eq!(client.as_handle().try_clone_to_owned().map(drop).ok(), Some(()));
    // Nobody knows what else is done with a duplicate, so it stays off the ports.
    assert_kind(client.set_write_timeout(Some(LONG)), ErrorKind::Unsupported);
    let error = client.into_client().unwrap_err();
    assert_eq!(error.reason().kind(), ErrorKind::Unsupported);
    let mut client = error.into_stream();
    client.set_read_timeout(Some(SHORT)).unwrap();
    assert_kind(client.read(&mut buffer), ErrorKind::TimedOut);
    drop(client);
    let mut client = PipeStream::try_from(duplicate).unwrap();
    server.disconnect().unwrap();
    assert_code(client.read(&mut buffer), ERROR_PIPE_NOT_CONNECTED);
}

#[test]
fn a_handle_of_which_there_is_only_one_can_do_everything() {
    let _watchdog = watchdog();
    let (server, client) = narrow_pair();
    let client = sys::adopt(OwnedHandle::try_from(client).unwrap()).unwrap();
    client.set_write_timeout(Some(SHORT)).unwrap();
    assert_eq!((&client).write(Pattern::new(17).next(50_000)).unwrap(), 50_000);
    let client = client.into_client().unwrap();
    receive(&server, 17, 50_000);
    future::block_on(client.flush()).unwrap();
}

#[test]
fn a_wait_that_somebody_else_cancels_goes_on() {
    let _watchdog = watchdog();
    let (server, client) = pair();
    let cancelled = AtomicU32::new(0);
    thread::scope(|scope| {
        let reader = scope.spawn(|| receive(&client, 18, 10_000));
        // Three reads that waited have been cancelled, the last perhaps in the midst of data.
        while cancelled.load(Ordering::Relaxed) < 3 {
            cancelled.fetch_add(u32::from(sys::cancel_everything(&client)), Ordering::Relaxed);
            thread::yield_now();
        }
        send(&server, 18, 5_000);
        sys::cancel_everything(&client);
        let mut rest = Pattern::new(18);
        rest.next(5_000);
        (&server).write_all(rest.next(5_000)).unwrap();
        reader.join().unwrap();
    });
}

#[test]
fn a_listener_is_the_first_instance_of_its_name_unless_told_otherwise() {
    let _watchdog = watchdog();
    let name = unique_name();
    let _listener = PipeListener::bind(&name).unwrap();
    PipeListener::bind_with(ServerOptions::new().first_pipe_instance(false), &name).unwrap();
    if sys::runs_under_wine() {
        // Not `println!`: libtest keeps the output of tests that pass to itself.
        let _ = writeln!(
            io::stdout(),
            "skipped-under-wine: a_listener_is_the_first_instance_of_its_name_unless_told_otherwise: \
             FILE_FLAG_FIRST_PIPE_INSTANCE is ignored there"
        );
        return;
    }
    assert_kind(PipeListener::bind(&name), ErrorKind::PermissionDenied);
    assert_kind(PipeListener::bind_with(&ServerOptions::new(), &name), ErrorKind::PermissionDenied);
}

#[test]
fn handles_that_cannot_work_are_refused() {
    let _watchdog = watchdog();
    let name = unique_name();
    let _listener = PipeListener::bind(&name).unwrap();
    let synchronous = OpenOptions::new().read(true).write(true).open(&name).unwrap();
    assert_kind(PipeStream::try_from(OwnedHandle::from(synchronous)), ErrorKind::InvalidInput);

    let file = File::open(std::env::current_exe().unwrap()).unwrap();
    PipeStream::try_from(OwnedHandle::from(file)).unwrap_err();

    let name = unique_name();
    let listener = PipeListener::bind(&name).unwrap();
    let overlapped =
        OpenOptions::new().read(true).write(true).custom_flags(FILE_FLAG_OVERLAPPED).open(&name).unwrap();
    let client = PipeStream::try_from(OwnedHandle::from(overlapped)).unwrap();
    send(&client, 15, 10_000);
    receive(&listener.accept().unwrap(), 15, 10_000);
}

#[test]
fn names_and_options_that_make_no_sense_are_refused() {
    let _watchdog = watchdog();
    let long = "n".repeat(300);
    for name in ["", r"\\.\pipe\", "a\0b", r"\\?\C:\x", long.as_str()] {
        assert_kind(PipeListener::bind(name), ErrorKind::InvalidInput);
        assert_kind(PipeStream::connect(name), ErrorKind::InvalidInput);
        assert_kind(PipeStream::connect_timeout(name, SHORT), ErrorKind::InvalidInput);
    }
    let name = unique_name();
    assert_kind(
        PipeListener::bind_with(ServerOptions::new().max_instances(0), &name),
        ErrorKind::InvalidInput,
    );
    assert_kind(
        PipeListener::bind_with(ServerOptions::new().access_inbound(false).access_outbound(false), &name),
        ErrorKind::InvalidInput,
    );
    assert_kind(
        PipeStream::connect_with(ClientOptions::new().write_buffer_limit(0), &name),
        ErrorKind::InvalidInput,
    );
    // More than a clock reaches: for ever, that is.
    let listener = PipeListener::bind(&name).unwrap();
    let _client = PipeStream::connect_timeout(&name, Duration::MAX).unwrap();
    listener.accept_timeout(Duration::MAX).unwrap();
}

#[test]
fn an_end_of_one_direction_refuses_the_other() {
    let _watchdog = watchdog();
    let (mut server, mut client) =
        pair_with(ServerOptions::new().access_outbound(false), ClientOptions::new().read(false));
    client.write_all(b"one way").unwrap();
    assert_kind(client.read(&mut [0]), ErrorKind::PermissionDenied);
    assert_kind(server.write(b"x"), ErrorKind::PermissionDenied);
    let mut way = [0; 7];
    server.read_exact(&mut way).unwrap();
    assert_eq!(&way, b"one way");
}

#[test]
fn ends_and_handles_go_where_threads_go() {
    fn goes_anywhere<T: Send + Sync + std::fmt::Debug + 'static>() {}
    goes_anywhere::<PipeStream>();
    goes_anywhere::<PipeListener>();
    goes_anywhere::<npipe::blocking::Canceller>();
    goes_anywhere::<npipe::blocking::ConversionError>();
}

/// Not a test by itself: the client that [`a_process_is_known_while_it_lives`] starts.
#[test]
fn plays_a_client() {
    if let Some(name) = std::env::var_os(CLIENT_OF) {
        let mut stream = PipeStream::connect(name).unwrap();
        stream.write_all(b"!").unwrap();
        let _ = stream.read(&mut [0]);
    }
}

const CLIENT_OF: &str = "NPIPE_TEST_CLIENT_OF";

/// A client that is gone leaves a number behind, and nobody else is taken for it.
#[test]
fn a_process_is_known_while_it_lives() {
    let _watchdog = watchdog();
    let name = unique_name();
    let listener = PipeListener::bind(&name).unwrap();
    let program = std::env::current_exe().unwrap();
    let mut child =
        Command::new(&program).args(["--exact", "plays_a_client"]).env(CLIENT_OF, &name).spawn().unwrap();
    let mut stream = listener.accept_timeout(LONG).unwrap();
    stream.read_exact(&mut [0]).unwrap();

    let me = Trustee::CurrentUser.sid().unwrap();
    let peer = stream.peer().unwrap();
    assert_eq!(peer.process_id(), child.id());
    assert_eq!(peer.program().unwrap().file_name(), program.file_name());
    assert_eq!(peer.user().unwrap(), me);
    assert_eq!(stream.impersonate(|client| client.user()).unwrap().unwrap(), me);

    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    let late = stream.peer().unwrap();
    assert_eq!(late.process_id(), peer.process_id());
    if let Ok(found) = late.program() {
        assert_eq!(found.file_name(), program.file_name(), "it is nobody else");
    }
    peer.process().expect("it was found in time, and is held");
}

#[test]
fn a_server_that_is_somebody_else_is_not_waited_for() {
    let _watchdog = watchdog();
    let name = unique_name();
    let mine = SecurityDescriptor::current_user_only().unwrap();
    let _listener = PipeListener::bind_with(ServerOptions::new().security_descriptor(&mine), &name).unwrap();
    let mut options = ClientOptions::new();
    options.wait_for_server(true).verify_server(ServerIdentity::PipeOwner(Trustee::System));
    let error = PipeStream::connect_with(&options, &name).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
}

#[test]
fn a_client_has_no_client() {
    let (_server, client) = pair();
    let error = client.impersonate(|_| panic!("in whose name?")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}
