//! The pipes that there are. Their file system reads as a directory, whose entries have numbers of
//! instances where files have sizes. What the system wrote is decoded here, without the system, so
//! that any bytes can be shown to do no harm.

#[cfg(windows)]
use std::io;

/// A pipe as the directory of pipes has it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PipeEntry {
    /// The name, without `\\.\pipe\`. It may have further backslashes in it. A unit that is no
    /// character shows as U+FFFD.
    pub name: String,
    /// How many instances exist, with a client or without.
    pub instances: u32,
    /// How many there may be; `None` is any number.
    pub max_instances: Option<u32>,
}

/// The pipes of this machine, in no particular order. No pipe is opened for that, and no server
/// notices.
///
/// ```no_run
/// for pipe in npipe::list_pipes()? {
///     println!("{} has {} instances", pipe.name, pipe.instances);
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Calls
/// [`NtQueryDirectoryFile`](https://learn.microsoft.com/windows-hardware/drivers/ddi/ntifs/nf-ntifs-ntquerydirectoryfile) on
/// the directory of pipes. That this can be done, and what the numbers mean, Microsoft's program
/// [PipeList](https://learn.microsoft.com/sysinternals/downloads/pipelist) shows and no reference says.
///
/// # Errors
///
/// The system's. Wine has no directory of pipes, and says so with `ERROR_BAD_DEV_TYPE`.
/// [`InvalidData`](io::ErrorKind::InvalidData) if the system's answer cannot be understood.
#[cfg(windows)]
pub fn list_pipes() -> io::Result<Vec<PipeEntry>> {
    let directory = crate::sys::open_pipe_directory()?;
    let mut buffer = vec![0; 64 * 1024 / size_of::<u64>()];
    let mut pipes = Vec::new();
    while let Some(entries) = crate::sys::next_pipes(&directory, &mut buffer)? {
        let malformed =
            || io::Error::new(io::ErrorKind::InvalidData, "the system gave a malformed list of pipes");
        decode(entries, &mut pipes).ok_or_else(malformed)?;
    }
    Ok(pipes)
}

/// What stands for any number of instances.
const UNLIMITED: u32 = u32::MAX;

// Offsets in FILE_DIRECTORY_INFORMATION
// (https://learn.microsoft.com/windows-hardware/drivers/ddi/ntifs/ns-ntifs-_file_directory_information).
const NEXT_ENTRY_OFFSET: usize = 0;
const END_OF_FILE: usize = 40;
const ALLOCATION_SIZE: usize = 48;
const FILE_NAME_LENGTH: usize = 60;
const FILE_NAME: usize = 64;

/// Adds the entries in `bytes`. `None`: malformed.
fn decode(mut bytes: &[u8], pipes: &mut Vec<PipeEntry>) -> Option<()> {
    loop {
        let length = usize::try_from(u32_at(bytes, FILE_NAME_LENGTH)?).ok()?;
        let units = bytes.get(FILE_NAME..)?.get(..length)?.chunks_exact(2);
        let name = units.map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
        // Of both numbers the lower half counts: the system leaves the upper one as it is.
        let max_instances = u32_at(bytes, ALLOCATION_SIZE)?;
        pipes.push(PipeEntry {
            name: char::decode_utf16(name).map(|char| char.unwrap_or(char::REPLACEMENT_CHARACTER)).collect(),
            instances: u32_at(bytes, END_OF_FILE)?,
            max_instances: (max_instances != UNLIMITED).then_some(max_instances),
        });
        match usize::try_from(u32_at(bytes, NEXT_ENTRY_OFFSET)?).ok()? {
            0 => return Some(()),
            // Entries that overlap could be as many as there are bytes, each as long as the rest of them.
            next if next < FILE_NAME + length => return None,
            next => bytes = bytes.get(next..)?,
        }
    }
}

