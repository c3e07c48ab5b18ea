//! Security descriptors in words: who, what, and how much of it. The words become SDDL, which the
//! system makes a descriptor of, so that nothing here is laid out in memory and everything can be
//! tested on any machine.

use std::io;

use super::Sid;

/// Somebody who may be given rights, or whose identity may be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trustee {
    /// The account that this process runs as, also where a thread of it acts in another's name.
    CurrentUser,
    /// The system itself, `S-1-5-18`: the account of most services.
    System,
    /// The group of administrators, `S-1-5-32-544`. Their programs belong to it when they run
    /// elevated.
    Administrators,
    /// Users who have logged on at this machine or by Remote Desktop, `S-1-5-4`: not over the
    /// network, and not services.
    #[doc(alias = "NT AUTHORITY\\INTERACTIVE")]
    Interactive,
    /// Users who have logged on in any way, `S-1-5-11`: not guests, not anonymous users.
    AuthenticatedUsers,
    /// Everyone, `S-1-1-0`, guests included, and on most systems not anonymous users.
    Everyone,
    /// Programs in an app container, as those of the Store, `S-1-15-2-1`. Needed beside the user's
    /// own entry, since such a program has the rights only that both allow; and as it runs at
    /// low integrity, the pipe needs the label [`Integrity::Low`] too.
    #[doc(alias = "ALL APPLICATION PACKAGES")]
    AppPackages,
    /// Another account or group.
    Sid(Sid),
}

impl Trustee {
    /// `None` for the one whom only the system knows.
    fn fixed(&self) -> Option<Sid> {
        const WORLD: u64 = 1;
        const NT: u64 = 5;
        const APP_PACKAGE: u64 = 15;
        Some(match self {
            Self::CurrentUser => return None,
            Self::System => Sid::new(NT, &[18]),
            Self::Administrators => Sid::new(NT, &[32, 544]),
            Self::Interactive => Sid::new(NT, &[4]),
            Self::AuthenticatedUsers => Sid::new(NT, &[11]),
            Self::Everyone => Sid::new(WORLD, &[0]),
            Self::AppPackages => Sid::new(APP_PACKAGE, &[2, 1]),
            Self::Sid(sid) => sid.clone(),
        })
    }

    /// The identifier of this account or group.
    ///
    /// # Errors
    ///
    /// The system's, of asking for the current user.
    #[cfg(windows)]
    pub fn sid(&self) -> io::Result<Sid> {
        match self.fixed() {
            Some(sid) => Ok(sid),
            None => Sid::of_system(&crate::sys::user_of_this_process()?),
        }
    }
}

impl From<Sid> for Trustee {
    fn from(sid: Sid) -> Self {
        Self::Sid(sid)
    }
}

/// What somebody may do with a pipe, or may not.
///
/// | | allowed to open the pipe for | mask when allowed | mask when denied |
/// |---|---|---|---|
/// | `Connect` | reading and writing, as a client | 0x12019b | the same |
/// | `Read` | reading, as a client | 0x120189 | 0x1 |
/// | `Write` | writing, as a client | 0x120192 | 0x2 |
/// | `CreateInstance` | serving the name, and `Connect` | 0x12019f | 0x4 |
/// | `Full` | all that, and changing the access list and the owner | 0x1f01ff | the same |
///
/// None but the last two holds the right to create instances (0x4, `FILE_CREATE_PIPE_INSTANCE`).
/// The system's generic writing does, because it is the same bit as a file's `FILE_APPEND_DATA`. A
/// client that opens the pipe with `GENERIC_WRITE`, as all do, is not refused for lack of it: the
/// system leaves it out when it checks a client.
///
/// Denying takes away what is named and no more, so whoever is denied `Read` may be allowed to
/// `Write`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Access {
    /// Being a client: reading and writing.
    Connect,
    /// Being a client that only reads, bytes or messages. It opens the pipe with `write(false)`.
    Read,
    /// Being a client that only writes. It opens the pipe with `read(false)`.
    Write,
    /// Being a server: creating instances of the pipe, and reading and writing. Whoever has it gets
    /// some of the clients.
    #[doc(alias = "FILE_CREATE_PIPE_INSTANCE")]
    CreateInstance,
    /// Everything: being client and server, and changing this very list.
    Full,
}

