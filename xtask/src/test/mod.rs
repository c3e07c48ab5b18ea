//! `cargo xtask test`: every test there is, each where it can run.

mod binary;
pub(crate) mod libtest;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::launcher;
use crate::process::{BUILD_LIMIT, Ending, Limits, follow, line_of, output_of};
use crate::progress::{Report, Tally};
use crate::setup;
use crate::setup::wine::Wine;
use crate::windows::Windows;
use crate::workspace::Workspace;
use crate::wrapper;
use binary::{Binary, Machine};
use libtest::{Outcome, Transcript};

/// The target whose leak detector and instrumented allocator AddressSanitizer brings.
const SANITIZED_TARGET: &str = "x86_64-unknown-linux-gnu";

/// Which tests to run.
#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// Only the tests whose name contains this; leaves out documentation tests, loom,
    /// AddressSanitizer and Miri
    name: Option<String>,
    /// Only what needs no Windows: state machine, xtask, loom, AddressSanitizer, Miri
    #[arg(long, conflicts_with = "windows")]
    native: bool,
    /// Only what runs on Windows or under Wine
    #[arg(long)]
    windows: bool,
}

/// A step that ran tests.
pub(crate) struct Ran {
    pub(crate) title: String,
    pub(crate) tally: Tally,
    /// Each test with its result, where xtask starts the program itself.
    pub(crate) tests: Vec<(String, Outcome)>,
}

impl Options {
    /// Selects the suites that run on Windows, and of them the tests whose names contain `name`.
    pub(crate) fn windows(name: Option<String>) -> Self {
        Self { name, native: false, windows: true }
    }

    /// How many seeded schedules the simulated kernel plays: a search, or just the way to a named
    /// test.
    fn schedules(&self) -> &'static str {
        if self.name.is_some() { "1000" } else { "100000" }
    }
}

pub(crate) fn run(workspace: &Workspace, report: &mut Report, options: &Options) -> Result<()> {
    report.count(Tally::default());
    if !options.windows {
        native(workspace, report, options);
        if options.name.is_none() {
            loom(workspace, report);
            address_sanitizer(workspace, report);
            miri(workspace, report);
        }
    }
    if !options.native {
        let windows = setup::everything(workspace, report)?;
        on_windows(workspace, report, options, &windows)?;
    }
    Ok(())
}

/// The state machine against the simulated kernel, and the chores themselves.
fn native(workspace: &Workspace, report: &mut Report, options: &Options) {
    let mut suite = Suite::new(workspace, report, options, Machine::Here);
    // Optimised: a hundred thousand schedules take seconds instead of minutes, and overflow checks stay
    // on.
    let mut machine = workspace.cargo("test");
    machine.args(["--package", "npipe", "--all-features"]).env("CARGO_PROFILE_TEST_OPT_LEVEL", "2");
    suite.run("native: npipe", machine, &[("NPIPE_SCHEDULES", options.schedules())]);
    let mut chores = workspace.cargo("test");
    chores.args(["--package", "xtask"]);
    suite.run("native: xtask", chores, &[]);
    if options.native {
        tool_on_this_system(workspace, report, options, &[]);
    }
}

/// The tool where it is not Windows', with what its tests need to know of the Windows side, if
/// there is one.
fn tool_on_this_system(
    workspace: &Workspace,
    report: &mut Report,
    options: &Options,
    windows_side: &[(&str, &str)],
) {
    let mut tool = workspace.cargo("test");
    tool.args(["--package", "npipe-cli"]);
    let mut suite = Suite::new(workspace, report, options, Machine::Here);
    suite.run("native: npipe-cli", tool, windows_side);
}

/// The bridge is tested from Linux: with `npipe`, a Windows program, at its other end.
fn bridge(
    workspace: &Workspace,
    report: &mut Report,
    options: &Options,
    wine: &Wine,
    npipe: &Path,
) -> Result<()> {
    let pipe_to_tcp = npipe.with_file_name("examples").join("pipe_to_tcp.exe");
    let program = |name: &str, executable: &Path| {
        let path = workspace.cache.join(name);
        launcher::write(&path, &wine.program(executable)).map(|()| path.to_string_lossy().into_owned())
    };
    let npipe = program("npipe-under-wine", npipe)?;
    let pipe_to_tcp = program("pipe-to-tcp-under-wine", &pipe_to_tcp)?;
    let windows_side =
        [("NPIPE_TEST_WINDOWS_EXE", npipe.as_str()), ("NPIPE_TEST_PIPE_TO_TCP", pipe_to_tcp.as_str())];
    tool_on_this_system(workspace, report, options, &windows_side);
    Ok(())
}

