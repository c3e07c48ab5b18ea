//! Streams and the handles below them: halves, handles given away, taken over and inherited.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::{AsHandle, AsRawHandle, OwnedHandle};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use futures_lite::future;
use npipe::blocking::{PipeListener, PipeStream};
use npipe::{ClientOptions, ServerOptions};

use crate::sys;
use crate::world::*;

#[test]
fn halves_read_and_write_at_once_and_make_the_stream_again() {
    let _watchdog = watchdog();
    let (mut server, client) = npipe::blocking::pair().unwrap();
    let (mut reader, mut writer) = client.into_split();
    let reading = thread::spawn(move || {
        let mut answer = [0; 6];
        reader.read_exact(&mut answer).unwrap();
        (reader, answer)
    });
    writer.write_all(b"question").unwrap();
    server.read_exact(&mut [0; 8]).unwrap();
    server.write_all(b"answer").unwrap();
    let (reader, answer) = reading.join().unwrap();
    assert_eq!(&answer, b"answer");
    drop(reader.reunite(writer).unwrap());
    assert_eq!(server.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_handle_that_is_given_up_comes_with_what_was_read_ahead() {
    let _watchdog = watchdog();
    let (server, client) = npipe::pair().unwrap();
    assert!(client.try_read(&mut [0]).is_err(), "a read is in flight, into a buffer of the pipe's");
    server.try_write(b"ahead").unwrap();
    let client = future::block_on(async {
        client.readable().await.unwrap();
        client.into_blocking().await
    });
    let clone = client.try_clone().unwrap();
    assert_kind(clone.into_owned_handle(), ErrorKind::InvalidInput);
    let (handle, read_ahead) = client.into_owned_handle().unwrap();
    server.try_write(b", behind").unwrap();
    let mut rest = [0; 8];
    File::from(handle).read_exact(&mut rest).unwrap();
    assert_eq!((&read_ahead.concat()[..], &rest), (&b"ahead"[..], b", behind"));

    let (server, mut client) = npipe::blocking::pair().unwrap();
    server.set_write_timeout(Some(LONG)).unwrap();
    (&server).write_all(b"written").unwrap();
    let (handle, read_ahead) = server.into_owned_handle().unwrap();
    assert!(read_ahead.is_empty());
    drop(handle);
    let mut received = Vec::new();
    client.read_to_end(&mut received).unwrap();
    assert_eq!(received, b"written");
}

/// Set for the process that the next test starts: the value of the handle that it has inherited.
const INHERITED: &str = "NPIPE_TEST_INHERITED_HANDLE";

#[test]
fn a_child_process_has_the_end_that_it_inherits() {
    if let Ok(handle) = std::env::var(INHERITED) {
        let mut inherited = sys::adopt_inherited(handle.parse().unwrap()).unwrap();
        let mut question = [0; 8];
        inherited.read_exact(&mut question).unwrap();
        inherited.write_all(&question.map(|byte| byte.to_ascii_uppercase())).unwrap();
        return;
    }
    let _watchdog = watchdog();
    let (mut ours, theirs) =
        npipe::blocking::pair_with(&ServerOptions::new(), ClientOptions::new().inheritable(true)).unwrap();
    let handle = theirs.as_handle().as_raw_handle().addr().to_string();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "handles::a_child_process_has_the_end_that_it_inherits"])
        .env(INHERITED, handle)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // Else the end would stay open when the child has gone.
    drop(theirs);
    ours.write_all(b"question").unwrap();
    let mut answer = Vec::new();
    ours.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"QUESTION");
    assert!(child.wait().unwrap().success());
}

/// Others may have the handle too: a child that inherits it, or the holder of a duplicate. What
/// they do with it reaches a port of the library, which must not take it for its own.
#[test]
fn ends_whose_handles_others_have_can_do_everything() {
    let _watchdog = watchdog();
    let (mut server, mut client) = (ServerOptions::new(), ClientOptions::new());
    server.inheritable(true).in_buffer_size(4096);
    client.inheritable(true);
    let (server, client) = npipe::blocking::pair_with(&server, &client).unwrap();
    writes_with_a_time_out_and_becomes_async(server, client);

    let name = unique_name();
    let listener =
        ServerOptions::new().inheritable(true).in_buffer_size(4096).listen_blocking(&name).unwrap();
    let client = ClientOptions::new().inheritable(true).connect_blocking(&name).unwrap();
    writes_with_a_time_out_and_becomes_async(listener.accept().unwrap(), client);

    let (server, client) = narrow_pair();
    let handle = OwnedHandle::try_from(client).unwrap();
    let duplicate = handle.try_clone().unwrap();
    let client = PipeStream::try_from(handle).unwrap();
    client.set_write_timeout(Some(SHORT)).unwrap();
    // Tied to the port by now: this one's packets go there.
    sys::begin_read_for_ever(&duplicate);
    (&server).write_all(b"for the duplicate").unwrap();
    writes_with_a_time_out_and_becomes_async(server, client);
    drop(duplicate);
}

