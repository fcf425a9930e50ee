//! Becoming a daemon: one fork of a single-threaded process, no second execution. The parent lives until the child
//! serves, so that an address is never given out for a shim that could not come up.

use std::fs::{File, OpenOptions};
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::process::{DumpableBehavior, getpid, getppid, set_child_subreaper, set_dumpable_behavior, setsid};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::thread::{CoreSchedulingScope, create_core_scheduling_cookie};

use super::socket::Bound;
use crate::serve::Serve;
use crate::sys::{self, Forked};

/// What the child says when it serves. Anything else it says is why it does not.
const READY: &[u8] = b"ready";

/// The line on which the child tells its parent that it serves.
#[derive(Debug)]
pub(crate) struct Tell(PipeWriter);

impl Tell {
    /// The shim serves.
    pub(crate) fn ready(self) {
        self.say(READY);
    }

    /// The shim cannot serve.
    pub(crate) fn failed(self, reason: &str) {
        self.say(reason.as_bytes());
    }

    fn say(mut self, words: &[u8]) {
        // A parent that was killed does not hear it; containerd then never learns the address, and an empty shim that
        // nobody connects to ends by itself.
        let _unheard = self.0.write_all(words);
    }
}

/// A daemon about to serve.
#[derive(Debug)]
pub(crate) struct Ready {
    /// What is to be served.
    pub(crate) serve: Serve,
    /// Whom to tell.
    pub(crate) tell: Tell,
}

/// Which side of the fork this is.
#[derive(Debug)]
pub(crate) enum Side {
    /// The shim is up.
    Parent,
    /// This is to become the shim.
    Child {
        /// Its socket.
        listener: UnixListener,
        /// Where that is.
        path: PathBuf,
        /// Whom to tell.
        ready: Tell,
    },
}

/// Where the kernel is to put the shim; decided while containerd is still the parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placement {
    /// One more than containerd's own: killed before containerd, after the containers.
    oom_score_adj: Option<i32>,
    /// A cgroup path below each hierarchy.
    cgroup: Option<String>,
    /// Whether siblings on a core must trust each other (`SCHED_CORE`).
    core_scheduling: bool,
}

impl Placement {
    /// Reads what containerd wishes and what it is itself.
    #[must_use]
    pub(crate) fn decide(cgroup: Option<String>) -> Self {
        let parent = getppid().map_or(1, |pid| pid.as_raw_nonzero().get());
        let score = std::fs::read_to_string(format!("/proc/{parent}/oom_score_adj")).ok();
        Self {
            oom_score_adj: score.and_then(|text| text.trim().parse::<i32>().ok()).map(|score| (score + 1).min(1000)),
            cgroup,
            core_scheduling: std::env::var("SCHED_CORE").is_ok_and(|value| !value.is_empty()),
        }
    }
}

/// Forks. The parent returns when the child serves.
///
/// # Errors
/// In either process, why there is no daemon.
pub(crate) fn fork(bound: Bound, bundle: &Path, placement: &Placement) -> Result<Side, String> {
    let (hear, tell) = std::io::pipe().map_err(|error| format!("pipe: {error}"))?;
    match sys::fork().map_err(|error| format!("fork: {error}"))? {
        Forked::Parent => {
            drop(tell);
            wait(hear)?;
            // The child owns the socket's file from here on.
            bound.keep().map_err(|error| format!("keep the socket: {error}"))?;
            Ok(Side::Parent)
        }
        Forked::Child => {
            drop(hear);
            let tell = Tell(tell);
            match detach(bundle, placement).and_then(|()| bound.keep().map_err(|error| format!("listener: {error}"))) {
                Ok((listener, path)) => Ok(Side::Child { listener, path, ready: tell }),
                Err(reason) => {
                    tell.failed(&reason);
                    Err(reason)
                }
            }
        }
    }
}

/// The process properties of a shim that serves, daemon or not.
///
/// # Errors
/// The kernel refusing.
pub(crate) fn foreground() -> Result<(), String> {
    // The children share this process's memory until they execute the stub, and the memory holds other containers'
    // secrets: nobody inside may look.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| format!("PR_SET_DUMPABLE: {error}"))?;
    set_child_subreaper(Some(getpid())).map_err(|error| format!("PR_SET_CHILD_SUBREAPER: {error}"))
}

/// Hears from the child.
fn wait(mut hear: PipeReader) -> Result<(), String> {
    let mut words = Vec::new();
    hear.read_to_end(&mut words).map_err(|error| format!("hear from the shim: {error}"))?;
    match words.as_slice() {
        READY => Ok(()),
        b"" => Err("the shim ended before it served".into()),
        reason => Err(String::from_utf8_lossy(reason).into_owned()),
    }
}

/// Cuts what ties the child to containerd's call.
fn detach(bundle: &Path, placement: &Placement) -> Result<(), String> {
    setsid().map_err(|error| format!("setsid: {error}"))?;
    place(placement)?;
    let null =
        File::options().read(true).write(true).open("/dev/null").map_err(|error| format!("/dev/null: {error}"))?;
    dup2_stdin(&null).and_then(|()| dup2_stdout(&null)).map_err(|error| format!("/dev/null: {error}"))?;
    // Opened for both, so that lines can be written while containerd restarts, and without waiting. CRI-O has no FIFO.
    let fifo = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(bundle.join("log"));
    dup2_stderr(fifo.unwrap_or(null)).map_err(|error| format!("log: {error}"))?;
    std::env::set_current_dir("/").map_err(|error| format!("chdir /: {error}"))
}

/// Puts the child where it belongs.
fn place(placement: &Placement) -> Result<(), String> {
    if let Some(score) = placement.oom_score_adj {
        // Without privilege the score cannot fall below the parent's; it never does, being one more.
        std::fs::write("/proc/self/oom_score_adj", score.to_string())
            .map_err(|error| format!("oom_score_adj: {error}"))?;
    }
    if let Some(path) = &placement.cgroup {
        enter_cgroup(path)?;
    }
    if placement.core_scheduling {
        create_core_scheduling_cookie(getpid(), CoreSchedulingScope::ProcessGroup)
            .map_err(|error| format!("PR_SCHED_CORE_CREATE: {error}"))?;
    }
    Ok(())
}

/// Moves this process into `path` of every hierarchy in which that exists.
fn enter_cgroup(path: &str) -> Result<(), String> {
    let top = Path::new("/sys/fs/cgroup");
    let relative = path.trim_start_matches('/');
    let mut hierarchies = vec![top.to_path_buf()];
    if !top.join("cgroup.controllers").exists() {
        let entries = std::fs::read_dir(top).map_err(|error| format!("{}: {error}", top.display()))?;
        hierarchies = entries.flatten().map(|entry| entry.path()).collect();
    }
    let found: Vec<PathBuf> = hierarchies
        .into_iter()
        .map(|one| one.join(relative).join("cgroup.procs"))
        .filter(|file| file.exists())
        .collect();
    if found.is_empty() {
        return Err(format!("shim_cgroup {path}: no such cgroup"));
    }
    for file in found {
        std::fs::write(&file, "0").map_err(|error| format!("shim_cgroup {}: {error}", file.display()))?;
    }
    Ok(())
}
