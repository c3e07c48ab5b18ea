//! What keeps tests independent and finite: pipe names, deadlines, the lock of tests that measure
//! the whole process, and the one condition by which a test is skipped. Knows nothing of pipes
//! beyond their names.

use std::fs::File;
use std::future::Future;
use std::io::{self, Write};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use npipe::{ClientOptions, ServerOptions};

use crate::family::{Family, ServerEnd, Writing};
use crate::stream_data::StreamData;
use crate::sys;

/// How long one awaited step may take. Far above what any takes, also on a loaded machine; only a
/// lost wake-up reaches it.
const STEP: Duration = Duration::from_secs(100);

/// How long a step may take that moves megabytes or goes round thousands of times, in a debug build
/// on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(180);

/// How long a whole test may take before the process is given up: for what blocks a thread and so
/// defeats [`STEP`].
const TEST: Duration = Duration::from_secs(240);

/// Tests share this; those that measure the process take it for themselves.
static MEASURING: RwLock<()> = RwLock::new(());

/// A pipe name no other test, run or process uses.
pub(crate) fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!(r"\\.\pipe\npipe-behaviour-{}-{number}", std::process::id())
}

/// Runs the body of a test.
pub(crate) fn run<F: Family>(name: &'static str, body: impl Future<Output = ()>) {
    let _shared = MEASURING.read().unwrap_or_else(PoisonError::into_inner);
    let _watchdog = Watchdog::start(name);
    F::block_on(body);
}

/// Runs the body of a test while no other runs in this process.
pub(crate) fn run_alone<F: Family>(name: &'static str, body: impl Future<Output = ()>) {
    let _alone = MEASURING.write().unwrap_or_else(PoisonError::into_inner);
    let _watchdog = Watchdog::start(name);
    F::block_on(body);
}

/// Ends the process, naming the test, unless dropped in time.
struct Watchdog {
    _ended: mpsc::Sender<()>,
}

impl Watchdog {
    fn start(name: &'static str) -> Self {
        let (ended, waiting) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            if waiting.recv_timeout(TEST) == Err(mpsc::RecvTimeoutError::Timeout) {
                // Not `eprintln!`: libtest would keep it to itself.
                let _ = writeln!(std::io::stderr(), "{name} still ran after {TEST:?}: a thread is blocked");
                std::process::abort();
            }
        });
        Self { _ended: ended }
    }
}

/// True where the Windows we run on is Wine: the one condition by which tests are skipped.
pub(crate) fn wine() -> bool {
    sys::runs_under_wine()
}

/// To be called first by a test that Wine cannot show: `if skipped_under_wine(..) { return }`. A
/// run collects the lines.
pub(crate) fn skipped_under_wine(test: &str, reason: &str) -> bool {
    if wine() {
        // Not `println!`: libtest keeps the output of tests that pass to itself.
        let _ = writeln!(std::io::stdout(), "skipped-under-wine: {test}: {reason}");
    }
    wine()
}

/// Deadlines for single steps. The timer is that of `async-io`: it runs on a thread of its own,
/// under any executor.
pub(crate) trait Within: Future + Sized {
    /// Ends with the future, or fails the test saying which step hung.
    fn within(self, step: &str) -> impl Future<Output = Self::Output> {
        self.within_time(step, STEP)
    }

    fn within_time(self, step: &str, limit: Duration) -> impl Future<Output = Self::Output> {
        async move {
            let late = async {
                smol::Timer::after(limit).await;
                None
            };
            match smol::future::or(async { Some(self.await) }, late).await {
                Some(output) => output,
                None => panic!("still pending after {limit:?}: {step}"),
            }
        }
    }
}

impl<F: Future> Within for F {}

/// Polls once, with a waker that does nothing.
pub(crate) fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Polls once and drops the future: what `select!` does to a branch that loses.
pub(crate) fn poll_and_drop<F: Future>(future: F) -> Poll<F::Output> {
    poll_once(pin!(future))
}

/// Waits until `condition` holds, for what the system reports in no other way.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    async {
        while !condition() {
            smol::Timer::after(Duration::from_millis(2)).await;
        }
    }
    .within(what)
    .await;
}

