//! The readiness calls on both ends: `ready`, `readable`, `writable`, `poll_*_ready`, `try_*`,
//! `try_io`, `async_io`.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut};
use std::pin::pin;
use std::task::Context;

use bytes::{BufMut, BytesMut};
use npipe::{ClientOptions, Interest, NamedPipeClient, NamedPipeServer, ServerOptions};

use crate::family::{AsyncFamily, Reading, Writing};
use crate::harness::{Alarm, Within, message_pair, pair, poll_and_drop, poll_once, unique_name};
use crate::stream_data::StreamData;

/// The calls both ends have by the same name, so that each body below is run for both.
trait Readiness: Send + Sync + 'static {
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize>;
    fn try_read_vectored(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize>;
    fn try_read_buf<B: BufMut>(&self, buffer: &mut B) -> io::Result<usize>;
    fn try_write(&self, data: &[u8]) -> io::Result<usize>;
    fn try_write_vectored(&self, data: &[IoSlice<'_>]) -> io::Result<usize>;
    fn try_io<R>(&self, interest: Interest, io: impl FnOnce() -> io::Result<R>) -> io::Result<R>;
    fn async_io<R>(
        &self,
        interest: Interest,
        io: impl FnMut() -> io::Result<R>,
    ) -> impl Future<Output = io::Result<R>>;
    fn readable(&self) -> impl Future<Output = io::Result<()>>;
    fn writable(&self) -> impl Future<Output = io::Result<()>>;
    fn ready(&self, interest: Interest) -> impl Future<Output = io::Result<npipe::Ready>>;
    fn poll_read_ready(&self, context: &mut Context<'_>) -> std::task::Poll<io::Result<()>>;
    fn poll_write_ready(&self, context: &mut Context<'_>) -> std::task::Poll<io::Result<()>>;
}

macro_rules! readiness_of {
    ($($pipe:ty),+) => { $(
        impl Readiness for $pipe {
            fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
                self.try_read(buffer)
            }
            fn try_read_vectored(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                self.try_read_vectored(buffers)
            }
            fn try_read_buf<B: BufMut>(&self, buffer: &mut B) -> io::Result<usize> {
                self.try_read_buf(buffer)
            }
            fn try_write(&self, data: &[u8]) -> io::Result<usize> {
                self.try_write(data)
            }
            fn try_write_vectored(&self, data: &[IoSlice<'_>]) -> io::Result<usize> {
                self.try_write_vectored(data)
            }
            fn try_io<R>(&self, interest: Interest, io: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
                self.try_io(interest, io)
            }
            async fn async_io<R>(
                &self,
                interest: Interest,
                io: impl FnMut() -> io::Result<R>,
            ) -> io::Result<R> {
                self.async_io(interest, io).await
            }
            async fn readable(&self) -> io::Result<()> {
                self.readable().await
            }
            async fn writable(&self) -> io::Result<()> {
                self.writable().await
            }
            async fn ready(&self, interest: Interest) -> io::Result<npipe::Ready> {
                self.ready(interest).await
            }
            fn poll_read_ready(&self, context: &mut Context<'_>) -> std::task::Poll<io::Result<()>> {
                self.poll_read_ready(context)
            }
            fn poll_write_ready(&self, context: &mut Context<'_>) -> std::task::Poll<io::Result<()>> {
                self.poll_write_ready(context)
            }
        }
    )+ };
}

readiness_of!(NamedPipeServer, NamedPipeClient);

/// Runs the body once with the server as the end under test, once with the client.
async fn each_end<F: AsyncFamily>(
    body_of_server: impl AsyncFnOnce(&NamedPipeServer, &mut F::Client),
    body_of_client: impl AsyncFnOnce(&NamedPipeClient, &mut F::Server),
) {
    let (server, mut client) = pair::<F>().await;
    body_of_server(server.as_ref(), &mut client).await;
    let (mut server, client) = pair::<F>().await;
    body_of_client(client.as_ref(), &mut server).await;
}

/// Sends and waits until the kernel has it.
async fn send<W: Writing>(peer: &mut W, data: &[u8]) {
    peer.write_all(data).within("write").await.unwrap();
    peer.flush().within("flush").await.unwrap();
}

/// The loop every user of `try_read` writes.
async fn read_when_ready(pipe: &impl Readiness, buffer: &mut [u8]) -> io::Result<usize> {
    async {
        loop {
            pipe.readable().await?;
            match pipe.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }
    .within("readable, then try_read")
    .await
}

async fn write_all_when_ready(pipe: &impl Readiness, mut data: &[u8]) {
    async {
        while !data.is_empty() {
            pipe.writable().await.unwrap();
            match pipe.try_write(data) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => data = &data[written.unwrap()..],
            }
        }
    }
    .within("writable, then try_write")
    .await;
}

fn assert_would_block<T: std::fmt::Debug>(result: io::Result<T>) {
    assert_eq!(result.expect_err("nothing is ready").kind(), io::ErrorKind::WouldBlock);
}

async fn try_read_of_an_empty_pipe_would_block<F: AsyncFamily>() {
    async fn body<P: Writing>(pipe: &impl Readiness, peer: &mut P) {
        let mut buffer = [0; 16];
        assert_would_block(pipe.try_read(&mut buffer));
        assert_would_block(pipe.try_read_vectored(&mut [IoSliceMut::new(&mut buffer)]));
        assert_would_block(pipe.try_read_buf(&mut Vec::with_capacity(16)));
        send(peer, b"now").await;
        assert_eq!(read_when_ready(pipe, &mut buffer).await.unwrap(), 3);
        assert_would_block(pipe.try_read(&mut buffer));
    }
    each_end::<F>(async |pipe, peer| body(pipe, peer).await, async |pipe, peer| body(pipe, peer).await).await;
}

async fn readable_ends_when_data_come<F: AsyncFamily>() {
    async fn body<P: Writing>(pipe: &impl Readiness, peer: &mut P) {
        {
            let mut readable = pin!(pipe.readable());
            assert!(poll_once(readable.as_mut()).is_pending());
            send(peer, b"data").await;
            readable.within("readable once data came").await.unwrap();
        }
        // Nothing was taken: it stays readable.
        pipe.readable().within("readable, again").await.unwrap();
        let mut buffer = [0; 16];
        assert_eq!(read_when_ready(pipe, &mut buffer).await.unwrap(), 4);
        assert_eq!(&buffer[..4], b"data");
        assert_would_block(pipe.try_read(&mut buffer));
        assert!(poll_and_drop(pipe.readable()).is_pending(), "all was read");
    }
    each_end::<F>(async |pipe, peer| body(pipe, peer).await, async |pipe, peer| body(pipe, peer).await).await;
}

async fn dropped_readable_loses_no_wake_up<F: AsyncFamily>() {
    async fn body<P: Writing>(pipe: &impl Readiness, peer: &mut P) {
        for round in 0..100_u8 {
            for _ in 0..10 {
                assert!(poll_and_drop(pipe.readable()).is_pending());
            }
            send(peer, &[round]).await;
            let mut buffer = [0; 16];
            assert_eq!(read_when_ready(pipe, &mut buffer).await.unwrap(), 1);
            assert_eq!(buffer[0], round);
            assert_would_block(pipe.try_read(&mut buffer));
        }
    }
    each_end::<F>(async |pipe, peer| body(pipe, peer).await, async |pipe, peer| body(pipe, peer).await).await;
}

async fn fresh_connection_is_writable_and_not_readable<F: AsyncFamily>() {
    async fn body<P: Writing>(pipe: &impl Readiness, peer: &mut P) {
        let interest = Interest::READABLE | Interest::WRITABLE;
        let ready = pipe.ready(interest).within("ready").await.unwrap();
        assert!(ready.is_writable() && !ready.is_readable(), "{ready:?}");
        send(peer, b"x").await;
        pipe.readable().within("readable").await.unwrap();
        let ready = pipe.ready(interest).within("ready").await.unwrap();
        assert!(ready.is_readable() && ready.is_writable(), "{ready:?}");
        assert!(pipe.ready(Interest::READABLE).within("ready").await.unwrap().is_readable());
        assert!(pipe.ready(Interest::WRITABLE).within("ready").await.unwrap().is_writable());
    }
    each_end::<F>(async |pipe, peer| body(pipe, peer).await, async |pipe, peer| body(pipe, peer).await).await;
}

async fn many_tasks_wait_for_the_same_readiness<F: AsyncFamily>() {
    async fn body<P: Writing>(pipe: &impl Readiness, peer: &mut P) {
        let waits = (0..10).map(|_| Box::pin(pipe.readable()));
        let mut waits: Vec<_> = waits.collect();
        for wait in &mut waits {
            assert!(poll_once(wait.as_mut()).is_pending());
        }
        send(peer, b"x").await;
        for wait in waits {
            wait.within("one of ten that wait").await.unwrap();
        }
    }
    each_end::<F>(async |pipe, peer| body(pipe, peer).await, async |pipe, peer| body(pipe, peer).await).await;
}

async fn try_write_stops_and_writable_tells_when_to_go_on<F: AsyncFamily>() {
    async fn body<P: Reading>(pipe: &impl Readiness, peer: &mut P) {
        let mut data = StreamData::new(51);
        let mut accepted = 0;
        let mut refusals = 0;
        while refusals < 100 {
            match pipe.try_write(data.peek(8 * 1024)) {
                Ok(written) => {
                    accepted += written;
                    data.advance(written);
                    assert!(accepted < 16 << 20, "the writer is never stopped");
                }
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    refusals += 1;
                    smol::future::yield_now().await;
                }
            }
        }
        let mut writable = pin!(pipe.writable());
        assert!(poll_once(writable.as_mut()).is_pending());
        let mut received = vec![0; accepted];
        peer.read_exact(&mut received).within("the accepted bytes").await.unwrap();
        StreamData::new(51).expect(&received);
        writable.within("writable once the peer has read").await.unwrap();
        write_all_when_ready(pipe, b"more").await;
        let mut received = [0; 4];
        peer.read_exact(&mut received).within("more").await.unwrap();
        assert_eq!(&received, b"more");
    }
    each_end::<F>(async |pipe, peer| body(pipe, peer).await, async |pipe, peer| body(pipe, peer).await).await;
}

async fn vectored_and_buffered_tries<F: AsyncFamily>() {
    async fn body<P: Reading + Writing>(pipe: &impl Readiness, peer: &mut P) {
        let mut parts: Vec<&[u8]> = vec![b"vec", b"", b"tored"];
        while !parts.is_empty() {
            pipe.writable().within("writable").await.unwrap();
            let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
            let mut written = match pipe.try_write_vectored(&slices) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                written => written.unwrap(),
            };
            while parts.first().is_some_and(|part| part.len() <= written) {
                written -= parts.remove(0).len();
            }
            if let Some(first) = parts.first_mut() {
                *first = &first[written..];
            }
        }
        let mut received = [0; 8];
        peer.read_exact(&mut received).within("the vectored write").await.unwrap();
        assert_eq!(&received, b"vectored");

        send(peer, b"abcdef").await;
        let (mut first, mut second) = ([0; 2], [0; 2]);
        pipe.readable().within("readable").await.unwrap();
        let read =
            pipe.try_read_vectored(&mut [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)]).unwrap();
        let mut received = [first, second].concat();
        received.truncate(read);
        while received.len() < 6 {
            pipe.readable().within("readable").await.unwrap();
            match pipe.try_read_buf(&mut received) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => assert_ne!(read.unwrap(), 0),
            }
            received.reserve(16);
        }
        assert_eq!(received, b"abcdef");
    }
    each_end::<F>(async |pipe, peer| body(pipe, peer).await, async |pipe, peer| body(pipe, peer).await).await;
}

