//! `npipe info`: what the system says of one pipe. It tells that to those only who have opened it.

use std::io;

use npipe::{
    AccessEntry, AccessList, ClientOptions, NamedPipeClient, Peer, PipeEnd, PipeInfo, PipeMode, PipeName,
    SecurityDescriptor, Sid,
};
use serde_json::{Map, Value, json};

use crate::cli::InfoArguments;
use crate::dial::pipe;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::patience::Patience;
use crate::report::Report;
use crate::rights;
use crate::verdict::open_failure;

/// From here on it is any number: PIPE_UNLIMITED_INSTANCES on Windows; Wine shows the greatest
/// number there is.
const UNLIMITED: u32 = 255;

pub(crate) async fn run(arguments: InfoArguments, report: Report) -> Result<(), Failure> {
    let name = &arguments.name;
    let pipe = open_to_look(name, Patience::WhileBusy(arguments.wait), report).await?;
    let info = pipe
        .info()
        .map_err(|error| Failure::new(Exit::Failure, format!("cannot ask what {name} is: {error}")))?;
    let peer = pipe.peer();
    let about = About {
        name,
        info,
        program: match &peer {
            Ok(peer) => peer.program().map(|path| path.display().to_string()),
            Err(_) => Err(io::Error::other("the server's process is unknown")),
        },
        user: match &peer {
            Ok(peer) => peer.user(),
            Err(_) => Err(io::Error::other("the server's process is unknown")),
        },
        process_id: peer.as_ref().map(Peer::process_id).map_err(io::Error::to_string),
        session_id: peer.as_ref().map(Peer::session_id).map_err(io::Error::to_string),
        security: pipe.security_descriptor(),
    };
    // The server's instance is free for others before accounts are looked up, which may take seconds.
    drop(pipe);
    output::write(&if arguments.json { about.document() } else { about.table() })
}

/// Neither reading nor writing: what is left is the right to ask, and pipes of both directions
/// grant it. The right to see the access list is one that a pipe may refuse, and then the rest is
/// had without it.
async fn open_to_look(
    name: &PipeName,
    patience: Patience,
    report: Report,
) -> Result<NamedPipeClient, Failure> {
    let mut options = ClientOptions::new();
    options.read(false).write(false).read_control(true);
    let mut opened = pipe::open(name, &options, patience, report).await;
    if let Err(gave_up) = &opened
        && gave_up.error.kind() == io::ErrorKind::PermissionDenied
    {
        opened = pipe::open(name, options.read_control(false), patience, report).await;
    }
    opened.map_err(|gave_up| open_failure(name, &gave_up.error, Some(gave_up.waited)))
}

/// What was found, and why something was not.
struct About<'a> {
    name: &'a PipeName,
    info: PipeInfo,
    process_id: Result<u32, String>,
    session_id: Result<u32, String>,
    program: io::Result<String>,
    user: io::Result<Sid>,
    security: io::Result<SecurityDescriptor>,
}

