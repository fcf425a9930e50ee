//! The container's processes: listing, signalling and killing all of them.
//!
//! Law 11: a signal goes to a pidfd or to the cgroup. A number from `cgroup.procs` may belong to a stranger by the time
//! it is used, so a pidfd is opened for it and counts only if the number is still listed afterwards.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{Cgroup, State, file, tree};
use crate::{Error, Kind, sys};

const SIGKILL: i32 = 9;

/// Rounds of killing before giving up on processes that fork faster than they can be listed; frozen ones cannot.
const ROUNDS: u32 = 100;

impl Cgroup {
    /// The numbers of all processes in the cgroup and its children, in this process's pid namespace, in rising order.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when the cgroup is gone.
    pub fn pids(&self) -> Result<Vec<i32>, Error> {
        if self.is_none() {
            return Err(Error::new(Kind::Unsupported, "the container has no cgroup that would list its processes"));
        }
        let home = self.home().filter(|home| file::exists(home));
        let home = home.ok_or_else(|| Error::new(Kind::NotFound, "the container's cgroup is gone"))?;
        let mut pids = Vec::new();
        list(home, &mut pids)?;
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Sends `signal` (1 to 64) to every process. While it is sent the cgroup stands still, so that nobody forks away.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a number that is no signal; [`Kind::NotFound`] when the cgroup is gone.
    pub fn signal(&self, signal: i32) -> Result<(), Error> {
        if !(1..=64).contains(&signal) {
            return Err(Error::new(Kind::Invalid, format!("{signal} is not a signal")));
        }
        if signal == SIGKILL {
            return self.kill();
        }
        let running = matches!(self.state(), Ok(State::Thawed));
        // Without a freezer, or with a process that will not stop, the signal still goes to all that can be listed.
        let stopped = running && self.freeze().is_ok();
        let sent = self.home().map_or(Ok(()), |home| send(home, signal).map(drop));
        if stopped {
            self.thaw()?;
        }
        sent
    }

    /// Kills every process, also those being forked; a frozen cgroup is thawed, or they would never die. It does not wait
    /// for them to be gone. A cgroup that does not exist has no processes.
    ///
    /// # Errors
    /// The kernel refusing.
    pub fn kill(&self) -> Result<(), Error> {
        let by_cgroup = match &self.unified {
            Some(place) => kill_unified(&place.directory)?,
            None => false,
        };
        if self.legacy.is_empty() {
            return if by_cgroup { Ok(()) } else { self.home().map_or(Ok(()), kill_listed) };
        }
        // A version 1 freezer holds even SIGKILL back. And on a hybrid host a process may have left one hierarchy only.
        let freezer = self.directory_of("freezer").or_else(|| self.home());
        let Some(directory) = freezer.filter(|directory| file::exists(directory)) else { return Ok(()) };
        if by_cgroup {
            self.thaw_if_possible()?;
            return send(directory, SIGKILL).map(drop);
        }
        let frozen = self.freeze().is_ok();
        let killed = kill_listed(directory);
        if frozen {
            self.thaw_if_possible()?;
        }
        killed
    }

    fn thaw_if_possible(&self) -> Result<(), Error> {
        match self.thaw() {
            Err(error) if !matches!(error.kind(), Kind::NotFound | Kind::Unsupported) => Err(error),
            _ => Ok(()),
        }
    }
}

/// The kernel's own way, atomic against forks. False where this kernel has none for the cgroup.
fn kill_unified(directory: &Path) -> Result<bool, Error> {
    let path = directory.join("cgroup.kill");
    match file::write(&path, "1") {
        Ok(()) => Ok(true),
        Err(Errno::NODEV) => Ok(true),
        Err(Errno::NOENT) => Ok(!file::exists(directory)),
        Err(Errno::OPNOTSUPP) => Ok(false),
        Err(errno) => Err(Error::system(format_args!("write 1 to {}", path.display()), errno)),
    }
}

/// Kills what is listed until a round finds nothing that was not killed before.
fn kill_listed(directory: &Path) -> Result<(), Error> {
    let mut killed = Vec::new();
    for _ in 0..ROUNDS {
        let now = send(directory, SIGKILL)?;
        if now.iter().all(|pid| killed.contains(pid)) {
            return Ok(());
        }
        killed = now;
    }
    Err(Error::new(Kind::Timeout, format!("kill all in {}: processes keep being forked", directory.display())))
}

/// Signals every process listed now; returns their numbers.
fn send(directory: &Path, signal: i32) -> Result<Vec<i32>, Error> {
    let mut before = Vec::new();
    list(directory, &mut before)?;
    if before.is_empty() {
        return Ok(before);
    }
    let pidfds: Vec<(i32, OwnedFd)> = before
        .iter()
        .filter_map(|&pid| Some((pid, pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?)))
        .collect();
    let mut after = Vec::new();
    list(directory, &mut after)?;
    for (pid, pidfd) in pidfds {
        if after.contains(&pid) {
            match sys::signal::send(pidfd.as_fd(), signal) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(errno) => return Err(Error::system(format_args!("signal process {pid}"), errno)),
            }
        }
    }
    Ok(after)
}

/// Adds the processes of `directory` and of the cgroups below it; none once it has gone.
pub(super) fn list(directory: &Path, pids: &mut Vec<i32>) -> Result<(), Error> {
    let path = directory.join("cgroup.procs");
    // A threaded cgroup refuses the list; its processes are listed in its domain, above.
    let mut garbled = add(&file::read(&path)?.unwrap_or_default(), pids);
    let below = tree::below(directory, |parent, name| {
        let file = [name.to_bytes(), b"/cgroup.procs"].concat();
        match rustix::fs::openat(parent, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => {
                let text = file::text(&file, &path).map_err(|error| error.errno().unwrap_or(Errno::IO))?;
                garbled = garbled.take().or(add(&text.unwrap_or_default(), pids));
                Ok(())
            }
            Err(Errno::NOENT | Errno::NODEV) => Ok(()),
            Err(errno) => Err(errno),
        }
    });
    below.map_err(|errno| Error::system(format_args!("list the processes below {}", directory.display()), errno))?;
    garbled.map_or(Ok(()), |line| Err(file::garbled(&path, &line)))
}

/// Adds the numbers of a list; returns a line that is none. 0 stands for a process outside this pid namespace, which
/// cannot be signalled from here anyway.
fn add(text: &str, pids: &mut Vec<i32>) -> Option<String> {
    for line in text.lines() {
        match line.parse() {
            Ok(pid) if pid > 0 => pids.push(pid),
            Ok(_) => {}
            Err(_) => return Some(line.to_owned()),
        }
    }
    None
}
