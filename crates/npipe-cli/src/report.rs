//! Every byte that goes to stderr (clap's refusal of a command line apart), and nothing that decides anything. A line is
//! one write, so that the lines of processes that share a terminal or a log do not mix; a stderr that is closed is
//! nobody's reason to stop.

use std::fmt;
use std::io::{self, Write};

use crate::exit::Failure;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    verbose: bool,
}

impl Report {
    pub(crate) fn new(verbose: bool) -> Report {
        Report { verbose }
    }

    /// The last words of the process.
    pub(crate) fn failure(self, failure: &Failure) {
        line(format_args!("npipe: {failure}"));
    }

    /// Programs wait for exactly this line before they connect.
    pub(crate) fn listening(self, name: &dyn fmt::Display) {
        line(format_args!("listening on {name}"));
    }

    /// Something went wrong and the process goes on.
    pub(crate) fn warning(self, what: fmt::Arguments<'_>) {
        line(format_args!("npipe: {what}"));
    }

    #[cfg(unix)]
    pub(crate) fn is_verbose(self) -> bool {
        self.verbose
    }

    /// What only those who asked for it with `-v` want to read.
    pub(crate) fn detail(self, what: fmt::Arguments<'_>) {
        if self.verbose {
            line(format_args!("npipe: {what}"));
        }
    }
}

fn line(text: fmt::Arguments<'_>) {
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}
