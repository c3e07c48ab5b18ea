//! `npipe list` and `npipe info`.

use std::process;

use npipe::{PipeMode, SecurityDescriptor, ServerOptions, Trustee};
use tokio::net::windows::named_pipe::ClientOptions;

use crate::connect::{path, unique_name};
use crate::process::{Npipe, Outcome};
use crate::wine::skipped_under_wine;

fn json(outcome: &Outcome) -> serde_json::Value {
    serde_json::from_slice(&outcome.stdout).unwrap()
}

#[tokio::test]
async fn info_tells_what_a_pipe_is() {
    let name = unique_name();
    let mut options = ServerOptions::new();
    options.pipe_mode(PipeMode::Message).max_instances(3).out_buffer_size(4096).in_buffer_size(8192);
    let _first = options.create(path(&name)).unwrap();
    let _second = options.create(path(&name)).unwrap();
    let outcome = Npipe::start(&["info", &name]).finish().await;
    outcome.code(0).no_stderr().stdout_has(&path(&name)).stdout_has("mode              message\n");
    outcome.stdout_has("3 at most").stdout_has("server to client  buffer of 4096 bytes");
    let outcome = Npipe::start(&["info", "--json", &format!("//./pipe/{name}")]).finish().await;
    let expected = serde_json::json!({
        "path": path(&name),
        "mode": "message",
        "max_instances": 3,
        "server_to_client_buffer": 4096,
        "client_to_server_buffer": 8192,
        "opened_end": "client",
    });
    let mut read = json(outcome.code(0).no_stderr());
    let about_the_pipe = read.as_object_mut().unwrap();
    about_the_pipe.retain(|key, _| expected.get(key).is_some());
    assert_eq!(read, expected);
}

#[tokio::test]
async fn info_tells_who_serves_a_pipe() {
    let name = unique_name();
    let _servers = [(); 2].map(|()| ServerOptions::new().create(path(&name)).unwrap());
    let program = std::env::current_exe().unwrap();
    let file_name = program.file_name().unwrap().to_str().unwrap();
    let outcome = Npipe::start(&["info", &name]).finish().await;
    outcome.code(0).no_stderr().stdout_has(&format!("server process    {}\n", process::id()));
    let user = Trustee::CurrentUser.sid().unwrap();
    outcome.stdout_has(&format!("{file_name}\n")).stdout_has(&format!("({user})\nserver session    "));
    let read = json(Npipe::start(&["info", "--json", &name]).finish().await.code(0).no_stderr());
    assert_eq!(read["server_process_id"], process::id());
    assert!(read["server_program"].as_str().unwrap().ends_with(file_name), "{read}");
    assert_eq!(read["server_user"]["sid"], user.to_string());
    assert!(read["server_session_id"].is_u64(), "{read}");
    assert_eq!(read["unknown"], serde_json::json!({}), "{read}");
}

#[tokio::test]
async fn info_tells_who_may_do_what() {
    let name = unique_name();
    let given = "D:(D;;FA;;;AN)(A;;0x12019b;;;S-1-5-21-1-2-3-4)(A;;GRGW;;;SY)(A;;FA;;;WD)";
    let given: SecurityDescriptor = given.parse().unwrap();
    let mut options = ServerOptions::new();
    let _servers = [(); 2].map(|()| options.security_descriptor(&given).create(path(&name)).unwrap());
    let outcome = Npipe::start(&["info", &name]).finish().await;
    outcome.code(0).no_stderr().stdout_has("(S-1-5-7) may not: everything\n");
    outcome.stdout_has("\n                  S-1-5-21-1-2-3-4 may: read, write\n");
    outcome
        .stdout_has("(S-1-5-18) may: read, write, serve the name too\n")
        .stdout_has("(S-1-1-0) may: everything\n");
    outcome.stdout_has("sddl              O:").stdout_has("(A;;0x12019b;;;S-1-5-21-1-2-3-4)");
    let read = json(Npipe::start(&["info", "--json", &name]).finish().await.code(0).no_stderr());
    assert!(read["owner"]["sid"].as_str().unwrap().starts_with("S-1-5-"), "{read}");
    let expected = serde_json::json!({
        "kind": "allow",
        "trustee": { "sid": "S-1-5-21-1-2-3-4", "account": null },
        "rights": ["read", "write", "look"],
        "mask": 0x12019b,
    });
    assert_eq!(read["access"][1], expected);
    assert_eq!(read["access"][0]["kind"], "deny");
    assert!(read["sddl"].as_str().unwrap().contains("D:(D;;FA;;;AN)"), "{read}");
}

