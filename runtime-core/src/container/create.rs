//! Creating a container: decide everything, write down what will be touched, touch it, and give birth. Whatever fails
//! on the way undoes what was done before it, by being dropped.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::SystemTime;

use rustix::io::Errno;
use tare_plan::{Choices, Namespaces, Plan};

use super::anatomy::{Anatomy, all_namespaces, keyring};
use super::maps;
use super::place;
use super::{CgroupDriver, Container, Create, Gate, RootfsMount};
use crate::cgroup::{self, Cgroup, Entrance};
use crate::gate::Fifos;
use crate::line::Line;
use crate::lower::{self, Errand, Lowering, point, tag};
use crate::net_devices::{Journey, Moved};
use crate::old_root::OldRoot;
use crate::prepare::Prepared;
use crate::record::{Record, StoredHook, inode, since_1970, start_time};
use crate::resctrl::{self, Resctrl};
use crate::seccomp_agent::Subject;
use crate::spawn::{GATE, Held, Newborn, Stand, spawn};
use crate::{Error, Kind, Process, Stdio, hooks, host, id_map, oom_score, rooted, rootfs, spec, steps};

/// Set-up that is not a container yet: dropped while armed, it takes away what its record names.
#[derive(Debug)]
pub(super) struct Undo {
    state: PathBuf,
    pub(super) record: Record,
    armed: bool,
}

/// Everything that a container has before its first process.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) plan: Plan,
    pub(super) undo: Undo,
    pub(super) prepared: Prepared,
}

impl Undo {
    /// Makes the cgroup, or writes down that there is none after all.
    fn make_cgroup(&mut self, cgroup: Cgroup, plan: &Plan) -> Result<Cgroup, Error> {
        self.record.cgroup = cgroup.clone();
        if cgroup.is_unit() {
            return Ok(cgroup);
        }
        if place::made(&cgroup, plan).inspect_err(|error| self.disown(error))? {
            self.own_cgroup()?;
            place::fill(&cgroup, plan)?;
            return Ok(cgroup);
        }
        if plan.namespaces.new & lower::NEWPID == 0 {
            crate::warnings::warn(
                "Creating a rootless container with no cgroup and no private pid namespace. Such configuration is \
                 strongly discouraged (as it is impossible to properly kill all container's processes)",
            );
        }
        self.record.cgroup = Cgroup::none();
        self.own_cgroup()?;
        Ok(Cgroup::none())
    }

    /// From here on whoever is in the cgroup is the container's, for whoever reads the record.
    fn own_cgroup(&mut self) -> Result<(), Error> {
        self.record.cgroup_to_be.take().map_or(Ok(()), |_| self.record.write(&self.state))
    }

    /// systemd makes the cgroup around the first process.
    pub(super) fn start_unit(&mut self, plan: &Plan, pid: i32) -> Result<(), Error> {
        place::start_unit(&self.record.cgroup, plan, pid)?;
        self.own_cgroup()?;
        place::fill(&self.record.cgroup, plan)
    }

    /// Moves the plan's network devices. What a namespace would keep that outlives the container is on record meanwhile.
    fn lend(&mut self, plan: &Plan, prepared: &Prepared, inside: OwnedFd, pid: i32) -> Result<Moved, Error> {
        let journey = Journey::plan(&plan.net_devices, inside)?;
        let path = plan.namespaces.join.iter().find(|(kind, _)| *kind == lower::NEWNET);
        let joined = prepared.joined.iter().find(|(kind, _)| *kind == lower::NEWNET);
        if let (Some((_, path)), Some((_, namespace))) = (path, joined) {
            self.record.lent = Some(journey.lent(path, namespace)?);
            self.record.write(&self.state)?;
        }
        journey.go(pid)
    }

    /// Somebody else has the cgroup: undoing must not kill whoever is in it, and no hook hears of a container that there
    /// never was.
    fn disown(&mut self, error: &Error) {
        if matches!(error.kind(), Kind::Exists | Kind::State) {
            (self.record.cgroup, self.record.cgroup_to_be) = (Cgroup::none(), None);
            (self.record.resctrl, self.record.poststop) = (None, Vec::new());
        }
    }

    /// Takes everything away.
    pub(super) fn now(mut self) -> Result<(), Error> {
        self.armed = false;
        super::end::finish(&self.record, &self.state)
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if self.armed {
            // The error that brought us here is the one to report; what cannot be undone now, delete will find in the
            // record, which goes last.
            drop(super::end::finish(&self.record, &self.state));
        }
    }
}

