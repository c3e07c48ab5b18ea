//! Random sequences of public operations on two connected ends, of all three APIs, compared with a
//! model of what was sent.
//!
//! An operation that would have to wait is made where the model says that it need not; otherwise
//! it is dropped after one poll, or ended by its time-out. `NPIPE_COMBINATIONS` is the number of
//! sequences, `NPIPE_SEED` the seed of the first. A failure prints the seed, and the operations
//! before it.
//!
//! The unit tests of the library do the same, faster and with the kernel's every choice, over the
//! simulated kernel.
#![cfg(all(windows, feature = "tokio"))]

mod model;

use std::fmt::Debug;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::windows::io::OwnedHandle;
use std::pin::pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use model::{Direction, Zero};
use npipe::blocking::PipeStream;
use npipe::readiness::{Events, Interest, NamedPipe, Token};
use npipe::{ClientOptions, MessageTooLong, NamedPipeClient, NamedPipeServer, Peek, PipeMode, ServerOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Far above what any sequence takes; only an operation that waits for ever reaches it.
const LIMIT: Duration = Duration::from_secs(120);
/// The time-out of a thread's operation that may have to wait. It is tried again where the model
/// says that there is something.
const SHORT: Duration = Duration::from_millis(2);
/// What is known to fit into the pipe.
const ROOM: usize = 4096;
const SERVER: usize = 0;

/// One end, of one API.
enum End {
    Server(NamedPipeServer),
    Client(NamedPipeClient),
    Blocking(PipeStream),
    Readiness(NamedPipe, Box<npipe::readiness::Poll>),
}

/// Evaluates one expression for every kind of end.
macro_rules! of_any {
    ($end:expr, $pipe:ident => $value:expr) => {
        match $end {
            End::Server($pipe) => $value,
            End::Client($pipe) => $value,
            End::Blocking($pipe) => $value,
            End::Readiness($pipe, _) => $value,
        }
    };
}

/// Evaluates one expression for the ends of the async API, and others for the others.
macro_rules! of_each {
    ($end:expr, $pipe:ident => async $future:expr, blocking $blocking:expr, readiness $readiness:expr) => {
        match $end {
            End::Server($pipe) => now($future),
            End::Client($pipe) => now($future),
            End::Blocking($pipe) => ready($blocking),
            End::Readiness($pipe, _) => ready($readiness),
        }
    };
}

/// Polls once. A future that has to wait is dropped.
fn now<T>(future: impl Future<Output = io::Result<T>>) -> Poll<io::Result<T>> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// What a call that does not wait for ever returned.
fn ready<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Poll::Pending,
        result => Poll::Ready(result),
    }
}

