//! The traffic of the cases over compio: completions with owned buffers, a runtime of one thread
//! that waits on the port itself.

use std::io;

use compio::fs::named_pipe::{ClientOptions, NamedPipeClient, NamedPipeServer, ServerOptions};
use compio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use compio::runtime::Runtime;

use crate::measure::{Round, Stopwatch, unique_pipe_name};

/// As `traffic::bulk`.
pub(crate) fn bulk(chunk: usize, operations: u32) -> io::Result<Round> {
    Runtime::new()?.block_on(async {
        let (mut server, mut client) = connected().await?;
        let watch = Stopwatch::start();
        let writer = compio::runtime::spawn(async move {
            let mut data = vec![b'x'; chunk];
            for _ in 0..operations {
                let written = server.write_all(data).await;
                written.0?;
                data = written.1;
            }
            io::Result::Ok(())
        });
        let mut buffer = Vec::with_capacity(chunk);
        let mut left = chunk * operations as usize;
        while left > 0 {
            buffer.clear();
            let read = client.read(buffer).await;
            match read.0? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                bytes => left -= bytes,
            }
            buffer = read.1;
        }
        writer.await.map_err(|_| io::Error::other("the writing task panicked"))??;
        Ok(watch.stop(operations))
    })
}

/// As `traffic::exchanges` with one connection.
pub(crate) fn exchanges(size: usize, operations: u32) -> io::Result<Round> {
    Runtime::new()?.block_on(async {
        let (mut server, mut client) = connected().await?;
        let watch = Stopwatch::start();
        let echo = compio::runtime::spawn(async move {
            let mut buffer = vec![0; size];
            for _ in 0..operations {
                let read = server.read_exact(buffer).await;
                read.0?;
                let written = server.write_all(read.1).await;
                written.0?;
                buffer = written.1;
            }
            io::Result::Ok(())
        });
        let mut buffer = vec![b'x'; size];
        for _ in 0..operations {
            let written = client.write_all(buffer).await;
            written.0?;
            let read = client.read_exact(written.1).await;
            read.0?;
            buffer = read.1;
        }
        echo.await.map_err(|_| io::Error::other("the echoing task panicked"))??;
        Ok(watch.stop(operations))
    })
}

async fn connected() -> io::Result<(NamedPipeServer, NamedPipeClient)> {
    let name = unique_pipe_name();
    let server = ServerOptions::new().create(&name)?;
    let client = ClientOptions::new().open(&name).await?;
    server.connect().await?;
    Ok((server, client))
}
