//! `npipe wsl`, in a home of its own and with a systemctl that notes what it is told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::process::{Npipe, Outcome, within_limit};

/// What the program finds around it.
struct World {
    directory: TempDir,
}

impl World {
    /// One with systemd for users.
    fn new() -> World {
        let world = World::without_systemd();
        fs::create_dir_all(world.path("run/systemd/private")).unwrap();
        world
    }

    fn without_systemd() -> World {
        let world = World { directory: tempfile::tempdir().unwrap() };
        fs::create_dir_all(world.path("home")).unwrap();
        fs::create_dir_all(world.path("run")).unwrap();
        world.program("bin/systemctl", "echo \"$*\" >> \"${0%/*}/../told\"");
        world.program("bin/gpgconf", "echo \"/home of/gpg%me/$2\"");
        world.program("windows side/npipe.exe", "exit 1");
        world
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn program(&self, path: &str, script: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn start(&self, program: &Path, arguments: &[&str]) -> Npipe {
        self.start_with(program, arguments, &[])
    }

    fn start_with(&self, program: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Npipe {
        let path = format!("{}:/usr/bin:/bin", self.path("bin").display());
        Npipe::start_program(program, arguments, |command| {
            command
                .env("HOME", self.path("home"))
                .env("XDG_RUNTIME_DIR", self.path("run"))
                .env("NPIPE_WINDOWS_EXE", self.path("windows side/npipe.exe"))
                .env("PATH", path)
                .env_remove("XDG_CONFIG_HOME")
                .env_remove("SSH_AUTH_SOCK")
                .env_remove("DOCKER_HOST")
                .env_remove("WSL_INTEROP")
                .envs(variables.iter().copied());
        })
    }

    async fn setup(&self, arguments: &[&str]) -> Outcome {
        let arguments = [&["wsl", "setup"], arguments].concat();
        self.start(Path::new(env!("CARGO_BIN_EXE_npipe")), &arguments).finish().await
    }

    fn unit(&self, name: &str) -> PathBuf {
        self.path("home/.config/systemd/user").join(name)
    }

    /// What systemctl was told since this was asked last.
    fn told(&self) -> Vec<String> {
        let told = fs::read_to_string(self.path("told")).unwrap_or_default();
        let _ = fs::remove_file(self.path("told"));
        told.lines().map(|line| line.strip_prefix("--user ").unwrap().to_owned()).collect()
    }

    /// Every file of the home with what is in it.
    fn files(&self) -> Vec<(PathBuf, String)> {
        let mut files = Vec::new();
        let mut directories = vec![self.path("home")];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                } else {
                    files.push((path.clone(), fs::read_to_string(path).unwrap()));
                }
            }
        }
        files.sort();
        files
    }
}

const INSTALLED: [&str; 4] = [
    "daemon-reload",
    "enable npipe-ssh-agent.socket",
    "stop npipe-ssh-agent.service",
    "restart npipe-ssh-agent.socket",
];

#[tokio::test]
async fn with_systemd_a_socket_unit_waits_for_the_first_client() {
    let world = World::new();
    let outcome = world.setup(&["ssh-agent", "--install"]).await;
    outcome
        .code(0)
        .no_stderr()
        .stdout_has("export SSH_AUTH_SOCK=\"$XDG_RUNTIME_DIR/npipe/ssh-agent.sock\"\n");
    assert_eq!(world.told(), INSTALLED);
    let socket = fs::read_to_string(world.unit("npipe-ssh-agent.socket")).unwrap();
    for line in ["ListenStream=%t/npipe/ssh-agent.sock", "SocketMode=0600", "WantedBy=sockets.target"] {
        assert!(socket.lines().any(|found| found == line), "{line} in {socket}");
    }
    let service = fs::read_to_string(world.unit("npipe-ssh-agent.service")).unwrap();
    let command = format!(
        "ExecStart={} forward systemd ssh-agent --bridge-idle 600 --windows-exe \"{}\"",
        env!("CARGO_BIN_EXE_npipe"),
        world.path("windows side/npipe.exe").display()
    );
    assert!(service.lines().any(|found| found == command), "{command} in {service}");
}

#[tokio::test]
async fn a_second_run_changes_nothing_and_says_so() {
    for world in [World::new(), World::without_systemd()] {
        for service in ["ssh-agent", "gpg-agent", "docker"] {
            world.setup(&[service, "--install"]).await.code(0);
            let (files, _) = (world.files(), world.told());
            world.setup(&[service, "--install"]).await.code(0).stdout_has("Nothing had to be changed.");
            assert_eq!(world.files(), files);
            assert!(world.told().iter().all(|command| command.starts_with("is-active --quiet ")));
        }
    }
}

#[tokio::test]
async fn a_socket_that_does_not_listen_any_more_is_started_again() {
    let world = World::new();
    world.setup(&["ssh-agent", "--install"]).await.code(0);
    world.told();
    world.program("bin/systemctl", "echo \"$*\" >> \"${0%/*}/../told\"; [ $2 != is-active ]");
    world.setup(&["ssh-agent", "--install"]).await.code(0);
    assert_eq!(world.told()[1..], INSTALLED);
}

