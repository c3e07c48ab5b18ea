//! The bytes of a security descriptor in one piece ("self-relative")
//! ([MS-DTYP](https://learn.microsoft.com/openspecs/windows_protocols/ms-dtyp/7d4dac05-9cef-4563-a058-f108abecce1d)). Whatever
//! the bytes are, the answer is a description or none.

use super::{AccessEntry, AccessList, Integrity, Sid};

const DACL_PRESENT: u16 = 0x0004;
const SACL_PRESENT: u16 = 0x0010;
const SELF_RELATIVE: u16 = 0x8000;

// Kinds of entries.
const ACCESS_ALLOWED: u8 = 0;
const ACCESS_DENIED: u8 = 1;
const AUDIT: u8 = 2;
const AUDIT_OBJECT: u8 = 7;
const AUDIT_CALLBACK: u8 = 0x0d;
const AUDIT_CALLBACK_OBJECT: u8 = 0x0f;
const MANDATORY_LABEL: u8 = 0x11;

const INHERIT_ONLY: u8 = 0x08;
/// The accesses that a label may forbid to programs below it: writing, reading, executing.
const LABEL_POLICIES: u32 = 0x7;

/// What a descriptor says.
pub(super) struct Parts {
    pub(super) owner: Option<Sid>,
    pub(super) group: Option<Sid>,
    pub(super) access_list: AccessList,
    pub(super) system_list: SystemList,
}

/// The second list of a descriptor (SACL), by what kinds of entries it has. `default()`: there is
/// no list.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct SystemList {
    pub(super) integrity: Option<Integrity>,
    /// It has a label, or is empty: then there is to be none.
    pub(super) covers_label: bool,
    /// It has entries that audit, or is empty: then there are to be none.
    pub(super) covers_audits: bool,
    /// It has a label that Windows would not obey, or more than one.
    pub(super) has_invalid_label: bool,
    /// It has entries of other kinds, such as attributes of resources.
    pub(super) has_others: bool,
}

/// `None`: malformed.
pub(super) fn decode(bytes: &[u8]) -> Option<Parts> {
    let control = u16_at(bytes, 2)?;
    if bytes[0] != 1 || control & SELF_RELATIVE == 0 {
        return None;
    }
    Some(Parts {
        owner: optional_sid(bytes, 4).ok()?,
        group: optional_sid(bytes, 8).ok()?,
        access_list: if control & DACL_PRESENT == 0 {
            AccessList::Unspecified
        } else {
            access_list(bytes, u32_at(bytes, 16)?)?
        },
        system_list: if control & SACL_PRESENT == 0 {
            SystemList::default()
        } else {
            system_list(bytes, u32_at(bytes, 12)?)?
        },
    })
}

struct Malformed;

/// The identifier to which an offset at `place` leads, if there is one.
fn optional_sid(bytes: &[u8], place: usize) -> Result<Option<Sid>, Malformed> {
    match u32_at(bytes, place).ok_or(Malformed)? {
        0 => Ok(None),
        offset => from(bytes, offset).and_then(Sid::decode).map(Some).ok_or(Malformed),
    }
}

fn access_list(bytes: &[u8], offset: u32) -> Option<AccessList> {
    if offset == 0 {
        return Some(AccessList::Everyone);
    }
    entries(from(bytes, offset)?)?.into_iter().map(entry).collect::<Option<_>>().map(AccessList::Entries)
}

fn system_list(bytes: &[u8], offset: u32) -> Option<SystemList> {
    let entries = if offset == 0 { Vec::new() } else { entries(from(bytes, offset)?)? };
    let is_empty = entries.is_empty();
    let mut list = SystemList { covers_label: is_empty, covers_audits: is_empty, ..SystemList::default() };
    for entry in entries {
        let &[kind, flags, ..] = entry else { return None };
        match kind {
            AUDIT | AUDIT_OBJECT | AUDIT_CALLBACK | AUDIT_CALLBACK_OBJECT => list.covers_audits = true,
            MANDATORY_LABEL => {
                let policies = u32_at(entry, 4)?;
                let label = Integrity::of(&Sid::decode(entry.get(8..)?)?);
                let is_obeyed =
                    label.is_some() && policies & !LABEL_POLICIES == 0 && flags & INHERIT_ONLY == 0;
                list.has_invalid_label |= !is_obeyed || list.covers_label;
                list.covers_label = true;
                list.integrity = list.integrity.or(label.filter(|_| is_obeyed));
            }
            _ => list.has_others = true,
        }
    }
    Some(list)
}

