//! Streams over the simulated kernel: the real machine, stream and driver, on any host.

#[cfg(not(loom))]
mod peer;
#[cfg(not(loom))]
mod world;

#[cfg(all(test, not(loom)))]
mod clients;
#[cfg(all(test, not(loom)))]
mod drain;
#[cfg(all(test, not(loom)))]
mod foreign;
#[cfg(all(test, loom))]
mod loom;
#[cfg(all(test, not(loom)))]
mod messages;
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
