//! `cargo xtask mutants`: how many small faults in the code the library's native tests notice.
//!
//! cargo-mutants changes one expression at a time and runs the tests. A change that no test notices
//! is a survivor: a test is missing there, or the code is not needed. Only code that native tests
//! can reach is changed, which leaves out all that is compiled for Windows alone.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::{BUILD_LIMIT, Ending, Limits, follow, is_installed, line_of, output_of};
use crate::progress::{Report, Step};
use crate::workspace::Workspace;

/// Another version may number the mutants differently, and so choose other ones for the shard.
const VERSION: &str = "27.1.0";

/// The folders whose code is changed: the state machines, and the stream that executes them.
const FOLDERS: [&str; 2] = ["crates/npipe/src/machine", "crates/npipe/src/stream"];

/// One mutant of ten is the default: about a hundred.
const SHARDS: &str = "0/10";

/// The seconds after which the tests of a mutant are killed, which counts as noticed. They take
/// about five.
const MUTANT_LIMIT: &str = "60";

/// A mutant is a line of output, and each has its own limit.
const LIMITS: Limits =
    Limits { quiet: Duration::from_secs(15 * 60), total: Duration::from_secs(12 * 60 * 60) };

/// Which mutants to try.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// All mutants, which takes hours; without it a fixed shard of about a hundred
    #[arg(long)]
    all: bool,
    /// Only mutants whose description matches this regular expression, of all or of the shard
    #[arg(long, value_name = "REGEX")]
    only: Option<String>,
    /// Try N mutants at once, each in a copy of the repository
    #[arg(long, value_name = "N", default_value_t = 1)]
    jobs: usize,
    /// Fail if the tests notice less than PERCENT of the mutants; without it survivors are listed
    /// and nothing fails
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(..=100))]
    minimum: Option<u8>,
}

pub(crate) fn run(workspace: &Workspace, report: &mut Report, options: &Options) -> Result<()> {
    let program = report.require("setup: cargo-mutants", |step| provide(workspace, step))?;
    let mut mutants = Command::new(program);
    mutants.args(["mutants", "--package", "npipe", "--timeout", MUTANT_LIMIT, "--colors=never"]);
    mutants.args(["--no-times", "--caught", "--jobs", &options.jobs.to_string()]);
    mutants.args(["--exclude", "crates/npipe/src/stream/tests/**", "--exclude-re", "impl Debug"]);
    for folder in FOLDERS {
        mutants.args(["--file", &format!("{folder}/**")]);
        for pattern in windows_only(&workspace.root.join(folder))? {
            mutants.args(["--exclude-re", &format!("{folder}/{pattern}")]);
        }
    }
    if !options.all {
        mutants.args(["--shard", SHARDS, "--sharding", "round-robin"]);
    }
    mutants.args(options.only.iter().flat_map(|only| ["--re", only]));
    let (output, copies) = (workspace.cache.join("mutants"), workspace.cache.join("mutants/copies"));
    std::fs::create_dir_all(&copies).with_context(|| format!("failed to create {}", copies.display()))?;
    mutants.arg("--output").arg(&output).args(["--", "--lib"]);
    mutants.current_dir(&workspace.root).env("TMPDIR", &copies);
    // The killed tests are not debugged, and linking is most of the time.
    mutants.env("CARGO_PROFILE_DEV_DEBUG", "none").env("NPIPE_SCHEDULES", "1000");
    let score = report.require("mutants", |step| {
        try_mutants(step, &mut mutants)?;
        Score::read(&output.join("mutants.out"))
    })?;
    println!("\n{} of {} mutants noticed: {:.1} %", score.noticed, score.tried(), score.percent());
    score.survivors.iter().for_each(|survivor| println!("  survived: {survivor}"));
    match options.minimum {
        Some(minimum) if score.percent() < f64::from(minimum) => {
            bail!("less than {minimum} % of the mutants were noticed")
        }
        Some(_) | None => Ok(()),
    }
}

fn try_mutants(step: &Step, command: &mut Command) -> Result<()> {
    let mut last = Vec::new();
    let ending = follow(command, LIMITS, |_, line| {
        step.now(line);
        last.push(line.to_owned());
        true
    })?;
    match ending {
        // 2 and 3: mutants survived, or were killed after the limit.
        Ending::Exited(status) if matches!(status.code(), Some(0 | 2 | 3)) => Ok(()),
        Ending::Exited(status) => bail!("`{}` ended with {status}:\n{}", line_of(command), last.join("\n")),
        Ending::TooLong(quiet) => {
            bail!("`{}` was killed after {} s without progress", line_of(command), quiet.as_secs())
        }
    }
}

