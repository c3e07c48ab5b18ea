//! How to create and how to open a pipe: data with defaults, which become Win32's bits in `sys`.
//! Here is what both kinds of options refuse before the system is asked.

mod client;
mod instances;
mod server;

use crate::sys;
use std::io;

pub use client::ClientOptions;
pub(crate) use client::Verified;
pub(crate) use instances::Instances;
pub use server::ServerOptions;

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

fn check_limits(read: usize, write: usize) -> io::Result<()> {
    if read == 0 || write == 0 {
        return Err(invalid("a buffer limit of 0 bytes leaves no room to read or write"));
    }
    Ok(())
}

/// Which operations queue a packet on the port of an end.
fn packets(releasable: bool) -> sys::Packets {
    if releasable { sys::Packets::OfAll } else { sys::Packets::default() }
}

/// The packets of what a child does with the handle would come to the port, from memory of the
/// child's.
fn refuse_inheritable(inheritable: bool) -> io::Result<()> {
    if inheritable {
        return Err(invalid(
            "a handle for child processes cannot be tied to a completion port; make it with npipe::blocking",
        ));
    }
    Ok(())
}
