//! The same end as a blocking and as an asynchronous one, to and fro, with everything that it had
//! read or not yet written.

use std::io::{self, ErrorKind, IoSliceMut, Read, Write};
use std::os::windows::io::{AsHandle, OwnedHandle};
use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use futures_lite::future;
use npipe::blocking::{PipeListener, PipeStream};
use npipe::{ClientOptions, MessageTooLong, NamedPipeClient, PipeEnd, PipeMode, ServerOptions};

use crate::sys;
use crate::world::*;

/// The bytes of an async end that has read ahead what it was sent.
fn read_ahead(client: &NamedPipeClient) {
    future::block_on(client.readable()).unwrap();
}

#[test]
fn an_async_end_becomes_a_blocking_one_and_back_with_what_it_had_read_ahead() {
    let _watchdog = watchdog();
    let name = unique_name();
    let listener = PipeListener::bind(&name).unwrap();
    let client = ClientOptions::new().open(&name).unwrap();
    let server = listener.accept().unwrap();
    send(&server, 11, 300);
    read_ahead(&client);

    let mut stream = future::block_on(client.into_blocking());
    assert_eq!(stream.info().unwrap().end, PipeEnd::Client);
    let mut data = Pattern::new(11);
    let mut buffer = [0; 100];
    stream.read_exact(&mut buffer).unwrap();
    data.expect(&buffer);
    // Back, in the middle of what was read ahead, and then with a read in flight that has nothing yet.
    let client = stream.into_client().unwrap();
    let mut all = Vec::new();
    while all.len() < 200 {
        future::block_on(client.readable()).unwrap();
        let read = client.try_read(&mut buffer).unwrap();
        all.extend_from_slice(&buffer[..read]);
    }
    data.expect(&all);
    assert_kind(client.try_read(&mut buffer), ErrorKind::WouldBlock);
    let mut stream = future::block_on(client.into_blocking());
    stream.set_read_timeout(Some(SHORT)).unwrap();
    assert_kind(stream.read(&mut buffer), ErrorKind::TimedOut);
    (&server).write_all(b"directly").unwrap();
    let mut directly = [0; 8];
    stream.read_exact(&mut directly).unwrap();
    assert_eq!(&directly, b"directly");
    // The other direction, and the end.
    stream.write_all(b"answer").unwrap();
    let mut answer = [0; 6];
    (&server).read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"answer");
    drop(server);
    assert_eq!(stream.read(&mut buffer).unwrap(), 0);
}

#[test]
fn conversions_raced_against_data_lose_nothing() {
    let _watchdog = watchdog();
    const ROUNDS: usize = 1500;
    let name = unique_name();
    let listener = PipeListener::bind(&name).unwrap();
    let mut client = ClientOptions::new().open(&name).unwrap();
    let server = listener.accept().unwrap();
    thread::scope(|scope| {
        let writer = scope.spawn(move || {
            let mut random = fastrand::Rng::with_seed(12);
            let mut data = Pattern::new(12);
            let mut total = 0;
            for _ in 0..ROUNDS {
                let bytes = data.next(random.usize(1..900));
                (&server).write_all(bytes).unwrap();
                total += bytes.len();
                for _ in 0..random.u32(0..4) {
                    thread::yield_now();
                }
            }
            total
        });
        let mut data = Pattern::new(12);
        let mut buffer = [0; 700];
        let mut total = 0;
        for round in 0.. {
            let read = match client.try_read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => None,
                result => Some(result.unwrap()),
            };
            let mut stream = future::block_on(client.into_blocking());
            data.expect(&buffer[..read.unwrap_or(0)]);
            total += read.unwrap_or(0);
            if read == Some(0) {
                break;
            }
            if round % 2 == 0 {
                stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
                match stream.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(read) => {
                        data.expect(&buffer[..read]);
                        total += read;
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut, "{error:?}"),
                }
            }
            client = stream.into_client().unwrap();
        }
        assert_eq!(total, writer.join().unwrap());
    });
}

