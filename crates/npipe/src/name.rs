//! Names of pipes: the forms people write, and the one that Windows takes.

use std::ffi::{OsStr, OsString};
use std::fmt;
#[cfg(any(windows, test))]
use std::hash::{BuildHasher, RandomState};
use std::hash::{Hash, Hasher};
use std::io;
use std::str::FromStr;

/// The prefix of every pipe on this machine.
const LOCAL_PREFIX: &str = r"\\.\pipe\";
/// What Windows allows for the whole name, in UTF-16 units.
const LONGEST: usize = 256;

/// A pipe's name as Windows takes it: `\\.\pipe\NAME`, or `\\SERVER\pipe\NAME` on another machine.
///
/// Two names are equal if they lead to the same pipe: Windows compares them without regard to case,
/// and `\\?\pipe\NAME` is `\\.\pipe\NAME`. The names of servers are compared as text.
///
/// ```
/// use npipe::PipeName;
///
/// let name: PipeName = "docker_engine".parse()?;
/// assert_eq!(name, PipeName::new(r"\\.\PIPE\Docker_Engine")?);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
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
    /// A name that is not Unicode (UTF-16 with an unpaired surrogate) is given with backslashes, in
    /// the first form, as on another machine, or bare.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput), before any system call, for a name that
    ///
    /// - is empty;
    /// - is a path to something else than a pipe (`C:\x`, `/tmp/x`, `\\?\C:\x`);
    /// - has a component of dots and spaces alone (`.`, `..`, `.. `): Windows resolves it as in the
    ///   path of a file, and `\\.\pipe\x\..\..\C:\y` is the file `C:\y`. A component that merely
    ///   ends in dots (`x..`) is accepted;
    /// - contains a NUL character;
    /// - is longer, with its prefix, than the 256 characters that [Windows allows](https://learn.microsoft.com/windows/win32/ipc/pipe-names).
    pub fn new(name: impl AsRef<OsStr>) -> io::Result<Self> {
        Self::parse(name.as_ref())
    }

    fn parse(given: &OsStr) -> io::Result<Self> {
        let text = given.to_string_lossy();
        let refuse = |why: &str| {
            // As it was written, without doubled backslashes; control characters stay visible.
            let mut shown = String::new();
            for character in text.chars() {
                if character.is_control() {
                    shown.extend(character.escape_default());
                } else {
                    shown.push(character);
                }
            }
            Err(io::Error::new(io::ErrorKind::InvalidInput, format!("invalid pipe name '{shown}': {why}")))
        };
        if text.is_empty() {
            return refuse("it is empty");
        }
        let Some(canonical) = canonical(&text) else {
            return refuse(r"it is the path of a file; a pipe's is \\.\pipe\NAME, or the name alone");
        };
        let Some(components) = components_in_pipe_namespace(&canonical) else {
            return refuse(
                r"it is a path to something else; a pipe's begins with \\SERVER\pipe\ or \\.\pipe\",
            );
        };
        if components.clone().all(str::is_empty) {
            return refuse("it is empty");
        }
        if components.clone().any(is_dots_and_spaces) {
            return refuse(
                "Windows resolves a component of dots and spaces alone, and the name would leave the pipes",
            );
        }
        if canonical.contains('\0') {
            return refuse("it contains a NUL character");
        }
        if canonical.encode_utf16().count() > LONGEST {
            return refuse("it is longer than 256 characters");
        }
        match given.to_str() {
            Some(_) => Ok(Self(OsString::from(canonical))),
            None if canonical == text => Ok(Self(given.to_owned())),
            None if canonical.strip_prefix(LOCAL_PREFIX) == Some(&*text) => {
                Ok(Self([OsStr::new(LOCAL_PREFIX), given].into_iter().collect()))
            }
            // There is no safe way to replace parts of text that is not Unicode.
            None => refuse(
                r"it is not Unicode, and then has to be \\SERVER\pipe\NAME or the name alone, with backslashes",
            ),
        }
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

    /// Returns the characters in the form that names are compared in. Bytes that are no character
    /// have numbers of their own.
    fn compared(&self) -> impl Iterator<Item = u32> {
        let bytes = self.0.as_encoded_bytes();
        let (prefix, rest) = match bytes.strip_prefix(br"\\?\") {
            Some(rest) => (&br"\\.\"[..], rest),
            None => (&[][..], bytes),
        };
        [prefix, rest].into_iter().flat_map(<[u8]>::utf8_chunks).flat_map(|chunk| {
            let characters = chunk.valid().chars().map(|character| u32::from(upper_case(character)));
            characters.chain(chunk.invalid().iter().map(|byte| u32::from(char::MAX) + 1 + u32::from(*byte)))
        })
    }

    /// UTF-16 with a NUL at the end.
    #[cfg(windows)]
    pub(crate) fn to_wide(&self) -> Vec<u16> {
        use std::os::windows::ffi::OsStrExt;
        self.0.encode_wide().chain([0]).collect()
    }
}

/// The system's form of a name in any form. `None` for a path that begins at a drive or a root,
/// which nobody means as a name.
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

/// The components behind `\\SERVER\pipe\`. `None`: the path is that of a file or of another device.
fn components_in_pipe_namespace(canonical: &str) -> Option<std::str::Split<'_, char>> {
    let (server, rest) = canonical.strip_prefix(r"\\")?.split_once('\\')?;
    let (pipe, name) = rest.split_once('\\')?;
    let is_server = server == "." || !(server.is_empty() || is_dots_and_spaces(server));
    (is_server && pipe.eq_ignore_ascii_case("pipe")).then(|| name.split('\\'))
}

