//! The container and its verbs. Creation is in `create`, the end in `end`; what is in between is here.

mod anatomy;
mod borrowed_cgroup;
mod checkpoint;
mod create;
mod dry_run;
mod end;
mod external;
mod found;
mod limits;
pub(crate) mod maps;
mod place;
mod restore;

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};
use std::time::SystemTime;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tare_plan::Groups;

use crate::cgroup::{self, Cgroup, Entrance, SubCgroup};
use crate::line::{Line, Word};
use crate::oci;
use crate::patience::{LOOKUP, within};
use crate::prepare::Streams;
use crate::record::{Exit, Record};
use crate::seccomp_agent::Subject;
use crate::spawn::{Held, Newborn, Stand, spawn};
use crate::{Error, ExitStatus, Kind, Process, Stdio, gate, hooks, host, lower, oom_score, rooted, steps};
use anatomy::Anatomy;

pub use checkpoint::{Afterwards, Checkpoint, Extent};
pub use dry_run::{Step, dry_run};
pub use end::{Removed, remove};
pub use found::{About, Status};
pub use restore::{Restore, Restoring};

/// What [`Container::create`] is asked for.
#[derive(Debug)]
pub struct Create {
    /// The container's id.
    pub id: String,
    /// The bundle, absolute.
    pub bundle: PathBuf,
    /// The specification, `config.json` of the bundle as read by [`crate::read_spec`].
    pub spec: oci::Spec,
    /// Where the container's record (`state.json`) is kept: a folder that exists. For the shim, the bundle.
    pub state: PathBuf,
    /// File systems to mount on `rootfs` first, as containerd hands them over. Unmounted again by delete.
    pub rootfs: Vec<RootfsMount>,
    /// The standard streams of init.
    pub stdio: Stdio,
    /// Descriptors 3 up to 3 + this number of the calling process are init's, too (`--preserve-fds`).
    pub preserve_fds: u32,
    /// Who may start it.
    pub gate: Gate,
    /// Init is killed when the calling thread ends: a container in the foreground.
    pub die_with_caller: bool,
    /// Do not pivot_root (`--no-pivot`).
    pub no_pivot: bool,
    /// Do not make a new session keyring (`--no-new-keyring`).
    pub no_new_keyring: bool,
    /// Who makes the cgroup.
    pub cgroup_driver: CgroupDriver,
}

impl Create {
    /// A container whose record is kept in `state`, with everything else as it is for most.
    #[must_use]
    pub fn new(id: &str, bundle: PathBuf, spec: oci::Spec, state: PathBuf, stdio: Stdio) -> Self {
        Self {
            id: id.to_owned(),
            bundle,
            spec,
            state,
            rootfs: Vec::new(),
            stdio,
            preserve_fds: 0,
            gate: Gate::Here,
            die_with_caller: false,
            no_pivot: false,
            no_new_keyring: false,
            cgroup_driver: CgroupDriver::Cgroupfs,
        }
    }
}

/// Who may start a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// The [`Container`] that made it; should that process end before, init ends too.
    Here,
    /// Any process that opens it by its state folder.
    Anywhere,
}

/// Who makes a container's cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupDriver {
    /// This process, in the cgroup file systems.
    Cgroupfs,
    /// systemd, as a transient scope.
    Systemd,
    /// Nobody: it stays in the caller's.
    Disabled,
}

/// A mount as containerd's `types.Mount` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "containerd's names")]
pub struct RootfsMount {
    pub kind: String,
    pub source: String,
    pub target: String,
    pub options: Vec<String>,
}

/// What [`Container::exec`] is asked for.
#[derive(Debug)]
pub struct Exec {
    /// The process, as `config.json` would have it.
    pub process: oci::Process,
    /// Its standard streams.
    pub stdio: Stdio,
    /// As [`Create::preserve_fds`].
    pub preserve_fds: u32,
    /// Places below the container's cgroup to be in instead of it.
    pub sub_cgroups: Vec<SubCgroup>,
    /// Where the container is paused.
    pub if_paused: IfPaused,
}

/// What becomes of a process that joins a container which is paused, and is frozen with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfPaused {
    /// It is given up after half a minute, as whatever is stuck.
    GivesUp,
    /// It begins when the container is resumed.
    Waits,
}

impl Exec {
    /// A process with these streams, in the container's own cgroup.
    #[must_use]
    pub fn new(process: oci::Process, stdio: Stdio) -> Self {
        Self { process, stdio, preserve_fds: 0, sub_cgroups: Vec::new(), if_paused: IfPaused::GivesUp }
    }
}

