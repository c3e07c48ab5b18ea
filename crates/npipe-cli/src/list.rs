//! `npipe list`: the pipes of this machine, by reading their directory, which opens none of them.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Value, json};
use wildmatch::WildMatch;

use crate::cli::ListArguments;
use crate::exit::{Exit, Failure};
use crate::output;

/// The root of the file system of pipes. It reads as a directory, on Windows.
const DIRECTORY: &str = r"\\.\pipe\";

/// What Wine says: ERROR_BAD_DEV_TYPE.
const WINE_REFUSES: i32 = 66;

/// A pipe as its directory tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    name: String,
    /// How many instances exist, with a client or without.
    instances: u64,
}

pub(crate) fn run(arguments: &ListArguments) -> Result<(), Failure> {
    let entries = read(Path::new(DIRECTORY)).map_err(|error| refused(&error))?;
    let entries = selected(entries, arguments.pattern.as_deref());
    output::write(&if arguments.json { document(&entries) } else { table(&entries) })
}

/// Windows gives the number of a pipe's instances where a file has its size
/// (`EndOfFile` of [`NtQueryDirectoryFile`](https://learn.microsoft.com/windows-hardware/drivers/ddi/ntifs/ns-ntifs-_file_directory_information)).
/// It comes with the names, so that `metadata` makes no call.
fn read(directory: &Path) -> io::Result<Vec<Entry>> {
    fs::read_dir(directory)?
        .map(|entry| {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            Ok(Entry { name, instances: entry.metadata()?.len() })
        })
        .collect()
}

fn refused(error: &io::Error) -> Failure {
    let cause = match error.raw_os_error() {
        Some(WINE_REFUSES) => "Wine has no directory of pipes".to_owned(),
        _ => error.to_string(),
    };
    let remedy = "a pipe whose name you know can be asked for with `npipe info`";
    Failure::new(Exit::NotListed, format!("the system does not list its pipes: {cause}; {remedy}"))
}

/// In order of the names, as people read them.
fn selected(mut entries: Vec<Entry>, pattern: Option<&str>) -> Vec<Entry> {
    if let Some(pattern) = pattern {
        let has_wildcards = pattern.contains(['*', '?']);
        let pattern = if has_wildcards { pattern.to_owned() } else { format!("*{pattern}*") };
        let pattern = WildMatch::new_case_insensitive(&pattern);
        entries.retain(|entry| pattern.matches(&entry.name));
    }
    entries.sort_by_cached_key(|entry| (entry.name.to_lowercase(), entry.name.clone()));
    entries
}

fn table(entries: &[Entry]) -> String {
    let mut text = "INSTANCES  NAME\n".to_owned();
    for Entry { name, instances } in entries {
        text += &format!("{instances:>9}  {}\n", output::printable(name));
    }
    text
}

fn document(entries: &[Entry]) -> String {
    let entries: Vec<Value> = entries
        .iter()
        .map(|Entry { name, instances }| {
            json!({ "name": name, "path": format!("{DIRECTORY}{name}"), "instances": instances })
        })
        .collect();
    output::document(&Value::from(entries))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{Entry, document, selected, table};

    /// Names of a Windows 11 machine: with backslashes, dots, braces and capitals.
    fn recorded() -> Vec<Entry> {
        [
            ("InitShutdown", 3),
            ("lsass", 4),
            (r"Winsock2\CatalogChangeListener-3c4-0", 1),
            ("openssh-ssh-agent", 1),
            ("docker_engine", 14),
            (r"ProtectedPrefix\LocalService\FTHPIPE", 1),
            ("PIPE_EVENTROOT\\CIMV2SCM EVENT PROVIDER", 2),
            ("dotnet-diagnostic-7312", 1),
            ("Docker_Engine_Linux", 1),
        ]
        .map(|(name, instances)| Entry { name: name.to_owned(), instances })
        .to_vec()
    }

    fn names(pattern: &str) -> Vec<String> {
        selected(recorded(), Some(pattern)).into_iter().map(|entry| entry.name).collect()
    }

    #[test]
    fn names_are_in_order_whatever_their_case() {
        let text = table(&selected(recorded(), None));
        let first: Vec<&str> = text.lines().take(4).collect();
        assert_eq!(
            first,
            [
                "INSTANCES  NAME",
                "       14  docker_engine",
                "        1  Docker_Engine_Linux",
                "        1  dotnet-diagnostic-7312"
            ]
        );
        assert_eq!(text.lines().count(), 1 + recorded().len());
    }

    #[test]
    fn a_word_is_looked_for_anywhere_in_a_name() {
        assert_eq!(names("DOCKER"), ["docker_engine", "Docker_Engine_Linux"]);
        assert_eq!(names("ssh"), ["openssh-ssh-agent"]);
        assert!(names("nothing").is_empty());
    }

    #[test]
    fn a_pattern_with_wildcards_stands_for_the_whole_name() {
        assert_eq!(names("docker_engine*"), ["docker_engine", "Docker_Engine_Linux"]);
        assert_eq!(names("docker*e"), ["docker_engine"]);
        assert_eq!(names("l?ass"), ["lsass"]);
        assert_eq!(names(r"*\*"), names(r"\"));
        assert!(names("agent?").is_empty());
    }

    #[test]
    fn a_name_cannot_play_with_the_terminal() {
        let evil = [Entry { name: "a\u{1b}[2Jb".to_owned(), instances: 1 }];
        assert_eq!(table(&evil), "INSTANCES  NAME\n        1  a\\u{1b}[2Jb\n");
    }

    #[test]
    fn the_document_is_what_scripts_read() {
        let entries = selected(recorded(), Some("winsock2*"));
        let read: Value = serde_json::from_str(&document(&entries)).unwrap();
        let name = r"Winsock2\CatalogChangeListener-3c4-0";
        assert_eq!(read[0]["name"], name);
        assert_eq!(read[0]["path"], format!(r"\\.\pipe\{name}"));
        assert_eq!(read[0]["instances"], 1);
        assert_eq!(document(&[]), "[]\n");
    }
}
