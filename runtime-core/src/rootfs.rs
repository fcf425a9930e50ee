//! The mounts that containerd hands over for a rootfs, made in the host's mount namespace as containerd expects, and
//! their removal. Container paths are not touched: everything here is the host's.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, mount_remount, unmount};

use crate::container::RootfsMount;
use crate::{Error, Kind};

/// What a mount's options say: flags, propagation, and the file system's own data.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    flags: MountFlags,
    propagation: MountPropagationFlags,
    bind: Option<Bind>,
    data: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bind {
    Top,
    Tree,
}

/// The longest data that mount(2) takes: a page with its NUL.
const DATA_LIMIT: usize = 4095;

/// Where each mount goes, in order: known before the first is made, so that the record can name them. SECURITY: a target
/// below the rootfs would be looked up in an image that is mounted already, through whatever links it has.
pub(crate) fn targets(mounts: &[RootfsMount], rootfs: &Path) -> Result<Vec<PathBuf>, Error> {
    match mounts.iter().find(|mount| !mount.target.trim_start_matches('/').is_empty()) {
        None => Ok(vec![rootfs.to_path_buf(); mounts.len()]),
        Some(mount) => {
            let what = format!("rootfs mount with target {:?}: targets are not supported yet", mount.target);
            Err(Error::new(Kind::Unsupported, what))
        }
    }
}

/// Makes the mounts; when one fails, those before it are taken away again.
pub(crate) fn mount_all(mounts: &[RootfsMount], targets: &[PathBuf]) -> Result<(), Error> {
    for (index, (one, target)) in mounts.iter().zip(targets).enumerate() {
        if let Err(error) = mount_one(one, target) {
            let undone = unmount_all(targets.get(..index).unwrap_or_default());
            return Err(undone.err().map_or_else(|| error, |undo| Error::new(Kind::System, undo.to_string())));
        }
    }
    Ok(())
}

fn mount_one(mounted: &RootfsMount, target: &Path) -> Result<(), Error> {
    let what = || format!("mount rootfs {} ({}) on {}", mounted.source, mounted.kind, target.display());
    let options = parse(&mounted.options).map_err(|error| error.during(what()))?;
    let failed = |errno| Error::system(what(), errno);
    if let Some(reach) = options.bind.or((mounted.kind == "bind").then_some(Bind::Top)) {
        bind(mounted, target, &options, reach).map_err(failed)?;
    } else {
        let data = options.data.join(",");
        if data.len() > DATA_LIMIT {
            overlay_by_parts(&options, target).map_err(|error| error.during(what()))?;
        } else {
            let data = std::ffi::CString::new(data).map_err(|_| failed(Errno::INVAL))?;
            mount(&*mounted.source, target, &*mounted.kind, options.flags, &*data).map_err(failed)?;
        }
    }
    if options.propagation.is_empty() { Ok(()) } else { mount_change(target, options.propagation).map_err(failed) }
}

fn bind(mounted: &RootfsMount, target: &Path, options: &Options, reach: Bind) -> Result<(), Errno> {
    match reach {
        Bind::Top => rustix::mount::mount_bind(&*mounted.source, target)?,
        Bind::Tree => rustix::mount::mount_bind_recursive(&*mounted.source, target)?,
    }
    if options.flags.is_empty() {
        return Ok(());
    }
    // A bind takes its flags in a second call (mount(2)).
    let undone = |errno| {
        let _ = unmount(target, UnmountFlags::DETACH);
        errno
    };
    mount_remount(target, options.flags | MountFlags::BIND, "").map_err(undone)
}

