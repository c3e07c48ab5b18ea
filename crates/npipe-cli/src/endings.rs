//! When a session of two joined streams is over, and what its ends are told: a state machine
//! without streams, clocks and errors. The relay reports how its two directions end and which side
//! has left, and asks what follows.
//!
//! The end of the client's bytes is passed on, and the replies go on, so that no reply is lost. The
//! session is over when the server has ended, unless both streams can end in one direction only:
//! then each direction ends for itself. Relays that stop both directions at the first end lose the
//! reply (winsocat), those that wait for both ends hang on a stdin that stays open.

use std::time::Duration;

/// How long a side may stay silent and open after the other one has ended. It was told and cannot
/// be told more than that, and one that never ends its side must not hold a connection for ever.
pub(crate) const FAREWELL: Duration = Duration::from_secs(30);

/// How long stdin may stay silent once stdout has no reader. What comes later is not awaited.
const LAST_INPUT: Duration = Duration::from_secs(1);

/// How long a server may take to end its side where its client cannot be held for [`FAREWELL`].
const LAST_REPLIES: Duration = Duration::from_secs(2);

/// How long the server has to be silent until the end of the client's bytes ends the session, where
/// that was asked for. A pipe's buffer is read without waiting, so that only the relay's own turn
/// counts.
pub(crate) const SILENCE: Duration = Duration::from_millis(100);

/// What the end of a stream's bytes means, and which end the stream can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Stdin and stdout, as a client. It has no more to say and still listens. When it takes no
    /// more, what lies in stdin is still delivered. It can be told an end by the end of the process
    /// only.
    Stdio,
    /// It ends in both directions at once: a byte pipe. As a client it has gone. What it said is
    /// still delivered; replies have no reader and are dropped until the server ends its side, or
    /// for [`FAREWELL`] at most.
    Pipe,
    /// A pipe of messages, by the convention of go-winio and Docker: an empty message ends one
    /// direction, and the pipe's end ends both. A read after the end waits for that, and fails.
    Messages,
    /// Stdin and stdout of another process, as a server. It can be told the end of its input; when
    /// its output ends, it has ended itself.
    Process,
    /// Each direction ends for itself, and the other goes on. A client that takes no more replies,
    /// or breaks off, has gone.
    Socket,
    /// The client is in the other half of the bridge, which decides how long it may be silent, and
    /// which wants to know how much the server took before it is told the server's end.
    Bridge,
}

impl Kind {
    fn ends_each_direction(self) -> bool {
        match self {
            Kind::Messages | Kind::Socket | Kind::Bridge => true,
            Kind::Stdio | Kind::Pipe | Kind::Process => false,
        }
    }
}

/// What the end of the client's bytes means beyond itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndOfInput {
    /// The session goes on until the server ends.
    KeepsSession,
    /// The session ends as soon as the server is silent.
    EndsSession,
}

impl EndOfInput {
    pub(crate) fn new(ends_session: bool) -> EndOfInput {
        if ends_session { EndOfInput::EndsSession } else { EndOfInput::KeepsSession }
    }
}

/// What the end of a server's bytes means to stdout, where the server can end one direction only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndOfReplies {
    /// The session is over.
    EndsSession,
    /// Stdout is closed. The session goes on until stdin has ended or the server has left.
    ClosesStdout,
}

/// The directions that a server's stream has: a pipe may have one only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Directions {
    Both,
    Only(Direction),
}

impl Directions {
    pub(crate) fn has(self, direction: Direction) -> bool {
        match self {
            Directions::Both => true,
            Directions::Only(only) => only == direction,
        }
    }
}

/// The two sides, and how long both may be silent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Session {
    pub(crate) client: Kind,
    pub(crate) server: Kind,
    pub(crate) directions: Directions,
    pub(crate) end_of_input: EndOfInput,
    pub(crate) end_of_replies: EndOfReplies,
    pub(crate) idle_timeout: Option<Duration>,
}