fn u32_at(bytes: &[u8], place: usize) -> Option<u32> {
    bytes.get(place..)?.first_chunk().copied().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{FILE_NAME, PipeEntry, decode};

    /// An entry as the system lays it out; what pipes do not have is filled with what must not be
    /// looked at.
    fn entry(next: u32, name: &[u16], instances: u64, max_instances: u64) -> Vec<u8> {
        let mut bytes = next.to_le_bytes().to_vec();
        bytes.extend([0xee; 36]);
        bytes.extend(instances.to_le_bytes());
        bytes.extend(max_instances.to_le_bytes());
        bytes.extend(128_u32.to_le_bytes());
        bytes.extend((2 * name.len() as u32).to_le_bytes());
        assert_eq!(bytes.len(), FILE_NAME);
        bytes.extend(name.iter().flat_map(|unit| unit.to_le_bytes()));
        bytes
    }

    /// Several, each at a multiple of eight bytes.
    fn listing(pipes: &[(&str, u64, u64)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (number, (name, instances, max_instances)) in pipes.iter().enumerate() {
            let name: Vec<u16> = name.encode_utf16().collect();
            let size = (FILE_NAME + 2 * name.len()).next_multiple_of(8);
            let next = if number + 1 == pipes.len() { 0 } else { size as u32 };
            bytes.extend(entry(next, &name, *instances, *max_instances));
            bytes.resize(bytes.len().next_multiple_of(8), 0xee);
        }
        bytes
    }

    fn decoded(bytes: &[u8]) -> Option<Vec<PipeEntry>> {
        let mut pipes = Vec::new();
        decode(bytes, &mut pipes).map(|()| pipes)
    }

    fn recorded() -> Vec<u8> {
        listing(&[
            ("InitShutdown", 3, 0xffff_ffff),
            ("docker_engine", 14, 0xffff_ffff_ffff_ffff),
            (r"Winsock2\CatalogChangeListener-3c4-0", 1, 1),
            ("größe", 2, 254),
        ])
    }

    #[test]
    fn every_pipe_of_a_listing_is_found() {
        let pipe =
            |name: &str, instances, max_instances| PipeEntry { name: name.into(), instances, max_instances };
        let expected = [
            pipe("InitShutdown", 3, None),
            pipe("docker_engine", 14, None),
            pipe(r"Winsock2\CatalogChangeListener-3c4-0", 1, Some(1)),
            pipe("größe", 2, Some(254)),
        ];
        assert_eq!(decoded(&recorded()).unwrap(), expected);
    }

    #[test]
    fn a_name_is_what_the_system_says_it_is() {
        assert_eq!(decoded(&entry(0, &[], 1, 1)).unwrap()[0].name, "");
        assert_eq!(decoded(&entry(0, &[0x61, 0xd800, 0x62], 1, 1)).unwrap()[0].name, "a\u{fffd}b");
    }

    #[test]
    fn offsets_that_lead_nowhere_are_refused() {
        let name = [0x61; 4];
        for next in [1, 8, 64, 71, 72, 80, u32::MAX] {
            assert_eq!(decoded(&entry(next, &name, 1, 1)), None, "{next}");
        }
    }

    #[test]
    fn entries_that_overlap_are_refused() {
        // The zeros of this name would be an entry themselves: the last, without a name.
        let name = [0; 100];
        assert!(decoded(&entry(0, &name, 1, 1)).is_some());
        assert_eq!(decoded(&entry(FILE_NAME as u32, &name, 1, 1)), None);
    }

    #[test]
    fn no_prefix_is_taken_for_the_whole() {
        let bytes = listing(&[("one", 1, 1), ("four", 2, 2)]);
        for length in 0..bytes.len() {
            assert_eq!(decoded(&bytes[..length]), None, "the first {length} bytes");
        }
    }

    /// Built from code units, because Miri takes minutes for Unicode-aware strategies.
    fn names() -> impl Strategy<Value = String> {
        prop::collection::vec(any::<u16>(), 0..40).prop_map(|units| String::from_utf16_lossy(&units))
    }

    proptest! {
        #[test]
        fn damage_does_no_harm(place in 0..1024_usize, value: u32) {
            let mut bytes = recorded();
            let place = place % (bytes.len() - 4);
            bytes[place..place + 4].copy_from_slice(&value.to_le_bytes());
            // As many entries as there is room for, whatever the offsets say.
            prop_assert!(decoded(&bytes).unwrap_or_default().len() <= bytes.len() / FILE_NAME);
        }

        #[test]
        fn any_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            let _ = decoded(&bytes);
        }

        #[test]
        fn any_names_and_numbers_come_out_as_they_went_in(
            pipes in prop::collection::vec((names(), any::<u32>(), any::<u32>()), 1..if cfg!(miri) { 4 } else { 20 })
        ) {
            let given: Vec<_> = pipes.iter().map(|(name, now, most)| (name.as_str(), (*now).into(), (*most).into())).collect();
            let found = decoded(&listing(&given)).unwrap();
            let found = found.iter().map(|pipe| (pipe.name.clone(), pipe.instances, pipe.max_instances.unwrap_or(u32::MAX)));
            prop_assert_eq!(found.collect::<Vec<_>>(), pipes);
        }
    }
}
