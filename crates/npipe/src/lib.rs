//! Windows named pipes.
