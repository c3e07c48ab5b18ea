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

macro_rules! info {
    () => {
        "Returns the mode, the end and the limits of the pipe.\n\n\
         Calls [`GetNamedPipeInfo`](https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-getnamedpipeinfo).\n\n\
         # Errors\n\n\
         `ERROR_ACCESS_DENIED` on a server's end that only writes \
         ([`access_inbound(false)`](crate::ServerOptions::access_inbound)), because its handle lacks \
         `FILE_READ_ATTRIBUTES`. Otherwise the error of `GetNamedPipeInfo`."
    };
}

macro_rules! security_descriptor {
    () => {
        "Returns the owner, the group, the access list and the integrity label of the pipe. Both ends have the \
         right to read them.\n\n\
         Calls [`GetSecurityInfo`](https://learn.microsoft.com/windows/win32/api/aclapi/nf-aclapi-getsecurityinfo).\n\n\
         # Errors\n\n\
         [`PermissionDenied`](io::ErrorKind::PermissionDenied) (`ERROR_ACCESS_DENIED`) on a client's end that was \
         opened for neither reading nor writing nor [`read_control`](crate::ClientOptions::read_control). \
         Otherwise the error of `GetSecurityInfo`."
    };
}

macro_rules! peer {
    () => {
        "Returns the process at the other end.\n\n\
         Calls [`GetNamedPipeServerProcessId`](https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-getnamedpipeserverprocessid) \
         on a client's end and \
         [`GetNamedPipeClientProcessId`](https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-getnamedpipeclientprocessid) \
         on a server's.\n\n\
         # Errors\n\n\
         The error of that function: when no client has come yet, when the other end is on another machine, and \
         after a disconnect (`ERROR_NOT_FOUND` on the server's end, `ERROR_PIPE_NOT_CONNECTED` on the client's)."
    };
}

pub(crate) use {info, peer, read_errors, security_descriptor, write_errors};