#[tokio::test]
async fn what_is_printed_does_what_installing_does() {
    for (world, listening) in [(World::new(), "systemd"), (World::without_systemd(), "shell")] {
        for service in ["ssh-agent", "gpg-agent", "docker"] {
            let clear_home = || {
                fs::remove_dir_all(world.path("home")).unwrap();
                fs::create_dir(world.path("home")).unwrap();
            };
            clear_home();
            world.setup(&[service, "--install"]).await.code(0);
            let (installed, told) = (world.files(), world.told());
            clear_home();

            let printed = world.setup(&[service, "--listening", listening]).await;
            printed.code(0).no_stderr();
            assert_eq!((world.files(), world.told()), (vec![], vec![]), "printing does nothing");
            let script = world.path("script");
            fs::write(&script, &printed.stdout).unwrap();
            let arguments = ["-eu", script.to_str().unwrap()];
            world.start(Path::new("/bin/sh"), &arguments).finish().await.code(0).no_stderr();
            assert_eq!((world.files(), world.told()), (installed, told));
        }
    }
}

#[tokio::test]
async fn what_somebody_has_changed_is_left_alone_unless_told_so() {
    let world = World::new();
    world.setup(&["docker", "--install"]).await.code(0);
    let service = world.unit("npipe-docker.service");
    let changed = fs::read_to_string(&service).unwrap() + "Nice=5\n";
    fs::write(&service, &changed).unwrap();
    let (files, _) = (world.files(), world.told());

    let outcome = world.setup(&["docker", "--install"]).await;
    outcome.code(1).stdout(b"").stderr_has(service.to_str().unwrap()).stderr_has("--force");
    assert_eq!((world.files(), world.told()), (files, vec![]));

    world.setup(&["docker", "--install", "--force"]).await.code(0).stdout_has("npipe-docker.service.old");
    assert_ne!(fs::read_to_string(&service).unwrap(), changed);
    assert_eq!(fs::read_to_string(world.unit("npipe-docker.service.old")).unwrap(), changed);
}

#[tokio::test]
async fn removing_undoes_all_but_what_somebody_has_changed() {
    let world = World::new();
    world.setup(&["gpg-agent", "--install"]).await.code(0);
    world.setup(&["docker", "--install"]).await.code(0);
    let docker = world.files().into_iter().filter(|(path, _)| path.to_string_lossy().contains("docker"));
    let docker: Vec<_> = docker.collect();
    fs::write(world.unit("npipe-gpg-agent.service"), "of my own").unwrap();
    world.told();

    world.setup(&["gpg-agent", "--remove"]).await.code(0);
    let left = world.unit("npipe-gpg-agent.service.old");
    let expected: Vec<_> = [docker, vec![(left, "of my own".to_owned())]].concat();
    assert_eq!(world.files(), expected);
    assert_eq!(
        world.told(),
        [
            "disable --now npipe-gpg-agent.socket npipe-gpg-agent-ssh.socket",
            "stop npipe-gpg-agent.service npipe-gpg-agent-ssh.service",
            "daemon-reload",
            "unmask gpg-agent.socket gpg-agent-ssh.socket",
        ]
    );
    world.setup(&["gpg-agent", "--remove"]).await.code(0).stdout_has("nothing had to be removed");
    assert_eq!(world.told(), [""; 0]);
}

#[tokio::test]
async fn gpgs_own_sockets_are_served_and_those_of_the_distribution_masked() {
    let world = World::new();
    let outcome = world.setup(&["gpg-agent", "--install"]).await;
    outcome.code(0).stdout_has("no-autostart");
    assert_eq!(world.told()[0], "mask --now gpg-agent.socket gpg-agent-ssh.socket");
    let socket = fs::read_to_string(world.unit("npipe-gpg-agent-ssh.socket")).unwrap();
    assert!(socket.contains("\nListenStream=/home of/gpg%%me/agent-ssh-socket\n"), "{socket}");
    let service = fs::read_to_string(world.unit("npipe-gpg-agent-ssh.service")).unwrap();
    assert!(service.contains(" forward systemd gpg-agent-ssh --bridge-idle 600 --launch "), "{service}");
}

#[tokio::test]
async fn without_systemd_a_shell_starts_what_serves() {
    let world = World::without_systemd();
    let outcome = world.setup(&["ssh-agent", "--install"]).await;
    let snippet = world.path("home/.config/npipe/ssh-agent.sh");
    outcome.code(0).stdout_has(&format!("\n. {}\n", snippet.display()));
    // In place of the program, one that notes how it was called.
    let text = fs::read_to_string(&snippet).unwrap();
    world.program("bin/npipe", "echo \"$*\" >> \"${0%/*}/../started\"");
    let own = world.path("bin/npipe");
    let text = text.replace(env!("CARGO_BIN_EXE_npipe"), own.to_str().unwrap());
    fs::write(&snippet, text).unwrap();
    let shell = format!(". {}; echo \"$SSH_AUTH_SOCK\"; ls -d \"${{SSH_AUTH_SOCK%/*}}\"", snippet.display());
    let outcome = world.start(Path::new("/bin/sh"), &["-euc", &shell]).finish().await;
    let directory = world.path("home/.npipe");
    let expected = format!("{0}/ssh-agent.sock\n{0}\n", directory.display());
    outcome.code(0).stdout(expected.as_bytes());
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    let started = within_limit("the start", async {
        loop {
            match fs::read_to_string(world.path("started")) {
                Ok(started) if started.ends_with('\n') => break started,
                _ => tokio::task::yield_now().await,
            }
        }
    });
    let expected = format!(
        "forward unix:{}/ssh-agent.sock ssh-agent --bridge-idle 600 --windows-exe {}\n",
        directory.display(),
        world.path("windows side/npipe.exe").display()
    );
    assert_eq!(started.await, expected);
}

