//! Names of pipes: the forms people write, and the one that Windows takes.

use std::ffi::{OsStr, OsString};
use std::fmt;
#[cfg(any(windows, test))]
use std::hash::{BuildHasher, RandomState};
use std::io;

/// The prefix of every pipe on this machine.
const LOCAL_PREFIX: &str = r"\\.\pipe\";
/// What Windows allows for the whole name, in UTF-16 units.
const LONGEST: usize = 256;

/// A pipe's name as Windows takes it: `\\.\pipe\NAME`, or `\\SERVER\pipe\NAME` on another machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipeName(OsString);

impl PipeName {
    /// Understands a name in any of the forms in use:
    ///
    /// | form | example |
    /// |---|---|
    /// | the system's | `\\.\pipe\docker_engine` |
    /// | with slashes | `//./pipe/docker_engine` |
    /// | the same, as the shells of MSYS (Git's) hand it on | `/./pipe/docker_engine` |
    /// | Docker's URL | `npipe:////./pipe/docker_engine` |
    /// | on another machine | `\\server\pipe\x` |
    /// | bare | `docker_engine` |
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput), before any system call: the name is empty, is a path to something
    /// else than a pipe (`C:\x`, `/tmp/x`, `\\?\C:\x`), holds a NUL character, or is longer in all than the 256 characters that
    /// [Windows allows](https://learn.microsoft.com/windows/win32/ipc/pipe-names).
    pub fn new(name: impl AsRef<OsStr>) -> io::Result<Self> {
        Self::parse(name.as_ref())
    }

    fn parse(given: &OsStr) -> io::Result<Self> {
        let refuse = |why: &str| {
            Err(io::Error::new(io::ErrorKind::InvalidInput, format!("invalid pipe name {given:?}: {why}")))
        };
        let name = match given.to_str() {
            Some(text) => match canonical(text) {
                Some(name) => OsString::from(name),
                None => {
                    return refuse(r"it is the path of a file; a pipe's is \\.\pipe\NAME, or the name alone");
                }
            },
            // Not Unicode: a bare name or one in the system's form, which needs no rewriting.
            None if given.as_encoded_bytes().starts_with(br"\\") => given.to_owned(),
            None => [OsStr::new(LOCAL_PREFIX), given].into_iter().collect(),
        };
        if given.is_empty() || name.eq_ignore_ascii_case(LOCAL_PREFIX) {
            return refuse("it is empty");
        }
        if !is_in_pipe_namespace(name.as_encoded_bytes()) {
            return refuse(
                r"it is a path to something else; a pipe's begins with \\SERVER\pipe\ or \\.\pipe\",
            );
        }
        if name.as_encoded_bytes().contains(&0) {
            return refuse("it contains a NUL character");
        }
        if length(&name) > LONGEST {
            return refuse("it is longer than 256 characters");
        }
        Ok(Self(name))
    }

    /// The name as Windows takes it.
    pub fn as_os_str(&self) -> &OsStr {
        &self.0
    }

    /// The name of a pipe for `purpose` that nobody else has, nor could have thought of.
    #[cfg(any(windows, test))]
    pub(crate) fn unguessable(purpose: &str) -> Self {
        // The standard library keys its hashers from the system's random numbers, each anew.
        let [first, second] = [(); 2].map(|()| RandomState::new().hash_one(std::process::id()));
        let process = std::process::id();
        Self(OsString::from(format!("{LOCAL_PREFIX}npipe-{purpose}-{process}-{first:016x}{second:016x}")))
    }

    /// UTF-16 with a NUL at the end.
    #[cfg(windows)]
    pub(crate) fn to_wide(&self) -> Vec<u16> {
        use std::os::windows::ffi::OsStrExt;
        self.0.encode_wide().chain([0]).collect()
    }
}

