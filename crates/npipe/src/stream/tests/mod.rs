//! Streams over the simulated kernel: the real machine, stream and driver, on any host.

#[cfg(loom)]
mod loom;
#[cfg(not(loom))]
mod peer;
#[cfg(not(loom))]
mod schedules;
#[cfg(not(loom))]
mod threads;