/// Returns whether Windows may resolve this component instead of taking it as a name. `.` and `..`
/// are resolved anywhere. Spaces and dots at the end of the whole path are removed, which makes
/// another name of `... ` too ([Microsoft's
/// page](https://learn.microsoft.com/dotnet/standard/io/file-path-formats#path-normalization)).
fn is_dots_and_spaces(component: &str) -> bool {
    !component.is_empty() && component.bytes().all(|byte| matches!(byte, b'.' | b' '))
}

/// Returns the upper-case character that Windows compares: one for one, within the first 65,536,
/// and never an ASCII letter for another character (as in the [table of
/// exFAT](https://learn.microsoft.com/windows/win32/fileio/exfat-specification#722-up-case-table)).
fn upper_case(character: char) -> char {
    let mut upper = character.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(upper), None)
            if upper.len_utf16() == 1
                && character.len_utf16() == 1
                && upper.is_ascii() == character.is_ascii() =>
        {
            upper
        }
        _ => character,
    }
}

impl PartialEq for PipeName {
    fn eq(&self, other: &Self) -> bool {
        self.compared().eq(other.compared())
    }
}

impl Eq for PipeName {}

impl Hash for PipeName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.compared().for_each(|character| state.write_u32(character));
        state.write_u8(0xff);
    }
}

impl FromStr for PipeName {
    type Err = io::Error;

    /// [`new`](Self::new).
    fn from_str(name: &str) -> io::Result<Self> {
        Self::new(name)
    }
}

impl TryFrom<&str> for PipeName {
    type Error = io::Error;

    /// [`new`](Self::new).
    fn try_from(name: &str) -> io::Result<Self> {
        Self::new(name)
    }
}

impl TryFrom<String> for PipeName {
    type Error = io::Error;

    /// [`new`](Self::new).
    fn try_from(name: String) -> io::Result<Self> {
        Self::new(name)
    }
}

impl TryFrom<&OsStr> for PipeName {
    type Error = io::Error;

    /// [`new`](Self::new).
    fn try_from(name: &OsStr) -> io::Result<Self> {
        Self::new(name)
    }
}

impl TryFrom<OsString> for PipeName {
    type Error = io::Error;

    /// [`new`](Self::new).
    fn try_from(name: OsString) -> io::Result<Self> {
        Self::new(name)
    }
}

impl From<PipeName> for OsString {
    fn from(name: PipeName) -> Self {
        name.0
    }
}