impl Session {
    pub(crate) fn new(client: Kind, server: Kind) -> Session {
        let (directions, end_of_input) = (Directions::Both, EndOfInput::KeepsSession);
        let end_of_replies = EndOfReplies::EndsSession;
        Session { client, server, directions, end_of_input, end_of_replies, idle_timeout: None }
    }

    fn directions_are_independent(self) -> bool {
        let client_goes_on =
            self.client.ends_each_direction() || self.end_of_replies == EndOfReplies::ClosesStdout;
        client_goes_on && self.server.ends_each_direction()
    }

    /// Whether the client's stream is told that the server has ended, before the session is over.
    /// `well`: the server did not break off, and its end is of one direction where it can be.
    pub(crate) fn tells_client(self, well: bool) -> bool {
        self.client != Kind::Bridge || (well && self.directions_are_independent())
    }
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the client to the server.
    Requests,
    Replies,
}

/// How far a direction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The server's stream does not have this direction.
    Absent,
    /// Nothing is on its way.
    Reading,
    /// Bytes have been read, or an end, and the receiver has not taken it.
    Writing,
    Ended(Ending),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The sender ended, and the receiver took all.
    Eof,
    SenderFailed,
    ReceiverFailed,
}

/// What it means that the requests of a client that has gone make no progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standstill {
    /// The server does not take them.
    GivesUp,
    /// The client has no more of them.
    IsTheirEnd,
}

/// Why a session stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    Over,
    ClientHasGone,
    /// Nothing moved for as long as the session allowed.
    Idle,
}

/// What follows now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The relay goes on. It stops as the second says when nothing has moved for as long as the
    /// first.
    GoOn(Option<(Duration, Stop)>),
    Stop(Stop),
}

/// The state of one session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endings {
    session: Session,
    client_has_left: bool,
    server_has_left: bool,
}

impl Endings {
    pub(crate) fn new(session: Session) -> Endings {
        Endings { session, client_has_left: false, server_has_left: false }
    }

    /// Whether the client can leave without a sign in either direction, so that it is to be
    /// watched. If the server takes no more, its bytes are dropped, and do not hide its end.
    pub(crate) fn watches_client(self, requests: Progress) -> bool {
        match self.session.client {
            Kind::Pipe | Kind::Messages | Kind::Socket | Kind::Bridge => {
                matches!(requests, Progress::Absent | Progress::Ended(Ending::Eof | Ending::ReceiverFailed))
            }
            // Its end counts, although its bytes go nowhere.
            Kind::Stdio => {
                requests == Progress::Absent && self.session.end_of_input == EndOfInput::EndsSession
            }
            Kind::Process => false,
        }
    }

    /// Whether the end of its bytes shows that the client has left.
    pub(crate) fn client_leaves_with_its_end(self) -> bool {
        self.session.client == Kind::Pipe
    }

    /// Whether a hang-up of the client, which takes no more replies then, is of interest. A stdout
    /// to which nothing will be written needs no reader. `server_gives_bytes`: the replies may be
    /// more than their end.
    pub(crate) fn watches_hang_up(self, replies: Progress, server_gives_bytes: bool) -> bool {
        match replies {
            Progress::Absent => self.session.client != Kind::Stdio,
            Progress::Reading | Progress::Writing => server_gives_bytes || self.session.client != Kind::Stdio,
            Progress::Ended(_) => false,
        }
    }

    /// The client that is watched has left, or has hung up.
    pub(crate) fn on_client_left(&mut self) {
        self.client_has_left = true;
    }

    /// Whether the server's end may have been of one direction only, so that it is to be watched.
    pub(crate) fn watches_server(self, replies: Progress) -> bool {
        self.session.server == Kind::Messages && replies == Progress::Ended(Ending::Eof)
    }

