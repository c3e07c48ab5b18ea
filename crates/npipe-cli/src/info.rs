//! `npipe info`: what the system says of one pipe. It tells that to those only who have opened it.

use npipe::{ClientOptions, PipeEnd, PipeInfo, PipeMode, PipeName};
use serde_json::json;

use crate::cli::InfoArguments;
use crate::exit::{Exit, Failure};
use crate::open::{Patience, open};
use crate::output;
use crate::report::Report;

/// From here on it is any number: PIPE_UNLIMITED_INSTANCES on Windows; Wine shows the greatest number there is.
const UNLIMITED: u32 = 255;

pub(crate) fn run(arguments: &InfoArguments, report: Report) -> Result<(), Failure> {
    let name = &arguments.name;
    // Neither reading nor writing: what is left is the right to ask, and pipes of both directions grant it.
    let mut options = ClientOptions::new();
    options.read(false).write(false);
    let pipe = open(name, &options, Patience::WhileBusy(arguments.wait), report)?;
    let info = pipe
        .info()
        .map_err(|error| Failure::new(Exit::Failure, format!("cannot ask what {name} is: {error}")))?;
    output::write(&if arguments.json { document(name, &info) } else { table(name, &info) })
}

fn mode(info: &PipeInfo) -> &'static str {
    match info.mode {
        PipeMode::Message => "message",
        _ => "byte",
    }
}

fn end(info: &PipeInfo) -> &'static str {
    match info.end {
        PipeEnd::Server => "server",
        _ => "client",
    }
}

fn limit(info: &PipeInfo) -> Option<u32> {
    (info.max_instances < UNLIMITED).then_some(info.max_instances)
}

fn table(name: &PipeName, info: &PipeInfo) -> String {
    let instances = match limit(info) {
        None => "any number".to_owned(),
        Some(limit) => format!("{limit} at most"),
    };
    format!(
        "name              {}\nmode              {}\ninstances         {instances}\nserver to client  {}\nclient to server  {}\nopened end        {}\n",
        output::printable(&name.to_string()),
        mode(info),
        buffer(info.out_buffer_size),
        buffer(info.in_buffer_size),
        end(info),
    )
}

fn buffer(size: u32) -> String {
    match size {
        0 => "no buffer".to_owned(),
        size => format!("buffer of {size} bytes"),
    }
}

fn document(name: &PipeName, info: &PipeInfo) -> String {
    output::document(&json!({
        "path": name.to_string(),
        "mode": mode(info),
        "max_instances": limit(info),
        "server_to_client_buffer": info.out_buffer_size,
        "client_to_server_buffer": info.in_buffer_size,
        "opened_end": end(info),
    }))
}
