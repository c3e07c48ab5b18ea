//! The defects and limits other libraries are known for, one test each, named after the report.
//! What a report describes as memory corruption cannot be asserted from outside: its test does what
//! provoked it, often, and compares the data.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use npipe::{ClientOptions, PipeMode, ServerOptions};
use windows_sys::Win32::Foundation::{ERROR_PIPE_BUSY, ERROR_PIPE_NOT_CONNECTED};

use crate::family::{End, Family, NonBlockingFamily, Reading, ServerEnd, Writing};
use crate::harness::{
    Within, assert_os_error, eventually, message_pair, on_a_thread, pair, poll_and_drop, poll_once,
    unique_name, write_until_stopped,
};
use crate::stream_data::StreamData;
use crate::sys;

/// <https://github.com/tokio-rs/mio/pull/1921>: messages above 8192 bytes came as `4096, 0, 4096` with the rest lost.
async fn mio_1921_message_over_8_kib_is_not_cut<F: Family>() {
    for size in [8193, 10_000, 20_000] {
        let (mut server, mut client) = message_pair::<F>().await;
        let message = StreamData::new(61).take(size);
        client.write_all(&message).within("write").await.unwrap();
        drop(client);
        let received = server.read_to_end().within("the message, then the end").await.unwrap();
        assert!(received == message, "{} of {size} bytes", received.len());
    }
}

/// <https://github.com/tokio-rs/mio/pull/2004>: an operation that failed between its submission and the look at its
/// result was released twice. Every round races a read and a write against the peer's close.
async fn mio_2004_failure_right_after_submission<F: Family>() {
    for round in 0..1000 / F::COST {
        let name = unique_name();
        let mut server = F::create(&ServerOptions::new(), &name).unwrap();
        let client = sys::blocking_client(&name, false).unwrap();
        server.connect().within("connect").await.unwrap();
        let closing = std::thread::spawn(move || drop(client));
        if round % 2 == 0 {
            assert_eq!(server.read(&mut [0; 8]).within("read").await.unwrap(), 0);
        } else {
            while server.write(&[0; 100]).within("write").await.is_ok() {}
        }
        closing.join().unwrap();
    }
}

/// <https://github.com/tokio-rs/mio/pull/1954>: a connect that completed while it was being submitted was dropped twice.
/// Every round races a client against the call; the report says "within 2 million connects", so
/// this is a smoke test.
async fn mio_1954_connect_completes_while_submitted<F: NonBlockingFamily>() {
    let name = unique_name();
    let (open, requests) = std::sync::mpsc::channel::<()>();
    let client_name = name.clone();
    let clients = std::thread::spawn(move || {
        while requests.recv().is_ok() {
            loop {
                match sys::blocking_client(&client_name, false) {
                    Ok(_) => break,
                    Err(error) => {
                        let expected = [Some(ERROR_PIPE_BUSY as i32), Some(2)];
                        assert!(expected.contains(&error.raw_os_error()), "{error:?}");
                        std::thread::yield_now();
                    }
                }
            }
        }
    });
    // One instance stays, so that the name does; it never listens again after its own client.
    let holder = F::create(&ServerOptions::new(), &name).unwrap();
    let _held = F::open(&ClientOptions::new(), &name).unwrap();
    holder.connect().within("connect").await.unwrap();
    for _ in 0..500 {
        open.send(()).unwrap();
        let server = F::create(&ServerOptions::new(), &name).unwrap();
        // The client may have come and gone before the call: then nobody is reported, and that is right.
        let _ = poll_and_drop(server.connect());
        drop(server);
    }
    // The last requests may find no instance any more.
    let last = F::create(&ServerOptions::new(), &name).unwrap();
    drop(open);
    let finished = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let done = finished.clone();
    let joined = std::thread::spawn(move || {
        let result = clients.join();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        result
    });
    async {
        while !finished.load(std::sync::atomic::Ordering::Relaxed) {
            let _ = poll_and_drop(last.connect());
            // The instance listens: on one CPU the clients need a turn to find that.
            std::thread::yield_now();
            smol::future::yield_now().await;
            let _ = last.disconnect();
        }
    }
    .within("all clients have come")
    .await;
    joined.join().unwrap().unwrap();
}