/// The relays that a test's shell has started. They end with it.
struct Relays<'a>(&'a World);

impl Relays<'_> {
    /// The processes that serve something in the world.
    fn ids(&self) -> Vec<i32> {
        let listen = format!("unix:{}", self.0.directory.path().display());
        let serves = |id: &i32| {
            let command = fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
            command.contains(&listen)
        };
        let processes = fs::read_dir("/proc").unwrap().flatten();
        processes.filter_map(|process| process.file_name().to_str()?.parse().ok()).filter(serves).collect()
    }

    fn signal(&self, signal: rustix::process::Signal) {
        for id in self.ids() {
            let _ = rustix::process::kill_process(rustix::process::Pid::from_raw(id).unwrap(), signal);
        }
    }
}

impl Drop for Relays<'_> {
    fn drop(&mut self) {
        self.signal(rustix::process::Signal::KILL);
    }
}

/// Has a snippet wait for its relay for two minutes instead of a second, which a relay may need on
/// a machine under load.
fn wait_for_long(snippet: &Path) {
    let text = fs::read_to_string(snippet).unwrap();
    let changed = text.replace(" -lt 20 ", " -lt 2400 ");
    assert_ne!(text, changed);
    fs::write(snippet, changed).unwrap();
}

#[tokio::test]
async fn the_snippet_returns_when_the_socket_is_served_and_keeps_a_log() {
    for name in ["plain", "it's $HOME \"quoted\""] {
        let world = World::without_systemd();
        fs::create_dir(world.path(name)).unwrap();
        let home = world.path(name);
        let home = [("HOME", home.to_str().unwrap())];
        let own = Path::new(env!("CARGO_BIN_EXE_npipe"));
        for service in ["ssh-agent", "docker"] {
            world.start_with(own, &["wsl", "setup", service, "--install"], &home).finish().await.code(0);
            wait_for_long(&world.path(name).join(format!(".config/npipe/{service}.sh")));
        }
        let relays = Relays(&world);
        let snippet = "umask 0; for name in ssh-agent docker; do . \"$HOME/.config/npipe/$name.sh\"; done; \
                       test -S \"$SSH_AUTH_SOCK\" && test -S \"${DOCKER_HOST#unix://}\" && echo served";
        let outcome = world.start_with(Path::new("/bin/sh"), &["-euc", snippet], &home).finish().await;
        outcome.code(0).stdout(b"served\n").no_stderr();
        let first = relays.ids();
        assert_eq!(first.len(), 2);
        // Another login finds them.
        let outcome = world.start_with(Path::new("/bin/bash"), &["-euc", snippet], &home).finish().await;
        outcome.code(0).stdout(b"served\n").no_stderr();
        let log = world.path(name).join(".npipe/npipe-ssh-agent.log");
        let words = fs::read_to_string(&log).unwrap();
        assert!(
            words.starts_with("listening on unix:") && words.contains("npipe: cannot listen on"),
            "{words}"
        );
        assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(log.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);

        let serves_agent = |id: &&i32| {
            fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap().contains("/ssh-agent.sock")
        };
        let relay = first.iter().find(serves_agent).unwrap();
        let setup = ["wsl", "setup", "ssh-agent", "--remove"];
        // Also where nothing is left to remove.
        for removed in ["removed ", "nothing had to be removed"] {
            let outcome = world.start_with(own, &setup, &home).finish().await;
            outcome.code(0).stdout_has(removed).stdout_has("still serves unix:");
            outcome.stdout_has(&format!("end it with: kill {relay}\n"));
        }
    }
}

/// Ctrl-C at the prompt goes to the session of the shell.
#[tokio::test]
async fn the_snippet_starts_the_relay_in_a_session_of_its_own() {
    let world = World::without_systemd();
    world.setup(&["ssh-agent", "--install"]).await.code(0);
    let relays = Relays(&world);
    let snippet = world.path("home/.config/npipe/ssh-agent.sh");
    wait_for_long(&snippet);
    let line = format!(". {}", snippet.display());
    world.start(Path::new("/bin/sh"), &["-euc", &line]).finish().await.code(0).no_stderr();
    let [id] = relays.ids()[..] else { panic!("one relay") };
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let session = stat.rsplit(") ").next().unwrap().split(' ').nth(3).unwrap();
    assert_eq!(session, id.to_string());
}

