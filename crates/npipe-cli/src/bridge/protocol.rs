//! What the two halves of the bridge say to each other, as bytes: the handshake on the bare
//! transport, then, at the start of each connection, the request to open a target and its answer,
//! and the record that ends a connection.
//!
//! The decoders are total: whatever arrives is a value or [`Malformed`], and what a length says is
//! held against a limit before it is believed. No connection, process or clock is known here.
//!
//! Everything but the magic is a *block*: a length of two bytes, then so many bytes. Numbers are
//! big-endian.

use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::endings::{Direction, Directions};

/// The versions of this protocol that this program speaks.
///
/// Version 2 has the stream of pings, targets of any length that Windows has, and pipes of one
/// direction.
const VERSIONS: RangeInclusive<u16> = 2..=2;

/// First on the transport in both directions. A byte that no text begins with, so that the words of
/// a shell or a loader that answers instead of npipe are told apart at once; CR, LF and end-of-file
/// of DOS, which a transport that translates text would damage.
const MAGIC: [u8; 8] = *b"\x93npipe\r\n";

/// Above what any block needs, and small enough to be of no use to an attacker.
pub(super) const LONGEST_BLOCK: usize = LONGEST_TARGET + 1024;
const LONGEST_PROGRAM: usize = 64;
/// A command line of Windows has at most 32,767 characters; no other target is that long.
const LONGEST_TARGET: usize = 32 * 1024;
/// The reason of an error is behind the name of its target.
const LONGEST_ERROR_TEXT: usize = LONGEST_TARGET + 512;

/// The limit for the start of the Windows half, until both halves have shaken hands. A program on a
/// Linux file system, seen from Windows and read by its virus scanner, has been seen to take 30 s.
pub(super) const LONGEST_START: Duration = Duration::from_secs(60);

/// How much of an answer that is not the bridge's is shown.
const LONGEST_QUOTE: usize = 200;

/// Bytes that this protocol does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(super) &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the other half of the bridge sent something malformed: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

impl From<Malformed> for io::Error {
    fn from(malformed: Malformed) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, malformed)
    }
}

/// What each half says first: which versions of the protocol it speaks, and who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) versions: RangeInclusive<u16>,
    /// The version of the program, for people.
    pub(crate) program: String,
}

impl Hello {
    pub(crate) fn ours() -> Hello {
        Hello { versions: VERSIONS, program: env!("CARGO_PKG_VERSION").to_owned() }
    }

    fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend(self.versions.start().to_be_bytes());
        body.extend(self.versions.end().to_be_bytes());
        body.extend(self.program.as_bytes());
        body
    }

    fn decode(body: &[u8]) -> Result<Hello, Malformed> {
        let mut fields = Fields(body);
        let versions = fields.u16()?..=fields.u16()?;
        if versions.is_empty() {
            return Err(Malformed("a range of versions with nothing in it"));
        }
        let program = fields.rest_as_line(LONGEST_PROGRAM)?;
        Ok(Hello { versions, program })
    }

    /// The newest version that both speak.
    fn agree(&self, other: &Hello) -> Result<u16, HandshakeError> {
        let version = *self.versions.end().min(other.versions.end());
        if self.versions.contains(&version) && other.versions.contains(&version) {
            return Ok(version);
        }
        Err(HandshakeError::Versions { ours: self.clone(), theirs: other.clone() })
    }
}

impl fmt::Display for Hello {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hello { versions, program } = self;
        write!(formatter, "npipe {program} (bridge protocol {}", versions.start())?;
        if versions.start() < versions.end() {
            write!(formatter, " to {}", versions.end())?;
        }
        formatter.write_str(")")
    }
}

/// Why the two halves cannot work together.
#[derive(Debug)]
pub(crate) enum HandshakeError {
    /// The transport ended or failed before the other half had said who it is.
    Transport(io::Error),
    /// What answers is no bridge; this is how its answer begins.
    NotABridge(String),
    Malformed(Malformed),
    Versions {
        ours: Hello,
        theirs: Hello,
    },
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandshakeError::Transport(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                formatter.write_str("it ended before it answered")
            }
            HandshakeError::Transport(error) => write!(formatter, "it cannot be talked to: {error}"),
            HandshakeError::NotABridge(answer) => {
                write!(
                    formatter,
                    "it is not npipe's bridge; it answered \"{}\"",
                    answer.replace(char::is_control, " ")
                )
            }
            HandshakeError::Malformed(malformed) => malformed.fmt(formatter),
            HandshakeError::Versions { ours, theirs } => write!(
                formatter,
                "the two halves of the bridge are too different: here is {ours}, there is {theirs}; install the same \
                 version on both sides"
            ),
        }
    }
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> HandshakeError {
        HandshakeError::Transport(error)
    }
}

