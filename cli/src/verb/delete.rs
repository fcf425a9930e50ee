//! `delete`: takes a container away, from whatever half-made state it is in.

use runtime_core::{Container, Status};

use crate::command::{Command, Words};
use crate::failure::{Failure, Outcome};
use crate::flags::{Given, Order, switch};
use crate::session::Session;
use crate::store::forget;

pub(crate) const COMMAND: Command = Command {
    name: "delete",
    usage: "<container-id>",
    about: "delete a container that has ended, or has not been started",
    details: "",
    flags: &[&[
        switch(&["force", "f"], "kill it first if it is running; one that does not exist is no error"),
        switch(&["regex", "r"], "the id is a regular expression: delete every container that it matches"),
    ]],
    order: Order::Anywhere,
    words: Words::Exactly(1),
    run,
};

/// What may be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Ended,
    Everything,
}

fn run(session: &Session, given: &Given) -> Outcome {
    let reach = if given.has("force") { Reach::Everything } else { Reach::Ended };
    if given.has("regex") {
        for id in session.store.matching(given.id())? {
            delete(session, &id, reach)?;
        }
        return Ok(0);
    }
    delete(session, given.id(), reach).map(|()| 0)
}

fn delete(session: &Session, id: &str, reach: Reach) -> Result<(), Failure> {
    let folder = session.store.folder(id)?;
    let Some(container) = Container::open(&folder)? else {
        // Whoever was making it died before it wrote its record down: there is a folder at most.
        forget(&folder)?;
        return match reach {
            Reach::Everything => Ok(()),
            Reach::Ended => Err(Failure::new("container does not exist")),
        };
    };
    if reach == Reach::Ended {
        match container.status()? {
            Status::Stopped | Status::Created => {}
            other => {
                let what = format!("cannot delete container {id} that is not stopped: {}", other.word());
                return Err(Failure::new(what));
            }
        }
    }
    container.delete()?;
    forget(&folder)
}
