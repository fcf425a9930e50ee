//! The part of init's script that builds its file system.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;

use tare_init::script::{Fd, Op, Slot, Strings, device_number, make};
use tare_plan::{Attributes, DeviceSource, Mount, Plan, Propagation, Reach, Tree};

use super::init::propagation;
use super::{point, tag};
use crate::prepare::{Handover, Mapping, Origin, Prepared, Source, Users};
use crate::script::{About, Script, strings};

const MOUNT_ATTR_RDONLY: u64 = 1;
const MOUNT_ATTR_NOSUID: u64 = 2;
const MOUNT_ATTR_NODEV: u64 = 4;
const MOUNT_ATTR_NOEXEC: u64 = 8;
pub(super) const AT_RECURSIVE: u32 = 0x8000;
const OPEN_DIRECTORY: u64 = (libc::O_PATH | libc::O_DIRECTORY).unsigned_abs() as u64;

/// A procfs of this pid and network namespace that is mounted nowhere.
pub(super) fn private_procfs(into: Slot) -> Op<'static> {
    let attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    let (kind, parameters) = (c"proc", Strings(b""));
    Op::Filesystem { kind, source: kind, parameters, attributes, root: Fd::NONE, like: c"", into }
}

/// Trees that the child has cloned or been given and keeps until they are attached, by the source's address in `Prepared`.
#[derive(Debug, Default)]
pub(super) struct Trees(Vec<(*const Source, Fd)>);

impl Trees {
    /// The tree of a source. SECURITY: it is cut loose from the host's mounts here, whoever has cloned it, so that nothing
    /// that the container mounts on it can appear on the host; only a tree that is asked to be shared stays in its group.
    fn take<'fd>(&mut self, script: &mut Script<'fd>, source: &'fd Source, keep: Option<Propagation>, root: Fd) -> Fd {
        let tree = self.known(source).unwrap_or_else(|| clone(script, source, None, root));
        cut_loose(script, tree, keep);
        tree
    }

    fn known(&self, source: &Source) -> Option<Fd> {
        self.0.iter().find(|(place, _)| std::ptr::eq(*place, source)).map(|(_, fd)| *fd)
    }

    /// What the porter hands over; the first is the rootfs, which is attached already.
    fn receive<'fd>(&mut self, script: &mut Script<'fd>, prepared: &'fd Prepared, handover: &'fd Handover) {
        script.what("take over the host's trees");
        script.push(Op::Sync { point: point::TREES });
        let socket = script.inherit(handover.child.as_fd());
        for source in prepared.carried() {
            let into = script.slot();
            script.push(Op::Take { socket, into });
            self.0.push((source, Fd::slot(into)));
        }
    }
}

fn cut_loose(script: &mut Script<'_>, tree: Fd, keep: Option<Propagation>) {
    if keep != Some(Propagation::Shared) {
        let private = matches!(keep, Some(Propagation::Private | Propagation::Unbindable));
        let kind = propagation(if private { Propagation::Private } else { Propagation::Slave });
        script.push(Op::SetAttr { tree, recursive: 1, set: 0, clear: 0, propagation: kind });
    }
}

