//! A listener's instances of a pipe: how many it holds, and which it may give away.
//!
//! The pipe's name is a listener's for as long as it holds an instance. So the next one is created before one that has a
//! client is given away, and where that fails because there may be no more instances, the last one stays until there may.
//! What an instance is and how one is made is the listener's business.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use super::BackOff;
use super::verdict::{self, Create};

/// How often to look for what is missing while no client waits for it: a service that has reached its limit may stay there.
const UNHURRIED: Duration = Duration::from_secs(1);

/// The instances of a listener, those first that have been there longest.
#[derive(Debug)]
pub(crate) struct Backlog<I> {
    instances: VecDeque<I>,
    /// How many there are to be.
    size: usize,
    /// Whether the last one is given away only against another. Of a pipe that may have a single instance it is given away.
    keeps_the_last: bool,
    back_off: BackOff,
}

/// Why an instance that has a client is not given away.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It is the last, and there may be no more instances now.
    ForNow,
    /// It is the last, and another could not be created. The system's error.
    Failed(io::Error),
}

impl<I> Backlog<I> {
    /// As many as `size`, or as there may be.
    pub(crate) fn new(
        first: I,
        size: usize,
        keeps_the_last: bool,
        create: impl FnMut() -> io::Result<I>,
    ) -> io::Result<Self> {
        let mut backlog =
            Self { instances: VecDeque::from([first]), size, keeps_the_last, back_off: BackOff::new() };
        match backlog.fill(create) {
            Err(error) if !backlog.passes(&error) => Err(error),
            Ok(()) | Err(_) => Ok(backlog),
        }
    }

