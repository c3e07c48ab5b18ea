//! The command line itself: help, refusals, and what the tool says where there are no pipes.

use crate::process::Npipe;

#[tokio::test]
async fn help_goes_to_stdout_and_lists_commands_and_exit_codes() {
    let outcome = Npipe::start(&["--help"]).finish().await;
    outcome
        .code(0)
        .no_stderr()
        .stdout_has("connect")
        .stdout_has("forward")
        .stdout_has("3  no program serves the pipe");
}

#[tokio::test]
async fn each_command_shows_examples() {
    for command in ["connect", "forward", "list", "info", "completions", "man"] {
        let outcome = Npipe::start(&[command, "--help"]).finish().await;
        outcome.code(0).stdout_has("Examples:").stdout_has(&format!("      npipe {command} "));
    }
}

#[tokio::test]
async fn an_address_that_cannot_be_used_is_refused_with_the_expected_form() {
    Npipe::start(&["connect", "agent"]).finish().await.code(2).stdout(b"").stderr_has("expected npipe:NAME");
    let outcome = Npipe::start(&["connect", "tcp:localhost:80"]).finish().await;
    outcome.code(2).stdout(b"").stderr_has("npipe forward stdio tcp:localhost:80");
    let outcome = Npipe::start(&["forward", "npipe:x", "localhost:80"]).finish().await;
    outcome.code(2).stdout(b"").stderr_has("expected tcp:HOST:PORT");
}

#[tokio::test]
async fn a_flag_of_npiperelay_within_a_command_is_refused_with_ours() {
    let outcome = Npipe::start(&["connect", "-ei", "npipe:x"]).finish().await;
    outcome.code(2).stdout(b"").stderr_has("npipe connect --exit-on-stdin-eof");
    let outcome = Npipe::start(&["forward", "-p", "tcp:1", "npipe:x"]).finish().await;
    outcome.code(2).stdout(b"").stderr_has("npipe forward --poll");
}

#[tokio::test]
async fn without_a_command_the_usage_is_shown() {
    Npipe::start(&[]).finish().await.code(2).stdout(b"").stderr_has("Usage:");
}

#[cfg(not(windows))]
#[tokio::test]
async fn elsewhere_it_says_that_pipes_exist_on_windows_only() {
    let forward = &["forward", "npipe:x", "tcp:localhost:80"][..];
    for arguments in [&["connect", "npipe:x"][..], forward, &["list"], &["info", "x"]] {
        let without_windows = |command: &mut tokio::process::Command| {
            command.env_remove("NPIPE_WINDOWS_EXE");
        };
        Npipe::start_with(arguments, without_windows)
            .finish()
            .await
            .code(9)
            .stdout(b"")
            .stderr_has("exist on Windows only");
    }
}

#[tokio::test]
async fn the_version_names_commit_target_and_bridge_protocol() {
    for flag in ["--version", "-V"] {
        let outcome = Npipe::start(&[flag]).finish().await;
        outcome.code(0).no_stderr().stdout_has(concat!("npipe ", env!("CARGO_PKG_VERSION"), " (commit "));
        outcome.stdout_has(std::env::consts::ARCH).stdout_has("bridge protocol ");
    }
}

#[tokio::test]
async fn the_hidden_command_is_not_suggested() {
    for mistake in ["bridge-serve", "bridge", "bridge-servers"] {
        let outcome = Npipe::start(&[mistake]).finish().await;
        outcome.code(2).stderr_has("unrecognized subcommand").no_stderr_has("bridge-server'");
    }
    Npipe::start(&["conect"]).finish().await.code(2).stderr_has("'connect'");
}

#[tokio::test]
async fn a_flag_of_npiperelay_inside_a_command_is_refused_with_ours() {
    let outcome = Npipe::start(&["connect", "-ei", "npipe:x"]).finish().await;
    outcome.code(2).stdout(b"").stderr_has("npipe connect --exit-on-stdin-eof");
}

#[tokio::test]
async fn a_flag_without_effect_is_refused() {
    for (flag, reason) in [
        ("--max-connections=5", "several clients"),
        ("--poll", "is for a target that may be missing"),
        ("--wait=1", "is for a target that can be busy"),
        ("--launch", "is for the targets ssh-agent"),
    ] {
        let outcome = Npipe::start(&["forward", flag, "tcp:0", "stdio"]).finish().await;
        outcome.code(2).stdout(b"").stderr_has(flag.split('=').next().unwrap()).stderr_has(reason);
    }
    let outcome = Npipe::start(&["forward", "--progress", "tcp:0", "exec:cat"]).finish().await;
    outcome.code(2).stderr_has("--progress");
}

