//! Streams with a driver thread beside them: the races that a single thread cannot have. Run under
//! AddressSanitizer they show who touches an operation's memory when.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use super::peer::Pattern;
use crate::driver::{Driver, Waiting};
use crate::stream::tests::PLAIN;
use crate::stream::{Key, Settings, Slice, Stream};
use crate::sys::{Entry, Pipe, Temper};

/// Wakes a thread that polls.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

/// A driver on a thread that can be stopped, unlike the one of a process.
struct Running {
    driver: Arc<Driver>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start() -> Self {
        let driver = Driver::new().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (its_driver, its_stop) = (driver.clone(), stop.clone());
        let thread = thread::spawn(move || {
            let mut entries = [Entry::EMPTY; 4];
            let mut wake = Vec::new();
            while !its_stop.load(Ordering::Acquire) {
                its_driver.turn(&mut entries, None, &mut wake).unwrap();
                wake.drain(..).for_each(Waiting::wake);
            }
        });
        Self { driver, stop, thread: Some(thread) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.driver.wake();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        // The packets of what was cancelled still own their operations.
        let mut wake = Vec::new();
        while self.driver.turn(&mut [Entry::EMPTY; 64], Some(Duration::ZERO), &mut wake).unwrap() > 0 {}
    }
}

fn settings() -> Settings {
    Settings { read_limit: 3000, write_limit: 2000, ..PLAIN }
}

fn pair(driver: &Arc<Driver>, seed: u64) -> (Pipe, Stream, Stream) {
    let temper =
        Temper { seed, hesitates: true, splits: true, final_with_packet: seed & 1 == 0, ..Temper::default() };
    let (pipe, server) = Pipe::create(false, 700, temper);
    let server = Stream::new(server, driver.clone(), settings()).unwrap();
    let client = Stream::new(pipe.open().unwrap(), driver.clone(), settings()).unwrap();
    block_on(|context| server.poll_connect(context, Key::POLL)).unwrap();
    (pipe, server, client)
}

fn send(stream: &Stream, pattern: Pattern, total: usize) {
    let mut sent = 0;
    while sent < total {
        let bytes = pattern.bytes(sent, (total - sent).min(1 + sent % 977));
        sent += block_on(|context| stream.poll_write(context, &&bytes[..])).unwrap();
    }
    block_on(|context| stream.poll_flush(context, Key::POLL)).unwrap();
}

fn receive(stream: &Stream, pattern: Pattern, total: usize) {
    let mut received = 0;
    let mut buffer = vec![0; 5000];
    while received < total {
        let room = (1 + received % 4999).min(total - received);
        let count = block_on(|context| {
            stream.poll_read(context, &mut Slice { bytes: &mut buffer[..room], filled: 0 })
        })
        .unwrap();
        assert_ne!(count, 0, "an end of file that nobody caused");
        assert_eq!(buffer[..count], pattern.bytes(received, count), "bytes lost, repeated or reordered");
        received += count;
    }
}

#[test]
fn both_directions_at_once_from_four_threads() {
    const TOTAL: usize = if cfg!(miri) { 5_000 } else { 300_000 };
    let running = Running::start();
    for seed in 1..4 {
        let (_pipe, server, client) = pair(&running.driver, seed);
        thread::scope(|scope| {
            scope.spawn(|| send(&server, Pattern(1), TOTAL));
            scope.spawn(|| send(&client, Pattern(2), TOTAL));
            scope.spawn(|| receive(&server, Pattern(2), TOTAL));
            scope.spawn(|| receive(&client, Pattern(1), TOTAL));
        });
    }
}

#[test]
fn an_end_dropped_at_any_moment_leaves_nothing_behind() {
    let running = Running::start();
    for round in 0..if cfg!(miri) { 20 } else { 2000 } {
        let (pipe, server, client) = pair(&running.driver, round + 1);
        let cores = [&server, &client].map(|stream| Arc::downgrade(&stream.core));
        let dropper = thread::spawn(move || {
            let mut buffer = [0; 100];
            let context = Context::from_waker(Waker::noop());
            let _ = server.poll_read(&context, &mut Slice { bytes: &mut buffer, filled: 0 });
            let _ = server.poll_write(&context, &&buffer[..]);
            let _ = server.poll_flush(&context, Key::POLL);
        });
        let context = Context::from_waker(Waker::noop());
        let _ = client.poll_write(&context, &&[1u8; 1500][..]);
        let mut buffer = [0; 100];
        let _ = client.poll_read(&context, &mut Slice { bytes: &mut buffer, filled: 0 });
        drop(client);
        dropper.join().unwrap();
        // The driver drops the last share after the last packet: it has no more to do then.
        while cores.iter().any(|core| core.strong_count() > 0) {
            thread::yield_now();
        }
        assert!(pipe.is_quiet());
    }
}

#[test]
fn what_was_written_before_the_drop_arrives() {
    let running = Running::start();
    for round in 0..if cfg!(miri) { 5 } else { 300 } {
        let (_pipe, server, client) = pair(&running.driver, round + 1);
        let bytes = Pattern(round).bytes(0, 2500);
        let accepted = match client.poll_write(&Context::from_waker(Waker::noop()), &&bytes[..]) {
            Poll::Ready(count) => count.unwrap(),
            Poll::Pending => 0,
        };
        drop(client);
        receive(&server, Pattern(round), accepted);
        let mut buffer = [0; 10];
        let end = block_on(|context| server.poll_read(context, &mut Slice { bytes: &mut buffer, filled: 0 }));
        assert_eq!(end.unwrap(), 0);
    }
}
