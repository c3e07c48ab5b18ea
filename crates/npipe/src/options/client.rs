//! Options for a pipe's client end, and its patience.

use std::ffi::{OsStr, c_void};
use std::io;
use std::time::Duration;

use super::{check_limits, refuse_inheritable};
use crate::NamedPipeClient;
use crate::coop;
use crate::driver::{self, Driver};
use crate::error;
use crate::info::{PipeEnd, PipeMode};
use crate::machine::verdict::{self, Obstacle, Open};
use crate::machine::{DEFAULT_LIMIT, Framing};
use crate::moment::{ConnectionTime, Moment};
use crate::name::PipeName;
use crate::patience::Patience;
use crate::peer::ServerIdentity;
use crate::stream::{Settings, Stream};
use crate::sys;

// https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-createfilew
const SECURITY_IDENTIFICATION: u32 = 0x0001_0000;
const SECURITY_SQOS_PRESENT: u32 = 0x0010_0000;

fn waited_for(obstacle: Obstacle, name: &PipeName) -> String {
    let what = match obstacle {
        Obstacle::Busy => "every instance was taken",
        Obstacle::Missing => "nobody served it",
    };
    format!("cannot open {name}: {what} until the time to connect was over")
}

/// Options for a pipe's client end.
///
/// | option | default | why |
/// |---|---|---|
/// | [`read`](Self::read), [`write`](Self::write) | both | |
/// | [`pipe_mode`](Self::pipe_mode) | bytes | |
/// | [`wait_for_server`](Self::wait_for_server) | no | a name that nobody serves may be a mistake |
/// | [`connect_timeout`](Self::connect_timeout) | none | |
/// | [`security_qos_flags`](Self::security_qos_flags) | identification | the server may learn who we are, not act as us |
/// | [`verify_server`](Self::verify_server) | nobody | only the user knows who may serve the name |
/// | [`read_buffer_limit`](Self::read_buffer_limit), [`write_buffer_limit`](Self::write_buffer_limit) | 256 KiB | |
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
pub struct ClientOptions {
    read: bool,
    write: bool,
    read_control: bool,
    security_qos_flags: u32,
    server_identity: Option<ServerIdentity>,
    pipe_mode: PipeMode,
    wait_for_server: bool,
    connect_timeout: Option<Duration>,
    read_buffer_limit: usize,
    write_buffer_limit: usize,
    inheritable: bool,
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
            security_qos_flags: SECURITY_IDENTIFICATION | SECURITY_SQOS_PRESENT,
            server_identity: None,
            pipe_mode: PipeMode::Byte,
            wait_for_server: false,
            connect_timeout: None,
            read_buffer_limit: DEFAULT_LIMIT,
            write_buffer_limit: DEFAULT_LIMIT,
            inheritable: false,
        }
    }

    /// Whether to ask for read access (`GENERIC_READ`).
    pub fn read(&mut self, allowed: bool) -> &mut Self {
        self.read = allowed;
        self
    }

    /// Whether to ask for write access (`GENERIC_WRITE`).
    pub fn write(&mut self, allowed: bool) -> &mut Self {
        self.write = allowed;
        self
    }

    /// Asks for the right to read the pipe's security descriptor (`READ_CONTROL`). Reading and writing include it: only a
    /// client that asks for neither has to say so.
    pub fn read_control(&mut self, requested: bool) -> &mut Self {
        self.read_control = requested;
        self
    }

    /// What the server may do in our name: `SECURITY_ANONYMOUS` (0), `SECURITY_IDENTIFICATION` (0x10000, the default),
    /// `SECURITY_IMPERSONATION` (0x20000) or `SECURITY_DELEGATION` (0x30000) of
    /// [`CreateFileW`](https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-createfilew#parameters).
    ///
    /// `SECURITY_SQOS_PRESENT` is added, since without it the server would get full impersonation.
    pub fn security_qos_flags(&mut self, flags: u32) -> &mut Self {
        self.security_qos_flags = flags | SECURITY_SQOS_PRESENT;
        self
    }

    /// Opens a pipe only if its server is who it should be. That is checked before a byte is sent, and a server that is
    /// somebody else gets no more from this client than that it came.
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
    /// It makes [`open`](Self::open) and its like fail with [`PermissionDenied`](io::ErrorKind::PermissionDenied), with
    /// a text and no number of the system, when the server is somebody else, and with an error of the same kind as the system's when that
    /// cannot be known.
    pub fn verify_server(&mut self, identity: ServerIdentity) -> &mut Self {
        self.server_identity = Some(identity);
        self
    }

    /// Whether to read bytes or messages. [`PipeMode::Message`] needs a pipe that was created for messages, else
    /// [`open`](Self::open) fails with [`InvalidInput`](io::ErrorKind::InvalidInput) (`ERROR_INVALID_PARAMETER`). What is
    /// written to such a pipe is a message a call in either mode.
    pub fn pipe_mode(&mut self, pipe_mode: PipeMode) -> &mut Self {
        self.pipe_mode = pipe_mode;
        self
    }

    /// Whether [`connect`](Self::connect) also waits while nobody serves the name, for a server that is about to start. It waits
    /// for a free instance anyway.
    pub fn wait_for_server(&mut self, wait: bool) -> &mut Self {
        self.wait_for_server = wait;
        self
    }

    /// Bounds how long [`connect`](Self::connect) takes in all, whatever it waits for; `None`: as long as it takes. With zero it
    /// tries once.
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

    /// As [`ServerOptions::inheritable`](crate::ServerOptions::inheritable).
    #[doc(alias = "bInheritHandle")]
    pub fn inheritable(&mut self, inheritable: bool) -> &mut Self {
        self.inheritable = inheritable;
        self
    }

    pub(crate) fn is_inheritable(&self) -> bool {
        self.inheritable
    }

    pub(crate) fn refuse_inheritable(&self) -> io::Result<()> {
        refuse_inheritable(self.inheritable)
    }

    /// Opens the pipe `addr`, in any of the forms of [`PipeName::new`]. It neither waits nor needs a runtime.
    ///
    /// Calls [`CreateFileW`](https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-createfilew) and, for messages,
    /// [`SetNamedPipeHandleState`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-setnamedpipehandlestate).
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput), before any system call, for an option that
    /// makes no sense and for the names that [`PipeName::new`] refuses; after opening, if the
    /// handle is not that of a pipe. Else Windows' error: [`NotFound`](io::ErrorKind::NotFound)
    /// (`ERROR_FILE_NOT_FOUND`) when no such pipe exists, `ERROR_PIPE_BUSY` when none of its
    /// instances is free, [`PermissionDenied`](io::ErrorKind::PermissionDenied)
    /// (`ERROR_ACCESS_DENIED`) when its access list or its directions do not allow it. The first
    /// two pass, when a server creates an instance: [`connect`](Self::connect) waits for that.
    pub fn open(&self, addr: impl AsRef<OsStr>) -> io::Result<NamedPipeClient> {
        self.open_with(addr.as_ref(), sys::SecurityAttributes::DEFAULT)
    }

    /// [`open`](Self::open) that waits while every instance of the pipe is taken, and, with
    /// [`wait_for_server`](Self::wait_for_server), while nobody serves the name. [`connect_timeout`](Self::connect_timeout)
    /// bounds all of it.
    ///
    /// It opens, and pauses and opens again if that fails: for a millisecond at first, then longer, 50 milliseconds at most, and never
    /// as long as the others who wait. `WaitNamedPipe` would block a thread, and promises nothing: another client may take the
    /// instance that it saw.
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
    /// Nothing is left behind when the future is dropped: no client's end is open between two attempts.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), at once, but for what it waits for. When the time is over,
    /// [`TimedOut`](io::ErrorKind::TimedOut) with a text that says what for; the error's
    /// [`source`](std::error::Error::source) is the system's, an [`io::Error`] of `ERROR_PIPE_BUSY` or of
    /// `ERROR_FILE_NOT_FOUND`.
    pub async fn connect(&self, addr: impl AsRef<OsStr>) -> io::Result<NamedPipeClient> {
        let name = PipeName::new(addr)?;
        let mut patience = self.patience();
        coop::result().await;
        loop {
            let error = match self.open(&name) {
                Ok(client) => return Ok(client),
                Err(error) => error,
            };
            let (_, pause) = self.pause_before_retry(&name, error, &mut patience)?;
            driver::pause(pause).await?;
        }
    }

    pub(crate) fn patience(&self) -> Patience {
        Patience::new(self.connect_timeout)
    }

    /// After an attempt to open the pipe that failed: what was in the way, and how long to pause before the next.
    pub(crate) fn pause_before_retry(
        &self,
        name: &PipeName,
        error: io::Error,
        patience: &mut Patience,
    ) -> io::Result<(Obstacle, Duration)> {
        let obstacle = match error.raw_os_error().map(|code| verdict::open(code as u32)) {
            Some(Open::Later(obstacle)) if obstacle == Obstacle::Busy || self.wait_for_server => obstacle,
            Some(Open::Later(_) | Open::Failed) | None => return Err(error),
        };
        match patience.pause() {
            Some(pause) => Ok((obstacle, pause)),
            None => Err(error::gave_up(waited_for(obstacle, name), error)),
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
        let (handle, settings) = self.open_handle(addr, attributes)?;
        Stream::new(handle, Driver::current()?, settings).map(NamedPipeClient::from_stream)
    }

    /// What ends on a completion port are made of.
    pub(crate) fn open_handle(
        &self,
        addr: &OsStr,
        attributes: sys::SecurityAttributes,
    ) -> io::Result<(sys::OwnedHandle, Settings)> {
        self.refuse_inheritable()?;
        self.open_any_handle(addr, attributes)
    }

    /// What every client's end is made of.
    pub(crate) fn open_any_handle(
        &self,
        addr: &OsStr,
        attributes: sys::SecurityAttributes,
    ) -> io::Result<(sys::OwnedHandle, Settings)> {
        let name = PipeName::new(addr)?;
        check_limits(self.read_buffer_limit, self.write_buffer_limit)?;
        let before = Moment::now();
        let handle = self.open_path(&name.to_wide(), attributes)?;
        let reads = Framing::of(self.pipe_mode == PipeMode::Message);
        let settings = Settings {
            end: PipeEnd::Client,
            reads,
            // A pipe that carries messages can be read as bytes: only the kernel knows what a write
            // is.
            writes: if reads == Framing::Messages { Framing::Messages } else { Framing::Unknown },
            read_limit: self.read_buffer_limit,
            write_limit: self.write_buffer_limit,
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
            write_attributes: reads_messages,
            inheritable: self.inheritable,
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

#[cfg(test)]
mod tests {
    use std::os::windows::ffi::OsStrExt;

    use super::*;

    /// No name leads to a file. If Windows resolved one all the same, this is what the caller would
    /// get.
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
