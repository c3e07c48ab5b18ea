//! Tasks over the simulated kernel, on any host: who dequeues, and who owns what when an owner
//! goes. Run under AddressSanitizer they show that nothing is left to a kernel that nobody listens
//! to.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::task::Context;
use std::time::{Duration, Instant};

use futures_lite::future;

use super::{Executor, block_on, spawn};
use crate::driver::Driver;
use crate::driver::hostile::Hostile;
use crate::stream::tests::PLAIN;
use crate::stream::{Key, Settings, Slice, Stream};
use crate::sync::Arc;
use crate::sys::{Pipe, Temper};

const QUOTA: usize = 700;

/// The number of bytes that a test sends to show that a connection works.
const TOTAL: usize = if cfg!(miri) { 3_000 } else { 20_000 };

/// A connected pair on the port of who calls.
async fn pair(seed: u64) -> (Stream, Stream) {
    let temper = Temper {
        seed,
        hesitates: true,
        splits: true,
        cancels_late: true,
        final_with_packet: true,
        ..Temper::default()
    };
    let settings = Settings { read_limit: 3000, write_limit: 2000, ..PLAIN };
    let (pipe, server) = Pipe::create(false, QUOTA, temper);
    let driver = Driver::current().unwrap();
    let server = Stream::new(server, driver.clone(), settings).unwrap();
    let client = Stream::new(pipe.open().unwrap(), driver, settings).unwrap();
    poll_fn(|context| server.poll_connect(context, Key::POLL)).await.unwrap();
    (server, client)
}

async fn send(stream: &Stream, total: usize) {
    let mut sent = 0;
    while sent < total {
        let bytes: Vec<u8> = (sent..total.min(sent + 1 + sent % 977)).map(|at| at as u8).collect();
        sent += poll_fn(|context| stream.poll_write(context, &&bytes[..])).await.unwrap();
    }
}

async fn receive(stream: &Stream, total: usize) {
    let mut received = 0;
    while received < total {
        let mut bytes = [0; 613];
        let mut slice = Slice { bytes: &mut bytes, filled: 0 };
        let count = poll_fn(|context| stream.poll_read(context, &mut slice)).await.unwrap();
        assert_ne!(count, 0, "the end after {received} of {total} bytes");
        assert!(bytes[..count].iter().enumerate().all(|(at, byte)| *byte == (received + at) as u8));
        received += count;
    }
}

#[test]
fn a_block_on_dequeues_for_the_pipes_made_in_it() {
    for seed in 0..if cfg!(miri) { 1 } else { 50 } {
        block_on(async {
            let (server, client) = pair(seed).await;
            futures_lite::future::zip(send(&client, TOTAL), receive(&server, TOTAL)).await;
        });
    }
}

#[test]
fn pipes_that_outlive_their_block_on_go_on_elsewhere() {
    for seed in 0..if cfg!(miri) { 1 } else { 50 } {
        let (server, client) = block_on(pair(seed));
        let sending = spawn(async move {
            send(&client, TOTAL).await;
            client
        });
        let receiving = std::thread::spawn(move || block_on(receive(&server, TOTAL)));
        block_on(sending);
        receiving.join().unwrap();
    }
}

#[test]
fn what_was_accepted_in_a_block_on_is_delivered_behind_it() {
    for seed in 0..if cfg!(miri) { 1 } else { 50 } {
        let (server, accepted) = block_on(async {
            let (server, client) = pair(seed).await;
            let mut accepted = 0;
            while let Ok(count) = client.try_write(&&[accepted as u8][..]) {
                accepted += count;
            }
            (server, accepted)
        });
        assert!(accepted > QUOTA, "{accepted} bytes are no more than the kernel took");
        std::thread::spawn(move || block_on(receive(&server, accepted))).join().unwrap();
    }
}

#[test]
fn tasks_of_several_threads_exchange_through_pipes() {
    let executor = Executor::new(3).unwrap();
    let tasks: Vec<_> = (0..if cfg!(miri) { 4 } else { 30 })
        .map(|seed| {
            executor.spawn(async move {
                let (server, client) = pair(seed).await;
                let sending = spawn(async move { send(&client, TOTAL).await });
                receive(&server, TOTAL).await;
                sending.await;
            })
        })
        .collect();
    drop(executor);
    tasks.into_iter().for_each(block_on);
}

