//! What the two builders set, as `info` and the other end see it.

use std::io;

use npipe::{ClientOptions, PipeEnd, PipeMode, ServerOptions};
use windows_sys::Win32::Foundation::{ERROR_ACCESS_DENIED, ERROR_PIPE_BUSY, ERROR_PRIVILEGE_NOT_HELD};
use windows_sys::Win32::Storage::FileSystem::SECURITY_ANONYMOUS;

use crate::family::{AsyncFamily, End, Family, Reading, ServerEnd, Writing};
use crate::harness::{Within, assert_os_error, eventually, pair, pair_with, skipped_under_wine, unique_name};
use crate::sys;

async fn info_of_both_ends<F: Family>() {
    for mode in [PipeMode::Byte, PipeMode::Message] {
        let (server, client) = pair_with::<F>(
            ServerOptions::new().pipe_mode(mode).max_instances(3).out_buffer_size(8192).in_buffer_size(4096),
            ClientOptions::new().pipe_mode(mode),
        )
        .await;
        let of_server = server.info().unwrap();
        assert_eq!(of_server.end, PipeEnd::Server);
        let of_client = client.info().unwrap();
        assert_eq!(of_client.end, PipeEnd::Client);
        for info in [of_server, of_client] {
            assert_eq!(info.mode, mode);
            assert_eq!(info.max_instances, 3);
            assert_eq!(info.out_buffer_size, 8192);
            assert_eq!(info.in_buffer_size, 4096);
        }
    }
}

async fn defaults<F: Family>() {
    let (server, client) = pair::<F>().await;
    let info = server.info().unwrap();
    assert_eq!(info.mode, PipeMode::Byte);
    // `GetNamedPipeInfo` gives the number as it was passed or as "no limit".
    assert!([255, u32::MAX].contains(&info.max_instances), "{info:?}");
    assert_eq!((info.out_buffer_size, info.in_buffer_size), (524_288, 524_288));
    assert!(!sys::is_inheritable(&server), "a child process would get the server's handle");
    assert!(!sys::is_inheritable(&client), "a child process would get the client's handle");
}

async fn inbound_only<F: Family>() {
    let name = unique_name();
    let mut server = F::create(ServerOptions::new().access_outbound(false), &name).unwrap();
    assert_os_error(
        F::open(&ClientOptions::new(), &name),
        ERROR_ACCESS_DENIED,
        "reading from an inbound pipe",
    );
    assert_os_error(
        F::open(ClientOptions::new().write(false), &name),
        ERROR_ACCESS_DENIED,
        "only reading from it",
    );
    let mut client = F::open(ClientOptions::new().read(false), &name).unwrap();
    server.connect().within("connect").await.unwrap();
    client.write_all(b"inbound").within("write").await.unwrap();
    let mut received = [0; 7];
    server.read_exact(&mut received).within("read").await.unwrap();
    assert_eq!(&received, b"inbound");
    assert_os_error(
        server.write(b"x").within("write").await,
        ERROR_ACCESS_DENIED,
        "the server may not write",
    );
    assert_os_error(
        client.read(&mut received).within("read").await,
        ERROR_ACCESS_DENIED,
        "the client may not read",
    );
    drop(client);
    assert_eq!(server.read(&mut received).within("end of file").await.unwrap(), 0);
}

async fn outbound_only<F: Family>() {
    let name = unique_name();
    let mut server = F::create(ServerOptions::new().access_inbound(false), &name).unwrap();
    assert_os_error(
        F::open(&ClientOptions::new(), &name),
        ERROR_ACCESS_DENIED,
        "writing to an outbound pipe",
    );
    assert_os_error(
        F::open(ClientOptions::new().read(false), &name),
        ERROR_ACCESS_DENIED,
        "only writing to it",
    );
    let mut client = F::open(ClientOptions::new().write(false), &name).unwrap();
    server.connect().within("connect").await.unwrap();
    server.write_all(b"outbound").within("write").await.unwrap();
    let mut received = [0; 8];
    client.read_exact(&mut received).within("read").await.unwrap();
    assert_eq!(&received, b"outbound");
    assert_os_error(
        server.read(&mut received).within("read").await,
        ERROR_ACCESS_DENIED,
        "the server may not read",
    );
    assert_os_error(
        client.write(b"x").within("write").await,
        ERROR_ACCESS_DENIED,
        "the client may not write",
    );
    drop(server);
    assert_eq!(client.read(&mut received).within("end of file").await.unwrap(), 0);
}

