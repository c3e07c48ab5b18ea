//! `npipe wsl doctor`: looks at all that the bridge needs, from the system's side to the agents on
//! Windows, and says in words what is wrong and what helps. It changes nothing, beyond starting the
//! Windows program as the bridge does.
//!
//! What the system tells is read below a root that the caller names.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::{Instant, timeout};

use super::interop::{self, leads_to_windows, lives};
use super::service::{Listening, Service, Socket};
use super::setup;
use crate::account::Lasted;
use crate::agent::{self, Answers};
use crate::bridge::client::{Bridge, BridgeStream, Opening, Settings};
use crate::bridge::process::find;
use crate::bridge::protocol::{EndOfInput, Hello};
use crate::cli::DoctorArguments;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::patience::Patience;
use crate::report::Report;

pub(crate) async fn run(arguments: DoctorArguments, report: Report) -> Result<(), Failure> {
    let mut findings = Findings::new();
    let root = &arguments.root;
    let system = System::of(root);
    system.check(&mut findings);
    if system != System::Other {
        check_interop(root, &mut findings);
        check_interop_socket(root, env::var_os(interop::SOCKET_VARIABLE).as_deref(), &mut findings);
        check_network(&mut findings).await;
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
        check_sockets(root, service, &mut findings).await;
    }
    check_rivals(root, &mut findings);
    findings.end()
}

/// Findings are printed as they come: some checks take seconds.
struct Findings {
    printed: Result<(), Failure>,
    problems: usize,
}

impl Findings {
    fn new() -> Findings {
        Findings { printed: Ok(()), problems: 0 }
    }

    fn print(&mut self, text: &str) {
        if self.printed.is_ok() {
            self.printed = output::write(text);
        }
    }

    fn good(&mut self, what: impl AsRef<str>) {
        self.print(&format!("ok       {}\n", what.as_ref()));
    }

    /// What need not be as it should, but is good to know.
    fn note(&mut self, what: impl AsRef<str>, remedy: &str) {
        self.print(&format!("note     {}\n         {remedy}\n", what.as_ref()));
    }

    fn problem(&mut self, what: impl AsRef<str>, remedy: &str) {
        self.problems += 1;
        self.print(&format!("problem  {}\n         {remedy}\n", what.as_ref()));
    }

