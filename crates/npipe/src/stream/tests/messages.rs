//! Messages over the simulated kernel. An exchange: its request and its reply share a buffer with
//! the kernel, and it has to take back the read that is under way. A flood.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;

use super::peer::Waiter;
use crate::driver::{Driver, Waiting};
use crate::machine::Framing;
use crate::stream::tests::MESSAGES;
use crate::stream::{Key, Settings, Slice, Stream};
use crate::sync::lock;
use crate::sys::{Entry, Pipe, Temper};

const ERROR_MORE_DATA: u32 = 234;
const ERROR_PIPE_BUSY: i32 = 231;
const ERROR_PIPE_NOT_CONNECTED: i32 = 233;

fn turn(driver: &Driver) {
    let mut wake = Vec::new();
    driver.turn(&mut [Entry::EMPTY; 4], Some(Duration::ZERO), &mut wake).unwrap();
    wake.into_iter().for_each(Waiting::wake);
}

fn exchange(temper: Temper, request: &[u8], answer: &[u8]) {
    let driver = Driver::new().unwrap();
    let (pipe, server) = Pipe::create(true, 100, temper);
    let client = Stream::new(pipe.open().unwrap(), driver.clone(), MESSAGES).unwrap();
    let server = Stream::new(server, driver.clone(), MESSAGES).unwrap();

    let [mut reading, mut asking, mut answering] = [(); 3].map(|()| Waiter::default());
    let (mut received, mut reply) = (BytesMut::new(), BytesMut::new());
    let before = reading
        .poll(|context| client.poll_recv_message(context, Key::POLL, &mut BytesMut::new(), usize::MAX));
    assert!(before.is_pending(), "nothing was sent");
    {
        let mut transact = pin!(client.transact(request, &mut reply));
        let mut answered = false;
        let length = (0..1000).find_map(|_| {
            if asking.may_poll()
                && let Poll::Ready(length) = asking.poll(|context| transact.as_mut().poll(context))
            {
                return Some(length.unwrap());
            }
            if !answered
                && let Poll::Ready(length) = answering
                    .poll(|context| server.poll_recv_message(context, Key::POLL, &mut received, usize::MAX))
            {
                assert_eq!(length.unwrap(), Some(request.len()));
                let sent = answering.poll(|context| server.poll_send_message(context, Key::POLL, answer));
                assert!(matches!(sent, Poll::Ready(Ok(()))));
                answered = true;
            }
            turn(&driver);
            pipe.settle();
            None
        });
        assert_eq!(length.expect("an exchange was forgotten"), answer.len());
    }
    assert!(received == request && reply == answer);

    // The packets of what was cancelled still own their operations.
    drop((server, client));
    for _ in 0..10 {
        turn(&driver);
        pipe.settle();
    }
    assert!(pipe.is_quiet(), "an operation outlived its pipe");
}

#[test]
fn an_exchange_has_its_reply_whole_whenever_it_comes() {
    for seed in 1..if cfg!(miri) { 3 } else { 40 } {
        let temper = Temper {
            seed,
            hesitates: seed % 2 == 0,
            splits: seed % 3 == 0,
            cancels_late: seed % 5 == 0,
            final_with_packet: seed % 7 < 4,
            refuses_by_packet: seed % 2 == 1,
            ..Temper::PLAIN
        };
        for (request, answer) in [(0, 0), (1, 600), (5000, 1), (300, 9000), (7, 0)] {
            exchange(temper, &vec![7; request], &vec![8; answer]);
        }
    }
}

#[test]
fn a_flood_of_messages_lets_other_tasks_run() {
    let driver = Driver::new().unwrap();
    let temper = Temper { seed: 1, ..Temper::default() };
    let (pipe, server) = Pipe::create(true, 1 << 20, temper);
    let client = Stream::new(pipe.open().unwrap(), driver.clone(), MESSAGES).unwrap();
    let server = Stream::new(server, driver.clone(), MESSAGES).unwrap();
    const FLOOD: usize = if cfg!(miri) { 50 } else { 1000 };
    for _ in 0..FLOOD {
        assert_eq!(client.try_write(&&b"!"[..]).unwrap(), 1);
    }

    let mut receiver = Waiter::default();
    let (mut received, mut turns) = (0, 0);
    while received < FLOOD {
        let mut buffer = BytesMut::new();
        let mut message = pin!(server.recv_message(&mut buffer, usize::MAX));
        while receiver.poll(|context| message.as_mut().poll(context)).is_pending() {
            assert!(receiver.may_poll(), "who lets others run is woken");
            turns += 1;
        }
        received += 1;
    }
    assert!(turns >= FLOOD / 200, "the others had {turns} turns");
    drop((server, client));
    turn(&driver);
}