/// <https://github.com/tokio-rs/mio/issues/1983>, <https://github.com/tokio-rs/mio/pull/2002>: after `disconnect` and
/// `connect` the read of the last client was handed to the next. `reuse` has the long form.
async fn mio_1983_stale_result_after_reuse<F: NonBlockingFamily>() {
    let name = unique_name();
    let mut server = F::create(&ServerOptions::new(), &name).unwrap();
    for round in 0..10_u8 {
        let mut client = F::open(&ClientOptions::new(), &name).unwrap();
        server.connect().within("connect").await.unwrap();
        client.write_all(&[round, b'-', b'u', b'n', b'r', b'e', b'a', b'd']).within("write").await.unwrap();
        let mut first = [0];
        server.read_exact(&mut first).within("read").await.unwrap();
        assert_eq!(first[0], round, "the last client's bytes");
        server.disconnect().unwrap();
        assert!(poll_and_drop(server.connect()).is_pending(), "the last client's connection");
    }
}

/// <https://github.com/tokio-rs/mio/issues/1984>, <https://github.com/tokio-rs/mio/issues/1819>,
/// <https://github.com/tokio-rs/mio/issues/1660>, <https://github.com/firezone/firezone/pull/10543>: `unreachable!` when
/// the system ends operations with codes nobody expected (device unplugged, machine asleep).
/// Neither can be provoked on a pipe; the nearest is a server that throws its client out at every
/// stage.
async fn mio_1819_unexpected_end_of_an_operation<F: NonBlockingFamily>() {
    for stage in 0..4 {
        let (server, mut client) = pair::<F>().await;
        if stage & 1 != 0 {
            assert!(poll_and_drop(client.read(&mut [0; 8])).is_pending());
        }
        if stage & 2 != 0 {
            write_until_stopped(&mut client, &mut StreamData::new(66)).await;
        }
        server.disconnect().unwrap();
        assert!(client.read(&mut [0; 8]).within("read").await.is_err());
        assert!(client.write(&[0; 8]).within("write").await.is_err());
        let _ = client.flush().within("flush").await;
    }
}

/// <https://github.com/tokio-rs/mio/issues/1838>: a pending read kept the instance alive after the pipe was dropped.
async fn mio_1838_handle_closed_after_disconnect<F: NonBlockingFamily>() {
    let name = unique_name();
    let mut options = ServerOptions::new();
    options.max_instances(1);
    for _ in 0..50 {
        let mut server = F::create(&options, &name).unwrap();
        let client = F::open(&ClientOptions::new(), &name).unwrap();
        server.connect().within("connect").await.unwrap();
        assert!(poll_and_drop(server.read(&mut [0; 8])).is_pending());
        server.disconnect().unwrap();
        assert!(poll_and_drop(server.connect()).is_pending());
        drop((server, client));
        let mut again = None;
        eventually("the only instance is free again", || {
            again = F::create(&options, &name).ok();
            again.is_some()
        })
        .await;
        drop(again);
        eventually("the name is gone", || {
            F::open(&ClientOptions::new(), &name).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        })
        .await;
    }
}

/// CVE-2024-27308, <https://github.com/tokio-rs/tokio/issues/6365>, <https://github.com/tokio-rs/tokio/issues/6364>: a
/// completion that came after the pipe had been dropped used freed memory. Here every pipe is
/// dropped with its operations in flight and its peer completing them, while others take the freed
/// memory.
async fn tokio_6365_completion_after_drop<F: NonBlockingFamily>() {
    for round in 0..300_u32 {
        let (mut server, mut client) = pair::<F>().await;
        assert!(poll_and_drop(server.read(&mut [0; 4096])).is_pending());
        client.write_all(&[1; 4096]).within("write").await.unwrap();
        drop(server);
        let (mut other_server, mut other_client) = pair::<F>().await;
        other_client.write_all(&round.to_le_bytes()).within("write").await.unwrap();
        let mut received = [0; 4];
        other_server.read_exact(&mut received).within("read").await.unwrap();
        assert_eq!(u32::from_le_bytes(received), round);
    }
}