#[tokio::test]
async fn a_flag_without_effect_is_refused_by_every_command() {
    let mut lines = vec![
        ("connect --poll --wait 5 npipe:x", "--wait"),
        ("connect --poll-limit 5 npipe:x", "--poll"),
        ("connect --poll-deadline 5 npipe:x", "--poll"),
        // What a flag requires is not required beside a flag that the required one excludes.
        ("connect --poll-limit 5 --wait 5 npipe:x", "--wait"),
        ("connect --poll-deadline 5 --wait 5 npipe:x", "--wait"),
        ("forward --poll-deadline 5 --wait 5 tcp:0 npipe:x", "--wait"),
        ("list --json --watch", "--watch"),
    ];
    if cfg!(unix) {
        lines.extend([
            ("wsl setup docker --remove --windows-exe /x/npipe.exe", "--windows-exe"),
            ("wsl setup docker --remove --listening shell", "--listening"),
            ("wsl setup docker --remove --install", "--install"),
            ("wsl setup docker --remove --print", "--print"),
            ("wsl setup docker --remove --force", "--force"),
            ("wsl setup docker --install --print", "--print"),
            ("wsl setup docker --print --force", "--force"),
            ("wsl setup docker --force", "--install"),
        ]);
    }
    for (line, flag) in lines {
        let arguments: Vec<_> = line.split(' ').collect();
        eprintln!("npipe {line}");
        Npipe::start(&arguments).finish().await.code(2).stdout(b"").stderr_has(flag);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_variable_for_the_windows_program_is_no_flag() {
    let with_variable = |command: &mut tokio::process::Command| {
        command.env("NPIPE_WINDOWS_EXE", "/nonexistent/npipe.exe");
    };
    let mut forward = Npipe::start_with(&["forward", "tcp:0", "exec:cat"], with_variable);
    forward.stderr_line("listening on").await;
    let line = ["forward", "--windows-exe=/nonexistent/npipe.exe", "tcp:0", "exec:cat"];
    Npipe::start(&line).finish().await.code(2).stderr_has("is for targets on the Windows side");
}

#[cfg(unix)]
#[tokio::test]
async fn a_windows_program_that_is_missing_is_warned_of_at_start() {
    let line = ["forward", "--windows-exe", r"C:\nonexistent\npipe.exe", "tcp:0", "ssh-agent"];
    let mut forward = Npipe::start(&line);
    let warning = forward.stderr_line("there is no Windows program").await;
    assert!(
        warning.contains(r"C:\nonexistent\npipe.exe") && warning.contains("/mnt/c/nonexistent/npipe.exe")
    );
    forward.stderr_line("listening on").await;
}

/// A full disk is no reader that has gone.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn only_a_broken_pipe_is_a_reader_that_has_gone() {
    use std::process::Stdio;

    let world = tempfile::tempdir().unwrap();
    let windows = world.path().join("npipe.exe");
    std::fs::write(&windows, "").unwrap();
    let windows = windows.to_str().unwrap();
    let lines = [
        &["completions", "bash"][..],
        &["man"],
        &["--help"],
        &["--version"],
        &["help", "connect"],
        &["wsl", "setup", "docker", "--windows-exe", windows],
        &["wsl", "doctor", "--windows-exe", "/nonexistent/npipe.exe"],
        &["forward", "stdio", "exec:echo x"],
    ];
    for line in lines {
        let full = |command: &mut tokio::process::Command| {
            command
                .stdout(Stdio::from(std::fs::File::create("/dev/full").unwrap()))
                .env("HOME", world.path());
        };
        let outcome = Npipe::start_with(line, full).finish().await;
        outcome.code(1).stderr_has("cannot write to stdout: No space left on device");
        let broken = |command: &mut tokio::process::Command| {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            command.stdout(Stdio::from(writer)).env("HOME", world.path());
        };
        Npipe::start_with(line, broken).finish().await.code(8).stderr_has("the reader of stdout went away");
    }
}