#[tokio::test]
async fn inherited_signals_that_are_ignored_stay_ignored() {
    use rustix::process::{Signal, kill_process};

    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("x.sock");
    let listen = format!("unix:{}", socket.display());
    let command =
        format!("trap '' INT TERM HUP; exec {} forward {listen} exec:cat", env!("CARGO_BIN_EXE_npipe"));
    let mut ignoring = Npipe::start_program(Path::new("/bin/sh"), &["-c", &command], |_| {});
    ignoring.stderr_line("listening on").await;
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        kill_process(ignoring.id(), signal).unwrap();
    }
    // It has handled what it was sent before, and serves.
    let mut client = tokio::net::UnixStream::connect(&socket).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut client, b"x").await.unwrap();
    let mut reply = [0];
    within_limit("a reply", tokio::io::AsyncReadExt::read_exact(&mut client, &mut reply)).await.unwrap();
    drop(ignoring);
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let _ = fs::remove_file(&socket);
        let mut forward = Npipe::start(&["forward", &listen, "exec:cat"]);
        forward.stderr_line("listening on").await;
        // A test may itself be run with one that is ignored.
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).unwrap();
        if u64::from_str_radix(ignored, 16).unwrap() & (1 << (signal.as_raw() - 1)) == 0 {
            kill_process(forward.id(), signal).unwrap();
            forward.finish().await.code(0);
            assert!(!socket.exists());
        }
    }
}

#[tokio::test]
async fn no_other_user_may_write_to_what_is_installed_whatever_the_umask() {
    for umask in ["0", "077"] {
        for world in [World::new(), World::without_systemd()] {
            let install =
                format!("umask {umask}; exec {} wsl setup docker --install", env!("CARGO_BIN_EXE_npipe"));
            world.start(Path::new("/bin/sh"), &["-c", &install]).finish().await.code(0);
            for (file, _) in world.files() {
                assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644, "{file:?}");
                let directory = file.parent().unwrap();
                assert_eq!(fs::metadata(directory).unwrap().permissions().mode() & 0o022, 0, "{directory:?}");
            }
        }
    }
}

#[tokio::test]
async fn gnupg_is_told_where_its_version_reads() {
    for (version, file) in [
        ("(GnuPG) 2.1.11", "gpg.conf"),
        ("(GnuPG) 2.2.27", "gpg.conf"),
        ("(GnuPG) 2.3.0", "gpg.conf"),
        ("(GnuPG) 2.3.8-unknown", "gpg.conf"),
        ("(GnuPG) 2.4.0", "common.conf"),
        ("(GnuPG/MacGPG2) 2.4.4-unknown", "common.conf"),
        ("(GnuPG) 2.5.0-beta12", "common.conf"),
        ("(GnuPG) 3.0.0", "common.conf"),
        ("of another kind", "gpg.conf"),
    ] {
        let world = World::new();
        let script = format!("[ $1 = --version ] && echo 'gpgconf {version}' || echo /gnupg/$2");
        world.program("bin/gpgconf", &script);
        let outcome = world.setup(&["gpg-agent", "--install"]).await;
        outcome.code(0).stdout_has(&format!("--list-dirs homedir)/{file}\""));
    }
}

#[tokio::test]
async fn removing_knows_its_files_by_their_header_and_overwrites_none() {
    let world = World::new();
    world.setup(&["docker", "--install"]).await.code(0);
    // Made with another path of the Windows program, as before an update.
    let service = world.unit("npipe-docker.service");
    let other = fs::read_to_string(&service).unwrap().replace("windows side", "elsewhere");
    fs::write(&service, other).unwrap();
    fs::write(world.unit("npipe-docker.socket"), "of my own").unwrap();
    fs::write(world.unit("npipe-docker.socket.old"), "older").unwrap();
    world.setup(&["docker", "--remove"]).await.code(0).stdout_has("npipe-docker.socket.old.1");
    let files = [("npipe-docker.socket.old", "older"), ("npipe-docker.socket.old.1", "of my own")];
    let expected = files.map(|(name, text)| (world.unit(name), text.to_owned()));
    assert_eq!(world.files(), expected);
}

#[tokio::test]
async fn without_gnupg_its_sockets_are_where_it_will_look() {
    for (world, path) in [
        (World::new(), "ListenStream=%t/gnupg/S.gpg-agent\n".to_owned()),
        (World::without_systemd(), "forward unix:HOME/.gnupg/S.gpg-agent gpg-agent ".to_owned()),
    ] {
        world.program("bin/gpgconf", "exit 2");
        world.setup(&["gpg-agent", "--install"]).await.code(0);
        let path = path.replace("HOME", world.path("home").to_str().unwrap());
        assert!(world.files().iter().any(|(_, text)| text.contains(&path)), "{path} in {:?}", world.files());
    }
}

#[tokio::test]
async fn without_the_windows_program_nothing_is_installed() {
    let world = World::new();
    let told = ["ssh-agent", "--install", "--windows-exe", "/nonexistent/npipe.exe"];
    world.setup(&told).await.code(3).stdout(b"").stderr_has("/nonexistent/npipe.exe");
    assert_eq!((world.files(), world.told()), (vec![], vec![]));
}

#[tokio::test]
async fn what_systemctl_says_is_passed_on() {
    let world = World::new();
    world.program("bin/systemctl", "echo 'Failed to connect to bus' >&2; exit 1");
    let outcome = world.setup(&["ssh-agent", "--install"]).await;
    outcome.code(1).stderr_has("`systemctl --user daemon-reload` failed: Failed to connect to bus");
}

/// The kernel of WSL 2, and Windows programs that it starts.
fn wsl2(world: &World) {
    for (path, text) in [
        ("proc/sys/kernel/osrelease", "5.15.90.1-microsoft-standard-WSL2\n"),
        ("proc/sys/fs/binfmt_misc/WSLInterop", "enabled\ninterpreter /init\n"),
        ("etc/wsl.conf", "[boot]\nsystemd=true\n"),
        ("proc/self/mounts", "/dev/sdc / ext4 rw 0 0\n"),
    ] {
        world.file(path, text);
    }
    fs::create_dir_all(world.path("root/run/WSL")).unwrap();
}

