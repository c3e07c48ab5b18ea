//! A task whose pipes are always ready lets others run (promise 11): each operation yields now and
//! then, in a Tokio runtime and elsewhere, and a peer that floods this end with nothing gets no
//! more.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use futures_sink::Sink;
use npipe::{ClientOptions, Interest, Messages, NamedPipeClient, NamedPipeServer, PipeMode, ServerOptions};
use smol::stream::StreamExt;

use crate::family::{AsyncFamily, Exchanging, Family, Reading, Writing};
use crate::harness::{LONG, Within, pair_with, unique_name};

/// The number of results that an operation has without waiting.
const RESULTS: usize = 1000;

/// Runs `operation`, whose results are available, together with another future, which is polled
/// only while `operation` is pending.
async fn assert_yields(what: &str, results: usize, mut operation: impl AsyncFnMut()) {
    let turns = Cell::new(0);
    let other = poll_fn(|_| {
        turns.set(turns.get() + 1);
        Poll::<()>::Pending
    });
    let busy = async {
        for _ in 0..results {
            operation().await;
        }
    };
    smol::future::or(busy, other).within(what).await;
    let least = results / 200;
    assert!(turns.get() >= least, "{what}: {} turns of the other in {results} results", turns.get());
}

/// Both ends of a pipe for messages that takes megabytes before a writer has to wait.
async fn roomy_pair<F: AsyncFamily>() -> (F::Server, F::Client) {
    let server = ServerOptions::new()
        .pipe_mode(PipeMode::Message)
        .in_buffer_size(4 << 20)
        .out_buffer_size(4 << 20)
        .clone();
    pair_with::<F>(&server, ClientOptions::new().pipe_mode(PipeMode::Message)).await
}

/// A pair of which the client has sent [`RESULTS`] messages of one byte.
async fn filled_pair<F: AsyncFamily>() -> (F::Server, F::Client) {
    let (server, client) = roomy_pair::<F>().await;
    for _ in 0..RESULTS {
        client.as_ref().send_message(b"!").within("send").await.unwrap();
    }
    client.as_ref().flush().within("flush").await.unwrap();
    (server, client)
}

async fn reads_yield<F: AsyncFamily>() {
    let (mut server, _client) = filled_pair::<F>().await;
    let mut byte = [0; 2];
    assert_yields("read", RESULTS, async || assert_eq!(server.read(&mut byte).await.unwrap(), 1)).await;

    let (server, _client) = filled_pair::<F>().await;
    let pipe: &NamedPipeServer = server.as_ref();
    assert_yields("read_owned", RESULTS, async || {
        assert_eq!(pipe.read_owned(BytesMut::with_capacity(2)).await.unwrap(), b"!"[..]);
    })
    .await;

    let (server, _client) = filled_pair::<F>().await;
    let pipe: &NamedPipeServer = server.as_ref();
    assert_yields("read_owned_vectored", RESULTS, async || {
        let buffers = [(); 2].map(|()| BytesMut::with_capacity(2)).to_vec();
        assert_eq!(pipe.read_owned_vectored(buffers).await.unwrap()[0], b"!"[..]);
    })
    .await;

    let (server, _client) = filled_pair::<F>().await;
    let pipe: &NamedPipeServer = server.as_ref();
    let mut buffer = BytesMut::new();
    assert_yields("recv_message", RESULTS, async || {
        assert_eq!(pipe.recv_message(&mut buffer).await.unwrap(), Some(1));
    })
    .await;
}

async fn writes_yield<F: AsyncFamily>() {
    let (_server, mut client) = roomy_pair::<F>().await;
    assert_yields("write", RESULTS, async || assert_eq!(client.write(b"!").await.unwrap(), 1)).await;
    let pipe: &NamedPipeClient = client.as_ref();
    assert_yields("send_message", RESULTS, async || pipe.send_message(b"!").await.unwrap()).await;
    let bytes = Bytes::from_static(b"!");
    assert_yields("write_owned", RESULTS, async || pipe.write_owned(bytes.clone()).await.unwrap()).await;
    assert_yields("write_owned_vectored", RESULTS, async || {
        pipe.write_owned_vectored(vec![bytes.clone(); 2]).await.unwrap();
    })
    .await;
    assert_yields("flush", RESULTS, async || pipe.flush().await.unwrap()).await;
    assert_yields("the trait's flush", RESULTS, async || client.flush().await.unwrap()).await;
}

async fn waits_for_readiness_yield<F: AsyncFamily>() {
    let (server, client) = filled_pair::<F>().await;
    let pipe: &NamedPipeServer = server.as_ref();
    assert_yields("readable", RESULTS, async || pipe.readable().await.unwrap()).await;
    assert_yields("ready", RESULTS, async || {
        pipe.ready(Interest::READABLE | Interest::WRITABLE).await.unwrap();
    })
    .await;
    assert_yields("poll_read_ready", RESULTS, async || {
        poll_fn(|context| pipe.poll_read_ready(context)).await.unwrap();
    })
    .await;
    assert_yields("async_io", RESULTS, async || {
        let byte = pipe.async_io(Interest::READABLE, || pipe.try_read(&mut [0])).await;
        assert_eq!(byte.unwrap(), 1);
    })
    .await;
    let pipe: &NamedPipeClient = client.as_ref();
    assert_yields("writable", RESULTS, async || pipe.writable().await.unwrap()).await;
    assert_yields("poll_write_ready", RESULTS, async || {
        poll_fn(|context| pipe.poll_write_ready(context)).await.unwrap();
    })
    .await;
}

