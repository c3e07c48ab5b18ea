//! Access lists, as they are read.

use super::Sid;

/// Who may do what with a pipe.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccessList {
    /// The descriptor does not say. A pipe that is created with it gets the system's default list.
    Unspecified,
    /// Everyone may do everything: a list that is "null".
    Everyone,
    /// What the entries say, read in their order: the first that concerns somebody's wish decides.
    /// What none allows is refused; with no entry at all, everything.
    Entries(Vec<AccessEntry>),
}

/// One line of an access list.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[doc(alias = "ACE")]
pub enum AccessEntry {
    /// `trustee`, or a member of it, may do what is in `mask`.
    #[doc(alias = "ACCESS_ALLOWED_ACE")]
    #[non_exhaustive]
    Allow {
        /// An account or a group.
        trustee: Sid,
        /// Rights, as bits of an
        /// [`ACCESS_MASK`](https://learn.microsoft.com/windows/win32/ipc/named-pipe-security-and-access-rights).
        mask: u32,
    },
    /// `trustee`, or a member of it, may not do what is in `mask`.
    #[doc(alias = "ACCESS_DENIED_ACE")]
    #[non_exhaustive]
    Deny {
        /// An account or a group.
        trustee: Sid,
        /// Rights, as those of [`Allow`](Self::Allow).
        mask: u32,
    },
    /// Another kind: with a condition, or for children only, which a pipe has not. The descriptor's
    /// SDDL shows it.
    #[non_exhaustive]
    Other {
        /// Its
        /// [`AceType`](https://learn.microsoft.com/windows/win32/api/winnt/ns-winnt-ace_header).
        kind: u8,
    },
}