    /// The server that is watched has left.
    pub(crate) fn on_server_left(&mut self) {
        self.server_has_left = true;
    }

    pub(crate) fn next(self, requests: Progress, replies: Progress) -> Next {
        use Ending::{Eof, ReceiverFailed, SenderFailed};
        let Session { client, end_of_input, idle_timeout, .. } = self.session;
        let requests_ended = matches!(requests, Progress::Absent | Progress::Ended(_));
        let ended_as_it_left = match client {
            Kind::Stdio | Kind::Process => false,
            Kind::Pipe => matches!(requests, Progress::Ended(Eof | SenderFailed)),
            Kind::Messages | Kind::Socket | Kind::Bridge => requests == Progress::Ended(SenderFailed),
        };
        let has_left = self.client_has_left && client != Kind::Stdio;
        if has_left || ended_as_it_left || replies == Progress::Ended(ReceiverFailed) {
            return Next::Stop(Stop::ClientHasGone);
        }
        let farewell = match replies {
            Progress::Ended(Eof)
                if self.session.directions_are_independent() && !requests_ended && !self.server_has_left =>
            {
                // The other half limits its own client, and a terminal may stay silent.
                (!matches!(client, Kind::Bridge | Kind::Stdio)).then_some(FAREWELL)
            }
            Progress::Ended(_) => return Next::Stop(Stop::Over),
            Progress::Absent if requests_ended => return Next::Stop(Stop::Over),
            Progress::Absent | Progress::Reading | Progress::Writing => None,
        };
        let idle = idle_timeout.into_iter().chain(farewell).min().map(|limit| (limit, Stop::Idle));
        // A stdin that cannot be read, such as a directory, does not cut the reply off. A server that
        // waits for the rest of the request would wait for ever.
        let failed = (client == Kind::Stdio && requests == Progress::Ended(SenderFailed))
            .then_some((FAREWELL, Stop::Over));
        let input_ended = matches!(requests, Progress::Ended(_));
        // A server that takes no more has replied or ended, or is about to: its last words are awaited.
        let silence = if requests == Progress::Ended(ReceiverFailed) { LAST_REPLIES } else { SILENCE };
        let silent = (end_of_input == EndOfInput::EndsSession && input_ended && replies == Progress::Reading)
            .then_some((silence, Stop::Over));
        Next::GoOn(idle.into_iter().chain(failed).chain(silent).min_by_key(|(limit, _)| *limit))
    }

    /// How long the delivery of the requests of a client that has gone may make no progress, and
    /// what that means then.
    pub(crate) fn delivery_standstill(self, requests: Progress) -> (Duration, Standstill) {
        match (self.session.client, requests) {
            (Kind::Stdio, Progress::Reading) => (LAST_INPUT, Standstill::IsTheirEnd),
            _ => (FAREWELL, Standstill::GivesUp),
        }
    }

    /// How long that delivery may take at most: only a stdin can go on without a reader of stdout.
    pub(crate) fn longest_delivery(self) -> Option<Duration> {
        (self.session.client == Kind::Stdio).then_some(FAREWELL)
    }

