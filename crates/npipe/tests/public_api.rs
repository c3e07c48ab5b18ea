//! Properties of the public items that no behaviour shows: the auto traits, `#[must_use]`, and the
//! names from Win32 under which rustdoc's search finds them.

use std::fs;
use std::path::Path;

/// Functions, flags, parameters, errors and their numbers that a user of named pipes searches for.
const WIN32: &[&str] = &[
    "CallNamedPipe",
    "CancelIoEx",
    "CancelSynchronousIo",
    "ConnectNamedPipe",
    "CreateFile",
    "CreateIoCompletionPort",
    "CreateNamedPipe",
    "DisconnectNamedPipe",
    "DuplicateHandle",
    "FlushFileBuffers",
    "GetNamedPipeClientComputerName",
    "GetNamedPipeClientProcessId",
    "GetNamedPipeClientSessionId",
    "GetNamedPipeHandleState",
    "GetNamedPipeInfo",
    "GetNamedPipeServerProcessId",
    "GetNamedPipeServerSessionId",
    "GetQueuedCompletionStatus",
    "GetSecurityInfo",
    "ImpersonateNamedPipeClient",
    "PeekNamedPipe",
    "ReadFile",
    "RevertToSelf",
    "SetFileCompletionNotificationModes",
    "SetNamedPipeHandleState",
    "SetSecurityInfo",
    "TransactNamedPipe",
    "WaitNamedPipe",
    "WriteFile",
    "ERROR_FILE_NOT_FOUND",
    "2",
    "ERROR_ACCESS_DENIED",
    "5",
    "ERROR_BROKEN_PIPE",
    "109",
    "ERROR_SEM_TIMEOUT",
    "ERROR_BAD_PIPE",
    "230",
    "ERROR_PIPE_BUSY",
    "231",
    "ERROR_NO_DATA",
    "232",
    "ERROR_PIPE_NOT_CONNECTED",
    "233",
    "ERROR_MORE_DATA",
    "234",
    "ERROR_PIPE_CONNECTED",
    "535",
    "ERROR_PIPE_LISTENING",
    "536",
    "ERROR_OPERATION_ABORTED",
    "995",
    "ACCESS_SYSTEM_SECURITY",
    "FILE_FLAG_FIRST_PIPE_INSTANCE",
    "FILE_FLAG_OVERLAPPED",
    "FILE_WRITE_ATTRIBUTES",
    "GENERIC_READ",
    "GENERIC_WRITE",
    "PIPE_ACCEPT_REMOTE_CLIENTS",
    "PIPE_ACCESS_DUPLEX",
    "PIPE_ACCESS_INBOUND",
    "PIPE_ACCESS_OUTBOUND",
    "PIPE_READMODE_BYTE",
    "PIPE_READMODE_MESSAGE",
    "PIPE_REJECT_REMOTE_CLIENTS",
    "PIPE_TYPE_BYTE",
    "PIPE_TYPE_MESSAGE",
    "PIPE_UNLIMITED_INSTANCES",
    "READ_CONTROL",
    "SECURITY_ANONYMOUS",
    "SECURITY_CONTEXT_TRACKING",
    "SECURITY_DELEGATION",
    "SECURITY_IDENTIFICATION",
    "SECURITY_IMPERSONATION",
    "SECURITY_SQOS_PRESENT",
    "WRITE_DAC",
    "WRITE_OWNER",
    "bInheritHandle",
    "dwOpenMode",
    "dwPipeMode",
    "lpSecurityAttributes",
    "nDefaultTimeOut",
    "nInBufferSize",
    "nMaxInstances",
    "nOutBufferSize",
];

#[test]
fn the_names_of_win32_lead_to_what_does_their_work() {
    let mut aliases = String::new();
    collect_aliases(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").as_path(), &mut aliases);
    let missing: Vec<_> = WIN32.iter().filter(|name| !aliases.contains(&format!("\"{name}\""))).collect();
    assert!(missing.is_empty(), "no item has the alias {missing:?}");
}

/// Appends the lines of sources below `folder` that name aliases.
fn collect_aliases(folder: &Path, aliases: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_aliases(&path, aliases);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(path).unwrap();
            for attribute in source.split("#[doc(alias").skip(1) {
                aliases.push_str(attribute.split(']').next().unwrap());
            }
        }
    }
}

#[cfg(windows)]
mod on_windows {
    #![deny(unfulfilled_lint_expectations)]

    use std::panic::{RefUnwindSafe, UnwindSafe};

    use futures_core::FusedStream;
    use futures_lite::StreamExt;
    use npipe::blocking::{self, Canceller, ChildStdio, ConversionError, PipeListener, PipeStream};
    use npipe::readiness::event::{Event, Events, Iter};
    use npipe::readiness::{self, NamedPipe, Registry, Token};
    use npipe::*;

    fn goes_anywhere<T: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe>() {}

    fn goes_to_any_thread<T: Send + Sync + Unpin>() {}

