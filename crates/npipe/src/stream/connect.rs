//! A server's wait for its client, and the end of a connection.

use std::io;
use std::task::{Context, Poll};

use super::{Connecting, Core, Key, OperationPlace, Stream, WaiterGuard, register, system_error};
use crate::coop::poll_fn;
use crate::driver::{Finished, Operation, Submitted, Waiting};
use crate::info::PipeEnd;
use crate::machine::{ConnectStep, Connected, Found, verdict};
#[cfg(windows)]
use crate::machine::{Framing, verdict::Client};
use crate::moment::{ConnectionTime, Moment};
use crate::sync::{Arc, lock};
use crate::sys;

/// What became of a request to connect.
enum Submission {
    Pending,
    Over(Connected),
    /// It has to be sent again.
    Again,
}

impl Connecting {
    /// The wait is over. A client that it brought had opened the pipe by now.
    fn take_back(&mut self, operation: Operation) {
        self.operation = OperationPlace::Here(operation);
        self.connected.by = Some(Moment::now());
    }
}

impl Stream {
    /// Waits for a client.
    pub(crate) async fn connect(&self) -> io::Result<()> {
        let waiter = WaiterGuard::new(&self.core.lifecycle);
        poll_fn(|context| self.poll_connect(context, waiter.key())).await?;
        self.span.connected();
        Ok(())
    }

    pub(crate) fn poll_connect(&self, context: &Context<'_>, key: Key) -> Poll<io::Result<()>> {
        match self.find(context, key, |_| false)? {
            Found::Client => Poll::Ready(Ok(())),
            Found::Nobody | Found::Begun | Found::Renewed => Poll::Pending,
        }
    }

    /// [`poll_connect`](Self::poll_connect) that also checks whether the client is still there: a
    /// client that has left without sending anything does not count.
    pub(crate) fn find_client(&self, context: &Context<'_>, key: Key) -> io::Result<Found> {
        self.find(context, key, Self::client_left_unheard)
    }

    /// Has the wait for a client end, with a client or without. The next
    /// [`find_client`](Self::find_client) that is not [`Found::Nobody`] has the result.
    #[cfg(windows)]
    pub(crate) fn stop_connecting(&self) {
        let mut connecting = lock(&self.core.lifecycle);
        if connecting.machine.stop() {
            connecting.operation.cancel();
        }
    }

    fn find(&self, context: &Context<'_>, key: Key, has_left: impl Fn(&Self) -> bool) -> io::Result<Found> {
        // A second turn listens on an instance that was disconnected: it has to wait.
        let mut found = Found::Nobody;
        loop {
            let mut connecting = lock(&self.core.lifecycle);
            let result = match connecting.machine.step() {
                ConnectStep::Done(result) => Some(result),
                ConnectStep::Submit => match self.submit_connect(&mut connecting) {
                    Submission::Pending => {
                        lock(&self.core.inbound).machine.forget_end();
                        found = if found == Found::Renewed { Found::Renewed } else { Found::Begun };
                        None
                    }
                    Submission::Over(result) => Some(result),
                    Submission::Again => continue,
                },
                ConnectStep::Wait => None,
            };
            let Some(result) = result else {
                // A listener holds a lock meanwhile, so no task is woken from here.
                match register(&self.core.lifecycle, connecting, key, context) {
                    Ok(()) => return Ok(found),
                    Err(_) => continue,
                }
            };
            drop(connecting);
            // An error found before the client came is not of its session. The kernel reports an end
            // that lasts again.
            lock(&self.core.inbound).machine.forget_end();
            match result {
                Connected::Client if !has_left(self) => return Ok(Found::Client),
                Connected::ClientLeft if self.has_unread_bytes() => return Ok(Found::Client),
                Connected::Client | Connected::ClientLeft => {}
                Connected::Failed(code) => return Err(system_error(code)),
            }
            self.disconnect()?;
            found = Found::Renewed;
        }
    }

