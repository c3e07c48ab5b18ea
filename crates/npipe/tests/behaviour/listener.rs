//! Listeners and clients that wait: bursts, probes, the end, a limit of instances, and what a
//! client waits for.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read, Write};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_lite::StreamExt;
use npipe::blocking::PipeStream;
use npipe::{ClientOptions, PipeName, ServerOptions};
use windows_sys::Win32::Foundation::{ERROR_FILE_NOT_FOUND, ERROR_PIPE_BUSY};

use crate::family::{AsyncFamily, Family, Listener, Listening, ListeningFamily, Reading, Writing};
use crate::harness::{
    Alarm, LONG, Within, assert_os_error, eventually, on_a_thread, poll_and_drop, poll_once,
    skipped_under_wine, unique_name,
};
use crate::sys;

/// A client as any program has it: one `CreateFile`, not repeated.
fn open_once(name: &str) -> io::Result<File> {
    sys::blocking_client(name, false)
}

fn fails_to_open(name: &str, code: u32) -> bool {
    open_once(name).is_err_and(|error| error.raw_os_error() == Some(code as i32))
}

/// A client that says its number.
fn caller(name: &str, number: u8) -> File {
    let mut client = open_once(name).unwrap();
    client.write_all(&[number]).unwrap();
    client
}

async fn number_of<F: Family>(server: &mut F::Server) -> u8 {
    let mut number = [0];
    server.read_exact(&mut number).within("a number").await.unwrap();
    number[0]
}

async fn as_many_clients_as_the_backlog_come_while_nobody_accepts<F: ListeningFamily>() {
    const BACKLOG: u8 = 8;
    let name = unique_name();
    let mut listener = F::listen(ServerOptions::new().backlog(BACKLOG.into()), &name).unwrap();
    // Also after the first accept, which asks every instance.
    for _ in 0..2 {
        let clients: Vec<File> = (0..BACKLOG).map(|number| caller(&name, number)).collect();
        assert_os_error(open_once(&name), ERROR_PIPE_BUSY, "one more than the backlog");
        let mut numbers = Vec::new();
        for _ in &clients {
            let mut server = listener.accept().within("accept").await.unwrap();
            numbers.push(number_of::<F>(&mut server).await);
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (0..BACKLOG).collect::<Vec<_>>());
    }
}

/// 255 is Windows' number for "any number", and no limit of the backlog.
async fn a_backlog_may_be_longer_than_255<F: ListeningFamily>() {
    let name = unique_name();
    let _listener = F::listen(ServerOptions::new().backlog(260), &name).unwrap();
    let _clients: Vec<_> = (0..260).map(|_| open_once(&name).unwrap()).collect();
    assert_os_error(open_once(&name), ERROR_PIPE_BUSY, "one more than the backlog");
}

/// Limits: the default of `backlog`.
async fn four_clients_come_while_nobody_accepts_unless_told_otherwise<F: ListeningFamily>() {
    let name = unique_name();
    let _listener = F::listen(&ServerOptions::new(), &name).unwrap();
    let _clients = [(); 4].map(|()| open_once(&name).unwrap());
    assert_os_error(open_once(&name), ERROR_PIPE_BUSY, "one more than the backlog");
}

/// A cancelled `listen_timeout` leaves nothing behind: the name is free, and no wait for it goes
/// on.
async fn a_dropped_wait_for_the_name_leaves_nothing_behind<F: AsyncFamily>() {
    let name = unique_name();
    let predecessor = F::create(ServerOptions::new().max_instances(1), &name).unwrap();
    let options = ServerOptions::new();
    {
        let mut waiting = pin!(options.listen_timeout(&name, LONG));
        assert!(poll_once(waiting.as_mut()).is_pending());
        drop(predecessor);
    }
    assert_os_error(open_once(&name), ERROR_FILE_NOT_FOUND, "nobody has taken the name");
    let listener = options.listen(&name).unwrap();
    let _client = caller(&name, 5);
    listener.accept().within("accept").await.unwrap();
}

async fn the_name_is_there_whatever_becomes_of_connections<F: ListeningFamily>() {
    let name = unique_name();
    let mut listener = F::listen(ServerOptions::new().backlog(1), &name).unwrap();
    assert_eq!(listener.local_name(), PipeName::new(&name).unwrap());
    let mut connections = Vec::new();
    for number in 0..30 {
        let client = caller(&name, number);
        let mut server = listener.accept().within("accept").await.unwrap();
        assert_eq!(number_of::<F>(&mut server).await, number);
        connections.push((client, server));
        if number % 3 == 0 {
            connections.clear();
        }
    }
}

