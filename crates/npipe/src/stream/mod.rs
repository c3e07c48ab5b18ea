//! A pipe end: feeds the machine, and does with the driver what the machine asks for.
//!
//! No decision is taken here. Each direction is a machine, its waiters and its operation behind one
//! lock, so that the two directions do not disturb each other; a server's wait for its client is a
//! third. A lock is held across the system call that starts an operation: the packet may be
//! dequeued before that call returns, and must then find the state that the call leaves. Wakers are
//! woken, and handles closed, after the lock is released.

mod close;
#[cfg(windows)]
mod closed;
mod connect;
mod drain;
mod message;
mod owned;
mod read;
mod readiness;
#[cfg(any(windows, all(test, not(loom))))]
mod release;
#[cfg(windows)]
mod timeout;
mod transfer;
mod waiters;
mod write;

#[cfg(all(any(test, fuzzing), not(windows)))]
pub(crate) mod tests;

use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use crate::driver::{
    Completion, Driver, Finished, InFlight, Kind, Operation, Registration, Scheduled, Timer, Waiting,
};
#[cfg(windows)]
use crate::error;
use crate::info::PipeEnd;
#[cfg(windows)]
use crate::machine::{DEFAULT_LIMIT, DEFAULT_MESSAGE_LIMIT};
use crate::machine::{Framing, Lifecycle, ReadAhead, WriteBehind};
use crate::moment::{ConnectionTime, Moment};
#[cfg(windows)]
use crate::name::PipeName;
use crate::sync::{Arc, Mutex, lock};
use crate::sys::{self, OwnedHandle};
use crate::trace::{Outcome, PipeSpan};
use close::Linger;

pub(crate) use close::LingerTime;
pub(crate) use connect::has_left;
#[cfg(windows)]
pub(crate) use drain::nothing_is_unread;
pub(crate) use drain::{Drain, unread};
#[cfg(windows)]
pub(crate) use release::Submitting;
#[cfg(windows)]
use timeout::Timeouts;
#[cfg(windows)]
pub(crate) use timeout::{Limit, Stop};
pub(crate) use transfer::{Destination, Growing, Slice, Slices, Source};
use waiters::{Awaited, wait};
pub(crate) use waiters::{Key, WaiterGuard, Waiters, register};

/// How long a large buffer may wait for data before it is given back.
const IDLE: Duration = Duration::from_secs(1);

/// How to set up a pipe end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) end: PipeEnd,
    pub(crate) packets: sys::Packets,
    pub(crate) reads: Framing,
    pub(crate) writes: Framing,
    pub(crate) read_limit: usize,
    pub(crate) write_limit: usize,
    /// The longest message that is received.
    pub(crate) message_limit: usize,
    /// Before this end was made, so that no peer was connected to it. `None`: it was made
    /// elsewhere.
    pub(crate) before: Option<Moment>,
}

impl Settings {
    /// Returns the connection time of an end that has just been made.
    pub(crate) fn connected(&self) -> ConnectionTime {
        let by = match self.end {
            // The client comes later.
            PipeEnd::Server => None,
            PipeEnd::Client => Some(Moment::now()),
        };
        ConnectionTime { after: self.before, by }
    }

    /// The settings for a handle that was made elsewhere.
    ///
    /// `GetNamedPipeInfo` needs `FILE_READ_ATTRIBUTES`. `CreateFile` asks for that right with every
    /// access, so a handle without it is that of a server, made with `PIPE_ACCESS_OUTBOUND`.
    #[cfg(windows)]
    pub(crate) fn of_foreign(handle: &OwnedHandle) -> io::Result<Self> {
        if !sys::is_pipe(handle)? {
            return Err(error::not_a_pipe());
        }
        let (end, writes, reads) = match sys::describe(handle) {
            Ok(pipe) => {
                let end = if pipe.server_end { PipeEnd::Server } else { PipeEnd::Client };
                let reads_messages = pipe.message_type && sys::reads_messages(handle)?;
                (end, Framing::of(pipe.message_type), Framing::of(reads_messages))
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                (PipeEnd::Server, framing_of_outbound(handle)?, Framing::Bytes)
            }
            Err(error) => return Err(error),
        };
        Ok(Self {
            end,
            reads,
            writes,
            read_limit: DEFAULT_LIMIT,
            write_limit: DEFAULT_LIMIT,
            message_limit: DEFAULT_MESSAGE_LIMIT,
            packets: sys::Packets::default(),
            before: None,
        })
    }
}

