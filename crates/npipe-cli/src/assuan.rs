//! GnuPG's sockets on Windows: a file names a port of loopback and holds a nonce, which shows the agent that its client
//! may read the file. Reads such files in both forms, makes the connection with the handshake that belongs to each,
//! finds the files of gpg-agent, and starts it when told. Formats and handshakes are those of libassuan,
//! `assuan-socket.c`, and of Cygwin, `fhandler_socket_local.cc`.

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::exit::{Exit, Failure};

type Nonce = [u8; 16];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Of GnuPG for Windows: the port in digits, a newline, the nonce as it is.
    Native,
    /// Of Cygwin and MSYS2, and of GnuPG's ssh socket: `!<socket >PORT s NONCE`, the nonce in four words.
    Cygwin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SocketFile {
    port: u16,
    nonce: Nonce,
    form: Form,
}

const CYGWIN_MAGIC: &[u8] = b"!<socket >";

/// More than the longest file of either form has.
const LONGEST_FILE: u64 = 128;

impl SocketFile {
    /// Takes what libassuan and Cygwin write and nothing else: the file decides where the nonce is sent.
    fn parse(bytes: &[u8]) -> Result<SocketFile, &'static str> {
        match bytes.strip_prefix(CYGWIN_MAGIC) {
            Some(rest) => SocketFile::parse_cygwin(rest),
            None => SocketFile::parse_native(bytes),
        }
    }

    fn parse_native(bytes: &[u8]) -> Result<SocketFile, &'static str> {
        let newline = bytes.iter().position(|byte| *byte == b'\n').ok_or("no line with a port")?;
        let port = port(&bytes[..newline])?;
        let nonce = bytes[newline + 1..].try_into().map_err(|_| "the nonce does not have 16 bytes")?;
        Ok(SocketFile { port, nonce, form: Form::Native })
    }

    fn parse_cygwin(rest: &[u8]) -> Result<SocketFile, &'static str> {
        let rest = rest.strip_suffix(b"\0").unwrap_or(rest);
        let text = str::from_utf8(rest).map_err(|_| "it is not text")?;
        let mut fields = text.split(' ');
        let (Some(digits), Some(kind), Some(words), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err("it does not have three fields");
        };
        let port = port(digits.as_bytes())?;
        if kind != "s" {
            return Err("it is not a stream socket");
        }
        let mut nonce = Nonce::default();
        let mut words = words.split('-');
        for bytes in nonce.chunks_exact_mut(4) {
            let word = words.next().ok_or("the nonce does not have four words")?;
            if word.len() != 8 || !word.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err("a word of the nonce does not have eight hexadecimal digits");
            }
            let word = u32::from_str_radix(word, 16).map_err(|_| "a word of the nonce is no number")?;
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        if words.next().is_some() {
            return Err("the nonce has more than four words");
        }
        Ok(SocketFile { port, nonce, form: Form::Cygwin })
    }

    async fn connect(self) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await?;
        stream.set_nodelay(true)?;
        stream.write_all(&self.nonce).await?;
        if self.form == Form::Cygwin {
            let mut answer = Nonce::default();
            stream.read_exact(&mut answer).await?;
            if answer != self.nonce {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the server does not know the nonce"));
            }
            // A process id and two of user and group, which nobody checks; libassuan sends zeros too.
            let mut credentials = [0; 8];
            credentials[..4].copy_from_slice(&std::process::id().to_le_bytes());
            stream.write_all(&credentials).await?;
            stream.read_exact(&mut credentials).await?;
        }
        Ok(stream)
    }
}

fn port(digits: &[u8]) -> Result<u16, &'static str> {
    const REASON: &str = "the port is not a number from 1 to 65535";
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(REASON);
    }
    match str::from_utf8(digits).map(str::parse) {
        Ok(Ok(port)) if port > 0 => Ok(port),
        _ => Err(REASON),
    }
}

/// Why there is no connection.
#[derive(Debug)]
enum Refusal {
    Missing,
    Unreadable(io::Error),
    Malformed(&'static str),
    /// The agent that wrote the file has gone, and did not remove it.
    Stale {
        port: u16,
    },
    Handshake(io::Error),
}

impl Refusal {
    fn ends_with_a_new_agent(&self) -> bool {
        matches!(self, Refusal::Missing | Refusal::Stale { .. } | Refusal::Handshake(_))
    }

