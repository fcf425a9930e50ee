//! `start`: lets a created container's process execute its program.

use std::time::{Duration, Instant};

use runtime_core::{Container, Status};

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
    let container = created(session, given.id())?;
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

/// The container, once whoever makes it at this moment has done so: that it is there can be seen before it can be started.
fn created(session: &Session, id: &str) -> Result<Container, Failure> {
    /// A create that has died on its way never gets further.
    const PATIENCE: Duration = Duration::from_secs(5);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let container = session.store.open(id)?;
        if container.status()? != Status::Creating || Instant::now() > deadline {
            return Ok(container);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
