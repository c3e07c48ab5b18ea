//! Handles made elsewhere, and the library's handles used elsewhere.

use std::fs::File;
use std::io::{Read, Write};
use std::os::windows::io::{AsHandle, AsRawHandle};
use std::process::{Command, Stdio};

use npipe::{ClientOptions, PipeEnd, PipeMode, ServerOptions};

use crate::family::{AsyncFamily, End, Family, Reading, ServerEnd, Writing};
use crate::harness::{Within, pair, unique_name};
use crate::sys::{self, HandleKind};

async fn adopted_handles_are_like_our_own<F: Family>() {
    let name = unique_name();
    let server = sys::create_pipe(&name, HandleKind::Overlapped).unwrap();
    let mut server = F::adopt_server(server).unwrap();
    let client = sys::open_pipe(&name, HandleKind::Overlapped).unwrap();
    let mut client = F::adopt_client(client).unwrap();
    server.connect().within("connect").await.unwrap();
    assert_eq!(server.info().unwrap().end, PipeEnd::Server);
    assert_eq!(client.info().unwrap().end, PipeEnd::Client);

    client.write_all(b"to server").within("write").await.unwrap();
    server.write_all(b"to client").within("write").await.unwrap();
    let mut received = [0; 9];
    server.read_exact(&mut received).within("read").await.unwrap();
    assert_eq!(&received, b"to server");
    client.read_exact(&mut received).within("read").await.unwrap();
    assert_eq!(&received, b"to client");
    drop(client);
    assert_eq!(server.read_to_end().within("the end of the file").await.unwrap(), b"");
}

/// A server handle that is connected, with data waiting, when the library gets it.
async fn adopted_server_may_be_connected_already<F: Family>() {
    let name = unique_name();
    let server = sys::create_pipe(&name, HandleKind::Overlapped).unwrap();
    let mut client = sys::blocking_client(&name, false).unwrap();
    client.write_all(b"waiting").unwrap();
    let mut server = F::adopt_server(server).unwrap();
    server.connect().within("connect").await.unwrap();
    let mut received = [0; 7];
    server.read_exact(&mut received).within("what was written before the handle was adopted").await.unwrap();
    assert_eq!(&received, b"waiting");
    server.write_all(b"answer").within("write").await.unwrap();
    let mut answer = [0; 6];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"answer");
}

async fn adopted_message_handles_keep_messages_whole<F: Family>() {
    let name = unique_name();
    let server = sys::create_message_pipe(&name, HandleKind::Overlapped).unwrap();
    let mut server = F::adopt_server(server).unwrap();
    assert_eq!(server.info().unwrap().mode, PipeMode::Message);
    let mut client = F::open(ClientOptions::new().pipe_mode(PipeMode::Message), &name).unwrap();
    server.connect().within("connect").await.unwrap();
    // Both at once: the first message is larger than the pipe's quota.
    let writing = async {
        client.write_all(&[1; 10_000]).await.unwrap();
        client.write_all(&[2; 10]).await.unwrap();
    };
    let reading = async {
        let mut buffer = vec![0; 100_000];
        assert_eq!(server.read(&mut buffer).await.unwrap(), 10_000);
        assert_eq!(server.read(&mut buffer).await.unwrap(), 10);
    };
    smol::future::zip(writing, reading).within("two messages").await;
}

/// Ours on one side, a foreign synchronous handle on the other, in both roles.
async fn foreign_peers<F: Family>() {
    let name = unique_name();
    let mut server = F::create(&ServerOptions::new(), &name).unwrap();
    let mut client = sys::blocking_client(&name, false).unwrap();
    server.connect().within("connect").await.unwrap();
    client.write_all(b"ping").unwrap();
    let mut received = [0; 4];
    server.read_exact(&mut received).within("read").await.unwrap();
    server.write_all(b"pong").within("write").await.unwrap();
    client.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"pong");

    let name = unique_name();
    let mut server = File::from(sys::create_pipe(&name, HandleKind::Synchronous).unwrap());
    let mut client = F::open(&ClientOptions::new(), &name).unwrap();
    client.write_all(b"ping").within("write").await.unwrap();
    server.read_exact(&mut received).unwrap();
    server.write_all(b"pong").unwrap();
    client.read_exact(&mut received).within("read").await.unwrap();
    assert_eq!(&received, b"pong");
    sys::disconnect(&server).unwrap();
    assert!(client.read(&mut received).within("read").await.is_err());
}

