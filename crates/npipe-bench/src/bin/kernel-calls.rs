//! `kernel-calls [--only CASE] wine PEERS.EXE`: counts the kernel calls of an operation, under Wine
//! and from outside it.
//!
//! Wine's relay trace prints each call of an `Nt` function on the Unix side's standard error, which
//! no Windows program can read of its child; hence a program of its own. The benchmark runs with N
//! operations and with 2 N: what start-up and connecting cost is in both, so the difference belongs
//! to N operations. The trace makes everything many times slower, which shifts who waits for whom a
//! little; nothing is timed here.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};

use clap::Parser;
use npipe_bench::markdown;

/// Enough that buffers which grow with the traffic have grown in the first half.
const OPERATIONS: u32 = 128;

/// Kernel calls of an operation, case by case, as a Markdown table.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only the cases whose names start with this
    #[arg(long, value_name = "CASE", default_value = "")]
    only: String,
    /// How to start the benchmark: Wine, and the built `peers` program
    #[arg(required = true, trailing_var_arg = true)]
    peers: Vec<String>,
}

fn main() -> ExitCode {
    match table(&Arguments::parse()) {
        Ok(table) => {
            print!("{table}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn table(arguments: &Arguments) -> io::Result<String> {
    let listed = peers(arguments, &["--list"]).output()?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let runs: Vec<Vec<&str>> = listed
        .lines()
        .map(|line| line.split('\t').collect())
        .filter(|run: &Vec<&str>| run[0].starts_with(&arguments.only))
        .collect();
    let mut table = markdown::header(["case", "over", "calls an operation", "of which"]);
    for (done, run) in runs.iter().enumerate() {
        let [case, implementation, title] = run[..] else {
            return Err(io::Error::other(format!("cannot read the list of cases: {run:?}")));
        };
        eprintln!("progress: {}/{} kernel calls: {title}, {implementation}", done + 1, runs.len());
        let calls = calls_per_operation(arguments, case, implementation)?;
        let sum: f64 = calls.iter().map(|(_, calls)| calls).sum();
        let parts: Vec<String> = calls.iter().map(|(name, calls)| format!("{name} {calls:.2}")).collect();
        table += &markdown::row([title, implementation, &format!("{sum:.2}"), &parts.join(", ")]);
    }
    Ok(table)
}

/// Calls an operation by name, the most frequent first; what is called less than once in fifty
/// operations is left out.
fn calls_per_operation(
    arguments: &Arguments,
    case: &str,
    implementation: &str,
) -> io::Result<Vec<(String, f64)>> {
    let once = trace(arguments, case, implementation, OPERATIONS)?;
    let mut calls: Vec<(String, f64)> = trace(arguments, case, implementation, 2 * OPERATIONS)?
        .into_iter()
        .map(|(name, twice)| {
            let more = twice - once.get(&name).copied().unwrap_or(0);
            (name, more as f64 / f64::from(OPERATIONS))
        })
        .filter(|(_, calls)| *calls >= 0.02)
        .collect();
    calls.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    Ok(calls)
}

fn trace(
    arguments: &Arguments,
    case: &str,
    implementation: &str,
    operations: u32,
) -> io::Result<BTreeMap<String, i64>> {
    let mut child = peers(arguments, &["--count", case, implementation, &operations.to_string()])
        .env("WINEDEBUG", "-all,+relay")
        .stderr(Stdio::piped())
        .spawn()?;
    let mut calls = BTreeMap::new();
    let mut said = String::new();
    for line in BufReader::new(child.stderr.take().expect("standard error is piped")).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        if let Some(name) = called(&line) {
            *calls.entry(name.to_owned()).or_default() += 1;
        } else if !is_trace(&line) {
            said.extend([&line, "\n"]);
        }
    }
    let status = child.wait()?;
    if !status.success() {
        return Err(io::Error::other(format!("{case} over {implementation}: {status}; it said:\n{said}")));
    }
    Ok(calls)
}

/// The function of a line like `0024:Call ntdll.NtReadFile(...) ret=...`.
fn called(line: &str) -> Option<&str> {
    let (_, call) = line.split_once(":Call ntdll.")?;
    let (name, _) = call.split_once('(')?;
    name.starts_with("Nt").then_some(name)
}

/// Whether a line is Wine's and not the program's: `0024:Call ...`, `0024:Ret ...`, `0024:Starting
/// thread ...`.
fn is_trace(line: &str) -> bool {
    line.split_once(':').is_some_and(|(thread, _)| {
        !thread.is_empty() && thread.chars().all(|digit| digit.is_ascii_hexdigit())
    })
}

fn peers(arguments: &Arguments, more: &[&str]) -> Command {
    let mut command = Command::new(&arguments.peers[0]);
    command.args(&arguments.peers[1..]).args(more);
    command
}

#[cfg(test)]
mod tests {
    use super::{called, is_trace};

    #[test]
    fn only_calls_of_the_kernel_are_counted() {
        assert_eq!(called("0024:Call ntdll.NtReadFile(00000044,0) ret=7b01"), Some("NtReadFile"));
        assert_eq!(called("0024:Ret  ntdll.NtReadFile() retval=00000000 ret=7b01"), None);
        assert!(is_trace("0024:Starting thread proc 1700") && !is_trace("Error: the server sent something"));
        assert_eq!(called("0024:Call ntdll.RtlAllocateHeap(00220000,8,10) ret=7b01"), None);
    }
}