async fn clients_that_leave_without_a_word_are_passed_over<F: ListeningFamily>() {
    let name = unique_name();
    let mut listener = F::listen(ServerOptions::new().backlog(3), &name).unwrap();
    for round in 0..4 {
        // As `Test-Path` does it, until there is no instance left for the next one.
        while let Ok(probe) = open_once(&name) {
            drop(probe);
        }
        let waiting = F::spawn({
            let mut listener = listener.clone();
            async move { listener.accept().await }
        });
        let mut client =
            F::connect(&ClientOptions::new(), &name).within("an instance is free again").await.unwrap();
        client.write_all(&[round]).await.unwrap();
        let mut server = waiting.within("accept").await.unwrap();
        assert_eq!(number_of::<F>(&mut server).await, round);
    }
    // One that has said something is a client, though it has left.
    drop(caller(&name, 77));
    let mut server = listener.accept().within("accept").await.unwrap();
    assert_eq!(number_of::<F>(&mut server).await, 77);
    assert!(server.read_to_end().within("the end").await.unwrap().is_empty());
}

async fn clients_that_come_and_vanish_all_the_time_keep_nobody_from_being_served<F: ListeningFamily>() {
    const CALLERS: u8 = 10;
    let name = unique_name();
    let mut listener = F::listen(ServerOptions::new().backlog(2), &name).unwrap();
    let wanted = Arc::new(());
    let flood = [(); 2].map(|()| {
        let (name, wanted) = (name.clone(), Arc::downgrade(&wanted));
        std::thread::spawn(move || {
            while wanted.strong_count() > 0 {
                drop(PipeStream::connect(&name));
            }
        })
    });
    let callers = F::spawn({
        let name = name.clone();
        async move {
            for number in 0..CALLERS {
                let mut client = F::connect(&ClientOptions::new(), &name).await.unwrap();
                client.write_all(&[number]).await.unwrap();
                client.read_exact(&mut [0]).await.unwrap();
            }
        }
    });
    let mut served = 0;
    async {
        while served < CALLERS {
            let mut server = listener.accept().await.unwrap();
            let mut number = [0];
            // One may vanish after it was accepted.
            if server.read_exact(&mut number).await.is_ok() {
                assert_eq!(number, [served]);
                server.write_all(b"!").await.unwrap();
                served += 1;
            }
        }
    }
    .within_time("all callers are served", LONG)
    .await;
    callers.within("the callers end").await;
    drop(wanted);
    // The last may wait for an instance.
    listener.close();
    flood.into_iter().for_each(|thread| thread.join().unwrap());
}

async fn close_ends_accepts_and_frees_the_name_at_once<F: ListeningFamily>() {
    let name = unique_name();
    let mut listener = F::listen(ServerOptions::new().backlog(2), &name).unwrap();
    let mut served = caller(&name, 1);
    let mut server = listener.accept().within("accept").await.unwrap();
    let accepts = [(); 2].map(|()| {
        let mut listener = listener.clone();
        F::spawn(async move { listener.accept().await.map(drop) })
    });
    // They may wait by now, or will find it closed.
    smol::future::yield_now().await;
    listener.close();
    for accept in accepts {
        let error = accept.within("an accept that waits").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    }
    assert_eq!(
        listener.accept().within("accept").await.map(drop).unwrap_err().kind(),
        io::ErrorKind::ConnectionAborted
    );
    // What was accepted goes on, and keeps the name in use. A cancelled wait may keep its instance
    // until its packet has come.
    eventually("nobody waits for clients", || fails_to_open(&name, ERROR_PIPE_BUSY)).await;
    assert_eq!(number_of::<F>(&mut server).await, 1);
    server.write_all(b"!").within("write").await.unwrap();
    drop(server);
    // So may a cancelled read.
    eventually("nobody listens", || fails_to_open(&name, ERROR_FILE_NOT_FOUND)).await;
    served.read_exact(&mut [0]).unwrap();
    drop(served);
    listener.close();
    // Somebody else may have it.
    F::listen(&ServerOptions::new(), &name).unwrap();
}

/// The listener has stopped, and no client is left.
async fn ends<F: ListeningFamily>(listener: &mut F::Listener) {
    for _ in 0..2 {
        let error = listener.accept().within("the end of the listener").await.map(drop).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    }
}

