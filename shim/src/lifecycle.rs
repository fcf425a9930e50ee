//! The law of a task: requests are allowed or refused, facts are obeyed. Pure tables; who asks performs the effects.
//!
//! A container's init and its execs live by the same states; an exec is never frozen on its own.

use std::fmt;

/// Where a process is in its life. A container is where its init is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Made (an exec: registered), not yet started.
    Created,
    /// Started.
    Running,
    /// On its way to be frozen.
    Pausing,
    /// Frozen.
    Paused,
    /// Ended.
    Stopped,
}

/// What a client can ask for and not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// Let it run.
    Start,
    /// Register or start another process beside it.
    Exec,
    /// Freeze.
    Pause,
    /// Thaw.
    Resume,
    /// Change its limits.
    Update,
    /// Write it to disk.
    Checkpoint,
    /// Signal it.
    Kill,
    /// Change its terminal's size.
    Resize,
    /// Take it away.
    Delete,
}

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fact {
    /// It runs its program.
    Started,
    /// The freezer has been asked.
    Freezing,
    /// Every process is frozen.
    Frozen,
    /// It runs again, or was never frozen.
    Thawed,
    /// It has ended.
    Exited,
}

/// What a fact obliges the task to do, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Tell containerd that it started.
    AnnounceStart,
    /// Tell containerd that it is frozen.
    AnnouncePaused,
    /// Tell containerd that it runs again.
    AnnounceResumed,
    /// Tell containerd how it ended.
    AnnounceExit,
    /// Answer everyone who waits for the end.
    WakeWaiters,
}

/// A request that the state does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    /// What was asked.
    pub(crate) request: Request,
    /// The state it met.
    pub(crate) state: State,
}

/// Whether a container in `state` may be asked.
///
/// # Errors
/// The refusal, with the text that containerd's clients know.
pub(crate) fn allow(request: Request, state: State) -> Result<(), Refused> {
    use Request::{Checkpoint, Delete, Exec, Kill, Pause, Resize, Resume, Start, Update};
    use State::{Created, Paused, Pausing, Running, Stopped};
    match (request, state) {
        (Start, Created) => Ok(()),
        (Exec, Created | Running) => Ok(()),
        (Pause, Running) => Ok(()),
        (Resume, Paused) => Ok(()),
        (Update, Created | Running | Pausing | Paused) => Ok(()),
        (Checkpoint, Running | Paused) => Ok(()),
        (Kill, Created | Running | Pausing | Paused) => Ok(()),
        (Resize, Created | Running | Pausing | Paused) => Ok(()),
        (Delete, Created | Stopped) => Ok(()),
        (request, state) => Err(Refused { request, state }),
    }
}

/// Whether an exec in `state` may be asked. A registered one has no process to signal.
///
/// # Errors
/// As [`allow`].
pub(crate) fn allow_exec(request: Request, state: State) -> Result<(), Refused> {
    match (request, state) {
        (Request::Kill, State::Created) => Err(Refused { request, state }),
        _ => allow(request, state),
    }
}