/// Setting the read mode needs FILE_WRITE_ATTRIBUTES, which GENERIC_READ alone does not contain
/// (<https://github.com/dotnet/runtime/issues/83072>).
async fn message_client_that_only_reads<F: Family>() {
    let name = unique_name();
    let mut server =
        F::create(ServerOptions::new().pipe_mode(PipeMode::Message).access_inbound(false), &name).unwrap();
    let mut client = F::open(ClientOptions::new().write(false).pipe_mode(PipeMode::Message), &name).unwrap();
    server.connect().within("connect").await.unwrap();
    for message in ["first", "second"] {
        server.write_all(message.as_bytes()).within("write").await.unwrap();
    }
    server.flush().within("flush").await.unwrap();
    let mut buffer = [0; 100];
    for message in ["first", "second"] {
        let read = client.read(&mut buffer).within("a message").await.unwrap();
        assert_eq!(&buffer[..read], message.as_bytes());
    }
}

async fn no_access_at_all<F: Family>() {
    // Windows takes the two directions for a number and refuses zero; which error it gives is its own
    // affair.
    let name = unique_name();
    let created = F::create(ServerOptions::new().access_inbound(false).access_outbound(false), &name);
    assert!(created.is_err(), "a pipe without a direction was created");
}

async fn max_instances_is_kept<F: Family>() {
    let name = unique_name();
    let mut options = ServerOptions::new();
    options.max_instances(2);
    let _first = F::create(&options, &name).unwrap();
    let second = F::create(&options, &name).unwrap();
    assert_eq!(sys::instances(&F::open(&ClientOptions::new(), &name).unwrap()), 2);
    assert_os_error(F::create(&options, &name), ERROR_PIPE_BUSY, "a third instance of two");
    drop(second);
    eventually("the freed instance can be created again", || F::create(&options, &name).is_ok()).await;
}

/// 254 is the largest number, 255 means no limit.
async fn max_instances_up_to_255<F: Family>() {
    let name = unique_name();
    let _limited = F::create(ServerOptions::new().max_instances(254), &name).unwrap();
    assert_eq!(F::open(&ClientOptions::new(), &name).unwrap().info().unwrap().max_instances, 254);
    let name = unique_name();
    let _unlimited: Vec<_> =
        (0..300).map(|_| F::create(ServerOptions::new().max_instances(255), &name).unwrap()).collect();
    assert_eq!(sys::instances(&F::open(&ClientOptions::new(), &name).unwrap()), 300);
}

/// A bad number is an error of `create`, never a panic, and no pipe comes of it.
async fn max_instances_out_of_range<F: Family>() {
    for number in [0, 256, 257, 65_536 + 7, (1 << 32) + 7, usize::MAX] {
        let name = unique_name();
        let error = F::create(ServerOptions::new().max_instances(number), &name).expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "max_instances({number}): {error:?}");
        assert_eq!(F::open(&ClientOptions::new(), &name).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}

async fn first_pipe_instance_is_the_only_one<F: Family>() {
    let name = unique_name();
    let options = ServerOptions::new();
    let first = F::create_first(&options, &name).unwrap();
    if !skipped_under_wine(
        "options::first_pipe_instance_is_the_only_one",
        "Wine ignores FILE_FLAG_FIRST_PIPE_INSTANCE: only that the first is created was seen",
    ) {
        assert_name_taken(F::create_first(&options, &name), ERROR_ACCESS_DENIED);
    }
    let second = F::create(&options, &name).unwrap();
    drop((first, second));
    eventually("the name is free for another first instance", || F::create_first(&options, &name).is_ok())
        .await;
}

/// The name has another owner, the error message states that, and its source has the number.
fn assert_name_taken<T: std::fmt::Debug>(result: io::Result<T>, code: u32) {
    let error = result.expect_err("the name is taken");
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error:?}");
    assert!(error.to_string().contains("another program has the name"), "{error}");
    let source = std::error::Error::source(&error).expect("a source");
    assert_eq!(source.downcast_ref::<io::Error>().unwrap().raw_os_error(), Some(code as i32));
}

/// Windows, and Wine, count the instances before they look at the flag.
async fn a_full_name_is_taken_too<F: Family>() {
    let name = unique_name();
    let mut options = ServerOptions::new();
    options.max_instances(1);
    let server = F::create(&options, &name).unwrap();
    assert_name_taken(F::create_first(&options, &name), ERROR_PIPE_BUSY);
    assert_os_error(F::create(&options, &name), ERROR_PIPE_BUSY, "no first instance");
    drop(server);
    eventually("the name is free", || F::create_first(&options, &name).is_ok()).await;
}

/// The place of the dropped server is its client's until that has gone too; Wine gives it back at
/// once.
async fn a_client_keeps_the_name_of_a_dropped_server<F: Family>() {
    let name = unique_name();
    let mut options = ServerOptions::new();
    options.max_instances(1);
    let (server, client) = pair_of::<F>(&options, &name).await;
    drop(server);
    if !skipped_under_wine(
        "options::a_client_keeps_the_name_of_a_dropped_server",
        "Wine frees the name with the server's end",
    ) {
        assert_name_taken(F::create_first(&options, &name), ERROR_PIPE_BUSY);
    }
    drop(client);
    eventually("the name is free", || F::create_first(&options, &name).is_ok()).await;
}

