//! What the commands that answer questions print on stdout: text for people or a JSON document, in
//! one piece.

use std::io::{self, Write};

#[cfg(any(windows, test))]
use serde_json::Value;

use crate::exit::{Exit, Failure};

pub(crate) fn write(text: &str) -> Result<(), Failure> {
    report(io::stdout().lock().write_all(text.as_bytes()))
}

/// The outcome of a write to stdout, of which a part may still be buffered.
pub(crate) fn report(written: io::Result<()>) -> Result<(), Failure> {
    written.and_then(|()| io::stdout().flush()).map_err(|error| failure(&error))
}

/// Only a broken pipe means that its reader has gone.
pub(crate) fn failure(error: &io::Error) -> Failure {
    if reader_has_gone(error) {
        Failure::new(Exit::OutputClosed, "the reader of stdout went away")
    } else {
        Failure::new(Exit::Failure, format!("cannot write to stdout: {error}"))
    }
}

/// Wine reports a broken Linux pipe as ERROR_PIPE_NOT_CONNECTED, which Rust does not count as a
/// broken pipe.
pub(crate) fn reader_has_gone(error: &io::Error) -> bool {
    const PIPE_NOT_CONNECTED: i32 = 233;
    error.kind() == io::ErrorKind::BrokenPipe
        || (cfg!(windows) && error.raw_os_error() == Some(PIPE_NOT_CONNECTED))
}

#[cfg(any(windows, test))]
pub(crate) fn document(value: &Value) -> String {
    format!("{value:#}\n")
}

/// A name that other programs chose: its control characters are shown and not sent to the terminal.
pub(crate) fn printable(name: &str) -> String {
    name.chars()
        .map(|char| if char.is_control() { char.escape_unicode().to_string() } else { char.to_string() })
        .collect()
}
