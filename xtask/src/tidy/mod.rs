//! House rules that no compiler checks: the direction of dependencies between modules, where
//! `unsafe` and Win32 may be named, that each file says what it is for, that each dependency has
//! its reason written down, that the tests and files which the comparison with peers names exist.

mod comparison;
mod layers;
mod source;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::workspace::Workspace;
use source::Source;

/// Names that say nothing of what is inside, so that anything ends up there.
const FORBIDDEN_NAMES: [&str; 6] = ["common", "helper", "helpers", "misc", "util", "utils"];

/// Where each dependency has a line that says why we have it.
const DEPENDENCY_LIST: &str = "docs/dependencies.md";

/// Everything that breaks a rule, one line each.
pub(crate) fn complaints(workspace: &Workspace) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    let mut files = Vec::new();
    for folder in ["crates", "xtask/src"] {
        rust_files(&workspace.root.join(folder), &mut files)?;
    }
    files.sort();
    let mut tests = HashSet::new();
    for file in files {
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("failed to read {}", file.display()))?;
        let place = file.strip_prefix(&workspace.root).unwrap_or(&file).to_string_lossy().replace('\\', "/");
        about_file(&place, &text, &mut complaints);
        tests.extend(comparison::tests_in(&place, &text));
    }
    let document = std::fs::read_to_string(workspace.root.join(comparison::PLACE))
        .with_context(|| format!("failed to read {}", comparison::PLACE))?;
    complaints.extend(comparison::complaints(&document, &tests, &workspace.root));
    about_dependencies(workspace, &mut complaints);
    Ok(complaints)
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("failed to list {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            rust_files(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn about_file(place: &str, text: &str, complaints: &mut Vec<String>) {
    if !text.starts_with("//!") {
        complaints.push(format!(
            "{place}:1: a file opens with a `//!` paragraph: what it is for, what it may not know"
        ));
    }
    let nondescript = place.trim_end_matches(".rs").split('/').find(|name| FORBIDDEN_NAMES.contains(name));
    if let Some(name) = nondescript {
        complaints
            .push(format!("{place}:1: `{name}` says nothing of what is inside; name it for what it does"));
    }
    if let Some(inside) = place.strip_prefix("crates/npipe/src/") {
        let source = Source::new(text);
        complaints.extend(layers::upward(inside, &source).map(|complaint| at(place, complaint)));
        complaints.extend(stray_unsafe(inside, &source).map(|complaint| at(place, complaint)));
        complaints.extend(stray_win32(inside, &source).map(|complaint| at(place, complaint)));
        complaints.extend(early_finality(inside, &source).map(|complaint| at(place, complaint)));
    }
}

/// A line number and what is wrong there.
type Complaint = (usize, String);

fn at(place: &str, (line, complaint): Complaint) -> String {
    format!("{place}:{line}: {complaint}")
}

/// `unsafe` outside the two modules that may use it. Functions whose signature Tokio gives are
/// `unsafe` anywhere.
fn stray_unsafe<'a>(inside: &str, source: &'a Source) -> impl Iterator<Item = Complaint> + 'a {
    let allowed = inside.starts_with("sys/") || inside.starts_with("driver/");
    let mut function = "";
    source.lines().filter_map(move |(number, line)| {
        if let Some(name) = source::function_declared_in(line) {
            function = name;
        }
        let given = function == "from_raw_handle" || function.ends_with("_raw");
        let stray = !allowed && !given && source::words(line).any(|word| word == "unsafe");
        stray.then(|| (number, "`unsafe` belongs into sys/ or driver/".to_owned()))
    })
}

/// Win32 outside `sys`. The decisions and the errors may know the numbers of its errors.
fn stray_win32<'a>(inside: &str, source: &'a Source) -> impl Iterator<Item = Complaint> + 'a {
    let calls = inside.starts_with("sys/");
    let numbers = inside.starts_with("machine/") || inside == "error.rs";
    source.lines().filter_map(move |(number, line)| {
        let stray = line.contains("windows_sys")
            && !calls
            && !(numbers && line.contains("windows_sys::Win32::Foundation"));
        stray.then(|| {
            (number, "Win32 belongs into sys/ (its error numbers also into machine/ and error.rs)".to_owned())
        })
    })
}

