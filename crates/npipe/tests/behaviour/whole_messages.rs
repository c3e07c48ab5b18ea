//! Whole messages: sent and received as they are, by whatever face, from whatever peer.

use std::future::poll_fn;
use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_sink::Sink;
use npipe::{ClientOptions, MessageTooLong, Messages, Peek, PipeMode, ServerOptions};
use smol::stream::StreamExt;

use windows_sys::Win32::Foundation::{ERROR_PIPE_BUSY, ERROR_PIPE_LISTENING, ERROR_PIPE_NOT_CONNECTED};

use crate::family::on_readiness::Readiness;
use crate::family::{
    AsyncFamily, End, Exchanging, Family, NonBlockingFamily, Reading, ServerEnd, Waiting, Writing,
};
use crate::harness::{
    LONG, Within, assert_os_error, eventually, message_pair, pair, poll_and_drop, unique_name,
};
use crate::stream_data::StreamData;
use crate::sys;

const PATIENCE: Duration = Duration::from_secs(100);

const SIZES: [usize; 12] = [0, 1, 511, 512, 513, 0, 4096, 4097, 65_536, 100_000, 1 << 20, 0];

/// The next message, if it is not the end.
async fn next(end: &impl End) -> Option<BytesMut> {
    let mut buffer = BytesMut::from("before");
    let length = end.recv_message(&mut buffer, usize::MAX).within("a message").await.unwrap();
    assert_eq!(buffer.split_to(6), "before", "it is appended");
    assert_eq!(buffer.len(), length.unwrap_or(0));
    length.map(|_| buffer)
}

async fn a_message_of_any_size_comes_whole<F: Family>() {
    let (server, client) = message_pair::<F>().await;
    let server = Arc::new(server);
    let sending = F::spawn({
        let server = server.clone();
        async move {
            let mut data = StreamData::new(61);
            for size in SIZES {
                server.send_message(&data.take(size)).within("send").await.unwrap();
            }
        }
    });
    let echo = F::spawn(async move {
        while let Some(message) = next(&client).await {
            client.send_message(&message).within("send back").await.unwrap();
        }
    });
    let mut expected = StreamData::new(61);
    for size in SIZES {
        let message = next(&*server).await.expect("not the end");
        assert_eq!(message.len(), size);
        expected.expect(&message);
    }
    sending.within("the sender").await;
    drop(server);
    echo.within("the end is seen").await;
}

async fn an_empty_message_is_told_from_the_end<F: Family>() {
    let (server, client) = message_pair::<F>().await;
    for _ in 0..3 {
        client.send_message(b"").within("send").await.unwrap();
    }
    drop(client);
    for _ in 0..3 {
        assert_eq!(next(&server).await.as_deref(), Some(&b""[..]));
    }
    assert_eq!(next(&server).await, None);
}

/// A foreign client floods us with messages of nothing, and then with one that is far too large.
async fn a_message_over_the_limit_is_refused_and_the_next_is_received<F: Family>() {
    let name = unique_name();
    let options = ServerOptions::new().pipe_mode(PipeMode::Message).in_buffer_size(4 << 20).clone();
    let server = F::create(&options, &name).unwrap();
    let mut client = sys::blocking_client(&name, true).unwrap();
    server.connect().within("connect").await.unwrap();
    for _ in 0..300 {
        assert_eq!(client.write(b"").unwrap(), 0);
    }
    for size in [2 << 20, 11, 10, 700, 10] {
        assert_eq!(client.write(&vec![7; size]).unwrap(), size);
    }
    drop(client);
    let mut buffer = BytesMut::new();
    for _ in 0..300 {
        assert_eq!(server.recv_message(&mut buffer, 10).within("nothing").await.unwrap(), Some(0));
    }
    for size in [2 << 20, 11, 10, 700, 10] {
        let received = server.recv_message(&mut buffer, 10).within("a message").await;
        if size > 10 {
            let error = received.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            let too_long = error.get_ref().and_then(|error| error.downcast_ref::<MessageTooLong>());
            assert_eq!(too_long.map(|error| (error.length(), error.limit())), Some((size, 10)));
            assert!(buffer.is_empty(), "nothing of it is given");
        } else {
            assert_eq!(received.unwrap(), Some(10));
            assert_eq!(buffer.split(), [7; 10][..]);
        }
    }
    assert_eq!(server.recv_message(&mut buffer, 10).within("the end").await.unwrap(), None);
    assert!(buffer.capacity() < 1 << 20, "memory was made for a message that was refused");
}