#[test]
fn conversions_raced_against_messages_leave_them_whole() {
    let _watchdog = watchdog();
    const MESSAGES: u32 = 1500;
    let name = unique_name();
    let listener = ServerOptions::new().pipe_mode(PipeMode::Message).listen_blocking(&name).unwrap();
    let mut client = ClientOptions::new().pipe_mode(PipeMode::Message).open(&name).unwrap();
    let server = listener.accept().unwrap();
    // Some are longer than what an async end reads ahead.
    let length = |number: u32| 4 + (number * 7919 % 3000) as usize;
    let message = |number: u32| [&number.to_le_bytes()[..], &vec![number as u8; length(number) - 4]].concat();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut random = fastrand::Rng::with_seed(19);
            for number in 0..MESSAGES {
                (&server).write_all(&message(number)).unwrap();
                linger(random.u64(0..50));
            }
        });
        let mut buffer = [0; 4096];
        let mut next = 0;
        for round in 0.. {
            let read = match client.try_read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => None,
                result => Some(result.unwrap()),
            };
            let mut stream = future::block_on(client.into_blocking());
            let read = match read {
                None if round % 2 == 0 => stream.read(&mut buffer).unwrap(),
                None => {
                    client = stream.into_client().unwrap();
                    continue;
                }
                Some(read) => read,
            };
            if read == 0 {
                break;
            }
            assert!(buffer[..read] == message(next), "message {next} is whole");
            next += 1;
            client = stream.into_client().unwrap();
        }
        assert_eq!(next, MESSAGES);
    });
}

#[test]
fn message_boundaries_survive_the_conversions() {
    let _watchdog = watchdog();
    let name = unique_name();
    let listener = ServerOptions::new().pipe_mode(PipeMode::Message).listen_blocking(&name).unwrap();
    let client = ClientOptions::new().pipe_mode(PipeMode::Message).open(&name).unwrap();
    let mut server = listener.accept().unwrap();
    // More than an async end reads ahead: the rest of the message is still in the pipe.
    let long: Vec<u8> = (0..5000_u32).map(|number| number as u8).collect();
    server.write_all(&long).unwrap();
    server.write_all(b"second").unwrap();
    read_ahead(&client);

    let mut stream = future::block_on(client.into_blocking());
    let mut buffer = [0; 6000];
    assert_eq!(stream.read(&mut buffer).unwrap(), 5000, "whole, since there is room for it");
    assert!(buffer[..5000] == long[..]);
    assert_eq!(stream.read(&mut buffer).unwrap(), 6);
    assert_eq!(&buffer[..6], b"second");

    // The same in parts, and a part of it on either face.
    let client = stream.into_client().unwrap();
    server.write_all(&long).unwrap();
    server.write_all(b"second").unwrap();
    read_ahead(&client);
    let mut stream = future::block_on(client.into_blocking());
    assert_eq!(stream.read(&mut buffer[..10]).unwrap(), 10);
    let (mut small, mut large) = ([0; 1000], [0; 2000]);
    let mut slices = [IoSliceMut::new(&mut small), IoSliceMut::new(&mut large)];
    assert_eq!(stream.read_vectored(&mut slices).unwrap(), 3000);
    assert!([&buffer[..10], &small, &large].concat() == long[..3010]);
    let client = stream.into_client().unwrap();
    read_ahead(&client);
    assert_eq!(client.try_read(&mut buffer).unwrap(), 1990);
    assert!(buffer[..1990] == long[3010..]);
    read_ahead(&client);
    assert_eq!(client.try_read(&mut buffer).unwrap(), 6);
}