/// Writes, or tells that the writer is stopped.
///
/// A single write that has to wait may only wait for a completion that is under way; a writer is
/// stopped when it stays so.
pub(crate) async fn write_unless_stopped(writer: &mut impl Writing, data: &[u8]) -> Option<usize> {
    for _ in 0..10 {
        if let Poll::Ready(written) = writer.write_without_waiting(data).await {
            return Some(written.expect("the peer is there"));
        }
        smol::Timer::after(Duration::from_millis(2)).await;
    }
    None
}

/// Writes until nothing more is accepted; returns how many bytes were accepted.
pub(crate) async fn write_until_stopped(writer: &mut impl Writing, data: &mut StreamData) -> usize {
    let mut accepted = 0;
    async {
        while let Some(written) = write_unless_stopped(writer, data.peek(48 * 1024)).await {
            accepted += written;
            data.advance(written);
            assert!(accepted < 64 << 20, "nobody reads, yet {accepted} bytes were accepted");
        }
    }
    .within("the writer is stopped")
    .await;
    accepted
}

/// Waits until its waker is called. It blocks no thread: the caller's may be the one that the
/// wake-up comes from.
pub(crate) struct Alarm {
    rung: smol::channel::Receiver<()>,
}

impl Alarm {
    pub(crate) fn new() -> (Self, Waker) {
        let (bell, rung) = smol::channel::bounded(1);
        (Self { rung }, Waker::from(Arc::new(Bell(bell))))
    }

    pub(crate) async fn wait(&self, for_what: &str) {
        self.rung.recv().within(for_what).await.expect("the waker is there");
    }
}

struct Bell(smol::channel::Sender<()>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        // Refused if it has rung already.
        let _ = self.0.try_send(());
    }
}

/// What the closure returns, or its panic, from a thread of its own, which has ended by then. It
/// blocks no thread meanwhile.
pub(crate) async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (end, ended) = smol::channel::bounded::<()>(1);
    let thread = std::thread::spawn(move || {
        let _closed_at_the_end = end;
        work()
    });
    let _ = ended.recv().within("the end of a thread").await;
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Uses a foreign handle, whose calls block, on a thread of its own.
pub(crate) async fn with_foreign<T: Send + 'static>(
    pipe: &File,
    work: impl FnOnce(&mut File) -> io::Result<T> + Send + 'static,
) -> T {
    let mut pipe = pipe.try_clone().expect("a handle can be duplicated");
    on_a_thread(move || work(&mut pipe)).await.expect("a call of the foreign end")
}

/// A connected pair made with these options.
pub(crate) async fn pair_with<F: Family>(
    server: &ServerOptions,
    client: &ClientOptions,
) -> (F::Server, F::Client) {
    let name = unique_name();
    let server = F::create(server, &name).expect("the pipe can be created");
    let client = F::open(client, &name).expect("the pipe can be opened");
    server.connect().within("connect with the client already there").await.expect("connect");
    (server, client)
}

/// A connected pair in byte mode.
pub(crate) async fn pair<F: Family>() -> (F::Server, F::Client) {
    pair_with::<F>(&ServerOptions::new(), &ClientOptions::new()).await
}

/// The quota of most pipes on a Windows system. It stops a writer earlier than our default does.
pub(crate) const USUAL_QUOTA: u32 = 64 * 1024;

/// A connected pair whose both ends write and read messages, with the usual quota.
pub(crate) async fn message_pair<F: Family>() -> (F::Server, F::Client) {
    pair_with::<F>(
        ServerOptions::new()
            .pipe_mode(npipe::PipeMode::Message)
            .in_buffer_size(USUAL_QUOTA)
            .out_buffer_size(USUAL_QUOTA),
        ClientOptions::new().pipe_mode(npipe::PipeMode::Message),
    )
    .await
}

/// Asserts that the result is the system's error `code`, in number and in kind.
#[track_caller]
pub(crate) fn assert_os_error<T: std::fmt::Debug>(result: std::io::Result<T>, code: u32, situation: &str) {
    let error = match result {
        Ok(value) => panic!("{situation}: Ok({value:?}) instead of system error {code}"),
        Err(error) => error,
    };
    assert_eq!(error.raw_os_error(), Some(code as i32), "{situation}: {error:?}");
    let kind = std::io::Error::from_raw_os_error(code as i32).kind();
    assert_eq!(error.kind(), kind, "{situation}: {error:?}");
}
