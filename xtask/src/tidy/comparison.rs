//! `docs/comparison.md` says what npipe does beside its peers. What it names as proof has to exist:
//! tests, written as `behaviour::messages::a_test` after the file that holds them, and the files
//! that it links to.

use std::collections::HashSet;
use std::path::Path;

use super::source::function_declared_in;

pub(super) const PLACE: &str = "docs/comparison.md";

/// The functions of one file of tests, as the document calls them.
pub(super) fn tests_in(place: &str, text: &str) -> Vec<String> {
    let Some((_, inside)) = place.split_once("/tests/") else { return Vec::new() };
    let file = inside.trim_end_matches(".rs").trim_end_matches("/main").replace('/', "::");
    text.lines().filter_map(function_declared_in).map(|function| format!("{file}::{function}")).collect()
}

pub(super) fn complaints<'a>(
    document: &'a str,
    tests: &'a HashSet<String>,
    root: &'a Path,
) -> impl Iterator<Item = String> + 'a {
    (1..).zip(document.lines()).flat_map(move |(number, line)| {
        let missing_tests = named_tests(line)
            .filter(|test| !tests.contains(*test))
            .map(move |test| format!("{PLACE}:{number}: there is no test `{test}`"));
        let missing_files = linked_files(line)
            .filter(|file| !root.join("docs").join(file).exists())
            .map(move |file| format!("{PLACE}:{number}: there is no file {file}"));
        missing_tests.chain(missing_files)
    })
}

/// What stands in backticks and has the form of a test: words of the library begin with its name or
/// a capital.
fn named_tests(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2).filter(|code| {
        code.contains("::")
            && code.split("::").all(|word| {
                word != "npipe"
                    && word.chars().all(|c| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit())
            })
    })
}

fn linked_files(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', '#']).next())
        .filter(|link| link.starts_with("../"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_does_not_exist_is_told_and_so_is_a_file() {
        let text = "async fn whole<F>() {}\n    fn other() {}";
        let tests: HashSet<String> = tests_in("crates/npipe/tests/behaviour/messages.rs", text)
            .into_iter()
            .chain(tests_in("crates/npipe/tests/tasks.rs", "fn one() {}"))
            .chain(tests_in("crates/npipe-cli/tests/bridge/main.rs", "fn two() {}"))
            .collect();
        let document = "`behaviour::messages::whole`, `tasks::one`, `bridge::two`, `npipe::pair`, `PipeMode::Message`\n\
                        `tasks::none` [text](../nowhere.rs#L1) [here](../docs) [text](#anchor)";
        let complaints: Vec<_> = complaints(document, &tests, Path::new("/nonexistent")).collect();
        assert_eq!(
            complaints,
            [
                "docs/comparison.md:2: there is no test `tasks::none`",
                "docs/comparison.md:2: there is no file ../nowhere.rs",
                "docs/comparison.md:2: there is no file ../docs",
            ]
        );
    }
}