async fn streams_and_sinks_of_messages_yield<F: Family>() {
    let name = unique_name();
    let options = ServerOptions::new().pipe_mode(PipeMode::Message).in_buffer_size(4 << 20).clone();
    let server = options.create(&name).unwrap();
    let client = ClientOptions::new().pipe_mode(PipeMode::Message).open(&name).unwrap();
    server.connect().within("connect").await.unwrap();
    let (mut server, mut client) = (Messages::new(server), Messages::new(client));
    assert_yields("the sink", RESULTS, async || {
        let mut sink = Pin::new(&mut client);
        poll_fn(|context| sink.as_mut().poll_ready(context)).await.unwrap();
        sink.as_mut().start_send(Bytes::from_static(b"!")).unwrap();
    })
    .await;
    let mut sink = Pin::new(&mut client);
    poll_fn(|context| sink.as_mut().poll_flush(context)).within("flush").await.unwrap();
    assert_yields("the stream", RESULTS, async || {
        assert_eq!(server.next().await.unwrap().unwrap(), b"!"[..]);
    })
    .await;
}

async fn connects_and_accepts_yield<F: AsyncFamily>() {
    const CLIENTS: usize = 200;
    let (server, _client) = filled_pair::<F>().await;
    let pipe: &NamedPipeServer = server.as_ref();
    assert_yields("connect of a server", RESULTS, async || pipe.connect().await.unwrap()).await;

    let name = unique_name();
    let listener = ServerOptions::new().backlog(CLIENTS).listen(&name).unwrap();
    let mut clients = Vec::new();
    assert_yields("connect of a client", CLIENTS, async || {
        clients.push(ClientOptions::new().connect(&name).await.unwrap());
    })
    .await;
    let mut servers = Vec::new();
    assert_yields("accept", CLIENTS, async || servers.push(listener.accept().await.unwrap())).await;
    drop((clients, servers, listener));

    let name = unique_name();
    let listener = ServerOptions::new().backlog(CLIENTS).listen(&name).unwrap();
    let clients: Vec<_> = (0..CLIENTS).map(|_| ClientOptions::new().open(&name).unwrap()).collect();
    let mut servers = Vec::new();
    let mut incoming = listener.incoming();
    assert_yields("incoming", CLIENTS, async || servers.push(incoming.next().await.unwrap().unwrap())).await;
    drop(clients);
}

/// An exchange waits for its peer, and so do drains where Windows has them as an operation: neither
/// may add to what a task does in one go.
async fn another_task_has_its_turns_beside_exchanges_and_drains<F: AsyncFamily>() {
    let (server, mut client) = roomy_pair::<F>().await;
    let answering = F::spawn(async move {
        let (server, mut buffer): (&NamedPipeServer, _) = (server.as_ref(), BytesMut::new());
        while server.recv_message(&mut buffer).await.unwrap().is_some() {
            server.send_message(b"answer").await.unwrap();
        }
    });
    let mut reply = BytesMut::new();
    assert_yields("transact", 300, async || {
        reply.clear();
        assert_eq!(client.transact(b"request", &mut reply).await.unwrap(), 6);
    })
    .await;
    let pipe: &NamedPipeClient = client.as_ref();
    assert_yields("drain", 300, async || pipe.drain().await.unwrap()).await;
    drop(client);
    answering.within("the end").await;
}

/// A peer decides how many empty messages it sends, and they are no results of a read. One poll
/// passes over few of them.
async fn empty_messages_keep_nobody_waiting<F: AsyncFamily>() {
    const EMPTY: usize = 3000;
    let flooded = async || {
        let (server, client) = roomy_pair::<F>().await;
        let flood = async {
            for _ in 0..EMPTY {
                client.as_ref().send_message(b"").await.unwrap();
            }
            client.as_ref().send_message(b"behind").await.unwrap();
            client.as_ref().flush().await.unwrap();
        };
        flood.within_time("the flood", LONG).await;
        (server, client)
    };
    let count_turns = async |read: Pin<Box<dyn Future<Output = usize> + '_>>| {
        let turns = Cell::new(0);
        let other = poll_fn(|_| {
            turns.set(turns.get() + 1);
            Poll::<usize>::Pending
        });
        let count = smol::future::or(read, other).within_time("the message behind the flood", LONG).await;
        assert_eq!(count, 6);
        assert!(turns.get() >= EMPTY / 100, "{} turns", turns.get());
    };
    let mut buffer = [0; 10];

    let (mut server, _client) = flooded().await;
    count_turns(Box::pin(async { server.read(&mut buffer).await.unwrap() })).await;
    let (server, _client) = flooded().await;
    let pipe: &NamedPipeServer = server.as_ref();
    count_turns(Box::pin(async { pipe.read_owned(BytesMut::new()).await.unwrap().len() })).await;
    let (server, _client) = flooded().await;
    let pipe: &NamedPipeServer = server.as_ref();
    let try_read = async {
        loop {
            pipe.readable().await.unwrap();
            match pipe.try_read(&mut buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                count => break count.unwrap(),
            }
        }
    };
    count_turns(Box::pin(try_read)).await;
}

for_each_family!(
    reads_yield => asynchronous,
    writes_yield => asynchronous,
    waits_for_readiness_yield => asynchronous,
    streams_and_sinks_of_messages_yield => asynchronous,
    connects_and_accepts_yield => asynchronous,
    another_task_has_its_turns_beside_exchanges_and_drains => asynchronous,
    empty_messages_keep_nobody_waiting => asynchronous,
);