impl Container {
    /// Makes the container up to the point where its process waits for [`Container::start`].
    ///
    /// # Errors
    /// Says phase, operation, object and errno; whatever was half-made has been undone.
    pub fn create(mut request: Create) -> Result<(Self, Process), Error> {
        refuse_existing(&request.state)?;
        // Meanwhile the rest is decided, and the cgroup is made.
        let newborn = begin(&tare_plan::namespaces(&request.spec, host::host()?)?).map_err(starting)?;
        let plan = decide(&request)?;
        let Ground { plan, mut undo, mut prepared } = lay_ground(&mut request, plan)?;
        let fifos = if request.gate == Gate::Anywhere { Some(Fifos::make(&request.state)?) } else { None };
        let born = give_birth(newborn, &plan, &prepared, &mut undo, (&request, fifos.as_ref())).or_else(|error| {
            prepared.entrance.after_birth(error)?;
            let newborn = begin(&plan.namespaces)?;
            give_birth(newborn, &plan, &prepared, &mut undo, (&request, fifos.as_ref()))
        });
        // systemd says only now that there is a unit of this name.
        let born = born.inspect_err(|error| undo.disown(error));
        let (process, line) = born.map_err(starting)?;
        Self::settle(&request, plan, undo, process, Some(line))
    }

    /// Its first process goes on record, and what was made is there to stay.
    pub(super) fn settle(
        request: &Create,
        plan: Plan,
        mut undo: Undo,
        process: Process,
        line: Option<Line>,
    ) -> Result<(Self, Process), Error> {
        undo.record.init_process_pid = process.pid();
        undo.record.init_process_start = start_time(process.pid()).unwrap_or(0);
        undo.record.init_process_inode = inode(&process);
        // A network namespace that was joined keeps them from now on.
        let lent = undo.record.lent.take();
        let written = can_be_told(&undo.record, &process).and_then(|()| undo.record.write(&request.state));
        let init = rustix::io::fcntl_dupfd_cloexec(process.as_fd(), 0);
        let init = init.map_err(|errno| Error::system("duplicate a pidfd", errno));
        let ready = written.and(init).and_then(|init| Ok((init, at_gate(request.gate, line)?)));
        match ready {
            Ok((init, line)) => {
                undo.armed = false;
                Ok((Self::assemble(request, plan, undo.record.clone(), init, line), process))
            }
            Err(error) => {
                // A process without a record must not live on.
                process.end();
                undo.record.lent = lent;
                Err(error)
            }
        }
    }

    fn assemble(request: &Create, plan: Plan, record: Record, init: OwnedFd, line: Option<Line>) -> Self {
        let namespaces = all_namespaces(&plan) | record.own_namespaces;
        let keyring = keyring(&request.id).filter(|_| !request.no_new_keyring);
        let anatomy = Anatomy { namespaces, ..Anatomy::of(plan, keyring) };
        Self {
            state: request.state.clone(),
            cgroup: record.cgroup.clone(),
            init: Some(init),
            pid: record.init_process_pid,
            own_namespaces: record.own_namespaces,
            record: Mutex::new(record),
            anatomy: OnceLock::from(anatomy),
            gate: Mutex::new(line),
        }
    }
}

/// What is somebody else's must not be in the record: undoing would take it away.
pub(super) fn refuse_existing(state: &Path) -> Result<(), Error> {
    match Record::read(state)? {
        Some(_) => Err(Error::new(Kind::Exists, "container with given ID already exists")),
        None => Ok(()),
    }
}

/// Writes down what will be touched, and touches it.
pub(super) fn lay_ground(request: &mut Create, mut plan: Plan) -> Result<Ground, Error> {
    let cgroup = place::cgroup(request, &plan)?;
    if cgroup.is_unit() {
        cgroup.refuse_used()?;
    }
    let record = intent(request, &plan, &cgroup)?;
    record.write(&request.state)?;
    let mut undo = Undo { state: request.state.clone(), record, armed: true };
    mount_rootfs(&request.rootfs, &plan.rootfs.path)?;
    add_home(&mut plan);
    let host = host::host()?;
    plan.process = oom_score::bearable(plan.process, host);
    let cgroup = undo.make_cgroup(cgroup, &plan)?;
    if cgroup.is_none() {
        super::borrowed_cgroup::show_callers(&mut plan, &host.cgroups);
    }
    if let (Some(resctrl), Some(rdt)) = (&undo.record.resctrl, &plan.intel_rdt) {
        resctrl.create(rdt)?;
    }
    let stdio = std::mem::replace(&mut request.stdio, Stdio::Terminal);
    let entrance = entrance(cgroup.first_entrance()?, undo.record.resctrl.as_ref())?;
    let prepared = Prepared::new(&plan, entrance, cgroup.devices_above(), stdio)?;
    prepared.streams.fit(&plan.process)?;
    Ok(Ground { plan, undo, prepared })
}

