//! Options for a pipe's client end, and for how long it tries to connect.

use std::ffi::{OsStr, c_void};
use std::io;
use std::time::Duration;

use super::{check_limits, packets, refuse_inheritable};
use crate::NamedPipeClient;
use crate::coop;
use crate::driver::{self, Driver};
use crate::error;
use crate::info::{PipeEnd, PipeMode};
use crate::machine::verdict::{self, Open, RetryReason};
use crate::machine::{DEFAULT_LIMIT, DEFAULT_MESSAGE_LIMIT, Framing};
use crate::moment::{ConnectionTime, Moment};
use crate::name::PipeName;
use crate::retry::Retry;
use crate::security::{ImpersonationLevel, ServerIdentity};
use crate::stream::{Settings, Stream};
use crate::sys;

// https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-createfilew
const SECURITY_ANONYMOUS: u32 = 0;
const SECURITY_IDENTIFICATION: u32 = 0x0001_0000;
const SECURITY_IMPERSONATION: u32 = 0x0002_0000;
const SECURITY_DELEGATION: u32 = 0x0003_0000;
/// The bits of the level.
const SECURITY_LEVELS: u32 = 0x0003_0000;
const SECURITY_SQOS_PRESENT: u32 = 0x0010_0000;

fn waited_for(reason: RetryReason, name: &PipeName) -> String {
    let what = match reason {
        RetryReason::Busy => "all its instances were busy",
        RetryReason::Missing => "no server had created it",
    };
    format!("cannot open {name}: {what} until the time to connect was over")
}

