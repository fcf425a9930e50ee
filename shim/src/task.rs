//! A task: a container with its init and its execs, and what a client may do with them.
//!
//! Verbs that change the container take turns through the gate, and so does the announcement of init's end: it can
//! neither overtake the start nor fall into the middle of a pause. Nothing that a client must always be able to do, to
//! look or to kill, waits for the gate.

mod disk;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use protos::events::{TaskDelete, TaskExecAdded};
use runtime_core::cgroup::Stats;
use runtime_core::{Container, Error, Kind, Restoring, oci};
use tokio::sync::watch;

use crate::encode;
use crate::events::Events;
use crate::lifecycle::{Fact, Request, State, allow, allow_exec};
use crate::oom;
use crate::orphans::Birth;
use crate::process::{Exit, Process};
use crate::stdio::{self, Owner, Streams};
use crate::work::blocking;
use disk::OnDisk;

/// A task.
#[derive(Debug)]
pub(crate) struct Task {
    /// The bundle.
    pub(crate) bundle: PathBuf,
    /// Its first process.
    pub(crate) init: Arc<Process>,
    owner: Owner,
    /// The container; absent while its processes are on disk.
    container: OnceLock<Arc<Container>>,
    /// What is on disk until the start.
    on_disk: Mutex<Option<OnDisk>>,
    execs: Mutex<BTreeMap<String, Exec>>,
    /// Execs that run or are about to. Init's end is announced when there are none.
    running: watch::Sender<usize>,
    gate: tokio::sync::Mutex<()>,
    oom: Mutex<Option<oom::Watch>>,
    events: Events,
}

/// A registered exec.
#[derive(Debug, Clone)]
struct Exec {
    process: Arc<Process>,
    spec: Arc<oci::Process>,
}

/// Whom a signal is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target<'a> {
    /// The container's first process.
    Init,
    /// Every process of the container.
    All,
    /// One exec.
    Exec(&'a str),
}

/// What Delete found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deleted {
    /// The number that the process had.
    pub(crate) pid: i32,
    /// How it ended; `None` for an exec that never ran.
    pub(crate) exit: Option<Exit>,
}

impl Task {
    /// A task around a container whose init was just born.
    #[must_use]
    pub(crate) fn new(container: Container, init: Arc<Process>, owner: Owner, events: Events) -> Arc<Self> {
        Self::with(OnceLock::from(Arc::new(container)), None, init, owner, events)
    }

    /// A task around a container whose processes are on disk until it is started.
    #[must_use]
    pub(crate) fn on_disk(
        restoring: Box<Restoring>,
        streams: stdio::Prepared,
        init: Arc<Process>,
        owner: Owner,
        events: Events,
    ) -> Arc<Self> {
        Self::with(OnceLock::new(), Some(OnDisk { restoring, streams }), init, owner, events)
    }

    fn with(
        container: OnceLock<Arc<Container>>,
        on_disk: Option<OnDisk>,
        init: Arc<Process>,
        owner: Owner,
        events: Events,
    ) -> Arc<Self> {
        Arc::new(Self {
            bundle: owner.bundle.clone(),
            init,
            owner,
            container,
            on_disk: Mutex::new(on_disk),
            execs: Mutex::default(),
            running: watch::Sender::new(0),
            gate: tokio::sync::Mutex::default(),
            oom: Mutex::default(),
            events,
        })
    }

    /// Awaits the container's end from now on, if it has begun.
    pub(crate) fn watch(self: &Arc<Self>) {
        if let Some(container) = self.container.get() {
            self.watch_memory(container);
            tokio::spawn(self.clone().await_init(container.clone()));
        }
    }

    fn container(&self) -> Result<Arc<Container>, Error> {
        let missing = || Error::new(Kind::State, "the container is on disk until it is started");
        self.container.get().cloned().ok_or_else(missing)
    }

    /// The process that is meant: init for an empty exec id.
    ///
    /// # Errors
    /// There is no such exec.
    pub(crate) fn process(&self, exec: &str) -> Result<Arc<Process>, Error> {
        if exec.is_empty() {
            return Ok(self.init.clone());
        }
        self.exec_of(exec).map(|exec| exec.process)
    }

    /// The state of a process. An exec is frozen with its container.
    #[must_use]
    pub(crate) fn state_of(&self, process: &Process) -> State {
        match (process.progress().state, self.init.progress().state) {
            (State::Running, frozen @ (State::Pausing | State::Paused)) => frozen,
            (own, _) => own,
        }
    }