async fn clients_that_have_connected_are_accepted_after_a_stop<F: ListeningFamily>() {
    // Before and after an accept, which has every instance wait.
    for accepts in [false, true] {
        let name = unique_name();
        let mut listener = F::listen(ServerOptions::new().backlog(5), &name).unwrap();
        if accepts {
            let _client = caller(&name, 9);
            listener.accept().within("accept").await.unwrap();
        }
        let clients = [1, 2, 3].map(|number| caller(&name, number));
        listener.stop_listening();
        listener.stop_listening();
        let mut servers = Vec::new();
        let mut numbers = Vec::new();
        for _ in &clients {
            let mut server = listener.accept().within("accept after the stop").await.unwrap();
            numbers.push(number_of::<F>(&mut server).await);
            servers.push(server);
        }
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2, 3]);
        ends::<F>(&mut listener).await;
        // A cancelled wait may keep its instance until its packet has come.
        eventually("no instance is left", || fails_to_open(&name, ERROR_PIPE_BUSY)).await;
        drop((servers, clients));
        eventually("nobody listens", || fails_to_open(&name, ERROR_FILE_NOT_FOUND)).await;
    }
}

async fn a_client_that_connects_before_its_instance_is_closed_is_accepted_too<F: ListeningFamily>() {
    let name = unique_name();
    let mut listener = F::listen(ServerOptions::new().backlog(1), &name).unwrap();
    listener.stop_listening();
    let _client = caller(&name, 1);
    let mut server = listener.accept().within("accept after the stop").await.unwrap();
    assert_eq!(number_of::<F>(&mut server).await, 1);
    assert!(fails_to_open(&name, ERROR_PIPE_BUSY), "no instance was added");
    ends::<F>(&mut listener).await;
}

async fn a_stop_ends_accepts_that_wait<F: ListeningFamily>() {
    let name = unique_name();
    let mut listener = F::listen(ServerOptions::new().backlog(20), &name).unwrap();
    // One accept has every instance wait; the others may wait by now, or will find it stopped.
    let _client = caller(&name, 1);
    listener.accept().within("accept").await.unwrap();
    let accepts = [(); 3].map(|()| {
        let mut listener = listener.clone();
        F::spawn(async move { listener.accept().await.map(drop) })
    });
    smol::future::yield_now().await;
    listener.stop_listening();
    for accept in accepts {
        let error = accept.within("an accept that waits").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    }
    eventually("nobody listens", || fails_to_open(&name, ERROR_FILE_NOT_FOUND)).await;
}

async fn a_client_that_has_left_is_accepted_after_a_stop_if_it_wrote<F: ListeningFamily>() {
    let name = unique_name();
    let mut listener = F::listen(ServerOptions::new().backlog(4), &name).unwrap();
    drop(open_once(&name).unwrap());
    drop(caller(&name, 2));
    drop(open_once(&name).unwrap());
    listener.stop_listening();
    let mut server = listener.accept().within("accept after the stop").await.unwrap();
    assert_eq!(number_of::<F>(&mut server).await, 2);
    assert!(server.read_to_end().within("the end").await.unwrap().is_empty());
    ends::<F>(&mut listener).await;
}

/// It waits for another to go, since the last instance keeps the name.
async fn a_client_at_the_limit_of_instances_is_accepted_after_a_stop<F: ListeningFamily>() {
    let name = unique_name();
    let mut listener = F::listen(ServerOptions::new().max_instances(2), &name).unwrap();
    let _first = caller(&name, 1);
    let _served = listener.accept().within("accept").await.unwrap();
    let _second = caller(&name, 2);
    let accept = F::spawn({
        let mut listener = listener.clone();
        async move { listener.accept().await }
    });
    smol::future::yield_now().await;
    listener.stop_listening();
    let mut server = accept.within("accept after the stop").await.unwrap();
    assert_eq!(number_of::<F>(&mut server).await, 2);
    ends::<F>(&mut listener).await;
}

async fn close_after_a_stop_ends_the_listener_at_once<F: ListeningFamily>() {
    let name = unique_name();
    let mut listener = F::listen(ServerOptions::new().backlog(2), &name).unwrap();
    let mut client = F::open(&ClientOptions::new(), &name).unwrap();
    listener.stop_listening();
    listener.close();
    listener.stop_listening();
    ends::<F>(&mut listener).await;
    assert!(client.read_to_end().within("the end").await.unwrap().is_empty());
}