/// An overlay with more layers than one page of options can name: each goes through fsconfig(2) by itself.
fn overlay_by_parts(options: &Options, target: &Path) -> Result<(), Error> {
    use rustix::mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag,
        fsconfig_set_string, fsmount, fsopen, move_mount,
    };
    let failed = |errno| Error::system("set overlay options one by one (lowerdir+ needs Linux 6.8)", errno);
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed)?;
    for option in &options.data {
        match option.split_once('=') {
            Some(("lowerdir", layers)) => {
                layers.split(':').try_for_each(|layer| fsconfig_set_string(&fs, "lowerdir+", layer)).map_err(failed)?;
            }
            Some((key, value)) => fsconfig_set_string(&fs, key, value).map_err(failed)?,
            None => fsconfig_set_flag(&fs, option.as_str()).map_err(failed)?,
        }
    }
    fsconfig_create(&fs).map_err(failed)?;
    let attributes = [
        (MountFlags::RDONLY, MountAttrFlags::MOUNT_ATTR_RDONLY),
        (MountFlags::NOSUID, MountAttrFlags::MOUNT_ATTR_NOSUID),
        (MountFlags::NODEV, MountAttrFlags::MOUNT_ATTR_NODEV),
        (MountFlags::NOEXEC, MountAttrFlags::MOUNT_ATTR_NOEXEC),
    ];
    let set = attributes.into_iter().filter(|(flag, _)| options.flags.contains(*flag)).map(|(_, attribute)| attribute);
    let tree = fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, set.collect()).map_err(failed)?;
    move_mount(&tree, "", rustix::fs::CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(failed)
}

/// The options that containerd's mount package knows; what else there is belongs to the file system.
fn parse(options: &[String]) -> Result<Options, Error> {
    let mut parsed = Options {
        flags: MountFlags::empty(),
        propagation: MountPropagationFlags::empty(),
        bind: None,
        data: Vec::new(),
    };
    let (one, rec) = (MountPropagationFlags::empty(), MountPropagationFlags::REC);
    for option in options {
        match option.as_str() {
            "defaults" | "async" | "atime" | "dev" | "diratime" | "exec" | "nostrictatime" | "norelatime" | "rw"
            | "suid" | "nomand" | "loud" => {}
            "ro" => parsed.flags |= MountFlags::RDONLY,
            "nosuid" => parsed.flags |= MountFlags::NOSUID,
            "nodev" => parsed.flags |= MountFlags::NODEV,
            "noexec" => parsed.flags |= MountFlags::NOEXEC,
            "sync" => parsed.flags |= MountFlags::SYNCHRONOUS,
            "dirsync" => parsed.flags |= MountFlags::DIRSYNC,
            "noatime" => parsed.flags |= MountFlags::NOATIME,
            "nodiratime" => parsed.flags |= MountFlags::NODIRATIME,
            "relatime" => parsed.flags |= MountFlags::RELATIME,
            "strictatime" => parsed.flags |= MountFlags::STRICTATIME,
            "bind" => parsed.bind = Some(Bind::Top),
            "rbind" => parsed.bind = Some(Bind::Tree),
            "private" => parsed.propagation = MountPropagationFlags::PRIVATE | one,
            "rprivate" => parsed.propagation = MountPropagationFlags::PRIVATE | rec,
            "slave" => parsed.propagation = MountPropagationFlags::DOWNSTREAM | one,
            "rslave" => parsed.propagation = MountPropagationFlags::DOWNSTREAM | rec,
            "shared" => parsed.propagation = MountPropagationFlags::SHARED | one,
            "rshared" => parsed.propagation = MountPropagationFlags::SHARED | rec,
            "loop" => return Err(unsupported("loop mounts are not supported yet")),
            other if other.starts_with("uidmap=") || other.starts_with("gidmap=") => {
                return Err(unsupported("idmapped rootfs mounts are not supported yet"));
            }
            other if other.starts_with("X-containerd.") => {
                return Err(unsupported(&format!("option {other:?} was not consumed by the mount manager")));
            }
            other => parsed.data.push(other.to_owned()),
        }
    }
    Ok(parsed)
}

fn unsupported(what: &str) -> Error {
    Error::new(Kind::Unsupported, what)
}

/// Takes the mounts away, the last first. What is not mounted is not missed; what stays busy is detached at last, so
/// that no delete hangs on somebody's working directory.
pub(crate) fn unmount_all(targets: &[PathBuf]) -> Result<(), Error> {
    for target in targets.iter().rev() {
        unmount_one(target).map_err(|errno| Error::system(format!("unmount {}", target.display()), errno))?;
    }
    Ok(())
}

fn unmount_one(target: &Path) -> Result<(), Errno> {
    match unmount_busy(target) {
        Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        other => other,
    }
}

fn unmount_busy(target: &Path) -> Result<(), Errno> {
    let mut pause = Duration::from_millis(1);
    for _ in 0..6 {
        match unmount(target, UnmountFlags::NOFOLLOW) {
            Err(Errno::BUSY) => std::thread::sleep(pause),
            other => return other,
        }
        pause *= 2;
    }
    unmount(target, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)
}
