//! The bridge from outside: `npipe forward` on Linux, the Windows process that it starts, and
//! programs on both sides.
//!
//! Each test runs twice. In `native` the Windows half is our own program of this system, and what
//! is reached are TCP servers: the mechanics, in milliseconds. In `wine` it is the program that
//! `NPIPE_TEST_WINDOWS_EXE` names, such as a script that runs npipe.exe under Wine, and what is
//! reached are pipes.

#![cfg(target_os = "linux")]

mod agent;
mod connect;
mod kills;
mod load;
mod programs;
mod silence;
mod soak;
mod world;

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::task::JoinSet;

use world::*;

async fn hundreds_of_connections_go_through_one_process(side: Side) {
    let world = World::new(side).await;
    let mut clients = JoinSet::new();
    for seed in 0..250 {
        let socket = world.socket.clone();
        clients.spawn(async move {
            let client = UnixStream::connect(socket).await.unwrap();
            exchange(client, seed, 40_000 + seed).await
        });
    }
    let ((), clients) = tokio::join!(world.echo(250), async {
        let clients = within_limit("the clients", clients.join_all()).await;
        assert_eq!(world.windows_processes().len(), 1);
        drop(clients);
    });
    clients
}

async fn a_reader_that_does_not_read_stops_nobody_else(side: Side) {
    let world = World::new(side).await;
    let (mut slow, mut talker) = world.connection().await;
    let speech = random(1, 8 * 1024 * 1024);
    let talk = async {
        talker.write_all(&speech).await.unwrap();
        talker.shutdown().await.unwrap();
    };
    let others = async {
        for seed in 0..20 {
            let ((), client) = tokio::join!(world.echo(1), async {
                drop(exchange(world.client().await, seed, 300_000).await);
            });
            client
        }
        read_to_end(&mut slow).await
    };
    let ((), heard) = within_limit("the speech", async { tokio::join!(talk, others) }).await;
    assert!(heard == speech, "{} of {} bytes", heard.len(), speech.len());
}

async fn when_the_windows_process_is_killed_its_connections_end_and_the_next_one_works(side: Side) {
    let mut world = World::new(side).await;
    for _ in 0..3 {
        let (mut client, mut server) = world.connection().await;
        client.write_all(b"x").await.unwrap();
        server.read_exact(&mut [0]).await.unwrap();
        let process = world.windows_process();
        kill(process);
        assert_eq!(read_to_end(&mut client).await, b"");
        world.bridge.line("broke off").await;
        assert_eq!(read_to_end(&mut server).await, b"");
        until("the end of the process", || !runs(process)).await;
    }
    tokio::join!(world.echo(1), async { drop(exchange(world.client().await, 1, 100_000).await) });
}

async fn when_the_linux_side_is_killed_the_windows_process_ends(side: Side) {
    let world = World::new(side).await;
    let (_client, mut server) = world.connection().await;
    // One that is stuck in the middle of a reply, too.
    let (_slow, mut talker) = world.connection().await;
    let mut stuck = tokio::spawn(async move { talker.write_all(&random(1, 64 * 1024 * 1024)).await });
    assert!(tokio::time::timeout(GLANCE, &mut stuck).await.is_err());
    let process = world.windows_process();
    kill(world.bridge.process());
    until("the end of the Windows process", || !runs(process)).await;
    assert_eq!(read_to_end(&mut server).await, b"");
    // Whether it is told by an error depends on what is between: a forward to a pipe takes the rest and
    // drops it.
    let _ = within_limit("the talker", stuck).await.unwrap();
}

