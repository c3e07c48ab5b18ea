//! `block_on`, `spawn` and `Executor`: what a user sees of tasks that wait on the completion port
//! themselves. That the pipes behave in them as anywhere is the behaviour suite's business.
#![cfg(all(windows, feature = "tokio"))]

use std::fs::File;
use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use npipe::{ClientOptions, Executor, NamedPipeClient, NamedPipeServer, ServerOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Far above what any step takes; only a lost wake-up reaches it.
const STEP: Duration = Duration::from_secs(100);

/// More than the kernel's quota and our queue together.
const MORE_THAN_FITS: usize = 2 << 20;

fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(r"\\.\pipe\npipe-tasks-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Runs a test's body on a thread of its own, and fails when it hangs.
fn in_time<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    let running = thread::spawn(move || sender.send(body()));
    match receiver.recv_timeout(STEP) {
        Ok(output) => output,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("still running after {STEP:?}"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(running.join().expect_err("the body ended without an output"))
        }
    }
}

async fn pair() -> (NamedPipeServer, NamedPipeClient) {
    let name = unique_name();
    let server = ServerOptions::new().create(&name).unwrap();
    let client = ClientOptions::new().open(&name).unwrap();
    server.connect().await.unwrap();
    (server, client)
}

async fn exchange(server: &mut NamedPipeServer, client: &mut NamedPipeClient, rounds: u32) {
    for round in 0..rounds {
        let mut bytes = [0; 4];
        client.write_all(&round.to_le_bytes()).await.unwrap();
        server.read_exact(&mut bytes).await.unwrap();
        assert_eq!(u32::from_le_bytes(bytes), round);
        server.write_all(&bytes).await.unwrap();
        client.read_exact(&mut bytes).await.unwrap();
        assert_eq!(u32::from_le_bytes(bytes), round);
    }
}

/// A client that is no part of the library: a synchronous file.
fn foreign_client(name: &str) -> File {
    File::options().read(true).write(true).open(name).unwrap()
}

#[test]
fn block_on_gives_the_output_and_needs_no_runtime() {
    in_time(|| {
        npipe::block_on(async {
            let (mut server, mut client) = pair().await;
            exchange(&mut server, &mut client, 500).await;
        });
        assert_eq!(npipe::block_on(async { 7 }), 7);
    });
}

#[test]
fn a_wait_that_is_pending_is_woken_by_the_peer() {
    in_time(|| {
        let name = unique_name();
        let (listening, may_open) = mpsc::channel();
        let peer = {
            let name = name.clone();
            thread::spawn(move || {
                may_open.recv().unwrap();
                let mut client = foreign_client(&name);
                client.write_all(b"hello").unwrap();
                let mut answer = [0; 5];
                client.read_exact(&mut answer).unwrap();
                answer
            })
        };
        npipe::block_on(async {
            let mut server = ServerOptions::new().create(&name).unwrap();
            {
                let mut connect = pin!(server.connect());
                let pending = connect.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending();
                assert!(pending, "nobody can have come");
                listening.send(()).unwrap();
                connect.await.unwrap();
            }
            let mut bytes = [0; 5];
            server.read_exact(&mut bytes).await.unwrap();
            server.write_all(&bytes).await.unwrap();
            server.flush().await.unwrap();
            // Held until the peer has read: what is asked here is the answer and not the end.
            assert_eq!(server.read(&mut bytes).await.unwrap(), 0);
        });
        assert_eq!(&peer.join().unwrap(), b"hello");
    });
}

#[test]
fn a_future_that_wakes_itself_all_the_time_does_not_starve_the_pipes() {
    in_time(|| {
        npipe::block_on(async {
            let (mut server, client) = pair().await;
            let done = AtomicBool::new(false);
            let spin = poll_fn(|context| {
                context.waker().wake_by_ref();
                if done.load(Ordering::Relaxed) { Poll::Ready(()) } else { Poll::Pending }
            });
            let read = async {
                let mut bytes = [0; 1];
                server.read_exact(&mut bytes).await.unwrap();
                done.store(true, Ordering::Relaxed);
            };
            let mut both = pin!(futures_lite::future::zip(spin, read));
            assert!(both.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            assert_eq!(client.try_write(b"x").unwrap(), 1);
            both.await;
        });
    });
}

#[test]
fn another_thread_wakes_a_block_on_that_sleeps_in_its_port() {
    in_time(|| {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let (polled, was_polled) = mpsc::channel();
        let waker = thread::spawn(move || {
            was_polled.recv().unwrap();
            sender.send(5).unwrap();
        });
        let number = npipe::block_on(async move {
            let mut receiver = pin!(receiver);
            poll_fn(|context| {
                let result = receiver.as_mut().poll(context);
                let _ = polled.send(());
                result
            })
            .await
        });
        assert_eq!(number, Ok(5));
        waker.join().unwrap();
    });
}

#[test]
fn what_was_written_arrives_when_block_on_has_returned() {
    in_time(|| {
        let name = unique_name();
        let server = ServerOptions::new();
        let data: Vec<u8> = (0..MORE_THAN_FITS).map(|index| (index % 251) as u8).collect();
        let (accepted, mut client) = npipe::block_on(async {
            let server = server.create(&name).unwrap();
            let client = foreign_client(&name);
            server.connect().await.unwrap();
            let mut accepted = 0;
            while let Ok(count) = server.try_write(&data[accepted..]) {
                accepted += count;
            }
            (accepted, client)
        });
        assert!(accepted > 512 * 1024, "the queue behind the kernel's quota was not used: {accepted}");
        let mut received = Vec::new();
        client.read_to_end(&mut received).unwrap();
        assert_eq!(received.len(), accepted);
        assert!(received == data[..accepted], "other bytes arrived than were written");
    });
}

#[test]
fn a_pipe_goes_on_in_the_next_block_on_and_in_that_of_another_thread() {
    in_time(|| {
        let (mut server, mut client) = npipe::block_on(pair());
        for _ in 0..20 {
            npipe::block_on(exchange(&mut server, &mut client, 3));
        }
        let (mut server, mut client) = thread::spawn(move || {
            npipe::block_on(exchange(&mut server, &mut client, 100));
            (server, client)
        })
        .join()
        .unwrap();
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(exchange(
            &mut server,
            &mut client,
            100,
        ));
    });
}

#[test]
fn a_pipe_made_by_a_thread_that_has_ended_goes_on() {
    in_time(|| {
        let (mut server, mut client) = thread::spawn(|| npipe::block_on(pair())).join().unwrap();
        npipe::block_on(exchange(&mut server, &mut client, 100));
    });
}

#[test]
fn block_on_inside_block_on_and_inside_a_task() {
    in_time(|| {
        let inner = || npipe::block_on(async { exchange_of_its_own(10).await });
        npipe::block_on(async {
            let (mut server, mut client) = pair().await;
            inner();
            exchange(&mut server, &mut client, 10).await;
        });
        npipe::block_on(npipe::spawn(async move { inner() }));
    });
}

async fn exchange_of_its_own(rounds: u32) {
    let (mut server, mut client) = pair().await;
    exchange(&mut server, &mut client, rounds).await;
}

#[test]
fn tokio_s_timers_sockets_and_channels_work_in_its_context() {
    async fn uses_tokio() {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accept = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            socket.write_all(b"over TCP").await.unwrap();
        });
        let mut text = String::new();
        tokio::net::TcpStream::connect(address).await.unwrap().read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "over TCP");
        accept.await.unwrap();
        exchange_of_its_own(10).await;
    }

    in_time(|| {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let _context = runtime.enter();
        npipe::block_on(uses_tokio());
        npipe::block_on(npipe::spawn(uses_tokio()));
    });
}

