//! What was written is delivered although the writer is gone (promise 2).

use npipe::{ClientOptions, ServerOptions};

use crate::family::{Family, Reading, ServerEnd, Writing};
use crate::harness::{
    Within, message_pair, on_a_thread, pair, pair_with, unique_name, write_unless_stopped,
    write_until_stopped,
};
use crate::stream_data::StreamData;

/// Writes all that is accepted without a reader: the last of it has not reached the kernel.
async fn write_ahead<W: Writing>(writer: &mut W, seed: u64) -> usize {
    write_until_stopped(writer, &mut StreamData::new(seed)).await
}

/// Reads a byte at a time at first, then all, and compares.
async fn read_slowly<R: Reading>(reader: &mut R, seed: u64, volume: usize) {
    let mut expected = StreamData::new(seed);
    let mut byte = [0];
    async {
        for _ in 0..100 {
            reader.read_exact(&mut byte).await.unwrap();
            expected.expect(&byte);
            smol::future::yield_now().await;
        }
        let rest = reader.read_to_end().await.unwrap();
        expected.expect(&rest);
    }
    .within("a slow reader gets everything and then the end of the file")
    .await;
    assert_eq!(expected.offset(), volume as u64, "bytes received against bytes written");
}

async fn server_writes_and_drops_before_the_client_reads<F: Family>() {
    let (mut server, mut client) = pair::<F>().await;
    let accepted = write_ahead(&mut server, 21).await;
    drop(server);
    read_slowly(&mut client, 21, accepted).await;
}

async fn client_writes_and_drops_before_the_server_reads<F: Family>() {
    let (mut server, mut client) = pair::<F>().await;
    let accepted = write_ahead(&mut client, 22).await;
    drop(client);
    read_slowly(&mut server, 22, accepted).await;
}

async fn writer_with_a_small_quota_drops_before_the_reader_reads<F: Family>() {
    let (mut server, mut client) = pair_with::<F>(
        ServerOptions::new().in_buffer_size(4096).out_buffer_size(4096),
        &ClientOptions::new(),
    )
    .await;
    let accepted = write_ahead(&mut client, 23).await;
    drop(client);
    read_slowly(&mut server, 23, accepted).await;
}

async fn many_small_writes_and_a_drop<F: Family>() {
    let (mut server, mut client) = pair::<F>().await;
    let count = 10_000 / F::COST as usize;
    let data = StreamData::new(24).take(count);
    for byte in &data {
        client.write_all(&[*byte]).within("write").await.unwrap();
    }
    drop(client);
    read_slowly(&mut server, 24, count).await;
}

async fn finish_and_drop_delivers<F: Family>() {
    let (mut server, mut client) = pair::<F>().await;
    let data = StreamData::new(25).take(20_000);
    client.write_all(&data).within("write").await.unwrap();
    client.finish().within("finish").await.unwrap();
    drop(client);
    read_slowly(&mut server, 25, 20_000).await;
}

async fn messages_written_before_a_drop_stay_whole<F: Family>() {
    let (mut server, mut client) = message_pair::<F>().await;
    let mut sent = StreamData::new(26);
    let mut sizes = [1, 5000, 4096, 20_000, 3, 1000].into_iter().cycle();
    let mut accepted = Vec::new();
    async {
        for size in &mut sizes {
            match write_unless_stopped(&mut client, &sent.take(size)).await {
                Some(written) => accepted.push(written),
                None => break,
            }
        }
    }
    .within("the writer is stopped")
    .await;
    assert!(accepted.len() >= 2, "{accepted:?}");
    drop(client);
    let mut expected = StreamData::new(26);
    let mut buffer = vec![0; 1 << 20];
    for size in accepted {
        let read = server.read(&mut buffer).within("a message of the client that has gone").await.unwrap();
        assert_eq!(read, size);
        expected.expect(&buffer[..read]);
    }
    assert_eq!(server.read(&mut buffer).within("the end of the file").await.unwrap(), 0);
}

/// The reply of a server that answers and hangs up, with the client still sending.
async fn data_towards_the_one_who_drops_does_not_harm_what_it_wrote<F: Family>() {
    let (mut server, mut client) = pair::<F>().await;
    client.write_all(b"a request nobody reads").within("write").await.unwrap();
    client.flush().within("flush").await.unwrap();
    server.write_all(&StreamData::new(27).take(50_000)).within("write").await.unwrap();
    drop(server);
    read_slowly(&mut client, 27, 50_000).await;
}

/// Lets `writing` write on a thread of its own, and reads only when that thread has ended.
async fn read_after<F: Family>(writing: impl FnOnce(&str) -> usize + Send + 'static) {
    let name = unique_name();
    let mut server = F::create(&ServerOptions::new(), &name).unwrap();
    let accepted = on_a_thread(move || writing(&name)).await;
    server.connect().within("connect").await.unwrap();
    read_slowly(&mut server, 28, accepted).await;
}

async fn runtime_is_dropped_right_after_the_last_write<F: Family>() {
    read_after::<F>(|name| {
        F::block_on(async {
            let mut client = F::open(&ClientOptions::new(), name).unwrap();
            write_ahead(&mut client, 28).await
        })
    })
    .await;
}

async fn pipe_is_dropped_after_the_runtime_that_wrote<F: Family>() {
    read_after::<F>(|name| {
        let (_client, accepted) = F::block_on(async {
            let mut client = F::open(&ClientOptions::new(), name).unwrap();
            let accepted = write_ahead(&mut client, 28).await;
            (client, accepted)
        });
        accepted
    })
    .await;
}

/// The task that wrote still holds the pipe when its runtime is dropped.
async fn runtime_is_dropped_with_the_task_that_wrote<F: Family>() {
    if !F::TASKS_END_WITH_BLOCK_ON {
        return;
    }
    read_after::<F>(|name| {
        F::block_on(async {
            let mut client = F::open(&ClientOptions::new(), name).unwrap();
            let (written, wait_for_task) = smol::channel::bounded(1);
            let task = F::spawn(async move {
                written.send(write_ahead(&mut client, 28).await).await.unwrap();
                std::future::pending::<()>().await;
            });
            // Not dropped before the runtime is: dropping it could cancel the task here.
            std::mem::forget(task);
            wait_for_task.recv().await.unwrap()
        })
    })
    .await;
}

#[cfg(feature = "tokio")]
#[test]
fn multi_thread_runtime_is_dropped_right_after_the_last_write() {
    use crate::family::on_tokio::{Tokio, TokioStream};

    let name = unique_name();
    let server = ServerOptions::new().create(&name).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    let accepted = runtime.block_on(async move {
        let mut client = Tokio::open(&ClientOptions::new(), &name).unwrap();
        tokio::spawn(async move { write_ahead(&mut client, 28).await }).await.unwrap()
    });
    drop(runtime);
    Tokio::block_on(async move {
        let mut server = TokioStream(server);
        server.connect().within("connect").await.unwrap();
        read_slowly(&mut server, 28, accepted).await;
    });
}

for_each_family!(
    server_writes_and_drops_before_the_client_reads,
    client_writes_and_drops_before_the_server_reads,
    writer_with_a_small_quota_drops_before_the_reader_reads,
    many_small_writes_and_a_drop,
    finish_and_drop_delivers,
    messages_written_before_a_drop_stay_whole,
    data_towards_the_one_who_drops_does_not_harm_what_it_wrote,
    runtime_is_dropped_right_after_the_last_write,
    pipe_is_dropped_after_the_runtime_that_wrote,
    runtime_is_dropped_with_the_task_that_wrote,
);