async fn what_is_not_there_is_refused_at_once_in_words(side: Side) {
    let (target, words) = match &side {
        Side::Native => {
            let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
            (format!("windows:tcp:{closed}"), "Connection refused (os error 111)".to_owned())
        }
        Side::Windows(_) => {
            let name = unique();
            (format!("npipe:{name}"), format!(r"no program on the Windows side serves \\.\pipe\{name}"))
        }
    };
    let (mut bridge, socket) = start_bridge(side.program(), &target, &[]).await;
    for number in 1..=2 {
        let mut client = UnixStream::connect(&socket).await.unwrap();
        assert_eq!(read_to_end(&mut client).await, b"");
        let line = bridge.line(&format!("client {number}: ")).await;
        assert!(line.contains(&words), "{line}");
        if let Side::Windows(_) = side {
            assert!(line.contains("(os error 2)"), "{line}");
        }
    }
}

async fn a_command_with_tabs_and_thousands_of_characters_runs_on_the_other_side(side: Side) {
    let words = format!("a\tb {}", "long ".repeat(1000));
    let target = match &side {
        Side::Native => format!("windows:exec:printf %s '{words}'"),
        Side::Windows(_) => format!("windows:exec:cmd /c echo {words}"),
    };
    let (_bridge, socket) = start_bridge(side.program(), &target, &[]).await;
    let mut client = UnixStream::connect(&socket).await.unwrap();
    let said = read_to_end(&mut client).await;
    assert_eq!(String::from_utf8_lossy(&said).trim_end(), words.trim_end());
}

/// There is a program of that name in the current directory and another on PATH.
#[tokio::test]
async fn a_relative_windows_program_is_the_file_here_and_an_empty_variable_names_none() {
    let (here, path) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (directory, words) in [(&here, "the one here"), (&path, "the one on PATH")] {
        let program = script(&format!("echo '{words}' >&2; exit 7")).unwrap();
        fs::copy(&program, directory.path().join("npipe.exe")).unwrap();
        fs::remove_file(program).unwrap();
    }
    let output = async |flags: &[&str], variable: &str| {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_npipe"))
            .args(["connect", "npipe:x"])
            .args(flags)
            .current_dir(here.path())
            .env("PATH", path.path())
            .env("NPIPE_WINDOWS_EXE", variable)
            .output();
        let output = within_limit("the end of npipe", output).await.unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    for flags in [&["--windows-exe", "npipe.exe"][..], &["--windows-exe", "./npipe.exe"]] {
        let words = output(flags, "").await;
        assert!(words.contains("the one here"), "{words}");
    }
    let words = output(&[], "npipe.exe").await;
    assert!(words.contains("the one here"), "{words}");
    let words = output(&[], "").await;
    assert!(words.contains("the one on PATH"), "{words}");
}

#[tokio::test]
async fn a_target_that_is_too_long_for_the_bridge_is_refused_at_the_start() {
    let target = format!("windows:exec:{}", "x".repeat(33_000));
    let listen = format!("unix:{}", socket().display());
    let mut npipe =
        Npipe::start(Path::new(env!("CARGO_BIN_EXE_npipe")), &["forward", &listen, &target], None);
    npipe.line("longer than the 32 KiB").await;
    let ended = within_limit("the end", npipe.child.wait()).await.unwrap();
    assert_eq!(ended.code(), Some(2));
}

async fn an_idle_process_is_ended_and_the_next_connection_starts_another(side: Side) {
    let mut world = World::with(side, &["--bridge-idle", "0"]).await;
    for _ in 0..2 {
        let (client, server) = world.connection().await;
        let process = world.windows_process();
        assert!(runs(process));
        drop((client, server));
        world.bridge.line("was idle and ended").await;
        until("the end of the process", || !runs(process)).await;
    }
}

async fn each_end_reaches_the_other_side(side: Side) {
    let world = World::new(side).await;
    let (client, mut server) = world.connection().await;
    drop(client);
    assert_eq!(read_to_end(&mut server).await, b"", "a client that closes closes the connection");

    let (mut client, mut server) = world.connection().await;
    client.write_all(b"request").await.unwrap();
    client.shutdown().await.unwrap();
    let mut request = [0; 7];
    within_limit("the request", server.read_exact(&mut request)).await.unwrap();
    drop(client);
    assert_eq!(read_to_end(&mut server).await, b"", "so does one that says all, and then closes");

    let (mut client, mut server) = world.connection().await;
    let last_words = random(2, 1_000_000);
    let (written, heard) = tokio::join!(
        async {
            let written = server.write_all(&last_words).await;
            drop(server);
            written
        },
        read_to_end(&mut client)
    );
    written.unwrap();
    assert!(heard == last_words, "the last words of a server arrive whole");

    if let Side::Windows(_) = world.side {
        return; // Byte pipes have no half-close.
    }
    let (mut client, mut server) = world.connection().await;
    client.write_all(b"request").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut server).await, b"request");
    server.write_all(b"reply").await.unwrap();
    drop(server);
    assert_eq!(read_to_end(&mut client).await, b"reply");

    let (mut client, mut server) = world.connection().await;
    server.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut client).await, b"");
    let late = random(3, 1_000_000);
    let (written, heard) = tokio::join!(
        async {
            let written = client.write_all(&late).await;
            drop(client);
            written
        },
        read_to_end(&mut server)
    );
    written.unwrap();
    assert!(heard == late, "a server that ended first is told the rest: {} bytes", heard.len());
}

