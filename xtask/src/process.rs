//! Child processes: run to the end with their output kept, under time limits, with nothing left
//! behind.
//!
//! Every child carries a token in its environment, which its own children inherit. Stopping a
//! family means stopping every process that carries its token. Process groups would not do: Wine
//! detaches some of its children from them, and daemons leave them on purpose.

use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
#[cfg(windows)]
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, RwLock, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::progress::{Report, Step};

const TOKEN_VARIABLE: &str = "NPIPE_XTASK_FAMILY";

/// Told apart from every other run of xtask, also from an earlier one with the same process id.
static SESSION: LazyLock<String> = LazyLock::new(|| {
    let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{}-{}.", std::process::id(), started.as_nanos())
});

/// Held by whoever starts a process, and for good by an interrupt: nothing is started any more, and
/// nobody ends xtask, while it cleans up.
static STARTING: RwLock<()> = RwLock::new(());

/// Processes started together, and everything they start, stopped together.
pub(crate) struct Family {
    token: String,
    #[cfg(windows)]
    roots: Mutex<Vec<windows::Root>>,
}

impl Family {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let token = format!("{}{}.", *SESSION, COUNT.fetch_add(1, Ordering::Relaxed));
        Self {
            token,
            #[cfg(windows)]
            roots: Mutex::default(),
        }
    }

    /// Starts `command` as a member of this family.
    pub(crate) fn spawn(&self, command: &mut Command) -> Result<Child> {
        let _starting = STARTING.read().expect("no holder panics");
        let child = command
            .env(TOKEN_VARIABLE, &self.token)
            .spawn()
            .with_context(|| format!("failed to start `{}`", line_of(command)))?;
        #[cfg(windows)]
        {
            self.roots.lock().expect("no holder panics").push(windows::Root::of(&child)?);
            windows::register(windows::Root::of(&child)?);
        }
        Ok(child)
    }

    /// Kills every process of this family that is still alive.
    pub(crate) fn stop(&self) {
        #[cfg(unix)]
        unix::kill_carriers(&self.token);
        #[cfg(windows)]
        for root in self.roots.lock().expect("no holder panics").drain(..) {
            windows::kill_tree(&root);
        }
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        self.stop();
    }
}

/// On Ctrl-C, SIGTERM or SIGHUP: stops everything this run has started, then ends.
pub(crate) fn stop_everything_on_interrupt() {
    LazyLock::force(&SESSION);
    let handler = || {
        eprintln!("\ninterrupted: stopping what was started");
        let _for_good = STARTING.write().expect("no holder panics");
        #[cfg(unix)]
        unix::kill_carriers(&SESSION);
        #[cfg(windows)]
        windows::kill_registered();
        #[cfg(unix)]
        crate::scratch::remove_all();
        std::process::exit(130);
    };
    ctrlc::set_handler(handler).expect("nobody else handles interrupts");
}

/// To be called before xtask ends: what an interrupt stops looks like a failure to those who wait
/// for it, and they must not end xtask before all is stopped.
pub(crate) fn leave_the_end_to_an_interrupt() {
    drop(STARTING.read());
}

/// How long a child may take.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// Between two signs of progress.
    pub(crate) quiet: Duration,
    /// Altogether.
    pub(crate) total: Duration,
}

impl Limits {
    pub(crate) const fn total(total: Duration) -> Self {
        Self { quiet: total, total }
    }
}

/// For builds: no sane one takes this long, a lost network connection does.
pub(crate) const BUILD_LIMIT: Limits = Limits::total(Duration::from_secs(30 * 60));

