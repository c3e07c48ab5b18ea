//! Windows named pipes: asynchronous, on any executor, with a completion-port driver of its own.
//!
//! [`NamedPipeServer`] and [`NamedPipeClient`] are the two ends of a pipe; [`ServerOptions`]
//! creates the one, or a [`NamedPipeListener`] for any number of them, and [`ClientOptions`] opens
//! the other. They have everything of Tokio's `tokio::net::windows::named_pipe`, by its names and
//! signatures, so that changing a `use` line is the whole migration, and promise more:
//!
//! - no byte is lost, repeated or reordered, whichever future is dropped when
//!   ([cancellation](guide::cancellation));
//! - a write that returned `Ok` is delivered if the peer reads, also when pipe and runtime are
//!   dropped (a dropped pipe [lingers](NamedPipeServer::set_linger) for five minutes at most);
//! - what a pipe holds is bounded, and an idle pipe holds next to nothing ([limits and
//!   defaults](guide::limits_and_defaults));
//! - a [listener](ServerOptions::listen) of more than one instance is never without one, so its
//!   name stays, and a [client](ClientOptions::connect) waits while all are taken;
//! - messages of a message pipe are [sent and received whole](guide::messages), and an empty one is
//!   not the end;
//! - a reused server instance shows its next client nothing of the last;
//! - who may use a pipe is said [in words](guide::security), and each end can ask who is at the
//!   other;
//! - a value that makes no sense is an error before any system call, and never a panic.
//!
//! ```no_run
//! # #[cfg(all(windows, feature = "tokio"))]
//! # async fn echo() -> std::io::Result<()> {
//! use npipe::{ClientOptions, ServerOptions};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! let listener = ServerOptions::new().listen(r"\\.\pipe\greeting")?;
//! let mut client = ClientOptions::new().connect(r"\\.\pipe\greeting").await?;
//! let mut server = listener.accept().await?;
//!
//! client.write_all(b"hello").await?;
//! let mut bytes = [0; 5];
//! server.read_exact(&mut bytes).await?;
//! assert_eq!(&bytes, b"hello");
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! | feature | default | gives |
//! |---|---|---|
//! | `tokio` | yes | Tokio's `AsyncRead` and `AsyncWrite`, conversions from and to its `Interest` and `Ready` |
//! | `futures-io` | no | `AsyncRead` and `AsyncWrite` of `futures-io`, for smol, async-compat and others |
//! | `tracing` | no | a span for each end, and events when it is opened, connected, fails, drains slowly and is closed |
//! | `axum` | no | a [`NamedPipeListener`] for `axum::serve`, and [`PipeConnectInfo`] for its handlers |
//! | `hyper-util` | no | [`PipeConnector`] for pooled HTTP clients, and [`PipeExecutor`] for hyper |
//! | `tonic` | no | a [`NamedPipeServer`] for `serve_with_incoming`, with [`PipeConnectInfo`]; needs the Rust of the tonic that is used |
//! | `mio` | no | `readiness::Poll::attach`, which puts pipes into an existing event loop of mio's |
//!
//! Features only add. No runtime is needed to construct a pipe or to use one: the first
//! asynchronous pipe starts a thread that waits for all of them, and [`spawn`] and [`block_on`] do
//! without it. Threads without futures have [`blocking`] pipes, event loops [`readiness`].
//!
//! # Where to read on
//!
//! - [`guide::coming_from_tokio`]: the migration, what differs and why, the errors and their
//!   meanings.
//! - [`guide::cancellation`]: what is lost when a future is dropped (nothing), method by method.
//! - [`guide::tasks`]: `block_on` and `spawn`, which save a thread switch; what a runtime sees of
//!   us.
//! - [`guide::readiness`]: coming from mio; the face for event loops, [`readiness`], what differs
//!   and why.
//! - [`guide::blocking`]: the face for threads, [`blocking`]; time-outs, and how to stop a thread
//!   that waits.
//! - [`guide::security`]: who may use a pipe, who is at its other end, and acting in a client's
//!   name.
//! - [`guide::messages`]: whole messages, empty ones, limits, half-close.
//! - [`guide::shutting_down`]: how a connection ends, what arrives, and what each side learns.
//! - [`guide::limits_and_defaults`]: every default with its reason; Wine.
//!
//! The crate builds everywhere, so that code for several systems can name it in one place; the
//! pipes themselves exist on Windows.
//!
//! # The source, in reading order
//!
//! `name`, `error`, `info` and `interest` are plain types. `machine` takes the decisions and knows
//! no system; `sys` is Win32 without decisions. `driver` owns what is in flight, `stream` runs a
//! pipe end on the three. Above are `security` and `peer`, `tasks`, the ends, `server` and
//! `client`, with their `options`, the `listener` and the stream of each `message`, the faces
//! `readiness` and `blocking`, and the skins `tokio` and `futures_io`.
//! `ARCHITECTURE.md` in the repository tells why.
#![warn(missing_docs)]
#![cfg_attr(
    not(windows),
    allow(
        rustdoc::broken_intra_doc_links,
        reason = "the documentation is that of Windows, and so are the types it links to"
    )
)]

#[cfg(any(windows, test))]
#[cfg_attr(not(windows), allow(dead_code, unreachable_pub, reason = "what is public of it is so on Windows"))]
mod directory;
mod error;
mod guard;
#[cfg(any(windows, test))]
#[cfg_attr(not(windows), allow(dead_code, unreachable_pub, reason = "what is public of it is so on Windows"))]
mod halves;
mod info;
mod interest;
#[cfg(any(windows, test, fuzzing))]
mod moment;
mod name;

