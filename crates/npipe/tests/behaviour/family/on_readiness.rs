//! The readiness face, made into futures in the plainest way: an operation that would block waits
//! for the next event of its direction and tries again. Nothing else wakes it, so an event that
//! does not come is a test that hangs. One `Poll`, on a thread of its own, serves all pipes of the
//! process; the futures run on smol.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use npipe::readiness::{Events, Interest, NamedPipe, Poll as PipePoll, Registry, Token};

use super::*;

pub(crate) struct Readiness;

/// A pipe, or a half of one: the halves share it, as `&NamedPipe` reads and writes.
#[derive(Clone, Debug)]
pub(crate) struct ReadinessStream(Arc<Registered>);

#[derive(Debug)]
struct Registered {
    pipe: NamedPipe,
    token: Token,
    events: Arc<PipeEvents>,
}

/// The events of one pipe.
#[derive(Debug, Default)]
struct PipeEvents {
    reading: Direction,
    writing: Direction,
}

#[derive(Debug, Default)]
struct Direction(Mutex<DirectionState>);

#[derive(Debug, Default)]
struct DirectionState {
    /// How many there have been.
    events: u64,
    /// How many there had been before the last attempt.
    events_before_attempt: u64,
    waiting: Vec<Waker>,
}

/// The thread that polls, as its pipes see it.
struct Poller {
    registry: Registry,
    pipes: Mutex<HashMap<Token, Arc<PipeEvents>>>,
}

static POLLER: LazyLock<Poller> = LazyLock::new(|| {
    let mut poll = PipePoll::new().expect("a poll can be made");
    let registry = poll.registry().try_clone().expect("a registry can be cloned");
    std::thread::spawn(move || {
        let mut events = Events::with_capacity(64);
        loop {
            poll.poll(&mut events, None).expect("the poll can be waited on");
            for event in &events {
                // None: an event of a pipe that was dropped since.
                let Some(pipe) = POLLER.pipes.lock().unwrap().get(&event.token()).cloned() else { continue };
                if event.is_readable() {
                    pipe.reading.count();
                }
                if event.is_writable() {
                    pipe.writing.count();
                }
            }
        }
    });
    Poller { registry, pipes: Mutex::default() }
});