/// <https://github.com/tokio-rs/tokio/issues/6460>, <https://github.com/tokio-rs/mio/pull/1772>,
/// <https://github.com/tokio-rs/mio/pull/1778>: a message above 4 KiB panicked, later was split.
async fn tokio_6460_message_over_4_kib<F: Family>() {
    let (mut server, mut client) = message_pair::<F>().await;
    for size in [4097, 5000, 60_000] {
        let message = StreamData::new(62).take(size);
        client.write_all(&message).within("write").await.unwrap();
        let mut buffer = vec![0; 64 * 1024];
        let read = server.read(&mut buffer).within("read").await.unwrap();
        assert_eq!(read, size, "one message, one read");
        assert!(buffer[..read] == message);
    }
}

/// <https://github.com/tokio-rs/tokio/issues/5307>, <https://github.com/tokio-rs/mio/issues/1582>: no read ever gave more
/// than 4096 bytes.
async fn tokio_5307_reads_exceed_4096<F: Family>() {
    let (mut server, mut client) = pair::<F>().await;
    let mut buffer = vec![0; 64 * 1024];
    let mut most = 0;
    for _ in 0..50 {
        client.write_all(&[5; 64 * 1024]).within("write").await.unwrap();
        let mut left = buffer.len();
        while left > 0 {
            let read = server.read(&mut buffer[..left]).within("read").await.unwrap();
            assert_ne!(read, 0);
            most = most.max(read);
            left -= read;
        }
    }
    assert!(most > 4096, "64 KiB were there, but no read of 64 KiB gave more than {most} bytes");
}

/// Tokio: a zero-length message is `Ok(0)`, which `read_to_end` takes for the end. Tokio has no
/// report of its own of it; see <https://github.com/dotnet/runtime/issues/81053> for who sends such messages.
async fn tokio_zero_length_message_is_not_the_end<F: Family>() {
    let (mut server, mut client) = message_pair::<F>().await;
    client.write_all(b"before").within("write").await.unwrap();
    assert_eq!(client.write(b"").within("an empty message").await.unwrap(), 0);
    client.write_all(b"after").within("write").await.unwrap();
    drop(client);
    assert_eq!(server.read_to_end().within("read_to_end").await.unwrap(), b"beforeafter");
}

/// mio's write path: the whole buffer of a caller was copied and reported as written, without any
/// bound.
async fn mio_unbounded_write_buffer<F: Family>() {
    let (mut server, _client) = pair::<F>().await;
    let written = server.write_without_waiting(&vec![0; 64 << 20]).within("one write of 64 MiB").await;
    let Poll::Ready(Ok(written)) = written else { panic!("an empty pipe takes nothing: {written:?}") };
    assert!(written <= 1 << 20, "{written} bytes were accepted at once");
}

/// mio's write path: the error of a write that failed in the background was reported by the next
/// write or never. `errors::lost_background_write_is_reported` has the codes.
async fn mio_background_write_error_is_not_swallowed<F: Family>() {
    let (mut server, client) = pair::<F>().await;
    write_until_stopped(&mut server, &mut StreamData::new(65)).await;
    drop(client);
    assert!(server.flush().within("flush").await.is_err());
}

/// Tokio's `poll_flush` and `poll_shutdown` did nothing.
async fn tokio_flush_and_shutdown_wait<F: NonBlockingFamily>() {
    let (mut server, mut client) = pair::<F>().await;
    let accepted = write_until_stopped(&mut server, &mut StreamData::new(64)).await;
    assert!(poll_and_drop(server.flush()).is_pending(), "flush with a write in flight");
    assert!(poll_and_drop(server.finish()).is_pending(), "shutdown with a write in flight");
    let mut received = vec![0; accepted];
    client.read_exact(&mut received).within("read").await.unwrap();
    server.finish().within("shutdown").await.unwrap();
}

/// Tokio's `connect` took a client that came and went for a connection (ERROR_NO_DATA).
async fn tokio_connect_does_not_report_who_has_left<F: Family>() {
    let name = unique_name();
    let server = F::create(&ServerOptions::new(), &name).unwrap();
    drop(sys::blocking_client(&name, false).unwrap());
    let mut connect = pin!(server.connect());
    for _ in 0..100 {
        assert!(poll_once(connect.as_mut()).is_pending());
        smol::future::yield_now().await;
    }
}

