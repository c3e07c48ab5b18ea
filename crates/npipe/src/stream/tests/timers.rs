//! Waits with a limit, and pipe ends, leave no timer behind once they are over.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::peer::Waiter;
use crate::driver::Driver;
use crate::stream::tests::PLAIN;
use crate::stream::{LingerTime, Settings, Slice, Stream};
use crate::sync::lock;
use crate::sys::{Entry, Pipe, Temper};

const HOUR: Duration = Duration::from_secs(3600);

fn pair(driver: &Arc<Driver>, limit: usize) -> (Stream, Stream) {
    let temper = Temper { seed: 1, ..Temper::default() };
    let (pipe, server) = Pipe::create(false, 100, temper);
    let settings = Settings { read_limit: limit, write_limit: limit, ..PLAIN };
    let client = Stream::new(pipe.open().unwrap(), driver.clone(), settings).unwrap();
    (Stream::new(server, driver.clone(), settings).unwrap(), client)
}

fn turn(driver: &Driver) {
    let mut wake = Vec::new();
    while driver.turn(&mut [Entry::EMPTY; 8], Some(Duration::ZERO), &mut wake).unwrap() > 0 {}
}

fn read(stream: &Stream, waiter: &mut Waiter, buffer: &mut [u8]) -> Poll<usize> {
    let mut slice = Slice { bytes: buffer, filled: 0 };
    waiter.poll(|context| stream.poll_read(context, &mut slice)).map(Result::unwrap)
}

/// A pair whose second end holds a large buffer and has a timer for it.
fn with_large_buffer(driver: &Arc<Driver>) -> (Stream, Stream) {
    let (server, client) = pair(driver, 64 * 1024);
    let mut waiter = Waiter::default();
    let mut buffer = vec![0; 32 * 1024];
    // Reads that are always waited for, of all that there is, grow the buffer.
    while driver.timers() == 0 {
        if read(&client, &mut waiter, &mut buffer).is_pending() {
            let mut sent = 0;
            while sent < 20_000 {
                let written = waiter.poll(|context| server.poll_write(context, &&[7; 4096][..]));
                sent += if let Poll::Ready(count) = written { count.unwrap() } else { 0 };
                turn(driver);
                let _: Poll<usize> = read(&client, &mut waiter, &mut buffer);
            }
        }
    }
    (server, client)
}

#[test]
fn drains_with_a_limit_leave_none() {
    let driver = Driver::new().unwrap();
    let (server, client) = pair(&driver, 1000);
    let mut waiter = Waiter::default();
    for _ in 0..if cfg!(miri) { 20 } else { 1000 } {
        let mut nothing_to_wait_for = pin!(server.drain_within(HOUR));
        while waiter.poll(|context| nothing_to_wait_for.as_mut().poll(context)).is_pending() {
            assert!(waiter.may_poll(), "a drain of nothing waits");
        }
    }
    assert_eq!(driver.timers(), 0);

    for is_read in [true, false].repeat(if cfg!(miri) { 2 } else { 100 }) {
        assert_eq!(server.try_write(&&b"unread"[..]).unwrap(), 6);
        {
            let mut drain = pin!(server.drain_within(HOUR));
            assert!(waiter.poll(|context| drain.as_mut().poll(context)).is_pending());
            assert_eq!(driver.timers(), 1);
            if is_read {
                assert_eq!(read(&client, &mut Waiter::default(), &mut [0; 6]), Poll::Ready(6));
                turn(&driver);
                while waiter.poll(|context| drain.as_mut().poll(context)).is_pending() {
                    assert!(waiter.may_poll(), "the drain waits for what has been read");
                }
            }
        }
        assert_eq!(driver.timers(), 0);
        if !is_read {
            assert_eq!(read(&client, &mut Waiter::default(), &mut [0; 6]), Poll::Ready(6));
        }
    }
    drop((server, client));
    turn(&driver);
}

#[test]
fn an_end_whose_last_write_has_ended_leaves_none() {
    let driver = Driver::new().unwrap();
    for _ in 0..10 {
        let (server, client) = pair(&driver, 1000);
        assert_eq!(server.try_write(&&[7; 300][..]).unwrap(), 300);
        server.set_linger(LingerTime::Set(Some(HOUR)));
        let core = Arc::downgrade(&server.core);
        drop(server);
        assert_eq!(driver.timers(), 1, "the write is in flight");
        let mut received = 0;
        while received < 300 {
            if let Poll::Ready(count) = read(&client, &mut Waiter::default(), &mut [0; 300]) {
                received += count;
            }
            turn(&driver);
        }
        drop(client);
        turn(&driver);
        assert_eq!((driver.timers(), core.strong_count()), (0, 0));
    }
}

#[test]
fn an_end_that_is_dropped_with_a_large_buffer_leaves_none() {
    let driver = Driver::new().unwrap();
    let (server, client) = with_large_buffer(&driver);
    drop((server, client));
    turn(&driver);
    assert_eq!(driver.timers(), 0);
}

/// A read that waits holds 512 bytes. What reads that came back full have made of that is given
/// back after a second without data, and not before.
#[test]
fn a_large_buffer_is_given_back_after_a_second_without_data() {
    let driver = Driver::new().unwrap();
    let (server, client) = with_large_buffer(&driver);
    let mut waiter = Waiter::default();
    let mut buffer = vec![0; 32 * 1024];
    let holds_large_buffer = || lock(&client.core.inbound).machine.holds_large_buffer();
    while read(&client, &mut waiter, &mut buffer).is_ready() {}
    assert!(holds_large_buffer());
    let (mut began, mut wake) = (Instant::now(), Vec::new());
    while holds_large_buffer() {
        // Ends with a packet, or when the timer is due: there is no other end. The timer may be
        // older than the last data, and is set again then.
        began = Instant::now();
        driver.turn(&mut [Entry::EMPTY; 8], None, &mut wake).unwrap();
    }
    assert!(began.elapsed() >= Duration::from_millis(900), "given back after {:?}", began.elapsed());
    assert!(read(&client, &mut waiter, &mut buffer).is_pending());
    assert_eq!(server.try_write(&&b"still there"[..]).unwrap(), 11);
    turn(&driver);
    assert_eq!(read(&client, &mut waiter, &mut buffer), Poll::Ready(11));
    drop((server, client));
    turn(&driver);
}

#[test]
fn a_large_buffer_is_kept_while_data_comes() {
    let driver = Driver::new().unwrap();
    let (server, client) = with_large_buffer(&driver);
    let (mut waiter, mut buffer) = (Waiter::default(), vec![0; 32 * 1024]);
    while read(&client, &mut waiter, &mut buffer).is_ready() {}
    assert_eq!(server.try_write(&&b"data"[..]).unwrap(), 4);
    turn(&driver);
    assert_eq!(read(&client, &mut waiter, &mut buffer), Poll::Ready(4));
    assert!(read(&client, &mut waiter, &mut buffer).is_pending());
    for is_held in [true, false] {
        // The timer is due. The second time there was no data since the first.
        client.core.clone().give_back_if_idle();
        turn(&driver);
        assert_eq!(lock(&client.core.inbound).machine.holds_large_buffer(), is_held);
    }
    drop((server, client));
    turn(&driver);
}
