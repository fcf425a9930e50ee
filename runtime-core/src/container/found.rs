//! A container that another process has made, found by its record, and what everybody may ask of a container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::SystemTime;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{Container, lock};
use crate::cgroup::State;
use crate::record::{self, Record, start_time, time};
use crate::{Error, Kind, gate};

/// The state of a container in the words of the runtime specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It is being made, or whoever made it has died of it.
    Creating,
    /// Init waits to be started.
    Created,
    /// Init has executed its program.
    Running,
    /// All its processes are frozen.
    Paused,
    /// Init has ended.
    Stopped,
}

impl Status {
    /// The word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// What a container was made as.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the specification's names")]
pub struct About {
    pub id: String,
    /// Init's number in this process's pid namespace; 0 until it is born.
    pub pid: i32,
    pub created: SystemTime,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    pub annotations: Vec<(String, String)>,
}

impl Container {
    /// The container whose record lies in `state`; `None` when there is none.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn open(state: &Path) -> Result<Option<Self>, Error> {
        let Some(record) = Record::read(state)? else { return Ok(None) };
        Ok(Some(Self {
            state: state.to_path_buf(),
            cgroup: record.cgroup.clone(),
            init: pidfd_of_init(&record),
            pid: record.init_process_pid,
            own_namespaces: record.own_namespaces,
            anatomy: OnceLock::new(),
            gate: Mutex::new(None),
            record: Mutex::new(record),
        }))
    }

    /// What state it is in, asked of the kernel.
    ///
    /// # Errors
    /// The kernel refusing to say whether it is frozen.
    pub fn status(&self) -> Result<Status, Error> {
        if self.pid == 0 {
            return Ok(Status::Creating);
        }
        if !self.init_is_alive() {
            return Ok(Status::Stopped);
        }
        match self.cgroup.state() {
            Ok(State::Frozen) => return Ok(Status::Paused),
            Err(error) if !matches!(error.kind(), Kind::Unsupported | Kind::NotFound) => return Err(error),
            _ => {}
        }
        let shut = lock(&self.gate).is_some() || gate::is_shut(&self.state);
        Ok(if shut { Status::Created } else { Status::Running })
    }

    /// What it was made as.
    #[must_use]
    pub fn about(&self) -> About {
        let record = lock(&self.record).clone();
        About {
            id: record.id,
            pid: record.init_process_pid,
            created: time(record.created),
            bundle: record.bundle,
            rootfs: record.rootfs,
            annotations: record.annotations,
        }
    }

    /// A descriptor that becomes readable when init has ended; `None` when it had ended before this was opened.
    #[must_use]
    pub fn init(&self) -> Option<BorrowedFd<'_>> {
        self.init.as_ref().map(AsFd::as_fd)
    }

    /// Sends `signal` (1 to 64) to init. SIGKILL ends the container: what shares its pid namespace with others is killed
    /// as a whole, and what is frozen is thawed, or it would not die.
    ///
    /// # Errors
    /// [`Kind::Finished`] when init has ended.
    pub fn signal(&self, signal: i32) -> Result<(), Error> {
        let gone = || Error::new(Kind::Finished, "container not running");
        let init = self.init.as_ref().filter(|_| self.init_is_alive()).ok_or_else(gone)?;
        if signal == libc::SIGKILL && !self.owns_pid_namespace() {
            // Init is one of them, where there is a cgroup.
            self.cgroup.kill()?;
        }
        match crate::sys::signal::send(init.as_fd(), signal) {
            Ok(()) if signal == libc::SIGKILL && matches!(self.cgroup.state(), Ok(State::Frozen)) => self.cgroup.thaw(),
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::SRCH) if signal == libc::SIGKILL => Ok(()),
            Err(rustix::io::Errno::SRCH) => Err(gone()),
            Err(errno) => Err(Error::system("signal init", errno)),
        }
    }
}

/// Init is known by its number and the inode of its pidfd, or its start time: the pidfd is opened first and the time read
/// after, so that a number used again is not taken for it.
pub(super) fn pidfd_of_init(record: &Record) -> Option<OwnedFd> {
    let pid = Pid::from_raw(record.init_process_pid)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    let is_init = match record.init_process_inode {
        0 => start_time(record.init_process_pid) == Some(record.init_process_start),
        inode => record::inode(&pidfd) == inode,
    };
    is_init.then_some(pidfd)
}
