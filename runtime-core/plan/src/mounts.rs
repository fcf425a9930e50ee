//! `mounts`: each one becomes a [`Mount`], and a `type: cgroup` one as many as the host's hierarchies need.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime as oci;

use crate::inside_path::{below_root, c_string, host_path, inside};
use crate::mount_options::{self, Options, attr};
use crate::namespaces::Kind;
use crate::{Attributes, Host, InsidePath, Mount, Namespaces, Reach, Refusal, Symlink, Tree};
use crate::{cgroup_mount, id_map};

/// What may be mounted inside /proc: the files that lxcfs and its like provide for a container's `top` and `free`.
const INSIDE_PROC: [&[u8]; 11] = [
    b"/proc/cpuinfo",
    b"/proc/diskstats",
    b"/proc/meminfo",
    b"/proc/stat",
    b"/proc/swaps",
    b"/proc/uptime",
    b"/proc/loadavg",
    b"/proc/slabinfo",
    b"/proc/net/dev",
    b"/proc/sys/kernel/ns_last_pid",
    b"/proc/sys/crypto/fips_enabled",
];

/// A parameter for fsconfig(2): a flag, or a key and a value.
pub(crate) type Parameter = (CString, Option<CString>);

/// What the mounts of a container depend on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    pub(crate) bundle: &'a Path,
    /// The root file system, as the host names it.
    pub(crate) rootfs: &'a Path,
    pub(crate) namespaces: &'a Namespaces,
    pub(crate) host: &'a Host,
    pub(crate) cgroup: &'a Path,
    /// `linux.mountLabel`.
    pub(crate) label: Option<&'a CStr>,
}

/// File systems whose labels are the policy's, not the mount's: SELinux takes no `context=` for them, or runc gives none.
const UNLABELLED: [&str; 5] = ["proc", "sysfs", "mqueue", "cgroup", "cgroup2"];

/// Mounts in the order they are attached, and the links that go into them.
#[derive(Debug, Default)]
pub(crate) struct Mounted {
    pub(crate) mounts: Vec<Mount>,
    pub(crate) symlinks: Vec<Symlink>,
}

pub(crate) fn plan(listed: &[oci::Mount], around: Surroundings<'_>) -> Result<Mounted, Refusal> {
    let mut planned = Mounted::default();
    for (index, mount) in listed.iter().enumerate() {
        let field = format!("mounts[{index}]");
        let target = target(&field, mount, around.rootfs)?;
        let options = options(&field, mount, around)?;
        let id_map = id_map::plan(&field, mount, &options, around)?;
        if is_new(mount, &options, "cgroup") {
            let expanded = cgroup_mount::plan(&field, &target, &options, around)?;
            planned.mounts.extend(expanded.mounts);
            planned.symlinks.extend(expanded.symlinks);
        } else if is_new(mount, &options, "sysfs") && !may_make_sysfs(around.namespaces) {
            planned.mounts.push(host_sysfs(target, &options));
        } else {
            let tree = tree(&field, mount, &target, &options, around)?;
            check_proc(&field, &target, &tree)?;
            planned.mounts.push(Mount { id_map, ..assemble(tree, target, &options) });
        }
    }
    Ok(planned)
}

/// The mount of `tree` at `target` that `options` describe.
pub(crate) fn assemble(tree: Tree, target: InsidePath, options: &Options) -> Mount {
    let kind = match &tree {
        Tree::New { kind, .. } => kind.to_bytes(),
        Tree::Bind { .. } | Tree::Inner { .. } | Tree::Remount { .. } => b"",
    };
    let read_only = options.attributes.set & attr::RDONLY != 0;
    Mount {
        seal_last: read_only && sealed_last(kind, &target),
        plain_target: matches!(kind, b"proc" | b"sysfs") || target.as_bytes() == b"/proc",
        attributes: options.attributes,
        recursive: options.recursive,
        propagation: options.propagation.clone(),
        id_map: None,
        tree,
        target,
    }
}

