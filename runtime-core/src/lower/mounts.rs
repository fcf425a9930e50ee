//! The part of init's script that builds its file system.

use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;

use tare_init::script::{Fd, Op, Slot, Strings, make};
use tare_plan::{Attributes, Mount, Plan, Propagation, Reach, Tree};

use super::init::propagation;
use crate::prepare::{Prepared, Source};
use crate::script::{Script, strings};

const MOUNT_ATTR_RDONLY: u64 = 1;
const MOUNT_ATTR_NOSUID: u64 = 2;
const MOUNT_ATTR_NODEV: u64 = 4;
const MOUNT_ATTR_NOEXEC: u64 = 8;
const OPEN_DIRECTORY: u64 = (libc::O_PATH | libc::O_DIRECTORY).unsigned_abs() as u64;

/// A procfs of this pid and network namespace that is mounted nowhere.
pub(super) fn private_procfs(into: Slot) -> Op<'static> {
    let attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    Op::Filesystem { kind: c"proc", source: c"proc", parameters: Strings(b""), attributes, into }
}

/// Cuts the tree loose from the host's mounts and puts the rootfs where the host has it, for hooks that look there: from
/// here its descriptor is the root under which everything is resolved. Slave, not private, so that an unmount on the
/// host is not held up by this copy.
pub(super) fn rootfs<'fd>(script: &mut Script<'fd>, plan: &Plan, prepared: &'fd Prepared) -> Fd {
    script.what("make the mount namespace a slave of the host's");
    let place = script.slot();
    script.push(Op::Open { dir: Fd::CWD, path: c"/", flags: OPEN_DIRECTORY, resolve: 0, into: place });
    let slave = propagation(Propagation::Slave);
    script.push(Op::SetAttr { tree: Fd::slot(place), recursive: 1, set: 0, clear: 0, propagation: slave });
    script.push(Op::Close { fd: Fd::slot(place) });
    script.what(format!("attach rootfs {}", plan.rootfs.path.display()));
    let root = script.inherit(prepared.rootfs.as_fd());
    let private = matches!(plan.rootfs.propagation, Some(Propagation::Private | Propagation::Unbindable));
    let propagation = if private { propagation(Propagation::Private) } else { slave };
    script.push(Op::SetAttr { tree: root, recursive: 1, set: 0, clear: 0, propagation });
    let path = std::ffi::CString::new(plan.rootfs.path.as_os_str().as_bytes()).unwrap_or_default();
    script.push(Op::Open { dir: Fd::CWD, path: &path, flags: OPEN_DIRECTORY, resolve: 0, into: place });
    script.push(Op::Attach { tree: root, target: Fd::slot(place) });
    script.push(Op::Close { fd: Fd::slot(place) });
    script.free(place);
    root
}

/// Mounts, then devices and links inside them.
pub(super) fn all<'fd>(script: &mut Script<'fd>, plan: &Plan, prepared: &'fd Prepared, root: Fd) {
    for (mount, source) in plan.mounts.iter().zip(&prepared.sources) {
        script.what(format!("mount {} on {}", source_text(mount), text(&mount.target)));
        let bind = source.as_ref().map(|source| (script.inherit(source.tree.as_fd()), source));
        one(script, plan, mount, bind, root);
    }
    for (device, source) in plan.devices.iter().zip(&prepared.devices) {
        let path = device.path.as_c_str();
        script.what(format!("make device {}", path.to_string_lossy()));
        if let Some(source) = source {
            let tree = script.inherit(source.tree.as_fd());
            attach(script, tree, path, source.make, root);
        } else {
            let (mode, major, minor) = (device.mode, device.major, device.minor);
            script.push(Op::Node { root, path, mode, major, minor, uid: device.uid, gid: device.gid });
        }
    }
    for link in &plan.symlinks {
        let (path, target) = (link.path.as_c_str(), link.target.as_c_str());
        script.what(format!("make symlink {}", path.to_string_lossy()));
        script.push(Op::Symlink { root, path, target, replace: link.replace.into() });
    }
}

