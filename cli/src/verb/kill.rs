//! `kill`: a signal to a container's first process.

use runtime_core::{Container, Kind};

use crate::command::{Command, Words};
use crate::failure::{Failure, Outcome};
use crate::flags::{Given, Order, switch};
use crate::session::Session;
use crate::signal;

pub(crate) const COMMAND: Command = Command {
    name: "kill",
    usage: "<container-id> [signal]",
    about: "send a signal (default: SIGTERM) to the first process of a container",
    details: "The signal is a number or a name, with or without SIG. KILL ends every process of the container.",
    flags: &[&[
        // Obsolete with runc too: KILL takes all, and other signals are init's business.
        switch(&["all", "a"], ""),
        switch(&["regex", "r"], "the id is a regular expression: signal every container that it matches"),
    ]],
    order: Order::Anywhere,
    words: Words::Between(1, 2),
    run,
};

fn run(session: &Session, given: &Given) -> Outcome {
    let name = given.words.get(1).map(String::as_str).filter(|name| !name.is_empty());
    if given.has("regex") {
        let signal = name.map_or(Ok(signal::TERM), signal::number)?;
        for id in session.store.matching(given.id())? {
            if let Some(container) = session.store.find(&id)? {
                send(&container, signal)?;
            }
        }
        return Ok(0);
    }
    let container = session.store.open(given.id())?;
    let signal = name.map_or(Ok(signal::TERM), signal::number)?;
    match send(&container, signal) {
        Err(error) if error.kind() == Kind::Finished && given.has("all") => Ok(0),
        other => other.map(|()| 0).map_err(Failure::from),
    }
}

/// What shares its pid namespace with others may outlive init: it is killed wherever init is by now.
fn send(container: &Container, signal: i32) -> Result<(), runtime_core::Error> {
    let (sent, what) = if signal == signal::KILL && !container.owns_pid_namespace() {
        (container.signal_all(signal), "unable to kill all processes")
    } else {
        (container.signal(signal), "unable to signal init")
    };
    sent.map_err(|error| if error.kind() == Kind::Finished { error } else { error.during(what) })
}