impl Access {
    const FULL: u32 = 0x001f_01ff;
    const CONNECT: u32 = 0x0012_019b;
    const READ_DATA: u32 = 0x0001;
    const WRITE_DATA: u32 = 0x0002;
    const CREATE_INSTANCE: u32 = 0x0004;
    const READ_EXTENDED_ATTRIBUTES: u32 = 0x0008;
    const WRITE_EXTENDED_ATTRIBUTES: u32 = 0x0010;

    /// Both attribute rights come with each: `CreateFile` always asks for the one, and a reader
    /// needs the other to choose between bytes and messages.
    fn allowed(self) -> u32 {
        match self {
            Self::Connect => Self::CONNECT,
            Self::Read => Self::CONNECT & !(Self::WRITE_DATA | Self::WRITE_EXTENDED_ATTRIBUTES),
            Self::Write => Self::CONNECT & !(Self::READ_DATA | Self::READ_EXTENDED_ATTRIBUTES),
            Self::CreateInstance => Self::CONNECT | Self::CREATE_INSTANCE,
            Self::Full => Self::FULL,
        }
    }

    fn denied(self) -> u32 {
        match self {
            Self::Connect => Self::CONNECT,
            Self::Read => Self::READ_DATA,
            Self::Write => Self::WRITE_DATA,
            Self::CreateInstance => Self::CREATE_INSTANCE,
            Self::Full => Self::FULL,
        }
    }
}

/// How far a program is trusted, whoever its user is: the system's
/// [integrity levels](https://learn.microsoft.com/windows/win32/secauthz/mandatory-integrity-control).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Integrity {
    /// Nothing at all.
    Untrusted,
    /// Programs in a sandbox: those of browsers, and all in an app container.
    Low,
    /// Ordinary programs.
    Medium,
    /// Elevated programs of administrators.
    High,
    /// Services.
    System,
}

impl Integrity {
    /// `SECURITY_MANDATORY_LABEL_AUTHORITY`.
    const AUTHORITY: u64 = 16;

    const LEVELS: [Self; 5] = [Self::Untrusted, Self::Low, Self::Medium, Self::High, Self::System];

    /// The last number of the level's SID, `S-1-16-NUMBER`.
    fn number(self) -> u32 {
        match self {
            Self::Untrusted => 0,
            Self::Low => 0x1000,
            Self::Medium => 0x2000,
            Self::High => 0x3000,
            Self::System => 0x4000,
        }
    }

    /// The level that `label` stands for; of a number in between, the one below.
    pub(super) fn of(label: &Sid) -> Option<Self> {
        let &[number] = label.sub_authorities() else { return None };
        let reached = |level: &&Self| level.number() <= number;
        (label.authority() == Self::AUTHORITY).then(|| Self::LEVELS.iter().rev().find(reached).copied())?
    }
}

/// Puts a [`SecurityDescriptor`](crate::SecurityDescriptor) together. Made by
/// [`SecurityDescriptor::builder`](crate::SecurityDescriptor::builder).
///
/// Whoever is not named may do nothing. What is denied is denied, whatever is allowed, in whichever
/// order it was said.
///
/// ```no_run
/// # #[cfg(windows)] {
/// use npipe::{Access, SecurityDescriptor, Sid, Trustee};
///
/// let contractors: Sid = "S-1-5-21-1004336348-1177238915-682003330-1133".parse()?;
/// let access = SecurityDescriptor::builder()
///     .allow(Trustee::CurrentUser, Access::Full)
///     .allow(Trustee::AuthenticatedUsers, Access::Connect)
///     .deny(contractors, Access::Write)
///     .build()?;
/// # }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "a builder does nothing until it builds a descriptor"]
pub struct SecurityDescriptorBuilder {
    owner: Option<Trustee>,
    denied: Vec<(Trustee, Access)>,
    allowed: Vec<(Trustee, Access)>,
    integrity: Option<Integrity>,
}

