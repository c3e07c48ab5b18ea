//! Windows named pipes, done completely.
#![warn(missing_docs)]

mod error;
mod info;
mod interest;
mod name;

#[cfg(any(windows, test))]
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
#[cfg(any(windows, test))]
#[cfg_attr(
    not(windows),
    allow(dead_code, unused_imports, reason = "parts of it serve the faces, which exist on Windows")
)]
mod stream;
#[cfg(any(windows, test))]
mod sync;
#[cfg(any(windows, test))]
#[cfg_attr(
    not(windows),
    allow(dead_code, unused_imports, reason = "parts of it serve the faces, which exist on Windows")
)]
mod sys;

#[cfg(windows)]
mod client;
#[cfg(windows)]
mod documentation;
#[cfg(all(windows, feature = "futures-io"))]
mod futures_io;
#[cfg(windows)]
mod options;
#[cfg(windows)]
mod pipe_end;
#[cfg(windows)]
mod server;
#[cfg(all(windows, feature = "tokio"))]
mod tokio;

pub use error::{Error, Operation};
pub use info::{PipeEnd, PipeInfo, PipeMode};
pub use interest::{Interest, Ready};
pub use name::PipeName;

#[cfg(windows)]
pub use client::NamedPipeClient;
#[cfg(windows)]
pub use options::{ClientOptions, ServerOptions};
#[cfg(windows)]
pub use server::NamedPipeServer;