impl From<Malformed> for HandshakeError {
    fn from(malformed: Malformed) -> HandshakeError {
        HandshakeError::Malformed(malformed)
    }
}

/// Says who we are, hears who the other half is, and gives that back if the two have a version in
/// common.
pub(crate) async fn shake_hands<T>(transport: &mut T, ours: &Hello) -> Result<Hello, HandshakeError>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut hello = MAGIC.to_vec();
    write_block(&mut hello, &ours.encode()).await?;
    // One that does not listen, since it is no bridge, may have said so.
    let said = transport.write_all(&hello).await.and(transport.flush().await);
    let mut magic = [0; MAGIC.len()];
    transport.read_exact(&mut magic).await?;
    if magic != MAGIC {
        return Err(HandshakeError::NotABridge(quote(&magic, transport).await));
    }
    said?;
    let body = read_block(transport).await?;
    let theirs = Hello::decode(&body)?;
    ours.agree(&theirs)?;
    Ok(theirs)
}

/// The beginning of an answer in words. One read more: what a program says before it ends comes in
/// one piece.
async fn quote<T: AsyncRead + Unpin>(beginning: &[u8], transport: &mut T) -> String {
    let mut more = [0; LONGEST_QUOTE];
    let length = transport.read(&mut more).await.unwrap_or(0);
    String::from_utf8_lossy(&[beginning, &more[..length]].concat()).into_owned()
}

/// The first block of the first stream, which carries pings afterwards: for how long a half may
/// send nothing before the other takes it for dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Silence {
    pub(super) limit: Duration,
}

impl Default for Silence {
    fn default() -> Silence {
        Silence { limit: Duration::from_secs(20) }
    }
}

impl Silence {
    pub(super) fn encode(self) -> [u8; 4] {
        u32::try_from(self.limit.as_millis()).unwrap_or(u32::MAX).to_be_bytes()
    }

    pub(super) fn decode(body: &[u8]) -> Result<Silence, Malformed> {
        let mut fields = Fields(body);
        match fields.u32()? {
            milliseconds @ 1.. if fields.0.is_empty() => {
                Ok(Silence { limit: Duration::from_millis(milliseconds.into()) })
            }
            _ => Err(Malformed("a limit of silence that is zero or has another length")),
        }
    }
}

/// The first block of a connection: what to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpenRequest {
    /// An address as on the command line, such as `npipe:openssh-ssh-agent`.
    pub(crate) target: String,
    /// How long to try; for ever if none.
    pub(crate) limit: Option<Duration>,
    /// Whether to try on also while the target does not exist, and not only while it is busy.
    pub(crate) poll: bool,
    /// Whether to start the target, if it is known how and it does not run.
    pub(crate) launch: bool,
    pub(crate) end_of_input: EndOfInput,
    /// Whether an empty message of the target is the end of what it says.
    pub(crate) end_at_empty_message: bool,
    /// Whether an empty message of the target ends that direction, and the other goes on.
    pub(crate) half_close: bool,
    /// The only direction for which to open a pipe; by default those that it has.
    pub(crate) only: Option<Direction>,
}

/// What the end of the client's bytes means, beyond itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EndOfInput {
    /// A pipe of messages is told it by an empty one.
    pub(crate) sends_message: bool,
    /// The connection ends as soon as the target is silent.
    pub(crate) ends_session: bool,
}

impl OpenRequest {
    const FOR_EVER: u32 = u32::MAX;
    const POLL: u8 = 1;
    const LAUNCH: u8 = 2;
    const SENDS_MESSAGE: u8 = 4;
    const ENDS_SESSION: u8 = 8;
    const END_AT_EMPTY_MESSAGE: u8 = 16;
    const HALF_CLOSE: u8 = 32;
    const READ_ONLY: u8 = 64;
    const WRITE_ONLY: u8 = 128;

