//! `start`: lets a created container's process execute its program.

use runtime_core::Status;

use crate::command::{Command, Words};
use crate::failure::{Failure, Outcome};
use crate::flags::{Given, Order};
use crate::notify::{self, Notify};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "start",
    usage: "<container-id>",
    about: "execute the program of a created container",
    details: "",
    flags: &[],
    order: Order::Anywhere,
    words: Words::Exactly(1),
    run,
};

fn run(session: &Session, given: &Given) -> Outcome {
    let container = session.store.open(given.id())?;
    match container.status()? {
        Status::Created => {}
        Status::Stopped => return Err(Failure::new("cannot start a container that has stopped")),
        Status::Running => return Err(Failure::new("cannot start an already running container")),
        other => return Err(Failure::new(format!("cannot start a container in the {} state", other.word()))),
    }
    let folder = session.store.folder(given.id())?;
    // The container has our socket only if it was created with one.
    let theirs = notify::requested().filter(|_| folder.join("notify").is_dir());
    let notify = theirs.map(|theirs| Notify::bind(&folder, &theirs)).transpose()?;
    container.start()?;
    if let (Some(notify), Some(init)) = (notify, container.init()) {
        notify.wait(init, container.about().pid.unsigned_abs());
    }
    Ok(0)
}
