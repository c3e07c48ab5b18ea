//! The traffic of the cases over event loops: both ends in one loop of one thread, written once for
//! mio and for what has the same names.

/// The traffic over the `Poll` and the `NamedPipe` of a library.
macro_rules! event_loop {
    ($(#[$doc:meta])* $module:ident, $library:path, $pipe:path) => {
        $(#[$doc])*
        pub(crate) mod $module {
            use std::io::{self, Read, Write};

            use $library::{Events, Interest, Poll, Token};
            use $pipe as NamedPipe;

            use crate::measure::{Round, Stopwatch, unique_pipe_name};
            use crate::sys;

            const SERVER: Token = Token(0);
            const CLIENT: Token = Token(1);

            struct Loop {
                poll: Poll,
                events: Events,
                server: NamedPipe,
                client: NamedPipe,
            }

            impl Loop {
                fn new() -> io::Result<Self> {
                    let name = unique_pipe_name();
                    let poll = Poll::new()?;
                    let mut server = NamedPipe::new(&name)?;
                    let mut client = sys::open_overlapped::<NamedPipe>(&name)?;
                    let both = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut server, SERVER, both)?;
                    poll.registry().register(&mut client, CLIENT, both)?;
                    match server.connect() {
                        Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                        _ => {}
                    }
                    Ok(Self { poll, events: Events::with_capacity(8), server, client })
                }

                fn wait(&mut self) -> io::Result<()> {
                    self.poll.poll(&mut self.events, None)
                }
            }

            /// As `traffic::bulk`.
            pub(crate) fn bulk(chunk: usize, operations: u32) -> io::Result<Round> {
                let mut ends = Loop::new()?;
                let data = vec![b'x'; chunk];
                let mut buffer = vec![0; chunk];
                let mut unwritten = chunk * operations as usize;
                let mut unread = unwritten;
                let watch = Stopwatch::start();
                while unread > 0 {
                    while unwritten > 0 {
                        // As `write_all` would have it: what is left of a write, not a new one.
                        let rest = (unwritten - 1) % chunk + 1;
                        match done(ends.server.write(&data[..rest]))? {
                            Some(written) => unwritten -= written,
                            None => break,
                        }
                    }
                    while unread > 0 {
                        match done(ends.client.read(&mut buffer))? {
                            Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                            Some(read) => unread -= read,
                            None => break,
                        }
                    }
                    if unread > 0 {
                        ends.wait()?;
                    }
                }
                Ok(watch.stop(operations))
            }

            /// As `traffic::exchanges` with one connection.
            pub(crate) fn exchanges(size: usize, operations: u32) -> io::Result<Round> {
                let mut ends = Loop::new()?;
                let mut buffer = vec![b'x'; size];
                let watch = Stopwatch::start();
                for _ in 0..operations {
                    send(&mut ends, CLIENT, &buffer)?;
                    receive(&mut ends, SERVER, &mut buffer)?;
                    send(&mut ends, SERVER, &buffer)?;
                    receive(&mut ends, CLIENT, &mut buffer)?;
                }
                Ok(watch.stop(operations))
            }

            fn end(ends: &mut Loop, which: Token) -> &mut NamedPipe {
                if which == SERVER { &mut ends.server } else { &mut ends.client }
            }

            fn send(ends: &mut Loop, from: Token, mut data: &[u8]) -> io::Result<()> {
                while !data.is_empty() {
                    match done(end(ends, from).write(data))? {
                        Some(written) => data = &data[written..],
                        None => ends.wait()?,
                    }
                }
                Ok(())
            }

            fn receive(ends: &mut Loop, at: Token, buffer: &mut [u8]) -> io::Result<()> {
                let mut filled = 0;
                while filled < buffer.len() {
                    match done(end(ends, at).read(&mut buffer[filled..]))? {
                        Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                        Some(read) => filled += read,
                        None => ends.wait()?,
                    }
                }
                Ok(())
            }

            /// `None`: it would block.
            fn done(result: io::Result<usize>) -> io::Result<Option<usize>> {
                match result {
                    Ok(count) => Ok(Some(count)),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                    Err(error) => Err(error),
                }
            }
        }
    };
}

event_loop!(
    /// This repository's library.
    npipe, npipe::readiness, npipe::readiness::NamedPipe
);
event_loop!(
    /// mio.
    mio, mio, mio::windows::NamedPipe
);
