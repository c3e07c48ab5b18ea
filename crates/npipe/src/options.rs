//! How to create and how to open a pipe: data with defaults. It becomes Win32's bits in `sys`.

use std::ffi::{OsStr, c_void};
use std::io;
use std::time::Duration;

use crate::driver::{self, Driver};
use crate::error;
use crate::info::PipeMode;
use crate::machine::verdict::{self, Create, Obstacle, Open};
use crate::machine::{Backlog, DEFAULT_LIMIT, Framing};
use crate::name::PipeName;
use crate::patience::Patience;
use crate::peer::ServerIdentity;
use crate::security::SecurityDescriptor;
use crate::stream::{Settings, Stream};
use crate::sys;
use crate::{NamedPipeClient, NamedPipeServer};

/// How many instances a pipe may have when its number is not limited.
const UNLIMITED_INSTANCES: usize = 255;
/// With one, clients that come together meet `ERROR_PIPE_BUSY`, and many (OpenSSH's among them) do not try again.
const DEFAULT_BACKLOG: usize = 4;
/// The quota of a direction, in bytes. A write beyond it cannot finish at once, which costs both sides a wake-up: a busy
/// pipe runs in turns as long as its quota. It is a right, not memory; measured: 64 KiB and 256 KiB are slower by a fifth and a
/// tenth, 1 MiB is faster by a twentieth.
const DEFAULT_QUOTA: u32 = 512 * 1024;

// https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-createfilew
const SECURITY_IDENTIFICATION: u32 = 0x0001_0000;
const SECURITY_SQOS_PRESENT: u32 = 0x0010_0000;

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

fn waited_for(obstacle: Obstacle, name: &PipeName) -> String {
    let what = match obstacle {
        Obstacle::Busy => "every instance was taken",
        Obstacle::Missing => "nobody served it",
    };
    format!("cannot open {name}: {what} until the time to connect was over")
}

fn framing(mode: PipeMode) -> Framing {
    match mode {
        PipeMode::Byte => Framing::Bytes,
        PipeMode::Message => Framing::Messages,
    }
}

fn check_limits(read: usize, write: usize) -> io::Result<()> {
    if read == 0 || write == 0 {
        return Err(invalid("a buffer limit of 0 bytes leaves no room to read or write"));
    }
    Ok(())
}

/// The packets of what a child does with the handle would come to the port, from memory of the child's.
fn refuse_inheritable(inheritable: bool) -> io::Result<()> {
    if inheritable {
        return Err(invalid(
            "a handle for child processes cannot be tied to a completion port; make it with npipe::blocking",
        ));
    }
    Ok(())
}