on_both_sides! {
    hundreds_of_connections_go_through_one_process
    a_reader_that_does_not_read_stops_nobody_else
    when_the_windows_process_is_killed_its_connections_end_and_the_next_one_works
    when_the_linux_side_is_killed_the_windows_process_ends
    what_is_not_there_is_refused_at_once_in_words
    a_command_with_tabs_and_thousands_of_characters_runs_on_the_other_side
    an_idle_process_is_ended_and_the_next_connection_starts_another
    each_end_reaches_the_other_side
}

/// What is said when `program` plays Windows.
async fn refusal(program: &Path) -> String {
    let (mut bridge, socket) = start_bridge(program, "npipe:x", &[]).await;
    let mut client = UnixStream::connect(&socket).await.unwrap();
    assert_eq!(read_to_end(&mut client).await, b"");
    bridge.line("client 1: ").await
}

fn script(text: &str) -> io::Result<PathBuf> {
    let path = env::temp_dir().join(format!("{}.sh", unique()));
    fs::write(&path, format!("#!/bin/sh\n{text}\n"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
    Ok(path)
}

#[tokio::test]
async fn a_windows_program_that_is_none_is_named_with_what_it_said() {
    let line = refusal(Path::new("/nonexistent/npipe.exe")).await;
    assert!(line.contains("no Windows program at /nonexistent/npipe.exe"), "{line}");

    let program = script("echo 'no interop today' >&2; exit 7").unwrap();
    let line = refusal(&program).await;
    assert!(line.contains("no interop today") && line.contains("exit code 7"), "{line}");
    fs::remove_file(program).unwrap();

    let program = script("echo 'The system cannot find the drive specified.'").unwrap();
    let line = refusal(&program).await;
    assert!(line.contains("it answered \"The system cannot find the drive specified."), "{line}");
    fs::remove_file(program).unwrap();
}

#[tokio::test]
async fn what_a_wrapper_leaves_running_ends_with_the_process() {
    let own = env!("CARGO_BIN_EXE_npipe");
    let program = script(&format!("sleep 1000 & echo child $! >&2; {own} \"$@\"; exit $?")).unwrap();
    let (mut bridge, socket) =
        start_bridge(&program, "windows:tcp:127.0.0.1:1", &["--bridge-idle", "0"]).await;
    let mut client = UnixStream::connect(&socket).await.unwrap();
    assert_eq!(read_to_end(&mut client).await, b"");
    let line = bridge.line("windows: child ").await;
    let left: u32 = line.rsplit(' ').next().unwrap().parse().unwrap();
    bridge.line("was idle and ended").await;
    until("the end of what was left running", || !runs(left)).await;
    fs::remove_file(program).unwrap();
}