async fn our_handle_is_the_pipe<F: Family>() {
    let (server, client) = pair::<F>().await;
    assert_ne!(server.as_handle().as_raw_handle(), client.as_handle().as_raw_handle());
    assert_eq!(sys::instances(&server), 1);
    assert_eq!(sys::instances(&client), 1);
}

async fn values_that_are_no_handles_are_errors<F: Family>() {
    // Null, INVALID_HANDLE_VALUE, the pseudo handle of the thread, and a number far beyond any handle
    // table.
    for value in [0, usize::MAX, usize::MAX - 1, 0x7FFF_FFF0] {
        assert!(F::adopt_server(sys::nonsense(value)).is_err(), "{value:#x} was taken for a server");
        assert!(F::adopt_client(sys::nonsense(value)).is_err(), "{value:#x} was taken for a client");
    }
}

/// Such a handle can not be tied to a completion port; every call on it would block its thread.
async fn synchronous_pipe_handles_are_refused<F: Family>() {
    let name = unique_name();
    let server = sys::create_pipe(&name, HandleKind::Synchronous).unwrap();
    let client = sys::open_pipe(&name, HandleKind::Synchronous).unwrap();
    assert!(F::adopt_server(server).is_err());
    assert!(F::adopt_client(client).is_err());
    // They were owned and are closed.
    crate::harness::eventually("the refused handles are closed", || {
        F::open(&ClientOptions::new(), &name).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    })
    .await;
}

async fn files_are_refused<F: Family>() {
    let program = std::env::current_exe().unwrap();
    let file = || File::open(&program).unwrap().into();
    for refused in [F::adopt_client(file()).err(), F::adopt_server(file()).err()] {
        assert_eq!(refused.expect("a file").kind(), std::io::ErrorKind::InvalidInput);
    }
}

async fn handle_of_another_port_is_refused<F: Family>() {
    let name = unique_name();
    let server = sys::create_pipe(&name, HandleKind::Overlapped).unwrap();
    let _port = sys::tie_to_own_port(&server).unwrap();
    assert_eq!(F::adopt_server(server).is_err(), F::TIES_HANDLES_TO_A_PORT);
}

/// Every operation of theirs queues a packet.
async fn releasable_ends_are_like_others<F: AsyncFamily>() {
    let (mut server, mut client) = (ServerOptions::new(), ClientOptions::new());
    server.releasable(true).in_buffer_size(4096);
    client.releasable(true);
    let name = unique_name();
    let mut server = F::create(&server, &name).unwrap();
    let mut client = F::open(&client, &name).unwrap();
    server.connect().within("connect").await.unwrap();
    for length in [1, 5000, 100_000] {
        let mut received = vec![0; length];
        let sent = vec![7; length];
        let sending = async {
            client.write_all(&sent).await.unwrap();
            client.flush().await.unwrap();
        };
        let receiving = async { server.read_exact(&mut received).await.unwrap() };
        smol::future::zip(sending, receiving).within("both ways").await;
        assert_eq!(received, sent);
    }
    drop(client);
    assert_eq!(server.read_to_end().within("the end").await.unwrap(), b"");
}

/// The packets of what others do with a duplicate come to the port of the pipe, with addresses of
/// theirs.
async fn others_may_read_overlapped_from_a_duplicate<F: AsyncFamily>() {
    for _ in 0..3 {
        // A new pipe each time: a client that has read may read ahead, and so get what is meant for
        // the duplicate.
        let (mut server, mut client) = pair::<F>().await;
        let duplicate = client.as_handle().try_clone_to_owned().unwrap();
        sys::begin_read_for_ever(&duplicate);
        server.write_all(b"for the duplicate").within("write").await.unwrap();
        drop(duplicate);
        server.write_all(b"ours").within("write").await.unwrap();
        let mut received = [0; 4];
        client.read_exact(&mut received).within("read").await.unwrap();
        assert_eq!(&received, b"ours");
    }
}

/// Set for a child of the test below.
const CHILD: &str = "NPIPE_TEST_OVERLAPPED_STDIN";

