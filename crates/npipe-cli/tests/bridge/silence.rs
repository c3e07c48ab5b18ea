//! One of the halves does not answer, and is still there: stopped by a signal, as a machine that
//! sleeps or an interop that is stuck stops it.

use std::fs;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::time::sleep;

use crate::world::*;
use crate::{refusal, script};

/// Each half is taken for dead after so long here.
const SILENCE: Duration = Duration::from_secs(3);

on_both_sides! {
    a_windows_process_that_does_not_answer_is_replaced_and_its_clients_end
    when_pings_stop_the_windows_process_ends_and_the_next_client_starts_another
    time_during_which_both_halves_are_suspended_does_not_count
    halves_that_answer_stay_although_no_connection_moves
    clients_that_leave_during_an_open_free_their_place_and_the_process_becomes_idle
}

async fn a_windows_process_that_does_not_answer_is_replaced_and_its_clients_end(side: Side) {
    let mut world = World::with_silence(side, SILENCE).await;
    for _ in 0..2 {
        let (mut client, mut server) = world.connection().await;
        client.write_all(b"x").await.unwrap();
        server.read_exact(&mut [0]).await.unwrap();
        let process = world.windows_process();
        stop(process).await;
        // It is never opened, since the process that could do so is stopped.
        let mut new = world.client().await;
        new.write_all(b"request").await.unwrap();
        assert_eq!(read_to_end(&mut client).await, b"");
        assert_eq!(read_to_end(&mut new).await, b"");
        let line = world.bridge.line("): the Windows process ").await;
        assert!(line.contains("did not answer for 3s") && line.contains("was killed"), "{line}");
        until("the end of the process", || !runs(process)).await;
        assert_eq!(read_to_end(&mut server).await, b"");
    }
    tokio::join!(world.echo(1), async { drop(exchange(world.client().await, 1, 100_000).await) });
}

async fn when_pings_stop_the_windows_process_ends_and_the_next_client_starts_another(side: Side) {
    let mut world = World::with_silence(side, SILENCE).await;
    let (mut client, _server) = world.connection().await;
    let process = world.windows_process();
    stop(world.bridge.process()).await;
    until("the end of the Windows process", || !runs(process)).await;
    go_on(world.bridge.process());
    assert_eq!(read_to_end(&mut client).await, b"");
    let line = world.bridge.line("): the Windows process ").await;
    assert!(!line.contains("before their targets took all"), "{line}");
    tokio::join!(world.echo(1), async { drop(exchange(world.client().await, 1, 100_000).await) });
}

async fn time_during_which_both_halves_are_suspended_does_not_count(side: Side) {
    let silence = Duration::from_secs(3);
    let world = World::with_silence(side, silence).await;
    let (mut client, mut server) = world.connection().await;
    let halves = [world.bridge.process(), world.windows_process()];
    stop(halves[0]).await;
    stop(halves[1]).await;
    // Not to wait for something: this is the time that does not count.
    sleep(silence * 3 / 2).await;
    halves.into_iter().for_each(go_on);
    client.write_all(b"x").await.unwrap();
    within_limit("the byte", server.read_exact(&mut [0])).await.unwrap();
    assert_eq!(world.windows_process(), halves[1]);
}

async fn halves_that_answer_stay_although_no_connection_moves(side: Side) {
    let world = World::with_silence(side, SILENCE).await;
    let (mut client, mut server) = world.connection().await;
    let process = world.windows_process();
    // Not to wait for something: this is the time in which only pings move.
    sleep(SILENCE * 2).await;
    client.write_all(b"x").await.unwrap();
    within_limit("the byte", server.read_exact(&mut [0])).await.unwrap();
    assert_eq!(world.windows_process(), process);
}

async fn clients_that_leave_during_an_open_free_their_place_and_the_process_becomes_idle(side: Side) {
    let target = match &side {
        Side::Native => {
            let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
            format!("windows:tcp:{closed}")
        }
        Side::Windows(_) => format!("npipe:{}", unique()),
    };
    let options = ["--poll", "--max-connections", "1", "--bridge-idle", "0"];
    let (mut bridge, socket) = start_bridge(side.program(), &target, &options).await;
    for number in 1..=3 {
        let mut client = UnixStream::connect(&socket).await.unwrap();
        // One that has said something is served for a while still, in case that nothing else is wanted.
        if number == 2 {
            client.write_all(b"request").await.unwrap();
        }
        drop(client);
        bridge.line(&format!("client {number}: left before")).await;
        bridge.line("was idle and ended").await;
    }
}

/// The words of a Windows half that has agreed on the protocol, in octal.
const AGREED: &str = r"\223npipe\r\n\000\011\000\002\000\0020.1.0";

#[tokio::test]
async fn an_older_half_is_refused_with_both_versions() {
    let program = script(r"printf '\223npipe\r\n\000\011\000\001\000\0010.0.9'; cat >/dev/null").unwrap();
    let line = refusal(&program).await;
    let own = format!("npipe {} (bridge protocol 2)", env!("CARGO_PKG_VERSION"));
    assert!(line.contains(&own) && line.contains("npipe 0.0.9 (bridge protocol 1)"), "{line}");
    fs::remove_file(program).unwrap();
}

/// What the first client reads of why the bridge broke off, when a half that has agreed sends
/// `bytes`.
async fn reason_after(bytes: &str) -> String {
    let program = script(&format!("printf '{AGREED}{bytes}'; cat >/dev/null")).unwrap();
    let line = refusal(&program).await;
    fs::remove_file(program).unwrap();
    line
}

#[tokio::test]
async fn the_reason_is_named_after_bytes_that_are_not_the_protocols() {
    let line = reason_after("The operation completed successfully.").await;
    assert!(line.contains("unknown version: 84"), "{line}");
    let opened = r"\000\001\000\001\000\000\000\002\000\000\000\000";
    let line = reason_after(opened).await;
    assert!(line.contains("it opened a connection"), "{line}");
    // With the number of a stream that only the Linux half may open.
    let line = reason_after(&opened.replace("002", "011")).await;
    assert!(line.contains("invalid stream id 9"), "{line}");
    let unexpected_pong = r"\000\002\000\002\000\000\000\000\000\000\000\077";
    let line = reason_after(unexpected_pong).await;
    assert!(line.contains("received pong with 63"), "{line}");
    // The end in the middle of a frame.
    let program = script(&format!("printf '{AGREED}\\000\\002'; exec >&-; cat >/dev/null")).unwrap();
    let line = refusal(&program).await;
    assert!(line.contains("unexpected end of file"), "{line}");
    fs::remove_file(program).unwrap();
}

#[tokio::test]
async fn a_half_that_floods_with_pings_and_reads_nothing_is_dead() {
    let ping = r"\000\002\000\001\000\000\000\000\000\000\000\052";
    let program =
        script(&format!("printf '{AGREED}'; while printf '{}'; do :; done", ping.repeat(500))).unwrap();
    let socket = socket();
    let mut bridge = start_bridge_at(&socket, &program, "npipe:x", &[], Some(SILENCE)).await;
    let mut client = UnixStream::connect(&socket).await.unwrap();
    assert_eq!(read_to_end(&mut client).await, b"");
    bridge.line("did not answer for 3s").await;
    fs::remove_file(program).unwrap();
}