impl World {
    /// A file of the system.
    fn file(&self, path: &str, text: &str) {
        let path = self.path("root").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn mounted_from_windows(&self) {
        let program = Path::new(env!("CARGO_BIN_EXE_npipe")).canonicalize().unwrap();
        let drive = program.parent().unwrap().display();
        self.file("proc/self/mounts", &format!("/dev/sdc / ext4 rw 0 0\nC:\\134 {drive} 9p rw 0 0\n"));
    }

    /// What the doctor says, with our own program in the part of the Windows one.
    async fn doctor(&self, variables: &[(&str, &str)]) -> Outcome {
        let root = self.path("root");
        let own = env!("CARGO_BIN_EXE_npipe");
        let arguments = ["wsl", "doctor", "--root", root.to_str().unwrap(), "--windows-exe", own];
        self.start_with(Path::new(own), &arguments, variables).finish().await
    }
}

#[tokio::test]
async fn the_doctor_finds_no_problem_where_there_is_none() {
    let world = World::new();
    wsl2(&world);
    world.mounted_from_windows();
    let socket = world.path("root/run/WSL/7_interop");
    let _interop = UnixListener::bind(&socket).unwrap();
    let outcome = world.doctor(&[("WSL_INTEROP", socket.to_str().unwrap())]).await;
    outcome
        .code(0)
        .no_stderr()
        .stdout_has("ok       this is WSL 2\n")
        .stdout_has("ok       the system knows how to start Windows programs\n")
        .stdout_has("ok       WSL_INTEROP leads to Windows\n")
        .stdout_has("npipe answers, and is of this version\n")
        // Nobody serves it here, and nobody has asked for it.
        .stdout_has("note     ssh-agent does not answer on Windows")
        .stdout_has("Start-Service ssh-agent");
}

#[tokio::test]
async fn the_doctor_knows_what_keeps_windows_programs_from_starting() {
    let world = World::new();
    wsl2(&world);
    world.file("proc/sys/kernel/osrelease", "4.4.0-19041-Microsoft\n");
    fs::remove_file(world.path("root/proc/sys/fs/binfmt_misc/WSLInterop")).unwrap();
    let outcome = world.doctor(&[("WSL_INTEROP", "/nonexistent")]).await;
    outcome
        .code(11)
        .stderr_has("found 2 problems")
        .stdout_has("ok       this is WSL 1\n")
        .stdout_has("problem  the system does not know how to start Windows programs; systemd-binfmt")
        .stdout_has("/etc/binfmt.d/WSLInterop.conf")
        .stdout_has("problem  WSL_INTEROP is stale")
        .stdout_has("is on a Linux file system (ext4)");

    world.file("proc/sys/fs/binfmt_misc/WSLInterop", "disabled\n");
    world
        .doctor(&[])
        .await
        .code(11)
        .stdout_has("problem  the system has been told not to start Windows programs");
    world.file("proc/sys/fs/binfmt_misc/WSLInterop-late", "enabled\n");
    let _interop = UnixListener::bind(world.path("root/run/WSL/1_interop")).unwrap();
    world.doctor(&[]).await.code(0).stdout_has("note     WSL_INTEROP is not set; npipe uses");
    world.file("etc/wsl.conf", "[interop]\nenabled=false\n");
    world.doctor(&[]).await.code(11).stderr_has("found one problem").stdout_has("problem  /etc/wsl.conf has");
}

#[tokio::test]
async fn the_doctor_tries_the_windows_program() {
    let world = World::new();
    world.program("other", "echo 'The system cannot find the drive specified.'");
    let other = world.path("other");
    let arguments = ["wsl", "doctor", "--windows-exe", other.to_str().unwrap()];
    let outcome = world.start(Path::new(env!("CARGO_BIN_EXE_npipe")), &arguments).finish().await;
    outcome
        .code(11)
        .stdout_has("problem")
        .stdout_has("it answered \"The system cannot find the drive specified.");

    let arguments = ["wsl", "doctor", "--windows-exe", "/nonexistent/npipe.exe"];
    let outcome = world.start(Path::new(env!("CARGO_BIN_EXE_npipe")), &arguments).finish().await;
    outcome.code(11).stdout_has("problem  there is no Windows program at /nonexistent/npipe.exe");
}

#[tokio::test]
async fn the_doctor_follows_what_was_set_up_to_its_end() {
    let world = World::new();
    world.setup(&["ssh-agent", "--install"]).await.code(0);
    let outcome = world.doctor(&[]).await;
    outcome
        .code(11)
        .stdout_has("note     this is not WSL")
        .stdout_has("problem  ssh-agent does not answer on Windows")
        .stdout_has("problem  nobody listens at the socket of npipe-ssh-agent")
        .stdout_has("problem  SSH_AUTH_SOCK is not set in this shell");

    let socket = world.path("run/npipe/ssh-agent.sock");
    fs::create_dir(socket.parent().unwrap()).unwrap();
    serve_agent(&socket, Agent::AnswersAll);
    let other = world.path("other.sock");
    let _other = UnixListener::bind(&other).unwrap();
    let outcome = world.doctor(&[("SSH_AUTH_SOCK", other.to_str().unwrap())]).await;
    outcome
        .code(11)
        .stderr_has("found one problem")
        .stdout_has("ok       npipe-ssh-agent is served here")
        .stdout_has("where somebody else listens");
    let outcome = world.doctor(&[("SSH_AUTH_SOCK", socket.to_str().unwrap())]).await;
    outcome.code(11).stdout_has("ok       SSH_AUTH_SOCK leads to a socket that is served");
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Agent {
    AnswersAll,
    ClosesAfterKeys,
    ClosesAtSessionBind,
    ClosesAfterEachReply,
    IsSilentAtSessionBind,
    Refuses,
    SpeaksHttp,
    Closes,
    IsSilent,
}

/// An agent with two keys, until the test ends.
fn serve_agent(socket: &Path, agent: Agent) {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        let mut silent = Vec::new();
        for client in listener.incoming() {
            let mut client = client.unwrap();
            match agent {
                Agent::IsSilent => silent.push(client),
                Agent::Closes => {}
                _ => drop(std::thread::spawn(move || answer(&mut client, agent))),
            }
        }
    });
}