/// The tree of a source, with its ids mapped while it is mounted nowhere: later the kernel refuses it. `root` is the root
/// file system, for what lies there.
pub(super) fn clone<'fd>(
    script: &mut Script<'fd>,
    source: &'fd Source,
    container: Option<BorrowedFd<'fd>>,
    root: Fd,
) -> Fd {
    let tree = match &source.origin {
        Origin::Cloned(tree) => script.inherit(tree.as_fd()),
        Origin::Named(path, reach) => {
            script.what(format!("clone the tree at {}", path.to_string_lossy()));
            let into = script.slot();
            let flags = if *reach == Reach::Tree { AT_RECURSIVE } else { 0 };
            script.push(Op::CloneTree { dir: Fd::CWD, path, flags, into });
            Fd::slot(into)
        }
        Origin::Inner(path, reach, _) => tree_inside(script, path, *reach, root),
    };
    let Some((users, reach)) = &source.id_map else { return tree };
    if let Origin::Inner(.., Mapping::Parent) = &source.origin {
        script.push(Op::Send { fd: tree, tag: tag::INNER });
        script.push(Op::Sync { point: point::IDS });
        return tree;
    }
    if let Origin::Named(path, _) = &source.origin {
        script.what(format!("map the ids of the tree at {}", path.to_string_lossy()));
    }
    let users = match users {
        Users::Own(users) => Some(users.as_fd()),
        Users::Container => container,
    };
    let users = users.map_or(Fd::NONE, |fd| script.inherit(fd));
    script.push(Op::IdMap { tree, recursive: u32::from(*reach == Reach::Tree), users });
    tree
}

/// SECURITY: found as the container would find it, so that no link of the image leads out, nor onto the kernel's files.
fn tree_inside(script: &mut Script<'_>, path: &CStr, reach: Reach, root: Fd) -> Fd {
    let (found, into) = (script.slot(), script.slot());
    let make = make::NOTHING | make::NOT_PROC;
    script.push(Op::Target { root, path, make, like: Fd::NONE, into: found });
    let flags = if reach == Reach::Tree { AT_RECURSIVE } else { 0 };
    script.push(Op::CloneTree { dir: Fd::slot(found), path: c"", flags, into });
    script.push(Op::Close { fd: Fd::slot(found) });
    script.free(found);
    Fd::slot(into)
}

/// Cuts the tree loose from the host's mounts and puts the rootfs where the host has it, for hooks that look there: from
/// here its descriptor is the root under which everything is resolved. Slave, not private, so that an unmount on the
/// host is not held up by this copy.
pub(super) fn rootfs<'fd>(script: &mut Script<'fd>, plan: &Plan, prepared: &'fd Prepared, trees: &mut Trees) -> Fd {
    enslave(script);
    if let Some(handover) = &prepared.handover {
        trees.receive(script, prepared, handover);
        return trees.0.first().map_or(Fd::NONE, |(_, root)| *root);
    }
    // Later it will not be the host's root any more, and may not get there.
    for source in prepared.carried() {
        let tree = clone(script, source, None, Fd::NONE);
        trees.0.push((source, tree));
    }
    let root = trees.known(&prepared.rootfs);
    let root = root.unwrap_or_else(|| clone(script, &prepared.rootfs, None, Fd::NONE));
    attach_rootfs(script, plan, root);
    root
}

/// Nothing that is mounted from here on shows on the host.
pub(super) fn enslave(script: &mut Script<'_>) {
    script.what("make the mount namespace a slave of the host's");
    let place = script.slot();
    script.push(Op::Open { dir: Fd::CWD, path: c"/", flags: OPEN_DIRECTORY, resolve: 0, into: place });
    let slave = propagation(Propagation::Slave);
    script.push(Op::SetAttr { tree: Fd::slot(place), recursive: 1, set: 0, clear: 0, propagation: slave });
    script.push(Op::Close { fd: Fd::slot(place) });
    script.free(place);
}

/// Puts the rootfs where the host has it.
pub(super) fn attach_rootfs(script: &mut Script<'_>, plan: &Plan, root: Fd) {
    script.what(format!("attach rootfs {}", plan.rootfs.path.display()));
    cut_loose(script, root, plan.rootfs.propagation.filter(|kind| *kind != Propagation::Shared));
    let place = script.slot();
    let path = CString::new(plan.rootfs.path.as_os_str().as_bytes()).unwrap_or_default();
    script.push(Op::Open { dir: Fd::CWD, path: &path, flags: OPEN_DIRECTORY, resolve: 0, into: place });
    script.push(Op::Attach { tree: root, target: Fd::slot(place) });
    script.push(Op::Close { fd: Fd::slot(place) });
    script.free(place);
}