/// What was refused is not shown to those who read bytes either.
async fn a_refused_message_is_gone_for_who_reads_bytes<F: Family>() {
    let (mut server, client) = message_pair::<F>().await;
    client.send_message(&[1; 50_000]).within("send").await.unwrap();
    client.send_message(b"next").within("send").await.unwrap();
    server.recv_message(&mut BytesMut::new(), 1).within("a message").await.unwrap_err();
    let mut bytes = [0; 100];
    let read = server.read(&mut bytes).within("read").await.unwrap();
    assert_eq!(&bytes[..read], b"next");
}

/// Nor does what is left of it keep those from the next message who wait until there is something
/// to read.
async fn a_refused_message_is_gone_for_who_waits_to_read<F: AsyncFamily>() {
    let (server, client) = message_pair::<F>().await;
    client.send_message(&[1; 50_000]).within("send").await.unwrap();
    server.recv_message(&mut BytesMut::new(), 1).within("a message").await.unwrap_err();
    assert!(poll_and_drop(server.as_ref().readable()).is_pending(), "only the rest of it is there");
    client.send_message(b"next").within("send").await.unwrap();
    server.as_ref().readable().within("readable").await.unwrap();
    assert_eq!(next(&server).await.as_deref(), Some(&b"next"[..]));
}

async fn the_rest_of_a_message_that_was_begun_is_received<F: Family>() {
    for size in [10, 512, 20_000] {
        let (mut server, client) = message_pair::<F>().await;
        assert!(server.is_message_complete());
        let message = StreamData::new(62).take(size);
        client.send_message(&message).within("send").await.unwrap();
        client.send_message(b"next").within("send").await.unwrap();
        let mut bytes = [0; 4];
        assert_eq!(server.read(&mut bytes).within("read").await.unwrap(), 4);
        assert!(!server.is_message_complete());
        assert_eq!(next(&server).await.as_deref(), Some(&message[4..]));
        assert!(server.is_message_complete());
        assert_eq!(server.read(&mut bytes).within("read").await.unwrap(), 4);
        assert!(server.is_message_complete(), "it filled the buffer, and was all");
    }
}

async fn what_can_be_read_is_told_and_left<F: Family>() {
    let (mut server, client) = message_pair::<F>().await;
    assert_eq!(server.peek().unwrap().bytes_available, 0);
    client.send_message(b"abc").within("send").await.unwrap();
    client.send_message(&[7; 5000]).within("send").await.unwrap();
    let unread = |peek: Peek| (peek.bytes_available, peek.bytes_left_in_message);
    eventually("both are there", || unread(server.peek().unwrap()) == (5003, 3)).await;
    let mut bytes = [0; 2];
    assert_eq!(server.read(&mut bytes).within("read").await.unwrap(), 2);
    eventually("one byte less", || unread(server.peek().unwrap()) == (5001, 1)).await;
    assert_eq!(next(&server).await.as_deref(), Some(&b"c"[..]));
    eventually("the other message", || unread(server.peek().unwrap()) == (5000, 5000)).await;
    assert_eq!(server.read(&mut bytes).within("read").await.unwrap(), 2);
    eventually("its rest", || unread(server.peek().unwrap()) == (4998, 4998)).await;
}

