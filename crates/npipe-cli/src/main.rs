//! The tool `npipe`.
fn main() {}
