//! What is measured, over whose pipes, and in which unit. Adding a case is adding an entry to
//! `all`; nothing else knows a case by name.

use std::fmt;
use std::io;

use clap::ValueEnum;

use crate::measure::Round;
use crate::pipes::{Npipe, Tokio};
use crate::scheduler::Scheduler::{self, CurrentThread, NpipeBlockOn, NpipeSpawn, TwoWorkers};
use crate::threads::{self, Bare, Interprocess, NpipeBlocking};
use crate::{completion, readiness, traffic};

/// Whose pipes carry the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Implementation {
    Npipe,
    Tokio,
    Bare,
    Compio,
    Interprocess,
    Mio,
}

impl Implementation {
    /// In the order of the table's columns.
    pub(crate) const ALL: [Self; 6] =
        [Self::Npipe, Self::Tokio, Self::Bare, Self::Compio, Self::Interprocess, Self::Mio];

    /// What `--count` calls it.
    pub(crate) fn id(self) -> String {
        self.to_possible_value().expect("no variant is hidden").get_name().to_owned()
    }
}

impl fmt::Display for Implementation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Npipe => "npipe",
            Self::Tokio => "tokio",
            Self::Bare => "bare overlapped",
            Self::Compio => "compio",
            Self::Interprocess => "interprocess",
            Self::Mio => "mio",
        })
    }
}

/// What of a round a case is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Metric {
    /// Throughput of operations that move this many bytes each.
    MebibytesPerSecond {
        bytes: usize,
    },
    MicrosecondsPerOperation,
    OperationsPerSecond,
    HeapBytesPerOperation,
}

impl Metric {
    pub(crate) fn of(self, round: &Round) -> f64 {
        let operations = f64::from(round.operations);
        let seconds = round.elapsed.as_secs_f64();
        match self {
            Self::MebibytesPerSecond { bytes } => operations * bytes as f64 / seconds / f64::from(1 << 20),
            Self::MicrosecondsPerOperation => seconds * 1e6 / operations,
            Self::OperationsPerSecond => operations / seconds,
            Self::HeapBytesPerOperation => round.heap_growth as f64 / operations,
        }
    }

    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::MebibytesPerSecond { .. } => "MiB/s",
            Self::MicrosecondsPerOperation => "µs",
            Self::OperationsPerSecond => "/s",
            Self::HeapBytesPerOperation => "bytes",
        }
    }
}

/// Does the given number of operations.
type Run = Box<dyn Fn(u32) -> io::Result<Round>>;

/// One line of the table.
pub(crate) struct Case {
    /// What `--only` and `--count` call it.
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) metric: Metric,
    /// Operations of a full round: a fraction of a second for the slowest.
    pub(crate) operations: u32,
    /// Rounds of a full run.
    pub(crate) rounds: u32,
    pub(crate) runs: Vec<(Implementation, Run)>,
}

/// Enough rounds that one disturbed by the machine does not move the median.
const ROUNDS: u32 = 11;

/// Every case, in the order of the table.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for scheduler in [CurrentThread, TwoWorkers, NpipeSpawn] {
        cases.extend([4, 64, 1024].map(|kibibytes| bulk(scheduler, kibibytes)));
    }
    cases.extend([4, 64, 1024].map(bulk_owned));
    for scheduler in [CurrentThread, TwoWorkers, NpipeSpawn, NpipeBlockOn] {
        cases.push(exchange(scheduler));
    }
    for scheduler in [CurrentThread, TwoWorkers, NpipeSpawn] {
        cases.push(many(scheduler));
    }
    for kibibytes in [4, 64, 1024] {
        cases.extend(bulk_of_other_faces(kibibytes));
    }
    cases.extend(exchange_of_other_faces());
    cases.push(Case {
        id: "connect".into(),
        title: "connect and accept".into(),
        metric: Metric::OperationsPerSecond,
        operations: 300,
        rounds: ROUNDS,
        runs: vec![
            npipe(|operations| traffic::connect_accept::<Npipe>(CurrentThread, operations)),
            tokio(|operations| traffic::connect_accept::<Tokio>(CurrentThread, operations)),
            (Implementation::Bare, Box::new(threads::connect_accept)),
        ],
    });
    cases.push(Case {
        id: "idle".into(),
        title: "heap of an idle connection, server and client".into(),
        metric: Metric::HeapBytesPerOperation,
        operations: 1000,
        // The heap does not jitter as time does.
        rounds: 3,
        runs: vec![
            npipe(|connections| traffic::idle::<Npipe>(CurrentThread, connections)),
            tokio(|connections| traffic::idle::<Tokio>(CurrentThread, connections)),
        ],
    });
    cases
}

/// On what Tokio's pipes run beside npipe's on `scheduler`.
fn of_tokio(scheduler: Scheduler) -> Scheduler {
    match scheduler {
        CurrentThread | TwoWorkers => scheduler,
        NpipeSpawn | NpipeBlockOn => CurrentThread,
    }
}

fn many(scheduler: Scheduler) -> Case {
    Case {
        id: format!("many{}", suffix(scheduler)),
        title: format!("64 connections at once, 256 B each way{}", remark(scheduler)),
        metric: Metric::OperationsPerSecond,
        operations: 64 * 24,
        rounds: ROUNDS,
        runs: vec![
            npipe(move |operations| traffic::exchanges::<Npipe>(scheduler, 64, 256, operations)),
            tokio(move |operations| traffic::exchanges::<Tokio>(of_tokio(scheduler), 64, 256, operations)),
        ],
    }
}

