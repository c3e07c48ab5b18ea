//! Bytes in both directions: order, volume, sizes, vectored calls, both halves at once.

use std::io::{IoSlice, IoSliceMut};

use npipe::{ClientOptions, PipeMode, ServerOptions};

use crate::family::{End, Family, Reading, Writing};
use crate::harness::{LONG, USUAL_QUOTA, Within, message_pair, pair, pair_with};
use crate::stream_data::{StreamData, random_chunk};

/// Writes `volume` bytes of the sequence in chunks of random size, then says so.
async fn write_volume<W: Writing>(mut writer: W, seed: u64, volume: u64, largest: usize) -> W {
    let mut data = StreamData::new(seed);
    let mut chunks = fastrand::Rng::with_seed(!seed);
    while data.offset() < volume {
        let left = usize::try_from(volume - data.offset()).unwrap_or(usize::MAX);
        let chunk = data.peek(random_chunk(&mut chunks, largest).min(left));
        let written = writer.write(chunk).await.unwrap();
        assert_ne!(written, 0);
        data.advance(written);
    }
    writer.finish().await.unwrap();
    writer
}

/// Reads `volume` bytes into buffers of random size and compares each.
async fn read_volume<R: Reading>(mut reader: R, seed: u64, volume: u64, largest: usize) -> R {
    let mut data = StreamData::new(seed);
    let mut chunks = fastrand::Rng::with_seed(seed.rotate_left(32));
    let mut buffer = vec![0; largest];
    while data.offset() < volume {
        let size = random_chunk(&mut chunks, largest);
        let read = reader.read(&mut buffer[..size]).await.unwrap();
        assert_ne!(read, 0, "end of file after {} of {volume} bytes", data.offset());
        data.expect(&buffer[..read]);
    }
    assert_eq!(data.offset(), volume, "more bytes came than were sent");
    reader
}

async fn both_directions_at_once<F: Family>(
    server: F::Server,
    client: F::Client,
    volume: u64,
    largest: usize,
) {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let (server_reader, server_writer) = server.split();
    let (client_reader, client_writer) = client.split();
    let tasks = (
        F::spawn(write_volume(server_writer, seed, volume, largest)),
        F::spawn(write_volume(client_writer, seed + 1, volume, largest)),
        F::spawn(read_volume(client_reader, seed, volume, largest)),
        F::spawn(read_volume(server_reader, seed + 1, volume, largest)),
    );
    // The halves come back, so that no end is closed before the last byte has been compared.
    async { (tasks.0.await, tasks.1.await, tasks.2.await, tasks.3.await) }
        .within_time("the whole volume in both directions", LONG)
        .await;
}

async fn a_hundred_mebibytes_each_way_at_once<F: Family>() {
    let (server, client) = pair::<F>().await;
    both_directions_at_once::<F>(server, client, 100 << 20, 256 * 1024).await;
}

async fn sixteen_mebibytes_each_way_through_a_message_pipe<F: Family>() {
    let (server, client) = message_pair::<F>().await;
    both_directions_at_once::<F>(server, client, 16 << 20, 100_000).await;
}

async fn message_type_read_as_bytes_loses_nothing<F: Family>() {
    let (server, client) = pair_with::<F>(
        ServerOptions::new().pipe_mode(PipeMode::Message),
        ClientOptions::new().pipe_mode(PipeMode::Byte),
    )
    .await;
    both_directions_at_once::<F>(server, client, 4 << 20, 100_000).await;
}

/// A quota of one page makes nearly every write of the kernel pend.
async fn small_quotas_lose_nothing<F: Family>() {
    let (server, client) = pair_with::<F>(
        ServerOptions::new().in_buffer_size(4096).out_buffer_size(4096),
        &ClientOptions::new(),
    )
    .await;
    both_directions_at_once::<F>(server, client, 4 << 20, 64 * 1024).await;
}

/// With a quota of nothing a write ends only when it has been read.
async fn no_quota_at_all_loses_nothing<F: Family>() {
    let (server, client) =
        pair_with::<F>(ServerOptions::new().in_buffer_size(0).out_buffer_size(0), &ClientOptions::new())
            .await;
    both_directions_at_once::<F>(server, client, 1 << 20, 64 * 1024).await;
}

async fn writes_around_every_boundary_arrive_whole<F: Family>() {
    let sizes =
        [1, 2, 511, 512, 4095, 4096, 4097, 8191, 8192, 8193, 65535, 65536, 65537, 262_143, 262_144, 262_145];
    let (mut server, mut client) = pair_with::<F>(
        ServerOptions::new().in_buffer_size(USUAL_QUOTA).out_buffer_size(USUAL_QUOTA),
        &ClientOptions::new(),
    )
    .await;
    let mut sent = StreamData::new(1);
    let mut expected = StreamData::new(1);
    for size in sizes.into_iter().chain(sizes.into_iter().rev()).chain([(1 << 20) + 1]) {
        let data = sent.take(size);
        let mut received = vec![0; size];
        let (written, read) = smol::future::zip(server.write_all(&data), client.read_exact(&mut received))
            .within("one write and its read")
            .await;
        written.unwrap();
        read.unwrap();
        expected.expect(&received);
    }
}

