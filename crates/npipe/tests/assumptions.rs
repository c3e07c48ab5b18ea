//! What the library believes about Windows, each belief alone, by bare Win32 calls. Anyone can run
//! this on a real Windows; a test that fails there is a belief to give up. Where Wine differs it is
//! said here, with the reason, and nowhere else.
//!
//! Nothing of the library is used. "Sync" below means that the call itself returns the result.
#![cfg(windows)]

#[path = "assumptions/sys.rs"]
mod sys;

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sys::{Access, Handle, Issued, Notify, Operation, Packet, Port};
use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_BAD_PIPE, ERROR_BROKEN_PIPE, ERROR_CANNOT_IMPERSONATE, ERROR_FILE_NOT_FOUND,
    ERROR_INVALID_PARAMETER, ERROR_MORE_DATA, ERROR_NO_DATA, ERROR_NOT_FOUND, ERROR_NOT_SUPPORTED,
    ERROR_OPERATION_ABORTED, ERROR_PIPE_BUSY, ERROR_PIPE_CONNECTED, ERROR_PIPE_LISTENING,
    ERROR_PIPE_NOT_CONNECTED,
};

/// The one condition by which tests here are skipped or judged differently.
fn wine() -> bool {
    sys::runs_under_wine()
}

fn skipped_under_wine(test: &str, reason: &str) -> bool {
    if wine() {
        // Not `println!`: libtest keeps the output of tests that pass to itself.
        let _ = writeln!(std::io::stdout(), "skipped-under-wine: {test}: {reason}");
    }
    wine()
}

fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!(r"\\.\pipe\npipe-assumptions-{}-{number}", std::process::id())
}

/// The notification modes of the library's handles.
const SKIP: Notify = Notify::SkipOnSuccess;

/// A connected pair; the server's handle is tied to the port.
fn pair(message: bool, quota: u32, notify: Notify) -> (Port, Handle, Handle) {
    let name = unique_name();
    let server = sys::create(&name, message, quota).unwrap();
    let client = sys::open(&name, Access::ReadWrite, message).unwrap();
    assert_eq!(sys::connect(&server, &mut Operation::new()), Issued::Failed(ERROR_PIPE_CONNECTED));
    let port = Port::new();
    port.tie(&server, notify).unwrap();
    (port, server, client)
}

/// Writes from the client's side; what is meant to fit, fits.
fn send(client: &Handle, data: &[u8]) {
    assert_eq!(sys::write(client, data, &mut Operation::new()), Issued::Done(data.len() as u32));
}

/// Long enough for any call that waits for nothing, on a machine with other work.
const LIMIT_OF_A_CALL: Duration = Duration::from_secs(20);

/// Another process, which can be given handles, and which closes them when it ends.
struct Holder(Child);

