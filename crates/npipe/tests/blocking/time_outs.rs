//! Time-outs of reads and writes, raced against what they wait for, and writes that go on after
//! theirs.

use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::sys;
use crate::world::*;

#[test]
fn reads_that_time_out_while_data_arrive_lose_nothing() {
    let _watchdog = watchdog();
    let (server, client) = pair();
    let (written, mut timeouts, mut reads) = (AtomicU32::new(0), 0_u32, 0_u32);
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = fastrand::Rng::with_seed(7);
            let mut data = Pattern::new(7);
            // On a busy machine it takes longer until both have happened often.
            while !enough.load(Ordering::Relaxed) {
                // Time-outs are rounded to milliseconds: most writes come close to the end of one.
                linger(random.u64(0..1500));
                let bytes = data.next(random.usize(1..300));
                (&server).write_all(bytes).unwrap();
                written.fetch_add(bytes.len() as u32, Ordering::Relaxed);
            }
            drop(server);
        });
        client.set_read_timeout(Some(Duration::from_micros(300))).unwrap();
        let mut data = Pattern::new(7);
        let mut read = 0;
        let mut buffer = [0; 256];
        loop {
            match (&client).read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    data.expect(&buffer[..count]);
                    read += count as u32;
                    reads += 1;
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error:?}");
                    timeouts += 1;
                }
            }
            enough.store(timeouts > 200 && reads > 3000, Ordering::Relaxed);
        }
        assert_eq!(read, written.load(Ordering::Relaxed), "every byte, with {timeouts} time-outs");
    });
}

#[test]
fn a_read_waits_as_long_as_its_time_out_says() {
    let _watchdog = watchdog();
    let (server, mut client) = pair();
    client.set_read_timeout(Some(SHORT)).unwrap();
    let started = Instant::now();
    assert_kind(client.read(&mut [0; 4]), ErrorKind::TimedOut);
    assert!(started.elapsed() >= SHORT);
    // Longer than a clock reaches is no time-out.
    client.set_read_timeout(Some(Duration::MAX)).unwrap();
    let writer = thread::spawn(move || {
        (&server).write_all(b"late").unwrap();
        server
    });
    let mut buffer = [0; 4];
    client.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"late");
    drop(writer.join().unwrap());
    client.set_read_timeout(None).unwrap();
    assert_eq!(client.read(&mut buffer).unwrap(), 0);
}

#[test]
fn a_read_that_finds_nothing_but_empty_messages_ends_in_time() {
    let _watchdog = watchdog();
    for vectored in [false, true] {
        let (server, client) = message_pair();
        // Over as soon as the read begins.
        client.set_read_timeout(Some(Duration::from_nanos(1))).unwrap();
        for sent in [&b""[..], b"", b"behind"] {
            server.send_message(sent).unwrap();
        }
        let mut buffer = [0; 10];
        let (first, second) = buffer.split_at_mut(3);
        let mut slices = [IoSliceMut::new(first), IoSliceMut::new(second)];
        let mut read =
            || if vectored { (&client).read_vectored(&mut slices) } else { (&client).read(&mut slices[1]) };
        // Each passes over one, and takes nothing else.
        assert_kind(read(), ErrorKind::TimedOut);
        assert_kind(read(), ErrorKind::TimedOut);
        assert_eq!(read().unwrap(), 6);
    }

    // A peer that never stops.
    let (server, client) = message_pair();
    client.set_read_timeout(Some(SHORT)).unwrap();
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !enough.load(Ordering::Relaxed) {
                server.send_message(b"").unwrap();
            }
        });
        let result = (&client).read(&mut [0; 10]);
        enough.store(true, Ordering::Relaxed);
        drop(client);
        assert_kind(result, ErrorKind::TimedOut);
    });
}

#[test]
fn time_outs_are_what_was_set_and_zero_is_refused() {
    let _watchdog = watchdog();
    let (_server, client) = pair();
    assert_eq!((client.read_timeout(), client.write_timeout()), (None, None));
    let clone = client.try_clone().unwrap();
    let (read, write) = (Duration::from_nanos(1), Duration::from_secs(3600));
    client.set_read_timeout(Some(read)).unwrap();
    clone.set_write_timeout(Some(write)).unwrap();
    for stream in [&client, &clone] {
        assert_eq!((stream.read_timeout(), stream.write_timeout()), (Some(read), Some(write)));
    }
    assert_kind(client.set_read_timeout(Some(Duration::ZERO)), ErrorKind::InvalidInput);
    assert_kind(client.set_write_timeout(Some(Duration::ZERO)), ErrorKind::InvalidInput);
    assert_eq!((client.read_timeout(), client.write_timeout()), (Some(read), Some(write)), "they are kept");
    client.set_read_timeout(None).unwrap();
    client.set_write_timeout(None).unwrap();
    assert_eq!((clone.read_timeout(), clone.write_timeout()), (None, None));
}

