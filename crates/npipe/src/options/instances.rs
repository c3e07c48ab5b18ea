//! The instances that a listener of either face makes.

use std::io;
use std::time::Duration;

use super::ServerOptions;
use crate::error;
use crate::machine::{Backlog, verdict};
use crate::name::PipeName;
use crate::retry::Retry;
use crate::stream::Settings;
use crate::sys;

/// The instances of a listener, past and to come.
#[derive(Debug)]
pub(crate) struct Instances {
    pub(super) name: PipeName,
    pub(super) first: ServerOptions,
    pub(super) later: ServerOptions,
    /// How many are to wait for clients.
    pub(super) size: usize,
    /// Whether the last one that waits is to stay, since it keeps the name. Of a pipe that may have
    /// one instance it cannot.
    pub(super) keeps_the_last: bool,
}

impl Instances {
    /// Those that a listener begins with; `make` gives them the face's form.
    pub(crate) fn begin<I>(
        &self,
        make: impl Fn((sys::OwnedHandle, Settings)) -> io::Result<I>,
    ) -> io::Result<Backlog<I>> {
        let first = self.first.create_any_handle(&self.name, sys::SecurityAttributes::DEFAULT)?;
        let first = make(first)?;
        Backlog::new(first, self.size, self.keeps_the_last, || make(self.next()?))
    }

    /// [`begin`](Self::begin) after an attempt that failed: how long to pause before the next.
    pub(crate) fn pause_before_retry(error: io::Error, retry: &mut Retry<()>) -> io::Result<Duration> {
        let passes = error::win32_code(&error).is_some_and(|code| verdict::is_name_taken(code as u32));
        if passes { retry.pause((), None).ok_or(error) } else { Err(error) }
    }

    /// One more. The errors are plain, for the backlog to judge.
    pub(crate) fn next(&self) -> io::Result<(sys::OwnedHandle, Settings)> {
        self.later.create_instance(&self.name, sys::SecurityAttributes::DEFAULT)
    }

    pub(crate) fn name(&self) -> &PipeName {
        &self.name
    }
}
