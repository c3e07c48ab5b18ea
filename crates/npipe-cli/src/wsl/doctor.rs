//! `npipe wsl doctor`: looks at all that the bridge needs, from the system's side to the agents on Windows, and says in words
//! what is wrong and what helps. It changes nothing, beyond starting the Windows program as the bridge does.
//!
//! What the system tells is read below a root that the caller names.

use std::env;
use std::ffi::OsStr;
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::interop::{self, leads_to_windows, lives};
use super::service::{Listening, Service};
use super::setup;
use crate::bridge::client::{Bridge, Opening, Settings};
use crate::bridge::process::find;
use crate::bridge::protocol::EndOfInput;
use crate::cli::DoctorArguments;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::patience::Patience;
use crate::report::Report;

pub(crate) async fn run(arguments: DoctorArguments, report: Report) -> Result<(), Failure> {
    let mut findings = Findings::default();
    let root = &arguments.root;
    let system = System::of(root);
    system.check(&mut findings);
    if system != System::Other {
        check_interop(root, &mut findings);
        check_interop_socket(root, env::var_os(interop::SOCKET_VARIABLE).as_deref(), &mut findings);
    }
    match find(arguments.windows_program.path.as_deref()) {
        Ok(program) => {
            if system != System::Other {
                check_drive(root, &program, &mut findings);
            }
            check_windows_side(program, report, &mut findings).await;
        }
        Err(reason) => {
            findings.problem(reason, "get npipe.exe of this version, and put it on a Windows drive")
        }
    }
    for service in Service::ALL {
        check_sockets(service, &mut findings);
    }
    check_rivals(root, &mut findings);
    findings.publish()
}

#[derive(Default)]
struct Findings {
    text: String,
    problems: usize,
}

impl Findings {
    fn good(&mut self, what: impl AsRef<str>) {
        let _ = writeln!(self.text, "ok       {}", what.as_ref());
    }

    /// What need not be as it should, but is good to know.
    fn note(&mut self, what: impl AsRef<str>, remedy: &str) {
        let _ = writeln!(self.text, "note     {}\n         {remedy}", what.as_ref());
    }

    fn problem(&mut self, what: impl AsRef<str>, remedy: &str) {
        self.problems += 1;
        let _ = writeln!(self.text, "problem  {}\n         {remedy}", what.as_ref());
    }

