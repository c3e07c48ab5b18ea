//! GnuPG's socket files, as bytes: what libassuan (`assuan-socket.c`) and Cygwin
//! (`fhandler_socket_local.cc`) write into them. Whatever a file holds is a port and a nonce, or a
//! reason why not. No file and no connection is known here.

pub(crate) type Nonce = [u8; 16];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Of GnuPG for Windows: the port in digits, a newline, the nonce as it is.
    Native,
    /// Of Cygwin and MSYS2, and of GnuPG's ssh socket: `!<socket >PORT s NONCE`, the nonce in four
    /// words.
    Cygwin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SocketFile {
    pub(crate) port: u16,
    pub(crate) nonce: Nonce,
    pub(crate) form: Form,
}

const CYGWIN_MAGIC: &[u8] = b"!<socket >";

impl SocketFile {
    /// Takes what libassuan and Cygwin write and nothing else: the file decides where the nonce is
    /// sent.
    pub(crate) fn parse(bytes: &[u8]) -> Result<SocketFile, &'static str> {
        match bytes.strip_prefix(CYGWIN_MAGIC) {
            Some(rest) => SocketFile::parse_cygwin(rest),
            None => SocketFile::parse_native(bytes),
        }
    }

    fn parse_native(bytes: &[u8]) -> Result<SocketFile, &'static str> {
        let newline = bytes.iter().position(|byte| *byte == b'\n').ok_or("no line with a port")?;
        let port = port(&bytes[..newline])?;
        let nonce = bytes[newline + 1..].try_into().map_err(|_| "the nonce does not have 16 bytes")?;
        Ok(SocketFile { port, nonce, form: Form::Native })
    }

    fn parse_cygwin(rest: &[u8]) -> Result<SocketFile, &'static str> {
        let rest = rest.strip_suffix(b"\0").unwrap_or(rest);
        let text = str::from_utf8(rest).map_err(|_| "it is not text")?;
        let mut fields = text.split(' ');
        let (Some(digits), Some(kind), Some(words), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err("it does not have three fields");
        };
        let port = port(digits.as_bytes())?;
        if kind != "s" {
            return Err("it is not a stream socket");
        }
        let mut nonce = Nonce::default();
        let mut words = words.split('-');
        for bytes in nonce.chunks_exact_mut(4) {
            let word = words.next().ok_or("the nonce does not have four words")?;
            if word.len() != 8 || !word.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err("a word of the nonce does not have eight hexadecimal digits");
            }
            let word = u32::from_str_radix(word, 16).map_err(|_| "a word of the nonce is no number")?;
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        if words.next().is_some() {
            return Err("the nonce has more than four words");
        }
        Ok(SocketFile { port, nonce, form: Form::Cygwin })
    }
}

fn port(digits: &[u8]) -> Result<u16, &'static str> {
    const REASON: &str = "the port is not a number from 1 to 65535";
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(REASON);
    }
    match str::from_utf8(digits).map(str::parse) {
        Ok(Ok(port)) if port > 0 => Ok(port),
        _ => Err(REASON),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Form, Nonce, SocketFile};

    const NONCE: Nonce = [1, 2, 3, 4, 5, 6, 7, 8, 0xf9, 10, 11, 12, 13, 14, 15, 16];

    fn native(port: &str, nonce: &[u8]) -> Vec<u8> {
        [port.as_bytes(), b"\n", nonce].concat()
    }

    fn error(bytes: &[u8]) -> &'static str {
        SocketFile::parse(bytes).expect_err(&String::from_utf8_lossy(bytes))
    }

    #[test]
    fn the_native_form_is_a_line_and_a_raw_nonce() {
        let file = SocketFile::parse(&native("58912", &NONCE)).unwrap();
        assert_eq!(file, SocketFile { port: 58912, nonce: NONCE, form: Form::Native });
        // The nonce is random: newlines and NULs are bytes like others.
        let nonce = [b'\n', 0, b'\n', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b'\n'];
        assert_eq!(SocketFile::parse(&native("1", &nonce)).unwrap().nonce, nonce);
    }

    #[test]
    fn the_words_of_cygwins_nonce_are_little_endian() {
        for file in [
            &b"!<socket >58912 s 04030201-08070605-0C0b0af9-100f0e0d\0"[..],
            b"!<socket >58912 s 04030201-08070605-0c0b0af9-100f0e0d",
        ] {
            let file = SocketFile::parse(file).unwrap();
            assert_eq!((file.port, file.form), (58912, Form::Cygwin));
            assert_eq!(file.nonce, [1, 2, 3, 4, 5, 6, 7, 8, 0xf9, 10, 11, 12, 13, 14, 15, 16]);
        }
    }

    #[test]
    fn what_neither_writes_is_refused_with_the_reason() {
        for (file, reason) in [
            (&b""[..], "no line"),
            (b"58912", "no line"),
            (b"58912\n", "16 bytes"),
            (b"58912\n0123456789abcde", "16 bytes"),
            (b"58912\n0123456789abcdefg", "16 bytes"),
            (b"0\n0123456789abcdef", "port"),
            (b"65536\n0123456789abcdef", "port"),
            (b"+5\n0123456789abcdef", "port"),
            (b" 5\n0123456789abcdef", "port"),
            (b"\n0123456789abcdef", "port"),
            (b"5\r\n0123456789abcdef", "port"),
            (b"%Assuan%\nsocket=/x/y", "port"),
            (b"!<socket >5 s 00000000-00000000-00000000", "four words"),
            (b"!<socket >5 s 00000000-00000000-00000000-00000000-00000000", "more than four"),
            (b"!<socket >5 s 00000000-00000000-00000000-0000000", "eight"),
            (b"!<socket >5 s 00000000-00000000-00000000-+0000000", "eight"),
            (b"!<socket >5 d 00000000-00000000-00000000-00000000", "stream"),
            (b"!<socket >5  s 00000000-00000000-00000000-00000000", "three fields"),
            (b"!<socket >0 s 00000000-00000000-00000000-00000000", "port"),
            (b"!<socket >5 s", "three fields"),
            (b"!<socket >\xff", "text"),
        ] {
            assert!(error(file).contains(reason), "{}: {}", String::from_utf8_lossy(file), error(file));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(
            start in prop::sample::select(vec!["", "!<socket >", "!<socket >7 s ", "99\n"]),
            bytes in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let _ = SocketFile::parse(&[start.as_bytes(), &bytes].concat());
        }

        #[test]
        fn what_libassuan_writes_is_read(port in 1..=u16::MAX, nonce: Nonce) {
            let words: Vec<String> = nonce
                .chunks_exact(4)
                .map(|bytes| format!("{:08x}", u32::from_le_bytes(bytes.try_into().unwrap())))
                .collect();
            let cygwin = format!("!<socket >{port} s {}\0", words.join("-"));
            for (file, form) in
                [(native(&port.to_string(), &nonce), Form::Native), (cygwin.into_bytes(), Form::Cygwin)]
            {
                prop_assert_eq!(SocketFile::parse(&file), Ok(SocketFile { port, nonce, form }));
            }
        }
    }
}
