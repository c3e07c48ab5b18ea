//! Counts the kernel calls of an operation under Wine, whose relay trace prints each call of an `Nt` function.
//!
//! The program runs itself twice, with N operations and with 2 N: what start-up and connecting cost is in both, so the
//! difference belongs to N operations. The trace makes everything many times slower; nothing is timed here.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::cases::{Case, Implementation};

/// Enough that buffers which grow with the traffic have grown in the first half.
const OPERATIONS: u32 = 96;

/// Calls an operation by name, the most frequent first; what is called less than once in a hundred operations is left out.
pub(crate) fn calls_per_operation(
    case: &Case,
    implementation: Implementation,
) -> io::Result<Vec<(String, f64)>> {
    let operations = OPERATIONS.min(case.operations);
    let once = trace(case, implementation, operations)?;
    let mut calls: Vec<(String, f64)> = trace(case, implementation, 2 * operations)?
        .into_iter()
        .map(|(name, twice)| {
            let more = twice as f64 - once.get(&name).copied().unwrap_or(0) as f64;
            (name, more / f64::from(operations))
        })
        .filter(|(_, calls)| *calls >= 0.01)
        .collect();
    calls.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    Ok(calls)
}

fn trace(case: &Case, implementation: Implementation, operations: u32) -> io::Result<BTreeMap<String, u64>> {
    let implementation = clap::ValueEnum::to_possible_value(&implementation).expect("no variant is hidden");
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--count", &case.id, implementation.get_name(), &operations.to_string()])
        .env("WINEDEBUG", "-all,+relay")
        .stderr(Stdio::piped())
        .spawn()?;
    let mut calls = BTreeMap::new();
    let mut lines = BufReader::new(child.stderr.take().expect("standard error is piped")).split(b'\n');
    while let Some(line) = lines.next().transpose()? {
        if let Some(name) = called(&String::from_utf8_lossy(&line)) {
            *calls.entry(name.to_owned()).or_default() += 1;
        }
    }
    match child.wait()? {
        status if status.success() => Ok(calls),
        status => Err(io::Error::other(format!("{} over {}: {status}", case.id, implementation.get_name()))),
    }
}

/// The `Nt` function of a line like `0024:Call ntdll.NtReadFile(...) ret=...`.
fn called(line: &str) -> Option<&str> {
    let (_, call) = line.split_once(":Call ntdll.Nt")?;
    call.split_once('(').map(|(name, _)| name)
}