async fn a_byte_pipe_refuses_messages_and_says_why<F: Family>() {
    let (mut server, mut client) = pair::<F>().await;
    let received = server.recv_message(&mut BytesMut::new(), usize::MAX).within("recv").await;
    let sent = client.send_message(b"x").within("send").await;
    let ended = client.close_write(PATIENCE).within("close_write").await;
    for error in [received.unwrap_err(), sent.unwrap_err(), ended.unwrap_err()] {
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert!(error.to_string().contains("PipeMode::Message"), "{error}");
    }
    client.write_all(b"bytes").within("write").await.unwrap();
    server.set_empty_message_is_end(true).unwrap();
    let mut bytes = [0; 2];
    assert_eq!(server.read(&mut bytes).within("read").await.unwrap(), 2);
    assert!(server.is_message_complete(), "bytes have no messages");
    assert_eq!(server.peek().unwrap().bytes_left_in_message, 0);
}

/// A client opens for bytes unless told otherwise, also a pipe of messages. It can send them.
async fn a_client_that_reads_bytes_sends_messages_and_receives_none<F: Family>() {
    let name = unique_name();
    let server = F::create(ServerOptions::new().pipe_mode(PipeMode::Message), &name).unwrap();
    let client = F::open(&ClientOptions::new(), &name).unwrap();
    server.connect().within("connect").await.unwrap();
    client.send_message(b"").within("send").await.unwrap();
    assert_eq!(next(&server).await.as_deref(), Some(&b""[..]));
    let received = client.recv_message(&mut BytesMut::new(), usize::MAX).within("recv").await;
    assert_eq!(received.unwrap_err().kind(), io::ErrorKind::Unsupported);
}