    /// Lets init run its program.
    ///
    /// # Errors
    /// Refused, or init failing to execute; it has then ended.
    pub(crate) async fn start(self: Arc<Self>) -> Result<i32, Error> {
        let _turn = self.gate.lock().await;
        allow(Request::Start, self.init.progress().state)?;
        let on_disk = self.on_disk.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(on_disk) = on_disk {
            let restored = self.bring_back(on_disk).await;
            restored.map_err(|error| error.during("OCI runtime restore failed"))?;
        } else {
            let container = self.container()?;
            blocking(move || container.start()).await.map_err(|error| error.during("OCI runtime start failed"))?;
        }
        self.init.happened(Fact::Started, &self.events);
        Ok(self.init.pid())
    }

    /// Registers an exec.
    ///
    /// # Errors
    /// Refused, or there is one of that id.
    pub(crate) fn add_exec(&self, id: &str, streams: Streams, spec: oci::Process) -> Result<(), Error> {
        allow(Request::Exec, self.init.progress().state)?;
        if self.container.get().is_none() {
            return Err(Error::new(Kind::State, "cannot exec in a created state"));
        }
        let mut execs = self.execs();
        if execs.contains_key(id) {
            return Err(Error::new(Kind::Exists, format!("id {id}")));
        }
        let process = Arc::new(Process::new(&self.init.container, id, streams));
        execs.insert(id.to_owned(), Exec { process, spec: Arc::new(spec) });
        let (container_id, exec_id) = (self.init.container.clone(), id.to_owned());
        self.events.publish(&TaskExecAdded { container_id, exec_id, ..TaskExecAdded::new() });
        Ok(())
    }

    /// Starts a registered exec. A failure leaves it registered.
    ///
    /// # Errors
    /// Refused, or the process failing to execute.
    pub(crate) async fn start_exec(self: Arc<Self>, id: String) -> Result<i32, Error> {
        let exec = self.exec_of(&id)?;
        allow_exec(Request::Start, exec.process.progress().state)?;
        exec.process.claim(Request::Start)?;
        let process = exec.process.clone();
        let started = self.spawn_exec(exec).await;
        process.unclaim();
        started
    }

    async fn spawn_exec(self: Arc<Self>, exec: Exec) -> Result<i32, Error> {
        let starting = Starting::one_more(&self.running);
        self.may_join()?;
        let _birth = Birth::expected();
        let (stdio, prepared) = stdio::open(&exec.process.streams, &self.owner).await?;
        let container = self.container()?;
        let request = runtime_core::Exec::new((*exec.spec).clone(), stdio);
        let born = blocking(move || container.exec(request)).await;
        let mut born = born
            .map_err(|error| error.during("OCI runtime exec failed: exec failed: unable to start container process"))?;
        let io = prepared.connect(born.take_console());
        // Whatever happens to the streams, the process exists and must be reaped.
        let (io, broken) = match io {
            Ok(io) => (io, None),
            Err(error) => (stdio::Io::default(), Some(error)),
        };
        exec.process.born(born, io)?;
        exec.process.happened(Fact::Started, &self.events);
        tokio::spawn(self.clone().await_exec(exec.process.clone(), starting));
        match broken {
            Some(error) => exec.process.signal(libc::SIGKILL).and(Err(error)),
            None => Ok(exec.process.pid()),
        }
    }

