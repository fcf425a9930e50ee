//! Making a container's cgroup, and taking it away.
//!
//! The container owns the last directory of its path and everything below, nothing above: parents are made when they
//! are missing and stay, as every runtime leaves them, since siblings come and go in them at any time.

use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use super::{Cgroup, Place, State, file, tree};
use crate::{Error, Kind};

/// How often and how long a busy directory is tried again: the kernel lets go of the last process a moment after it has
/// been reaped. 1 ms, doubled nine times: about one second altogether.
const TRIES: u32 = 10;

/// Controllers of version 2 that a container uses; others (`perf_event` is always on) are left alone.
const ENABLED: [&str; 8] = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"];

impl Cgroup {
    /// Makes the directories, parents included, so that a process can enter. What was made is taken away on failure.
    ///
    /// A cgroup that is there already is used when it is empty; with processes in it, or frozen, it is refused, as runc
    /// does since 1.2: the container would share limits with strangers, be killed with them, or hang at birth.
    ///
    /// # Errors
    /// [`Kind::Exists`] when it is in use, [`Kind::State`] when it is frozen, or the kernel refusing.
    pub fn create(&self) -> Result<(), Error> {
        let mut made = Made { directories: Vec::new(), found: false };
        for place in &self.legacy {
            made.add(self, place)?;
            if place.controllers.iter().any(|name| name == "cpuset") {
                for name in ["cpuset.cpus", "cpuset.mems"] {
                    inherit(&place.directory, name, &place.mountpoint)?;
                }
            }
        }
        if let Some(place) = &self.unified {
            made.add(self, place)?;
            enable(place)?;
        }
        if made.found {
            // Whoever was at it at the same time may be in by now.
            self.refuse_used()?;
        }
        made.directories.clear();
        Ok(())
    }

