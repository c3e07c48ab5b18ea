//! One end of a pipe for a child process: it is the child's stdin, and works both ways.
//!
//!     cargo run --example child_process
//!
//! No other child gets it, and the value of no handle has to be told. The parent's end may be async
//! all the same: `ours.into_server()`.

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
    use std::os::windows::io::OwnedHandle;
    use std::process::{Command, Stdio};

    let (ours, theirs) = npipe::blocking::pair()?;
    let mut child = Command::new(std::env::current_exe()?)
        .arg("child")
        .stdin(Stdio::from(OwnedHandle::try_from(theirs)?))
        .spawn()?;
    // `theirs` went with the command: when the child ends, its end of the pipe is closed.

    let (reader, mut writer) = ours.into_split();
    let mut answers = BufReader::new(reader).lines();
    for question in ["6 * 7", "2 * 21"] {
        writeln!(writer, "{question}")?;
        let answer = answers.next().ok_or("the child said nothing")??;
        println!("{question} = {answer}");
    }
    writeln!(writer, "bye")?;
    assert!(child.wait()?.success());
    Ok(())
}

#[cfg(windows)]
fn child() -> std::io::Result<()> {
    use std::io::{BufRead, BufReader, Write};
    use std::os::windows::io::AsHandle;

    let handle = std::io::stdin().as_handle().try_clone_to_owned()?;
    let pipe = npipe::blocking::PipeStream::try_from(handle)?;
    for question in BufReader::new(&pipe).lines() {
        let question = question?;
        let Some((left, right)) = question.split_once(" * ") else { break };
        let parse = |number: &str| number.parse::<u32>().map_err(std::io::Error::other);
        writeln!(&pipe, "{}", parse(left)? * parse(right)?)?;
    }
    Ok(())
}

#[cfg(not(windows))]
fn main() {
    println!("Named pipes are Windows'; build this example for Windows.");
}
