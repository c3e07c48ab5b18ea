//! Calls of code that belongs to the user of this crate, on a thread or behind a state that belong
//! to others: the destructors of buffers that were given away, and wakers.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls code whose panic must end here. The panic hook has reported it.
pub(crate) fn guard(call: impl FnOnce()) {
    let Err(panic) = catch_unwind(AssertUnwindSafe(call)) else { return };
    // The payload is a value of the same code, so its destructor may panic too. The payload of that
    // panic is not dropped.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(panic);
    }
}
