//! The traffic of the cases with a thread for each end, written once for bare overlapped calls,
//! which tell what Windows itself costs, and for the libraries whose calls block.

use std::io::{self, Read, Write};
use std::thread;

use interprocess::os::windows::named_pipe::{DuplexPipeStream, PipeListenerOptions, pipe_mode};
use npipe::blocking::{PipeListener, PipeStream};

use crate::measure::{Round, Stopwatch, unique_pipe_name};
use crate::sys::Pipe;

/// A library whose reads and writes block, or none.
pub(crate) trait BlockingPipes {
    type End: Read + Write + Send;

    /// The server's end and the client's.
    fn connected(name: &str) -> io::Result<(Self::End, Self::End)>;
}

/// Overlapped calls with nothing around them.
pub(crate) struct Bare;

impl BlockingPipes for Bare {
    type End = Pipe;

    fn connected(name: &str) -> io::Result<(Pipe, Pipe)> {
        let mut server = Pipe::create(name)?;
        let client = Pipe::open(name)?;
        server.connect()?;
        Ok((server, client))
    }
}

/// This repository's library.
pub(crate) struct NpipeBlocking;

impl BlockingPipes for NpipeBlocking {
    type End = PipeStream;

    fn connected(name: &str) -> io::Result<(PipeStream, PipeStream)> {
        let listener = PipeListener::bind(name)?;
        let client = PipeStream::connect(name)?;
        Ok((listener.accept()?, client))
    }
}

/// The crate `interprocess`.
pub(crate) struct Interprocess;

impl BlockingPipes for Interprocess {
    type End = DuplexPipeStream<pipe_mode::Bytes>;

    fn connected(name: &str) -> io::Result<(Self::End, Self::End)> {
        let path = std::path::Path::new(name);
        let listener = PipeListenerOptions::new().path(path).create_duplex::<pipe_mode::Bytes>()?;
        let client = DuplexPipeStream::connect_by_path(path)?;
        Ok((listener.accept()?, client))
    }
}

/// As `traffic::bulk`.
pub(crate) fn bulk<P: BlockingPipes>(chunk: usize, operations: u32) -> io::Result<Round> {
    let (mut server, mut client) = P::connected(&unique_pipe_name())?;
    let watch = Stopwatch::start();
    thread::scope(|scope| {
        // Borrowed, so that no library's way of dropping an end is in the time that is taken.
        let server = &mut server;
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
pub(crate) fn exchanges<P: BlockingPipes>(size: usize, operations: u32) -> io::Result<Round> {
    let (mut server, mut client) = P::connected(&unique_pipe_name())?;
    let watch = Stopwatch::start();
    thread::scope(|scope| {
        let server = &mut server;
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

/// As `traffic::connect_accept`, over bare calls.
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