/// Options for a pipe's server end.
///
/// | option | default | why |
/// |---|---|---|
/// | [`pipe_mode`](Self::pipe_mode) | bytes | what most protocols expect |
/// | [`access_inbound`](Self::access_inbound), [`access_outbound`](Self::access_outbound) | both | |
/// | [`first_pipe_instance`](Self::first_pipe_instance) | no; yes for a listener | as in Tokio; say yes for the first instance of a service |
/// | [`reject_remote_clients`](Self::reject_remote_clients) | yes | a pipe is otherwise open to the network |
/// | [`max_instances`](Self::max_instances) | unlimited | |
/// | [`backlog`](Self::backlog) | 4 | of a listener: so many clients may come at the same moment |
/// | [`security_descriptor`](Self::security_descriptor) | the system's | it lets everyone read: see there |
/// | [`out_buffer_size`](Self::out_buffer_size), [`in_buffer_size`](Self::in_buffer_size) | 512 KiB | a busy pipe runs in turns of this size; Tokio has 64 KiB |
/// | [`read_buffer_limit`](Self::read_buffer_limit), [`write_buffer_limit`](Self::write_buffer_limit) | 256 KiB | |
///
/// ```no_run
/// # #[cfg(windows)] {
/// use npipe::ServerOptions;
///
/// let server = ServerOptions::new().first_pipe_instance(true).create(r"\\.\pipe\inventory")?;
/// # }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ServerOptions {
    pipe_mode: PipeMode,
    access_inbound: bool,
    access_outbound: bool,
    /// `None`: what suits who creates it.
    first_pipe_instance: Option<bool>,
    write_dac: bool,
    write_owner: bool,
    access_system_security: bool,
    reject_remote_clients: bool,
    max_instances: usize,
    backlog: usize,
    out_buffer_size: u32,
    in_buffer_size: u32,
    read_buffer_limit: usize,
    write_buffer_limit: usize,
    inheritable: bool,
    security_descriptor: Option<SecurityDescriptor>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl ServerOptions {
    /// The defaults of the table above.
    pub fn new() -> Self {
        Self {
            pipe_mode: PipeMode::Byte,
            access_inbound: true,
            access_outbound: true,
            first_pipe_instance: None,
            write_dac: false,
            write_owner: false,
            access_system_security: false,
            reject_remote_clients: true,
            max_instances: UNLIMITED_INSTANCES,
            backlog: DEFAULT_BACKLOG,
            out_buffer_size: DEFAULT_QUOTA,
            in_buffer_size: DEFAULT_QUOTA,
            read_buffer_limit: DEFAULT_LIMIT,
            write_buffer_limit: DEFAULT_LIMIT,
            inheritable: false,
            security_descriptor: None,
        }
    }

    /// Whether the pipe carries bytes or messages. Both ends write in this unit; this end reads in it too.
    #[doc(alias = "dwPipeMode")]
    pub fn pipe_mode(&mut self, pipe_mode: PipeMode) -> &mut Self {
        self.pipe_mode = pipe_mode;
        self
    }

    /// Whether data may flow from the client to this server (`PIPE_ACCESS_INBOUND`). Without it, a client that asks for
    /// write access is refused with `ERROR_ACCESS_DENIED`, and so is a read here.
    pub fn access_inbound(&mut self, allowed: bool) -> &mut Self {
        self.access_inbound = allowed;
        self
    }

    /// Whether data may flow from this server to the client (`PIPE_ACCESS_OUTBOUND`). Without it, a client that asks for
    /// read access is refused with `ERROR_ACCESS_DENIED`, and so is a write here.
    pub fn access_outbound(&mut self, allowed: bool) -> &mut Self {
        self.access_outbound = allowed;
        self
    }

    /// Whether [`create`](Self::create) fails with [`PermissionDenied`](io::ErrorKind::PermissionDenied) when the name
    /// exists already (`FILE_FLAG_FIRST_PIPE_INSTANCE`). A service wants this for its first instance: it then knows that
    /// no other program has taken the name. A listener asks for it unless told no.
    pub fn first_pipe_instance(&mut self, first: bool) -> &mut Self {
        self.first_pipe_instance = Some(first);
        self
    }

    /// Asks for the right to change the pipe's access list (`WRITE_DAC`) on this handle, as
    /// [`set_security_descriptor`](NamedPipeServer::set_security_descriptor) does.
    pub fn write_dac(&mut self, requested: bool) -> &mut Self {
        self.write_dac = requested;
        self
    }

    /// Asks for the right to change the pipe's owner (`WRITE_OWNER`) on this handle, and its integrity label.
    pub fn write_owner(&mut self, requested: bool) -> &mut Self {
        self.write_owner = requested;
        self
    }

    /// Asks for the right to read and change the pipe's audit list (`ACCESS_SYSTEM_SECURITY`) on this handle. It needs a
    /// privilege that services have and users have not.
    pub fn access_system_security(&mut self, requested: bool) -> &mut Self {
        self.access_system_security = requested;
        self
    }

    /// Whether clients on other machines are turned away (`PIPE_REJECT_REMOTE_CLIENTS`).
    pub fn reject_remote_clients(&mut self, reject: bool) -> &mut Self {
        self.reject_remote_clients = reject;
        self
    }

    /// How many instances the pipe may have, 1 to 254; 255 is unlimited. The first instance's number holds for all. One
    /// more is refused with `ERROR_PIPE_BUSY`; a listener keeps one of them for itself, see
    /// [there](crate::NamedPipeListener#with-a-limit-of-instances). Other numbers make [`create`](Self::create) fail with
    /// [`InvalidInput`](io::ErrorKind::InvalidInput).
    pub fn max_instances(&mut self, instances: usize) -> &mut Self {
        self.max_instances = instances;
        self
    }

    /// How many instances a listener holds ready for clients: [`listen`](Self::listen) and
    /// [`PipeListener::bind_with`](crate::blocking::PipeListener::bind_with) create so many, and one more for each client that
    /// they hand out. So many clients can come while nobody accepts; one more is told that the pipe is busy
    /// (`ERROR_PIPE_BUSY`), and programs that do not try again then fail. An instance that waits costs a handle and some kernel memory: choose as
    /// many as clients may come in a burst. 0 makes them fail with [`InvalidInput`](io::ErrorKind::InvalidInput).
    pub fn backlog(&mut self, instances: usize) -> &mut Self {
        self.backlog = instances;
        self
    }

    /// The system's quota, in bytes, for what this server writes and the client has not read. Advisory: Windows rounds
    /// it, and takes a larger write too, which then ends when the client has read enough of it.
    ///
    /// It is a right and not memory: what the client has read costs nothing. What it has not read is kept in the kernel's
    /// nonpaged memory, so a service with many clients that may be hostile or slow should choose less than the default of
    /// 512 KiB, as it should for [`write_buffer_limit`](Self::write_buffer_limit).
    pub fn out_buffer_size(&mut self, buffer: u32) -> &mut Self {
        self.out_buffer_size = buffer;
        self
    }

    /// The system's quota, in bytes, for what the client writes and this server has not read: 512 KiB unless told
    /// otherwise. See [`out_buffer_size`](Self::out_buffer_size).
    pub fn in_buffer_size(&mut self, buffer: u32) -> &mut Self {
        self.in_buffer_size = buffer;
        self
    }

    /// What this end may have read from the pipe ahead of its reader, in bytes: at most. It holds 512 bytes while it
    /// waits, more under sustained traffic, and gives that back after a second of idleness. 0 makes
    /// [`create`](Self::create) fail with [`InvalidInput`](io::ErrorKind::InvalidInput).
    pub fn read_buffer_limit(&mut self, bytes: usize) -> &mut Self {
        self.read_buffer_limit = bytes;
        self
    }

    /// What this end may have accepted from its writer and not yet passed to the pipe, in bytes: at most, except that one
    /// message is always accepted whole. 0 makes [`create`](Self::create) fail with
    /// [`InvalidInput`](io::ErrorKind::InvalidInput).
    pub fn write_buffer_limit(&mut self, bytes: usize) -> &mut Self {
        self.write_buffer_limit = bytes;
        self
    }

    /// Whether child processes inherit the handle: no, unless told so. It is for the [`blocking`](crate::blocking) face, where an
    /// end can be made for a child; ends on a completion port cannot have it, and their `create` fails with
    /// [`InvalidInput`](io::ErrorKind::InvalidInput): what a child does on the handle would be reported to the port of this process.
    ///
    /// *Every* child that this process starts while the handle is open inherits it, and keeps the pipe open. To give an end to
    /// one child only, make it the child's stdin instead: see the example `child_process`.
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

    /// Sets a descriptor unless there is one.
    pub(crate) fn protect_by_default(&mut self, descriptor: &SecurityDescriptor) {
        self.security_descriptor.get_or_insert_with(|| descriptor.clone());
    }

    /// Who may do what with the pipe, instead of the system's default: full access for the creator, administrators and the
    /// system, and reading for everyone.
    ///
    /// It counts when the first instance of a name is created, and every later one is checked against it: the process that
    /// adds an instance must have the right to (0x4, `FILE_CREATE_PIPE_INSTANCE`). So set it for all instances, and do not
    /// leave yourself out.
    ///
    /// ```no_run
    /// # #[cfg(windows)] {
    /// use npipe::{SecurityDescriptor, ServerOptions};
    ///
    /// let private = SecurityDescriptor::current_user_only()?;
    /// let server = ServerOptions::new().security_descriptor(&private).create(r"\\.\pipe\diary")?;
    /// # }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[doc(alias = "lpSecurityAttributes")]
    #[doc(alias = "lpSecurityDescriptor")]
    pub fn security_descriptor(&mut self, descriptor: &SecurityDescriptor) -> &mut Self {
        self.security_descriptor = Some(descriptor.clone());
        self
    }

    /// Creates an instance of the pipe `addr`, in any of the forms of [`PipeName::new`]. It needs no runtime.
    ///
    /// Clients can open it from now on, also before [`NamedPipeServer::connect`] is called.
    ///
    /// Calls [`CreateNamedPipeW`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-createnamedpipew).
    /// Unless [`security_descriptor`](Self::security_descriptor) was given, the pipe has the default access list: full access
    /// for its creator, administrators and the system, reading for everyone.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput), before any system call, for a name or an option that makes no
    /// sense. Else the system's: `ERROR_ACCESS_DENIED` when the name exists and this was to be its first instance, or has
    /// other options, or another owner; `ERROR_PIPE_BUSY` when all instances exist.
    pub fn create(&self, addr: impl AsRef<OsStr>) -> io::Result<NamedPipeServer> {
        self.create_with(addr.as_ref(), sys::SecurityAttributes::DEFAULT)
    }

    /// [`create`](Self::create) with a
    /// [`SECURITY_ATTRIBUTES`](https://learn.microsoft.com/windows/win32/api/wtypesbase/ns-wtypesbase-security_attributes),
    /// which counts instead of [`security_descriptor`](Self::security_descriptor) unless it is null.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create).
    ///
    /// # Safety
    ///
    /// `attrs` must be null or point to a valid `SECURITY_ATTRIBUTES`.
    #[expect(unsafe_code, reason = "Tokio's signature: the pointer is the caller's word")]
    pub unsafe fn create_with_security_attributes_raw(
        &self,
        addr: impl AsRef<OsStr>,
        attrs: *mut c_void,
    ) -> io::Result<NamedPipeServer> {
        // SAFETY: the caller vouches for the attributes.
        self.create_with(addr.as_ref(), unsafe { sys::SecurityAttributes::from_raw(attrs) })
    }

    fn create_with(&self, addr: &OsStr, attributes: sys::SecurityAttributes) -> io::Result<NamedPipeServer> {
        let (handle, settings) = self.create_handle(addr, attributes)?;
        Stream::new(handle, Driver::current()?, settings).map(NamedPipeServer::from_stream)
    }

    /// What ends on a completion port are made of.
    pub(crate) fn create_handle(
        &self,
        addr: &OsStr,
        attributes: sys::SecurityAttributes,
    ) -> io::Result<(sys::OwnedHandle, Settings)> {
        self.refuse_inheritable()?;
        self.create_any_handle(addr, attributes)
    }

    /// What every server's end is made of.
    pub(crate) fn create_any_handle(
        &self,
        addr: &OsStr,
        attributes: sys::SecurityAttributes,
    ) -> io::Result<(sys::OwnedHandle, Settings)> {
        let name = PipeName::new(addr)?.to_wide();
        self.check()?;
        let parameters = sys::CreateNamedPipe {
            name: &name,
            message_type: self.pipe_mode == PipeMode::Message,
            inbound: self.access_inbound,
            outbound: self.access_outbound,
            first_instance: self.first_pipe_instance.unwrap_or(false),
            write_dac: self.write_dac,
            write_owner: self.write_owner,
            access_system_security: self.access_system_security,
            reject_remote_clients: self.reject_remote_clients,
            max_instances: self.max_instances as u32,
            out_buffer_size: self.out_buffer_size,
            in_buffer_size: self.in_buffer_size,
            inheritable: self.inheritable,
            security_descriptor: self.security_descriptor.as_ref().map(SecurityDescriptor::system),
        };
        let handle = sys::create(&parameters, attributes)?;
        let settings = Settings {
            reads: framing(self.pipe_mode),
            writes: framing(self.pipe_mode),
            read_limit: self.read_buffer_limit,
            write_limit: self.write_buffer_limit,
        };
        Ok((handle, settings))
    }

    /// What a listener of the pipe `name` makes its instances of.
    pub(crate) fn instances(&self, name: &OsStr) -> io::Result<Instances> {
        let name = PipeName::new(name)?;
        self.check()?;
        if self.backlog == 0 {
            return Err(invalid(
                "a listener needs at least one instance to wait with: a backlog of 1 or more",
            ));
        }
        let (mut first, mut later) = (self.clone(), self.clone());
        let is_first = *first.first_pipe_instance.get_or_insert(true);
        let keeps_the_last = self.max_instances > 1;
        later.first_pipe_instance = Some(is_first && !keeps_the_last);
        Ok(Instances { name, first, later, size: self.backlog.min(self.max_instances), keeps_the_last })
    }

    fn check(&self) -> io::Result<()> {
        if !(1..=UNLIMITED_INSTANCES).contains(&self.max_instances) {
            return Err(invalid("the number of instances must be 1 to 254, or 255 for any number"));
        }
        if !self.access_inbound && !self.access_outbound {
            return Err(invalid("a pipe needs at least one direction: access_inbound or access_outbound"));
        }
        check_limits(self.read_buffer_limit, self.write_buffer_limit)
    }
}

