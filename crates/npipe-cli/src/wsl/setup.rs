//! `npipe wsl setup`: what a person needs so that Linux programs reach a service of Windows, as
//! files and commands. They are printed as a script, carried out, or undone. What is there already
//! is left alone, and what somebody has changed is not replaced unless told so.

use std::env;
use std::fmt::Write;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::service::{Listening, Service, Socket, SocketPath, home};
use crate::bridge::process::find;
use crate::cli::SetupArguments;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::report::Report;

/// A person who uses none of it for so long does not miss the Windows process, and may replace its
/// program.
const IDLE_SECONDS: u32 = 600;

pub(crate) fn run(arguments: &SetupArguments, report: Report) -> Result<(), Failure> {
    let service = arguments.service;
    if arguments.remove {
        return output::write(&remove(service)?);
    }
    let listening = arguments.listening.unwrap_or_else(Listening::available);
    let program = match find(arguments.windows_program.path.as_deref()) {
        Ok(program) => Some(std::path::absolute(&program).unwrap_or(program)),
        Err(reason) if arguments.install => return Err(Failure::new(Exit::NotFound, reason)),
        Err(reason) => {
            report.warning(format_args!("{reason}"));
            None
        }
    };
    let plan = Plan::new(service, listening, program.as_deref())?;
    let text = if arguments.install { plan.install(arguments.force)? } else { plan.script() };
    output::write(&text)
}

/// Whether `service` was set up, in whichever way.
pub(super) fn is_there(service: Service) -> bool {
    snippet(service).exists() || has_units(service)
}

/// Who listens for `service`, or would if it were set up.
pub(super) fn listening(service: Service) -> Listening {
    if has_units(service) {
        Listening::Systemd
    } else if snippet(service).exists() {
        Listening::Shell
    } else {
        Listening::available()
    }
}

fn has_units(service: Service) -> bool {
    service.sockets(Listening::Systemd).iter().any(|socket| unit(socket.name, "socket").exists())
}

/// What makes a service reachable.
struct Plan {
    service: Service,
    listening: Listening,
    files: Vec<File>,
    /// One for each socket.
    names: Vec<&'static str>,
    /// What is left to the user, such as a line for the profile, where nobody else writes.
    advice: String,
}

struct File {
    path: PathBuf,
    text: String,
}

impl Plan {
    fn new(service: Service, listening: Listening, program: Option<&Path>) -> Result<Plan, Failure> {
        let own = env::current_exe().map_err(|error| {
            Failure::new(Exit::Failure, format!("cannot find out where this program is: {error}"))
        })?;
        let sockets = service.sockets(listening);
        let forward = |listen: String, target: &str| {
            let mut words = vec![own.display().to_string(), "forward".to_owned(), listen, target.to_owned()];
            words.extend(["--bridge-idle".to_owned(), IDLE_SECONDS.to_string()]);
            if service == Service::GpgAgent {
                // On Linux it starts by itself too. The others are their users' to start.
                words.push("--launch".to_owned());
            }
            if let Some(program) = program {
                words.extend(["--windows-exe".to_owned(), program.display().to_string()]);
            }
            words
        };
        let mut files = Vec::new();
        match listening {
            Listening::Systemd => {
                for socket in &sockets {
                    let command = forward("systemd".to_owned(), socket.target);
                    files
                        .push(File { path: unit(socket.name, "socket"), text: socket_unit(service, socket) });
                    files.push(File {
                        path: unit(socket.name, "service"),
                        text: service_unit(service, socket, &command),
                    });
                }
            }
            Listening::Shell => {
                let mut text = header(service);
                for socket in &sockets {
                    let command = forward(format!("unix:{}", in_shell(&socket.path)), socket.target);
                    text += &start(socket, &command);
                }
                text += &variable(service, &sockets);
                files.push(File { path: snippet(service), text });
            }
        }
        let names = sockets.iter().map(|socket| socket.name).collect();
        let line = match listening {
            Listening::Systemd => variable(service, &sockets),
            Listening::Shell => format!(". {}\n", shell_word(&snippet(service).display().to_string())),
        };
        let mut advice = String::new();
        if !line.is_empty() {
            advice = format!("A line for ~/.profile, or where your shell looks:\n{line}");
        }
        if service == Service::GpgAgent {
            advice += &gpg_advice();
        }
        Ok(Plan { service, listening, files, names, advice })
    }

