//! The handle of a dropped pipe is closed at once, although its operations are over only later.

use std::task::{Context, Waker};
use std::time::Duration;

use crate::driver::Driver;
use crate::stream::tests::PLAIN;
use crate::stream::{Key, Slice, Stream};
use crate::sys::{Entry, Pipe, Temper};

const SERVER: usize = 0;
const CLIENT: usize = 1;

/// Every way in which the kernel may end cancelled operations.
const TEMPERS: [Temper; 4] = {
    const PLAIN: Temper = Temper::PLAIN;
    [
        PLAIN,
        Temper { final_with_packet: true, ..PLAIN },
        Temper { cancels_late: true, ..PLAIN },
        Temper { cancels_late: true, final_with_packet: true, ..PLAIN },
    ]
};

#[test]
fn an_end_that_reads_is_closed_when_it_is_dropped() {
    for temper in TEMPERS {
        let driver = Driver::new().unwrap();
        let (pipe, server) = Pipe::create(false, 100, temper);
        let client = Stream::new(pipe.open().unwrap(), driver.clone(), PLAIN).unwrap();
        let server = Stream::new(server, driver.clone(), PLAIN).unwrap();
        for (stream, end) in [(server, SERVER), (client, CLIENT)] {
            let context = Context::from_waker(Waker::noop());
            let mut bytes = [0; 8];
            let _ = stream.poll_read(&context, &mut Slice { bytes: &mut bytes, filled: 0 });
            drop(stream);
            assert!(!pipe.is_open(end), "{temper:?}");
        }
        assert!(pipe.is_quiet());
        let packets = driver.turn(&mut [Entry::EMPTY; 8], Some(Duration::ZERO), &mut Vec::new()).unwrap();
        assert_eq!(packets, 1, "the server's read; the client's was over at once");
    }
}

#[test]
fn a_server_that_waits_for_its_client_is_closed_when_it_is_dropped() {
    for temper in TEMPERS {
        let driver = Driver::new().unwrap();
        let (pipe, server) = Pipe::create(false, 100, temper);
        let server = Stream::new(server, driver.clone(), PLAIN).unwrap();
        assert!(server.poll_connect(&Context::from_waker(Waker::noop()), Key::POLL).is_pending());
        drop(server);
        assert!(!pipe.is_open(SERVER), "{temper:?}");
        driver.turn(&mut [Entry::EMPTY; 8], Some(Duration::ZERO), &mut Vec::new()).unwrap();
    }
}

#[test]
fn a_drain_that_is_dropped_does_not_keep_the_handle_open() {
    for temper in TEMPERS {
        let driver = Driver::new().unwrap();
        let (pipe, server) = Pipe::create(false, 100, temper);
        let _client = Stream::new(pipe.open().unwrap(), driver.clone(), PLAIN).unwrap();
        let server = Stream::new(server, driver.clone(), PLAIN).unwrap();
        assert_eq!(server.try_write(&&b"unread"[..]).unwrap(), 6);
        let mut drain = server.start_drain();
        assert!(drain.poll(&Context::from_waker(Waker::noop())).is_pending());
        drop((server, drain));
        assert!(!pipe.is_open(SERVER), "{temper:?}");
        driver.turn(&mut [Entry::EMPTY; 8], Some(Duration::ZERO), &mut Vec::new()).unwrap();
    }
}
