//! Access control: who may use a pipe, who is at its other end.
//!
//! [`SecurityDescriptor`] says who may do what with a pipe, in words
//! ([`builder`](SecurityDescriptor::builder)) or in SDDL. [`ServerIdentity`] is the server that a
//! client expects, [`Peer`] the process at the other end, [`Impersonation`] a server's right to act
//! in the name of its client. [A page of the guide](crate::guide::security) has recipes.
//!
//! The types are at the root of the crate too.

// Windows itself makes a descriptor of text, and text of a descriptor. The contents of a descriptor
// are decoded here from its bytes, so that tests on any machine can feed damaged ones.

mod access;
mod builder;
#[cfg(windows)]
mod impersonation;
mod layout;
#[cfg(windows)]
mod peer;
mod sid;

pub use access::{AccessEntry, AccessList};
pub use builder::{Access, Integrity, SecurityDescriptorBuilder, Trustee};
pub use sid::Sid;

#[cfg(windows)]
pub use descriptor::SecurityDescriptor;
#[cfg(windows)]
pub use impersonation::{Impersonation, ImpersonationLevel};
#[cfg(windows)]
pub use peer::{Peer, ServerIdentity};

#[cfg(windows)]
mod descriptor {
    use std::fmt;
    use std::io;
    use std::str::FromStr;
    use std::sync::Arc;

    use super::layout::{self, Parts};
    use super::{Access, AccessList, Integrity, SecurityDescriptorBuilder, Sid, Trustee};
    use crate::sys::{self, OwnedHandle};

    /// A pipe's security descriptor: its owner, and the access list that says who may do what.
    ///
    /// Made in words, with [`builder`](Self::builder) or one of the two ready-made ones below; or
    /// from SDDL, the system's own text for it ([its grammar](https://learn.microsoft.com/windows/win32/secauthz/security-descriptor-string-format)); or
    /// read from a pipe, on either end:
    /// [`NamedPipeServer::security_descriptor`](crate::NamedPipeServer::security_descriptor)
    /// and its like. Given to a server's options it holds for the pipe that they create:
    ///
    /// ```no_run
    /// use npipe::{Access, SecurityDescriptor, ServerOptions, Trustee};
    ///
    /// // A service: it and the administrators do everything; users talk to it, and cannot serve the name.
    /// let access = SecurityDescriptor::builder()
    ///     .allow(Trustee::CurrentUser, Access::Full)
    ///     .allow(Trustee::Administrators, Access::Full)
    ///     .allow(Trustee::AuthenticatedUsers, Access::Connect)
    ///     .build()?;
    /// let server = ServerOptions::new().security_descriptor(&access).create("inventory")?;
    /// assert_eq!(server.security_descriptor()?.access_list(), access.access_list());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// [A page of the guide](crate::guide::security) has recipes.
    ///
    /// # What to write in SDDL
    ///
    /// Rights of a pipe, with their two-letter names in SDDL where they have one:
    ///
    /// | right | what it allows |
    /// |---|---|
    /// | `FA` (0x1f01ff) or `GA` | everything |
    /// | `FR` (0x120089) or `GR` | reading, and looking at the descriptor |
    /// | 0x12019b | reading and writing, as a client needs it: [`Access::Connect`] |
    /// | `FW` (0x120116) or `GW` | writing, **and creating instances** (0x4): who has this can serve the name beside you |
    ///
    /// The server's own process needs the right to create instances (0x4) for every instance after
    /// the first, so a list that leaves its account out makes the second
    /// [`create`](crate::ServerOptions::create) fail with `ERROR_ACCESS_DENIED`.
    #[derive(Clone)]
    #[doc(alias = "SECURITY_DESCRIPTOR")]
    #[doc(alias = "SDDL")]
    pub struct SecurityDescriptor {
        system: sys::Descriptor,
        parts: Arc<Parts>,
    }

