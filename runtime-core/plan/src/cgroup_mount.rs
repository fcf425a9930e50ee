//! A mount of `type: cgroup`, spelled out as plain mounts. What it means depends on how the host has its hierarchies and
//! on whether the container has a cgroup namespace; the rest of the runtime never hears of it again.

use std::ffi::CString;
use std::path::Path;

use crate::inside_path::c_string;
use crate::mount_options::{Options, attr};
use crate::mounts::{Mounted, Surroundings, assemble, labelled, parameters};
use crate::namespaces::Kind;
use crate::{Attributes, CgroupLayout, Hierarchy, InsidePath, Mount, Reach, Refusal, Symlink, Tree};

pub(crate) fn plan(
    field: &str,
    target: &InsidePath,
    options: &Options,
    around: Surroundings<'_>,
) -> Result<Mounted, Refusal> {
    match &around.host.cgroups {
        CgroupLayout::Unified { mountpoint, .. } => {
            let mounts = vec![unified(target, options, mountpoint, around)?];
            Ok(Mounted { mounts, symlinks: Vec::new() })
        }
        CgroupLayout::Legacy { hierarchies, .. } => legacy(field, target, options, hierarchies, around),
    }
}

/// With a cgroup namespace a cgroup2 of its own, whose root is the container's cgroup; without one a bind of the
/// cgroup that it may see.
fn unified(
    target: &InsidePath,
    options: &Options,
    mountpoint: &Path,
    around: Surroundings<'_>,
) -> Result<Mount, Refusal> {
    let tree = if around.namespaces.has(Kind::Cgroup) {
        Tree::New {
            kind: c"cgroup2".to_owned(),
            source: c"cgroup".to_owned(),
            parameters: parameters("cgroup2", target, options),
            copy_up: false,
        }
    } else {
        Tree::Bind { source: below(mountpoint, shown(around)), reach: Reach::Top }
    };
    Ok(assemble(tree, target.clone(), options))
}

/// A tmpfs with a folder for each version 1 hierarchy, named as on the host, and links for the controllers that share
/// one. As with runc, the cgroup2 of a hybrid host is not among them.
fn legacy(
    field: &str,
    target: &InsidePath,
    options: &Options,
    hierarchies: &[Hierarchy],
    around: Surroundings<'_>,
) -> Result<Mounted, Refusal> {
    if hierarchies.is_empty() {
        return Err(Refusal::new(format!("{field}.type"), "no cgroup hierarchy is mounted on this host"));
    }
    if !options.data.is_empty() {
        return Err(Refusal::new(format!("{field}.options"), "a cgroup version 1 mount takes no options of its own"));
    }
    let mut planned = Mounted { mounts: vec![ground(target, options, around)], symlinks: Vec::new() };
    for hierarchy in hierarchies {
        let name = hierarchy.mountpoint.file_name().and_then(std::ffi::OsStr::to_str).ok_or_else(|| {
            Refusal::new(format!("{field}.type"), format!("{} has no usable name", hierarchy.mountpoint.display()))
        })?;
        let at = target.join(field, name)?;
        let tree = hierarchy_tree(field, &at, options, hierarchy, around)?;
        planned.mounts.push(assemble(tree, at, &Options { copy_up: false, ..options.clone() }));
        planned.symlinks.extend(aliases(field, target, name, hierarchy)?);
    }
    Ok(planned)
}

/// The tmpfs below the hierarchies. It is read-only when asked, once the links are in it.
fn ground(target: &InsidePath, options: &Options, around: Surroundings<'_>) -> Mount {
    let set = options.attributes.set & attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
    let of_ground = Options {
        attributes: Attributes { set, clear: 0 },
        propagation: options.propagation.clone(),
        ..Options::default()
    };
    let tree = Tree::New {
        kind: c"tmpfs".to_owned(),
        source: c"tmpfs".to_owned(),
        parameters: labelled("tmpfs", vec![(c"mode".to_owned(), Some(c"755".to_owned()))], around.label),
        copy_up: false,
    };
    assemble(tree, target.clone(), &of_ground)
}

fn hierarchy_tree(
    field: &str,
    target: &InsidePath,
    options: &Options,
    hierarchy: &Hierarchy,
    around: Surroundings<'_>,
) -> Result<Tree, Refusal> {
    if !around.namespaces.has(Kind::Cgroup) {
        return Ok(Tree::Bind { source: below(&hierarchy.mountpoint, shown(around)), reach: Reach::Top });
    }
    let mut told = parameters("cgroup", target, options);
    for controller in &hierarchy.controllers {
        told.push(match controller.strip_prefix("name=") {
            Some(name) => (c"name".to_owned(), Some(c_string(field, name)?)),
            None => (c_string(field, controller.as_str())?, None),
        });
    }
    Ok(Tree::New { kind: c"cgroup".to_owned(), source: c"cgroup".to_owned(), parameters: told, copy_up: false })
}

/// The cgroup that a container without a cgroup namespace sees: its own. Without privileges there may be none; then it sees
/// what its user sees anyway, as with crun.
fn shown<'a>(around: Surroundings<'a>) -> &'a Path {
    let unprivileged = around.host.euid != 0 || around.host.in_user_namespace;
    if unprivileged { Path::new("/") } else { around.cgroup }
}

/// `cpu -> cpu,cpuacct`, for each controller that is not itself the folder's name.
fn aliases(field: &str, target: &InsidePath, folder: &str, hierarchy: &Hierarchy) -> Result<Vec<Symlink>, Refusal> {
    let others = hierarchy.controllers.iter().filter(|name| *name != folder && !name.starts_with("name="));
    others
        .map(|name| {
            let says: CString = c_string(field, folder)?;
            Ok(Symlink { path: target.join(field, name)?, target: says, replace: false })
        })
        .collect()
}

fn below(mountpoint: &Path, cgroup: &Path) -> std::path::PathBuf {
    mountpoint.join(cgroup.strip_prefix("/").unwrap_or(cgroup))
}
