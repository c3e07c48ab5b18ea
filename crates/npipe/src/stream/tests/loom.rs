//! Every interleaving of a pipe end's holder with the thread that dequeues packets: who owns the
//! operation, who is woken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use loom::thread;

use crate::driver::{Driver, Waiting};
use crate::stream::tests::PLAIN;
use crate::stream::{Key, Slice, Stream};
use crate::sys::{Entry, Pipe, Temper};

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

struct Model {
    driver: Arc<Driver>,
    pipe: Pipe,
    server: Stream,
    client: Stream,
}

fn model(test: impl Fn(Model) + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let driver = Driver::new().unwrap();
        let temper = Temper { seed: 1, ..Temper::default() };
        let (pipe, server) = Pipe::create(false, 0, temper);
        let settings = PLAIN;
        let client = Stream::new(pipe.open().unwrap(), driver.clone(), settings).unwrap();
        let server = Stream::new(server, driver.clone(), settings).unwrap();
        test(Model { driver, pipe, server, client });
    });
}

fn turn(driver: &Driver) {
    let mut wake = Vec::new();
    driver.turn(&mut [Entry::EMPTY; 2], Some(Duration::ZERO), &mut wake).unwrap();
    wake.into_iter().for_each(Waiting::wake);
}

fn read(stream: &Stream, flag: &Arc<Flag>) -> Poll<usize> {
    let waker = Waker::from(flag.clone());
    let mut bytes = [0; 8];
    stream
        .poll_read(&Context::from_waker(&waker), &mut Slice { bytes: &mut bytes, filled: 0 })
        .map(Result::unwrap)
}

#[test]
fn a_reader_is_woken_whenever_its_bytes_come() {
    model(|Model { driver, server, client, .. }| {
        let driver_too = driver.clone();
        let dequeuer = thread::spawn(move || {
            turn(&driver_too);
            turn(&driver_too);
        });
        let writer = thread::spawn(move || {
            let accepted = client.try_write(&&b"x"[..]).unwrap();
            assert_eq!(accepted, 1);
            client
        });
        let flag = Arc::new(Flag::default());
        let first = read(&server, &flag);
        dequeuer.join().unwrap();
        let _client = writer.join().unwrap();
        turn(&driver);
        turn(&driver);
        if first.is_pending() {
            assert!(flag.0.load(Ordering::Acquire), "the reader was forgotten");
            assert_eq!(read(&server, &flag), Poll::Ready(1));
        }
    });
}

#[test]
fn a_flush_is_woken_whenever_the_write_ends() {
    model(|Model { driver, server, client, .. }| {
        // With a quota of zero the write waits for a reader.
        assert_eq!(client.try_write(&&b"x"[..]).unwrap(), 1);
        let driver_too = driver.clone();
        let dequeuer = thread::spawn(move || {
            turn(&driver_too);
            turn(&driver_too);
        });
        let reader = thread::spawn(move || {
            assert_eq!(read(&server, &Arc::default()), Poll::Ready(1));
            server
        });
        let flag = Arc::new(Flag::default());
        let waker = Waker::from(flag.clone());
        let first = client.poll_flush(&Context::from_waker(&waker), Key::POLL);
        dequeuer.join().unwrap();
        let _server = reader.join().unwrap();
        turn(&driver);
        if first.is_pending() {
            assert!(flag.0.load(Ordering::Acquire), "the flush was forgotten");
        }
    });
}

#[test]
fn an_operation_and_its_holder_end_in_any_order() {
    model(|Model { driver, pipe, server, client }| {
        let core = Arc::downgrade(&server.core);
        assert!(read(&server, &Arc::default()).is_pending());
        let driver_too = driver.clone();
        let dequeuer = thread::spawn(move || turn(&driver_too));
        let writer = thread::spawn(move || drop(client));
        drop(server);
        dequeuer.join().unwrap();
        writer.join().unwrap();
        turn(&driver);
        assert!(pipe.is_quiet(), "an operation outlived its pipe");
        assert!(core.upgrade().is_none(), "the pipe's state was leaked");
    });
}

/// Another holder of the file object ends an operation at the same address as the driver's, while
/// the driver's is submitted and ends.
#[test]
fn a_foreign_packet_ends_nothing_and_hides_nothing() {
    model(|Model { driver, pipe, server, client }| {
        let driver_too = driver.clone();
        let dequeuer = thread::spawn(move || {
            turn(&driver_too);
            turn(&driver_too);
        });
        let other = thread::spawn(move || {
            pipe.end_foreign_operation(0);
            assert_eq!(client.try_write(&&b"x"[..]).unwrap(), 1);
            client
        });
        let flag = Arc::new(Flag::default());
        let first = read(&server, &flag);
        dequeuer.join().unwrap();
        let _client = other.join().unwrap();
        turn(&driver);
        turn(&driver);
        if first.is_pending() {
            assert!(flag.0.load(Ordering::Acquire), "the reader was forgotten");
            assert_eq!(read(&server, &flag), Poll::Ready(1));
        }
    });
}
