//! `events`: what a container uses, every so often, and that it has run out of memory; one JSON object a line.

use std::io::Write as _;
use std::time::{Duration, Instant};

use runtime_core::cgroup::OomWatch;
use runtime_core::{Container, Kind, Status};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use crate::command::{Command, Words};
use crate::failure::{Failure, Outcome};
use crate::flags::{Given, Order, switch, value};
use crate::session::Session;
use crate::statistics::{self, Statistics};
use crate::units;

pub(crate) const COMMAND: Command = Command {
    name: "events",
    usage: "<container-id>",
    about: "print what a container uses, and when it runs out of memory",
    details: "",
    flags: &[&[
        value(&["interval"], "how often, as 500ms or 1m (default: 5s)"),
        switch(&["stats"], "print what it uses now, and end"),
    ]],
    order: Order::Anywhere,
    words: Words::Exactly(1),
    run,
};

/// One line.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Statistics>,
}

fn run(session: &Session, given: &Given) -> Outcome {
    let container = session.store.open(given.id())?;
    let text = given.text("interval").unwrap_or("5s");
    let interval = units::duration(text);
    let interval =
        interval.ok_or_else(|| Failure::new(format!("invalid value {text:?} for flag -interval: parse error")))?;
    if interval.is_zero() {
        return Err(Failure::new("duration interval must be greater than 0"));
    }
    if matches!(container.status()?, Status::Stopped | Status::Creating) {
        return Err(Failure::new(format!("container with id {} is not running", given.id())));
    }
    if given.has("stats") {
        return stats(&container, given.id()).map(|()| 0);
    }
    watch(session, &container, given.id(), interval).map(|()| 0)
}

fn watch(session: &Session, container: &Container, id: &str, interval: Duration) -> Result<(), Failure> {
    let mut memory = container.oom_watch()?;
    let mut next = Instant::now() + interval;
    while wait(container, &memory, next.saturating_duration_since(Instant::now()))? == Life::Goes {
        for _ in 0..memory.take()? {
            print(&Event { kind: "oom", id, data: None })?;
        }
        if Instant::now() >= next {
            next += interval;
            match stats(container, id) {
                // The reader has gone away.
                Err(failure) if failure.code == GONE => return Ok(()),
                Err(failure) => session.log.error(&failure.to_string()),
                Ok(()) => {}
            }
        }
    }
    // What the kernel killed last may have been init.
    for _ in 0..memory.take().unwrap_or(0) {
        print(&Event { kind: "oom", id, data: None })?;
    }
    Ok(())
}

/// Whether the container is still there.
#[derive(PartialEq, Eq)]
enum Life {
    Goes,
    Ended,
}

fn wait(container: &Container, memory: &OomWatch, limit: Duration) -> Result<Life, Failure> {
    let Some(init) = container.init() else { return Ok(Life::Ended) };
    let limit = Timespec::try_from(limit).map_err(|_| Failure::new("the interval is too long"))?;
    let mut watched = [PollFd::new(memory, PollFlags::IN), PollFd::from_borrowed_fd(init, PollFlags::IN)];
    rustix::io::retry_on_intr(|| poll(&mut watched, Some(&limit))).map_err(|errno| Failure::io("poll", errno))?;
    let ended = watched.last().is_some_and(|init| !init.revents().is_empty());
    Ok(if ended { Life::Ended } else { Life::Goes })
}

fn stats(container: &Container, id: &str) -> Result<(), Failure> {
    let stats = match container.stats() {
        // Deleted meanwhile.
        Err(error) if error.kind() == Kind::NotFound => return Ok(()),
        other => other?,
    };
    let details = container.stats_in_detail()?;
    print(&Event { kind: "stats", id, data: Some(statistics::of(&stats, details)) })
}

/// The code of a failure to print, which is never an exit code.
const GONE: u8 = 141;

fn print(event: &Event<'_>) -> Result<(), Failure> {
    let text = serde_json::to_string(event).map_err(|error| Failure::new(error.to_string()))?;
    let mut stdout = std::io::stdout().lock();
    let written = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    written.map_err(|error| Failure::io("write to standard output", error).with_code(GONE))
}
