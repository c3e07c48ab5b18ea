//! Every byte that goes to stderr (clap's refusal of a command line and the progress line apart), and nothing that decides
//! anything. A line is one write, so that the lines of processes that share a terminal or a log do not mix; a stderr that is
//! closed is nobody's reason to stop.

use std::fmt;
use std::io::{self, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

use crate::exit::Failure;

const FAILURE: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const DETAIL: Style = Style::new().dimmed();

#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    /// How often `-v` was given.
    verbosity: u8,
    /// Whether stderr is a terminal with colours and the user wants them: NO_COLOR and CLICOLOR say otherwise.
    colours: bool,
}

impl Report {
    pub(crate) fn new(verbosity: u8) -> Report {
        Report { verbosity, colours: AutoStream::choice(&io::stderr()) != ColorChoice::Never }
    }

    /// The last words of the process.
    pub(crate) fn failure(self, failure: &Failure) {
        self.line(FAILURE, format_args!("{failure}"));
    }

    /// Programs wait for exactly this line before they connect.
    pub(crate) fn listening(self, name: &dyn fmt::Display) {
        write(&format!("listening on {name}\n"));
    }

    /// Something went wrong and the process goes on.
    pub(crate) fn warning(self, what: fmt::Arguments<'_>) {
        self.line(WARNING, what);
    }

    pub(crate) fn verbosity(self) -> u8 {
        self.verbosity
    }

    /// What those who asked for it with `-v` want to read: connections, and what became of them.
    pub(crate) fn detail(self, what: fmt::Arguments<'_>) {
        if self.verbosity >= 1 {
            self.line(DETAIL, what);
        }
    }

    /// What those who asked with `-vv` want to read: each step of a connection.
    pub(crate) fn step(self, what: fmt::Arguments<'_>) {
        if self.verbosity >= 2 {
            self.line(DETAIL, what);
        }
    }

    fn line(self, style: Style, text: fmt::Arguments<'_>) {
        if self.colours {
            // The console of Windows has to be told to understand colours.
            let line = format!("{style}npipe:{style:#} {text}\n");
            let _ = AutoStream::always(io::stderr()).write_all(line.as_bytes());
        } else {
            write(&format!("npipe: {text}\n"));
        }
    }
}

fn write(line: &str) {
    let _ = io::stderr().write_all(line.as_bytes());
}
