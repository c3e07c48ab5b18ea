//! What a caller of `ready` is interested in, and what it learns.
//!
//! Ours, so that the crate needs no runtime; with the feature `tokio` they convert from and to
//! Tokio's.

use std::fmt;
use std::ops::{BitAnd, BitAndAssign, BitOr, BitOrAssign, Sub, SubAssign};

/// Which readiness to wait for. Accepted wherever Tokio's is, and the other way round.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Interest(u8);

impl Interest {
    /// Interest in reading.
    pub const READABLE: Self = Self(1);
    /// Interest in writing.
    pub const WRITABLE: Self = Self(2);
    /// Interest in errors, which Tokio has. On a pipe an error is a reason to be readable or
    /// writable, so nothing is ever ready for this alone.
    pub const ERROR: Self = Self(4);

    /// Whether it includes reading.
    pub const fn is_readable(self) -> bool {
        self.0 & Self::READABLE.0 != 0
    }

    /// Whether it includes writing.
    pub const fn is_writable(self) -> bool {
        self.0 & Self::WRITABLE.0 != 0
    }

    /// Whether it includes errors.
    pub const fn is_error(self) -> bool {
        self.0 & Self::ERROR.0 != 0
    }

    /// Never so: mio has it for other systems.
    pub const fn is_priority(self) -> bool {
        false
    }

    /// Never so: mio has it for other systems.
    pub const fn is_aio(self) -> bool {
        false
    }

    /// Never so: mio has it for other systems.
    pub const fn is_lio(self) -> bool {
        false
    }

    /// Both this and the other.
    #[must_use]
    pub const fn add(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This without the other; `None` when nothing remains.
    pub const fn remove(self, other: Self) -> Option<Self> {
        match self.0 & !other.0 {
            0 => None,
            rest => Some(Self(rest)),
        }
    }
}

impl BitOr for Interest {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.add(other)
    }
}

impl BitOrAssign for Interest {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

impl fmt::Debug for Interest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        names(
            formatter,
            &[("READABLE", self.is_readable()), ("WRITABLE", self.is_writable()), ("ERROR", self.is_error())],
        )
    }
}

/// Which operations would not have to wait.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Ready(u8);

impl Ready {
    /// None.
    pub const EMPTY: Self = Self(0);
    /// A read would have a result.
    pub const READABLE: Self = Self(1);
    /// A write would be accepted, or fail.
    pub const WRITABLE: Self = Self(2);
    /// A read would report the end.
    pub const READ_CLOSED: Self = Self(4);
    /// A write would fail.
    pub const WRITE_CLOSED: Self = Self(8);
    /// Something failed. Never reported: a read or a write tells.
    pub const ERROR: Self = Self(16);
    /// All of them.
    pub const ALL: Self = Self(31);

    /// Whether nothing is ready.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether a read would have a result, the end included.
    pub const fn is_readable(self) -> bool {
        self.0 & (Self::READABLE.0 | Self::READ_CLOSED.0) != 0
    }

    /// Whether a write would be accepted, or fail.
    pub const fn is_writable(self) -> bool {
        self.0 & (Self::WRITABLE.0 | Self::WRITE_CLOSED.0) != 0
    }

    /// Whether a read would report the end.
    pub const fn is_read_closed(self) -> bool {
        self.0 & Self::READ_CLOSED.0 != 0
    }

    /// Whether a write would fail.
    pub const fn is_write_closed(self) -> bool {
        self.0 & Self::WRITE_CLOSED.0 != 0
    }

    /// Whether something failed, apart from what a read or a write would tell.
    pub const fn is_error(self) -> bool {
        self.0 & Self::ERROR.0 != 0
    }

    /// Whether all of `other` is in this.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Ready {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Ready {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

impl BitAnd for Ready {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitAndAssign for Ready {
    fn bitand_assign(&mut self, other: Self) {
        *self = *self & other;
    }
}

impl Sub for Ready {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl SubAssign for Ready {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        names(
            formatter,
            &[
                ("READABLE", self.contains(Self::READABLE)),
                ("WRITABLE", self.contains(Self::WRITABLE)),
                ("READ_CLOSED", self.is_read_closed()),
                ("WRITE_CLOSED", self.is_write_closed()),
                ("ERROR", self.is_error()),
            ],
        )
    }
}

fn names(formatter: &mut fmt::Formatter<'_>, flags: &[(&str, bool)]) -> fmt::Result {
    let mut first = true;
    for (name, _) in flags.iter().filter(|(_, set)| *set) {
        if !std::mem::take(&mut first) {
            formatter.write_str(" | ")?;
        }
        formatter.write_str(name)?;
    }
    if first { formatter.write_str("EMPTY") } else { Ok(()) }
}

#[cfg(feature = "tokio")]
mod tokio_conversions {
    use super::{Interest, Ready};

    impl From<tokio::io::Interest> for Interest {
        fn from(interest: tokio::io::Interest) -> Self {
            let flag = |set: bool, flag: Self| if set { flag.0 } else { 0 };
            Self(
                flag(interest.is_readable(), Self::READABLE)
                    | flag(interest.is_writable(), Self::WRITABLE)
                    | flag(interest.is_error(), Self::ERROR),
            )
        }
    }

    impl From<Interest> for tokio::io::Interest {
        fn from(interest: Interest) -> Self {
            [
                (interest.is_readable(), Self::READABLE),
                (interest.is_writable(), Self::WRITABLE),
                (interest.is_error(), Self::ERROR),
            ]
            .into_iter()
            .filter_map(|(set, flag)| set.then_some(flag))
            .reduce(|all, flag| all | flag)
            .unwrap_or(Self::ERROR)
        }
    }

    const PAIRS: [(Ready, tokio::io::Ready); 5] = [
        (Ready::READABLE, tokio::io::Ready::READABLE),
        (Ready::WRITABLE, tokio::io::Ready::WRITABLE),
        (Ready::READ_CLOSED, tokio::io::Ready::READ_CLOSED),
        (Ready::WRITE_CLOSED, tokio::io::Ready::WRITE_CLOSED),
        (Ready::ERROR, tokio::io::Ready::ERROR),
    ];

    impl From<Ready> for tokio::io::Ready {
        fn from(ready: Ready) -> Self {
            PAIRS
                .iter()
                .filter(|(ours, _)| ready.contains(*ours))
                .fold(Self::EMPTY, |all, (_, theirs)| all | *theirs)
        }
    }

    impl From<tokio::io::Ready> for Ready {
        fn from(ready: tokio::io::Ready) -> Self {
            PAIRS
                .iter()
                .filter(|(_, theirs)| ready & *theirs == *theirs)
                .fold(Self::EMPTY, |all, (ours, _)| all | *ours)
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn conversions_go_round() {
            for ready in (0..=Ready::ALL.0).map(Ready) {
                assert_eq!(Ready::from(tokio::io::Ready::from(ready)), ready);
            }
            for interest in (1..=7).map(Interest) {
                assert_eq!(Interest::from(tokio::io::Interest::from(interest)), interest);
            }
        }
    }
}