/// <https://github.com/tokio-rs/tokio/pull/8379>: what a pending read had taken ahead is not lost on the way to the next
/// owner. Giving the handle itself away is not part of this API yet; the nearest is to move the
/// pipe, with its read-ahead, to another task and thread.
async fn tokio_8379_read_ahead_moves_with_the_pipe<F: NonBlockingFamily>() {
    let (mut server, mut client) = pair::<F>().await;
    assert!(poll_and_drop(server.read(&mut [0; 8])).is_pending());
    client.write_all(b"read ahead").within("write").await.unwrap();
    client.flush().within("flush").await.unwrap();
    let (server, received) = on_a_thread(move || {
        let mut received = [0; 10];
        F::block_on(server.read_exact(&mut received).within("read on another thread")).unwrap();
        (server, received)
    })
    .await;
    assert_eq!(&received, b"read ahead");
    drop(server);
    assert_eq!(client.read(&mut [0; 8]).within("the end of the file").await.unwrap(), 0);
}

/// <https://github.com/microsoft/openvmm/pull/714>: the code for "the server disconnected us" is kept apart from the end
/// of the file, and is always the same.
async fn openvmm_714_disconnect_has_its_own_code<F: Family>() {
    let (server, mut client) = pair::<F>().await;
    server.disconnect().unwrap();
    assert_os_error(client.read(&mut [0; 8]).within("read").await, ERROR_PIPE_NOT_CONNECTED, "read");
}

/// <https://github.com/tokio-rs/tokio/pull/8418>: the handle was leaked when the read mode could not be set.
async fn tokio_8418_refused_client_leaks_no_handle<F: Family>() {
    let name = unique_name();
    let mut options = ServerOptions::new();
    options.max_instances(1);
    for _ in 0..50 {
        let server = F::create(&options, &name).unwrap();
        assert!(F::open(ClientOptions::new().pipe_mode(PipeMode::Message), &name).is_err());
        drop(server);
        // A leaked client would keep the instance.
        eventually("the instance is gone", || {
            F::open(&ClientOptions::new(), &name).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        })
        .await;
    }
}

/// <https://github.com/drmowinckels/entracte/issues/119>: constructing a pipe outside a runtime panicked.
#[test]
fn entracte_119_create_outside_runtime() {
    let name = unique_name();
    let server = ServerOptions::new().create(&name).unwrap();
    let client = ClientOptions::new().open(&name).unwrap();
    assert!(client.try_read(&mut [0; 8]).is_err());
    smol::future::block_on(server.connect().within("connect on a thread that has no runtime")).unwrap();
    drop((server, client));
}

/// <https://github.com/tokio-rs/tokio/issues/3511> and others: a pipe was bound for life to the runtime it was made in.
#[cfg(all(feature = "tokio", feature = "futures-io"))]
#[test]
fn tokio_3511_pipe_moves_between_runtimes() {
    use crate::family::on_smol::{Futures, FuturesStream};
    use crate::family::on_tokio::{Tokio, TokioStream};

    let name = unique_name();
    let server = Tokio::block_on(async { ServerOptions::new().create(&name).unwrap() });
    let client = Futures::block_on(async { ClientOptions::new().open(&name).unwrap() });
    let server = Futures::block_on(async {
        server.connect().within("connect").await.unwrap();
        let mut server = FuturesStream(server);
        assert!(poll_and_drop(server.read(&mut [0; 8])).is_pending());
        server
    });
    Tokio::block_on(async move {
        let mut client = TokioStream(client);
        client.write_all(b"moved").within("write").await.unwrap();
        client.flush().within("flush").await.unwrap();
        drop(client);
    });
    Futures::block_on(async move {
        let mut server = server;
        assert_eq!(server.read_to_end().within("read").await.unwrap(), b"moved");
    });
}

/// Tokio: `max_instances(255)` panicked. `options` has the whole range.
async fn tokio_max_instances_does_not_panic<F: Family>() {
    let name = unique_name();
    drop(F::create(ServerOptions::new().max_instances(255), &name).unwrap());
    assert!(F::create(ServerOptions::new().max_instances(usize::MAX), &name).is_err());
}

