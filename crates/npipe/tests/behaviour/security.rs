//! Security descriptors: in words, as text, on pipes, and what they allow.

use std::io;

use npipe::{
    Access, AccessEntry, AccessList, ClientOptions, Integrity, PipeMode, SecurityDescriptor, ServerOptions,
    Sid, Trustee,
};
use windows_sys::Win32::Foundation::ERROR_ACCESS_DENIED;

use crate::family::{End, Family, Listening, ServerEnd, Writing};
use crate::harness::{Within, assert_os_error, pair, pair_with, skipped_under_wine, unique_name};
use crate::sys;

const SYSTEM: &str = "S-1-5-18";
const ADMINISTRATORS: &str = "S-1-5-32-544";
const EVERYONE: &str = "S-1-1-0";

/// The account that the tests run as.
fn me() -> Sid {
    Trustee::CurrentUser.sid().unwrap()
}

/// The entries as "allow MASK TRUSTEE", in their order.
fn entries(descriptor: &SecurityDescriptor) -> Vec<String> {
    let AccessList::Entries(entries) = descriptor.access_list() else {
        panic!("{descriptor:?} has no entries");
    };
    let line = |entry: &AccessEntry| match entry {
        AccessEntry::Allow { trustee, mask, .. } => format!("allow {mask:#x} {trustee}"),
        AccessEntry::Deny { trustee, mask, .. } => format!("deny {mask:#x} {trustee}"),
        other => format!("{other:?}"),
    };
    entries.iter().map(line).collect()
}

#[test]
fn sddl_becomes_a_descriptor_and_sddl_again() {
    let sddl = "O:BAG:SYD:(D;;0x12019f;;;AN)(A;;FA;;;SY)(A;;0x12019b;;;BA)";
    let descriptor: SecurityDescriptor = sddl.parse().unwrap();
    assert_eq!(descriptor.owner().map(Sid::to_string).as_deref(), Some(ADMINISTRATORS));
    assert_eq!(descriptor.group().map(Sid::to_string).as_deref(), Some(SYSTEM));
    let expected = [
        "deny 0x12019f S-1-5-7",
        &format!("allow 0x1f01ff {SYSTEM}"),
        &format!("allow 0x12019b {ADMINISTRATORS}"),
    ];
    assert_eq!(entries(&descriptor), expected);
    let again = SecurityDescriptor::from_sddl(&descriptor.to_string()).unwrap();
    assert_eq!(again.access_list(), descriptor.access_list());
    assert_eq!((again.owner(), again.group()), (descriptor.owner(), descriptor.group()));
}

#[test]
fn what_is_not_said_is_told_from_nobody() {
    let list = |sddl: &str| SecurityDescriptor::from_sddl(sddl).unwrap().access_list().clone();
    assert_eq!(list("O:BA"), AccessList::Unspecified);
    assert_eq!(list("D:"), AccessList::Entries(Vec::new()));
    if !skipped_under_wine(
        "security::what_is_not_said_is_told_from_nobody",
        "a null list becomes an empty one",
    ) {
        assert_eq!(list("D:NO_ACCESS_CONTROL"), AccessList::Everyone);
    }
}

#[test]
fn text_that_is_no_descriptor_is_an_error() {
    for empty in ["", "  ", "D:(A;;GA;;;WD)\0"] {
        let error = SecurityDescriptor::from_sddl(empty).unwrap_err();
        assert_eq!((error.kind(), error.raw_os_error()), (io::ErrorKind::InvalidInput, None), "{empty:?}");
    }
    for bad in ["nonsense", "D:(A;;GA;;;", "D:(A;;GA;;;S-1-)", "D:(Q;;GA;;;WD)"] {
        let error = SecurityDescriptor::from_sddl(bad).expect_err(bad);
        assert!(error.raw_os_error().is_some(), "{bad}: {error:?}");
    }
}

#[test]
fn words_become_a_descriptor() {
    let descriptor = SecurityDescriptor::builder()
        .allow(Trustee::CurrentUser, Access::Full)
        .allow(Trustee::AppPackages, Access::Connect)
        .deny(Trustee::Everyone, Access::Write)
        .build()
        .unwrap();
    let me = me();
    let expected =
        [&format!("deny 0x2 {EVERYONE}"), &format!("allow 0x1f01ff {me}"), "allow 0x12019b S-1-15-2-1"];
    assert_eq!(entries(&descriptor), expected);
    assert_eq!((descriptor.owner(), descriptor.integrity()), (None, None), "not said");
}