/// Whatever room the buffer says that it has left afterwards.
async fn try_read_buf_returns_what_it_appended<F: AsyncFamily>() {
    async fn into<B: BufMut>(pipe: &impl Readiness, mut peer: impl Writing, mut buffer: B) -> B {
        send(&mut peer, b"hello").await;
        pipe.readable().within("readable").await.unwrap();
        assert_eq!(pipe.try_read_buf(&mut buffer).unwrap(), 5);
        assert_would_block(pipe.try_read_buf(&mut buffer));
        send(&mut peer, b"last").await;
        pipe.readable().within("readable again").await.unwrap();
        assert_eq!(pipe.try_read_buf(&mut buffer).unwrap(), 4);
        drop(peer);
        let end = async {
            loop {
                pipe.readable().await.unwrap();
                match pipe.try_read_buf(&mut buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    end => break end.unwrap(),
                }
            }
        };
        assert_eq!(end.within("the end").await, 0);
        buffer
    }
    const ALL: &[u8] = b"hellolast";
    let (server, client) = pair::<F>().await;
    assert_eq!(into(client.as_ref(), server, Vec::new()).await, ALL);
    let (server, client) = message_pair::<F>().await;
    assert_eq!(into(client.as_ref(), server, Vec::new()).await, ALL);
    let (server, client) = pair::<F>().await;
    assert_eq!(into(server.as_ref(), client, BytesMut::new()).await, ALL);
    let (server, client) = message_pair::<F>().await;
    assert_eq!(into(server.as_ref(), client, BytesMut::new()).await, ALL);
    let (server, client) = pair::<F>().await;
    assert_eq!(into(server.as_ref(), client, Vec::new().limit(100)).await.into_inner(), ALL);
    let (server, client) = pair::<F>().await;
    let (first, last) =
        into(server.as_ref(), client, Vec::new().limit(3).chain_mut(BytesMut::new())).await.into_inner();
    assert_eq!([&first.into_inner()[..], &last].concat(), ALL);
}

