//! The Markdown that a run prints. Knows no pipe.

use std::fmt::Write as _;

use crate::cases::{Case, Implementation};
use crate::statistics::{Summary, ratio};

/// One case with the values of its rounds, an entry for each implementation.
pub(crate) struct Outcome {
    pub(crate) case: Case,
    pub(crate) values: Vec<(Implementation, Vec<f64>)>,
}

/// A line a case: medians, and npipe's ratio to each rival with the spread over the paired rounds.
pub(crate) fn measured(outcomes: &[Outcome]) -> String {
    let mut table = header(
        ["case".into(), "unit".into()]
            .into_iter()
            .chain(Implementation::ALL.map(|one| one.to_string()))
            .chain(Implementation::ALL[1..].iter().map(|rival| format!("npipe / {rival}"))),
    );
    for Outcome { case, values } in outcomes {
        let of = |who| values.iter().find(|(one, _)| *one == who).map(|(_, values)| values.as_slice());
        let medians = Implementation::ALL.map(|who| {
            of(who).and_then(|values| Summary::of(values.iter().copied())).map(|all| number(all.median))
        });
        let ratios = Implementation::ALL[1..].iter().map(|rival| {
            let ratio = ratio(of(Implementation::Npipe)?, of(*rival)?)?;
            Some(format!("{:.2} ({:.2}..{:.2})", ratio.median, ratio.min, ratio.max))
        });
        let cells = medians.into_iter().chain(ratios).map(|cell| cell.unwrap_or_else(|| "-".into()));
        row(&mut table, [case.title.clone(), case.metric.unit().into()].into_iter().chain(cells));
    }
    table
}

/// Kernel calls of one operation: a line a case and implementation, the calls by falling number.
pub(crate) fn kernel_calls(counts: &[(String, Implementation, Vec<(String, f64)>)]) -> String {
    let mut table = header(["case", "over", "calls an operation", "of which"].map(String::from));
    for (title, implementation, calls) in counts {
        let sum: f64 = calls.iter().map(|(_, calls)| calls).sum();
        let parts: Vec<String> = calls.iter().map(|(name, calls)| format!("{name} {calls:.2}")).collect();
        row(&mut table, [title.clone(), implementation.to_string(), format!("{sum:.2}"), parts.join(", ")]);
    }
    table
}

fn header(titles: impl IntoIterator<Item = String>) -> String {
    let mut table = String::new();
    let titles: Vec<String> = titles.into_iter().collect();
    let columns = titles.len();
    row(&mut table, titles);
    table.push_str(&"|---".repeat(columns));
    table.push_str("|\n");
    table
}

fn row(table: &mut String, cells: impl IntoIterator<Item = String>) {
    for cell in cells {
        write!(table, "| {cell} ").expect("a String takes everything");
    }
    table.push_str("|\n");
}

/// Three significant digits are more than these measurements carry.
fn number(value: f64) -> String {
    if value < 10.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}