/// The same from another process, whose addresses may be those of this driver's operations.
async fn a_child_may_read_its_stdin_overlapped<F: AsyncFamily>() {
    if std::env::var_os(CHILD).is_some() {
        return;
    }
    let (mut server, mut client) = pair::<F>().await;
    let stdin = client.as_handle().try_clone_to_owned().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "handles::a_child_that_reads_its_stdin_overlapped", "--nocapture"])
        .env(CHILD, "1")
        .stdin(stdin)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    server.write_all(b"for the child").within("write").await.unwrap();
    // It writes to its stdin when it has read.
    let mut answer = [0; 13];
    server.read_exact(&mut answer).within("the child's answer").await.unwrap();
    assert_eq!(&answer, b"FOR THE CHILD");
    server.write_all(b"ours").within("write").await.unwrap();
    let mut received = [0; 4];
    client.read_exact(&mut received).within("read").await.unwrap();
    assert_eq!(&received, b"ours");
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_child_that_reads_its_stdin_overlapped() {
    if std::env::var_os(CHILD).is_some() {
        sys::answer_on_overlapped_stdin();
    }
}

/// Two names for the one handle.
async fn raw_and_borrowed_handle_are_the_same<F: AsyncFamily>() {
    let (server, client) = pair::<F>().await;
    assert_eq!(server.as_ref().as_raw_handle(), server.as_ref().as_handle().as_raw_handle());
    assert_eq!(client.as_ref().as_raw_handle(), client.as_ref().as_handle().as_raw_handle());
}

/// What the library gives up is used by others: as a file, whose calls are none of the library's.
#[cfg(feature = "tokio")]
mod given_up {
    use std::os::windows::io::OwnedHandle;

    use npipe::{NamedPipeClient, NamedPipeServer};
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::family::on_tokio::Tokio;
    use crate::harness::{run, with_foreign};

    /// A pair with a message or bytes of which a part has been read, and what follows has been read
    /// ahead or is on its way.
    async fn half_read(mode: PipeMode) -> (NamedPipeServer, NamedPipeClient) {
        let (server, mut client) =
            npipe::pair_with(ServerOptions::new().pipe_mode(mode), ClientOptions::new().pipe_mode(mode))
                .unwrap();
        assert!(client.try_read(&mut [0; 2]).is_err(), "a read is in flight, into a buffer of the pipe's");
        for part in [&b"first"[..], b"second", b"third"] {
            server.try_write(part).unwrap();
        }
        let mut received = [0; 2];
        client.read_exact(&mut received).within("read").await.unwrap();
        assert_eq!(&received, b"fi");
        (server, client)
    }

    #[test]
    fn handle_and_what_was_read_ahead_are_all_there_is() {
        run::<Tokio>("given_up::handle_and_what_was_read_ahead_are_all_there_is", async {
            let (server, client) = half_read(PipeMode::Byte).await;
            let (handle, read_ahead) = client.into_owned_handle().within("give up").await.unwrap();
            drop(server);
            let rest = with_foreign(&File::from(handle), |pipe| {
                let mut rest = Vec::new();
                pipe.read_to_end(&mut rest).map(|_| rest)
            })
            .await;
            assert_eq!([read_ahead.concat(), rest].concat(), b"rstsecondthird");
        });
    }

    #[test]
    fn messages_that_were_read_ahead_keep_their_bounds() {
        run::<Tokio>("given_up::messages_that_were_read_ahead_keep_their_bounds", async {
            let (_server, client) = half_read(PipeMode::Message).await;
            let (handle, read_ahead) = client.into_owned_handle().within("give up").await.unwrap();
            let mut messages: Vec<_> = read_ahead.into_iter().map(|part| part.to_vec()).collect();
            let pipe = File::from(handle);
            while messages.len() < 3 {
                messages.push(
                    with_foreign(&pipe, |pipe| {
                        let mut message = vec![0; 100];
                        pipe.read(&mut message).map(|count| message[..count].to_vec())
                    })
                    .await,
                );
            }
            assert_eq!(messages, [&b"rst"[..], b"second", b"third"]);
        });
    }

    #[test]
    fn what_was_written_is_in_the_pipe() {
        run::<Tokio>("given_up::what_was_written_is_in_the_pipe", async {
            let (server, mut client) =
                npipe::pair_with(ServerOptions::new().out_buffer_size(4096), &ClientOptions::new()).unwrap();
            let accepted = server.try_write(&[7; 40_000]).unwrap();
            let giving = server.into_owned_handle();
            let mut received = vec![0; accepted];
            let (given, read) =
                smol::future::zip(giving, client.read_exact(&mut received)).within("give up").await;
            read.unwrap();
            let (handle, read_ahead) = given.unwrap();
            assert!(read_ahead.is_empty());
            with_foreign(&File::from(handle), |pipe| pipe.write_all(b"and more")).await;
            let mut received = [0; 8];
            client.read_exact(&mut received).within("read").await.unwrap();
            assert_eq!(&received, b"and more");
        });
    }