impl Holder {
    fn start() -> Self {
        // It waits for its input.
        let mut command = Command::new("cmd");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn end(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It has ended already where the test did not fail.
        let _ = self.0.kill();
    }
}

// --- completion rules
// -----------------------------------------------------------------------------------------------

#[test]
fn success_at_once_queues_no_packet_with_skip() {
    let (port, server, client) = pair(false, 4096, SKIP);
    send(&client, b"data");
    let mut read = Operation::new();
    assert_eq!(sys::read(&server, 100, &mut read), Issued::Done(4));
    assert_eq!(port.poll(), None);
}

#[test]
fn success_at_once_queues_a_packet_without_skip() {
    let (port, server, client) = pair(false, 4096, Notify::Always);
    send(&client, b"data");
    let mut read = Operation::new();
    assert_eq!(sys::read(&server, 100, &mut read), Issued::Done(4));
    assert_eq!(port.wait(), Packet { operation: read.id(), code: 0, count: 4 });
}

#[test]
fn pending_operation_queues_exactly_one_packet() {
    let (port, server, client) = pair(false, 4096, SKIP);
    let mut read = Operation::new();
    assert_eq!(sys::read(&server, 100, &mut read), Issued::Pending);
    assert_eq!(port.poll(), None);
    send(&client, b"data");
    assert_eq!(port.wait(), Packet { operation: read.id(), code: 0, count: 4 });
    assert_eq!(read.buffer(4), b"data");
    assert_eq!(port.poll(), None);
}

#[test]
fn failure_at_once_queues_no_packet_and_leaves_the_overlapped_alone() {
    let (port, server, client) = pair(false, 4096, SKIP);
    drop(client);
    let mut read = Operation::new();
    assert_eq!(sys::read(&server, 100, &mut read), Issued::Failed(ERROR_BROKEN_PIPE));
    assert!(read.is_untouched());
    let mut write = Operation::new();
    assert_eq!(sys::write(&server, b"x", &mut write), Issued::Failed(ERROR_NO_DATA));
    assert!(write.is_untouched());
    assert_eq!(port.poll(), None);
}

#[test]
fn pending_operation_that_fails_queues_its_packet() {
    let (port, server, client) = pair(false, 4096, SKIP);
    let mut read = Operation::new();
    assert_eq!(sys::read(&server, 100, &mut read), Issued::Pending);
    drop(client);
    assert_eq!(port.wait(), Packet { operation: read.id(), code: ERROR_BROKEN_PIPE, count: 0 });
}

/// Windows 8 and later answer *pending* and queue a packet that carries ERROR_MORE_DATA and the
/// count. Wine, like Windows 7, answers ERROR_MORE_DATA at once and queues none. In both cases the
/// count is in the OVERLAPPED.
#[test]
fn short_message_read_with_skip_is_one_result() {
    let (port, server, client) = pair(true, 4096, SKIP);
    send(&client, b"0123456789");
    let mut read = Operation::new();
    match sys::read(&server, 4, &mut read) {
        Issued::Pending => {
            assert!(!wine(), "Wine has learned it: take the difference out of this test");
            assert_eq!(port.wait(), Packet { operation: read.id(), code: ERROR_MORE_DATA, count: 4 });
        }
        Issued::Failed(ERROR_MORE_DATA) => assert!(wine(), "only Windows 7 and Wine answer at once"),
        other => panic!("{other:?}"),
    }
    assert_eq!(read.count(), 4);
    assert_eq!(read.buffer(4), b"0123");
    assert_eq!(port.poll(), None);
    let mut rest = Operation::new();
    assert_eq!(sys::read(&server, 100, &mut rest), Issued::Done(6));
    assert_eq!(rest.buffer(6), b"456789");
}

#[test]
fn pending_short_message_read_carries_more_data_in_its_packet() {
    let (port, server, client) = pair(true, 4096, SKIP);
    let mut read = Operation::new();
    assert_eq!(sys::read(&server, 4, &mut read), Issued::Pending);
    send(&client, b"0123456789");
    assert_eq!(port.wait(), Packet { operation: read.id(), code: ERROR_MORE_DATA, count: 4 });
}

#[test]
fn cancelled_read_queues_its_packet_and_takes_no_data() {
    let (port, server, client) = pair(false, 4096, SKIP);
    let mut read = Operation::new();
    assert_eq!(sys::read(&server, 100, &mut read), Issued::Pending);
    assert_eq!(sys::cancel(&server, &read), Ok(()));
    assert_eq!(port.wait(), Packet { operation: read.id(), code: ERROR_OPERATION_ABORTED, count: 0 });
    assert_eq!(sys::cancel(&server, &read), Err(ERROR_NOT_FOUND));
    send(&client, b"later");
    let mut next = Operation::new();
    assert_eq!(sys::read(&server, 100, &mut next), Issued::Done(5));
}

#[test]
fn read_that_was_done_before_the_cancel_keeps_its_result() {
    let (port, server, client) = pair(false, 4096, SKIP);
    let mut read = Operation::new();
    assert_eq!(sys::read(&server, 100, &mut read), Issued::Pending);
    send(&client, b"data");
    assert_eq!(sys::cancel(&server, &read), Err(ERROR_NOT_FOUND));
    assert_eq!(port.wait(), Packet { operation: read.id(), code: 0, count: 4 });
}

#[test]
fn reads_that_wait_are_served_in_order() {
    let (port, server, client) = pair(false, 4096, SKIP);
    let mut reads: Vec<_> = (0..8).map(|_| Operation::new()).collect();
    for read in &mut reads {
        assert_eq!(sys::read(&server, 1, read), Issued::Pending);
    }
    for byte in 0..8 {
        send(&client, &[byte]);
    }
    for (byte, read) in reads.iter().enumerate() {
        assert_eq!(port.wait(), Packet { operation: read.id(), code: 0, count: 1 });
        assert_eq!(read.buffer(1), [byte as u8]);
    }
}

/// On Windows since Vista. Wine keeps it to operations that report to a port and have no event in
/// their OVERLAPPED, as the library's; it cancels the others when their thread exits.
#[test]
fn operation_outlives_the_thread_that_issued_it() {
    let (port, server, client) = pair(false, 4096, SKIP);
    let (server, operations) = std::thread::spawn(move || {
        let mut operations = [Operation::new(), Operation::new()];
        assert_eq!(sys::read(&server, 100, &mut operations[0]), Issued::Pending);
        assert_eq!(sys::write(&server, &[7; 100_000], &mut operations[1]), Issued::Pending);
        (server, operations)
    })
    .join()
    .unwrap();
    assert_eq!(port.poll(), None);
    send(&client, b"data");
    assert_eq!(port.wait(), Packet { operation: operations[0].id(), code: 0, count: 4 });
    let mut read = Operation::new();
    assert_eq!(sys::read(&client, 100_000, &mut read), Issued::Done(100_000));
    assert_eq!(port.wait(), Packet { operation: operations[1].id(), code: 0, count: 100_000 });
    drop(server);
}

/// Wine writes the status in `CancelIoEx`; on Windows the status is final only when the packet has
/// been dequeued. So the library releases the handle of a cancelled operation at once, and its
/// memory with the packet.
#[test]
fn a_cancelled_read_on_a_port_is_final_only_with_its_packet() {
    let (port, server, _client) = pair(false, 4096, SKIP);
    let mut read = Operation::new();
    assert_eq!(sys::read(&server, 100, &mut read), Issued::Pending);
    assert_eq!(sys::cancel(&server, &read), Ok(()));
    assert_eq!(read.is_final(), wine());
    assert_eq!(port.wait(), Packet { operation: read.id(), code: ERROR_OPERATION_ABORTED, count: 0 });
    assert!(read.is_final());
}

/// The blocking API does this on an end that was asynchronous before: its event keeps the packet
/// from the port, and the status is read once the event is set.
#[test]
fn a_cancelled_read_with_an_event_is_final_once_the_event_is_set() {
    let (port, server, _client) = pair(false, 4096, SKIP);
    for _ in 0..100 {
        let (event, mut read) = (sys::Event::new(), Operation::new());
        assert_eq!(sys::read_with(&server, &event, 100, &mut read), Issued::Pending);
        assert_eq!(sys::cancel(&server, &read), Ok(()));
        event.wait();
        assert!(read.is_final());
    }
    assert_eq!(port.poll(), None);
}

/// A call that the kernel answers with *pending* waits on the file handle, which these modes never
/// signal. If one of these calls does not return, the library must not make calls of this kind on a
/// handle that has the mode FILE_SKIP_SET_EVENT_ON_HANDLE.
#[test]
fn calls_that_wait_on_the_file_handle_return_on_a_tied_handle() {
    let mut hanging = Vec::new();
    type Call = fn(&Handle);
    let calls: [(&str, Call); 4] = [
        ("PeekNamedPipe", |server| assert_eq!(sys::peek(server), Ok(0))),
        ("DisconnectNamedPipe", |server| assert_eq!(sys::disconnect(server), Ok(()))),
        ("ImpersonateNamedPipeClient", |server| {
            // Refused as long as nothing was read, which is an answer too.
            let _ = sys::impersonate(server);
        }),
        ("GetNamedPipeClientProcessId", |server| {
            assert_eq!(sys::client_process_id(server), Ok(std::process::id()));
        }),
    ];
    for (name, call) in calls {
        let (_port, server, _client) = pair(false, 4096, SKIP);
        let (done, returned) = std::sync::mpsc::channel();
        // A thread that hangs is left behind: it ends with the process.
        std::thread::spawn(move || {
            call(&server);
            let _ = done.send(());
        });
        if let Err(error) = returned.recv_timeout(LIMIT_OF_A_CALL) {
            hanging.push((name, error));
        }
    }
    assert_eq!(hanging, []);
}

/// How the library makes such calls.
#[test]
fn a_control_with_an_event_and_no_context_sets_the_event_and_queues_no_packet() {
    let (port, server, client) = pair(false, 4096, SKIP);
    send(&client, b"data");
    let (event, mut peek) = (sys::Event::new(), Operation::new());
    match sys::peek_with(&server, &event, &mut peek) {
        Issued::Pending => assert!(!wine(), "Wine answers at once"),
        // The structure has room for one byte of the data, so there is more.
        Issued::Done(_) | Issued::Failed(ERROR_MORE_DATA) => {}
        other => panic!("{other:?}"),
    }
    event.wait();
    assert!(peek.is_final());
    let available = u32::from_le_bytes(*peek.buffer(8).last_chunk().unwrap());
    assert_eq!(available, 4);
    assert_eq!(port.poll(), None);
}

/// How a waiting port is stopped. Closing it under the waiter is documented
/// (ERROR_ABANDONED_WAIT_0), but Wine 8 then hangs for ever, so nobody tries that here.
#[test]
fn posted_packets_wake_the_port() {
    let port = Port::new();
    port.post();
    assert_eq!(port.wait(), Packet { operation: 0, code: 0, count: 0 });
    assert_eq!(port.poll(), None);
}

#[test]
fn synchronous_handles_can_not_be_tied_to_a_port() {
    let name = unique_name();
    let server = sys::create_synchronous(&name).unwrap();
    assert_eq!(Port::new().tie(&server, Notify::Always), Err(ERROR_INVALID_PARAMETER));
}

#[test]
fn handle_can_be_tied_to_one_port_only() {
    let (_port, server, _client) = pair(false, 4096, SKIP);
    assert_eq!(Port::new().tie(&server, Notify::Always), Err(ERROR_INVALID_PARAMETER));
}

// --- connect
// --------------------------------------------------------------------------------------------------------

/// `into_owned_handle` gives a handle away that another library can tie to its own port. Neither
/// Wine 8 nor 10 can.
#[test]
fn handle_can_be_untied_from_its_port() {
    let (port, server, client) = pair(false, 4096, SKIP);
    let untied = sys::untie(&server);
    // Modes can be set and never cleared: the next owner of the handle has them.
    assert_eq!(sys::modes(&server), Ok(sys::SKIP_MODES));
    if wine() {
        untied.unwrap_err();
        return;
    }
    untied.unwrap();
    sys::read(&server, 10, &mut Operation::new()).pending().unwrap();
    send(&client, b"x");
    assert_eq!(port.poll(), None, "the port has no part in it any more");
    Port::new().tie(&server, SKIP).unwrap();
}

#[test]
fn connect_waits_for_a_client() {
    let name = unique_name();
    let server = sys::create(&name, false, 4096).unwrap();
    let port = Port::new();
    port.tie(&server, SKIP).unwrap();
    let mut connect = Operation::new();
    assert_eq!(sys::connect(&server, &mut connect), Issued::Pending);
    let _client = sys::open(&name, Access::ReadWrite, false).unwrap();
    assert_eq!(port.wait(), Packet { operation: connect.id(), code: 0, count: 0 });
}

#[test]
fn instance_listens_before_the_first_connect() {
    let name = unique_name();
    let server = sys::create(&name, false, 4096).unwrap();
    let _client = sys::open(&name, Access::ReadWrite, false).unwrap();
    assert_eq!(sys::connect(&server, &mut Operation::new()), Issued::Failed(ERROR_PIPE_CONNECTED));
}

#[test]
fn client_that_left_is_no_data_and_its_bytes_are_there() {
    let name = unique_name();
    let server = sys::create(&name, false, 4096).unwrap();
    let client = sys::open(&name, Access::ReadWrite, false).unwrap();
    send(&client, b"left");
    drop(client);
    assert_eq!(sys::connect(&server, &mut Operation::new()), Issued::Failed(ERROR_NO_DATA));
    assert_eq!(sys::open(&name, Access::ReadWrite, false).unwrap_err(), ERROR_PIPE_BUSY);
    let mut read = Operation::new();
    assert_eq!(sys::read(&server, 100, &mut read), Issued::Done(4));
    assert_eq!(sys::read(&server, 100, &mut read), Issued::Failed(ERROR_BROKEN_PIPE));
    assert_eq!(sys::disconnect(&server), Ok(()));
    assert_eq!(sys::connect(&server, &mut Operation::new()).pending(), Some(()));
}

#[test]
fn cancelled_connect_leaves_the_instance_listening() {
    let name = unique_name();
    let server = sys::create(&name, false, 4096).unwrap();
    let port = Port::new();
    port.tie(&server, SKIP).unwrap();
    let mut connect = Operation::new();
    assert_eq!(sys::connect(&server, &mut connect), Issued::Pending);
    assert_eq!(sys::cancel(&server, &connect), Ok(()));
    assert_eq!(port.wait(), Packet { operation: connect.id(), code: ERROR_OPERATION_ABORTED, count: 0 });
    let _client = sys::open(&name, Access::ReadWrite, false).unwrap();
    assert_eq!(sys::connect(&server, &mut Operation::new()), Issued::Failed(ERROR_PIPE_CONNECTED));
}

/// So a thread can wait for all instances of a backlog, however many they are.
#[test]
fn instances_that_share_an_event_set_it_each() {
    let (name, event) = (unique_name(), sys::Event::new());
    let servers = [(); 3].map(|()| sys::create(&name, false, 4096).unwrap());
    let mut connects = [(); 3].map(|()| Operation::new());
    for (server, connect) in servers.iter().zip(&mut connects) {
        assert_eq!(sys::connect_with(server, &event, connect), Issued::Pending);
    }
    assert!(!event.take());
    let mut clients = Vec::new();
    for connected in 1..=3 {
        clients.push(sys::open(&name, Access::ReadWrite, false).unwrap());
        assert!(event.take());
        assert!(!event.take());
        assert_eq!(connects.iter().filter(|connect| connect.is_final()).count(), connected);
    }
}

#[test]
fn name_is_missing_once_no_servers_end_is_open() {
    let name = unique_name();
    let server = sys::create(&name, false, 4096).unwrap();
    let client = sys::open(&name, Access::ReadWrite, false).unwrap();
    assert_eq!(sys::open(&name, Access::ReadWrite, false).unwrap_err(), ERROR_PIPE_BUSY);
    drop(server);
    assert_eq!(sys::open(&name, Access::ReadWrite, false).unwrap_err(), ERROR_FILE_NOT_FOUND);
    drop(client);
}

// --- the end of a connection
// ----------------------------------------------------------------------------------------

#[test]
fn written_data_survive_the_writers_close() {
    let (_port, server, client) = pair(true, 4096, SKIP);
    send(&client, b"first");
    send(&client, b"second");
    drop(client);
    let mut read = Operation::new();
    assert_eq!(sys::read(&server, 100, &mut read), Issued::Done(5));
    assert_eq!(sys::read(&server, 100, &mut read), Issued::Done(6));
    assert_eq!(sys::read(&server, 100, &mut read), Issued::Failed(ERROR_BROKEN_PIPE));
}

#[test]
fn disconnect_discards_and_both_ends_are_told() {
    let (port, server, client) = pair(false, 4096, SKIP);
    assert_eq!(sys::write(&server, b"discarded", &mut Operation::new()), Issued::Done(9));
    let mut waiting = Operation::new();
    assert_eq!(sys::read(&server, 100, &mut waiting), Issued::Pending);
    assert_eq!(sys::disconnect(&server), Ok(()));
    assert_eq!(port.wait(), Packet { operation: waiting.id(), code: ERROR_PIPE_NOT_CONNECTED, count: 0 });
    for end in [&server, &client] {
        let mut operation = Operation::new();
        assert_eq!(sys::read(end, 100, &mut operation), Issued::Failed(ERROR_PIPE_NOT_CONNECTED));
        assert_eq!(sys::write(end, b"x", &mut operation), Issued::Failed(ERROR_PIPE_NOT_CONNECTED));
    }
    assert_eq!(sys::disconnect(&server), Err(ERROR_PIPE_NOT_CONNECTED));
}

#[test]
fn io_before_a_client_is_pipe_listening() {
    let server = sys::create(&unique_name(), false, 4096).unwrap();
    let mut operation = Operation::new();
    assert_eq!(sys::read(&server, 100, &mut operation), Issued::Failed(ERROR_PIPE_LISTENING));
    assert_eq!(sys::write(&server, b"x", &mut operation), Issued::Failed(ERROR_PIPE_LISTENING));
}

/// How a server's end is known to have no client.
#[test]
fn peek_of_a_server_is_bad_pipe_only_while_no_client_has_come_or_it_was_disconnected() {
    let name = unique_name();
    let server = sys::create(&name, false, 4096).unwrap();
    assert_eq!(sys::peek(&server), Err(ERROR_BAD_PIPE));
    let client = sys::open(&name, Access::ReadWrite, false).unwrap();
    assert_eq!(sys::peek(&server), Ok(0));
    send(&client, b"left");
    drop(client);
    assert_eq!(sys::peek(&server), Ok(4));
    let mut read = Operation::new();
    assert_eq!(sys::read(&server, 4, &mut read), Issued::Done(4));
    assert_eq!(sys::peek(&server), Err(ERROR_BROKEN_PIPE));
    sys::disconnect(&server).unwrap();
    assert_eq!(sys::peek(&server), Err(ERROR_BAD_PIPE));
}

/// Why a handle is closed only when no write is in flight on it. Wine drops the bytes of the
/// pending write. By ReactOS's NPFS Windows keeps them, and the write itself, until the peer has
/// read them or closes: so the packet is awaited after the read.
#[test]
fn closing_with_a_write_in_flight_ends_the_peer() {
    let (port, server, client) = pair(false, 4096, SKIP);
    let mut write = Operation::new();
    assert_eq!(sys::write(&server, &[7; 10_000], &mut write), Issued::Pending);
    drop(server);
    let expected = if wine() { Issued::Failed(ERROR_BROKEN_PIPE) } else { Issued::Done(10_000) };
    assert_eq!(sys::read(&client, 20_000, &mut Operation::new()), expected);
    assert_eq!(port.wait().operation, write.id());
    assert_eq!(sys::read(&client, 20_000, &mut Operation::new()), Issued::Failed(ERROR_BROKEN_PIPE));
}

#[test]
fn a_write_in_flight_ends_with_broken_pipe_when_the_peer_closes() {
    let (port, server, client) = pair(false, 4096, SKIP);
    let mut write = Operation::new();
    assert_eq!(sys::write(&server, &[7; 10_000], &mut write), Issued::Pending);
    drop(client);
    assert_eq!(port.wait(), Packet { operation: write.id(), code: ERROR_BROKEN_PIPE, count: 0 });
}

#[test]
fn writes_in_flight_end_with_not_connected_at_both_ends_when_the_server_disconnects() {
    let (port, server, client) = pair(false, 4096, SKIP);
    let clients_port = Port::new();
    clients_port.tie(&client, SKIP).unwrap();
    let (mut servers, mut clients) = (Operation::new(), Operation::new());
    assert_eq!(sys::write(&server, &[7; 10_000], &mut servers), Issued::Pending);
    assert_eq!(sys::write(&client, &[7; 10_000], &mut clients), Issued::Pending);
    sys::disconnect(&server).unwrap();
    for (port, write) in [(port, servers), (clients_port, clients)] {
        let expected = Packet { operation: write.id(), code: ERROR_PIPE_NOT_CONNECTED, count: 0 };
        assert_eq!(port.wait(), expected);
    }
}

/// Shows which operations the process of a dropped end may cancel while a child still holds the
/// end: a duplicate of the handle in another process keeps the file object, and the packets of this
/// process's operations still reach the port.
#[test]
fn an_operation_is_cancelled_with_the_last_handle_of_its_process() {
    let (port, server, client) = pair(false, 4096, SKIP);
    let mut holder = Holder::start();
    sys::give_to(&holder.0, &server).unwrap();
    let mut read = Operation::new();
    assert_eq!(sys::read(&server, 100, &mut read), Issued::Pending);
    let in_this_process = server.try_clone().unwrap();
    drop(server);
    assert_eq!(port.poll(), None, "this process has another handle");
    drop(in_this_process);
    if wine() {
        // The operation goes on for the handle of the other process.
        assert_eq!(port.poll(), None);
        send(&client, b"data");
        assert_eq!(port.wait(), Packet { operation: read.id(), code: 0, count: 4 });
    } else {
        assert_eq!(port.wait(), Packet { operation: read.id(), code: ERROR_OPERATION_ABORTED, count: 0 });
    }
    // The end itself is open until the other process ends.
    assert_eq!(sys::read(&client, 100, &mut Operation::new()).pending(), Some(()));
    holder.end();
    assert_eq!(sys::read(&client, 100, &mut Operation::new()), Issued::Failed(ERROR_BROKEN_PIPE));
}

/// The peer's process can be queried only before the disconnection.
#[test]
fn the_peers_process_is_unknown_after_a_disconnect() {
    let (_port, server, client) = pair(false, 4096, SKIP);
    assert_eq!(sys::client_process_id(&server), Ok(std::process::id()));
    assert_eq!(sys::server_process_id(&client), Ok(std::process::id()));
    sys::disconnect(&server).unwrap();
    let known = Ok(std::process::id());
    let (of_client, of_server) =
        if wine() { (known, known) } else { (Err(ERROR_NOT_FOUND), Err(ERROR_PIPE_NOT_CONNECTED)) };
    assert_eq!(sys::client_process_id(&server), of_client);
    assert_eq!(sys::server_process_id(&client), of_server);
}

// --- quotas and messages
// --------------------------------------------------------------------------------------------

/// The quota's arithmetic is Windows' own affair (Wine is exact to the byte): only far too much is
/// asserted to wait.
#[test]
fn write_beyond_the_quota_waits_and_is_readable_at_once() {
    let (port, server, client) = pair(false, 4096, SKIP);
    let mut write = Operation::new();
    assert_eq!(sys::write(&server, &[7; 100_000], &mut write), Issued::Pending);
    assert_eq!(port.poll(), None);
    let mut read = Operation::new();
    assert_eq!(sys::read(&client, 100_000, &mut read), Issued::Done(100_000));
    assert_eq!(port.wait(), Packet { operation: write.id(), code: 0, count: 100_000 });
}

#[test]
fn empty_message_is_a_read_of_nothing_that_succeeds() {
    let (_port, server, client) = pair(true, 4096, SKIP);
    for message in ["", "x", ""] {
        send(&client, message.as_bytes());
    }
    let mut read = Operation::new();
    for message in ["", "x", ""] {
        assert_eq!(sys::read(&server, 100, &mut read), Issued::Done(message.len() as u32));
    }
    assert_eq!(sys::read(&server, 100, &mut read).pending(), Some(()));
}

/// So the library sends none. Windows' documentation describes a zero-byte read as its effect; no
/// reader sees one.
#[test]
fn an_empty_write_on_a_byte_pipe_ends_no_read_and_leaves_nothing() {
    let (port, server, client) = pair(false, 4096, SKIP);
    let mut read = Operation::new();
    assert_eq!(sys::read(&server, 100, &mut read), Issued::Pending);
    send(&client, b"");
    assert_eq!(port.poll(), None);
    send(&client, b"data");
    assert_eq!(port.wait(), Packet { operation: read.id(), code: 0, count: 4 });
    send(&client, b"");
    assert_eq!(sys::peek(&server), Ok(0));
    let mut next = Operation::new();
    assert_eq!(sys::read(&server, 100, &mut next), Issued::Pending);
    send(&client, b"more");
    assert_eq!(port.wait(), Packet { operation: next.id(), code: 0, count: 4 });
}

/// Wine's quota is as exact as Windows'.
#[test]
fn a_quota_is_exact_to_the_byte() {
    let (port, server, client) = pair(false, 5000, SKIP);
    assert_eq!(sys::write(&server, &[7; 5000], &mut Operation::new()), Issued::Done(5000));
    let mut more = Operation::new();
    assert_eq!(sys::write(&server, &[7; 1], &mut more), Issued::Pending);
    assert_eq!(sys::read(&client, 1, &mut Operation::new()), Issued::Done(1));
    assert_eq!(port.wait(), Packet { operation: more.id(), code: 0, count: 1 });
}

/// Why a write in flight is never cancelled to take it back.
#[test]
fn a_cancelled_write_that_was_read_in_part_reports_nothing_and_its_rest_is_withdrawn() {
    let (port, server, client) = pair(false, 4096, SKIP);
    let mut write = Operation::new();
    assert_eq!(sys::write(&server, &[7; 10_000], &mut write), Issued::Pending);
    assert_eq!(sys::read(&client, 100, &mut Operation::new()), Issued::Done(100));
    assert_eq!(sys::cancel(&server, &write), Ok(()));
    assert_eq!(port.wait(), Packet { operation: write.id(), code: ERROR_OPERATION_ABORTED, count: 0 });
    assert_eq!(sys::write(&server, b"next", &mut Operation::new()), Issued::Done(4));
    let mut read = Operation::new();
    assert_eq!(sys::read(&client, 20_000, &mut read), Issued::Done(4));
    assert_eq!(read.buffer(4), b"next");
}

/// Windows before 8 reports success for it.
#[test]
fn read_of_nothing_from_a_message_that_waits_reports_more_data_and_takes_nothing() {
    let (port, server, client) = pair(true, 4096, SKIP);
    send(&client, b"message");
    let mut probe = Operation::new();
    match sys::read(&server, 0, &mut probe) {
        Issued::Pending => {
            assert_eq!(port.wait(), Packet { operation: probe.id(), code: ERROR_MORE_DATA, count: 0 });
        }
        at_once => assert_eq!(at_once, Issued::Failed(ERROR_MORE_DATA)),
    }
    assert_eq!(sys::read(&server, 100, &mut Operation::new()), Issued::Done(7));
}

/// The library's wait for readability on a byte pipe, if it ever probes, could build on this.
#[test]
fn read_of_nothing_waits_for_data_and_takes_none() {
    let (port, server, client) = pair(false, 4096, SKIP);
    let mut probe = Operation::new();
    assert_eq!(sys::read(&server, 0, &mut probe), Issued::Pending);
    send(&client, b"data");
    assert_eq!(port.wait(), Packet { operation: probe.id(), code: 0, count: 0 });
    let mut read = Operation::new();
    assert_eq!(sys::read(&server, 100, &mut read), Issued::Done(4));
}

#[test]
fn message_pipe_read_as_bytes_has_no_boundaries() {
    let name = unique_name();
    let server = sys::create(&name, true, 4096).unwrap();
    let client = sys::open(&name, Access::ReadWrite, false).unwrap();
    for message in ["abc", "def"] {
        send(&server, message.as_bytes());
    }
    let mut read = Operation::new();
    assert_eq!(sys::read(&client, 100, &mut read), Issued::Done(6));
}

#[test]
fn what_is_left_of_a_message_is_told_until_it_is_read() {
    let (_port, server, client) = pair(true, 4096, SKIP);
    assert_eq!(sys::left_in_message(&client), Ok(0));
    send(&server, b"abc");
    send(&server, b"defgh");
    assert_eq!(sys::left_in_message(&client), Ok(3));
    let mut read = Operation::new();
    sys::read(&client, 2, &mut read);
    assert_eq!(sys::left_in_message(&client), Ok(1));
    let mut rest = Operation::new();
    assert_eq!(sys::read(&client, 2, &mut rest), Issued::Done(1));
    assert_eq!(sys::left_in_message(&client), Ok(5));
}

/// One packet, as for a read, also for a reply that is longer than the room for it. Windows marks
/// the OVERLAPPED as pending in the call, Wine does not: so the library does it itself.
#[test]
fn an_exchange_is_one_result_and_the_rest_of_its_reply_is_read() {
    let (port, server, client) = pair(true, 4096, SKIP);
    port.tie(&client, SKIP).unwrap();
    let mut exchange = Operation::new();
    assert_eq!(sys::exchange(&client, b"request", 4, &mut exchange), Issued::Pending);
    assert!(!exchange.is_final() || wine());
    let mut request = Operation::new();
    assert_eq!(sys::read(&server, 100, &mut request), Issued::Done(7));
    send(&server, b"0123456789");
    assert_eq!(port.wait(), Packet { operation: exchange.id(), code: ERROR_MORE_DATA, count: 4 });
    assert_eq!(exchange.buffer(4), b"0123");
    assert_eq!(port.poll(), None);
    let mut rest = Operation::new();
    assert_eq!(sys::read(&client, 100, &mut rest), Issued::Done(6));
}

/// Windows 8 and later answer *pending*, and the packet carries the refusal. Wine, like Windows 7,
/// refuses at once.
#[test]
fn an_exchange_is_refused_while_a_message_waits_and_on_a_pipe_of_bytes() {
    for (message, code) in [(true, ERROR_PIPE_BUSY), (false, ERROR_BAD_PIPE)] {
        let (port, server, client) = pair(message, 4096, SKIP);
        port.tie(&client, SKIP).unwrap();
        send(&server, b"news");
        let mut exchange = Operation::new();
        match sys::exchange(&client, b"x", 4, &mut exchange) {
            Issued::Pending => {
                assert!(!wine(), "Wine has learned it: take the difference out of this test");
                assert_eq!(port.wait(), Packet { operation: exchange.id(), code, count: 0 });
            }
            at_once => assert_eq!(at_once, Issued::Failed(code)),
        }
        assert_eq!(port.poll(), None);
        assert_eq!(sys::peek(&server), Ok(0), "a refused exchange sends nothing");
    }
}

/// The end of a client that closed is in the reads; an exchange only reports that there is no
/// connection.
#[test]
fn an_exchange_without_a_connection_is_bad_pipe_and_not_connected_for_a_client_that_was_cut_off() {
    let (port, server, client) = pair(true, 4096, SKIP);
    port.tie(&client, SKIP).unwrap();
    sys::disconnect(&server).unwrap();
    for (end, code) in [(server, ERROR_BAD_PIPE), (client, ERROR_PIPE_NOT_CONNECTED)] {
        let mut exchange = Operation::new();
        match sys::exchange(&end, b"x", 4, &mut exchange) {
            Issued::Pending => assert_eq!(port.wait().code, code),
            at_once => assert_eq!(at_once, Issued::Failed(code)),
        }
    }
    let (port, server, client) = pair(true, 4096, SKIP);
    drop(client);
    let mut exchange = Operation::new();
    match sys::exchange(&server, b"x", 4, &mut exchange) {
        Issued::Pending => assert_eq!(port.wait().code, ERROR_BAD_PIPE),
        at_once => assert_eq!(at_once, Issued::Failed(ERROR_BAD_PIPE)),
    }
}

/// So the reply of an exchange that was given up is the next message.
#[test]
fn an_exchange_that_is_cancelled_has_sent_its_request() {
    let (port, server, client) = pair(true, 4096, SKIP);
    port.tie(&client, SKIP).unwrap();
    let mut exchange = Operation::new();
    assert_eq!(sys::exchange(&client, b"request", 4, &mut exchange), Issued::Pending);
    assert_eq!(sys::cancel(&client, &exchange), Ok(()));
    let packet = port.wait();
    assert_eq!((packet.operation, packet.code, packet.count), (exchange.id(), ERROR_OPERATION_ABORTED, 0));
    let mut request = Operation::new();
    assert_eq!(sys::read(&server, 100, &mut request), Issued::Done(7));
}

// --- opening and creating
// -------------------------------------------------------------------------------------------

#[test]
fn codes_of_open() {
    let name = unique_name();
    assert_eq!(sys::open(&name, Access::ReadWrite, false).unwrap_err(), ERROR_FILE_NOT_FOUND);
    let _server = sys::create(&name, false, 4096).unwrap();
    // A message client of a byte pipe is refused when it sets its read mode, not when it opens.
    assert!(
        [ERROR_INVALID_PARAMETER, ERROR_BAD_PIPE]
            .contains(&sys::open(&name, Access::ReadWrite, true).unwrap_err())
    );
    assert_eq!(sys::open(&name, Access::ReadWrite, false).unwrap_err(), ERROR_PIPE_BUSY);
}

/// FILE_WRITE_ATTRIBUTES is what setting the read mode needs; GENERIC_READ alone does not contain
/// it.
#[test]
fn read_mode_of_a_read_only_client_can_be_set_with_write_attributes() {
    let name = unique_name();
    let _server = sys::create_outbound(&name, true).unwrap();
    assert!(sys::open(&name, Access::ReadAndWriteAttributes, true).is_ok());
}

#[test]
fn read_mode_of_a_read_only_client_needs_write_attributes() {
    if skipped_under_wine(
        "read_mode_of_a_read_only_client_needs_write_attributes",
        "the right is not asked for when the mode is set",
    ) {
        return;
    }
    let name = unique_name();
    let _server = sys::create_outbound(&name, true).unwrap();
    assert_eq!(sys::open(&name, Access::Read, true).unwrap_err(), ERROR_ACCESS_DENIED);
}

/// `PIPE_ACCESS_OUTBOUND` does not contain FILE_READ_ATTRIBUTES, which `CreateFile` asks for with
/// every access.
#[test]
fn only_an_outbound_server_may_not_ask_what_it_is() {
    let name = unique_name();
    let server = sys::create_outbound(&name, false).unwrap();
    assert_eq!(sys::is_server_end(&server), Err(ERROR_ACCESS_DENIED));
    let client = sys::open(&name, Access::Read, false).unwrap();
    assert_eq!(sys::is_server_end(&client), Ok(false));

    let name = unique_name();
    let server = sys::create(&name, false, 4096).unwrap();
    assert_eq!(sys::is_server_end(&server), Ok(true));
    let client = sys::open(&name, Access::Write, false).unwrap();
    assert_eq!(sys::is_server_end(&client), Ok(false));
}

/// So setting it shows the type of a pipe to a handle that may not ask for it.
#[test]
fn an_outbound_server_can_be_set_to_read_messages_where_the_pipe_has_them() {
    let bytes = sys::create_outbound(&unique_name(), false).unwrap();
    assert_eq!(sys::set_message_reads(&bytes, true), Err(ERROR_INVALID_PARAMETER));
    assert_eq!(sys::set_message_reads(&bytes, false), Ok(()));
    let messages = sys::create_outbound(&unique_name(), true).unwrap();
    assert_eq!(sys::set_message_reads(&messages, true), Ok(()));
    // Also with a client, which reads as before.
    let name = unique_name();
    let server = sys::create_outbound(&name, true).unwrap();
    let client = sys::open(&name, Access::Read, false).unwrap();
    for message in [true, false] {
        assert_eq!(sys::set_message_reads(&server, message), Ok(()));
        assert_eq!(sys::write(&server, b"one", &mut Operation::new()), Issued::Done(3));
        assert_eq!(sys::write(&server, b"two", &mut Operation::new()), Issued::Done(3));
        assert_eq!(sys::read(&client, 100, &mut Operation::new()), Issued::Done(6), "bytes");
    }
}

#[test]
fn second_instance_must_have_the_same_access() {
    let name = unique_name();
    let _server = sys::create(&name, true, 4096).unwrap();
    assert_eq!(sys::create_outbound(&name, true).unwrap_err(), ERROR_ACCESS_DENIED);
}

/// Both codes mean that another server has the name. Wine ignores FILE_FLAG_FIRST_PIPE_INSTANCE.
#[test]
fn first_instance_is_refused_with_another_code_when_the_name_is_full() {
    let name = unique_name();
    let _server = sys::create_limited(&name, 1).unwrap();
    assert_eq!(sys::create_first(&name, 1).unwrap_err(), ERROR_PIPE_BUSY);
    let name = unique_name();
    let _server = sys::create_limited(&name, 2).unwrap();
    let second = sys::create_first(&name, 2);
    assert_eq!(second.err(), if wine() { None } else { Some(ERROR_ACCESS_DENIED) });
}

/// Unlike its description.
#[test]
fn an_outbound_server_may_ask_for_the_process_of_its_client() {
    let name = unique_name();
    let server = sys::create_outbound(&name, false).unwrap();
    let _client = sys::open(&name, Access::Read, false).unwrap();
    assert_eq!(sys::client_process_id(&server), Ok(std::process::id()));
}

/// Wine accepts both; the library refuses them itself.
#[test]
fn max_instances_0_and_256_are_refused() {
    if skipped_under_wine("max_instances_0_and_256_are_refused", "any number is accepted") {
        return;
    }
    for number in [0, 256] {
        assert_eq!(sys::create_limited(&unique_name(), number).unwrap_err(), ERROR_INVALID_PARAMETER);
    }
}

/// `list_pipes` takes the numbers from there; no reference says what they are.
#[test]
fn the_directory_of_pipes_has_numbers_of_instances_for_sizes() {
    if skipped_under_wine(
        "the_directory_of_pipes_has_numbers_of_instances_for_sizes",
        "there is no directory of pipes",
    ) {
        return;
    }
    for (limit, shown) in [(7, 7), (255, u32::MAX)] {
        let name = unique_name();
        let _servers = [(); 3].map(|()| sys::create_limited(&name, limit).unwrap());
        let short = name.trim_start_matches(r"\\.\pipe\");
        assert_eq!(sys::sizes_in_the_directory(short), Some((3, shown)));
    }
    assert_eq!(sys::sizes_in_the_directory("npipe-assumptions-nobody"), None);
}

/// `drain` is this operation where the system has it.
#[test]
fn flush_is_an_operation_that_ends_when_the_peer_has_read_and_can_be_cancelled() {
    let (port, server, client) = pair(false, 4096, SKIP);
    let mut nothing = Operation::new();
    if wine() {
        // The server process of Wine 8 and 10 does not know FSCTL_PIPE_FLUSH.
        assert_eq!(sys::flush(&server, &mut nothing), Issued::Failed(ERROR_NOT_SUPPORTED));
        assert_eq!(port.poll(), None, "an immediate failure has no packet");
        return;
    }
    match sys::flush(&server, &mut nothing) {
        Issued::Pending => {
            assert_eq!(port.wait(), Packet { operation: nothing.id(), code: 0, count: 0 });
        }
        at_once => assert_eq!(at_once, Issued::Done(0)),
    }
    assert_eq!(sys::write(&server, b"unread", &mut Operation::new()), Issued::Done(6));
    let (mut one, mut other) = (Operation::new(), Operation::new());
    sys::flush(&server, &mut one).pending().unwrap();
    sys::flush(&server, &mut other).pending().unwrap();
    sys::cancel(&server, &one).unwrap();
    assert_eq!(port.wait(), Packet { operation: one.id(), code: ERROR_OPERATION_ABORTED, count: 0 });
    assert_eq!(sys::read(&client, 5, &mut Operation::new()), Issued::Done(5));
    assert_eq!(port.poll(), None, "a byte is unread");
    assert_eq!(sys::read(&client, 5, &mut Operation::new()), Issued::Done(1));
    assert_eq!(port.wait(), Packet { operation: other.id(), code: 0, count: 0 });
}

/// What the peer's end does to a `drain` that waits.
#[test]
fn flush_that_waits_is_told_of_the_end_of_the_peer() {
    let test = "flush_that_waits_is_told_of_the_end_of_the_peer";
    if skipped_under_wine(test, "there is no FSCTL_PIPE_FLUSH") {
        return;
    }
    let (port, server, client) = pair(false, 4096, SKIP);
    sys::write(&server, b"never read", &mut Operation::new());
    let mut flush = Operation::new();
    sys::flush(&server, &mut flush).pending().unwrap();
    drop(client);
    assert_eq!(port.wait(), Packet { operation: flush.id(), code: ERROR_BROKEN_PIPE, count: 0 });
}

/// Where it is no operation, `drain` runs this on a thread of its own, and ends it by
/// `CancelSynchronousIo`.
#[test]
fn flush_blocks_until_the_peer_has_read_and_can_be_cancelled() {
    let (_port, server, client) = pair(false, 4096, SKIP);
    assert_eq!(sys::write(&server, b"unread", &mut Operation::new()), Issued::Done(6));
    let flush = sys::Flushing::start(&server);
    // Until the thread has reached the call there is nothing to cancel.
    while flush.cancel() == Err(ERROR_NOT_FOUND) {
        assert!(!flush.is_finished(), "the flush ended although nobody read");
        std::thread::yield_now();
    }
    assert_eq!(flush.join(), Err(ERROR_OPERATION_ABORTED));
    let flush = sys::Flushing::start(&server);
    let mut read = Operation::new();
    assert_eq!(sys::read(&client, 100, &mut read), Issued::Done(6));
    assert_eq!(flush.join(), Ok(()));
}

// --- security
// -------------------------------------------------------------------------------------------------------

/// `GENERIC_WRITE` contains the right to create instances (0x4), and a client that asks for it is
/// not refused for lack of that one: `Access::Connect` leaves it out. Not said on any page;
/// ReactOS, which follows the original, masks it out.
#[test]
fn a_client_needs_no_right_to_create_instances() {
    if skipped_under_wine("a_client_needs_no_right_to_create_instances", "access lists are not enforced") {
        return;
    }
    let name = unique_name();
    let _server = sys::create_protected(&name, "D:P(A;;0x12019b;;;WD)").unwrap();
    sys::open(&name, Access::ReadWrite, false).unwrap();
    assert_eq!(sys::create(&name, false, 4096).unwrap_err(), ERROR_ACCESS_DENIED);
}

/// `CreateFile` asks for the right to read attributes (0x80) whatever it was told, and generic
/// writing does not contain it: so `Access::Write` does.
#[test]
fn a_client_that_only_writes_needs_to_read_attributes() {
    if skipped_under_wine(
        "a_client_that_only_writes_needs_to_read_attributes",
        "access lists are not enforced",
    ) {
        return;
    }
    for (rights, opened) in [("0x120112", Err(ERROR_ACCESS_DENIED)), ("0x120192", Ok(()))] {
        let name = unique_name();
        let _server = sys::create_protected(&name, &format!("D:P(A;;{rights};;;WD)")).unwrap();
        assert_eq!(sys::open(&name, Access::Write, false).map(drop), opened, "{rights}");
    }
}

/// The error that the documentation of `impersonate` names. A client that says how far it may be
/// impersonated is known from the beginning; the behaviour suite has that.
#[test]
fn a_client_that_does_not_say_what_it_allows_is_known_when_something_was_read() {
    if skipped_under_wine(
        "a_client_that_does_not_say_what_it_allows_is_known_when_something_was_read",
        "every server's end may impersonate at any time",
    ) {
        return;
    }
    let (_port, server, client) = pair(false, 4096, SKIP);
    assert_eq!(sys::impersonate(&server), Err(ERROR_CANNOT_IMPERSONATE));
    send(&client, b"it is me");
    assert_eq!(sys::read(&server, 100, &mut Operation::new()), Issued::Done(8));
    assert_eq!(sys::impersonate(&server), Ok(()));
}