#[test]
fn ready_made_descriptors_name_the_user_as_owner() {
    let me = me();
    let mine = SecurityDescriptor::current_user_only().unwrap();
    assert_eq!(entries(&mine), [format!("allow 0x1f01ff {me}")]);
    let shared = SecurityDescriptor::owner_and_system().unwrap();
    assert_eq!(entries(&shared), [format!("allow 0x1f01ff {me}"), format!("allow 0x1f01ff {SYSTEM}")]);
    let administrators = SecurityDescriptor::current_user_and_administrators().unwrap();
    assert_eq!(
        entries(&administrators),
        [format!("allow 0x1f01ff {me}"), format!("allow 0x1f01ff {ADMINISTRATORS}")]
    );
    assert_eq!([mine.owner(), shared.owner(), administrators.owner()], [Some(&me); 3]);
    assert!(mine.to_string().contains("D:P"), "nothing is inherited: {mine}");
}

#[test]
fn a_descriptor_that_allows_nobody_is_refused() {
    let error = SecurityDescriptor::builder().deny(Trustee::Everyone, Access::Read).build().unwrap_err();
    assert_eq!((error.kind(), error.raw_os_error()), (io::ErrorKind::InvalidInput, None));
}

#[test]
fn the_integrity_label_is_read_back() {
    let mut builder = SecurityDescriptor::builder();
    let labelled =
        builder.allow(Trustee::CurrentUser, Access::Full).integrity(Integrity::Low).build().unwrap();
    if !skipped_under_wine("security::the_integrity_label_is_read_back", "labels are left out of descriptors")
    {
        assert_eq!(labelled.integrity(), Some(Integrity::Low), "{labelled}");
    }
}