#[test]
fn a_task_s_output_comes_to_who_awaits_it() {
    in_time(|| {
        let task = npipe::spawn(exchange_of_its_own(200));
        npipe::block_on(task);
        assert_eq!(npipe::block_on(npipe::spawn(async { 3 })), 3);
    });
}

#[test]
fn a_task_s_panic_comes_to_who_awaits_it_and_harms_no_other_task() {
    in_time(|| {
        let other = npipe::spawn(exchange_of_its_own(50));
        let task = npipe::spawn(async { panic!("on purpose") });
        let panic = std::panic::catch_unwind(|| npipe::block_on(task)).unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"on purpose"));
        npipe::block_on(other);
    });
}

/// Tells when it is dropped.
struct Dropped(mpsc::Sender<thread::ThreadId>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send(thread::current().id());
    }
}

#[test]
fn an_aborted_task_is_dropped_and_its_pipe_closed() {
    in_time(|| {
        let name = unique_name();
        let (sender, dropped) = mpsc::channel();
        let (started, has_started) = mpsc::channel();
        let task = {
            let name = name.clone();
            npipe::spawn(async move {
                let _dropped = Dropped(sender);
                let server = ServerOptions::new().max_instances(1).create(&name).unwrap();
                started.send(()).unwrap();
                server.connect().await.unwrap();
            })
        };
        has_started.recv().unwrap();
        assert!(!task.is_finished());
        task.abort();
        dropped.recv_timeout(STEP).unwrap();
        let error = File::open(&name).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound, "the instance is still there");
    });
}

