//! The script of the porter: a stub that carries the host's trees into a container with a user namespace. It stands
//! between the two: in the container's mount namespace, which is a copy of the host's in which the kernel has locked what
//! the host had set (mount_namespaces(7)), and still with the host's privileges, which are needed to get to a source below
//! somebody's private folder, and to map the ids of a mount.

use std::os::fd::{AsFd as _, BorrowedFd};

use tare_init::script::{Fd, Op};
use tare_plan::Plan;

use super::mounts;
use crate::prepare::{Handover, Prepared};
use crate::script::Script;
use crate::spawn::GATE;

/// Whom the porter serves.
#[derive(Debug)]
pub(crate) struct Errand<'fd> {
    /// The container's first process: a pidfd.
    pub(crate) process: BorrowedFd<'fd>,
    /// Its namespaces to join: that of mounts.
    pub(crate) kinds: u32,
    /// Its user namespace.
    pub(crate) users: BorrowedFd<'fd>,
}

/// All trees are cloned first: one may lie below the place where the rootfs is attached.
pub(crate) fn porter<'fd>(
    plan: &Plan,
    prepared: &'fd Prepared,
    handover: &'fd Handover,
    errand: &Errand<'fd>,
) -> Script<'fd> {
    let mut script = Script::new();
    script.what("join the container's mount namespace");
    let fd = script.inherit(errand.process);
    script.push(Op::SetNs { fd, kinds: errand.kinds });
    let trees: Vec<Fd> =
        prepared.carried().map(|source| mounts::clone(&mut script, source, Some(errand.users), Fd::NONE)).collect();
    if let Some(root) = trees.first() {
        mounts::attach_rootfs(&mut script, plan, *root);
    }
    script.what("hand over the host's trees");
    let socket = script.inherit(handover.porter.as_fd());
    for tree in trees {
        script.push(Op::Give { socket, fd: tree });
    }
    script.push(Op::Report { point: GATE });
    script
}