async fn a_disconnected_client_keeps_nothing<F: Family>() {
    let name = unique_name();
    let mut options = ServerOptions::new();
    options.max_instances(1);
    let (server, _client) = pair_of::<F>(&options, &name).await;
    server.disconnect().unwrap();
    drop(server);
    eventually("the name is free", || F::create_first(&options, &name).is_ok()).await;
}

async fn pair_of<F: Family>(options: &ServerOptions, name: &str) -> (F::Server, F::Client) {
    let server = F::create(options, name).unwrap();
    let client = F::open(&ClientOptions::new(), name).unwrap();
    server.connect().within("connect").await.unwrap();
    (server, client)
}

async fn rights_on_the_handle<F: Family>() {
    let name = unique_name();
    let server = F::create(ServerOptions::new().write_dac(true).write_owner(true), &name).unwrap();
    let client = F::open(&ClientOptions::new(), &name).unwrap();
    server.connect().within("connect").await.unwrap();
    drop(client);
    // ACCESS_SYSTEM_SECURITY needs a privilege that ordinary processes have not enabled.
    let created = F::create(ServerOptions::new().access_system_security(true), unique_name());
    if !skipped_under_wine(
        "options::rights_on_the_handle",
        "Wine grants ACCESS_SYSTEM_SECURITY without the privilege",
    ) {
        let error = created.expect_err("refused without SeSecurityPrivilege").raw_os_error();
        assert!(
            [ERROR_ACCESS_DENIED, ERROR_PRIVILEGE_NOT_HELD].map(|code| Some(code as i32)).contains(&error),
            "{error:?}"
        );
    }
}

async fn remote_clients_and_qos_are_accepted_options<F: Family>() {
    for reject in [true, false] {
        let name = unique_name();
        let server = F::create(ServerOptions::new().reject_remote_clients(reject), &name).unwrap();
        let _client = F::open(ClientOptions::new().security_qos_flags(SECURITY_ANONYMOUS), &name).unwrap();
        server.connect().within("connect").await.unwrap();
    }
}

async fn remote_clients_are_refused_unless_told_otherwise<F: Family>() {
    if skipped_under_wine(
        "options::remote_clients_are_refused_unless_told_otherwise",
        "there is no network of pipes",
    ) {
        return;
    }
    // By its network name the machine's own pipe is another machine's, if its service for the network
    // runs.
    let by_network = |name: &str| name.replacen(r"\\.\", r"\\localhost\", 1);
    let name = unique_name();
    let _open_to_all = F::create(ServerOptions::new().reject_remote_clients(false), &name).unwrap();
    if let Err(error) = F::open(&ClientOptions::new(), by_network(&name)) {
        println!("this machine does not serve its pipes to the network: {error}");
        return;
    }
    let name = unique_name();
    let server = F::create(&ServerOptions::new(), &name).unwrap();
    F::open(&ClientOptions::new(), by_network(&name)).expect_err("a remote client is refused");
    let _local = F::open(&ClientOptions::new(), &name).unwrap();
    server.connect().within("connect").await.unwrap();
}

async fn security_attributes_reach_the_system<F: AsyncFamily>() {
    let (server, client) = sys::inheritable_pair(&unique_name()).unwrap();
    assert!(sys::is_inheritable(&server));
    assert!(sys::is_inheritable(&client));
}

/// Options are plain values: one set of them makes any number of pipes.
async fn options_are_reusable_values<F: Family>() {
    let mut server = ServerOptions::default();
    server.pipe_mode(PipeMode::Message);
    let copy = server.clone();
    server.pipe_mode(PipeMode::Byte);
    let name = unique_name();
    let _message_server = F::create(&copy, &name).unwrap();
    let client = F::open(&ClientOptions::new(), &name).unwrap();
    assert_eq!(client.info().unwrap().mode, PipeMode::Message);
    let name = unique_name();
    let _server = F::create(&server, &name).unwrap();
    let client = F::open(&ClientOptions::default().clone(), &name).unwrap();
    assert_eq!(client.info().unwrap().mode, PipeMode::Byte);
    let printed = format!("{server:?} {:?}", ClientOptions::new());
    assert!(printed.contains("ServerOptions") && printed.contains("ClientOptions"), "{printed}");
    assert!(!format!("{_server:?} {client:?}").is_empty());
}

for_each_family!(
    info_of_both_ends,
    defaults,
    inbound_only,
    outbound_only,
    message_client_that_only_reads,
    no_access_at_all,
    max_instances_is_kept,
    max_instances_up_to_255,
    max_instances_out_of_range,
    first_pipe_instance_is_the_only_one,
    a_full_name_is_taken_too,
    a_client_keeps_the_name_of_a_dropped_server,
    a_disconnected_client_keeps_nothing,
    rights_on_the_handle,
    remote_clients_and_qos_are_accepted_options,
    remote_clients_are_refused_unless_told_otherwise,
    security_attributes_reach_the_system => asynchronous,
    options_are_reusable_values,
);