/// What a fact makes of the state, and what follows. An end is final.
#[must_use]
pub(crate) fn after(fact: Fact, state: State) -> (State, &'static [Effect]) {
    use Effect::{AnnounceExit, AnnouncePaused, AnnounceResumed, AnnounceStart, WakeWaiters};
    match (fact, state) {
        (_, State::Stopped) => (State::Stopped, &[]),
        (Fact::Started, _) => (State::Running, &[AnnounceStart]),
        (Fact::Freezing, _) => (State::Pausing, &[]),
        (Fact::Frozen, _) => (State::Paused, &[AnnouncePaused]),
        // Freezing failed and was undone: nobody was told of a pause.
        (Fact::Thawed, State::Pausing) => (State::Running, &[]),
        (Fact::Thawed, _) => (State::Running, &[AnnounceResumed]),
        (Fact::Exited, _) => (State::Stopped, &[AnnounceExit, WakeWaiters]),
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Pausing => "pausing",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state;
        match (self.request, state) {
            (Request::Kill, State::Created) => f.write_str("process not created"),
            (Request::Kill, _) => f.write_str("process already finished"),
            (Request::Pause, State::Created) => f.write_str("cannot pause task in created state"),
            (Request::Resume, State::Created) => f.write_str("cannot resume task in created state"),
            (Request::Pause, _) => write!(f, "cannot pause a {state} container"),
            (Request::Resume, State::Running) => f.write_str("cannot resume a running process"),
            (Request::Resume, _) => write!(f, "cannot resume a {state} container"),
            (Request::Checkpoint, State::Created) => f.write_str("cannot checkpoint a task in created state"),
            (Request::Checkpoint, _) => write!(f, "cannot checkpoint a {state} container"),
            (Request::Update, _) => write!(f, "cannot update a {state} container"),
            (Request::Resize, _) => write!(f, "cannot resize a {state} container"),
            (Request::Start, _) => write!(f, "cannot start a {state} process"),
            (Request::Delete, _) => write!(f, "cannot delete a {state} process"),
            (Request::Exec, _) => write!(f, "cannot exec in a {state} state"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 5] = [State::Created, State::Running, State::Pausing, State::Paused, State::Stopped];

    /// The states that allow a request, and the text in each of the others.
    fn check(request: Request, table: [&str; 5]) {
        for (state, expected) in STATES.into_iter().zip(table) {
            let answer = allow(request, state).map_or_else(|refused| refused.to_string(), |()| "ok".into());
            assert_eq!(answer, expected, "{request:?} when {state}");
        }
    }

    #[test]
    fn every_request_meets_every_state() {
        let start = |state| format!("cannot start a {state} process");
        check(Request::Start, ["ok", &start("running"), &start("pausing"), &start("paused"), &start("stopped")]);
        let exec = |state| format!("cannot exec in a {state} state");
        check(Request::Exec, ["ok", "ok", &exec("pausing"), &exec("paused"), &exec("stopped")]);
        let pause = |state| format!("cannot pause a {state} container");
        let created = "cannot pause task in created state";
        check(Request::Pause, [created, "ok", &pause("pausing"), &pause("paused"), &pause("stopped")]);
        let resume = |state| format!("cannot resume a {state} container");
        let created = "cannot resume task in created state";
        let running = "cannot resume a running process";
        check(Request::Resume, [created, running, &resume("pausing"), "ok", &resume("stopped")]);
        check(Request::Update, ["ok", "ok", "ok", "ok", "cannot update a stopped container"]);
        check(Request::Resize, ["ok", "ok", "ok", "ok", "cannot resize a stopped container"]);
        let checkpoint = |state| format!("cannot checkpoint a {state} container");
        let created = "cannot checkpoint a task in created state";
        check(Request::Checkpoint, [created, "ok", &checkpoint("pausing"), "ok", &checkpoint("stopped")]);
        check(Request::Kill, ["ok", "ok", "ok", "ok", "process already finished"]);
        let delete = |state| format!("cannot delete a {state} process");
        check(Request::Delete, ["ok", &delete("running"), &delete("pausing"), &delete("paused"), "ok"]);
    }

    #[test]
    fn a_registered_exec_cannot_be_signalled() {
        let refused = allow_exec(Request::Kill, State::Created).unwrap_err();
        assert_eq!(refused.to_string(), "process not created");
        assert!(allow_exec(Request::Kill, State::Running).is_ok());
    }

    #[test]
    fn facts_lead_to_states_and_effects() {
        use Effect::{AnnounceExit, AnnouncePaused, AnnounceResumed, AnnounceStart, WakeWaiters};
        for state in [State::Created, State::Running, State::Pausing, State::Paused] {
            assert_eq!(after(Fact::Started, state), (State::Running, &[AnnounceStart][..]));
            assert_eq!(after(Fact::Freezing, state), (State::Pausing, &[][..]));
            assert_eq!(after(Fact::Frozen, state), (State::Paused, &[AnnouncePaused][..]));
            assert_eq!(after(Fact::Exited, state), (State::Stopped, &[AnnounceExit, WakeWaiters][..]));
        }
        assert_eq!(after(Fact::Thawed, State::Paused), (State::Running, &[AnnounceResumed][..]));
        assert_eq!(after(Fact::Thawed, State::Pausing), (State::Running, &[][..]));
    }

    #[test]
    fn an_end_is_final() {
        for fact in [Fact::Started, Fact::Freezing, Fact::Frozen, Fact::Thawed, Fact::Exited] {
            assert_eq!(after(fact, State::Stopped), (State::Stopped, &[][..]));
        }
    }
}