/// Runs all suites of Windows.
pub(crate) fn on_windows(
    workspace: &Workspace,
    report: &mut Report,
    options: &Options,
    windows: &Windows,
) -> Result<Vec<Ran>> {
    let mut suite = Suite::new(workspace, report, options, Machine::Windows(windows));
    let mut everything = windows.cargo(workspace, "test");
    // Builds the examples too.
    everything.args(["--workspace", "--exclude", "xtask", "--all-features"]);
    let npipe = suite.run("Windows: all packages, with examples", everything, &[("NPIPE_SCHEDULES", "1000")]);

    let title = "Windows: behaviour, every completion through the port";
    if workspace.has_target("npipe", "test", "behaviour") {
        let mut queued = windows.cargo(workspace, "test");
        queued.args(["--package", "npipe", "--all-features", "--test", "behaviour"]);
        wrapper::add_cfg(&mut queued, "npipe_test_always_queue")?;
        suite.run(title, queued, &[]);
    } else {
        suite.report.skip_step(title, "npipe has no test target `behaviour`");
    }
    let mut ran = suite.ran;
    if let (Windows::Wine { wine, .. }, Some(npipe)) = (windows, npipe) {
        bridge(workspace, report, options, wine, &npipe)?;
    }

    if options.name.is_none() {
        let mut command = windows.cargo(workspace, "test");
        command.args(["--doc", "--package", "npipe", "--all-features"]);
        ran.push(run_through_cargo(report, "Windows: documentation tests", command));
        let mut command = workspace.cargo("test");
        command.args(["--doc", "--package", "npipe", "--all-features"]);
        if cfg!(not(windows)) {
            run_through_cargo(report, "native: documentation tests", command);
        }
    }
    Ok(ran)
}

/// Every interleaving of the few threads that hand over operations and wakers.
fn loom(workspace: &Workspace, report: &mut Report) {
    let mut command = workspace.cargo("test");
    // Without features: Tokio has a `cfg(loom)` of its own, under which it does not build outside its
    // repository.
    command.args(["--package", "npipe", "--no-default-features", "--release", "--lib"]);
    command.arg("--target-dir").arg(special_target(workspace, "loom")).arg("loom");
    command.env("RUSTFLAGS", "--cfg loom");
    run_through_cargo(report, "native: loom", command);
}

/// Ownership of in-flight operations: use after free, double free, leaks.
fn address_sanitizer(workspace: &Workspace, report: &mut Report) {
    let title = "native: AddressSanitizer";
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return report.skip_step(title, "runs on x86_64 Linux only");
    }
    if workspace.cargo_of("nightly", "--version").output().map_or(true, |output| !output.status.success()) {
        return report.skip_step(title, "no nightly toolchain; `rustup toolchain install nightly` brings it");
    }
    let mut command = workspace.cargo_of("nightly", "test");
    command.args(["--package", "npipe", "--all-features", "--lib", "--target", SANITIZED_TARGET]);
    command.arg("--target-dir").arg(special_target(workspace, "address-sanitizer"));
    command.env("RUSTFLAGS", "-Zsanitizer=address").env("CARGO_PROFILE_TEST_OPT_LEVEL", "1");
    command.env("ASAN_OPTIONS", "detect_leaks=1").env("NPIPE_SCHEDULES", "5000");
    run_through_cargo(report, title, command);
}