    pub(crate) fn encode(&self) -> Result<Vec<u8>, Malformed> {
        let milliseconds = self.limit.map_or(Self::FOR_EVER, |limit| {
            // Of days that do not fit, seven weeks are as good.
            u32::try_from(limit.as_millis()).unwrap_or(u32::MAX).min(Self::FOR_EVER - 1)
        });
        let mut body = milliseconds.to_be_bytes().to_vec();
        let flags = [
            (self.poll, Self::POLL),
            (self.launch, Self::LAUNCH),
            (self.end_of_input.sends_message, Self::SENDS_MESSAGE),
            (self.end_of_input.ends_session, Self::ENDS_SESSION),
            (self.end_at_empty_message, Self::END_AT_EMPTY_MESSAGE),
            (self.half_close, Self::HALF_CLOSE),
            (self.only == Some(Direction::Replies), Self::READ_ONLY),
            (self.only == Some(Direction::Requests), Self::WRITE_ONLY),
        ];
        body.push(flags.into_iter().filter(|(set, _)| *set).fold(0, |flags, (_, flag)| flags | flag));
        body.extend(self.target.as_bytes());
        OpenRequest::check_target(&self.target).map_err(Malformed)?;
        Ok(body)
    }

    /// Returns why the other half would refuse the target, which can be reported before there is a
    /// client.
    pub(crate) fn check_target(target: &str) -> Result<(), &'static str> {
        if target.len() > LONGEST_TARGET {
            return Err("it is longer than the 32 KiB that the bridge to Windows carries");
        }
        if target.is_empty() || target.contains('\0') {
            return Err("it is empty or has a NUL character");
        }
        Ok(())
    }

    pub(crate) fn decode(body: &[u8]) -> Result<OpenRequest, Malformed> {
        let mut fields = Fields(body);
        let limit = match fields.u32()? {
            Self::FOR_EVER => None,
            milliseconds => Some(Duration::from_millis(milliseconds.into())),
        };
        let flags = fields.u8()?;
        let target = fields.rest(LONGEST_TARGET)?;
        OpenRequest::check_target(&target).map_err(Malformed)?;
        let has = |flag| flags & flag != 0;
        let only = match (has(Self::READ_ONLY), has(Self::WRITE_ONLY)) {
            (true, true) => return Err(Malformed("a request for no direction of a pipe")),
            (true, false) => Some(Direction::Replies),
            (false, true) => Some(Direction::Requests),
            (false, false) => None,
        };
        let end_of_input =
            EndOfInput { sends_message: has(Self::SENDS_MESSAGE), ends_session: has(Self::ENDS_SESSION) };
        Ok(OpenRequest {
            target,
            limit,
            poll: has(Self::POLL),
            launch: has(Self::LAUNCH),
            end_of_input,
            end_at_empty_message: has(Self::END_AT_EMPTY_MESSAGE),
            half_close: has(Self::HALF_CLOSE),
            only,
        })
    }
}

/// The answer to [`OpenRequest`]: the directions that are open, or the error. The records of
/// an open connection follow, both ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Opened(Directions),
    Failed(RemoteError),
}

impl Answer {
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Answer::Opened(Directions::Both) => vec![0, 0],
            Answer::Opened(Directions::Only(Direction::Replies)) => vec![0, 1],
            Answer::Opened(Directions::Only(Direction::Requests)) => vec![0, 2],
            Answer::Failed(error) => [&[1], error.encode().as_slice()].concat(),
        }
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Answer, Malformed> {
        let mut fields = Fields(body);
        match fields.u8()? {
            0 => match fields.0 {
                [0] => Ok(Answer::Opened(Directions::Both)),
                [1] => Ok(Answer::Opened(Directions::Only(Direction::Replies))),
                [2] => Ok(Answer::Opened(Directions::Only(Direction::Requests))),
                _ => Err(Malformed("a connection with unknown directions")),
            },
            1 => Ok(Answer::Failed(RemoteError::decode(fields.0)?)),
            _ => Err(Malformed("an answer that is neither yes nor no")),
        }
    }
}

/// An error of the other system. Its code is a Windows code: it means something else to this
/// system, so that it must not become the `raw_os_error` of an [`io::Error`] here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RemoteError {
    pub(crate) code: Option<i32>,
    pub(crate) kind: io::ErrorKind,
    pub(crate) text: String,
}

/// The kinds that have a number; every other kind travels as `Other`, whose number is 0.
const KINDS: [(u8, io::ErrorKind); 16] = [
    (1, io::ErrorKind::NotFound),
    (2, io::ErrorKind::PermissionDenied),
    (3, io::ErrorKind::ConnectionRefused),
    (4, io::ErrorKind::ConnectionReset),
    (5, io::ErrorKind::ConnectionAborted),
    (6, io::ErrorKind::NotConnected),
    (7, io::ErrorKind::BrokenPipe),
    (8, io::ErrorKind::TimedOut),
    (9, io::ErrorKind::InvalidInput),
    (10, io::ErrorKind::InvalidData),
    (11, io::ErrorKind::Unsupported),
    (12, io::ErrorKind::ResourceBusy),
    (13, io::ErrorKind::UnexpectedEof),
    (14, io::ErrorKind::HostUnreachable),
    (15, io::ErrorKind::NetworkUnreachable),
    (16, io::ErrorKind::OutOfMemory),
];

