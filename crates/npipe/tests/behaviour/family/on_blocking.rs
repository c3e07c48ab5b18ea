//! The blocking face, made into futures by threads: each call runs on one, and its future waits for
//! that. So a future may be polled late or never, but one that is dropped does not end its call.
//! The futures run on smol.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex, OnceLock, mpsc};

use npipe::blocking::{Canceller, PipeListener, PipeStream};

use super::*;

pub(crate) struct Blocking;

/// A client, or a half of an end.
#[derive(Debug)]
pub(crate) struct BlockingStream(Arc<PipeStream>);

/// A server instance: a listener until its client has come.
#[derive(Debug)]
pub(crate) struct BlockingServer {
    instance: Arc<Instance>,
    /// Ends the accept that a dropped `connect` has left behind. `None` for a handle that was made
    /// elsewhere.
    canceller: Option<Canceller>,
}

#[derive(Debug, Default)]
struct Instance {
    /// Locked by the one who accepts.
    listener: Mutex<Option<PipeListener>>,
    stream: OnceLock<Arc<PipeStream>>,
}

impl Instance {
    fn accept(&self) -> io::Result<()> {
        let mut listener = self.listener.lock().unwrap();
        if let Some(listening) = &*listener {
            let stream = listening.accept()?;
            self.stream.set(Arc::new(stream)).expect("only here, under the lock");
            // With its next instance: this one is all that the body has created.
            *listener = None;
        }
        Ok(())
    }
}

/// What reads and writes like a `PipeStream`.
trait Streaming: Send + Sync + 'static {
    fn stream(&self) -> &Arc<PipeStream>;
}

impl Streaming for BlockingStream {
    fn stream(&self) -> &Arc<PipeStream> {
        &self.0
    }
}

impl Streaming for BlockingServer {
    fn stream(&self) -> &Arc<PipeStream> {
        self.instance.stream.get().expect("bodies connect first: a listener is no stream")
    }
}

type Call = Box<dyn FnOnce(&dyn Fn()) + Send>;

/// Threads that have nothing to do. As many come to be as there are calls at once; none ends,
/// because Wine cancels the operations of a thread that does.
static IDLE: Mutex<Vec<mpsc::Sender<Call>>> = Mutex::new(Vec::new());

/// Runs a call that waits.
async fn on_a_thread<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    let (result, output) = smol::channel::bounded(1);
    let call = Box::new(move |idle: &dyn Fn()| {
        let output = call();
        // First, so that whoever goes on because of the result finds this thread.
        idle();
        let _ = result.try_send(output);
    });
    let idle = IDLE.lock().unwrap().pop();
    idle.unwrap_or_else(start_thread).send(call).expect("the threads do not end");
    output.recv().await.expect("the call did not panic")
}

fn start_thread() -> mpsc::Sender<Call> {
    let (sender, calls) = mpsc::channel::<Call>();
    let own = sender.clone();
    std::thread::spawn(move || {
        for call in calls {
            call(&|| IDLE.lock().unwrap().push(own.clone()));
        }
    });
    sender
}

/// Reads into a buffer of the thread's.
async fn read(stream: &Arc<PipeStream>, buffer: &mut [u8]) -> io::Result<usize> {
    let stream = stream.clone();
    let mut received = vec![0; buffer.len()];
    let (result, received) = on_a_thread(move || ((&*stream).read(&mut received), received)).await;
    let count = result?;
    buffer[..count].copy_from_slice(&received[..count]);
    Ok(count)
}

impl<S: Streaming> Reading for S {
    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read(self.stream(), buffer).await
    }

    async fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let stream = self.stream().clone();
        let mut received: Vec<_> = buffers.iter().map(|buffer| vec![0; buffer.len()]).collect();
        let (result, received) = on_a_thread(move || {
            let mut slices: Vec<_> = received.iter_mut().map(|part| IoSliceMut::new(part)).collect();
            ((&*stream).read_vectored(&mut slices), received)
        })
        .await;
        for (buffer, part) in buffers.iter_mut().zip(received) {
            buffer.copy_from_slice(&part);
        }
        result
    }
}