/// Undefined behaviour of any kind, slowly.
fn miri(workspace: &Workspace, report: &mut Report) {
    let title = "native: Miri";
    let mut version = workspace.cargo_of("nightly", "miri");
    if version.arg("--version").output().map_or(true, |output| !output.status.success()) {
        let reason = "no component miri; `rustup toolchain install nightly --component miri` brings it";
        return report.skip_step(title, reason);
    }
    let mut command = workspace.cargo_of("nightly", "miri");
    command.args(["test", "--package", "npipe", "--all-features", "--lib"]);
    command.arg("--target-dir").arg(special_target(workspace, "miri"));
    command
        // The driver of the process has a thread that never ends, which counts as a leak.
        // AddressSanitizer looks for others.
        .env("MIRIFLAGS", "-Zmiri-strict-provenance -Zmiri-disable-isolation -Zmiri-ignore-leaks")
        // Miri looks at memory, not at values: a few cases reach all the code, and each takes
        // seconds.
        .env("NPIPE_SCHEDULES", "10")
        .env("PROPTEST_CASES", "4")
        // Tests of panics would spend minutes on theirs.
        .env("RUST_BACKTRACE", "0");
    run_through_cargo(report, title, command);
}

/// A target directory of its own, for flags that would otherwise rebuild the main one at each
/// change.
fn special_target(workspace: &Workspace, name: &str) -> PathBuf {
    workspace.cache.join("target").join(name)
}

/// Test binaries that we start ourselves, to notice when one hangs.
struct Suite<'a> {
    workspace: &'a Workspace,
    report: &'a mut Report,
    options: &'a Options,
    machine: Machine<'a>,
    ran: Vec<Ran>,
}

impl<'a> Suite<'a> {
    fn new(
        workspace: &'a Workspace,
        report: &'a mut Report,
        options: &'a Options,
        machine: Machine<'a>,
    ) -> Self {
        Self { workspace, report, options, machine, ran: Vec::new() }
    }

    /// Builds what `cargo`, a `cargo test` command, builds, and runs each of its test binaries as a
    /// step. Gives back the program `npipe`, if it was built.
    fn run(
        &mut self,
        title: &str,
        mut cargo: std::process::Command,
        environment: &[(&str, &str)],
    ) -> Option<PathBuf> {
        cargo.args(["--no-run", "--message-format=json-render-diagnostics"]);
        let built = self.report.attempt(&format!("{title}: build"), |step| {
            output_of(step, &mut cargo, BUILD_LIMIT).map(|messages| binary::Built::from_messages(&messages))
        });
        let built = built?;
        for binary in &built.tests {
            self.run_binary(title, binary, built.tool.as_deref(), environment);
        }
        built.tool
    }

    fn run_binary(
        &mut self,
        title: &str,
        binary: &Binary,
        tool: Option<&Path>,
        environment: &[(&str, &str)],
    ) {
        let short = binary.name(&self.workspace.root);
        let title = format!("{title}: {short}");
        let mut tally = Tally::default();
        let mut skipped = Vec::new();
        let mut tests = Vec::new();
        self.report.attempt(&title, |step| {
            let run =
                binary::run(step, &self.machine, binary, tool, self.options.name.as_deref(), environment)?;
            tally = run.tally();
            skipped = run.skipped();
            tests = run.outcomes();
            run.verdict()
        });
        self.report.count(tally);
        for (test, reason) in skipped {
            self.report.skip_test(test, reason);
        }
        self.ran.push(Ran { title, tally, tests });
    }
}

/// Runs `command`, which starts its test binaries itself, as one step.
fn run_through_cargo(report: &mut Report, title: &str, mut command: std::process::Command) -> Ran {
    let mut transcript = Transcript::default();
    let mut both = String::new();
    report.attempt(title, |step| {
        let limits = Limits { quiet: Duration::from_secs(600), ..BUILD_LIMIT };
        let ending = follow(&mut command, limits, |_, line| {
            transcript.read(line);
            both.push_str(line);
            both.push('\n');
            step.now(line.trim());
            true
        })?;
        match ending {
            Ending::Exited(status) if status.success() => Ok(()),
            Ending::Exited(status) => bail!("`{}` ended with {status}:\n{both}", line_of(&command)),
            Ending::TooLong(_) => bail!(
                "`{}` hung and was killed, in: {}\n{both}",
                line_of(&command),
                transcript.running().collect::<Vec<_>>().join(", ")
            ),
        }
    });
    report.count(transcript.tally());
    Ran { title: title.to_owned(), tally: transcript.tally(), tests: Vec::new() }
}
