//! Which packets are ours.
//!
//! A completion port belongs to a *file object*, and duplicates of a pipe's handle are everywhere:
//! a child may have one as its stdin, a handle that was released has another owner. Whatever they
//! submit on the file object queues a packet here, with our key and with an `OVERLAPPED` address of
//! theirs. So an address is a claim and is never followed. It is looked up among the operations
//! that the registration with the packet's key has in flight.
//!
//! An address in another process can by chance be that of one of this driver's operations.
//! Therefore an operation is over only once the kernel has written its final status, which it does
//! before it queues the packet. Then block and buffer belong to the driver again, whichever packet
//! led to the check.

use std::collections::HashMap;
use std::task::{Context, Poll};

use super::operation::{Block, Finished};
use super::{Completion, Driver, Waiting};
use crate::sync::{Arc, Mutex, lock};
use crate::sys::{Overlapped, OwnedHandle, Packets};

/// The pipes on a port, by the key that their packets carry.
#[derive(Default)]
pub(super) struct Registrations(Mutex<ByKey>);

#[derive(Default)]
struct ByKey {
    last: usize,
    pipes: HashMap<usize, Arc<Operations>>,
}

/// The operations of one pipe that are in flight, and with them the kernel's share of their blocks.
#[derive(Default)]
pub(super) struct Operations(Mutex<InFlight>);

#[derive(Default)]
struct InFlight {
    blocks: Vec<Arc<Block>>,
    /// The task that waits until there are none.
    quiescing: Option<Waiting>,
}

/// A pipe's place on a port. The port is attended for as long as there is one.
pub(crate) struct Registration {
    driver: Arc<Driver>,
    key: usize,
    operations: Arc<Operations>,
    packets: Packets,
}

impl Registrations {
    fn add(&self, operations: &Arc<Operations>) -> usize {
        let mut by_key = lock(&self.0);
        let ByKey { last, pipes } = &mut *by_key;
        // 0 is the key of the packets that wake the waiter. A key is used again only when all
        // others have been.
        loop {
            *last = last.wrapping_add(1);
            if *last != 0 && !pipes.contains_key(last) {
                break;
            }
        }
        pipes.insert(*last, operations.clone());
        *last
    }

    /// Returns whether it was the last.
    fn remove(&self, key: usize) -> bool {
        let mut by_key = lock(&self.0);
        by_key.pipes.remove(&key);
        by_key.pipes.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        lock(&self.0).pipes.is_empty()
    }

    /// Turns a packet back into its operation, unless another holder of the file object caused it.
    /// If the operation was the pipe's last, the waker of the task that waits for that goes to
    /// `wake`.
    pub(super) fn take(
        &self,
        key: usize,
        overlapped: *const Overlapped,
        wake: &mut Vec<Waiting>,
    ) -> Option<(Arc<dyn Completion>, Finished)> {
        let block = lock(&self.0).pipes.get(&key)?.take_final(overlapped, wake)?;
        Some(Block::into_finished(block))
    }
}

impl Operations {
    /// Gives the kernel its share of a block, for as long as the operation is in flight.
    pub(super) fn add(&self, block: Arc<Block>) {
        lock(&self.0).blocks.push(block);
    }

    /// Takes back the share of an operation that was over at once. Returns whether it was still
    /// here: a packet of another process, with the same address, may have been mistaken for the
    /// operation's.
    pub(super) fn remove(&self, block: &Arc<Block>) -> bool {
        let blocks = &mut lock(&self.0).blocks;
        let place = blocks.iter().position(|other| Arc::ptr_eq(other, block));
        place.map(|place| blocks.swap_remove(place)).is_some()
    }

    fn take_final(&self, overlapped: *const Overlapped, wake: &mut Vec<Waiting>) -> Option<Arc<Block>> {
        let mut in_flight = lock(&self.0);
        let InFlight { blocks, quiescing } = &mut *in_flight;
        let place = blocks.iter().position(|block| block.is_at(overlapped))?;
        let block = blocks[place].is_over().then(|| blocks.swap_remove(place))?;
        if blocks.is_empty() {
            wake.extend(quiescing.take());
        }
        Some(block)
    }
}

impl Registration {
    pub(super) fn operations(&self) -> &Operations {
        &self.operations
    }

    /// Waits until the packets of all operations have been dequeued. None may be submitted
    /// meanwhile.
    pub(crate) fn poll_quiet(&self, context: &Context<'_>) -> Poll<()> {
        // Cloned before the lock is taken, and dropped after it is released.
        let waiting = Waiting::new(context);
        let mut in_flight = lock(&self.operations.0);
        if in_flight.blocks.is_empty() {
            return Poll::Ready(());
        }
        let replaced = in_flight.quiescing.replace(waiting);
        drop(in_flight);
        drop(replaced);
        Poll::Pending
    }

    /// Returns whether an operation that has succeeded at once queues a packet too.
    pub(super) fn queues_all(&self) -> bool {
        self.packets == Packets::OfAll
    }
}

impl std::ops::Deref for Registration {
    type Target = Driver;

    fn deref(&self) -> &Driver {
        &self.driver
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if self.driver.registrations.remove(self.key) {
            self.driver.last_registration_is_gone();
        }
    }
}

impl Driver {
    /// Ties a handle to the port.
    pub(crate) fn register(
        self: &Arc<Self>,
        handle: &OwnedHandle,
        packets: Packets,
    ) -> std::io::Result<Registration> {
        let operations = Arc::new(Operations::default());
        let key = self.registrations.add(&operations);
        let registration = Registration { driver: self.clone(), key, operations, packets };
        self.port.associate(handle, key, packets)?;
        Ok(registration)
    }

    /// Unties a handle, on which nothing is in flight, from the port. Where that cannot be done, as
    /// under Wine, the packets of its next owner come here, and are not of any registration.
    #[cfg(any(windows, test))]
    pub(crate) fn release(handle: &OwnedHandle) {
        let _ = crate::sys::Port::dissociate(handle);
    }

    pub(super) fn has_registrations(&self) -> bool {
        !self.registrations.is_empty()
    }
}
