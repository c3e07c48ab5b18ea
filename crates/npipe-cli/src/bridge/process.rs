//! The Windows process: where its program is, how it is started, what it says on stderr, and that
//! it ends. What goes over its stdin and stdout is not known here.

use std::collections::VecDeque;
use std::env;
use std::ffi::OsStr;
use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader, Join};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::report::Report;
use crate::wsl::interop;

const PROGRAM: &str = "npipe.exe";
pub(crate) const PROGRAM_VARIABLE: &str = "NPIPE_WINDOWS_EXE";

/// How long the process may take to end after its stdin has.
pub(super) const FAREWELL: Duration = Duration::from_secs(3);

/// How long what it wrote to stderr may take to arrive after its end: a process that it left behind
/// may keep it open.
const LAST_STDERR: Duration = Duration::from_millis(500);

/// How much the system keeps of each direction, where it lets us choose: both halves write more at
/// once than the 64 KiB that a pipe has, and would wait for each other in the middle of it.
#[cfg(target_os = "linux")]
const TRANSPORT_PIPE: usize = 1024 * 1024;

const LAST_WORDS: usize = 5;
const LONGEST_LINE: u64 = 500;

/// Finds the Windows program: `flag`, else [`PROGRAM_VARIABLE`] unless it is empty, else beside
/// this program, else on PATH. The path is absolute, so that no other program of that name is
/// started.
pub(crate) fn find(flag: Option<&Path>) -> Result<PathBuf, String> {
    let own = env::current_exe().ok();
    let variable = env::var_os(PROGRAM_VARIABLE).filter(|path| !path.is_empty());
    let named = flag.or(variable.as_deref().map(Path::new));
    let found = find_in(named, own.as_deref().and_then(Path::parent), env::var_os("PATH").as_deref())?;
    std::path::absolute(&found).map_err(|error| format!("cannot find {}: {error}", found.display()))
}

fn find_in(told: Option<&Path>, beside: Option<&Path>, path: Option<&OsStr>) -> Result<PathBuf, String> {
    let on_path = || path.map(env::split_paths).into_iter().flatten();
    if let Some(told) = told {
        // A name alone is that of a file here, or of a program, as in a shell.
        let is_name = told.file_name() == Some(told.as_os_str());
        let named = is_name.then(on_path).into_iter().flatten().map(|directory| directory.join(told));
        return std::iter::once(told.to_owned())
            .chain(named)
            .find(|candidate| candidate.is_file())
            .ok_or_else(|| match on_windows_drive(told) {
                Some(path) => format!(
                    "there is no Windows program at {}; WSL has that path as {path}, and wslpath translates \
                     others",
                    told.display()
                ),
                None => format!("there is no Windows program at {}", told.display()),
            });
    }
    let candidates =
        beside.map(Path::to_owned).into_iter().chain(on_path()).map(|directory| directory.join(PROGRAM));
    candidates.into_iter().find(|candidate| candidate.is_file()).ok_or_else(|| {
        format!(
            "{PROGRAM} is neither beside this program nor on PATH; install it on Windows and name it with \
             --windows-exe or {PROGRAM_VARIABLE}"
        )
    })
}