#[test]
fn what_was_written_survives_the_conversions() {
    let _watchdog = watchdog();
    let (server, client) = narrow_pair();
    // On its way from a blocking end ...
    client.set_write_timeout(Some(SHORT)).unwrap();
    assert_eq!((&client).write(Pattern::new(13).next(50_000)).unwrap(), 50_000);
    let client = client.into_client().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| receive(&server, 13, 50_000));
        future::block_on(client.flush()).unwrap();
    });
    // ... and from an async one, whose conversion waits until the pipe has it.
    assert_eq!(client.try_write(Pattern::new(14).next(50_000)).unwrap(), 50_000);
    let stream = thread::scope(|scope| {
        scope.spawn(|| receive(&server, 14, 50_000));
        future::block_on(client.into_blocking())
    });
    (&stream).write_all(b"behind").unwrap();
    let mut behind = [0; 6];
    (&server).read_exact(&mut behind).unwrap();
    assert_eq!(&behind, b"behind");

    // An error on the way is the next write's.
    let client = stream.into_client().unwrap();
    assert_eq!(client.try_write(&[0; 50_000]).unwrap(), 50_000);
    drop(server);
    let stream = future::block_on(client.into_blocking());
    (&stream).flush().unwrap_err();
    (&stream).flush().unwrap();
}

#[test]
fn a_server_end_goes_to_and_fro_too_and_from_a_block_on_that_is_over() {
    let _watchdog = watchdog();
    let name = unique_name();
    let (stream, mut client) = npipe::block_on(async {
        let server = ServerOptions::new().create(&name).unwrap();
        let client = PipeStream::connect(&name).unwrap();
        server.connect().await.unwrap();
        (server.into_blocking().await, client)
    });
    // Its port is that of the `block_on`: somebody still attends to it.
    stream.set_write_timeout(Some(LONG)).unwrap();
    let big = vec![1; 1 << 20];
    thread::scope(|scope| {
        scope.spawn(|| (&stream).write_all(&big).unwrap());
        let mut read = vec![0; big.len()];
        client.read_exact(&mut read).unwrap();
        assert!(read == big);
    });
    client.write_all(b"x").unwrap();
    let server = stream.into_server().unwrap();
    future::block_on(server.readable()).unwrap();
    assert_eq!(server.try_read(&mut [0; 2]).unwrap(), 1);
}

#[test]
fn a_stream_on_the_port_of_the_block_on_that_it_is_used_in_hears_of_its_writes() {
    let _watchdog = watchdog();
    let name = unique_name();
    npipe::block_on(async {
        let options = ServerOptions::new().in_buffer_size(4096).clone();
        let server = options.create(&name).unwrap();
        let client = ClientOptions::new().open(&name).unwrap();
        server.connect().await.unwrap();
        let (server, mut client) = (server.into_blocking().await, client.into_blocking().await);
        client.set_write_timeout(Some(SHORT)).unwrap();
        let big = Pattern::new(16).next(50_000).to_vec();
        assert_eq!(client.write(&big).unwrap(), big.len());
        receive(&server, 16, big.len());
        client.set_write_timeout(Some(LONG)).unwrap();
        client.flush().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| receive(&server, 16, big.len()));
            client.write_all(&big).unwrap();
        });
    });
}

/// The same end, as an async one and back.
fn there_and_back(stream: PipeStream) -> PipeStream {
    let stream = match stream.info().unwrap().end {
        PipeEnd::Server => future::block_on(stream.into_server().unwrap().into_blocking()),
        _ => future::block_on(stream.into_client().unwrap().into_blocking()),
    };
    // Now that it is tied to a port.
    match stream.info().unwrap().end {
        PipeEnd::Server => future::block_on(stream.into_server().unwrap().into_blocking()),
        _ => future::block_on(stream.into_client().unwrap().into_blocking()),
    }
}

#[test]
fn settings_survive_the_conversions() {
    let _watchdog = watchdog();
    for write_timeout in [None, Some(LONG)] {
        let (server, client) = message_pair();
        for stream in [server, client] {
            stream.set_read_timeout(Some(SHORT)).unwrap();
            stream.set_write_timeout(write_timeout).unwrap();
            stream.set_linger(Some(LONG));
            let stream = there_and_back(stream);
            assert_eq!(stream.read_timeout(), Some(SHORT));
            assert_eq!(stream.write_timeout(), write_timeout);
            assert_eq!(stream.linger(), Some(LONG));
            // The settings of an async end are kept too.
            if stream.info().unwrap().end == PipeEnd::Client {
                let client = stream.into_client().unwrap();
                assert_eq!(client.linger(), Some(LONG));
                client.set_linger(None);
                assert_eq!(there_and_back(future::block_on(client.into_blocking())).linger(), None);
            }
        }
    }
}