/// Clients that come while it stops: each that connected is served, but for one in the instant in
/// which its instance is closed, which sees the end.
async fn clients_that_come_during_a_stop_are_served_or_see_the_end<F: ListeningFamily>() {
    for _ in 0..20 / F::COST {
        let name = unique_name();
        let mut listener = F::listen(ServerOptions::new().backlog(4), &name).unwrap();
        let clients = F::spawn(on_a_thread({
            let name = name.clone();
            move || {
                let mut connected = 0;
                loop {
                    match open_once(&name) {
                        Ok(mut client) => {
                            let mut answer = Vec::new();
                            // The end by a closed instance, before or after the write.
                            let _ = client.write_all(b"?").and_then(|()| client.read_to_end(&mut answer));
                            assert!(answer.is_empty() || answer == b"!");
                            connected += 1;
                        }
                        Err(error) if error.raw_os_error() == Some(ERROR_FILE_NOT_FOUND as i32) => {
                            return connected;
                        }
                        Err(_) => std::thread::yield_now(),
                    }
                }
            }
        }));
        let mut served = 0;
        while let Ok(mut server) = listener.accept().within("accept").await {
            server.read_exact(&mut [0]).within("a question").await.unwrap();
            server.write_all(b"!").within("write").await.unwrap();
            served += 1;
            if served == 3 {
                listener.stop_listening();
            }
        }
        let connected: u32 = clients.within("the clients' end").await;
        // One client comes after the other, so at most one per instance is in the instant.
        assert!((served..=served + 4).contains(&connected), "{connected} connected, {served} served");
    }
}

async fn a_client_that_was_not_accepted_sees_the_end_when_the_listener_closes<F: ListeningFamily>() {
    let name = unique_name();
    let listener = F::listen(ServerOptions::new().backlog(2), &name).unwrap();
    let mut client = F::open(&ClientOptions::new(), &name).unwrap();
    client.write_all(b"hello?").within("write").await.unwrap();
    listener.close();
    assert_eq!(client.read(&mut [0]).within("the end").await.unwrap(), 0);
    eventually("nobody listens", || fails_to_open(&name, ERROR_FILE_NOT_FOUND)).await;
}

async fn of_a_limited_number_the_listener_keeps_one<F: ListeningFamily>() {
    let name = unique_name();
    let mut listener = F::listen(ServerOptions::new().max_instances(3), &name).unwrap();
    let _first = caller(&name, 1);
    let server = listener.accept().within("accept").await.unwrap();
    let _second = caller(&name, 2);
    let other = listener.accept().within("accept").await.unwrap();
    let _third = caller(&name, 3);
    assert_os_error(open_once(&name), ERROR_PIPE_BUSY, "every instance has a client");
    let mut accept = F::spawn({
        let mut listener = listener.clone();
        async move { listener.accept().await }
    });
    let enough = async {
        smol::Timer::after(Duration::from_millis(20)).await;
        None
    };
    let accepted = smol::future::or(enough, async { Some((&mut accept).await) }).await;
    assert!(accepted.is_none(), "the last instance keeps the name");
    drop(server);
    let mut third = accept.within("accept after another has gone").await.unwrap();
    assert_eq!(number_of::<F>(&mut third).await, 3);
    drop((third, other));
    // The instances of the two that have gone are made again by an accept that waits.
    let accept = F::spawn(async move { listener.accept().await });
    let mut last = F::connect(&ClientOptions::new(), &name).within("an instance is free").await.unwrap();
    last.write_all(&[4]).await.unwrap();
    assert_eq!(number_of::<F>(&mut accept.within("accept").await.unwrap()).await, 4);
}

async fn a_listener_of_one_instance_serves_one_client_after_the_other<F: ListeningFamily>() {
    let name = unique_name();
    let mut listener = F::listen(ServerOptions::new().max_instances(1), &name).unwrap();
    for number in 0..3 {
        let client = F::spawn({
            let name = name.clone();
            async move {
                let mut client = F::connect(ClientOptions::new().wait_for_server(true), &name).await.unwrap();
                client.write_all(&[number]).await.unwrap();
                client
            }
        });
        let mut server = listener.accept().within("accept").await.unwrap();
        assert_eq!(number_of::<F>(&mut server).await, number);
        drop(client.within("the client").await);
    }
}