async fn half_close_ends_one_direction_and_the_answer_comes<F: Family>() {
    let (mut server, mut client) = message_pair::<F>().await;
    server.set_empty_message_is_end(true).unwrap();
    let serving = F::spawn(async move {
        let question = server.read_to_end().within("the question").await.unwrap();
        server.write_all(b"answer").within("the answer").await.unwrap();
        server.flush().within("flush").await.unwrap();
        (server, question)
    });
    client.send_message(b"quest").within("send").await.unwrap();
    client.write_all(b"ion").within("write").await.unwrap();
    client.close_write(PATIENCE).within("close_write").await.unwrap();
    client.close_write(PATIENCE).within("close_write, again").await.unwrap();
    let late = client.send_message(b"late").within("send").await.unwrap_err();
    assert_eq!(late.kind(), io::ErrorKind::BrokenPipe, "{late}");
    assert_eq!(client.write(b"late").within("write").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    let mut answer = [0; 6];
    client.read_exact(&mut answer).within("the answer").await.unwrap();
    let (_server, question) = serving.within("the server").await;
    assert_eq!((&question[..], &answer), (&b"question"[..], b"answer"));
}

async fn an_empty_message_between_others_is_the_end_where_that_is_agreed<F: Family>() {
    let mut reads_only = ClientOptions::new();
    reads_only.write(false).write_attributes(true);
    // They read bytes by default.
    for options in [ClientOptions::new(), reads_only] {
        let name = unique_name();
        let server = F::create(ServerOptions::new().pipe_mode(PipeMode::Message), &name).unwrap();
        let mut client = F::open(&options, &name).unwrap();
        server.connect().within("connect").await.unwrap();
        client.set_empty_message_is_end(true).unwrap();
        for message in ["one", "", "", "two", ""] {
            server.send_message(message.as_bytes()).within("send").await.unwrap();
        }
        for expected in ["one", "", "", "two"] {
            let mut bytes = [0; 10];
            let read = client.read(&mut bytes).within("read").await.unwrap();
            assert_eq!(&bytes[..read], expected.as_bytes());
        }
        client.set_empty_message_is_end(false).unwrap();
        drop(server);
        assert_eq!(client.read_to_end().within("the end").await.unwrap(), b"");
    }
}

async fn a_dropped_wait_for_a_message_loses_nothing<F: NonBlockingFamily>() {
    let (server, client) = message_pair::<F>().await;
    let mut buffer = BytesMut::new();
    for message in [StreamData::new(63).take(70_000), Vec::new(), b"last".to_vec()] {
        assert!(poll_and_drop(server.recv_message(&mut buffer, usize::MAX)).is_pending());
        client.send_message(&message).within("send").await.unwrap();
        assert_eq!(
            server.recv_message(&mut buffer, usize::MAX).within("recv").await.unwrap(),
            Some(message.len())
        );
        assert!(buffer.split() == message);
    }
}

/// The peer never reads: the wait is bounded, and the mark is there when it comes to read after
/// all.
async fn half_close_waits_for_no_longer_than_it_has_patience<F: AsyncFamily>() {
    let (mut server, client) = message_pair::<F>().await;
    // More than the pipe takes: a write is on its way, and others wait behind it.
    let mut sent = 0;
    while sent < 1000 && poll_and_drop(client.send_message(&[7; 4096])).map(Result::unwrap).is_ready() {
        sent += 1;
    }
    let error = client.close_write(Duration::from_millis(20)).within("close_write").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    server.set_empty_message_is_end(true).unwrap();
    let all = server.read_to_end().within("everything, and the mark").await.unwrap();
    assert_eq!(all.len(), sent * 4096);
    server.write_all(b"answer").within("the answer").await.unwrap();
    assert_eq!(next(&client).await.as_deref(), Some(&b"answer"[..]));
}

/// Replies as long as the request says, over and over, until the client has gone.
async fn answer<S: End>(server: S) {
    let mut request = BytesMut::new();
    while server.recv_message(&mut request, usize::MAX).within("a request").await.unwrap().is_some() {
        let length = std::str::from_utf8(&request).unwrap().trim_start().parse().unwrap();
        server.send_message(&StreamData::new(64).take(length)).within("a reply").await.unwrap();
        request.clear();
    }
}

async fn an_exchange_brings_the_reply_whole<F: AsyncFamily>() {
    let (server, mut client) = message_pair::<F>().await;
    let answering = F::spawn(answer(server));
    let mut reply = BytesMut::new();
    for (length, width) in [(5, 0), (0, 0), (4096, 0), (4097, 100_000), (300_000, 0), (1, 4096)] {
        let request = " ".repeat(width) + &length.to_string();
        let received = client.transact(request.as_bytes(), &mut reply).within("an exchange").await;
        assert_eq!(received.unwrap(), length);
        assert!(reply.split() == StreamData::new(64).take(length));
    }
    drop(client);
    answering.within("the server").await;
}

async fn an_exchange_is_refused_while_a_message_waits_and_without_messages<F: AsyncFamily>() {
    let (mut server, mut client) = message_pair::<F>().await;
    server.write_all(b"news").within("write").await.unwrap();
    server.flush().within("flush").await.unwrap();
    let mut reply = BytesMut::new();
    let refused = client.transact(b"request", &mut reply).within("an exchange").await;
    assert_os_error(refused, ERROR_PIPE_BUSY, "a message waits");
    assert_eq!(next(&client).await.as_deref(), Some(&b"news"[..]));
    let (_server, mut client) = pair::<F>().await;
    let refused = client.transact(b"request", &mut reply).within("an exchange").await;
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::Unsupported);
}

/// The reply to a request that nobody waits for any more is the next message.
async fn a_dropped_exchange_leaves_its_reply_to_the_next_receiver<F: AsyncFamily>() {
    let (server, mut client) = message_pair::<F>().await;
    let mut reply = BytesMut::new();
    assert!(poll_and_drop(client.transact(b"request", &mut reply)).is_pending());
    assert_eq!(next(&server).await.as_deref(), Some(&b"request"[..]));
    server.send_message(b"reply").within("send").await.unwrap();
    assert_eq!(next(&client).await.as_deref(), Some(&b"reply"[..]));
    assert!(reply.is_empty());
}