#[test]
fn aborted_tasks_leave_nothing_with_the_kernel() {
    let executor = Executor::new(1).unwrap();
    for seed in 0..if cfg!(miri) { 1 } else { 50 } {
        let task = executor.spawn(async move {
            let (server, client) = pair(seed).await;
            futures_lite::future::zip(send(&client, usize::MAX), receive(&server, usize::MAX)).await;
        });
        block_on(async {
            let pause = crate::driver::Deadline::new(
                &Driver::current().unwrap(),
                std::time::Instant::now() + Duration::from_micros(seed * 20),
            );
            poll_fn(|context| pause.poll(context)).await;
            assert!(task.cancel().await.is_none());
        });
    }
}

/// The text of the panic of `call`.
fn panic_of(call: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(call)).expect_err("it came to its end");
    panic.downcast_ref::<&str>().map(ToString::to_string).unwrap_or_default()
}

#[test]
fn a_block_on_that_waits_for_a_task_of_its_own_thread_panics() {
    let waits: [fn(); 6] = [
        || block_on(spawn(async {})),
        || block_on(async { spawn(async {}).await }),
        || assert!(block_on(spawn(future::pending::<()>()).cancel()).is_none()),
        || assert_eq!(block_on(future::zip(spawn(async {}), spawn(async {}))), ((), ())),
        || block_on(future::or(spawn(async {}), future::pending())),
        // Inside a `block_on` that is itself inside the task.
        || block_on(async { block_on(spawn(async {})) }),
    ];
    for wait in waits {
        let text = block_on(spawn(async move { panic_of(wait) }));
        assert!(text.contains("a task of the same thread"), "{text}");
    }
    // The thread goes on, and so do the tasks that were waited for.
    let executor = Arc::new(Executor::new(1).unwrap());
    let (sender, ran) = mpsc::channel();
    let inner = executor.clone();
    let text =
        block_on(executor.spawn(async move {
            panic_of(|| block_on(inner.spawn(async move { sender.send(7).unwrap() })))
        }));
    assert!(text.contains("a task of the same thread"), "{text}");
    assert_eq!(ran.recv(), Ok(7));
}

#[test]
fn a_block_on_that_may_still_be_woken_waits() {
    /// Beside a task of the same thread.
    async fn task_or<T: Send + 'static>(other: impl Future<Output = T>) -> T {
        let task = spawn(future::pending());
        let output = future::or(task, other).await;
        assert!(block_on(future::poll_once(&mut spawn(async {}))).is_none(), "a look is no wait");
        output
    }
    async fn pause() {
        let end = Instant::now() + Duration::from_millis(2);
        let pause = crate::driver::Deadline::new(&Driver::current().unwrap(), end);
        poll_fn(|context| pause.poll(context)).await;
    }
    async fn data() {
        let (server, client) = pair(1).await;
        let sending = async {
            pause().await;
            send(&client, 100).await;
        };
        future::zip(sending, receive(&server, 100)).await;
    }
    let other = Executor::new(1).unwrap();
    block_on(spawn(async move {
        block_on(task_or(pause()));
        block_on(task_or(data()));
        block_on(task_or(other.spawn(pause())));
        let mut task = spawn(async {});
        assert!(block_on(future::poll_once(&mut task)).is_none());
        task.await;
    }));
}

#[test]
fn a_task_ends_with_a_waker_that_panics() {
    let executor = Executor::new(1).unwrap();
    let (sender, may_end) = mpsc::channel::<()>();
    let mut task = executor.spawn(async move { may_end.recv().unwrap() });
    let (hostile, woken) = Hostile::waker();
    assert!(pin!(&mut task).poll(&mut Context::from_waker(&hostile)).is_pending());
    drop(hostile);
    sender.send(()).unwrap();
    block_on(executor.spawn(async {}));
    assert_eq!(woken.load(Ordering::SeqCst), 1);
    block_on(task);
}
