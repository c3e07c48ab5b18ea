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
    let _ours = UnixListener::bind(&socket).unwrap();
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