async fn single_bytes_arrive_in_order<F: Family>() {
    let (server, mut client) = pair::<F>().await;
    let (_server_reader, mut server) = server.split();
    let writer = F::spawn(async move {
        for number in 0..10_000_u32 {
            server.write_all(&[number as u8]).await.unwrap();
        }
        server.flush().await.unwrap();
        server
    });
    let mut received = vec![0; 10_000];
    client.read_exact(&mut received).within("10,000 single bytes").await.unwrap();
    for (number, byte) in received.into_iter().enumerate() {
        assert_eq!(byte, number as u8, "byte {number}");
    }
    writer.within("the writer").await;
}

async fn request_and_response_a_thousand_times<F: Family>() {
    let (mut server, mut client) = pair::<F>().await;
    let responder = F::spawn(async move {
        let mut request = [0; 64];
        for _ in 0..1000 {
            server.read_exact(&mut request).await.unwrap();
            request.reverse();
            server.write_all(&request).await.unwrap();
        }
        server
    });
    let mut generator = fastrand::Rng::with_seed(7);
    async {
        for _ in 0..1000 {
            let mut request = [0; 64];
            generator.fill(&mut request);
            client.write_all(&request).await.unwrap();
            let mut response = [0; 64];
            client.read_exact(&mut response).await.unwrap();
            response.reverse();
            assert_eq!(response, request);
        }
    }
    .within("a thousand round trips")
    .await;
    responder.within("the responder").await;
}

async fn empty_writes_and_reads_are_nothing<F: Family>() {
    let (mut server, mut client) = pair::<F>().await;
    assert_eq!(client.write(&[]).within("an empty write").await.unwrap(), 0);
    client.write_all(b"x").within("write").await.unwrap();
    assert_eq!(client.write(&[]).within("an empty write").await.unwrap(), 0);
    client.write_all(b"y").within("write").await.unwrap();
    let mut received = [0; 2];
    server.read_exact(&mut received).within("the bytes, no end of file between them").await.unwrap();
    assert_eq!(&received, b"xy");
}

async fn read_into_an_empty_buffer_takes_nothing<F: Family>() {
    let (mut server, mut client) = pair::<F>().await;
    client.write_all(b"kept").within("write").await.unwrap();
    client.flush().within("flush").await.unwrap();
    assert_eq!(server.read(&mut []).within("an empty read").await.unwrap(), 0);
    let mut received = [0; 4];
    server.read_exact(&mut received).within("the bytes").await.unwrap();
    assert_eq!(&received, b"kept");
}

async fn vectored_writes_arrive_in_order<F: Family>() {
    let (mut server, mut client) = pair::<F>().await;
    let mut sent = StreamData::new(3);
    let mut expected = StreamData::new(3);
    for _ in 0..50 {
        let parts = [sent.take(3), Vec::new(), sent.take(5000), sent.take(1), sent.take(70_000)];
        let mut slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut slices = &mut slices[..];
        let writing = async {
            while !slices.is_empty() {
                let written = client.write_vectored(slices).await.unwrap();
                assert_ne!(written, 0);
                IoSlice::advance_slices(&mut slices, written);
            }
        };
        let mut received = vec![0; 75_004];
        let ((), read) = smol::future::zip(writing, server.read_exact(&mut received))
            .within("a vectored write and its read")
            .await;
        read.unwrap();
        expected.expect(&received);
    }
}

async fn vectored_reads_fill_buffers_in_order<F: Family>() {
    let (mut server, mut client) = pair::<F>().await;
    client.write_all(b"abcdefghij").within("write").await.unwrap();
    client.flush().within("flush").await.unwrap();
    let mut received = Vec::new();
    while received.len() < 10 {
        let mut parts = [[0; 0].to_vec(), [0; 3].to_vec(), [0; 4].to_vec()];
        let mut slices: Vec<_> = parts.iter_mut().map(|part| IoSliceMut::new(part)).collect();
        let read = server.read_vectored(&mut slices).within("a vectored read").await.unwrap();
        assert!((1..=7).contains(&read), "{read}");
        received.extend_from_slice(&parts.concat()[..read]);
    }
    assert_eq!(received, b"abcdefghij");
}

for_each_family!(
    a_hundred_mebibytes_each_way_at_once,
    sixteen_mebibytes_each_way_through_a_message_pipe,
    message_type_read_as_bytes_loses_nothing,
    small_quotas_lose_nothing,
    no_quota_at_all_loses_nothing,
    writes_around_every_boundary_arrive_whole,
    single_bytes_arrive_in_order,
    request_and_response_a_thousand_times,
    empty_writes_and_reads_are_nothing,
    read_into_an_empty_buffer_takes_nothing,
    vectored_writes_arrive_in_order,
    vectored_reads_fill_buffers_in_order,
);