#[test]
fn a_direction_that_was_ended_stays_so_through_the_conversions() {
    let _watchdog = watchdog();
    for blocking_ends_it in [true, false] {
        let (server, client) = message_pair();
        let client = if blocking_ends_it {
            client.close_write(LONG).unwrap();
            client.into_client().unwrap()
        } else {
            let client = client.into_client().unwrap();
            future::block_on(client.close_write(LONG)).unwrap();
            client
        };
        assert_kind(client.try_write(b"late"), ErrorKind::BrokenPipe);
        let client = future::block_on(client.into_blocking());
        assert_kind((&client).write(b"late"), ErrorKind::BrokenPipe);
        assert_kind(client.send_message(b""), ErrorKind::BrokenPipe);
        let client = there_and_back(client);
        assert_kind((&client).write(b"late"), ErrorKind::BrokenPipe);
        client.close_write(LONG).unwrap();
        drop(client);
        let mut message = BytesMut::new();
        assert_eq!(server.recv_message(&mut message).unwrap(), Some(0), "the end of the direction");
        assert_eq!(server.recv_message(&mut message).unwrap(), None, "and nothing else");
    }
}

#[test]
fn empty_messages_stay_the_end_through_the_conversions() {
    let _watchdog = watchdog();
    // The client reads bytes until `set_empty_message_is_end`.
    let (server, client) =
        pair_with(ServerOptions::new().pipe_mode(PipeMode::Message), &ClientOptions::new());
    client.set_empty_message_is_end(true).unwrap();
    let client = there_and_back(client);
    let mut buffer = [0; 10];
    let mut message = BytesMut::new();
    for round in 0..2 {
        for sent in [&b"one"[..], b"", b"two", b"three"] {
            server.send_message(sent).unwrap();
        }
        assert_eq!((&client).read(&mut buffer).unwrap(), 3, "round {round}");
        assert_eq!((&client).read(&mut buffer).unwrap(), 0, "round {round}");
        assert_eq!((&client).read(&mut buffer).unwrap(), 3, "round {round}");
        assert_eq!(client.recv_message(&mut message).unwrap(), Some(5), "it reads messages");
    }
    let client = client.into_client().unwrap();
    server.send_message(b"").unwrap();
    future::block_on(client.readable()).unwrap();
    assert_eq!(client.try_read(&mut buffer).unwrap(), 0);
    client.set_empty_message_is_end(false).unwrap();
    let client = there_and_back(future::block_on(client.into_blocking()));
    server.send_message(b"").unwrap();
    server.send_message(b"behind").unwrap();
    assert_eq!((&client).read(&mut buffer).unwrap(), 6, "empty messages are passed over again");
}

#[test]
fn the_place_inside_a_message_survives_the_conversions() {
    let _watchdog = watchdog();
    let (server, client) = message_pair();
    let long: Vec<u8> = (0..5000_u32).map(|number| number as u8).collect();
    server.send_message(&long).unwrap();
    let mut buffer = [0; 100];
    assert_eq!((&client).read(&mut buffer).unwrap(), 100);
    let client = there_and_back(client);
    assert!(!client.is_message_complete());
    let client = client.into_client().unwrap();
    assert!(!client.is_message_complete());
    future::block_on(client.readable()).unwrap();
    assert_eq!(client.try_read(&mut buffer).unwrap(), 100);
    let client = future::block_on(client.into_blocking());
    assert!(!client.is_message_complete());
    let mut message = BytesMut::new();
    assert_eq!(client.recv_message(&mut message).unwrap(), Some(4800));
    assert!(message == long[200..]);
    assert!(there_and_back(client).is_message_complete());
}

