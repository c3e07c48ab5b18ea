//! Dropping a future loses nothing (promise 1): whatever the stage, the bytes are counted and
//! compared afterwards.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use npipe::{ClientOptions, PipeMode, ServerOptions};

use crate::family::{End, Family, NonBlockingFamily, Reading, Waiting, Writing};
use crate::harness::{Alarm, LONG, Within, pair, pair_with, poll_and_drop, poll_once, write_until_stopped};
use crate::stream_data::{StreamData, random_chunk};

async fn read_dropped_while_pending<F: NonBlockingFamily>() {
    let (mut server, mut client) = pair::<F>().await;
    assert!(poll_and_drop(server.read(&mut [0; 16])).is_pending());
    client.write_all(b"later").within("write").await.unwrap();
    let mut received = [0; 5];
    server.read_exact(&mut received).within("read after a dropped read").await.unwrap();
    assert_eq!(&received, b"later");
}

async fn read_dropped_after_its_data_came<F: NonBlockingFamily>() {
    let (mut server, mut client) = pair::<F>().await;
    {
        let mut buffer = [0; 16];
        let mut read = Box::pin(server.read(&mut buffer));
        assert!(poll_once(read.as_mut()).is_pending());
        client.write_all(b"taken").within("write").await.unwrap();
        client.flush().within("flush").await.unwrap();
        // The kernel has given the bytes to the pending read by now; nobody has looked at its
        // result.
    }
    let mut received = [0; 5];
    server.read_exact(&mut received).within("read after a dropped read").await.unwrap();
    assert_eq!(&received, b"taken");
}

/// What a dropped read had asked for says nothing about the next one.
async fn read_after_a_dropped_read_of_another_size<F: NonBlockingFamily>() {
    for (dropped, next) in [(1, 100_000), (100_000, 1), (3, 5), (4096, 4097), (65536, 7)] {
        let (mut server, mut client) = pair::<F>().await;
        assert!(poll_and_drop(server.read(&mut vec![0; dropped])).is_pending());
        let data = StreamData::new(dropped as u64).take(50_000);
        let mut received = Vec::new();
        let reading = async {
            let mut buffer = vec![0; next];
            while received.len() < data.len() {
                let read = server.read(&mut buffer).await.unwrap();
                assert!((1..=next).contains(&read), "{read}");
                received.extend_from_slice(&buffer[..read]);
            }
        };
        let (written, ()) = smol::future::zip(client.write_all(&data), reading)
            .within("read with another buffer after a dropped read")
            .await;
        written.unwrap();
        assert!(received == data, "dropped {dropped}, then {next}");
    }
}