async fn several_tasks_accept_from_one_listener<F: ListeningFamily>() {
    const CLIENTS: u8 = 60;
    let name = unique_name();
    let listener = F::listen(ServerOptions::new().backlog(2), &name).unwrap();
    let acceptors = [(); 3].map(|()| {
        let mut listener = listener.clone();
        F::spawn(async move {
            let mut numbers = Vec::new();
            while let Ok(mut server) = listener.accept().await {
                numbers.push(number_of::<F>(&mut server).await);
                server.write_all(b"!").await.unwrap();
            }
            numbers
        })
    });
    for number in 0..CLIENTS {
        let mut client = F::connect(&ClientOptions::new(), &name).within("connect").await.unwrap();
        client.write_all(&[number]).await.unwrap();
        client.read_exact(&mut [0]).within("the answer").await.unwrap();
    }
    listener.close();
    let mut numbers = Vec::new();
    for acceptor in acceptors {
        numbers.extend(acceptor.within("an acceptor ends").await);
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..CLIENTS).collect::<Vec<_>>());
}

async fn a_dropped_accept_loses_no_client<F: ListeningFamily + AsyncFamily>() {
    let name = unique_name();
    let mut listener = F::listen(ServerOptions::new().backlog(2), &name).unwrap();
    for number in 0..50 {
        // Another one waits, and is not to be forgotten by the one that is dropped.
        let mut other = listener.clone();
        let mut waiting = Box::pin(other.accept());
        assert!(poll_and_drop(&mut waiting).is_pending());
        assert!(poll_and_drop(listener.accept()).is_pending());
        let _client = caller(&name, number);
        let mut server = waiting.within("accept").await.unwrap();
        assert_eq!(number_of::<F>(&mut server).await, number);
    }
}

/// The instances that a poll has made to wait again are counted by clients that open them.
async fn one_poll_renews_only_some_of_the_instances_that_clients_have_left<F: AsyncFamily>() {
    const BACKLOG: usize = 64;
    let name = unique_name();
    let listener = ServerOptions::new().backlog(BACKLOG).listen(&name).unwrap();
    let visit_all = || std::iter::from_fn(|| open_once(&name).ok().map(drop)).count();
    assert_eq!(visit_all(), BACKLOG);
    let mut accept = pin!(listener.accept());
    let mut polls = 0;
    let mut renewed = 0;
    while renewed < 2 * BACKLOG {
        let (alarm, waker) = Alarm::new();
        assert!(accept.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        let now = visit_all();
        assert!(now <= BACKLOG / 4, "{now} instances in one poll");
        renewed += now;
        polls += 1;
        alarm.wait("the rest of the instances, or the next clients that leave").await;
    }
    assert!(polls > 4);
    let client = on_a_thread(move || PipeStream::connect(name).unwrap());
    let (_server, _client) = smol::future::zip(accept, client).within("a client that stays").await;
}

async fn clients_come_as_a_stream_that_ends_with_the_listener<F: AsyncFamily>() {
    let name = unique_name();
    let listener = ServerOptions::new().listen(&name).unwrap();
    let mut incoming = listener.incoming();
    for _ in 0..6 {
        let _client = caller(&name, 1);
        incoming.next().within("a client").await.unwrap().unwrap();
    }
    let mut closed = pin!(incoming.next());
    assert!(poll_once(closed.as_mut()).is_pending());
    listener.close();
    assert!(closed.within("the end").await.is_none());
    assert!(incoming.next().within("the end, again").await.is_none());

    let listener = ServerOptions::new().listen(&name).unwrap();
    let mut incoming = listener.incoming();
    let _client = caller(&name, 1);
    listener.stop_listening();
    incoming.next().within("a client that had connected").await.unwrap().unwrap();
    assert!(incoming.next().within("the end").await.is_none());
    drop(incoming);
    drop(listener);

    let mut incoming = ServerOptions::new().listen(&name).unwrap().into_incoming();
    let _client = caller(&name, 1);
    incoming.next().within("a client").await.unwrap().unwrap();
    drop(incoming);
    assert_os_error(open_once(&name), ERROR_FILE_NOT_FOUND, "the listener went with the stream");
}

async fn of_those_who_poll_the_last_is_woken<F: AsyncFamily>() {
    let name = unique_name();
    let listener = ServerOptions::new().listen(&name).unwrap();
    let (_first, unheard) = Alarm::new();
    let (last, waker) = Alarm::new();
    assert!(listener.poll_accept(&mut Context::from_waker(&unheard)).is_pending());
    assert!(listener.poll_accept(&mut Context::from_waker(&waker)).is_pending());
    let _client = caller(&name, 1);
    last.wait("the client wakes").await;
    let Poll::Ready(server) = listener.poll_accept(&mut Context::from_waker(&waker)) else {
        panic!("woken for nothing")
    };
    server.unwrap();
}

async fn a_second_listener_of_a_name_is_refused<F: ListeningFamily>() {
    if skipped_under_wine(
        "listener::a_second_listener_of_a_name_is_refused",
        "FILE_FLAG_FIRST_PIPE_INSTANCE is ignored",
    ) {
        return;
    }
    let name = unique_name();
    let listener = F::listen(&ServerOptions::new(), &name).unwrap();
    let refused = F::listen(&ServerOptions::new(), &name).map(drop).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    let options = ServerOptions::new();
    let waiting = F::listen_timeout(&options, &name, LONG);
    let close = async {
        smol::future::yield_now().await;
        listener.close();
    };
    smol::future::zip(waiting, close).within("the name is free").await.0.unwrap();
}

/// All its instances exist, so Windows reports "busy" whatever the options are.
async fn a_listener_finds_a_full_name_taken<F: ListeningFamily>() {
    let name = unique_name();
    let predecessor = F::create(ServerOptions::new().max_instances(1), &name).unwrap();
    let options = ServerOptions::new();
    for refused in [
        F::listen(&options, &name).map(drop),
        F::listen_timeout(&options, &name, Duration::from_millis(5)).within("giving up").await.map(drop),
    ] {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error:?}");
        assert!(error.to_string().contains("another program has the name"), "{error}");
    }
    let waiting = F::listen_timeout(&options, &name, LONG);
    let close = async {
        smol::future::yield_now().await;
        drop(predecessor);
    };
    smol::future::zip(waiting, close).within("the name is free").await.0.unwrap();
}

