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
async fn the_command_line_of_another_relay_is_refused_with_what_does_it_here() {
    let outcome = Npipe::start(&["--pipe", "//./pipe/x", "--input-closes"]).finish().await;
    outcome.code(2).stdout(b"").stderr_has("here it is: npipe connect npipe:NAME");
    let outcome = Npipe::start(&["NPIPE-LISTEN:x", "TCP:localhost:80"]).finish().await;
    outcome.code(2).stdout(b"").stderr_has("here it is npipe forward LISTEN TARGET");
    Npipe::start(&["-version"]).finish().await.code(2).stderr_has("npipe --version");
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