    fn exit(&self) -> Exit {
        match self {
            Refusal::Missing | Refusal::Stale { .. } => Exit::NotFound,
            Refusal::Unreadable(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Exit::AccessDenied
            }
            Refusal::Unreadable(_) | Refusal::Malformed(_) | Refusal::Handshake(_) => Exit::Failure,
        }
    }
}

const REMEDY: &str = "start the agent with `gpgconf --launch gpg-agent`, or let --launch do it";

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Missing => write!(formatter, "there is no such file; {REMEDY}"),
            Refusal::Unreadable(error) => write!(formatter, "the file cannot be read: {error}"),
            Refusal::Malformed(reason) => write!(formatter, "this is no socket file of GnuPG's: {reason}"),
            Refusal::Stale { port } => {
                write!(formatter, "the file is stale, nobody listens on its port {port}; {REMEDY}")
            }
            Refusal::Handshake(error) => write!(
                formatter,
                "the program on its port did not accept the nonce ({error}), so the file is probably stale; {REMEDY}"
            ),
        }
    }
}

/// Connects to the agent behind `file`; with `launch`, starts it first if it does not run.
pub(crate) async fn connect(file: &Path, launch: bool) -> Result<TcpStream, Failure> {
    let attempted = match attempt(file).await {
        Err(refusal) if launch && refusal.ends_with_a_new_agent() => {
            launch_agent().await?;
            attempt(file).await
        }
        attempted => attempted,
    };
    attempted.map_err(|refusal| {
        Failure::new(refusal.exit(), format!("cannot connect to assuan:{}: {refusal}", file.display()))
    })
}

/// The file is read each time: an agent that is started anew has another port and another nonce.
async fn attempt(file: &Path) -> Result<TcpStream, Refusal> {
    let mut bytes = Vec::new();
    let read = async { File::open(file).await?.take(LONGEST_FILE).read_to_end(&mut bytes).await };
    match read.await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Refusal::Missing),
        Err(error) => return Err(Refusal::Unreadable(error)),
    }
    let socket = SocketFile::parse(&bytes).map_err(Refusal::Malformed)?;
    socket.connect().await.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => Refusal::Stale { port: socket.port },
        _ => Refusal::Handshake(error),
    })
}