    /// The read that waited is not left behind, where it would swallow what comes.
    #[test]
    fn a_read_in_flight_takes_nothing_from_the_next_owner() {
        run::<Tokio>("given_up::a_read_in_flight_takes_nothing_from_the_next_owner", async {
            let (server, client) = npipe::pair().unwrap();
            assert!(client.try_read(&mut [0; 10]).is_err());
            let (handle, read_ahead) = client.into_owned_handle().within("give up").await.unwrap();
            assert!(read_ahead.is_empty());
            server.try_write(b"for you").unwrap();
            let received = with_foreign(&File::from(handle), |pipe| {
                let mut received = [0; 7];
                pipe.read_exact(&mut received).map(|()| received)
            })
            .await;
            assert_eq!(&received, b"for you");
        });
    }

    /// What the next owner does with it may queue packets on the port of the library, which must
    /// not look into them.
    #[test]
    fn the_next_owner_may_use_it_overlapped() {
        run::<Tokio>("given_up::the_next_owner_may_use_it_overlapped", async {
            let (server, client) = npipe::pair().unwrap();
            let (handle, _) = client.into_owned_handle().within("give up").await.unwrap();
            sys::begin_read_for_ever(&handle);
            server.try_write(b"ends the read").unwrap();
            // Its packet is before that of a read that has to wait, on the same port.
            let (server, mut client) = npipe::pair().unwrap();
            let mut received = [0; 4];
            let mut reading = std::pin::pin!(client.read_exact(&mut received));
            assert!(crate::harness::poll_once(reading.as_mut()).is_pending());
            server.try_write(b"fine").unwrap();
            reading.within("the port goes on").await.unwrap();
            assert_eq!(&received, b"fine");
        });
    }

    /// The handles of a client, by every way on which one is released, each with its server.
    async fn released() -> Vec<(NamedPipeServer, OwnedHandle)> {
        let mut released = Vec::new();
        let (server, client) = npipe::pair().unwrap();
        // It has read and written, and a read is in flight.
        client.try_write(b"x").unwrap();
        assert!(client.try_read(&mut [0; 10]).is_err());
        released.push((server, client.into_owned_handle().within("release").await.unwrap().0));
        let (server, client) = npipe::pair().unwrap();
        let client = client.into_blocking().within("convert").await;
        released.push((server, client.into_owned_handle().unwrap().0));
        for tied in [false, true] {
            let (server, client) = npipe::blocking::pair().unwrap();
            let server = server.into_server().unwrap();
            if tied {
                client.set_write_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
                released.push((server, client.into_owned_handle().unwrap().0));
            } else {
                released.push((server, client.try_into().unwrap()));
            }
        }
        released
    }

    #[test]
    fn it_works_as_a_file() {
        run::<Tokio>("given_up::it_works_as_a_file", async {
            for (server, handle) in released().await {
                let mut file = File::from(handle);
                let mut received = [0; 4];
                server.try_write(b"soon").unwrap();
                file.read_exact(&mut received).unwrap();
                assert_eq!(&received, b"soon");
                // Nearly always the read is there before what it waits for.
                for _ in 0..20 {
                    std::thread::scope(|scope| {
                        let reading = scope.spawn(|| file.read_exact(&mut received));
                        (0..100).for_each(|_| std::thread::yield_now());
                        server.try_write(b"late").unwrap();
                        reading.join().unwrap().unwrap();
                    });
                    assert_eq!(&received, b"late");
                }
            }
        });
    }

    #[test]
    fn it_works_overlapped_with_an_event_and_without() {
        run::<Tokio>("given_up::it_works_overlapped_with_an_event_and_without", async {
            for (server, handle) in released().await {
                for with_event in [true, false] {
                    let write = || assert_eq!(server.try_write(b"late").unwrap(), 4);
                    assert_eq!(sys::read_overlapped(&handle, with_event, write), b"late");
                    server.try_write(b"soon").unwrap();
                    assert_eq!(sys::read_overlapped(&handle, with_event, || ()), b"soon");
                }
            }
        });
    }