/// A dying server, by what Wine knows of one: a pipe that may have no more instances.
async fn listening_can_wait_until_the_name_is_free<F: ListeningFamily>() {
    let name = unique_name();
    let predecessor = F::create(ServerOptions::new().max_instances(1), &name).unwrap();
    let mut options = ServerOptions::new();
    options.first_pipe_instance(false);
    assert_os_error(F::listen(&options, &name).map(drop), ERROR_PIPE_BUSY, "the name is taken");
    let began = Instant::now();
    let limit = Duration::from_millis(80);
    let gave_up = F::listen_timeout(&options, &name, limit).within("giving up").await.map(drop);
    assert_os_error(gave_up, ERROR_PIPE_BUSY, "the name stays taken");
    assert!(began.elapsed() >= limit);
    let nonsense = F::listen_timeout(options.clone().backlog(0), &name, LONG).within("refusal").await;
    assert_eq!(nonsense.map(drop).unwrap_err().kind(), io::ErrorKind::InvalidInput);

    let taking_over = F::spawn({
        let name = name.clone();
        async move { F::listen_timeout(&options, &name, LONG).await }
    });
    smol::future::yield_now().await;
    drop(predecessor);
    let mut listener = taking_over.within("the name is free").await.unwrap();
    let _client = caller(&name, 5);
    let mut server = listener.accept().within("accept").await.unwrap();
    assert_eq!(number_of::<F>(&mut server).await, 5);
}

async fn a_client_waits_for_a_free_instance<F: ListeningFamily>() {
    let name = unique_name();
    let mut listener = F::listen(ServerOptions::new().backlog(1), &name).unwrap();
    let _taken = caller(&name, 1);
    let clients = [(); 4].map(|()| {
        let name = name.clone();
        F::spawn(async move { F::connect(&ClientOptions::new(), &name).await })
    });
    smol::future::yield_now().await;
    let mut servers = Vec::new();
    for _ in 0..5 {
        servers.push(listener.accept().within("accept").await.unwrap());
    }
    for client in clients {
        client.within("connect").await.unwrap();
    }
}

async fn a_client_waits_for_a_server_only_if_told<F: ListeningFamily>() {
    let name = unique_name();
    let refused = F::connect(ClientOptions::new().connect_timeout(Some(LONG)), &name).within("connect").await;
    assert_os_error(refused, ERROR_FILE_NOT_FOUND, "nobody serves it");
    let waiting = F::spawn({
        let name = name.clone();
        async move { F::connect(ClientOptions::new().wait_for_server(true), &name).await }
    });
    smol::future::yield_now().await;
    let mut listener = F::listen(&ServerOptions::new(), &name).unwrap();
    let _server = listener.accept().within("accept").await.unwrap();
    waiting.within("connect").await.unwrap();
}