    fn end(self) -> Result<(), Failure> {
        self.printed?;
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
    /// Kernels of WSL have names like 4.4.0-19041-Microsoft and 5.15.90.1-microsoft-standard-WSL2;
    /// those that people build themselves for WSL 2 keep the word in most cases.
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

/// The entry by which the kernel starts Windows programs, and the one that WSL adds after
/// systemd-binfmt has removed the first.
const INTEROP_ENTRY: &str = "proc/sys/fs/binfmt_misc/WSLInterop";
const LATE_INTEROP_ENTRY: &str = "proc/sys/fs/binfmt_misc/WSLInterop-late";

/// systemd-binfmt registers it again whenever it starts.
const KEEP_INTEROP_ENTRY: &str = "sudo sh -c 'echo :WSLInterop:M::MZ::/init:PF > /etc/binfmt.d/WSLInterop.conf; systemctl restart systemd-binfmt'";

fn check_interop(root: &Path, findings: &mut Findings) {
    let configuration = fs::read_to_string(root.join("etc/wsl.conf")).unwrap_or_default();
    if is_set(&configuration, ("interop", "enabled"), "false") {
        return findings.problem(
            "/etc/wsl.conf has switched Windows programs off",
            "take `enabled = false` out of its section [interop], then run `wsl.exe --shutdown` on Windows",
        );
    }
    if is_set(&configuration, ("interop", "appendwindowspath"), "false") {
        findings.note(
            "/etc/wsl.conf has appendWindowsPath=false: npipe.exe is not found on the PATH of Windows",
            "name it in your profile: export NPIPE_WINDOWS_EXE=/mnt/c/Users/NAME/.cargo/bin/npipe.exe",
        );
    }
    let [entry, late] =
        [INTEROP_ENTRY, LATE_INTEROP_ENTRY].map(|entry| fs::read_to_string(root.join(entry)).ok());
    let is_enabled =
        |entry: &Option<String>| entry.as_ref().is_some_and(|entry| entry.starts_with("enabled"));
    match (&entry, &late) {
        // https://github.com/microsoft/WSL/issues/8843
        (None, None) if has_systemd(root) => findings.problem(
            "the system does not know how to start Windows programs; systemd-binfmt takes WSL's word away when it starts",
            KEEP_INTEROP_ENTRY,
        ),
        (None, None) => findings.problem(
            "the system does not know how to start Windows programs: WSL's entry in binfmt_misc is missing",
            "sudo sh -c 'echo :WSLInterop:M::MZ::/init:PF > /proc/sys/fs/binfmt_misc/register'",
        ),
        _ if is_enabled(&entry) => findings.good("the system knows how to start Windows programs"),
        _ if is_enabled(&late) => {
            findings.good("the system knows how to start Windows programs");
            if entry.is_none() {
                findings.note(
                    "only WSLInterop-late does so: systemd-binfmt removes it when it starts again",
                    KEEP_INTEROP_ENTRY,
                );
            }
        }
        (entry, _) => findings.problem(
            "the system has been told not to start Windows programs",
            match entry {
                Some(_) => "sudo sh -c 'echo 1 > /proc/sys/fs/binfmt_misc/WSLInterop'",
                None => "sudo sh -c 'echo 1 > /proc/sys/fs/binfmt_misc/WSLInterop-late'",
            },
        ),
    }
}

/// Returns whether systemd is the init (sd_booted(3)), or is set up to be.
fn has_systemd(root: &Path) -> bool {
    let configuration = fs::read_to_string(root.join("etc/wsl.conf")).unwrap_or_default();
    root.join("run/systemd/system").exists() || is_set(&configuration, ("boot", "systemd"), "true")
}

/// With mirrored networking, ports of Linux and of Windows are the same.
async fn check_network(findings: &mut Findings) {
    let asked = tokio::process::Command::new("wslinfo")
        .arg("--networking-mode")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    if let Ok(Ok(answer)) = timeout(LONGEST_ANSWER, asked).await
        && String::from_utf8_lossy(&answer.stdout).trim() == "mirrored"
    {
        findings.note(
            "networking is mirrored: a port that npipe listens on with tcp: is taken on Windows too, and its users can connect",
            "use unix:PATH where only Linux programs connect: npipe forward unix:PATH TARGET",
        );
    }
}

/// The format is that of INI files; keys and values in any case.
fn is_set(configuration: &str, wanted: (&str, &str), value: &str) -> bool {
    let mut section = String::new();
    for line in configuration.lines() {
        let line = line.split('#').next().unwrap_or(line).trim().to_ascii_lowercase();
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').trim().to_owned();
        } else if let Some((key, found)) = line.split_once('=')
            && (&*section, key.trim()) == wanted
            && found.trim().trim_matches('"') == value
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
    let (kind, options) = mount(&mounts, &program).unwrap_or_default();
    let program_shown = program.display();
    if options.split(',').any(|option| option == "noexec") {
        return findings.problem(
            format!("{program_shown} is on a drive whose programs may not be started (noexec)"),
            "take noexec out of /etc/fstab and out of `options` in the section [automount] of /etc/wsl.conf, then run `wsl.exe --shutdown` on Windows",
        );
    }
    if rustix::fs::access(&program, rustix::fs::Access::EXEC_OK).is_err() {
        return findings.problem(
            format!("{program_shown} may not be started: it has no execute permission"),
            &format!(
                "chmod +x {}; if that changes nothing, take fmask and umask out of `options` in the section [automount] of /etc/wsl.conf, then run `wsl.exe --shutdown` on Windows",
                setup::shell_word(&program_shown.to_string())
            ),
        );
    }
    if !kind.is_empty() && !WINDOWS_FILE_SYSTEMS.contains(&kind) {
        return findings.note(
            format!("{program_shown} is on a Linux file system ({kind})"),
            "Windows reads it over the network from there, which takes seconds: move it to a Windows drive, such as /mnt/c",
        );
    }
    findings.good(format!("{program_shown} is the Windows program"));
}

/// The kind and the options of the innermost mount that `path` is on: proc_pid_mounts(5).
fn mount<'a>(mounts: &'a str, path: &Path) -> Option<(&'a str, &'a str)> {
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?.replace(r"\040", " "), (fields.next()?, fields.next()?)))
    });
    // Of two at one place the later hides the earlier.
    let innermost = mounts.filter(|(place, _)| path.starts_with(place)).max_by_key(|(place, _)| place.len());
    innermost.map(|(_, mount)| mount)
}