/// The framing of a server's handle that only writes, for which `GetNamedPipeInfo` is denied. A
/// byte pipe refuses the message read mode. Setting a read mode changes nothing for such a handle:
/// the mode belongs to this end, which never reads.
#[cfg(windows)]
fn framing_of_outbound(handle: &OwnedHandle) -> io::Result<Framing> {
    match sys::set_message_reads(handle) {
        Ok(()) => Ok(Framing::Messages),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(Framing::Bytes),
        Err(error) => Err(error),
    }
}

/// A pipe end. Dropping it closes the handle, behind what has been written.
pub(crate) struct Stream {
    handle: Arc<OwnedHandle>,
    core: Arc<Core>,
    settings: Settings,
    span: PipeSpan,
    #[cfg(windows)]
    timeouts: Timeouts,
}

/// What the driver and the holder of a pipe end share.
pub(crate) struct Core {
    driver: Tie,
    inbound: Mutex<Inbound>,
    outbound: Mutex<Outbound>,
    lifecycle: Mutex<Connecting>,
}

/// The place on a completion port, once there is one: an end of the blocking API rarely needs it.
#[derive(Default)]
struct Tie(OnceLock<Registration>);

impl std::ops::Deref for Tie {
    type Target = Registration;

    fn deref(&self) -> &Registration {
        self.0.get().expect("operations are submitted, and timers set, by streams on a port")
    }
}

pub(crate) struct Inbound {
    machine: ReadAhead,
    waiters: Waiters,
    operation: OperationPlace,
    /// The timer for giving a large buffer back, if it runs.
    watch: Option<Watch>,
    /// Packets so far. Readiness that was used up returns when this moves.
    ticks: u64,
}

/// A look at whether a large buffer has been idle.
struct Watch {
    /// The ticks when the timer was set.
    since: u64,
    _timer: Scheduled,
}

pub(crate) struct Outbound {
    machine: WriteBehind,
    waiters: Waiters,
    operation: OperationPlace,
    linger: Linger,
    ticks: u64,
}

struct Connecting {
    machine: Lifecycle,
    waiters: Waiters,
    operation: OperationPlace,
    connected: ConnectionTime,
}

impl Awaited for Inbound {
    fn waiters(&mut self) -> &mut Waiters {
        &mut self.waiters
    }
}

impl Awaited for Outbound {
    fn waiters(&mut self) -> &mut Waiters {
        &mut self.waiters
    }
}

impl Awaited for Connecting {
    fn waiters(&mut self) -> &mut Waiters {
        &mut self.waiters
    }
}

/// Where a direction keeps its operation.
enum OperationPlace {
    /// None has been needed yet.
    Empty,
    /// Not in flight.
    Here(Operation),
    /// With the kernel.
    Away(InFlight),
}

impl OperationPlace {
    /// The operation, to be submitted.
    fn take(&mut self) -> Operation {
        match std::mem::replace(self, Self::Empty) {
            Self::Here(operation) => operation,
            Self::Empty | Self::Away(_) => Operation::new(),
        }
    }

    fn cancel(&self) {
        if let Self::Away(in_flight) = self {
            in_flight.cancel();
        }
    }

    /// The operation in flight, to be cancelled once the lock is released: that may close the
    /// handle.
    fn give_up(&mut self) -> Option<InFlight> {
        match std::mem::replace(self, Self::Empty) {
            Self::Away(in_flight) => Some(in_flight),
            Self::Empty | Self::Here(_) => None,
        }
    }
}