    /// What systemctl is told, once the files are there.
    fn commands(&self) -> Vec<String> {
        if self.listening == Listening::Shell {
            return Vec::new();
        }
        let mut commands = Vec::new();
        if !self.service.rivals().is_empty() {
            commands.push(format!("mask --now {}", self.service.rivals().join(" ")));
        }
        commands.push("daemon-reload".to_owned());
        commands.push(format!("enable {}", self.units(".socket")));
        // A socket whose service runs cannot be restarted, and either goes on with what it was started
        // with.
        commands.push(format!("stop {}", self.units(".service")));
        commands.push(format!("restart {}", self.units(".socket")));
        commands
    }

    fn units(&self, suffix: &str) -> String {
        self.names.iter().map(|name| format!("{name}{suffix}")).collect::<Vec<_>>().join(" ")
    }

    /// What installing does, for a person who would rather do it.
    fn script(&self) -> String {
        let mut script = String::new();
        // All files of a plan are in one directory.
        let directory = self.files.first().and_then(|file| file.path.parent()).unwrap_or("/".as_ref());
        let _ = writeln!(script, "umask 022\nmkdir -p {}", shell_word(&directory.display().to_string()));
        for File { path, text } in &self.files {
            let _ = writeln!(script, "cat > {} <<'END'\n{text}END", shell_word(&path.display().to_string()));
        }
        for command in self.commands() {
            let _ = writeln!(script, "systemctl --user {}", command);
        }
        for line in self.advice.lines() {
            let _ = writeln!(script, "# {line}");
        }
        script
    }

    fn install(&self, force: bool) -> Result<String, Failure> {
        let states: Vec<_> = self.files.iter().map(File::state).collect::<Result<_, _>>()?;
        if !force
            && let Some((file, _)) =
                self.files.iter().zip(&states).find(|(_, state)| **state == State::Different)
        {
            return Err(Failure::new(
                Exit::Failure,
                format!(
                    "{} is there and says something else; compare it with what --print shows. --force replaces it and \
                     keeps the old one beside it",
                    file.path.display()
                ),
            ));
        }
        let mut said = String::new();
        for (file, state) in self.files.iter().zip(&states) {
            if *state == State::Different {
                let _ = writeln!(said, "kept    {}", file.set_aside()?.display());
            }
            if *state == State::Same {
                let _ = writeln!(said, "is      {}", file.path.display());
            } else {
                file.write()?;
                let _ = writeln!(said, "wrote   {}", file.path.display());
            }
        }
        let is_new = states.iter().any(|state| *state != State::Same);
        if is_new || !self.runs() {
            for command in self.commands() {
                systemctl(&command)?;
                let _ = writeln!(said, "ran     systemctl --user {}", command);
            }
            said += "\n";
        } else {
            said += "Nothing had to be changed.\n\n";
        }
        said += &self.advice;
        Ok(said)
    }

    /// Whether systemd listens, where it is to.
    fn runs(&self) -> bool {
        self.listening == Listening::Shell
            || systemctl(&format!("is-active --quiet {}", self.units(".socket"))).is_ok()
    }
}

