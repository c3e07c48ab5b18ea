//! Streams over the simulated kernel: the real machine, stream and driver, on any host.

use super::Settings;
use crate::info::PipeEnd;
use crate::machine::Framing;
use crate::sys::Packets;

/// An end with small buffers and nothing special, for tests to vary.
pub(crate) const PLAIN: Settings = Settings {
    end: PipeEnd::Server,
    packets: Packets::OfPending,
    before: None,
    reads: Framing::Bytes,
    writes: Framing::Bytes,
    read_limit: 64,
    write_limit: 64,
    message_limit: usize::MAX,
};

/// The same with messages in both directions, and buffers for whole ones.
#[cfg(all(test, not(loom)))]
pub(crate) const MESSAGES: Settings = Settings {
    reads: Framing::Messages,
    writes: Framing::Messages,
    read_limit: 512,
    write_limit: 512,
    ..PLAIN
};

#[cfg(not(loom))]
mod peer;
#[cfg(not(loom))]
mod world;

#[cfg(all(test, not(loom)))]
mod clients;
#[cfg(all(test, not(loom)))]
mod combinations;
#[cfg(all(test, not(loom)))]
mod drain;
#[cfg(all(test, not(loom)))]
mod foreign;
#[cfg(all(test, loom))]
mod loom;
#[cfg(all(test, not(loom)))]
mod messages;
#[cfg(all(test, not(loom)))]
#[path = "../../../tests/combinations/model.rs"]
mod model;
#[cfg(all(test, not(loom)))]
mod reading;
#[cfg(all(test, not(loom)))]
mod release;
#[cfg(all(test, not(loom)))]
mod schedules;
#[cfg(all(test, not(loom)))]
mod tasks;
#[cfg(all(test, not(loom)))]
mod threads;
#[cfg(all(test, not(loom)))]
mod timers;
#[cfg(all(test, not(loom)))]
mod wakers;

#[cfg(fuzzing)]
pub use world::run_bytes;