fn answer(client: &mut std::os::unix::net::UnixStream, agent: Agent) -> std::io::Result<()> {
    use std::io::{Read, Write};
    loop {
        let mut length = [0; 4];
        client.read_exact(&mut length)?;
        let mut request = vec![0; u32::from_be_bytes(length) as usize];
        client.read_exact(&mut request)?;
        match (agent, request[0]) {
            (Agent::SpeaksHttp, _) => client.write_all(b"HTTP/1.0 400 Bad Request\r\n")?,
            (Agent::Refuses, _) => client.write_all(&[0, 0, 0, 1, 5])?,
            (_, 11) => client.write_all(&[0, 0, 0, 5, 12, 0, 0, 0, 2])?,
            (Agent::ClosesAtSessionBind, 27) => {
                assert!(request[5..].starts_with(b"session-bind@openssh.com"));
                return Ok(());
            }
            (Agent::IsSilentAtSessionBind, 27) => {
                // It says no more until its client leaves.
                let _ = client.read(&mut [0]);
                return Ok(());
            }
            _ => client.write_all(&[0, 0, 0, 1, 5])?,
        }
        match (agent, request[0]) {
            (Agent::ClosesAfterEachReply, _) | (Agent::ClosesAfterKeys, 11) => return Ok(()),
            _ => {}
        }
    }
}

#[tokio::test]
async fn the_doctor_asks_the_relay_for_the_keys_as_openssh_does() {
    for (agent, finding, remedy) in [
        (Agent::AnswersAll, "ok       npipe-ssh-agent is served here, and has 2 keys", ""),
        (Agent::ClosesAfterKeys, "ok       npipe-ssh-agent is served here, and has 2 keys", ""),
        (
            Agent::ClosesAtSessionBind,
            "problem  npipe-ssh-agent is served here, and closed the connection at session-bind@openssh.com",
            "npipe forward --agent-compat unix:SOCKET ssh-agent",
        ),
        (
            Agent::ClosesAfterEachReply,
            "problem  npipe-ssh-agent is served here, and closed the connection at session-bind@openssh.com",
            "npipe forward --agent-compat unix:SOCKET ssh-agent",
        ),
        (
            Agent::IsSilentAtSessionBind,
            "problem  npipe-ssh-agent is served here, and did not answer for 5 seconds at session-bind@",
            "npipe forward --agent-compat unix:SOCKET ssh-agent",
        ),
        (
            Agent::Closes,
            "problem  npipe-ssh-agent is served here, and closed the connection at the request for its \
             keys, as a relay does whose server fails on Windows",
            "see above; the relay's own words: journalctl --user --unit npipe-ssh-agent",
        ),
        (
            Agent::Refuses,
            "problem  npipe-ssh-agent is served here, and answered with a failure at the request for",
            "see which: ss -lxp | grep ",
        ),
        (
            Agent::SpeaksHttp,
            "problem  npipe-ssh-agent is served here, and sent bytes of another protocol at the request",
            "see which: ss -lxp | grep ",
        ),
        (
            Agent::IsSilent,
            "problem  npipe-ssh-agent is served here, and did not answer for 5 seconds at the request for \
             its keys: its Windows process may be stopped",
            "systemctl --user restart npipe-ssh-agent.service",
        ),
    ] {
        let world = World::new();
        world.setup(&["ssh-agent", "--install"]).await.code(0);
        let socket = world.path("run/npipe/ssh-agent.sock");
        fs::create_dir(socket.parent().unwrap()).unwrap();
        serve_agent(&socket, agent);
        let outcome = world.doctor(&[]).await;
        outcome.code(11).stdout_has(finding).stdout_has(remedy);
        let names_session_bind = String::from_utf8_lossy(&outcome.stdout).contains("session-bind");
        assert_eq!(names_session_bind, finding.contains("session-bind"), "{finding}");
    }
}

