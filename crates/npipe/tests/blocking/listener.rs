//! Accepting clients with threads: time-outs, cancellation, and a name that stays; and the client
//! that waits.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use npipe::ServerOptions;
use npipe::blocking::{PipeListener, PipeStream};

use crate::sys;
use crate::world::*;

#[test]
fn accept_can_be_cancelled_before_while_and_after() {
    let _watchdog = watchdog();
    let name = unique_name();
    let listener = PipeListener::bind(&name).unwrap();
    let canceller = listener.canceller();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| listener.accept());
        let other = scope.spawn(|| listener.accept());
        // One client for one of the two, so that the other waits by now, or will.
        let _client = PipeStream::connect(&name).unwrap();
        while !waiting.is_finished() && !other.is_finished() {
            thread::yield_now();
        }
        canceller.clone().cancel();
        let results = [waiting.join().unwrap(), other.join().unwrap()];
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
        for error in results.into_iter().filter_map(Result::err) {
            assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
        }
    });
    // And so are all later ones, though a client is there.
    let _client = PipeStream::connect(&name).unwrap();
    assert_kind(listener.accept(), ErrorKind::ConnectionAborted);
    assert_kind(listener.accept_timeout(Duration::ZERO), ErrorKind::ConnectionAborted);
    canceller.cancel();
    assert!(listener.incoming().next().is_none());
    drop(listener);
    // It outlives the listener and keeps nothing of it.
    canceller.cancel();
    assert_kind(PipeStream::connect(&name), ErrorKind::NotFound);
}

#[test]
fn accept_raced_against_cancellation_loses_no_client() {
    let _watchdog = watchdog();
    const ROUNDS: u32 = 2000;
    let (mut accepted, mut cancelled) = (0, 0);
    let (names, clients) = mpsc::channel::<String>();
    let (cancellers, cancelling) = mpsc::channel::<npipe::blocking::Canceller>();
    thread::scope(|scope| {
        let (opened, streams) = mpsc::channel();
        scope.spawn(move || {
            let mut random = fastrand::Rng::with_seed(4);
            for name in clients {
                linger(random.u64(0..400));
                opened.send(PipeStream::connect(name)).unwrap();
            }
        });
        scope.spawn(move || {
            let mut random = fastrand::Rng::with_seed(5);
            for canceller in cancelling {
                linger(random.u64(0..600));
                canceller.cancel();
            }
        });
        for round in 0..ROUNDS {
            let name = unique_name();
            let listener = PipeListener::bind(&name).unwrap();
            names.send(name).unwrap();
            cancellers.send(listener.canceller()).unwrap();
            match listener.accept() {
                Ok(mut server) => {
                    accepted += 1;
                    let mut client = streams.recv().unwrap().unwrap();
                    client.write_all(&round.to_le_bytes()).unwrap();
                    let mut number = [0; 4];
                    server.read_exact(&mut number).unwrap();
                    assert_eq!(u32::from_le_bytes(number), round);
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "{error:?}");
                    cancelled += 1;
                    drop(listener);
                    // It came too late, or sees the end: it does not hang.
                    match streams.recv().unwrap() {
                        Ok(mut client) => assert_eq!(client.read(&mut [0]).unwrap(), 0),
                        Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}"),
                    }
                }
            }
        }
        drop((names, cancellers));
    });
    assert!(accepted > 20 && cancelled > 20, "{accepted} accepted, {cancelled} cancelled: hardly a race");
}

#[test]
fn accepts_that_time_out_while_clients_come_lose_none() {
    let _watchdog = watchdog();
    const CLIENTS: u32 = 1500;
    let name = unique_name();
    let listener = PipeListener::bind(&name).unwrap();
    let mut timeouts = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = fastrand::Rng::with_seed(6);
            for number in 0..CLIENTS {
                let mut client = PipeStream::connect(&name).unwrap();
                client.write_all(&number.to_le_bytes()).unwrap();
                client.read_exact(&mut [0]).unwrap();
                linger(random.u64(0..2500));
            }
        });
        let mut next = 0;
        while next < CLIENTS {
            match listener.accept_timeout(Duration::from_micros(500)) {
                Ok(mut server) => {
                    let mut number = [0; 4];
                    server.read_exact(&mut number).unwrap();
                    assert_eq!(u32::from_le_bytes(number), next);
                    next += 1;
                    server.write_all(&[0]).unwrap();
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error:?}");
                    timeouts += 1;
                }
            }
        }
    });
    assert!(timeouts > 50, "{timeouts} time-outs: there was hardly a race");
}

