//! The bytes of a security descriptor in one piece ("self-relative")
//! ([MS-DTYP](https://learn.microsoft.com/openspecs/windows_protocols/ms-dtyp/7d4dac05-9cef-4563-a058-f108abecce1d)). Whatever
//! the bytes are, the answer is a description or none.

use super::{AccessEntry, AccessList, Integrity, Sid};

const DACL_PRESENT: u16 = 0x0004;
const SACL_PRESENT: u16 = 0x0010;
const SELF_RELATIVE: u16 = 0x8000;

const ACCESS_ALLOWED: u8 = 0;
const ACCESS_DENIED: u8 = 1;
const MANDATORY_LABEL: u8 = 0x11;
const INHERIT_ONLY: u8 = 0x08;

/// What a descriptor says.
pub(super) struct Parts {
    pub(super) owner: Option<Sid>,
    pub(super) group: Option<Sid>,
    pub(super) access_list: AccessList,
    pub(super) integrity: Option<Integrity>,
}

/// `None`: malformed.
pub(super) fn decode(bytes: &[u8]) -> Option<Parts> {
    let control = u16_at(bytes, 2)?;
    if bytes[0] != 1 || control & SELF_RELATIVE == 0 {
        return None;
    }
    Some(Parts {
        owner: optional_sid(bytes, 4)?,
        group: optional_sid(bytes, 8)?,
        access_list: if control & DACL_PRESENT == 0 {
            AccessList::Unspecified
        } else {
            access_list(bytes, u32_at(bytes, 16)?)?
        },
        integrity: if control & SACL_PRESENT == 0 { None } else { integrity(bytes, u32_at(bytes, 12)?)? },
    })
}

/// The identifier to which an offset at `place` leads, if it leads anywhere.
fn optional_sid(bytes: &[u8], place: usize) -> Option<Option<Sid>> {
    match u32_at(bytes, place)? {
        0 => Some(None),
        offset => Sid::decode(from(bytes, offset)?).map(Some),
    }
}

fn access_list(bytes: &[u8], offset: u32) -> Option<AccessList> {
    if offset == 0 {
        return Some(AccessList::Everyone);
    }
    entries(from(bytes, offset)?)?.into_iter().map(entry).collect::<Option<_>>().map(AccessList::Entries)
}

/// The label, if there is one among the entries of the audit list.
fn integrity(bytes: &[u8], offset: u32) -> Option<Option<Integrity>> {
    if offset == 0 {
        return Some(None);
    }
    let entries = entries(from(bytes, offset)?)?;
    let Some(label) = entries.into_iter().find(|entry| entry.first() == Some(&MANDATORY_LABEL)) else {
        return Some(None);
    };
    Some(Integrity::of(&Sid::decode(label.get(8..)?)?))
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

    /// `O:BAG:SYD:(A;;FA;;;SY)(D;;FR;;;WD)(A;IO;FR;;;WD)(XA;..)`, put together by hand from the published layout.
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
        assert_eq!(decode(&bytes).unwrap().integrity, Some(Integrity::Low));
        bytes[2] = 0;
        assert_eq!(decode(&bytes).unwrap().integrity, None, "the list is not there");
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