    /// Somebody else's processes, or a frozen cgroup, in directories that were there before.
    pub(crate) fn refuse_used(&self) -> Result<(), Error> {
        let mut there = self.places().filter(|place| file::exists(&place.directory)).peekable();
        if there.peek().is_none() {
            return Ok(());
        }
        for place in there {
            let mut pids = Vec::new();
            super::kill::list(&place.directory, &mut pids)?;
            if !pids.is_empty() {
                let (directory, count) = (place.directory.display(), pids.len());
                let message = format!("container's cgroup is not empty: {count} process(es) found in {directory}");
                return Err(Error::new(Kind::Exists, message));
            }
        }
        self.unit.as_ref().map_or(Ok(()), super::systemd::Unit::refuse_used)?;
        match self.state() {
            Ok(State::Thawed) => Ok(()),
            Ok(State::Freezing | State::Frozen) => {
                Err(Error::new(Kind::State, "container's cgroup unexpectedly frozen"))
            }
            Err(error) if matches!(error.kind(), Kind::Unsupported | Kind::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Hands the version 2 cgroup over to `uid`, so that a container with its own user and cgroup namespaces can make
    /// cgroups below: the directory, and the files the kernel names as safe to hand over.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] without a version 2 hierarchy, or the kernel refusing.
    pub fn delegate(&self, uid: u32) -> Result<(), Error> {
        let place = self.unified.as_ref();
        let place = place.ok_or_else(|| Error::new(Kind::Unsupported, "no cgroup2 hierarchy is mounted"))?;
        let listed = file::read(Path::new("/sys/kernel/cgroup/delegate"))?;
        let files = listed.as_deref().unwrap_or("cgroup.procs\ncgroup.subtree_control\ncgroup.threads");
        for name in std::iter::once("").chain(files.lines()) {
            let path = place.directory.join(name);
            match rustix::fs::chown(&path, Some(rustix::fs::Uid::from_raw(uid)), None) {
                // The list has the files of controllers that are not enabled here.
                Ok(()) => {}
                Err(Errno::NOENT) if !name.is_empty() => {}
                Err(errno) => return Err(Error::system(format_args!("chown {}", path.display()), errno)),
            }
        }
        Ok(())
    }

    /// Takes the directories away, with the child cgroups that the container made. Nothing is killed. A directory that
    /// is gone is no error, so that it can be called again.
    ///
    /// # Errors
    /// A process that will not go away is named, with its state and where in the kernel it waits.
    pub fn remove(&self) -> Result<(), Error> {
        // Without an answer from systemd the directories are taken away all the same. That is what counts, and what lets
        // it forget a unit by itself.
        let stopped = self.stop_unit();
        self.remove_directories().map_err(|error| match stopped {
            Err(why) => error.during(why),
            Ok(()) => error,
        })
    }

    /// Takes the directories away if there is nobody in them, nor a child cgroup. Whoever is in one of them keeps those that
    /// come after it; the first is that in which everybody is listed.
    pub(crate) fn remove_if_empty(&self) -> bool {
        let first = self.home();
        let others = self.places().map(|place| place.directory.as_path()).filter(|other| Some(*other) != first);
        let all = first.into_iter().chain(others);
        !self.is_unit() && all.map(rustix::fs::rmdir).all(|removed| matches!(removed, Ok(()) | Err(Errno::NOENT)))
    }

    /// Takes away what may have been made of it when its maker died, unless it is somebody's: whoever is in it has it. A
    /// unit has gone with its only process, that maker's stub.
    ///
    /// # Errors
    /// The kernel refusing.
    pub(crate) fn remove_unused(&self) -> Result<(), Error> {
        match self.refuse_used() {
            _ if self.is_unit() => return Ok(()),
            Err(error) if matches!(error.kind(), Kind::Exists | Kind::State) => return Ok(()),
            other => other?,
        }
        for place in self.places() {
            match rustix::fs::rmdir(&place.directory) {
                Ok(()) | Err(Errno::NOENT | Errno::BUSY | Errno::NOTEMPTY) => {}
                Err(errno) => return Err(Error::system(format_args!("rmdir {}", place.directory.display()), errno)),
            }
        }
        Ok(())
    }

    fn remove_directories(&self) -> Result<(), Error> {
        let mut left: Vec<&Path> = self.places().map(|place| place.directory.as_path()).collect();
        let mut pause = Duration::from_millis(1);
        for _ in 0..TRIES {
            let mut busy = Vec::new();
            for directory in left {
                match remove_tree(directory) {
                    Ok(()) => {}
                    Err(Errno::BUSY | Errno::NOTEMPTY) => busy.push(directory),
                    Err(errno) => return Err(Error::system(format_args!("rmdir {}", directory.display()), errno)),
                }
            }
            if busy.is_empty() {
                return Ok(());
            }
            left = busy;
            std::thread::sleep(pause);
            pause *= 2;
        }
        Err(stuck(&left))
    }
}

/// Whether a directory was there before.
#[derive(PartialEq, Eq)]
enum Found {
    Existing,
    Nothing,
}

/// Directories made so far; what is in it when it is dropped is taken away again, last made first.
struct Made<'a> {
    directories: Vec<&'a Path>,
    /// One was there already.
    found: bool,
}

impl<'a> Made<'a> {
    fn add(&mut self, cgroup: &Cgroup, place: &'a Place) -> Result<(), Error> {
        match make(place)? {
            Found::Nothing => self.directories.push(&place.directory),
            Found::Existing if self.found => {}
            Found::Existing => {
                self.found = true;
                // Before anything is done to what is somebody else's.
                cgroup.refuse_used()?;
            }
        }
        Ok(())
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        for directory in self.directories.iter().rev() {
            // Best effort: the error that brought us here is the one to report.
            let _ = rustix::fs::rmdir(*directory);
        }
    }
}

/// Makes one directory; the parents only when they turn out to be missing, which is once per host.
fn make(place: &Place) -> Result<Found, Error> {
    let problem = |path: &Path, errno| Error::system(format_args!("mkdir {}", path.display()), errno);
    let mut outcome = mkdir(&place.directory);
    if outcome == Err(Errno::NOENT) {
        for parent in below(&place.mountpoint, &place.directory) {
            match mkdir(parent) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(problem(parent, errno)),
            }
        }
        outcome = mkdir(&place.directory);
    }
    match outcome {
        Ok(()) => Ok(Found::Nothing),
        Err(Errno::EXIST) => Ok(Found::Existing),
        Err(errno) => Err(problem(&place.directory, errno)),
    }
}

fn mkdir(path: &Path) -> Result<(), Errno> {
    rustix::fs::mkdir(path, Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH)
}

/// The directories strictly between a mount point and a directory, topmost first.
fn below<'a>(mountpoint: &Path, directory: &'a Path) -> Vec<&'a Path> {
    let mut parents: Vec<_> = directory.ancestors().skip(1).take_while(|parent| *parent != mountpoint).collect();
    parents.reverse();
    parents
}