impl SecurityDescriptorBuilder {
    /// Nobody may do anything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Allows `trustee`, and whoever belongs to it, an access.
    ///
    /// Do not leave yourself out: the server's account needs [`Access::CreateInstance`] or
    /// [`Access::Full`] for each instance after the first.
    pub fn allow(&mut self, trustee: impl Into<Trustee>, access: Access) -> &mut Self {
        self.allowed.push((trustee.into(), access));
        self
    }

    /// Denies `trustee`, and whoever belongs to it, an access that it may have been allowed as
    /// somebody else.
    pub fn deny(&mut self, trustee: impl Into<Trustee>, access: Access) -> &mut Self {
        self.denied.push((trustee.into(), access));
        self
    }

    /// The owner, who may change the access list whatever it says. Unless told, the system takes
    /// the account that creates the pipe, and for an elevated administrator the group of all of
    /// them.
    ///
    /// Creating the pipe fails with `ERROR_INVALID_OWNER` where the process may not give it to that
    /// owner: it may to its own account, and elevated to the administrators.
    pub fn owner(&mut self, trustee: impl Into<Trustee>) -> &mut Self {
        self.owner = Some(trustee.into());
        self
    }

    /// Programs below this level may neither open the pipe for reading nor for writing, whatever
    /// the list says. Without a label the pipe is of [`Medium`](Integrity::Medium) integrity,
    /// which programs below may read.
    ///
    /// So [`Low`](Integrity::Low) opens a pipe for programs in a sandbox, as far as the list does,
    /// and [`High`](Integrity::High) keeps out what is not elevated. Creating the pipe fails
    /// with `ERROR_PRIVILEGE_NOT_HELD` where the level is above that of the process.
    #[doc(alias = "SYSTEM_MANDATORY_LABEL_ACE")]
    pub fn integrity(&mut self, level: Integrity) -> &mut Self {
        self.integrity = Some(level);
        self
    }

    /// The descriptor.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) when nobody was allowed anything: not even the
    /// server could create a second instance of such a pipe. Else the system's.
    #[cfg(windows)]
    pub fn build(&self) -> io::Result<super::SecurityDescriptor> {
        super::SecurityDescriptor::from_sddl(&self.sddl(Trustee::sid)?)
    }