impl RemoteError {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let number = KINDS.iter().find(|(_, kind)| *kind == self.kind).map_or(0, |(number, _)| *number);
        let mut body = vec![u8::from(self.code.is_some())];
        body.extend(self.code.unwrap_or(0).to_be_bytes());
        body.push(number);
        body.extend(one_line(&self.text).as_bytes());
        body
    }

    pub(crate) fn decode(body: &[u8]) -> Result<RemoteError, Malformed> {
        let mut fields = Fields(body);
        let code = match (fields.u8()?, fields.u32()?.cast_signed()) {
            (0, 0) => None,
            (1, code) => Some(code),
            _ => return Err(Malformed("an error code that is neither there nor absent")),
        };
        let number = fields.u8()?;
        let kind = match KINDS.iter().find(|(known, _)| *known == number) {
            Some((_, kind)) => *kind,
            None if number == 0 => io::ErrorKind::Other,
            None => return Err(Malformed("an unknown kind of error")),
        };
        Ok(RemoteError { code, kind, text: fields.rest_as_line(LONGEST_ERROR_TEXT)? })
    }
}

impl From<&io::Error> for RemoteError {
    fn from(error: &io::Error) -> RemoteError {
        RemoteError { code: error.raw_os_error(), kind: error.kind(), text: error.to_string() }
    }
}

impl From<RemoteError> for io::Error {
    fn from(error: RemoteError) -> io::Error {
        io::Error::new(error.kind, error)
    }
}

impl fmt::Display for RemoteError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text has the code where it is the system's own.
        formatter.write_str(&self.text)
    }
}

impl std::error::Error for RemoteError {}

/// A text that [`Fields::rest_as_line`] takes: messages of Windows may have several lines.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    for character in text.chars().map(|character| if character.is_control() { ' ' } else { character }) {
        if line.len() + character.len_utf8() > LONGEST_ERROR_TEXT {
            break;
        }
        line.push(character);
    }
    line
}

pub(crate) async fn write_block<W: AsyncWrite + Unpin>(writer: &mut W, body: &[u8]) -> io::Result<()> {
    let length = u16::try_from(body.len())
        .ok()
        .filter(|_| body.len() <= LONGEST_BLOCK)
        .ok_or(Malformed("a block that is too long"))?;
    writer.write_all(&[&length.to_be_bytes(), body].concat()).await?;
    writer.flush().await
}