/// The driver asking whether an operation is final, which on Windows it is with its packet at the
/// earliest. What a packet brings is taken by `final_outcome`.
fn early_finality<'a>(inside: &'a str, source: &'a Source) -> impl Iterator<Item = Complaint> + 'a {
    let asks = source.lines().filter(move |(_, line)| {
        inside.starts_with("driver/") && source::words(line).any(|word| word == "is_final")
    });
    asks.map(|(number, _)| {
        let why = "a cancelled operation is final only with its packet: wait for that instead of `is_final`";
        (number, why.to_owned())
    })
}

fn about_dependencies(workspace: &Workspace, complaints: &mut Vec<String>) {
    let list = std::fs::read_to_string(workspace.root.join(DEPENDENCY_LIST)).unwrap_or_default();
    let mut dependencies = workspace.external_dependencies();
    dependencies.sort_unstable();
    dependencies.dedup();
    for (user, dependency) in dependencies {
        if !list.contains(&format!("`{dependency}`")) {
            complaints.push(format!(
                "{DEPENDENCY_LIST}: `{dependency}`, used by {user}, has no line that says why"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints_about(place: &str, text: &str) -> Vec<String> {
        let mut complaints = Vec::new();
        about_file(place, text, &mut complaints);
        complaints
    }

    #[test]
    fn unsafe_is_for_the_lowest_layers() {
        let text = "//! Text.\nfn f() {\n    unsafe { g() }\n}\n";
        assert!(complaints_about("crates/npipe/src/sys/io.rs", text).is_empty());
        assert!(complaints_about("crates/npipe/src/driver/thread.rs", text).is_empty());
        assert_eq!(
            complaints_about("crates/npipe/src/stream/mod.rs", text),
            ["crates/npipe/src/stream/mod.rs:3: `unsafe` belongs into sys/ or driver/"]
        );
    }

    #[test]
    fn signatures_that_tokio_gives_may_be_unsafe() {
        let text = "//! Text.\npub unsafe fn open_with_security_attributes_raw() {\n    unsafe { g() }\n}\nfn f() {\n    \
                    unsafe { g() }\n}\n";
        assert_eq!(complaints_about("crates/npipe/src/options.rs", text).len(), 1);
    }

    #[test]
    fn comments_and_strings_are_not_code() {
        let text = "//! Of unsafe and windows_sys.\n/* unsafe /* windows_sys */ */\nfn f() -> &'static str {\n    \
                    \"unsafe \\\" windows_sys\"\n}\n";
        assert!(complaints_about("crates/npipe/src/options.rs", text).is_empty());
    }

    #[test]
    fn the_machine_knows_numbers_only() {
        let numbers = "//! Text.\nuse windows_sys::Win32::Foundation::ERROR_MORE_DATA;\n";
        let calls = "//! Text.\nuse windows_sys::Win32::System::Pipes::ConnectNamedPipe;\n";
        assert!(complaints_about("crates/npipe/src/machine/verdict.rs", numbers).is_empty());
        assert_eq!(complaints_about("crates/npipe/src/machine/verdict.rs", calls).len(), 1);
        assert_eq!(complaints_about("crates/npipe/src/stream/mod.rs", numbers).len(), 1);
    }

    #[test]
    fn the_driver_waits_for_packets() {
        let text = "//! Text.\nfn f(overlapped: &Overlapped) {\n    overlapped.is_final();\n}\n";
        assert_eq!(complaints_about("crates/npipe/src/driver/operation.rs", text).len(), 1);
        assert!(complaints_about("crates/npipe/src/sys/windows/event.rs", text).is_empty());
    }

    #[test]
    fn a_file_says_what_it_is_for_and_has_a_name() {
        assert_eq!(complaints_about("xtask/src/util.rs", "fn f() {}\n").len(), 2);
    }
}
