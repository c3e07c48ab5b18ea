//! Reading and writing. Reads go straight into the caller's buffer and writes straight out of it,
//! except for writes with a time-out: those are the driver's, since they may outlive the call.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::PipeStream;
use super::timeout::{cancelled, cut_short, passed_over, timed_out};
use crate::driver::{BlockingFlush, Driver};
use crate::halves::{OwnedReadHalf, OwnedWriteHalf};
use crate::machine::{total_length, verdict};
use crate::stream::{Limit, Slice, Slices, Stream, Submitting, unread};
use crate::sys::{self, Cut};

/// How often a thread that waits on the port looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(50);

/// What one read brought.
struct Part {
    bytes: usize,
    message_goes_on: bool,
}

impl PipeStream {
    /// Reads from the pipe into `buffer`, which must have room: a read of nothing would wait for
    /// data. `None`: the result is passed over.
    fn read_pipe(&self, buffer: &mut [u8], limit: Limit<'_>) -> io::Result<Option<Part>> {
        let waited = sys::read_waiting(self.stream.handle(), buffer, limit.until())?;
        let bytes = waited.outcome.bytes;
        let message_goes_on = match verdict::read(waited.outcome.code) {
            verdict::Read::MessageGoesOn => true,
            verdict::Read::Complete => false,
            // Cancelled behind a part of a message.
            verdict::Read::Aborted if bytes > 0 => self.stream.reads_messages(),
            verdict::Read::Aborted => {
                return match waited.cut {
                    Some(cut) => Err(cut_short(cut, "no data came until the time to read was over")),
                    // Cancelled elsewhere, with nothing taken.
                    None => Ok(None),
                };
            }
            verdict::Read::EndOfFile => {
                self.stream.on_thread_read(0, false);
                return Ok(Some(Part { bytes: 0, message_goes_on: false }));
            }
            verdict::Read::Failed(code) => return Err(system_error(code)),
        };
        if self.stream.on_thread_read(bytes, message_goes_on) {
            return Ok(Some(Part { bytes, message_goes_on }));
        }
        passed_over(limit).map(|()| None)
    }

    fn read_slice(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.reporting("read", || {
            if buffer.is_empty() {
                return Ok(0);
            }
            let limit = self.stream.timeouts().read_limit();
            loop {
                if let Some(bytes) = self.stream.read_rest(&mut Slice { bytes: buffer, filled: 0 })? {
                    return Ok(bytes);
                }
                if let Some(part) = self.read_pipe(buffer, limit)? {
                    return Ok(part.bytes);
                }
            }
        })
    }

    /// Bytes go into the first slice that has room, in one call; a message that is longer goes on
    /// in the next ones.
    fn read_slices(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.stream.reporting("read", || {
            let Some(first) = buffers.iter().position(|buffer| !buffer.is_empty()) else { return Ok(0) };
            let buffers = &mut buffers[first..];
            let limit = self.stream.timeouts().read_limit();
            let mut part = loop {
                if let Some(bytes) = self.stream.read_rest(&mut Slices::new(buffers))? {
                    return Ok(bytes);
                }
                if let Some(part) = self.read_pipe(&mut buffers[0], limit)? {
                    break part;
                }
            };
            let mut bytes = part.bytes;
            let mut buffers = buffers[1..].iter_mut().filter(|buffer| !buffer.is_empty());
            while part.message_goes_on {
                let Some(next) = buffers.next() else { break };
                // The rest of a message that has been begun is there, unless another thread took it.
                let Some(outcome) = sys::read_now(self.stream.handle(), next) else { break };
                bytes += outcome.bytes;
                part.message_goes_on = match verdict::read(outcome.code) {
                    verdict::Read::MessageGoesOn | verdict::Read::Aborted => true,
                    verdict::Read::Complete | verdict::Read::EndOfFile | verdict::Read::Failed(_) => false,
                };
                self.stream.on_thread_read(outcome.bytes, part.message_goes_on);
            }
            Ok(bytes)
        })
    }

    pub(super) fn write_slice(&self, bytes: &[u8]) -> io::Result<usize> {
        self.check_write(bytes.len())?;
        if bytes.is_empty() && !self.stream.writes_messages()? {
            // The system would accept it. On Windows the peer's read would end with nothing, which looks like
            // the end.
            return Ok(0);
        }
        if self.stream.timeouts().limit_writes() {
            return self.write_within(|stream| stream.try_write(&bytes));
        }
        self.settle(self.stream.timeouts().until(None))?;
        self.write_whole(bytes)
    }

