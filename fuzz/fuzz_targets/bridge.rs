//! `cargo +nightly fuzz run bridge`: whatever one half of the bridge may send to the other, as the whole of what arrives. It
//! is a value or an error, never more than was sent, and a value that is sent again is the same bytes.
//!
//! With `-- -malloc_limit_mb=1` it also shows that no length that arrives is believed before it is held against a limit.
#![no_main]

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, join, sink};

#[allow(dead_code, reason = "the tool's own use of these files")]
#[path = "../../crates/npipe-cli/src/bridge"]
mod bridge {
    pub(crate) mod protocol;
    pub(crate) mod records;
}

#[allow(dead_code, reason = "the tool's own use of this file")]
#[path = "../../crates/npipe-cli/src/endings.rs"]
mod endings;

use bridge::protocol::{Answer, Hello, OpenRequest, RemoteError, read_block, shake_hands};
use bridge::records::Records;

fuzz_target!(|bytes: &[u8]| {
    let [kind, bytes @ ..] = bytes else { return };
    match kind % 6 {
        0 => drop(at_once(shake_hands(&mut join(bytes, sink()), &Hello::ours()))),
        1 => {
            if let Ok(block) = at_once(read_block(&mut &*bytes)) {
                assert_eq!(block, bytes[2..][..block.len()]);
            }
        }
        2 => {
            if let Ok(request) = OpenRequest::decode(bytes) {
                assert_eq!(request.encode().unwrap(), bytes);
            }
        }
        3 => {
            if let Ok(answer) = Answer::decode(bytes) {
                assert_eq!(answer.encode(), bytes);
            }
        }
        4 => {
            if let Ok(error) = RemoteError::decode(bytes) {
                assert_eq!(error.encode(), bytes);
                assert!(!error.to_string().contains(char::is_control));
            }
        }
        _ => {
            let mut received = Vec::new();
            drop(at_once(Records::new(bytes).read_to_end(&mut received)));
            assert!(received.len() <= bytes.len());
        }
    }
});

/// All that arrives is there: nobody ever waits.
fn at_once<T>(step: impl Future<Output = T>) -> T {
    match pin!(step).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits for what does not come"),
    }
}