impl fmt::Display for PipeName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.to_string_lossy().fmt(formatter)
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
    fn names_are_equal_as_windows_compares_them() {
        let name = |text: &str| PipeName::new(text).unwrap();
        for (one, other, equal) in [
            ("docker_engine", "Docker_ENGINE", true),
            (r"\\.\pipe\x", r"\\?\PIPE\X", true),
            (r"\\server\pipe\x", r"\\SERVER\pipe\x", true),
            ("\u{e9}t\u{e9}", "\u{c9}T\u{c9}", true),
            ("\u{3c3}", "\u{3a3}", true),
            // The upper case is two letters, or an ASCII letter: Windows keeps the character.
            ("stra\u{df}e", "STRASSE", false),
            ("\u{131}", "I", false),
            ("\u{17f}", "S", false),
            // Beyond the first 65,536 characters there is no case.
            ("\u{10428}", "\u{10400}", false),
            ("x", "y", false),
            ("x", "xy", false),
            (r"\\.\pipe\x", r"\\server\pipe\x", false),
        ] {
            assert_eq!(name(one) == name(other), equal, "{one} {other}");
            let hashes = [one, other].map(|text| {
                let mut hasher = std::hash::DefaultHasher::new();
                name(text).hash(&mut hasher);
                hasher.finish()
            });
            assert_eq!(hashes[0] == hashes[1], equal, "the hashes of {one} and {other}");
        }
    }

    #[test]
    fn names_that_are_not_unicode_are_compared_too() {
        let name = |text: &str| {
            PipeName::new([OsStr::new(text), &no_character()].into_iter().collect::<OsString>()).unwrap()
        };
        assert_eq!(name("x"), name("X"));
        assert_ne!(name("x"), PipeName::new("x\u{fffd}").unwrap());
    }

    #[test]
    fn names_are_parsed_and_converted() {
        let name = PipeName::new("x").unwrap();
        assert_eq!("x".parse::<PipeName>().unwrap(), name);
        assert_eq!(PipeName::try_from("x").unwrap(), name);
        assert_eq!(PipeName::try_from(String::from("x")).unwrap(), name);
        assert_eq!(PipeName::try_from(OsStr::new("x")).unwrap(), name);
        assert_eq!(PipeName::try_from(OsString::from("x")).unwrap(), name);
        assert_eq!(OsString::from(name), r"\\.\pipe\x");
        assert_eq!("".parse::<PipeName>().unwrap_err().kind(), io::ErrorKind::InvalidInput);
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
            (r"\\server\pipe", "something else"),
            (r"\\server\pipe\", "empty"),
            (r"\\?\pipe\", "empty"),
            (r"\\.\pipe\\\", "empty"),
            (r"\\..\pipe\x", "something else"),
            (r"\\. \pipe\x", "something else"),
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
            assert!(name.contains('\0') || error.to_string().contains(&format!("'{name}'")), "{error}");
        }
        assert!(PipeName::new("n".repeat(247)).is_ok(), "256 in all");
    }

    /// Win32 resolves such components before the kernel sees the path, so that `..` leads out of
    /// the pipes.
    #[test]
    #[cfg_attr(miri, ignore = "text without pointers, in hundreds of combinations")]
    fn no_component_is_resolved_as_that_of_a_path() {
        let prefixes = [
            "",
            "npipe:",
            "NPIPE:",
            "npipe:////./pipe/",
            r"\\.\pipe\",
            r"\\.\PIPE\",
            "//./pipe/",
            "/./pipe/",
            r"\/./pipe\",
            r"/\.\pipe/",
            r"\\?\pipe\",
            "//?/pipe/",
            r"\\server\pipe\",
            "//server/pipe/",
        ];
        let names = [
            ".",
            "..",
            ". ",
            ".. ",
            "..  ",
            "... ",
            "...",
            ". .",
            " ..",
            "../C:/windows/system.ini",
            r"..\C:\windows\system.ini",
            r".. \C:\x",
            r"a\..\..\C:\x",
            "a/../../C:/x",
            r"a/..\../C:\x",
            r"a\.",
            r"a\. ",
            r"a\.\b",
            "a/./b",
            "a/..",
            r"a\\..\\..\C:\x",
            r"\..\C:\x",
            r"a\..\",
        ];
        for (prefix, name) in prefixes.iter().flat_map(|prefix| names.map(|name| (prefix, name))) {
            let name = format!("{prefix}{name}");
            let Err(error) = PipeName::new(&name) else { panic!("{name:?} is accepted") };
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            // A bare name that begins with a slash is the path of a file.
            assert!(
                ["dots", "a file"].iter().any(|why| error.to_string().contains(why)),
                "{name:?}: {error}"
            );
        }
    }

    #[test]
    fn dots_within_a_component_are_part_of_the_name() {
        for name in ["x..", "x.", "..x", ".x", "a..b", r"a\..b\c", "x. ", ". x", r"x..\y", "....x"] {
            let expected = format!(r"\\.\pipe\{name}");
            assert_eq!(PipeName::new(name).unwrap().as_os_str(), &*expected, "{name:?}");
            assert_eq!(PipeName::new(&expected).unwrap().as_os_str(), &*expected, "{name:?}");
        }
        assert!(PipeName::new(r"\\..x\pipe\y").is_ok(), "a server's name");
    }

    /// The last unit of each name is no character.
    #[test]
    fn names_that_are_not_unicode_obey_the_same_rules() {
        let name = |text: &str| -> OsString { [OsStr::new(text), &no_character()].into_iter().collect() };
        for bad in [
            r"..\C:\",
            r"\\.\pipe\..\C:\",
            r"\\.\pipe\a\.. \..\C:\",
            "../C:/",
            "//./pipe/../C:/",
            r"\\.\pipe\a/../../C:/",
            r"npipe:..\C:\",
            r"\\?\pipe\..\",
            r"\\server\pipe\..\",
            r"C:\",
            "/tmp/",
            r"\\?\C:\",
            "a\0",
        ] {
            let error = PipeName::new(name(bad)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{bad}");
        }
        for good in ["", "x", r"a\", ".", "..", r"a\.."] {
            let full = name(&format!(r"\\.\pipe\{good}"));
            assert_eq!(PipeName::new(name(good)).unwrap().as_os_str(), full, "{good}");
            assert_eq!(PipeName::new(&full).unwrap().as_os_str(), full, "{good}");
        }
    }

    #[cfg(windows)]
    fn no_character() -> OsString {
        std::os::windows::ffi::OsStringExt::from_wide(&[0xD800])
    }

    #[cfg(unix)]
    fn no_character() -> OsString {
        std::os::unix::ffi::OsStringExt::from_vec(vec![0xFF])
    }
}