#[cfg(any(windows, test, fuzzing))]
#[cfg_attr(
    not(windows),
    allow(dead_code, unused_imports, reason = "parts of it serve the faces, which exist on Windows")
)]
mod driver;
#[cfg_attr(
    not(windows),
    allow(dead_code, unused_imports, reason = "parts of it serve the faces, which exist on Windows")
)]
mod machine;
#[cfg(all(test, not(windows)))]
#[allow(dead_code, unused_imports, unreachable_pub, reason = "its public part exists on Windows")]
mod security;
#[cfg(windows)]
pub mod security;
#[cfg(any(windows, test, fuzzing))]
#[cfg_attr(
    not(windows),
    allow(dead_code, unused_imports, reason = "parts of it serve the faces, which exist on Windows")
)]
mod stream;
#[cfg(any(windows, test, fuzzing))]
mod sync;
#[cfg(any(windows, test, fuzzing))]
#[cfg_attr(
    not(windows),
    allow(dead_code, unused_imports, reason = "parts of it serve the faces, which exist on Windows")
)]
mod sys;

// First: rustdoc lists the methods of an end in the order of the modules.
#[cfg(windows)]
mod pipe_end;

#[cfg(all(windows, feature = "axum"))]
mod axum;
#[cfg(windows)]
pub mod blocking;
#[cfg(windows)]
mod client;
#[cfg(all(windows, any(feature = "axum", feature = "tonic")))]
mod connect_info;
#[cfg(any(windows, test, fuzzing))]
#[cfg_attr(not(windows), allow(dead_code, reason = "the async API exists on Windows"))]
mod coop;
#[cfg(windows)]
mod documentation;
#[cfg(all(windows, feature = "futures-io"))]
mod futures_io;
#[cfg(all(windows, feature = "hyper-util"))]
mod hyper_util;
#[cfg(windows)]
mod listener;
#[cfg(windows)]
mod message;
#[cfg(windows)]
mod options;
#[cfg(windows)]
mod pair;
#[cfg(windows)]
pub mod readiness;
#[cfg(windows)]
mod retry;
#[cfg(windows)]
mod server;
#[cfg(any(windows, test))]
#[cfg_attr(
    not(windows),
    allow(dead_code, unused_imports, unreachable_pub, reason = "what is public of it is so on Windows")
)]
mod tasks;
#[cfg(all(windows, feature = "tokio"))]
mod tokio;
#[cfg(all(windows, feature = "tonic"))]
mod tonic;
#[cfg(any(windows, test, fuzzing))]
#[cfg_attr(not(windows), allow(dead_code, reason = "pipes have names on Windows"))]
mod trace;

pub mod guide {
    //! Pages to read, in addition to the reference.

    #[doc = include_str!("guide/coming_from_tokio.md")]
    pub mod coming_from_tokio {}

    #[doc = include_str!("guide/tasks.md")]
    pub mod tasks {}

    #[doc = include_str!("guide/readiness.md")]
    pub mod readiness {}

    #[doc = include_str!("guide/blocking.md")]
    pub mod blocking {}

    #[doc = include_str!("guide/messages.md")]
    pub mod messages {}

    #[doc = include_str!("guide/cancellation.md")]
    pub mod cancellation {}

    #[doc = include_str!("guide/security.md")]
    pub mod security {}

    #[doc = include_str!("guide/shutting_down.md")]
    pub mod shutting_down {}

    #[doc = include_str!("guide/limits_and_defaults.md")]
    pub mod limits_and_defaults {}
}

/// The example of the README, compiled.
#[cfg(all(doctest, windows, feature = "tokio"))]
#[doc = include_str!("../../../README.md")]
mod readme {}

pub use error::{MessageTooLong, win32_code};
pub use info::{Peek, PipeEnd, PipeInfo, PipeMode};
pub use interest::{Interest, Ready};
pub use name::PipeName;

#[cfg(windows)]
pub use client::NamedPipeClient;
#[cfg(all(windows, any(feature = "axum", feature = "tonic")))]
pub use connect_info::PipeConnectInfo;
#[cfg(windows)]
pub use directory::{PipeEntry, list_pipes};
#[cfg(windows)]
pub use halves::{OwnedReadHalf, OwnedWriteHalf, ReuniteError};
#[cfg(all(windows, feature = "hyper-util"))]
pub use hyper_util::{Connecting, PipeConnector, PipeExecutor};
#[cfg(windows)]
pub use listener::{Incoming, NamedPipeListener};
#[cfg(windows)]
pub use message::Messages;
#[cfg(windows)]
pub use options::{ClientOptions, ServerOptions};
#[cfg(windows)]
pub use pair::{pair, pair_with};
#[cfg(windows)]
pub use pipe_end::{Client, End, Pipe, Server};
#[cfg(windows)]
pub use security::{
    Access, AccessEntry, AccessList, Impersonation, ImpersonationLevel, Integrity, Peer, SecurityDescriptor,
    SecurityDescriptorBuilder, ServerIdentity, Sid, Trustee,
};
#[cfg(windows)]
pub use server::NamedPipeServer;
#[cfg(windows)]
pub use tasks::{Executor, Task, block_on, spawn};

/// Entry points for the fuzz targets, which are a workspace of their own.
#[cfg(all(fuzzing, not(windows)))]
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::stream::tests::run_bytes;
}