/// The place where WSL mounts a Windows path by default. A shell has removed the backslashes of a
/// drive without a slash.
fn on_windows_drive(path: &Path) -> Option<String> {
    let [drive, b':', ..] = path.as_os_str().as_encoded_bytes() else { return None };
    let path = path.to_string_lossy().replace('\\', "/");
    let rest = path.get(2..).filter(|_| drive.is_ascii_alphabetic())?;
    Some(match rest.strip_prefix('/') {
        Some(rest) => format!("/mnt/{}/{rest}", char::from(drive.to_ascii_lowercase())),
        None => format!(r#""$(wslpath '{path}')", with its backslashes in single quotes"#),
    })
}

pub(super) type Transport = Join<ChildStdout, ChildStdin>;

/// A running Windows process and whatever it was started through, such as a wrapper script: they
/// are one process group, which does not outlive this.
pub(super) struct Process {
    child: Child,
    /// Until it was killed: afterwards the number may become another's.
    group: Option<Pid>,
    stderr: JoinHandle<()>,
    last_words: Arc<Mutex<VecDeque<String>>>,
}

impl Process {
    pub(super) fn start(program: &Path, report: Report) -> io::Result<(Process, Transport)> {
        let mut command = Command::new(program);
        command.args((0..report.verbosity()).map(|_| "--verbose"));
        command.arg("bridge-server");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own: an interrupt from the terminal is for us, and the process ends in order when
        // we do.
        command.process_group(0).kill_on_drop(true);
        interop::lead_to_windows(command.as_std_mut(), report);
        let mut child = command.spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let parts = (child.stdin.take(), child.stdout.take(), child.stderr.take(), group);
        let (Some(stdin), Some(stdout), Some(stderr), group @ Some(_)) = parts else {
            return Err(io::Error::other("the process has no streams"));
        };
        #[cfg(target_os = "linux")]
        for pipe in [stdin.as_fd(), stdout.as_fd()] {
            // Refused where the user's pipes have too much already: then it stays slower.
            let _ = rustix::pipe::fcntl_setpipe_size(pipe, TRANSPORT_PIPE);
        }
        let last_words = Arc::default();
        let stderr = tokio::spawn(listen(stderr, Arc::clone(&last_words), report));
        Ok((Process { child, group, stderr, last_words }, tokio::io::join(stdout, stdin)))
    }

    /// Waits for the end that is due, now that the process's stdin has ended, and makes it come if
    /// it takes longer than
    /// `farewell`. Returns how it ended, in words, with its last lines of stderr.
    pub(super) async fn end(mut self, farewell: Duration) -> String {
        let how = match timeout(farewell, self.child.wait()).await {
            Ok(Ok(status)) => in_words(status),
            Ok(Err(error)) => format!("cannot be waited for: {error}"),
            Err(_) if farewell.is_zero() => "was killed".to_owned(),
            Err(_) => format!("was killed, since it went on for {farewell:?} after it was told to end"),
        };
        // The process is gone, but what it was started through, or what it started, may not be.
        self.kill();
        let _ = timeout(LAST_STDERR, &mut self.stderr).await;
        let last_words = self.last_words.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if last_words.is_empty() {
            return how;
        }
        format!("{how}; it said: {}", last_words.iter().map(String::as_str).collect::<Vec<_>>().join(" | "))
    }

    fn kill(&mut self) {
        if let Some(group) = self.group.take() {
            // "No such process" is what is hoped for.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        self.stderr.abort();
    }
}

fn in_words(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("ended with exit code {code}"),
        None => format!("was ended by a {status}"),
    }
}

/// Passes the process's words on, and remembers the last of them.
async fn listen(stderr: ChildStderr, last_words: Arc<Mutex<VecDeque<String>>>, report: Report) {
    let mut stderr = BufReader::new(stderr);
    while let Some(line) = next_line(&mut stderr).await {
        report.detail(format_args!("windows: {line}"));
        let mut last_words = last_words.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if last_words.len() == LAST_WORDS {
            last_words.pop_front();
        }
        last_words.push_back(line);
    }
}

/// The next line that says something; a very long one in pieces.
async fn next_line<R: AsyncRead + Unpin>(reader: &mut BufReader<R>) -> Option<String> {
    loop {
        let mut line = Vec::new();
        match reader.take(LONGEST_LINE).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
        let line = String::from_utf8_lossy(&line).trim().replace(char::is_control, " ");
        if !line.is_empty() {
            return Some(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::ffi::OsStr;
    use std::fs;
    use std::path::{Path, PathBuf};

    use tokio::io::BufReader;

    use super::{LONGEST_LINE, PROGRAM, find_in, next_line};

    /// A directory with a program in it, which goes with the test.
    struct Directory(PathBuf);

    impl Directory {
        fn with_program(name: &str) -> Directory {
            let path = env::temp_dir().join(format!("npipe-find-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join(PROGRAM), "").unwrap();
            Directory(path)
        }

        fn program(&self) -> PathBuf {
            self.0.join(PROGRAM)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_program_is_the_one_told_then_the_one_beside_then_the_one_on_path() {
        let (told, beside, on_path) = (
            Directory::with_program("told"),
            Directory::with_program("beside"),
            Directory::with_program("path"),
        );
        let path = env::join_paths([Path::new("/nonexistent"), &on_path.0]).unwrap();
        let own = Some(beside.0.as_path());
        assert_eq!(find_in(Some(&told.program()), own, Some(&path)), Ok(told.program()));
        assert_eq!(find_in(None, own, Some(&path)), Ok(beside.program()));
        assert_eq!(find_in(None, Some(Path::new("/nonexistent")), Some(&path)), Ok(on_path.program()));
    }

    #[test]
    fn a_name_alone_is_a_program_on_path_too_and_a_path_is_not() {
        let on_path = Directory::with_program("name");
        let path = Some(on_path.0.as_os_str());
        assert_eq!(find_in(Some(Path::new(PROGRAM)), None, path), Ok(on_path.program()));
        assert!(find_in(Some(Path::new("./npipe.exe")), None, path).is_err());
        assert!(find_in(Some(Path::new("")), None, path).is_err());
    }

    #[test]
    fn a_program_that_is_missing_is_named_with_what_to_do() {
        let error = find_in(Some(Path::new("/nonexistent/npipe.exe")), None, None).unwrap_err();
        assert!(error.contains("/nonexistent/npipe.exe"), "{error}");
        for path in [r"D:\my tools\npipe.exe", "d:/my tools/npipe.exe"] {
            let error = find_in(Some(Path::new(path)), None, None).unwrap_err();
            assert!(error.contains(path) && error.contains("/mnt/d/my tools/npipe.exe"), "{error}");
        }
        let error = find_in(Some(Path::new("C:toolsnpipe.exe")), None, None).unwrap_err();
        assert!(error.contains("wslpath") && error.contains("quotes"), "{error}");
        let error = find_in(None, Some(Path::new("/nonexistent")), Some(OsStr::new(""))).unwrap_err();
        assert!(error.contains("--windows-exe") && error.contains("NPIPE_WINDOWS_EXE"), "{error}");
    }

    #[tokio::test]
    async fn lines_are_trimmed_empty_ones_left_out_and_endless_ones_cut() {
        let said = format!("one\r\n\r\ntwo\x1b[0m\n{}", "x".repeat(LONGEST_LINE as usize + 7));
        let mut reader = BufReader::new(said.as_bytes());
        assert_eq!(next_line(&mut reader).await.unwrap(), "one");
        assert_eq!(next_line(&mut reader).await.unwrap(), "two [0m");
        assert_eq!(next_line(&mut reader).await.unwrap().len(), LONGEST_LINE as usize);
        assert_eq!(next_line(&mut reader).await.unwrap(), "xxxxxxx");
        assert_eq!(next_line(&mut reader).await, None);
    }
}