/// The read that is under way when an exchange begins is taken back, and what it brings all the
/// same is not lost.
async fn an_exchange_takes_back_a_read_that_is_under_way<F: AsyncFamily>() {
    let (server, mut client) = message_pair::<F>().await;
    let answering = F::spawn(answer(server));
    for _ in 0..20 {
        assert!(poll_and_drop(client.recv_message(&mut BytesMut::new(), usize::MAX)).is_pending());
        let mut reply = BytesMut::new();
        assert_eq!(client.transact(b"3", &mut reply).within("an exchange").await.unwrap(), 3);
    }
    drop(client);
    answering.within("the server").await;
}

async fn a_server_that_goes_instead_of_answering_is_an_error<F: AsyncFamily>() {
    let (server, mut client) = message_pair::<F>().await;
    let leaving = F::spawn(async move {
        next(&server).await;
    });
    let ended = client.transact(b"request", &mut BytesMut::new()).within("an exchange").await;
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    leaving.within("the server").await;
}

/// The kernel refuses the exchange as a whole there. The error is that of sending, and the end is
/// still there to be received.
async fn an_exchange_without_a_peer_fails_as_sending_does<F: AsyncFamily>() {
    let mut reply = BytesMut::from("as it was");
    for seen in [false, true] {
        let (server, mut client) = message_pair::<F>().await;
        if seen {
            // A read is in flight and brings the end.
            assert!(poll_and_drop(client.recv_message(&mut BytesMut::new(), usize::MAX)).is_pending());
        }
        drop(server);
        if seen {
            client.readable().within("the end").await.unwrap();
        }
        let refused = client.transact(b"request", &mut reply).within("an exchange").await;
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(next(&client).await, None, "the end");
    }
    let (mut server, mut client) = message_pair::<F>().await;
    server.disconnect().unwrap();
    for sent in [
        server.transact(b"request", &mut reply).within("an exchange").await,
        client.transact(b"request", &mut reply).within("an exchange").await,
    ] {
        assert_os_error(sent, ERROR_PIPE_NOT_CONNECTED, "disconnected");
    }
    let options = ServerOptions::new().pipe_mode(PipeMode::Message).clone();
    let mut listening = F::create(&options, unique_name()).unwrap();
    let sent = listening.transact(b"request", &mut reply).within("an exchange").await;
    assert_os_error(sent, ERROR_PIPE_LISTENING, "nobody has come");
    assert_eq!(reply, "as it was");
}

/// That the reader has seen the end counts for no message that waits to be read.
async fn an_exchange_is_refused_for_messages_and_not_for_what_was_read<F: AsyncFamily>() {
    let (mut server, mut client) = message_pair::<F>().await;
    server.send_message(b"").within("send").await.unwrap();
    server.flush().within("flush").await.unwrap();
    let mut reply = BytesMut::new();
    let refused = client.transact(b"request", &mut reply).within("an exchange").await;
    assert_os_error(refused, ERROR_PIPE_BUSY, "an empty message waits");
    assert_eq!(next(&client).await.as_deref(), Some(&b""[..]));
    let answering = F::spawn(answer(server));
    assert_eq!(client.transact(b"3", &mut reply).within("an exchange").await.unwrap(), 3);
    drop(client);
    answering.within("the server").await;
}

/// Also of a message that is longer than the 4 MiB that one call discards.
async fn an_exchange_and_a_look_pass_over_a_refused_message<F: AsyncFamily>() {
    let (server, mut client) = message_pair::<F>().await;
    for length in [11, 5000, 12 << 20] {
        let answering = async {
            server.send_message(&vec![7; length]).await.unwrap();
            next(&server).await.unwrap();
            server.send_message(b"reply").await.unwrap();
        };
        let mut reply = BytesMut::new();
        let exchanging = async {
            let refused = client.recv_message(&mut reply, 10).await;
            assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidData);
            client.transact(b"request", &mut reply).await
        };
        let (received, ()) = smol::future::zip(exchanging, answering).within("the exchange").await;
        assert_eq!(received.unwrap(), 5, "behind a message of {length} bytes");
        assert_eq!(reply, "reply");
    }
    server.send_message(&[7; 5000]).within("send").await.unwrap();
    server.send_message(b"next").within("send").await.unwrap();
    server.as_ref().flush().within("flush").await.unwrap();
    let refused = client.recv_message(&mut BytesMut::new(), 10).within("a message").await;
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidData);
    let peek = client.as_ref().peek().unwrap();
    assert_eq!((peek.bytes_available, peek.bytes_left_in_message), (4, 4));
    assert!(client.as_ref().is_message_complete());
    assert_eq!(next(&client).await.as_deref(), Some(&b"next"[..]));
}

