//! A waker that panics, in every wait that the library has: its task is lost, and nothing else is.
//! The driver thread and the listeners go on, and wake those that wait behind it.
#![cfg(all(windows, feature = "tokio"))]

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use npipe::{ClientOptions, Interest, NamedPipeClient, NamedPipeServer, PipeMode, ServerOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Far above what any step takes.
const STEP: Duration = Duration::from_secs(100);

/// Panics when it is woken, and when it is dropped.
struct Hostile(Arc<AtomicUsize>);

impl Wake for Hostile {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
        panic!("a waker panics, on purpose");
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        // A second panic while the first unwinds would end the process.
        if !thread::panicking() {
            panic!("a waker panics when it is dropped, on purpose");
        }
    }
}

/// Polls `wait` once with a waker that panics, lets `cause` end the wait, and returns once that
/// waker has been woken.
fn wake_hostile<F: Future>(wait: Pin<&mut F>, cause: impl FnOnce()) {
    assert!(woken_hostile(wait, cause), "there was nothing to wait for");
}

/// [`wake_hostile`], unless the wait is over when it is polled: then `false`.
fn woken_hostile<F: Future>(wait: Pin<&mut F>, cause: impl FnOnce()) -> bool {
    let woken = Arc::<AtomicUsize>::default();
    let hostile = Waker::from(Arc::new(Hostile(woken.clone())));
    if wait.poll(&mut Context::from_waker(&hostile)).is_ready() {
        // Nobody but this thread has had the waker, whose drop panics.
        std::mem::forget(hostile);
        return false;
    }
    drop(hostile);
    cause();
    while woken.load(Ordering::SeqCst) == 0 {
        thread::yield_now();
    }
    true
}

fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(r"\\.\pipe\npipe-wakers-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Runs a test's body on a thread of its own, and fails when it hangs. Then other pipes must work.
fn in_time(body: impl FnOnce() + Send + 'static) {
    let (sender, receiver) = mpsc::channel();
    let running = thread::spawn(move || {
        body();
        others_go_on();
        sender.send(()).unwrap();
    });
    if receiver.recv_timeout(STEP) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("still running after {STEP:?}");
    }
    running.join().unwrap();
}

/// Packets and timers of the driver thread still reach those that wait.
fn others_go_on() {
    wait_for(async {
        let (mut server, mut client) = pair();
        let (read, written) = futures_lite::future::zip(
            async {
                let mut bytes = [0; 4];
                server.read_exact(&mut bytes).await.map(|_| bytes)
            },
            async {
                futures_lite::future::yield_now().await;
                client.write_all(b"ping").await
            },
        )
        .await;
        written.unwrap();
        assert_eq!(&read.unwrap(), b"ping");
        // Of another pair: the first server may be reading ahead.
        let (_server, client) = pair();
        write(&client);
        let error = client.drain_timeout(Duration::from_millis(1)).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    });
}

/// Not `npipe::block_on`, whose thread would dequeue by itself: here the driver thread does.
fn wait_for<T>(future: impl Future<Output = T>) -> T {
    futures_lite::future::block_on(future)
}

fn pair() -> (NamedPipeServer, NamedPipeClient) {
    let name = unique_name();
    let server = ServerOptions::new().pipe_mode(PipeMode::Message).create(&name).unwrap();
    let client = ClientOptions::new().pipe_mode(PipeMode::Message).open(&name).unwrap();
    wait_for(server.connect()).unwrap();
    (server, client)
}

fn write(client: &NamedPipeClient) {
    assert_eq!(client.try_write(b"hello").unwrap(), 5);
}

#[test]
fn of_a_read() {
    in_time(|| {
        let (mut server, client) = pair();
        let mut bytes = [0; 5];
        wake_hostile(pin!(server.read(&mut bytes)), || write(&client));
        assert_eq!(wait_for(server.read(&mut bytes)).unwrap(), 5);
    });
}