fn gpg_advice() -> String {
    // GnuPG 2.2 ignores no-autostart in common.conf, and 2.3.0 does not have that file: 2.3.1 brought
    // it (https://lists.gnupg.org/pipermail/gnupg-announce/2021q2/000459.html). 2.4 reads the option there
    // (its common/comopt.c). Every gpg since 2.1 reads it in gpg.conf.
    let file = match gnupg_version() {
        Some(version) if version >= (2, 4) => "common.conf",
        Some(_) | None => "gpg.conf",
    };
    format!(
        "gpg finds the socket by itself. For ssh with GnuPG's keys, a line for ~/.profile:\n\
         export SSH_AUTH_SOCK=\"$(gpgconf --list-dirs agent-ssh-socket)\"\n\
         So that gpg never starts an agent of Linux instead, once:\n\
         echo no-autostart >> \"$(gpgconf --list-dirs homedir)/{file}\"\n"
    )
}

/// As in `gpgconf (GnuPG) 2.2.40`.
fn gnupg_version() -> Option<(u32, u32)> {
    let output = Command::new("gpgconf").arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut parts = text.lines().next()?.split(' ').next_back()?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Undoes what either way of installing has done.
fn remove(service: Service) -> Result<String, Failure> {
    let systemd = Plan::new(service, Listening::Systemd, None)?;
    let shell = Plan::new(service, Listening::Shell, None)?;
    let is_there = |plan: &Plan| plan.files.iter().any(|file| file.path.exists());
    let had_units = is_there(&systemd);
    if !had_units && !is_there(&shell) {
        return Ok(format!(
            "{} is not set up: nothing had to be removed.\n{}",
            service.name(),
            relays_that_run(service)
        ));
    }
    let mut said = String::new();
    let has_manager = Listening::available() == Listening::Systemd;
    let tell_systemd = |said: &mut String, command: String| {
        if !(had_units && has_manager) {
            return Ok(());
        }
        let _ = writeln!(said, "ran     systemctl --user {command}");
        systemctl(&command)
    };
    tell_systemd(&mut said, format!("disable --now {}", systemd.units(".socket")))?;
    tell_systemd(&mut said, format!("stop {}", systemd.units(".service")))?;
    for file in systemd.files.iter().chain(&shell.files) {
        match file.found()? {
            None => {}
            // Made by this command, if perhaps with other paths.
            Some(found) if found.starts_with(header(service).as_bytes()) => {
                fs::remove_file(&file.path).map_err(|error| failure("remove", &file.path, &error))?;
                let _ = writeln!(said, "removed {}", file.path.display());
            }
            Some(_) => {
                let _ = writeln!(said, "was changed, is now {}", file.set_aside()?.display());
            }
        }
    }
    tell_systemd(&mut said, "daemon-reload".to_owned())?;
    if !service.rivals().is_empty() {
        tell_systemd(&mut said, format!("unmask {}", service.rivals().join(" ")))?;
    }
    said += &relays_that_run(service);
    said += "\nTake the line out of your profile, too. Shells that run keep what it has set.\n";
    Ok(said)
}

/// The relays that a shell has started for `service`, each with the command that ends it. systemd
/// stops its own.
fn relays_that_run(service: Service) -> String {
    let listeners: Vec<_> = service
        .sockets(Listening::Shell)
        .iter()
        .filter_map(|socket| socket.path.resolved())
        .map(|path| [b"unix:", path.as_os_str().as_encoded_bytes()].concat())
        .collect();
    let mut said = String::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(id) = process.file_name().to_str().and_then(|id| id.parse::<u32>().ok()) else { continue };
        let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let words: Vec<_> = command.split(|byte| *byte == 0).collect();
        if words.contains(&&b"forward"[..])
            && let Some(listener) = listeners.iter().find(|listener| words.contains(&&listener[..]))
        {
            let listener = output::printable(&String::from_utf8_lossy(listener));
            let _ = writeln!(said, "runs    process {id} still serves {listener}; end it with: kill {id}");
        }
    }
    said
}