/// How a child came to its end.
#[derive(Debug)]
pub(crate) enum Ending {
    Exited(ExitStatus),
    /// Killed by us after so long without progress (or altogether).
    TooLong(Duration),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stream {
    Out,
    Error,
}

/// Runs `command` and hands each line of its output to `on_line`, which says whether the line is a
/// sign of progress. A last line without its end is handed over too.
pub(crate) fn follow(
    command: &mut Command,
    limits: Limits,
    mut on_line: impl FnMut(Stream, &str) -> bool,
) -> Result<Ending> {
    let family = Family::new();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = family.spawn(command)?;
    let (sender, lines) = mpsc::channel();
    let out = child.stdout.take().expect("stdout is piped");
    let error = child.stderr.take().expect("stderr is piped");
    let readers = [read_lines(out, Stream::Out, sender.clone()), read_lines(error, Stream::Error, sender)];

    let started = Instant::now();
    let mut progressed = started;
    let mut ending = None;
    loop {
        match lines.recv_timeout(Duration::from_millis(200)) {
            Ok((stream, line)) => {
                if on_line(stream, &line) {
                    progressed = Instant::now();
                }
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                if child.try_wait().context("failed to wait for a child process")?.is_some() {
                    // Whoever still holds its output was left behind by it.
                    family.stop();
                }
            }
        }
        if ending.is_none() && (progressed.elapsed() > limits.quiet || started.elapsed() > limits.total) {
            ending = Some(Ending::TooLong(progressed.elapsed()));
            family.stop();
        }
    }
    for reader in readers {
        reader.join().expect("the reader does not panic");
    }
    let status = child.wait().context("failed to wait for a child process")?;
    Ok(ending.unwrap_or(Ending::Exited(status)))
}

fn read_lines(
    mut source: impl Read + Send + 'static,
    stream: Stream,
    sink: mpsc::Sender<(Stream, String)>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut pending = Vec::new();
        let mut chunk = [0; 8192];
        while let Ok(count @ 1..) = source.read(&mut chunk) {
            pending.extend_from_slice(&chunk[..count]);
            while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                let text = String::from_utf8_lossy(&line);
                // A closed channel means that nobody listens any more.
                let _ = sink.send((stream, text.trim_end_matches(['\r', '\n']).to_owned()));
            }
        }
        if !pending.is_empty() {
            let _ = sink.send((stream, String::from_utf8_lossy(&pending).into_owned()));
        }
    })
}

/// Runs `command` to its end and gives its standard output. A failure carries the whole output,
/// both streams.
pub(crate) fn output_of(step: &Step, command: &mut Command, limits: Limits) -> Result<String> {
    let mut out = String::new();
    let mut both = String::new();
    let ending = follow(command, limits, |stream, line| {
        if stream == Stream::Out {
            out.push_str(line);
            out.push('\n');
        }
        // Machine-readable output helps nobody who reads about a failure.
        if !(stream == Stream::Out && line.starts_with('{')) {
            let _ = writeln!(both, "{line}");
            step.now(line.trim());
        }
        true
    })?;
    match ending {
        Ending::Exited(status) if status.success() => Ok(out),
        Ending::Exited(status) => bail!("`{}` ended with {status}; its output:\n{both}", line_of(command)),
        Ending::TooLong(quiet) => bail!(
            "`{}` was killed after {} s without progress; its output:\n{both}",
            line_of(command),
            quiet.as_secs()
        ),
    }
}

/// Builds npipe's tool as users get it, with `cargo`, a `cargo build`, and gives the program.
pub(crate) fn build_tool(report: &mut Report, title: &str, mut cargo: Command) -> Result<PathBuf> {
    cargo.args(["--package", "npipe-cli"]);
    build_program(report, title, cargo)
}

/// Runs `cargo`, a `cargo build` of one program, and gives that.
pub(crate) fn build_program(report: &mut Report, title: &str, mut cargo: Command) -> Result<PathBuf> {
    cargo.args(["--release", "--message-format=json-render-diagnostics"]);
    report.require(title, |step| {
        let messages = output_of(step, &mut cargo, BUILD_LIMIT)?;
        let mut executables = messages
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .filter_map(|message| message["executable"].as_str().map(PathBuf::from));
        executables.next_back().context("cargo built no program")
    })
}

/// The command as one would type it.
pub(crate) fn line_of(command: &Command) -> String {
    let program = Path::new(command.get_program());
    // The path of the toolchain's cargo is long and says nothing.
    let program = program.file_name().unwrap_or(program.as_os_str());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Whether `program` can be started by its name.
pub(crate) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .any(|folder| folder.join(program).is_file() || folder.join(format!("{program}.exe")).is_file())
}

#[cfg(unix)]
mod unix {
    //! Finding and killing the carriers of a token.