#[test]
fn cancel_waits_until_the_task_is_gone_and_gives_the_output_of_one_that_had_ended() {
    in_time(|| {
        let (sender, dropped) = mpsc::channel();
        // Made out here: the task may be cancelled before it has been polled.
        let tells = Dropped(sender);
        let task = npipe::spawn(async move {
            let _tells = tells;
            std::future::pending::<()>().await;
        });
        assert_eq!(npipe::block_on(task.cancel()), None);
        dropped.try_recv().expect("the future has been dropped by now");

        let task = npipe::spawn(async { 11 });
        while !task.is_finished() {
            thread::yield_now();
        }
        assert_eq!(npipe::block_on(task.cancel()), Some(11));
    });
}

#[test]
fn a_task_goes_on_when_its_handle_is_dropped() {
    in_time(|| {
        let (sender, receiver) = mpsc::channel();
        let other = sender.clone();
        drop(npipe::spawn(async move {
            exchange_of_its_own(10).await;
            sender.send(1).unwrap();
        }));
        npipe::spawn(async move { other.send(2).unwrap() }).detach();
        let mut ended = [receiver.recv_timeout(STEP).unwrap(), receiver.recv_timeout(STEP).unwrap()];
        ended.sort_unstable();
        assert_eq!(ended, [1, 2]);
    });
}

#[test]
fn an_executor_of_no_threads_is_refused() {
    let error = Executor::new(0).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("thread"), "{error}");
}

#[test]
fn a_task_and_what_it_spawns_stay_on_one_thread_and_others_spread() {
    in_time(|| {
        let executor = Arc::new(Executor::new(3).unwrap());
        let threads = |executor: &Executor| -> Vec<thread::ThreadId> {
            let tasks: Vec<_> = (0..3).map(|_| executor.spawn(async { thread::current().id() })).collect();
            tasks.into_iter().map(npipe::block_on).collect()
        };
        let spread = threads(&executor);
        assert!(spread[0] != spread[1] && spread[1] != spread[2] && spread[2] != spread[0], "{spread:?}");
        let inner = executor.clone();
        let (outer, inner) = npipe::block_on(executor.spawn(async move {
            let tasks: Vec<_> = (0..3).map(|_| inner.spawn(async { thread::current().id() })).collect();
            let mut ids = Vec::new();
            for task in tasks {
                ids.push(task.await);
            }
            (thread::current().id(), ids)
        }));
        assert_eq!(inner, [outer; 3]);
    });
}

