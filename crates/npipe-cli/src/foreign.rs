//! Command lines of other relays, which cannot be taken as they are: what does the same here, in
//! words. It is asked when a command line is refused anyway, so that nothing which npipe
//! understands is ever mistaken for another's. That of npiperelay is understood: see `npiperelay`.

use std::ffi::OsString;

use crate::npiperelay;

const ONE_CLIENT: &str = "npipe connect npipe:NAME, or npipe connect ssh-agent";
const GNUPG: &str = "npipe forward stdio gpg-agent, or npipe forward stdio assuan:FILE";
const SOCKET: &str = "npipe forward unix:SOCKET npipe:NAME, or npipe forward unix:SOCKET ssh-agent";
const VERBOSE: &str = "npipe -v, whose lines go to stderr: put 2>FILE behind it";
const SETUP: &str = "npipe wsl setup ssh-agent, which says what belongs into the shell's profile";

/// Flags, as they are called without dashes, of wsl-relay (Lexicality), sorelay (win-gpg-agent),
/// wsl2-ssh-pageant, wsl2-ssh-agent and wsl-ssh-agent.
const FLAGS: [(&str, &str); 26] = [
    ("c", "npipe has no file of settings: its flags say all"),
    ("close-pipe", "npipe connect --eof-message npipe:NAME"),
    ("d", VERBOSE),
    ("debug", VERBOSE),
    ("envname", SETUP),
    ("foreground", "npipe forward, which stays in the foreground"),
    ("format", SETUP),
    ("gpg", GNUPG),
    ("gpgConfigBasepath", GNUPG),
    ("input-closes", "npipe connect --exit-on-stdin-eof npipe:NAME"),
    ("line-endings", "npipe changes no byte, so it has no such thing"),
    ("log", VERBOSE),
    ("logfile", VERBOSE),
    ("nolock", "npipe goes on while the session is locked"),
    ("pipe", ONE_CLIENT),
    ("pipe-closes", "npipe connect npipe:NAME, which always ends when the pipe ends"),
    ("pipename", SOCKET),
    ("poll", "npipe connect --poll npipe:NAME"),
    ("port", "npipe forward tcp:PORT npipe:NAME"),
    ("powershell-path", "no PowerShell is needed; npipe forward --windows-exe PATH names npipe.exe"),
    ("setenv", SETUP),
    ("socket", SOCKET),
    ("ssh", ONE_CLIENT),
    ("stop", "npipe wsl setup ssh-agent --remove, or end npipe forward"),
    ("verbose", "npipe -v"),
    ("version", "npipe --version"),
];

/// The addresses of WinSocat, before the colon.
const ADDRESSES: [&str; 12] = [
    "EXEC",
    "HVSOCK",
    "HVSOCK-LISTEN",
    "NPIPE",
    "NPIPE-LISTEN",
    "SP",
    "STDIO",
    "TCP",
    "TCP-LISTEN",
    "UNIX",
    "UNIX-LISTEN",
    "WSL",
];

/// The equivalent of another program's command line, for one that is refused. The program comes
/// first.
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
        _ => in_our_words(&words),
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

fn in_our_words(words: &[&str]) -> Option<String> {
    for &word in words {
        let Some(flag) = word.strip_prefix('-') else {
            let kind = word.split(':').next().unwrap_or(word);
            return ADDRESSES.contains(&kind).then(|| {
                format!(
                    "{word}: here it is npipe forward LISTEN TARGET, with npipe:NAME, tcp:HOST:PORT, unix:PATH, \
                     exec:COMMAND (also exec:\"wsl.exe COMMAND\") and stdio"
                )
            });
        };
        let flag = flag.strip_prefix('-').unwrap_or(flag);
        let name = flag.split('=').next().unwrap_or(flag);
        if let Some((_, ours)) = FLAGS.iter().find(|(theirs, _)| *theirs == name) {
            return Some(format!("{word} belongs to another relay; here it is: {ours}"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::suggestion;

    fn words(line: &str) -> Option<String> {
        suggestion(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn what_other_relays_are_told_is_said_in_our_words() {
        for (line, ours) in [
            ("npipe --pipe //./pipe/x --input-closes", "npipe connect npipe:NAME"),
            ("npipe --gpg=C:/S.gpg-agent", "assuan:FILE"),
            ("npipe -d -a C:/S.gpg-agent", "npipe -v"),
            ("npipe -verbose -gpg S.gpg-agent.extra", "npipe -v"),
            ("npipe -gpg S.gpg-agent.extra", "gpg-agent"),
            ("npipe -socket /tmp/x -pipename y", "npipe forward unix:SOCKET"),
            ("npipe STDIO NPIPE:x", "npipe forward LISTEN TARGET"),
            ("npipe NPIPE-LISTEN:x TCP:localhost:1", "npipe forward LISTEN TARGET"),
        ] {
            let said = words(line).unwrap_or_else(|| panic!("nothing for {line}"));
            assert!(said.contains(ours), "{line}: {said}");
        }
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
