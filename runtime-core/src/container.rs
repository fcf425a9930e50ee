//! The container and its verbs.

use std::path::{Path, PathBuf};

use crate::cgroup::{OomWatch, Stats};
use crate::oci;
use crate::{Error, ExitStatus, Process, Stdio};

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
    /// Do not pivot_root (`--no-pivot`).
    pub no_pivot: bool,
    /// Do not make a new session keyring (`--no-new-keyring`).
    pub no_new_keyring: bool,
    /// Manage the cgroup through systemd.
    pub systemd_cgroup: bool,
}

/// A mount as containerd's `types.Mount` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
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
}

/// A container that exists. All verbs take `&self`, block for milliseconds at most (hooks aside), and may be called
/// from several threads at once.
#[derive(Debug)]
pub struct Container {}

impl Container {
    /// Makes the container up to the point where its process waits for [`Container::start`].
    ///
    /// # Errors
    /// Says phase, operation, object and errno; whatever was half-made has been undone.
    pub fn create(request: Create) -> Result<(Self, Process), Error> {
        let _ = request;
        unimplemented!()
    }

    /// Lets init execute its program.
    ///
    /// # Errors
    /// `exec …` failing in the child, or a failing startContainer hook; init has then ended.
    pub fn start(&self) -> Result<(), Error> {
        unimplemented!()
    }

    /// Starts another process in the container (created or running).
    ///
    /// # Errors
    /// As [`Container::create`].
    pub fn exec(&self, request: Exec) -> Result<Process, Error> {
        let _ = request;
        unimplemented!()
    }

    /// Sends `signal` to every process in the container's cgroup. SIGKILL leaves nothing behind that could fork away.
    ///
    /// # Errors
    /// The kernel refusing.
    pub fn signal_all(&self, signal: i32) -> Result<(), Error> {
        let _ = signal;
        unimplemented!()
    }

    /// Init has a pid namespace of its own, so that its end is the end of all.
    #[must_use]
    pub fn owns_pid_namespace(&self) -> bool {
        unimplemented!()
    }

    /// Freezes every process.
    ///
    /// # Errors
    /// The kernel refusing, or not frozen within ten seconds.
    pub fn pause(&self) -> Result<(), Error> {
        unimplemented!()
    }

    /// Thaws every process.
    ///
    /// # Errors
    /// The kernel refusing.
    pub fn resume(&self) -> Result<(), Error> {
        unimplemented!()
    }

    /// Changes the limits.
    ///
    /// # Errors
    /// [`crate::Kind::Invalid`], or the kernel refusing a value, named by its field.
    pub fn update(&self, resources: &oci::LinuxResources) -> Result<(), Error> {
        let _ = resources;
        unimplemented!()
    }

    /// The numbers of all processes in the container's cgroup, in this process's pid namespace.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`] when the cgroup is gone.
    pub fn pids(&self) -> Result<Vec<i32>, Error> {
        unimplemented!()
    }

    /// What the container has used.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`] when the cgroup is gone.
    pub fn stats(&self) -> Result<Stats, Error> {
        unimplemented!()
    }

    /// A descriptor that becomes readable when the kernel has killed something for lack of memory.
    ///
    /// # Errors
    /// The kernel refusing.
    pub fn oom_watch(&self) -> Result<OomWatch, Error> {
        unimplemented!()
    }

    /// Notes how init ended in the container's record, so that [`remove`] can tell after a crash of this process.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn record_exit(&self, status: ExitStatus, at: std::time::SystemTime) -> Result<(), Error> {
        let _ = (status, at);
        unimplemented!()
    }

    /// Kills what is left and takes everything away: processes, cgroup, mounts, record; runs the poststop hooks.
    ///
    /// # Errors
    /// What could not be taken away; it may be called again.
    pub fn delete(&self) -> Result<(), Error> {
        unimplemented!()
    }
}

/// What [`remove`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// Init's number; 0 when it was never born.
    pub pid: i32,
    /// How and when init ended, when that was recorded.
    pub exit: Option<(ExitStatus, std::time::SystemTime)>,
}

/// Deletes the container whose record lies in `state`, from any half-made state and with no process of ours alive.
/// `Ok(None)`, in well under a millisecond, when there is nothing.
///
/// # Errors
/// As [`Container::delete`].
pub fn remove(state: &Path) -> Result<Option<Removed>, Error> {
    let _ = state;
    unimplemented!()
}