#[test]
fn a_write_that_times_out_stays_on_its_way_and_stops_the_next() {
    let _watchdog = watchdog();
    let (server, mut client) = narrow_pair();
    client.set_write_timeout(Some(SHORT)).unwrap();
    let mut data = Pattern::new(3);
    let big = data.next(50_000).to_vec();
    let started = Instant::now();
    assert_eq!(client.write(&big).unwrap(), big.len(), "late, but it counts");
    assert!(started.elapsed() >= SHORT);
    assert_kind(client.write(b"refused"), ErrorKind::TimedOut);
    assert_kind(client.flush(), ErrorKind::TimedOut);
    assert_kind(
        client.write_vectored(&[IoSlice::new(b"refused"), IoSlice::new(b"too")]),
        ErrorKind::TimedOut,
    );
    thread::scope(|scope| {
        // Without a time-out the next write waits behind.
        client.set_write_timeout(None).unwrap();
        scope.spawn(|| {
            client.write_all(b"next").unwrap();
            client.flush().unwrap();
        });
        receive(&server, 3, big.len());
        let mut next = [0; 4];
        (&server).read_exact(&mut next).unwrap();
        assert_eq!(&next, b"next", "nothing of what was refused");
    });
}

#[test]
fn writes_that_time_out_while_the_peer_reads_lose_nothing() {
    let _watchdog = watchdog();
    const ROUNDS: usize = 1500;
    let (server, client) = narrow_pair();
    let mut timeouts = 0;
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut random = fastrand::Rng::with_seed(9);
            let mut data = Pattern::new(9);
            let mut buffer = [0; 8192];
            let mut total = 0;
            loop {
                linger(random.u64(0..3000));
                let room = random.usize(1..buffer.len());
                match (&server).read(&mut buffer[..room]).unwrap() {
                    0 => return total,
                    count => {
                        data.expect(&buffer[..count]);
                        total += count;
                    }
                }
            }
        });
        client.set_write_timeout(Some(Duration::from_millis(1))).unwrap();
        let mut random = fastrand::Rng::with_seed(10);
        let mut data = Pattern::new(9);
        let mut total = 0;
        for _ in 0..ROUNDS {
            let mut bytes = data.next(random.usize(1..6000));
            while !bytes.is_empty() {
                match (&client).write(bytes) {
                    Ok(count) => {
                        total += count;
                        bytes = &bytes[count..];
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error:?}");
                        timeouts += 1;
                    }
                }
            }
        }
        // With a write on its way, perhaps.
        drop(client);
        assert_eq!(reader.join().unwrap(), total);
    });
    assert!(timeouts > 50, "{timeouts} time-outs: there was hardly a race");
}

#[test]
fn a_write_on_its_way_outlives_its_thread_and_its_stream() {
    let _watchdog = watchdog();
    let (server, client) = narrow_pair();
    thread::spawn(move || {
        client.set_write_timeout(Some(SHORT)).unwrap();
        assert_eq!((&client).write(Pattern::new(4).next(60_000)).unwrap(), 60_000);
        drop(client);
    })
    .join()
    .unwrap();
    receive(&server, 4, 60_000);
    assert_eq!((&server).read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_write_on_its_way_lingers_as_long_as_it_was_told() {
    let _watchdog = watchdog();
    let (server, client) = narrow_pair();
    assert_eq!(client.linger(), Some(Duration::from_secs(300)));
    client.set_linger(Some(LONG));
    assert_eq!(client.linger(), Some(LONG));
    client.set_write_timeout(Some(SHORT)).unwrap();
    assert_eq!(client.linger(), Some(LONG), "also when it was told before there was anything to linger");
    assert_eq!((&client).write(&[0; 50_000]).unwrap(), 50_000);
    client.set_linger(Some(SHORT));
    (&server).write_all(b"x").unwrap();
    drop(client);
    // Nobody reads, neither here nor there: only the close of the other end ends this, with an error if
    // it still waits.
    let _ = server.drain();
    assert_code((&server).write(b"x"), ERROR_NO_DATA);
}

#[test]
fn the_error_of_a_write_on_its_way_is_reported_once() {
    let _watchdog = watchdog();
    let (server, mut client) = narrow_pair();
    client.set_write_timeout(Some(SHORT)).unwrap();
    assert_eq!(client.write(&[0; 50_000]).unwrap(), 50_000);
    drop(server);
    let error = client.flush().unwrap_err();
    assert_ne!(error.kind(), ErrorKind::TimedOut, "{error:?}");
    client.flush().unwrap();
    assert_code(client.write(b"x"), ERROR_NO_DATA);

    // By a write without a time-out as well.
    let (server, mut client) = narrow_pair();
    client.set_write_timeout(Some(SHORT)).unwrap();
    assert_eq!(client.write(&[0; 50_000]).unwrap(), 50_000);
    client.set_write_timeout(None).unwrap();
    drop(server);
    client.write(b"x").unwrap_err();
    client.flush().unwrap();
}

#[test]
fn a_wait_that_somebody_else_cancels_goes_on() {
    let _watchdog = watchdog();
    let (server, client) = pair();
    let cancelled = AtomicU32::new(0);
    thread::scope(|scope| {
        let reader = scope.spawn(|| receive(&client, 18, 10_000));
        // Three reads that waited have been cancelled, the last perhaps in the midst of data.
        while cancelled.load(Ordering::Relaxed) < 3 {
            cancelled.fetch_add(u32::from(sys::cancel_everything(&client)), Ordering::Relaxed);
            thread::yield_now();
        }
        send(&server, 18, 5_000);
        sys::cancel_everything(&client);
        let mut rest = Pattern::new(18);
        rest.next(5_000);
        (&server).write_all(rest.next(5_000)).unwrap();
        reader.join().unwrap();
    });
}
