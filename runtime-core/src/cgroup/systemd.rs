//! The cgroup as a transient scope of systemd's: started around the container's first process, changed, and stopped. What
//! the unit is called and which properties it has, the plan says; what systemd has no property for is written into the
//! files, as without it.
//!
//! Only cgroup v2. A conversation is as long as one verb: nothing is kept open while a container runs.

mod address;
mod connection;
#[cfg(test)]
mod tests;
mod wire;

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tare_plan::resources::Resources;
use tare_plan::systemd::{Property, Scope, Systemd, Value, properties, rootless};
use tare_plan::{CgroupLayout, Host};

use self::address::{Address, Whose};
use self::connection::{Connection, Failure, Job, too_long, with_properties};
use self::wire::Body;
use super::{Cgroup, Entrance, file};
use crate::{Error, Kind};

/// How long a verb may take, as with runc.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the end may take: the processes are dead by then, and the directories can be taken away without systemd.
const PATIENCE_AT_THE_END: Duration = Duration::from_secs(10);
/// How often a name that is still in use is tried again; 10 ms, doubled each time: about 600 ms altogether.
const TRIES: u32 = 6;
const MANAGER: &str = "/org/freedesktop/systemd1";

/// The unit that a cgroup belongs to, as the record has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unit {
    name: String,
    whose: Whose,
}

/// What the planner has to know of the service manager.
///
/// # Errors
/// [`Kind::Unsupported`] on cgroup version 1 and where there is no systemd; [`Kind::Timeout`] when it does not answer.
pub(crate) fn manager(host: &Host) -> Result<Systemd, Error> {
    if !matches!(host.cgroups, CgroupLayout::Unified { .. }) {
        let what = "the systemd cgroup driver needs a host with cgroup v2 alone, and this one has version 1";
        return Err(Error::new(Kind::Unsupported, what));
    }
    let mut connection = Connection::open(Address::find(whose(host))?, PATIENCE)?;
    let mut ask = |name| {
        let answer = connection.property(MANAGER, "Manager", name);
        answer.map_err(|failure| failure.during(format_args!("ask systemd for its {name}")))
    };
    let version = ask("Version")?;
    let version = number(&version)
        .ok_or_else(|| Error::new(Kind::System, format!("systemd's version is {version:?}, which is not a number")))?;
    Ok(Systemd { cgroup: Path::new("/").join(ask("ControlGroup")?), version })
}

fn whose(host: &Host) -> Whose {
    if rootless(host) { Whose::Users } else { Whose::Hosts }
}

/// `252.38-1~deb12u1`, `v245`
fn number(version: &str) -> Option<u32> {
    let digits = version.trim_start_matches('v');
    digits.split(|char: char| !char.is_ascii_digit()).next()?.parse().ok()
}

impl Unit {
    fn connect(&self, patience: Duration) -> Result<Connection, Error> {
        Connection::open(Address::find(self.whose)?, patience)
    }

    /// The unit exists and is alive: it is somebody else's.
    pub(super) fn refuse_used(&self) -> Result<(), Error> {
        self.refuse_active(&mut self.connect(PATIENCE)?)
    }

    fn refuse_active(&self, connection: &mut Connection) -> Result<(), Error> {
        let state = self.property(connection, "Unit", "ActiveState");
        match state.map_err(|failure| self.failed("look for", failure))?.as_deref() {
            Some("active" | "activating" | "reloading") => {
                Err(Error::new(Kind::Exists, format!("unit {} exists already", self.name)))
            }
            _ => Ok(()),
        }
    }

    /// A property of the unit; `None` when there is no such unit.
    fn property(&self, connection: &mut Connection, kind: &str, name: &str) -> Result<Option<String>, Failure> {
        let found = match connection.ask("GetUnit", "s", self.named()?) {
            Err(failure) if failure.is("NoSuchUnit") => return Ok(None),
            found => found?,
        };
        let path = found.text().unwrap_or_default().to_owned();
        match connection.property(&path, kind, name) {
            // It has gone in between.
            Err(Failure::Refused { name, .. }) if name.ends_with(".UnknownObject") => Ok(None),
            other => other.map(Some),
        }
    }

