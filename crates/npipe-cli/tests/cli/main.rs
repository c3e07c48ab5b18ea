//! The tool from outside: real processes, and what a user sees of them (stdout, stderr, the exit
//! code). The other end of a pipe is Tokio's own implementation, so that ours is not only shown to
//! understand itself.

mod assuan;
#[cfg(windows)]
mod connect;
mod endings;
mod forward;
#[cfg(windows)]
mod inspect;
#[cfg(unix)]
mod manual;
#[cfg(windows)]
mod npiperelay;
mod process;
#[cfg(unix)]
mod streams;
#[cfg(unix)]
mod terminal;
mod usage;
#[cfg(windows)]
mod wine;
#[cfg(target_os = "linux")]
mod wsl;
