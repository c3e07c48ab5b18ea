//! The driver and its waiters: each place that wakes, with wakers that panic, and the timers of
//! waits that are over.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use super::guarded_waker::hostile::Hostile;
use super::{Batch, BlockingFlush, Deadline, Driver, Waiting};
use crate::sync::{Arc, lock};
use crate::sys::{self, Overlapped, OwnedHandle, Pipe, Submission, Temper};

impl Driver {
    /// The number of timers that the driver holds.
    pub(crate) fn timers(&self) -> usize {
        lock(&self.timers).len()
    }
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Count {
    fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// A waker that panics, with no other owner, and behind it one that does not panic.
fn two_waiting() -> (Vec<Waiting>, Arc<AtomicUsize>, Arc<Count>) {
    let (hostile, woken) = Hostile::waker();
    let count = Arc::<Count>::default();
    let other = Waker::from(count.clone());
    let both = [&hostile, &other].map(|waker| Waiting::new(&Context::from_waker(waker)));
    (both.into(), woken, count)
}

fn turn(driver: &Driver) {
    let mut batch = Batch::new();
    driver.collect(&mut batch, Some(Duration::ZERO));
    batch.wake_all();
}

#[test]
fn packets_wake_those_behind_a_waker_that_panics() {
    let (all, woken, other) = two_waiting();
    let mut batch = Batch::new();
    batch.wake = all;
    batch.wake_all();
    assert_eq!((woken.load(Ordering::SeqCst), other.get()), (1, 1));

    let (mut all, woken, other) = two_waiting();
    Waiting::wake_together(&mut all);
    assert_eq!((woken.load(Ordering::SeqCst), other.get()), (1, 1));
}

#[test]
fn timers_wake_those_behind_a_waker_that_panics() {
    let driver = Driver::new().unwrap();
    let now = Instant::now();
    // Late enough for both to be polled before, on a busy machine too.
    let [first, second] = [500, 501].map(|late| Deadline::new(&driver, now + Duration::from_millis(late)));
    let (hostile, woken) = Hostile::waker();
    assert!(first.poll(&Context::from_waker(&hostile)).is_pending());
    drop(hostile);
    let other = Arc::<Count>::default();
    assert!(second.poll(&Context::from_waker(&Waker::from(other.clone()))).is_pending());
    while other.get() == 0 {
        turn(&driver);
    }
    assert_eq!(woken.load(Ordering::SeqCst), 1);
}

#[test]
fn a_wait_that_is_dropped_drops_a_waker_that_panics() {
    let driver = Driver::new().unwrap();
    let deadline = Deadline::new(&driver, Instant::now() + Duration::from_secs(3600));
    let (hostile, woken) = Hostile::waker();
    assert!(deadline.poll(&Context::from_waker(&hostile)).is_pending());
    drop(hostile);
    drop(deadline);
    assert_eq!(woken.load(Ordering::SeqCst), 0);
}

#[test]
fn a_deadline_leaves_no_timer() {
    const MANY: usize = if cfg!(miri) { 50 } else { 10_000 };
    let driver = Driver::new().unwrap();
    let hour = Duration::from_secs(3600);
    let kept = Deadline::new(&driver, Instant::now() + hour);
    for _ in 0..MANY {
        drop(Deadline::new(&driver, Instant::now() + hour));
    }
    assert_eq!(driver.timers(), 1);
    let many: Vec<_> = (0..MANY).map(|_| Deadline::new(&driver, Instant::now() + hour)).collect();
    assert_eq!(driver.timers(), MANY + 1);
    drop((many, kept));
    assert_eq!(driver.timers(), 0);
}

#[test]
fn one_long_timer_after_another_wakes_the_driver_once() {
    let driver = Driver::new().unwrap();
    let mut batch = Batch::new();
    let mut woken = 0;
    for _ in 0..100 {
        drop(Deadline::new(&driver, Instant::now() + Duration::from_secs(3600)));
        woken += driver.collect(&mut batch, Some(Duration::ZERO));
    }
    assert_eq!(woken, 1);
    drop(Deadline::new(&driver, Instant::now() + Duration::from_secs(60)));
    assert_eq!(driver.collect(&mut batch, Some(Duration::ZERO)), 1, "it would sleep past this one");
}

/// A pipe end with bytes that the peer has not read.
fn unread(cancels_late: bool) -> (Pipe, Arc<OwnedHandle>, OwnedHandle) {
    let temper = Temper { seed: 1, cancels_late, ..Temper::default() };
    let (pipe, server) = Pipe::create(false, 100, temper);
    let client = pipe.open().unwrap();
    let (bytes, overlapped) = (b"unread", Overlapped::new());
    // SAFETY: the write is within the quota of a kernel that does not hesitate, so it is over when
    // the call returns.
    let written = unsafe { sys::write(&server, bytes.as_ptr(), bytes.len() as u32, &raw const overlapped) };
    assert!(matches!(written, Submission::Finished(outcome) if outcome.code == 0));
    (pipe, Arc::new(server), client)
}

fn wait_until(done: impl Fn() -> bool) {
    while !done() {
        thread::yield_now();
    }
}

#[test]
fn a_flush_that_blocks_ends_with_a_waker_that_panics() {
    let (_pipe, server, client) = unread(false);
    let mut flush = BlockingFlush::start(server.clone()).unwrap();
    let (hostile, woken) = Hostile::waker();
    assert!(flush.poll(&Context::from_waker(&hostile)).is_pending());
    drop(hostile);
    assert_eq!(sys::read_now(&client, &mut [0; 6]).unwrap().bytes, 6);
    wait_until(|| woken.load(Ordering::SeqCst) == 1);
    assert!(matches!(flush.poll(&Context::from_waker(Waker::noop())), Poll::Ready(Ok(()))));
}

#[test]
fn a_flush_that_blocks_is_cancelled_whenever_it_is_dropped() {
    for (cancels_late, calls) in [(false, false), (false, true), (true, true)] {
        let (pipe, server, _client) = unread(cancels_late);
        let flush = BlockingFlush::start(server.clone()).unwrap();
        wait_until(|| !calls || pipe.is_flushed());
        drop(flush);
        // Its thread lets go of the handle when it has left the call.
        wait_until(|| Arc::strong_count(&server) == 1);
    }
}
