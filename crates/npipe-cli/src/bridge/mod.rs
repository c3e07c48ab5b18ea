//! Connections to Windows pipes from Linux: one Windows process carries them all over its stdin and stdout,
//! multiplexed with yamux, where other relays start a process for each.
//!
//! `protocol` is what the two processes say to each other, as bytes; `stream` is one connection within it; `server` is
//! the Windows half, which opens pipes; `client` is the Linux half, which starts that process and ends it.

mod protocol;
