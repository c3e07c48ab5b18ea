//! A pipe in front of a TCP server, with two threads for each client and no runtime.
//!
//!     cargo run --example pipe_to_tcp -- NAME HOST:PORT [messages | inbound | outbound]
//!
//! With `messages`, the pipe carries messages, and an empty one ends a direction, as Docker does
//! it. With `inbound` or `outbound`, clients only send, or only receive.

#[cfg(windows)]
fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (name, server, kind) = match &arguments[..] {
        [name, server] => (name, server, ""),
        [name, server, kind] => (name, server, kind.as_str()),
        _ => return Err(std::io::Error::other("say the pipe's NAME and the server's HOST:PORT")),
    };
    let mut options = npipe::ServerOptions::new();
    match kind {
        "" => {}
        "messages" => drop(options.pipe_mode(npipe::PipeMode::Message)),
        "inbound" => drop(options.access_outbound(false)),
        "outbound" => drop(options.access_inbound(false)),
        _ => return Err(std::io::Error::other("a pipe is one of messages, inbound or outbound")),
    }
    let listener = options.listen_blocking(name)?;
    println!("listening on {}", listener.local_name());
    std::thread::scope(|scope| {
        for client in listener.incoming() {
            let client = client?;
            scope.spawn(move || {
                // One client's failure is no reason to turn away the others.
                if let Err(error) = join(&client, server, kind) {
                    eprintln!("a client's connection to {server} failed: {error}");
                }
            });
        }
        Ok(())
    })
}

/// Both ends are read and written by reference, so each direction can have a thread.
#[cfg(windows)]
fn join(client: &npipe::blocking::PipeStream, server: &str, kind: &str) -> std::io::Result<()> {
    use std::net::{Shutdown, TcpStream};
    use std::time::Duration;

    let server = TcpStream::connect(server)?;
    // Small replies would otherwise wait for an acknowledgement.
    server.set_nodelay(true)?;
    if kind == "inbound" {
        return std::io::copy(&mut &*client, &mut &server).map(drop);
    }
    if kind == "outbound" {
        return std::io::copy(&mut &server, &mut &*client).map(drop);
    }
    let half_closes = kind == "messages";
    client.set_empty_message_is_end(half_closes)?;
    std::thread::scope(|scope| {
        let requests = scope.spawn(|| {
            let copied = std::io::copy(&mut &*client, &mut &server);
            // A server that is told "that was all" may still answer.
            server.shutdown(Shutdown::Write).and(copied)
        });
        let replies = std::io::copy(&mut &server, &mut &*client);
        if half_closes {
            client.close_write(Duration::from_secs(10))?;
            drop(requests.join());
            return replies.map(drop);
        }
        // Another thread still reads, so the pipe cannot be closed; to disconnect ends that read, and the
        // client sees ERROR_PIPE_NOT_CONNECTED. What it has not read by then would be discarded, so
        // that is waited for.
        let ended = client.drain().and_then(|()| client.disconnect());
        drop(requests.join());
        replies.and(ended)
    })
}

#[cfg(not(windows))]
fn main() {
    println!("Named pipes are Windows'; build this example for Windows.");
}
