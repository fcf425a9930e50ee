//! `features`: what this runtime can do, as the runtime specification's features structure.

use crate::command::{Command, Words, print};
use crate::failure::{Failure, Outcome};
use crate::flags::{Given, Order};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "features",
    usage: "",
    about: "print what this runtime can do",
    details: "",
    flags: &[],
    order: Order::Anywhere,
    words: Words::Exactly(0),
    run,
};

fn run(_: &Session, _: &Given) -> Outcome {
    let features = runtime_core::features()?;
    print(&serde_json::to_string_pretty(&features).map_err(|error| Failure::new(error.to_string()))?);
    print("\n");
    Ok(0)
}