#[test]
fn accept_waits_as_long_as_its_time_out_says() {
    let _watchdog = watchdog();
    let name = unique_name();
    let listener = PipeListener::bind(&name).unwrap();
    let started = Instant::now();
    assert_kind(listener.accept_timeout(SHORT), ErrorKind::TimedOut);
    assert!(started.elapsed() >= SHORT);
    assert_kind(listener.accept_timeout(Duration::ZERO), ErrorKind::TimedOut);
    let mut client = PipeStream::connect(&name).unwrap();
    client.write_all(b"here").unwrap();
    let mut server = listener.accept_timeout(Duration::ZERO).unwrap();
    let mut here = [0; 4];
    server.read_exact(&mut here).unwrap();
    assert_eq!(&here, b"here");
    thread::scope(|scope| {
        // Behind a thread that waits as well.
        let canceller = listener.canceller();
        let first = scope.spawn(|| listener.accept());
        assert_kind(listener.accept_timeout(SHORT), ErrorKind::TimedOut);
        canceller.cancel();
        assert_kind(first.join().unwrap(), ErrorKind::ConnectionAborted);
    });
}

#[test]
fn a_thread_that_waits_for_its_turn_to_accept_gets_it() {
    let _watchdog = watchdog();
    let name = unique_name();
    let listener = PipeListener::bind(&name).unwrap();
    thread::scope(|scope| {
        let accepts = [(); 3].map(|()| scope.spawn(|| listener.accept().unwrap()));
        let clients = [(); 3].map(|()| PipeStream::connect(&name).unwrap());
        for server in accepts {
            (&server.join().unwrap()).write_all(b"x").unwrap();
        }
        for mut client in clients {
            client.read_exact(&mut [0]).unwrap();
        }
    });
}

#[test]
fn several_threads_accept_from_one_listener() {
    let _watchdog = watchdog();
    const CLIENTS: u32 = 300;
    let name = unique_name();
    let listener = PipeListener::bind(&name).unwrap();
    let served = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for stream in &listener {
                    let mut stream = stream.unwrap();
                    io::copy(&mut stream.try_clone().unwrap(), &mut stream).unwrap();
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for number in 0..CLIENTS {
            let mut client = PipeStream::connect(&name).unwrap();
            client.write_all(&number.to_le_bytes()).unwrap();
            let mut echo = [0; 4];
            client.read_exact(&mut echo).unwrap();
            assert_eq!(u32::from_le_bytes(echo), number);
        }
        listener.canceller().cancel();
    });
    assert_eq!(served.into_inner(), CLIENTS);
}

/// One may come to any instance at any moment, also while the next is made to wait, which resets
/// the event of all.
#[test]
fn an_accept_hears_of_every_client_of_its_backlog() {
    let _watchdog = watchdog();
    const CLIENTS: usize = 500;
    let name = unique_name();
    let listener = PipeListener::bind(&name).unwrap();
    thread::scope(|scope| {
        let clients = [(); 3].map(|()| {
            scope.spawn(|| {
                for _ in 0..CLIENTS {
                    PipeStream::connect(&name).unwrap().read_exact(&mut [0]).unwrap();
                }
            })
        });
        scope.spawn(|| listener.incoming().for_each(|stream| stream.unwrap().write_all(b"!").unwrap()));
        clients.into_iter().for_each(|client| client.join().unwrap());
        listener.close();
    });
}

/// The system ends what a thread began when it ends: then another one begins anew, also one that
/// waits already.
#[test]
fn an_accept_outlives_the_thread_that_began_to_wait() {
    let _watchdog = watchdog();
    for _ in 0..10 {
        let name = unique_name();
        let listener = PipeListener::bind(&name).unwrap();
        thread::scope(|scope| {
            let gone = scope.spawn(|| assert_kind(listener.accept_timeout(SHORT / 4), ErrorKind::TimedOut));
            let server = scope.spawn(|| listener.accept());
            gone.join().unwrap();
            let mut client = PipeStream::connect(&name).unwrap();
            server.join().unwrap().unwrap().write_all(b"!").unwrap();
            client.read_exact(&mut [0]).unwrap();
        });
    }
}

