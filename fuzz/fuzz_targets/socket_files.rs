//! `cargo +nightly fuzz run socket_files`: what GnuPG's socket files may hold, in both forms. What is taken has a port, and in
//! the form that it has it is taken again.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "the tool's own use of the file")]
#[path = "../../crates/npipe-cli/src/assuan/socket_file.rs"]
mod socket_file;

use socket_file::{Form, SocketFile};

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = SocketFile::parse(bytes) else { return };
    assert_ne!(file.port, 0);
    let word = |n: usize| u32::from_le_bytes(file.nonce[4 * n..][..4].try_into().unwrap());
    let written = match file.form {
        Form::Native => [file.port.to_string().as_bytes(), b"\n", &file.nonce].concat(),
        Form::Cygwin => format!(
            "!<socket >{} s {:08x}-{:08x}-{:08x}-{:08x}\0",
            file.port,
            word(0),
            word(1),
            word(2),
            word(3)
        )
        .into_bytes(),
    };
    assert_eq!(SocketFile::parse(&written), Ok(file));
});
