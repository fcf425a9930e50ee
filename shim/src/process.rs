//! One process of a task, init or exec: its state, its streams, and its end, which is told to whoever waits.
//!
//! It is born once and owned by its pidfd. Facts reach it through [`Process::happened`], the only place where a state
//! changes; what follows from a fact is announced there, in order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use protos::events::{TaskExecStarted, TaskExit, TaskPaused, TaskResumed, TaskStart};
use runtime_core::{Error, ExitStatus, Kind};
use tokio::io::Interest;
use tokio::sync::watch;

use crate::encode;
use crate::events::Events;
use crate::lifecycle::{self, Effect, Fact, Refused, Request, State};
use crate::orphans::Owned;
use crate::stdio::{Io, Streams};
use crate::sys::{self, Watch};

/// How and when a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit {
    /// As the kernel told it.
    pub(crate) status: ExitStatus,
    /// When it was reaped.
    pub(crate) at: SystemTime,
}

/// What can be waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    /// Where it is in its life.
    pub(crate) state: State,
    /// Its end, once told.
    pub(crate) exit: Option<Exit>,
    /// It was reaped, whether or not that was announced yet.
    pub(crate) reaped: bool,
    /// It was deleted.
    pub(crate) gone: bool,
}

/// A process.
#[derive(Debug)]
pub(crate) struct Process {
    /// The container it belongs to.
    pub(crate) container: String,
    /// Its exec id; empty for init.
    pub(crate) exec: String,
    /// What the client asked its streams to be.
    pub(crate) streams: Streams,
    progress: watch::Sender<Progress>,
    born: OnceLock<Born>,
    starting: AtomicBool,
    io: Mutex<Io>,
}

#[derive(Debug)]
struct Born {
    process: Watch<runtime_core::Process>,
    _owned: Owned,
}

impl Process {
    /// A process that is yet to be born.
    #[must_use]
    pub(crate) fn new(container: &str, exec: &str, streams: Streams) -> Self {
        Self {
            container: container.into(),
            exec: exec.into(),
            streams,
            progress: watch::Sender::new(Progress { state: State::Created, exit: None, reaped: false, gone: false }),
            born: OnceLock::new(),
            starting: AtomicBool::new(false),
            io: Mutex::default(),
        }
    }

    /// It is born; its relays run.
    ///
    /// # Errors
    /// The kernel refusing to watch it.
    pub(crate) fn born(&self, process: runtime_core::Process, io: Io) -> Result<(), Error> {
        let owned = Owned::child(process.pid());
        let process = sys::watch(process, Interest::READABLE)
            .map_err(|error| Error::new(Kind::System, format!("watch a pidfd: {error}")))?;
        if self.born.set(Born { process, _owned: owned }).is_err() {
            return Err(Error::new(Kind::State, "process born twice"));
        }
        self.with_io(|place| {
            let early = place.stdin_is_closed();
            *place = io;
            if early {
                place.close_stdin();
            }
        });
        Ok(())
    }

    /// Its number; 0 before it is born.
    #[must_use]
    pub(crate) fn pid(&self) -> i32 {
        self.born.get().map_or(0, |born| born.process.get_ref().pid())
    }

    /// How it stands.
    #[must_use]
    pub(crate) fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// Obeys a fact.
    pub(crate) fn happened(&self, fact: Fact, events: &Events) {
        let (state, effects) = lifecycle::after(fact, self.progress().state);
        self.progress.send_modify(|progress| progress.state = state);
        for effect in effects {
            match effect {
                Effect::AnnounceStart => self.announce_start(events),
                Effect::AnnouncePaused => {
                    events.publish(&TaskPaused { container_id: self.container.clone(), ..TaskPaused::new() });
                }
                Effect::AnnounceResumed => {
                    events.publish(&TaskResumed { container_id: self.container.clone(), ..TaskResumed::new() });
                }
                Effect::AnnounceExit => self.announce_exit(events),
                // Waiters look at the exit, which `exited` has put there; changing the state woke them.
                Effect::WakeWaiters => {}
            }
        }
    }