async fn a_client_that_gives_up_says_what_it_waited_for<F: ListeningFamily>() {
    const LIMIT: Duration = Duration::from_millis(60);
    let name = unique_name();
    let mut options = ClientOptions::new();
    options.wait_for_server(true).connect_timeout(Some(LIMIT));
    let began = Instant::now();
    let error = F::connect(&options, &name).within("giving up").await.unwrap_err();
    assert!(began.elapsed() >= LIMIT);
    assert_gave_up(&error, &name, "no server had created it", ERROR_FILE_NOT_FOUND);

    let _listener = F::listen(ServerOptions::new().backlog(1), &name).unwrap();
    let _taken = caller(&name, 1);
    let error = F::connect(&options, &name).within("giving up").await.unwrap_err();
    assert_gave_up(&error, &name, "all its instances were busy", ERROR_PIPE_BUSY);
    options.connect_timeout(Some(Duration::ZERO));
    let error = F::connect(&options, &name).within("giving up").await.unwrap_err();
    assert_gave_up(&error, &name, "all its instances were busy", ERROR_PIPE_BUSY);
}

/// Each reason to wait has its own limit, in which the time for the other does not count.
async fn a_missing_and_a_busy_pipe_have_limits_of_their_own<F: ListeningFamily>() {
    const LIMIT: Duration = Duration::from_millis(60);
    let name = unique_name();
    let mut options = ClientOptions::new();
    options.server_timeout(Some(LIMIT)).busy_timeout(Some(Duration::ZERO));
    let began = Instant::now();
    let error = F::connect(&options, &name).within("giving up").await.unwrap_err();
    assert!(began.elapsed() >= LIMIT);
    assert_gave_up(&error, &name, "no server had created it", ERROR_FILE_NOT_FOUND);

    let mut listener = F::listen(ServerOptions::new().backlog(1), &name).unwrap();
    let _taken = caller(&name, 1);
    options.server_timeout(None).busy_timeout(Some(LIMIT));
    let began = Instant::now();
    let error = F::connect(&options, &name).within("giving up").await.unwrap_err();
    assert!(began.elapsed() >= LIMIT);
    assert_gave_up(&error, &name, "all its instances were busy", ERROR_PIPE_BUSY);

    // The limit for a missing pipe is no limit for a busy one.
    let waiting = F::spawn({
        let name = name.clone();
        async move { F::connect(ClientOptions::new().server_timeout(Some(Duration::ZERO)), &name).await }
    });
    smol::future::yield_now().await;
    let _first = listener.accept().within("accept").await.unwrap();
    waiting.within("connect").await.unwrap();
}

fn assert_gave_up(error: &io::Error, name: &str, what: &str, code: u32) {
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    let text = error.to_string();
    assert!(text.contains(name) && text.contains(what), "{text}");
    let last = error.source().and_then(|source| source.downcast_ref::<io::Error>()).unwrap();
    assert_eq!(last.raw_os_error(), Some(code as i32));
}

async fn a_dropped_connect_leaves_no_client_behind<F: ListeningFamily + AsyncFamily>() {
    let name = unique_name();
    for _ in 0..20 {
        assert!(poll_and_drop(F::connect(ClientOptions::new().wait_for_server(true), &name)).is_pending());
    }
    let mut listener = F::listen(ServerOptions::new().backlog(1), &name).unwrap();
    let mut server = {
        let _client = caller(&name, 9);
        for _ in 0..20 {
            assert!(poll_and_drop(F::connect(&ClientOptions::new(), &name)).is_pending());
        }
        listener.accept().within("accept").await.unwrap()
    };
    assert_eq!(number_of::<F>(&mut server).await, 9);
    assert!(poll_and_drop(listener.accept()).is_pending(), "a client that nobody waits for any more");
}

