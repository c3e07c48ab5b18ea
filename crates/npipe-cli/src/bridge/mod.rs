//! Connections to Windows pipes from Linux: one Windows process carries them all over its stdin and
//! stdout, multiplexed with yamux, where other relays start a process for each.
//!
//! `protocol` is what the two processes say to each other, `records` the bytes of one connection
//! within it. `server` is the Windows half, which opens pipes, and `relay` what it does with one of
//! them. `client` is the Linux half: it starts that process (`process`) and ends it. `liveness` is
//! how either half notices that the other has stopped answering.

#[cfg(unix)]
pub(crate) mod client;
mod liveness;
mod mux;
#[cfg(unix)]
pub(crate) mod process;
#[cfg_attr(windows, allow(dead_code, reason = "what only the Linux half says and hears"))]
pub(crate) mod protocol;
mod records;
mod relay;
pub(crate) mod server;