/// The bytes of each entry of a list.
fn entries(list: &[u8]) -> Option<Vec<&[u8]>> {
    let (size, count) = (u16_at(list, 2)?, u16_at(list, 4)?);
    let mut rest = list.get(8..size.into())?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let size = u16_at(rest, 2)?.into();
        entries.push(rest.get(..size)?);
        rest = &rest[size..];
    }
    Some(entries)
}

fn entry(bytes: &[u8]) -> Option<AccessEntry> {
    let &[kind, flags, ..] = bytes else { return None };
    if flags & INHERIT_ONLY != 0 || !matches!(kind, ACCESS_ALLOWED | ACCESS_DENIED) {
        return Some(AccessEntry::Other { kind });
    }
    let (mask, trustee) = (u32_at(bytes, 4)?, Sid::decode(bytes.get(8..)?)?);
    Some(if kind == ACCESS_ALLOWED {
        AccessEntry::Allow { trustee, mask }
    } else {
        AccessEntry::Deny { trustee, mask }
    })
}

fn from(bytes: &[u8], offset: u32) -> Option<&[u8]> {
    bytes.get(usize::try_from(offset).ok()?..)
}

fn u16_at(bytes: &[u8], place: usize) -> Option<u16> {
    bytes.get(place..)?.first_chunk().copied().map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], place: usize) -> Option<u32> {
    bytes.get(place..)?.first_chunk().copied().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `O:BAG:SYD:(A;;FA;;;SY)(D;;FR;;;WD)(A;IO;FR;;;WD)(XA;..)`, put together by hand from the
    /// published layout.
    fn recorded() -> Vec<u8> {
        let mut bytes = vec![1, 0, 4, 0x80];
        for offset in [20_u32, 36, 0, 48] {
            bytes.extend(offset.to_le_bytes());
        }
        bytes.extend([1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x20, 2, 0, 0]);
        bytes.extend([1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0]);
        bytes.extend([2, 0, 8 + 3 * 20 + 8, 0, 4, 0, 0, 0]);
        bytes.extend([0, 0, 20, 0, 0xff, 0x01, 0x1f, 0, 1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0]);
        bytes.extend([1, 0, 20, 0, 0x89, 0x00, 0x12, 0, 1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
        bytes.extend([0, 8, 20, 0, 0x89, 0x00, 0x12, 0, 1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
        bytes.extend([9, 0, 8, 0, 0, 0, 0, 0]);
        bytes
    }

    fn sid(text: &str) -> impl Fn(&Sid) -> bool {
        move |sid| sid.to_string() == text
    }

    #[test]
    fn every_part_is_found() {
        let parts = decode(&recorded()).unwrap();
        assert!(parts.owner.is_some_and(|owner| sid("S-1-5-32-544")(&owner)));
        assert!(parts.group.is_some_and(|group| sid("S-1-5-18")(&group)));
        let AccessList::Entries(entries) = parts.access_list else { panic!("there are entries") };
        let [
            AccessEntry::Allow { trustee, mask: 0x1f01ff },
            AccessEntry::Deny { trustee: refused, mask: 0x120089 },
            rest @ ..,
        ] = entries.as_slice()
        else {
            panic!("{entries:?}")
        };
        assert!(sid("S-1-5-18")(trustee) && sid("S-1-1-0")(refused));
        assert_eq!(rest, [AccessEntry::Other { kind: 0 }, AccessEntry::Other { kind: 9 }]);
    }

    /// Three that must not be taken for each other: nobody said, everyone may, nobody may.
    #[test]
    fn no_list_a_null_list_and_an_empty_list_are_told_apart() {
        let list = |control: [u8; 2], offset: u8, list: &[u8]| {
            let mut bytes =
                vec![1, 0, control[0], control[1], 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, offset, 0, 0, 0];
            bytes.extend(list);
            decode(&bytes).unwrap().access_list
        };
        assert_eq!(list([0, 0x80], 0, &[]), AccessList::Unspecified);
        assert_eq!(list([4, 0x80], 0, &[]), AccessList::Everyone);
        assert_eq!(list([4, 0x80], 20, &[2, 0, 8, 0, 0, 0, 0, 0]), AccessList::Entries(Vec::new()));
    }

    #[test]
    fn the_integrity_label_is_found_behind_audit_entries() {
        let mut bytes = vec![1, 0, 0x10, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend([2, 0, 8 + 2 * 20, 0, 2, 0, 0, 0]);
        bytes.extend([2, 0x40, 20, 0, 0xff, 0x01, 0x1f, 0, 1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
        bytes.extend([0x11, 0, 20, 0, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 16, 0, 0x10, 0, 0]);
        assert_eq!(decode(&bytes).unwrap().system_list.integrity, Some(Integrity::Low));
        bytes[2] = 0;
        assert_eq!(decode(&bytes).unwrap().system_list, SystemList::default(), "the list is not there");
    }

    /// A descriptor with a second list of these entries: kind, flags, mask, and the authority and
    /// number of the SID.
    fn system_list_of(entries: &[(u8, u8, u32, u8, u32)]) -> SystemList {
        let mut bytes = vec![1, 0, 0x10, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend([2, 0, 8 + entries.len() as u8 * 20, 0, entries.len() as u8, 0, 0, 0]);
        for (kind, flags, mask, authority, number) in entries {
            bytes.extend([*kind, *flags, 20, 0]);
            bytes.extend(mask.to_le_bytes());
            bytes.extend([1, 1, 0, 0, 0, 0, 0, *authority]);
            bytes.extend(number.to_le_bytes());
        }
        decode(&bytes).unwrap().system_list
    }

    #[test]
    fn the_second_list_is_classified_by_the_kinds_of_its_entries() {
        let audit = |kind| (kind, 0x40, 0x1f01ff, 1, 0);
        let label = |policies, number| (MANDATORY_LABEL, 0, policies, 16, number);
        let attribute = (0x12, 0, 0, 1, 0);
        for kind in [AUDIT, AUDIT_OBJECT, AUDIT_CALLBACK, AUDIT_CALLBACK_OBJECT] {
            let expected = SystemList { covers_audits: true, ..SystemList::default() };
            assert_eq!(system_list_of(&[audit(kind)]), expected, "kind {kind}");
        }
        for policies in 0..=7 {
            let low =
                SystemList { integrity: Some(Integrity::Low), covers_label: true, ..SystemList::default() };
            assert_eq!(system_list_of(&[label(policies, 0x1000)]), low, "policies {policies}");
            let both = SystemList { covers_audits: true, ..low };
            assert_eq!(system_list_of(&[label(policies, 0x1000), audit(AUDIT)]), both);
            assert_eq!(system_list_of(&[audit(AUDIT), label(policies, 0x1000)]), both);
            let all = SystemList { has_others: true, ..both };
            assert_eq!(system_list_of(&[attribute, audit(AUDIT), label(policies, 0x1000)]), all);
        }
        for kind in [3, 8, 0x12, 0x13, 0x14, 0x15, 0xff] {
            let others = SystemList { has_others: true, ..SystemList::default() };
            assert_eq!(system_list_of(&[audit(kind)]), others, "kind {kind}");
        }
        let nothing = SystemList { covers_label: true, covers_audits: true, ..SystemList::default() };
        assert_eq!(system_list_of(&[]), nothing, "an empty list asks for no entries");
    }

    #[test]
    fn a_label_that_windows_would_not_obey_is_invalid() {
        for (what, entries) in [
            ("an unknown policy", vec![(MANDATORY_LABEL, 0, 0x8, 16, 0x1000)]),
            ("a policy beyond known ones", vec![(MANDATORY_LABEL, 0, 0x1f01ff, 16, 0x1000)]),
            ("for children only", vec![(MANDATORY_LABEL, INHERIT_ONLY | 0x3, 1, 16, 0x1000)]),
            ("an account", vec![(MANDATORY_LABEL, 0, 1, 5, 18)]),
            ("two", vec![(MANDATORY_LABEL, 0, 1, 16, 0x1000), (MANDATORY_LABEL, 0, 1, 16, 0x3000)]),
        ] {
            let list = system_list_of(&entries);
            assert!(list.has_invalid_label && list.covers_label, "{what}: {list:?}");
        }
    }

    #[test]
    fn no_prefix_is_taken_for_the_whole() {
        let bytes = recorded();
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_none(), "the first {length} bytes");
        }
    }

    proptest! {
        #[test]
        fn damage_does_no_harm(place in 0..128_usize, value: u8, tail in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut bytes = recorded();
            let place = place % bytes.len();
            bytes[place] = value;
            bytes.extend(tail);
            let _ = decode(&bytes);
        }

        #[test]
        fn any_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = decode(&bytes);
        }
    }
}
