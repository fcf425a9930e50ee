//! The script of a process that joins a container.

use std::os::fd::BorrowedFd;

use tare_init::script::{Fd, Numbers, Op};
use tare_plan::{Filter, MemoryPolicy, Process};

use super::finish::{Ending, Gate, Limits, finish, open_terminal};
use super::init::NEWCGROUP;
use super::{begin, give_birth, go_on, join_cgroup_namespace, oom_score};
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
    pub(crate) personality: Option<u32>,
    /// The name of the session keyring to join.
    pub(crate) keyring: Option<&'a std::ffi::CStr>,
    /// This process may set its groups.
    pub(crate) is_root: bool,
}

/// What a process becomes that has joined.
#[derive(Debug)]
pub(crate) struct Becoming<'a, 'fd> {
    /// The container's cgroup namespace, when it has one of its own.
    pub(crate) cgroup_namespace: Option<BorrowedFd<'fd>>,
    pub(crate) entrance: &'fd Entrance,
    pub(crate) streams: &'fd Streams,
    pub(crate) memory_policy: Option<&'a MemoryPolicy>,
    pub(crate) filter: Option<&'a Filter>,
    pub(crate) preserve_fds: u32,
    pub(crate) last_capability: u8,
    pub(crate) limits: Limits,
}

/// The first script of an exec. SECURITY: it ends before the fork, since only a child is in a pid namespace that is joined:
/// nobody in the container sees the process while it waits for the second.
pub(crate) fn join<'fd>(process: &Process, joining: &Joining<'_, 'fd>) -> Script<'fd> {
    let mut script: Script<'fd> = begin();
    oom_score(&mut script, process);
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
    go_on(&mut script);
    script
}

/// The script of an exec after that.
pub(crate) fn exec<'fd>(process: &Process, becoming: &Becoming<'_, 'fd>) -> Script<'fd> {
    let mut script = Script::later();
    give_birth(&mut script, process, becoming.entrance, 0);
    join_cgroup_namespace(&mut script, becoming.cgroup_namespace);
    let terminal = process.terminal.map(|size| {
        let root = script.slot();
        let flags = u64::from((libc::O_PATH | libc::O_DIRECTORY).unsigned_abs());
        script.push(Op::Open { dir: Fd::CWD, path: c"/", flags, resolve: 0, into: root });
        open_terminal(&mut script, Fd::slot(root), size)
    });
    let ending = Ending {
        process,
        filter: becoming.filter,
        memory_policy: becoming.memory_policy,
        streams: becoming.streams,
        terminal,
        gate: Gate::Pass,
        preserve_fds: becoming.preserve_fds,
        die_with_caller: false,
        limits: becoming.limits,
        last_capability: becoming.last_capability,
    };
    finish(&mut script, &ending);
    script
}