    /// Starts the unit around the process `pid`.
    fn start(&self, connection: &mut Connection, scope: &Scope, pid: u32) -> Result<(), Error> {
        let mut properties = scope.properties.clone();
        properties.push(Property { name: "PIDs".into(), value: Value::Words(vec![pid]) });
        let job = self.starting(connection, &properties).map_err(|failure| match failure {
            failure if failure.is("UnitExists") => {
                Error::new(Kind::Exists, format!("unit {} exists already", self.name))
            }
            failure => self.failed("start", failure),
        })?;
        match connection.outcome(&job).map_err(|error| error.during(format_args!("start unit {}", self.name)))?.as_str()
        {
            "done" => Ok(()),
            other => Err(Error::new(Kind::System, format!("start unit {}: the job ended as {other:?}", self.name))),
        }
    }

    /// A unit of that name that has failed, or is on its way out, has to go first.
    fn starting(&self, connection: &mut Connection, properties: &[Property]) -> Result<Job, Failure> {
        let mut pause = Duration::from_millis(10);
        for _ in 1..TRIES {
            match self.start_once(connection, properties) {
                Err(failure) if failure.is("UnitExists") => {}
                other => return other,
            }
            self.reset(connection)?;
            std::thread::sleep(pause);
            pause *= 2;
        }
        self.start_once(connection, properties)
    }

    fn start_once(&self, connection: &mut Connection, properties: &[Property]) -> Result<Job, Failure> {
        let mut body = self.named()?;
        body.text("replace").ok_or_else(too_long)?;
        let mut body = with_properties(body, properties)?;
        body.nothing().ok_or_else(too_long)?;
        connection.job("StartTransientUnit", "ssa(sv)a(sa(sv))", body)
    }

    /// Moves a process into the unit, which may be where only systemd may move it.
    fn attach(&self, connection: &mut Connection, below: &str, pid: u32) -> Result<(), Error> {
        let mut body = self.named()?;
        body.text(below).and_then(|()| body.words(&[pid])).ok_or_else(too_long)?;
        let attached = connection.ask("AttachProcessesToUnit", "ssau", body);
        attached.map(drop).map_err(|failure| self.failed("move a process into", failure))
    }

    fn change(&self, connection: &mut Connection, resources: &Resources) -> Result<(), Error> {
        let version = connection.property(MANAGER, "Manager", "Version");
        let version = version.map_err(|failure| self.failed("change", failure))?;
        let properties = properties(resources, number(&version).unwrap_or(0));
        if properties.is_empty() {
            return Ok(());
        }
        let mut body = self.named()?;
        // True: until the unit ends, and in no file.
        body.word(1);
        let body = with_properties(body, &properties)?;
        let changed = connection.ask("SetUnitProperties", "sba(sv)", body);
        changed.map(drop).map_err(|failure| self.failed("change", failure))
    }

    /// Stops the unit, if it is still there and is the one with the cgroup `path`.
    fn stop(&self, connection: &mut Connection, path: &Path) -> Result<(), Error> {
        let cgroup = self.property(connection, "Scope", "ControlGroup");
        match cgroup.map_err(|failure| self.failed("look for", failure))? {
            None => return Ok(()),
            Some(cgroup) if !cgroup.is_empty() && Path::new(&cgroup) != path => return Ok(()),
            Some(_) => {}
        }
        let mut body = self.named()?;
        body.text("replace").ok_or_else(too_long)?;
        match connection.job("StopUnit", "ss", body) {
            Ok(job) => drop(connection.outcome(&job)?),
            Err(failure) if failure.is("NoSuchUnit") => return Ok(()),
            Err(failure) => return Err(self.failed("stop", failure)),
        }
        self.reset(connection).map_err(|failure| self.failed("reset", failure))
    }

    /// Lets systemd forget a unit that has failed.
    fn reset(&self, connection: &mut Connection) -> Result<(), Failure> {
        match connection.ask("ResetFailedUnit", "s", self.named()?) {
            Err(Failure::Broken(error)) => Err(error.into()),
            // It is not there, or has not failed.
            _ => Ok(()),
        }
    }