impl Stream {
    /// Takes over a pipe handle that was opened for overlapped I/O and is tied to no completion
    /// port.
    pub(crate) fn new(handle: OwnedHandle, driver: Arc<Driver>, settings: Settings) -> io::Result<Self> {
        Self::on(Arc::new(handle), driver, settings)
    }

    /// [`new`](Self::new) of a handle that the caller keeps if this fails.
    pub(crate) fn on(handle: Arc<OwnedHandle>, driver: Arc<Driver>, settings: Settings) -> io::Result<Self> {
        let stream = Self::untied(handle, settings);
        stream.tie(&driver)?;
        Ok(stream)
    }

    /// A pipe end on no completion port.
    pub(crate) fn untied(handle: Arc<OwnedHandle>, settings: Settings) -> Self {
        let core = Arc::new(Core {
            driver: Tie::default(),
            inbound: Mutex::new(Inbound {
                machine: ReadAhead::new(settings.reads, settings.read_limit),
                waiters: Waiters::default(),
                operation: OperationPlace::Empty,
                watch: None,
                ticks: 0,
            }),
            outbound: Mutex::new(Outbound {
                machine: WriteBehind::new(settings.writes, settings.write_limit),
                waiters: Waiters::default(),
                operation: OperationPlace::Empty,
                linger: Linger::default(),
                ticks: 0,
            }),
            lifecycle: Mutex::new(Connecting {
                machine: Lifecycle::default(),
                waiters: Waiters::default(),
                operation: OperationPlace::Empty,
                connected: settings.connected(),
            }),
        });
        Self {
            handle,
            core,
            settings,
            span: PipeSpan::NONE,
            #[cfg(windows)]
            timeouts: Timeouts::default(),
        }
    }

    /// Gives the end the span of a pipe of this name.
    #[cfg(windows)]
    pub(crate) fn named(mut self, name: &PipeName) -> Self {
        self.span = PipeSpan::new(self.settings.end, name);
        self.span.opened();
        self
    }

    /// Takes over the span of an end that had one before it had a stream.
    #[cfg(windows)]
    pub(crate) fn take_span(&mut self, span: &mut PipeSpan) {
        std::mem::swap(&mut self.span, span);
    }

    /// The span for events of this end.
    #[cfg(windows)]
    pub(crate) fn span(&self) -> &PipeSpan {
        &self.span
    }

    /// Calls `operation`, which holds no lock afterwards, and reports its error.
    pub(crate) fn reporting<T: Outcome>(&self, name: &'static str, operation: impl FnOnce() -> T) -> T {
        let outcome = operation();
        self.span.failed(name, &outcome);
        outcome
    }

    /// Ties the handle to the port of `driver`, unless it is tied to one. That is never undone.
    pub(crate) fn tie(&self, driver: &Arc<Driver>) -> io::Result<()> {
        let _tying = lock(&self.core.lifecycle);
        if self.core.driver.0.get().is_none() {
            let registration = driver.register(&self.handle, self.settings.packets)?;
            let _ = self.core.driver.0.set(registration);
        }
        Ok(())
    }

    /// The longest message that is received unless the receiver sets another limit.
    pub(crate) fn max_message_size(&self) -> usize {
        self.settings.message_limit
    }

    /// The handle, open for as long as `self`.
    pub(crate) fn handle(&self) -> &OwnedHandle {
        &self.handle
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Stream").field(&self.handle).finish()
    }
}

impl Completion for Core {
    fn complete(self: Arc<Self>, finished: Finished, wake: &mut Vec<Waiting>) {
        match finished.kind {
            Kind::Read | Kind::Exchange => self.read_completed(finished, wake),
            Kind::Write => self.write_completed(finished, wake),
            Kind::Connect => self.connect_completed(finished, wake),
            Kind::Flush => unreachable!("a flush reports to its drain"),
        }
    }
}

impl Timer for Core {
    fn on_timer(self: Arc<Self>) {
        self.give_back_if_idle();
        self.end_of_linger();
    }
}

/// The system's error.
fn system_error(code: u32) -> io::Error {
    io::Error::from_raw_os_error(code as i32)
}
