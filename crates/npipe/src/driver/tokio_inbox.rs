//! Waking many tasks of a Tokio runtime at once.
//!
//! Waking a task from outside its runtime costs a system call, each time. So when a batch of
//! packets concerns several tasks of a runtime, their wakers are left in that runtime's *inbox* and
//! one task is woken, the *dispatcher*, which wakes the others from inside, where it costs nothing.
//! It is spawned when it is first needed.
//!
//! A runtime that nobody drives, a current-thread one outside its `block_on`, would let the inbox
//! lie, though some of its tasks' wakers may belong to another executor that was entered inside its
//! context. So an inbox is emptied from here if the dispatcher has not come within [`PATIENCE`].
//!
//! Nothing else in this crate's lower layers knows Tokio.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Weak;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ::tokio::runtime::{Handle, Id};

use super::{Driver, GuardedWaker, Scheduled, Timer};
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
        wakers: Vec<GuardedWaker>,
        dispatcher: Dispatcher,
        /// The timer that empties the inbox if the dispatcher does not.
        fallback: Option<Scheduled>,
    },
    /// The runtime is gone.
    Closed,
}

#[derive(Debug)]
enum Dispatcher {
    /// It will come round.
    Awake,
    Asleep(GuardedWaker),
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
    fn leave(self: &Arc<Self>, wakers: Vec<GuardedWaker>) {
        // Its thread never ends, unlike those that wait on the other ports.
        let Ok(driver) = Driver::global() else { return wake_all(wakers) };
        let mut state = lock(&self.state);
        if let State::Unused(handle) = &*state {
            let handle = handle.clone();
            *state = State::Open { wakers: Vec::new(), dispatcher: Dispatcher::Awake, fallback: None };
            drop(state);
            handle.spawn(Dispatching(self.clone()));
            state = lock(&self.state);
        }
        let State::Open { wakers: inbox, dispatcher, fallback } = &mut *state else {
            drop(state);
            return wake_all(wakers);
        };
        inbox.extend(wakers);
        fallback.get_or_insert_with(|| {
            let target: Weak<Self> = Arc::downgrade(self);
            driver.schedule(Instant::now() + PATIENCE, target)
        });
        let dispatcher = std::mem::replace(dispatcher, Dispatcher::Awake);
        drop(state);
        if let Dispatcher::Asleep(waker) = dispatcher {
            waker.wake();
        }
    }
}

/// Wakes those of one runtime together, and the others one by one.
pub(super) fn post(all: impl Iterator<Item = (GuardedWaker, Option<Arc<Inbox>>)>) {
    let mut by_inbox: Vec<(Arc<Inbox>, Vec<GuardedWaker>)> = Vec::new();
    for (waker, inbox) in all {
        match inbox {
            None => waker.wake(),
            Some(inbox) => match by_inbox.iter_mut().find(|(other, _)| Arc::ptr_eq(other, &inbox)) {
                Some((_, wakers)) => wakers.push(waker),
                None => by_inbox.push((inbox, vec![waker])),
            },
        }
    }
    for (inbox, wakers) in by_inbox {
        match wakers.len() {
            1 => wake_all(wakers),
            _ => inbox.leave(wakers),
        }
    }
}

fn wake_all(wakers: Vec<GuardedWaker>) {
    wakers.into_iter().for_each(GuardedWaker::wake);
}

impl Timer for Inbox {
    fn on_timer(self: Arc<Self>) {
        let mut state = lock(&self.state);
        let State::Open { wakers, fallback, .. } = &mut *state else { return };
        *fallback = None;
        let wakers = std::mem::take(wakers);
        drop(state);
        wake_all(wakers);
    }
}

impl Future for Dispatching {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = lock(&self.0.state);
        let State::Open { wakers, dispatcher, .. } = &mut *state else { return Poll::Ready(()) };
        *dispatcher = Dispatcher::Asleep(GuardedWaker::new(context));
        let wakers = std::mem::take(wakers);
        drop(state);
        wake_all(wakers);
        Poll::Pending
    }
}

impl Drop for Dispatching {
    fn drop(&mut self) {
        let last = std::mem::replace(&mut *lock(&self.0.state), State::Closed);
        if let State::Open { wakers, .. } = last {
            wake_all(wakers);
        }
    }
}