    /// Denying comes first, since the first entry that concerns a right decides. `P`: nothing is
    /// inherited.
    fn sddl(&self, sid: impl Fn(&Trustee) -> io::Result<Sid>) -> io::Result<String> {
        if self.allowed.is_empty() {
            let why = "nobody is allowed anything: say whom to allow what, and do not leave yourself out";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let mut sddl = String::new();
        if let Some(owner) = &self.owner {
            sddl += &format!("O:{}", sid(owner)?);
        }
        sddl += "D:P";
        for (trustee, access) in &self.denied {
            sddl += &format!("(D;;{:#x};;;{})", access.denied(), sid(trustee)?);
        }
        for (trustee, access) in &self.allowed {
            sddl += &format!("(A;;{:#x};;;{})", access.allowed(), sid(trustee)?);
        }
        if let Some(level) = self.integrity {
            sddl += &format!("S:(ML;;NWNR;;;S-1-{}-{})", Integrity::AUTHORITY, level.number());
        }
        Ok(sddl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sddl(builder: &SecurityDescriptorBuilder) -> io::Result<String> {
        builder.sddl(|trustee| trustee.fixed().map_or_else(|| "S-1-5-21-1-2-3-1001".parse(), Ok))
    }

    #[test]
    fn words_become_sddl() {
        let mut builder = SecurityDescriptorBuilder::new();
        builder
            .owner(Trustee::CurrentUser)
            .allow(Trustee::CurrentUser, Access::Full)
            .allow(Trustee::System, Access::CreateInstance)
            .allow(Trustee::Administrators, Access::Connect)
            .allow(Trustee::Interactive, Access::Connect)
            .allow(Trustee::AuthenticatedUsers, Access::Read)
            .allow(Trustee::Everyone, Access::Write)
            .allow(Trustee::AppPackages, Access::Connect)
            .allow("S-1-5-2".parse::<Sid>().unwrap(), Access::Read)
            .integrity(Integrity::Low);
        assert_eq!(
            sddl(&builder).unwrap(),
            "O:S-1-5-21-1-2-3-1001D:P(A;;0x1f01ff;;;S-1-5-21-1-2-3-1001)(A;;0x12019f;;;S-1-5-18)\
             (A;;0x12019b;;;S-1-5-32-544)(A;;0x12019b;;;S-1-5-4)(A;;0x120189;;;S-1-5-11)(A;;0x120192;;;S-1-1-0)\
             (A;;0x12019b;;;S-1-15-2-1)(A;;0x120189;;;S-1-5-2)S:(ML;;NWNR;;;S-1-16-4096)"
        );
    }

    #[test]
    fn what_is_denied_comes_first_and_takes_no_more_than_it_names() {
        let mut builder = SecurityDescriptorBuilder::new();
        builder.allow(Trustee::Everyone, Access::Connect);
        for access in [Access::Read, Access::Write, Access::CreateInstance, Access::Connect, Access::Full] {
            builder.deny(Trustee::System, access);
        }
        assert_eq!(
            sddl(&builder).unwrap(),
            "D:P(D;;0x1;;;S-1-5-18)(D;;0x2;;;S-1-5-18)(D;;0x4;;;S-1-5-18)(D;;0x12019b;;;S-1-5-18)\
             (D;;0x1f01ff;;;S-1-5-18)(A;;0x12019b;;;S-1-1-0)"
        );
    }

    /// The accident that generic writing is.
    #[test]
    fn no_client_may_create_instances() {
        for access in [Access::Connect, Access::Read, Access::Write] {
            assert_eq!(access.allowed() & Access::CREATE_INSTANCE, 0, "{access:?}");
        }
    }

    /// `CreateFile` asks for it with everything
    /// (FILE_READ_ATTRIBUTES and SYNCHRONIZE), and a client that could not have it could not open
    /// the pipe.
    #[test]
    fn every_client_may_have_what_opening_needs() {
        const ALWAYS: u32 = 0x0010_0080;
        const GENERIC_READ: u32 = 0x0012_0089;
        const GENERIC_WRITE: u32 = 0x0012_0116;
        let suffices = |access: Access, asked: u32| {
            let asked = (asked | ALWAYS) & !Access::CREATE_INSTANCE;
            access.allowed() & asked == asked
        };
        assert!(suffices(Access::Connect, GENERIC_READ | GENERIC_WRITE));
        assert!(suffices(Access::Read, GENERIC_READ) && !suffices(Access::Read, GENERIC_WRITE));
        assert!(suffices(Access::Write, GENERIC_WRITE) && !suffices(Access::Write, GENERIC_READ));
    }

    #[test]
    fn allowing_nobody_is_refused() {
        let mut builder = SecurityDescriptorBuilder::new();
        builder.deny(Trustee::Everyone, Access::Full);
        assert_eq!(sddl(&builder).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn levels_in_between_count_as_the_one_below() {
        let level = |text: &str| Integrity::of(&text.parse().unwrap());
        assert_eq!(level("S-1-16-8192"), Some(Integrity::Medium));
        assert_eq!(level("S-1-16-8448"), Some(Integrity::Medium));
        assert_eq!(level("S-1-16-20480"), Some(Integrity::System));
        assert_eq!(level("S-1-16-1"), Some(Integrity::Untrusted));
        assert_eq!(level("S-1-5-18"), None);
        assert_eq!(level("S-1-16-1-2"), None);
    }
}
