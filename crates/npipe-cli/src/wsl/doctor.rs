//! `npipe wsl doctor`: looks at all that the bridge needs, from the system's side to the agents on
//! Windows, and says in words what is wrong and what helps. It changes nothing, beyond starting the
//! Windows program as the bridge does.
//!
//! What the system tells is read below a root that the caller names.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::{Instant, timeout};

use super::LONGEST_ANSWER;
use super::examine::{Examined, Fault, examine};
use super::interop::{self, leads_to_windows, lives};
use super::service::{Listening, Protocol, Service, Socket};
use super::setup;
use crate::account::Lasted;
use crate::bridge::client::{Bridge, BridgeStream, Opening, Settings};
use crate::bridge::process::find;
use crate::bridge::protocol::{EndOfInput, Hello, RemoteError};
use crate::cli::DoctorArguments;
use crate::endpoint::Target;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::patience::{Obstacle, Patience};
use crate::report::Report;
use crate::verdict::{obstacle_of, open_failure};

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
    let mut on_windows = Vec::new();
    match find(arguments.windows_program.path.as_deref()) {
        Ok(program) => {
            if system != System::Other {
                check_drive(root, &program, &mut findings);
            }
            on_windows = check_windows_side(program, report, &mut findings).await;
        }
        Err(reason) => {
            findings.problem(reason, "get npipe.exe of this version, and put it on a Windows drive")
        }
    }
    for service in Service::ALL {
        check_sockets(root, service, &on_windows, &mut findings).await;
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

/// The servers of Windows by their targets, as far as the Windows program answers.
type OnWindows = Vec<(&'static str, Examined)>;

async fn check_windows_side(program: PathBuf, report: Report, findings: &mut Findings) -> OnWindows {
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
            findings.problem(error.to_string(), remedy);
            return Vec::new();
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
    let mut on_windows = Vec::new();
    for service in Service::ALL {
        for socket in service.sockets(setup::listening(service)) {
            let examined =
                examine(socket.protocol, async |patience| open(&bridge, socket.target, patience).await).await;
            report_server(service, &socket, &examined, findings);
            on_windows.push((socket.target, examined));
        }
    }
    on_windows
}

async fn open(bridge: &Bridge, target: &str, patience: Patience) -> io::Result<BridgeStream> {
    let opening = Opening {
        target,
        patience,
        launch: false,
        end_of_input: EndOfInput::default(),
        end_at_empty_message: false,
        half_close: false,
        only: None,
    };
    bridge.open(opening).await
}

fn report_server(service: Service, socket: &Socket, examined: &Examined, findings: &mut Findings) {
    let target = socket.target;
    let (what, remedy) = match examined {
        Examined::Good(detail) => {
            return findings.good(format!("{target} answers on Windows{}", shown(detail)));
        }
        Examined::Unreachable(error) => {
            let reason = match target.parse() {
                Ok(Target::Pipe(name)) => open_failure(&name, error, None).to_string(),
                _ => error.to_string(),
            };
            (format!("{target} does not answer on Windows: {reason}"), remedy(service, error).to_owned())
        }
        Examined::Fault(fault) => (
            format!("{target} on Windows {fault} {}", when(socket.protocol)),
            remedy_of_fault(service, *fault),
        ),
        Examined::AtSessionBind(fault) => {
            return findings.problem(
                format!("{target} on Windows {fault} at {SESSION_BIND}"),
                &answer_for_agent(target),
            );
        }
    };
    // An agent that runs is there to be used, also by a relay that was not set up here.
    let is_running_agent = matches!((examined, socket.protocol), (Examined::Fault(_), Protocol::SshAgent));
    if is_running_agent || setup::is_there(service) {
        findings.problem(what, &remedy);
    } else {
        findings.note(what, &remedy);
    }
}

fn shown(detail: &Option<String>) -> String {
    detail.as_ref().map_or_else(String::new, |detail| format!(", and has {detail}"))
}

/// The request at which a server of the protocol failed.
fn when(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::SshAgent => "at the request for its keys",
        Protocol::GpgAgent => "in place of a greeting",
        Protocol::Docker => "at a ping",
    }
}

const SESSION_BIND: &str = "session-bind@openssh.com, which ssh of OpenSSH 8.9 and later sends first";

fn answer_for_agent(target: &str) -> String {
    format!(
        "update the agent, or let npipe answer in its place: npipe forward --agent-compat unix:SOCKET {target}"
    )
}

fn remedy_of_fault(service: Service, fault: Fault) -> String {
    let restart = match service {
        Service::SshAgent => "in PowerShell as administrator: Restart-Service ssh-agent",
        Service::GpgAgent => "on Windows: gpgconf --kill gpg-agent && gpgconf --launch gpg-agent",
        Service::Docker => "restart Docker Desktop on Windows",
    };
    match (fault, service) {
        (Fault::OtherProtocol, Service::SshAgent) => {
            "see which program serves its pipe: npipe info ssh-agent".to_owned()
        }
        (Fault::OtherProtocol, Service::Docker) => {
            "see which program serves its pipe: npipe info docker".to_owned()
        }
        (Fault::Refused, _) => {
            format!("unlock it: in its window on Windows, or by ssh-add -X; else {restart}")
        }
        (Fault::Closed, Service::SshAgent) => {
            format!("unlock it, if it is a password manager's; else {restart}")
        }
        (Fault::Silent, _) => format!("see whether it waits for you in a window on Windows; else {restart}"),
        (Fault::Closed | Fault::OtherProtocol, Service::GpgAgent | Service::Docker) => restart.to_owned(),
    }
}

fn remedy(service: Service, error: &io::Error) -> &'static str {
    match (obstacle_of(error), error.kind(), service) {
        (_, io::ErrorKind::PermissionDenied, _) => {
            "it belongs to another user or runs elevated: start both sides as the same user"
        }
        (Obstacle::Busy, _, _) => {
            "it serves as many clients as it can: end one of them, or restart it on Windows"
        }
        // The bridge's own error, and not one of Windows.
        (_, io::ErrorKind::ConnectionReset, _) if !is_of_windows(error) => {
            "see the words of the Windows program: npipe -vv wsl doctor"
        }
        (_, _, Service::SshAgent) => {
            "if you need it, in PowerShell as administrator: Set-Service ssh-agent -StartupType Automatic; Start-Service ssh-agent"
        }
        (_, _, Service::GpgAgent) => {
            "if you need it, install Gpg4win on Windows, and run there: gpgconf --launch gpg-agent"
        }
        (_, _, Service::Docker) => "if you need it, start Docker Desktop on Windows",
    }
}