fn bulk(scheduler: Scheduler, kibibytes: usize) -> Case {
    let bytes = kibibytes * 1024;
    let runs = vec![
        npipe(move |operations| traffic::bulk::<Npipe>(scheduler, bytes, operations)),
        tokio(move |operations| traffic::bulk::<Tokio>(of_tokio(scheduler), bytes, operations)),
        // These two have threads or a runtime of their own, and stand beside all schedulers.
        (Implementation::Bare, Box::new(move |operations| threads::bulk::<Bare>(bytes, operations))),
        (Implementation::Compio, Box::new(move |operations| completion::bulk(bytes, operations))),
    ];
    Case {
        id: format!("bulk-{kibibytes}k{}", suffix(scheduler)),
        title: format!("bulk, {kibibytes} KiB writes{}", remark(scheduler)),
        metric: Metric::MebibytesPerSecond { bytes },
        operations: bulk_operations(kibibytes),
        rounds: ROUNDS,
        runs,
    }
}

/// Beside the case of the same size over the traits, and beside those whose buffers are owned too.
fn bulk_owned(kibibytes: usize) -> Case {
    let bytes = kibibytes * 1024;
    Case {
        id: format!("bulk-{kibibytes}k-owned"),
        title: format!("bulk, {kibibytes} KiB writes, owned buffers"),
        metric: Metric::MebibytesPerSecond { bytes },
        operations: bulk_operations(kibibytes),
        rounds: ROUNDS,
        runs: vec![
            npipe(move |operations| traffic::bulk_owned(CurrentThread, bytes, operations)),
            (Implementation::Bare, Box::new(move |operations| threads::bulk::<Bare>(bytes, operations))),
            (Implementation::Compio, Box::new(move |operations| completion::bulk(bytes, operations))),
        ],
    }
}

fn exchange(scheduler: Scheduler) -> Case {
    let runs = vec![
        npipe(move |operations| traffic::exchanges::<Npipe>(scheduler, 1, 64, operations)),
        tokio(move |operations| traffic::exchanges::<Tokio>(of_tokio(scheduler), 1, 64, operations)),
        (Implementation::Bare, Box::new(|operations| threads::exchanges::<Bare>(64, operations))),
        (Implementation::Compio, Box::new(|operations| completion::exchanges(64, operations))),
    ];
    Case {
        id: format!("exchange{}", suffix(scheduler)),
        title: format!("request/response 64 B{}", remark(scheduler)),
        metric: Metric::MicrosecondsPerOperation,
        operations: 500,
        rounds: ROUNDS,
        runs,
    }
}

/// How many operations of a bulk case take a fraction of a second.
fn bulk_operations(kibibytes: usize) -> u32 {
    match kibibytes {
        4 => 1024,
        64 => 256,
        _ => 24,
    }
}

fn bulk_of_other_faces(kibibytes: usize) -> [Case; 2] {
    let bytes = kibibytes * 1024;
    let case = |face: &str, runs| Case {
        id: format!("bulk-{kibibytes}k-{face}"),
        title: format!("bulk, {kibibytes} KiB writes, {face} face"),
        metric: Metric::MebibytesPerSecond { bytes },
        operations: bulk_operations(kibibytes),
        rounds: ROUNDS,
        runs,
    };
    let blocking: Vec<(Implementation, Run)> = vec![
        npipe(move |operations| threads::bulk::<NpipeBlocking>(bytes, operations)),
        (Implementation::Bare, Box::new(move |operations| threads::bulk::<Bare>(bytes, operations))),
        (
            Implementation::Interprocess,
            Box::new(move |operations| threads::bulk::<Interprocess>(bytes, operations)),
        ),
    ];
    let readiness: Vec<(Implementation, Run)> = vec![
        npipe(move |operations| readiness::npipe::bulk(bytes, operations)),
        (Implementation::Mio, Box::new(move |operations| readiness::mio::bulk(bytes, operations))),
    ];
    [case("blocking", blocking), case("readiness", readiness)]
}

fn exchange_of_other_faces() -> [Case; 2] {
    let case = |face: &str, runs| Case {
        id: format!("exchange-{face}"),
        title: format!("request/response 64 B, {face} face"),
        metric: Metric::MicrosecondsPerOperation,
        operations: 500,
        rounds: ROUNDS,
        runs,
    };
    let blocking: Vec<(Implementation, Run)> = vec![
        npipe(|operations| threads::exchanges::<NpipeBlocking>(64, operations)),
        (Implementation::Bare, Box::new(|operations| threads::exchanges::<Bare>(64, operations))),
        (
            Implementation::Interprocess,
            Box::new(|operations| threads::exchanges::<Interprocess>(64, operations)),
        ),
    ];
    let readiness: Vec<(Implementation, Run)> = vec![
        npipe(|operations| readiness::npipe::exchanges(64, operations)),
        (Implementation::Mio, Box::new(|operations| readiness::mio::exchanges(64, operations))),
    ];
    [case("blocking", blocking), case("readiness", readiness)]
}

fn npipe(run: impl Fn(u32) -> io::Result<Round> + 'static) -> (Implementation, Run) {
    (Implementation::Npipe, Box::new(run))
}

fn tokio(run: impl Fn(u32) -> io::Result<Round> + 'static) -> (Implementation, Run) {
    (Implementation::Tokio, Box::new(run))
}

fn suffix(scheduler: Scheduler) -> &'static str {
    match scheduler {
        CurrentThread => "",
        TwoWorkers => "-multi",
        NpipeSpawn => "-spawn",
        NpipeBlockOn => "-block-on",
    }
}

fn remark(scheduler: Scheduler) -> &'static str {
    match scheduler {
        CurrentThread => "",
        TwoWorkers => ", runtime of two workers",
        NpipeSpawn => ", npipe::spawn",
        NpipeBlockOn => ", npipe::block_on",
    }
}