/// Returns when the agent takes clients, which is what gpgconf waits for.
async fn launch_agent() -> Result<(), Failure> {
    let failure = |reason: String| {
        Failure::new(
            Exit::Failure,
            format!("cannot start gpg-agent by `gpgconf --launch gpg-agent`: {reason}"),
        )
    };
    let status = Command::new(gpgconf())
        .args(["--launch", "gpg-agent"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .await
        .map_err(|error| failure(error.to_string()))?;
    if status.success() { Ok(()) } else { Err(failure(status.to_string())) }
}

/// Where GnuPG's installer puts it, else by PATH.
fn gpgconf() -> PathBuf {
    ["ProgramFiles(x86)", "ProgramFiles"]
        .into_iter()
        .filter_map(std::env::var_os)
        .map(|programs| Path::new(&programs).join("GnuPG").join("bin").join("gpgconf.exe"))
        .find(|installed| installed.exists())
        .unwrap_or_else(|| "gpgconf".into())
}

#[cfg(windows)]
pub(crate) mod find {
    //! Where gpg-agent's socket files are. GnuPG itself knows best; without it, where it documents that they are.

    use std::path::PathBuf;
    use std::process::{Command, Stdio};

    use super::gpgconf;
    use crate::endpoint::GpgSocket;

    pub(crate) fn socket_file(socket: GpgSocket) -> Option<PathBuf> {
        told_by_gpgconf(socket).or_else(|| {
            let files: Vec<_> = documented_files(socket).collect();
            let existing = files.iter().find(|file| file.exists());
            existing.or(files.first()).cloned()
        })
    }

    fn told_by_gpgconf(socket: GpgSocket) -> Option<PathBuf> {
        let name = match socket {
            GpgSocket::Agent => "agent-socket",
            GpgSocket::Ssh => "agent-ssh-socket",
        };
        let output =
            Command::new(gpgconf()).args(["--list-dirs", name]).stdin(Stdio::null()).output().ok()?;
        let line = String::from_utf8(output.stdout).ok()?;
        let path = line.trim();
        (output.status.success() && !path.is_empty()).then(|| path.into())
    }

    /// Since GnuPG 2.3 in the local profile, before that in the roaming one.
    fn documented_files(socket: GpgSocket) -> impl Iterator<Item = PathBuf> {
        let name = match socket {
            GpgSocket::Agent => "S.gpg-agent",
            GpgSocket::Ssh => "S.gpg-agent.ssh",
        };
        let homes = std::env::var_os("GNUPGHOME").map(PathBuf::from).into_iter();
        let profiles = ["LOCALAPPDATA", "APPDATA"].into_iter().filter_map(std::env::var_os);
        homes
            .chain(profiles.map(|profile| PathBuf::from(profile).join("gnupg")))
            .map(move |home| home.join(name))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Form, Nonce, SocketFile};

    const NONCE: Nonce = [1, 2, 3, 4, 5, 6, 7, 8, 0xf9, 10, 11, 12, 13, 14, 15, 16];

    fn native(port: &str, nonce: &[u8]) -> Vec<u8> {
        [port.as_bytes(), b"\n", nonce].concat()
    }

    fn error(bytes: &[u8]) -> &'static str {
        SocketFile::parse(bytes).expect_err(&String::from_utf8_lossy(bytes))
    }

    #[test]
    fn the_native_form_is_a_line_and_a_raw_nonce() {
        let file = SocketFile::parse(&native("58912", &NONCE)).unwrap();
        assert_eq!(file, SocketFile { port: 58912, nonce: NONCE, form: Form::Native });
        // The nonce is random: newlines and NULs are bytes like others.
        let nonce = [b'\n', 0, b'\n', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b'\n'];
        assert_eq!(SocketFile::parse(&native("1", &nonce)).unwrap().nonce, nonce);
    }

    #[test]
    fn the_words_of_cygwins_nonce_are_little_endian() {
        for file in [
            &b"!<socket >58912 s 04030201-08070605-0C0b0af9-100f0e0d\0"[..],
            b"!<socket >58912 s 04030201-08070605-0c0b0af9-100f0e0d",
        ] {
            let file = SocketFile::parse(file).unwrap();
            assert_eq!((file.port, file.form), (58912, Form::Cygwin));
            assert_eq!(file.nonce, [1, 2, 3, 4, 5, 6, 7, 8, 0xf9, 10, 11, 12, 13, 14, 15, 16]);
        }
    }

    #[test]
    fn what_neither_writes_is_refused_with_the_reason() {
        for (file, reason) in [
            (&b""[..], "no line"),
            (b"58912", "no line"),
            (b"58912\n", "16 bytes"),
            (b"58912\n0123456789abcde", "16 bytes"),
            (b"58912\n0123456789abcdefg", "16 bytes"),
            (b"0\n0123456789abcdef", "port"),
            (b"65536\n0123456789abcdef", "port"),
            (b"+5\n0123456789abcdef", "port"),
            (b" 5\n0123456789abcdef", "port"),
            (b"\n0123456789abcdef", "port"),
            (b"5\r\n0123456789abcdef", "port"),
            (b"%Assuan%\nsocket=/x/y", "port"),
            (b"!<socket >5 s 00000000-00000000-00000000", "four words"),
            (b"!<socket >5 s 00000000-00000000-00000000-00000000-00000000", "more than four"),
            (b"!<socket >5 s 00000000-00000000-00000000-0000000", "eight"),
            (b"!<socket >5 s 00000000-00000000-00000000-+0000000", "eight"),
            (b"!<socket >5 d 00000000-00000000-00000000-00000000", "stream"),
            (b"!<socket >5  s 00000000-00000000-00000000-00000000", "three fields"),
            (b"!<socket >0 s 00000000-00000000-00000000-00000000", "port"),
            (b"!<socket >5 s", "three fields"),
            (b"!<socket >\xff", "text"),
        ] {
            assert!(error(file).contains(reason), "{}: {}", String::from_utf8_lossy(file), error(file));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(
            start in prop::sample::select(vec!["", "!<socket >", "!<socket >7 s ", "99\n"]),
            bytes in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let _ = SocketFile::parse(&[start.as_bytes(), &bytes].concat());
        }

        #[test]
        fn what_libassuan_writes_is_read(port in 1..=u16::MAX, nonce: Nonce) {
            let words: Vec<String> = nonce
                .chunks_exact(4)
                .map(|bytes| format!("{:08x}", u32::from_le_bytes(bytes.try_into().unwrap())))
                .collect();
            let cygwin = format!("!<socket >{port} s {}\0", words.join("-"));
            for (file, form) in
                [(native(&port.to_string(), &nonce), Form::Native), (cygwin.into_bytes(), Form::Cygwin)]
            {
                prop_assert_eq!(SocketFile::parse(&file), Ok(SocketFile { port, nonce, form }));
            }
        }
    }
}