/// A tmpfs may get mount points of later mounts, and /dev gets the devices.
fn sealed_last(kind: &[u8], target: &InsidePath) -> bool {
    kind == b"tmpfs" || target.as_bytes() == b"/dev"
}

/// A relative destination is deprecated and still accepted by runc; it is taken from the container's root. One that names
/// the root file system as the host does means what is inside it, as with runc.
fn target(field: &str, mount: &oci::Mount, rootfs: &Path) -> Result<InsidePath, Refusal> {
    let field = format!("{field}.destination");
    if mount.destination().as_os_str().is_empty() {
        return Err(Refusal::new(field, "is empty"));
    }
    let target = inside(&field, mount.destination())?;
    let target = match below_root(rootfs, &host_path(&field, Path::new("/"), mount.destination())?) {
        Some(below) => inside(&field, &below)?,
        None => target,
    };
    if target.as_bytes() == b"/" {
        return Err(Refusal::new(field, "mountpoint is on the top of rootfs"));
    }
    Ok(target)
}

fn options(field: &str, mount: &oci::Mount, around: Surroundings<'_>) -> Result<Options, Refusal> {
    let mut options =
        mount_options::parse(&format!("{field}.options"), mount.options().as_deref().unwrap_or_default())?;
    // The type of a bind mount is a dummy, but crun and podman take this one alone for the option.
    if options.bind.is_none() && mount.typ().as_deref() == Some("bind") {
        options.bind = Some(Reach::Top);
    }
    if options.bind.is_some() && !options.remount && options.attributes != Attributes::default() {
        options.attributes.clear |= unnamed(around) & !options.attributes.set;
        options.attributes = remounted(options.attributes);
    }
    Ok(options)
}

/// What mount(2) makes of access times in a remount, which is how runc and crun give a bind its attributes: they stay the
/// source's as long as nothing is asked for, and else are what is asked for and no more; `nodiratime` alone comes with
/// `relatime`.
fn remounted(attributes: Attributes) -> Attributes {
    let Attributes { set, clear } = attributes;
    let asked = set & attr::NODIRATIME != 0 || clear & attr::ATIME != 0;
    let whole = attr::ATIME | attr::NODIRATIME;
    Attributes { set, clear: if asked { clear | whole & !(set & attr::NODIRATIME) } else { clear & !whole } }
}

/// What a bind whose options name any attribute loses of its source's, unless they name it: runc and crun remount with what
/// is named, so a `rw` volume on a `noexec` disk holds programs. Inside a user namespace the kernel has locked most.
fn unnamed(around: Surroundings<'_>) -> u64 {
    let locked = around.namespaces.has(Kind::User) || around.host.in_user_namespace || around.host.euid != 0;
    let lockable = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
    attr::NOSYMFOLLOW | if locked { 0 } else { lockable }
}

fn tree(
    field: &str,
    mount: &oci::Mount,
    target: &InsidePath,
    options: &Options,
    around: Surroundings<'_>,
) -> Result<Tree, Refusal> {
    let of_options = format!("{field}.options");
    let kind = mount.typ().as_deref().unwrap_or_default();
    if options.copy_up && (kind != "tmpfs" || options.bind.is_some() || options.remount) {
        return Err(Refusal::new(of_options, "tmpcopyup is for a new tmpfs"));
    }
    if options.remount {
        // A remount of a bind is about the mount alone (mount(2)).
        if options.bind.is_some() && !options.data.is_empty() {
            return Err(Refusal::new(of_options, "bind mounts cannot have any filesystem-specific options applied"));
        }
        return Ok(Tree::Remount { parameters: options.data.clone() });
    }
    if let Some(reach) = options.bind {
        if !options.data.is_empty() {
            return Err(Refusal::new(of_options, "bind mounts cannot have any filesystem-specific options applied"));
        }
        // A bind shares the file system with the host, so `sync` and its kin have nothing to change here; mount(2)
        // passes over them too.
        let source = mount.source().as_deref().unwrap_or(Path::new(""));
        let of_source = format!("{field}.source");
        let source = host_path(&of_source, around.bundle, source)?;
        return Ok(match below_root(around.rootfs, &source) {
            Some(below) => Tree::Inner { source: inside(&of_source, &below)?, reach },
            None => Tree::Bind { source, reach },
        });
    }
    if kind.is_empty() {
        return Err(Refusal::new(format!("{field}.type"), "is missing, and the options do not say bind"));
    }
    let source = mount.source().as_deref().filter(|source| !source.as_os_str().is_empty());
    Ok(Tree::New {
        kind: c_string(&format!("{field}.type"), kind)?,
        source: c_string(&format!("{field}.source"), source.unwrap_or(Path::new("none")).as_os_str().as_bytes())?,
        parameters: labelled(kind, parameters(kind, target, options), around.label),
        copy_up: options.copy_up,
    })
}

