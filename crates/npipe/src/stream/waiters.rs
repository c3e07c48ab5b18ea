//! Who waits for a direction to become ready.

use std::task::Context;

use crate::driver::Waiting;

/// Names a waiter. The poll functions of the traits share one: the last caller's waker counts, as the traits say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(u32);

impl Key {
    /// The poll functions' key.
    pub(crate) const POLL: Self = Self(0);
}

/// Wakers by key. Almost always there is one, so it is kept in place.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    first: Option<(Key, Waiting)>,
    others: Vec<(Key, Waiting)>,
    last_key: u32,
}

impl Waiters {
    /// A key that nobody else has.
    pub(crate) fn key(&mut self) -> Key {
        self.last_key = self.last_key.wrapping_add(1).max(1);
        Key(self.last_key)
    }

    /// Puts the context's waker under `key`. Gives back the waker it replaced, to be dropped outside the lock.
    #[must_use]
    pub(crate) fn register(&mut self, key: Key, context: &Context<'_>) -> Option<Waiting> {
        let mut registered = self.first.iter_mut().chain(&mut self.others);
        if let Some((_, present)) = registered.find(|(of, _)| *of == key) {
            return (!present.is_task_of(context)).then(|| std::mem::replace(present, Waiting::new(context)));
        }
        match self.first {
            None => self.first = Some((key, Waiting::new(context))),
            Some(_) => self.others.push((key, Waiting::new(context))),
        }
        None
    }

    /// Takes the waker under `key` out.
    #[must_use]
    pub(crate) fn remove(&mut self, key: Key) -> Option<Waiting> {
        if self.first.as_ref().is_some_and(|(of, _)| *of == key) {
            return self.first.take().map(|(_, waker)| waker);
        }
        let index = self.others.iter().position(|(of, _)| *of == key)?;
        Some(self.others.swap_remove(index).1)
    }

    /// Moves all wakers to `wake`. Who is still interested registers again.
    pub(crate) fn take(&mut self, wake: &mut Vec<Waiting>) {
        wake.extend(self.first.take().map(|(_, waker)| waker));
        wake.extend(std::mem::take(&mut self.others).into_iter().map(|(_, waker)| waker));
    }
}
