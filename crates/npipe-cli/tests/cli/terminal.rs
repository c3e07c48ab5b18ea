//! What a person sees on a terminal, which the test is: colours and the progress line.

use std::fs::File;
use std::io::{self, Read};
use std::process::Stdio;
use std::thread;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::process::{Npipe, within_limit};

/// A pseudo terminal, and what was written to it.
struct Terminal {
    screen: watch::Receiver<String>,
    stderr: Option<File>,
}

impl Terminal {
    fn new() -> Terminal {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let name = ptsname(&keyboard, Vec::new()).unwrap();
        let stderr = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        let (written, screen) = watch::channel(String::new());
        // It ends with an error when nobody has the other side any more.
        thread::spawn(move || -> io::Result<()> {
            let mut keyboard = File::from(keyboard);
            let mut bytes = [0; 4096];
            loop {
                let read = keyboard.read(&mut bytes)?;
                written.send_modify(|text| text.push_str(&String::from_utf8_lossy(&bytes[..read])));
            }
        });
        Terminal { screen, stderr: Some(File::from(stderr)) }
    }

    fn start(&mut self, arguments: &[&str], stdin: Stdio, variables: &[(&str, &str)]) -> Npipe {
        let stderr = self.stderr.take().unwrap();
        Npipe::start_with(arguments, |command| {
            // Each of these decides before the terminal is asked; a CI is taken for one that knows colours.
            for variable in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"] {
                command.env_remove(variable);
            }
            command.env("TERM", "xterm").envs(variables.iter().copied()).stdin(stdin).stderr(stderr);
        })
    }

    async fn shows(&mut self, text: &str) {
        let shown = within_limit(text, self.screen.wait_for(|screen| screen.contains(text))).await;
        shown.map(drop).unwrap_or_else(|_| panic!("no {text:?} in {:?}", *self.screen.borrow()));
    }

    /// All that was shown, once nobody is left to show more.
    async fn all(mut self) -> String {
        within_limit("the end", async { while self.screen.changed().await.is_ok() {} }).await;
        self.screen.borrow().clone()
    }
}

/// What a failure looks like on a terminal.
async fn failure(variables: &[(&str, &str)]) -> String {
    let mut terminal = Terminal::new();
    let directory = tempfile::tempdir().unwrap();
    let target = format!("unix:{}", directory.path().join("nobody").display());
    let process = terminal.start(&["forward", "stdio", &target], Stdio::null(), variables);
    process.finish().await.code(3);
    terminal.all().await
}

#[tokio::test]
async fn a_failure_is_coloured_on_a_terminal() {
    let screen = failure(&[]).await;
    assert!(screen.starts_with("\u{1b}[1m\u{1b}[31mnpipe:\u{1b}[0m cannot connect"), "{screen:?}");
}

#[tokio::test]
async fn whoever_wants_no_colours_gets_none() {
    for variable in [("NO_COLOR", "1"), ("CLICOLOR", "0"), ("TERM", "dumb")] {
        let screen = failure(&[variable]).await;
        assert!(screen.starts_with("npipe: cannot connect"), "{variable:?}: {screen:?}");
    }
}

#[tokio::test]
async fn a_pipe_or_a_file_gets_no_colours() {
    let outcome = Npipe::start(&["forward", "stdio", "unix:/nonexistent/socket"]).finish().await;
    outcome.code(3).stderr_has("npipe: cannot connect");
}

/// Feeds a file to a server that reads until the terminal shows `text`. Gives back all that was
/// shown.
async fn transfer(flags: &[&str], stdin: File, text: &str) -> String {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("tcp:{}", server.local_addr().unwrap());
    let mut terminal = Terminal::new();
    let arguments = [&["forward", "stdio", target.as_str()], flags].concat();
    let process = terminal.start(&arguments, stdin.into(), &[]);
    let (mut connection, _) = within_limit("the connection", server.accept()).await.unwrap();
    let reading = async {
        let mut bytes = vec![0; 64 * 1024];
        while connection.read(&mut bytes).await.unwrap() > 0 {}
    };
    tokio::select! {
        () = reading => {}
        () = terminal.shows(text) => {}
    }
    drop(connection);
    process.finish().await;
    terminal.all().await
}

/// As many zeros as anybody wants to read.
fn endless() -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(1 << 40).unwrap();
    file
}

#[tokio::test]
async fn a_transfer_from_a_file_shows_how_far_it_is_and_leaves_the_line_empty() {
    let screen = transfer(&[], endless(), "iB/s").await;
    let (line, rest) = screen.split_once(" sent, 0 B received, ").unwrap();
    assert!(line.contains("MiB") || line.contains("GiB"), "{screen:?}");
    assert!(rest.contains("iB/s"), "{screen:?}");
    let (_, after) = screen.rsplit_once(" received").unwrap();
    assert!(after.contains("\r\u{1b}[2K"), "the line stays: {after:?}");
}

#[tokio::test]
async fn a_transfer_that_is_over_at_once_shows_nothing_but_its_report() {
    let short = tempfile::tempfile().unwrap();
    short.set_len(1 << 20).unwrap();
    let screen = transfer(&["-v"], short, "ended after").await;
    assert!(screen.contains("1048576 bytes sent, 0 bytes received"), "{screen:?}");
    assert!(!screen.contains(" sent, 0 B received"), "{screen:?}");
}
