//! The script of a container's first process.

use std::os::fd::AsFd as _;

use tare_init::script::{Fd, Op, make};
use tare_plan::{Mapper, Namespaces, Plan, Propagation};

use super::finish::{Ending, Gate, Limits, PR_SET_DUMPABLE, Sight, finish};
use super::mounts::Trees;
use super::{begin, give_birth, go_on, join_cgroup_namespace, mounts, oom_score, point, tag};
use crate::gate::Fifos;
use crate::old_root::OldRoot;
use crate::prepare::Prepared;
use crate::script::Script;

pub(crate) const NEWUSER: u32 = libc::CLONE_NEWUSER.cast_unsigned();
pub(crate) const NEWPID: u32 = libc::CLONE_NEWPID.cast_unsigned();
pub(crate) const NEWCGROUP: u32 = libc::CLONE_NEWCGROUP.cast_unsigned();
const NEWIPC: u32 = libc::CLONE_NEWIPC.cast_unsigned();
pub(crate) const NEWNET: u32 = libc::CLONE_NEWNET.cast_unsigned();
/// `CLONE_NEWTIME`, which is also `CSIGNAL` bits for old `clone(2)`.
const NEWTIME: u32 = 0x80;

/// What the caller of create chooses beside the plan.
#[derive(Debug)]
pub(crate) struct Lowering<'a> {
    pub(crate) id: &'a str,
    pub(crate) no_new_keyring: bool,
    pub(crate) last_capability: u8,
    /// The user who makes it.
    pub(crate) euid: u32,
    /// Where init waits for whoever starts it; without, for this process.
    pub(crate) fifos: Option<&'a Fifos>,
    /// How many descriptors from 3 on stay open.
    pub(crate) preserve_fds: u32,
    /// What becomes of the host's root.
    pub(crate) old_root: OldRoot,
    /// Init ends with the thread that makes it.
    pub(crate) die_with_caller: bool,
}

impl<'a> Lowering<'a> {
    fn gate(&self) -> Gate<'a> {
        let sight = if self.euid == 0 { Sight::Roots } else { Sight::Makers };
        self.fifos.map_or(Gate::Wait, |fifos| Gate::Fifos(fifos, sight))
    }
}

/// Does it have a user namespace, new or joined?
pub(crate) fn has_user(namespaces: &Namespaces) -> bool {
    namespaces.new & NEWUSER != 0 || namespaces.join.iter().any(|(bit, _)| *bit == NEWUSER)
}

/// What init does before it is decided what else it does: its network namespace, which takes the kernel longer than all
/// others together. In a user namespace that comes later, because it has to belong to that.
pub(crate) fn first(namespaces: &Namespaces) -> Script<'static> {
    let mut script = begin();
    if network_comes_first(namespaces) {
        script.what("make a network namespace");
        script.push(Op::Unshare { kinds: NEWNET });
        loopback(&mut script);
    }
    go_on(&mut script);
    script
}

fn network_comes_first(namespaces: &Namespaces) -> bool {
    namespaces.new & NEWNET != 0 && !has_user(namespaces)
}

