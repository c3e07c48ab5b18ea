//! Completions and manual pages, by the programs that read them.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::process::Npipe;

/// What bash offers for `line`, whose last word is the one to complete.
async fn bash_offers(line: &str) -> Vec<String> {
    let script = Npipe::start(&["completions", "bash"]).finish().await;
    script.code(0).no_stderr();
    let words: Vec<_> = line.split(' ').collect();
    let [.., previous, current] = words[..] else { panic!("{line:?} has too few words") };
    let ask = format!(
        "{}\nCOMP_WORDS=({}) COMP_CWORD={}\n_npipe npipe '{current}' '{previous}'\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"",
        String::from_utf8(script.stdout).unwrap(),
        words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" "),
        words.len() - 1,
    );
    let answer = Command::new("bash").args(["--norc", "-c", &ask]).output().unwrap();
    assert!(answer.stderr.is_empty(), "{}", String::from_utf8_lossy(&answer.stderr));
    String::from_utf8(answer.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn bash_completes_commands_flags_and_values() {
    assert_eq!(bash_offers("npipe forw").await, ["forward"]);
    assert_eq!(bash_offers("npipe forward --max").await, ["--max-connections"]);
    assert_eq!(bash_offers("npipe connect --eof").await, ["--eof-message"]);
    assert_eq!(bash_offers("npipe completions po").await, ["powershell"]);
}

#[tokio::test]
async fn what_only_npipe_itself_calls_is_not_offered() {
    let offered = bash_offers("npipe ").await;
    assert!(offered.iter().any(|word| word == "list"), "{offered:?}");
    assert!(!offered.iter().any(|word| word == "bridge-server"), "{offered:?}");
}

#[tokio::test]
async fn every_shell_has_completions() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let outcome = Npipe::start(&["completions", shell]).finish().await;
        outcome.code(0).no_stderr().stdout_has("max-connections");
    }
}

/// The page as a reader sees it, and what `man` complains of.
fn read_page(file: &Path) -> Option<(String, String)> {
    let mut man = Command::new("man");
    man.args(["--warnings", "-l"]).arg(file).env("MANWIDTH", "100").env("LC_ALL", "C").stdin(Stdio::null());
    let output = man.output().ok()?;
    Some((String::from_utf8_lossy(&output.stdout).into(), String::from_utf8_lossy(&output.stderr).into()))
}

#[tokio::test]
async fn man_shows_a_page_for_each_command_and_complains_of_none() {
    let directory = tempfile::tempdir().unwrap();
    let written = Npipe::start(&["man", directory.path().to_str().unwrap()]).finish().await;
    written.code(0).stdout(b"").no_stderr();
    let mut pages = Vec::new();
    for entry in directory.path().read_dir().unwrap() {
        let entry = entry.unwrap();
        let Some((text, complaints)) = read_page(&entry.path()) else {
            return eprintln!("skipped: man is not installed");
        };
        let name = entry.file_name().into_string().unwrap();
        assert_eq!(complaints, "", "{name}");
        pages.push((name, text));
    }
    let page = |name: &str| &pages.iter().find(|(file, _)| file == name).expect(name).1;
    for command in ["connect", "forward", "list", "info", "completions", "man"] {
        let text = page(&format!("npipe-{command}.1"));
        assert!(text.contains("EXAMPLES") && text.contains(&format!("         npipe {command} ")), "{text}");
    }
    assert!(page("npipe.1").contains("  3  no program serves the pipe"), "{}", page("npipe.1"));
    assert!(!pages.iter().any(|(name, _)| name.contains("bridge-server")));
}

#[tokio::test]
async fn without_a_directory_the_first_page_goes_to_stdout() {
    Npipe::start(&["man"]).finish().await.code(0).no_stderr().stdout_has(".TH npipe 1");
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let outcome = Npipe::start(&["man", file.path().to_str().unwrap()]).finish().await;
    outcome.code(1).stdout(b"").stderr_has(file.path().to_str().unwrap());
}