/// The system's form of a name in any form. `None` for a path that begins at a drive or a root, which nobody means as a name.
fn canonical(text: &str) -> Option<String> {
    let text = match text.get(.."npipe:".len()) {
        Some(scheme) if scheme.eq_ignore_ascii_case("npipe:") => {
            let rest = &text[scheme.len()..];
            // `npipe:////./pipe/x`: two slashes of the URL, then the name with its own two.
            rest.strip_prefix("//").filter(|rest| rest.starts_with(['/', '\\'])).unwrap_or(rest)
        }
        _ => text,
    };
    let backslashed = text.replace('/', r"\");
    match backslashed.as_bytes() {
        [b'\\', b'\\', ..] => Some(backslashed),
        [b'\\', b'.', b'\\', ..] => Some(format!(r"\{backslashed}")),
        [b'\\', ..] => None,
        [drive, b':', b'\\', ..] if drive.is_ascii_alphabetic() => None,
        _ => Some(format!("{LOCAL_PREFIX}{backslashed}")),
    }
}

/// Whether a name in the system's form, `\\SERVER\pipe\NAME`, names a pipe and not a file or another device.
fn is_in_pipe_namespace(name: &[u8]) -> bool {
    let mut parts = name.splitn(5, |byte| *byte == b'\\').skip(2);
    let (server, pipe, rest) = (parts.next(), parts.next(), parts.next());
    server.is_some_and(|server| !server.is_empty())
        && pipe.is_some_and(|pipe| pipe.eq_ignore_ascii_case(b"pipe"))
        && rest.is_some_and(|rest| !rest.is_empty())
}

/// The length that Windows counts: UTF-16 units.
fn length(name: &OsStr) -> usize {
    match name.to_str() {
        Some(text) => text.encode_utf16().count(),
        // Every unpaired surrogate takes three bytes and counts one: this does not undercount what is valid.
        None => name.to_string_lossy().encode_utf16().count(),
    }
}

impl fmt::Display for PipeName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(formatter)
    }
}

impl AsRef<OsStr> for PipeName {
    fn as_ref(&self) -> &OsStr {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_means_the_same_pipe() {
        for form in [
            r"\\.\pipe\docker_engine",
            "//./pipe/docker_engine",
            "npipe:////./pipe/docker_engine",
            "NPIPE:////./pipe/docker_engine",
            "npipe:docker_engine",
            "/./pipe/docker_engine",
            "docker_engine",
        ] {
            assert_eq!(PipeName::new(form).unwrap().as_os_str(), r"\\.\pipe\docker_engine", "{form}");
        }
    }

    #[test]
    fn what_is_in_the_systems_form_is_kept() {
        for name in [r"\\server\pipe\x", r"\\.\PIPE\x", r"\\?\pipe\x", r"\\.\pipe\LOCAL\x"] {
            assert_eq!(PipeName::new(name).unwrap().as_os_str(), name);
        }
    }

    #[test]
    fn unguessable_names_are_valid_and_differ() {
        let names = [(); 2].map(|()| PipeName::unguessable("test"));
        assert_ne!(names[0], names[1]);
        assert_eq!(PipeName::new(&names[0]).unwrap(), names[0]);
    }

    #[test]
    fn a_slash_inside_a_name_is_a_backslash() {
        assert_eq!(PipeName::new("a/b").unwrap().as_os_str(), r"\\.\pipe\a\b");
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_reason() {
        let long = "n".repeat(248);
        for (name, reason) in [
            ("", "empty"),
            (r"\\.\pipe\", "empty"),
            ("//./pipe/", "empty"),
            (r"\\?\C:\windows\system.ini", "something else"),
            (r"\\.\PhysicalDrive0", "something else"),
            (r"\\server\share\pipe", "something else"),
            (r"C:\windows\system.ini", "a file"),
            ("c:/windows/system.ini", "a file"),
            ("/run/user/1000/agent.sock", "a file"),
            (r"npipe:C:\x", "a file"),
            ("a\0b", "NUL"),
            (long.as_str(), "longer than 256"),
        ] {
            let error = PipeName::new(name).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(reason), "{error}");
        }
        assert!(PipeName::new("n".repeat(247)).is_ok(), "256 in all");
    }
}