for_each_family!(
    as_many_clients_as_the_backlog_come_while_nobody_accepts => listening,
    the_name_is_there_whatever_becomes_of_connections => listening,
    clients_that_leave_without_a_word_are_passed_over => listening,
    clients_that_come_and_vanish_all_the_time_keep_nobody_from_being_served => listening,
    close_ends_accepts_and_frees_the_name_at_once => listening,
    a_client_that_was_not_accepted_sees_the_end_when_the_listener_closes => listening,
    clients_that_have_connected_are_accepted_after_a_stop => listening,
    a_client_that_connects_before_its_instance_is_closed_is_accepted_too => listening,
    a_stop_ends_accepts_that_wait => listening,
    a_client_that_has_left_is_accepted_after_a_stop_if_it_wrote => listening,
    a_client_at_the_limit_of_instances_is_accepted_after_a_stop => listening,
    close_after_a_stop_ends_the_listener_at_once => listening,
    clients_that_come_during_a_stop_are_served_or_see_the_end => listening,
    of_a_limited_number_the_listener_keeps_one => listening,
    a_listener_of_one_instance_serves_one_client_after_the_other => listening,
    several_tasks_accept_from_one_listener => listening,
    a_dropped_accept_loses_no_client => asynchronous,
    one_poll_renews_only_some_of_the_instances_that_clients_have_left => asynchronous,
    clients_come_as_a_stream_that_ends_with_the_listener => asynchronous,
    of_those_who_poll_the_last_is_woken => asynchronous,
    a_second_listener_of_a_name_is_refused => listening,
    a_listener_finds_a_full_name_taken => listening,
    a_backlog_may_be_longer_than_255 => listening,
    four_clients_come_while_nobody_accepts_unless_told_otherwise => listening,
    a_dropped_wait_for_the_name_leaves_nothing_behind => asynchronous,
    listening_can_wait_until_the_name_is_free => listening,
    a_client_waits_for_a_free_instance => listening,
    a_client_waits_for_a_server_only_if_told => listening,
    a_client_that_gives_up_says_what_it_waited_for => listening,
    a_missing_and_a_busy_pipe_have_limits_of_their_own => listening,
    a_dropped_connect_leaves_no_client_behind => asynchronous,
);

/// Hundreds of threads under Wine take their time: once for each face.
#[cfg(all(feature = "tokio", not(npipe_test_always_queue)))]
mod two_hundred_clients {
    use std::sync::Barrier;

    use super::*;
    use crate::family::on_blocking::Blocking;
    use crate::family::on_tokio::Tokio;
    use crate::harness::{on_a_thread, run_alone};

    /// Clients that do not try again, as many as the backlog, all at the same moment; and ours, on
    /// a backlog that is far too small.
    async fn come_at_once<F: ListeningFamily>() {
        const CLIENTS: u32 = 200;
        let name = unique_name();
        for (backlog, rounds, patient) in [(CLIENTS as usize, 2, false), (4, 1, true)] {
            let mut listener = F::listen(ServerOptions::new().backlog(backlog), &name).unwrap();
            let clients = F::spawn(on_a_thread({
                let name = name.clone();
                move || (0..rounds).for_each(|_| come_together(&name, CLIENTS, patient))
            }));
            async {
                for _ in 0..CLIENTS * rounds {
                    let mut server = listener.accept().await.unwrap();
                    server.write_all(b"!").await.unwrap();
                }
            }
            .within_time("all are served", LONG)
            .await;
            clients.within("all were served").await;
            listener.close();
        }
    }

    fn come_together(name: &str, clients: u32, patient: bool) {
        let start = Barrier::new(clients as usize);
        std::thread::scope(|scope| {
            for _ in 0..clients {
                std::thread::Builder::new()
                    .stack_size(64 * 1024)
                    .spawn_scoped(scope, || {
                        start.wait();
                        let mut answer = [0];
                        if patient {
                            PipeStream::connect(name).unwrap().read_exact(&mut answer).unwrap();
                        } else {
                            open_once(name).unwrap().read_exact(&mut answer).unwrap();
                        }
                    })
                    .unwrap();
            }
        });
    }

    #[test]
    fn of_an_async_listener() {
        run_alone::<Tokio>("listener::two_hundred_clients::of_an_async_listener", come_at_once::<Tokio>());
    }

    /// None is refused, however few instances there are.
    async fn wait_as_tasks<F: ListeningFamily>() {
        const CLIENTS: usize = 200;
        let name = unique_name();
        let mut listener = F::listen(ServerOptions::new().backlog(4), &name).unwrap();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let name = name.clone();
                F::spawn(async move {
                    let mut client = F::connect(&ClientOptions::new(), &name).await.unwrap();
                    client.read_exact(&mut [0]).await.unwrap();
                })
            })
            .collect();
        for _ in 0..CLIENTS {
            let mut server = listener.accept().within_time("a client", LONG).await.unwrap();
            server.write_all(b"!").within("an answer").await.unwrap();
        }
        for client in clients {
            client.within("an answered client").await;
        }
    }

    #[test]
    fn of_an_async_listener_as_tasks() {
        run_alone::<Tokio>(
            "listener::two_hundred_clients::of_an_async_listener_as_tasks",
            wait_as_tasks::<Tokio>(),
        );
    }

    #[test]
    fn of_a_blocking_listener() {
        run_alone::<Blocking>(
            "listener::two_hundred_clients::of_a_blocking_listener",
            come_at_once::<Blocking>(),
        );
    }
}