/// Options for a pipe's client end.
///
/// | option | default | why |
/// |---|---|---|
/// | [`read`](Self::read), [`write`](Self::write) | both | |
/// | [`read_control`](Self::read_control), [`write_attributes`](Self::write_attributes) | no | reading, or writing, includes it |
/// | [`pipe_mode`](Self::pipe_mode) | bytes | |
/// | [`wait_for_server`](Self::wait_for_server) | no | a name that no server has created may be a mistake |
/// | [`server_timeout`](Self::server_timeout), [`busy_timeout`](Self::busy_timeout), [`connect_timeout`](Self::connect_timeout) | none | |
/// | [`impersonation_level`](Self::impersonation_level), [`security_qos_flags`](Self::security_qos_flags) | identification | the server may learn who we are, not act as us |
/// | [`verify_server`](Self::verify_server) | nobody | only the user knows who may serve the name |
/// | [`read_buffer_limit`](Self::read_buffer_limit), [`write_buffer_limit`](Self::write_buffer_limit) | 256 KiB | |
/// | [`max_message_size`](Self::max_message_size) | 64 MiB | a peer decides how long its messages are |
/// | [`inheritable`](Self::inheritable) | no | every child process would have the end |
/// | [`releasable`](Self::releasable) | no | only a handle for Tokio or mio needs it |
///
/// ```no_run
/// # #[cfg(windows)] {
/// use npipe::ClientOptions;
///
/// let client = ClientOptions::new().open(r"\\.\pipe\inventory")?;
/// # }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "options do nothing until an end is opened with them"]
pub struct ClientOptions {
    read: bool,
    write: bool,
    read_control: bool,
    write_attributes: bool,
    security_qos_flags: u32,
    server_identity: Option<ServerIdentity>,
    pipe_mode: PipeMode,
    wait_for_server: bool,
    server_timeout: Option<Duration>,
    busy_timeout: Option<Duration>,
    connect_timeout: Option<Duration>,
    read_buffer_limit: usize,
    write_buffer_limit: usize,
    max_message_size: usize,
    inheritable: bool,
    releasable: bool,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl ClientOptions {
    /// The defaults of the table above.
    pub fn new() -> Self {
        Self {
            read: true,
            write: true,
            read_control: false,
            write_attributes: false,
            security_qos_flags: SECURITY_IDENTIFICATION | SECURITY_SQOS_PRESENT,
            server_identity: None,
            pipe_mode: PipeMode::Byte,
            wait_for_server: false,
            server_timeout: None,
            busy_timeout: None,
            connect_timeout: None,
            read_buffer_limit: DEFAULT_LIMIT,
            write_buffer_limit: DEFAULT_LIMIT,
            max_message_size: DEFAULT_MESSAGE_LIMIT,
            inheritable: false,
            releasable: false,
        }
    }

    /// Whether to ask for read access (`GENERIC_READ`).
    #[doc(alias = "GENERIC_READ")]
    pub fn read(&mut self, allowed: bool) -> &mut Self {
        self.read = allowed;
        self
    }

    /// Whether to ask for write access (`GENERIC_WRITE`).
    #[doc(alias = "GENERIC_WRITE")]
    pub fn write(&mut self, allowed: bool) -> &mut Self {
        self.write = allowed;
        self
    }

    /// Asks for the right to read the pipe's security descriptor (`READ_CONTROL`). Reading and
    /// writing include it: only a client that asks for neither has to say so.
    #[doc(alias = "READ_CONTROL")]
    pub fn read_control(&mut self, requested: bool) -> &mut Self {
        self.read_control = requested;
        self
    }

    /// Asks for the right to change how the pipe is read (`FILE_WRITE_ATTRIBUTES`), by
    /// [`set_empty_message_is_end`](crate::NamedPipeClient::set_empty_message_is_end). Writing
    /// includes it, and so does [`pipe_mode`](Self::pipe_mode): only a client that does not write
    /// has to ask for it.
    #[doc(alias = "FILE_WRITE_ATTRIBUTES")]
    pub fn write_attributes(&mut self, requested: bool) -> &mut Self {
        self.write_attributes = requested;
        self
    }

    /// Sets what the server may do in the name of this client:
    /// [`Identification`](ImpersonationLevel::Identification) by default, learn the account and
    /// nothing else. It replaces the level in [`security_qos_flags`](Self::security_qos_flags), and
    /// leaves the other flags.
    ///
    /// ```no_run
    /// # #[cfg(windows)] {
    /// use npipe::{ClientOptions, ImpersonationLevel};
    ///
    /// // The print service opens the document with the rights of its user.
    /// let client = ClientOptions::new()
    ///     .impersonation_level(ImpersonationLevel::Impersonation)
    ///     .open("spooler")?;
    /// # }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[doc(alias = "SECURITY_IMPERSONATION")]
    #[doc(alias = "SECURITY_DELEGATION")]
    #[doc(alias = "SECURITY_ANONYMOUS")]
    #[doc(alias = "SECURITY_IDENTIFICATION")]
    pub fn impersonation_level(&mut self, level: ImpersonationLevel) -> &mut Self {
        let level = match level {
            ImpersonationLevel::Anonymous => SECURITY_ANONYMOUS,
            ImpersonationLevel::Identification => SECURITY_IDENTIFICATION,
            ImpersonationLevel::Impersonation => SECURITY_IMPERSONATION,
            ImpersonationLevel::Delegation => SECURITY_DELEGATION,
        };
        self.security_qos_flags = self.security_qos_flags & !SECURITY_LEVELS | level;
        self
    }

    /// Sets the flags of [`impersonation_level`](Self::impersonation_level) as a number:
    /// `SECURITY_ANONYMOUS` (0), `SECURITY_IDENTIFICATION`
    /// (0x10000, the default), `SECURITY_IMPERSONATION` (0x20000) or `SECURITY_DELEGATION`
    /// (0x30000) of [`CreateFileW`](https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-createfilew#parameters).
    ///
    /// `SECURITY_SQOS_PRESENT` is added, since without it the server would get full impersonation.
    ///
    /// By default the server sees this process as it was when it opened the pipe. With
    /// `SECURITY_CONTEXT_TRACKING` (0x40000) it sees, with each message or each run of bytes, the
    /// identity of the thread that sent it. Data that was accepted and queued is sent later, by the
    /// driver's thread or by the thread that polls for it: in the identity of *that* thread, which
    /// is not that of a caller who impersonates someone. Do not combine the two.
    #[doc(alias("SECURITY_SQOS_PRESENT", "SECURITY_CONTEXT_TRACKING"))]
    pub fn security_qos_flags(&mut self, flags: u32) -> &mut Self {
        self.security_qos_flags = flags | SECURITY_SQOS_PRESENT;
        self
    }

    /// Opens a pipe only if its server is who it should be. That is checked before a byte is sent,
    /// and a server that is somebody else gets no more from this client than that it came.
    ///
    /// ```no_run
    /// # #[cfg(windows)] {
    /// use npipe::{ClientOptions, ServerIdentity, Trustee};
    ///
    /// let client = ClientOptions::new()
    ///     .verify_server(ServerIdentity::PipeOwner(Trustee::CurrentUser))
    ///     .open("diary")?;
    /// # }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// It makes [`open`](Self::open) and its like fail with
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied), with a text and no number of the
    /// system, when the server is somebody else, and with an error of the same kind as the system's
    /// when that cannot be known.
    ///
    /// # Above identification
    ///
    /// A server can use what [`security_qos_flags`](Self::security_qos_flags) allow from the moment
    /// of opening. So with a level above identification the pipe is opened twice, at first for
    /// identification only, and without reading or writing. When that server has been verified, its
    /// connection is held while the pipe is opened again at the requested level, and verified
    /// again. The held connection keeps the pipe, so that no other program can create the name in
    /// between. It is closed then.
    ///
    /// - It takes *two instances* for that moment. A pipe that may have only one is refused with
    ///   [`Unsupported`](io::ErrorKind::Unsupported).
    /// - If no second one is free, [`open`](Self::open) fails with `ERROR_PIPE_BUSY`, and
    ///   [`connect`](Self::connect) holds the first while it waits.
    /// - The server sees one client that sends nothing and leaves.
    /// - A process that the pipe's access list allows to create instances can serve the second one.
    ///   [`ServerIdentity::ProcessUser`] refuses it, after a moment in which it could impersonate
    ///   this client; [`ServerIdentity::PipeOwner`] is about the pipe, and does not notice it.
    pub fn verify_server(&mut self, identity: ServerIdentity) -> &mut Self {
        self.server_identity = Some(identity);
        self
    }