    use std::process::Command;

    use super::TOKEN_VARIABLE;

    /// Kills until none is found, because a process may have forked while we looked.
    pub(super) fn kill_carriers(token: &str) {
        for _ in 0..20 {
            let carriers = carriers(token);
            if carriers.is_empty() {
                return;
            }
            // `kill` fails for those that ended on their own meanwhile, which is as good.
            let _ =
                Command::new("kill").arg("-KILL").args(carriers).stderr(std::process::Stdio::null()).status();
        }
    }

    fn carriers(token: &str) -> Vec<String> {
        let wanted = format!("{TOKEN_VARIABLE}={token}");
        let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
        processes
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
            .filter(|process| {
                // Unreadable: another user's. Empty: a zombie, which its parent reaps.
                std::fs::read(format!("/proc/{process}/environ")).is_ok_and(|environment| {
                    environment.split(|byte| *byte == 0).any(|entry| entry.starts_with(wanted.as_bytes()))
                })
            })
            .collect()
    }
}

#[cfg(windows)]
mod windows {
    //! Windows keeps parents, so a tree can be killed from its root.

    use std::os::windows::io::{AsHandle, OwnedHandle};
    use std::process::{Child, Command, Stdio};
    use std::sync::Mutex;

    use anyhow::{Context, Result};

    static ROOTS: Mutex<Vec<Root>> = Mutex::new(Vec::new());

    /// A process whose id nobody else can get, because we hold it open.
    pub(super) struct Root {
        id: u32,
        _held: OwnedHandle,
    }

    impl Root {
        pub(super) fn of(child: &Child) -> Result<Self> {
            let held = child.as_handle().try_clone_to_owned().context("failed to hold a child process")?;
            Ok(Self { id: child.id(), _held: held })
        }
    }

    pub(super) fn register(root: Root) {
        ROOTS.lock().expect("no holder panics").push(root);
    }

    pub(super) fn kill_registered() {
        ROOTS.lock().expect("no holder panics").iter().for_each(kill);
    }

    pub(super) fn kill_tree(root: &Root) {
        kill(root);
        ROOTS.lock().expect("no holder panics").retain(|registered| registered.id != root.id);
    }

    /// Does nothing that matters where the process has ended.
    fn kill(root: &Root) {
        let id = root.id.to_string();
        let mut command = Command::new("taskkill");
        let _ = command.args(["/T", "/F", "/PID", &id]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn lines_of_both_streams_arrive_also_one_without_an_end() {
        let mut lines = Vec::new();
        let ending =
            follow(&mut shell("echo one; echo two >&2; printf three"), BUILD_LIMIT, |stream, line| {
                lines.push((stream, line.to_owned()));
                true
            });
        assert!(matches!(ending, Ok(Ending::Exited(status)) if status.success()));
        assert!(lines.contains(&(Stream::Out, "one".to_owned())));
        assert!(lines.contains(&(Stream::Error, "two".to_owned())));
        assert!(lines.contains(&(Stream::Out, "three".to_owned())));
    }

    #[test]
    fn a_silent_child_is_killed_with_those_that_left_its_group() {
        let limits = Limits { quiet: Duration::from_millis(300), total: Duration::from_secs(60) };
        let mut detached = String::new();
        let script = "setsid sh -c 'echo $$; exec sleep 600' & wait";
        let ending = follow(&mut shell(script), limits, |_, line| {
            detached = line.to_owned();
            false
        });
        assert!(matches!(ending, Ok(Ending::TooLong(_))));
        // Gone, or a zombie that only waits to be reaped: a command line it has no more.
        let command_line = std::fs::read(format!("/proc/{detached}/cmdline")).unwrap_or_default();
        assert!(command_line.is_empty(), "process {detached} survived");
    }

    #[test]
    fn what_a_child_leaves_behind_does_not_hold_us_up() {
        let started = Instant::now();
        let ending = follow(&mut shell("sleep 600 & exit 3"), BUILD_LIMIT, |_, _| true);
        assert!(matches!(ending, Ok(Ending::Exited(status)) if status.code() == Some(3)));
        assert!(started.elapsed() < Duration::from_secs(60));
    }
}
