//! A pipe server in an existing event loop of mio's, beside a TCP listener: whoever asks, over the
//! one or the other, is told the length of its question.
//!
//!     cargo run --example mio_loop --features mio

#[cfg(windows)]
fn main() -> std::io::Result<()> {
    event_loop::run()
}

#[cfg(not(windows))]
fn main() {
    println!("Named pipes are Windows'; build this example for Windows.");
}

#[cfg(windows)]
mod event_loop {
    use std::collections::HashMap;
    use std::io::{self, Read, Write};
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::time::Duration;

    use mio::net::{TcpListener, TcpStream};
    use npipe::readiness::{Interest, NamedPipe, Poll, Token};

    const LISTENER: mio::Token = mio::Token(0);
    /// Something has become ready among the pipes.
    const PIPES: mio::Token = mio::Token(1);
    const PIPE: Token = Token(0);

    pub(crate) fn run() -> io::Result<()> {
        let name = format!(r"\\.\pipe\npipe-mio-loop-{}", std::process::id());
        let mut sockets = mio::Poll::new()?;
        let waker = Arc::new(mio::Waker::new(sockets.registry(), PIPES)?);
        let mut pipes = Poll::attach(waker)?;

        let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        sockets.registry().register(&mut listener, LISTENER, mio::Interest::READABLE)?;
        let mut pipe = NamedPipe::new(&name)?;
        pipes.registry().register(&mut pipe, PIPE, Interest::READABLE | Interest::WRITABLE)?;
        wait_for_client(&pipe)?;

        let asking = std::thread::spawn({
            let address = listener.local_addr()?;
            move || ask(address, &name)
        });

        let mut connections = HashMap::new();
        let mut socket_events = mio::Events::with_capacity(64);
        let mut pipe_events = npipe::readiness::Events::with_capacity(64);
        while !asking.is_finished() {
            sockets.poll(&mut socket_events, Some(Duration::from_millis(100)))?;
            for event in &socket_events {
                match event.token() {
                    LISTENER => accept(&listener, &sockets, &mut connections)?,
                    PIPES => {
                        pipes.poll(&mut pipe_events, Some(Duration::ZERO))?;
                        if !pipe_events.is_empty() && !answer(&mut pipe)? {
                            pipe.disconnect()?;
                            wait_for_client(&pipe)?;
                        }
                    }
                    token => {
                        if let Some(connection) = connections.get_mut(&token)
                            && !answer(connection)?
                        {
                            connections.remove(&token);
                        }
                    }
                }
            }
        }
        asking.join().expect("the clients do not panic")
    }

    /// The answer to this is an event.
    fn wait_for_client(pipe: &NamedPipe) -> io::Result<()> {
        match pipe.connect() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    fn accept(
        listener: &TcpListener,
        sockets: &mio::Poll,
        connections: &mut HashMap<mio::Token, TcpStream>,
    ) -> io::Result<()> {
        loop {
            match listener.accept() {
                Ok((mut connection, _)) => {
                    let token =
                        (PIPES.0 + 1..).map(mio::Token).find(|token| !connections.contains_key(token));
                    let token = token.expect("there are more tokens than connections");
                    sockets.registry().register(&mut connection, token, mio::Interest::READABLE)?;
                    connections.insert(token, connection);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Answers what there is. `false`: the other end has left. A socket and a pipe are alike in
    /// this.
    fn answer(connection: &mut (impl Read + Write)) -> io::Result<bool> {
        let mut question = [0; 256];
        loop {
            match connection.read(&mut question) {
                Ok(0) => return Ok(false),
                // There is always room for as little as this. More would have to be kept until the next
                // writable event.
                Ok(count) => connection.write_all(format!("{count} bytes").as_bytes())?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
    }

    /// The clients, of the blocking kind, so that the loop above has something to do.
    fn ask(address: SocketAddr, name: &str) -> io::Result<()> {
        let mut socket = std::net::TcpStream::connect(address)?;
        println!("over TCP: {}", exchange(&mut socket, "how long is this?")?);
        for question in ["and this?", "and this one?"] {
            let mut pipe = loop {
                match std::fs::File::options().read(true).write(true).open(name) {
                    // The instance is with the last client still.
                    Err(error) if error.raw_os_error() == Some(231) => std::thread::yield_now(),
                    result => break result?,
                }
            };
            println!("over the pipe: {}", exchange(&mut pipe, question)?);
        }
        Ok(())
    }

    fn exchange(connection: &mut (impl Read + Write), question: &str) -> io::Result<String> {
        connection.write_all(question.as_bytes())?;
        let mut answer = [0; 256];
        let count = connection.read(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer[..count]).into_owned())
    }
}