impl Direction {
    fn count(&self) {
        let waiting = {
            let mut state = self.0.lock().unwrap();
            state.events += 1;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Calls until it would not block, each time that there was an event.
    async fn attempt<T>(&self, mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        loop {
            let before = {
                let mut state = self.0.lock().unwrap();
                state.events_before_attempt = state.events;
                state.events
            };
            match call() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.event_after(before).await,
                result => return result,
            }
        }
    }

    /// Waits for an event since the last attempt.
    async fn event(&self) {
        let before = self.0.lock().unwrap().events_before_attempt;
        self.event_after(before).await;
    }

    /// Waits until there have been more events than that.
    async fn event_after(&self, before: u64) {
        poll_fn(|context| {
            let mut state = self.0.lock().unwrap();
            if state.events > before {
                return Poll::Ready(());
            }
            if !state.waiting.iter().any(|waiting| waiting.will_wake(context.waker())) {
                state.waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

impl ReadinessStream {
    fn register(mut pipe: NamedPipe) -> io::Result<Self> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let token = Token(NEXT.fetch_add(1, Ordering::Relaxed));
        let events = Arc::new(PipeEvents::default());
        POLLER.pipes.lock().unwrap().insert(token, events.clone());
        let registered = POLLER.registry.register(&mut pipe, token, Interest::READABLE | Interest::WRITABLE);
        // Made in either case, so that the token is forgotten with it.
        let stream = Self(Arc::new(Registered { pipe, token, events }));
        registered.map(|()| stream)
    }

    fn pipe(&self) -> &NamedPipe {
        &self.0.pipe
    }

    fn reading(&self) -> &Direction {
        &self.0.events.reading
    }

    fn writing(&self) -> &Direction {
        &self.0.events.writing
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        POLLER.pipes.lock().unwrap().remove(&self.token);
    }
}

impl Reading for ReadinessStream {
    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_by_reference(buffer).await
    }

    async fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.reading().attempt(|| self.pipe().read_vectored(buffers)).await
    }
}

impl Writing for ReadinessStream {
    async fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.writing().attempt(|| self.pipe().write(data)).await
    }

    async fn write_vectored(&mut self, data: &[IoSlice<'_>]) -> io::Result<usize> {
        self.writing().attempt(|| self.pipe().write_vectored(data)).await
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.writing().attempt(|| self.pipe().flush()).await
    }

    async fn finish(&mut self) -> io::Result<()> {
        self.flush().await
    }
}

impl AsHandle for ReadinessStream {
    fn as_handle(&self) -> BorrowedHandle<'_> {
        self.pipe().as_handle()
    }
}

impl End for ReadinessStream {
    type Reader = Self;
    type Writer = Self;

    fn split(self) -> (Self, Self) {
        (self.clone(), self)
    }

    fn info(&self) -> io::Result<PipeInfo> {
        self.pipe().info()
    }

    fn security_descriptor(&self) -> io::Result<SecurityDescriptor> {
        self.pipe().security_descriptor()
    }

    fn peer(&self) -> io::Result<Peer> {
        self.pipe().peer()
    }

    async fn read_by_reference(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reading().attempt(|| self.pipe().read(buffer)).await
    }

    async fn recv_message(&self, buffer: &mut BytesMut, limit: usize) -> io::Result<Option<usize>> {
        self.reading().attempt(|| self.pipe().recv_message_limited(buffer, limit)).await
    }

    async fn send_message(&self, message: &[u8]) -> io::Result<()> {
        self.writing().attempt(|| self.pipe().send_message(message)).await
    }

    fn is_message_complete(&self) -> bool {
        self.pipe().is_message_complete()
    }

    fn peek(&self) -> io::Result<Peek> {
        self.pipe().peek()
    }

    fn set_empty_message_is_end(&self, is_end: bool) -> io::Result<()> {
        self.pipe().set_empty_message_is_end(is_end)
    }

    async fn close_write(&self, _: Duration) -> io::Result<()> {
        self.writing().attempt(|| self.pipe().close_write()).await
    }

    async fn drain(&self) -> io::Result<()> {
        self.writing().attempt(|| self.pipe().drain()).await
    }
}

impl Lingering for ReadinessStream {
    fn set_linger(&self, linger: Option<Duration>) {
        self.pipe().set_linger(linger);
    }

    fn linger(&self) -> Option<Duration> {
        self.pipe().linger()
    }
}

impl ServerEnd for ReadinessStream {
    async fn connect(&self) -> io::Result<()> {
        self.writing()
            .attempt(|| match self.pipe().take_error()? {
                Some(error) => Err(error),
                None => self.pipe().connect(),
            })
            .await
    }

    fn disconnect(&self) -> io::Result<()> {
        self.pipe().disconnect()
    }

    fn set_security_descriptor(&self, descriptor: &npipe::SecurityDescriptor) -> io::Result<()> {
        self.pipe().set_security_descriptor(descriptor)
    }

    fn impersonate<T>(&self, act: impl FnOnce(&npipe::Impersonation) -> io::Result<T>) -> io::Result<T> {
        self.pipe().impersonate(act)
    }

    fn client_user(&self) -> io::Result<npipe::Sid> {
        self.pipe().client_user()
    }
}

impl Waiting for ReadinessStream {
    async fn readable(&self) -> io::Result<()> {
        self.reading().event().await;
        Ok(())
    }

    async fn writable(&self) -> io::Result<()> {
        self.writing().event().await;
        Ok(())
    }
}

impl Family for Readiness {
    type Server = ReadinessStream;
    type Client = ReadinessStream;
    type Listener = InstanceLoop<Self>;

    const COST: u32 = 4;

    fn create(options: &ServerOptions, name: impl AsRef<OsStr>) -> io::Result<ReadinessStream> {
        ReadinessStream::register(NamedPipe::create(options, name)?)
    }

    fn listen(options: &ServerOptions, name: &str) -> io::Result<Self::Listener> {
        InstanceLoop::start(options, name)
    }

    fn open(options: &ClientOptions, name: impl AsRef<OsStr>) -> io::Result<ReadinessStream> {
        ReadinessStream::register(NamedPipe::open(options, name)?)
    }

    fn adopt_server(handle: OwnedHandle) -> io::Result<ReadinessStream> {
        ReadinessStream::register(NamedPipe::try_from(handle)?)
    }

    fn adopt_client(handle: OwnedHandle) -> io::Result<ReadinessStream> {
        ReadinessStream::register(NamedPipe::try_from(handle)?)
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        executor::block_on(future)
    }

    fn spawn<T: Send + 'static>(
        future: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = T> + Send + Unpin {
        executor::spawn(future)
    }
}

impl NonBlockingFamily for Readiness {}