/// Lets the owner of a port dequeue.
async fn tick(ends: &mut [Option<Side>; 2]) {
    let mut yields = 64;
    std::future::poll_fn(|context| {
        yields -= 1;
        context.waker().wake_by_ref();
        if yields == 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    for side in ends.iter_mut().flatten() {
        if let End::Readiness(_, poll) = &mut side.end {
            poll.poll(&mut Events::with_capacity(8), Some(Duration::ZERO)).unwrap();
        }
    }
    thread::sleep(Duration::from_micros(200));
}

struct Side {
    end: End,
    zero: Zero,
    /// A message was refused, and its rest may still be in the pipe.
    refused: bool,
    /// The handle belongs to a port for good, as under Wine it does.
    tied: bool,
    /// It cannot be tied to another one.
    foreign: bool,
}

struct World {
    random: fastrand::Rng,
    messages: bool,
    sides: [Option<Side>; 2],
    /// By the end that sends.
    directions: [Direction; 2],
    log: Arc<Log>,
}

impl World {
    fn new(log: Arc<Log>) -> Self {
        let mut random = fastrand::Rng::with_seed(log.seed);
        let messages = random.bool();
        let mut server = ServerOptions::new();
        let mut client = ClientOptions::new();
        if messages {
            server.pipe_mode(PipeMode::Message);
            client.pipe_mode(PipeMode::Message);
        }
        server.in_buffer_size(ROOM as u32).out_buffer_size(ROOM as u32);
        let directions = [1, 2].map(|number| Direction::new(messages, number));
        let sides = if random.bool() {
            let (server, client) = npipe::pair_with(&server, &client).unwrap();
            [(End::Server(server), true), (End::Client(client), true)]
        } else {
            let (server, client) = npipe::blocking::pair_with(&server, &client).unwrap();
            [(End::Blocking(server), false), (End::Blocking(client), false)]
        };
        let sides = sides
            .map(|(end, tied)| Some(Side { end, zero: Zero::End, refused: false, tied, foreign: false }));
        let mut world = Self { random, messages, sides, directions, log };
        // Before anything else, so that there are ends of the readiness API.
        for end in [0, 1] {
            if !world.sides[end].as_ref().unwrap().tied && world.random.u8(..3) > 0 {
                world.use_readiness(end);
            }
        }
        world
    }

    fn below(&mut self, limit: usize) -> usize {
        self.random.usize(..limit)
    }

    fn note(&mut self, end: usize, what: impl Debug) {
        let line = format!("{} {what:?}", ["server", "client"][end]);
        self.log.lines.lock().unwrap().push(line);
    }

    /// A length that is often small, and sometimes more than the pipe takes.
    fn length(&mut self) -> usize {
        match self.below(8) {
            0 => self.below(3 * ROOM),
            1..=3 => self.below(600),
            _ => self.below(20),
        }
    }

    fn write(&mut self, end: usize) {
        let (length, way) = (self.length(), self.below(4));
        let fits = self.directions[end].unread() + length <= ROOM / 2;
        let (messages, sender_gone) = (self.messages, self.sides[1 - end].is_none());
        self.note(end, ("write", length, way));
        let Some(side) = &mut self.sides[end] else { return };
        if let End::Blocking(stream) = &side.end {
            // Without a time-out it would wait for the reader. With one it ties the stream to a port.
            if side.foreign || !side.tied && way > 0 {
                if !fits {
                    return;
                }
                stream.set_write_timeout(None).unwrap();
            } else {
                stream.set_write_timeout(Some(SHORT)).unwrap();
                side.tied = true;
            }
        }
        let bytes = self.directions[end].next_bytes(length);
        let pieces = || {
            let mut first = Bytes::copy_from_slice(&bytes);
            vec![first.split_to(length / 2), first]
        };
        let slices = [&bytes[..length / 2], &bytes[length / 2..]].map(IoSlice::new);
        let whole = |()| length;
        let written = match way {
            0 if messages => of_each!(&side.end, pipe =>
                async pipe.send_message(&bytes), blocking pipe.send_message(&bytes), readiness pipe.send_message(&bytes))
            .map_ok(whole),
            1 => of_each!(&mut side.end, pipe =>
                async pipe.write_owned_vectored(pieces()), blocking pipe.write_vectored(&slices).map(drop), readiness pipe.write_vectored(&slices).map(drop))
            .map_ok(whole),
            2 => of_each!(&mut side.end, pipe =>
                async async { pipe.try_write(&bytes) }, blocking pipe.write(&bytes), readiness pipe.write(&bytes)),
            _ => of_each!(&mut side.end, pipe =>
                async AsyncWriteExt::write(pipe, &bytes), blocking Write::write(pipe, &bytes), readiness Write::write(pipe, &bytes)),
        };
        match written {
            Poll::Ready(Ok(count)) => {
                assert!(!messages || count == length, "a message was cut");
                self.directions[end].accept(count);
            }
            Poll::Ready(Err(error)) if error.kind() == ErrorKind::WouldBlock => {}
            Poll::Ready(Err(error)) => {
                assert!(self.directions[end].is_ended || sender_gone, "a write failed: {error}");
            }
            Poll::Pending => {}
        }
    }

    fn read_once(&mut self, end: usize, room: usize, way: usize) -> bool {
        let messages = self.messages;
        let Some(side) = &mut self.sides[end] else { return true };
        let mut bytes = vec![0; room];
        if let End::Blocking(stream) = &side.end {
            stream.set_read_timeout(Some(SHORT)).unwrap();
        }
        let count = match way {
            0 => of_each!(&mut side.end, pipe =>
                async async { pipe.try_read(&mut bytes) }, blocking pipe.read(&mut bytes), readiness pipe.read(&mut bytes)),
            1 => match &mut side.end {
                End::Server(pipe) => owned(now(pipe.read_owned(BytesMut::with_capacity(room))), &mut bytes),
                End::Client(pipe) => owned(now(pipe.read_owned(BytesMut::with_capacity(room))), &mut bytes),
                End::Blocking(pipe) => ready(pipe.read(&mut bytes)),
                End::Readiness(pipe, _) => ready(pipe.read(&mut bytes)),
            },
            _ => of_each!(&mut side.end, pipe =>
                async AsyncReadExt::read(pipe, &mut bytes), blocking Read::read(pipe, &mut bytes), readiness Read::read(pipe, &mut bytes)),
        };
        let direction = &mut self.directions[1 - end];
        match count {
            Poll::Ready(Ok(count)) => {
                direction.read(&bytes[..count], room, side.zero, false);
                let is_complete = of_any!(&side.end, pipe => pipe.is_message_complete());
                assert!(!messages || is_complete == direction.is_message_complete(), "{direction:?}");
                true
            }
            Poll::Ready(Err(error)) if error.kind() != ErrorKind::WouldBlock => {
                panic!("a read failed: {error}")
            }
            Poll::Ready(Err(_)) | Poll::Pending => {
                direction.read_waits(side.zero);
                false
            }
        }
    }

    fn receive_once(&mut self, end: usize, limit: usize) -> bool {
        let Some(side) = &mut self.sides[end] else { return true };
        if let End::Blocking(stream) = &side.end {
            stream.set_read_timeout(Some(SHORT)).unwrap();
        }
        let mut buffer = BytesMut::from(&b"before"[..]);
        let received = of_each!(&side.end, pipe =>
            async pipe.recv_message_limited(&mut buffer, limit),
            blocking pipe.recv_message_limited(&mut buffer, limit),
            readiness pipe.recv_message_limited(&mut buffer, limit));
        let message = buffer.split_off(b"before".len());
        let direction = &mut self.directions[1 - end];
        side.refused = false;
        match received {
            Poll::Ready(Ok(Some(length))) => {
                assert_eq!(length, message.len());
                direction.receive(&message);
            }
            Poll::Ready(Ok(None)) => direction.receive_end(),
            Poll::Ready(Err(error)) => {
                let refused = error.get_ref().and_then(|error| error.downcast_ref::<MessageTooLong>());
                let refused = refused.unwrap_or_else(|| panic!("receiving failed: {error}"));
                direction.refuse(refused.length(), limit);
                side.refused = true;
            }
            Poll::Pending => {
                assert!(message.is_empty(), "a part of a message was given");
                return false;
            }
        }
        true
    }

    /// Reads or receives once, or until there is a result if the model says that one comes.
    async fn take(&mut self, end: usize, whole: bool, size: usize, gives_up: bool) {
        let way = self.below(3);
        self.note(end, (if whole { "receive" } else { "read" }, size, way, gives_up));
        loop {
            let taken = if whole {
                self.receive_once(end, size)
            } else {
                self.read_once(end, size.clamp(1, 3 * ROOM), way)
            };
            let zero = self.sides[end].as_ref().map_or(Zero::End, |side| side.zero);
            let direction = &self.directions[1 - end];
            let is_there = if whole { direction.has_message() } else { direction.has_bytes(zero) };
            if taken || gives_up || !is_there {
                return;
            }
            tick(&mut self.sides).await;
        }
    }

    /// Returns whether the pipe has all that `end` has written.
    fn is_written(&mut self, end: usize) -> bool {
        let Some(side) = &mut self.sides[end] else { return true };
        of_each!(&mut side.end, pipe => async pipe.flush(), blocking pipe.flush(), readiness pipe.flush())
            .is_ready()
    }

    async fn peek(&mut self, end: usize) {
        self.note(end, "peek");
        loop {
            let written = self.is_written(1 - end);
            let Some(side) = &self.sides[end] else { return };
            let direction = &self.directions[1 - end];
            let is_exact = match of_any!(&side.end, pipe => pipe.peek()) {
                Ok(Peek { bytes_available, bytes_left_in_message, .. }) => {
                    direction.is_peeked(bytes_available, bytes_left_in_message)
                }
                Err(error) => {
                    assert!(direction.is_closed, "a peek failed: {error}");
                    true
                }
            };
            // Those of a closed end go on in the background.
            if is_exact || !written || side.refused || direction.is_closed {
                return;
            }
            tick(&mut self.sides).await;
        }
    }

    fn use_readiness(&mut self, end: usize) {
        let Some(Side { end: End::Blocking(stream), foreign, .. }) = self.sides[end].take() else {
            unreachable!("the stream is on no port")
        };
        let mut pipe = NamedPipe::try_from(OwnedHandle::try_from(stream).unwrap()).unwrap();
        let poll = npipe::readiness::Poll::new().unwrap();
        poll.registry().register(&mut pipe, Token(0), Interest::READABLE.add(Interest::WRITABLE)).unwrap();
        let end_of_readiness = End::Readiness(pipe, Box::new(poll));
        self.sides[end] =
            Some(Side { end: end_of_readiness, zero: Zero::End, refused: false, tied: true, foreign });
        self.directions[1 - end].release::<Bytes>(&[]);
        self.directions[end].is_ended = false;
    }

    /// Goes over to another API, if that need not wait.
    async fn convert(&mut self, end: usize) {
        let way = self.below(3);
        self.note(end, ("convert", way));
        for _ in 0..3 {
            tick(&mut self.sides).await;
        }
        if !self.is_written(end) {
            return;
        }
        let Some(mut side) = self.sides[end].take() else { return };
        let is_released = way == 0 && !matches!(side.end, End::Readiness(..));
        if is_released {
            // A handle carries neither.
            (side.zero, side.refused) = (Zero::End, false);
            side.foreign |= side.tied;
        }
        side.end = match side.end {
            // Wine cannot untie a handle, so its next owner may not be on another port.
            End::Server(pipe) if way == 0 => self.release(end, pipe.into_owned_handle().await),
            End::Client(pipe) if way == 0 => self.release(end, pipe.into_owned_handle().await),
            End::Server(pipe) => End::Blocking(pipe.into_blocking().await),
            End::Client(pipe) => End::Blocking(pipe.into_blocking().await),
            End::Blocking(stream) if way == 0 => self.release(end, stream.into_owned_handle()),
            End::Blocking(stream) if way == 1 && !side.tied => {
                self.sides[end] = Some(Side { end: End::Blocking(stream), ..side });
                return self.use_readiness(end);
            }
            End::Blocking(stream) if side.foreign => End::Blocking(stream),
            End::Blocking(stream) => {
                side.tied = true;
                if end == SERVER {
                    End::Server(stream.into_server().unwrap())
                } else {
                    End::Client(stream.into_client().unwrap())
                }
            }
            readiness @ End::Readiness(..) => readiness,
        };
        self.sides[end] = Some(side);
    }

    /// The next owner of a handle that was given up.
    fn release(&mut self, end: usize, released: io::Result<(OwnedHandle, Vec<Bytes>)>) -> End {
        let (handle, read_ahead) = released.unwrap();
        self.directions[1 - end].release(&read_ahead);
        self.directions[end].is_ended = false;
        End::Blocking(PipeStream::try_from(handle).unwrap())
    }

    fn split_and_reunite(&mut self, end: usize) {
        self.note(end, "split");
        let Some(mut side) = self.sides[end].take() else { return };
        side.end = match side.end {
            End::Server(pipe) => {
                let (reader, writer) = pipe.into_split();
                End::Server(reader.reunite(writer).unwrap())
            }
            End::Client(pipe) => {
                let (reader, writer) = pipe.into_split();
                End::Client(writer.reunite(reader).unwrap())
            }
            End::Blocking(stream) => {
                let (reader, writer) = stream.into_split();
                End::Blocking(reader.reunite(writer).unwrap())
            }
            readiness @ End::Readiness(..) => readiness,
        };
        self.sides[end] = Some(side);
    }

    /// Half-closes, if the peer has received everything.
    fn close_write(&mut self, end: usize) {
        self.note(end, "close_write");
        let peer_gone = self.sides[1 - end].is_none();
        let Some(side) = &self.sides[end] else { return };
        let direction = &mut self.directions[end];
        let closed = of_each!(&side.end, pipe =>
            async pipe.close_write(LIMIT),
            // Its time-out sends the message although there is something to receive.
            blocking if direction.is_received() { pipe.close_write(LIMIT) } else { return },
            readiness pipe.close_write());
        match closed {
            Poll::Ready(Ok(())) if !direction.is_ended => {
                direction.accept(0);
                direction.is_ended = true;
            }
            Poll::Ready(Ok(())) | Poll::Pending => {}
            Poll::Ready(Err(error)) => assert!(peer_gone, "{error}"),
        }
    }

    fn set_empty_message_is_end(&mut self, end: usize) {
        let is_end = self.random.bool();
        self.note(end, ("empty message is end", is_end));
        let Some(side) = &mut self.sides[end] else { return };
        of_any!(&side.end, pipe => pipe.set_empty_message_is_end(is_end)).unwrap();
        side.zero = if is_end { Zero::EmptyMessage } else { Zero::End };
    }

    fn drop(&mut self, end: usize) {
        if self.sides[1 - end].is_some() && self.sides[end].take().is_some() {
            self.note(end, "drop");
            self.directions[end].is_closed = true;
        }
    }

    async fn step(&mut self) {
        let end = self.below(2);
        match self.below(20) {
            0..=5 => self.write(end),
            6..=9 => {
                let (size, gives_up) = (self.length(), self.random.bool());
                self.take(end, false, size, gives_up).await;
            }
            10..=12 if self.messages => {
                let (size, gives_up) = (self.length(), self.random.bool());
                self.take(end, true, size, gives_up).await;
            }
            13 => self.peek(end).await,
            14 | 15 => self.convert(end).await,
            16 => self.split_and_reunite(end),
            17 if self.messages && self.below(3) == 0 => self.close_write(end),
            18 if self.messages => self.set_empty_message_is_end(end),
            19 if self.below(6) == 0 => self.drop(end),
            _ => tick(&mut self.sides).await,
        }
    }

    /// Everything that was accepted arrives, and then the end if the sender has gone.
    async fn finish(&mut self) {
        let whole = self.messages && self.random.bool();
        loop {
            let mut waits = false;
            for end in [0, 1] {
                let zero = self.sides[end].as_ref().map_or(Zero::End, |side| side.zero);
                let direction = &self.directions[1 - end];
                let is_there = if whole { direction.has_message() } else { direction.has_bytes(zero) };
                if self.sides[end].is_some() && is_there && !(direction.is_closed && direction.is_settled()) {
                    waits = true;
                    self.take(end, whole, 3 * ROOM, false).await;
                }
            }
            if !waits {
                break;
            }
        }
        for end in [0, 1] {
            if self.sides[end].is_some() && self.directions[1 - end].is_closed {
                self.take(end, whole, 3 * ROOM, false).await;
            }
        }
    }

    async fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            self.step().await;
        }
        self.finish().await;
        self.sides = [None, None];
    }
}

