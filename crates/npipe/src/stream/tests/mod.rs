//! Streams over the simulated kernel.