    impl SecurityDescriptor {
        /// Reads SDDL, such as `D:(A;;FA;;;OW)(A;;0x12019b;;;BU)`.
        ///
        /// Calls
        /// [`ConvertStringSecurityDescriptorToSecurityDescriptorW`](https://learn.microsoft.com/windows/win32/api/sddl/nf-sddl-convertstringsecuritydescriptortosecuritydescriptorw).
        ///
        /// # Errors
        ///
        /// [`InvalidInput`](io::ErrorKind::InvalidInput), before any system call, for an empty
        /// text, which would ask for nothing and get the system's default, and for one with
        /// a NUL character. Else the system's, which depend on what
        /// is wrong: `ERROR_INVALID_PARAMETER`, `ERROR_INVALID_ACL`, `ERROR_INVALID_SID`
        /// and others.
        pub fn from_sddl(sddl: &str) -> io::Result<Self> {
            if sddl.trim().is_empty() {
                return Err(invalid("an empty security descriptor would mean the system's default"));
            }
            if sddl.contains('\0') {
                return Err(invalid("a security descriptor has no NUL character in it"));
            }
            Self::new(sys::descriptor_from_sddl(sddl)?)
        }

        /// A descriptor in words.
        pub fn builder() -> SecurityDescriptorBuilder {
            SecurityDescriptorBuilder::new()
        }

        /// Everything for the account that this process runs as, and nothing for anybody else, not
        /// even administrators or the system. The account is the owner, also where an
        /// administrator's programs would make that the group of all administrators: so a
        /// client can ask for it with
        /// [`verify_server`](crate::ClientOptions::verify_server).
        ///
        /// It is about users and not about programs: each program of the same user can open the
        /// pipe, and serve it too. An administrator who wants to gets in all the same, as
        /// he can become the owner of anything.
        ///
        /// ```no_run
        /// use npipe::{SecurityDescriptor, ServerOptions};
        ///
        /// let private = SecurityDescriptor::current_user_only()?;
        /// let server = ServerOptions::new().security_descriptor(&private).create("diary")?;
        /// # Ok::<(), std::io::Error>(())
        /// ```
        ///
        /// # Errors
        ///
        /// As [`SecurityDescriptorBuilder::build`].
        pub fn current_user_only() -> io::Result<Self> {
            Self::builder().owner(Trustee::CurrentUser).allow(Trustee::CurrentUser, Access::Full).build()
        }

        /// Everything for the account that this process runs as, which is the owner, and for the
        /// system itself, whose services can then use the pipe; nothing for anybody else.
        /// Otherwise [`current_user_only`](Self::current_user_only).
        ///
        /// # Errors
        ///
        /// As [`SecurityDescriptorBuilder::build`].
        pub fn owner_and_system() -> io::Result<Self> {
            Self::builder()
                .owner(Trustee::CurrentUser)
                .allow(Trustee::CurrentUser, Access::Full)
                .allow(Trustee::System, Access::Full)
                .build()
        }

        /// Everything for the account that this process runs as, which is the owner, and for
        /// [administrators](Trustee::Administrators), when their programs run elevated; nothing for
        /// others. Otherwise as [`current_user_only`](Self::current_user_only).
        ///
        /// # Errors
        ///
        /// As [`SecurityDescriptorBuilder::build`].
        pub fn current_user_and_administrators() -> io::Result<Self> {
            Self::builder()
                .owner(Trustee::CurrentUser)
                .allow(Trustee::CurrentUser, Access::Full)
                .allow(Trustee::Administrators, Access::Full)
                .build()
        }

        /// What protects the pipe of `handle`.
        pub(crate) fn of(handle: &OwnedHandle) -> io::Result<Self> {
            let system = sys::descriptor_of(handle)?;
            let mut parts = decode(&system)?;
            // The audits were not queried. So an empty list means that there is no label, and
            // nothing about audits.
            parts.system_list.covers_audits = false;
            Ok(Self { system, parts: Arc::new(parts) })
        }