impl<S: Streaming> Writing for S {
    async fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let (stream, data) = (self.stream().clone(), data.to_vec());
        on_a_thread(move || (&*stream).write(&data)).await
    }

    async fn write_vectored(&mut self, data: &[IoSlice<'_>]) -> io::Result<usize> {
        let stream = self.stream().clone();
        let data: Vec<_> = data.iter().map(|slice| slice.to_vec()).collect();
        on_a_thread(move || {
            let slices: Vec<_> = data.iter().map(|part| IoSlice::new(part)).collect();
            (&*stream).write_vectored(&slices)
        })
        .await
    }

    /// With a time-out: one that is over before anything was taken is that of a writer who would
    /// have to wait.
    async fn write_without_waiting(&mut self, data: &[u8]) -> Poll<io::Result<usize>> {
        let (stream, data) = (self.stream().clone(), data.to_vec());
        on_a_thread(move || {
            if let Err(error) = stream.set_write_timeout(Some(Duration::from_millis(2))) {
                return Poll::Ready(Err(error));
            }
            let written = match (&*stream).write(&data) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => Poll::Pending,
                result => Poll::Ready(result),
            };
            stream.set_write_timeout(None).expect("no time-out can always be had");
            written
        })
        .await
    }

    async fn flush(&mut self) -> io::Result<()> {
        let stream = self.stream().clone();
        on_a_thread(move || (&*stream).flush()).await
    }

    async fn finish(&mut self) -> io::Result<()> {
        self.flush().await
    }
}

impl<S: Streaming + AsHandle + Debug> End for S {
    type Reader = BlockingStream;
    type Writer = BlockingStream;

    fn split(self) -> (BlockingStream, BlockingStream) {
        let half = || BlockingStream(Arc::new(self.stream().try_clone().expect("a stream can be cloned")));
        (half(), half())
    }

    fn info(&self) -> io::Result<PipeInfo> {
        self.stream().info()
    }

    fn security_descriptor(&self) -> io::Result<SecurityDescriptor> {
        self.stream().security_descriptor()
    }

    fn peer(&self) -> io::Result<Peer> {
        self.stream().peer()
    }

    async fn read_by_reference(&self, buffer: &mut [u8]) -> io::Result<usize> {
        read(self.stream(), buffer).await
    }

    async fn recv_message(&self, buffer: &mut BytesMut, limit: usize) -> io::Result<Option<usize>> {
        let (stream, mut received) = (self.stream().clone(), std::mem::take(buffer));
        let (result, received) =
            on_a_thread(move || (stream.recv_message_limited(&mut received, limit), received)).await;
        *buffer = received;
        result
    }

    async fn send_message(&self, message: &[u8]) -> io::Result<()> {
        let (stream, message) = (self.stream().clone(), message.to_vec());
        on_a_thread(move || stream.send_message(&message)).await
    }

    fn is_message_complete(&self) -> bool {
        self.stream().is_message_complete()
    }

    fn peek(&self) -> io::Result<Peek> {
        self.stream().peek()
    }

    fn set_empty_message_is_end(&self, is_end: bool) -> io::Result<()> {
        self.stream().set_empty_message_is_end(is_end)
    }

    async fn close_write(&self, patience: Duration) -> io::Result<()> {
        let stream = self.stream().clone();
        on_a_thread(move || stream.close_write(patience)).await
    }

    async fn drain(&self) -> io::Result<()> {
        let stream = self.stream().clone();
        on_a_thread(move || stream.drain()).await
    }
}

impl<S: Streaming> Exchanging for S {
    async fn transact(&mut self, request: &[u8], reply: &mut BytesMut) -> io::Result<usize> {
        let (stream, request) = (self.stream().clone(), request.to_vec());
        let mut received = std::mem::take(reply);
        let (result, received) =
            on_a_thread(move || (stream.transact(&request, &mut received), received)).await;
        *reply = received;
        result
    }
}

impl AsHandle for BlockingStream {
    fn as_handle(&self) -> BorrowedHandle<'_> {
        self.0.as_handle()
    }
}

impl AsHandle for BlockingServer {
    fn as_handle(&self) -> BorrowedHandle<'_> {
        self.stream().as_handle()
    }
}

impl ServerEnd for BlockingServer {
    async fn connect(&self) -> io::Result<()> {
        let instance = self.instance.clone();
        on_a_thread(move || instance.accept()).await
    }

    fn disconnect(&self) -> io::Result<()> {
        self.stream().disconnect()
    }

    fn set_security_descriptor(&self, descriptor: &npipe::SecurityDescriptor) -> io::Result<()> {
        self.stream().set_security_descriptor(descriptor)
    }