    fn named(&self) -> Result<Body, Error> {
        let mut body = Body::default();
        body.text(&self.name).map(|()| body).ok_or_else(too_long)
    }

    fn failed(&self, verb: &str, failure: Failure) -> Error {
        failure.during(format_args!("{verb} unit {}", self.name))
    }
}

impl Cgroup {
    /// The cgroup of a unit that is still to be started. No side effect.
    ///
    /// # Errors
    /// As [`Cgroup::plan`].
    pub(crate) fn in_unit(host: &Host, path: &Path, scope: &Scope) -> Result<Self, Error> {
        let unit = Unit { name: scope.name.clone(), whose: whose(host) };
        Ok(Self { unit: Some(unit), ..Self::plan(&host.cgroups, path)? })
    }

    /// Makes the cgroup around its first process, which waits in this process's own; or moves another one into it.
    ///
    /// # Errors
    /// [`Kind::Exists`] when there is a unit of that name, [`Kind::Timeout`] after thirty seconds, and systemd refusing.
    pub(crate) fn start_unit(&self, scope: &Scope, pid: i32) -> Result<(), Error> {
        let (Some(unit), Some(place)) = (&self.unit, &self.unified) else { return Ok(()) };
        unit.start(&mut unit.connect(PATIENCE)?, scope, known(pid)?)?;
        verify(pid, place.below())?;
        // Those that systemd does not manage, huge pages and RDMA.
        super::make::enable(place)
    }

    /// Moves a process that waits in this process's own cgroup into the unit.
    ///
    /// # Errors
    /// As [`Cgroup::start_unit`].
    pub(crate) fn attach(&self, pid: i32, entrance: &Entrance) -> Result<(), Error> {
        let (Some(unit), Some(place)) = (&self.unit, &self.unified) else { return Ok(()) };
        let below = entrance.by_parent.as_deref().unwrap_or_default();
        unit.attach(&mut unit.connect(PATIENCE)?, below, known(pid)?)?;
        verify(pid, &place.below().join(below.trim_start_matches('/')))
    }

    /// Where below the unit's own cgroup this is, for a user's unit. Only systemd can move a process into that: between
    /// it and the user's session lies what belongs to root.
    pub(super) fn below_users_unit(&self) -> Option<String> {
        let unit = self.unit.as_ref().filter(|unit| unit.whose == Whose::Users)?;
        let mut folders = self.unified.as_ref()?.below().iter();
        folders.find(|folder| folder.as_encoded_bytes().ends_with(unit.name.as_bytes()))?;
        Some(folders.fold(String::new(), |path, folder| format!("{path}/{}", folder.to_string_lossy())))
    }

    /// Tells systemd new limits; the files are written by the caller.
    pub(super) fn change_unit(&self, resources: &Resources) -> Result<(), Error> {
        self.unit.as_ref().map_or(Ok(()), |unit| unit.change(&mut unit.connect(PATIENCE)?, resources))
    }

    /// Stops the unit. The error says why systemd still has it; the directories may be taken away all the same.
    pub(super) fn stop_unit(&self) -> Result<(), Error> {
        let (Some(unit), Some(place)) = (&self.unit, &self.unified) else { return Ok(()) };
        unit.stop(&mut unit.connect(PATIENCE_AT_THE_END)?, &Path::new("/").join(place.below()))
    }
}

/// The process is where it should be: the manager might count processes in another pid namespace, or have put the unit
/// elsewhere.
fn verify(pid: i32, planned: &Path) -> Result<(), Error> {
    let path = format!("/proc/{pid}/cgroup");
    let text = file::read(Path::new(&path))?.unwrap_or_default();
    let inside = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    if Path::new(inside) == planned {
        return Ok(());
    }
    let planned = planned.display();
    Err(Error::new(
        Kind::System,
        format!("systemd put process {pid} into the cgroup /{inside} and not into /{planned}"),
    ))
}

fn known(pid: i32) -> Result<u32, Error> {
    u32::try_from(pid).map_err(|_| Error::new(Kind::System, format!("{pid} is not a process")))
}
