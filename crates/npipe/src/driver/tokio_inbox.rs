//! Waking many tasks of a Tokio runtime at once.
//!
//! Waking a task from outside its runtime costs a system call, each time. So when a batch of packets concerns several tasks of a
//! runtime, their wakers are left in that runtime's *inbox* and one task is woken, the *dispatcher*, which wakes the others from
//! inside, where it costs nothing. It is spawned when it is first needed.
//!
//! A runtime that nobody drives, a current-thread one outside its `block_on`, would let the inbox lie, though some of its tasks'
//! wakers may belong to another executor that was entered inside its context. So an inbox is emptied from here if the dispatcher
//! has not come within [`PATIENCE`].
//!
//! Nothing else in this crate's lower layers knows Tokio.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Weak;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use ::tokio::runtime::{Handle, Id};

use super::waiting::wake;
use super::{Driver, Timer};
use crate::sync::{Arc, Mutex, lock};

/// How long wakers wait for a dispatcher that does not come.
const PATIENCE: Duration = Duration::from_millis(10);

/// Where wakers for a runtime's tasks are left.
#[derive(Debug)]
pub(super) struct Inbox {
    runtime: Id,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// No dispatcher has been needed yet.
    Unused(Handle),
    Open {
        wakers: Vec<Waker>,
        dispatcher: Dispatcher,
        /// A timer runs that empties the inbox if the dispatcher does not.
        watched: bool,
    },
    /// The runtime is gone.
    Closed,
}

#[derive(Debug)]
enum Dispatcher {
    /// It will come round.
    Awake,
    Asleep(Waker),
}

/// The dispatcher's future. It lives as long as its runtime.
struct Dispatching(Arc<Inbox>);

/// All inboxes in use.
static INBOXES: std::sync::Mutex<Vec<Weak<Inbox>>> = std::sync::Mutex::new(Vec::new());

thread_local! {
    /// The inbox that this thread needed last.
    #[allow(clippy::missing_const_for_thread_local, reason = "it is; the lint misreads the GNU target's expansion")]
    static LAST: RefCell<Option<Arc<Inbox>>> = const { RefCell::new(None) };
}

impl Inbox {
    /// The inbox of the runtime that is polling; none where a thread dequeues for itself.
    pub(super) fn of_caller() -> Option<Arc<Self>> {
        if Driver::entered().is_some() {
            return None;
        }
        let handle = Handle::try_current().ok()?;
        let runtime = handle.id();
        LAST.with_borrow_mut(|last| match last {
            Some(inbox) if inbox.runtime == runtime => Some(inbox.clone()),
            _ => {
                let inbox = Self::of(handle);
                *last = Some(inbox.clone());
                Some(inbox)
            }
        })
    }

    fn of(handle: Handle) -> Arc<Self> {
        let mut inboxes = INBOXES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        inboxes.retain(|inbox| inbox.strong_count() > 0);
        let mut present = inboxes.iter().filter_map(Weak::upgrade);
        present.find(|inbox| inbox.runtime == handle.id()).unwrap_or_else(|| {
            let inbox = Arc::new(Self { runtime: handle.id(), state: Mutex::new(State::Unused(handle)) });
            inboxes.push(Arc::downgrade(&inbox));
            inbox
        })
    }

    /// Leaves wakers for the dispatcher and sees to it that it comes.
    fn leave(self: &Arc<Self>, wakers: Vec<Waker>, driver: &Driver) {
        let mut state = lock(&self.state);
        if let State::Unused(handle) = &*state {
            let handle = handle.clone();
            *state = State::Open { wakers: Vec::new(), dispatcher: Dispatcher::Awake, watched: false };
            drop(state);
            handle.spawn(Dispatching(self.clone()));
            state = lock(&self.state);
        }
        let State::Open { wakers: inbox, dispatcher, watched } = &mut *state else {
            drop(state);
            wakers.into_iter().for_each(wake);
            return;
        };
        inbox.extend(wakers);
        let dispatcher = std::mem::replace(dispatcher, Dispatcher::Awake);
        let watch = !std::mem::replace(watched, true);
        drop(state);
        if watch {
            let target: Weak<Self> = Arc::downgrade(self);
            driver.schedule(Instant::now() + PATIENCE, target);
        }
        if let Dispatcher::Asleep(waker) = dispatcher {
            wake(waker);
        }
    }
}