/// The limit of this end does not limit the messages that a peer sends. So a longer message is
/// refused, and the next is received.
async fn the_longest_message_is_what_the_options_say<F: AsyncFamily>() {
    let name = unique_name();
    let options = ServerOptions::new().pipe_mode(PipeMode::Message).max_message_size(5000).clone();
    let server = F::create(options.clone().in_buffer_size(1 << 20), &name).unwrap();
    let mut options = ClientOptions::new();
    let mut client = F::open(options.pipe_mode(PipeMode::Message).max_message_size(10), &name).unwrap();
    server.connect().within("connect").await.unwrap();
    let refused = |received: io::Result<usize>, length, limit| {
        let error = received.expect_err("it is too long");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let inner = error.get_ref().and_then(|error| error.downcast_ref::<MessageTooLong>()).unwrap();
        assert_eq!((inner.length(), inner.limit()), (length, limit));
    };
    let mut buffer = BytesMut::new();
    let received = async |buffer: &mut BytesMut| {
        server.as_ref().recv_message(buffer).within("a message").await.map(|length| length.unwrap())
    };
    for length in [5001, 5000, 100_000, 0] {
        client.send_message(&vec![0; length]).within("send").await.unwrap();
    }
    refused(received(&mut buffer).await, 5001, 5000);
    assert_eq!(received(&mut buffer).await.unwrap(), 5000);
    refused(received(&mut buffer).await, 100_000, 5000);
    assert_eq!(received(&mut buffer).await.unwrap(), 0);
    assert_eq!(buffer.len(), 5000);
    client.send_message(&[0; 6000]).within("send").await.unwrap();
    let received = server.as_ref().recv_message_limited(&mut buffer, usize::MAX).within("a message").await;
    assert_eq!(received.unwrap(), Some(6000), "an explicit limit counts instead");

    for reply in [11, 9000] {
        let answering = async {
            next(&server).await.unwrap();
            server.send_message(&vec![0; reply]).await.unwrap();
            server.send_message(b"next").await.unwrap();
        };
        buffer.clear();
        let exchange = client.transact(b"?", &mut buffer);
        let (result, ()) = smol::future::zip(exchange, answering).within("the exchange").await;
        refused(result, reply, 10);
        assert!(buffer.is_empty());
        let received = client.as_ref().recv_message(&mut buffer).within("the next message").await;
        assert_eq!(received.unwrap(), Some(4), "the pipe stays usable");
    }
}

/// Unless the options say otherwise.
async fn the_longest_message_has_64_mib<F: AsyncFamily>() {
    const LIMIT: usize = 64 << 20;
    let (server, client) = message_pair::<F>().await;
    let sending = async {
        client.send_message(&vec![0; LIMIT + 1]).await.unwrap();
        client.send_message(b"next").await.unwrap();
    };
    let mut buffer = BytesMut::new();
    let receiving = async {
        assert!(server.as_ref().recv_message(&mut buffer).await.is_err());
        assert!(buffer.capacity() < LIMIT, "memory was made for a refused message");
        assert_eq!(server.as_ref().recv_message(&mut buffer).await.unwrap(), Some(4));
    };
    smol::future::zip(sending, receiving).within_time("a message of 64 MiB", LONG).await;
}

