//! What a pipe holds is bounded, and a slow reader stops the writer (promise 4).

use std::io;
use std::pin::pin;

use npipe::{ClientOptions, ServerOptions};

use crate::family::{End, Family, NonBlockingFamily, Reading, Waiting, Writing};
use crate::harness::{Within, pair, pair_with, poll_once, unique_name, write_until_stopped};
use crate::stream_data::StreamData;

/// What a direction holds unless told otherwise.
const DEFAULT_LIMIT: usize = 256 * 1024;

/// The quota the kernel gives a direction unless told otherwise (`out_buffer_size`,
/// `in_buffer_size`).
const DEFAULT_QUOTA: usize = 512 * 1024;

/// Accepted bytes are in the writer's buffer, in the kernel, or in the reader's buffer: nowhere
/// else.
fn most_that_fits(limit_of_writer: usize, limit_of_reader: usize) -> usize {
    limit_of_writer + DEFAULT_QUOTA + limit_of_reader
}

async fn writer_is_stopped_and_goes_on_when_the_reader_reads<F: Family>() {
    let (server, client) = pair::<F>().await;
    let (mut reader, _server_writer) = server.split();
    let (_client_reader, mut writer) = client.split();
    let mut data = StreamData::new(31);
    let accepted = write_until_stopped(&mut writer, &mut data).await;
    assert!(accepted >= 4096, "a pipe takes at least a page ahead of its reader, not {accepted} bytes");
    let most = most_that_fits(DEFAULT_LIMIT, DEFAULT_LIMIT);
    assert!(accepted <= most, "{accepted} bytes accepted, at most {most} fit");

    let writing = F::spawn(async move {
        let rest = data.take(1 << 20);
        writer.write_all(&rest).await.unwrap();
        writer.flush().await.unwrap();
        writer
    });
    let mut received = vec![0; accepted + (1 << 20)];
    reader.read_exact(&mut received).within("everything once the reader reads").await.unwrap();
    StreamData::new(31).expect(&received);
    writing.within("the writer goes on").await;
}

async fn server_is_stopped_by_its_client<F: Family>() {
    let (mut server, mut client) = pair::<F>().await;
    let accepted = write_until_stopped(&mut server, &mut StreamData::new(32)).await;
    let most = most_that_fits(DEFAULT_LIMIT, DEFAULT_LIMIT);
    assert!(accepted <= most, "{accepted} bytes accepted, at most {most} fit");
    let mut received = vec![0; accepted];
    client.read_exact(&mut received).within("the accepted bytes").await.unwrap();
    StreamData::new(32).expect(&received);
}

async fn limits_on_the_builders_are_kept<F: Family>() {
    for limit in [4096, 10_000, 100_000, 1 << 20] {
        let (mut server, mut client) = pair_with::<F>(
            ServerOptions::new().read_buffer_limit(limit).write_buffer_limit(limit),
            ClientOptions::new().read_buffer_limit(limit).write_buffer_limit(limit),
        )
        .await;
        // The kernel's part of it is measured in whole writes: one more may have been taken than fits.
        let most = most_that_fits(limit, limit) + 8 * 1024;
        let to_client = write_until_stopped(&mut server, &mut StreamData::new(33)).await;
        assert!(to_client <= most, "server, limit {limit}: {to_client} accepted, at most {most} fit");
        let to_server = write_until_stopped(&mut client, &mut StreamData::new(34)).await;
        assert!(to_server <= most, "client, limit {limit}: {to_server} accepted, at most {most} fit");
    }
}

async fn limit_of_one_byte_still_moves_data<F: Family>() {
    let (server, mut client) = pair_with::<F>(
        ServerOptions::new().read_buffer_limit(1).write_buffer_limit(1),
        ClientOptions::new().read_buffer_limit(1).write_buffer_limit(1),
    )
    .await;
    let (_reader, mut server) = server.split();
    let writing = F::spawn(async move {
        server.write_all(&StreamData::new(35).take(5000)).await.unwrap();
        server.flush().await.unwrap();
        server
    });
    let mut received = vec![0; 5000];
    client.read_exact(&mut received).within("5000 bytes through a pipe that holds one").await.unwrap();
    StreamData::new(35).expect(&received);
    writing.within("the writer").await;
}

