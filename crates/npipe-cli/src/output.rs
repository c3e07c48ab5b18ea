//! What the commands that answer questions print on stdout: text for people or a JSON document, in one piece.

use std::io::{self, Write};

#[cfg(any(windows, test))]
use serde_json::Value;

use crate::exit::{Exit, Failure};

pub(crate) fn write(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::new(Exit::OutputClosed, format!("the reader of stdout went away: {error}")))
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
