//! The end of a container: everything it has is taken away, by the process that made it or by one that only has the
//! record. Both go the same way, and may go it again.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::SystemTime;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::found::pidfd_of_init;
use super::{Container, lock};
use crate::record::{Record, StoredHook};
use crate::spec::forget_spec;
use crate::warnings::warn;
use crate::{Error, ExitStatus, gate, hooks, rootfs};

/// What [`remove`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// Init's number; 0 when it was never born.
    pub pid: i32,
    /// How and when init ended, when that was recorded.
    pub exit: Option<(ExitStatus, SystemTime)>,
}

impl Container {
    /// Kills what is left and takes everything away: processes, cgroup, mounts, record; runs the poststop hooks.
    ///
    /// # Errors
    /// What could not be taken away; it may be called again.
    pub fn delete(&self) -> Result<(), Error> {
        let record = lock(&self.record).clone();
        finish(&record, &self.state)
    }
}

/// Deletes the container whose record lies in `state`, from any half-made state and with no process of ours alive.
/// `Ok(None)`, in well under a millisecond, when there is nothing.
///
/// # Errors
/// As [`Container::delete`].
pub fn remove(state: &Path) -> Result<Option<Removed>, Error> {
    let Some(record) = Record::read(state)? else { return Ok(None) };
    finish(&record, state)?;
    Ok(Some(Removed { pid: record.init_process_pid, exit: record.exit.map(crate::record::Exit::status) }))
}

/// Everything goes, the record last; then the poststop hooks are told.
pub(super) fn finish(record: &Record, state: &Path) -> Result<(), Error> {
    take_away(record)?;
    gate::remove(state)?;
    if state != record.bundle {
        forget_spec(state)?;
    }
    Record::remove(state)?;
    if record.poststop.is_empty() {
        return Ok(());
    }
    let hooks: Vec<_> = record.poststop.iter().map(StoredHook::to_hook).collect();
    let state = hooks::state(&record.id, "stopped", 0, &record.bundle, &record.annotations);
    // Runtime-spec: a failing poststop hook is logged, the others run, and the container is gone all the same.
    for error in hooks::run_all("poststop", &hooks, &state, hooks::Place::Host(&record.bundle)) {
        warn(format_args!("container {}: {error}", record.id));
    }
    Ok(())
}

/// Processes first, then what they used. The record stays until all of it is gone.
fn take_away(record: &Record) -> Result<(), Error> {
    // Mostly, it has ended by itself, and all that were with it.
    let was_empty = record.cgroup.remove_if_empty();
    if !was_empty {
        record.cgroup.kill()?;
    }
    kill_init(record);
    if let Some(lent) = &record.lent {
        lent.bring_back()?;
    }
    if !was_empty {
        record.cgroup.remove()?;
    }
    if let Some(cgroup) = &record.cgroup_to_be {
        cgroup.remove_unused()?;
    }
    if let Some(resctrl) = &record.resctrl {
        resctrl.remove()?;
    }
    rootfs::unmount_all(&record.rootfs_mounts)
}

/// How long init may take to die, as runc has it: a limit on processor time holds for dying, too.
const DYING: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// Init may have died before it was in its cgroup, or have left it. With a pid namespace it ends after all others in it.
fn kill_init(record: &Record) {
    let Some(pidfd) = pidfd_of_init(record) else { return };
    // It may end by itself in between; whatever keeps it is told of where its cgroup cannot be removed.
    if crate::sys::signal::send(pidfd.as_fd(), libc::SIGKILL).is_ok() {
        let _ = rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&DYING)));
    }
}