    fn publish(self) -> Result<(), Failure> {
        output::write(&self.text)?;
        match self.problems {
            0 => Ok(()),
            1 => Err(Failure::new(Exit::Unhealthy, "found one problem")),
            several => Err(Failure::new(Exit::Unhealthy, format!("found {several} problems"))),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum System {
    Wsl1,
    Wsl2,
    Other,
}

impl System {
    /// Kernels of WSL have names like 4.4.0-19041-Microsoft and 5.15.90.1-microsoft-standard-WSL2; those that people build
    /// themselves for WSL 2 keep the word in most cases.
    fn of(root: &Path) -> System {
        let release = fs::read_to_string(root.join("proc/sys/kernel/osrelease")).unwrap_or_default();
        if release.trim().ends_with("-Microsoft") {
            System::Wsl1
        } else if release.contains("microsoft") || release.contains("WSL2") || root.join("run/WSL").exists() {
            System::Wsl2
        } else {
            System::Other
        }
    }

    fn check(self, findings: &mut Findings) {
        match self {
            System::Wsl1 => findings.good("this is WSL 1"),
            System::Wsl2 => findings.good("this is WSL 2"),
            System::Other => findings.note(
                "this is not WSL",
                "Windows programs run here only by other means, such as Wine in a script that --windows-exe names",
            ),
        }
    }
}

/// Where the kernel is told that Windows programs are run by WSL's init; `-late` where WSL had to say it again.
const INTEROP_ENTRIES: [&str; 2] =
    ["proc/sys/fs/binfmt_misc/WSLInterop", "proc/sys/fs/binfmt_misc/WSLInterop-late"];

fn check_interop(root: &Path, findings: &mut Findings) {
    let configuration = fs::read_to_string(root.join("etc/wsl.conf")).unwrap_or_default();
    if switches_interop_off(&configuration) {
        return findings.problem(
            "/etc/wsl.conf has switched Windows programs off",
            "take `enabled = false` out of its section [interop], then run `wsl.exe --shutdown` on Windows",
        );
    }
    let entries = INTEROP_ENTRIES.map(|entry| fs::read_to_string(root.join(entry)).ok());
    let mut entries = entries.into_iter().flatten().peekable();
    if entries.peek().is_none() {
        // https://github.com/microsoft/WSL/issues/8843
        findings.problem(
            "the system does not know how to start Windows programs; systemd-binfmt takes WSL's word away when it starts",
            "sudo sh -c 'echo :WSLInterop:M::MZ::/init:PF > /etc/binfmt.d/WSLInterop.conf; systemctl restart systemd-binfmt'",
        );
    } else if entries.any(|entry| entry.starts_with("enabled")) {
        findings.good("the system knows how to start Windows programs");
    } else {
        findings.problem(
            "the system has been told not to start Windows programs",
            "sudo sh -c 'echo 1 > /proc/sys/fs/binfmt_misc/WSLInterop'",
        );
    }
}

/// The format is that of INI files; keys and values in any case.
fn switches_interop_off(configuration: &str) -> bool {
    let mut section = String::new();
    for line in configuration.lines() {
        let line = line.split('#').next().unwrap_or(line).trim().to_ascii_lowercase();
        if line.starts_with('[') {
            section = line;
        } else if let Some((key, value)) = line.split_once('=')
            && section == "[interop]"
            && key.trim() == "enabled"
            && value.trim() == "false"
        {
            return true;
        }
    }
    false
}

fn check_interop_socket(root: &Path, inherited: Option<&OsStr>, findings: &mut Findings) {
    let variable = interop::SOCKET_VARIABLE;
    if inherited.is_some_and(|socket| leads_to_windows(Path::new(socket), &root.join("run/WSL"))) {
        return findings.good(format!("{variable} leads to Windows"));
    }
    let state =
        if inherited.is_some() { "is stale: the shell it was made for has gone" } else { "is not set" };
    match interop::replacement(inherited, &root.join("run/WSL")) {
        Some(socket) => findings.note(
            format!("{variable} {state}; npipe uses {} instead", socket.display()),
            "other programs cannot start Windows programs here: open a new shell for them",
        ),
        None => findings.problem(
            format!("{variable} {state}, and no socket of /run/WSL is served"),
            "run `wsl.exe --shutdown` on Windows, and open a new shell",
        ),
    }
}

/// As the kernel calls the file systems by which WSL shows Windows drives.
const WINDOWS_FILE_SYSTEMS: [&str; 3] = ["9p", "drvfs", "virtiofs"];

fn check_drive(root: &Path, program: &Path, findings: &mut Findings) {
    let program = program.canonicalize().unwrap_or_else(|_| program.to_owned());
    let mounts = fs::read_to_string(root.join("proc/self/mounts")).unwrap_or_default();
    match file_system(&mounts, &program) {
        Some(kind) if !WINDOWS_FILE_SYSTEMS.contains(&kind) => findings.note(
            format!("{} is on a Linux file system ({kind})", program.display()),
            "Windows reads it over the network from there, which takes seconds: move it to a Windows drive, such as /mnt/c",
        ),
        _ => findings.good(format!("{} is the Windows program", program.display())),
    }
}

/// The kind of the innermost mount that `path` is on: proc_pid_mounts(5).
fn file_system<'a>(mounts: &'a str, path: &Path) -> Option<&'a str> {
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?.replace(r"\040", " "), fields.next()?))
    });
    // Of two at one place the later hides the earlier.
    let innermost = mounts.filter(|(place, _)| path.starts_with(place)).max_by_key(|(place, _)| place.len());
    innermost.map(|(_, kind)| kind)
}

async fn check_windows_side(program: PathBuf, report: Report, findings: &mut Findings) {
    let shown = program.display().to_string();
    let bridge = Bridge::new(Settings { program: Some(program), idle: None }, report);
    match bridge.greet().await {
        Err(error) => {
            return findings.problem(
                error.to_string(),
                "the Windows side cannot be reached before this works: see above, and try the program by itself",
            );
        }
        Ok(hello) if hello.program == env!("CARGO_PKG_VERSION") => {
            findings.good(format!("{shown} answers, and is of this version"));
        }
        Ok(hello) => findings.note(
            format!("{shown} answers, and is of version {}", hello.program),
            concat!("this is ", env!("CARGO_PKG_VERSION"), ": install the same version on both sides"),
        ),
    }
    for service in Service::ALL {
        let opening = Opening {
            target: service.name(),
            patience: Patience::WhileBusy(Duration::ZERO),
            launch: false,
            end_of_input: EndOfInput::default(),
            end_at_empty_message: false,
        };
        match bridge.open(opening).await {
            Ok(_) => findings.good(format!("{} answers on Windows", service.name())),
            Err(error) => {
                let what = format!("{} does not answer on Windows: {error}", service.name());
                let remedy = remedy(service, &error);
                if setup::is_there(service) {
                    findings.problem(what, remedy);
                } else {
                    findings.note(what, remedy);
                }
            }
        }
    }
}

