//! `restore`: a container from disk. The flags are runc's and crun's.

use runtime_core::{Container, Create, Gate, Restore};

use crate::command::{Command, Words};
use crate::failure::Outcome;
use crate::files;
use crate::flags::{Given, Order, switch, value};
use crate::launch::{Launched, Stay, launch_by};
use crate::session::Session;
use crate::verb::{checkpoint, run};

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
    // Before the folder changes to the bundle: these are the caller's paths.
    let images = checkpoint::images(given)?;
    let work = given.filled("work-path").map(files::absolute).transpose()?;
    let options = checkpoint::options(given)?;
    let text = |name| given.filled(name).map(str::to_owned);
    let launching = |stay| {
        launch_by(session, given, stay, Gate::Here, |create| {
            Container::restore(Restore {
                // CRIU's child cannot ask to be killed with this process.
                create: Create { die_with_caller: false, ..create },
                images,
                work,
                lsm_profile: text("lsm-profile"),
                lsm_mount_context: text("lsm-mount-context"),
                options,
            })
        })
    };
    if given.has("detach") {
        launching(Stay::Detached).map(Launched::keep).map(|_| 0)
    } else {
        run::stay_with(session, given, || launching(Stay::Foreground), |_| Ok(None))
    }
}