/// The relays of a shell have no unit to restart, and a log of their own.
#[tokio::test]
async fn the_doctor_examines_each_relay_in_its_protocol_and_names_what_a_shell_can_do() {
    for (service, name, socket, greeting) in [
        ("docker", "npipe-docker", "home/.npipe/docker.sock", "HTTP/1.0 200 OK\r\n"),
        ("gpg-agent", "npipe-gpg-agent", "home/.gnupg/S.gpg-agent", "OK Pleased to meet you\n"),
    ] {
        let world = World::without_systemd();
        world.program("bin/gpgconf", "exit 2");
        world.setup(&[service, "--install"]).await.code(0);
        let socket = world.path(socket);
        fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let silent = UnixListener::bind(&socket).unwrap();
        let finding = format!("problem  {name} is served here, and did not answer for 5 seconds");
        let outcome = world.doctor(&[]).await;
        outcome.code(11).stdout_has(&finding).stdout_has(&format!("fuser -k {}", socket.display()));
        outcome.stdout_has(&format!("cat {}/{name}.log", socket.parent().unwrap().display()));
        drop(silent);
        fs::remove_file(&socket).unwrap();
        for (greeting, finding) in [
            (greeting, format!("ok       {name} is served here\n")),
            ("", format!("problem  {name} is served here, and closed the connection")),
            ("SSH-2.0-x\r\n", format!("problem  {name} is served here, and sent bytes of another protocol")),
        ] {
            let listener = UnixListener::bind(&socket).unwrap();
            let server = std::thread::spawn(move || {
                use std::io::{Read, Write};
                let (mut client, _) = listener.accept().unwrap();
                client.write_all(greeting.as_bytes()).unwrap();
                // What the client sends is taken, so that the end is one and no reset.
                client.shutdown(std::net::Shutdown::Write).unwrap();
                let _ = client.read_to_end(&mut Vec::new());
            });
            world.doctor(&[]).await.code(11).stdout_has(&finding);
            server.join().unwrap();
            fs::remove_file(&socket).unwrap();
        }
    }
}

/// The relay learns it from the agent, and needs no flag for the next client.
#[tokio::test]
async fn a_relay_answers_session_bind_for_an_agent_that_closes_there() {
    let world = World::new();
    let (socket, agent) = (world.path("relay.sock"), world.path("agent.sock"));
    serve_agent(&agent, Agent::ClosesAtSessionBind);
    let (listen, target) = (format!("unix:{}", socket.display()), format!("unix:{}", agent.display()));
    let mut relay = Npipe::start(&["forward", "--agent-compat", &listen, &target]);
    relay.stderr_line("listening on").await;
    let mut client = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    let replies = tokio::task::spawn_blocking(move || {
        use std::io::{Read, Write};
        let name = b"session-bind@openssh.com";
        let mut bind = vec![0, 0, 0, 5 + name.len() as u8 + 100, 27, 0, 0, 0, name.len() as u8];
        bind.extend_from_slice(name);
        bind.extend_from_slice(&[0; 100]);
        client.write_all(&[&bind[..], &[0, 0, 0, 1, 11]].concat()).unwrap();
        let mut replies = [0; 14];
        client.read_exact(&mut replies).unwrap();
        replies
    });
    let replies = within_limit("the replies", replies).await.unwrap();
    assert_eq!(replies, [0, 0, 0, 1, 5, 0, 0, 0, 5, 12, 0, 0, 0, 2]);
}

#[tokio::test]
async fn the_doctor_says_what_keeps_systemd_from_serving_a_user() {
    let world = World::new();
    world.setup(&["ssh-agent", "--install"]).await.code(0);
    fs::remove_dir_all(world.path("run/systemd")).unwrap();
    let outcome = world.doctor(&[]).await;
    outcome
        .code(11)
        .stdout_has("problem  ssh-agent is set up for systemd, and no systemd manages")
        .stdout_has("systemd=true")
        .stdout_has("npipe wsl setup ssh-agent --install --listening shell");
    fs::create_dir_all(world.path("root/run/systemd/system")).unwrap();
    world.doctor(&[]).await.code(11).stdout_has("sudo loginctl enable-linger");
}

#[tokio::test]
async fn the_doctor_names_settings_of_wsl_that_are_in_the_way() {
    let world = World::new();
    wsl2(&world);
    let _interop = UnixListener::bind(world.path("root/run/WSL/1_interop")).unwrap();
    world.file("etc/wsl.conf", "[interop]\nappendWindowsPath=false\n");
    world.program("bin/wslinfo", "[ $1 = --networking-mode ] && echo mirrored");
    let outcome = world.doctor(&[]).await;
    outcome
        .code(0)
        .stdout_has("note     /etc/wsl.conf has appendWindowsPath=false")
        .stdout_has("export NPIPE_WINDOWS_EXE=")
        .stdout_has("note     networking is mirrored")
        .stdout_has("npipe forward unix:PATH TARGET");

    let entry = "proc/sys/fs/binfmt_misc/WSLInterop";
    fs::remove_file(world.path("root").join(entry)).unwrap();
    let outcome = world.doctor(&[]).await;
    outcome
        .code(11)
        .stdout_has("sudo sh -c 'echo :WSLInterop:M::MZ::/init:PF > /proc/sys/fs/binfmt_misc/register'");
    world.file(&format!("{entry}-late"), "enabled\n");
    let outcome = world.doctor(&[]).await;
    outcome.code(0).stdout_has("note     only WSLInterop-late").stdout_has("/etc/binfmt.d/WSLInterop.conf");
    world.file(&format!("{entry}-late"), "disabled\n");
    world.doctor(&[]).await.code(11).stdout_has("echo 1 > /proc/sys/fs/binfmt_misc/WSLInterop-late");
}