/// The script of init, after its first.
pub(crate) fn init<'fd>(plan: &Plan, prepared: &'fd Prepared, lowering: &Lowering<'fd>) -> Script<'fd> {
    let mut script = Script::later();
    oom_score(&mut script, &plan.process);
    if let Some(persona) = plan.personality {
        script.what(format!("set personality {persona:#x}"));
        script.push(Op::Personality { persona });
    }
    if !lowering.no_new_keyring {
        keyring(&mut script, lowering.id);
    }
    enter_namespaces(&mut script, plan, prepared);
    let mut trees = Trees::default();
    let root = mounts::rootfs(&mut script, plan, prepared, &mut trees);
    become_root(&mut script, plan);
    names(&mut script, plan);
    mounts::all(&mut script, plan, prepared, &mut trees, root);
    let terminal = mounts::terminal(&mut script, plan, root);
    let hooks = &plan.hooks;
    if [&hooks.prestart, &hooks.create_runtime, &hooks.create_container].iter().any(|hooks| !hooks.is_empty()) {
        script.what("wait for the hooks");
        script.push(Op::Sync { point: point::HOOKS });
    }
    working_directory(&mut script, plan, root);
    change_root(&mut script, plan, root, &lowering.old_root);
    mounts::seal(&mut script, plan, prepared, &mut trees, root);
    let ending = Ending {
        process: &plan.process,
        filter: plan.seccomp.as_ref(),
        memory_policy: plan.memory_policy.as_ref(),
        streams: &prepared.streams,
        terminal,
        gate: lowering.gate(),
        preserve_fds: lowering.preserve_fds,
        die_with_caller: lowering.die_with_caller,
        limits: if has_user(&plan.namespaces) { Limits::ByParent } else { Limits::BySelf },
        last_capability: lowering.last_capability,
    };
    finish(&mut script, &ending);
    script
}

/// The session keyring: with the host's permissions for the container's user to search in it, as runc sets them.
fn keyring(script: &mut Script<'_>, id: &str) {
    // KEY_POS_ALL, and view, read, link and search for the user (keyctl(2)).
    const PERMISSIONS: u32 = 0x3f1b_0000;
    script.what("join a new session keyring");
    let name = std::ffi::CString::new(format!("_ses.{id}")).unwrap_or_default();
    script.push(Op::Keyring { name: &name, permissions: PERMISSIONS });
}

fn enter_namespaces<'fd>(script: &mut Script<'fd>, plan: &Plan, prepared: &'fd Prepared) {
    let made = if network_comes_first(&plan.namespaces) { NEWNET } else { 0 };
    let new = plan.namespaces.new & !made;
    for (bit, fd) in prepared.joined.iter().filter(|(bit, _)| *bit != NEWCGROUP) {
        script.what(format!("join namespace {bit:#x}"));
        let fd = script.inherit(fd.as_fd());
        script.push(Op::SetNs { fd, kinds: *bit });
    }
    if new & (NEWUSER | NEWTIME) != 0 {
        script.what("make a user or time namespace");
        script.push(Op::Unshare { kinds: new & (NEWUSER | NEWTIME) });
        script.what("wait for id maps and clock offsets");
        // A parent without privileges may only write the maps of what it could look at; so could other processes of the
        // same user, who gain nothing by it: the container's see nothing of this one yet.
        let unprivileged = plan.namespaces.mapper != Mapper::Runtime;
        if unprivileged {
            script.push(Op::Prctl { option: PR_SET_DUMPABLE, value: 1 });
        }
        script.push(Op::Sync { point: point::MAPS });
        if unprivileged {
            script.push(Op::Prctl { option: PR_SET_DUMPABLE, value: 0 });
        }
    }
    // Everything new is made after the user namespace, so that it belongs to it. What pid and time namespaces were
    // joined or made so far holds for the child only.
    give_birth(script, &plan.process, &prepared.entrance, new & !(NEWUSER | NEWCGROUP | NEWTIME | late(plan)));
    let cgroup = prepared.joined.iter().find(|(bit, _)| *bit == NEWCGROUP);
    join_cgroup_namespace(script, cgroup.map(|(_, fd)| fd.as_fd()));
    if new & NEWCGROUP != 0 {
        script.what("make a cgroup namespace");
        script.push(Op::Unshare { kinds: NEWCGROUP });
    }
    if new & NEWNET != 0 {
        loopback(script);
    }
    if !plan.net_devices.is_empty() {
        net_devices(script);
    }
}

fn loopback(script: &mut Script<'_>) {
    script.what("bring up loopback");
    script.push(Op::Loopback {});
}

