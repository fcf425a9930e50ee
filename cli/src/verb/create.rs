//! `create`: makes a container that waits to be started.

use runtime_core::Gate;

use crate::command::{Command, Words};
use crate::failure::{Failure, Outcome};
use crate::flags::{Given, Order};
use crate::launch::{self, Launched, Stay, launch};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "create",
    usage: "<container-id>",
    about: "create a container",
    details: "Everything of the container is made, and its first process waits for `start`.",
    flags: &[launch::FLAGS],
    order: Order::Anywhere,
    words: Words::Exactly(1),
    run,
};

fn run(session: &Session, given: &Given) -> Outcome {
    let launched = launch(session, given, Stay::Detached, Gate::Anywhere).map(Launched::keep);
    launched.map(|_| 0).map_err(|failure: Failure| failure.during(format!("{} create failed", session.name)))
}
