//! Who is at the other end.

use std::io::{ErrorKind, Read, Write};
use std::process::Command;

use npipe::blocking::PipeListener;
use npipe::{ClientOptions, SecurityDescriptor, ServerIdentity, ServerOptions, Trustee};

use crate::world::*;

/// Not a test by itself: the client that [`a_process_is_known_while_it_lives`] starts.
#[test]
fn plays_a_client() {
    if let Some(name) = std::env::var_os(CLIENT_OF) {
        let only_reads = std::env::var_os(CLIENT_ONLY_READS).is_some();
        let mut stream = ClientOptions::new().write(!only_reads).connect_blocking(name).unwrap();
        if !only_reads {
            stream.write_all(b"!").unwrap();
        }
        if std::env::var_os(CLIENT_LEAVES).is_none() {
            let _ = stream.read(&mut [0]);
        }
    }
}

const CLIENT_OF: &str = "NPIPE_TEST_CLIENT_OF";

const CLIENT_LEAVES: &str = "NPIPE_TEST_CLIENT_LEAVES";

const CLIENT_ONLY_READS: &str = "NPIPE_TEST_CLIENT_ONLY_READS";

/// It ended before anything asked for it, so the number could be that of another program.
#[test]
fn a_client_that_ended_before_it_was_accepted_is_not_vouched_for() {
    let _watchdog = watchdog();
    let name = unique_name();
    let listener = PipeListener::bind(&name).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "identity::plays_a_client"])
        .env(CLIENT_OF, &name)
        .env(CLIENT_LEAVES, "")
        .spawn()
        .unwrap();
    // The handle to the child keeps its number, as a program that was given the number would.
    child.wait().unwrap();
    let stream = listener.accept_timeout(LONG).unwrap();
    if let Ok(peer) = stream.peer() {
        assert_eq!(peer.process_id(), child.id());
        peer.process().expect_err("which process it is cannot be known");
    }
    let server = stream.into_server().unwrap();
    if let Ok(peer) = server.peer() {
        peer.process().expect_err("a conversion does not change that");
    }
}

/// However late it is accepted.
#[test]
fn a_client_that_is_connected_is_known() {
    let _watchdog = watchdog();
    let name = unique_name();
    let listener = PipeListener::bind(&name).unwrap();
    let program = std::env::current_exe().unwrap();
    let start = || {
        Command::new(&program)
            .args(["--exact", "identity::plays_a_client"])
            .env(CLIENT_OF, &name)
            .spawn()
            .unwrap()
    };
    let mut children = [start(), start()];
    let mut streams = [(); 2].map(|()| listener.accept_timeout(LONG).unwrap());
    for stream in &mut streams {
        stream.read_exact(&mut [0]).unwrap();
    }
    for stream in streams {
        let peer = stream.peer().unwrap();
        assert!(children.iter().any(|child| child.id() == peer.process_id()));
        assert_eq!(peer.program().unwrap().file_name(), program.file_name());
        let server = stream.into_server().unwrap();
        assert_eq!(server.peer().unwrap().program().unwrap().file_name(), program.file_name());
    }
    for child in &mut children {
        child.wait().unwrap();
    }
}

/// It may not ask whether the client's end is still open.
#[test]
fn a_server_that_only_writes_knows_no_client_that_was_started_later() {
    let _watchdog = watchdog();
    let name = unique_name();
    let listener = ServerOptions::new().access_inbound(false).listen_blocking(&name).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "identity::plays_a_client"])
        .env(CLIENT_OF, &name)
        .env(CLIENT_ONLY_READS, "")
        .spawn()
        .unwrap();
    let stream = listener.accept_timeout(LONG).unwrap();
    let peer = stream.peer().unwrap();
    assert_eq!(peer.process_id(), child.id());
    assert_kind(peer.process().map(drop), ErrorKind::NotFound);
    drop(stream);
    child.wait().unwrap();
    // This process was there before.
    let _client = ClientOptions::new().write(false).connect_blocking(&name).unwrap();
    let peer = listener.accept_timeout(LONG).unwrap().peer().unwrap();
    assert_eq!(peer.process_id(), std::process::id());
    peer.process().unwrap();
}

/// A client that is gone leaves a number behind, and nobody else is taken for it.
#[test]
fn a_process_is_known_while_it_lives() {
    let _watchdog = watchdog();
    let name = unique_name();
    let listener = PipeListener::bind(&name).unwrap();
    let program = std::env::current_exe().unwrap();
    let mut child = Command::new(&program)
        .args(["--exact", "identity::plays_a_client"])
        .env(CLIENT_OF, &name)
        .spawn()
        .unwrap();
    let mut stream = listener.accept_timeout(LONG).unwrap();
    stream.read_exact(&mut [0]).unwrap();

    let me = Trustee::CurrentUser.sid().unwrap();
    let peer = stream.peer().unwrap();
    assert_eq!(peer.process_id(), child.id());
    assert_eq!(peer.program().unwrap().file_name(), program.file_name());
    assert_eq!(peer.user().unwrap(), me);
    assert_eq!(stream.client_user().unwrap(), me);

    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    let late = stream.peer().unwrap();
    assert_eq!(late.process_id(), peer.process_id());
    if let Ok(found) = late.program() {
        assert_eq!(found.file_name(), program.file_name(), "it is nobody else");
    }
    peer.process().expect("it was found in time, and is held");
}

#[test]
fn a_server_that_is_somebody_else_is_not_waited_for() {
    let _watchdog = watchdog();
    let name = unique_name();
    let mine = SecurityDescriptor::current_user_only().unwrap();
    let _listener = ServerOptions::new().security_descriptor(&mine).listen_blocking(&name).unwrap();
    let mut options = ClientOptions::new();
    options.wait_for_server(true).verify_server(ServerIdentity::PipeOwner(Trustee::System));
    let error = options.connect_blocking(&name).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
}

#[test]
fn a_client_has_no_client() {
    let (_server, client) = pair();
    let error = client.impersonate(|_| -> std::io::Result<()> { panic!("in whose name?") }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}
