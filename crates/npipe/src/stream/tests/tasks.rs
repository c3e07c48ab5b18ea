//! Several tasks on one end: none displaces another's waker.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;

use super::peer::Waiter;
use crate::driver::{Driver, Waiting};
use crate::interest::Interest;
use crate::stream::tests::PLAIN;
use crate::stream::{Key, LingerTime, Settings, Slice, Stream};
use crate::sys::{Entry, Pipe, Temper};

#[test]
fn a_writer_a_flush_and_one_who_waits_for_room_are_all_woken() {
    let driver = Driver::new().unwrap();
    let temper = Temper { seed: 1, ..Temper::default() };
    let (pipe, server) = Pipe::create(false, 0, temper);
    let settings = Settings { read_limit: 512, write_limit: 512, ..PLAIN };
    let client = Stream::new(pipe.open().unwrap(), driver.clone(), settings).unwrap();
    let server = Stream::new(server, driver.clone(), settings).unwrap();

    wait_for_room(&driver, &server, &client);

    // The packets of what was cancelled still own their operations.
    drop((server, client));
    turn(&driver);
}

fn turn(driver: &Driver) {
    let mut wake = Vec::new();
    driver.turn(&mut [Entry::EMPTY; 4], Some(Duration::ZERO), &mut wake).unwrap();
    wake.into_iter().for_each(Waiting::wake);
}

fn wait_for_room(driver: &Driver, server: &Stream, client: &Stream) {
    let [mut writer, mut flusher, mut watcher] = [(); 3].map(|()| Waiter::default());
    while writer.poll(|context| server.poll_write(context, &&[7; 100][..])).is_ready() {}
    let mut flush = pin!(server.flush());
    assert!(flusher.poll(|context| flush.as_mut().poll(context)).is_pending());
    let mut room = pin!(server.ready(Interest::WRITABLE));
    assert!(watcher.poll(|context| room.as_mut().poll(context)).is_pending());
    assert!(![&writer, &flusher, &watcher].into_iter().any(Waiter::may_poll), "everything is full");

    let mut buffer = [0; 1000];
    let context = Context::from_waker(Waker::noop());
    for _ in 0..20 {
        let _: Poll<_> = client.poll_read(&context, &mut Slice { bytes: &mut buffer, filled: 0 });
        turn(driver);
    }
    for (who, waiter) in [("writer", &writer), ("flush", &flusher), ("watcher", &watcher)] {
        assert!(waiter.may_poll(), "the {who} was forgotten");
    }
}

#[test]
fn a_linger_longer_than_time_itself_is_no_bound() {
    let driver = Driver::new().unwrap();
    let temper = Temper { seed: 1, ..Temper::default() };
    let (pipe, server) = Pipe::create(false, 0, temper);
    let settings = Settings { read_limit: 512, write_limit: 512, ..PLAIN };
    let client = Stream::new(pipe.open().unwrap(), driver.clone(), settings).unwrap();
    let server = Stream::new(server, driver.clone(), settings).unwrap();

    assert_eq!(server.try_write(&&b"kept"[..]).unwrap(), 4);
    server.set_linger(LingerTime::Set(Some(Duration::MAX)));
    drop(server);
    let mut buffer = [0; 10];
    assert_eq!(client.try_read(&mut Slice { bytes: &mut buffer, filled: 0 }).unwrap(), 4);

    drop(client);
    turn(&driver);
}

/// Memory of the caller's that panics when it is dropped.
struct Hostile(Vec<u8>);

impl AsRef<[u8]> for Hostile {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        panic!("a buffer panics when it is dropped");
    }
}

#[test]
fn a_given_buffer_whose_destructor_panics_harms_no_other_end() {
    for peer_reads in [true, false] {
        let driver = Driver::new().unwrap();
        let temper = Temper { seed: 1, ..Temper::default() };
        let (pipe, server) = Pipe::create(false, 0, temper);
        let settings = Settings { read_limit: 512, write_limit: 512, ..PLAIN };
        let client = Stream::new(pipe.open().unwrap(), driver.clone(), settings).unwrap();
        let server = Stream::new(server, driver.clone(), settings).unwrap();
        // One in flight, and one behind it.
        let mut writer = Waiter::default();
        for _ in 0..2 {
            let mut pieces = vec![Bytes::from_owner(Hostile(vec![7; 10]))];
            let written = writer.poll(|context| server.poll_write_owned(context, Key::POLL, &mut pieces));
            assert!(matches!(written, Poll::Ready(Ok(()))));
        }
        if peer_reads {
            let mut buffer = [0; 100];
            let mut received = 0;
            while received < 20 {
                received += client.try_read(&mut Slice { bytes: &mut buffer, filled: 0 }).unwrap();
                turn(&driver);
            }
            assert!(matches!(
                writer.poll(|context| server.poll_flush(context, Key::POLL)),
                Poll::Ready(Ok(()))
            ));
            drop(client);
        } else {
            drop(client);
            turn(&driver);
            assert!(matches!(
                writer.poll(|context| server.poll_flush(context, Key::POLL)),
                Poll::Ready(Err(_))
            ));
        }
        drop(server);
        turn(&driver);
    }
}