/// Wakes those of one runtime together, and the others one by one.
pub(super) fn post(driver: &Driver, all: impl Iterator<Item = (Waker, Option<Arc<Inbox>>)>) {
    let mut by_inbox: Vec<(Arc<Inbox>, Vec<Waker>)> = Vec::new();
    for (waker, inbox) in all {
        match inbox {
            None => wake(waker),
            Some(inbox) => match by_inbox.iter_mut().find(|(other, _)| Arc::ptr_eq(other, &inbox)) {
                Some((_, wakers)) => wakers.push(waker),
                None => by_inbox.push((inbox, vec![waker])),
            },
        }
    }
    for (inbox, mut wakers) in by_inbox {
        match wakers.len() {
            1 => wakers.drain(..).for_each(wake),
            _ => inbox.leave(wakers, driver),
        }
    }
}

impl Timer for Inbox {
    fn on_timer(self: Arc<Self>) {
        let mut state = lock(&self.state);
        let State::Open { wakers, watched, .. } = &mut *state else { return };
        *watched = false;
        let wakers = std::mem::take(wakers);
        drop(state);
        wakers.into_iter().for_each(wake);
    }
}

impl Future for Dispatching {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = lock(&self.0.state);
        let State::Open { wakers, dispatcher, .. } = &mut *state else { return Poll::Ready(()) };
        *dispatcher = Dispatcher::Asleep(context.waker().clone());
        let wakers = std::mem::take(wakers);
        drop(state);
        wakers.into_iter().for_each(wake);
        Poll::Pending
    }
}

impl Drop for Dispatching {
    fn drop(&mut self) {
        let last = std::mem::replace(&mut *lock(&self.0.state), State::Closed);
        if let State::Open { wakers, .. } = last {
            wakers.into_iter().for_each(wake);
        }
    }
}

#[cfg(all(test, not(windows)))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use ::tokio::runtime::{Builder, Runtime};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Count {
        fn get(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    fn runtime() -> Runtime {
        Builder::new_current_thread().build().unwrap()
    }

    /// Has `count` tasks of the runtime woken in one batch.
    fn post_together(runtime: &Runtime, driver: &Driver, count: usize) -> Arc<Count> {
        let woken = Arc::new(Count::default());
        let _context = runtime.enter();
        post(driver, (0..count).map(|_| (Waker::from(woken.clone()), Inbox::of_caller())));
        woken
    }

    #[test]
    fn the_runtime_wakes_them_when_it_runs() {
        let (runtime, driver) = (runtime(), Driver::new().unwrap());
        for _ in 0..3 {
            let woken = post_together(&runtime, &driver, 5);
            assert_eq!(woken.get(), 0, "woken from outside");
            runtime.block_on(::tokio::task::yield_now());
            assert_eq!(woken.get(), 5);
        }
    }

    #[test]
    fn one_alone_is_woken_at_once() {
        let (runtime, driver) = (runtime(), Driver::new().unwrap());
        assert_eq!(post_together(&runtime, &driver, 1).get(), 1);
    }

    #[test]
    fn a_runtime_that_nobody_drives_keeps_no_one_asleep() {
        let (runtime, driver) = (runtime(), Driver::new().unwrap());
        for _ in 0..3 {
            let woken = post_together(&runtime, &driver, 2);
            let mut none = Vec::new();
            // Two turns: the first may be the packet by which the timer was announced.
            while woken.get() == 0 {
                driver.turn(&mut [crate::sys::Entry::EMPTY], None, &mut none).unwrap();
            }
            assert_eq!(woken.get(), 2);
        }
    }

    #[test]
    fn a_runtime_that_is_gone_keeps_no_one_asleep() {
        let (runtime, driver) = (runtime(), Driver::new().unwrap());
        let before = post_together(&runtime, &driver, 2);
        let inbox = {
            let _context = runtime.enter();
            Inbox::of_caller()
        };
        drop(runtime);
        assert_eq!(before.get(), 2, "left when the runtime went");
        let after = Arc::new(Count::default());
        post(&driver, (0..2).map(|_| (Waker::from(after.clone()), inbox.clone())));
        assert_eq!(after.get(), 2);
    }

    #[test]
    fn runtimes_do_not_share_an_inbox() {
        let (one, other, driver) = (runtime(), runtime(), Driver::new().unwrap());
        let of_one = post_together(&one, &driver, 2);
        let of_other = post_together(&other, &driver, 2);
        one.block_on(::tokio::task::yield_now());
        assert_eq!((of_one.get(), of_other.get()), (2, 0));
    }
}