/// An error has what systemctl says.
fn systemctl(command: &str) -> Result<(), Failure> {
    let failure =
        |reason: &str| Failure::new(Exit::Failure, format!("`systemctl --user {command}` failed: {reason}"));
    let output = Command::new("systemctl")
        .arg("--user")
        .args(command.split(' '))
        .output()
        .map_err(|error| failure(&error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failure(&format!("{}; {}", String::from_utf8_lossy(&output.stderr).trim(), output.status)))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Missing,
    Same,
    Different,
}

impl File {
    fn found(&self) -> Result<Option<Vec<u8>>, Failure> {
        match fs::read(&self.path) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failure("read", &self.path, &error)),
        }
    }

    fn state(&self) -> Result<State, Failure> {
        Ok(match self.found()? {
            None => State::Missing,
            Some(found) if found == self.text.as_bytes() => State::Same,
            Some(_) => State::Different,
        })
    }

    fn set_aside(&self) -> Result<PathBuf, Failure> {
        // Not a name that systemd would take for a unit, nor one that is taken.
        let aside = (0_u32..)
            .map(|number| {
                let mut aside = self.path.clone().into_os_string();
                aside.push(if number == 0 { ".old".to_owned() } else { format!(".old.{number}") });
                PathBuf::from(aside)
            })
            .find(|aside| aside.symlink_metadata().is_err())
            .unwrap_or_default();
        fs::rename(&self.path, &aside).map_err(|error| failure("set aside", &self.path, &error))?;
        Ok(aside)
    }

    fn write(&self) -> Result<(), Failure> {
        let directory = self.path.parent().unwrap_or(&self.path);
        // No other user may write to what a shell or systemd executes, whatever the umask.
        let write = || {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o644)
                .open(&self.path)?;
            file.set_permissions(fs::Permissions::from_mode(0o644))?;
            file.write_all(self.text.as_bytes())
        };
        write().map_err(|error| failure("write", &self.path, &error))
    }
}

fn failure(verb: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Failure, format!("cannot {verb} {}: {error}", path.display()))
}

fn configuration() -> PathBuf {
    // A relative path is to be ignored, says the XDG Base Directory Specification.
    let told = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    told.unwrap_or_else(|| home().join(".config"))
}

fn unit(name: &str, kind: &str) -> PathBuf {
    configuration().join("systemd/user").join(format!("{name}.{kind}"))
}

fn snippet(service: Service) -> PathBuf {
    configuration().join("npipe").join(format!("{}.sh", service.name()))
}

fn header(service: Service) -> String {
    format!(
        "# Made by `npipe wsl setup {name}`; `npipe wsl setup {name} --remove` undoes it.\n",
        name = service.name()
    )
}

fn socket_unit(service: Service, socket: &Socket) -> String {
    format!(
        "{}[Unit]\n\
         Description={}\n\
         \n\
         [Socket]\n\
         ListenStream={}\n\
         SocketMode=0600\n\
         DirectoryMode=0700\n\
         RemoveOnStop=yes\n\
         \n\
         [Install]\n\
         WantedBy=sockets.target\n",
        header(service),
        service.title(),
        in_unit(&socket.path),
    )
}

fn service_unit(service: Service, socket: &Socket, command: &[String]) -> String {
    let words: Vec<_> = command.iter().map(|word| systemd_word(word)).collect();
    format!(
        "{}[Unit]\n\
         Description={}, by npipe\n\
         Requires={name}.socket\n\
         After={name}.socket\n\
         \n\
         [Service]\n\
         ExecStart={}\n",
        header(service),
        service.title(),
        words.join(" "),
        name = socket.name,
    )
}