/// At once or by packet, as versions of Windows differ.
#[test]
fn an_exchange_that_the_kernel_refuses_reports_the_code_and_sends_nothing() {
    for (refuses_by_packet, disconnects) in [(false, false), (true, false), (false, true), (true, true)] {
        let driver = Driver::new().unwrap();
        let temper = Temper { refuses_by_packet, ..Temper::PLAIN };
        let (pipe, server) = Pipe::create(true, 100, temper);
        let client = Stream::new(pipe.open().unwrap(), driver.clone(), MESSAGES).unwrap();
        let server = Stream::new(server, driver.clone(), MESSAGES).unwrap();
        let code = if disconnects {
            server.disconnect().unwrap();
            ERROR_PIPE_NOT_CONNECTED
        } else {
            assert_eq!(client.try_write(&&b"news"[..]).unwrap(), 4);
            ERROR_PIPE_BUSY
        };
        let mut asking = Waiter::default();
        let mut reply = BytesMut::new();
        {
            let mut transact = pin!(server.transact(b"request", &mut reply));
            let refused = (0..10).find_map(|_| {
                let polled =
                    asking.may_poll().then(|| asking.poll(|context| transact.as_mut().poll(context)));
                turn(&driver);
                match polled {
                    Some(Poll::Ready(result)) => Some(result.unwrap_err()),
                    _ => None,
                }
            });
            let refused = refused.expect("the exchange ends");
            assert_eq!(refused.raw_os_error(), Some(code), "{refused}");
        }
        if !disconnects {
            // The message that was in the way is there, and the peer has got no request.
            let mut received = BytesMut::new();
            let mut reading = Waiter::default();
            let length = reading
                .poll(|context| server.poll_recv_message(context, Key::POLL, &mut received, usize::MAX));
            assert!(matches!(length, Poll::Ready(Ok(Some(4)))), "{length:?}");
            let mut buffer = BytesMut::new();
            let nothing = Waiter::default()
                .poll(|context| client.poll_recv_message(context, Key::POLL, &mut buffer, usize::MAX));
            assert!(nothing.is_pending());
        }
        drop((server, client));
        (0..4).for_each(|_| turn(&driver));
        assert!(pipe.is_quiet());
    }
}

/// The driver reads on for a task that waits, behind what is no result: empty messages for a reader
/// of bytes, and parts of a refused message. A peer decides how much of it there is, and other
/// pipes have their packets in the port too.
#[test]
#[cfg_attr(miri, ignore = "passes over a MiB in small messages")]
fn the_driver_passes_over_so_much_and_leaves_the_rest_to_the_task() {
    const SIZE: usize = 1 << 20;
    for refuses in [false, true] {
        let driver = Driver::new().unwrap();
        let (pipe, server) = Pipe::create(true, SIZE, Temper::PLAIN);
        let settings = Settings {
            reads: if refuses { Framing::Messages } else { Framing::Bytes },
            read_limit: 512,
            write_limit: SIZE,
            ..MESSAGES
        };
        let client = Stream::new(pipe.open().unwrap(), driver.clone(), settings).unwrap();
        let server = Stream::new(server, driver.clone(), settings).unwrap();
        if refuses {
            let mut inbound = lock(&server.core.inbound);
            assert_eq!(inbound.machine.on_thread_received(ERROR_MORE_DATA, b"begin"), None);
            assert!(inbound.machine.rest(SIZE, 10).is_err());
        }
        let (mut reader, mut buffer) = (Waiter::default(), [0; 10]);
        let mut read = |reader: &mut Waiter| {
            reader.poll(|context| server.poll_read(context, &mut Slice { bytes: &mut buffer, filled: 0 }))
        };
        assert!(read(&mut reader).is_pending(), "nothing was sent");
        if refuses {
            assert_eq!(client.try_write(&&vec![7; SIZE][..]).unwrap(), SIZE);
        } else {
            (0..1000).for_each(|_| assert_eq!(client.try_write(&&b""[..]).unwrap(), 0));
        }
        assert_eq!(client.try_write(&&b"next"[..]).unwrap(), 4);
        turn(&driver);
        assert!(reader.may_poll(), "the task goes on with it");
        let left = pipe.queued(0);
        assert!(left > if refuses { SIZE / 2 } else { 500 }, "{left} are left");
        let turns = (0..1000).find(|_| match read(&mut reader) {
            Poll::Ready(count) => count.unwrap() == 4,
            Poll::Pending => {
                turn(&driver);
                assert!(reader.may_poll());
                false
            }
        });
        turns.expect("it is read");
        drop((server, client));
        (0..4).for_each(|_| turn(&driver));
        assert!(pipe.is_quiet());
    }
}

/// The packet of the first exchange is dequeued after its future was dropped.
#[test]
fn the_refusal_of_a_dropped_exchange_is_not_that_of_the_next() {
    let driver = Driver::new().unwrap();
    let (pipe, server) = Pipe::create(true, 100, Temper { refuses_by_packet: true, ..Temper::PLAIN });
    let client = Stream::new(pipe.open().unwrap(), driver.clone(), MESSAGES).unwrap();
    let server = Stream::new(server, driver.clone(), MESSAGES).unwrap();
    assert_eq!(client.try_write(&&b"news"[..]).unwrap(), 4);
    let mut reply = BytesMut::new();
    assert!(
        Waiter::default()
            .poll(|context| pin!(server.transact(b"one", &mut reply)).poll(context))
            .is_pending()
    );
    turn(&driver);
    let receive = |stream: &Stream| {
        let mut message = BytesMut::new();
        let poll = Waiter::default()
            .poll(|context| stream.poll_recv_message(context, Key::POLL, &mut message, usize::MAX));
        assert!(matches!(poll, Poll::Ready(Ok(Some(_)))), "{poll:?}");
        message
    };
    assert_eq!(receive(&server), "news");
    {
        let mut transact = pin!(server.transact(b"two", &mut reply));
        let mut asking = Waiter::default();
        let polled = asking.poll(|context| transact.as_mut().poll(context));
        assert!(polled.is_pending(), "{polled:?}");
        assert_eq!(receive(&client), "two", "the first request was refused");
        assert_eq!(client.try_write(&&b"yes"[..]).unwrap(), 3);
        turn(&driver);
        let polled = asking.poll(|context| transact.as_mut().poll(context));
        assert!(matches!(polled, Poll::Ready(Ok(3))), "{polled:?}");
    }
    assert_eq!(reply, "yes");
    drop((server, client));
    (0..4).for_each(|_| turn(&driver));
    assert!(pipe.is_quiet());
}
