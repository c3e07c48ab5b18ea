//! Whether the peer has gone, found out without taking data from the pipe.

use std::io;
use std::time::Duration;

use super::Stream;
use crate::driver;
use crate::interest::Interest;
use crate::machine::Framing;
use crate::machine::verdict;
use crate::sync::lock;
use crate::sys::{self, PipeState};

/// The pauses between two looks while unread data is in the way of a notification.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

impl Stream {
    /// Returns whether the peer closed its end, or the server ended the connection.
    pub(crate) fn is_closed(&self) -> bool {
        match sys::state(&self.handle) {
            Ok(state) => matches!(state, PipeState::Disconnected | PipeState::Closing),
            // A client whose server has ended the connection.
            Err(error) if error.raw_os_error().is_some_and(|code| verdict::is_peer_gone(code as u32)) => true,
            // Only a server's end that only writes is denied the state. An empty write on a byte
            // pipe leaves nothing in the pipe, and fails when the client has gone. On a message
            // pipe it would be a message.
            Err(_) => self.settings.writes == Framing::Bytes && self.fails_to_write_nothing(),
        }
    }

    fn fails_to_write_nothing(&self) -> bool {
        // Behind a write that waits for the peer, it might wait too. That write fails by itself.
        let outbound = lock(&self.core.outbound);
        outbound.machine.is_idle()
            && sys::write_waiting(&self.handle, &[], outbound)
                .is_ok_and(|outcome| verdict::is_peer_gone(outcome.code))
    }

    /// Waits until [`is_closed`](Self::is_closed).
    pub(crate) async fn closed(&self) -> io::Result<()> {
        let mut pause = FIRST_PAUSE;
        while !self.is_closed() {
            if self.is_read_known() {
                driver::pause(pause).await?;
                pause = LONGEST_PAUSE.min(pause * 2);
            } else {
                // The read that this starts ends when the peer goes.
                self.ready(Interest::READABLE).await?;
            }
        }
        Ok(())
    }

    /// Returns whether the result of the next read is known, so that no read is in flight whose end
    /// would be noticed.
    fn is_read_known(&self) -> bool {
        lock(&self.core.inbound).machine.is_ready()
    }
}