fn remedy(service: Service, error: &io::Error) -> &'static str {
    match (error.kind(), service) {
        (io::ErrorKind::PermissionDenied, _) => {
            "it belongs to another user or runs elevated: start both sides as the same user"
        }
        (_, Service::SshAgent) => {
            "if you need it, in PowerShell as administrator: Set-Service ssh-agent -StartupType Automatic; Start-Service ssh-agent"
        }
        (_, Service::GpgAgent) => {
            "if you need it, install Gpg4win on Windows, and run there: gpgconf --launch gpg-agent"
        }
        (_, Service::Docker) => "if you need it, start Docker Desktop on Windows",
    }
}

/// What Linux programs find: the sockets that were set up, and the variable that leads to one.
fn check_sockets(service: Service, findings: &mut Findings) {
    let set_up = setup::is_there(service);
    let sockets = service.sockets(setup::listening(service));
    if set_up {
        for socket in &sockets {
            let path = socket.path.resolved();
            if path.as_deref().is_some_and(lives) {
                findings.good(format!("{} is served here", socket.name));
            } else {
                findings.problem(
                    format!("nobody listens at the socket of {}", socket.name),
                    match setup::listening(service) {
                        Listening::Systemd => "see `systemctl --user status`, and restart its socket unit; or run the setup again",
                        Listening::Shell => "open a new login shell; if that does not help, run the setup again",
                    },
                );
            }
        }
    }
    let Some((variable, scheme)) = service.variable() else { return };
    let Some(value) = env::var_os(variable) else {
        if set_up {
            findings.problem(
                format!("{variable} is not set in this shell"),
                "put the line into your profile that `npipe wsl setup` shows, and open a new shell",
            );
        }
        return;
    };
    let value = value.to_string_lossy();
    let Some(path) = value.strip_prefix(scheme).filter(|path| path.starts_with('/')) else {
        return findings
            .note(format!("{variable} is {value:?}, which is no Unix socket"), "it is not npipe's");
    };
    if !lives(Path::new(path)) {
        findings.problem(
            format!("{variable} is {value:?}, where nobody listens"),
            "set it to a socket that is served, by the line that `npipe wsl setup` shows",
        );
    } else if set_up
        && sockets.iter().all(|socket| socket.path.resolved().as_deref() != Some(Path::new(path)))
    {
        findings.note(
            format!("{variable} is {value:?}, where somebody else listens"),
            "the socket of npipe is not used in this shell: look for what sets the variable in your profile",
        );
    } else {
        findings.good(format!("{variable} leads to a socket that is served"));
    }
}

/// Programs that do the same, or are started for it by socat.
const RIVALS: [&str; 4] = ["npiperelay.exe", "wsl2-ssh-pageant.exe", "wsl-relay.exe", "wsl2-ssh-agent"];

fn check_rivals(root: &Path, findings: &mut Findings) {
    let processes = fs::read_dir(root.join("proc")).into_iter().flatten().flatten();
    for process in processes {
        let id = process.file_name();
        let Ok(command) = fs::read(process.path().join("cmdline")) else { continue };
        let command = String::from_utf8_lossy(&command).trim_end_matches('\0').replace('\0', " ");
        let is_number = id.to_str().is_some_and(|id| id.parse::<u32>().is_ok());
        let mut names = command.split(['/', ' ', ':', ',', '"']);
        if is_number && names.any(|name| RIVALS.contains(&name)) {
            findings.note(
                format!("process {} does the same: {}", id.display(), output::printable(&command)),
                "if it listens at a socket of npipe's, stop it and take it out of your profile",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{file_system, switches_interop_off};

    #[test]
    fn the_innermost_mount_decides() {
        let mounts =
            "/dev/sdc / ext4 rw 0 0\nC:\\134 /mnt/c 9p rw 0 0\nnone /mnt/c/my\\040disk tmpfs rw 0 0\n";
        assert_eq!(file_system(mounts, Path::new("/mnt/c/npipe.exe")), Some("9p"));
        assert_eq!(file_system(mounts, Path::new("/mnt/cc/npipe.exe")), Some("ext4"));
        assert_eq!(file_system(mounts, Path::new("/mnt/c/my disk/npipe.exe")), Some("tmpfs"));
        assert_eq!(file_system("", Path::new("/mnt/c/npipe.exe")), None);
    }

    #[test]
    fn only_the_section_of_interop_switches_it_off() {
        assert!(switches_interop_off("[boot]\nsystemd=true\n[Interop]\n Enabled = False # no\n"));
        assert!(!switches_interop_off("[automount]\nenabled=false\n[interop]\nappendWindowsPath=false\n"));
        assert!(!switches_interop_off("[interop]\nenabled=true\n#enabled=false"));
    }
}