fn writes_with_a_time_out_and_becomes_async(server: PipeStream, client: PipeStream) {
    client.set_write_timeout(Some(SHORT)).unwrap();
    assert_eq!((&client).write(Pattern::new(17).next(50_000)).unwrap(), 50_000);
    let client = client.into_client().unwrap();
    receive(&server, 17, 50_000);
    future::block_on(client.flush()).unwrap();
    let server = server.into_server().unwrap();
    server.try_write(b"answer").unwrap();
    future::block_on(client.readable()).unwrap();
    assert_eq!(client.try_read(&mut [0; 10]).unwrap(), 6);
}

#[test]
fn a_stream_becomes_a_handle_and_back() {
    let _watchdog = watchdog();
    let (server, client) = message_pair();
    let handle = OwnedHandle::try_from(client).unwrap();
    let duplicate = handle.try_clone().unwrap();
    let client = PipeStream::try_from(handle).unwrap();
    (&client).write_all(b"one").unwrap();
    (&client).write_all(b"two").unwrap();
    let mut buffer = [0; 10];
    assert_eq!((&server).read(&mut buffer).unwrap(), 3);
    assert_eq!(client.as_handle().try_clone_to_owned().map(drop).ok(), Some(()));
    let mut client = client;
    client.set_read_timeout(Some(SHORT)).unwrap();
    assert_kind(client.read(&mut buffer), ErrorKind::TimedOut);
    drop(client);
    let mut client = PipeStream::try_from(duplicate).unwrap();
    server.disconnect().unwrap();
    assert_code(client.read(&mut buffer), ERROR_PIPE_NOT_CONNECTED);
}

#[test]
fn a_handle_of_which_there_is_only_one_can_do_everything() {
    let _watchdog = watchdog();
    let (server, client) = narrow_pair();
    let client = sys::adopt(OwnedHandle::try_from(client).unwrap()).unwrap();
    client.set_write_timeout(Some(SHORT)).unwrap();
    assert_eq!((&client).write(Pattern::new(17).next(50_000)).unwrap(), 50_000);
    let client = client.into_client().unwrap();
    receive(&server, 17, 50_000);
    future::block_on(client.flush()).unwrap();
}

#[test]
fn handles_that_cannot_work_are_refused() {
    let _watchdog = watchdog();
    let name = unique_name();
    let _listener = PipeListener::bind(&name).unwrap();
    let synchronous = OpenOptions::new().read(true).write(true).open(&name).unwrap();
    assert_kind(PipeStream::try_from(OwnedHandle::from(synchronous)), ErrorKind::InvalidInput);

    let file = File::open(std::env::current_exe().unwrap()).unwrap();
    assert_kind(PipeStream::try_from(OwnedHandle::from(file)), ErrorKind::InvalidInput);

    let name = unique_name();
    let listener = PipeListener::bind(&name).unwrap();
    let overlapped =
        OpenOptions::new().read(true).write(true).custom_flags(FILE_FLAG_OVERLAPPED).open(&name).unwrap();
    let client = PipeStream::try_from(OwnedHandle::from(overlapped)).unwrap();
    send(&client, 15, 10_000);
    receive(&listener.accept().unwrap(), 15, 10_000);
}

#[test]
fn names_and_options_that_make_no_sense_are_refused() {
    let _watchdog = watchdog();
    let long = "n".repeat(300);
    for name in ["", r"\\.\pipe\", "a\0b", r"\\?\C:\x", long.as_str()] {
        assert_kind(PipeListener::bind(name), ErrorKind::InvalidInput);
        assert_kind(PipeStream::connect(name), ErrorKind::InvalidInput);
        assert_kind(PipeStream::connect_timeout(name, SHORT), ErrorKind::InvalidInput);
    }
    let name = unique_name();
    assert_kind(ServerOptions::new().max_instances(0).listen_blocking(&name), ErrorKind::InvalidInput);
    assert_kind(
        ServerOptions::new().access_inbound(false).access_outbound(false).listen_blocking(&name),
        ErrorKind::InvalidInput,
    );
    assert_kind(ClientOptions::new().write_buffer_limit(0).connect_blocking(&name), ErrorKind::InvalidInput);
    // More than a clock reaches: for ever, that is.
    let listener = PipeListener::bind(&name).unwrap();
    let _client = PipeStream::connect_timeout(&name, Duration::MAX).unwrap();
    listener.accept_timeout(Duration::MAX).unwrap();
}

#[test]
fn ends_and_handles_go_where_threads_go() {
    fn goes_anywhere<T: Send + Sync + std::fmt::Debug + 'static>() {}
    goes_anywhere::<PipeStream>();
    goes_anywhere::<PipeListener>();
    goes_anywhere::<npipe::blocking::Canceller>();
    goes_anywhere::<npipe::blocking::ConversionError>();
}
