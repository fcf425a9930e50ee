//! From a plan and what was prepared to a script: the order of a container's birth. Everything is decided by now; this
//! only spells it out, and the order, with the reason for each place in it, is the knowledge.

mod criu;
mod exec;
mod finish;
mod hook;
mod init;
mod mounts;
mod porter;
#[cfg(test)]
mod tests;

pub(crate) use criu::{Criu, criu, mount_points};
pub(crate) use exec::{Becoming, Joining, exec, join};
pub(crate) use finish::Limits;
pub(crate) use hook::hook;
pub(crate) use init::{Lowering, NEWCGROUP, NEWNET, NEWPID, NEWUSER, first, has_user, init};
pub(crate) use porter::{Errand, porter};

use std::os::fd::BorrowedFd;

use tare_init::script::{Fd, Op};
use tare_plan::Process;

use crate::cgroup::Entrance;
use crate::script::{Script, words};

/// Points at which a stub waits for its parent; the last is [`crate::spawn::GATE`].
pub(crate) mod point {
    /// For the id maps of a new user namespace, or the offsets of a new time namespace.
    pub(crate) const MAPS: u32 = 1;
    /// For the hooks that run before the root is changed.
    pub(crate) const HOOKS: u32 = 2;
    /// For resource limits, which nobody in a user namespace may raise.
    pub(crate) const LIMITS: u32 = 3;
    /// For the agent to have the listener of its system call filter.
    pub(crate) const LISTENER: u32 = 6;
    /// For network devices, which come from the host's network namespace.
    pub(crate) const DEVICES: u32 = 5;
    /// For the size of its terminal, which its program must find as it was asked for.
    pub(crate) const SIZE: u32 = 4;
    /// For being put into its cgroup, where only systemd can do that.
    pub(crate) const CGROUP: u32 = 8;
    /// For its next script.
    pub(crate) const SCRIPT: u32 = 11;
    /// For the ids of a tree that it has sent.
    pub(crate) const IDS: u32 = 10;
    /// For the porter, who brings the host's trees into a user namespace.
    pub(crate) const TREES: u32 = 7;
}

/// What a descriptor is that a stub sends.
pub(crate) mod tag {
    /// A terminal's master.
    pub(crate) const CONSOLE: u32 = 0;
    /// A netlink socket of the container's network namespace.
    pub(crate) const NETLINK: u32 = 1;
    /// The listener of its system call filter.
    pub(crate) const LISTENER: u32 = 2;
    /// A tree whose ids are to be mapped.
    pub(crate) const INNER: u32 = 3;
    /// A tree that was made apart.
    pub(crate) const TREE: u32 = 9;
}

/// What every stub does first.
fn begin() -> Script<'static> {
    let mut script = Script::new();
    script.what("reset signals");
    script.push(Op::ResetSignals {});
    script
}

/// The end of a script that another follows.
fn go_on(script: &mut Script<'_>) {
    script.what("wait for the next script");
    script.push(Op::Next { point: point::SCRIPT });
}

/// Only the host's /proc can change it: while the stub still sees the host's file system.
fn oom_score(script: &mut Script<'_>, process: &Process) {
    if let Some(score) = process.oom_score_adj {
        script.what(format!("set oom_score_adj to {score}"));
        let into = script.slot();
        script.push(Op::Open {
            dir: Fd::CWD,
            path: c"/proc/self/oom_score_adj",
            flags: u64::from(libc::O_WRONLY.unsigned_abs()),
            resolve: 0,
            into,
        });
        script.push(Op::Write { fd: Fd::slot(into), data: score.to_string().as_bytes() });
        script.push(Op::Close { fd: Fd::slot(into) });
        script.free(into);
    }
}

/// The stub gives birth to the process that goes on, in new namespaces of these `kinds`, in the version 2 cgroup; and
/// that one moves itself into the version 1 cgroups. Up to here nobody in the container has seen anything.
fn give_birth<'fd>(script: &mut Script<'fd>, process: &Process, entrance: &'fd Entrance, kinds: u32) {
    if !process.initial_affinity.is_empty() {
        affinity(script, &process.initial_affinity);
    }
    enter_cgroup(script, entrance, kinds);
    // The caller may be bound to a processor; the container is bound by its cpuset alone, as with runc since 1.3.
    affinity(script, if process.affinity.is_empty() { &EVERY } else { &process.affinity });
}

/// The process that goes on is in new namespaces of these `kinds`, and in the cgroup.
fn enter_cgroup<'fd>(script: &mut Script<'fd>, entrance: &'fd Entrance, kinds: u32) {
    use std::os::fd::AsFd as _;
    script.what("fork into the container's namespaces and cgroup");
    let cgroup = entrance.unified.as_ref().map_or(Fd::NONE, |fd| script.inherit(fd.as_fd()));
    script.push(Op::Fork { kinds, cgroup });
    script.what("join the cgroup");
    if entrance.by_parent.is_some() {
        script.push(Op::Sync { point: point::CGROUP });
    }
    for tasks in &entrance.tasks {
        let fd = script.inherit(tasks.as_fd());
        // "0" is the writer itself; a thread that moves itself waits for nobody, unlike a write to cgroup.procs.
        script.push(Op::Write { fd, data: b"0" });
    }
}

/// Only after the birth: where the hierarchy is mounted with `nsdelegate`, as systemd does, the kernel answers ENOENT to
/// whoever forks into a cgroup from one that lies outside of his cgroup namespace.
fn join_cgroup_namespace<'fd>(script: &mut Script<'fd>, namespace: Option<BorrowedFd<'fd>>) {
    if let Some(namespace) = namespace {
        script.what("join the cgroup namespace");
        let fd = script.inherit(namespace);
        script.push(Op::SetNs { fd, kinds: init::NEWCGROUP });
    }
}

/// As many processors as a kernel of 1024 has; what the cpuset forbids is cut off by the kernel.
const EVERY: [u64; 16] = [u64::MAX; 16];

fn affinity(script: &mut Script<'_>, mask: &[u64]) {
    script.what("set the cpu affinity");
    script.push(Op::Affinity { mask: &words(mask) });
}
