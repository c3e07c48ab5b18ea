//! Wakers whose clone is more than a clone: code of the executor that uses the pipe, causes what is
//! waited for, or panics.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::peer::Waiter;
use crate::driver::hostile::cloning;
use crate::driver::{Driver, Waiting};
use crate::stream::tests::MESSAGES;
use crate::stream::{Key, Slice, Stream};
use crate::sync::{Mutex, lock};
use crate::sys::{Entry, Pipe, Temper};

fn turn(driver: &Driver) {
    let mut wake = Vec::new();
    driver.turn(&mut [Entry::EMPTY; 4], Some(Duration::ZERO), &mut wake).unwrap();
    wake.into_iter().for_each(Waiting::wake);
}

/// An end that waits in both directions: its peer does not read or write, and the pipe towards the
/// peer is full.
fn blocked(driver: &Arc<Driver>) -> (Arc<Stream>, Stream) {
    let temper = Temper { seed: 1, ..Temper::default() };
    let (pipe, server) = Pipe::create(true, 0, temper);
    let client = Stream::new(pipe.open().unwrap(), driver.clone(), MESSAGES).unwrap();
    let server = Stream::new(server, driver.clone(), MESSAGES).unwrap();
    while server.try_write(&&b"more"[..]).is_ok() {}
    (Arc::new(server), client)
}

fn read(stream: &Stream) -> Poll<()> {
    stream.try_read(&mut Slice { bytes: &mut [0; 100], filled: 0 }).map_or(Poll::Pending, |_| Poll::Ready(()))
}

/// Ends every wait of the other end.
fn cause(client: &Stream, driver: &Driver) {
    let _ = client.try_write(&&b"some"[..]);
    for _ in 0..20 {
        let _ = read(client);
        turn(driver);
    }
}

type Wait = fn(&Stream, &mut Context<'_>) -> bool;

/// The calls that can wait. Each returns whether it has to.
const WAITS: [(&str, Wait); 8] = [
    ("read", |stream, context| {
        stream.poll_read(context, &mut Slice { bytes: &mut [0; 9], filled: 0 }).is_pending()
    }),
    ("readable", |stream, context| stream.poll_readable(context, Key::POLL, None).is_pending()),
    ("message", |stream, context| {
        stream.poll_recv_message(context, Key::POLL, &mut BytesMut::new(), 100).is_pending()
    }),
    ("read owned", |stream, context| {
        stream.poll_read_owned(context, Key::POLL, &mut BytesMut::with_capacity(9), 9).is_pending()
    }),
    ("write", |stream, context| stream.poll_write(context, &&b"more"[..]).is_pending()),
    ("send", |stream, context| stream.poll_send_message(context, Key::POLL, b"more").is_pending()),
    ("write owned", |stream, context| {
        let mut pieces = vec![Bytes::from_static(b"more")];
        stream.poll_write_owned(context, Key::POLL, &mut pieces).is_pending()
    }),
    ("flush", |stream, context| stream.poll_flush(context, Key::POLL).is_pending()),
];

#[test]
fn a_clone_may_use_the_pipe_that_it_waits_for() {
    let (done, is_done) = mpsc::channel();
    let running = thread::spawn(move || {
        let driver = Driver::new().unwrap();
        for (_, wait) in WAITS {
            let (server, client) = blocked(&driver);
            let same = server.clone();
            let (waker, _) = cloning(move || {
                let _ = read(&same);
                assert!(same.try_write(&&b"more"[..]).is_err());
            });
            assert!(wait(&server, &mut Context::from_waker(&waker)));
            drop(client);
            // The waker holds a share.
            server.disconnect().unwrap();
            turn(&driver);
        }
        done.send(()).unwrap();
    });
    let ended = is_done.recv_timeout(Duration::from_secs(30));
    assert!(ended != Err(mpsc::RecvTimeoutError::Timeout), "a waker was cloned under a lock");
    running.join().unwrap();
}

#[test]
fn what_happens_during_the_clone_wakes() {
    let driver = Driver::new().unwrap();
    for (name, wait) in WAITS {
        let (server, client) = blocked(&driver);
        let client = Arc::new(client);
        let (waker, woken) = {
            let (client, driver) = (client.clone(), driver.clone());
            cloning(move || cause(&client, &driver))
        };
        assert!(wait(&server, &mut Context::from_waker(&waker)));
        assert_ne!(woken.load(Ordering::SeqCst), 0, "{name} is asleep");
        drop((server, client));
        turn(&driver);
    }
}

/// A listener polls its instances under a lock of its own, so no task may be woken by that poll.
#[test]
fn a_client_that_comes_during_the_clone_is_found_by_the_same_poll() {
    let driver = Driver::new().unwrap();
    let (pipe, server) = Pipe::create(true, 0, Temper { seed: 1, ..Temper::default() });
    let server = Stream::new(server, driver.clone(), MESSAGES).unwrap();
    let client = Arc::new(Mutex::new(None));
    let (waker, woken) = {
        let (client, driver) = (client.clone(), driver.clone());
        cloning(move || {
            if let Ok(handle) = pipe.open() {
                *lock(&client) = Some(handle);
            }
            turn(&driver);
        })
    };
    assert!(matches!(server.poll_connect(&Context::from_waker(&waker), Key::POLL), Poll::Ready(Ok(()))));
    assert!(lock(&client).is_some());
    assert_eq!(woken.load(Ordering::SeqCst), 0);
}

#[test]
fn a_clone_that_panics_leaves_the_pipe_as_it_was() {
    let driver = Driver::new().unwrap();
    for (name, wait) in WAITS {
        let (server, client) = blocked(&driver);
        let (waker, _) = cloning(|| panic!("a waker panics when it is cloned"));
        let poll = || wait(&server, &mut Context::from_waker(&waker));
        assert!(catch_unwind(AssertUnwindSafe(poll)).is_err());
        let mut task = Waiter::default();
        let waits = task.poll(|context| if wait(&server, context) { Poll::Pending } else { Poll::Ready(()) });
        assert!(waits.is_pending() && !task.may_poll());
        cause(&client, &driver);
        assert!(task.may_poll(), "{name} is asleep");
        drop((server, client));
        turn(&driver);
    }
}
