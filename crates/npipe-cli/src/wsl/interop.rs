//! The Windows Subsystem for Linux: the socket by which its init starts Windows programs. A shell
//! that is gone takes its socket with it, and programs that inherited its name (a tmux session, a
//! service) can start nothing any more.
//!
//! Every user may make files in the directory of these sockets, and remove those of others. A
//! socket is used only if root made it and serves it.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::report::Report;

/// The variable by which the loader of Windows programs finds the socket.
pub(crate) const SOCKET_VARIABLE: &str = "WSL_INTEROP";
const DIRECTORY: &str = "/run/WSL";
const SUFFIX: &str = "_interop";

/// Gives `command`, which starts a Windows program, a socket to start it with, where the inherited
/// one does not lead to Windows.
pub(crate) fn lead_to_windows(command: &mut Command, report: Report) {
    lead(command, env::var_os(SOCKET_VARIABLE).as_deref(), Path::new(DIRECTORY), report);
}

fn lead(command: &mut Command, inherited: Option<&OsStr>, directory: &Path, report: Report) {
    if !directory.is_dir() {
        return; // This is not WSL.
    }
    let Some(inherited) = inherited else {
        if let Some(socket) = replacement(None, directory) {
            report.detail(format_args!("{SOCKET_VARIABLE} is not set, using {}", socket.display()));
            command.env(SOCKET_VARIABLE, socket);
        }
        return;
    };
    let inherited = Path::new(inherited);
    if let Some(socket) = trusted(inherited, directory) {
        // Others can change where a link leads after it was followed.
        if socket != inherited {
            command.env(SOCKET_VARIABLE, socket);
        }
        return;
    }
    let shown = inherited.display();
    match replacement(None, directory) {
        Some(socket) => {
            report.detail(format_args!("{SOCKET_VARIABLE} is stale ({shown}), using {}", socket.display()));
            command.env(SOCKET_VARIABLE, socket);
        }
        None if lives(inherited) => {
            report.warning(format_args!(
                "{SOCKET_VARIABLE} is not used: {shown} is not a socket that root serves in {}",
                directory.display()
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
    sockets.into_iter().rev().find_map(|(_, _, socket)| trusted(&socket, directory))
}

pub(super) fn leads_to_windows(socket: &Path, directory: &Path) -> bool {
    trusted(socket, directory).is_some()
}

/// Returns the path of `socket` without links, if that is in `directory`, and its file and the
/// process that serves it belong to the owner of `directory`, who is root. The name alone does not
/// show it: files of dead sessions stay, and other users can take their names.
fn trusted(socket: &Path, directory: &Path) -> Option<PathBuf> {
    let directory = directory.canonicalize().ok()?;
    let owner = fs::metadata(&directory).ok()?.uid();
    let socket = socket.canonicalize().ok()?;
    let metadata = fs::symlink_metadata(&socket).ok()?;
    let is_trusted =
        socket.starts_with(&directory) && metadata.file_type().is_socket() && metadata.uid() == owner;
    (is_trusted && server_of(&socket)? == owner).then_some(socket)
}

/// Returns whether a process listens there. Files of dead sockets stay. One that has no room for
/// another client listens.
pub(super) fn lives(socket: &Path) -> bool {
    connect(socket).map_or_else(|error| error.kind() == io::ErrorKind::WouldBlock, |_| true)
}

/// The time that a process has to take a client, if as many wait as it lets wait.
const LONGEST_CONNECT: Duration = Duration::from_millis(250);

/// Linux would wait for ever for room among the clients that wait; with a time-out for sending the
/// error is then `WouldBlock` (socket(7)).
fn connect(socket: &Path) -> io::Result<Socket> {
    let stream = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    stream.set_write_timeout(Some(LONGEST_CONNECT))?;
    stream.connect(&SockAddr::unix(socket)?)?;
    Ok(stream)
}

/// The user whose process listens there.
#[cfg(target_os = "linux")]
fn server_of(socket: &Path) -> Option<u32> {
    let stream = connect(socket).ok()?;
    Some(rustix::net::sockopt::socket_peercred(&stream).ok()?.uid.as_raw())
}

#[cfg(not(target_os = "linux"))]
fn server_of(_: &Path) -> Option<u32> {
    None
}

/// WSL runs on Linux only.
#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::env;
    use std::fs;
    use std::os::unix::fs::{chown, lchown, symlink};
    use std::os::unix::net::UnixListener;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use socket2::{Domain, SockAddr, Socket, Type};

    use super::{connect, lead, leads_to_windows, lives, replacement};
    use crate::report::Report;

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Directory {
            let path = env::temp_dir().join(format!("npipe-wsl-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Directory(path.canonicalize().unwrap())
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

    /// What is exported to a Windows program that is started with `inherited`.
    fn exported(inherited: Option<&Path>, directory: &Path) -> Option<Option<PathBuf>> {
        let mut command = Command::new("npipe.exe");
        lead(&mut command, inherited.map(Path::as_os_str), directory, Report::new(0));
        let (_, value) = command.get_envs().next()?;
        Some(value.map(PathBuf::from))
    }

    /// Others can make the link lead elsewhere before the Windows program is started.
    #[test]
    fn a_link_to_a_socket_beside_it_is_followed_and_its_end_is_exported() {
        let directory = Directory::new("link");
        let _live = directory.live("1_interop");
        let (link, socket) = (directory.0.join("2_interop"), directory.0.join("1_interop"));
        symlink("1_interop", &link).unwrap();
        assert_eq!(exported(Some(&link), &directory.0), Some(Some(socket.clone())));
        assert_eq!(exported(Some(&socket), &directory.0), None);
        fs::rename(&socket, directory.0.join("moved")).unwrap();
        fs::remove_file(&link).unwrap();
        symlink("moved", &link).unwrap();
        for inherited in [None, Some("/nonexistent".as_ref())] {
            assert_eq!(exported(inherited, &directory.0), Some(Some(directory.0.join("moved"))));
        }
    }

    /// A connect to it would wait until its process takes a client.
    #[test]
    fn a_socket_with_no_room_for_a_client_is_left_for_another_one() {
        let directory = Directory::new("full");
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        let full = directory.0.join("1_interop");
        listener.bind(&SockAddr::unix(&full).unwrap()).unwrap();
        listener.listen(0).unwrap();
        let mut clients = Vec::new();
        while let Ok(client) = connect(&full) {
            clients.push(client);
        }
        assert!(lives(&full));
        assert_eq!(exported(Some(&full), &directory.0), Some(None));
        let _live = directory.live("2_interop");
        assert_eq!(exported(Some(&full), &directory.0), Some(Some(directory.0.join("2_interop"))));
    }
}