/// The plan, and what this version cannot do yet.
pub(super) fn decide(request: &Create) -> Result<Plan, Error> {
    let host = host::host()?;
    let (default_cgroup_parent, systemd) = match request.cgroup_driver {
        CgroupDriver::Systemd => (PathBuf::from("/"), Some(cgroup::manager(host)?)),
        CgroupDriver::Cgroupfs => (cgroup::parent(host)?, None),
        CgroupDriver::Disabled => (PathBuf::from("/"), None),
    };
    let choices = Choices { id: request.id.clone(), bundle: request.bundle.clone(), default_cgroup_parent, systemd };
    let plan = tare_plan::container(&request.spec, &choices, host)?;
    Ok(plan)
}

/// Whoever opens the container by its record has to know init from a later process of its number.
fn can_be_told(record: &Record, init: &Process) -> Result<(), Error> {
    if record.init_process_start != 0 || record.init_process_inode != 0 || init.has_ended() {
        return Ok(());
    }
    let what = "procfs hides the container's process (hidepid): telling it by its pidfd needs Linux 6.9";
    Err(Error::new(Kind::Unsupported, what))
}

/// Who waits at the gate for anybody does so from now on, being on record: until then, init ends with this process. The
/// line is kept for who waits for this one.
fn at_gate(gate: Gate, line: Option<Line>) -> Result<Option<Line>, Error> {
    match (gate, &line) {
        (Gate::Anywhere, Some(waiting)) => waiting.go().map(|()| None),
        _ => Ok(line),
    }
}

fn starting(error: Error) -> Error {
    error.during("unable to start container process")
}

/// Starts a stub on what the container's first process does first.
fn begin(namespaces: &Namespaces) -> Result<Newborn, Error> {
    let newborn = spawn(lower::first(namespaces))?;
    steps::begun(newborn.process()?.pid());
    Ok(newborn)
}

fn give_birth(
    mut newborn: Newborn,
    plan: &Plan,
    prepared: &Prepared,
    undo: &mut Undo,
    (request, fifos): (&Create, Option<&Fifos>),
) -> Result<(Process, Line), Error> {
    let script = Held::new(lower::init(plan, prepared, &lowering(request, plan, fifos)?))?;
    match newborn.listen()? {
        Stand::Waiting(point::SCRIPT) => newborn.go_on_with(script)?,
        other => return Err(Error::new(Kind::System, format!("the stub waits for no script: {other:?}"))),
    }
    // While the stub mounts.
    keep_spec(request)?;
    raise(&mut newborn, plan, prepared, undo, request)?;
    newborn.keep_waiting()
}

/// The container's own copy of its specification.
pub(super) fn keep_spec(request: &Create) -> Result<(), Error> {
    if request.state == request.bundle {
        return Ok(());
    }
    spec::keep_spec(&request.spec, &request.state)
}

/// What the caller has chosen beside the plan.
pub(super) fn lowering<'a>(request: &'a Create, plan: &Plan, fifos: Option<&'a Fifos>) -> Result<Lowering<'a>, Error> {
    let old_root = if request.no_pivot { OldRoot::underneath(&plan.rootfs.path)? } else { OldRoot::PutAway };
    let host = host::host()?;
    Ok(Lowering {
        id: &request.id,
        no_new_keyring: request.no_new_keyring,
        last_capability: host.last_capability,
        euid: host.euid,
        fifos,
        preserve_fds: request.preserve_fds,
        old_root,
        die_with_caller: request.die_with_caller,
    })
}

/// What will be touched, before it is.
fn intent(request: &Create, plan: &Plan, cgroup: &Cgroup) -> Result<Record, Error> {
    Ok(Record {
        id: request.id.clone(),
        init_process_pid: 0,
        init_process_start: 0,
        init_process_inode: 0,
        created: since_1970(SystemTime::now()),
        bundle: request.bundle.clone(),
        rootfs: plan.rootfs.path.clone(),
        own_namespaces: plan.namespaces.new,
        no_new_keyring: request.no_new_keyring,
        rootfs_mounts: rootfs::mount_points(&request.rootfs, &plan.rootfs.path),
        // Until it is made, the cgroup is whose process is in it: undoing must not kill that one.
        cgroup: Cgroup::none(),
        cgroup_to_be: (!cgroup.is_none()).then(|| cgroup.clone()),
        lent: None,
        resctrl: match &plan.intel_rdt {
            Some(rdt) => Some(Resctrl::plan(rdt, &request.id, resctrl::root()?)?),
            None => None,
        },
        poststop: plan.hooks.poststop.iter().map(StoredHook::new).collect(),
        annotations: plan.annotations.clone(),
        exit: None,
    })
}

/// The ways into the cgroup, and into the groups of resctrl: both are entered by writing `0` to a file.
pub(super) fn entrance(cgroup: Entrance, resctrl: Option<&Resctrl>) -> Result<Entrance, Error> {
    let mut entrance = cgroup;
    if let Some(resctrl) = resctrl {
        entrance.tasks.extend(resctrl.tasks()?);
    }
    Ok(entrance)
}

