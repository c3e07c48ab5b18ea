//! The traffic of the cases over bare overlapped calls, two threads: what Windows itself costs.

use std::io;
use std::thread;

use crate::measure::{Round, Stopwatch, unique_pipe_name};
use crate::sys::Pipe;

/// As `traffic::bulk`.
pub(crate) fn bulk(chunk: usize, operations: u32) -> io::Result<Round> {
    let (mut server, mut client) = connected()?;
    let watch = Stopwatch::start();
    thread::scope(|scope| {
        let writer = scope.spawn(move || {
            let data = vec![b'x'; chunk];
            (0..operations).try_for_each(|_| server.write_all(&data))
        });
        let mut buffer = vec![0; chunk];
        let mut left = chunk * operations as usize;
        while left > 0 {
            match client.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => left -= read,
            }
        }
        writer.join().expect("the writing thread does not panic")
    })?;
    Ok(watch.stop(operations))
}

/// As `traffic::exchanges` with one connection.
pub(crate) fn exchanges(size: usize, operations: u32) -> io::Result<Round> {
    let (mut server, mut client) = connected()?;
    let watch = Stopwatch::start();
    thread::scope(|scope| {
        let echo = scope.spawn(move || {
            let mut buffer = vec![0; size];
            (0..operations).try_for_each(|_| {
                server.read_exact(&mut buffer)?;
                server.write_all(&buffer)
            })
        });
        let mut buffer = vec![b'x'; size];
        for _ in 0..operations {
            client.write_all(&buffer)?;
            client.read_exact(&mut buffer)?;
        }
        echo.join().expect("the echoing thread does not panic")
    })?;
    Ok(watch.stop(operations))
}

/// As `traffic::connect_accept`.
pub(crate) fn connect_accept(operations: u32) -> io::Result<Round> {
    let name = unique_pipe_name();
    let mut listening = Pipe::create(&name)?;
    let watch = Stopwatch::start();
    thread::scope(|scope| {
        let accept = scope.spawn(|| {
            (0..operations).try_for_each(|_| {
                listening.connect()?;
                listening = Pipe::create(&name)?;
                Ok(())
            })
        });
        for _ in 0..operations {
            if Pipe::open(&name)?.read(&mut [0])? != 0 {
                return Err(io::Error::other("the server sent something"));
            }
        }
        accept.join().expect("the accepting thread does not panic")
    })?;
    Ok(watch.stop(operations))
}

fn connected() -> io::Result<(Pipe, Pipe)> {
    let name = unique_pipe_name();
    let mut server = Pipe::create(&name)?;
    let client = Pipe::open(&name)?;
    server.connect()?;
    Ok((server, client))
}
