//! Completions for shells and pages for `man`, made from the definition in `cli`, so that they
//! never say anything else than the help does.

use std::fs;
use std::io;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::cli::Cli;
use crate::exit::{Exit, Failure};
use crate::output;

const PROGRAM: &str = "npipe";

pub(crate) fn completions(shell: Shell) -> Result<(), Failure> {
    let whole = Cli::command();
    // Generators offer hidden commands too.
    let mut shown = Command::new(PROGRAM)
        .args(whole.get_arguments().cloned())
        .subcommands(whole.get_subcommands().filter(|command| !command.is_hide_set()).cloned());
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut shown, PROGRAM, &mut script);
    output::write(&String::from_utf8_lossy(&script))
}

/// The page of the program on stdout, or one for it and each command in `directory`, which is made
/// if need be.
pub(crate) fn pages(directory: Option<&Path>) -> Result<(), Failure> {
    let mut program = Cli::command().name(PROGRAM).disable_help_subcommand(true);
    program.build();
    let Some(directory) = directory else {
        let text = page(program)
            .map_err(|error| Failure::new(Exit::Failure, format!("cannot make the manual page: {error}")))?;
        return output::write(&text);
    };
    fs::create_dir_all(directory).and_then(|()| write_pages(program, directory)).map_err(|error| {
        let directory = directory.display();
        Failure::new(Exit::Failure, format!("cannot write the manual pages into {directory}: {error}"))
    })
}

fn write_pages(command: Command, directory: &Path) -> io::Result<()> {
    for subcommand in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        write_pages(subcommand.clone(), directory)?;
    }
    let file = directory.join(Man::new(command.clone()).get_filename());
    fs::write(file, page(command)?)
}

/// As `clap_mangen` renders it, but for what follows the options: examples and exit codes get
/// sections of their own, and their lines stay lines.
fn page(command: Command) -> io::Result<String> {
    let after = command.get_after_long_help().map(ToString::to_string);
    let has_subcommands = command.get_subcommands().any(|command| !command.is_hide_set());
    let man = Man::new(command);
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if has_subcommands {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some((heading, lines)) = after.as_deref().and_then(|after| after.split_once(":\n")) {
        let mut section = Roff::new();
        section.control("SH", [heading.to_uppercase().as_str()]).control("nf", []);
        for line in lines.lines() {
            section.text([roman(line)]);
        }
        section.control("fi", []).to_writer(&mut page)?;
    }
    Ok(String::from_utf8_lossy(&page).into_owned())
}
