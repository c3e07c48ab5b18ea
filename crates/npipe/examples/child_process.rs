//! A child process that knows nothing of pipes: it reads stdin and writes stdout, with std alone.
//!
//!     cargo run --example child_process
//!
//! The parent has what std's own pipes lack: time-outs, a way to end a wait from another thread,
//! and ends for async code (`to_child.into_server()`).

#[cfg(windows)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    match std::env::args().nth(1).as_deref() {
        Some("child") => child().map_err(Into::into),
        _ => parent(),
    }
}

#[cfg(windows)]
fn parent() -> Result<(), Box<dyn std::error::Error>> {
    use std::io::{BufRead, BufReader, Write};
    use std::process::Command;
    use std::time::Duration;

    use npipe::blocking::{ChildStdio, child_stdio};

    let ChildStdio { stdin, stdout, mut to_child, from_child, .. } = child_stdio()?;
    // The command has the child's ends, and is dropped here: so they are closed when the child ends.
    let mut child =
        Command::new(std::env::current_exe()?).arg("child").stdin(stdin).stdout(stdout).spawn()?;

    from_child.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut answers = BufReader::new(from_child).lines();
    for question in ["6 * 7", "2 * 21"] {
        writeln!(to_child, "{question}")?;
        let answer = answers.next().ok_or("the child ended without an answer")??;
        println!("{question} = {answer}");
    }
    // The child reads the end of stdin.
    drop(to_child);
    assert!(child.wait()?.success());
    Ok(())
}

#[cfg(windows)]
fn child() -> std::io::Result<()> {
    for question in std::io::stdin().lines() {
        let question = question?;
        let Some((left, right)) = question.split_once(" * ") else { break };
        let parse = |number: &str| number.parse::<u32>().map_err(std::io::Error::other);
        println!("{}", parse(left)? * parse(right)?);
    }
    Ok(())
}

#[cfg(not(windows))]
fn main() {
    println!("Named pipes are Windows'; build this example for Windows.");
}