/// Its owner may look at a pipe's access list whatever it says, unless it says what an owner may.
#[tokio::test]
async fn what_info_may_not_see_is_said_with_the_reason() {
    if skipped_under_wine(
        "inspect::what_info_may_not_see_is_said_with_the_reason",
        "access lists are not enforced",
    ) {
        return;
    }
    let name = unique_name();
    let only_attributes: SecurityDescriptor = "D:(A;;0x100080;;;OW)(A;;0x100080;;;WD)".parse().unwrap();
    let mut options = ServerOptions::new();
    let server = options.security_descriptor(&only_attributes).create(path(&name)).unwrap();
    let outcome = Npipe::start(&["info", &name]).finish().await;
    outcome.code(0).no_stderr().stdout_has("owner, access     unknown: ").stdout_has("(os error 5)");
    drop(server);
    let _server = options.create(path(&name)).unwrap();
    let read = json(Npipe::start(&["info", "--json", &name]).finish().await.code(0).no_stderr());
    assert_eq!((&read["mode"], &read["access"]), (&"byte".into(), &serde_json::Value::Null));
    assert!(read["unknown"]["access"].as_str().unwrap().contains("(os error 5)"), "{read}");
}

#[tokio::test]
async fn info_needs_the_right_of_neither_direction() {
    for inbound in [true, false] {
        let name = unique_name();
        let mut options = ServerOptions::new();
        let _server = options.access_inbound(inbound).access_outbound(!inbound).create(path(&name)).unwrap();
        let outcome = Npipe::start(&["info", "--json", &format!("npipe:{name}")]).finish().await;
        let read = json(outcome.code(0).no_stderr());
        assert_eq!((&read["mode"], &read["max_instances"]), (&"byte".into(), &serde_json::Value::Null));
    }
}

#[tokio::test]
async fn info_of_a_pipe_that_is_busy_or_missing_is_told_by_the_exit_code() {
    let name = unique_name();
    let outcome = Npipe::start(&["info", &name]).finish().await;
    outcome.code(3).stdout(b"").stderr_has("no program serves");
    let _server = ServerOptions::new().max_instances(1).create(path(&name)).unwrap();
    let _client = ClientOptions::new().open(path(&name)).unwrap();
    let outcome = Npipe::start(&["info", "--wait", "0", &name]).finish().await;
    outcome.code(4).stdout(b"").stderr_has("stayed busy");
}

/// On Windows the pipe is listed with its instances; Wine has no directory of pipes, and that is
/// said.
#[tokio::test]
async fn list_shows_pipes_or_says_that_the_system_does_not() {
    let name = unique_name();
    let mut options = ServerOptions::new();
    let _servers = [(); 2].map(|()| options.max_instances(3).create(path(&name)).unwrap());
    let outcome = Npipe::start(&["list", "--json", &name]).finish().await;
    if outcome.ended_with(10) {
        outcome.stdout(b"").stderr_has("Wine has no directory of pipes");
        return;
    }
    let expected =
        serde_json::json!([{ "name": name, "path": path(&name), "instances": 2, "max_instances": 3 }]);
    assert_eq!(json(outcome.code(0).no_stderr()), expected);
}