    /// The time that a server whose client has gone, and which took `sent` bytes of it, is given to
    /// end its own side: one that can be told that its input has ended. `requests`: when the client
    /// left.
    pub(crate) fn awaits_server(self, requests: Progress, sent: u64) -> Option<Duration> {
        match (self.session.client, self.session.server) {
            (_, Kind::Stdio | Kind::Pipe | Kind::Messages | Kind::Bridge) => None,
            // The other half has waited.
            (Kind::Bridge, _) if requests == Progress::Ended(Ending::Eof) => None,
            (Kind::Stdio, _) if sent == 0 => None,
            // A process ends with the session, also if it has not read its input.
            (Kind::Bridge, _) | (Kind::Stdio, Kind::Socket) => Some(LAST_REPLIES),
            (_, Kind::Socket | Kind::Process) => Some(FAREWELL),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Ending::{Eof, ReceiverFailed, SenderFailed};
    use super::Kind::{Bridge, Messages, Pipe, Process, Socket, Stdio};
    use super::Progress::{Absent, Ended, Reading, Writing};
    use super::{
        EndOfInput, EndOfReplies, Endings, FAREWELL, Kind, LAST_INPUT, LAST_REPLIES, Next, SILENCE, Session,
        Standstill, Stop,
    };

    const GO_ON: Next = Next::GoOn(None);
    const FOR_A_WHILE: Next = Next::GoOn(Some((FAREWELL, Stop::Idle)));
    const OVER_LATER: Next = Next::GoOn(Some((FAREWELL, Stop::Over)));
    const OVER: Next = Next::Stop(Stop::Over);
    const GONE: Next = Next::Stop(Stop::ClientHasGone);

    fn endings(client: Kind, server: Kind) -> Endings {
        Endings::new(Session::new(client, server))
    }

    /// The causes as columns: the requests end, or fail at the client, or at the server; the
    /// replies end, or fail at the server, or at the client.
    #[test]
    fn the_first_end_of_a_session_by_the_kinds_of_its_sides() {
        for (client, server, ends) in [
            (Stdio, Socket, [GO_ON, OVER_LATER, GO_ON, OVER, OVER, GONE]),
            (Stdio, Pipe, [GO_ON, OVER_LATER, GO_ON, OVER, OVER, GONE]),
            (Stdio, Process, [GO_ON, OVER_LATER, GO_ON, OVER, OVER, GONE]),
            (Pipe, Socket, [GONE, GONE, GO_ON, OVER, OVER, GONE]),
            (Pipe, Pipe, [GONE, GONE, GO_ON, OVER, OVER, GONE]),
            (Pipe, Process, [GONE, GONE, GO_ON, OVER, OVER, GONE]),
            (Socket, Socket, [GO_ON, GONE, GO_ON, FOR_A_WHILE, OVER, GONE]),
            (Socket, Pipe, [GO_ON, GONE, GO_ON, OVER, OVER, GONE]),
            (Socket, Process, [GO_ON, GONE, GO_ON, OVER, OVER, GONE]),
            (Bridge, Socket, [GO_ON, GONE, GO_ON, GO_ON, OVER, GONE]),
            (Bridge, Pipe, [GO_ON, GONE, GO_ON, OVER, OVER, GONE]),
            (Bridge, Process, [GO_ON, GONE, GO_ON, OVER, OVER, GONE]),
            (Stdio, Messages, [GO_ON, OVER_LATER, GO_ON, OVER, OVER, GONE]),
            (Pipe, Messages, [GONE, GONE, GO_ON, OVER, OVER, GONE]),
            (Messages, Pipe, [GO_ON, GONE, GO_ON, OVER, OVER, GONE]),
            (Messages, Process, [GO_ON, GONE, GO_ON, OVER, OVER, GONE]),
            (Messages, Socket, [GO_ON, GONE, GO_ON, FOR_A_WHILE, OVER, GONE]),
            (Messages, Messages, [GO_ON, GONE, GO_ON, FOR_A_WHILE, OVER, GONE]),
            (Socket, Messages, [GO_ON, GONE, GO_ON, FOR_A_WHILE, OVER, GONE]),
            (Bridge, Messages, [GO_ON, GONE, GO_ON, GO_ON, OVER, GONE]),
        ] {
            let endings = endings(client, server);
            let first = [
                endings.next(Ended(Eof), Reading),
                endings.next(Ended(SenderFailed), Reading),
                endings.next(Ended(ReceiverFailed), Reading),
                endings.next(Reading, Ended(Eof)),
                endings.next(Reading, Ended(SenderFailed)),
                endings.next(Reading, Ended(ReceiverFailed)),
            ];
            assert_eq!(first, ends, "{client:?} {server:?}");
        }
    }

    #[test]
    fn when_both_directions_have_ended_the_session_is_over() {
        for client in [Stdio, Socket, Bridge] {
            for server in [Pipe, Process, Socket] {
                assert_eq!(endings(client, server).next(Ended(Eof), Ended(Eof)), OVER);
                assert_eq!(endings(client, server).next(Ended(ReceiverFailed), Ended(Eof)), OVER);
            }
        }
    }

    #[test]
    fn a_client_that_leaves_has_gone_whatever_its_requests_do() {
        for client in [Pipe, Messages, Socket, Bridge] {
            for requests in [Absent, Ended(Eof), Ended(ReceiverFailed)] {
                let mut endings = endings(client, Pipe);
                assert!(!endings.watches_client(Reading) && endings.watches_client(requests));
                endings.on_client_left();
                assert_eq!(endings.next(requests, Reading), GONE);
            }
        }
        assert!(!endings(Stdio, Pipe).watches_client(Ended(Eof)));
    }

    #[test]
    fn a_client_that_hangs_up_has_gone_unless_it_has_been_told_the_end() {
        for client in [Stdio, Pipe, Messages, Socket, Bridge] {
            let mut endings = endings(client, Pipe);
            assert!(endings.watches_hang_up(Reading, true) && endings.watches_hang_up(Writing, true));
            assert!(!endings.watches_hang_up(Ended(Eof), true));
            for (replies, gives_bytes) in [(Absent, true), (Reading, false)] {
                let watched = endings.watches_hang_up(replies, gives_bytes);
                assert_eq!(watched, client != Stdio, "stdout is not used");
            }
            // That of stdout ends the replies.
            endings.on_client_left();
            let replies = if client == Stdio { Ended(ReceiverFailed) } else { Reading };
            assert_eq!(endings.next(Writing, replies), GONE);
        }
    }

    #[test]
    fn requests_of_a_client_that_has_gone_have_the_grace_period_and_a_silent_stdin_has_ended() {
        for client in [Pipe, Messages, Socket, Bridge] {
            let endings = endings(client, Pipe);
            assert_eq!(endings.longest_delivery(), None);
            for requests in [Reading, Writing] {
                assert_eq!(endings.delivery_standstill(requests), (FAREWELL, Standstill::GivesUp));
            }
        }
        let endings = endings(Stdio, Pipe);
        assert_eq!(endings.longest_delivery(), Some(FAREWELL));
        assert_eq!(endings.delivery_standstill(Reading), (LAST_INPUT, Standstill::IsTheirEnd));
        assert_eq!(endings.delivery_standstill(Writing), (FAREWELL, Standstill::GivesUp));
    }

    #[test]
    fn a_server_that_can_be_told_the_end_has_time_to_end_its_side() {
        let time = |client, server, requests, sent| endings(client, server).awaits_server(requests, sent);
        for client in [Stdio, Pipe, Messages, Socket, Bridge] {
            for server in [Pipe, Messages] {
                assert_eq!(time(client, server, Reading, 1), None);
            }
        }
        for client in [Pipe, Messages, Socket] {
            assert_eq!(time(client, Socket, Reading, 0), Some(FAREWELL));
            assert_eq!(time(client, Process, Ended(Eof), 0), Some(FAREWELL));
        }
        assert_eq!(time(Bridge, Socket, Ended(Eof), 1), None, "the other half has waited");
        assert_eq!(time(Bridge, Socket, Writing, 1), Some(LAST_REPLIES));
        assert_eq!(time(Stdio, Socket, Writing, 1), Some(LAST_REPLIES));
        assert_eq!(time(Stdio, Process, Writing, 1), Some(FAREWELL));
        assert_eq!(time(Stdio, Process, Writing, 0), None, "nothing can be lost");
    }

    #[test]
    fn a_server_that_sent_an_empty_message_and_leaves_ends_the_session() {
        let mut endings = endings(Socket, Messages);
        assert!(!endings.watches_server(Reading) && endings.watches_server(Ended(Eof)));
        endings.on_server_left();
        assert_eq!(endings.next(Reading, Ended(Eof)), OVER);
    }

    #[test]
    fn a_stdout_that_is_closed_leaves_the_session_to_stdin() {
        for server in [Pipe, Socket, Process, Messages] {
            let end_of_replies = EndOfReplies::ClosesStdout;
            let mut endings = Endings::new(Session { end_of_replies, ..Session::new(Stdio, server) });
            if matches!(server, Pipe | Process) {
                assert_eq!(endings.next(Reading, Ended(Eof)), OVER);
                continue;
            }
            assert_eq!(endings.next(Reading, Ended(Eof)), GO_ON);
            assert_eq!(endings.next(Writing, Ended(Eof)), GO_ON);
            for requests in [Absent, Ended(Eof), Ended(SenderFailed), Ended(ReceiverFailed)] {
                assert_eq!(endings.next(requests, Ended(Eof)), OVER);
            }
            endings.on_server_left();
            assert_eq!(endings.next(Reading, Ended(Eof)), OVER);
        }
    }

    #[test]
    fn one_direction_ends_a_session_that_has_no_other() {
        for client in [Stdio, Socket, Messages, Bridge] {
            let endings = endings(client, Pipe);
            assert_eq!([endings.next(Absent, Reading), endings.next(Reading, Absent)], [GO_ON, GO_ON]);
            assert_eq!([endings.next(Absent, Ended(Eof)), endings.next(Ended(Eof), Absent)], [OVER, OVER]);
            assert_eq!(endings.next(Ended(ReceiverFailed), Absent), OVER);
            assert_eq!(endings.watches_client(Absent), client != Stdio);
        }
    }

    #[test]
    fn the_end_of_the_input_ends_a_silent_session_where_that_was_asked_for() {
        let end_of_input = EndOfInput::EndsSession;
        let endings = Endings::new(Session { end_of_input, ..Session::new(Stdio, Pipe) });
        let silent = Next::GoOn(Some((SILENCE, Stop::Over)));
        assert_eq!(endings.next(Reading, Reading), GO_ON);
        assert_eq!(endings.next(Absent, Reading), GO_ON, "an input of which nothing is sent");
        assert!(endings.watches_client(Absent) && !endings.watches_client(Ended(Eof)));
        assert_eq!(endings.next(Ended(Eof), Reading), silent);
        let last_words = Next::GoOn(Some((LAST_REPLIES, Stop::Over)));
        assert_eq!(endings.next(Ended(ReceiverFailed), Reading), last_words);
        assert_eq!(endings.next(Ended(Eof), Writing), GO_ON, "a slow reader of replies");
        assert_eq!(endings.next(Ended(Eof), Ended(Eof)), OVER);
    }

    #[test]
    fn the_shorter_silence_counts() {
        let limited = |seconds| {
            let idle_timeout = Some(Duration::from_secs(seconds));
            Endings::new(Session { idle_timeout, ..Session::new(Socket, Socket) })
        };
        let idle = |seconds| Next::GoOn(Some((Duration::from_secs(seconds), Stop::Idle)));
        assert_eq!(limited(5).next(Reading, Ended(Eof)), idle(5));
        assert_eq!(limited(50).next(Reading, Ended(Eof)), FOR_A_WHILE);
        assert_eq!(limited(50).next(Reading, Reading), idle(50));
    }

    #[test]
    fn the_other_half_is_told_the_end_by_the_relay_only_where_the_session_goes_on() {
        let tells = |client, server, well| Session::new(client, server).tells_client(well);
        assert!(tells(Socket, Pipe, false) && tells(Bridge, Socket, true));
        assert!(!tells(Bridge, Socket, false) && !tells(Bridge, Pipe, true));
    }
}