    /// Whether another process may join init: it must be there, and not frozen.
    fn may_join(&self) -> Result<(), Error> {
        let init = self.init.progress();
        if init.reaped || init.state == State::Stopped {
            let text = format!("container {} init process is not running", self.init.container);
            return Err(Error::new(Kind::State, text));
        }
        Ok(allow(Request::Exec, init.state)?)
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// Refused, or the process having ended.
    pub(crate) async fn kill(self: Arc<Self>, target: Target<'_>, signal: i32) -> Result<(), Error> {
        if let Target::Exec(id) = target {
            let exec = self.exec_of(id)?.process;
            allow_exec(Request::Kill, exec.progress().state)?;
            return exec.signal(signal).map_err(finished);
        }
        let state = self.init.progress().state;
        allow(Request::Kill, state)?;
        if target == Target::All {
            let container = self.container()?;
            blocking(move || container.signal_all(signal)).await?;
        } else {
            self.init.signal(signal).map_err(finished)?;
        }
        if signal == libc::SIGKILL && state == State::Paused {
            // A frozen process of a version 1 cgroup dies only once it is thawed.
            let container = self.container()?;
            blocking(move || container.resume()).await?;
        }
        Ok(())
    }

    /// Freezes every process.
    ///
    /// # Errors
    /// Refused, or not frozen in time; they run on then.
    pub(crate) async fn pause(self: Arc<Self>) -> Result<(), Error> {
        let _turn = self.gate.lock().await;
        allow(Request::Pause, self.init.progress().state)?;
        self.init.happened(Fact::Freezing, &self.events);
        let container = self.container()?;
        let frozen = blocking(move || container.pause()).await;
        self.init.happened(if frozen.is_ok() { Fact::Frozen } else { Fact::Thawed }, &self.events);
        frozen
    }

    /// Thaws every process.
    ///
    /// # Errors
    /// Refused, or the kernel refusing.
    pub(crate) async fn resume(self: Arc<Self>) -> Result<(), Error> {
        let _turn = self.gate.lock().await;
        allow(Request::Resume, self.init.progress().state)?;
        let container = self.container()?;
        blocking(move || container.resume()).await?;
        self.init.happened(Fact::Thawed, &self.events);
        Ok(())
    }

    /// Changes the limits.
    ///
    /// # Errors
    /// Refused, or a value that cannot be.
    pub(crate) async fn update(self: Arc<Self>, resources: oci::LinuxResources) -> Result<(), Error> {
        let _turn = self.gate.lock().await;
        allow(Request::Update, self.init.progress().state)?;
        let container = self.container()?;
        blocking(move || container.update(&resources)).await
    }

    /// Changes the size of a terminal.
    ///
    /// # Errors
    /// Refused, or the kernel refusing.
    pub(crate) fn resize(&self, exec: &str, width: u16, height: u16) -> Result<(), Error> {
        let process = self.process(exec)?;
        allow(Request::Resize, process.progress().state)?;
        process.with_io(|io| io.resize(width, height))
    }

    /// The processes, each with the exec id it was started under, if it was.
    ///
    /// # Errors
    /// The kernel refusing. A container that has ended has no processes, and perhaps no cgroup.
    pub(crate) async fn pids(self: Arc<Self>) -> Result<Vec<(i32, Option<String>)>, Error> {
        let container = self.container()?;
        let pids = match blocking(move || container.pids()).await {
            Err(error) if error.kind() == Kind::NotFound && self.init.progress().state == State::Stopped => Vec::new(),
            pids => pids?,
        };
        let execs = self.execs();
        let name = |pid| execs.values().find(|exec| exec.process.pid() == pid).map(|exec| exec.process.exec.clone());
        Ok(pids.into_iter().map(|pid| (pid, name(pid))).collect())
    }

    /// What the container has used.
    ///
    /// # Errors
    /// Its cgroup is gone.
    pub(crate) async fn stats(self: Arc<Self>) -> Result<Stats, Error> {
        let container = self.container()?;
        blocking(move || container.stats()).await
    }

    /// Takes an exec away. One that never ran is only forgotten.
    ///
    /// # Errors
    /// Refused: it runs.
    pub(crate) async fn delete_exec(self: Arc<Self>, id: String) -> Result<Deleted, Error> {
        let process = self.exec_of(&id)?.process;
        allow_exec(Request::Delete, process.progress().state)?;
        // For good: it is not to be started any more.
        process.claim(Request::Delete)?;
        let found = Deleted { pid: process.pid(), exit: process.progress().exit };
        self.execs().remove(&id);
        process.take_io().finish().await;
        process.deleted();
        if found.exit.is_some() {
            self.announce_delete(&process, &found);
        }
        Ok(found)
    }

    /// Takes the container away; a created one is ended first. It may be called again after an error.
    ///
    /// # Errors
    /// Refused, or what could not be taken away.
    pub(crate) async fn delete(self: Arc<Self>) -> Result<Deleted, Error> {
        allow(Request::Delete, self.init.progress().state)?;
        if self.container.get().is_none() {
            return self.forget().await;
        }
        if self.init.progress().state == State::Created {
            match self.init.signal(libc::SIGKILL) {
                Err(error) if error.kind() != Kind::Finished => return Err(error),
                _ => {}
            }
        }
        let exit = self.init.exit().await;
        let _turn = self.gate.lock().await;
        if self.init.progress().gone {
            return Err(Error::new(Kind::NotFound, "container does not exist"));
        }
        let container = self.container()?;
        blocking(move || container.delete()).await?;
        let leftover: Vec<Exec> = std::mem::take(&mut *self.execs()).into_values().collect();
        for exec in leftover {
            exec.process.take_io().finish().await;
            exec.process.deleted();
        }
        self.init.take_io().finish().await;
        let found = Deleted { pid: self.init.pid(), exit };
        self.announce_delete(&self.init, &found);
        self.init.deleted();
        Ok(found)
    }

    /// Awaits init's end. It is on record before anything else is done about it, and announced last of all.
    async fn await_init(self: Arc<Self>, container: Arc<Container>) {
        let exit = match self.init.reaped().await {
            Ok(exit) => exit,
            Err(error) => return log::error!("container {}: wait for init: {error}", self.init.container),
        };
        self.init.note_end();
        if let Err(error) = container.record_exit(exit.status, exit.at) {
            log::error!("container {}: record the exit: {error}", self.init.container);
        }
        let _turn = self.gate.lock().await;
        if !container.owns_pid_namespace() {
            let killed = container.clone();
            match blocking(move || killed.signal_all(libc::SIGKILL)).await {
                Err(error) if !matches!(error.kind(), Kind::NotFound | Kind::Finished) => {
                    log::warn!("container {}: end the rest: {error}", self.init.container);
                }
                _ => rest_is_gone(&container).await,
            }
        }
        let mut running = self.running.subscribe();
        // The sender lives in `self`, so there is always an answer.
        let _none = running.wait_for(|running| *running == 0).await.is_ok();
        let oom = self.oom.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(oom) = oom {
            oom.finish().await;
        }
        self.init.exited(exit, &self.events);
    }

    /// Awaits an exec's end. Held until its start was announced, so that the end follows.
    async fn await_exec(self: Arc<Self>, process: Arc<Process>, starting: Starting) {
        match process.reaped().await {
            Ok(exit) => process.exited(exit, &self.events),
            Err(error) => log::error!("container {}: wait for {}: {error}", process.container, process.exec),
        }
        drop(starting);
    }

    fn watch_memory(&self, container: &Container) {
        let (name, events) = (self.init.container.clone(), self.events.clone());
        let watch = container.oom_watch().map_err(|error| error.to_string());
        match watch.and_then(|watch| oom::Watch::start(watch, name, events).map_err(|error| error.to_string())) {
            Ok(watch) => *self.oom.lock().unwrap_or_else(PoisonError::into_inner) = Some(watch),
            Err(error) => log::warn!("container {}: watch for memory: {error}", self.init.container),
        }
    }

    fn announce_delete(&self, process: &Process, found: &Deleted) {
        self.events.publish(&TaskDelete {
            container_id: process.container.clone(),
            pid: encode::pid(found.pid),
            exit_status: found.exit.map_or(0, |exit| exit.status.number()),
            exited_at: found.exit.map(|exit| encode::time(exit.at)).unwrap_or_default(),
            id: process.exec.clone(),
            ..TaskDelete::new()
        });
    }

    fn exec_of(&self, id: &str) -> Result<Exec, Error> {
        let exec = self.execs().get(id).cloned();
        exec.ok_or_else(|| Error::new(Kind::NotFound, format!("process does not exist {id}")))
    }

    fn execs(&self) -> MutexGuard<'_, BTreeMap<String, Exec>> {
        self.execs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits, within a bound, until the processes that have been killed are no more: who hears of init's end may look.
async fn rest_is_gone(container: &Container) {
    for _ in 0..100 {
        if container.pids().map_or(true, |pids| pids.is_empty()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// An exec that runs or is about to, counted for as long as this lives.
#[derive(Debug)]
struct Starting(watch::Sender<usize>);

impl Starting {
    fn one_more(running: &watch::Sender<usize>) -> Self {
        running.send_modify(|running| *running += 1);
        Self(running.clone())
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.0.send_modify(|running| *running -= 1);
    }
}

/// The words that containerd's clients know for a process that has ended.
fn finished(error: Error) -> Error {
    match error.kind() {
        Kind::Finished => Error::new(Kind::Finished, "process already finished"),
        _ => error,
    }
}
