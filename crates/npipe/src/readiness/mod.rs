//! Pipes for programs with an event loop of their own: calls that never wait, and a [`Poll`] that
//! tells when to try again.
//!
//! The names are those of `mio` and of its `mio::windows::NamedPipe`, and so are the rules:
//! readiness is *edge-triggered*, so an event comes when something becomes ready, and again after
//! it was tried. See [coming from mio](crate::guide::readiness) for what is the same and what
//! differs.
//!
//! ```no_run
//! use std::io::{self, Read, Write};
//!
//! use npipe::readiness::{Events, Interest, NamedPipe, Poll, Token};
//!
//! const PIPE: Token = Token(0);
//!
//! # fn echo() -> io::Result<()> {
//! let mut poll = Poll::new()?;
//! let mut events = Events::with_capacity(64);
//! let mut pipe = NamedPipe::new(r"\\.\pipe\inventory")?;
//! poll.registry().register(&mut pipe, PIPE, Interest::READABLE | Interest::WRITABLE)?;
//! let _ = pipe.connect(); // would block, or a client is there: an event comes in either case
//! let mut buffer = [0; 4096];
//! loop {
//!     poll.poll(&mut events, None)?;
//!     for event in &events {
//!         if event.is_readable() {
//!             match pipe.read(&mut buffer) {
//!                 Ok(0) => return Ok(()),
//!                 Ok(count) => pipe.write_all(&buffer[..count])?,
//!                 Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
//!                 Err(error) => return Err(error),
//!             }
//!         }
//!     }
//! }
//! # }
//! ```
//!
//! # How it works
//!
//! A registered pipe is a `Stream`, as in the async face. `attached` gives it wakers that put what
//! has become ready on the list in `queue`; `poll` dequeues from the port, which wakes them, and
//! hands the list out.

pub mod event;

mod attached;
mod named_pipe;
mod poll;
mod queue;
mod registry;
mod token;
mod waker;

#[doc(no_inline)]
pub use crate::interest::Interest;
#[doc(inline)]
pub use event::{Event, Events};
pub use named_pipe::NamedPipe;
pub use poll::Poll;
pub use registry::Registry;
pub use token::Token;
pub use waker::Waker;
