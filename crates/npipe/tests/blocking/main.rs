//! The blocking face on real pipes: what only threads can do. Time-outs and cancellation are raced
//! against completion, and every byte and every client is accounted for.
//!
//! What all faces have in common is tested by the behaviour suite.
#![cfg(windows)]

mod cancelling;
mod child_stdio;
mod conversions;
mod endings;
mod guide;
mod handles;
mod identity;
mod listener;
mod messages;
mod sys;
mod time_outs;
mod transfer;
mod world;
