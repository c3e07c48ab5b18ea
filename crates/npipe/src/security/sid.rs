//! Accounts and groups, as the system numbers them.

use std::fmt;
use std::io;
use std::str::FromStr;

/// The security identifier of an account or a group, such as `S-1-5-18`, the system itself. Parsed
/// from that text, or had from a [`SecurityDescriptor`](crate::SecurityDescriptor), a
/// [`Peer`](crate::Peer) or a [`Trustee`](crate::Trustee).
#[derive(Clone, PartialEq, Eq, Hash)]
#[doc(alias = "PSID")]
pub struct Sid {
    authority: u64,
    /// At most [`LONGEST`](Self::LONGEST).
    sub_authorities: Vec<u32>,
}

impl Sid {
    /// `SID_MAX_SUB_AUTHORITIES`.
    const LONGEST: usize = 15;

    /// The one that `bytes` begin with
    /// ([layout](https://learn.microsoft.com/openspecs/windows_protocols/ms-dtyp/f992ad60-0fe4-4b87-9fed-beb478836861)).
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (header, rest) = bytes.split_first_chunk::<8>()?;
        let [revision, count, authority @ ..] = header;
        let count = usize::from(*count);
        if *revision != 1 || count > Self::LONGEST {
            return None;
        }
        let authority = authority.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        let words = rest.get(..count * 4)?.chunks_exact(4);
        let sub_authorities =
            words.map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect();
        Some(Self { authority, sub_authorities })
    }

    /// The one that the system gave.
    pub(crate) fn of_system(bytes: &[u8]) -> io::Result<Self> {
        Self::decode(bytes).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "the system gave a malformed security identifier")
        })
    }

    pub(super) fn new(authority: u64, sub_authorities: &[u32]) -> Self {
        Self { authority, sub_authorities: sub_authorities.to_vec() }
    }

    pub(super) fn authority(&self) -> u64 {
        self.authority
    }

    pub(super) fn sub_authorities(&self) -> &[u32] {
        &self.sub_authorities
    }

    /// Whether the user of a thread's token is this account, or in this group with it enabled.
    #[cfg(windows)]
    pub(crate) fn has_member(&self, token: &crate::sys::OwnedHandle) -> io::Result<bool> {
        crate::sys::is_member(token, self.authority, &self.sub_authorities)
    }

    /// Returns the identifier of an account or a group by its name: `alice`, `DOMAIN\alice`,
    /// `alice@example.com`, `NT SERVICE\acme` for a service that exists, `BUILTIN\Users`.
    /// Built-in names depend on the language of Windows: for those, a [`Trustee`](crate::Trustee)
    /// or the number is better.
    ///
    /// ```no_run
    /// use npipe::{Access, SecurityDescriptor, Sid, Trustee};
    ///
    /// let descriptor = SecurityDescriptor::builder()
    ///     .allow(Trustee::CurrentUser, Access::Full)
    ///     .allow(Sid::of_account(r"NT SERVICE\acme")?, Access::Connect)
    ///     .build()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// Calls [`LookupAccountNameW`](https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-lookupaccountnamew), which
    /// asks other machines for names that this one does not know, and so may take seconds. It
    /// blocks the calling thread. Where a user and a machine have the same name, add the domain.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput), before any system call, for an empty name,
    /// which would mean the machine's own domain, and for one with a NUL character.
    /// `ERROR_NONE_MAPPED` when no account has the name.
    #[cfg(windows)]
    pub fn of_account(name: &str) -> io::Result<Self> {
        if name.is_empty() || name.contains('\0') {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the name of an account is not empty and has no NUL character",
            ));
        }
        Self::of_system(&crate::sys::sid_of_account(name)?)
    }

    /// The account's name, with its domain: `NT AUTHORITY\SYSTEM`.
    ///
    /// Calls [`LookupAccountSidW`](https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-lookupaccountsidw), which
    /// asks other machines for accounts that this one does not know, and so may take seconds. It
    /// blocks the calling thread.
    ///
    /// # Errors
    ///
    /// The system's: `ERROR_NONE_MAPPED` when nobody knows a name, as of accounts that have been
    /// deleted.
    #[cfg(windows)]
    pub fn account_name(&self) -> io::Result<String> {
        crate::sys::account_name(self.authority, &self.sub_authorities)
    }
}

