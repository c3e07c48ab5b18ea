//! The threads behind tasks on the port go when nobody needs them: caretakers with the last pipe of
//! their port, executors' with their last task. A program of its own, because it counts the threads
//! of the process.
#![cfg(all(windows, feature = "tokio"))]

use std::io::{ErrorKind, Read, Write};
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use npipe::blocking::{PipeListener, PipeStream};
use npipe::{ClientOptions, Executor, NamedPipeClient, NamedPipeServer, ServerOptions};
use tokio::io::AsyncReadExt;

/// Far above what ending a thread takes.
const STEP: Duration = Duration::from_secs(100);

async fn pair(name: &str) -> (NamedPipeServer, NamedPipeClient) {
    let server = ServerOptions::new().create(name).unwrap();
    let client = ClientOptions::new().open(name).unwrap();
    server.connect().await.unwrap();
    (server, client)
}

/// Polls once, and drops the future. Returns whether it was pending.
fn poll_once(future: impl Future) -> bool {
    pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

/// Waits until the process has this many threads: the system tells in no other way that one has
/// ended.
fn wait_for_threads(count: usize, after: &str) {
    let end = Instant::now() + STEP;
    while sys::thread_count() != count {
        assert!(Instant::now() < end, "{} threads instead of {count}: {after}", sys::thread_count());
        std::thread::yield_now();
    }
}

#[test]
fn no_thread_outlives_its_use() {
    let name = format!(r"\\.\pipe\npipe-threads-end-{}", std::process::id());
    // What a process has once it has used pipes at all.
    npipe::block_on(async { drop(pair(&name).await) });
    the_process_has_one_thread_for_what_is_on_no_other(&name);
    let before = sys::thread_count();

    for _ in 0..20 {
        npipe::block_on(async {
            let (mut server, client) = pair(&name).await;
            drop(client);
            assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
        });
    }
    wait_for_threads(before, "block_on whose pipes ended with it");

    let left = npipe::block_on(pair(&name));
    wait_for_threads(before + 1, "a pipe outlives its block_on, so somebody has to wait for it");
    npipe::block_on(async {});
    wait_for_threads(before + 1, "the same after another block_on");
    drop(left);
    wait_for_threads(before, "the pipe that outlived its block_on is gone");

    let outlives_thread = std::thread::spawn({
        let name = name.clone();
        move || npipe::block_on(pair(&name))
    });
    let outlives_thread = outlives_thread.join().unwrap();
    wait_for_threads(before + 1, "a pipe outlives the thread that made it");
    drop(outlives_thread);
    wait_for_threads(before, "the pipe that outlived its thread is gone");

    // Each on a port of its own, with an operation that no future waits for any more.
    let mut left = Vec::new();
    for round in 0..50 {
        // The instances that were released go on listening.
        let name = format!("{name}-{round}");
        npipe::block_on(async {
            let server = ServerOptions::new().create(&name).unwrap();
            assert!(poll_once(server.connect()), "no client is there");
            if round % 2 == 0 {
                left.push(server.into_owned_handle().await.unwrap().0);
                return;
            }
            let stream = server.into_blocking().await;
            let client = ClientOptions::new().open(&name).unwrap();
            let server = stream.into_server().unwrap();
            server.connect().await.unwrap();
            server.try_write(b"unread").unwrap();
            assert!(poll_once(server.drain()), "the client has read nothing");
            left.push(server.into_owned_handle().await.unwrap().0);
            drop(client);
        });
    }
    wait_for_threads(before, "nothing is in flight on the handles that were released");
    drop(left);

    let executor = Executor::new(3).unwrap();
    wait_for_threads(before + 3, "an executor of three");
    let left = npipe::block_on(executor.spawn(async move { pair(&name).await }));
    drop(executor);
    wait_for_threads(before + 1, "the executor is gone, but for the thread that has pipes");
    drop(left);
    wait_for_threads(before, "the executor's last pipe is gone");
}

/// Of blocking pipes that is what has a write time-out. Runs in the same test, since it counts too.
fn the_process_has_one_thread_for_what_is_on_no_other(name: &str) {
    let before = sys::thread_count();
    let listener = PipeListener::bind(name).unwrap();
    let mut client = PipeStream::connect(name).unwrap();
    let mut server = listener.accept().unwrap();
    server.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    assert_eq!(server.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
    client.write_all(b"x").unwrap();
    server.read_exact(&mut [0]).unwrap();
    client.drain().unwrap();
    wait_for_threads(before, "blocking calls wait in the caller's thread");
    for stream in [&server, &client] {
        stream.set_write_timeout(Some(STEP)).unwrap();
        wait_for_threads(before + 1, "the driver of the process, for writes that may have to go on");
    }
    drop((listener, client, server));
    let pipe = ServerOptions::new().create(name).unwrap();
    wait_for_threads(before + 1, "the same thread for asynchronous pipes");
    drop(pipe);
    wait_for_threads(before + 1, "it stays");
}

mod sys {
    //! The number of threads, which Windows tells only by a list of all there are.
    #![expect(unsafe_code, reason = "the standard library does not count threads")]

    use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};

    use windows_sys::Win32::Foundation::INVALID_HANDLE_VALUE;
    use windows_sys::Win32::System::Diagnostics::ToolHelp::{
        CreateToolhelp32Snapshot, TH32CS_SNAPTHREAD, THREADENTRY32, Thread32First, Thread32Next,
    };

    pub(super) fn thread_count() -> usize {
        // SAFETY: takes no pointers.
        let snapshot = unsafe { CreateToolhelp32Snapshot(TH32CS_SNAPTHREAD, 0) };
        assert_ne!(snapshot, INVALID_HANDLE_VALUE, "a snapshot of the threads can be taken");
        // SAFETY: the call gave a handle that nobody else owns.
        let snapshot = unsafe { OwnedHandle::from_raw_handle(snapshot) };
        let mut entry =
            THREADENTRY32 { dwSize: size_of::<THREADENTRY32>() as u32, ..THREADENTRY32::default() };
        let mut count = 0;
        // SAFETY: the snapshot is open, the entry says its size.
        let mut more = unsafe { Thread32First(snapshot.as_raw_handle(), &mut entry) };
        while more != 0 {
            count += usize::from(entry.th32OwnerProcessID == std::process::id());
            // SAFETY: as above.
            more = unsafe { Thread32Next(snapshot.as_raw_handle(), &mut entry) };
        }
        count
    }
}