/// The time-out of an answer: of an agent, of the relay, of a program of WSL.
const LONGEST_ANSWER: Duration = Duration::from_secs(5);

/// The start of the Windows program takes a fraction of a second, unless a virus scanner reads it
/// first.
const SLOW_START: Duration = Duration::from_secs(4);

/// Greets the Windows program, and reports on stderr that it takes long.
async fn greet(bridge: &Bridge, shown: &str, report: Report) -> io::Result<Arc<Hello>> {
    let greeting = bridge.greet();
    tokio::pin!(greeting);
    let began = Instant::now();
    loop {
        match timeout(SLOW_START, &mut greeting).await {
            Ok(greeted) => return greeted,
            Err(_) => report.warning(format_args!(
                "waiting for {shown} for {} seconds; a virus scanner may be reading it",
                began.elapsed().as_secs()
            )),
        }
    }
}

async fn check_windows_side(program: PathBuf, report: Report, findings: &mut Findings) {
    let shown = program.display().to_string();
    let bridge = Bridge::new(Settings { program: Some(program), idle: None }, report);
    let began = Instant::now();
    match greet(&bridge, &shown, report).await {
        Err(error) => {
            let remedy = match error.to_string() {
                // WSL's relay for Windows programs has lost its connection to Windows.
                text if ["UtilAcceptVsock", "UtilBindVsock", "UtilConnectVsock"]
                    .iter()
                    .any(|call| text.contains(call)) =>
                {
                    "WSL itself does not reach Windows any more: run `wsl.exe --shutdown` on Windows, and open a new shell"
                }
                _ => {
                    "the Windows side cannot be reached before this works: see above, and try the program by itself"
                }
            };
            return findings.problem(error.to_string(), remedy);
        }
        Ok(hello) if hello.program == env!("CARGO_PKG_VERSION") => {
            findings.good(format!("{shown} answers, and is of this version"));
        }
        Ok(hello) => findings.note(
            format!("{shown} answers, and is of version {}", hello.program),
            concat!("this is ", env!("CARGO_PKG_VERSION"), ": install the same version on both sides"),
        ),
    }
    if began.elapsed() >= SLOW_START {
        findings.note(
            format!(
                "{shown} took {} to start; a virus scanner may read it each time",
                Lasted(began.elapsed())
            ),
            "in PowerShell as administrator: Add-MpPreference -ExclusionProcess npipe.exe",
        );
    }
    for service in Service::ALL {
        for socket in service.sockets(setup::listening(service)) {
            match open(&bridge, socket.target).await {
                Ok(agent) if is_ssh_agent(socket.target) => {
                    check_agent(&bridge, socket.target, agent, findings).await;
                }
                Ok(_) => findings.good(format!("{} answers on Windows", socket.target)),
                Err(error) => {
                    let what = format!("{} does not answer on Windows: {error}", socket.target);
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
}

async fn open(bridge: &Bridge, target: &str) -> io::Result<BridgeStream> {
    let opening = Opening {
        target,
        patience: Patience::WhileBusy(Duration::ZERO),
        launch: false,
        end_of_input: EndOfInput::default(),
        end_at_empty_message: false,
        half_close: false,
    };
    bridge.open(opening).await
}

fn is_ssh_agent(target: &str) -> bool {
    target.parse().is_ok_and(|target| agent::is_ssh_agent(&target))
}

/// Asks for the identities, and again behind session-bind, on a connection of its own: an agent may
/// close the connection there.
async fn check_agent(bridge: &Bridge, name: &str, mut agent: BridgeStream, findings: &mut Findings) {
    let without = timeout(LONGEST_ANSWER, agent::examine(&mut agent, false)).await;
    drop(agent);
    match without {
        Ok(Answers::Keys(keys)) => {
            findings.good(format!("{name} answers on Windows, and has {}", Keys(keys)))
        }
        Ok(Answers::NoAgent) => {
            return findings.problem(
                format!("what answers as {name} on Windows does not speak the agent's protocol"),
                "see which program serves its pipe: npipe info ssh-agent",
            );
        }
        Ok(Answers::Closed | Answers::ClosedAtSessionBind) => {
            return findings.problem(
                format!("{name} on Windows closes the connection when it is asked for its keys"),
                "unlock it, if it is a password manager's; else in PowerShell as administrator: Restart-Service ssh-agent",
            );
        }
        Err(_) => {
            return findings.problem(
                format!("{name} on Windows took the connection, and did not answer for {} seconds", LONGEST_ANSWER.as_secs()),
                "see whether it waits for you in a window on Windows; else in PowerShell as administrator: Restart-Service ssh-agent",
            );
        }
    }
    let Ok(mut agent) = open(bridge, name).await else { return };
    if let Ok(Answers::ClosedAtSessionBind) = timeout(LONGEST_ANSWER, agent::examine(&mut agent, true)).await
    {
        findings.problem(format!("{name} on Windows closes the connection at {SESSION_BIND}"), UPDATE_AGENT);
    }
}

const SESSION_BIND: &str = "session-bind@openssh.com, which ssh of OpenSSH 8.9 and later sends first";
const UPDATE_AGENT: &str =
    "update the agent, or let npipe answer in its place: npipe forward --agent-compat unix:SOCKET ssh-agent";

struct Keys(u32);

impl fmt::Display for Keys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => formatter.write_str("no key: add one there with ssh-add"),
            1 => formatter.write_str("one key"),
            keys => write!(formatter, "{keys} keys"),
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
async fn check_sockets(root: &Path, service: Service, findings: &mut Findings) {
    let set_up = setup::is_there(service);
    let sockets = service.sockets(setup::listening(service));
    if set_up && setup::listening(service) == Listening::Systemd && Listening::available() == Listening::Shell
    {
        let by_shell = format!(
            "npipe wsl setup {name} --remove && npipe wsl setup {name} --install --listening shell",
            name = service.name()
        );
        let remedy = match has_systemd(root) {
            true => format!("sudo loginctl enable-linger \"$USER\"; or do without: {by_shell}"),
            false => format!(
                "put systemd=true into the section [boot] of /etc/wsl.conf and run `wsl.exe --shutdown` on Windows; or do without: {by_shell}"
            ),
        };
        findings.problem(
            format!(
                "{} is set up for systemd, and no systemd manages the services of this user",
                service.name()
            ),
            &remedy,
        );
    } else if set_up {
        for socket in &sockets {
            let path = socket.path.resolved();
            match path.as_deref().map(UnixStream::connect) {
                Some(connecting) => match connecting.await {
                    Ok(relay) => check_relay(socket, relay, findings).await,
                    Err(_) => nobody_listens(service, socket, findings),
                },
                None => nobody_listens(service, socket, findings),
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
    let shown = format!("\"{}\"", output::printable(&value));
    let Some(path) = value.strip_prefix(scheme).filter(|path| path.starts_with('/')) else {
        return findings.note(format!("{variable} is {shown}, which is no Unix socket"), "it is not npipe's");
    };
    if !lives(Path::new(path)) {
        findings.problem(
            format!("{variable} is {shown}, where nobody listens"),
            "set it to a socket that is served, by the line that `npipe wsl setup` shows",
        );
    } else if set_up
        && sockets.iter().all(|socket| socket.path.resolved().as_deref() != Some(Path::new(path)))
    {
        findings.note(
            format!("{variable} is {shown}, where somebody else listens"),
            "the socket of npipe is not used in this shell: look for what sets the variable in your profile",
        );
    } else {
        findings.good(format!("{variable} leads to a socket that is served"));
    }
}

fn nobody_listens(service: Service, socket: &Socket, findings: &mut Findings) {
    findings.problem(
        format!("nobody listens at the socket of {}", socket.name),
        match setup::listening(service) {
            Listening::Systemd => {
                "see `systemctl --user status`, and restart its socket unit; or run the setup again"
            }
            Listening::Shell => "open a new login shell; if that does not help, run the setup again",
        },
    );
}

/// Examines the relay that runs: with a stopped Windows process it accepts connections, and is
/// silent.
async fn check_relay(socket: &Socket, mut relay: UnixStream, findings: &mut Findings) {
    if !is_ssh_agent(socket.target) {
        return findings.good(format!("{} is served here", socket.name));
    }
    match timeout(LONGEST_ANSWER, agent::examine(&mut relay, true)).await {
        Ok(Answers::Keys(keys)) => {
            findings.good(format!("{} is served here, and has {}", socket.name, Keys(keys)));
        }
        Ok(Answers::ClosedAtSessionBind) => findings.problem(
            format!("{} is served here, and closes the connection at {SESSION_BIND}", socket.name),
            UPDATE_AGENT,
        ),
        Ok(Answers::Closed | Answers::NoAgent) => findings.problem(
            format!(
                "{} is served here, and closes the connection when it is asked for its keys",
                socket.name
            ),
            &format!(
                "see the reason: journalctl --user --unit {}, or the log in the directory of its socket",
                socket.name
            ),
        ),
        Err(_) => findings.problem(
            format!(
                "{} is served here, and did not answer for {} seconds: its Windows process may be stopped",
                socket.name,
                LONGEST_ANSWER.as_secs()
            ),
            &format!(
                "systemctl --user restart {}.service; without systemd, end npipe and open a new login shell",
                socket.name
            ),
        ),
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

    use super::{is_set, mount};

    #[test]
    fn the_innermost_mount_decides() {
        let mounts =
            "/dev/sdc / ext4 rw 0 0\nC:\\134 /mnt/c 9p rw 0 0\nnone /mnt/c/my\\040disk tmpfs rw 0 0\n";
        assert_eq!(mount(mounts, Path::new("/mnt/c/npipe.exe")), Some(("9p", "rw")));
        assert_eq!(mount(mounts, Path::new("/mnt/cc/npipe.exe")), Some(("ext4", "rw")));
        assert_eq!(mount(mounts, Path::new("/mnt/c/my disk/npipe.exe")), Some(("tmpfs", "rw")));
        assert_eq!(mount("", Path::new("/mnt/c/npipe.exe")), None);
    }

    #[test]
    fn only_the_section_of_interop_switches_it_off() {
        let is_off = |configuration| is_set(configuration, ("interop", "enabled"), "false");
        assert!(is_off("[boot]\nsystemd=true\n[Interop]\n Enabled = False # no\n"));
        assert!(!is_off("[automount]\nenabled=false\n[interop]\nappendWindowsPath=false\n"));
        assert!(!is_off("[interop]\nenabled=true\n#enabled=false"));
        assert!(is_set("[interop]\nappendWindowsPath = false\n", ("interop", "appendwindowspath"), "false"));
    }
}