#[test]
fn the_name_never_vanishes_while_clients_come_and_go() {
    let _watchdog = watchdog();
    const CLIENTS: usize = 1500;
    let name = unique_name();
    let listener = PipeListener::bind(&name).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| listener.incoming().for_each(|stream| drop(stream.unwrap())));
        for _ in 0..CLIENTS {
            // NotFound would be the gap.
            let mut client = PipeStream::connect(&name).unwrap();
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
        }
        listener.canceller().cancel();
    });
}

#[test]
fn a_client_that_left_without_a_word_is_passed_over_and_one_that_wrote_is_not() {
    let _watchdog = watchdog();
    let name = unique_name();
    let listener = PipeListener::bind(&name).unwrap();
    drop(PipeStream::connect(&name).unwrap());
    assert_kind(listener.accept_timeout(SHORT), ErrorKind::TimedOut);
    PipeStream::connect(&name).unwrap().write_all(b"goodbye").unwrap();
    let mut said = Vec::new();
    listener.accept().unwrap().read_to_end(&mut said).unwrap();
    assert_eq!(said, b"goodbye");
}

/// Threads whose clients connect and leave at once, until the name is gone or there were far too
/// many of them.
struct Storm {
    threads: Vec<thread::JoinHandle<()>>,
    clients: Arc<AtomicU32>,
}

impl Storm {
    const CLIENTS: u32 = 100_000;
    const THREADS: u32 = 64;

