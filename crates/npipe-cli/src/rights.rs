//! What the bits of an access mask allow on a pipe, by name: for people and for scripts. It knows
//! no system.

/// Each right, with the bits that it takes and its words. Generic bits count as what they stand for
/// on a pipe ([rights of pipes](https://learn.microsoft.com/windows/win32/ipc/named-pipe-security-and-access-rights)).
const RIGHTS: [(u32, &str, &str); 7] = [
    (0x0000_0001, "read", "read"),
    (0x0000_0002, "write", "write"),
    (0x0000_0004, "add_instances", "serve the name too"),
    (0x0004_0000, "change_access", "change this list"),
    (0x0008_0000, "change_owner", "become the owner"),
    (0x0001_0000, "delete", "delete"),
    (0x0002_0000, "look", "look at this list"),
];

/// `FILE_ALL_ACCESS`.
const EVERYTHING: u32 = 0x001f_01ff;
/// `FILE_GENERIC_READ`, `_WRITE` and `_EXECUTE`.
const READING: u32 = 0x0012_0089;
const WRITING: u32 = 0x0012_0116;
const EXECUTING: u32 = 0x0012_00a0;

const GENERIC: [(u32, u32); 4] =
    [(0x8000_0000, READING), (0x4000_0000, WRITING), (0x2000_0000, EXECUTING), (0x1000_0000, EVERYTHING)];

fn specific(mask: u32) -> u32 {
    let meant = GENERIC.iter().filter(|(bit, _)| mask & bit != 0);
    meant.fold(mask & 0x0fff_ffff, |mask, (_, bits)| mask | bits)
}

/// The names that scripts test.
pub(crate) fn names(mask: u32) -> Vec<&'static str> {
    let mask = specific(mask);
    RIGHTS.iter().filter(|(bit, ..)| mask & bit != 0).map(|(_, name, _)| *name).collect()
}

/// A phrase for people: what follows "may".
pub(crate) fn words(mask: u32) -> String {
    let mask = specific(mask);
    if mask & EVERYTHING == EVERYTHING {
        return "everything".to_owned();
    }
    let mut words: Vec<&str> =
        RIGHTS.iter().filter(|(bit, ..)| mask & bit != 0).map(|(.., words)| *words).collect();
    // Looking comes with nearly everything: it is of interest where nothing else is there.
    if words.len() > 1 {
        words.retain(|words| *words != "look at this list");
    }
    match words.as_slice() {
        [] => format!("nothing of use ({mask:#x})"),
        words => words.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::{names, words};

    #[test]
    fn common_masks_have_their_words() {
        for (mask, expected) in [
            (0x001f_01ff, "everything"),
            (0x1000_0000, "everything"),
            (0x0012_0089, "read"),
            (0x8000_0000, "read"),
            (0x0012_019b, "read, write"),
            (0x0012_019f, "read, write, serve the name too"),
            (0xc000_0000, "read, write, serve the name too"),
            (0x000e_0000, "change this list, become the owner"),
            (0x0002_0000, "look at this list"),
            (0x0010_0080, "nothing of use (0x100080)"),
        ] {
            assert_eq!(words(mask), expected, "{mask:#x}");
        }
    }

    /// The one that people overlook: generic writing lets its owner serve the name.
    #[test]
    fn scripts_find_each_right_by_name() {
        assert_eq!(names(0x4000_0000), ["write", "add_instances", "look"]);
        assert_eq!(names(0x0012_019b), ["read", "write", "look"]);
        assert_eq!(names(0x1000_0000).len(), 7);
        assert!(names(0).is_empty());
    }
}
