//! A smol executor a thread: for the families that bring none of their own.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;

thread_local! {
    /// The executor `block_on` is running on this thread.
    #[allow(clippy::missing_const_for_thread_local, reason = "it is; the lint misreads the GNU target's expansion")]
    static EXECUTOR: RefCell<Option<Rc<smol::LocalExecutor<'static>>>> = const { RefCell::new(None) };
}

pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let executor = Rc::new(smol::LocalExecutor::new());
    let outer = EXECUTOR.replace(Some(executor.clone()));
    let output = smol::block_on(executor.run(future));
    EXECUTOR.set(outer);
    output
}

pub(super) fn spawn<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> impl Future<Output = T> + Send + Unpin {
    EXECUTOR.with_borrow(|executor| executor.as_ref().expect("spawn is called inside block_on").spawn(future))
}
