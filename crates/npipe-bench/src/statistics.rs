//! Medians and the ratios of paired rounds. Knows numbers only.

/// A median with the smallest and the largest value it stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// The value in the middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Summary {
    /// `None` of no values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let upper = sorted.len() / 2;
        let lower = (sorted.len() - 1) / 2;
        Some(Self { median: f64::midpoint(sorted[lower], sorted[upper]), min, max })
    }
}

/// How many times the other side's value ours is: the ratio of the medians, with the spread of the
/// ratios round by round.
///
/// Rounds of the two sides alternate, so a pair has met the same state of the machine; the spread
/// therefore says how far the ratio itself can be trusted, which the two spreads alone do not.
pub fn ratio(ours: &[f64], theirs: &[f64]) -> Option<Summary> {
    let pairs = Summary::of(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs))?;
    let median = Summary::of(ours.iter().copied())?.median / Summary::of(theirs.iter().copied())?.median;
    Some(Summary { median, ..pairs })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_of_rounds_lies_between_the_two_in_the_middle() {
        assert_eq!(Summary::of([4.0, 1.0, 2.0, 100.0]), Some(Summary { median: 3.0, min: 1.0, max: 100.0 }));
        assert_eq!(Summary::of([2.0]), Some(Summary { median: 2.0, min: 2.0, max: 2.0 }));
        assert_eq!(Summary::of([]), None);
    }

    #[test]
    fn the_spread_of_a_ratio_is_taken_pair_by_pair() {
        // Both sides twice as slow in the second round: the ratio did not move.
        assert_eq!(ratio(&[2.0, 1.0], &[1.0, 0.5]), Some(Summary { median: 2.0, min: 2.0, max: 2.0 }));
    }
}