    /// Whether to read bytes or messages. [`PipeMode::Message`] needs a pipe that was created for
    /// messages, else [`open`](Self::open) fails with
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) (`ERROR_INVALID_PARAMETER`). What is
    /// written to such a pipe is a message a call in either mode.
    #[doc(alias("SetNamedPipeHandleState", "PIPE_READMODE_BYTE"))]
    pub fn pipe_mode(&mut self, pipe_mode: PipeMode) -> &mut Self {
        self.pipe_mode = pipe_mode;
        self
    }

    /// Sets whether [`connect`](Self::connect) also waits while no server has created the name, for
    /// one that is about to start: `false` by default. It waits for a free instance in either case.
    #[doc(alias("ERROR_FILE_NOT_FOUND", "2"))]
    pub fn wait_for_server(&mut self, wait: bool) -> &mut Self {
        self.wait_for_server = wait;
        self
    }

    /// Bounds how long [`connect`](Self::connect) waits for a server to create the name. `Some`
    /// turns [`wait_for_server`](Self::wait_for_server) on. `None`, the default, is no bound of its
    /// own. The time that a name which exists is busy does not count.
    pub fn server_timeout(&mut self, timeout: Option<Duration>) -> &mut Self {
        self.wait_for_server |= timeout.is_some();
        self.server_timeout = timeout;
        self
    }

    /// Bounds how long [`connect`](Self::connect) waits while all instances of the pipe are busy.
    /// `None`, the default, is no bound of its own; zero makes a busy pipe an error at once. The
    /// time that it takes the server to create the name does not count.
    #[doc(alias("ERROR_PIPE_BUSY", "231", "ERROR_SEM_TIMEOUT", "nDefaultTimeOut"))]
    pub fn busy_timeout(&mut self, timeout: Option<Duration>) -> &mut Self {
        self.busy_timeout = timeout;
        self
    }

    /// Bounds how long [`connect`](Self::connect) takes in all, whatever it waits for. `None`, the
    /// default, is no bound; zero makes it try once.
    /// [`server_timeout`](Self::server_timeout) and [`busy_timeout`](Self::busy_timeout) bound the
    /// time for each reason.
    pub fn connect_timeout(&mut self, timeout: Option<Duration>) -> &mut Self {
        self.connect_timeout = timeout;
        self
    }

    /// As [`ServerOptions::read_buffer_limit`](crate::ServerOptions::read_buffer_limit).
    pub fn read_buffer_limit(&mut self, bytes: usize) -> &mut Self {
        self.read_buffer_limit = bytes;
        self
    }

    /// As [`ServerOptions::write_buffer_limit`](crate::ServerOptions::write_buffer_limit).
    pub fn write_buffer_limit(&mut self, bytes: usize) -> &mut Self {
        self.write_buffer_limit = bytes;
        self
    }

    /// As [`ServerOptions::max_message_size`](crate::ServerOptions::max_message_size).
    pub fn max_message_size(&mut self, bytes: usize) -> &mut Self {
        self.max_message_size = bytes;
        self
    }

    /// As [`ServerOptions::inheritable`](crate::ServerOptions::inheritable).
    #[doc(alias = "bInheritHandle")]
    pub fn inheritable(&mut self, inheritable: bool) -> &mut Self {
        self.inheritable = inheritable;
        self
    }

    /// Makes an end whose handle works everywhere once it has been released with
    /// `into_owned_handle`, also in Tokio's and mio's pipes: `false` by default.
    ///
    /// An end on a completion port has Windows queue packets only for operations that could not be
    /// finished at once (`FILE_SKIP_COMPLETION_PORT_ON_SUCCESS`), which saves a packet an
    /// operation. That mode can never be cleared. A library that waits for a packet after each
    /// operation would hang with such a handle. With `true` the mode is not set.
    /// [`NamedPipeServer::into_owned_handle`](crate::NamedPipeServer::into_owned_handle) has the
    /// table of next owners.
    ///
    /// See [`SetFileCompletionNotificationModes`](https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-setfilecompletionnotificationmodes).
    #[doc(alias = "SetFileCompletionNotificationModes")]
    #[doc(alias = "FILE_SKIP_COMPLETION_PORT_ON_SUCCESS")]
    pub fn releasable(&mut self, releasable: bool) -> &mut Self {
        self.releasable = releasable;
        self
    }

    pub(crate) fn refuse_inheritable(&self) -> io::Result<()> {
        refuse_inheritable(self.inheritable)
    }

    /// Opens the pipe `addr`, in any of the forms of [`PipeName::new`]. It neither waits nor needs
    /// a runtime.
    ///
    /// Calls [`CreateFileW`](https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-createfilew) and, for messages,
    /// [`SetNamedPipeHandleState`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-setnamedpipehandlestate).
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput), before any system call, for an invalid option
    /// and for the names that [`PipeName::new`] refuses; after opening, if the handle is not that
    /// of a pipe. Otherwise Windows' error: [`NotFound`](io::ErrorKind::NotFound)
    /// (`ERROR_FILE_NOT_FOUND`) when no such pipe exists, `ERROR_PIPE_BUSY` when none of its
    /// instances is free, [`PermissionDenied`](io::ErrorKind::PermissionDenied)
    /// (`ERROR_ACCESS_DENIED`) when its access list or its directions do not allow it. The first
    /// two are temporary if a server creates an instance: [`connect`](Self::connect) waits for
    /// that.
    #[doc(alias = "CreateFile")]
    pub fn open(&self, addr: impl AsRef<OsStr>) -> io::Result<NamedPipeClient> {
        self.open_with(addr.as_ref(), sys::SecurityAttributes::DEFAULT)
    }

    /// [`open`](Self::open) that waits while all instances of the pipe are busy, and, with
    /// [`wait_for_server`](Self::wait_for_server), while no server has created the name.
    /// [`busy_timeout`](Self::busy_timeout), [`server_timeout`](Self::server_timeout) and
    /// [`connect_timeout`](Self::connect_timeout) bound the one, the other and both.
    /// [`connect_blocking`](Self::connect_blocking) is the same for threads.
    ///
    /// It opens the pipe, and pauses and tries again if that fails: for a millisecond at first,
    /// then longer, 50 milliseconds at most, and of random length, so that clients that wait do not
    /// all come at once. `WaitNamedPipe` would
    /// block a thread, and promises nothing: another client may take the instance that it saw.
    ///
    /// ```no_run
    /// # async fn f() -> std::io::Result<()> {
    /// use npipe::ClientOptions;
    /// use std::time::Duration;
    ///
    /// let client = ClientOptions::new()
    ///     .wait_for_server(true)
    ///     .connect_timeout(Some(Duration::from_secs(5)))
    ///     .connect(r"\\.\pipe\inventory")
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancellation
    ///
    /// Nothing is left behind when the future is dropped. No client's end is open between two
    /// attempts, except the one that [`verify_server`](Self::verify_server) holds.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), at once, but for what it waits for. When the time is over,
    /// [`TimedOut`](io::ErrorKind::TimedOut) with a text that says what for; the error's
    /// [`source`](std::error::Error::source) is the system's, an [`io::Error`] of `ERROR_PIPE_BUSY`
    /// or of `ERROR_FILE_NOT_FOUND`.
    #[doc(alias = "WaitNamedPipe")]
    pub async fn connect(&self, addr: impl AsRef<OsStr>) -> io::Result<NamedPipeClient> {
        let name = PipeName::new(addr)?;
        let mut retry = self.retry();
        let mut verified = Verified::default();
        coop::result().await;
        loop {
            let error = match self.open_stream(&name, sys::SecurityAttributes::DEFAULT, &mut verified) {
                Ok(client) => return Ok(client),
                Err(error) => error,
            };
            let (_, pause) = self.pause_before_retry(&name, error, &mut retry)?;
            driver::pause(pause).await?;
        }
    }

    pub(crate) fn retry(&self) -> Retry<RetryReason> {
        Retry::new(self.connect_timeout)
    }

    /// Returns, after an attempt to open the pipe that failed, why there is to be another one and
    /// the pause before it.
    pub(crate) fn pause_before_retry(
        &self,
        name: &PipeName,
        error: io::Error,
        retry: &mut Retry<RetryReason>,
    ) -> io::Result<(RetryReason, Duration)> {
        let reason = match error.raw_os_error().map(|code| verdict::open(code as u32)) {
            Some(Open::Later(reason)) if reason == RetryReason::Busy || self.wait_for_server => reason,
            Some(Open::Later(_) | Open::Failed) | None => return Err(error),
        };
        let limit = match reason {
            RetryReason::Missing => self.server_timeout,
            RetryReason::Busy => self.busy_timeout,
        };
        match retry.pause(reason, limit) {
            Some(pause) => Ok((reason, pause)),
            None => Err(error::gave_up(waited_for(reason, name), error)),
        }
    }

    /// [`open`](Self::open) with a
    /// [`SECURITY_ATTRIBUTES`](https://learn.microsoft.com/windows/win32/api/wtypesbase/ns-wtypesbase-security_attributes),
    /// which says whether child processes inherit the handle.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    ///
    /// # Safety
    ///
    /// `attrs` must be null or point to a valid `SECURITY_ATTRIBUTES`.
    #[expect(unsafe_code, reason = "Tokio's signature: the pointer is the caller's word")]
    pub unsafe fn open_with_security_attributes_raw(
        &self,
        addr: impl AsRef<OsStr>,
        attrs: *mut c_void,
    ) -> io::Result<NamedPipeClient> {
        // SAFETY: the caller vouches for the attributes.
        self.open_with(addr.as_ref(), unsafe { sys::SecurityAttributes::from_raw(attrs) })
    }

    fn open_with(&self, addr: &OsStr, attributes: sys::SecurityAttributes) -> io::Result<NamedPipeClient> {
        self.open_stream(&PipeName::new(addr)?, attributes, &mut Verified::default())
    }

    fn open_stream(
        &self,
        name: &PipeName,
        attributes: sys::SecurityAttributes,
        verified: &mut Verified,
    ) -> io::Result<NamedPipeClient> {
        self.refuse_inheritable()?;
        let (handle, settings) = self.open_any_handle(name, attributes, verified)?;
        Stream::new(handle, Driver::current()?, settings)
            .map(|stream| NamedPipeClient::from_stream(stream.named(name)))
    }

    /// Every client's end begins here. `verified` is kept between attempts.
    pub(crate) fn open_any_handle(
        &self,
        name: &PipeName,
        attributes: sys::SecurityAttributes,
        verified: &mut Verified,
    ) -> io::Result<(sys::OwnedHandle, Settings)> {
        if let Some(cautious) = self.cautious() {
            verified.hold(&cautious, name)?;
        }
        self.open_once(name, attributes)
    }

    /// The options for the connection that is held while the pipe is opened at a level above
    /// identification.
    fn cautious(&self) -> Option<Self> {
        let is_above = self.security_qos_flags & SECURITY_LEVELS > SECURITY_IDENTIFICATION;
        (is_above && self.server_identity.is_some()).then(|| Self {
            read: false,
            write: false,
            pipe_mode: PipeMode::Byte,
            inheritable: false,
            security_qos_flags: SECURITY_IDENTIFICATION | SECURITY_SQOS_PRESENT,
            ..self.clone()
        })
    }

    /// Opens the pipe for a child process, whose calls on the handle wait.
    pub(crate) fn open_synchronous(&self, name: &PipeName) -> io::Result<sys::OwnedHandle> {
        let parameters = sys::OpenPipe {
            name: &name.to_wide(),
            read: self.read,
            write: self.write,
            read_control: false,
            write_attributes: false,
            inheritable: false,
            synchronous: true,
            security_quality_of_service: self.security_qos_flags,
        };
        sys::open(&parameters, sys::SecurityAttributes::DEFAULT)
    }

    /// Opens the pipe at the requested level.
    pub(crate) fn open_once(
        &self,
        name: &PipeName,
        attributes: sys::SecurityAttributes,
    ) -> io::Result<(sys::OwnedHandle, Settings)> {
        check_limits(self.read_buffer_limit, self.write_buffer_limit)?;
        let before = Moment::now();
        let handle = self.open_path(&name.to_wide(), attributes)?;
        let reads = Framing::of(self.pipe_mode == PipeMode::Message);
        let settings = Settings {
            end: PipeEnd::Client,
            reads,
            // A pipe that carries messages can also be read as bytes. So in byte mode the framing
            // of writes is unknown.
            writes: if reads == Framing::Messages { Framing::Messages } else { Framing::Unknown },
            read_limit: self.read_buffer_limit,
            write_limit: self.write_buffer_limit,
            message_limit: self.max_message_size,
            packets: packets(self.releasable),
            before: Some(before),
        };
        Ok((handle, settings))
    }

    /// `path` is UTF-16 with a NUL at the end. A handle of something else than a pipe is closed,
    /// with nothing done to it.
    fn open_path(&self, path: &[u16], attributes: sys::SecurityAttributes) -> io::Result<sys::OwnedHandle> {
        let reads_messages = self.pipe_mode == PipeMode::Message;
        let parameters = sys::OpenPipe {
            name: path,
            read: self.read,
            write: self.write,
            read_control: self.read_control || self.server_identity.is_some(),
            write_attributes: self.write_attributes || reads_messages,
            inheritable: self.inheritable,
            synchronous: false,
            security_quality_of_service: self.security_qos_flags,
        };
        let before = Moment::now();
        let handle = sys::open(&parameters, attributes)?;
        if !sys::is_pipe(&handle)? {
            return Err(error::not_a_pipe());
        }
        if let Some(identity) = &self.server_identity {
            identity.check(&handle, ConnectionTime { after: Some(before), by: Some(Moment::now()) })?;
        }
        if reads_messages {
            sys::set_message_reads(&handle)?;
        }
        Ok(handle)
    }
}

