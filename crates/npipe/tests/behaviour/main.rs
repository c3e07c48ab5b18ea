//! The behaviour suite: what a user of the library sees on real pipes, on Windows and under Wine.
//!
//! Every generic body takes a [`Family`](family::Family), a way of driving a pipe, and
//! [`for_each_family!`] makes one test of it for each. The async face is three of them: Tokio's
//! traits on a Tokio runtime and on `npipe::block_on`, and those of `futures-io` on smol, outside
//! any Tokio context. The readiness face and the blocking face are one each. A new face of
//! the library joins the suite by implementing `Family`. Nothing here knows how the library works:
//! only its public API and, in [`sys`], the Win32 calls that play the part of a foreign process.
#![cfg(windows)]
#![cfg_attr(
    not(any(feature = "tokio", feature = "futures-io")),
    expect(
        dead_code,
        unused_imports,
        unused_macros,
        reason = "most tests need the traits of one of the two"
    )
)]

#[macro_use]
mod family;
mod harness;
mod stream_data;
mod sys;

mod backpressure;
mod cancel;
mod close;
#[cfg(feature = "tokio")]
mod closed;
mod connect;
mod directions;
mod directory;
mod drop;
mod errors;
mod fairness;
mod guide;
mod handles;
mod identity;
mod listener;
mod messages;
mod names;
mod options;
mod owned;
mod readiness;
mod regression;
mod reuse;
mod scale;
mod security;
mod transfer;
mod whole_messages;
