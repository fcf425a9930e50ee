//! `run`: creates a container, starts it and, unless told otherwise, stays until it has ended and takes it away.

use std::time::SystemTime;

use runtime_core::{Container, ExitStatus, Gate, Process, Signals};

use crate::attend::{Attendance, attend};
use crate::command::{Command, Words};
use crate::failure::{Failure, Outcome};
use crate::flags::{Given, Order, switch};
use crate::launch::{self, Launched, Stay, launch};
use crate::notify::{self, Notify};
use crate::relay::{Host, Relay};
use crate::session::Session;
use crate::store::forget;

pub(crate) const COMMAND: Command = Command {
    name: "run",
    usage: "<container-id>",
    about: "create and run a container",
    details: "In the foreground, it ends as the container does: with its exit code, or with 128 plus the number of the\n\
              signal that ended it. What signals it gets itself, it passes on; when it is killed, so is the container.",
    flags: &[
        launch::FLAGS,
        &[
            switch(&["detach", "d"], "do not wait for the container"),
            switch(&["keep"], "do not delete the container when it has ended"),
            switch(&["no-subreaper"], "do not reap what a container without a pid namespace leaves behind"),
        ],
    ],
    order: Order::Anywhere,
    words: Words::Exactly(1),
    run,
};

fn run(session: &Session, given: &Given) -> Outcome {
    let outcome = if given.has("detach") { detached(session, given) } else { foreground(session, given) };
    outcome.map_err(|failure| failure.during(format!("{} run failed", session.name)))
}

fn detached(session: &Session, given: &Given) -> Outcome {
    let launched = launch(session, given, Stay::Detached, Gate::Here)?;
    let notify = socket(&launched)?;
    start(&launched)?;
    let (_, process) = launched.keep();
    if let Some(notify) = notify {
        notify.wait(&process, process.pid().unsigned_abs());
    }
    Ok(0)
}

fn foreground(session: &Session, given: &Given) -> Outcome {
    let launching = || launch(session, given, Stay::Foreground, Gate::Here);
    stay_with(session, given, launching, |launched| {
        let notify = socket(launched)?;
        start(launched)?;
        Ok(notify)
    })
}

/// Launches a container, lets it run, and stays with it to its end.
pub(crate) fn stay_with(
    session: &Session,
    given: &Given,
    launching: impl FnOnce() -> Result<Launched, Failure>,
    starting: impl FnOnce(&Launched) -> Result<Option<Notify>, Failure>,
) -> Outcome {
    // Signals are caught before there is a process that they could be meant for.
    let signals = Signals::catch()?;
    if !given.has("no-subreaper") {
        let own = rustix::process::getpid();
        rustix::process::set_child_subreaper(Some(own)).map_err(|errno| Failure::io("become a subreaper", errno))?;
    }
    let mut launched = launching()?;
    let undo = |failure, launched: &Launched| match launched.container.delete() {
        Ok(()) => failure,
        Err(error) => error.into(),
    };
    let relay = launched.console.take().map(|master| Relay::new(Host::find()?, master)).transpose();
    let relay = relay.map_err(|failure| undo(failure, &launched))?;
    let notify = starting(&launched)?;
    let status = attend(&launched.process, Attendance { signals: &signals, relay, notify })?;
    finish(session, given, launched, status)
}

/// The caller's service manager, if it waits for a word from the container.
fn socket(launched: &Launched) -> Result<Option<Notify>, Failure> {
    let bound = notify::requested().map(|theirs| Notify::bind(&launched.claim.folder, &theirs)).transpose();
    bound.inspect_err(|_| drop(launched.container.delete()))
}

fn start(launched: &Launched) -> Result<(), Failure> {
    Ok(launched.container.start().inspect_err(|_| drop(launched.container.delete()))?)
}

fn finish(session: &Session, given: &Given, launched: Launched, status: ExitStatus) -> Outcome {
    let code = u8::try_from(status.number()).unwrap_or(u8::MAX);
    let folder = launched.claim.folder.clone();
    let (container, _): (Container, Process) = launched.keep();
    if given.has("keep") {
        container.record_exit(status, SystemTime::now())?;
        return Ok(code);
    }
    // How it ended is what the caller asked for; what could not be taken away, `delete` can try again.
    if let Err(failure) = container.delete().map_err(Failure::from).and_then(|()| forget(&folder)) {
        session.log.warn(&failure.to_string());
    }
    Ok(code)
}
