//! The script of a process that joins a container.

use std::os::fd::BorrowedFd;

use tare_init::script::{Fd, Numbers, Op};
use tare_plan::{Filter, MemoryPolicy, Process};

use super::finish::{Ending, Gate, Limits, finish, open_terminal};
use super::init::{NEWCGROUP, NEWUSER};
use super::{begin, give_birth, join_cgroup_namespace};
use crate::cgroup::Entrance;
use crate::prepare::Streams;
use crate::script::Script;

/// What is joined.
#[derive(Debug)]
pub(crate) struct Joining<'a, 'fd> {
    /// The container's init, as a pidfd: its namespaces are joined in one call.
    pub(crate) init: BorrowedFd<'fd>,
    /// The kinds that the container does not share with this process.
    pub(crate) namespaces: u32,
    /// The container's cgroup namespace, when it has one of its own.
    pub(crate) cgroup_namespace: Option<BorrowedFd<'fd>>,
    pub(crate) entrance: &'fd Entrance,
    pub(crate) streams: &'fd Streams,
    pub(crate) personality: Option<u32>,
    pub(crate) memory_policy: Option<&'a MemoryPolicy>,
    pub(crate) filter: Option<&'a Filter>,
    /// The name of the session keyring to join.
    pub(crate) keyring: Option<&'a std::ffi::CStr>,
    pub(crate) preserve_fds: u32,
    pub(crate) last_capability: u8,
    /// This process may set its groups.
    pub(crate) is_root: bool,
}

/// The script of an exec.
pub(crate) fn exec<'fd>(process: &Process, joining: &Joining<'_, 'fd>) -> Script<'fd> {
    let mut script = Script::new();
    begin(&mut script, process);
    if let Some(persona) = joining.personality {
        script.what(format!("set personality {persona:#x}"));
        script.push(Op::Personality { persona });
    }
    if let Some(name) = joining.keyring {
        script.what("join the container's session keyring");
        script.push(Op::Keyring { name, permissions: 0 });
    }
    if process.user.groups.is_none() && joining.is_root {
        // SECURITY: inside it cannot, and this process's own are the host's.
        script.what("leave the caller's groups");
        script.push(Op::Groups { groups: Numbers(&[]) });
    }
    script.what("join the container's namespaces");
    let fd = script.inherit(joining.init);
    script.push(Op::SetNs { fd, kinds: joining.namespaces & !NEWCGROUP });
    give_birth(&mut script, process, joining.entrance, 0);
    join_cgroup_namespace(&mut script, joining.cgroup_namespace);
    let terminal = process.terminal.map(|size| {
        let root = script.slot();
        let flags = u64::from((libc::O_PATH | libc::O_DIRECTORY).unsigned_abs());
        script.push(Op::Open { dir: Fd::CWD, path: c"/", flags, resolve: 0, into: root });
        open_terminal(&mut script, Fd::slot(root), size)
    });
    let ending = Ending {
        process,
        filter: joining.filter,
        memory_policy: joining.memory_policy,
        streams: joining.streams,
        terminal,
        gate: Gate::Pass,
        preserve_fds: joining.preserve_fds,
        die_with_caller: false,
        limits: if joining.namespaces & NEWUSER == 0 { Limits::BySelf } else { Limits::ByParent },
        last_capability: joining.last_capability,
    };
    finish(&mut script, &ending);
    script
}
