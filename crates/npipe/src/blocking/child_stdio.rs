//! Stdin and stdout of a child process as pipes.

use std::io;
use std::process::Stdio;

use super::PipeStream;
use crate::options::{ClientOptions, ServerOptions};
use crate::pair::connected;

/// Stdin and stdout of a child process. Made by [`child_stdio`].
#[derive(Debug)]
#[non_exhaustive]
pub struct ChildStdio {
    /// For [`Command::stdin`](std::process::Command::stdin).
    pub stdin: Stdio,
    /// For [`Command::stdout`](std::process::Command::stdout), or its stderr.
    pub stdout: Stdio,
    /// The other end of `stdin`: the child reads what is written here, and the end when this is
    /// dropped.
    pub to_child: PipeStream,
    /// The other end of `stdout`. It ends when the child has closed its stdout, the
    /// [`Command`](std::process::Command) has been dropped, and no other process has a copy.
    pub from_child: PipeStream,
}

/// Makes stdin and stdout for a child process that knows nothing of pipes: one pipe for each
/// direction, with an end for the child on which calls wait.
///
/// Do not give one end of a [`pair`](super::pair()) to such a child as both: its handle is
/// overlapped, as it has to be for reading and writing at once. The C library and Rust's standard
/// library fail on it as soon as a read has to wait.
///
/// The ends of this process are pipes as any other: they have time-outs and cancellers, and
/// [`into_server`](PipeStream::into_server) makes async ends of them. Each carries one direction,
/// and only the child can open the other end.
///
/// ```no_run
/// use std::io::{Read, Write};
/// use std::process::Command;
///
/// let npipe::blocking::ChildStdio { stdin, stdout, mut to_child, mut from_child, .. } =
///     npipe::blocking::child_stdio()?;
/// let mut child = Command::new("sort").stdin(stdin).stdout(stdout).spawn()?;
/// to_child.write_all(b"pears\napples\n")?;
/// drop(to_child);
/// let mut sorted = String::new();
/// from_child.read_to_string(&mut sorted)?;
/// child.wait()?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// Windows' errors of [`ServerOptions::create`] and [`ClientOptions::open`], such as a lack of
/// handles.
#[doc(alias = "CreateProcess")]
#[doc(alias = "STARTUPINFO")]
pub fn child_stdio() -> io::Result<ChildStdio> {
    let ((handle, settings), stdin) = connected(ServerOptions::new().access_inbound(false), |name| {
        ClientOptions::new().write(false).open_synchronous(name)
    })?;
    let to_child = PipeStream::new(handle, settings);
    let ((handle, settings), stdout) = connected(ServerOptions::new().access_outbound(false), |name| {
        ClientOptions::new().read(false).open_synchronous(name)
    })?;
    let from_child = PipeStream::new(handle, settings);
    Ok(ChildStdio { stdin: stdin.into(), stdout: stdout.into(), to_child, from_child })
}