/// The beginning of a message that an async end has read ahead, and of which the pipe no longer has
/// the rest: a duplicate of the handle took it. So it is as with a pipe of another machine, whose
/// rest is late: what the server sends next is the rest of the message. Returns the server, the
/// client, and the beginning.
fn begun() -> (PipeStream, PipeStream, Vec<u8>) {
    let (server, client) = message_pair();
    let client = client.into_client().unwrap();
    let message: Vec<u8> = (0..600_u32).map(|number| number as u8).collect();
    server.send_message(&message).unwrap();
    read_ahead(&client);
    let mut thief = PipeStream::try_from(client.as_handle().try_clone_to_owned().unwrap()).unwrap();
    let mut rest = [0; 600];
    let stolen = thief.read(&mut rest).unwrap();
    let client = future::block_on(client.into_blocking());
    client.set_read_timeout(Some(SHORT)).unwrap();
    (server, client, message[..600 - stolen].to_vec())
}

#[track_caller]
fn assert_peek(stream: &PipeStream, bytes: usize) {
    let peek = stream.peek().unwrap();
    assert_eq!((peek.bytes_available, peek.bytes_left_in_message), (bytes, bytes));
}

#[test]
fn the_beginning_of_a_message_waits_for_a_rest_that_is_late() {
    let _watchdog = watchdog();
    // Of 0 bytes, of a few, and more than there is room for.
    for rest in [0, 3, 5000, 100_000] {
        let (server, client, beginning) = begun();
        let mut message = BytesMut::from("kept");
        for _ in 0..3 {
            assert_kind(client.recv_message(&mut message), ErrorKind::TimedOut);
            assert_eq!(message, "kept", "nothing of it has been received");
            assert!(client.is_message_complete());
            assert_peek(&client, beginning.len());
            assert_code(client.transact(b"request", &mut message), ERROR_PIPE_BUSY);
        }
        let rest = vec![7; rest];
        server.send_message(&rest).unwrap();
        server.send_message(b"next").unwrap();
        assert_eq!(client.peek().unwrap().bytes_left_in_message, beginning.len() + rest.len());
        let length = client.recv_message(&mut message).unwrap();
        assert_eq!(length, Some(beginning.len() + rest.len()));
        assert!(message == [b"kept", &beginning[..], &rest].concat());
        message.clear();
        assert_eq!(client.recv_message(&mut message).unwrap(), Some(4));
        assert_eq!(message, "next");
    }
}

#[test]
fn the_beginning_of_a_message_is_read_before_a_rest_that_is_late() {
    let _watchdog = watchdog();
    for (taken, receives_next) in [(100, true), (100, false), (512, true), (512, false)] {
        let (server, client, beginning) = begun();
        let mut message = BytesMut::new();
        assert_kind(client.recv_message(&mut message), ErrorKind::TimedOut);
        let mut buffer = [0; 1000];
        assert_eq!((&client).read(&mut buffer[..taken]).unwrap(), taken);
        assert!(buffer[..taken] == beginning[..taken]);
        assert!(!client.is_message_complete());
        assert_kind(client.recv_message(&mut message), ErrorKind::TimedOut);
        assert!(!client.is_message_complete());
        assert_peek(&client, beginning.len() - taken);
        server.send_message(b"rest").unwrap();
        server.send_message(b"next").unwrap();
        let expected = [&beginning[taken..], b"rest"].concat();
        if receives_next {
            assert_eq!(client.recv_message(&mut message).unwrap(), Some(expected.len()));
            assert!(message == expected);
        } else {
            let mut count = 0;
            while !client.is_message_complete() {
                count += (&client).read(&mut buffer[count..]).unwrap();
            }
            assert!(buffer[..count] == expected);
        }
        assert!(client.is_message_complete());
        assert_eq!((&client).read(&mut buffer).unwrap(), 4);
    }
}