/// The parent moves them; what it does inside goes through a socket that was made there.
fn net_devices(script: &mut Script<'_>) {
    script.what("open a netlink socket");
    let into = script.slot();
    script.push(Op::Netlink { into });
    script.push(Op::Send { fd: Fd::slot(into), tag: tag::NETLINK });
    script.push(Op::Close { fd: Fd::slot(into) });
    script.free(into);
    script.what("wait for network devices");
    script.push(Op::Sync { point: point::DEVICES });
}

/// In a user namespace, what an IPC namespace holds (its message queues) belongs to whoever made it: that has to be root
/// of the user namespace, which the process is only later.
fn late(plan: &Plan) -> u32 {
    if has_user(&plan.namespaces) { plan.namespaces.new & NEWIPC } else { 0 }
}

/// From the host's root, which still owns this process, to the user namespace's. Not before the rootfs is attached: the
/// bundle may be closed to everybody but the host's root.
fn become_root(script: &mut Script<'_>, plan: &Plan) {
    if has_user(&plan.namespaces) {
        script.what("become root of the user namespace");
        script.push(Op::Ids { uid: 0, gid: 0 });
        // SECURITY: that has put this back to fs.suid_dumpable, and those who share the user namespace have this id, too.
        script.push(Op::Prctl { option: PR_SET_DUMPABLE, value: 0 });
    }
    if late(plan) != 0 {
        script.what("make an ipc namespace");
        script.push(Op::Unshare { kinds: late(plan) });
    }
}

/// What the new namespaces are called and how the kernel behaves in them. The procfs for it is ours alone: none that a
/// container could have prepared is written to (CVE-2025-52881).
fn names(script: &mut Script<'_>, plan: &Plan) {
    if let Some(name) = &plan.hostname {
        script.what(format!("set hostname {}", name.to_string_lossy()));
        script.push(Op::Hostname { name });
    }
    if let Some(name) = &plan.domainname {
        script.what(format!("set domainname {}", name.to_string_lossy()));
        script.push(Op::Domainname { name });
    }
    if plan.sysctl.is_empty() {
        return;
    }
    script.what("make a private procfs");
    let into = script.slot();
    script.push(mounts::private_procfs(into));
    for (key, value) in &plan.sysctl {
        script.what(format!("set sysctl {} to {}", key.to_string_lossy(), value.to_string_lossy()));
        let path = std::ffi::CString::new([b"sys/", key.as_bytes()].concat()).unwrap_or_default();
        script.push(Op::Set { dir: Fd::slot(into), path: &path, data: value.as_bytes() });
    }
    script.push(Op::Close { fd: Fd::slot(into) });
    script.free(into);
}

fn change_root(script: &mut Script<'_>, plan: &Plan, root: Fd, old: &OldRoot) {
    let OldRoot::Underneath(kernel_files) = old else {
        script.what(format!("pivot into rootfs {}", plan.rootfs.path.display()));
        script.push(Op::Pivot { root });
        return;
    };
    for path in kernel_files {
        script.what(format!("hide the host's {}", path.to_string_lossy()));
        script.push(Op::Hide { path });
    }
    script.what(format!("move rootfs {} over the host's root", plan.rootfs.path.display()));
    script.push(Op::MoveRoot { root });
}

/// A working directory that the image does not have is made, as runc does.
fn working_directory(script: &mut Script<'_>, plan: &Plan, root: Fd) {
    script.what(format!("make the working directory {}", plan.process.cwd.to_string_lossy()));
    let into = script.slot();
    script.push(Op::Target { root, path: &plan.process.cwd, make: make::DIRECTORY, like: Fd::NONE, into });
    script.push(Op::Close { fd: Fd::slot(into) });
    script.free(into);
}

/// `MS_*` of mount(2), as `mount_setattr(2)` takes it.
pub(super) fn propagation(kind: Propagation) -> u64 {
    match kind {
        Propagation::Unbindable => 1 << 17,
        Propagation::Private => 1 << 18,
        Propagation::Slave => 1 << 19,
        Propagation::Shared => 1 << 20,
    }
}