    fn submit_connect(&self, connecting: &mut Connecting) -> Submission {
        let before = Moment::now();
        match connecting.operation.take().connect(&self.core.driver, &self.handle, self.core.clone()) {
            Submitted::Pending(in_flight) => {
                connecting.connected = ConnectionTime { after: Some(before), by: None };
                connecting.operation = OperationPlace::Away(in_flight);
                connecting.machine.on_pending();
                Submission::Pending
            }
            Submitted::Finished { operation, outcome, .. } => {
                connecting.take_back(operation);
                connecting.machine.on_finished(outcome.code).map_or(Submission::Again, Submission::Over)
            }
        }
    }

    /// Returns the known bounds of the time of the connection.
    #[cfg(windows)]
    pub(crate) fn connected(&self) -> ConnectionTime {
        lock(&self.core.lifecycle).connected
    }

    /// The end was connected when it was made.
    #[cfg(windows)]
    pub(crate) fn mark_connected(&self) {
        lock(&self.core.lifecycle).connected.by = Some(Moment::now());
    }

    /// Looks for the client, without a wait. Only a server's end can lack one.
    #[cfg(windows)]
    pub(crate) fn client(&self) -> Client {
        let Err(error) = sys::bytes_available(&self.handle) else { return Client::Here };
        if self.settings.end == PipeEnd::Client {
            return Client::Here;
        }
        match error.raw_os_error().map_or(Client::Here, |code| verdict::client_by_look(code as u32)) {
            Client::Unknown if self.settings.writes == Framing::Bytes => {
                sys::write_waiting(&self.handle, &[], ())
                    .map_or(Client::Unknown, |outcome| verdict::client_by_empty_write(outcome.code))
            }
            client => client,
        }
    }

    /// Whether a client that has left wrote something that nobody has read.
    fn has_unread_bytes(&self) -> bool {
        lock(&self.core.inbound).machine.may_have_bytes()
            || sys::bytes_available(&self.handle).is_ok_and(|bytes| bytes > 0)
    }

    /// Whether the client has left, and there is nothing to be read from it.
    fn client_left_unheard(&self) -> bool {
        !lock(&self.core.inbound).machine.may_have_bytes() && has_left(sys::bytes_available(&self.handle))
    }

    /// Ends the connection and forgets what either direction held.
    pub(crate) fn disconnect(&self) -> io::Result<()> {
        if self.settings.end == PipeEnd::Client {
            // The kernel refuses, and what a client has read must not be thrown away for that.
            return sys::disconnect(&self.handle);
        }
        let mut connecting = lock(&self.core.lifecycle);
        let mut inbound = lock(&self.core.inbound);
        let mut outbound = lock(&self.core.outbound);
        // Cancelled first: what a disconnect does to an operation that waits is not documented.
        if connecting.machine.reset() {
            connecting.operation.cancel();
        }
        if inbound.machine.reset() {
            inbound.operation.cancel();
        }
        if outbound.machine.reset() {
            outbound.operation.cancel();
        }
        connecting.connected = ConnectionTime { after: Some(Moment::now()), by: None };
        sys::disconnect(&self.handle)
    }
}

/// What a look at the bytes that are there says of a client: one that may not write cannot be
/// looked at.
pub(crate) fn has_left(available: io::Result<usize>) -> bool {
    let code = available.err().and_then(|error| error.raw_os_error());
    code.is_some_and(|code| verdict::read(code as u32) == verdict::Read::EndOfFile)
}

impl Core {
    pub(super) fn connect_completed(self: &Arc<Self>, finished: Finished, wake: &mut Vec<Waiting>) {
        let Finished { operation, outcome, handle, .. } = finished;
        let mut connecting = lock(&self.lifecycle);
        connecting.take_back(operation);
        let again = connecting.machine.on_packet(outcome.code);
        if let (true, Some(handle)) = (again, &handle) {
            match connecting.operation.take().connect(&self.driver, handle, self.clone()) {
                Submitted::Pending(in_flight) => {
                    connecting.operation = OperationPlace::Away(in_flight);
                    connecting.machine.on_pending();
                }
                Submitted::Finished { operation, outcome, .. } => {
                    connecting.take_back(operation);
                    connecting.machine.on_again_finished(outcome.code);
                }
            }
        }
        connecting.waiters.take(wake);
        drop(connecting);
        drop(handle);
    }
}