/// A `select!` loop that gives each read one poll: most are dropped, and what they had taken comes
/// with a later one.
async fn thousands_of_dropped_reads<F: NonBlockingFamily>(
    server: F::Server,
    mut client: F::Client,
    largest: usize,
) {
    let (reader, mut writer) = server.split();
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let writing = F::spawn(async move {
        let mut data = StreamData::new(seed);
        let mut chunks = fastrand::Rng::with_seed(seed);
        while !stopped.load(Ordering::Relaxed) {
            let chunk = data.peek(random_chunk(&mut chunks, largest));
            let written = writer.write(chunk).await.unwrap();
            data.advance(written);
            if chunks.bool() {
                smol::future::yield_now().await;
            }
        }
        writer.flush().await.unwrap();
        drop((writer, reader));
        data.offset()
    });
    let mut expected = StreamData::new(seed);
    let mut chunks = fastrand::Rng::with_seed(!seed);
    let mut buffer = vec![0; largest];
    let mut dropped = 0;
    async {
        while dropped < 2000 / F::COST {
            let size = random_chunk(&mut chunks, largest);
            match poll_and_drop(client.read(&mut buffer[..size])) {
                Poll::Ready(read) => {
                    let read = read.unwrap();
                    assert_ne!(read, 0, "end of file while the writer is there");
                    expected.expect(&buffer[..read]);
                }
                Poll::Pending => {
                    dropped += 1;
                    // Spinning on one processor keeps the completions away; waiting brings them at once. Try
                    // both.
                    match chunks.u8(0..8) {
                        0 => smol::future::yield_now().await,
                        _ => client.readable().await.unwrap(),
                    }
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        let rest = client.read_to_end().await.unwrap();
        expected.expect(&rest);
    }
    .within_time("thousands of dropped reads", LONG)
    .await;
    let sent = writing.within("the writer").await;
    assert_eq!(expected.offset(), sent, "bytes received against bytes written");
}

/// A small quota: the reader soon has everything there is and has to wait again.
async fn pair_that_holds_little<F: Family>(mode: PipeMode) -> (F::Server, F::Client) {
    pair_with::<F>(
        ServerOptions::new().pipe_mode(mode).in_buffer_size(4096).out_buffer_size(4096),
        ClientOptions::new().pipe_mode(mode),
    )
    .await
}

async fn thousands_of_dropped_reads_of_bytes<F: NonBlockingFamily>() {
    let (server, client) = pair_that_holds_little::<F>(PipeMode::Byte).await;
    thousands_of_dropped_reads::<F>(server, client, 5000).await;
}

async fn thousands_of_dropped_reads_of_messages<F: NonBlockingFamily>() {
    let (server, client) = pair_that_holds_little::<F>(PipeMode::Message).await;
    thousands_of_dropped_reads::<F>(server, client, 5000).await;
}

/// A write that was dropped while pending has written nothing: exactly the accepted bytes arrive,
/// then what is written later.
async fn write_dropped_while_pending_wrote_nothing<F: NonBlockingFamily>() {
    let (mut server, client) = pair::<F>().await;
    let (_reader, mut client) = client.split();
    let mut sent = StreamData::new(11);
    let accepted = write_until_stopped(&mut client, &mut sent).await;
    for _ in 0..100 {
        assert!(poll_and_drop(client.write(b"never sent")).is_pending(), "{accepted} bytes, then stopped");
    }
    let writing = F::spawn(async move {
        let rest = sent.take(10_000);
        client.write_all(&rest).await.unwrap();
        client.flush().await.unwrap();
        (client, _reader)
    });
    let mut received = vec![0; accepted + 10_000];
    server.read_exact(&mut received).within("the accepted bytes and the later ones").await.unwrap();
    StreamData::new(11).expect(&received);
    drop(writing.within("the writer").await);
    assert_eq!(server.read_to_end().within("the end of the file").await.unwrap(), b"");
}

async fn thousands_of_dropped_writes<F: NonBlockingFamily>() {
    let (mut reader, mut writer) = pair_that_holds_little::<F>(PipeMode::Byte).await;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let reading = F::spawn(async move {
        let mut expected = StreamData::new(seed);
        let mut chunks = fastrand::Rng::with_seed(seed);
        let mut buffer = vec![0; 20_000];
        loop {
            let size = random_chunk(&mut chunks, buffer.len());
            match reader.read(&mut buffer[..size]).await.unwrap() {
                0 => return expected.offset(),
                read => expected.expect(&buffer[..read]),
            }
            if chunks.u8(0..8) == 0 {
                smol::future::yield_now().await;
            }
        }
    });
    let mut data = StreamData::new(seed);
    let mut chunks = fastrand::Rng::with_seed(!seed);
    let mut dropped = 0;
    async {
        while dropped < 2000 / F::COST {
            match poll_and_drop(writer.write(data.peek(random_chunk(&mut chunks, 20_000)))) {
                Poll::Ready(written) => data.advance(written.unwrap()),
                Poll::Pending => {
                    dropped += 1;
                    match chunks.u8(0..8) {
                        0 => smol::future::yield_now().await,
                        _ => writer.writable().await.unwrap(),
                    }
                }
            }
        }
        writer.flush().await.unwrap();
    }
    .within_time("thousands of dropped writes", LONG)
    .await;
    drop(writer);
    let received = reading.within("the reader").await;
    assert_eq!(received, data.offset(), "bytes received against bytes accepted");
}

async fn flush_dropped_while_pending<F: NonBlockingFamily>() {
    let (server, client) = pair::<F>().await;
    let (mut reader, _writer) = server.split();
    let (_reader, mut client) = client.split();
    let mut sent = StreamData::new(12);
    let accepted = write_until_stopped(&mut client, &mut sent).await;
    for _ in 0..100 {
        assert!(poll_and_drop(client.flush()).is_pending(), "flush cannot have ended: nobody reads");
    }
    let flushing = F::spawn(async move {
        client.flush().await.unwrap();
        (client, _reader)
    });
    let mut received = vec![0; accepted];
    reader.read_exact(&mut received).within("all accepted bytes").await.unwrap();
    StreamData::new(12).expect(&received);
    drop(flushing.within("flush once the peer has read").await);
}

/// Another task takes over: the waker of the last poll is the one that counts.
async fn read_moves_to_another_waker<F: NonBlockingFamily>() {
    let (mut server, mut client) = pair::<F>().await;
    let (_first_alarm, first) = Alarm::new();
    let (second_alarm, second) = Alarm::new();
    let mut buffer = [0; 4];
    let mut read = Box::pin(server.read(&mut buffer));
    assert!(read.as_mut().poll(&mut Context::from_waker(&first)).is_pending());
    assert!(read.as_mut().poll(&mut Context::from_waker(&second)).is_pending());
    client.write_all(b"wake").within("write").await.unwrap();
    second_alarm.wait("the waker of the last poll of a read").await;
    assert_eq!(read.within("the read").await.unwrap(), 4);
    assert_eq!(&buffer, b"wake");
}

async fn write_moves_to_another_waker<F: NonBlockingFamily>() {
    let (mut server, client) = pair::<F>().await;
    let (_reader, mut client) = client.split();
    let accepted = write_until_stopped(&mut client, &mut StreamData::new(13)).await;
    let (_first_alarm, first) = Alarm::new();
    let (second_alarm, second) = Alarm::new();
    {
        let mut write = pin!(client.write(b"x"));
        assert!(write.as_mut().poll(&mut Context::from_waker(&first)).is_pending());
        assert!(write.as_mut().poll(&mut Context::from_waker(&second)).is_pending());
        let mut received = vec![0; accepted];
        server.read_exact(&mut received).within("all accepted bytes").await.unwrap();
        second_alarm.wait("the waker of the last poll of a write").await;
        assert_eq!(write.within("the write").await.unwrap(), 1);
    }
    client.flush().within("flush").await.unwrap();
}

/// The halves of one pipe may be polled from tasks that know nothing of each other: neither steals
/// the other's wake-up.
async fn pending_read_does_not_keep_a_write_waiting<F: Family>() {
    let (server, mut client) = pair::<F>().await;
    let (mut reader, mut writer) = server.split();
    let reading = F::spawn(async move {
        let mut received = [0; 4];
        reader.read_exact(&mut received).await.unwrap();
        (received, reader)
    });
    smol::future::yield_now().await;
    writer.write_all(b"ping").within("write beside a pending read").await.unwrap();
    let mut received = [0; 4];
    client.read_exact(&mut received).within("the write").await.unwrap();
    client.write_all(b"pong").within("write").await.unwrap();
    let (received, _reader) = reading.within("the pending read").await;
    assert_eq!(&received, b"pong");
}

async fn dropping_the_pipe_under_a_dropped_read_ends_the_peer<F: NonBlockingFamily>() {
    let (mut server, mut client) = pair::<F>().await;
    assert!(poll_and_drop(server.read(&mut [0; 16])).is_pending());
    drop(server);
    let end: io::Result<Vec<u8>> =
        client.read_to_end().within("end of file after the peer was dropped").await;
    assert_eq!(end.unwrap(), b"");
}

for_each_family!(
    read_dropped_while_pending => nonblocking,
    read_dropped_after_its_data_came => nonblocking,
    read_after_a_dropped_read_of_another_size => nonblocking,
    thousands_of_dropped_reads_of_bytes => nonblocking,
    thousands_of_dropped_reads_of_messages => nonblocking,
    write_dropped_while_pending_wrote_nothing => nonblocking,
    thousands_of_dropped_writes => nonblocking,
    flush_dropped_while_pending => nonblocking,
    read_moves_to_another_waker => nonblocking,
    write_moves_to_another_waker => nonblocking,
    pending_read_does_not_keep_a_write_waiting,
    dropping_the_pipe_under_a_dropped_read_ends_the_peer => nonblocking,
);