/// The instances of a listener, past and to come.
#[derive(Debug)]
pub(crate) struct Instances {
    name: PipeName,
    first: ServerOptions,
    later: ServerOptions,
    /// How many are to wait for clients.
    size: usize,
    /// Whether the last one that waits is to stay, since it keeps the name. Of a pipe that may have one instance it cannot.
    keeps_the_last: bool,
}

impl Instances {
    /// Those that a listener begins with; `make` gives them the face's form.
    pub(crate) fn begin<I>(
        &self,
        make: impl Fn((sys::OwnedHandle, Settings)) -> io::Result<I>,
    ) -> io::Result<Backlog<I>> {
        let first =
            make(self.first.create_any_handle(self.name.as_os_str(), sys::SecurityAttributes::DEFAULT)?)?;
        Backlog::new(first, self.size, self.keeps_the_last, || make(self.next()?))
    }

    /// [`begin`](Self::begin) after an attempt that failed: how long to pause before the next.
    pub(crate) fn pause_before_retry(error: io::Error, patience: &mut Patience) -> io::Result<Duration> {
        let passes = match error.raw_os_error().map(|code| verdict::create(code as u32)) {
            Some(Create::Full | Create::NameTaken) => true,
            Some(Create::Failed) | None => false,
        };
        if passes { patience.pause().ok_or(error) } else { Err(error) }
    }

