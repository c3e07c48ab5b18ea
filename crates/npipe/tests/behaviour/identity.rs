//! Who is at the other end, acting in a client's name, and clients that look whom they talk to
//! first.

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::process;

use npipe::{
    ClientOptions, ImpersonationLevel, PipeMode, SecurityDescriptor, ServerIdentity, ServerOptions, Sid,
    Trustee,
};

use crate::family::{AsyncFamily, End, Family, ListeningFamily, Reading, ServerEnd, Writing};
use crate::harness::{Within, pair, pair_with, skipped_under_wine, unique_name};
use crate::sys::{self, HandleKind};

/// The account that the tests run as.
fn me() -> Sid {
    Trustee::CurrentUser.sid().unwrap()
}

async fn each_end_knows_the_others_process<F: Family>() {
    let (server, client) = pair::<F>().await;
    let [seen_by_server, seen_by_client] = [server.peer().unwrap(), client.peer().unwrap()];
    assert_eq!(seen_by_server.session_id(), seen_by_client.session_id());
    for peer in [seen_by_server, seen_by_client] {
        assert_eq!(peer.process_id(), process::id());
        assert_eq!(peer.program().unwrap().file_name(), std::env::current_exe().unwrap().file_name());
        assert_eq!(peer.user().unwrap(), me());
        peer.process().expect("its handle");
    }
    server.disconnect().unwrap();
    drop(client);
}

async fn a_server_that_is_who_it_should_be_is_taken<F: Family>() {
    for identity in
        [ServerIdentity::PipeOwner(me().into()), ServerIdentity::ProcessUser(Trustee::CurrentUser)]
    {
        let mine = SecurityDescriptor::current_user_only().unwrap();
        let server = ServerOptions::new().security_descriptor(&mine).clone();
        let (mut server, mut client) =
            pair_with::<F>(&server, ClientOptions::new().verify_server(identity)).await;
        client.write_all(b"secret").within("write").await.unwrap();
        let mut received = [0; 6];
        server.read_exact(&mut received).within("read").await.unwrap();
        assert_eq!(&received, b"secret");
    }
}

/// Somebody who took the name first, in the case of the owner: for want of a second account, his
/// pipe is ours, and the right server would be the system.
async fn a_server_that_is_somebody_else_is_refused<F: Family>() {
    for identity in [ServerIdentity::PipeOwner(Trustee::System), ServerIdentity::ProcessUser(Trustee::System)]
    {
        let name = unique_name();
        let mine = SecurityDescriptor::current_user_only().unwrap();
        let _server = F::create(ServerOptions::new().security_descriptor(&mine), &name).unwrap();
        let error = F::open(ClientOptions::new().verify_server(identity), &name).unwrap_err();
        assert_eq!((error.kind(), error.raw_os_error()), (io::ErrorKind::PermissionDenied, None), "{error}");
        let text = error.to_string();
        assert!(
            text.contains(&me().to_string()) && text.contains("S-1-5-18"),
            "who it is, and should be: {text}"
        );
    }
}

/// Waiting would not make it another.
async fn who_waits_for_a_server_does_not_wait_for_another<F: AsyncFamily>() {
    let name = unique_name();
    let mine = SecurityDescriptor::current_user_only().unwrap();
    let _server = F::create(ServerOptions::new().security_descriptor(&mine), &name).unwrap();
    let mut client = ClientOptions::new();
    client.wait_for_server(true).verify_server(ServerIdentity::PipeOwner(Trustee::System));
    let error = client.connect(&name).within("the refusal").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
}

fn impersonable() -> ClientOptions {
    let mut options = ClientOptions::new();
    options
        .impersonation_level(ImpersonationLevel::Impersonation)
        .verify_server(ServerIdentity::ProcessUser(Trustee::CurrentUser));
    options
}

/// It is verified by one connection before another may be impersonated, so there are two.
async fn a_server_is_verified_before_it_may_impersonate<F: Family>() {
    let name = unique_name();
    let _looked_at = F::create(&ServerOptions::new(), &name).unwrap();
    let mut server = F::create(&ServerOptions::new(), &name).unwrap();
    let mut client = F::open(&impersonable(), &name).unwrap();
    server.connect().within("connect").await.unwrap();
    client.write_all(b"secret").within("write").await.unwrap();
    let mut received = [0; 6];
    server.read_exact(&mut received).within("read").await.unwrap();
    assert_eq!(&received, b"secret");
    assert_eq!(server.client_user().unwrap(), me());
}

