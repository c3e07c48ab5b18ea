//! The command line of npiperelay and its forks, turned into that of `npipe connect`, so that
//! scripts need to change the name of a program at most. Words go in and words come out: what they
//! mean is the business of `cli`.
//!
//! npiperelay is written in Go, whose flags have one dash or two, any number of letters, and values
//! only after `=`. They end at the first word that is none.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::endpoint::{begins_with_scheme, in_our_form, is_path_of_pipe};

/// Each flag of npiperelay (jstarks), albertony's and NZSmartie's forks, and ours.
pub(crate) const FLAGS: [(&str, &[&str]); 6] = [
    ("p", &["--poll"]),
    ("s", &["--eof-message"]),
    ("ei", &["--exit-on-stdin-eof"]),
    ("ep", &["--end-at-empty-message"]),
    // What it asks for is always so.
    ("bg", &[]),
    ("v", &["--verbose"]),
];
/// albertony's fork: the limit of `-p`, after 300 attempts, which is about a minute.
pub(crate) const LIMIT: &str = "l";
const LIMIT_ATTEMPTS: &str = "--poll-limit=300";
const LIMIT_TIME: &str = "--poll-deadline=60";
/// The target is a socket file of GnuPG.
pub(crate) const ASSUAN: &str = "a";

/// The same command line in our words, if it is one of npiperelay; else as it is.
pub(crate) fn translated(arguments: Vec<OsString>) -> Vec<OsString> {
    match translate(&arguments) {
        Some(translation) => translation,
        None => arguments,
    }
}

fn translate(arguments: &[OsString]) -> Option<Vec<OsString>> {
    let (program, rest) = arguments.split_first()?;
    let Relay { flags, target } = Relay::parse(rest)?;
    let assuan = flags.contains(&ASSUAN);
    if !(is_npiperelay(program) || assuan || means_pipe(target)) {
        return None;
    }
    if assuan {
        // A socket: it has an end of its own for each direction, which is what the flags make up for on a
        // pipe.
        let mut ours: Vec<OsString> = vec![program.clone(), "forward".into(), "stdio".into()];
        if flags.contains(&"v") {
            ours.push("--verbose".into());
        }
        if flags.contains(&"p") {
            ours.push("--poll".into());
            // The forks never stop here: their limit is for pipes alone.
            ours.extend(flags.contains(&LIMIT).then(|| LIMIT_TIME.into()));
        }
        ours.push([OsStr::new("assuan:"), target].into_iter().collect());
        return Some(ours);
    }
    let mut ours: Vec<OsString> = vec![program.clone(), "connect".into()];
    // npiperelay takes it for the end of a session that the server disconnects.
    ours.push("--accept-disconnect".into());
    for (theirs, words) in FLAGS {
        if flags.contains(&theirs) {
            ours.extend(words.iter().map(OsString::from));
        }
    }
    if !flags.contains(&"ep") {
        // It closes stdout, and copies stdin until that ends.
        ours.push("--close-at-empty-message".into());
    }
    if flags.contains(&LIMIT) && flags.contains(&"p") {
        ours.push(LIMIT_ATTEMPTS.into());
    }
    // A target with a scheme is parsed as an address.
    let prefix = if begins_with_scheme(&target.to_string_lossy()) { "" } else { "npipe:" };
    ours.push([OsStr::new(prefix), target].into_iter().collect());
    Some(ours)
}

/// A command line as npiperelay reads it.
struct Relay<'a> {
    flags: Vec<&'a str>,
    target: &'a OsStr,
}

