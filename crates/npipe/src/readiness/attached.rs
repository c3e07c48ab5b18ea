//! A pipe on the port of a poll: turns "pending, and your waker will be called" into "would block,
//! and an event will come".
//!
//! The pipe itself is a [`Stream`], as in the async face. Its wakers are bells, which put what has
//! become ready on the poll's list.

use std::io;
use std::mem;
use std::sync::Weak;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use bytes::BytesMut;

use super::queue::{Queue, Registration};
use crate::coop;
use crate::error::is_message_too_long;
use crate::info::PipeEnd;
use crate::interest::{Interest, Ready};
use crate::machine::verdict::Client;
use crate::stream::{Destination, Drain, Key, LingerTime, Settings, Source, Stream};
use crate::sync::{Arc, Mutex, MutexGuard, lock};
use crate::sys::OwnedHandle;
use crate::trace::PipeSpan;

pub(super) struct Attached {
    stream: Stream,
    registration: Arc<Registration>,
    connection: Mutex<Connection>,
    /// The drain that is under way, and since when.
    drain: Mutex<Option<(Drain, Instant)>>,
    reading: Waker,
    writing: Waker,
    connecting: Waker,
}

/// How far a server end is with its client; a client's end is [`Made`](Self::Made).
enum Connection {
    /// No client has come, or one left without sending anything, and no `connect` waits for one.
    Unasked,
    /// A `connect` is under way.
    Asked,
    /// A `connect` has failed, and nobody has been told why.
    Failed(io::Error),
    /// There is a peer or there has been one: the system knows.
    Made,
}

/// What a pipe's waker stands for.
#[derive(Clone, Copy)]
enum Part {
    Reading,
    Writing,
    Connecting,
}

/// A waker of a pipe. The pipe holds its bells, so they do not hold the pipe.
struct Bell {
    pipe: Weak<Attached>,
    part: Part,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let Some(pipe) = self.pipe.upgrade() else { return };
        match self.part {
            Part::Connecting => pipe.connect_goes_on(),
            // What the last connection left behind is no news for those who wait for the next.
            Part::Reading | Part::Writing if pipe.is_without_client() => {}
            // Without a look: a read that has yielded goes on with the event.
            Part::Reading => pipe.show_readable(pipe.stream.is_read_ended()),
            Part::Writing => pipe.registration.show(Ready::WRITABLE),
        }
    }
}

fn would_block<T>() -> io::Result<T> {
    Err(io::ErrorKind::WouldBlock.into())
}

impl Attached {
    /// Ties a pipe to the port of a poll, not registered yet.
    pub(super) fn new(
        handle: &Arc<OwnedHandle>,
        settings: Settings,
        linger: LingerTime,
        span: &mut PipeSpan,
        queue: &Arc<Queue>,
    ) -> io::Result<Arc<Self>> {
        let mut stream = queue.admit(handle.clone(), settings)?;
        stream.take_span(span);
        stream.set_linger(linger);
        // Whoever polls may turn to something else after its last write, and that write has to arrive.
        stream.stop_queueing();
        let connection = match stream.client() {
            Client::Here => Connection::Made,
            // A handle that was made elsewhere may have had its client there.
            Client::Left | Client::Unknown if settings.before.is_none() => Connection::Made,
            Client::Left | Client::Unknown | Client::Missing => Connection::Unasked,
        };
        if matches!(connection, Connection::Made) && settings.end == PipeEnd::Server {
            stream.span().connected();
        }
        Ok(Arc::new_cyclic(|pipe| {
            let bell = |part| Waker::from(Arc::new(Bell { pipe: pipe.clone(), part }));
            Self {
                stream,
                registration: Registration::new(queue.clone()),
                connection: Mutex::new(connection),
                drain: Mutex::new(None),
                reading: bell(Part::Reading),
                writing: bell(Part::Writing),
                connecting: bell(Part::Connecting),
            }
        }))
    }

    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    pub(super) fn registration(&self) -> &Arc<Registration> {
        &self.registration
    }

    /// Shows what is ready now, and sees to it that what becomes so is shown.
    pub(super) fn show_readiness(&self, interest: Interest) {
        if self.is_without_client() {
            return;
        }
        self.arm_reading(interest);
        self.arm_writing(interest);
    }

