//! Bytes, read and written by threads.

use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::thread;

use npipe::{ClientOptions, ServerOptions};

use crate::world::*;

#[test]
fn full_duplex_of_100_mib_on_one_stream_from_two_threads() {
    let _watchdog = watchdog();
    const TOTAL: usize = 100 << 20;
    let (server, client) = pair();
    thread::scope(|scope| {
        scope.spawn(|| send(&server, 1, TOTAL));
        scope.spawn(|| receive(&server, 2, TOTAL));
        scope.spawn(|| send(&client, 2, TOTAL));
        scope.spawn(|| receive(&client, 1, TOTAL));
    });
}

#[test]
fn a_read_that_waits_does_not_keep_others_from_writing() {
    let _watchdog = watchdog();
    let (mut server, client) = pair();
    let reader = client.try_clone().unwrap();
    let answer = thread::spawn(move || {
        let mut answer = [0; 6];
        (&reader).read_exact(&mut answer).unwrap();
        answer
    });
    (&client).write_all(b"question").unwrap();
    let mut question = [0; 8];
    server.read_exact(&mut question).unwrap();
    server.write_all(b"answer").unwrap();
    assert_eq!((&question, &answer.join().unwrap()), (b"question", b"answer"));
}

#[test]
fn nothing_read_and_nothing_written_is_nothing() {
    let _watchdog = watchdog();
    let (mut server, mut client) = pair();
    assert_eq!(client.read(&mut []).unwrap(), 0);
    assert_eq!(client.read_vectored(&mut []).unwrap(), 0);
    assert_eq!(client.read_vectored(&mut [IoSliceMut::new(&mut [])]).unwrap(), 0);
    assert_eq!(client.write(&[]).unwrap(), 0);
    assert_eq!(client.write_vectored(&[]).unwrap(), 0);
    assert_eq!(client.write_vectored(&[IoSlice::new(&[]), IoSlice::new(&[])]).unwrap(), 0);
    client.set_write_timeout(Some(LONG)).unwrap();
    assert_eq!(client.write(&[]).unwrap(), 0);
    server.set_read_timeout(Some(SHORT)).unwrap();
    assert_kind(server.read(&mut [0]), ErrorKind::TimedOut);
    client.flush().unwrap();
}

#[test]
fn several_slices_are_read_and_written_as_one() {
    let _watchdog = watchdog();
    let (mut server, mut client) = pair();
    let slices = [IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cde")];
    assert_eq!(client.write_vectored(&slices).unwrap(), 5);
    client.set_write_timeout(Some(LONG)).unwrap();
    assert_eq!(client.write_vectored(&slices).unwrap(), 5);
    let (mut first, mut second) = ([0; 7], [0; 7]);
    let mut buffers = [IoSliceMut::new(&mut []), IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
    let read = server.read_vectored(&mut buffers).unwrap();
    assert_eq!(&first[..read], b"abcdeab");
    // More than one call copies: a part is accepted, and it is the first.
    client.set_write_timeout(None).unwrap();
    let (one, two) = (vec![1; 200_000], vec![2; 200_000]);
    let accepted = client.write_vectored(&[IoSlice::new(&one), IoSlice::new(&two)]).unwrap();
    assert!((1..=400_000).contains(&accepted));
    drop(client);
    let mut rest = Vec::new();
    server.read_to_end(&mut rest).unwrap();
    let both = [one, two].concat();
    assert!(rest[..3] == *b"cde" && rest[3..] == both[..accepted]);
}

#[test]
fn an_end_of_one_direction_refuses_the_other() {
    let _watchdog = watchdog();
    let (mut server, mut client) =
        pair_with(ServerOptions::new().access_outbound(false), ClientOptions::new().read(false));
    client.write_all(b"one way").unwrap();
    assert_kind(client.read(&mut [0]), ErrorKind::PermissionDenied);
    assert_kind(server.write(b"x"), ErrorKind::PermissionDenied);
    let mut way = [0; 7];
    server.read_exact(&mut way).unwrap();
    assert_eq!(&way, b"one way");
}
