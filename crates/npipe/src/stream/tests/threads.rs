//! Streams with a driver thread beside them.
