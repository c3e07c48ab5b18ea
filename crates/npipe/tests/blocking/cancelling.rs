//! Waits that another thread ends: no call hangs, and nothing is lost.

use std::io::{ErrorKind, Read, Write};
use std::thread;

use bytes::BytesMut;

use crate::world::*;

#[test]
fn a_read_that_waits_ends_and_the_data_that_comes_is_there() {
    let _watchdog = watchdog();
    let mut random = fastrand::Rng::with_seed(3);
    for round in 0..300 {
        let (server, client) = pair();
        let canceller = client.canceller().unwrap();
        let wait = random.u64(0..400);
        let received = thread::scope(|scope| {
            let reading = scope.spawn(|| {
                let mut received = Vec::new();
                let mut buffer = [0; 3];
                loop {
                    match (&client).read(&mut buffer) {
                        Ok(count) => received.extend_from_slice(&buffer[..count]),
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "{error}");
                            return received;
                        }
                    }
                }
            });
            (&server).write_all(b"some").unwrap();
            linger(wait);
            canceller.cancel();
            (&server).write_all(b"thing").unwrap();
            reading.join().unwrap()
        });
        // What has not been read yet needs no waiting.
        let mut rest = vec![0; 9 - received.len()];
        (&client).read_exact(&mut rest).unwrap();
        assert_eq!([received, rest].concat(), b"something", "round {round}");
        let error = (&client).read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "and later reads do not wait");
    }
}

#[test]
fn a_message_that_is_waited_for_is_received_by_the_next_owner() {
    let _watchdog = watchdog();
    let (server, client) = message_pair();
    let canceller = client.canceller().unwrap();
    let mut message = BytesMut::from(&b"kept"[..]);
    thread::scope(|scope| {
        let receiving = scope.spawn(|| client.recv_message(&mut message).unwrap_err());
        canceller.cancel();
        assert_eq!(receiving.join().unwrap().kind(), ErrorKind::ConnectionAborted);
    });
    assert_eq!(message, "kept");
    let error = client.transact(b"question", &mut message).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
    assert_eq!(message, "kept");
    assert_eq!(server.recv_message(&mut BytesMut::new()).unwrap(), Some(8), "the question was sent");
    server.send_message(b"answer").unwrap();
    assert_eq!(client.recv_message(&mut message).unwrap(), Some(6));
    assert_eq!(message, "keptanswer");
}

/// A write that was begun cannot be taken back: it counts as written, and arrives.
#[test]
fn a_write_that_waits_ends_and_arrives_whole() {
    let _watchdog = watchdog();
    for _ in 0..20 {
        let (server, client) = narrow_pair();
        let canceller = server.canceller().unwrap();
        let sent = thread::scope(|scope| {
            let writing = scope.spawn(|| {
                let mut data = Pattern::new(5);
                let mut sent = 0;
                loop {
                    match (&server).write(data.next(10_000)) {
                        Ok(count) => sent += count,
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "{error}");
                            return sent;
                        }
                    }
                }
            });
            canceller.cancel();
            writing.join().unwrap()
        });
        let error = server.drain().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "a drain would wait");
        drop(server);
        let mut received = Vec::new();
        (&client).read_to_end(&mut received).unwrap();
        assert_eq!(received.len(), sent);
        Pattern::new(5).expect(&received);
    }
}

#[test]
fn a_drain_that_waits_ends_and_the_data_stays() {
    let _watchdog = watchdog();
    let (server, client) = pair();
    let canceller = server.canceller().unwrap();
    (&server).write_all(b"unread").unwrap();
    thread::scope(|scope| {
        let draining = scope.spawn(|| server.drain().unwrap_err());
        canceller.cancel();
        assert_eq!(draining.join().unwrap().kind(), ErrorKind::ConnectionAborted);
    });
    let mut received = [0; 6];
    (&client).read_exact(&mut received).unwrap();
    assert_eq!(&received, b"unread");
}

#[test]
fn a_clone_is_cancelled_too_and_the_peer_is_not() {
    let _watchdog = watchdog();
    let (server, client) = pair();
    let clone = client.try_clone().unwrap();
    client.canceller().unwrap().cancel();
    assert_eq!((&clone).read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
    (&clone).write_all(b"!").unwrap();
    (&server).read_exact(&mut [0]).unwrap();
    drop((client, clone));
    assert_eq!((&server).read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_canceller_does_not_keep_the_pipe_open() {
    let _watchdog = watchdog();
    let (server, client) = pair();
    let canceller = client.canceller().unwrap();
    drop(client);
    assert_eq!((&server).read(&mut [0]).unwrap(), 0);
    canceller.cancel();
}