#[test]
fn an_executor_that_is_dropped_ends_behind_its_tasks_and_their_pipes() {
    in_time(|| {
        let name = unique_name();
        let (ready, is_ready) = mpsc::channel();
        let executor = Executor::new(1).unwrap();
        let data: Vec<u8> = (0..MORE_THAN_FITS).map(|index| (index % 241) as u8).collect();
        let task = {
            let (name, data) = (name.clone(), data.clone());
            executor.spawn(async move {
                let mut server = ServerOptions::new().create(&name).unwrap();
                ready.send(()).unwrap();
                server.connect().await.unwrap();
                server.write_all(&data).await.unwrap();
            })
        };
        is_ready.recv().unwrap();
        drop(executor);
        let mut client = foreign_client(&name);
        let mut received = Vec::new();
        client.read_to_end(&mut received).unwrap();
        assert!(received == data, "{} of {} bytes arrived", received.len(), data.len());
        npipe::block_on(task);
    });
}

/// Reports the name of the thread that wakes it.
struct NamesItsThread(mpsc::Sender<Option<String>>);

impl Wake for NamesItsThread {
    fn wake(self: Arc<Self>) {
        let _ = self.0.send(thread::current().name().map(str::to_owned));
    }
}

/// The names that the guide gives, by the thread that wakes a read or a drain.
#[test]
fn the_threads_behind_pipes_have_names() {
    fn waker() -> (Waker, impl FnOnce() -> String) {
        let (sender, woken_by) = mpsc::channel();
        (Waker::from(Arc::new(NamesItsThread(sender))), move || woken_by.recv().unwrap().unwrap())
    }
    fn reader_is_woken(server: &NamedPipeServer, client: &NamedPipeClient) -> String {
        let (waker, woken_by) = waker();
        let mut readable = pin!(server.readable());
        assert!(readable.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(client.try_write(b"x").unwrap(), 1);
        woken_by()
    }
    in_time(|| {
        let on_no_executor = || {
            let name = unique_name();
            (ServerOptions::new().create(&name).unwrap(), ClientOptions::new().open(&name).unwrap())
        };
        let (server, mut client) = on_no_executor();
        assert_eq!(reader_is_woken(&server, &client), "npipe-driver");

        let (waker, woken_by) = waker();
        server.try_read(&mut [0; 8]).unwrap();
        assert_eq!(server.try_write(b"unread").unwrap(), 6);
        {
            let mut drain = pin!(server.drain());
            assert!(drain.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            npipe::block_on(client.read_exact(&mut [0; 6])).unwrap();
            // If Windows does not have the operation, a thread waits for as long as the drain.
            assert!(["npipe-driver", "npipe-drain"].contains(&&*woken_by()));
        }

        let (server, client) = npipe::block_on(pair());
        assert_eq!(reader_is_woken(&server, &client), "npipe-caretaker");

        let on_the_executor = npipe::spawn(async { thread::current().name().map(str::to_owned) });
        assert_eq!(npipe::block_on(on_the_executor).as_deref(), Some("npipe-executor"));
    });
}

/// Set for a child of the test below: the name of the pipe.
const CHILD: &str = "NPIPE_TEST_FLUSHES_AND_ENDS";

#[test]
fn what_was_flushed_is_there_when_its_process_has_ended() {
    if let Ok(name) = std::env::var(CHILD) {
        npipe::block_on(async {
            let mut client = ClientOptions::new().open(name).unwrap();
            client.write_all(b"done").await.unwrap();
            client.flush().await.unwrap();
            std::process::exit(0);
        });
    }
    let name = unique_name();
    npipe::block_on(async {
        let mut server = ServerOptions::new().create(&name).unwrap();
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "what_was_flushed_is_there_when_its_process_has_ended"])
            .env(CHILD, &name)
            .status();
        assert!(child.unwrap().success());
        server.connect().await.unwrap();
        let mut received = Vec::new();
        server.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, b"done");
    });
}