/// A connection to a server that has been verified. It keeps the name from other programs.
#[derive(Debug, Default)]
pub(crate) struct Verified(Option<sys::OwnedHandle>);

impl Verified {
    fn hold(&mut self, options: &ClientOptions, name: &PipeName) -> io::Result<()> {
        // A server that disconnected it may have let go of the name.
        if self.0.as_ref().is_some_and(|held| sys::is_connected(held).unwrap_or(false)) {
            return Ok(());
        }
        self.0 = None;
        let (held, _) = options.open_once(name, sys::SecurityAttributes::DEFAULT)?;
        if sys::describe(&held)?.max_instances == 1 {
            let why = "the pipe may have one instance only, and verifying its server before allowing it more than \
                       identification takes two";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        self.0 = Some(held);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::windows::ffi::OsStrExt;

    use super::*;

    #[test]
    fn a_server_is_verified_before_it_may_impersonate() {
        let identity = || ServerIdentity::PipeOwner(crate::Trustee::CurrentUser);
        for (flags, is_cautious) in [
            (0, false),
            (SECURITY_IDENTIFICATION, false),
            (0x0004_0000 | SECURITY_IDENTIFICATION, false),
            (0x0002_0000, true),
            (0x0003_0000, true),
            (0x000c_0000 | 0x0002_0000, true),
        ] {
            let mut options = ClientOptions::new();
            options.security_qos_flags(flags).pipe_mode(PipeMode::Message);
            assert!(options.cautious().is_none(), "nobody is to be verified");
            let cautious = options.verify_server(identity()).cautious();
            assert_eq!(cautious.is_some(), is_cautious, "{flags:#x}");
            if let Some(cautious) = cautious {
                let sent = cautious.security_qos_flags;
                assert_eq!(sent, SECURITY_IDENTIFICATION | SECURITY_SQOS_PRESENT, "{flags:#x}");
                assert_eq!(cautious.server_identity, Some(identity()));
            }
        }
    }

    /// No name leads to a file. If Windows resolved one to a file anyway, the caller would get this
    /// error.
    #[test]
    fn a_file_is_refused_after_opening_and_stays_as_it_was() {
        let file = std::env::temp_dir().join(format!("npipe-not-a-pipe-{}", std::process::id()));
        std::fs::write(&file, b"untouched").unwrap();
        let path: Vec<u16> = file.as_os_str().encode_wide().chain([0]).collect();
        let device: Vec<u16> = r"\\.\NUL".encode_utf16().chain([0]).collect();
        let mut options = ClientOptions::new();
        for mode in [PipeMode::Byte, PipeMode::Message] {
            for write in [true, false] {
                options.pipe_mode(mode).write(write);
                for path in [&path, &device] {
                    let error = options.open_path(path, sys::SecurityAttributes::DEFAULT).unwrap_err();
                    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
                    assert!(error.to_string().contains("not a pipe"), "{error}");
                }
            }
        }
        assert_eq!(std::fs::read(&file).unwrap(), b"untouched");
        std::fs::remove_file(&file).unwrap();
    }
}