    fn impersonate<T>(&self, act: impl FnOnce(&npipe::Impersonation) -> io::Result<T>) -> io::Result<T> {
        self.stream().impersonate(act)
    }

    fn client_user(&self) -> io::Result<npipe::Sid> {
        self.stream().client_user()
    }
}

impl Drop for BlockingServer {
    fn drop(&mut self) {
        if let Some(canceller) = &self.canceller {
            canceller.cancel();
        }
    }
}

impl BlockingServer {
    fn listening(listener: PipeListener) -> Self {
        let canceller = Some(listener.canceller());
        let instance = Instance { listener: Mutex::new(Some(listener)), stream: OnceLock::new() };
        Self { instance: Arc::new(instance), canceller }
    }

    fn connected(stream: PipeStream) -> Self {
        let instance = Instance { listener: Mutex::default(), stream: OnceLock::from(Arc::new(stream)) };
        Self { instance: Arc::new(instance), canceller: None }
    }
}

#[derive(Clone)]
pub(crate) struct BlockingListener(Arc<PipeListener>);

impl Listening<BlockingServer> for BlockingListener {
    async fn accept(&mut self) -> io::Result<BlockingServer> {
        let listener = self.0.clone();
        on_a_thread(move || listener.accept()).await.map(BlockingServer::connected)
    }
}

impl Listener<BlockingServer> for BlockingListener {
    fn local_name(&self) -> PipeName {
        self.0.local_name().clone()
    }

    fn stop_listening(&self) {
        self.0.stop_listening();
    }

    fn close(&self) {
        self.0.close();
    }
}

impl ListeningFamily for Blocking {
    async fn connect(options: &ClientOptions, name: &str) -> io::Result<BlockingStream> {
        let (options, name) = (options.clone(), name.to_owned());
        on_a_thread(move || options.connect_blocking(name))
            .await
            .map(|stream| BlockingStream(Arc::new(stream)))
    }

    async fn listen_timeout(
        options: &ServerOptions,
        name: &str,
        timeout: Duration,
    ) -> io::Result<BlockingListener> {
        let (options, name) = (options.clone(), name.to_owned());
        on_a_thread(move || options.listen_blocking_timeout(name, timeout))
            .await
            .map(|listener| BlockingListener(Arc::new(listener)))
    }
}

impl Family for Blocking {
    type Server = BlockingServer;
    type Client = BlockingStream;
    type Listener = BlockingListener;

    const COST: u32 = 4;

    /// A listener wants to be the first of its name unless told otherwise, and to have several
    /// instances; bodies create many of one name, each with one.
    fn create(options: &ServerOptions, name: impl AsRef<OsStr>) -> io::Result<BlockingServer> {
        options
            .clone()
            .first_pipe_instance(false)
            .backlog(1)
            .listen_blocking(name)
            .map(BlockingServer::listening)
    }

    fn create_first(options: &ServerOptions, name: impl AsRef<OsStr>) -> io::Result<BlockingServer> {
        options.clone().backlog(1).listen_blocking(name).map(BlockingServer::listening)
    }

    fn listen(options: &ServerOptions, name: &str) -> io::Result<BlockingListener> {
        options.listen_blocking(name).map(|listener| BlockingListener(Arc::new(listener)))
    }

    /// `PipeStream::connect` would wait for a free instance.
    fn open(options: &ClientOptions, name: impl AsRef<OsStr>) -> io::Result<BlockingStream> {
        options
            .clone()
            .connect_timeout(Some(Duration::ZERO))
            .connect_blocking(name)
            .map(|stream| BlockingStream(Arc::new(stream)))
    }

    /// Waiting for no time at all is over, then.
    fn is_busy(error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::TimedOut
    }

    fn adopt_server(handle: OwnedHandle) -> io::Result<BlockingServer> {
        sys::adopt_blocking(handle).map(BlockingServer::connected)
    }

    fn adopt_client(handle: OwnedHandle) -> io::Result<BlockingStream> {
        sys::adopt_blocking(handle).map(|stream| BlockingStream(Arc::new(stream)))
    }

    /// It needs a port only for writes with a time-out.
    const TIES_HANDLES_TO_A_PORT: bool = false;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        executor::block_on(future)
    }

    fn spawn<T: Send + 'static>(
        future: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = T> + Send + Unpin {
        executor::spawn(future)
    }
}