    /// One more.
    pub(crate) fn next(&self) -> io::Result<(sys::OwnedHandle, Settings)> {
        self.later.create_any_handle(self.name.as_os_str(), sys::SecurityAttributes::DEFAULT)
    }

    pub(crate) fn name(&self) -> &PipeName {
        &self.name
    }

    pub(crate) fn is_inheritable(&self) -> bool {
        self.later.is_inheritable()
    }
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

    /// As [`ServerOptions::read_buffer_limit`].
    pub fn read_buffer_limit(&mut self, bytes: usize) -> &mut Self {
        self.read_buffer_limit = bytes;
        self
    }

    /// As [`ServerOptions::write_buffer_limit`].
    pub fn write_buffer_limit(&mut self, bytes: usize) -> &mut Self {
        self.write_buffer_limit = bytes;
        self
    }

    /// As [`ServerOptions::inheritable`].
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
    /// [`InvalidInput`](io::ErrorKind::InvalidInput), before any system call, for a name or an option that makes no
    /// sense. Else the system's: [`NotFound`](io::ErrorKind::NotFound) (`ERROR_FILE_NOT_FOUND`) when no such pipe exists,
    /// `ERROR_PIPE_BUSY` when none of its instances is free, [`PermissionDenied`](io::ErrorKind::PermissionDenied)
    /// (`ERROR_ACCESS_DENIED`) when its access list or its directions do not allow it. The first two pass, when a server
    /// creates an instance: [`connect`](Self::connect) waits for that.
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
        let name = PipeName::new(addr)?.to_wide();
        check_limits(self.read_buffer_limit, self.write_buffer_limit)?;
        let parameters = sys::OpenPipe {
            name: &name,
            read: self.read,
            write: self.write,
            read_control: self.read_control || self.server_identity.is_some(),
            message_reads: self.pipe_mode == PipeMode::Message,
            inheritable: self.inheritable,
            security_quality_of_service: self.security_qos_flags,
        };
        let handle = sys::open(&parameters, attributes)?;
        if let Some(identity) = &self.server_identity {
            identity.check(&handle)?;
        }
        let settings = Settings {
            reads: framing(self.pipe_mode),
            // A pipe that carries messages can be read as bytes: only the system knows what a write is.
            writes: if self.pipe_mode == PipeMode::Message { Framing::Messages } else { Framing::Unknown },
            read_limit: self.read_buffer_limit,
            write_limit: self.write_buffer_limit,
        };
        Ok((handle, settings))
    }
}
