//! A child process that knows nothing of npipe, with pipes as its stdin and stdout.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::process::Command;

use npipe::blocking::{ChildStdio, child_stdio};

use crate::world::*;

const CHILD: &str = "NPIPE_BLOCKING_CHILD_STDIO";

/// Answers each line of stdin, and says when stdin has ended.
fn child() {
    for line in io::stdin().lines() {
        println!("heard {}", line.unwrap());
    }
    println!("that was all");
}

#[test]
fn a_child_reads_and_writes_in_turns_and_ends_with_its_stdin() {
    if std::env::var_os(CHILD).is_some() {
        return child();
    }
    let _watchdog = watchdog();
    let ChildStdio { stdin, stdout, mut to_child, from_child, .. } = child_stdio().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--nocapture",
            "child_stdio::a_child_reads_and_writes_in_turns_and_ends_with_its_stdin",
        ])
        .env(CHILD, "1")
        .stdin(stdin)
        .stdout(stdout)
        .spawn()
        .unwrap();
    from_child.set_read_timeout(Some(LONG)).unwrap();
    let mut answers = BufReader::new(&from_child);
    // What libtest prints comes first.
    let mut next = |wanted: &str| {
        let mut line = String::new();
        while !line.contains(wanted) {
            line.clear();
            assert!(answers.read_line(&mut line).unwrap() > 0, "the child has ended before '{wanted}'");
        }
    };
    for number in 0..3 {
        // The child waits in a read now: the next line comes when it has answered this one.
        writeln!(to_child, "line {number}").unwrap();
        next(&format!("heard line {number}"));
    }
    drop(to_child);
    next("that was all");
    io::copy(&mut answers, &mut io::sink()).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn each_end_carries_one_direction_and_becomes_async() {
    let _watchdog = watchdog();
    let ChildStdio { mut to_child, mut from_child, stdin: _stdin, stdout: _stdout, .. } =
        child_stdio().unwrap();
    assert!(to_child.read(&mut [0]).is_err());
    assert!(from_child.write(&[0]).is_err());
    to_child.set_write_timeout(Some(SHORT)).unwrap();
    from_child.set_read_timeout(Some(SHORT)).unwrap();
    let error = from_child.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "the child's end is there");
    to_child.into_server().unwrap();
    from_child.into_server().unwrap();
}