/// The mount asks for a new file system of this type.
fn is_new(mount: &oci::Mount, options: &Options, kind: &str) -> bool {
    mount.typ().as_deref() == Some(kind) && options.bind.is_none() && !options.remount
}

/// sysfs shows a network namespace, and the kernel lets only a user namespace that owns it make one.
fn may_make_sysfs(namespaces: &Namespaces) -> bool {
    namespaces.has(Kind::Network) || !namespaces.has(Kind::User)
}

/// The host's sysfs, as crun shows it to a container with the host's network in a user namespace of its own.
///
/// SECURITY: what is mounted below it (debugfs, bpf) gets the attributes as well, `ro` above all.
fn host_sysfs(target: InsidePath, options: &Options) -> Mount {
    let tree = Tree::Bind { source: PathBuf::from("/sys"), reach: Reach::Tree };
    let mount = assemble(tree, target, options);
    Mount { recursive: options.attributes, plain_target: true, ..mount }
}

/// With the container's SELinux context, unless the options name one of their own.
pub(crate) fn labelled(kind: &str, mut parameters: Vec<Parameter>, label: Option<&CStr>) -> Vec<Parameter> {
    let named = parameters.iter().any(|(key, _)| key.as_c_str() == c"context");
    if !named && !UNLABELLED.contains(&kind) {
        parameters.extend(label.map(|label| (c"context".to_owned(), Some(label.to_owned()))));
    }
    parameters
}

/// What fsconfig(2) is told: mount(2)'s MS_RDONLY meant the file system as well as the mount, so `ro` goes to both,
/// unless something is yet to be made in it.
pub(crate) fn parameters(kind: &str, target: &InsidePath, options: &Options) -> Vec<Parameter> {
    let read_only = options.attributes.set & attr::RDONLY != 0 && !sealed_last(kind.as_bytes(), target);
    let flags = options.superblock.iter().copied().chain(read_only.then_some("ro"));
    let flags = flags.filter_map(|flag| Some((CString::new(flag).ok()?, None)));
    flags.chain(options.data.iter().cloned()).collect()
}

/// SECURITY: whatever covers /proc, or a file in it, decides what a later write of a label or a sysctl hits
/// (CVE-2019-16884). Only procfs itself may be there, and the few harmless files of lxcfs. That a bind of the host's
/// /proc is in truth procfs is for the one who opens it to check.
fn check_proc(field: &str, target: &InsidePath, tree: &Tree) -> Result<(), Refusal> {
    let path = target.as_bytes();
    let allowed = match tree {
        _ if path != b"/proc" && !path.starts_with(b"/proc/") => true,
        _ if INSIDE_PROC.contains(&path) => true,
        Tree::New { kind, .. } => path == b"/proc" && kind.as_bytes() == b"proc",
        Tree::Bind { source, .. } => path == b"/proc" && source == Path::new("/proc"),
        Tree::Remount { .. } => path == b"/proc",
        Tree::Inner { .. } => false,
    };
    if allowed {
        return Ok(());
    }
    let shown = String::from_utf8_lossy(path);
    Err(Refusal::new(format!("{field}.destination"), format!("{shown:?} cannot be mounted because it is inside /proc")))
}