/// Mounts, then devices and links inside them.
pub(super) fn all<'fd>(script: &mut Script<'fd>, plan: &Plan, prepared: &'fd Prepared, trees: &mut Trees, root: Fd) {
    for (mount, source) in plan.mounts.iter().zip(&prepared.sources) {
        script.about(about(mount));
        let keep = plan.rootfs.propagation.filter(|kind| *kind == Propagation::Shared);
        let bind = source.as_ref().map(|source| (trees.take(script, source, keep, root), source.make));
        one(script, mount, bind, root);
    }
    for (device, source) in plan.devices.iter().zip(&prepared.devices) {
        let path = device.path.as_c_str();
        script.what(format!("make device {}", path.to_string_lossy()));
        let tree = source.as_ref().map(|source| trees.take(script, source, Some(Propagation::Private), root));
        match (plan.device_source, tree) {
            (DeviceSource::BindFromHost, Some(tree)) => attach(script, tree, path, make::FILE, root),
            (_, instead) => {
                let (mode, number) = (device.mode, device_number(device.major, device.minor));
                let instead = instead.unwrap_or(Fd::NONE);
                script.push(Op::Node { root, path, mode, number, uid: device.uid, gid: device.gid, instead });
            }
        }
    }
    for link in &plan.symlinks {
        let (path, target) = (link.path.as_c_str(), link.target.as_c_str());
        script.what(format!("make symlink {}", path.to_string_lossy()));
        script.push(Op::Symlink { root, path, target, replace: link.replace.into() });
    }
}

fn one(script: &mut Script<'_>, mount: &Mount, bind: Option<(Fd, u32)>, root: Fd) {
    let path = mount.target.as_c_str();
    let in_proc = path.to_bytes() == b"/proc" || path.to_bytes().starts_with(b"/proc/");
    let plain = if mount.plain_target { make::PLAIN } else { 0 } | if in_proc { 0 } else { make::NOT_PROC };
    let now = if mount.seal_last { mount.attributes.set & !MOUNT_ATTR_RDONLY } else { mount.attributes.set };
    let now = Attributes { set: now, ..mount.attributes };
    match &mount.tree {
        Tree::Bind { .. } | Tree::Inner { .. } => {
            let Some((tree, kind)) = bind else { return };
            attributes(script, tree, now, mount);
            attach(script, tree, path, kind | plain, root);
        }
        Tree::New { kind, source, parameters, copy_up } => {
            let flat = flatten(parameters);
            let into = script.slot();
            let parameters = Strings(&flat);
            let like = if mount.tree.takes_mode() { path } else { c"" };
            script.push(Op::Filesystem { kind, source, parameters, attributes: now.set, root, like, into });
            if *copy_up {
                let from = script.slot();
                script.push(Op::Target { root, path, make: make::DIRECTORY | plain, like: Fd::NONE, into: from });
                script.push(Op::CopyUp { from: Fd::slot(from), to: Fd::slot(into) });
                script.push(Op::Close { fd: Fd::slot(from) });
                script.free(from);
            }
            attributes(script, Fd::slot(into), Attributes::default(), mount);
            attach(script, Fd::slot(into), path, make::DIRECTORY | plain, root);
        }
        Tree::Remount { parameters } => {
            let (set, clear) = (now.set, now.clear);
            script.push(Op::SetAttrAt { root, path, recursive: 0, set, clear, propagation: 0 });
            if !parameters.is_empty() {
                script.push(Op::Reconfigure { root, path, parameters: Strings(&flatten(parameters)) });
            }
        }
    }
}

/// One value of fsconfig(2) holds so many bytes.
const LONGEST: usize = 255;

