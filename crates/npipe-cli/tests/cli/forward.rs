//! `npipe forward`, by what it listens on.

#[cfg(unix)]
mod limits;
#[cfg(windows)]
mod pipes;
#[cfg(unix)]
mod sockets;