    #[test]
    fn every_type_goes_to_any_thread_and_through_a_panic() {
        goes_anywhere::<NamedPipeServer>();
        goes_anywhere::<NamedPipeClient>();
        goes_anywhere::<OwnedReadHalf<NamedPipeServer>>();
        goes_anywhere::<OwnedWriteHalf<NamedPipeServer>>();
        goes_anywhere::<ReuniteError<NamedPipeClient>>();
        goes_anywhere::<NamedPipeListener>();
        goes_anywhere::<Incoming<NamedPipeListener>>();
        goes_anywhere::<Incoming<&NamedPipeListener>>();
        goes_anywhere::<Messages<NamedPipeServer>>();
        goes_anywhere::<ServerOptions>();
        goes_anywhere::<ClientOptions>();
        goes_anywhere::<PipeName>();
        goes_anywhere::<PipeInfo>();
        goes_anywhere::<PipeMode>();
        goes_anywhere::<PipeEnd>();
        goes_anywhere::<Peek>();
        goes_anywhere::<Interest>();
        goes_anywhere::<Ready>();
        goes_anywhere::<PipeEntry>();
        goes_anywhere::<MessageTooLong>();
        goes_anywhere::<Executor>();
        goes_anywhere::<Task<u8>>();
        #[cfg(feature = "axum")]
        goes_anywhere::<PipeConnectInfo>();
        #[cfg(feature = "hyper-util")]
        goes_anywhere::<PipeConnector>();
        #[cfg(feature = "hyper-util")]
        goes_anywhere::<PipeExecutor>();
        goes_anywhere::<Server>();
        goes_anywhere::<Client>();

        goes_anywhere::<Access>();
        goes_anywhere::<AccessEntry>();
        goes_anywhere::<AccessList>();
        goes_anywhere::<ImpersonationLevel>();
        goes_anywhere::<Integrity>();
        goes_anywhere::<Peer>();
        goes_anywhere::<SecurityDescriptor>();
        goes_anywhere::<SecurityDescriptorBuilder>();
        goes_anywhere::<ServerIdentity>();
        goes_anywhere::<Sid>();
        goes_anywhere::<Trustee>();

        goes_anywhere::<PipeStream>();
        goes_anywhere::<OwnedReadHalf<PipeStream>>();
        goes_anywhere::<OwnedWriteHalf<PipeStream>>();
        goes_anywhere::<PipeListener>();
        goes_anywhere::<blocking::Incoming<'static>>();
        goes_anywhere::<Canceller>();
        goes_anywhere::<ChildStdio>();
        // Holds an `io::Error`, which is not `UnwindSafe`.
        goes_to_any_thread::<ConversionError>();

        goes_anywhere::<readiness::Poll>();
        goes_anywhere::<readiness::Waker>();
        goes_anywhere::<NamedPipe>();
        goes_anywhere::<Registry>();
        goes_anywhere::<Token>();
        goes_anywhere::<Event>();
        goes_anywhere::<Events>();
        goes_anywhere::<Iter<'static>>();
    }

    #[test]
    fn dropping_a_value_that_must_be_used_is_noticed() {
        let (server, client) = pair().unwrap();
        let (reader, _writer) = blocking::pair().unwrap();
        let listener = ServerOptions::new().listen(name("must-use")).unwrap();
        let threads = ServerOptions::new().listen_blocking(name("must-use-threads")).unwrap();
        macro_rules! noticed {
            ($($value:expr),+ $(,)?) => {
                $(
                    #[expect(unused_must_use, reason = "that is the test")]
                    {
                        $value;
                    }
                )+
            };
        }
        noticed!(
            ServerOptions::new(),
            ClientOptions::new(),
            SecurityDescriptor::builder(),
            listener.incoming(),
            threads.incoming(),
            threads.canceller(),
            reader.into_split(),
            server.into_split(),
            Messages::new(client).with_limit(5),
            win32_code(&std::io::ErrorKind::NotFound.into()),
        );
    }

    #[test]
    fn streams_say_that_they_have_ended() {
        block_on(async {
            let listener = ServerOptions::new().listen(name("fused")).unwrap();
            let mut incoming = listener.incoming();
            assert!(!incoming.is_terminated());
            listener.close();
            assert!(incoming.next().await.is_none());
            assert!(incoming.is_terminated());

            let messages = PipeMode::Message;
            let mut server = ServerOptions::new();
            let (server, client) =
                pair_with(server.pipe_mode(messages), ClientOptions::new().pipe_mode(messages)).unwrap();
            let mut received = Messages::new(server);
            client.send_message(b"one").await.unwrap();
            drop(client);
            assert_eq!(received.next().await.unwrap().unwrap(), b"one"[..]);
            assert!(!received.is_terminated());
            assert!(received.next().await.is_none());
            assert!(received.is_terminated());
        });
    }

    fn name(purpose: &str) -> String {
        format!(r"\\.\pipe\npipe-api-{purpose}-{}", std::process::id())
    }
}
