//! `npipe list`: the pipes of this machine. Which there are the library asks the system, without
//! opening any.

use std::cmp::Ordering;
use std::io;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use wildmatch::WildMatch;

use crate::cli::ListArguments;
use crate::exit::{Exit, Failure};
use crate::output;

/// What a name is appended to.
const DIRECTORY: &str = r"\\.\pipe\";

/// What Wine says: ERROR_BAD_DEV_TYPE.
const WINE_REFUSES: i32 = 66;

/// A pipe as its directory tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    name: String,
    /// How many instances exist, with a client or without.
    instances: u32,
    /// How many there may be; `None` is any number.
    max_instances: Option<u32>,
}

/// Between two looks of `--watch`. The system has no notification for this directory.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Entry {
    fn order(&self) -> (String, String) {
        (self.name.to_lowercase(), self.name.clone())
    }
}

pub(crate) fn run(arguments: &ListArguments) -> Result<(), Failure> {
    let mut entries = listed(arguments)?;
    output::write(&if arguments.json { document(&entries) } else { table(&entries) })?;
    if !arguments.watch {
        return Ok(());
    }
    loop {
        thread::sleep(LOOK_AGAIN);
        let now = listed(arguments)?;
        output::write(&changes(&entries, &now))?;
        entries = now;
    }
}

fn listed(arguments: &ListArguments) -> Result<Vec<Entry>, Failure> {
    let entries = read().map_err(|error| refused(&error))?;
    Ok(selected(entries, arguments.pattern.as_deref()))
}

#[cfg(windows)]
fn read() -> io::Result<Vec<Entry>> {
    let pipes = npipe::list_pipes()?;
    let entry =
        |npipe::PipeEntry { name, instances, max_instances, .. }| Entry { name, instances, max_instances };
    Ok(pipes.into_iter().map(entry).collect())
}

#[cfg(not(windows))]
fn read() -> io::Result<Vec<Entry>> {
    Err(io::ErrorKind::Unsupported.into())
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
    entries.sort_by_cached_key(Entry::order);
    entries
}

fn table(entries: &[Entry]) -> String {
    let mut text = "INSTANCES  MOST  NAME\n".to_owned();
    for Entry { name, instances, max_instances } in entries {
        let most = max_instances.map_or("any".to_owned(), |most| most.to_string());
        text += &format!("{instances:>9}  {most:>4}  {}\n", output::printable(name));
    }
    text
}

/// One line for each pipe that came, went or has another number of instances; both lists are in
/// order.
fn changes(before: &[Entry], now: &[Entry]) -> String {
    let mut text = String::new();
    let (mut before, mut now) = (before, now);
    loop {
        let order = match (before.first(), now.first()) {
            (None, None) => return text,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => old.order().cmp(&new.order()),
        };
        let change = match order {
            Ordering::Less => Some(("-", &before[0])),
            Ordering::Greater => Some(("+", &now[0])),
            Ordering::Equal => (before[0] != now[0]).then_some(("=", &now[0])),
        };
        if let Some((sign, Entry { name, instances, .. })) = change {
            text += &format!("{sign}{instances:>8}  {}\n", output::printable(name));
        }
        before = &before[usize::from(order.is_le())..];
        now = &now[usize::from(order.is_ge())..];
    }
}

fn document(entries: &[Entry]) -> String {
    let entries: Vec<Value> = entries
        .iter()
        .map(|Entry { name, instances, max_instances }| {
            json!({
                "name": name,
                "path": format!("{DIRECTORY}{name}"),
                "instances": instances,
                "max_instances": max_instances,
            })
        })
        .collect();
    output::document(&Value::from(entries))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{Entry, Exit, changes, document, io, refused, selected, table};

    /// Names of a Windows 11 machine: with backslashes, dots, braces and capitals.
    fn recorded() -> Vec<Entry> {
        [
            ("InitShutdown", 3, None),
            ("lsass", 4, None),
            (r"Winsock2\CatalogChangeListener-3c4-0", 1, Some(1)),
            ("openssh-ssh-agent", 1, None),
            ("docker_engine", 14, None),
            (r"ProtectedPrefix\LocalService\FTHPIPE", 1, Some(1)),
            ("PIPE_EVENTROOT\\CIMV2SCM EVENT PROVIDER", 2, None),
            ("dotnet-diagnostic-7312", 1, Some(254)),
            ("Docker_Engine_Linux", 1, None),
        ]
        .map(|(name, instances, max_instances)| Entry { name: name.to_owned(), instances, max_instances })
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
                "INSTANCES  MOST  NAME",
                "       14   any  docker_engine",
                "        1   any  Docker_Engine_Linux",
                "        1   254  dotnet-diagnostic-7312"
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
    fn what_came_went_or_changed_has_a_line() {
        let before = selected(recorded(), None);
        let mut now = before.clone();
        now.retain(|entry| entry.name != "docker_engine");
        for entry in now.iter_mut().filter(|entry| entry.name == "lsass") {
            entry.instances = 5;
        }
        now.push(Entry { name: "zebra".to_owned(), instances: 2, max_instances: Some(9) });
        assert_eq!(changes(&before, &now), "-      14  docker_engine\n=       5  lsass\n+       2  zebra\n");
        assert_eq!(changes(&now, &now), "");
        assert_eq!(changes(&[], &now[..1]).lines().count(), 1);
    }

    #[test]
    fn a_name_cannot_play_with_the_terminal() {
        let evil = [Entry { name: "a\u{1b}[2Jb".to_owned(), instances: 1, max_instances: None }];
        assert_eq!(table(&evil), "INSTANCES  MOST  NAME\n        1   any  a\\u{1b}[2Jb\n");
    }

    #[test]
    fn a_refusal_is_told_with_its_cause_and_what_is_left_to_do() {
        let wine = refused(&io::Error::from_raw_os_error(66));
        assert_eq!(wine.exit, Exit::NotListed);
        assert!(
            wine.to_string().contains("Wine has no directory of pipes; a pipe whose name you know"),
            "{wine}"
        );
        let other = refused(&io::ErrorKind::PermissionDenied.into());
        assert_eq!(other.exit, Exit::NotListed);
        assert!(other.to_string().contains("its pipes: permission denied; a pipe"), "{other}");
    }

    #[test]
    fn the_document_is_what_scripts_read() {
        let entries = selected(recorded(), Some("winsock2*"));
        let read: Value = serde_json::from_str(&document(&entries)).unwrap();
        let name = r"Winsock2\CatalogChangeListener-3c4-0";
        assert_eq!(read[0]["name"], name);
        assert_eq!(read[0]["path"], format!(r"\\.\pipe\{name}"));
        assert_eq!((&read[0]["instances"], &read[0]["max_instances"]), (&1.into(), &1.into()));
        let any: Value = serde_json::from_str(&document(&selected(recorded(), Some("lsass")))).unwrap();
        assert_eq!(any[0]["max_instances"], Value::Null);
        assert_eq!(document(&[]), "[]\n");
    }
}