    /// It has ended: told to containerd, then to those who wait.
    pub(crate) fn exited(&self, exit: Exit, events: &Events) {
        self.progress.send_if_modified(|progress| {
            progress.exit = Some(exit);
            false
        });
        self.happened(Fact::Exited, events);
    }

    /// Claims it for a start, so that it is not started twice nor deleted meanwhile. Given back by [`Process::unclaim`]
    /// when the start did not come to anything.
    ///
    /// # Errors
    /// Refused as `request` would be if it ran: it is about to.
    pub(crate) fn claim(&self, request: Request) -> Result<(), Error> {
        if self.starting.swap(true, Ordering::Relaxed) {
            return Err(Refused { request, state: State::Running }.into());
        }
        Ok(())
    }

    /// Gives a claim back.
    pub(crate) fn unclaim(&self) {
        self.starting.store(false, Ordering::Relaxed);
    }

    /// It has been reaped: nothing may be started beside it any more, though its end is announced later.
    pub(crate) fn note_end(&self) {
        self.progress.send_modify(|progress| progress.reaped = true);
    }

    /// It is deleted: whoever waits for an end that was never to come is answered.
    pub(crate) fn deleted(&self) {
        self.progress.send_modify(|progress| progress.gone = true);
    }

    /// Waits for the kernel to say that it has ended, and reaps it.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub(crate) async fn reaped(&self) -> Result<Exit, Error> {
        let Some(born) = self.born.get() else { return Err(Error::new(Kind::State, "process not created")) };
        loop {
            let ready = born.process.readable().await;
            let mut ready = ready.map_err(|error| Error::new(Kind::System, format!("poll a pidfd: {error}")))?;
            match born.process.get_ref().try_wait()? {
                Some(status) => return Ok(Exit { status, at: SystemTime::now() }),
                None => ready.clear_ready(),
            }
        }
    }

    /// Waits until it has ended and that was announced; `None` when it is deleted without ever having run.
    pub(crate) async fn exit(&self) -> Option<Exit> {
        let mut progress = self.progress.subscribe();
        let last = progress.wait_for(|now| now.exit.is_some() && now.state == State::Stopped || now.gone).await;
        last.ok().and_then(|now| now.exit)
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// [`Kind::Finished`] when it has ended.
    pub(crate) fn signal(&self, signal: i32) -> Result<(), Error> {
        match self.born.get() {
            Some(born) => born.process.get_ref().signal(signal),
            None => Err(Error::new(Kind::State, "process not created")),
        }
    }

    /// Does something with its streams.
    pub(crate) fn with_io<T>(&self, act: impl FnOnce(&mut Io) -> T) -> T {
        act(&mut self.io.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes its streams, to finish them.
    #[must_use]
    pub(crate) fn take_io(&self) -> Io {
        self.with_io(std::mem::take)
    }

    fn announce_start(&self, events: &Events) {
        let pid = encode::pid(self.pid());
        if self.exec.is_empty() {
            events.publish(&TaskStart { container_id: self.container.clone(), pid, ..TaskStart::new() });
        } else {
            let (container_id, exec_id) = (self.container.clone(), self.exec.clone());
            events.publish(&TaskExecStarted { container_id, exec_id, pid, ..TaskExecStarted::new() });
        }
    }

    fn announce_exit(&self, events: &Events) {
        let Some(exit) = self.progress().exit else { return };
        events.publish(&TaskExit {
            container_id: self.container.clone(),
            id: if self.exec.is_empty() { self.container.clone() } else { self.exec.clone() },
            pid: encode::pid(self.pid()),
            exit_status: exit.status.number(),
            exited_at: encode::time(exit.at),
            ..TaskExit::new()
        });
    }
}