        /// Protects the pipe of `handle` by every part of this descriptor, or fails.
        pub(crate) fn apply_to(&self, handle: &OwnedHandle) -> io::Result<()> {
            self.check()?;
            let list = self.parts.system_list;
            if list.has_others {
                return Err(invalid(
                    "the audit list has an entry that is neither for auditing nor an integrity label, and such \
                     entries can only be given to a pipe that is created",
                ));
            }
            let parts = sys::DescriptorParts {
                owner: self.owner().is_some(),
                group: self.group().is_some(),
                access_list: *self.access_list() != AccessList::Unspecified,
                label: list.covers_label,
                audits: list.covers_audits,
            };
            if parts == sys::DescriptorParts::default() {
                return Err(invalid("the security descriptor has no part that could be changed"));
            }
            sys::set_descriptor(handle, &self.system, parts)
        }

        /// Refuses what Windows would accept and not obey.
        pub(crate) fn check(&self) -> io::Result<()> {
            if self.parts.system_list.has_invalid_label {
                return Err(invalid(
                    "the integrity label has no effect: a descriptor may have one, without the flag IO, with a level \
                     S-1-16-N, and with no policies but NW, NR and NX",
                ));
            }
            Ok(())
        }

        fn new(system: sys::Descriptor) -> io::Result<Self> {
            Ok(Self { parts: Arc::new(decode(&system)?), system })
        }

        /// The descriptor as SDDL, whole: owner, group, access list, audit list and integrity
        /// label, as far as it has them.
        ///
        /// Calls
        /// [`ConvertSecurityDescriptorToStringSecurityDescriptorW`](https://learn.microsoft.com/windows/win32/api/sddl/nf-sddl-convertsecuritydescriptortostringsecuritydescriptorw).
        ///
        /// # Errors
        ///
        /// The system's.
        pub fn to_sddl(&self) -> io::Result<String> {
            sys::descriptor_to_sddl(&self.system)
        }

        /// The owner. He may read and change the access list, whatever it says.
        pub fn owner(&self) -> Option<&Sid> {
            self.parts.owner.as_ref()
        }

        /// The primary group. The system stores it and gives it no meaning.
        pub fn group(&self) -> Option<&Sid> {
            self.parts.group.as_ref()
        }

        /// Who may do what.
        #[doc(alias = "DACL")]
        pub fn access_list(&self) -> &AccessList {
            &self.parts.access_list
        }

        /// The integrity label, if there is one, as [`SecurityDescriptorBuilder::integrity`] sets
        /// it. Without one the system treats the pipe as of [medium](Integrity::Medium)
        /// integrity, which programs below it may read.
        #[doc(alias = "SYSTEM_MANDATORY_LABEL_ACE")]
        pub fn integrity(&self) -> Option<Integrity> {
            self.parts.system_list.integrity
        }

        pub(crate) fn system(&self) -> &sys::Descriptor {
            &self.system
        }
    }

    fn decode(system: &sys::Descriptor) -> io::Result<Parts> {
        layout::decode(system.bytes()).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "Windows returned a malformed security descriptor")
        })
    }

    fn invalid(why: &str) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidInput, why)
    }

    impl FromStr for SecurityDescriptor {
        type Err = io::Error;

        fn from_str(sddl: &str) -> io::Result<Self> {
            Self::from_sddl(sddl)
        }
    }

    impl fmt::Display for SecurityDescriptor {
        /// [`to_sddl`](SecurityDescriptor::to_sddl), of which an error is one of the formatter.
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str(&self.to_sddl().map_err(|_| fmt::Error)?)
        }
    }

    impl fmt::Debug for SecurityDescriptor {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter
                .debug_struct("SecurityDescriptor")
                .field("owner", &self.owner())
                .field("group", &self.group())
                .field("access_list", self.access_list())
                .field("integrity", &self.integrity())
                .finish_non_exhaustive()
        }
    }
}
