//! Sentences of the guides that no other file has a test for. Each test names its guide.

use std::time::Duration;

use npipe::{ClientOptions, ServerOptions};

use crate::family::{AsyncFamily, End, Reading, ServerEnd};
use crate::harness::{Within, message_pair, poll_and_drop, unique_name};

const PATIENCE: Duration = Duration::from_secs(30);

/// Cancellation, of `close_write`: the empty message was not sent, and what was written stays in the pipe.
async fn a_dropped_close_write_has_ended_nothing<F: AsyncFamily>() {
    let (server, client) = message_pair::<F>().await;
    client.send_message(b"one").within("send").await.unwrap();
    assert!(poll_and_drop(client.close_write(PATIENCE)).is_pending());
    client.send_message(b"two").within("send").await.unwrap();
    drop(client);
    let mut received = bytes::BytesMut::new();
    for length in [Some(3), Some(3), None] {
        let message = server.recv_message(&mut received, usize::MAX).within("a message").await;
        assert_eq!(message.unwrap(), length);
    }
    assert_eq!(received, "onetwo");
}

/// Cancellation, of conversions: they own the pipe, and writes are still delivered.
async fn what_was_written_before_a_dropped_conversion_is_delivered<F: AsyncFamily>() {
    for into_blocking in [false, true] {
        let name = unique_name();
        let mut server = F::create(&ServerOptions::new(), &name).unwrap();
        let client = ClientOptions::new().open(&name).unwrap();
        server.connect().within("connect").await.unwrap();
        let mut written = 0;
        while let Ok(count) = client.try_write(&[7; 64 * 1024]) {
            written += count;
        }
        if into_blocking {
            assert!(poll_and_drop(client.into_blocking()).is_pending());
        } else {
            assert!(poll_and_drop(client.into_owned_handle()).is_pending());
        }
        let received = server.read_to_end().within("everything").await.unwrap();
        assert_eq!(received.len(), written);
    }
}

for_each_family!(
    a_dropped_close_write_has_ended_nothing => asynchronous,
    what_was_written_before_a_dropped_conversion_is_delivered => asynchronous,
);