impl fmt::Display for Sid {
    /// The usual text: `S-1-5-32-544`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.authority > u32::MAX.into() {
            write!(formatter, "S-1-{:#014x}", self.authority)?;
        } else {
            write!(formatter, "S-1-{}", self.authority)?;
        }
        self.sub_authorities.iter().try_for_each(|number| write!(formatter, "-{number}"))
    }
}

impl FromStr for Sid {
    type Err = io::Error;

    /// Reads the usual text: `S-1-5-32-544`.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for anything else.
    fn from_str(text: &str) -> io::Result<Self> {
        parse(text).ok_or_else(|| {
            let why = format!("{text:?} is no security identifier, which looks like S-1-5-32-544");
            io::Error::new(io::ErrorKind::InvalidInput, why)
        })
    }
}

fn parse(text: &str) -> Option<Sid> {
    const LARGEST_AUTHORITY: u64 = (1 << 48) - 1;
    let mut parts = text.strip_prefix("S-1-").or_else(|| text.strip_prefix("s-1-"))?.split('-');
    let authority = parts.next()?;
    let authority = match authority.strip_prefix("0x") {
        Some(digits) => number(digits, 16)?,
        None => number(authority, 10)?,
    };
    let sub_authorities: Vec<u32> =
        parts.map(|part| number(part, 10)?.try_into().ok()).collect::<Option<_>>()?;
    (authority <= LARGEST_AUTHORITY && sub_authorities.len() <= Sid::LONGEST)
        .then_some(Sid { authority, sub_authorities })
}

/// Digits only: the standard library's parser takes a sign too.
fn number(digits: &str, radix: u32) -> Option<u64> {
    digits.chars().all(|digit| digit.is_digit(radix)).then(|| u64::from_str_radix(digits, radix).ok())?
}

impl fmt::Debug for Sid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Sid({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::Sid;

    fn text(bytes: &[u8]) -> Option<String> {
        Sid::decode(bytes).map(|sid| sid.to_string())
    }

    #[test]
    fn known_identifiers_have_their_usual_text() {
        assert_eq!(text(&[1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]).unwrap(), "S-1-1-0");
        let administrators = [1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x20, 2, 0, 0];
        assert_eq!(text(&administrators).unwrap(), "S-1-5-32-544");
        assert_eq!(text(&[1, 0, 1, 2, 3, 4, 5, 6]).unwrap(), "S-1-0x010203040506");
    }

    #[test]
    fn text_is_read_as_it_is_written() {
        for text in
            ["S-1-1-0", "S-1-5-32-544", "S-1-0x010203040506", "S-1-15-2-1", "S-1-5-21-4294967295-2-3-1001"]
        {
            assert_eq!(text.parse::<Sid>().unwrap().to_string(), text);
        }
        assert_eq!("s-1-5-18".parse::<Sid>().unwrap().to_string(), "S-1-5-18");
        let long = format!("S-1-5{}", "-1".repeat(15));
        assert_eq!(long.parse::<Sid>().unwrap().to_string(), long);
    }

    #[test]
    fn other_text_is_refused() {
        let too_long = format!("S-1-5{}", "-1".repeat(16));
        for text in [
            "",
            "S-1",
            "S-1-",
            "S-2-5-18",
            "S-1-5-",
            "S-1-5-+1",
            "S-1--5",
            "S-1-5-4294967296",
            "S-1-281474976710656",
            "S-1-0xg",
            "SYSTEM",
            "S-1-5-18 ",
            &too_long,
        ] {
            let error = text.parse::<Sid>().expect_err(text);
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{text}");
        }
    }

    #[test]
    fn what_is_cut_short_or_of_another_kind_is_none() {
        assert_eq!(text(&[]), None);
        assert_eq!(text(&[1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0]), None, "cut short");
        assert_eq!(text(&[2, 0, 0, 0, 0, 0, 0, 5]), None, "another revision");
        let mut too_long = [0; 8 + 16 * 4];
        too_long[..2].copy_from_slice(&[1, 16]);
        assert_eq!(text(&too_long), None, "more than a SID may have");
    }
}
