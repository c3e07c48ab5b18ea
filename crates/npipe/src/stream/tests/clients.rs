//! What a listener asks an instance: whether there is a client, or only one that came and left
//! without a word.

use std::io;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use crate::driver::Driver;
use crate::machine::Found;
use crate::stream::tests::PLAIN;
use crate::stream::{Key, Settings, Slice, Stream};
use crate::sys::{Entry, Pipe, Temper};

const ERROR_PIPE_NOT_CONNECTED: i32 = 233;

const SETTINGS: Settings = Settings { read_limit: 512, write_limit: 512, ..PLAIN };

struct World {
    driver: Arc<Driver>,
    pipe: Pipe,
    server: Stream,
}

impl World {
    fn new(seed: u64) -> Self {
        let driver = Driver::new().unwrap();
        let temper = Temper {
            seed,
            hesitates: seed % 2 == 0,
            splits: false,
            cancels_late: seed % 3 == 0,
            final_with_packet: seed % 2 == 0,
            ..Temper::PLAIN
        };
        let (pipe, server) = Pipe::create(false, 512, temper);
        let server = Stream::new(server, driver.clone(), SETTINGS).unwrap();
        Self { driver, pipe, server }
    }

    fn turn(&self) {
        self.pipe.settle();
        self.driver.turn(&mut [Entry::EMPTY; 8], Some(Duration::ZERO), &mut Vec::new()).unwrap();
    }

    fn ask(&self) -> Found {
        self.turn();
        self.server.find_client(&Context::from_waker(Waker::noop()), Key::POLL).unwrap()
    }

    /// Asks as often as an answer could take.
    fn has_client(&self) -> bool {
        (0..10).any(|_| self.ask() == Found::Client)
    }
}

#[test]
fn one_that_left_without_a_word_is_told_from_one_that_stays_and_one_that_spoke() {
    for seed in 0..if cfg!(miri) { 2 } else { 200 } {
        let world = World::new(seed);
        for round in 0..6 {
            // The first client may come before anybody waits.
            if round > 0 || seed % 2 == 0 {
                assert!(!world.has_client());
            }
            let client = Stream::new(world.pipe.open().unwrap(), world.driver.clone(), SETTINGS).unwrap();
            match round % 3 {
                0 => {
                    drop(client);
                    // It makes the instance listen again, and at most once.
                    let found: Vec<Found> = (0..10).map(|_| world.ask()).collect();
                    assert!(!found.contains(&Found::Client));
                    assert_eq!(found.iter().filter(|found| **found == Found::Renewed).count(), 1);
                }
                1 => {
                    assert!(world.has_client());
                    world.server.disconnect().unwrap();
                }
                _ => {
                    assert_eq!(client.try_write(&&b"x"[..]).unwrap(), 1);
                    drop(client);
                    assert!(world.has_client());
                    world.server.disconnect().unwrap();
                }
            }
        }
        let World { driver, pipe, server } = world;
        drop(server);
        for _ in 0..4 {
            pipe.settle();
            driver.turn(&mut [Entry::EMPTY; 8], Some(Duration::ZERO), &mut Vec::new()).unwrap();
        }
        assert!(pipe.is_quiet());
    }
}

#[test]
fn what_was_found_while_nobody_was_connected_is_no_end_of_the_next_connection() {
    for seed in 0..if cfg!(miri) { 2 } else { 50 } {
        let world = World::new(seed);
        for _ in 0..3 {
            assert!(!world.has_client());
            // An error is ready to be read, also while the wait for a client goes on.
            world.server.is_readable();
            let client = Stream::new(world.pipe.open().unwrap(), world.driver.clone(), SETTINGS).unwrap();
            assert!(world.has_client());
            assert_eq!(client.try_write(&&b"x"[..]).unwrap(), 1);
            let read = || match world.server.try_read(&mut Slice { bytes: &mut [0], filled: 0 }) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
                result => Some(result.unwrap()),
            };
            let count = (0..10).find_map(|_| {
                world.turn();
                read()
            });
            assert_eq!(count, Some(1));
            world.server.disconnect().unwrap();
            for _ in 0..10 {
                world.turn();
                // An error is ready to be read.
                world.server.is_readable();
            }
        }
    }
}

/// Windows ends a wait for a client with 233 when its server disconnects meanwhile.
#[test]
fn a_wait_that_a_disconnect_ends_is_not_the_end_of_the_next() {
    for seed in 0..if cfg!(miri) { 2 } else { 50 } {
        let world = World::new(seed);
        for _ in 0..3 {
            assert!(!world.has_client());
            world.server.disconnect().unwrap();
            assert!(!world.has_client());
            let client = Stream::new(world.pipe.open().unwrap(), world.driver.clone(), SETTINGS).unwrap();
            assert!(world.has_client());
            world.server.disconnect().unwrap();
            // A client that was cut off cannot even ask what its pipe is.
            let error = client.try_write(&&b"x"[..]).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(ERROR_PIPE_NOT_CONNECTED));
        }
    }
}
