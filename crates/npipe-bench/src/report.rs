//! The table that a run prints. Knows no pipe.

use crate::cases::{Case, Implementation};
use crate::markdown;
use crate::statistics::{Summary, ratio};

/// One case with the values of its rounds, an entry for each implementation.
pub(crate) struct Outcome {
    pub(crate) case: Case,
    pub(crate) values: Vec<(Implementation, Vec<f64>)>,
}

/// A line a case: medians, and npipe's ratio to each rival with the spread over the paired rounds.
pub(crate) fn table(outcomes: &[Outcome]) -> String {
    let rivals = &Implementation::ALL[1..];
    let titles = ["case".to_owned(), "unit".to_owned()]
        .into_iter()
        .chain(Implementation::ALL.map(|one| one.to_string()))
        .chain(rivals.iter().map(|rival| format!("npipe / {rival}")));
    let mut table = markdown::header(titles);
    for Outcome { case, values } in outcomes {
        let of = |who| values.iter().find(|(one, _)| *one == who).map(|(_, values)| values.as_slice());
        let medians =
            Implementation::ALL.map(|who| Some(number(Summary::of(of(who)?.iter().copied())?.median)));
        let ratios = rivals.iter().map(|rival| {
            let ratio = ratio(of(Implementation::Npipe)?, of(*rival)?)?;
            Some(format!("{:.2} ({:.2}..{:.2})", ratio.median, ratio.min, ratio.max))
        });
        let cells = medians.into_iter().chain(ratios).map(|cell| cell.unwrap_or_else(|| "-".to_owned()));
        table += &markdown::row([case.title.clone(), case.metric.unit().to_owned()].into_iter().chain(cells));
    }
    table
}

/// As many digits as these measurements carry.
fn number(value: f64) -> String {
    if value < 10.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}
