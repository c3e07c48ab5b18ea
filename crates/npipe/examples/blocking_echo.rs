//! An echo server and its clients with threads and nothing else: no runtime.
//!
//!     cargo run --example blocking_echo -- serve [NAME [CONNECTIONS]]
//!     cargo run --example blocking_echo -- ask [NAME [TEXT]]
//!
//! The server serves `\\.\pipe\npipe-blocking-echo`, or the pipe NAME, until CONNECTIONS clients
//! have come.

#[cfg(windows)]
fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve", ref rest @ ..] => {
            let connections = rest.get(1).map_or(Ok(usize::MAX), |number| number.parse());
            serve(name(rest), connections.map_err(std::io::Error::other)?)
        }
        ["ask", ref rest @ ..] => ask(name(rest), rest.get(1).unwrap_or(&"hello through the pipe")),
        _ => Err(std::io::Error::other("say `serve` or `ask`")),
    }
}

#[cfg(windows)]
fn name<'a>(arguments: &[&'a str]) -> &'a str {
    arguments.first().copied().unwrap_or("npipe-blocking-echo")
}

#[cfg(windows)]
fn serve(name: &str, connections: usize) -> std::io::Result<()> {
    // If somebody else has the name already, that is an error and not a surprise.
    let listener = npipe::blocking::PipeListener::bind(name)?;
    println!("listening on {}", listener.local_name());
    std::thread::scope(|scope| {
        for stream in listener.incoming().take(connections) {
            let stream = stream?;
            scope.spawn(move || match echo(&stream) {
                Ok(bytes) => println!("echoed {bytes} bytes"),
                // One client's failure is no reason to turn away the others.
                Err(error) => eprintln!("a client failed: {error}"),
            });
        }
        Ok(())
    })
}

/// Reading and writing take a reference, so one stream serves as both ends of a copy.
#[cfg(windows)]
fn echo(stream: &npipe::blocking::PipeStream) -> std::io::Result<u64> {
    std::io::copy(&mut &*stream, &mut &*stream)
}

#[cfg(windows)]
fn ask(name: &str, text: &str) -> std::io::Result<()> {
    use npipe::blocking::PipeStream;
    use std::io::{Read, Write};
    use std::time::Duration;

    // Waits while other clients have every instance of the pipe.
    let mut stream = PipeStream::connect_timeout(name, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(text.as_bytes())?;
    // A pipe has no half-close, so the answer's length has to be known: here it is the question's.
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer)?;
    println!("{}", String::from_utf8_lossy(&answer));
    Ok(())
}

#[cfg(not(windows))]
fn main() {
    println!("Named pipes are Windows'; build this example for Windows.");
}