async fn try_io_calls_only_what_is_ready<F: AsyncFamily>() {
    async fn body<P: Writing>(pipe: &impl Readiness, peer: &mut P) {
        let called = Cell::new(0);
        let count = || {
            called.set(called.get() + 1);
            Ok(called.get())
        };
        assert_would_block(pipe.try_io(Interest::READABLE, count));
        assert_eq!(called.get(), 0, "not readable: not called");
        pipe.writable().within("writable").await.unwrap();
        assert_eq!(pipe.try_io(Interest::WRITABLE, count).unwrap(), 1);
        send(peer, b"x").await;
        pipe.readable().within("readable").await.unwrap();
        assert_eq!(pipe.try_io(Interest::READABLE, count).unwrap(), 2);
        let error = pipe
            .try_io(Interest::READABLE, || Err::<(), _>(io::Error::from(io::ErrorKind::InvalidData)))
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "the closure's own error comes back");
        let mut buffer = [0; 16];
        assert_eq!(pipe.try_io(Interest::READABLE, || pipe.try_read(&mut buffer)).unwrap(), 1);
    }
    each_end::<F>(async |pipe, peer| body(pipe, peer).await, async |pipe, peer| body(pipe, peer).await).await;
}

async fn async_io_waits_while_the_closure_would_block<F: AsyncFamily>() {
    async fn body<P: Writing>(pipe: &impl Readiness, peer: &mut P) {
        let mut buffer = [0; 16];
        let mut read = Box::pin(pipe.async_io(Interest::READABLE, || pipe.try_read(&mut buffer)));
        assert!(poll_once(read.as_mut()).is_pending());
        send(peer, b"async_io").await;
        assert_eq!(read.within("async_io").await.unwrap(), 8);
        assert_eq!(&buffer[..8], b"async_io");
    }
    each_end::<F>(async |pipe, peer| body(pipe, peer).await, async |pipe, peer| body(pipe, peer).await).await;
}

