//! npiperelay's flags within npipe's own commands: what does the same there. It is asked when a
//! command line is refused anyway. npiperelay's own command line is understood: see `npiperelay`.

use std::ffi::OsString;

use crate::npiperelay;

/// Returns what to write instead of a flag of npiperelay, for a command line that is refused. The
/// program comes first.
pub(crate) fn suggestion(arguments: &[OsString]) -> Option<String> {
    let words: Vec<_> = arguments.iter().skip(1).filter_map(|word| word.to_str()).collect();
    let command = words.iter().position(|word| !word.starts_with('-'));
    match command.map(|place| words.split_at(place)) {
        Some((_, ["connect", rest @ ..])) => flag_of_npiperelay(rest, |flag| match flag {
            npiperelay::ASSUAN => Some("npipe forward stdio assuan:FILE".to_owned()),
            npiperelay::LIMIT => Some("npipe connect --poll --poll-limit 300".to_owned()),
            flag => match npiperelay::FLAGS.iter().find(|(theirs, _)| *theirs == flag)?.1 {
                [] => Some("npipe connect, which always does so".to_owned()),
                ours => Some(format!("npipe connect {}", ours.join(" "))),
            },
        }),
        Some((_, ["forward", rest @ ..])) => flag_of_npiperelay(rest, |flag| match flag {
            "p" => Some("npipe forward --poll".to_owned()),
            "s" | "ei" | "ep" | "bg" => Some("npipe forward, which always does so".to_owned()),
            npiperelay::ASSUAN => Some("npipe forward LISTEN assuan:FILE".to_owned()),
            npiperelay::LIMIT => Some("npipe forward --poll --poll-deadline SECONDS".to_owned()),
            _ => None,
        }),
        _ => None,
    }
}

/// Go reads one dash and two alike, and has no short flags that can be joined.
fn flag_of_npiperelay(words: &[&str], ours: impl Fn(&str) -> Option<String>) -> Option<String> {
    words.iter().find_map(|word| {
        let flag = word.strip_prefix('-')?;
        let flag = flag.strip_prefix('-').unwrap_or(flag);
        let flag = flag.split('=').next().unwrap_or(flag);
        let ours = ours(flag).filter(|_| flag != "v")?;
        Some(format!("{word} belongs to npiperelay; here it is: {ours}"))
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::suggestion;

    fn words(line: &str) -> Option<String> {
        suggestion(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn flags_of_npiperelay_inside_a_command_are_named_with_ours() {
        for (line, ours) in [
            (
                "npipe connect -ei npipe:x",
                "-ei belongs to npiperelay; here it is: npipe connect --exit-on-stdin-eof",
            ),
            ("npipe connect npipe:x -s", "npipe connect --eof-message"),
            ("npipe -v connect --ep npipe:x", "npipe connect --end-at-empty-message"),
            ("npipe connect -v -p npipe:x", "npipe connect --poll"),
            ("npipe connect -l npipe:x", "--poll-limit 300"),
            ("npipe connect -bg npipe:x", "npipe connect, which always does so"),
            ("npipe connect -a S.gpg-agent", "npipe forward stdio assuan:FILE"),
            ("npipe forward -ei=true tcp:1 npipe:x", "npipe forward, which always does so"),
            ("npipe forward -p tcp:1 npipe:x", "npipe forward --poll"),
        ] {
            let said = words(line).unwrap_or_else(|| panic!("nothing for {line}"));
            assert!(said.contains(ours), "{line}: {said}");
        }
    }

    #[test]
    fn a_plain_mistake_is_nobodys_flag() {
        for line in ["npipe", "npipe conect npipe:x", "npipe --colour", "npipe connect --pipe x"] {
            assert_eq!(words(line), None, "{line}");
        }
    }
}
