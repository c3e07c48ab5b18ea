//! Runs `npipe` and holds what it did against what was expected. A failure shows the command, the
//! exit code and both streams. Nothing outlives its test: every wait has a limit, and a process
//! that is dropped is killed.

#![cfg_attr(not(windows), allow(dead_code, reason = "most of it serves tests that need pipes"))]

use std::future::Future;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

/// Far above what any step takes on a slow machine: reached only when something hangs.
const LIMIT: Duration = Duration::from_secs(120);

pub(crate) async fn within_limit<F: Future>(what: &str, step: F) -> F::Output {
    match tokio::time::timeout(LIMIT, step).await {
        Ok(output) => output,
        Err(_) => panic!("{what} did not end within {LIMIT:?}"),
    }
}

/// Wine says `ERROR_INTERNAL_ERROR` of a process that died while the system was still starting it:
/// none of the program has run, and seldom is it so twice.
fn spawn(command: &mut Command) -> Child {
    const ERROR_INTERNAL_ERROR: i32 = 1359;
    let mut spawned = command.spawn();
    for _ in 0..3 {
        if !matches!(&spawned, Err(error) if cfg!(windows) && error.raw_os_error() == Some(ERROR_INTERNAL_ERROR))
        {
            break;
        }
        spawned = command.spawn();
    }
    spawned.unwrap()
}

/// A running `npipe`. The streams are there to be taken.
pub(crate) struct Npipe {
    command: String,
    child: Child,
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Option<ChildStdout>,
    /// None where a test reads it elsewhere.
    stderr: Option<BufReader<ChildStderr>>,
}

impl Npipe {
    pub(crate) fn start(arguments: &[&str]) -> Npipe {
        Npipe::start_with(arguments, |_| {})
    }

    /// [`start`](Self::start) with more to say of the process.
    pub(crate) fn start_with(arguments: &[&str], adjust: impl FnOnce(&mut Command)) -> Npipe {
        Npipe::start_program(Path::new(env!("CARGO_BIN_EXE_npipe")), arguments, adjust)
    }

    /// A copy of the program elsewhere.
    pub(crate) fn start_program(
        program: &Path,
        arguments: &[&str],
        adjust: impl FnOnce(&mut Command),
    ) -> Npipe {
        let mut command = Command::new(program);
        command.args(arguments).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        adjust(&mut command);
        let mut child = spawn(&mut command);
        Npipe {
            command: format!("{} {}", program.display(), arguments.join(" ")),
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
            stderr: child.stderr.take().map(BufReader::new),
            child,
        }
    }

    #[cfg(unix)]
    pub(crate) fn id(&self) -> rustix::process::Pid {
        let id = self.child.id().expect("the process has been waited for");
        rustix::process::Pid::from_raw(id.cast_signed()).unwrap()
    }

    /// Waits for the line of stderr that contains `text`, and gives it back.
    pub(crate) async fn stderr_line(&mut self, text: &str) -> String {
        let mut seen = String::new();
        loop {
            let mut line = String::new();
            let stderr = self.stderr.as_mut().expect("stderr goes elsewhere");
            within_limit(&self.command, stderr.read_line(&mut line)).await.unwrap();
            assert!(!line.is_empty(), "{}: no line with {text:?} on stderr, which was\n{seen}", self.command);
            if line.contains(text) {
                return line.trim_end().to_owned();
            }
            seen += &line;
        }
    }

    /// Feeds `input`, ends stdin, and waits for the end.
    pub(crate) async fn finish_with(mut self, input: &[u8]) -> Outcome {
        let mut stdin = self.stdin.take().unwrap();
        let fed = async {
            // A process that ends without reading its input is no error of this one.
            let _ = stdin.write_all(input).await;
            drop(stdin);
        };
        let ((), outcome) = tokio::join!(fed, self.finish());
        outcome
    }

    /// Waits for the end. A stdin that was not taken stays open; a stdout that was taken counts as
    /// empty.
    pub(crate) async fn finish(mut self) -> Outcome {
        let mut stdout = Vec::new();
        let mut stderr = String::new();
        let status = within_limit(&self.command, async {
            let output = async {
                if let Some(mut stream) = self.stdout.take() {
                    stream.read_to_end(&mut stdout).await.unwrap();
                }
            };
            let words = async {
                if let Some(mut stream) = self.stderr.take() {
                    stream.read_to_string(&mut stderr).await.unwrap();
                }
            };
            let (status, (), ()) = tokio::join!(self.child.wait(), output, words);
            status.unwrap()
        })
        .await;
        Outcome { command: self.command, code: status.code(), stdout, stderr }
    }
}

/// What a process did.
pub(crate) struct Outcome {
    command: String,
    code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    stderr: String,
}

impl Outcome {
    pub(crate) fn ended_with(&self, code: i32) -> bool {
        self.code == Some(code)
    }

    #[track_caller]
    pub(crate) fn code(&self, expected: i32) -> &Outcome {
        self.check(self.code == Some(expected), &format!("exit code {expected}"))
    }

    #[track_caller]
    pub(crate) fn stdout(&self, expected: &[u8]) -> &Outcome {
        self.check(
            self.stdout == expected,
            &format!("on stdout {} bytes: {}", expected.len(), beginning(expected)),
        )
    }

    #[track_caller]
    pub(crate) fn stdout_has(&self, text: &str) -> &Outcome {
        self.check(String::from_utf8_lossy(&self.stdout).contains(text), &format!("on stdout {text:?}"))
    }

    #[track_caller]
    pub(crate) fn stderr_has(&self, text: &str) -> &Outcome {
        self.check(self.stderr.contains(text), &format!("on stderr {text:?}"))
    }

    #[track_caller]
    pub(crate) fn no_stderr_has(&self, text: &str) -> &Outcome {
        self.check(!self.stderr.contains(text), &format!("nothing on stderr with {text:?}"))
    }

    #[track_caller]
    pub(crate) fn no_stderr(&self) -> &Outcome {
        self.check(self.stderr.is_empty(), "nothing on stderr")
    }

    #[track_caller]
    fn check(&self, holds: bool, expected: &str) -> &Outcome {
        assert!(
            holds,
            "expected {expected}\ncommand: {}\nexit code: {:?}\nstdout ({} bytes): {}\nstderr: {}",
            self.command,
            self.code,
            self.stdout.len(),
            beginning(&self.stdout),
            self.stderr,
        );
        self
    }
}

fn beginning(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned()
}
