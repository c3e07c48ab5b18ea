//! Paragraphs of documentation that stand in more than one place.

macro_rules! read_errors {
    () => {
        "`ERROR_PIPE_NOT_CONNECTED` when the server disconnected us, since data may have been discarded; \
         `ERROR_PIPE_LISTENING` when no client has come yet; `ERROR_ACCESS_DENIED` on an end that may not read."
    };
}

macro_rules! write_errors {
    () => {
        "`ERROR_NO_DATA` ([`BrokenPipe`](io::ErrorKind::BrokenPipe)) or `ERROR_BROKEN_PIPE` when the peer has closed its end, \
         `ERROR_PIPE_NOT_CONNECTED` when the server disconnected us, `ERROR_PIPE_LISTENING` when no client has come \
         yet, `ERROR_ACCESS_DENIED` on an end that may not write; \
         [`InvalidInput`](io::ErrorKind::InvalidInput) for a message of 4 GiB or more."
    };
}

pub(crate) use {read_errors, write_errors};
