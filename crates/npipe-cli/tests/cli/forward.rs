//! `npipe forward`, by what it listens on.

#[cfg(windows)]
mod pipes;
#[cfg(unix)]
mod sockets;