#[cfg(all(test, not(windows)))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use ::tokio::runtime::{Builder, Runtime};

    use super::super::guarded_waker::hostile::Hostile;
    use super::*;

    fn wait_until(done: impl Fn() -> bool) {
        while !done() {
            std::thread::yield_now();
        }
    }

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

    fn guarded(waker: &Waker) -> GuardedWaker {
        GuardedWaker::new(&Context::from_waker(waker))
    }

    /// Has `count` tasks of the runtime woken in one batch.
    fn post_together(runtime: &Runtime, count: usize) -> Arc<Count> {
        let woken = Arc::new(Count::default());
        let _context = runtime.enter();
        let waker = Waker::from(woken.clone());
        post((0..count).map(|_| (guarded(&waker), Inbox::of_caller())));
        woken
    }

    /// Has two tasks of the runtime woken in one batch: the waker of the first panics, the other
    /// counts.
    fn post_hostile(runtime: &Runtime) -> (Arc<AtomicUsize>, Arc<Count>) {
        let (hostile, woken) = Hostile::waker();
        let other = Arc::new(Count::default());
        let _context = runtime.enter();
        let wakers = [guarded(&hostile), guarded(&Waker::from(other.clone()))];
        drop(hostile);
        post(wakers.into_iter().map(|waker| (waker, Inbox::of_caller())));
        (woken, other)
    }

    #[test]
    fn the_runtime_wakes_them_when_it_runs() {
        let runtime = runtime();
        for _ in 0..3 {
            let woken = post_together(&runtime, 5);
            assert_eq!(woken.get(), 0, "woken from outside");
            runtime.block_on(::tokio::task::yield_now());
            assert_eq!(woken.get(), 5);
        }
    }

    #[test]
    fn one_alone_is_woken_at_once() {
        assert_eq!(post_together(&runtime(), 1).get(), 1);
    }

    #[test]
    fn a_runtime_that_nobody_drives_keeps_no_one_asleep() {
        let runtime = runtime();
        for _ in 0..3 {
            let woken = post_together(&runtime, 2);
            wait_until(|| woken.get() == 2);
        }
    }

    #[test]
    fn a_runtime_that_is_gone_keeps_no_one_asleep() {
        let runtime = runtime();
        let before = post_together(&runtime, 2);
        let inbox = {
            let _context = runtime.enter();
            Inbox::of_caller()
        };
        drop(runtime);
        assert_eq!(before.get(), 2, "left when the runtime went");
        let after = Arc::new(Count::default());
        let waker = Waker::from(after.clone());
        post((0..2).map(|_| (guarded(&waker), inbox.clone())));
        assert_eq!(after.get(), 2);
    }

    #[test]
    fn a_waker_that_panics_keeps_no_one_asleep() {
        let run = |runtime: &Runtime| runtime.block_on(::tokio::task::yield_now());
        let by_the_dispatcher = runtime();
        let (woken, other) = post_hostile(&by_the_dispatcher);
        run(&by_the_dispatcher);
        // On a busy machine the timer may be first.
        wait_until(|| other.get() == 1);
        assert_eq!(woken.load(Ordering::SeqCst), 1);
        // The dispatcher goes on.
        let woken = post_together(&by_the_dispatcher, 2);
        run(&by_the_dispatcher);
        wait_until(|| woken.get() == 2);

        let by_the_timer = runtime();
        for _ in 0..2 {
            let (woken, other) = post_hostile(&by_the_timer);
            wait_until(|| other.get() == 1);
            assert_eq!(woken.load(Ordering::SeqCst), 1);
        }

        let by_the_end = runtime();
        let (woken, other) = post_hostile(&by_the_end);
        drop(by_the_end);
        wait_until(|| other.get() == 1);
        assert_eq!(woken.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn runtimes_do_not_share_an_inbox() {
        let (one, other) = (runtime(), runtime());
        let of_one = post_together(&one, 2);
        let of_other = post_together(&other, 2);
        one.block_on(::tokio::task::yield_now());
        assert_eq!(of_one.get(), 2);
        wait_until(|| of_other.get() == 2);
    }
}
