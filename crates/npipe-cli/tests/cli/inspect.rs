//! `npipe list` and `npipe info`.

use npipe::{PipeMode, ServerOptions};
use tokio::net::windows::named_pipe::ClientOptions;

use crate::connect::{path, unique_name};
use crate::process::{Npipe, Outcome};

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
    assert_eq!(json(outcome.code(0).no_stderr()), expected);
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

/// On Windows the pipe is listed with its instances; Wine has no directory of pipes, and that is said.
#[tokio::test]
async fn list_shows_pipes_or_says_that_the_system_does_not() {
    let name = unique_name();
    let _first = ServerOptions::new().create(path(&name)).unwrap();
    let _second = ServerOptions::new().create(path(&name)).unwrap();
    let outcome = Npipe::start(&["list", "--json", &name]).finish().await;
    if outcome.ended_with(10) {
        outcome.stdout(b"").stderr_has("Wine has no directory of pipes");
        return;
    }
    let expected = serde_json::json!([{ "name": name, "path": path(&name), "instances": 2 }]);
    assert_eq!(json(outcome.code(0).no_stderr()), expected);
}