fn is_of_windows(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|error| error.is::<RemoteError>())
}

/// What Linux programs find: the sockets that were set up, and the variable that leads to one.
async fn check_sockets(root: &Path, service: Service, on_windows: &OnWindows, findings: &mut Findings) {
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
            check_relay(service, socket, on_windows, findings).await;
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

/// Examines the relay that runs, as the clients of its service do.
async fn check_relay(service: Service, socket: &Socket, on_windows: &OnWindows, findings: &mut Findings) {
    let Socket { name, target, .. } = socket;
    let Some(path) = socket.path.resolved() else { return nobody_listens(service, socket, findings) };
    let there = on_windows.iter().find(|(name, _)| name == target).map(|(_, examined)| examined);
    let fault = match examine(socket.protocol, async |_| UnixStream::connect(&path).await).await {
        Examined::Good(detail) => return findings.good(format!("{name} is served here{}", shown(&detail))),
        Examined::Unreachable(_) => return nobody_listens(service, socket, findings),
        Examined::AtSessionBind(fault) => {
            let what = format!("{name} is served here, and {fault} at {SESSION_BIND}");
            return findings.problem(what, &answer_for_agent(target));
        }
        Examined::Fault(fault) => fault,
    };
    let what = format!("{name} is served here, and {fault} {}", when(socket.protocol));
    let log = match setup::listening(service) {
        Listening::Systemd => format!("journalctl --user --unit {name}"),
        Listening::Shell => {
            format!("cat {}", setup::shell_word(&setup::log(&path, name).display().to_string()))
        }
    };
    match culprit(fault, there) {
        Culprit::Windows => {
            findings.problem(
                format!("{what}, as a relay does whose server fails on Windows"),
                &format!("see above; the relay's own words: {log}"),
            );
        }
        Culprit::Relay => findings.problem(
            format!(
                "{what}: {}",
                match fault {
                    Fault::Silent => "its Windows process may be stopped",
                    _ => "it does not reach Windows",
                }
            ),
            &match setup::listening(service) {
                Listening::Systemd => {
                    format!("systemctl --user restart {name}.service; the relay's own words: {log}")
                }
                Listening::Shell => format!(
                    "end it, and open a new login shell: fuser -k {}; the relay's own words: {log}",
                    setup::shell_word(&path.display().to_string())
                ),
            },
        ),
        Culprit::Other => findings.problem(
            format!("{what}: another program serves it than the one on Windows"),
            &format!("see which: ss -lxp | grep {}", setup::shell_word(&path.display().to_string())),
        ),
    }
}

/// The cause of a relay's fault.
#[derive(Debug, PartialEq, Eq)]
enum Culprit {
    Windows,
    Relay,
    /// Not npipe: a relay passes on what the server sends.
    Other,
}

/// `there`: the server of Windows, if the Windows program answers.
fn culprit(fault: Fault, there: Option<&Examined>) -> Culprit {
    match (fault, there) {
        (here, Some(Examined::Fault(there))) if *there == here => Culprit::Windows,
        (Fault::Closed, None | Some(Examined::Unreachable(_))) => Culprit::Windows,
        (Fault::Closed | Fault::Silent, _) => Culprit::Relay,
        (Fault::OtherProtocol | Fault::Refused, _) => Culprit::Other,
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
    use std::io;
    use std::path::Path;

    use super::{Culprit, Examined, Fault, culprit, is_set, mount};

    #[test]
    fn a_relay_is_at_fault_where_its_server_is_not() {
        use Fault::{Closed, OtherProtocol, Refused, Silent};
        let good = || Some(Examined::Good(None));
        let unreachable = || Some(Examined::Unreachable(io::ErrorKind::NotFound.into()));
        for (fault, there, expected) in [
            (Closed, good(), Culprit::Relay),
            (Closed, unreachable(), Culprit::Windows),
            (Closed, None, Culprit::Windows),
            (Closed, Some(Examined::Fault(Closed)), Culprit::Windows),
            (Closed, Some(Examined::Fault(Silent)), Culprit::Relay),
            (Closed, Some(Examined::AtSessionBind(Closed)), Culprit::Relay),
            (Silent, good(), Culprit::Relay),
            (Silent, unreachable(), Culprit::Relay),
            (Silent, None, Culprit::Relay),
            (Silent, Some(Examined::Fault(Silent)), Culprit::Windows),
            (OtherProtocol, good(), Culprit::Other),
            (OtherProtocol, unreachable(), Culprit::Other),
            (OtherProtocol, Some(Examined::Fault(OtherProtocol)), Culprit::Windows),
            (Refused, good(), Culprit::Other),
            (Refused, Some(Examined::Fault(Refused)), Culprit::Windows),
        ] {
            assert_eq!(culprit(fault, there.as_ref()), expected, "{fault:?} {there:?}");
        }
    }

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
