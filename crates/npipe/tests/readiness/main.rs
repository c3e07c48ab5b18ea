//! The readiness face, by what a user of it can see: which events come, which do not, and what the
//! calls say in between.
//!
//! What every face promises of the bytes is tested by the behaviour suite; this is about edges,
//! registration, and who may be dropped when.
#![cfg(windows)]

#[cfg(feature = "mio")]
mod beside_mio;
mod connecting;
mod data_path;
mod dropping;
mod edges;
mod model;
mod polling;
mod registration;
mod world;
