//! The ways into a container's cgroup, opened for the process that enters.

use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::{Cgroup, Entrance, Place, file};
use crate::{Error, Kind};

/// What an error of a process that joins elsewhere begins with, in runc's words but for the number, which is not known.
pub(crate) const ADDING: &str = "adding pid of the new process to cgroups";

/// A cgroup below the container's, which the container has made: where a process joins instead (`exec --cgroup`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubCgroup {
    /// The version 1 controllers in whose hierarchies this holds; none: all.
    pub controllers: Vec<String>,
    /// Below the container's own; `/` is that one itself.
    pub path: String,
}

impl Cgroup {
    /// Opens what a process needs to enter.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when the cgroup is gone.
    pub fn entrance(&self) -> Result<Entrance, Error> {
        if let Some(below) = self.below_users_unit() {
            return Ok(by_parent(below));
        }
        let open = |path: PathBuf, flags| {
            file::open(&path, flags).map_err(|errno| match errno {
                Errno::NOENT => {
                    Error::new(Kind::NotFound, format!("cgroup {}: no such file or directory", path.display()))
                }
                errno => Error::system(format_args!("open {}", path.display()), errno),
            })
        };
        let tasks = self.legacy.iter().map(|place| open(place.directory.join("tasks"), OFlags::WRONLY));
        let mut entrance = Entrance { tasks: tasks.collect::<Result<_, _>>()?, unified: None, by_parent: None };
        if let Some(Place { directory, .. }) = &self.unified {
            let here = open(directory.clone(), OFlags::PATH | OFlags::DIRECTORY)?;
            if is_handed_over(&here, directory)? {
                entrance.tasks.push(open(directory.join("cgroup.procs"), OFlags::WRONLY)?);
            } else {
                entrance.unified = Some(here);
            }
        }
        Ok(entrance)
    }

    /// The entrance of the container's first process. systemd starts no unit without one.
    ///
    /// # Errors
    /// As [`Cgroup::entrance`].
    pub(crate) fn first_entrance(&self) -> Result<Entrance, Error> {
        if self.is_unit() { Ok(by_parent(String::new())) } else { self.entrance() }
    }

    /// What looks like the entrance of a cgroup that is not made: a script can be written with it, and not run.
    pub(crate) fn stand_in(&self) -> Result<Entrance, Error> {
        if self.is_unit() {
            return Ok(by_parent(String::new()));
        }
        let null = || {
            let opened = file::open(Path::new("/dev/null"), OFlags::WRONLY);
            opened.map_err(|errno| Error::system("open /dev/null", errno))
        };
        let tasks = self.legacy.iter().map(|_| null()).collect::<Result<_, _>>()?;
        Ok(Entrance { tasks, unified: self.unified.as_ref().map(|_| null()).transpose()?, by_parent: None })
    }

    /// The entrance of a process that joins a container whose own version 2 directory takes none: once it has enabled
    /// controllers for children of its own (systemd or Docker inside), the kernel answers `EBUSY`. Then it is where init
    /// has moved to, which the caller holds by its pidfd, so that `init` is nobody else's number.
    ///
    /// # Errors
    /// As [`Cgroup::entrance`]; [`Kind::State`] when init is not in the container's cgroup at all.
    pub fn entrance_beside(&self, init: i32) -> Result<Entrance, Error> {
        let Some(place) = &self.unified else { return self.entrance() };
        let path = format!("/proc/{init}/cgroup");
        let text = file::read(Path::new(&path))?.unwrap_or_default();
        let inside = text.lines().find_map(|line| line.strip_prefix("0::/"));
        let directory = place.mountpoint.join(inside.unwrap_or_default());
        // SECURITY: the text is relative to our own cgroup namespace; what lies outside of it begins with `..`.
        let plain = directory.components().all(|part| part != std::path::Component::ParentDir);
        if !plain || !directory.starts_with(&place.directory) {
            return Err(Error::new(Kind::State, format!("process {init} has left the container's cgroup")));
        }
        let unified = Some(Place { directory, ..place.clone() });
        Self { legacy: self.legacy.clone(), unified, unit: self.unit.clone() }.entrance()
    }

    /// The entrance of a process that joins at places below the container's own.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a path that leads out of the container's cgroup, or a controller that is not there; as
    /// [`Cgroup::entrance`].
    pub fn entrance_at(&self, places: &[SubCgroup]) -> Result<Entrance, Error> {
        let mut moved = self.clone();
        for sub in places {
            let below = below(&sub.path)?;
            if sub.controllers.is_empty() {
                moved.legacy.iter_mut().chain(&mut moved.unified).for_each(|place| place.directory.push(&below));
            }
            for controller in &sub.controllers {
                let found = moved.legacy.iter_mut().find(|place| place.controllers.iter().any(|one| one == controller));
                let unknown = || Error::new(Kind::Invalid, format!("unknown controller {controller} in --cgroup"));
                found.ok_or_else(unknown)?.directory.push(&below);
            }
        }
        moved.entrance().map_err(|error| error.during(ADDING))
    }
}

/// The directory is somebody else's, whom it was delegated to. In a user namespace neither root of the host nor root
/// inside may be born there: the one has no rights over the directory any more, the other none over where he comes from.
fn is_handed_over(directory: &OwnedFd, path: &Path) -> Result<bool, Error> {
    let found = rustix::fs::fstat(directory);
    let owner = found.map_err(|errno| Error::system(format_args!("look at {}", path.display()), errno))?.st_uid;
    Ok(owner != rustix::process::geteuid().as_raw())
}

/// The entrance of a process that waits until it has been put into the unit, or into a cgroup `below` it.
fn by_parent(below: String) -> Entrance {
    Entrance { tasks: Vec::new(), unified: None, by_parent: Some(below) }
}

impl Entrance {
    /// Lets the process move itself once it is born. Linux 6.14, and what took over its race-free `cgroup.kill`, kills
    /// whoever is born into a cgroup that has been killed another number of times than the one he comes from: that is for
    /// good, and every cgroup that is used again has been.
    ///
    /// # Errors
    /// `error`, that of the birth, where nothing else can be tried.
    pub(crate) fn after_birth(&mut self, error: Error) -> Result<(), Error> {
        let directory = match self.unified.take() {
            Some(directory) if error.kind() == Kind::Stillborn => directory,
            _ => return Err(error),
        };
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&directory, "cgroup.procs", flags, rustix::fs::Mode::empty());
        self.tasks.push(opened.map_err(|errno| Error::system("open cgroup.procs", errno))?);
        Ok(())
    }
}

/// A path below a directory, which cannot lead out of it.
fn below(path: &str) -> Result<PathBuf, Error> {
    let parts = Path::new(path).components().filter(|part| !matches!(part, Component::RootDir | Component::CurDir));
    let plain = parts.clone().all(|part| matches!(part, Component::Normal(_)));
    plain.then(|| parts.collect()).ok_or_else(|| Error::new(Kind::Invalid, format!("bad sub cgroup path: {path}")))
}