    fn on(name: &str) -> Self {
        let clients = Arc::new(AtomicU32::new(0));
        let run = |name: String, clients: Arc<AtomicU32>| {
            move || {
                while clients.load(Ordering::Relaxed) < Self::CLIENTS {
                    match OpenOptions::new().read(true).write(true).open(&name) {
                        Ok(client) => drop(client),
                        Err(error) if error.raw_os_error() == Some(ERROR_PIPE_BUSY) => continue,
                        Err(error) => return assert_eq!(error.kind(), ErrorKind::NotFound),
                    }
                    clients.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        let thread = |_| {
            let builder = thread::Builder::new().stack_size(64 * 1024);
            builder.spawn(run(name.to_owned(), clients.clone())).unwrap()
        };
        Self { threads: (0..Self::THREADS).map(thread).collect(), clients }
    }

    fn count(&self) -> u32 {
        self.clients.load(Ordering::Relaxed)
    }

    fn wait_for(&self, clients: u32) {
        while self.count() < clients {
            thread::yield_now();
        }
    }

    /// Tells whether it did not end by itself.
    fn ended_with_the_name(self) -> bool {
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        self.clients.load(Ordering::Relaxed) < Self::CLIENTS
    }
}

/// A close or a time-out ends an accept without waiting until no client is leaving: there may
/// always be one.
#[test]
fn clients_that_connect_and_leave_at_once_do_not_keep_an_accept_from_ending() {
    let _watchdog = watchdog();
    for backlog in [1, 4, 32] {
        let name = unique_name();
        let listener = ServerOptions::new().backlog(backlog).listen_blocking(&name).unwrap();
        let storm = Storm::on(&name);
        // One of them may have looked as if it stayed.
        let mut accepted = 0;
        let mut accept_for = |timeout| match listener.accept_timeout(timeout) {
            Ok(_) => accepted += 1,
            Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut),
        };
        accept_for(SHORT);
        accept_for(Duration::ZERO);
        thread::scope(|scope| {
            let accepting = scope.spawn(|| {
                for accepted in &listener {
                    drop(accepted.unwrap())
                }
            });
            storm.wait_for(accepted + 200);
            listener.close();
            accepting.join().unwrap();
        });
        assert!(storm.ended_with_the_name(), "no end before that of the storm");
    }
}

/// The time was over, and yet a client that comes now finds an instance.
#[test]
fn an_accept_that_passed_over_clients_and_timed_out_leaves_instances_that_can_be_opened() {
    let _watchdog = watchdog();
    let name = unique_name();
    let listener = ServerOptions::new().backlog(16).listen_blocking(&name).unwrap();
    for _ in 0..3 {
        let open = || OpenOptions::new().read(true).write(true).open(&name).ok();
        assert_eq!(std::iter::from_fn(|| open().map(drop)).count(), 16);
        assert_kind(listener.accept_timeout(Duration::ZERO), ErrorKind::TimedOut);
    }
    let mut client = PipeStream::connect(&name).unwrap();
    listener.accept().unwrap().write_all(b"!").unwrap();
    client.read_exact(&mut [0]).unwrap();
}

#[test]
fn an_accept_that_times_out_since_all_instances_are_taken_keeps_the_client() {
    let _watchdog = watchdog();
    let name = unique_name();
    let listener = ServerOptions::new().max_instances(2).listen_blocking(&name).unwrap();
    let _first = PipeStream::connect(&name).unwrap();
    let server = listener.accept().unwrap();
    let mut second = PipeStream::connect(&name).unwrap();
    assert_kind(listener.accept_timeout(SHORT), ErrorKind::TimedOut);
    drop(server);
    listener.accept().unwrap().write_all(b"!").unwrap();
    second.read_exact(&mut [0]).unwrap();
}

#[test]
fn connect_tells_a_missing_pipe_from_a_busy_one() {
    let _watchdog = watchdog();
    let name = unique_name();
    assert_kind(PipeStream::connect(&name), ErrorKind::NotFound);
    assert_kind(PipeStream::connect_timeout(&name, LONG), ErrorKind::NotFound);

    let listener = ServerOptions::new().backlog(1).listen_blocking(&name).unwrap();
    let _first = PipeStream::connect(&name).unwrap();
    let started = Instant::now();
    let timeout = Duration::from_millis(120);
    assert_kind(PipeStream::connect_timeout(&name, timeout), ErrorKind::TimedOut);
    assert!(started.elapsed() >= timeout);
    assert_kind(PipeStream::connect_timeout(&name, Duration::ZERO), ErrorKind::TimedOut);

    // The next instance is made when the first client is accepted.
    let (waiting, also_waiting) = (name.clone(), name.clone());
    let second = thread::spawn(move || PipeStream::connect(waiting));
    let third = thread::spawn(move || PipeStream::connect_timeout(also_waiting, LONG));
    let _servers = [listener.accept().unwrap(), listener.accept().unwrap(), listener.accept().unwrap()];
    second.join().unwrap().unwrap();
    third.join().unwrap().unwrap();

    // Nobody waits for what is gone.
    let listener = ServerOptions::new().backlog(1).listen_blocking(unique_name()).unwrap();
    let name = listener.local_name().clone();
    let _taken = PipeStream::connect(&name).unwrap();
    let waiting = thread::spawn({
        let name = name.clone();
        move || PipeStream::connect(name)
    });
    drop(listener);
    assert_kind(waiting.join().unwrap(), ErrorKind::NotFound);
}

#[test]
fn a_name_whose_instances_all_exist_is_another_programs() {
    let _watchdog = watchdog();
    let name = unique_name();
    let mut options = ServerOptions::new();
    let _owner = options.max_instances(1).listen_blocking(&name).unwrap();
    assert_kind(PipeListener::bind(&name), ErrorKind::PermissionDenied);
    assert_kind(options.listen_blocking(&name), ErrorKind::PermissionDenied);
    assert_kind(PipeListener::bind_timeout(&name, Duration::from_millis(5)), ErrorKind::PermissionDenied);
    assert_kind(
        options.listen_blocking_timeout(&name, Duration::from_millis(5)),
        ErrorKind::PermissionDenied,
    );
}

#[test]
fn a_listener_is_the_first_instance_of_its_name_unless_told_otherwise() {
    let _watchdog = watchdog();
    let name = unique_name();
    let _listener = PipeListener::bind(&name).unwrap();
    ServerOptions::new().first_pipe_instance(false).listen_blocking(&name).unwrap();
    if sys::runs_under_wine() {
        // Not `println!`: libtest keeps the output of tests that pass to itself.
        let _ = writeln!(
            io::stdout(),
            "skipped-under-wine: a_listener_is_the_first_instance_of_its_name_unless_told_otherwise: \
             FILE_FLAG_FIRST_PIPE_INSTANCE is ignored there"
        );
        return;
    }
    assert_kind(PipeListener::bind(&name), ErrorKind::PermissionDenied);
    assert_kind(ServerOptions::new().listen_blocking(&name), ErrorKind::PermissionDenied);
}