impl About<'_> {
    fn mode(&self) -> &'static str {
        match self.info.mode {
            PipeMode::Message => "message",
            _ => "byte",
        }
    }

    fn end(&self) -> &'static str {
        match self.info.end {
            PipeEnd::Server => "server",
            _ => "client",
        }
    }

    fn limit(&self) -> Option<u32> {
        (self.info.max_instances < UNLIMITED).then_some(self.info.max_instances)
    }

    fn table(&self) -> String {
        let mut table = Table::default();
        table.row("name", &self.name.to_string());
        table.row("mode", self.mode());
        table.row(
            "instances",
            &self.limit().map_or("any number".to_owned(), |limit| format!("{limit} at most")),
        );
        table.row("server to client", &buffer(self.info.out_buffer_size));
        table.row("client to server", &buffer(self.info.in_buffer_size));
        table.row("opened end", self.end());
        table.row("server process", &known(&self.process_id));
        table.row("server program", &known(&self.program));
        table.row("server user", &self.user.as_ref().map_or_else(unknown, account));
        table.row("server session", &known(&self.session_id));
        let security = match &self.security {
            Ok(security) => security,
            Err(error) => {
                table.row("owner, access", &unknown(error));
                return table.text;
            }
        };
        table.row("owner", &security.owner().map_or("nobody".to_owned(), account));
        let mut label = "access";
        for line in access(security.access_list()) {
            table.row(label, &line);
            label = "";
        }
        table.row("sddl", &known(&security.to_sddl()));
        table.text
    }

    fn document(&self) -> String {
        let mut unknown = Map::new();
        let mut known = |what: &str, answer: Result<Value, String>| {
            answer.unwrap_or_else(|reason| {
                unknown.insert(what.to_owned(), reason.into());
                Value::Null
            })
        };
        let of_security = |part: &dyn Fn(&SecurityDescriptor) -> Value| match &self.security {
            Ok(security) => Ok(part(security)),
            Err(error) => Err(error.to_string()),
        };
        let sddl = match &self.security {
            Ok(security) => security.to_sddl().map(Value::from).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let mut document = json!({
            "path": self.name.to_string(),
            "mode": self.mode(),
            "max_instances": self.limit(),
            "server_to_client_buffer": self.info.out_buffer_size,
            "client_to_server_buffer": self.info.in_buffer_size,
            "opened_end": self.end(),
            "server_process_id": known("server_process_id", self.process_id.clone().map(Value::from)),
            "server_program": known(
                "server_program",
                self.program.as_deref().map(Value::from).map_err(io::Error::to_string),
            ),
            "server_user": known(
                "server_user",
                self.user.as_ref().map(account_value).map_err(io::Error::to_string),
            ),
            "server_session_id": known("server_session_id", self.session_id.clone().map(Value::from)),
            "owner": known("owner", of_security(&|security| security.owner().map(account_value).into())),
            "access": known("access", of_security(&|security| access_value(security.access_list()))),
            "sddl": known("sddl", sddl),
        });
        document["unknown"] = Value::Object(unknown);
        output::document(&document)
    }
}

/// Lines of a label and what it is of.
#[derive(Default)]
struct Table {
    text: String,
}

impl Table {
    fn row(&mut self, label: &str, value: &str) {
        self.text += &format!("{label:<17} {}\n", output::printable(value));
    }
}

fn known<T: ToString, E: ToString>(answer: &Result<T, E>) -> String {
    answer.as_ref().map_or_else(unknown, T::to_string)
}

fn unknown(reason: &impl ToString) -> String {
    format!("unknown: {}", reason.to_string())
}

fn buffer(size: u32) -> String {
    match size {
        0 => "no buffer".to_owned(),
        size => format!("buffer of {size} bytes"),
    }
}

/// By name, where somebody knows one.
fn account(sid: &Sid) -> String {
    sid.account_name().map_or_else(|_| sid.to_string(), |name| format!("{name} ({sid})"))
}

fn account_value(sid: &Sid) -> Value {
    json!({ "sid": sid.to_string(), "account": sid.account_name().ok() })
}

/// The access list, one line an entry.
fn access(list: &AccessList) -> Vec<String> {
    match list {
        AccessList::Entries(entries) if entries.is_empty() => vec!["nobody may do anything".to_owned()],
        AccessList::Entries(entries) => entries.iter().map(entry).collect(),
        // Of a pipe that exists, a list that is missing is no other than one that is null.
        _ => vec!["everyone may do everything: there is no list".to_owned()],
    }
}

fn entry(entry: &AccessEntry) -> String {
    match entry {
        AccessEntry::Allow { trustee, mask, .. } => {
            format!("{} may: {}", account(trustee), rights::words(*mask))
        }
        AccessEntry::Deny { trustee, mask, .. } => {
            format!("{} may not: {}", account(trustee), rights::words(*mask))
        }
        AccessEntry::Other { kind, .. } => format!("an entry of type {kind}, see sddl"),
        _ => "another entry, see sddl".to_owned(),
    }
}

/// `null` inside a document without a reason in `unknown`: there is no list, and everyone may do
/// everything.
fn access_value(list: &AccessList) -> Value {
    let AccessList::Entries(entries) = list else { return Value::Null };
    let plain = |kind: &str, trustee: &Sid, mask: u32| json!({ "kind": kind, "trustee": account_value(trustee), "rights": rights::names(mask), "mask": mask });
    let value = |entry: &AccessEntry| match entry {
        AccessEntry::Allow { trustee, mask, .. } => plain("allow", trustee, *mask),
        AccessEntry::Deny { trustee, mask, .. } => plain("deny", trustee, *mask),
        AccessEntry::Other { kind, .. } => json!({ "kind": "other", "type": kind }),
        _ => json!({ "kind": "other" }),
    };
    entries.iter().map(value).collect()
}