/// Copies the result of a read into a buffer that was given away.
fn owned(read: Poll<io::Result<BytesMut>>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
    read.map_ok(|read| {
        bytes[..read.len()].copy_from_slice(&read);
        read.len()
    })
}

/// A number from the environment.
fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|number| number.parse().ok()).unwrap_or(default)
}

/// The operations so far, which are printed when one fails.
struct Log {
    seed: u64,
    lines: Mutex<Vec<String>>,
}

impl Log {
    fn print(&self) {
        let lines = self.lines.lock().unwrap().join("\n  ");
        // Not `eprintln!`, which the test harness would keep when the process is aborted.
        let _ = writeln!(io::stderr(), "NPIPE_SEED={} NPIPE_COMBINATIONS=1\n  {lines}", self.seed);
    }
}

/// Plays one sequence, which must end within the limit.
fn play(seed: u64) {
    let log = Arc::new(Log { seed, lines: Mutex::default() });
    let (ended, waiting) = mpsc::channel::<()>();
    let watched = log.clone();
    let watchdog = thread::spawn(move || match waiting.recv_timeout(LIMIT) {
        Ok(()) => {}
        Err(mpsc::RecvTimeoutError::Disconnected) => watched.print(),
        Err(mpsc::RecvTimeoutError::Timeout) => {
            watched.print();
            std::process::abort();
        }
    });
    if seed % 2 == 0 {
        // The pipes belong to the port of the thread.
        npipe::block_on(async { World::new(log).run(40).await });
    } else {
        // They belong to that of the process.
        let mut world = World::new(log);
        npipe::block_on(world.run(40));
    }
    ended.send(()).unwrap();
    watchdog.join().unwrap();
}

#[test]
fn every_combination_of_operations_delivers_what_was_sent() {
    let first = number("NPIPE_SEED", 1);
    (first..first + number("NPIPE_COMBINATIONS", 300)).for_each(play);
}
