//! A listener's instances of a pipe: how many it holds, and which it may give away.
//!
//! The pipe's name is a listener's for as long as it holds an instance. So the next one is created
//! before one that has a client is given away, and where that fails because there may be no more
//! instances, the last one stays until there may. What an instance is and how one is made is the
//! listener's business.
//!
//! The kernel serves clients in the order in which the instances began to listen, and so does a
//! listener: it keeps and checks its instances in that order. An instance whose client has left
//! listens last, so clients that connect and leave at once do not keep the listener from its other
//! instances.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use super::BackOff;
use super::verdict::{self, Create};

/// How often to look for what is missing while no client waits for it: a service that has reached
/// its limit may stay there.
const UNHURRIED: Duration = Duration::from_secs(1);

/// The instances of a listener, those first that have been there longest.
#[derive(Debug)]
pub(crate) struct Backlog<I> {
    instances: VecDeque<I>,
    /// How many there are to be.
    size: usize,
    /// Whether the last one is given away only against another. Of a pipe that may have a single
    /// instance it is given away.
    keeps_the_last: bool,
    back_off: BackOff,
    /// The listener has stopped: no instance is added, and those without a client are closed.
    stopped: bool,
}

/// Why an instance that has a client is not given away.
#[derive(Debug)]
enum Refusal {
    /// It is the last, and there may be no more instances now.
    ForNow,
    /// It is the last, and another could not be created. The system's error.
    Failed(io::Error),
}

/// The result of checking one instance for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// It listens, as before: the kernel was not called.
    Nobody,
    /// It has begun to listen.
    Begun,
    /// Its client had left without sending anything, and it has begun to listen again.
    Renewed,
    Client,
}

/// The result of asking the instances for a client.
#[derive(Debug)]
pub(crate) enum Look<I> {
    Client(I),
    /// The look was cut short: the other instances are still to be checked.
    Again,
    /// No instance has a client. Check them again when one of them has news, or when this time has
    /// passed.
    Nobody(Option<Duration>),
    /// The listener has stopped, and no instance is left.
    Stopped,
}

impl<I> Backlog<I> {
    /// As many as `size`, or as there may be.
    pub(crate) fn new(
        first: I,
        size: usize,
        keeps_the_last: bool,
        create: impl FnMut() -> io::Result<I>,
    ) -> io::Result<Self> {
        let mut backlog = Self {
            instances: VecDeque::from([first]),
            size,
            keeps_the_last,
            back_off: BackOff::new(),
            stopped: false,
        };
        match backlog.fill(create) {
            Err(error) if !backlog.passes(&error) => Err(error),
            Ok(()) | Err(_) => Ok(backlog),
        }
    }

