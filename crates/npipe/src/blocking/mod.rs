//! Pipes for threads: calls that wait, as those of `std::net`.
//!
//! [`PipeListener`] accepts clients, [`PipeStream`] is either end of a connection. They read and
//! write through [`Read`](std::io::Read) and [`Write`](std::io::Write), from several threads at
//! once and in both directions at once. A call that need not wait is one system call; there is no
//! thread and no completion port behind it. [A page of the guide](crate::guide::blocking) tells
//! what time-outs, cancellation and the end of a connection mean here.
//!
//! ```no_run
//! use std::io::{Read, Write};
//! use std::thread;
//!
//! use npipe::blocking::{PipeListener, PipeStream};
//!
//! let listener = PipeListener::bind("greeting")?;
//! let server = thread::spawn(move || {
//!     let mut name = [0; 5];
//!     let mut stream = listener.accept()?;
//!     stream.read_exact(&mut name)?;
//!     stream.write_all(b"hello ")?;
//!     stream.write_all(&name)
//! });
//!
//! let mut stream = PipeStream::connect("greeting")?;
//! stream.write_all(b"world")?;
//! let mut answer = [0; 11];
//! stream.read_exact(&mut answer)?;
//! assert_eq!(&answer, b"hello world");
//! # server.join().unwrap()?;
//! # Ok::<(), std::io::Error>(())
//! ```

mod canceller;
mod child_stdio;
mod convert;
mod listener;
mod message;
mod pair;
mod stream;
mod timeout;
mod transfer;

pub use canceller::Canceller;
pub use child_stdio::{ChildStdio, child_stdio};
pub use convert::ConversionError;
pub use listener::{Incoming, PipeListener};
pub use pair::{pair, pair_with};
pub use stream::PipeStream;