    /// Refuses a write that will be refused when it is submitted, without waiting for earlier ones.
    fn check_write(&self, length: usize) -> io::Result<()> {
        self.stream.begin_write(length).map(drop)
    }

    /// Writes `bytes` for as long as that takes.
    pub(super) fn write_whole(&self, bytes: &[u8]) -> io::Result<usize> {
        let submitting = self.stream.begin_write(bytes.len())?;
        self.submit_whole(bytes, submitting)
    }

    pub(super) fn submit_whole(&self, bytes: &[u8], submitting: Submitting<'_>) -> io::Result<usize> {
        self.stream.reporting("write", || {
            let outcome = sys::write_waiting(self.stream.handle(), bytes, submitting)?;
            match verdict::write(outcome.code) {
                verdict::Write::Complete => Ok(outcome.bytes),
                verdict::Write::Failed(code) => Err(system_error(code)),
            }
        })
    }

    fn write_slices(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut filled = slices.iter().filter(|slice| !slice.is_empty());
        let first = filled.next().map_or(&[][..], |slice| slice);
        if filled.next().is_none() {
            return self.write_slice(first);
        }
        self.check_write(0)?;
        if self.stream.timeouts().limit_writes() {
            return self.write_within(|stream| stream.try_write(&slices));
        }
        let length = total_length(slices.iter().map(|slice| slice.len()));
        let limit = self.stream.settings().write_limit;
        if length <= limit {
            self.write_slice(&gather(slices, length))
        } else if self.stream.writes_messages()? {
            // Refused before the slices are copied.
            self.check_write(length)?;
            self.write_slice(&gather(slices, length))
        } else if first.len() >= limit {
            self.write_slice(first)
        } else {
            self.write_slice(&gather(slices, limit))
        }
    }

    /// Writes with a time-out or a canceller: `submit` copies, and may leave the write on its way.
    fn write_within(&self, submit: impl Fn(&Stream) -> io::Result<usize>) -> io::Result<usize> {
        let limit = self.stream.timeouts().write_limit();
        self.stream.tie(&Driver::global()?)?;
        let stream = &*self.stream;
        let accepted = loop {
            self.settle(limit)?;
            match submit(stream) {
                // Another thread was faster.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => break result?,
            }
        };
        match flush_within(stream, limit) {
            Some(Err(error)) => Err(error),
            // Cut short: it is on its way, and the next write waits for it.
            Some(Ok(())) | None => Ok(accepted),
        }
    }

    /// Waits for what an earlier write left on its way.
    pub(super) fn settle(&self, limit: Limit<'_>) -> io::Result<()> {
        flush_within(&self.stream, limit).unwrap_or_else(|| {
            Err(match limit.is_stopped() {
                true => cancelled("stream"),
                false => timed_out("an earlier write was still on its way when the time to write was over"),
            })
        })
    }

    pub(super) fn flush_accepted(&self) -> io::Result<()> {
        self.settle(self.stream.timeouts().write_limit())
    }

    /// Waits until the peer has read everything.
    pub(super) fn drain_until(&self, deadline: Option<Instant>) -> io::Result<()> {
        let began = Instant::now();
        let drained = self.wait_for_reader(deadline);
        self.stream.span().drained(&drained, began.elapsed());
        drained
    }

    fn wait_for_reader(&self, deadline: Option<Instant>) -> io::Result<()> {
        let limit = self.stream.timeouts().until(deadline);
        self.settle(limit)?;
        if limit.is_none() {
            return sys::flush_blocking(self.stream.handle());
        }
        loop {
            let waited = sys::flush_waiting(self.stream.handle(), limit.until())?;
            match verdict::flush(waited.outcome.code) {
                verdict::Flush::Complete => return Ok(()),
                verdict::Flush::Unsupported => return self.drain_on_a_thread(limit),
                verdict::Flush::Aborted => match waited.cut {
                    Some(Cut::Late) => return Err(unread()),
                    Some(Cut::Stopped) => return Err(cancelled("stream")),
                    // Cancelled by other code.
                    None => {}
                },
                verdict::Flush::Failed(code) => return Err(system_error(code)),
            }
        }
    }

    fn drain_on_a_thread(&self, limit: Limit<'_>) -> io::Result<()> {
        let mut flush = BlockingFlush::start(self.stream.shared_handle())?;
        wait(limit, |context| flush.poll(context), park)
            .unwrap_or_else(|| Err(if limit.is_stopped() { cancelled("stream") } else { unread() }))
    }
}