async fn polled_readiness_wakes<F: AsyncFamily>() {
    async fn body<P: Reading + Writing>(pipe: &impl Readiness, peer: &mut P) {
        poll_fn(|context| pipe.poll_write_ready(context)).within("poll_write_ready").await.unwrap();
        let (alarm, waker) = Alarm::new();
        assert!(pipe.poll_read_ready(&mut Context::from_waker(&waker)).is_pending());
        send(peer, b"x").await;
        alarm.wait("poll_read_ready once data came").await;
        poll_fn(|context| pipe.poll_read_ready(context)).within("poll_read_ready").await.unwrap();

        let mut accepted = 0;
        let (alarm, waker) = Alarm::new();
        while pipe.poll_write_ready(&mut Context::from_waker(&waker)).is_ready() {
            match pipe.try_write(&[7; 8 * 1024]) {
                Ok(written) => accepted += written,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            assert!(accepted < 16 << 20, "the writer is never stopped");
        }
        // It may have been woken by a completion in between; from here on only the peer can make room.
        let mut received = vec![0; accepted];
        peer.read_exact(&mut received).within("the accepted bytes").await.unwrap();
        alarm.wait("poll_write_ready once the peer has read").await;
        poll_fn(|context| pipe.poll_write_ready(context)).within("poll_write_ready").await.unwrap();
    }
    each_end::<F>(async |pipe, peer| body(pipe, peer).await, async |pipe, peer| body(pipe, peer).await).await;
}

async fn closed_peer_is_readable_and_at_its_end<F: AsyncFamily>() {
    async fn body<P>(pipe: &impl Readiness, peer: P) {
        {
            let mut readable = pin!(pipe.readable());
            assert!(poll_once(readable.as_mut()).is_pending());
            drop(peer);
            readable.within("readable once the peer has closed").await.unwrap();
        }
        let mut buffer = [0; 16];
        assert_eq!(read_when_ready(pipe, &mut buffer).await.unwrap(), 0);
        assert_eq!(read_when_ready(pipe, &mut buffer).await.unwrap(), 0, "it stays the end");
    }
    let (server, client) = pair::<F>().await;
    body(server.as_ref(), client).await;
    let (server, client) = pair::<F>().await;
    body(client.as_ref(), server).await;
}

/// Readiness and the I/O traits look at the same bytes.
async fn traits_and_tries_take_turns<F: AsyncFamily>() {
    let (mut server, mut client) = pair::<F>().await;
    send(&mut client, b"0123456789").await;
    let mut received = Vec::new();
    let mut buffer = [0; 3];
    while received.len() < 10 {
        let read = if received.len() % 2 == 0 {
            server.read(&mut buffer[..1]).within("read").await.unwrap()
        } else {
            read_when_ready(server.as_ref(), &mut buffer).await.unwrap()
        };
        received.extend_from_slice(&buffer[..read]);
    }
    assert_eq!(received, b"0123456789");
}

/// A server nobody has connected to is neither readable nor a reason to panic.
async fn listening_server_is_not_ready<F: AsyncFamily>() {
    let name = unique_name();
    let server = F::create(&ServerOptions::new(), &name).unwrap();
    let pipe: &NamedPipeServer = server.as_ref();
    let mut buffer = [0; 16];
    assert!(pipe.try_read(&mut buffer).is_err());
    assert!(pipe.try_write(b"to nobody").is_err());
    assert!(poll_and_drop(pipe.connect()).is_pending());
    assert!(pipe.try_read(&mut buffer).is_err());
    assert!(pipe.try_write(b"to nobody").is_err());

    let mut client = F::open(&ClientOptions::new(), &name).unwrap();
    pipe.connect().within("connect").await.unwrap();
    send(&mut client, b"x").await;
    assert_eq!(read_when_ready(pipe, &mut buffer).await.unwrap(), 1);
    write_all_when_ready(pipe, b"somebody").await;
    let mut received = [0; 8];
    client.read_exact(&mut received).within("what was written while connected").await.unwrap();
    assert_eq!(&received, b"somebody", "nothing of what was refused");
}

#[cfg(feature = "tokio")]
#[test]
fn interest_and_ready_convert_from_and_to_tokio() {
    for (ours, theirs) in [
        (Interest::READABLE, tokio::io::Interest::READABLE),
        (Interest::WRITABLE, tokio::io::Interest::WRITABLE),
        (
            Interest::READABLE | Interest::WRITABLE,
            tokio::io::Interest::READABLE | tokio::io::Interest::WRITABLE,
        ),
    ] {
        let converted = tokio::io::Interest::from(ours);
        assert_eq!(converted, theirs);
        assert_eq!(Interest::from(theirs), ours);
    }
    for (ours, theirs) in [
        (npipe::Ready::EMPTY, tokio::io::Ready::EMPTY),
        (npipe::Ready::READABLE, tokio::io::Ready::READABLE),
        (npipe::Ready::WRITABLE, tokio::io::Ready::WRITABLE),
    ] {
        assert_eq!(tokio::io::Ready::from(ours), theirs);
        assert_eq!(npipe::Ready::from(theirs), ours);
    }
}

for_each_family!(
    try_read_of_an_empty_pipe_would_block => asynchronous,
    readable_ends_when_data_come => asynchronous,
    dropped_readable_loses_no_wake_up => asynchronous,
    fresh_connection_is_writable_and_not_readable => asynchronous,
    many_tasks_wait_for_the_same_readiness => asynchronous,
    try_write_stops_and_writable_tells_when_to_go_on => asynchronous,
    vectored_and_buffered_tries => asynchronous,
    try_read_buf_returns_what_it_appended => asynchronous,
    try_io_calls_only_what_is_ready => asynchronous,
    async_io_waits_while_the_closure_would_block => asynchronous,
    polled_readiness_wakes => asynchronous,
    closed_peer_is_readable_and_at_its_end => asynchronous,
    traits_and_tries_take_turns => asynchronous,
    listening_server_is_not_ready => asynchronous,
);