#[tokio::test]
async fn the_doctor_names_drives_and_programs_that_may_not_be_executed() {
    let world = World::new();
    wsl2(&world);
    let _interop = UnixListener::bind(world.path("root/run/WSL/1_interop")).unwrap();
    let own = Path::new(env!("CARGO_BIN_EXE_npipe")).canonicalize().unwrap();
    let drive = own.parent().unwrap().display();
    world.file(
        "proc/self/mounts",
        &format!("/dev/sdc / ext4 rw 0 0\nC:\\134 {drive} 9p rw,noexec,relatime 0 0\n"),
    );
    world.doctor(&[]).await.code(11).stdout_has("may not be started (noexec)").stdout_has("[automount]");

    let program = world.path("windows side/npipe.exe");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o644)).unwrap();
    let root = world.path("root");
    let line = ["wsl", "doctor", "--root", root.to_str().unwrap()];
    let outcome = world.start(Path::new(env!("CARGO_BIN_EXE_npipe")), &line).finish().await;
    outcome.code(11).stdout_has("it has no execute permission").stdout_has("chmod +x '");
}

#[tokio::test]
async fn the_doctor_knows_the_words_of_wsl_that_has_lost_windows() {
    let world = World::new();
    world
        .program("other", "echo '<3>WSL (12 - ) ERROR: UtilAcceptVsock:271: accept4 failed 110' >&2; exit 1");
    let other = world.path("other");
    let arguments = ["wsl", "doctor", "--windows-exe", other.to_str().unwrap()];
    let outcome = world.start(Path::new(env!("CARGO_BIN_EXE_npipe")), &arguments).finish().await;
    outcome
        .code(11)
        .stdout_has("UtilAcceptVsock")
        .stdout_has("run `wsl.exe --shutdown` on Windows, and open a new shell");
}

/// Findings come before the Windows program has answered, and stderr has why that takes long.
#[tokio::test]
async fn the_doctor_reports_while_it_waits_for_the_windows_program() {
    use tokio::io::{AsyncBufReadExt, AsyncReadExt};

    let world = World::new();
    let own = env!("CARGO_BIN_EXE_npipe");
    // Until it is told to go on.
    let script = format!("while ! [ -e \"${{0%/*}}/go\" ]; do sleep 0.1; done; exec {own} \"$@\"");
    world.program("slow", &script);
    let slow = world.path("slow");
    let arguments = ["wsl", "doctor", "--windows-exe", slow.to_str().unwrap()];
    let mut doctor = world.start(Path::new(own), &arguments);
    let mut stdout = tokio::io::BufReader::new(doctor.stdout.take().unwrap());
    let mut first = String::new();
    within_limit("a finding", stdout.read_line(&mut first)).await.unwrap();
    assert_eq!(first, "note     this is not WSL\n");
    doctor.stderr_line("a virus scanner may be reading it").await;
    fs::write(world.path("go"), "").unwrap();
    let mut rest = String::new();
    within_limit("the other findings", stdout.read_to_string(&mut rest)).await.unwrap();
    assert!(rest.contains("to start; a virus scanner may read it each time"), "{rest}");
    assert!(rest.contains("Add-MpPreference -ExclusionProcess npipe.exe"), "{rest}");
}

#[tokio::test]
async fn the_doctor_sees_variables_that_lead_nowhere_and_programs_that_do_the_same() {
    let world = World::new();
    world.file(
        "proc/4711/cmdline",
        "socat\0UNIX-LISTEN:/x,fork\0EXEC:npiperelay.exe -ei\x1b[2J -s //./pipe/x\0",
    );
    world.file("proc/4712/cmdline", "man\0npiperelay\0");
    let outcome =
        world.doctor(&[("SSH_AUTH_SOCK", "/nonexistent"), ("DOCKER_HOST", "tcp://localhost:2375")]).await;
    outcome
        .code(11)
        .stdout_has("problem  SSH_AUTH_SOCK is \"/nonexistent\", where nobody listens")
        .stdout_has("note     DOCKER_HOST is \"tcp://localhost:2375\", which is no Unix socket")
        .stdout_has(
            "process 4711 does the same: socat UNIX-LISTEN:/x,fork EXEC:npiperelay.exe -ei\\u{1b}[2J -s",
        );
    assert!(!String::from_utf8_lossy(&outcome.stdout).contains("4712"));
}

#[tokio::test]
async fn list_and_info_are_answered_by_the_windows_program() {
    let world = World::new();
    world.program("windows side/npipe.exe", "echo \"told $*\"; echo words >&2; exit 6");
    for line in ["-v list ssh --json", "info --wait 7 my-pipe"] {
        let arguments: Vec<_> = line.split(' ').collect();
        let outcome = world.start(Path::new(env!("CARGO_BIN_EXE_npipe")), &arguments).finish().await;
        outcome.code(6).stdout(format!("told {line}\n").as_bytes()).stderr_has("words");
    }
    let program = world.path("windows side/npipe.exe");
    let arguments = ["list", "--windows-exe", program.to_str().unwrap()];
    let outcome = Npipe::start(&arguments).finish().await;
    outcome.code(6).stdout(b"told list\n");
    world.start(Path::new(env!("CARGO_BIN_EXE_npipe")), &["info"]).finish().await.code(2);
}