/// Waits until the pipe has all that `stream` has accepted. `None`: the wait was cut short.
fn flush_within(stream: &Stream, limit: Limit<'_>) -> Option<io::Result<()>> {
    let waiter = stream.writer();
    // Almost always there is nothing to wait for.
    if let Poll::Ready(result) = stream.poll_flush(&Context::from_waker(Waker::noop()), waiter.key()) {
        return Some(result);
    }
    let sleep = |left: Option<Duration>| {
        // A request to stop unparks the thread. It does not end a wait on the port.
        let on_port =
            if limit.can_be_stopped() { Some(left.map_or(LOOK, |left| left.min(LOOK))) } else { left };
        if !stream.attend(on_port) {
            park(left);
        }
    };
    wait(limit, |context| stream.poll_flush(context, waiter.key()), sleep)
}

/// Polls until there is a result, and sleeps in between until this thread is unparked or the given
/// time is over. `None`: the wait was cut short.
fn wait<T>(
    limit: Limit<'_>,
    mut poll: impl FnMut(&Context<'_>) -> Poll<T>,
    sleep: impl Fn(Option<Duration>),
) -> Option<T> {
    let waker = Waker::from(Arc::new(Parked(thread::current())));
    let _registered = limit.unpark_when_stopped();
    loop {
        if let Poll::Ready(result) = poll(&Context::from_waker(&waker)) {
            return Some(result);
        }
        if limit.is_stopped() {
            return None;
        }
        let left = limit.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return None;
        }
        sleep(left);
    }
}

fn park(limit: Option<Duration>) {
    match limit {
        None => thread::park(),
        Some(limit) => thread::park_timeout(limit),
    }
}

/// A thread that waits for its waker.
struct Parked(Thread);

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The system's error.
pub(super) fn system_error(code: u32) -> io::Error {
    io::Error::from_raw_os_error(code as i32)
}

/// The first `count` bytes of `slices`, in one piece.
fn gather(slices: &[IoSlice<'_>], count: usize) -> Vec<u8> {
    let mut all = Vec::with_capacity(count);
    for slice in slices {
        all.extend_from_slice(&slice[..slice.len().min(count - all.len())]);
    }
    all
}

impl Read for &PipeStream {
    /// Waits for data and reads what there is. `Ok(0)` means that the peer has closed its end and
    /// everything it wrote has been read, that `buffer` is empty, or that an empty message came
    /// where it [is the end](PipeStream::set_empty_message_is_end).
    ///
    /// # Errors
    ///
    /// [`TimedOut`](io::ErrorKind::TimedOut) as [`set_read_timeout`](PipeStream::set_read_timeout)
    /// says. Else the system's:
    #[doc = crate::documentation::read_errors!()]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_slice(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.read_slices(buffers)
    }
}

impl Write for &PipeStream {
    /// Waits until the pipe has `bytes`, all of them unless there is a time-out. On a message pipe
    /// they are one message; an empty one is a message there, and nothing on a byte pipe.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](io::ErrorKind::TimedOut) as
    /// [`set_write_timeout`](PipeStream::set_write_timeout) says. Else the system's:
    #[doc = crate::documentation::write_errors!()]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_slice(bytes)
    }

    /// [`write`](Write::write) of several slices as if they were one; on a message pipe they are
    /// one message.
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write_slices(slices)
    }

    /// Waits until the pipe has everything that was written. There is something to wait for only
    /// where a write ran into its [time-out](PipeStream::set_write_timeout). It does not wait
    /// for the peer to read: that is [`drain`](PipeStream::drain).
    ///
    /// # Errors
    ///
    /// [`TimedOut`](io::ErrorKind::TimedOut) when that takes longer than the time-out. The
    /// system's, of a write that was accepted and then failed.
    fn flush(&mut self) -> io::Result<()> {
        self.flush_accepted()
    }
}

impl Read for PipeStream {
    /// As that of `&PipeStream`.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(buffers)
    }
}

impl Write for PipeStream {
    /// As that of `&PipeStream`.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self).flush()
    }
}

impl Read for OwnedReadHalf<PipeStream> {
    /// As that of `&PipeStream`.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self.pipe).read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self.pipe).read_vectored(buffers)
    }
}

impl Write for OwnedWriteHalf<PipeStream> {
    /// As that of `&PipeStream`.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self.pipe).write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self.pipe).write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self.pipe).flush()
    }
}
