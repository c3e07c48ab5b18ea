//! What a pipe is: its mode, its end, its limits.

/// Whether a pipe carries bytes or messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PipeMode {
    /// A stream of bytes: what one call wrote may arrive merged with its neighbours or in parts.
    #[doc(alias = "PIPE_TYPE_BYTE")]
    Byte,
    /// Messages: what one call wrote is one message, and a read brings one message at most.
    #[doc(alias = "PIPE_TYPE_MESSAGE")]
    #[doc(alias = "PIPE_READMODE_MESSAGE")]
    Message,
}

/// Which end of a pipe a handle is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PipeEnd {
    /// The end that was opened.
    Client,
    /// The end that was created.
    #[doc(alias = "PIPE_SERVER_END")]
    Server,
}

/// What the system says of a pipe.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PipeInfo {
    /// Whether the pipe was created for bytes or for messages.
    pub mode: PipeMode,
    /// Which end this is.
    pub end: PipeEnd,
    /// How many instances the pipe may have, as the system says it: 255 on Windows, and `u32::MAX`
    /// under Wine, is unlimited.
    pub max_instances: u32,
    /// The quota, in bytes, for what the server writes.
    pub out_buffer_size: u32,
    /// The quota, in bytes, for what the client writes.
    pub in_buffer_size: u32,
}

/// What could be read from a pipe at once. Asked for with
/// [`NamedPipeServer::peek`](crate::NamedPipeServer::peek) and its like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peek {
    /// How many bytes, of all messages.
    pub bytes_available: usize,
    /// How many of them belong to the message that is read next, or to the rest of the one that was
    /// begun. 0 on an end that reads bytes, and when nothing or an empty message is there.
    pub bytes_left_in_message: usize,
}
