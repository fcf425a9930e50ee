//! resctrl, the kernel's file system for Intel RDT and its kin: a container's group, its schemata, its monitoring group,
//! and taking away what was made. It needs the file system mounted, by whomever.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tare_plan::{IntelRdt, RdtGroup, RdtResource};

use crate::{Error, Kind};

/// A container's groups, as the record has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Resctrl {
    root: PathBuf,
    /// The control group.
    group: PathBuf,
    /// It did not exist before.
    made: bool,
    /// The monitoring group, which is the container's alone.
    monitor: Option<PathBuf>,
}

/// Where it is mounted.
pub(crate) fn root() -> Result<PathBuf, Error> {
    let path = "/proc/self/mountinfo";
    let table = fs::read_to_string(path).map_err(|error| Error::io(format!("read {path}"), &error))?;
    mountpoint(&table).ok_or_else(|| {
        let what =
            "intelRdt is specified in config, but Intel RDT is not supported or enabled (resctrl is not mounted)";
        Error::new(Kind::Unsupported, what)
    })
}

fn mountpoint(table: &str) -> Option<PathBuf> {
    let line = table.lines().find(|line| line.split(" - ").nth(1).is_some_and(|tail| tail.starts_with("resctrl ")))?;
    line.split(' ').nth(4).map(PathBuf::from)
}

impl Resctrl {
    /// What the container `id` will have below `root`. No side effect.
    pub(crate) fn plan(rdt: &IntelRdt, id: &str, root: PathBuf) -> Result<Self, Error> {
        available(&root, &rdt.needs)?;
        let group = match &rdt.group {
            RdtGroup::Top => root.clone(),
            RdtGroup::Named(name) => root.join(name),
            RdtGroup::Own => root.join(id),
        };
        let exists = group.is_dir();
        match &rdt.group {
            RdtGroup::Own if exists => {
                Err(Error::new(Kind::Exists, format!("resctrl group {} already exists", group.display())))
            }
            RdtGroup::Named(_) if !exists && rdt.schemata.is_empty() => {
                let what = format!("resctrl group {} does not exist, and there is no schema for it", group.display());
                Err(Error::new(Kind::Invalid, format!("linux.intelRdt.closID: {what}")))
            }
            _ => {
                let monitor = rdt.monitoring.then(|| group.join("mon_groups").join(id));
                Ok(Self { root, group, made: !exists, monitor })
            }
        }
    }

    /// Makes what is to be made. A group that was there before is somebody's, and has to have the schemata asked for.
    pub(crate) fn create(&self, rdt: &IntelRdt) -> Result<(), Error> {
        if self.made {
            self.make(&self.group)?;
            self.write(&rdt.schemata)?;
        } else {
            self.compare(&rdt.schemata)?;
        }
        match &self.monitor {
            Some(monitor) => self.make(monitor),
            None => Ok(()),
        }
    }

    /// Writes lines of schemata.
    pub(crate) fn write(&self, lines: &[String]) -> Result<(), Error> {
        if lines.is_empty() {
            return Ok(());
        }
        let path = self.group.join("schemata");
        let written = fs::write(&path, lines.join("\n") + "\n");
        written.map_err(|error| self.refused(format!("write {:?} to {}", lines.join("\n"), path.display()), &error))
    }

    /// Changes the schemata of the control group, where the hardware has what they are about.
    pub(crate) fn update(&self, cache: Option<&str>, bandwidth: Option<&str>) -> Result<(), Error> {
        available(&self.root, &tare_plan::rdt_needs(cache, bandwidth))?;
        self.write(&tare_plan::rdt_lines(cache, bandwidth))
    }

    /// The files by which a process enters the groups: one that writes `0` has moved itself.
    pub(crate) fn tasks(&self) -> Result<Vec<OwnedFd>, Error> {
        let groups = std::iter::once(&self.group).chain(self.monitor.as_ref());
        let open = |group: &PathBuf| {
            let path = group.join("tasks");
            let file = OpenOptions::new().write(true).open(&path);
            file.map(OwnedFd::from).map_err(|error| Error::io(format!("open {}", path.display()), &error))
        };
        groups.map(open).collect()
    }

    /// Takes away what was made. A named group stays while there are processes in it: they would be thrown out.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        let remove = |group: &Path| match fs::remove_dir(group) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::io(format!("remove resctrl group {}", group.display()), &error))
            }
            _ => Ok(()),
        };
        if let Some(monitor) = &self.monitor {
            remove(monitor)?;
        }
        let used = fs::read_to_string(self.group.join("tasks")).is_ok_and(|tasks| !tasks.trim().is_empty());
        if self.made && !used { remove(&self.group) } else { Ok(()) }
    }

    fn make(&self, group: &Path) -> Result<(), Error> {
        let made = fs::create_dir(group);
        made.map_err(|error| self.refused(format!("make resctrl group {}", group.display()), &error))
    }

    fn compare(&self, wanted: &[String]) -> Result<(), Error> {
        let path = self.group.join("schemata");
        let held = fs::read_to_string(&path).map_err(|error| Error::io(format!("read {}", path.display()), &error))?;
        let held: Vec<_> = held.lines().flat_map(values).collect();
        for line in wanted {
            if let Some((what, ..)) = values(line).find(|value| !held.contains(value)) {
                let what =
                    format!("linux.intelRdt: {} exists, and its {what} is not as in {line:?}", self.group.display());
                return Err(Error::new(Kind::Invalid, what));
            }
        }
        Ok(())
    }

    /// The kernel says in a file of its own what it did not like.
    fn refused(&self, what: String, error: &std::io::Error) -> Error {
        let status = fs::read_to_string(self.root.join("info/last_cmd_status")).unwrap_or_default();
        match status.trim() {
            "" | "ok" => Error::io(what, error),
            status => Error::io(format!("{what} ({status})"), error),
        }
    }
}

fn available(root: &Path, needs: &[RdtResource]) -> Result<(), Error> {
    for need in needs {
        let (name, what) = match need {
            RdtResource::Cache => ("L3", "l3CacheSchema is specified in config, but Intel RDT/CAT is not enabled"),
            RdtResource::Bandwidth => ("MB", "memBwSchema is specified in config, but Intel RDT/MBA is not enabled"),
        };
        if !root.join("info").join(name).is_dir() {
            return Err(Error::new(Kind::Unsupported, format!("intelRdt.{what}")));
        }
    }
    Ok(())
}

/// `L3:0=0ff;1=c0` as values that can be compared: the resource, the domain, the value without leading zeros.
fn values(line: &str) -> impl Iterator<Item = (&str, &str, String)> {
    let (what, domains) = line.split_once(':').unwrap_or((line, ""));
    let pairs = domains.split(';').filter_map(|pair| pair.split_once('='));
    pairs.map(move |(domain, value)| {
        (what.trim(), domain.trim(), value.trim().trim_start_matches('0').to_ascii_lowercase())
    })
}

#[cfg(test)]
mod tests;
