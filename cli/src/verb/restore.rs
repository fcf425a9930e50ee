//! `restore`: a container from disk. The flags are runc's and crun's; doing it is not there yet, and is refused.

use crate::command::{Command, Words};
use crate::failure::{Failure, Outcome};
use crate::flags::{Given, Order, switch, value};
use crate::session::Session;
use crate::verb::checkpoint;

pub(crate) const COMMAND: Command = Command {
    name: "restore",
    usage: "<container-id>",
    about: "make a container of what checkpoint has written",
    details: "",
    flags: &[
        checkpoint::SHARED,
        &[
            value(&["bundle", "b"], "the folder of the bundle (default: the current one)"),
            value(&["console-socket"], "a socket to send the master of the container's terminal to"),
            value(&["pid-file"], "a file to write the number of the container's first process to"),
            switch(&["detach", "d"], "do not wait for the container"),
            switch(&["no-subreaper"], "do not reap what a container without a pid namespace leaves behind"),
            switch(&["no-pivot"], "do not pivot into the root file system"),
            switch(&["tcp-close"], "close TCP connections instead of restoring them"),
            value(&["lsm-profile"], "TYPE:NAME of a security profile to restore with"),
            value(&["lsm-mount-context"], "a mount context to restore with"),
        ],
    ],
    order: Order::Anywhere,
    words: Words::Exactly(1),
    run,
};

fn run(session: &Session, given: &Given) -> Outcome {
    if session.store.find(given.id())?.is_some() {
        return Err(Failure::new("container with given ID already exists"));
    }
    Err(Failure::new("restore is not supported yet"))
}