/// A container that exists. All verbs take `&self`, block for milliseconds at most (hooks aside), and may be called
/// from several threads at once.
#[derive(Debug)]
pub struct Container {
    /// What is on disk.
    record: Mutex<Record>,
    /// The folder of the record.
    state: PathBuf,
    cgroup: Cgroup,
    /// Init, from which execs take the namespaces; `None` when it had ended before this was opened.
    init: Option<OwnedFd>,
    pid: i32,
    own_namespaces: u32,
    /// Planned when it is first asked for.
    anatomy: OnceLock<Anatomy>,
    /// Init's control socket, until it is started through it.
    gate: Mutex<Option<Line>>,
}

impl Container {
    /// Lets init execute its program.
    ///
    /// # Errors
    /// `exec …` failing in the child, or a failing startContainer hook; init has then ended.
    pub fn start(&self) -> Result<(), Error> {
        let anatomy = self.anatomy()?;
        // Killed while its line is open: it would take the end of the line for the order to leave, by itself.
        let line = lock(&self.gate).take();
        if let Some(line) = &line {
            self.open_line(anatomy, line).inspect_err(|_| self.kill_init())?;
        } else {
            let key = gate::Key::take(&self.state)?.ok_or_else(|| self.not_created())?;
            self.open_gate(anatomy, key).inspect_err(|_| self.kill_init())?;
        }
        drop(line);
        let poststart = &anatomy.hooks.poststart;
        if poststart.is_empty() {
            return Ok(());
        }
        let place = hooks::Place::Host(&self.bundle());
        // Runtime-spec 1.3: a failing poststart hook stops the container.
        hooks::run("poststart", poststart, &self.hook_state("running"), place).inspect_err(|_| self.kill_init())
    }

    fn not_created(&self) -> Error {
        let what = match self.init_is_alive() {
            true => "cannot start an already running container",
            false => "cannot start a container that has stopped",
        };
        Error::new(Kind::State, what)
    }

    fn open_line(&self, anatomy: &Anatomy, line: &Line) -> Result<(), Error> {
        self.run_start_hooks(anatomy)?;
        line.go()?;
        match line.next()? {
            Word::Failed { errno, .. } => Err(not_executed(anatomy, errno)),
            _ => Ok(()),
        }
    }

    fn open_gate(&self, anatomy: &Anatomy, key: gate::Key<'_>) -> Result<(), Error> {
        self.run_start_hooks(anatomy)?;
        key.open()?.map_err(|errno| not_executed(anatomy, errno))
    }