#[test]
fn the_beginning_of_a_message_survives_cancellations_and_conversions() {
    let _watchdog = watchdog();
    let mut message = BytesMut::new();
    // The rest comes before the wait, or at its end.
    for (moment, rest) in [0, 100, 3000, 10_000].into_iter().flat_map(|moment| [(moment, 4), (moment, 5000)])
    {
        let (server, client, beginning) = begun();
        client.set_read_timeout(None).unwrap();
        message.clear();
        thread::scope(|scope| {
            let receiver = scope.spawn(|| client.recv_message(&mut message).unwrap());
            for _ in 0..3 {
                linger(moment);
                sys::cancel_everything(&client);
            }
            linger(moment);
            server.send_message(&vec![7; rest]).unwrap();
            assert_eq!(receiver.join().unwrap(), Some(beginning.len() + rest));
        });
        assert!(message == [&beginning[..], &vec![7; rest]].concat());
    }

    let (server, client, beginning) = begun();
    message.clear();
    assert_kind(client.recv_message(&mut message), ErrorKind::TimedOut);
    let client = client.into_client().unwrap();
    server.send_message(b"rest").unwrap();
    let received = future::block_on(client.recv_message(&mut message)).unwrap();
    assert_eq!(received, Some(beginning.len() + 4));
    assert!(message == [&beginning[..], b"rest"].concat());

    let (_server, client, beginning) = begun();
    assert_kind(client.recv_message(&mut message), ErrorKind::TimedOut);
    let (_handle, read_ahead) = client.into_owned_handle().unwrap();
    assert_eq!(read_ahead, [beginning]);

    // A rest that will never come makes a part of a message none.
    let (server, client, _) = begun();
    message.clear();
    assert_kind(client.recv_message(&mut message), ErrorKind::TimedOut);
    drop(server);
    assert_eq!(client.recv_message(&mut message).unwrap(), None);
    assert!(message.is_empty());
}

#[test]
fn a_refused_message_stays_refused_until_all_of_its_rest_has_come() {
    let _watchdog = watchdog();
    let mut buffer = [0; 1000];
    for receives_next in [true, false] {
        for (moment, part) in [(0, 0), (3000, 0), (0, 3), (3000, 3), (3000, 100_000)] {
            let (server, client, beginning) = begun();
            let mut message = BytesMut::from("kept");
            let error = client.recv_message_limited(&mut message, 10).unwrap_err();
            let inner = error.get_ref().and_then(|error| error.downcast_ref::<MessageTooLong>()).unwrap();
            assert_eq!((inner.length(), inner.limit()), (beginning.len(), 10));
            for _ in 0..2 {
                assert_kind(client.recv_message(&mut message), ErrorKind::TimedOut);
                assert_kind((&client).read(&mut buffer), ErrorKind::TimedOut);
                assert!(client.is_message_complete());
                assert_peek(&client, 0);
            }
            client.set_read_timeout(None).unwrap();
            thread::scope(|scope| {
                // The rest comes before the wait, or at its end.
                let sender = || {
                    linger(moment);
                    server.send_message(&vec![7; part]).unwrap();
                    server.send_message(b"next").unwrap();
                };
                scope.spawn(sender);
                if receives_next {
                    assert_eq!(client.recv_message(&mut message).unwrap(), Some(4));
                    assert_eq!(message, "keptnext");
                } else {
                    assert_eq!((&client).read(&mut buffer).unwrap(), 4);
                    assert_eq!(&buffer[..4], b"next");
                }
            });
        }
    }
}

