//! What the bridge saves, in numbers: the agent asked for its keys over connections that share one
//! Windows process, and over connections that have one each, as with npiperelay and socat.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Stage;
use super::echo::{IDENTITIES_ANSWER, REQUEST_IDENTITIES};

/// A process that is started takes tens of milliseconds, or seconds on a machine with a busy virus
/// scanner.
const CONNECTIONS_WITH_A_PROCESS_EACH: usize = 10;
const CONNECTIONS_THROUGH_ONE_PROCESS: usize = 500;

/// An answer takes milliseconds; one that is lost never comes.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

pub(super) fn compare(stage: &Stage, bridge: &Path, process_each: &Path) -> Result<()> {
    let each = ask_again_and_again(process_each, CONNECTIONS_WITH_A_PROCESS_EACH)?;
    let one = ask_again_and_again(bridge, CONNECTIONS_THROUGH_ONE_PROCESS)?;
    stage.say("the agent asked for its keys, over a new connection each time, from the socket to the agent and back:");
    for (way, connections, time) in [
        (
            "a Windows process for each connection (the way of npiperelay)",
            CONNECTIONS_WITH_A_PROCESS_EACH,
            each,
        ),
        ("one Windows process for all of them (npipe forward)", CONNECTIONS_THROUGH_ONE_PROCESS, one),
    ] {
        println!(
            "             {way:<62} {connections:>4} connections, {:>7.2} ms each, {:>6.0} a second",
            time.as_secs_f64() * 1000.0,
            1.0 / time.as_secs_f64()
        );
    }
    stage.say(&format!("one process is {:.0} times as fast", each.as_secs_f64() / one.as_secs_f64()));
    Ok(())
}

/// The time of one connection, from before it is made until the answer has come: the mean.
fn ask_again_and_again(socket: &Path, times: usize) -> Result<Duration> {
    let begun = Instant::now();
    for _ in 0..times {
        ask(socket).with_context(|| format!("the agent behind {} does not answer", socket.display()))?;
    }
    Ok(begun.elapsed() / times as u32)
}

fn ask(socket: &Path) -> Result<()> {
    let mut agent = UnixStream::connect(socket)?;
    agent.set_read_timeout(Some(ANSWER_LIMIT))?;
    agent.write_all(&REQUEST_IDENTITIES)?;
    let mut answer = [0; 5];
    agent.read_exact(&mut answer)?;
    if answer[4] != IDENTITIES_ANSWER {
        bail!("it answers what is no list of keys: {answer:?}");
    }
    Ok(())
}