    /// SECURITY: these hooks are programs of the image. They get what the container's own process gets, not more.
    fn run_start_hooks(&self, anatomy: &Anatomy) -> Result<(), Error> {
        let hooks = &anatomy.hooks.start_container;
        if hooks.is_empty() {
            return Ok(());
        }
        let process = self.at_home(anatomy.process.clone())?;
        hooks::run_each("startContainer", hooks, &self.hook_state("created"), |hook, streams| {
            let [stdin, stdout, stderr] = streams;
            let copy = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, 0);
            let streams = [copy(stdin), copy(stdout), copy(stderr)].into_iter().collect::<Result<Vec<_>, _>>();
            let streams = streams.map_err(|errno| Error::system("duplicate a hook's streams", errno))?;
            let streams = Streams::Open(streams.try_into().map_err(|_| Error::new(Kind::System, "three streams"))?);
            let about = ("created", 0, IfPaused::GivesUp);
            self.join_in(self.cgroup.entrance()?, &as_hook(&process, hook), &streams, about)
        })
    }

    /// It may have ended by itself.
    fn kill_init(&self) {
        if let Some(init) = &self.init {
            let _ = crate::sys::signal::send(init.as_fd(), libc::SIGKILL);
        }
    }

    /// Starts another process in the container (created or running).
    ///
    /// # Errors
    /// As [`Container::create`].
    pub fn exec(&self, request: Exec) -> Result<Process, Error> {
        let host = host::host()?;
        let groups = self.groups()?;
        let process = tare_plan::process(&request.process, "process", groups, host)?;
        let process = oom_score::bearable(process, host);
        let streams = Streams::new(request.stdio)?;
        streams.fit(&process)?;
        let about = ("running", request.preserve_fds, request.if_paused);
        let join = |cgroup: Entrance| self.join_in(cgroup, &process, &streams, about);
        if !request.sub_cgroups.is_empty() {
            let joined = join(self.cgroup.entrance_at(&request.sub_cgroups)?);
            return joined.map_err(|error| match error.errno() {
                Some(Errno::BUSY) => error.during(cgroup::ADDING),
                _ => error,
            });
        }
        match join(self.cgroup.entrance()?) {
            // The cgroup has children with controllers of their own, and takes no process itself (runc#2356).
            Err(error) if error.errno() == Some(Errno::BUSY) => join(self.cgroup.entrance_beside(self.pid)?),
            other => other,
        }
    }

    /// Joins the cgroup, one way or the other.
    fn join_in(
        &self,
        cgroup: Entrance,
        process: &tare_plan::Process,
        streams: &Streams,
        about: (&str, u32, IfPaused),
    ) -> Result<Process, Error> {
        let mut entrance = create::entrance(cgroup, lock(&self.record).resctrl.as_ref())?;
        self.join(process, streams, &entrance, about).or_else(|error| {
            entrance.after_birth(error)?;
            self.join(process, streams, &entrance, about)
        })
    }

    /// What a process that joins now may do about its groups. A user without privileges has made a user namespace in which
    /// nobody may set them, and root of the host may come later.
    fn groups(&self) -> Result<Groups, Error> {
        let anatomy = self.anatomy()?;
        if anatomy.groups == Groups::Kept || anatomy.namespaces & lower::NEWUSER == 0 {
            return Ok(anatomy.groups);
        }
        let denied = std::fs::read(format!("/proc/{}/setgroups", self.pid)).is_ok_and(|word| word.starts_with(b"deny"));
        Ok(if denied { Groups::Kept } else { Groups::Set })
    }

    /// The process with a `HOME`: its own, or that of its user in the container's /etc/passwd.
    fn at_home(&self, process: tare_plan::Process) -> Result<tare_plan::Process, Error> {
        if !tare_plan::needs_home(&process) {
            return Ok(process);
        }
        let pid = self.pid;
        // SECURITY: the container may have put a file system of its own there.
        let found = within(LOOKUP, "look for HOME in /etc/passwd", move || rooted::root_of(pid).map(rooted::passwd));
        let passwd = found?.map_err(|errno| self.stopped(errno))?;
        // The number may have been somebody else's.
        if !self.init_is_alive() {
            return Err(self.stopped(Errno::SRCH));
        }
        Ok(tare_plan::with_home(process, &passwd))
    }

    /// `about`: what the container's status is meanwhile, how many descriptors from 3 on the process keeps, and whether it
    /// may be frozen.
    fn join(
        &self,
        process: &tare_plan::Process,
        streams: &Streams,
        entrance: &Entrance,
        about: (&str, u32, IfPaused),
    ) -> Result<Process, Error> {
        let (status, preserve_fds, if_paused) = about;
        let anatomy = self.anatomy()?;
        let host = host::host()?;
        let cgroup_namespace = self.cgroup_namespace(anatomy.namespaces)?;
        let joining = lower::Joining {
            init: self.init.as_ref().ok_or_else(|| self.stopped(Errno::SRCH))?.as_fd(),
            namespaces: anatomy.namespaces,
            personality: anatomy.personality,
            keyring: anatomy.keyring.as_deref(),
            is_root: host.euid == 0 && !host.setgroups_denied,
        };
        let in_users = anatomy.namespaces & lower::NEWUSER != 0;
        let raised = spawn(lower::join(process, &joining)).and_then(|mut newborn| {
            steps::begun(newborn.process()?.pid());
            // While it joins.
            let process = &self.at_home(process.clone())?;
            let filter = anatomy.filter()?;
            let becoming = lower::Becoming {
                cgroup_namespace: cgroup_namespace.as_ref().map(OwnedFd::as_fd),
                entrance,
                streams,
                memory_policy: anatomy.memory_policy.as_ref(),
                filter,
                preserve_fds,
                last_capability: host.last_capability,
                limits: if in_users { lower::Limits::ByParent } else { lower::Limits::BySelf },
            };
            let mut rest = Some(Held::new(lower::exec(process, &becoming))?);
            while let Stand::Waiting(point) = self.listen(&mut newborn, if_paused)? {
                let joined = newborn.process()?;
                match point {
                    lower::point::SCRIPT => {
                        let twice = || Error::new(Kind::System, "the stub asks twice for its script");
                        newborn.go_on_with(rest.take().ok_or_else(twice)?)?;
                        continue;
                    }
                    lower::point::LISTENER => {
                        let subject = Subject { pid: joined.pid(), state: self.hook_state(status) };
                        newborn.tell_agent(filter, &subject)?;
                    }
                    lower::point::CGROUP => self.cgroup.attach(joined.pid(), entrance)?,
                    lower::point::SIZE => joined.resize(process.terminal)?,
                    lower::point::LIMITS => crate::sys::rlimit::set_all(joined.pid(), &process.rlimits)?,
                    other => {
                        return Err(Error::new(Kind::System, format!("the stub waits at unknown point {other}")));
                    }
                }
                newborn.go()?;
            }
            steps::step(|| "setns_init: about to exec");
            newborn.keep()
        });
        raised.map_err(|error| match error.errno() {
            Some(errno) if !self.init_is_alive() => self.stopped(errno),
            _ => error,
        })
    }

    /// A stub that is frozen with the container has nothing to say until it is resumed.
    fn listen(&self, newborn: &mut Newborn, if_paused: IfPaused) -> Result<Stand, Error> {
        loop {
            let frozen = if_paused == IfPaused::Waits && matches!(self.cgroup.state(), Ok(cgroup::State::Frozen));
            match newborn.listen() {
                Err(error) if frozen && error.kind() == Kind::Timeout => {}
                other => return other,
            }
        }
    }

    /// Its own cgroup namespace, which is not joined in one step with the others.
    fn cgroup_namespace(&self, kinds: u32) -> Result<Option<OwnedFd>, Error> {
        if kinds & lower::NEWCGROUP == 0 {
            return Ok(None);
        }
        let namespace = rooted::cgroup_namespace_of(self.pid).map_err(|errno| self.stopped(errno))?;
        // Else the number may have been somebody else's.
        if self.init_is_alive() { Ok(Some(namespace)) } else { Err(self.stopped(Errno::SRCH)) }
    }

    /// A container whose init has gone has no namespaces to join.
    fn stopped(&self, errno: Errno) -> Error {
        if self.init_is_alive() {
            return Error::system("join the container", errno);
        }
        Error::new(Kind::State, "cannot exec in a stopped container")
    }

    /// A pidfd is readable once its process has ended, reaped or not.
    fn init_is_alive(&self) -> bool {
        let Some(init) = &self.init else { return false };
        let mut watched = [PollFd::new(init, PollFlags::IN)];
        poll(&mut watched, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) == Ok(0)
    }

    /// Sends `signal` to every process in the container's cgroup. SIGKILL leaves nothing behind that could fork away.
    ///
    /// # Errors
    /// The kernel refusing.
    pub fn signal_all(&self, signal: i32) -> Result<(), Error> {
        if self.cgroup.is_none() && signal == libc::SIGKILL {
            // Nobody but init can be found; in a pid namespace of its own, its end is the end of all.
            return self.signal(signal);
        }
        let cgroup = self.cgroup.required()?;
        if signal == libc::SIGKILL { cgroup.kill() } else { cgroup.signal(signal) }
    }

    /// Init has a pid namespace of its own, so that its end is the end of all.
    #[must_use]
    pub fn owns_pid_namespace(&self) -> bool {
        self.own_namespaces & lower::NEWPID != 0
    }

    /// Freezes every process.
    ///
    /// # Errors
    /// The kernel refusing, or not frozen within ten seconds.
    pub fn pause(&self) -> Result<(), Error> {
        self.cgroup.required()?.freeze()
    }

    /// Thaws every process.
    ///
    /// # Errors
    /// The kernel refusing.
    pub fn resume(&self) -> Result<(), Error> {
        self.cgroup.required()?.thaw()
    }

    /// The numbers of all processes in the container's cgroup, in this process's pid namespace.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`] when the cgroup is gone.
    pub fn pids(&self) -> Result<Vec<i32>, Error> {
        self.cgroup.required()?.pids()
    }

    /// Notes how init ended in the container's record, so that [`remove`] can tell after a crash of this process.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn record_exit(&self, status: ExitStatus, at: SystemTime) -> Result<(), Error> {
        let mut record = lock(&self.record);
        record.exit = Some(Exit::new(status, at));
        record.write(&self.state)
    }

    fn bundle(&self) -> PathBuf {
        lock(&self.record).bundle.clone()
    }

    fn hook_state(&self, status: &str) -> serde_json::Value {
        let record = lock(&self.record);
        hooks::state(&record.id, status, self.pid, &record.bundle, &record.annotations)
    }
}

/// Its program could not be executed.
fn not_executed(anatomy: &Anatomy, errno: Errno) -> Error {
    let program = anatomy.process.args.first().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    Error::program(format!("exec {program}"), errno)
}

/// A startContainer hook: the container's process, but for the program.
fn as_hook(process: &tare_plan::Process, hook: &tare_plan::Hook) -> tare_plan::Process {
    tare_plan::Process {
        args: hook.args.clone(),
        env: hook.env.clone().unwrap_or_else(|| process.env.clone()),
        candidates: vec![hook.path.clone()],
        terminal: None,
        ..process.clone()
    }
}

/// Nothing panics while it holds one of these locks; if something did, what it guards is still whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
