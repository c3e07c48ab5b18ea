//! Options for a pipe's server end.

use std::ffi::{OsStr, c_void};
use std::io;

use super::{Instances, check_limits, invalid, packets, refuse_inheritable};
use crate::NamedPipeServer;
use crate::driver::Driver;
use crate::error;
use crate::info::{PipeEnd, PipeMode};
use crate::machine::{DEFAULT_LIMIT, DEFAULT_MESSAGE_LIMIT, Framing, verdict};
use crate::moment::Moment;
use crate::name::PipeName;
use crate::security::SecurityDescriptor;
use crate::stream::{Settings, Stream};
use crate::sys;

/// Tokio's number, and Windows', for a pipe of any number of instances.
const UNLIMITED_INSTANCES: usize = 255;
/// With one, clients that come together meet `ERROR_PIPE_BUSY`, and many (OpenSSH's among them) do
/// not try again.
const DEFAULT_BACKLOG: usize = 4;
/// The quota of a direction, in bytes. A write beyond it cannot finish at once, which costs both
/// sides a wake-up: a busy pipe runs in turns as long as its quota. It is a right, not memory;
/// measured: 64 KiB and 256 KiB are slower by a fifth and a tenth, 1 MiB is faster by a twentieth.
const DEFAULT_QUOTA: u32 = 512 * 1024;

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
/// | [`max_message_size`](Self::max_message_size) | 64 MiB | a peer decides how long its messages are |
/// | [`inheritable`](Self::inheritable) | no | every child process would have the end |
/// | [`releasable`](Self::releasable) | no | only a handle for Tokio or mio needs it |
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
#[doc(alias("PIPE_ACCESS_DUPLEX", "dwOpenMode"))]
#[must_use = "options do nothing until an end is created with them"]
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
    /// `None`: any number.
    max_instances: Option<usize>,
    backlog: usize,
    out_buffer_size: u32,
    in_buffer_size: u32,
    read_buffer_limit: usize,
    write_buffer_limit: usize,
    max_message_size: usize,
    inheritable: bool,
    releasable: bool,
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
            max_instances: None,
            backlog: DEFAULT_BACKLOG,
            out_buffer_size: DEFAULT_QUOTA,
            in_buffer_size: DEFAULT_QUOTA,
            read_buffer_limit: DEFAULT_LIMIT,
            write_buffer_limit: DEFAULT_LIMIT,
            max_message_size: DEFAULT_MESSAGE_LIMIT,
            inheritable: false,
            releasable: false,
            security_descriptor: None,
        }
    }

    /// Whether the pipe carries bytes or messages. Both ends write in this unit; this end reads in
    /// it too.
    #[doc(alias = "dwPipeMode")]
    #[doc(alias("PIPE_TYPE_BYTE", "PIPE_TYPE_MESSAGE"))]
    pub fn pipe_mode(&mut self, pipe_mode: PipeMode) -> &mut Self {
        self.pipe_mode = pipe_mode;
        self
    }

    /// Whether data may flow from the client to this server (`PIPE_ACCESS_INBOUND`). Without it, a
    /// client that asks for write access is refused with `ERROR_ACCESS_DENIED`, and so is a
    /// read here.
    #[doc(alias = "PIPE_ACCESS_INBOUND")]
    pub fn access_inbound(&mut self, allowed: bool) -> &mut Self {
        self.access_inbound = allowed;
        self
    }

    /// Whether data may flow from this server to the client (`PIPE_ACCESS_OUTBOUND`). Without it, a
    /// client that asks for read access is refused with `ERROR_ACCESS_DENIED`, and so is a
    /// write here.
    #[doc(alias = "PIPE_ACCESS_OUTBOUND")]
    pub fn access_outbound(&mut self, allowed: bool) -> &mut Self {
        self.access_outbound = allowed;
        self
    }

    /// Makes [`create`](Self::create) fail with
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied) when the name exists already
    /// (`FILE_FLAG_FIRST_PIPE_INSTANCE`). A service needs this for its first instance: success
    /// proves that no other program has taken the name. A listener sets it by default.
    ///
    /// The error message states that another program has the name. Its
    /// [`source`](std::error::Error::source) is the [`io::Error`] of the kernel. That is
    /// `ERROR_PIPE_BUSY` (231) when the pipe already has all its instances, and
    /// `ERROR_ACCESS_DENIED` (5) otherwise. The second is also the error for a process that may not
    /// create the pipe.
    ///
    /// A client that still holds its end keeps the name, and the instance's place among
    /// [`max_instances`](Self::max_instances), after the server's end has been closed.
    /// [`disconnect`](NamedPipeServer::disconnect) before closing frees both.
    #[doc(alias("FILE_FLAG_FIRST_PIPE_INSTANCE", "ERROR_ACCESS_DENIED", "5"))]
    pub fn first_pipe_instance(&mut self, first: bool) -> &mut Self {
        self.first_pipe_instance = Some(first);
        self
    }

    /// Asks for the right to change the pipe's access list (`WRITE_DAC`) on this handle, as
    /// [`set_security_descriptor`](NamedPipeServer::set_security_descriptor) does.
    #[doc(alias = "WRITE_DAC")]
    pub fn write_dac(&mut self, requested: bool) -> &mut Self {
        self.write_dac = requested;
        self
    }

    /// Asks for the right to change the pipe's owner (`WRITE_OWNER`) on this handle, and its
    /// integrity label.
    #[doc(alias = "WRITE_OWNER")]
    pub fn write_owner(&mut self, requested: bool) -> &mut Self {
        self.write_owner = requested;
        self
    }

    /// Asks for the right to read and change the pipe's audit list (`ACCESS_SYSTEM_SECURITY`) on
    /// this handle. It needs a privilege that services have and users have not.
    #[doc(alias = "ACCESS_SYSTEM_SECURITY")]
    pub fn access_system_security(&mut self, requested: bool) -> &mut Self {
        self.access_system_security = requested;
        self
    }

    /// Whether clients on other machines are turned away (`PIPE_REJECT_REMOTE_CLIENTS`).
    #[doc(alias("PIPE_REJECT_REMOTE_CLIENTS", "PIPE_ACCEPT_REMOTE_CLIENTS"))]
    pub fn reject_remote_clients(&mut self, reject: bool) -> &mut Self {
        self.reject_remote_clients = reject;
        self
    }

    /// Sets how many instances the pipe may have, 1 to 254; 255, the default, is any number. (The
    /// signature is Tokio's, and 255 is `PIPE_UNLIMITED_INSTANCES`.) The first instance's number
    /// holds for all. One more is refused with `ERROR_PIPE_BUSY`, and an instance whose
    /// server's end was closed counts until its client has closed too. A listener reserves one of
    /// them for itself, see [With a limit of
    /// instances](crate::NamedPipeListener#with-a-limit-of-instances). Other numbers make
    /// [`create`](Self::create) fail with [`InvalidInput`](io::ErrorKind::InvalidInput).
    #[doc(alias("nMaxInstances", "PIPE_UNLIMITED_INSTANCES"))]
    pub fn max_instances(&mut self, instances: usize) -> &mut Self {
        self.max_instances = (instances != UNLIMITED_INSTANCES).then_some(instances);
        self
    }

    /// How many instances a listener holds ready for clients: [`listen`](Self::listen) and
    /// [`listen_blocking`](Self::listen_blocking) create so many, and
    /// one more for each client that they hand out. So many clients can come while nobody
    /// accepts; one more is told that the pipe is busy (`ERROR_PIPE_BUSY`), and programs that
    /// do not try again then fail. An instance that waits costs a handle and some kernel memory:
    /// choose as many as clients may come in a burst. 0 makes them fail with
    /// [`InvalidInput`](io::ErrorKind::InvalidInput).
    #[doc(alias("ERROR_PIPE_BUSY", "231"))]
    pub fn backlog(&mut self, instances: usize) -> &mut Self {
        self.backlog = instances;
        self
    }

    /// The system's quota, in bytes, for what this server writes and the client has not read.
    /// Advisory: Windows rounds it, and takes a larger write too, which then ends when the
    /// client has read enough of it.
    ///
    /// It is a right and not memory: what the client has read costs nothing. What it has not read
    /// is kept in the kernel's nonpaged memory, so a service with many clients that may be
    /// hostile or slow should choose less than the default of 512 KiB, as it should for
    /// [`write_buffer_limit`](Self::write_buffer_limit).
    #[doc(alias = "nOutBufferSize")]
    pub fn out_buffer_size(&mut self, buffer: u32) -> &mut Self {
        self.out_buffer_size = buffer;
        self
    }

    /// The system's quota, in bytes, for what the client writes and this server has not read: 512
    /// KiB unless told otherwise. See [`out_buffer_size`](Self::out_buffer_size).
    #[doc(alias = "nInBufferSize")]
    pub fn in_buffer_size(&mut self, buffer: u32) -> &mut Self {
        self.in_buffer_size = buffer;
        self
    }

    /// What this end may have read from the pipe ahead of its reader, in bytes: at most. It holds
    /// 512 bytes while it waits, more under sustained traffic, and gives that back after a
    /// second of idleness. 0 makes [`create`](Self::create) fail with
    /// [`InvalidInput`](io::ErrorKind::InvalidInput).
    pub fn read_buffer_limit(&mut self, bytes: usize) -> &mut Self {
        self.read_buffer_limit = bytes;
        self
    }

    /// What this end may have accepted from its writer and not yet passed to the pipe, in bytes: at
    /// most, except that one message is always accepted whole. 0 makes [`create`](Self::create)
    /// fail with [`InvalidInput`](io::ErrorKind::InvalidInput).
    pub fn write_buffer_limit(&mut self, bytes: usize) -> &mut Self {
        self.write_buffer_limit = bytes;
        self
    }

    /// Sets the length of the longest message that this end receives whole, in bytes: with
    /// `recv_message`, as the reply of `transact`, and from [`Messages`](crate::Messages). A longer
    /// message is refused with [`MessageTooLong`](crate::MessageTooLong) and discarded without
    /// allocating memory for it, and the pipe stays usable. `usize::MAX` removes the limit.
    /// `recv_message_limited` and [`Messages::with_limit`](crate::Messages::with_limit) have limits
    /// of their own. Reads in pieces, and messages that this end sends, are not limited.
    pub fn max_message_size(&mut self, bytes: usize) -> &mut Self {
        self.max_message_size = bytes;
        self
    }

    /// Whether child processes inherit the handle: no, unless told so. It is for the
    /// [`blocking`](crate::blocking) face, where an end can be made for a child; ends on a
    /// completion port cannot have it, and their `create` fails with
    /// [`InvalidInput`](io::ErrorKind::InvalidInput): what a child does on the handle would be
    /// reported to the port of this process.
    ///
    /// *Every* child that this process starts while the handle is open inherits it, and keeps the
    /// pipe open. To give an end to one child only, make it the child's stdin instead: see [Pipes
    /// for a child process](crate::guide::blocking#pipes-for-a-child-process).
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

    /// Sets a descriptor unless there is one.
    pub(crate) fn protect_by_default(&mut self, descriptor: &SecurityDescriptor) {
        self.security_descriptor.get_or_insert_with(|| descriptor.clone());
    }

    /// Who may do what with the pipe, instead of the system's default: full access for the creator,
    /// administrators and the system, and reading for everyone.
    ///
    /// It counts when the first instance of a name is created, and every later one is checked
    /// against it: the process that adds an instance must have the right to (0x4,
    /// `FILE_CREATE_PIPE_INSTANCE`). So set it for all instances, and do not leave yourself
    /// out.
    ///
    /// A descriptor with an integrity label that Windows would not obey makes
    /// [`create`](Self::create) fail with [`InvalidInput`](io::ErrorKind::InvalidInput). One with
    /// an audit list needs the privilege to change audit lists (`SeSecurityPrivilege`), else
    /// Windows refuses it with `ERROR_PRIVILEGE_NOT_HELD`.
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

    /// Creates an instance of the pipe `addr`, in any of the forms of [`PipeName::new`]. It needs
    /// no runtime.
    ///
    /// Clients can open it from now on, also before [`NamedPipeServer::connect`] is called.
    ///
    /// Calls [`CreateNamedPipeW`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-createnamedpipew).
    /// Unless [`security_descriptor`](Self::security_descriptor) was given, the pipe has the
    /// default access list: full access for its creator, administrators and the system, reading
    /// for everyone.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput), before any system call, for an invalid name
    /// or option. [`PermissionDenied`](io::ErrorKind::PermissionDenied) when the name exists and
    /// this was to be its [first instance](Self::first_pipe_instance). Otherwise the kernel's
    /// error: `ERROR_ACCESS_DENIED` when the pipe has other options or its access list does not
    /// allow it, `ERROR_PIPE_BUSY` when all instances exist.
    #[doc(alias("CreateNamedPipe", "FILE_FLAG_OVERLAPPED"))]
    pub fn create(&self, addr: impl AsRef<OsStr>) -> io::Result<NamedPipeServer> {
        self.create_with(addr.as_ref(), sys::SecurityAttributes::DEFAULT)
    }

    /// [`create`](Self::create) with a
    /// [`SECURITY_ATTRIBUTES`](https://learn.microsoft.com/windows/win32/api/wtypesbase/ns-wtypesbase-security_attributes),
    /// which counts instead of [`security_descriptor`](Self::security_descriptor) unless it is
    /// null.
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
        self.refuse_inheritable()?;
        let name = PipeName::new(addr)?;
        let (handle, settings) = self.create_any_handle(&name, attributes)?;
        Stream::new(handle, Driver::current()?, settings)
            .map(|stream| NamedPipeServer::from_stream(stream.named(&name)))
    }

    /// What every server's end is made of.
    pub(crate) fn create_any_handle(
        &self,
        name: &PipeName,
        attributes: sys::SecurityAttributes,
    ) -> io::Result<(sys::OwnedHandle, Settings)> {
        self.create_instance(name, attributes).map_err(|error| {
            let is_first = self.first_pipe_instance == Some(true);
            let is_taken = |code| verdict::is_name_taken(code as u32);
            match error.raw_os_error() {
                Some(code) if is_first && is_taken(code) => error::name_taken(name, error),
                _ => error,
            }
        })
    }

    /// [`create_any_handle`](Self::create_any_handle) with the kernel's plain errors.
    pub(super) fn create_instance(
        &self,
        name: &PipeName,
        attributes: sys::SecurityAttributes,
    ) -> io::Result<(sys::OwnedHandle, Settings)> {
        let name = name.to_wide();
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
            max_instances: self.max_instances.map(|instances| instances as u32),
            out_buffer_size: self.out_buffer_size,
            in_buffer_size: self.in_buffer_size,
            inheritable: self.inheritable,
            security_descriptor: self.security_descriptor.as_ref().map(SecurityDescriptor::system),
        };
        let before = Moment::now();
        let handle = sys::create(&parameters, attributes)?;
        let framing = Framing::of(self.pipe_mode == PipeMode::Message);
        let settings = Settings {
            end: PipeEnd::Server,
            reads: framing,
            writes: framing,
            read_limit: self.read_buffer_limit,
            write_limit: self.write_buffer_limit,
            message_limit: self.max_message_size,
            packets: packets(self.releasable),
            before: Some(before),
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
        let keeps_the_last = self.max_instances != Some(1);
        later.first_pipe_instance = Some(is_first && !keeps_the_last);
        let size = self.max_instances.map_or(self.backlog, |most| most.min(self.backlog));
        Ok(Instances { name, first, later, size, keeps_the_last })
    }

    fn check(&self) -> io::Result<()> {
        if self.max_instances.is_some_and(|instances| !(1..UNLIMITED_INSTANCES).contains(&instances)) {
            return Err(invalid("the number of instances must be 1 to 254, or 255 for any number"));
        }
        if !self.access_inbound && !self.access_outbound {
            return Err(invalid("a pipe needs at least one direction: access_inbound or access_outbound"));
        }
        if let Some(descriptor) = &self.security_descriptor {
            descriptor.check()?;
        }
        check_limits(self.read_buffer_limit, self.write_buffer_limit)
    }
}