/// Pieces may be clones of one: the length of a message that is refused says nothing of memory.
async fn a_message_of_pieces_that_is_too_long_is_refused_before_it_is_copied<F: AsyncFamily>() {
    let (_server, client) = message_pair::<F>().await;
    let piece = Bytes::from(vec![0; 64 << 20]);
    let pieces = vec![piece.clone(); 64];
    let refused = client.as_ref().write_owned_vectored(pieces).within("write").await;
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    let slices: Vec<_> = (0..64).map(|_| io::IoSlice::new(&piece)).collect();
    assert_eq!(client.as_ref().try_write_vectored(&slices).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(client.as_ref().try_write(b"usable").unwrap(), 6);
}

for_each_family!(
    the_longest_message_is_what_the_options_say => asynchronous,
    the_longest_message_has_64_mib => asynchronous,
    a_message_of_pieces_that_is_too_long_is_refused_before_it_is_copied => asynchronous,
    a_message_of_any_size_comes_whole,
    an_empty_message_is_told_from_the_end,
    a_message_over_the_limit_is_refused_and_the_next_is_received,
    a_refused_message_is_gone_for_who_reads_bytes,
    a_refused_message_is_gone_for_who_waits_to_read => asynchronous,
    the_rest_of_a_message_that_was_begun_is_received,
    what_can_be_read_is_told_and_left,
    a_byte_pipe_refuses_messages_and_says_why,
    a_client_that_reads_bytes_sends_messages_and_receives_none,
    half_close_ends_one_direction_and_the_answer_comes,
    an_empty_message_between_others_is_the_end_where_that_is_agreed,
    a_dropped_wait_for_a_message_loses_nothing => nonblocking,
    half_close_waits_for_no_longer_than_it_has_patience => asynchronous,
    an_exchange_brings_the_reply_whole => asynchronous,
    an_exchange_is_refused_while_a_message_waits_and_without_messages => asynchronous,
    an_exchange_without_a_peer_fails_as_sending_does => asynchronous,
    an_exchange_is_refused_for_messages_and_not_for_what_was_read => asynchronous,
    an_exchange_and_a_look_pass_over_a_refused_message => asynchronous,
    a_dropped_exchange_leaves_its_reply_to_the_next_receiver => asynchronous,
    an_exchange_takes_back_a_read_that_is_under_way => asynchronous,
    a_server_that_goes_instead_of_answering_is_an_error => asynchronous,
);

/// Those who send by the sink and receive by the stream. Both are of the async face and know no
/// executor.
#[test]
fn messages_are_a_stream_and_a_sink() {
    crate::harness::run::<Readiness>("messages_are_a_stream_and_a_sink", async {
        let name = unique_name();
        let server = ServerOptions::new().pipe_mode(PipeMode::Message).create(&name).unwrap();
        let client = ClientOptions::new().pipe_mode(PipeMode::Message).open(&name).unwrap();
        server.connect().within("connect").await.unwrap();
        let (mut sink, mut stream) = (Messages::new(client), Messages::new(server).with_limit(100_000));
        let messages = [0, 1, 100_000, 100_001, 0, 7].map(|size| StreamData::new(65).take(size));
        let sending = async {
            for message in &messages {
                poll_fn(|context| Pin::new(&mut sink).poll_ready(context)).await.unwrap();
                Pin::new(&mut sink).start_send(Bytes::copy_from_slice(message)).unwrap();
            }
            poll_fn(|context| Pin::new(&mut sink).poll_close(context)).await.unwrap();
        };
        let receiving = async {
            for message in &messages {
                match stream.next().await.expect("not the end") {
                    Ok(received) => assert!(received == message),
                    Err(error) => {
                        assert!(error.get_ref().is_some_and(|error| error.is::<MessageTooLong>()), "{error}");
                        assert_eq!(message.len(), 100_001);
                    }
                }
            }
        };
        smol::future::zip(sending, receiving).within("all messages").await;
        assert!(poll_and_drop(stream.next()).is_pending(), "what a dropped wait brings is not lost");
        sink.into_inner().send_message(b"last").within("send").await.unwrap();
        assert_eq!(stream.next().within("a message").await.unwrap().unwrap(), "last");
        assert!(stream.next().within("the end").await.is_none());
    });
}

/// A stream that has failed ends, so that a loop over it does.
#[test]
fn a_stream_of_messages_ends_after_an_error() {
    crate::harness::run::<Readiness>("a_stream_of_messages_ends_after_an_error", async {
        let name = unique_name();
        let server = ServerOptions::new().create(&name).unwrap();
        let mut stream = Messages::new(server);
        let error = stream.next().within("a message").await.expect("an error").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert!(stream.next().within("the end").await.is_none());
    });
}

/// As `SinkExt::send` of `futures` does it.
async fn send(sink: &mut Messages<npipe::NamedPipeClient>, message: Bytes) -> io::Result<()> {
    poll_fn(|context| Pin::new(&mut *sink).poll_ready(context)).await?;
    Pin::new(&mut *sink).start_send(message)?;
    poll_fn(|context| Pin::new(&mut *sink).poll_flush(context)).await
}

/// A sink and a stream of a pipe that has room for little.
async fn narrow_sink() -> (Messages<npipe::NamedPipeClient>, Messages<npipe::NamedPipeServer>) {
    let name = unique_name();
    let mut options = ServerOptions::new();
    let server = options.pipe_mode(PipeMode::Message).in_buffer_size(64).create(&name).unwrap();
    let mut options = ClientOptions::new();
    let client = options.pipe_mode(PipeMode::Message).write_buffer_limit(1000).open(&name).unwrap();
    server.connect().within("connect").await.unwrap();
    (Messages::new(client), Messages::new(server))
}

#[test]
fn a_send_that_was_given_up_is_accepted_or_can_be_taken_back() {
    crate::harness::run::<Readiness>("a_send_that_was_given_up_is_accepted_or_can_be_taken_back", async {
        let (mut sink, mut stream) = narrow_sink().await;
        assert_eq!(sink.take_unsent(), None);
        let (mut accepted, mut on_their_way, mut refused) = (Vec::new(), 0, 0);
        for number in 0..40_u8 {
            let message = Bytes::from(vec![number; 300]);
            let is_sent = poll_and_drop(send(&mut sink, message.clone())).is_ready();
            match sink.take_unsent() {
                Some(unsent) => {
                    assert!(!is_sent, "{number}");
                    assert_eq!(unsent, message);
                    refused += 1;
                }
                None => {
                    on_their_way += u32::from(!is_sent);
                    accepted.push(message);
                }
            }
            if number % 8 == 7 {
                assert_eq!(stream.next().within("a message").await.unwrap().unwrap(), accepted.remove(0));
            }
        }
        assert!(refused > 10, "the pipe was not full");
        assert!(on_their_way > 0, "no send was given up whose message had been accepted");
        for message in accepted {
            assert_eq!(stream.next().within("a message").await.unwrap().unwrap(), message);
        }
        send(&mut sink, Bytes::from_static(b"last")).within("send").await.unwrap();
        assert_eq!(stream.next().within("a message").await.unwrap().unwrap(), "last");
    });
}

#[test]
fn a_message_that_was_not_taken_back_is_sent_before_the_next() {
    crate::harness::run::<Readiness>("a_message_that_was_not_taken_back_is_sent_before_the_next", async {
        let (mut sink, mut stream) = narrow_sink().await;
        let mut number = 0_u8;
        // Until the sink keeps a message that the pipe has no room for.
        while poll_and_drop(poll_fn(|context| Pin::new(&mut sink).poll_ready(context))).is_ready() {
            let _ = poll_and_drop(send(&mut sink, Bytes::from(vec![number; 300])));
            number += 1;
        }
        let sending = send(&mut sink, Bytes::from_static(b"last"));
        let receiving = async {
            for expected in 0..number {
                assert_eq!(stream.next().await.unwrap().unwrap(), vec![expected; 300]);
            }
            assert_eq!(stream.next().await.unwrap().unwrap(), "last");
        };
        smol::future::zip(async { sending.await.unwrap() }, receiving).within("all messages").await;
    });
}
