//! Streams over the simulated kernel: the real machine, stream and driver, on any host.

mod peer;
mod schedules;
mod threads;