#[test]
fn accounts_have_names() {
    let name = me().account_name().unwrap();
    assert_eq!(Sid::of_account(&name).unwrap(), me(), "{name}");
    for bad in ["", "a\0b"] {
        assert_eq!(Sid::of_account(bad).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
    assert!(Sid::of_account("npipe no such account").is_err());
    assert!(!me().account_name().unwrap().is_empty());
    let descriptor: SecurityDescriptor = "O:SYG:WD".parse().unwrap();
    // The words are those of the system's language.
    assert!(descriptor.owner().unwrap().account_name().is_ok_and(|name| name.contains('\\')));
    assert!(
        descriptor.group().unwrap().account_name().is_ok_and(|name| !name.contains('\\') && !name.is_empty())
    );
    let nobody: SecurityDescriptor = "O:S-1-5-21-1-2-3-4".parse().unwrap();
    assert!(nobody.owner().unwrap().account_name().is_err());
}

/// What a pipe was given is what both of its ends see.
async fn a_pipe_has_the_descriptor_it_was_given<F: Family>() {
    let given: SecurityDescriptor = "D:(A;;FA;;;WD)(A;;0x12019b;;;BA)".parse().unwrap();
    let (server, client) =
        pair_with::<F>(ServerOptions::new().security_descriptor(&given), &ClientOptions::new()).await;
    for seen in [server.security_descriptor().unwrap(), client.security_descriptor().unwrap()] {
        assert_eq!(
            entries(&seen),
            [format!("allow 0x1f01ff {EVERYONE}"), format!("allow 0x12019b {ADMINISTRATORS}")]
        );
        assert!(seen.owner().is_some(), "the system adds the owner: {seen:?}");
    }
}

/// Generic rights are the pipe's own once it has them.
async fn generic_rights_are_mapped<F: Family>() {
    let given: SecurityDescriptor = "D:(A;;GA;;;WD)(A;;GRGW;;;BA)".parse().unwrap();
    let (server, _client) =
        pair_with::<F>(ServerOptions::new().security_descriptor(&given), &ClientOptions::new()).await;
    let seen = entries(&server.security_descriptor().unwrap());
    if !skipped_under_wine("security::generic_rights_are_mapped", "generic rights are kept as they are") {
        assert_eq!(seen, [format!("allow 0x1f01ff {EVERYONE}"), format!("allow 0x12019f {ADMINISTRATORS}")]);
    }
}

async fn without_one_it_is_the_systems<F: Family>() {
    let (server, client) = pair::<F>().await;
    let seen = [server.security_descriptor().unwrap(), client.security_descriptor().unwrap()];
    if skipped_under_wine(
        "security::without_one_it_is_the_systems",
        "a pipe has none unless it was given one",
    ) {
        return;
    }
    for seen in seen {
        let entries = entries(&seen);
        for expected in [format!("allow 0x1f01ff {SYSTEM}"), format!("allow 0x120089 {EVERYONE}")] {
            assert!(entries.contains(&expected), "{expected} in {entries:?}");
        }
    }
}

/// A client that neither reads nor writes has to ask for the right to see the descriptor.
async fn looking_is_a_right_of_its_own<F: Family>() {
    let given: SecurityDescriptor = "D:(A;;FA;;;WD)".parse().unwrap();
    let name = unique_name();
    let mut options = ServerOptions::new();
    options.security_descriptor(&given);
    let _server = F::create(&options, &name).unwrap();
    let mut only_looking = ClientOptions::new();
    only_looking.read(false).write(false).read_control(true);
    let client = F::open(&only_looking, &name).unwrap();
    assert_eq!(client.security_descriptor().unwrap().access_list(), given.access_list());
    let other_name = unique_name();
    let _server = F::create(&options, &other_name).unwrap();
    let client = F::open(only_looking.read_control(false), &other_name).unwrap();
    assert_os_error(client.security_descriptor(), ERROR_ACCESS_DENIED, "not asked for");
}

async fn whom_the_list_leaves_out_is_refused<F: Family>() {
    if skipped_under_wine("security::whom_the_list_leaves_out_is_refused", "access lists are not enforced") {
        return;
    }
    let name = unique_name();
    // The owner keeps the right to look (READ_CONTROL) and to change the list, and gets no other.
    let nobody: SecurityDescriptor = "D:".parse().unwrap();
    let mut options = ServerOptions::new();
    let _server = F::create(options.security_descriptor(&nobody), &name).unwrap();
    assert_os_error(F::open(&ClientOptions::new(), &name), ERROR_ACCESS_DENIED, "a client");
    assert_os_error(F::create(&options, &name), ERROR_ACCESS_DENIED, "a second instance");
}

async fn reading_only<F: Family>() {
    if skipped_under_wine("security::reading_only", "access lists are not enforced") {
        return;
    }
    let name = unique_name();
    let readable: SecurityDescriptor = "D:(A;;FR;;;WD)".parse().unwrap();
    let _server = F::create(ServerOptions::new().security_descriptor(&readable), &name).unwrap();
    assert_os_error(F::open(&ClientOptions::new(), &name), ERROR_ACCESS_DENIED, "writing too");
    let mut reads_messages = ClientOptions::new();
    reads_messages.write(false).write_attributes(true);
    assert_os_error(F::open(&reads_messages, &name), ERROR_ACCESS_DENIED, "changing the mode too");
    F::open(ClientOptions::new().write(false), &name).expect("reading is allowed");
}

/// The right to create instances is not needed for being a client, though `GENERIC_WRITE` contains
/// it.
async fn clients_connect_and_cannot_serve<F: Family>() {
    if skipped_under_wine("security::clients_connect_and_cannot_serve", "access lists are not enforced") {
        return;
    }
    let name = unique_name();
    let access = SecurityDescriptor::builder().allow(Trustee::CurrentUser, Access::Connect).build().unwrap();
    let mut options = ServerOptions::new();
    let server = F::create(options.security_descriptor(&access), &name).unwrap();
    let _client = F::open(&ClientOptions::new(), &name).expect("reading and writing is allowed");
    server.connect().within("connect").await.unwrap();
    assert_os_error(F::create(&options, &name), ERROR_ACCESS_DENIED, "an instance beside the server's");
}

async fn one_direction_is_a_right_of_its_own<F: Family>() {
    if skipped_under_wine("security::one_direction_is_a_right_of_its_own", "access lists are not enforced") {
        return;
    }
    for (allowed, access) in [(true, Access::Read), (false, Access::Write)] {
        let name = unique_name();
        let access = SecurityDescriptor::builder().allow(Trustee::CurrentUser, access).build().unwrap();
        let mut options = ServerOptions::new();
        let _server =
            F::create(options.security_descriptor(&access).pipe_mode(PipeMode::Message), &name).unwrap();
        let mut client = ClientOptions::new();
        assert_os_error(F::open(&client, &name), ERROR_ACCESS_DENIED, "both directions");
        let opened = F::open(client.read(!allowed).write(allowed), &name);
        assert_os_error(opened, ERROR_ACCESS_DENIED, "the other direction");
        client.read(allowed).write(!allowed).pipe_mode(PipeMode::Message);
        F::open(&client, &name).expect("the direction that is allowed");
    }
}

async fn what_is_denied_is_denied_whatever_is_allowed<F: Family>() {
    let test = "security::what_is_denied_is_denied_whatever_is_allowed";
    if skipped_under_wine(test, "access lists are not enforced") {
        return;
    }
    let name = unique_name();
    let access = SecurityDescriptor::builder()
        .allow(Trustee::Everyone, Access::Full)
        .deny(Trustee::CurrentUser, Access::Write)
        .build()
        .unwrap();
    let _server = F::create(ServerOptions::new().security_descriptor(&access), &name).unwrap();
    assert_os_error(F::open(&ClientOptions::new(), &name), ERROR_ACCESS_DENIED, "writing");
    F::open(ClientOptions::new().write(false), &name).expect("reading");
}

/// An anonymous user is another one whom a test can be.
async fn other_users_are_refused<F: Family>() {
    if skipped_under_wine("security::other_users_are_refused", "access lists are not enforced") {
        return;
    }
    let name = unique_name();
    let mine = SecurityDescriptor::current_user_only().unwrap();
    let mut options = ServerOptions::new();
    let _server = F::create(options.security_descriptor(&mine), &name).unwrap();
    let mut reading = ClientOptions::new();
    reading.write(false);
    let opened = sys::anonymously(|| F::open(&reading, &name));
    assert_os_error(opened, ERROR_ACCESS_DENIED, "somebody else's client");
    let created = sys::anonymously(|| F::create(&options, &name));
    assert_os_error(created, ERROR_ACCESS_DENIED, "somebody else's instance");
    F::open(&reading, &name).expect("our own client");
}

async fn the_access_list_can_be_changed<F: Family>() {
    let [before, after]: [SecurityDescriptor; 2] =
        ["D:P(A;;FA;;;WD)", "D:P(A;;0x12019b;;;BA)"].map(|sddl| sddl.parse().unwrap());
    let mut options = ServerOptions::new();
    options.security_descriptor(&before).write_dac(true);
    let (server, client) = pair_with::<F>(&options, &ClientOptions::new()).await;
    let owner = server.security_descriptor().unwrap().owner().cloned();
    server.set_security_descriptor(&after).unwrap();
    for seen in [server.security_descriptor().unwrap(), client.security_descriptor().unwrap()] {
        assert_eq!(seen.access_list(), after.access_list());
        assert_eq!(seen.owner(), owner.as_ref(), "what was not spoken of is as it was");
    }
}

/// The right is asked for when the instance is created, whatever the list says.
async fn changing_is_a_right_of_the_handle<F: Family>() {
    let everything: SecurityDescriptor = "D:P(A;;FA;;;WD)".parse().unwrap();
    let mine = SecurityDescriptor::current_user_only().unwrap();
    for (write_dac, write_owner) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut options = ServerOptions::new();
        options.security_descriptor(&everything).write_dac(write_dac).write_owner(write_owner);
        let (server, _client) = pair_with::<F>(&options, &ClientOptions::new()).await;
        let list = server.set_security_descriptor(&everything);
        let owner_and_list = server.set_security_descriptor(&mine);
        let seen = server.security_descriptor().unwrap();
        if write_dac {
            list.unwrap();
        } else {
            assert_os_error(list, ERROR_ACCESS_DENIED, "the access list");
        }
        if write_dac && write_owner {
            owner_and_list.unwrap();
            assert_eq!((seen.owner(), seen.access_list()), (Some(&me()), mine.access_list()));
        } else {
            assert_os_error(owner_and_list, ERROR_ACCESS_DENIED, "the owner and the access list");
            assert_eq!(seen.access_list(), everything.access_list());
        }
    }
}

/// Audit lists need a privilege. Without it the call fails, and does not change the other parts.
async fn a_part_that_cannot_be_applied_is_an_error<F: Family>() {
    let before: SecurityDescriptor = "D:P(A;;FA;;;WD)".parse().unwrap();
    let mut options = ServerOptions::new();
    options.security_descriptor(&before).write_dac(true).write_owner(true);
    let (server, _client) = pair_with::<F>(&options, &ClientOptions::new()).await;
    for sddl in [
        "S:(AU;SA;FA;;;WD)",
        "S:",
        "D:P(A;;FA;;;BA)S:(AU;SA;FA;;;WD)",
        "D:P(A;;FA;;;BA)S:(ML;;NW;;;LW)(AU;FA;FA;;;WD)",
        "D:P(A;;FA;;;BA)S:",
    ] {
        let error = server.set_security_descriptor(&sddl.parse().unwrap()).expect_err(sddl);
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{sddl}: {error:?}");
        assert_eq!(server.security_descriptor().unwrap().access_list(), before.access_list(), "{sddl}");
    }
    for sddl in [
        "D:P(A;;FA;;;BA)S:(ML;;0x8;;;LW)",
        "D:P(A;;FA;;;BA)S:(ML;OICIIO;NW;;;LW)",
        "D:P(A;;FA;;;BA)S:(ML;;NW;;;SY)",
        "D:P(A;;FA;;;BA)S:(ML;;NW;;;LW)(ML;;NW;;;LW)",
        "D:P(A;;FA;;;BA)S:(AL;SA;FA;;;WD)",
    ] {
        // Windows' own reader of SDDL refuses some of them.
        let Ok(descriptor) = SecurityDescriptor::from_sddl(sddl) else { continue };
        let error = server.set_security_descriptor(&descriptor).expect_err(sddl);
        assert_eq!((error.kind(), error.raw_os_error()), (io::ErrorKind::InvalidInput, None), "{sddl}");
        assert_eq!(server.security_descriptor().unwrap().access_list(), before.access_list(), "{sddl}");
    }
}

async fn a_label_is_applied_whatever_its_policies<F: Family>() {
    let mut options = ServerOptions::new();
    options.write_dac(true).write_owner(true);
    let (server, client) = pair_with::<F>(&options, &ClientOptions::new()).await;
    for policies in ["NW", "NR", "NX", "NWNR", "NWNRNX"] {
        for (level, integrity) in [("LW", Integrity::Low), ("ME", Integrity::Medium)] {
            let label = format!("S:(ML;;{policies};;;{level})").parse().unwrap();
            server.set_security_descriptor(&label).unwrap();
            assert_eq!(client.security_descriptor().unwrap().integrity(), Some(integrity), "{policies}");
        }
    }
    // What was read can be written back.
    server.set_security_descriptor(&server.security_descriptor().unwrap()).unwrap();
}

async fn a_pipe_is_not_created_with_a_label_without_effect<F: Family>() {
    for sddl in ["S:(ML;OICIIO;NW;;;LW)", "S:(ML;;NW;;;SY)", "D:(A;;FA;;;WD)S:(ML;;0x8;;;LW)"] {
        let Ok(descriptor) = SecurityDescriptor::from_sddl(sddl) else { continue };
        let name = unique_name();
        let created = F::create(ServerOptions::new().security_descriptor(&descriptor), &name);
        let error = created.expect_err(sddl);
        assert_eq!((error.kind(), error.raw_os_error()), (io::ErrorKind::InvalidInput, None), "{sddl}");
    }
}

async fn who_comes_later_is_checked_against_the_new_list<F: Family>() {
    let test = "security::who_comes_later_is_checked_against_the_new_list";
    if skipped_under_wine(test, "access lists are not enforced") {
        return;
    }
    let name = unique_name();
    let everything: SecurityDescriptor = "D:P(A;;FA;;;WD)".parse().unwrap();
    let mut options = ServerOptions::new();
    options.security_descriptor(&everything).write_dac(true);
    let server = F::create(&options, &name).unwrap();
    let _idle = F::create(&options, &name).unwrap();
    let mut client = F::open(&ClientOptions::new(), &name).unwrap();
    server.connect().within("connect").await.unwrap();
    server.set_security_descriptor(&"D:P".parse().unwrap()).unwrap();
    assert_os_error(F::open(&ClientOptions::new(), &name), ERROR_ACCESS_DENIED, "the next client");
    client.write_all(b"still here").within("write").await.unwrap();
}

/// The options are values: one set makes instances, and a listener's are all alike.
async fn every_instance_has_it<F: Family>() {
    let given: SecurityDescriptor = "D:(A;;FA;;;WD)".parse().unwrap();
    let name = unique_name();
    let mut listener = F::listen(ServerOptions::new().security_descriptor(&given), &name).unwrap();
    for _ in 0..3 {
        let client = F::open(&ClientOptions::new(), &name).unwrap();
        let server = listener.accept().within("accept").await.unwrap();
        assert_eq!(server.security_descriptor().unwrap().access_list(), given.access_list());
        assert_eq!(client.security_descriptor().unwrap().access_list(), given.access_list());
    }
}

for_each_family!(
    a_pipe_has_the_descriptor_it_was_given,
    generic_rights_are_mapped,
    without_one_it_is_the_systems,
    looking_is_a_right_of_its_own,
    whom_the_list_leaves_out_is_refused,
    reading_only,
    clients_connect_and_cannot_serve,
    one_direction_is_a_right_of_its_own,
    what_is_denied_is_denied_whatever_is_allowed,
    other_users_are_refused,
    every_instance_has_it,
    the_access_list_can_be_changed,
    changing_is_a_right_of_the_handle,
    a_part_that_cannot_be_applied_is_an_error,
    a_label_is_applied_whatever_its_policies,
    a_pipe_is_not_created_with_a_label_without_effect,
    who_comes_later_is_checked_against_the_new_list,
);
