//! The list of pipes.

use npipe::{PipeEntry, ServerOptions};
use windows_sys::Win32::Foundation::ERROR_BAD_DEV_TYPE;

use crate::harness::{assert_os_error, skipped_under_wine, unique_name};

#[test]
fn pipes_are_listed_with_their_instances_or_the_system_refuses() {
    let limited = unique_name();
    let mut options = ServerOptions::new();
    let _servers = [(); 2].map(|()| options.max_instances(9).create(&limited).unwrap());
    let unlimited = unique_name();
    let _server = ServerOptions::new().create(&unlimited).unwrap();
    let listed = npipe::list_pipes();
    if skipped_under_wine("directory::pipes_are_listed", "there is no directory of pipes, which is said") {
        assert_os_error(listed, ERROR_BAD_DEV_TYPE, "Wine has no directory of pipes");
        return;
    }
    let listed = listed.unwrap();
    let numbers = |name: &str| {
        let short = name.trim_start_matches(r"\\.\pipe\");
        let found: Vec<&PipeEntry> = listed.iter().filter(|pipe| pipe.name == short).collect();
        assert_eq!(found.len(), 1, "{name} in {listed:?}");
        (found[0].instances, found[0].max_instances)
    };
    assert_eq!(numbers(&limited), (2, Some(9)));
    assert_eq!(numbers(&unlimited), (1, None));
}