/// The pipe still holds a part of the refused message.
#[test]
fn the_next_owner_of_a_handle_reads_nothing_of_a_refused_message() {
    let _watchdog = watchdog();
    let make = || {
        let name = unique_name();
        let mode = PipeMode::Message;
        let listener = ServerOptions::new().pipe_mode(mode).listen_blocking(&name).unwrap();
        let client = ClientOptions::new().pipe_mode(mode).open(&name).unwrap();
        let server = listener.accept().unwrap();
        // More than one call discards.
        let sending = thread::spawn(move || {
            server.send_message(&vec![7; 12 << 20]).unwrap();
            server.send_message(b"next").unwrap();
            server
        });
        read_ahead(&client);
        (sending, client)
    };
    fn assert_next(handle: OwnedHandle, sending: thread::JoinHandle<PipeStream>) {
        let mut bytes = [0; 100];
        let read = std::fs::File::from(handle).read(&mut bytes).unwrap();
        assert_eq!(&bytes[..read], b"next");
        sending.join().unwrap();
    }
    let mut buffer = BytesMut::new();

    let (sending, client) = make();
    let refused = future::block_on(client.recv_message_limited(&mut buffer, 10));
    assert_kind(refused, ErrorKind::InvalidData);
    let (handle, read_ahead) = future::block_on(client.into_owned_handle()).unwrap();
    assert!(read_ahead.is_empty());
    assert_next(handle, sending);

    let (sending, client) = make();
    let client = future::block_on(client.into_blocking());
    assert_kind(client.recv_message_limited(&mut buffer, 10), ErrorKind::InvalidData);
    let (handle, read_ahead) = client.into_owned_handle().unwrap();
    assert!(read_ahead.is_empty());
    assert_next(handle, sending);
}

#[test]
fn ends_of_one_direction_go_to_and_fro_too() {
    let _watchdog = watchdog();
    for mode in [PipeMode::Byte, PipeMode::Message] {
        for outbound in [true, false] {
            let mut options = ServerOptions::new();
            options.pipe_mode(mode).access_outbound(outbound).access_inbound(!outbound);
            let mut client = ClientOptions::new();
            client.read(outbound).write(!outbound);
            let (server, client) = npipe::pair_with(&options, &client).unwrap();
            let (server, client) =
                future::block_on(async { (server.into_blocking().await, client.into_blocking().await) });
            let error = server.into_client().unwrap_err();
            assert_eq!(error.reason().kind(), ErrorKind::InvalidInput);
            let server = error.into_stream().into_server().unwrap();
            let error = client.into_server().unwrap_err();
            assert_eq!(error.reason().kind(), ErrorKind::InvalidInput);
            let client = error.into_stream().into_client().unwrap();
            let sent = if outbound { server.try_write(b"sent") } else { client.try_write(b"sent") };
            assert_eq!(sent.unwrap(), 4);
            let (server, client) =
                future::block_on(async { (server.into_blocking().await, client.into_blocking().await) });
            let received = if outbound { &client } else { &server }.read(&mut [0; 10]);
            assert_eq!(received.unwrap(), 4);
            assert_eq!(server.peer().unwrap().process_id(), std::process::id());
            assert!(server.impersonate(|_| Ok(())).is_ok());
            assert_kind(client.impersonate(|_| Ok(())), ErrorKind::InvalidInput);
        }
    }
}

#[test]
fn a_conversion_that_makes_no_sense_gives_the_stream_back() {
    let _watchdog = watchdog();
    let (server, client) = pair();
    let clone = client.try_clone().unwrap();
    let error = client.into_client().unwrap_err();
    assert_eq!(error.reason().kind(), ErrorKind::InvalidInput);
    let error = OwnedHandle::try_from(error.into_stream()).unwrap_err();
    assert_eq!(error.reason().kind(), ErrorKind::InvalidInput);
    let client = error.into_stream();
    drop(clone);
    let error = client.into_server().unwrap_err();
    assert_eq!(error.reason().kind(), ErrorKind::InvalidInput);
    let mut client = error.into_stream();
    assert_kind(server.into_client().map(drop).map_err(io::Error::from), ErrorKind::InvalidInput);
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "that one was dropped");

    let (_server, client) = pair();
    client.set_write_timeout(Some(LONG)).unwrap();
    let error = OwnedHandle::try_from(client).unwrap_err();
    assert_eq!(error.reason().kind(), ErrorKind::InvalidInput, "it is tied to a port");
    let client = error.into_stream().into_client().unwrap();
    drop(client);
}