    #[test]
    fn npipe_takes_it_back() {
        run::<Tokio>("given_up::npipe_takes_it_back", async {
            for (server, handle) in released().await {
                let mut client = npipe::blocking::PipeStream::try_from(handle).unwrap();
                server.try_write(b"soon").unwrap();
                let mut received = [0; 4];
                client.read_exact(&mut received).unwrap();
                assert_eq!(&received, b"soon");
            }
        });
    }

    /// Tokio waits for a packet after every operation.
    #[test]
    fn tokio_can_have_that_of_a_releasable_end() {
        let test = "given_up::tokio_can_have_that_of_a_releasable_end";
        if crate::harness::skipped_under_wine(test, "a handle cannot be untied from its completion port") {
            return;
        }
        run::<Tokio>(test, async {
            use std::os::windows::io::IntoRawHandle;
            use tokio::io::AsyncWriteExt;

            let (server, client) =
                npipe::pair_with(&ServerOptions::new(), ClientOptions::new().releasable(true)).unwrap();
            let (handle, _) = client.into_owned_handle().within("release").await.unwrap();
            let mut client = sys::adopt_for_tokio(handle.into_raw_handle()).unwrap();
            server.try_write(b"soon").unwrap();
            let mut received = [0; 4];
            client.read_exact(&mut received).within("a read that ends at once").await.unwrap();
            assert_eq!(&received, b"soon");
            client.write_all(b"answer").within("a write").await.unwrap();
            server.readable().within("the answer").await.unwrap();
        });
    }

    #[test]
    fn it_can_be_had_by_another_port() {
        let test = "given_up::it_can_be_had_by_another_port";
        if crate::harness::skipped_under_wine(test, "a handle cannot be untied from its completion port") {
            return;
        }
        run::<Tokio>(test, async {
            let (_server, client) = npipe::pair().unwrap();
            let (handle, _) = client.into_owned_handle().within("give up").await.unwrap();
            sys::tie_to_own_port(&handle).unwrap();
        });
    }
}

/// The two halves of an end, by each family of traits.
mod halves {
    use super::*;
    use crate::harness::run;

    #[cfg(feature = "tokio")]
    #[test]
    fn read_and_write_at_once_and_make_the_end_again_on_tokio() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        use crate::family::on_tokio::Tokio;

        run::<Tokio>("halves::read_and_write_at_once_and_make_the_end_again_on_tokio", async {
            let (server, client) = npipe::pair().unwrap();
            let (mut from_client, mut to_client) = server.into_split();
            let (mut from_server, mut to_server) = client.into_split();
            let echoing = tokio::spawn(async move {
                tokio::io::copy(&mut from_client, &mut to_client).await.unwrap();
                from_client.reunite(to_client).unwrap()
            });
            let data = crate::stream_data::StreamData::new(81).take(1 << 20);
            let expected = data.clone();
            let sending = tokio::spawn(async move {
                to_server.write_all(&data).await.unwrap();
                to_server.flush().await.unwrap();
                to_server
            });
            let mut received = vec![0; expected.len()];
            from_server.read_exact(&mut received).within("the echo").await.unwrap();
            assert!(received == expected, "what came back is not what was sent");
            let to_server = sending.within("all is sent").await.unwrap();
            from_server.as_ref().drain().within("drain of a half's end").await.unwrap();
            drop(from_server.reunite(to_server).unwrap());
            let server = echoing.within("the end, once both halves are gone").await.unwrap();
            assert_eq!(server.info().unwrap().end, PipeEnd::Server);
        });
    }

    #[cfg(all(feature = "futures-io", not(npipe_test_always_queue)))]
    #[test]
    fn read_and_write_at_once_and_make_the_end_again_on_smol() {
        use smol::io::{AsyncReadExt, AsyncWriteExt};

        use crate::family::on_smol::Futures;

        run::<Futures>("halves::read_and_write_at_once_and_make_the_end_again_on_smol", async {
            let (mut server, client) = npipe::pair().unwrap();
            let (mut reader, mut writer) = client.into_split();
            let mut received = [0; 4];
            let reading = async { AsyncReadExt::read_exact(&mut reader, &mut received).await };
            let writing = async {
                AsyncWriteExt::write_all(&mut writer, b"ping").await?;
                AsyncWriteExt::write_all(&mut server, b"pong").await
            };
            let (read, written) = smol::future::zip(reading, writing).within("both directions").await;
            written.unwrap();
            read.unwrap();
            assert_eq!(&received, b"pong");
            reader.reunite(writer).unwrap();
        });
    }

    /// There is no half-close.
    #[cfg(feature = "tokio")]
    #[test]
    fn dropping_one_tells_the_peer_nothing() {
        use tokio::io::AsyncReadExt;

        use crate::family::on_tokio::Tokio;

        run::<Tokio>("halves::dropping_one_tells_the_peer_nothing", async {
            let (mut server, client) = npipe::pair().unwrap();
            let (reader, writer) = client.into_split();
            writer.as_ref().try_write(b"last words").unwrap();
            drop(writer);
            let mut received = [0; 10];
            server.read_exact(&mut received).within("read").await.unwrap();
            {
                let mut end = std::pin::pin!(server.read(&mut received));
                assert!(crate::harness::poll_once(end.as_mut()).is_pending(), "the other half is there");
                drop(reader);
                assert_eq!(end.within("the end").await.unwrap(), 0);
            }
        });
    }
}

