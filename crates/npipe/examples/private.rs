//! A pipe between programs of one user: nobody else may open it or serve its name, the client makes
//! sure whom it talks to before it says a word, and the server asks the system who its client is.
//!
//!     cargo run --example private

#[cfg(windows)]
fn main() -> std::io::Result<()> {
    use std::io::{Read, Write};

    use npipe::{ClientOptions, SecurityDescriptor, ServerIdentity, ServerOptions, Trustee};

    let name = format!("npipe-example-private-{}", std::process::id());
    let private = SecurityDescriptor::current_user_only()?;
    let listener = ServerOptions::new().security_descriptor(&private).listen_blocking(&name)?;

    // A client that expects a service of the system leaves without a word.
    let mut options = ClientOptions::new();
    options.verify_server(ServerIdentity::PipeOwner(Trustee::System));
    match options.connect_blocking(&name) {
        Ok(_) => println!("served by the system"),
        Err(error) => println!("not served by the system: {:?}", error.kind()),
    }

    let serving = std::thread::spawn(move || -> std::io::Result<()> {
        let mut stream = listener.accept()?;
        let mut secret = [0; 6];
        stream.read_exact(&mut secret)?;
        let peer = stream.peer()?;
        let program = peer.program()?;
        println!(
            "{} sends {} bytes",
            program.file_name().unwrap_or_default().to_string_lossy(),
            secret.len()
        );
        // Not what the client says of itself, and not what its process number is now: what the system
        // knows.
        let user = stream.client_user()?;
        println!("in my own name: {}", user == Trustee::CurrentUser.sid()?);
        Ok(())
    });

    let mut options = ClientOptions::new();
    options.verify_server(ServerIdentity::PipeOwner(Trustee::CurrentUser));
    let mut stream = options.connect_blocking(&name)?;
    stream.write_all(b"secret")?;
    // The client stays until it has been looked at.
    serving.join().expect("the server does not panic")
}

#[cfg(not(windows))]
fn main() {
    println!("Named pipes are Windows'; build this example for Windows.");
}