/// Fills an empty `cpuset.cpus` or `cpuset.mems` from the parent's, upwards as far as needed: until both have a value,
/// no process can enter a version 1 cpuset.
fn inherit(directory: &Path, name: &str, mountpoint: &Path) -> Result<String, Error> {
    let path = directory.join(name);
    let value = file::read(&path)?.unwrap_or_default();
    let (value, parent) = (value.trim(), directory.parent());
    let Some(parent) = parent.filter(|_| value.is_empty() && directory != mountpoint) else {
        return Ok(value.to_owned());
    };
    let value = inherit(parent, name, mountpoint)?;
    file::write(&path, &value)
        .map_err(|errno| Error::system(format_args!("write {value} to {}", path.display()), errno))?;
    Ok(value)
}

/// Enables the controllers for the children of every directory from the mount point down to the parent. What cannot be
/// enabled is no error here: a limit that needs it is refused where it is written, with its name.
pub(super) fn enable(place: &Place) -> Result<(), Error> {
    let wanted: Vec<&str> =
        place.controllers.iter().map(String::as_str).filter(|name| ENABLED.contains(name)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let mut parents = below(&place.mountpoint, &place.directory);
    parents.insert(0, &place.mountpoint);
    for parent in parents {
        let path = parent.join("cgroup.subtree_control");
        let enabled = file::read(&path)?.unwrap_or_default();
        let missing: Vec<String> = wanted
            .iter()
            .filter(|name| !enabled.split_whitespace().any(|one| one == **name))
            .map(|name| format!("+{name}"))
            .collect();
        if !missing.is_empty() && file::write(&path, &missing.join(" ")).is_err() {
            // One that is refused (a realtime process holds `cpu` back, say) must not hold the others back.
            for one in missing {
                let _ = file::write(&path, &one);
            }
        }
    }
    Ok(())
}

/// Removes a directory and the directories in it. Files of a cgroup directory go with it.
fn remove_tree(directory: &Path) -> Result<(), Errno> {
    match rustix::fs::rmdir(directory) {
        Err(Errno::BUSY | Errno::NOTEMPTY) => {}
        Err(Errno::NOENT) => return Ok(()),
        outcome => return outcome,
    }
    let removed =
        tree::below(directory, |parent, name| match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOENT) => Ok(()),
            outcome => outcome,
        })?;
    if removed == 0 {
        return Err(Errno::BUSY);
    }
    match rustix::fs::rmdir(directory) {
        Err(Errno::NOENT) => Ok(()),
        outcome => outcome,
    }
}

/// Says which processes keep directories busy, and in which state they are: a process in state D cannot be helped by
/// killing it again, and the operator must see where it hangs.
fn stuck(directories: &[&Path]) -> Error {
    let mut pids = Vec::new();
    for directory in directories {
        // Already failing; a list that cannot be read only makes the message shorter.
        let _ = super::kill::list(directory, &mut pids);
    }
    pids.sort_unstable();
    pids.dedup();
    let word = |pid: i32, file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let described: Vec<String> = pids
        .iter()
        .map(|&pid| {
            let stat = word(pid, "stat");
            let state = stat.rsplit(')').next().unwrap_or_default().trim().chars().next().unwrap_or('?');
            format!("process {pid} ({}) in state {state} at {}", word(pid, "comm").trim(), word(pid, "wchan").trim())
        })
        .collect();
    let first = directories.first().map(|one| one.display().to_string()).unwrap_or_default();
    Error::system(format_args!("rmdir {first} [{}]", described.join("; ")), Errno::BUSY)
}