/// `npipe::pair` and what it is made with.
mod pairs {
    use super::*;

    #[test]
    fn are_connected_and_their_only_instance_is_taken() {
        let (server, client) = npipe::pair().unwrap();
        assert_eq!(server.info().unwrap().end, PipeEnd::Server);
        assert_eq!(client.info().unwrap().end, PipeEnd::Client);
        assert_eq!(server.info().unwrap().max_instances, 1);
        assert_eq!(sys::instances(&server), 1);
        assert_eq!(server.peer().unwrap().process_id(), std::process::id());
        assert_eq!(client.peer().unwrap().process_id(), std::process::id());
    }

    #[test]
    fn are_open_to_this_user_only() {
        let (server, client) = npipe::pair().unwrap();
        for descriptor in [server.security_descriptor().unwrap(), client.security_descriptor().unwrap()] {
            let expected = npipe::SecurityDescriptor::current_user_only().unwrap();
            assert_eq!(descriptor.access_list(), expected.access_list());
        }
    }

    #[test]
    fn have_the_options_they_were_made_with() {
        let (server, client) = npipe::pair_with(
            ServerOptions::new().pipe_mode(PipeMode::Message).access_inbound(false).max_instances(9),
            ClientOptions::new().write(false).pipe_mode(PipeMode::Message),
        )
        .unwrap();
        assert_eq!(client.info().unwrap().mode, PipeMode::Message);
        assert_eq!(client.info().unwrap().max_instances, 1);
        assert!(server.try_read(&mut [0]).is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock));
        assert!(client.try_write(b"x").is_err());
        assert!(npipe::pair_with(ServerOptions::new().access_inbound(false), &ClientOptions::new()).is_err());
    }

    /// An operation of a child on the handle would be reported to the port of this process.
    #[test]
    fn and_all_ends_on_a_port_are_refused_for_children() {
        let name = unique_name();
        let (mut server, mut client) = (ServerOptions::new(), ClientOptions::new());
        server.inheritable(true);
        client.inheritable(true);
        let _server = ServerOptions::new().create(&name).unwrap();
        let refused = [
            server.create(&name).map(drop),
            server.listen(&name).map(drop),
            client.open(&name).map(drop),
            npipe::readiness::NamedPipe::create(&server, &name).map(drop),
            npipe::readiness::NamedPipe::open(&client, &name).map(drop),
            npipe::pair_with(&server, &ClientOptions::new()).map(drop),
            npipe::pair_with(&ServerOptions::new(), &client).map(drop),
        ];
        for refused in refused {
            assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
        }
    }
}

for_each_family!(
    adopted_handles_are_like_our_own,
    adopted_server_may_be_connected_already,
    adopted_message_handles_keep_messages_whole,
    foreign_peers,
    our_handle_is_the_pipe,
    releasable_ends_are_like_others => asynchronous,
    others_may_read_overlapped_from_a_duplicate => asynchronous,
    a_child_may_read_its_stdin_overlapped => asynchronous,
    raw_and_borrowed_handle_are_the_same => asynchronous,
    values_that_are_no_handles_are_errors,
    synchronous_pipe_handles_are_refused,
    files_are_refused,
    handle_of_another_port_is_refused,
);
