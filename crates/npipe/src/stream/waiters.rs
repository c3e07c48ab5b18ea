//! Who waits for a direction to become ready.

use std::task::{Context, Poll};

use crate::driver::Waiting;
use crate::sync::{Mutex, MutexGuard, lock};

/// Names a waiter. The poll functions of the traits share one: the last caller's waker counts, as
/// the traits say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(u32);

impl Key {
    /// The poll functions' key.
    pub(crate) const POLL: Self = Self(0);
}

/// Wakers by key, or places for wakers that are being cloned. Almost always there is one, so it is
/// kept in place.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    first: Option<(Key, Option<Waiting>)>,
    others: Vec<(Key, Option<Waiting>)>,
    last_key: u32,
}

impl Waiters {
    /// A key that nobody else has.
    pub(crate) fn key(&mut self) -> Key {
        self.last_key = self.last_key.wrapping_add(1).max(1);
        Key(self.last_key)
    }

    /// Puts a place under `key`, unless the context's waker is there. `false`: it is.
    fn reserve(&mut self, key: Key, context: &Context<'_>) -> bool {
        if let Some(place) = self.place(key) {
            return !place.as_ref().is_some_and(|present| present.is_task_of(context));
        }
        match self.first {
            None => self.first = Some((key, None)),
            Some(_) => self.others.push((key, None)),
        }
        true
    }

    /// Fills the place under `key`, and gives back the waker that was there. If the place has been
    /// taken meanwhile, gives back `waiting`: it has to be woken.
    fn fill(&mut self, key: Key, waiting: Waiting) -> Result<Option<Waiting>, Waiting> {
        match self.place(key) {
            Some(place) => Ok(place.replace(waiting)),
            None => Err(waiting),
        }
    }

    fn place(&mut self, key: Key) -> Option<&mut Option<Waiting>> {
        let mut places = self.first.iter_mut().chain(&mut self.others);
        places.find(|(of, _)| *of == key).map(|(_, place)| place)
    }

    /// Takes the waker under `key` out.
    #[must_use]
    pub(crate) fn remove(&mut self, key: Key) -> Option<Waiting> {
        if self.first.as_ref().is_some_and(|(of, _)| *of == key) {
            return self.first.take().and_then(|(_, waker)| waker);
        }
        let index = self.others.iter().position(|(of, _)| *of == key)?;
        self.others.swap_remove(index).1
    }

    /// Moves all wakers to `wake`. Who is still interested registers again.
    pub(crate) fn take(&mut self, wake: &mut Vec<Waiting>) {
        wake.extend(self.first.take().and_then(|(_, waker)| waker));
        wake.extend(std::mem::take(&mut self.others).into_iter().filter_map(|(_, waker)| waker));
    }
}

/// An object that has waiters behind its lock.
pub(crate) trait Awaited {
    fn waiters(&mut self) -> &mut Waiters;
}

impl Awaited for Waiters {
    fn waiters(&mut self) -> &mut Waiters {
        self
    }
}

/// A place among the waiters of an object. Dropping it gives the place up, so that a wait that was
/// cancelled leaves no waker behind.
pub(crate) struct WaiterGuard<'a, A: Awaited> {
    awaited: &'a Mutex<A>,
    key: Key,
}

impl<'a, A: Awaited> WaiterGuard<'a, A> {
    pub(crate) fn new(awaited: &'a Mutex<A>) -> Self {
        Self { awaited, key: lock(awaited).waiters().key() }
    }

    pub(crate) fn key(&self) -> Key {
        self.key
    }
}

impl<A: Awaited> Drop for WaiterGuard<'_, A> {
    fn drop(&mut self) {
        let removed = lock(self.awaited).waiters().remove(self.key);
        drop(removed);
    }
}

/// [`register`], as the result of a poll.
pub(crate) fn wait<A: Awaited, T>(
    awaited: &Mutex<A>,
    locked: MutexGuard<'_, A>,
    key: Key,
    context: &Context<'_>,
) -> Poll<T> {
    if let Err(missed) = register(awaited, locked, key, context) {
        missed.wake();
    }
    Poll::Pending
}

/// Registers the context's waker under `key`, for a task that has to wait by what `locked` shows.
/// An error says that what it waits for happened while the waker was cloned. The caller has to look
/// again, or wake the task if it holds no lock.
///
/// Wakers are code of the caller's executor. So they are cloned and dropped with no lock held: else
/// one that takes a lock of its own, or uses the pipe, could stop the driver thread.
pub(crate) fn register<A: Awaited>(
    awaited: &Mutex<A>,
    mut locked: MutexGuard<'_, A>,
    key: Key,
    context: &Context<'_>,
) -> Result<(), Waiting> {
    let is_new = locked.waiters().reserve(key, context);
    drop(locked);
    if is_new {
        let waiting = Waiting::new(context);
        let replaced = lock(awaited).waiters().fill(key, waiting)?;
        drop(replaced);
    }
    Ok(())
}
