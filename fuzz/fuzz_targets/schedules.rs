//! `cargo +nightly fuzz run schedules`: sequences of operations on both ends of a pipe over the simulated kernel.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| npipe::fuzzing::run_bytes(bytes));