pub(crate) async fn read_block<R: AsyncRead + Unpin>(reader: &mut R) -> io::Result<Vec<u8>> {
    let length = usize::from(reader.read_u16().await?);
    if length > LONGEST_BLOCK {
        return Err(Malformed("a block that is too long").into());
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await?;
    Ok(body)
}

/// What has not been decoded yet of a block.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (field, rest) = self.0.split_first_chunk().ok_or(Malformed("a block that is too short"))?;
        self.0 = rest;
        Ok(*field)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    fn rest(&mut self, limit: usize) -> Result<String, Malformed> {
        let bytes = std::mem::take(&mut self.0);
        if bytes.len() > limit {
            return Err(Malformed("a text that is too long"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Malformed("a text that is not UTF-8"))?;
        Ok(text.to_owned())
    }

    /// Without control characters: these texts reach terminals.
    fn rest_as_line(&mut self, limit: usize) -> Result<String, Malformed> {
        let text = self.rest(limit)?;
        if text.contains(char::is_control) {
            return Err(Malformed("a text with control characters"));
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::ops::RangeInclusive;
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::{
        Answer, EndOfInput, Hello, LONGEST_BLOCK, LONGEST_ERROR_TEXT, LONGEST_TARGET, MAGIC, OpenRequest,
        RemoteError, Silence, read_block, shake_hands, write_block,
    };
    use crate::endings::{Direction, Directions};

    fn hello(versions: RangeInclusive<u16>, program: &str) -> Hello {
        Hello { versions, program: program.to_owned() }
    }

    async fn both_shake_hands(one: Hello, other: Hello) -> [Result<Hello, String>; 2] {
        let (mut here, mut there) = duplex(64);
        let (here, there) = tokio::join!(shake_hands(&mut here, &one), shake_hands(&mut there, &other));
        [here.map_err(|error| error.to_string()), there.map_err(|error| error.to_string())]
    }

    /// What the other half makes of an answer that is not the protocol's.
    async fn answer_of_a_stranger(answer: &[u8]) -> String {
        let (mut here, mut there) = duplex(4096);
        there.write_all(answer).await.unwrap();
        there.shutdown().await.unwrap();
        let error = shake_hands(&mut here, &Hello::ours()).await.unwrap_err().to_string();
        drop(there);
        error
    }

    #[tokio::test]
    async fn two_halves_of_one_version_learn_of_each_other() {
        let [here, there] = both_shake_hands(hello(1..=1, "0.1.0"), hello(1..=3, "0.9.0")).await;
        assert_eq!((here.unwrap().program, there.unwrap().program), ("0.9.0".to_owned(), "0.1.0".to_owned()));
    }

    #[tokio::test]
    async fn versions_that_do_not_meet_are_refused_by_both_with_both_names() {
        for error in both_shake_hands(hello(1..=2, "0.1.0"), hello(3..=4, "7.0.0")).await {
            let error = error.unwrap_err();
            assert!(error.contains("npipe 0.1.0 (bridge protocol 1 to 2)"), "{error}");
            assert!(error.contains("npipe 7.0.0 (bridge protocol 3 to 4)"), "{error}");
            assert!(error.contains("install the same version"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_stranger_is_quoted() {
        let error = answer_of_a_stranger(b"cmd.exe: not found\n").await;
        assert!(error.contains("not npipe's bridge") && error.contains("cmd.exe: not found"), "{error}");
    }

    #[tokio::test]
    async fn silence_and_half_a_handshake_are_errors() {
        for answer in [&b""[..], b"\x93npi", &MAGIC, &[&MAGIC[..], &[0, 9, 0, 1]].concat()] {
            assert_eq!(answer_of_a_stranger(answer).await, "it ended before it answered");
        }
    }

    #[tokio::test]
    async fn a_hello_with_an_empty_range_or_an_endless_name_is_malformed() {
        for body in
            [hello(RangeInclusive::new(2, 1), "0.1.0").encode(), hello(1..=1, &"x".repeat(65)).encode()]
        {
            let mut answer = MAGIC.to_vec();
            write_block(&mut answer, &body).await.unwrap();
            let error = answer_of_a_stranger(&answer).await;
            assert!(error.contains("malformed"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_block_longer_than_the_limit_is_refused_before_it_is_read() {
        let (mut here, mut there) = duplex(16);
        there.write_all(&[0xff, 0xff]).await.unwrap();
        let error = read_block(&mut here).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(
            write_block(&mut there, &[0; LONGEST_BLOCK + 1]).await.unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        drop(there);
        assert_eq!(here.read(&mut [0; 16]).await.unwrap(), 0);
    }

    fn request(target: &str) -> OpenRequest {
        OpenRequest {
            target: target.to_owned(),
            limit: Some(Duration::from_millis(1500)),
            poll: false,
            launch: false,
            end_of_input: EndOfInput::default(),
            end_at_empty_message: false,
            half_close: false,
            only: None,
        }
    }

    #[test]
    fn a_request_comes_back_as_it_was() {
        let plain = request(r"npipe:\\.\pipe\Bücher");
        for request in [
            OpenRequest { limit: None, ..plain.clone() },
            OpenRequest { poll: true, ..plain.clone() },
            OpenRequest { launch: true, ..plain.clone() },
            OpenRequest { end_at_empty_message: true, ..plain.clone() },
            OpenRequest { half_close: true, ..plain.clone() },
            OpenRequest { only: Some(Direction::Replies), ..plain.clone() },
            OpenRequest { only: Some(Direction::Requests), ..plain.clone() },
            OpenRequest {
                end_of_input: EndOfInput { sends_message: true, ends_session: false },
                ..plain.clone()
            },
            OpenRequest {
                end_of_input: EndOfInput { sends_message: false, ends_session: true },
                ..plain.clone()
            },
            plain,
        ] {
            assert_eq!(OpenRequest::decode(&request.encode().unwrap()), Ok(request));
        }
    }

    #[test]
    fn an_answer_comes_back_as_it_was() {
        for directions in
            [Directions::Both, Directions::Only(Direction::Requests), Directions::Only(Direction::Replies)]
        {
            let answer = Answer::Opened(directions);
            assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
        }
    }

    #[test]
    fn a_request_for_no_direction_is_refused() {
        let mut body = request("npipe:x").encode().unwrap();
        body[4] |= OpenRequest::READ_ONLY | OpenRequest::WRITE_ONLY;
        assert!(OpenRequest::decode(&body).is_err());
    }

    #[test]
    fn a_command_line_of_windows_is_carried_with_its_white_space() {
        let target = format!("exec:tab\tline\n{}", "x".repeat(32_000));
        let sent = request(&target);
        assert_eq!(OpenRequest::decode(&sent.encode().unwrap()), Ok(sent));
    }

    #[test]
    fn a_limit_of_silence_comes_back_as_it_was_and_zero_is_none() {
        let silence = Silence { limit: Duration::from_millis(20_001) };
        assert_eq!(Silence::decode(&silence.encode()), Ok(silence));
        for body in [&[][..], &[0; 4], &[0, 0, 0, 1, 0]] {
            assert!(Silence::decode(body).is_err(), "{body:?}");
        }
    }

    #[test]
    fn a_target_that_is_empty_too_long_or_has_a_nul_character_is_refused_by_both_halves() {
        for target in [String::new(), "x".repeat(LONGEST_TARGET + 1), "npipe:a\0b".to_owned()] {
            let body = [&[0; 5], target.as_bytes()].concat();
            assert!(OpenRequest::decode(&body).is_err(), "{target:?}");
            assert!(request(&target).encode().is_err());
        }
    }

    #[test]
    fn errors_keep_code_kind_and_text() {
        let error = RemoteError {
            code: Some(231),
            kind: io::ErrorKind::ResourceBusy,
            text: "All pipe instances are busy. (os error 231)".to_owned(),
        };
        let answer = Answer::Failed(error.clone());
        assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
        let shown = io::Error::from(error);
        assert_eq!((shown.raw_os_error(), shown.kind()), (None, io::ErrorKind::ResourceBusy));
        assert_eq!(shown.to_string(), "All pipe instances are busy. (os error 231)");
    }

    #[test]
    fn the_text_of_an_error_becomes_one_line_of_limited_length() {
        let text = format!("first\r\nsecond {}", "ü".repeat(LONGEST_ERROR_TEXT));
        let error = RemoteError { code: None, kind: io::ErrorKind::Other, text };
        let received = RemoteError::decode(&error.encode()).unwrap().text;
        assert!(received.starts_with("first  second ü") && received.len() <= LONGEST_ERROR_TEXT);
    }

    #[tokio::test]
    async fn the_reason_of_an_error_is_kept_behind_the_longest_name() {
        let text = format!("cannot run '{}': there is no such file", "n".repeat(LONGEST_TARGET));
        let error = RemoteError { code: Some(2), kind: io::ErrorKind::NotFound, text: text.clone() };
        let body = Answer::Failed(error).encode();
        let (mut here, mut there) = duplex(64);
        let (sent, received) = tokio::join!(write_block(&mut here, &body), read_block(&mut there));
        sent.unwrap();
        match Answer::decode(&received.unwrap()).unwrap() {
            Answer::Failed(error) => assert_eq!(error.text, text),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn answers_that_are_neither_are_malformed() {
        for body in [
            &[][..],
            &[2],
            &[0],
            &[0, 3],
            &[0, 0, 0],
            &[1],
            &[1, 2, 0, 0, 0, 0, 0],
            &[1, 0, 0, 0, 0, 1, 0],
            &[1, 0, 0, 0, 0, 0, 99],
        ] {
            assert!(Answer::decode(body).is_err(), "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_arrives_is_a_value_or_an_error(body in prop::collection::vec(any::<u8>(), 0..1200)) {
            if let Ok(hello) = Hello::decode(&body) {
                prop_assert_eq!(hello.encode(), &body[..]);
            }
            if let Ok(request) = OpenRequest::decode(&body) {
                prop_assert_eq!(request.encode().unwrap(), &body[..]);
            }
            if let Ok(answer) = Answer::decode(&body) {
                prop_assert_eq!(answer.encode(), &body[..]);
            }
        }

        #[test]
        fn every_error_arrives(code in any::<Option<i32>>(), text in "\\PC{0,300}") {
            let error = RemoteError { code, kind: io::ErrorKind::NotFound, text };
            prop_assert_eq!(RemoteError::decode(&error.encode()), Ok(error));
        }
    }
}
