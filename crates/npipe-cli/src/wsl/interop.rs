//! The Windows Subsystem for Linux: the socket by which its init starts Windows programs. A shell
//! that is gone takes its socket with it, and programs that inherited its name (a tmux session, a
//! service) can start nothing any more.
//!
//! Every user may make files in the directory of these sockets, and remove those of others. A
//! socket is used only if root made it and serves it.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::report::Report;

/// The variable by which the loader of Windows programs finds the socket.
pub(crate) const SOCKET_VARIABLE: &str = "WSL_INTEROP";
const DIRECTORY: &str = "/run/WSL";
const SUFFIX: &str = "_interop";

/// Gives `command`, which starts a Windows program, a socket to start it with, where the inherited
/// one does not lead to Windows.
pub(crate) fn lead_to_windows(command: &mut Command, report: Report) {
    let directory = Path::new(DIRECTORY);
    if !directory.is_dir() {
        return; // This is not WSL.
    }
    let Some(inherited) = env::var_os(SOCKET_VARIABLE) else {
        if let Some(socket) = replacement(None, directory) {
            report.detail(format_args!("{SOCKET_VARIABLE} is not set, using {}", socket.display()));
            command.env(SOCKET_VARIABLE, socket);
        }
        return;
    };
    if leads_to_windows(Path::new(&inherited), directory) {
        return;
    }
    let shown = Path::new(&inherited).display();
    match replacement(Some(&inherited), directory) {
        Some(socket) => {
            report.detail(format_args!("{SOCKET_VARIABLE} is stale ({shown}), using {}", socket.display()));
            command.env(SOCKET_VARIABLE, socket);
        }
        None if lives(Path::new(&inherited)) => {
            report.warning(format_args!(
                "{SOCKET_VARIABLE} is not used: {shown} is not a socket that root serves in {DIRECTORY}"
            ));
            command.env_remove(SOCKET_VARIABLE);
        }
        None => {}
    }
}

/// A socket of `directory` that leads to Windows, if `inherited` does not: that of init before
/// those of sessions, which come and go, and among these the newest.
pub(super) fn replacement(inherited: Option<&OsStr>, directory: &Path) -> Option<PathBuf> {
    if inherited.is_some_and(|socket| leads_to_windows(Path::new(socket), directory)) {
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
    sockets.into_iter().rev().map(|(_, _, socket)| socket).find(|socket| leads_to_windows(socket, directory))
}

/// Returns whether `socket` is in `directory`, wherever links lead, and its file and the process
/// that serves it belong to the owner of `directory`, who is root. The name alone does not show it:
/// files of dead sessions stay, and other users can take their names.
pub(super) fn leads_to_windows(socket: &Path, directory: &Path) -> bool {
    let trusted = || {
        let directory = directory.canonicalize().ok()?;
        let owner = fs::metadata(&directory).ok()?.uid();
        let socket = socket.canonicalize().ok()?;
        let metadata = fs::symlink_metadata(&socket).ok()?;
        let is_trusted =
            socket.starts_with(&directory) && metadata.file_type().is_socket() && metadata.uid() == owner;
        Some(is_trusted && server_of(&socket)? == owner)
    };
    trusted().unwrap_or(false)
}

/// Returns whether a process listens there. Files of dead sockets stay.
pub(super) fn lives(socket: &Path) -> bool {
    UnixStream::connect(socket).is_ok()
}

/// The user whose process listens there.
#[cfg(target_os = "linux")]
fn server_of(socket: &Path) -> Option<u32> {
    let stream = UnixStream::connect(socket).ok()?;
    Some(rustix::net::sockopt::socket_peercred(&stream).ok()?.uid.as_raw())
}

#[cfg(not(target_os = "linux"))]
fn server_of(_: &Path) -> Option<u32> {
    None
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::fs;
    use std::os::unix::fs::{chown, lchown, symlink};
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    use super::{leads_to_windows, replacement};

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

    /// Only root can make a socket that belongs to another user.
    #[test]
    fn a_socket_of_another_user_is_not_used() {
        const OTHER: u32 = 65_534;
        let directory = Directory::new("planted");
        let _planted = directory.live("1_interop");
        if chown(directory.0.join("1_interop"), Some(OTHER), None).is_err() {
            eprintln!("skipped: this user cannot give a file away");
            return;
        }
        let inherited = directory.0.join("1_interop");
        assert_eq!(replacement(Some(inherited.as_os_str()), &directory.0), None);
        let _own = directory.live("7_interop");
        assert_eq!(
            replacement(Some(inherited.as_os_str()), &directory.0),
            Some(directory.0.join("7_interop"))
        );
        // The file may be given to root, but not the process that serves it.
        chown(&directory.0, Some(OTHER), None).unwrap();
        assert!(!leads_to_windows(&inherited, &directory.0));
        chown(&directory.0, Some(0), None).unwrap();
        // Nor is one that a link of another user leads to, outside.
        let outside = Directory::new("outside");
        let _outside = outside.live("1_interop");
        fs::remove_file(&inherited).unwrap();
        symlink(outside.0.join("1_interop"), &inherited).unwrap();
        lchown(&inherited, Some(OTHER), None).unwrap();
        assert!(!leads_to_windows(&inherited, &directory.0));
    }

    #[test]
    fn a_link_to_a_socket_beside_it_is_followed() {
        let directory = Directory::new("link");
        let _live = directory.live("1_interop");
        symlink("1_interop", directory.0.join("2_interop")).unwrap();
        assert!(leads_to_windows(&directory.0.join("2_interop"), &directory.0));
    }
}
