//! npipe beside its peers: the same traffic over npipe, Tokio, mio, compio, interprocess and bare
//! overlapped calls, in one process, round by round in turn, so that whatever disturbs the machine
//! disturbs all of them.
//!
//! The result is Markdown on standard output. Standard error carries `progress: DONE/TOTAL LABEL`
//! lines.

#[cfg(windows)]
mod cases;
#[cfg(windows)]
mod completion;
pub mod markdown;
#[cfg(windows)]
mod measure;
#[cfg(windows)]
mod peer_process;
#[cfg(windows)]
mod pipes;
#[cfg(windows)]
mod readiness;
#[cfg(windows)]
mod report;
#[cfg(windows)]
mod run;
#[cfg(windows)]
mod scheduler;
pub mod statistics;
#[cfg(windows)]
mod sys;
#[cfg(windows)]
mod threads;
#[cfg(windows)]
mod traffic;
pub mod transfers;

#[cfg(windows)]
pub use run::main;

/// Says where the benchmark runs.
#[cfg(not(windows))]
pub fn main() -> std::process::ExitCode {
    eprintln!("named pipes are Windows': `cargo xtask bench` builds this for Windows and runs it under Wine");
    std::process::ExitCode::FAILURE
}