async fn a_pipe_of_one_instance_cannot_be_verified_before_it_may_impersonate<F: Family>() {
    let name = unique_name();
    let _server = F::create(ServerOptions::new().max_instances(1), &name).unwrap();
    let error = F::open(&impersonable(), &name).unwrap_err();
    assert_eq!((error.kind(), error.raw_os_error()), (io::ErrorKind::Unsupported, None), "{error}");
    assert!(error.to_string().contains("one instance"), "{error}");
}

async fn the_instance_that_is_looked_at_counts<F: Family>() {
    let name = unique_name();
    let _server = F::create(&ServerOptions::new(), &name).unwrap();
    let error = F::open(&impersonable(), &name).unwrap_err();
    assert!(F::is_busy(&error), "{error:?}");
}

/// The first connection is held meanwhile, so the second one gets the instance that is created
/// next.
async fn who_verifies_waits_for_a_second_instance<F: ListeningFamily>() {
    let name = unique_name();
    let _looked_at = F::create(&ServerOptions::new(), &name).unwrap();
    let connecting = F::spawn({
        let name = name.clone();
        async move { F::connect(&impersonable(), &name).await }
    });
    smol::future::yield_now().await;
    let server = F::create(&ServerOptions::new(), &name).unwrap();
    let client = connecting.within("connect").await.unwrap();
    server.connect().within("the client").await.unwrap();
    assert_eq!(client.peer().unwrap().user().unwrap(), me());
}

#[test]
fn both_ends_of_a_pair_may_verify_and_impersonate() {
    let (server, client) = npipe::blocking::pair_with(&ServerOptions::new(), &impersonable()).unwrap();
    assert_eq!(server.peer().unwrap().user().unwrap(), me());
    assert_eq!(client.peer().unwrap().user().unwrap(), me());
}

/// A client that may neither read nor write asks for the right to see the owner by itself.
async fn verifying_needs_no_other_right<F: Family>() {
    let name = unique_name();
    let mine = SecurityDescriptor::current_user_only().unwrap();
    let _server = F::create(ServerOptions::new().security_descriptor(&mine), &name).unwrap();
    let mut client = ClientOptions::new();
    client.read(false).write(false).verify_server(ServerIdentity::PipeOwner(Trustee::CurrentUser));
    F::open(&client, &name).unwrap();
}

async fn a_server_acts_in_its_clients_name<F: Family>() {
    for mode in [PipeMode::Byte, PipeMode::Message] {
        let (mut server, mut client) =
            pair_with::<F>(ServerOptions::new().pipe_mode(mode), ClientOptions::new().pipe_mode(mode)).await;
        client.write_all(b"it is me").within("write").await.unwrap();
        server.read_exact(&mut [0; 8]).within("read").await.unwrap();
        let user = server.impersonate(|client| {
            assert!(sys::thread_impersonates());
            assert!(client.is_member_of(&Trustee::Everyone).unwrap());
            let strangers: Sid = "S-1-5-21-1-2-3-4".parse().unwrap();
            assert!(!client.is_member_of(&strangers.into()).unwrap());
            client.user()
        });
        assert_eq!(user.unwrap(), me());
        assert!(!sys::thread_impersonates(), "it is over");
        assert_eq!(server.client_user().unwrap(), me());
        let error = server.impersonate(|_| Err::<(), _>(io::Error::other("of the closure"))).unwrap_err();
        assert_eq!(error.to_string(), "of the closure");
        assert!(!sys::thread_impersonates(), "also when the closure fails");
    }
}

async fn a_panic_ends_it_too<F: Family>() {
    let (mut server, mut client) = pair::<F>().await;
    client.write_all(b"!").within("write").await.unwrap();
    server.read_exact(&mut [0; 1]).within("read").await.unwrap();
    let panicked = panic::catch_unwind(AssertUnwindSafe(|| {
        server.impersonate(|_| {
            assert!(sys::thread_impersonates());
            panic::resume_unwind(Box::new(()));
            #[expect(unreachable_code, reason = "the type of the closure")]
            Ok(())
        })
    }));
    assert!(panicked.is_err() && !sys::thread_impersonates());
}