impl<'a> Relay<'a> {
    fn parse(mut words: &'a [OsString]) -> Option<Relay<'a>> {
        let mut flags = Vec::new();
        while let [word, rest @ ..] = words {
            if word == "--" {
                words = rest;
                break;
            }
            let Some(flag) = word.to_str().and_then(|word| word.strip_prefix('-')) else { break };
            let (flag, is_set) = value(flag.strip_prefix('-').unwrap_or(flag))?;
            if !(FLAGS.iter().any(|(theirs, _)| *theirs == flag) || [LIMIT, ASSUAN].contains(&flag)) {
                return None;
            }
            // Of several the last counts.
            flags.retain(|earlier| *earlier != flag);
            if is_set {
                flags.push(flag);
            }
            words = rest;
        }
        match words {
            [target] => Some(Relay { flags, target }),
            _ => None,
        }
    }
}

/// A flag and whether it is set: Go's booleans.
fn value(flag: &str) -> Option<(&str, bool)> {
    match flag.split_once('=') {
        None => Some((flag, true)),
        Some((flag, "1" | "t" | "T" | "true" | "TRUE" | "True")) => Some((flag, true)),
        Some((flag, "0" | "f" | "F" | "false" | "FALSE" | "False")) => Some((flag, false)),
        Some(_) => None,
    }
}

/// `npiperelay.exe`, wherever it lies.
fn is_npiperelay(program: &OsStr) -> bool {
    Path::new(program).file_stem().is_some_and(|stem| stem.eq_ignore_ascii_case("npiperelay"))
}

/// Whether nothing but a pipe can be meant, so that no command of ours is.
fn means_pipe(target: &OsStr) -> bool {
    let target = target.to_string_lossy();
    let address = in_our_form(&target);
    is_path_of_pipe(&target) || address.strip_prefix("npipe:").is_some_and(is_path_of_pipe)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::Parser;

    use super::translated;
    use crate::cli::{Cli, Command, ConnectArguments};

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[track_caller]
    fn connect(line: &str) -> (ConnectArguments, u8) {
        match Cli::try_parse_from(translated(words(line))).unwrap_or_else(|error| panic!("{line}: {error}")) {
            Cli { verbose, command: Command::Connect(arguments), .. } => (arguments, verbose),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[track_caller]
    fn unchanged(line: &str) {
        assert_eq!(translated(words(line)), words(line), "{line}");
    }

    #[test]
    fn each_flag_has_its_meaning() {
        let (none, verbose) = connect("npipe //./pipe/x");
        assert_eq!(none.target.to_string(), r"\\.\pipe\x");
        assert_eq!(connect("npipe -p /./pipe/x").0.target.to_string(), r"\\.\pipe\x", "from a shell of MSYS");
        assert!(!none.poll && !none.eof_message && !none.exit_on_stdin_eof && verbose == 0);
        assert!(connect("npipe -p //./pipe/x").0.poll);
        assert!(connect("npipe -s //./pipe/x").0.eof_message);
        assert!(connect("npipe -ei //./pipe/x").0.exit_on_stdin_eof);
        assert!(connect("npipe -ep //./pipe/x").0.end_at_empty_message && !none.end_at_empty_message);
        assert!(!connect("npipe -ep //./pipe/x").0.close_at_empty_message && none.close_at_empty_message);
        connect("npipe -bg //./pipe/x");
        assert_eq!(connect("npipe -v //./pipe/x").1, 1);
    }

    #[test]
    fn flags_combine_in_any_order() {
        let (all, verbose) = connect("npiperelay.exe -v -s -ei -ep -bg -l -p //./pipe/openssh-ssh-agent");
        assert!(all.poll && all.eof_message && all.exit_on_stdin_eof && verbose == 1);
        assert_eq!(all.poll_limit, Some(300));
    }

    #[test]
    fn the_limit_is_that_of_polling() {
        assert_eq!(connect("npipe -l -p //./pipe/x").0.poll_limit, Some(300));
        assert_eq!(connect("npipe -l //./pipe/x").0.poll_limit, None);
        assert_eq!(connect("npipe -p //./pipe/x").0.poll_limit, None);
    }

    #[test]
    fn flags_are_written_as_go_reads_them() {
        assert!(connect("npipe --ei //./pipe/x").0.exit_on_stdin_eof);
        assert!(connect("npipe -ei=true -- //./pipe/x").0.exit_on_stdin_eof);
        assert!(!connect("npipe -ei -ei=false //./pipe/x").0.exit_on_stdin_eof);
    }

    #[test]
    fn a_path_of_a_pipe_is_known_with_either_slash() {
        assert_eq!(connect(r"npipe -ei \\.\pipe\x").0.target.to_string(), r"\\.\pipe\x");
        assert_eq!(connect("npipe //server/PIPE/x").0.target.to_string(), r"\\server\PIPE\x");
    }

    #[test]
    fn a_socket_file_of_gnupg_is_forwarded_to() {
        assert_eq!(
            translated(words("npipe -ei -ep -s -v -a C:/Users/me/S.gpg-agent")),
            words("npipe forward stdio --verbose assuan:C:/Users/me/S.gpg-agent")
        );
        assert_eq!(
            translated(words("npipe -p -a C:/S.gpg-agent")),
            words("npipe forward stdio --poll assuan:C:/S.gpg-agent")
        );
        assert_eq!(
            translated(words("npipe -l -p -a C:/S.gpg-agent")),
            words("npipe forward stdio --poll --poll-deadline=60 assuan:C:/S.gpg-agent")
        );
    }

    #[test]
    fn under_its_name_any_target_is_one() {
        for program in ["npiperelay", "NPIPERELAY.EXE", "/mnt/c/tools/npiperelay.exe"] {
            assert_eq!(connect(&format!("{program} x")).0.target.to_string(), r"\\.\pipe\x");
        }
    }

    #[test]
    fn a_target_with_a_scheme_is_judged_as_an_address() {
        for target in [r"np:\\.\pipe\x", "pipe://./pipe/x", "npipe:////./pipe/x"] {
            assert_eq!(
                connect(&format!("npipe -ei -s {target}")).0.target.to_string(),
                r"\\.\pipe\x",
                "{target}"
            );
        }
        assert_eq!(connect("npiperelay npipe:x").0.target.to_string(), r"\\.\pipe\x");
        for target in ["http://x", "unix:///x", "tcp:1", "npipe:../C:/file", "../C:/file"] {
            Cli::try_parse_from(translated(words(&format!("npiperelay -ei {target}")))).expect_err(target);
        }
    }

    #[test]
    fn a_command_of_ours_is_left_alone() {
        unchanged("npipe -v connect npipe:x");
        unchanged("npipe connect //./pipe/x");
        unchanged("npipe list");
        unchanged("npipe --help");
        unchanged("npipe");
        unchanged("npiperelay.exe connect npipe:x");
        unchanged("npiperelay.exe -x //./pipe/x");
    }
}
