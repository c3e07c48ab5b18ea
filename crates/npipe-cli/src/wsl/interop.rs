//! The Windows Subsystem for Linux: the socket by which its init starts Windows programs. A shell that is gone takes its
//! socket with it, and programs that inherited its name (a tmux session, a service) can start nothing any more.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::report::Report;

/// The variable by which the loader of Windows programs finds the socket.
pub(crate) const SOCKET_VARIABLE: &str = "WSL_INTEROP";
const DIRECTORY: &str = "/run/WSL";
const SUFFIX: &str = "_interop";

/// The socket that a Windows program must be started with, where the inherited one does not live.
pub(crate) fn socket_to_use(report: Report) -> Option<PathBuf> {
    let inherited = env::var_os(SOCKET_VARIABLE);
    let replacement = replacement(inherited.as_deref(), Path::new(DIRECTORY))?;
    report.detail(format_args!(
        "{SOCKET_VARIABLE} is {}, using {}",
        if inherited.is_some() { "stale" } else { "not set" },
        replacement.display()
    ));
    Some(replacement)
}

/// A live socket of `directory`, if `inherited` is none: that of init before those of sessions, which come and go, and
/// among these the newest.
pub(super) fn replacement(inherited: Option<&OsStr>, directory: &Path) -> Option<PathBuf> {
    if inherited.is_some_and(|socket| lives(Path::new(socket))) {
        return None;
    }
    let entries = fs::read_dir(directory).ok()?.flatten();
    let mut sockets: Vec<_> = entries
        .filter_map(|entry| {
            let process: u32 = entry.file_name().to_str()?.strip_suffix(SUFFIX)?.parse().ok()?;
            let made = entry.metadata().ok()?.modified().ok()?;
            Some((process == 1, made, entry.path()))
        })
        .collect();
    sockets.sort_unstable();
    sockets.into_iter().rev().map(|(_, _, socket)| socket).find(|socket| lives(socket))
}

/// Somebody listens. The name alone does not tell: files of dead sessions stay.
pub(super) fn lives(socket: &Path) -> bool {
    UnixStream::connect(socket).is_ok()
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::fs;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    use super::replacement;

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Directory {
            let path = env::temp_dir().join(format!("npipe-wsl-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Directory(path)
        }

        fn live(&self, name: &str) -> UnixListener {
            UnixListener::bind(self.0.join(name)).unwrap()
        }

        fn dead(&self, name: &str) -> PathBuf {
            drop(self.live(name));
            self.0.join(name)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_socket_that_lives_is_kept() {
        let directory = Directory::new("kept");
        let (_own, _other) = (directory.live("12_interop"), directory.live("1_interop"));
        assert_eq!(replacement(Some(directory.0.join("12_interop").as_os_str()), &directory.0), None);
    }

    #[test]
    fn a_stale_or_missing_socket_is_replaced_by_a_live_one() {
        let directory = Directory::new("stale");
        let stale = directory.dead("12_interop");
        directory.dead("9_interop");
        let (_live, _other) = (directory.live("13_interop"), directory.live("unrelated"));
        let expected = Some(directory.0.join("13_interop"));
        assert_eq!(replacement(Some(stale.as_os_str()), &directory.0), expected);
        assert_eq!(replacement(Some("/nonexistent".as_ref()), &directory.0), expected);
        assert_eq!(replacement(None, &directory.0), expected);
    }

    #[test]
    fn the_socket_of_init_comes_before_those_of_sessions() {
        let directory = Directory::new("init");
        let _sockets = ["1_interop", "4000_interop"].map(|name| directory.live(name));
        assert_eq!(replacement(None, &directory.0), Some(directory.0.join("1_interop")));
    }

    #[test]
    fn where_nothing_lives_nothing_is_chosen() {
        let directory = Directory::new("none");
        directory.dead("12_interop");
        assert_eq!(replacement(None, &directory.0), None);
        assert_eq!(replacement(None, "/nonexistent".as_ref()), None);
    }
}