/// The program, which is installed below the target directory unless it is there.
fn provide(workspace: &Workspace, step: &Step) -> Result<PathBuf> {
    let root = workspace.cache.join("tools");
    let program = root.join("bin").join(format!("cargo-mutants{}", std::env::consts::EXE_SUFFIX));
    let is_there = Command::new(&program).args(["mutants", "--version"]).output();
    if is_there.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim().ends_with(VERSION)) {
        return Ok(program);
    }
    let mut install = workspace.cargo("install");
    install.args(["cargo-mutants", "--locked", "--force", "--version", VERSION, "--root"]).arg(&root);
    match output_of(step, &mut install, BUILD_LIMIT) {
        Ok(_) => Ok(program),
        Err(_) if is_installed("cargo-mutants") => {
            step.say("cargo-mutants of another version is used: its shard has other mutants");
            Ok("cargo-mutants".into())
        }
        Err(error) => Err(error.context(format!(
            "cargo-mutants is missing; `cargo install cargo-mutants --locked --version {VERSION}` installs it"
        ))),
    }
}

/// Patterns of the mutants in `folder` that no native test can notice: those of modules and
/// functions under `#[cfg(windows)]`.
fn windows_only(folder: &Path) -> Result<Vec<String>> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("failed to list {}", folder.display()))?;
    let mut patterns = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let Some(file) = path.file_name().and_then(|name| name.to_str()).filter(|name| name.ends_with(".rs"))
        else {
            continue;
        };
        let source =
            std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
        let items = items_under_windows(&source);
        patterns.extend(items.into_iter().map(|item| match item {
            Item::Module(name) => format!(r"{name}\.rs:"),
            Item::Function(name) => format!(r"{}:.*\b{name}\b", file.replace('.', r"\.")),
        }));
    }
    Ok(patterns)
}

#[derive(Debug, PartialEq, Eq)]
enum Item<'s> {
    Module(&'s str),
    Function(&'s str),
}

/// The modules and functions that directly follow `#[cfg(windows)]`.
fn items_under_windows(source: &str) -> Vec<Item<'_>> {
    let mut lines = source.lines().map(str::trim);
    let mut items = Vec::new();
    while lines.any(|line| line == "#[cfg(windows)]") {
        let item = lines.clone().find(|line| !line.starts_with("#[") && !line.starts_with("//"));
        let Some(item) = item else { continue };
        let words: Vec<&str> =
            item.split(|letter: char| !letter.is_alphanumeric() && letter != '_').collect();
        let name = |keyword| {
            words.iter().position(|word| *word == keyword).and_then(|at| words.get(at + 1)).copied()
        };
        items.extend(name("fn").map(Item::Function).or(name("mod").map(Item::Module)));
    }
    items
}

/// The outcome of the mutants that compiled.
#[derive(Debug)]
struct Score {
    noticed: usize,
    survivors: Vec<String>,
}

impl Score {
    fn read(folder: &Path) -> Result<Self> {
        let lines = |name: &str| -> Result<Vec<String>> {
            let path = folder.join(name);
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("failed to read {}", path.display()))?;
            Ok(text.lines().map(str::to_owned).collect())
        };
        let noticed = lines("caught.txt")?.len() + lines("timeout.txt")?.len();
        Ok(Self { noticed, survivors: lines("missed.txt")? })
    }

    fn tried(&self) -> usize {
        self.noticed + self.survivors.len()
    }

    fn percent(&self) -> f64 {
        if self.tried() == 0 { 100.0 } else { 100.0 * self.noticed as f64 / self.tried() as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compiled_for_windows_alone_is_found() {
        let source = "#[cfg(windows)]\nmod closed;\nmod read;\n\n#[cfg(windows)]\nuse a::mode;\n\
                      impl S {\n    #[cfg(windows)]\n    #[inline]\n    pub(crate) async fn wait(&self) {}\n\
                      \n    #[cfg(any(windows, test))]\n    fn both() {}\n}\n";
        assert_eq!(items_under_windows(source), [Item::Module("closed"), Item::Function("wait")]);
    }

    #[test]
    fn a_score_is_the_share_of_noticed_mutants() {
        let score = Score { noticed: 19, survivors: vec!["one".to_owned()] };
        assert_eq!((score.tried(), score.percent()), (20, 95.0));
    }
}