async fn limit_of_nothing_is_invalid_input<F: Family>() {
    let name = unique_name();
    let _server = F::create(&ServerOptions::new(), &name).unwrap();
    let refused = [
        F::create(ServerOptions::new().read_buffer_limit(0), &name).map(drop),
        F::create(ServerOptions::new().write_buffer_limit(0), &name).map(drop),
        F::open(ClientOptions::new().read_buffer_limit(0), &name).map(drop),
        F::open(ClientOptions::new().write_buffer_limit(0), &name).map(drop),
    ];
    for result in refused {
        assert_eq!(result.expect_err("refused").kind(), io::ErrorKind::InvalidInput);
    }
}

/// A stopped writer does not stop the other direction.
async fn directions_are_stopped_separately<F: Family>() {
    let (server, client) = pair::<F>().await;
    let (mut server_reader, mut server_writer) = server.split();
    let (mut client_reader, mut client_writer) = client.split();
    let mut data = StreamData::new(36);
    let accepted = write_until_stopped(&mut client_writer, &mut data).await;
    for _ in 0..100 {
        server_writer.write_all(b"the other way").within("write").await.unwrap();
        let mut received = [0; 13];
        client_reader.read_exact(&mut received).within("read").await.unwrap();
        assert_eq!(&received, b"the other way");
    }
    let mut received = vec![0; accepted];
    server_reader.read_exact(&mut received).within("the accepted bytes").await.unwrap();
    StreamData::new(36).expect(&received);
}

/// That there is more to read is told also when something was written since.
async fn directions_tell_their_readiness_separately<F: NonBlockingFamily>() {
    let (mut server, mut client) = pair::<F>().await;
    for round in 0..100_u8 {
        client.write_all(&[round, !round]).within("write").await.unwrap();
        client.flush().within("flush").await.unwrap();
        for expected in [round, !round] {
            server.readable().within("readable").await.unwrap();
            let mut byte = [0];
            server.read_exact(&mut byte).within("read").await.unwrap();
            assert_eq!(byte[0], expected);
            server.write_all(&byte).within("write").await.unwrap();
        }
        let mut echo = [0; 2];
        client.read_exact(&mut echo).within("the echo").await.unwrap();
        assert_eq!(echo, [round, !round]);
    }
}

/// `flush` waits for the kernel, never for what the peer does with the bytes: two ends that flush
/// at once both return.
async fn both_ends_flush_at_once<F: Family>() {
    let (mut server, mut client) = pair::<F>().await;
    for _ in 0..100 {
        server.write_all(&[1; 100]).within("write").await.unwrap();
        client.write_all(&[2; 100]).within("write").await.unwrap();
        let (server_flushed, client_flushed) =
            smol::future::zip(server.flush(), client.flush()).within("both flushes, nobody reads").await;
        server_flushed.unwrap();
        client_flushed.unwrap();
    }
}

async fn flush_waits_until_the_kernel_has_taken_all<F: Family>() {
    let (server, client) = pair_with::<F>(
        ServerOptions::new().in_buffer_size(4096).read_buffer_limit(4096),
        &ClientOptions::new(),
    )
    .await;
    let (mut reader, _server_writer) = server.split();
    let (_client_reader, mut writer) = client.split();
    let accepted = write_until_stopped(&mut writer, &mut StreamData::new(37)).await;
    let mut flush = pin!(writer.flush());
    assert!(poll_once(flush.as_mut()).is_pending(), "the kernel cannot have taken {accepted} bytes");
    let mut received = vec![0; accepted];
    let (flushed, read) =
        smol::future::zip(flush, reader.read_exact(&mut received)).within("flush while the peer reads").await;
    flushed.unwrap();
    read.unwrap();
    StreamData::new(37).expect(&received);
}

for_each_family!(
    writer_is_stopped_and_goes_on_when_the_reader_reads,
    server_is_stopped_by_its_client,
    limits_on_the_builders_are_kept,
    limit_of_one_byte_still_moves_data,
    limit_of_nothing_is_invalid_input,
    directions_are_stopped_separately,
    directions_tell_their_readiness_separately => nonblocking,
    both_ends_flush_at_once,
    flush_waits_until_the_kernel_has_taken_all,
);