async fn one_name_at_a_time<F: Family>() {
    let (mut server, mut client) = pair::<F>().await;
    client.write_all(b"!").within("write").await.unwrap();
    server.read_exact(&mut [0; 1]).within("read").await.unwrap();
    let inner = server.impersonate(|_| {
        let inner = server.impersonate(|_| -> io::Result<()> { panic!("not within another") });
        assert!(sys::thread_impersonates(), "the outer one goes on");
        inner
    });
    assert_eq!(inner.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert!(!sys::thread_impersonates());
}

async fn what_the_client_allows_is_all_there_is<F: Family>() {
    if skipped_under_wine(
        "identity::what_the_client_allows_is_all_there_is",
        "levels of impersonation are not told apart",
    ) {
        return;
    }
    let me = me();
    for level in
        [ImpersonationLevel::Anonymous, ImpersonationLevel::Identification, ImpersonationLevel::Impersonation]
    {
        let (server, _client) =
            pair_with::<F>(&ServerOptions::new(), ClientOptions::new().impersonation_level(level)).await;
        // Nothing has been read: a client that says what it allows is known from the beginning.
        let (seen, user, opened) = server
            .impersonate(|client| {
                let opened = std::fs::File::open(std::env::current_exe().unwrap());
                assert_eq!(
                    Trustee::CurrentUser.sid().unwrap(),
                    me,
                    "who the process is can be asked all the same"
                );
                Ok((client.level()?, client.user(), opened))
            })
            .unwrap();
        assert_eq!(seen, level);
        match level {
            ImpersonationLevel::Anonymous => {
                assert_eq!(user.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
            }
            _ => assert_eq!(user.unwrap(), me),
        }
        assert_eq!(opened.is_ok(), level >= ImpersonationLevel::Impersonation, "{level:?}: {opened:?}");
    }
}

/// A squatter does not get trusted by hiding who he is.
async fn a_server_that_hides_its_owner_is_refused<F: Family>() {
    if skipped_under_wine(
        "identity::a_server_that_hides_its_owner_is_refused",
        "access lists are not enforced",
    ) {
        return;
    }
    let name = unique_name();
    // Reading and writing, without READ_CONTROL; OW takes the owner's own right to look.
    let hidden: SecurityDescriptor = "D:P(D;;RC;;;OW)(A;;0x10019b;;;WD)".parse().unwrap();
    let _server = F::create(ServerOptions::new().security_descriptor(&hidden), &name).unwrap();
    let identity = ServerIdentity::PipeOwner(Trustee::CurrentUser);
    let error = F::open(ClientOptions::new().verify_server(identity), &name).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
}

/// A client may go at any time, and take its name with it.
async fn a_client_that_vanishes_is_an_error_at_most<F: Family>() {
    let (mut server, mut client) = pair::<F>().await;
    client.write_all(b"bye").within("write").await.unwrap();
    drop(client);
    assert_eq!(server.read_to_end().within("the end").await.unwrap(), b"bye");
    if let Ok(user) = server.client_user() {
        assert_eq!(user, me());
    }
    assert!(!sys::thread_impersonates());
    if let Ok(peer) = server.peer() {
        assert_eq!(peer.process_id(), process::id());
        assert_eq!(peer.user().unwrap(), me(), "its process was there before it connected");
    }
    server.disconnect().unwrap();
    let _ = server.impersonate(|_| Ok(()));
    let _ = server.peer();
    assert!(!sys::thread_impersonates());
}

/// Since when it has waited is unknown, so a process that has the client's number may be a later
/// one.
async fn of_a_handle_made_elsewhere_the_peer_is_known_while_it_is_connected<F: Family>() {
    let name = unique_name();
    let handle = sys::create_pipe(&name, HandleKind::Overlapped).unwrap();
    let server = F::adopt_server(handle).unwrap();
    let client = F::open(&ClientOptions::new(), &name).unwrap();
    server.connect().within("connect").await.unwrap();
    assert_eq!(server.peer().unwrap().user().unwrap(), me());
    drop(client);
    crate::harness::eventually("the client has left", || {
        let user = server.peer().and_then(|peer| peer.user());
        user.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    })
    .await;
}

async fn without_a_client_there_is_no_name<F: Family>() {
    let server = F::create(&ServerOptions::new(), unique_name()).unwrap();
    if skipped_under_wine("identity::without_a_client_there_is_no_name", "every server's end may impersonate")
    {
        return;
    }
    let done = server.impersonate(|_| -> io::Result<()> { panic!("in whose name?") });
    assert!(done.is_err() && !sys::thread_impersonates());
}

for_each_family!(
    each_end_knows_the_others_process,
    a_server_that_is_who_it_should_be_is_taken,
    a_server_that_is_somebody_else_is_refused,
    who_waits_for_a_server_does_not_wait_for_another => asynchronous,
    a_server_is_verified_before_it_may_impersonate,
    a_pipe_of_one_instance_cannot_be_verified_before_it_may_impersonate,
    the_instance_that_is_looked_at_counts,
    who_verifies_waits_for_a_second_instance => listening,
    verifying_needs_no_other_right,
    a_server_acts_in_its_clients_name,
    a_panic_ends_it_too,
    one_name_at_a_time,
    what_the_client_allows_is_all_there_is,
    a_server_that_hides_its_owner_is_refused,
    a_client_that_vanishes_is_an_error_at_most,
    of_a_handle_made_elsewhere_the_peer_is_known_while_it_is_connected,
    without_a_client_there_is_no_name,
);