/// What the kernel's answer alone would not say: ELOOP for a link of the image, EINVAL for `lowerdir+` where it is unknown.
fn hint(mount: &Mount) -> &'static str {
    if mount.plain_target {
        return ", which must be mounted on ordinary directory";
    }
    let long = |(key, value): &(CString, Option<CString>)| {
        key.as_bytes() == b"lowerdir" && value.as_deref().is_some_and(|value| value.count_bytes() > LONGEST)
    };
    match &mount.tree {
        Tree::New { parameters, .. } if parameters.iter().any(long) => {
            " (layers whose names are longer than 255 bytes need Linux 6.8)"
        }
        _ => "",
    }
}

/// Parameters as the stub takes them. The layers of an overlay, which are often longer together than one value may be, go
/// one by one (`lowerdir+`, Linux 6.8).
fn flatten(parameters: &[(CString, Option<CString>)]) -> Vec<u8> {
    let mut flat = Vec::new();
    for (key, value) in parameters {
        let value = value.as_deref().unwrap_or(c"");
        if key.as_bytes() == b"lowerdir" && value.count_bytes() > LONGEST {
            for layer in value.to_bytes().split(|byte| *byte == b':') {
                flat.extend_from_slice(b"lowerdir+\0");
                flat.extend_from_slice(layer);
                flat.push(0);
            }
        } else {
            flat.extend(strings([&**key, value]));
        }
    }
    flat
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

pub(super) fn attach(script: &mut Script<'_>, tree: Fd, path: &std::ffi::CStr, make: u32, root: Fd) {
    let target = script.slot();
    script.push(Op::Target { root, path, make, like: tree, into: target });
    script.push(Op::Attach { tree, target: Fd::slot(target) });
    script.push(Op::Close { fd: Fd::slot(target) });
    script.push(Op::Close { fd: tree });
    script.free(target);
    if let Some(slot) = tree.as_slot() {
        script.free(slot);
    }
}

/// The terminal, from the container's own devpts; its peer is bound on /dev/console. Answers the peer.
pub(super) fn terminal(script: &mut Script<'_>, plan: &Plan, root: Fd) -> Option<Fd> {
    let size = plan.process.terminal?;
    let peer = super::finish::open_terminal(script, root, size);
    script.what("bind the terminal on /dev/console");
    let tree = script.slot();
    script.push(Op::CloneTree { dir: peer, path: c"", flags: 0, into: tree });
    attach(script, Fd::slot(tree), c"/dev/console", make::FILE, root);
    Some(peer)
}

/// What has to wait until the root is in place: propagation, read-only mounts and paths, masks, the root itself.
pub(super) fn seal<'fd>(script: &mut Script<'fd>, plan: &Plan, prepared: &'fd Prepared, trees: &mut Trees, root: Fd) {
    // The mounts inside have what they asked for; this is about the root alone, as with runc.
    if let Some(kind) = plan.rootfs.propagation {
        script.what("set the propagation of the rootfs");
        script.push(Op::SetAttr { tree: root, recursive: 0, set: 0, clear: 0, propagation: propagation(kind) });
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
    let into = directory;
    script.push(Op::Filesystem { kind, source: kind, parameters, attributes, root: Fd::NONE, like: c"", into });
    let file = trees.take(script, &prepared.null, Some(Propagation::Private), root);
    for path in &plan.masked {
        script.what(format!("mask {}", text(path)));
        script.push(Op::Mask { root, path: path.as_c_str(), file, directory: Fd::slot(directory) });
    }
}

fn about(mount: &Mount) -> About {
    let target = text(&mount.target);
    let (what, source) = match &mount.tree {
        Tree::Bind { source, .. } => (source.display().to_string(), source.display().to_string()),
        Tree::Inner { source, .. } => (format!("the container's {}", text(source)), text(source)),
        Tree::New { kind, source, .. } => (kind.to_string_lossy().into_owned(), source.to_string_lossy().into_owned()),
        Tree::Remount { .. } => ("attributes".into(), String::new()),
    };
    About::Mounting { what: format!("mount {what} on {target}{}", hint(mount)), source, target }
}

fn text(path: &tare_plan::InsidePath) -> String {
    path.as_c_str().to_string_lossy().into_owned()
}
