//! The command line, and the order in which rounds are run.

use std::io;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use crate::cases::{self, Case, Implementation};
use crate::peer_process;
use crate::report::{self, Outcome};
use crate::threads::{self, Bare};

/// npipe measured beside its peers.
#[derive(Debug, Parser)]
struct Arguments {
    /// A third of the rounds, half the size
    #[arg(long)]
    quick: bool,
    /// Only the case of this name, or the cases whose names start with it
    #[arg(long, value_name = "CASE")]
    only: Option<String>,
    /// What there is to run, for other programs: case, implementation and title, separated by tabs
    #[arg(long)]
    list: bool,
    /// One unmeasured round, for tools that watch the process from outside
    #[arg(long, num_args = 3, value_names = ["CASE", "IMPLEMENTATION", "OPERATIONS"])]
    count: Option<Vec<String>>,
    /// Serves the pipe of this name for the benchmark of the tool
    #[arg(long, value_name = "PIPE")]
    serve: Option<String>,
    /// Bytes from or to what `--serve` serves, by bare calls; prints the seconds
    #[arg(long, num_args = 3, value_names = ["PIPE", "DIRECTION", "BYTES"])]
    transfer: Option<Vec<String>>,
    /// Given by `cargo bench`; of no meaning here
    #[arg(long, hide = true)]
    bench: bool,
}

/// The program behind `cargo bench -p npipe-bench`.
pub fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> io::Result<()> {
    if let Some(count) = &arguments.count {
        return run_once(count);
    }
    if let Some(pipe) = &arguments.serve {
        return peer_process::serve(pipe);
    }
    if let Some(transfer) = &arguments.transfer {
        return peer_process::transfer(transfer);
    }
    let only = arguments.only.as_deref().unwrap_or_default();
    let cases: Vec<Case> = cases::all().into_iter().filter(|case| case.id.starts_with(only)).collect();
    if cases.is_empty() {
        let known: Vec<String> = cases::all().into_iter().map(|case| case.id).collect();
        return Err(invalid(format!("no case is called {only}; there are {}", known.join(", "))));
    }
    if arguments.list {
        list(&cases);
    } else {
        print!("{}", measure_all(cases, arguments.quick)?);
    }
    Ok(())
}

fn measure_all(cases: Vec<Case>, quick: bool) -> io::Result<String> {
    warm_up()?;
    let mut progress = Progress {
        done: 0,
        total: cases.iter().map(|case| (rounds(case, quick) + 1) * case.runs.len() as u32).sum(),
    };
    let outcomes =
        cases.into_iter().map(|case| measure(case, quick, &mut progress)).collect::<io::Result<Vec<_>>>()?;
    Ok(report::table(&outcomes))
}

/// Lets large writes pass once. Wine's server gives the memory of each 64 KiB write back to its
/// kernel until it has met a larger one, after which it keeps it; without this, what is measured
/// would depend on which case came first.
fn warm_up() -> io::Result<()> {
    threads::bulk::<Bare>(1 << 20, 16).map(drop)
}

/// Runs the implementations in turn, so that a round of each meets the same state of the machine.
fn measure(case: Case, quick: bool, progress: &mut Progress) -> io::Result<Outcome> {
    let operations = if quick { case.operations / 2 } else { case.operations };
    let mut values: Vec<(Implementation, Vec<f64>)> =
        case.runs.iter().map(|(implementation, _)| (*implementation, Vec::new())).collect();
    for round in 0..=rounds(&case, quick) {
        for ((implementation, run), (_, values)) in case.runs.iter().zip(&mut values) {
            progress.step(&format!("{}, {implementation}", case.title));
            let result = run(operations).map_err(|error| {
                io::Error::new(error.kind(), format!("{}, {implementation}: {error}", case.title))
            })?;
            // The first round touches code and memory for the first time.
            if round > 0 {
                values.push(case.metric.of(&result));
            }
        }
    }
    Ok(Outcome { case, values })
}

fn rounds(case: &Case, quick: bool) -> u32 {
    if quick { case.rounds.div_ceil(3) } else { case.rounds }
}

/// A line for each run there is: case, implementation, title.
fn list(cases: &[Case]) {
    for case in cases {
        for (implementation, _) in &case.runs {
            println!("{}\t{}\t{}", case.id, implementation.id(), case.title);
        }
    }
}

fn run_once(count: &[String]) -> io::Result<()> {
    let [case, implementation, operations] = count else { unreachable!("clap takes exactly three values") };
    let implementation = Implementation::from_str(implementation, true).map_err(invalid)?;
    let operations = operations.parse().map_err(|error| invalid(format!("{operations}: {error}")))?;
    let case = cases::all()
        .into_iter()
        .find(|known| known.id == *case)
        .ok_or_else(|| invalid(format!("no case is called {case}")))?;
    let (_, run) = case
        .runs
        .iter()
        .find(|(known, _)| *known == implementation)
        .ok_or_else(|| invalid(format!("{} is not measured over {implementation}", case.id)))?;
    run(operations).map(drop)
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

/// Where a run is, for whoever draws a bar of it.
struct Progress {
    done: u32,
    total: u32,
}

impl Progress {
    fn step(&mut self, label: &str) {
        self.done += 1;
        eprintln!("progress: {}/{} {label}", self.done, self.total);
    }
}
