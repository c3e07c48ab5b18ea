//! `cargo bench -p npipe-bench`: the table of `docs/benchmarks.md`. Everything is in the library of
//! this crate.

fn main() -> std::process::ExitCode {
    npipe_bench::main()
}
