//! Control groups: where a container's cgroup is, making it, ruling it, reading it, taking it away.
//!
//! A [`Cgroup`] is data: it says which directories belong to the container in every mounted hierarchy, it is part of the
//! record on disk before the first of them exists, and every verb works from it alone. Nothing here decides a limit:
//! that is `tare_plan::resources`. Paths are the host's, below trusted mount points; no path comes from a container.
//!
//! Placement is not here either: [`Entrance`] hands out descriptors, and the stub writes `0` to the version 1 `tasks`
//! files or is born in the version 2 directory. `cgroup.procs` is written (9 ms of RCU grace period each time) only where
//! the directory has been delegated to a user namespace.

mod enter;
mod file;
mod freeze;
mod kill;
mod layout;
mod make;
mod oom;
pub mod stats;
mod systemd;
mod tree;
mod write;

use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, Kind};

pub use tare_plan::CgroupLayout;

pub(crate) use enter::ADDING;
pub use enter::SubCgroup;
pub use freeze::State;
pub use layout::layout;
pub(crate) use layout::{parent, unescaped};
pub use oom::OomWatch;
pub use stats::Stats;
pub(crate) use systemd::manager;
pub(crate) use write::Above;

/// Where a container's cgroup is: one directory in each mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    /// The version 1 hierarchies; empty on a host that has cgroup v2 alone.
    legacy: Vec<Place>,
    /// The version 2 hierarchy, alone or beside the others ("hybrid").
    unified: Option<Place>,
    /// The unit of systemd that it is the cgroup of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unit: Option<systemd::Unit>,
}

/// The container's directory in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    /// The controllers of the hierarchy; on v2, those to enable for the container.
    controllers: Vec<String>,
    /// Where the hierarchy is mounted.
    mountpoint: PathBuf,
    /// The container's directory: below the mount point, never the mount point itself.
    directory: PathBuf,
}

/// Descriptors by which a process enters the cgroup.
#[derive(Debug)]
pub struct Entrance {
    /// The `tasks` file of each version 1 hierarchy, open for writing: a single-threaded process that writes `0` to
    /// each has moved itself. And `cgroup.procs` of a version 2 directory that belongs to somebody else: the kernel asks
    /// for the rights of who has opened it (Linux 5.16, and where CVE-2021-4197 was mended).
    pub tasks: Vec<OwnedFd>,
    /// The version 2 directory, for `CLONE_INTO_CGROUP`.
    pub unified: Option<OwnedFd>,
    /// Neither: once born, the process waits for its parent to have systemd put it there; a path below the unit's own
    /// cgroup, or nothing.
    pub by_parent: Option<String>,
}

impl Cgroup {
    /// The directories of the cgroup `path` (absolute below every mount point). No side effect.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a path that is not clean, and for the top of the hierarchy: everything on the host would be
    /// killed and limited with the container.
    pub fn plan(layout: &CgroupLayout, path: &Path) -> Result<Self, Error> {
        let mut parts = path.components();
        let clean = parts.next() == Some(Component::RootDir) && parts.all(|part| matches!(part, Component::Normal(_)));
        if !clean || path == Path::new("/") {
            return Err(Error::new(Kind::Invalid, format!("cgroup path {path:?}: must be absolute, clean and not /")));
        }
        let place = |mountpoint: &Path, controllers: &[String]| Place {
            controllers: controllers.to_vec(),
            mountpoint: mountpoint.to_path_buf(),
            directory: mountpoint.join(path.strip_prefix("/").unwrap_or(path)),
        };
        Ok(match layout {
            CgroupLayout::Unified { mountpoint, controllers } => {
                Self { unified: Some(place(mountpoint, controllers)), ..Self::none() }
            }
            CgroupLayout::Legacy { hierarchies, unified } => Self {
                legacy: hierarchies.iter().map(|one| place(&one.mountpoint, &one.controllers)).collect(),
                unified: unified.as_deref().map(|mountpoint| place(mountpoint, &[])),
                unit: None,
            },
        })
    }

    /// No cgroup of its own: the container's processes stay in that of whoever made them.
    pub(crate) fn none() -> Self {
        Self { legacy: Vec::new(), unified: None, unit: None }
    }

    /// There is none.
    pub(crate) fn is_none(&self) -> bool {
        self.legacy.is_empty() && self.unified.is_none()
    }

    /// For what only a cgroup can do or tell.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] without one.
    pub(crate) fn required(&self) -> Result<&Self, Error> {
        if self.is_none() {
            return Err(Error::new(Kind::Unsupported, "the container has no cgroup of its own"));
        }
        Ok(self)
    }

    /// Its directory is made by systemd, when there is a process to put into it.
    pub(crate) fn is_unit(&self) -> bool {
        self.unit.is_some()
    }

    /// The path is one of the container's directories, or below one.
    pub(crate) fn holds(&self, path: &Path) -> bool {
        self.places().any(|place| path.starts_with(&place.directory))
    }

    /// Every directory of the container, the version 2 one last.
    fn places(&self) -> impl Iterator<Item = &Place> {
        self.legacy.iter().chain(self.unified.as_ref())
    }

    /// The directory that holds the files of `controller`: on v2 there is one for all.
    fn directory_of(&self, controller: &str) -> Option<&Path> {
        if self.legacy.is_empty() {
            return self.unified.as_ref().map(|place| place.directory.as_path());
        }
        let place = self.legacy.iter().find(|place| place.controllers.iter().any(|name| name == controller));
        place.map(|place| place.directory.as_path())
    }

    /// The directory in which the container's processes are listed: the one `cgroup.kill` acts on where there is one.
    fn home(&self) -> Option<&Path> {
        let unified = self.unified.as_ref().map(|place| place.directory.as_path());
        unified
            .or_else(|| self.directory_of("freezer"))
            .or_else(|| self.legacy.first().map(|one| one.directory.as_path()))
    }

    /// Where the container is frozen; `None` without a freezer.
    pub(crate) fn freezer_directory(&self) -> Option<&Path> {
        self.directory_of("freezer")
    }

    /// Each controller, and the container's path in it; version 2 has no name.
    pub(crate) fn paths(&self) -> Vec<(String, String)> {
        let path = |place: &Place| {
            let below = place.directory.strip_prefix(&place.mountpoint).unwrap_or(Path::new(""));
            format!("/{}", below.display())
        };
        let of_one = |place: &Place| {
            let path = path(place);
            place.controllers.iter().map(|name| (name.clone(), path.clone())).collect::<Vec<_>>()
        };
        let unified = self.unified.iter().map(|place| (String::new(), path(place)));
        self.legacy.iter().flat_map(of_one).chain(unified).collect()
    }
}

impl Place {
    /// The directory, from the mount point on.
    fn below(&self) -> &Path {
        self.directory.strip_prefix(&self.mountpoint).unwrap_or(&self.directory)
    }
}