/// The lines of a shell that start what serves `socket`, in a session of its own: Ctrl-C at the
/// prompt is not for it. They wait until it listens or has ended, for a second at most. Where one
/// serves already, another ends at once.
fn start(socket: &Socket, command: &[String]) -> String {
    let path = in_shell(&socket.path);
    let directory = Path::new(&path).parent().unwrap_or(Path::new("/"));
    let words: Vec<_> = command.iter().map(|word| shell_word(word)).collect();
    format!(
        "(\n\
         \x20 umask 077\n\
         \x20 mkdir -p {directory}\n\
         \x20 log={log}\n\
         \x20 touch \"$log\"\n\
         \x20 before=$(grep -c '^listening on ' \"$log\") || :\n\
         \x20 $(command -v setsid || echo nohup) {command} </dev/null >>\"$log\" 2>&1 &\n\
         \x20 relay=$!\n\
         \x20 tries=0\n\
         \x20 while [ \"$tries\" -lt 20 ] && kill -0 \"$relay\" 2>/dev/null &&\n\
         \x20   [ \"$(grep -c '^listening on ' \"$log\")\" = \"$before\" ]; do\n\
         \x20   sleep 0.05\n\
         \x20   tries=$((tries + 1))\n\
         \x20 done\n\
         )\n",
        directory = shell_word(&directory.display().to_string()),
        log = shell_word(&log(Path::new(&path), socket.name).display().to_string()),
        command = words.join(" "),
    )
}

/// The log of a relay that a shell starts.
pub(super) fn log(socket: &Path, name: &str) -> PathBuf {
    socket.with_file_name(format!("{name}.log"))
}

/// The line of a shell that tells programs where the service is, if it takes one.
fn variable(service: Service, sockets: &[Socket]) -> String {
    match (service.variable(), sockets) {
        (Some((variable, scheme)), [socket, ..]) => {
            let value = match &socket.path {
                SocketPath::InRuntimeDirectory(_) => format!("\"{scheme}{}\"", in_shell(&socket.path)),
                SocketPath::Absolute(path) => shell_word(&format!("{scheme}{}", path.display())),
            };
            format!("export {variable}={value}\n")
        }
        _ => String::new(),
    }
}

fn in_unit(path: &SocketPath) -> String {
    match path {
        SocketPath::InRuntimeDirectory(file) => format!("%t/{file}"),
        SocketPath::Absolute(path) => path.display().to_string().replace('%', "%%"),
    }
}

fn in_shell(path: &SocketPath) -> String {
    match path {
        SocketPath::InRuntimeDirectory(file) => format!("$XDG_RUNTIME_DIR/{file}"),
        SocketPath::Absolute(path) => path.display().to_string(),
    }
}

/// A word of `ExecStart=`: systemd.service(5), systemd.syntax(7).
fn systemd_word(word: &str) -> String {
    let escaped = word.replace('\\', r"\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "/._-:".contains(character);
    if word.chars().all(is_plain) { escaped } else { format!("\"{escaped}\"") }
}

/// A word of a shell's command line. No path and no argument has a NUL, which could not be quoted.
pub(super) fn shell_word(word: &str) -> String {
    shlex::try_quote(word).unwrap_or_default().into_owned()
}

#[cfg(test)]
mod tests {
    use super::{shell_word, systemd_word};

    #[test]
    fn words_mean_themselves_to_a_shell() {
        assert_eq!(shell_word("/mnt/c/npipe.exe"), "/mnt/c/npipe.exe");
        let words = [
            "/mnt/c/Program Files/n.exe",
            "a'b$c",
            "",
            "`id`",
            "a\"b\\c",
            "two\nlines",
            "!x",
            "~",
            "#",
            "a=b",
        ];
        let line = words.map(shell_word).join(" ");
        let output = std::process::Command::new("sh")
            .args(["-c", &format!("printf '%s\\0' {line}")])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), words.join("\0") + "\0", "{line}");
    }

    #[test]
    fn words_mean_themselves_to_systemd() {
        assert_eq!(systemd_word("/mnt/c/npipe.exe"), "/mnt/c/npipe.exe");
        assert_eq!(systemd_word("/mnt/c/Program Files/n.exe"), "\"/mnt/c/Program Files/n.exe\"");
        assert_eq!(systemd_word(r#"100% $HOME "x" \"#), r#""100%% $$HOME \"x\" \\""#);
    }
}