/// Tokio: an embedded NUL silently cut the name off. `names` has all bad names.
async fn tokio_embedded_nul_does_not_cut_the_name<F: Family>() {
    let name = unique_name();
    let _server = F::create(&ServerOptions::new(), &name).unwrap();
    let error = F::open(&ClientOptions::new(), format!("{name}\0ignored")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

/// <https://github.com/libuv/libuv/issues/4738>, <https://github.com/nodejs/node/issues/58135>: a read of exactly as many
/// bytes as the buffer holds blocked the loop.
async fn libuv_4738_read_of_exactly_the_buffer<F: NonBlockingFamily>() {
    let (mut server, mut client) = pair::<F>().await;
    for size in [1, 512, 4096, 8192, 65_536, 262_144] {
        let data = StreamData::new(63).take(size);
        let mut buffer = vec![0; size];
        let (written, read) =
            smol::future::zip(client.write_all(&data), server.read_exact(&mut buffer)).within("both").await;
        written.unwrap();
        read.unwrap();
        assert!(buffer == data);
        assert!(poll_and_drop(server.read(&mut buffer)).is_pending());
    }
}

/// <https://github.com/libuv/libuv/pull/5037>, <https://github.com/oven-sh/bun/pull/27535>: bytes that came with a
/// cancelled read were thrown away. `cancel` has the long form.
async fn libuv_5037_cancelled_read_keeps_its_bytes<F: NonBlockingFamily>() {
    let (server, mut client) = pair::<F>().await;
    let (mut reader, _writer) = server.split();
    for round in 0..500 / F::COST {
        assert!(poll_and_drop(reader.read(&mut [0; 64])).is_pending());
        client.write_all(&round.to_le_bytes()).within("write").await.unwrap();
        let mut received = [0; 4];
        let mut filled = 0;
        while filled < 4 {
            if let Poll::Ready(read) = poll_and_drop(reader.read(&mut received[filled..])) {
                filled += read.unwrap();
            } else {
                smol::future::yield_now().await;
            }
        }
        assert_eq!(u32::from_le_bytes(received), round);
    }
}

/// <https://github.com/mkurman/cmux-windows/pull/16>: two ends that flush before they read waited for each other.
async fn cmux_16_both_ends_flush_first<F: Family>() {
    let (mut server, mut client) = pair::<F>().await;
    server.write_all(b"from server").within("write").await.unwrap();
    client.write_all(b"from client").within("write").await.unwrap();
    let (first, second) = smol::future::zip(server.finish(), client.finish()).within("both shut down").await;
    first.unwrap();
    second.unwrap();
    let mut received = [0; 11];
    server.read_exact(&mut received).within("read").await.unwrap();
    assert_eq!(&received, b"from client");
    client.read_exact(&mut received).within("read").await.unwrap();
    assert_eq!(&received, b"from server");
}

for_each_family!(
    mio_1921_message_over_8_kib_is_not_cut,
    mio_2004_failure_right_after_submission,
    mio_1954_connect_completes_while_submitted => nonblocking,
    mio_1983_stale_result_after_reuse => nonblocking,
    mio_1819_unexpected_end_of_an_operation => nonblocking,
    mio_1838_handle_closed_after_disconnect => nonblocking,
    tokio_6365_completion_after_drop => nonblocking,
    tokio_6460_message_over_4_kib,
    tokio_5307_reads_exceed_4096,
    tokio_zero_length_message_is_not_the_end,
    mio_unbounded_write_buffer,
    mio_background_write_error_is_not_swallowed,
    tokio_flush_and_shutdown_wait => nonblocking,
    tokio_connect_does_not_report_who_has_left,
    tokio_8379_read_ahead_moves_with_the_pipe => nonblocking,
    openvmm_714_disconnect_has_its_own_code,
    tokio_8418_refused_client_leaks_no_handle,
    tokio_max_instances_does_not_panic,
    tokio_embedded_nul_does_not_cut_the_name,
    libuv_4738_read_of_exactly_the_buffer => nonblocking,
    libuv_5037_cancelled_read_keeps_its_bytes => nonblocking,
    cmux_16_both_ends_flush_first,
);