fn mount_rootfs(mounts: &[RootfsMount], rootfs: &Path) -> Result<(), Error> {
    if mounts.is_empty() {
        return Ok(());
    }
    match rustix::fs::mkdir(rootfs, rustix::fs::Mode::from_raw_mode(0o711)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(Error::system(format!("make {}", rootfs.display()), errno)),
    }
    rootfs::mount_all(mounts, rootfs)
}

/// `HOME` comes from the image's passwd where the specification has none.
fn add_home(plan: &mut Plan) {
    if tare_plan::needs_home(&plan.process) {
        let passwd = rooted::directory(&plan.rootfs.path).map(rooted::passwd).unwrap_or_default();
        plan.process = tare_plan::with_home(plan.process.clone(), &passwd);
    }
}

/// Brings a newborn up to its gate.
fn raise(
    newborn: &mut Newborn,
    plan: &Plan,
    prepared: &Prepared,
    undo: &mut Undo,
    request: &Create,
) -> Result<(), Error> {
    let (mut moved, mut id_maps) = (None, prepared.mapped_by_parent());
    loop {
        let stand = newborn.listen()?;
        let process = newborn.process()?;
        match stand {
            Stand::Waiting(point::DEVICES) => {
                let pid = process.pid();
                moved = Some(undo.lend(plan, prepared, newborn.take(tag::NETLINK)?, pid)?);
            }
            Stand::Waiting(point::LISTENER) => {
                let subject = Subject { pid: process.pid(), state: creating(plan, request, process) };
                newborn.tell_agent(plan.seccomp.as_ref(), &subject)?;
            }
            Stand::Waiting(GATE) => {
                if prepared.handover.is_none() {
                    id_map::check_claim(process.pid(), &plan.namespaces)?;
                }
                moved.into_iter().for_each(Moved::keep);
                steps::step(|| "init: closing the pipe to signal completion");
                return Ok(());
            }
            Stand::Waiting(point::MAPS) => maps::give(&plan.namespaces, process.pid())?,
            Stand::Waiting(point::IDS) => {
                let pid = process.pid();
                id_map::map(&newborn.take(tag::INNER)?, id_maps.next(), pid)?;
            }
            Stand::Waiting(point::TREES) => {
                carry(newborn, plan, prepared)?;
                continue;
            }
            Stand::Waiting(point::CGROUP) => undo.start_unit(plan, process.pid())?,
            Stand::Waiting(point::HOOKS) => run_hooks(plan, request, process)?,
            Stand::Waiting(point::LIMITS) => crate::sys::rlimit::set_all(process.pid(), &plan.process.rlimits)?,
            Stand::Waiting(point::SIZE) => process.resize(plan.process.terminal)?,
            Stand::Waiting(other) => {
                return Err(Error::new(Kind::System, format!("the stub waits at unknown point {other}")));
            }
            Stand::Executed => return Err(Error::new(Kind::System, "the process executed before it was started")),
        }
        newborn.go()?;
    }
}

/// Sends a porter with the host's trees. The child is let go first: it takes what the porter gives, one by one, and a full
/// socket would stop the porter.
fn carry(newborn: &Newborn, plan: &Plan, prepared: &Prepared) -> Result<(), Error> {
    let Some(handover) = &prepared.handover else {
        return Err(Error::new(Kind::System, "the stub waits for trees that nobody brings"));
    };
    let process = newborn.process()?;
    id_map::check_claim(process.pid(), &plan.namespaces)?;
    let users = id_map::of_process(process.pid())?;
    let errand = Errand { process: process.as_fd(), kinds: libc::CLONE_NEWNS.cast_unsigned(), users: users.as_fd() };
    let script = lower::porter(plan, prepared, handover, &errand);
    let mut porter = spawn(script)?;
    newborn.go()?;
    porter.listen()?;
    porter.keep()?.wait().map(drop)
}

/// Everything is mounted, the root is still the host's: prestart and createRuntime see the host, createContainer the
/// container's namespaces.
fn run_hooks(plan: &Plan, request: &Create, process: &Process) -> Result<(), Error> {
    let state = creating(plan, request, process);
    let outside = hooks::Place::Host(&request.bundle);
    hooks::run("prestart", &plan.hooks.prestart, &state, outside)?;
    hooks::run("createRuntime", &plan.hooks.create_runtime, &state, outside)?;
    let inside = hooks::Place::Inside(process.as_fd(), all_namespaces(plan));
    hooks::run("createContainer", &plan.hooks.create_container, &state, inside)
}

/// The state while it is made.
fn creating(plan: &Plan, request: &Create, process: &Process) -> serde_json::Value {
    hooks::state(&request.id, "creating", process.pid(), &request.bundle, &plan.annotations)
}