fn one(script: &mut Script<'_>, plan: &Plan, mount: &Mount, bind: Option<(Fd, &Source)>, root: Fd) {
    let path = mount.target.as_c_str();
    let plain = if mount.plain_target { make::PLAIN } else { 0 };
    let now = if mount.seal_last { mount.attributes.set & !MOUNT_ATTR_RDONLY } else { mount.attributes.set };
    let now = Attributes { set: now, ..mount.attributes };
    match &mount.tree {
        Tree::Bind { .. } => {
            let Some((tree, source)) = bind else { return };
            // A mount that is shared with the host would carry the container's own mounts out to it.
            if plan.rootfs.propagation != Some(Propagation::Shared) {
                let slave = propagation(Propagation::Slave);
                script.push(Op::SetAttr { tree, recursive: 1, set: 0, clear: 0, propagation: slave });
            }
            attributes(script, tree, now, mount);
            attach(script, tree, path, source.make | plain, root);
        }
        Tree::New { kind, source, parameters, copy_up } => {
            let flat = strings(parameters.iter().flat_map(|(key, value)| [&**key, value.as_deref().unwrap_or(c"")]));
            let into = script.slot();
            let parameters = Strings(&flat);
            script.push(Op::Filesystem { kind, source, parameters, attributes: now.set, into });
            if *copy_up {
                let from = script.slot();
                script.push(Op::Target { root, path, make: make::DIRECTORY | plain, into: from });
                script.push(Op::CopyUp { from: Fd::slot(from), to: Fd::slot(into) });
                script.push(Op::Close { fd: Fd::slot(from) });
                script.free(from);
            }
            attributes(script, Fd::slot(into), Attributes::default(), mount);
            attach(script, Fd::slot(into), path, make::DIRECTORY | plain, root);
            script.free(into);
        }
        Tree::Remount => {
            let (set, clear) = (now.set, now.clear);
            script.push(Op::SetAttrAt { root, path, recursive: 0, set, clear, propagation: 0 });
        }
    }
}

/// What is set on a tree before it is attached: nobody ever sees it without.
fn attributes(script: &mut Script<'_>, tree: Fd, top: Attributes, mount: &Mount) {
    if top != Attributes::default() {
        script.push(Op::SetAttr { tree, recursive: 0, set: top.set, clear: top.clear, propagation: 0 });
    }
    let Attributes { set, clear } = mount.recursive;
    if mount.recursive != Attributes::default() {
        script.push(Op::SetAttr { tree, recursive: 1, set, clear, propagation: 0 });
    }
    for (kind, reach) in &mount.propagation {
        let recursive = u32::from(*reach == Reach::Tree);
        script.push(Op::SetAttr { tree, recursive, set: 0, clear: 0, propagation: propagation(*kind) });
    }
}

fn attach(script: &mut Script<'_>, tree: Fd, path: &std::ffi::CStr, make: u32, root: Fd) {
    let target = script.slot();
    script.push(Op::Target { root, path, make, into: target });
    script.push(Op::Attach { tree, target: Fd::slot(target) });
    script.push(Op::Close { fd: Fd::slot(target) });
    script.push(Op::Close { fd: tree });
    script.free(target);
}

/// The terminal, from the container's own devpts; its peer is bound on /dev/console. Answers the peer.
pub(super) fn terminal(script: &mut Script<'_>, plan: &Plan, root: Fd) -> Option<Fd> {
    plan.process.terminal?;
    let peer = super::finish::open_terminal(script, root);
    script.what("bind the terminal on /dev/console");
    let tree = script.slot();
    script.push(Op::CloneTree { dir: peer, path: c"", flags: 0, into: tree });
    attach(script, Fd::slot(tree), c"/dev/console", make::FILE, root);
    script.free(tree);
    Some(peer)
}

/// What has to wait until the root is in place: propagation, read-only mounts and paths, masks, the root itself.
pub(super) fn seal<'fd>(script: &mut Script<'fd>, plan: &Plan, prepared: &'fd Prepared, root: Fd) {
    if let Some(kind) = plan.rootfs.propagation {
        script.what("set the propagation of the rootfs");
        script.push(Op::SetAttr { tree: root, recursive: 1, set: 0, clear: 0, propagation: propagation(kind) });
    }
    for mount in plan.mounts.iter().filter(|mount| mount.seal_last) {
        let path = mount.target.as_c_str();
        script.what(format!("make {} read-only", path.to_string_lossy()));
        let set = MOUNT_ATTR_RDONLY;
        script.push(Op::SetAttrAt { root, path, recursive: 0, set, clear: 0, propagation: 0 });
    }
    if plan.rootfs.readonly {
        script.what("make the rootfs read-only");
        script.push(Op::SetAttr { tree: root, recursive: 0, set: MOUNT_ATTR_RDONLY, clear: 0, propagation: 0 });
    }
    for path in &plan.readonly {
        script.what(format!("make {} read-only", text(path)));
        script.push(Op::Seal { root, path: path.as_c_str() });
    }
    if plan.masked.is_empty() {
        return;
    }
    script.what("make an empty directory to mask with");
    let directory = script.slot();
    let attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    let (kind, parameters) = (c"tmpfs", Strings(b"nr_inodes\x002\x00"));
    script.push(Op::Filesystem { kind, source: kind, parameters, attributes, into: directory });
    let file = script.inherit(prepared.null.tree.as_fd());
    for path in &plan.masked {
        script.what(format!("mask {}", text(path)));
        script.push(Op::Mask { root, path: path.as_c_str(), file, directory: Fd::slot(directory) });
    }
}

fn source_text(mount: &Mount) -> String {
    match &mount.tree {
        Tree::Bind { source, .. } => source.display().to_string(),
        Tree::New { kind, .. } => kind.to_string_lossy().into_owned(),
        Tree::Remount => "attributes".into(),
    }
}

fn text(path: &tare_plan::InsidePath) -> String {
    path.as_c_str().to_string_lossy().into_owned()
}
