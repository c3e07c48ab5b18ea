//! Tables in Markdown. Knows no number.

/// The line of titles and the rule below it.
pub fn header(titles: impl IntoIterator<Item: AsRef<str>>) -> String {
    let titles = row(titles);
    let columns = titles.matches('|').count() - 1;
    titles + &"|---".repeat(columns) + "|\n"
}

/// One line; no cell may hold a `|`.
pub fn row(cells: impl IntoIterator<Item: AsRef<str>>) -> String {
    let cells: String = cells.into_iter().map(|cell| format!("| {} ", cell.as_ref())).collect();
    cells + "|\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_has_a_rule_for_each_column() {
        assert_eq!(header(["case", "µs"]), "| case | µs |\n|---|---|\n");
    }
}