#[test]
fn of_readiness_and_of_a_task_behind() {
    in_time(|| {
        let (server, client) = pair();
        let mut behind = pin!(server.readable());
        wake_hostile(pin!(server.ready(Interest::READABLE)), || {
            assert!(behind.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            write(&client);
        });
        wait_for(behind).unwrap();
    });
}

#[test]
fn of_a_message() {
    in_time(|| {
        let (server, client) = pair();
        let mut buffer = BytesMut::new();
        wake_hostile(pin!(server.recv_message(&mut buffer)), || write(&client));
    });
}

#[test]
fn of_a_write_and_of_room_to_write() {
    in_time(|| {
        let (server, client) = pair();
        let mut buffer = vec![0; 64 * 1024];
        let fill = || while client.try_write(&[7; 4096]).is_ok() {};
        let mut make_room = || {
            while client.try_write(&[7; 4096]).is_err() {
                let _ = server.try_read(&mut buffer);
            }
        };
        fill();
        wake_hostile(pin!(client.writable()), &mut make_room);
        fill();
        wake_hostile(pin!(client.send_message(&[7; 4096])), &mut make_room);
    });
}

#[test]
fn of_a_drain() {
    in_time(|| {
        let (server, client) = pair();
        write(&client);
        let mut buffer = [0; 5];
        wake_hostile(pin!(client.drain()), || assert_eq!(server.try_read(&mut buffer).unwrap(), 5));
    });
}

#[test]
fn of_a_drain_with_a_time_out() {
    in_time(|| {
        let (_server, client) = pair();
        write(&client);
        // The time may be over before the first poll has returned.
        let mut limit = Duration::from_millis(1);
        while !woken_hostile(pin!(client.drain_timeout(limit)), || {}) {
            limit *= 2;
        }
    });
}

#[test]
fn of_a_connect() {
    in_time(|| {
        let name = unique_name();
        let server = ServerOptions::new().create(&name).unwrap();
        let mut client = None;
        wake_hostile(pin!(server.connect()), || client = ClientOptions::new().open(&name).ok());
        wait_for(server.connect()).unwrap();
    });
}

#[test]
fn of_a_client_s_connect_that_tries_again() {
    in_time(|| {
        let options = ClientOptions::new().wait_for_server(true).connect_timeout(Some(STEP)).clone();
        wake_hostile(pin!(options.connect(unique_name())), || {});
    });
}

#[test]
fn of_an_accept_and_of_a_task_behind() {
    in_time(|| {
        let name = unique_name();
        let listener = ServerOptions::new().listen(&name).unwrap();
        let mut behind = pin!(listener.accept());
        let mut client = None;
        wake_hostile(pin!(listener.accept()), || {
            assert!(behind.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            client = ClientOptions::new().open(&name).ok();
        });
        wait_for(behind).unwrap();
        wake_hostile(pin!(listener.accept()), || listener.close());
    });
}

#[test]
fn of_a_wait_for_a_task() {
    in_time(|| {
        let (sender, may_end) = mpsc::channel::<()>();
        let mut task = npipe::spawn(async move { may_end.recv().unwrap() });
        wake_hostile(pin!(&mut task), || sender.send(()).unwrap());
        wait_for(task);
    });
}

#[test]
fn of_waits_that_are_given_up() {
    in_time(|| {
        let (mut server, client) = pair();
        let hostile = Waker::from(Arc::new(Hostile(Arc::default())));
        let mut context = Context::from_waker(&hostile);
        let mut bytes = [0; 5];
        assert!(pin!(server.read(&mut bytes)).poll(&mut context).is_pending());
        assert!(pin!(server.readable()).poll(&mut context).is_pending());
        write(&client);
        let mut drain = Box::pin(client.drain_timeout(STEP));
        assert!(drain.as_mut().poll(&mut context).is_pending());
        drop(hostile);
        drop(drain);
    });
}
