//! Coming from Tokio is one `use` line: the same source is compiled, and run, once against Tokio's
//! module and once against this crate. What it pins is how users write against Tokio's API, item by
//! item.
#![cfg(all(windows, feature = "tokio"))]

/// A module that uses every public item of `tokio::net::windows::named_pipe`, imported from
/// `$library`.
macro_rules! written_for_tokio {
    ($name:ident, use $library:path) => {
        mod $name {
            use std::ffi::{OsStr, OsString, c_void};
            use std::future::Future;
            use std::hash::Hash;
            use std::io::{self, IoSlice, IoSliceMut};
            use std::os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle, RawHandle};
            use std::panic::{RefUnwindSafe, UnwindSafe};
            use std::path::PathBuf;
            use std::task::{Context, Poll};

            use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};

            // The line that changes.
            use $library::{
                ClientOptions, NamedPipeClient, NamedPipeServer, PipeEnd, PipeInfo, PipeMode, ServerOptions,
            };

            fn pipe<P>()
            where
                P: AsyncRead + AsyncWrite + AsRawHandle + AsHandle + std::fmt::Debug,
                P: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe + 'static,
            {
            }

            fn future<T, F: Future<Output = T> + Send>(future: F) -> F {
                future
            }

            #[test]
            fn types_have_the_same_traits() {
                fn options<O: Clone + std::fmt::Debug + Default + Send + Sync + Unpin + 'static>() {}
                fn plain<V: Copy + std::fmt::Debug + Eq + Hash + Send + Sync + 'static>() {}
                fn info<I: Clone + std::fmt::Debug + Send + Sync + 'static>() {}
                pipe::<NamedPipeServer>();
                pipe::<NamedPipeClient>();
                options::<ServerOptions>();
                options::<ClientOptions>();
                plain::<PipeMode>();
                plain::<PipeEnd>();
                info::<PipeInfo>();
            }

            #[test]
            fn server_options_have_the_same_signatures() {
                type Setter<T> = for<'a> fn(&'a mut ServerOptions, T) -> &'a mut ServerOptions;
                let _: fn() -> ServerOptions = ServerOptions::new;
                let _: Setter<PipeMode> = ServerOptions::pipe_mode;
                let _: [Setter<bool>; 7] = [
                    ServerOptions::access_inbound,
                    ServerOptions::access_outbound,
                    ServerOptions::first_pipe_instance,
                    ServerOptions::write_dac,
                    ServerOptions::write_owner,
                    ServerOptions::access_system_security,
                    ServerOptions::reject_remote_clients,
                ];
                let _: Setter<usize> = ServerOptions::max_instances;
                let _: [Setter<u32>; 2] = [ServerOptions::out_buffer_size, ServerOptions::in_buffer_size];
                let _: fn(&ServerOptions, &'static str) -> io::Result<NamedPipeServer> =
                    ServerOptions::create;
                let _: fn(&ServerOptions, PathBuf) -> io::Result<NamedPipeServer> = ServerOptions::create;
                let _: fn(&ServerOptions, &'static OsStr) -> io::Result<NamedPipeServer> =
                    ServerOptions::create;
                let _: unsafe fn(&ServerOptions, String, *mut c_void) -> io::Result<NamedPipeServer> =
                    ServerOptions::create_with_security_attributes_raw;
            }

            #[test]
            fn client_options_have_the_same_signatures() {
                type Setter<T> = for<'a> fn(&'a mut ClientOptions, T) -> &'a mut ClientOptions;
                let _: fn() -> ClientOptions = ClientOptions::new;
                let _: [Setter<bool>; 2] = [ClientOptions::read, ClientOptions::write];
                let _: Setter<u32> = ClientOptions::security_qos_flags;
                let _: Setter<PipeMode> = ClientOptions::pipe_mode;
                let _: fn(&ClientOptions, &'static str) -> io::Result<NamedPipeClient> = ClientOptions::open;
                let _: fn(&ClientOptions, OsString) -> io::Result<NamedPipeClient> = ClientOptions::open;
                let _: unsafe fn(&ClientOptions, String, *mut c_void) -> io::Result<NamedPipeClient> =
                    ClientOptions::open_with_security_attributes_raw;
            }

            /// The calls both ends have.
            macro_rules! end_has_the_same_signatures {
                ($test:ident, $pipe:ty) => {
                    #[test]
                    fn $test() {
                        let _: unsafe fn(RawHandle) -> io::Result<$pipe> = <$pipe>::from_raw_handle;
                        let _: fn(&$pipe) -> io::Result<PipeInfo> = <$pipe>::info;
                        let _: fn(&$pipe, &mut Context<'_>) -> Poll<io::Result<()>> =
                            <$pipe>::poll_read_ready;
                        let _: fn(&$pipe, &mut Context<'_>) -> Poll<io::Result<()>> =
                            <$pipe>::poll_write_ready;
                        let _: fn(&$pipe, &mut [u8]) -> io::Result<usize> = <$pipe>::try_read;
                        let _: fn(&$pipe, &mut [IoSliceMut<'_>]) -> io::Result<usize> =
                            <$pipe>::try_read_vectored;
                        let _: fn(&$pipe, &mut Vec<u8>) -> io::Result<usize> = <$pipe>::try_read_buf;
                        let _: fn(&$pipe, &[u8]) -> io::Result<usize> = <$pipe>::try_write;
                        let _: fn(&$pipe, &[IoSlice<'_>]) -> io::Result<usize> = <$pipe>::try_write_vectored;
                        let _ = |pipe: &$pipe| -> io::Result<String> {
                            pipe.try_io(Interest::WRITABLE, || Ok(String::new()))
                        };
                        let _ = |pipe: &$pipe| -> RawHandle { pipe.as_raw_handle() };
                        fn handle(pipe: &$pipe) -> BorrowedHandle<'_> {
                            pipe.as_handle()
                        }
                        let _ = handle;
                        async fn waits(pipe: &$pipe) -> io::Result<()> {
                            let ready = future(pipe.ready(Interest::READABLE | Interest::WRITABLE)).await?;
                            let _: [bool; 6] = [
                                ready.is_readable(),
                                ready.is_writable(),
                                ready.is_read_closed(),
                                ready.is_write_closed(),
                                ready.is_empty(),
                                ready.is_error(),
                            ];
                            let _: tokio::io::Ready = ready.into();
                            future(pipe.readable()).await?;
                            future(pipe.writable()).await?;
                            let mut calls = 0;
                            let _: String = future(pipe.async_io(Interest::READABLE, || {
                                calls += 1;
                                Ok(String::new())
                            }))
                            .await?;
                            Ok(())
                        }
                        let _ = waits;
                    }
                };
            }

            end_has_the_same_signatures!(server_has_the_same_signatures, NamedPipeServer);
            end_has_the_same_signatures!(client_has_the_same_signatures, NamedPipeClient);

            #[test]
            fn server_connects_and_disconnects_by_reference() {
                async fn connects(server: &NamedPipeServer) -> io::Result<()> {
                    future(server.connect()).await
                }
                let _ = connects;
                let _: fn(&NamedPipeServer) -> io::Result<()> = NamedPipeServer::disconnect;
            }

            #[test]
            fn info_has_the_same_fields() {
                let _ = |info: PipeInfo| -> (PipeMode, PipeEnd, u32, u32, u32) {
                    match (info.mode, info.end) {
                        (PipeMode::Byte | PipeMode::Message, PipeEnd::Client | PipeEnd::Server) => {}
                        // Both are `non_exhaustive`.
                        _ => {}
                    }
                    (info.mode, info.end, info.max_instances, info.out_buffer_size, info.in_buffer_size)
                };
            }

            /// The server loop as Tokio documents it, with a client that retries while the pipe is busy.
            #[tokio::test]
            async fn documented_loop_runs() -> io::Result<()> {
                const CLIENTS: usize = 10;
                const ERROR_PIPE_BUSY: i32 = 231;
                let name = format!(r"\\.\pipe\npipe-migration-{}-{}", stringify!($name), std::process::id());
                let mut server = ServerOptions::new().create(&name)?;
                let server_name = name.clone();
                let server = tokio::spawn(async move {
                    for _ in 0..CLIENTS {
                        server.connect().await?;
                        let mut connected = server;
                        server = ServerOptions::new().create(&server_name)?;
                        tokio::spawn(async move {
                            let mut request = [0; 4];
                            connected.read_exact(&mut request).await?;
                            connected.write_all(&request).await?;
                            connected.flush().await?;
                            // Until the client has read its reply and left.
                            connected.read(&mut request).await
                        });
                    }
                    Ok::<_, io::Error>(())
                });
                for _ in 0..CLIENTS {
                    let mut client = loop {
                        match ClientOptions::new().open(&name) {
                            Ok(client) => break client,
                            Err(error) if error.raw_os_error() == Some(ERROR_PIPE_BUSY) => {}
                            Err(error) => return Err(error),
                        }
                        tokio::task::yield_now().await;
                    };
                    let (mut reader, mut writer) = tokio::io::split(&mut client);
                    writer.write_all(b"ping").await?;
                    let mut reply = [0; 4];
                    reader.read_exact(&mut reply).await?;
                    assert_eq!(&reply, b"ping");
                }
                server.await?
            }
        }
    };
}

written_for_tokio!(with_tokio, use tokio::net::windows::named_pipe);
written_for_tokio!(with_npipe, use npipe);