    /// Creates what is missing, as far as that can be done now. An error says that there is no instance left to wait with,
    /// and is the system's.
    pub(crate) fn refill(&mut self, create: impl FnMut() -> io::Result<I>) -> io::Result<()> {
        match self.fill(create) {
            Err(error) if self.instances.is_empty() && !self.passes(&error) => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn fill(&mut self, mut create: impl FnMut() -> io::Result<I>) -> io::Result<()> {
        while self.instances.len() < self.size {
            let instance = create()?;
            self.add(instance);
        }
        Ok(())
    }

    /// Whether there may be another instance when one has gone.
    fn passes(&self, error: &io::Error) -> bool {
        match error.raw_os_error().map(|code| verdict::create(code as u32)) {
            Some(Create::Full) => true,
            // Where there may be one instance, each is the first of its name, and has to wait until the last one has gone.
            Some(Create::NameTaken) => !self.keeps_the_last,
            Some(Create::Failed) | None => false,
        }
    }

    fn add(&mut self, instance: I) {
        self.instances.push_back(instance);
        self.back_off = BackOff::new();
    }

    pub(crate) fn len(&self) -> usize {
        self.instances.len()
    }

    pub(crate) fn get(&mut self, index: usize) -> &mut I {
        &mut self.instances[index]
    }

    /// Gives away the instance at `index`, which has a client, against another.
    pub(crate) fn give_away(
        &mut self,
        index: usize,
        create: impl FnOnce() -> io::Result<I>,
    ) -> Result<I, Refusal> {
        let is_the_last = self.instances.len() == 1;
        match create() {
            Ok(next) => self.add(next),
            // The next to come is missed later, if at all.
            Err(_) if !(is_the_last && self.keeps_the_last) => {}
            Err(error) if self.passes(&error) => return Err(Refusal::ForNow),
            Err(error) => return Err(Refusal::Failed(error)),
        }
        Ok(self.instances.remove(index).expect("there is an instance of that index"))
    }

    /// After how long to look whether another instance may be created, if one is missing or was `refused`.
    pub(crate) fn pause(&mut self, refused: bool) -> Option<Duration> {
        if refused || self.instances.is_empty() {
            Some(self.back_off.pause())
        } else {
            (self.instances.len() < self.size).then_some(UNHURRIED)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use windows_sys::Win32::Foundation::{ERROR_ACCESS_DENIED, ERROR_NO_SYSTEM_RESOURCES, ERROR_PIPE_BUSY};

    use super::*;

    fn error(code: u32) -> io::Error {
        io::Error::from_raw_os_error(code as i32)
    }

    /// A pipe that may have so many instances; each has a number.
    struct System {
        limit: usize,
        instances: Vec<u32>,
        created: u32,
        /// What goes wrong with the next instance.
        trouble: Option<u32>,
    }

    impl System {
        fn with_limit(limit: usize) -> Self {
            Self { limit, instances: Vec::new(), created: 0, trouble: None }
        }

        fn create(&mut self) -> io::Result<u32> {
            if let Some(code) = self.trouble.take() {
                return Err(error(code));
            }
            if self.instances.len() == self.limit {
                return Err(error(ERROR_PIPE_BUSY));
            }
            self.created += 1;
            self.instances.push(self.created);
            Ok(self.created)
        }

        fn close(&mut self, instance: u32) {
            self.instances.retain(|other| *other != instance);
        }

        fn listen(&mut self, size: usize) -> Backlog<u32> {
            let first = self.create().unwrap();
            Backlog::new(first, size, self.limit > 1, || self.create()).unwrap()
        }
    }

    #[test]
    fn what_cannot_be_created_at_first_is_an_error_unless_there_may_be_no_more() {
        for (code, is_error) in
            [(ERROR_PIPE_BUSY, false), (ERROR_NO_SYSTEM_RESOURCES, true), (ERROR_ACCESS_DENIED, true)]
        {
            assert_eq!(Backlog::new(1, 2, true, || Err(error(code))).is_err(), is_error, "{code}");
        }
    }

    #[test]
    fn one_is_given_away_against_another() {
        let mut system = System::with_limit(255);
        let mut backlog = system.listen(3);
        assert_eq!(backlog.give_away(1, || system.create()).unwrap(), 2);
        assert_eq!(backlog.instances, [1, 3, 4]);
        assert_eq!(backlog.pause(false), None);
    }

    #[test]
    fn the_last_stays_until_there_may_be_another() {
        let mut system = System::with_limit(2);
        let mut backlog = system.listen(4);
        let given = backlog.give_away(0, || system.create()).unwrap();
        assert_eq!(backlog.pause(false), Some(UNHURRIED), "no client waits");
        assert!(matches!(backlog.give_away(0, || system.create()), Err(Refusal::ForNow)));
        assert!(backlog.pause(true).is_some_and(|pause| pause < UNHURRIED));
        system.close(given);
        assert_eq!(backlog.give_away(0, || system.create()).unwrap(), 2);
        assert_eq!(backlog.len(), 1);
    }

    #[test]
    fn the_only_one_that_there_may_be_is_given_away() {
        let mut system = System::with_limit(1);
        let mut backlog = system.listen(1);
        let given = backlog.give_away(0, || system.create()).unwrap();
        backlog.refill(|| system.create()).unwrap();
        assert_eq!(backlog.len(), 0);
        assert!(backlog.pause(false).is_some(), "nobody would look when there may be another");
        system.close(given);
        backlog.refill(|| system.create()).unwrap();
        assert_eq!(backlog.len(), 1);
    }

    #[test]
    fn trouble_is_told_when_it_concerns_the_last() {
        let trouble = || Err(error(ERROR_NO_SYSTEM_RESOURCES));
        let mut backlog = System::with_limit(255).listen(2);
        backlog.give_away(0, trouble).unwrap();
        backlog.refill(trouble).unwrap();
        let Err(Refusal::Failed(told)) = backlog.give_away(0, trouble) else { panic!("it was the last") };
        assert_eq!(told.raw_os_error(), Some(ERROR_NO_SYSTEM_RESOURCES as i32));
    }

    proptest! {
        /// Clients come, are given away and leave, and creating fails now and then: the name is the listener's all the time,
        /// and in the end it has all the instances that there may be.
        #[test]
        fn the_name_never_vanishes(
            size in 1_usize..6,
            limit in 2_usize..8,
            steps in prop::collection::vec((0_u8..6, any::<usize>()), 0..200),
        ) {
            let mut system = System::with_limit(limit);
            let mut backlog = system.listen(size);
            let mut served = Vec::new();
            for (step, number) in steps {
                match step {
                    0..=2 => {
                        let index = number % backlog.len();
                        served.extend(backlog.give_away(index, || system.create()));
                    }
                    3 if !served.is_empty() => system.close(served.swap_remove(number % served.len())),
                    3 | 4 => backlog.refill(|| system.create()).unwrap(),
                    _ => system.trouble = Some(ERROR_NO_SYSTEM_RESOURCES),
                }
                prop_assert!((1..=size).contains(&backlog.len()));
                prop_assert_eq!(backlog.len() + served.len(), system.instances.len());
            }
            served.drain(..).for_each(|instance| system.close(instance));
            system.trouble = None;
            backlog.refill(|| system.create()).unwrap();
            prop_assert_eq!(backlog.len(), size.min(limit));
            prop_assert!(backlog.instances.iter().all(|instance| system.instances.contains(instance)));
        }
    }
}
