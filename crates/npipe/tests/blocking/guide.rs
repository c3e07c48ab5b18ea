//! Sentences of the guide to the blocking API that no other file has a test for.

use std::io::{ErrorKind, Read, Write};
use std::thread;

use bytes::BytesMut;

use crate::world::*;

/// A thread that waits in a read or a write of a server's end is stopped by `disconnect` on a
/// clone.
#[test]
fn a_disconnect_of_a_clone_ends_reads_and_writes_that_wait() {
    let _watchdog = watchdog();
    for reads in [true, false] {
        let (server, mut client) = narrow_pair();
        let mut clone = server.try_clone().unwrap();
        let (sender, began) = std::sync::mpsc::channel();
        let waiting = thread::spawn(move || {
            sender.send(()).unwrap();
            if reads { clone.read(&mut [0]).map(drop) } else { clone.write_all(&[7; 100_000]) }
        });
        began.recv().unwrap();
        if !reads {
            // It has begun to write, and waits or is about to.
            client.read_exact(&mut [0]).unwrap();
        }
        server.disconnect().unwrap();
        assert_code(waiting.join().unwrap(), ERROR_PIPE_NOT_CONNECTED);
    }
}

/// `close_write` ends writing for all clones, by each call that writes; reading goes on.
#[test]
fn close_write_ends_writing_for_all_clones() {
    let _watchdog = watchdog();
    let (mut server, client) = message_pair();
    let mut clone = client.try_clone().unwrap();
    client.close_write(LONG).unwrap();
    for mut stream in [&client, &clone] {
        assert_kind(stream.write(b"late"), ErrorKind::BrokenPipe);
        assert_kind(stream.write_vectored(&[std::io::IoSlice::new(b"late")]), ErrorKind::BrokenPipe);
        assert_kind(stream.send_message(b"late"), ErrorKind::BrokenPipe);
        assert_kind(stream.transact(b"late", &mut BytesMut::new()), ErrorKind::BrokenPipe);
        stream.close_write(LONG).unwrap();
    }
    server.write_all(b"answer").unwrap();
    let mut answer = [0; 6];
    clone.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"answer");
    assert_eq!(server.recv_message(&mut BytesMut::new()).unwrap(), Some(0), "the end that was announced");
    drop((client, clone));
    assert_eq!(server.recv_message(&mut BytesMut::new()).unwrap(), None, "and nothing behind it");
}
