//! Wakers are code of the caller's executor. They may panic when they are woken and when they are
//! dropped, and a panic must not end a thread of this crate: the driver thread serves every pipe of
//! the process.

use std::task::{Context, Waker};

use crate::guard::guard;

/// A waker whose panics end here. The panic hook has reported them.
#[derive(Debug)]
pub(crate) struct GuardedWaker(Option<Waker>);

impl GuardedWaker {
    /// Clones the context's waker. A panic of the clone goes to the caller, whose waker it is.
    pub(crate) fn new(context: &Context<'_>) -> Self {
        Self(Some(context.waker().clone()))
    }

    pub(crate) fn will_wake(&self, context: &Context<'_>) -> bool {
        self.0.as_ref().is_some_and(|waker| waker.will_wake(context.waker()))
    }

    pub(crate) fn wake(mut self) {
        if let Some(waker) = self.0.take() {
            guard(|| waker.wake());
        }
    }

    pub(crate) fn wake_by_ref(&self) {
        if let Some(waker) = &self.0 {
            guard(|| waker.wake_by_ref());
        }
    }
}

impl Drop for GuardedWaker {
    fn drop(&mut self) {
        if let Some(waker) = self.0.take() {
            guard(|| drop(waker));
        }
    }
}

#[cfg(all(test, not(windows), not(loom)))]
pub(crate) mod hostile {
    //! A waker that panics wherever it is called.

    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{RawWaker, RawWakerVTable, Wake, Waker};

    use crate::sync::Arc;

    struct Cloning {
        on_clone: Box<dyn Fn() + Send + Sync>,
        woken: Arc<AtomicUsize>,
    }

    /// A waker that calls `on_clone` whenever it is cloned, and how often it has been woken.
    pub(crate) fn cloning(on_clone: impl Fn() + Send + Sync + 'static) -> (Waker, Arc<AtomicUsize>) {
        // The data is an `Arc<Cloning>`, of which each waker has a share.
        static TABLE: RawWakerVTable = RawWakerVTable::new(
            |data| {
                (of(data).on_clone)();
                // SAFETY: the waker that is cloned has a share; the new one gets another.
                unsafe { Arc::increment_strong_count(data.cast::<Cloning>()) };
                RawWaker::new(data, &TABLE)
            },
            |data| {
                of(data).woken.fetch_add(1, Ordering::SeqCst);
                release(data);
            },
            |data| _ = of(data).woken.fetch_add(1, Ordering::SeqCst),
            release,
        );
        fn of<'a>(data: *const ()) -> &'a Cloning {
            // SAFETY: the table is used with data of `cloning` alone, and only for as long as a
            // function of the table runs, whose waker has a share.
            unsafe { &*data.cast::<Cloning>() }
        }
        fn release(data: *const ()) {
            // SAFETY: the waker that is used up gives its share back.
            drop(unsafe { Arc::from_raw(data.cast::<Cloning>()) });
        }
        let woken = Arc::<AtomicUsize>::default();
        let cloning = Arc::new(Cloning { on_clone: Box::new(on_clone), woken: woken.clone() });
        let data = Arc::into_raw(cloning).cast();
        // SAFETY: the functions of the table may be called from any thread, and the waker has the
        // share made above.
        (unsafe { Waker::from_raw(RawWaker::new(data, &TABLE)) }, woken)
    }

    /// Panics when it is woken and when it is dropped, and so does the payload of the first panic.
    pub(crate) struct Hostile(Arc<AtomicUsize>);

    struct Payload;

    impl Drop for Payload {
        fn drop(&mut self) {
            // Its own payload is forgotten where it is caught, and owns nothing.
            std::panic::panic_any(());
        }
    }

    impl Hostile {
        /// The waker, and how often it has been woken.
        pub(crate) fn waker() -> (Waker, Arc<AtomicUsize>) {
            let woken = Arc::<AtomicUsize>::default();
            (Waker::from(Arc::new(Self(woken.clone()))), woken)
        }
    }

    impl Wake for Hostile {
        fn wake(self: Arc<Self>) {
            self.wake_by_ref();
        }

        fn wake_by_ref(self: &Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
            std::panic::panic_any(Payload);
        }
    }

    impl Drop for Hostile {
        fn drop(&mut self) {
            // A second panic while the first unwinds would end the process.
            if !std::thread::panicking() {
                panic!("a waker panics when it is dropped");
            }
        }
    }
}

#[cfg(all(test, not(windows), not(loom)))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::Ordering;

    use super::hostile::Hostile;
    use super::*;

    #[test]
    fn a_waker_that_panics_does_so_alone() {
        for act in [GuardedWaker::wake as fn(GuardedWaker), |waker| waker.wake_by_ref(), drop] {
            let (waker, woken) = Hostile::waker();
            let guarded = GuardedWaker::new(&Context::from_waker(&waker));
            // Ours is the last reference, with whose drop the other panic comes.
            let ours = catch_unwind(AssertUnwindSafe(|| drop(waker)));
            assert!(ours.is_ok() && woken.load(Ordering::SeqCst) == 0);
            act(guarded);
        }
    }
}
