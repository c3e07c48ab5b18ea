//! What the benchmark of the tool needs on Windows: a server behind a pipe, and a client with
//! nothing around it, each a process of its own, as those of `npipe connect` and of the bridge are.

use std::io::{self, Read, Write};
use std::thread;
use std::time::Instant;

use crate::sys::Pipe;
use crate::transfers::{CHUNK, Request};

/// Serves the pipe until the process is ended.
pub(crate) fn serve(name: &str) -> io::Result<()> {
    let name = format!(r"\\.\pipe\{name}");
    // Some instances wait ahead, so that clients which come together find one each.
    let acceptors: Vec<_> = (0..64)
        .map(|_| {
            let mut instance = Pipe::create(&name)?;
            let name = name.clone();
            Ok(thread::spawn(move || -> io::Result<()> {
                loop {
                    instance.connect()?;
                    // A client that goes before its time is no error.
                    let _ = answer(&mut instance);
                    instance = Pipe::create(&name)?;
                }
            }))
        })
        .collect::<io::Result<_>>()?;
    println!("listening");
    for acceptor in acceptors {
        acceptor.join().expect("an acceptor does not panic")?;
    }
    Ok(())
}

fn answer(client: &mut Pipe) -> io::Result<()> {
    let request = Request::read(client)?;
    client.write_all(&[0])?;
    request.serve(client)?;
    // The client closes.
    client.read(&mut [0]).map(drop)
}

/// `[PIPE, DIRECTION, BYTES]`
pub(crate) fn transfer(arguments: &[String]) -> io::Result<()> {
    let [pipe, direction, bytes] = arguments else { unreachable!("clap takes exactly three values") };
    let request = Request::parse(direction, bytes)?;
    let mut server = Pipe::open(&format!(r"\\.\pipe\{pipe}"))?;
    server.write_all(&request.encode())?;
    server.read_exact(&mut [0])?;
    let begun = Instant::now();
    request.perform(&mut server, &mut vec![0; CHUNK])?;
    println!("{}", begun.elapsed().as_secs_f64());
    Ok(())
}
