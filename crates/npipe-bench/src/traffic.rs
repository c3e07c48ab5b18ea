//! The traffic of every case with futures, written once for all libraries with Tokio's interface.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::measure::{Round, Stopwatch, unique_pipe_name};
use crate::pipes::{Npipe, Pipes};
use crate::scheduler::{Scheduler, Tasks};

/// One direction, as fast as it goes: an operation is a write of `chunk` bytes, and the reader's
/// buffer is as large.
pub(crate) fn bulk<P: Pipes>(scheduler: Scheduler, chunk: usize, operations: u32) -> io::Result<Round> {
    scheduler.run(async move {
        let (mut server, mut client) = connected::<P>(&unique_pipe_name()).await?;
        let mut tasks = Tasks::new(scheduler);
        let watch = Stopwatch::start();
        tasks.spawn(async move {
            let data = vec![b'x'; chunk];
            for _ in 0..operations {
                server.write_all(&data).await?;
            }
            io::Result::Ok(())
        });
        tasks.spawn(async move {
            let mut buffer = vec![0; chunk];
            let mut left = chunk * operations as usize;
            while left > 0 {
                match client.read(&mut buffer).await? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    read => left -= read,
                }
            }
            Ok(())
        });
        tasks.all().await?;
        Ok(watch.stop(operations))
    })
}

/// [`bulk`] over npipe's calls that take buffers and give them back.
pub(crate) fn bulk_owned(scheduler: Scheduler, chunk: usize, operations: u32) -> io::Result<Round> {
    scheduler.run(async move {
        let (server, client) = connected::<Npipe>(&unique_pipe_name()).await?;
        let mut tasks = Tasks::new(scheduler);
        let watch = Stopwatch::start();
        tasks.spawn(async move {
            let data = Bytes::from(vec![b'x'; chunk]);
            for _ in 0..operations {
                server.write_owned(data.clone()).await?;
            }
            io::Result::Ok(())
        });
        tasks.spawn(async move {
            let mut buffer = BytesMut::new();
            let mut left = chunk * operations as usize;
            while left > 0 {
                buffer.clear();
                buffer.reserve(chunk);
                buffer = client.read_owned(buffer).await?;
                match buffer.len() {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    read => left -= read,
                }
            }
            Ok(())
        });
        tasks.all().await?;
        Ok(watch.stop(operations))
    })
}

/// `connections` pipes at once, each with a request and a response of `size` bytes in turn. An
/// operation is such an exchange; `operations` is the sum over all connections.
pub(crate) fn exchanges<P: Pipes>(
    scheduler: Scheduler,
    connections: u32,
    size: usize,
    operations: u32,
) -> io::Result<Round> {
    scheduler.run(async move {
        let each = operations / connections;
        let mut tasks = Tasks::new(scheduler);
        let start = Arc::new(Barrier::new(connections as usize + 1));
        for _ in 0..connections {
            let (mut server, mut client) = connected::<P>(&unique_pipe_name()).await?;
            tasks.spawn(async move {
                let mut buffer = vec![0; size];
                for _ in 0..each {
                    echo(&mut server, &mut buffer).await?;
                }
                io::Result::Ok(())
            });
            let start = Arc::clone(&start);
            tasks.spawn(async move {
                let mut buffer = vec![b'x'; size];
                start.wait().await;
                for _ in 0..each {
                    client.write_all(&buffer).await?;
                    client.read_exact(&mut buffer).await?;
                }
                Ok(())
            });
        }
        let watch = Arc::new(OnceLock::new());
        let starting = Arc::clone(&watch);
        // A task like the others: some schedulers begin none of them before all are waited for.
        tasks.spawn(async move {
            start.wait().await;
            starting.get_or_init(Stopwatch::start);
            Ok(())
        });
        tasks.all().await?;
        Ok(watch.get_or_init(Stopwatch::start).stop(each * connections))
    })
}

/// Clients that come one after the other: an operation is open, accept, close, and the client
/// seeing the end.
///
/// The server makes the next instance before it lets the connected one go, as Tokio documents it,
/// so no client is ever turned away.
pub(crate) fn connect_accept<P: Pipes>(scheduler: Scheduler, operations: u32) -> io::Result<Round> {
    scheduler.run(async move {
        let name = unique_pipe_name();
        let mut listening = P::create(&name)?;
        let mut tasks = Tasks::new(scheduler);
        let watch = Stopwatch::start();
        tasks.spawn({
            let name = name.clone();
            async move {
                for _ in 0..operations {
                    P::connect(&listening).await?;
                    drop(std::mem::replace(&mut listening, P::create(&name)?));
                }
                io::Result::Ok(())
            }
        });
        tasks.spawn(async move {
            for _ in 0..operations {
                let mut client = P::open(&name)?;
                if client.read(&mut [0]).await? != 0 {
                    return Err(io::Error::other("the server sent something"));
                }
            }
            Ok(())
        });
        tasks.all().await?;
        Ok(watch.stop(operations))
    })
}

/// `connections` pipes that have each carried one exchange and are idle now, a task waiting in a
/// read at both ends.
///
/// Both ends with their tasks are in this process, so the heap growth of a connection is that of a
/// server and a client.
pub(crate) fn idle<P: Pipes>(scheduler: Scheduler, connections: u32) -> io::Result<Round> {
    /// npipe gives buffers back after about a second without traffic.
    const SETTLE: Duration = Duration::from_secs(2);

    scheduler.run(async move {
        let mut tasks = JoinSet::new();
        // What a library sets up once a process belongs to no connection.
        spawn_idle_connection::<P>(&mut tasks).await?;
        let watch = Stopwatch::start();
        for _ in 0..connections {
            spawn_idle_connection::<P>(&mut tasks).await?;
        }
        tokio::time::sleep(SETTLE).await;
        let round = watch.stop(connections);
        match tasks.try_join_next() {
            None => Ok(round),
            Some(ended) => Err(io::Error::other(format!("an idle connection ended: {ended:?}"))),
        }
    })
}

async fn spawn_idle_connection<P: Pipes>(tasks: &mut JoinSet<io::Result<usize>>) -> io::Result<()> {
    let (mut server, mut client) = connected::<P>(&unique_pipe_name()).await?;
    let mut buffer = [0; 256];
    client.write_all(&buffer).await?;
    echo(&mut server, &mut buffer).await?;
    client.read_exact(&mut buffer).await?;
    tasks.spawn(async move { server.read(&mut [0]).await });
    tasks.spawn(async move { client.read(&mut [0]).await });
    Ok(())
}

async fn connected<P: Pipes>(name: &str) -> io::Result<(P::Server, P::Client)> {
    let server = P::create(name)?;
    let client = P::open(name)?;
    P::connect(&server).await?;
    Ok((server, client))
}

async fn echo(pipe: &mut (impl AsyncRead + AsyncWrite + Unpin), buffer: &mut [u8]) -> io::Result<()> {
    pipe.read_exact(buffer).await?;
    pipe.write_all(buffer).await
}