    fn arm_reading(&self, interest: Interest) {
        if !interest.is_readable() {
            return;
        }
        let context = Context::from_waker(&self.reading);
        if let Poll::Ready(readable) = self.stream.poll_readable(&context, Key::POLL, None) {
            self.show_readable(readable.ended);
        }
    }

    fn arm_writing(&self, interest: Interest) {
        if !interest.is_writable() {
            return;
        }
        let context = Context::from_waker(&self.writing);
        if self.stream.poll_writable(&context, Key::POLL, None).is_ready() {
            self.registration.show(Ready::WRITABLE);
        }
    }

    fn show_readable(&self, ended: bool) {
        let closed = if ended { Ready::READ_CLOSED } else { Ready::EMPTY };
        self.registration.show(Ready::READABLE | closed);
    }

    pub(super) fn read(&self, destination: &mut dyn Destination) -> io::Result<usize> {
        let room = destination.room();
        if room == 0 {
            return Ok(0);
        }
        let used_up = self.registration.use_up(Ready::READABLE | Ready::READ_CLOSED);
        let Some(interest) = used_up else { return would_block() };
        if self.is_without_client() {
            return would_block();
        }
        match self.stream.poll_read(&Context::from_waker(&self.reading), destination) {
            Poll::Pending => would_block(),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(count)) => {
                match count {
                    // Whether there is more is cheaper to find out by the next read, into the caller's
                    // buffer.
                    count if count == room => self.show_readable(false),
                    0 if self.stream.is_read_over() => {}
                    _ => self.arm_reading(interest),
                }
                Ok(count)
            }
        }
    }

    pub(super) fn write(&self, source: &dyn Source) -> io::Result<usize> {
        let Some(interest) = self.registration.use_up(Ready::WRITABLE) else { return would_block() };
        match self.stream.poll_write(&Context::from_waker(&self.writing), source) {
            Poll::Pending => would_block(),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(count)) => {
                self.has_written();
                self.arm_writing(interest);
                Ok(count)
            }
        }
    }

    pub(super) fn recv_message(&self, buffer: &mut BytesMut, limit: usize) -> io::Result<Option<usize>> {
        let used_up = self.registration.use_up(Ready::READABLE | Ready::READ_CLOSED);
        let Some(interest) = used_up else { return would_block() };
        if self.is_without_client() {
            return would_block();
        }
        let context = Context::from_waker(&self.reading);
        // A program that receives until it would block gets to its other events, however many
        // messages there are.
        let received = coop::poll_in_run(&context, |context| {
            self.stream.poll_recv_message(context, Key::POLL, buffer, limit)
        });
        match received {
            Poll::Pending => would_block(),
            Poll::Ready(Err(error)) if !is_message_too_long(&error) => Err(error),
            Poll::Ready(Ok(None)) => Ok(None),
            Poll::Ready(received) => {
                self.arm_reading(interest);
                received
            }
        }
    }

    pub(super) fn send_message(&self, message: &[u8]) -> io::Result<()> {
        let Some(interest) = self.registration.use_up(Ready::WRITABLE) else { return would_block() };
        match self.stream.poll_send_message(&Context::from_waker(&self.writing), Key::POLL, message) {
            Poll::Pending => would_block(),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(())) => {
                self.has_written();
                self.arm_writing(interest);
                Ok(())
            }
        }
    }

    pub(super) fn close_write(&self) -> io::Result<()> {
        self.stream.require_messages()?;
        self.drain()?;
        match self.stream.poll_end_write(&Context::from_waker(&self.writing), Key::POLL) {
            Poll::Pending => would_block(),
            Poll::Ready(result) => result,
        }
    }

    pub(super) fn flush(&self) -> io::Result<()> {
        match self.stream.poll_flush(&Context::from_waker(&self.writing), Key::POLL) {
            Poll::Pending => would_block(),
            Poll::Ready(result) => result,
        }
    }

    pub(super) fn drain(&self) -> io::Result<()> {
        self.flush()?;
        let mut under_way = lock(&self.drain);
        let (drain, began) = under_way.get_or_insert_with(|| (self.stream.start_drain(), Instant::now()));
        match drain.poll(&Context::from_waker(&self.writing)) {
            Poll::Pending => would_block(),
            Poll::Ready(result) => {
                let elapsed = began.elapsed();
                *under_way = None;
                drop(under_way);
                self.stream.span().drained(&result, elapsed);
                result
            }
        }
    }

    /// No lock is held while the stream is polled: it calls the waker at once if a client comes
    /// meanwhile.
    pub(super) fn connect(&self) -> io::Result<()> {
        let mut is_new = false;
        if self.stream.settings().end == PipeEnd::Server {
            let before = mem::replace(&mut *lock(&self.connection), Connection::Asked);
            is_new = !matches!(before, Connection::Made);
            self.registration.forget();
        }
        match self.stream.poll_connect(&Context::from_waker(&self.connecting), Key::POLL) {
            Poll::Pending => would_block(),
            Poll::Ready(Ok(())) => {
                *lock(&self.connection) = Connection::Made;
                if is_new {
                    self.stream.span().connected();
                }
                self.show_connected();
                Ok(())
            }
            Poll::Ready(Err(error)) => {
                lock(&self.connection).give_up();
                Err(error)
            }
        }
    }

    /// There is news for a `connect` that is under way.
    fn connect_goes_on(&self) {
        if !self.is_asked() {
            return;
        }
        let Poll::Ready(connected) =
            self.stream.poll_connect(&Context::from_waker(&self.connecting), Key::POLL)
        else {
            return;
        };
        let mut connection = lock(&self.connection);
        if !matches!(*connection, Connection::Asked) {
            // The `connect` is over: it got a client itself, or a `disconnect` ended it.
            return;
        }
        match connected {
            Ok(()) => {
                *connection = Connection::Made;
                drop(connection);
                self.stream.span().connected();
                self.show_connected();
            }
            Err(error) => {
                *connection = Connection::Failed(error);
                drop(connection);
                self.registration.show_connected(Ready::ERROR);
            }
        }
    }

    fn is_asked(&self) -> bool {
        matches!(*lock(&self.connection), Connection::Asked)
    }

    fn show_connected(&self) {
        self.registration.show_connected(Ready::EMPTY);
        if let Some(interest) = self.registration.interest() {
            self.arm_reading(interest);
        }
    }

    pub(super) fn disconnect(&self) -> io::Result<()> {
        if self.stream.settings().end == PipeEnd::Client {
            return self.stream.disconnect();
        }
        let drain = lock(&self.drain).take();
        drop(drain);
        let mut connection = lock(&self.connection);
        connection.give_up();
        let result = self.stream.disconnect();
        self.registration.forget();
        result
    }

    pub(super) fn take_error(&self) -> Option<io::Error> {
        lock(&self.connection).take_error()
    }

    /// A write was accepted. So there is a client, also without a `connect`, and it has more to
    /// read than a drain in flight waits for.
    fn has_written(&self) {
        let drain = lock(&self.drain).take();
        drop(drain);
        self.found_client(lock(&self.connection));
    }

    /// A client is there. If no `connect` asked for it, this is the first that is known of it.
    fn found_client(&self, mut connection: MutexGuard<'_, Connection>) {
        if matches!(*connection, Connection::Unasked) {
            *connection = Connection::Made;
            drop(connection);
            self.stream.span().connected();
        }
    }

    /// Whether reading has nothing to report before a client comes, not even an error: `connect`
    /// will tell.
    fn is_without_client(&self) -> bool {
        let connection = lock(&self.connection);
        if matches!(*connection, Connection::Unasked) && self.stream.client() == Client::Here {
            self.found_client(connection);
            return false;
        }
        !matches!(*connection, Connection::Made)
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // No event tells of a pipe that is gone.
        let _ = self.registration.deregister();
    }
}

impl Connection {
    /// The `connect` that was under way, if one was, is over without a client.
    fn give_up(&mut self) {
        if matches!(self, Self::Asked | Self::Failed(_)) {
            *self = Self::Unasked;
        }
    }

    fn take_error(&mut self) -> Option<io::Error> {
        match mem::replace(self, Self::Unasked) {
            Self::Failed(error) => Some(error),
            other => {
                *self = other;
                None
            }
        }
    }
}
