//! How connections end: drain, close, and what the other end is told.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use npipe::blocking::PipeStream;
use npipe::{ClientOptions, ServerOptions};

use crate::world::*;

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
        // Where it had closed before the drain began, the system does not tell whether it had read
        // everything.
        let ended = draining.join().unwrap();
        assert!(matches!(ended.map_err(|error| error.raw_os_error()), Ok(()) | Err(Some(ERROR_BROKEN_PIPE))));
    });
}

#[test]
fn closing_a_server_waits_for_its_client_to_read() {
    let _watchdog = watchdog();
    let (server, mut client) = pair();
    (&server).write_all(b"goodbye").unwrap();
    let closing = thread::spawn(move || server.close());
    let mut received = Vec::new();
    client.read_to_end(&mut received).unwrap();
    closing.join().unwrap().unwrap();
    assert_eq!(received, b"goodbye");
}

#[test]
fn a_connection_goes_on_until_the_last_clone_is_closed() {
    let _watchdog = watchdog();
    let (server, mut client) = pair();
    let clone = server.try_clone().unwrap();
    server.close().unwrap();
    (&clone).write_all(b"still here").unwrap();
    let closing = thread::spawn(move || clone.close());
    let mut received = Vec::new();
    client.read_to_end(&mut received).unwrap();
    closing.join().unwrap().unwrap();
    assert_eq!(received, b"still here");
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
    assert_eq!((&client).read(&mut [0]).unwrap(), 0);
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
fn a_clone_that_closes_leaves_the_others_what_they_write() {
    let _watchdog = watchdog();
    for in_time in [Some(SHORT), None] {
        let (server, client) = narrow_pair();
        client.set_write_timeout(Some(SHORT)).unwrap();
        (&client).write_all(b"unread").unwrap();
        client.set_linger(None);
        let clone = client.try_clone().unwrap();
        let closed = match in_time {
            Some(timeout) => clone.close_timeout(timeout),
            None => {
                client.set_linger(Some(SHORT));
                let closed = clone.close();
                client.set_linger(None);
                closed
            }
        };
        assert_kind(closed, ErrorKind::TimedOut);
        assert_eq!(client.linger(), None);
        assert_eq!((&client).write(Pattern::new(27).next(10_000)).unwrap(), 10_000);
        drop(client);
        (&server).read_exact(&mut [0; 6]).unwrap();
        receive(&server, 27, 10_000);
        assert_eq!((&server).read(&mut [0]).unwrap(), 0);
    }
}

/// Each of these waits for an earlier write, and meanwhile another thread ends the direction.
#[test]
fn nothing_is_written_behind_the_end_by_a_write_that_had_to_wait() {
    type Write = fn(&PipeStream) -> io::Result<()>;
    let _watchdog = watchdog();
    let writes: [Write; 5] = [
        |mut stream| stream.write(b"late").map(drop),
        |mut stream| stream.write_vectored(&[IoSlice::new(b"la"), IoSlice::new(b"te")]).map(drop),
        |stream| stream.send_message(b"late"),
        |stream| stream.send_message(b""),
        |stream| stream.transact(b"late", &mut BytesMut::new()).map(drop),
    ];
    for (number, write) in writes.into_iter().enumerate() {
        for timeout in [None, Some(LONG)] {
            let (server, client) = message_pair();
            client.set_write_timeout(Some(SHORT)).unwrap();
            client.send_message(&vec![7; 1 << 20]).unwrap();
            client.set_write_timeout(timeout).unwrap();
            thread::scope(|scope| {
                let waiting = scope.spawn(|| write(&client));
                linger(5000);
                assert_kind(client.close_write(SHORT), ErrorKind::TimedOut);
                let mut message = BytesMut::new();
                assert_eq!(server.recv_message(&mut message).unwrap(), Some(1 << 20));
                assert_eq!(server.recv_message(&mut message).unwrap(), Some(0), "the end of write {number}");
                assert_kind(waiting.join().unwrap(), ErrorKind::BrokenPipe);
            });
            drop(client);
            assert_eq!(server.recv_message(&mut BytesMut::new()).unwrap(), None, "write {number}");
        }
    }
}

/// The same without a wait: whatever came before the end arrives before it, and the rest is
/// refused.
#[test]
fn writes_raced_against_the_end_come_before_it_or_not_at_all() {
    let _watchdog = watchdog();
    for round in 0..100 {
        let (server, client) = message_pair();
        if round % 2 == 0 {
            client.set_write_timeout(Some(LONG)).unwrap();
        }
        thread::scope(|scope| {
            let writing = scope.spawn(|| {
                let mut written = 0;
                while client.send_message(b"m").is_ok() {
                    written += 1;
                }
                written
            });
            let ending = scope.spawn(|| {
                linger(round * 7);
                let _ = client.close_write(Duration::ZERO);
            });
            let mut message = BytesMut::new();
            let mut received = 0;
            while server.recv_message(&mut message).unwrap() != Some(0) {
                received += 1;
            }
            ending.join().unwrap();
            assert_eq!(writing.join().unwrap(), received, "round {round}");
        });
        drop(client);
        assert_eq!(server.recv_message(&mut BytesMut::new()).unwrap(), None, "nothing behind the end");
    }
}