    /// Creates what is missing, as far as that can be done now. An error says that there is no
    /// instance left to wait with, and is the system's.
    fn refill(&mut self, create: impl FnMut() -> io::Result<I>) -> io::Result<()> {
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
            // Where there may be one instance, each is the first of its name, and has to wait until the last
            // one has gone.
            Some(Create::NameTaken) => !self.keeps_the_last,
            Some(Create::Failed) | None => false,
        }
    }

    fn add(&mut self, instance: I) {
        self.instances.push_back(instance);
        self.back_off = BackOff::new();
    }

    /// Asks each instance for a client, until there is one. After each for which the kernel was
    /// called, `cut` decides whether the rest has to wait for another look.
    pub(crate) fn look(
        &mut self,
        create: impl Fn() -> io::Result<I>,
        mut ask: impl FnMut(&mut I) -> io::Result<Found>,
        mut cut: impl FnMut() -> bool,
    ) -> io::Result<Look<I>> {
        if self.stopped {
            return self.look_without_replacing(ask, cut);
        }
        self.refill(&create)?;
        let (mut index, mut refused) = (0, false);
        for _ in 0..self.instances.len() {
            match ask(&mut self.instances[index]) {
                Ok(Found::Nobody) => {
                    index += 1;
                    continue;
                }
                Ok(Found::Begun) => index += 1,
                Ok(Found::Renewed) => {
                    let renewed = self.instances.remove(index).expect("it was just asked");
                    self.instances.push_back(renewed);
                }
                Ok(Found::Client) => match self.give_away(index, &create) {
                    Ok(client) => return Ok(Look::Client(client)),
                    // It is the only one.
                    Err(Refusal::ForNow) => refused = true,
                    Err(Refusal::Failed(error)) => return Err(error),
                },
                Err(error) => {
                    // It would be in the way of the others. If there is no other it has another
                    // chance.
                    let _ = self.give_away(index, &create);
                    return Err(error);
                }
            }
            if cut() {
                return Ok(Look::Again);
            }
        }
        Ok(Look::Nobody(self.pause(refused)))
    }

    /// Adds no instance from now on. Each that there is gets to `end_wait`, whose result is for the
    /// next look: such a look gives away the instances that have a client, and closes one without.
    pub(crate) fn stop(&mut self, end_wait: impl FnMut(&mut I)) {
        self.stopped = true;
        self.instances.iter_mut().for_each(end_wait);
    }

    /// [`look`](Self::look) of a listener that has stopped.
    fn look_without_replacing(
        &mut self,
        mut ask: impl FnMut(&mut I) -> io::Result<Found>,
        mut cut: impl FnMut() -> bool,
    ) -> io::Result<Look<I>> {
        let mut index = 0;
        while index < self.instances.len() {
            let found = ask(&mut self.instances[index]);
            if matches!(found, Ok(Found::Nobody)) {
                // The end of its wait has yet to be seen.
                index += 1;
                continue;
            }
            let instance = self.instances.remove(index).expect("it was just asked");
            match found? {
                Found::Client => return Ok(Look::Client(instance)),
                Found::Nobody | Found::Begun | Found::Renewed => drop(instance),
            }
            if cut() {
                return Ok(Look::Again);
            }
        }
        Ok(if self.instances.is_empty() { Look::Stopped } else { Look::Nobody(None) })
    }

    /// Gives away the instance at `index`, which has a client, against another.
    fn give_away(&mut self, index: usize, create: impl FnOnce() -> io::Result<I>) -> Result<I, Refusal> {
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

    /// After how long to look whether another instance may be created, if one is missing or was
    /// `refused`.
    fn pause(&mut self, refused: bool) -> Option<Duration> {
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
    fn a_look_without_an_instance_fails_unless_there_may_be_another_later() {
        for (code, is_error) in [(ERROR_NO_SYSTEM_RESOURCES, true), (ERROR_PIPE_BUSY, false)] {
            let mut backlog = Backlog::new(1, 1, false, || unreachable!("there is one")).unwrap();
            assert_eq!(backlog.give_away(0, || Err(error(code))).unwrap(), 1);
            let look = backlog.look(|| Err(error(code)), |_| unreachable!("there is none"), || false);
            assert_eq!(look.is_err(), is_error, "{code}");
        }
    }

    #[test]
    fn each_instance_is_asked_once_in_a_look() {
        let mut backlog = System::with_limit(4).listen(4);
        for found in [Found::Begun, Found::Nobody] {
            let mut asked = Vec::new();
            let look = backlog.look(
                || unreachable!("all are there"),
                |instance| {
                    asked.push(*instance);
                    Ok(found)
                },
                || false,
            );
            assert!(matches!(look, Ok(Look::Nobody(None))));
            assert_eq!(asked, [1, 2, 3, 4], "{found:?}");
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
        assert_eq!(backlog.instances.len(), 1);
    }

    #[test]
    fn the_only_one_that_there_may_be_is_given_away() {
        let mut system = System::with_limit(1);
        let mut backlog = system.listen(1);
        let given = backlog.give_away(0, || system.create()).unwrap();
        backlog.refill(|| system.create()).unwrap();
        assert_eq!(backlog.instances.len(), 0);
        assert!(backlog.pause(false).is_some(), "nobody would look when there may be another");
        system.close(given);
        backlog.refill(|| system.create()).unwrap();
        assert_eq!(backlog.instances.len(), 1);
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

    /// Runs one look that is cut short after `budget` calls. `ask` decides the state of each
    /// instance by its number. Returns the instances that were checked, and the look's result.
    fn look(
        backlog: &mut Backlog<u32>,
        budget: usize,
        mut ask: impl FnMut(u32) -> Found,
    ) -> (Vec<u32>, Look<u32>) {
        let (mut asked, mut calls) = (Vec::new(), 0);
        let ask = |instance: &mut u32| {
            asked.push(*instance);
            Ok(ask(*instance))
        };
        let cut = || {
            calls += 1;
            calls == budget
        };
        let look = backlog.look(|| Err(error(ERROR_NO_SYSTEM_RESOURCES)), ask, cut).unwrap();
        (asked, look)
    }

    #[test]
    fn a_look_is_cut_short_after_any_instance_that_took_a_call() {
        let mut backlog = System::with_limit(255).listen(6);
        let (asked, cut) = look(&mut backlog, 1, |_| Found::Begun);
        assert_eq!(asked, [1]);
        assert!(matches!(cut, Look::Again));
        let (asked, cut) = look(&mut backlog, 2, |instance| match instance {
            1 | 3 => Found::Nobody,
            _ => Found::Begun,
        });
        assert_eq!(asked, [1, 2, 3, 4], "those that wait as before cost nothing");
        assert!(matches!(cut, Look::Again));
        let (asked, cut) = look(&mut backlog, 1, |_| Found::Nobody);
        assert_eq!(asked, [1, 2, 3, 4, 5, 6]);
        assert!(matches!(cut, Look::Nobody(None)));
    }

    #[test]
    fn instances_whose_clients_always_leave_do_not_hide_one_whose_client_stays() {
        let mut backlog = System::with_limit(255).listen(5);
        for staying in 1..=5 {
            let mut looks = 0;
            loop {
                looks += 1;
                let (asked, found) = look(&mut backlog, 2, |instance| match instance {
                    _ if instance == staying => Found::Client,
                    _ => Found::Renewed,
                });
                assert!(asked.len() <= 2);
                match found {
                    Look::Client(client) => break assert_eq!(client, staying),
                    Look::Again => assert!(looks < 3, "instance {staying} is asked with the others"),
                    Look::Nobody(_) | Look::Stopped => panic!("a client waits at {staying}"),
                }
            }
            backlog.add(staying);
        }
    }

    #[test]
    fn clients_are_accepted_in_the_order_in_which_the_instances_began_to_listen() {
        let mut backlog = System::with_limit(255).listen(4);
        let (_, waiting) =
            look(&mut backlog, 9, |instance| if instance == 2 { Found::Renewed } else { Found::Begun });
        assert!(matches!(waiting, Look::Nobody(None)));
        for first in [1, 3, 4, 2] {
            let (_, found) = look(&mut backlog, 9, |_| Found::Client);
            let Look::Client(client) = found else { panic!("all have clients") };
            assert_eq!(client, first);
            if first == 4 {
                backlog.add(5);
            }
        }
    }

    #[test]
    fn after_a_stop_clients_are_given_away_and_the_other_instances_are_closed() {
        let mut backlog = System::with_limit(255).listen(5);
        let mut ended = Vec::new();
        backlog.stop(|instance| ended.push(*instance));
        assert_eq!(ended, [1, 2, 3, 4, 5]);
        let states = |instance| match instance {
            1 => Found::Begun,
            2 => Found::Client,
            3 => Found::Nobody,
            4 => Found::Renewed,
            _ => Found::Client,
        };
        // The function that creates instances would fail.
        assert!(matches!(look(&mut backlog, 9, states), (asked, Look::Client(2)) if asked == [1, 2]));
        assert!(matches!(look(&mut backlog, 9, states), (asked, Look::Client(5)) if asked == [3, 4, 5]));
        assert!(matches!(look(&mut backlog, 9, states), (asked, Look::Nobody(None)) if asked == [3]));
        assert!(matches!(look(&mut backlog, 9, |_| Found::Begun), (asked, Look::Stopped) if asked == [3]));
        assert!(matches!(look(&mut backlog, 9, states), (asked, Look::Stopped) if asked.is_empty()));
    }

    #[test]
    fn after_a_stop_the_last_instance_is_given_away_although_there_may_be_no_other() {
        let mut backlog = System::with_limit(2).listen(1);
        let full = || Err(error(ERROR_PIPE_BUSY));
        let refused = backlog.look(full, |_| Ok(Found::Client), || false).unwrap();
        assert!(matches!(refused, Look::Nobody(Some(_))));
        backlog.stop(|_| {});
        assert!(matches!(look(&mut backlog, 9, |_| Found::Client).1, Look::Client(1)));
    }

    #[test]
    fn after_a_stop_an_instance_that_fails_is_closed_and_a_look_is_cut_short() {
        let mut backlog = System::with_limit(255).listen(3);
        backlog.stop(|_| {});
        let failed = backlog.look(
            || panic!("nothing is created"),
            |_| Err(error(ERROR_NO_SYSTEM_RESOURCES)),
            || false,
        );
        assert_eq!(failed.unwrap_err().raw_os_error(), Some(ERROR_NO_SYSTEM_RESOURCES as i32));
        assert!(matches!(look(&mut backlog, 1, |_| Found::Begun), (asked, Look::Again) if asked == [2]));
        assert!(matches!(look(&mut backlog, 1, |_| Found::Client).1, Look::Client(3)));
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
                        let index = number % backlog.instances.len();
                        served.extend(backlog.give_away(index, || system.create()));
                    }
                    3 if !served.is_empty() => system.close(served.swap_remove(number % served.len())),
                    3 | 4 => backlog.refill(|| system.create()).unwrap(),
                    _ => system.trouble = Some(ERROR_NO_SYSTEM_RESOURCES),
                }
                prop_assert!((1..=size).contains(&backlog.instances.len()));
                prop_assert_eq!(backlog.instances.len() + served.len(), system.instances.len());
            }
            served.drain(..).for_each(|instance| system.close(instance));
            system.trouble = None;
            backlog.refill(|| system.create()).unwrap();
            prop_assert_eq!(backlog.instances.len(), size.min(limit));
            prop_assert!(backlog.instances.iter().all(|instance| system.instances.contains(instance)));
        }
    }
}
