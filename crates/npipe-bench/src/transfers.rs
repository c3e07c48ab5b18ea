//! What clients and the server of the tool's benchmark do over a connection: the client says what
//! it wants, the server answers a byte, from which on the time counts, and then bytes go one way.

use std::io::{self, Read, Write};

/// What is read and written at once.
pub const CHUNK: usize = 64 * 1024;

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// So many bytes from the server.
    Receive(u64),
    /// To send so many bytes; the server answers a byte when it has them.
    Send(u64),
}

impl Request {
    /// From the words of a command line.
    pub fn parse(direction: &str, bytes: &str) -> io::Result<Self> {
        let invalid =
            || io::Error::new(io::ErrorKind::InvalidInput, format!("no transfer: {direction} {bytes}"));
        let bytes = bytes.parse().map_err(|_| invalid())?;
        match direction {
            "receive" => Ok(Self::Receive(bytes)),
            "send" => Ok(Self::Send(bytes)),
            _ => Err(invalid()),
        }
    }

    /// The words of a command line.
    pub fn words(self) -> [String; 2] {
        match self {
            Self::Receive(bytes) => ["receive".to_owned(), bytes.to_string()],
            Self::Send(bytes) => ["send".to_owned(), bytes.to_string()],
        }
    }

    /// What the client sends first.
    pub fn encode(self) -> [u8; 9] {
        let (kind, bytes) = match self {
            Self::Receive(bytes) => (b'r', bytes),
            Self::Send(bytes) => (b's', bytes),
        };
        let mut encoded = [kind; 9];
        encoded[1..].copy_from_slice(&bytes.to_le_bytes());
        encoded
    }

    /// What [`encode`](Self::encode) has made.
    pub fn read(client: &mut impl Read) -> io::Result<Self> {
        let mut kind = [0];
        let mut bytes = [0; 8];
        client.read_exact(&mut kind)?;
        client.read_exact(&mut bytes)?;
        match (kind, u64::from_le_bytes(bytes)) {
            ([b'r'], bytes) => Ok(Self::Receive(bytes)),
            ([b's'], bytes) => Ok(Self::Send(bytes)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// The server's part.
    pub fn serve(self, client: &mut (impl Read + Write)) -> io::Result<()> {
        match self {
            Self::Receive(bytes) => write(client, bytes),
            Self::Send(bytes) => {
                read(client, bytes, &mut vec![0; CHUNK])?;
                client.write_all(&[0])
            }
        }
    }

    /// The client's part; `buffer` is what a read brings at most.
    pub fn perform(self, server: &mut (impl Read + Write), buffer: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Receive(bytes) => read(server, bytes, buffer),
            Self::Send(bytes) => {
                write(server, bytes)?;
                server.read_exact(&mut [0])
            }
        }
    }
}

fn write(writer: &mut impl Write, mut left: u64) -> io::Result<()> {
    let chunk = vec![b'x'; CHUNK];
    while left > 0 {
        let length = left.min(CHUNK as u64);
        writer.write_all(&chunk[..length as usize])?;
        left -= length;
    }
    Ok(())
}

fn read(reader: &mut impl Read, mut left: u64, buffer: &mut [u8]) -> io::Result<()> {
    while left > 0 {
        match reader.read(buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => left -= read as u64,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Request;

    #[test]
    fn a_request_arrives_as_it_was_sent() {
        for request in [Request::Receive(0), Request::Send(u64::MAX)] {
            assert_eq!(Request::read(&mut &request.encode()[..]).unwrap(), request);
            let [direction, bytes] = request.words();
            assert_eq!(Request::parse(&direction, &bytes).unwrap(), request);
        }
    }
}
