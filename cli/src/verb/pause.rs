//! `pause` and `resume`: freezes and thaws every process of a container.

use runtime_core::Status;

use crate::command::{Command, Words};
use crate::failure::{Failure, Outcome};
use crate::flags::{Given, Order};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "pause",
    usage: "<container-id>",
    about: "suspend all processes of a container",
    details: "",
    flags: &[],
    order: Order::Anywhere,
    words: Words::Exactly(1),
    run: pause,
};

pub(crate) const RESUME: Command = Command {
    name: "resume",
    usage: "<container-id>",
    about: "let a paused container go on",
    details: "",
    flags: &[],
    order: Order::Anywhere,
    words: Words::Exactly(1),
    run: resume,
};

fn pause(session: &Session, given: &Given) -> Outcome {
    let container = session.store.open(given.id())?;
    match container.status()? {
        Status::Created | Status::Running => Ok(container.pause().map(|()| 0)?),
        _ => Err(Failure::new("container not running")),
    }
}

fn resume(session: &Session, given: &Given) -> Outcome {
    let container = session.store.open(given.id())?;
    match container.status()? {
        Status::Paused => Ok(container.resume().map(|()| 0)?),
        _ => Err(Failure::new("container not paused")),
    }
}
