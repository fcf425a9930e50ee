//! The mounts that containerd hands over for a rootfs, made in the host's mount namespace as containerd expects, and
//! their removal. A mount with a target goes below the rootfs, which is hostile by then: there, as in the stub, a path is
//! resolved under a descriptor and once.

mod apart;
mod loop_file;
mod options;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MoveMountFlags, UnmountFlags, mount, mount_bind_recursive, mount_change, mount_remount, move_mount,
    unmount,
};

use self::options::{Options, PAGE_LIMIT};
use crate::container::RootfsMount;
use crate::{Error, rooted};

/// What has to be unmounted when the container goes: known before the first mount is made, so that the record can name
/// it. A mount with a target goes away with what it is mounted on.
pub(crate) fn mount_points(mounts: &[RootfsMount], rootfs: &Path) -> Vec<PathBuf> {
    let whole = mounts.iter().filter(|mount| covers_all(mount)).count();
    vec![rootfs.to_path_buf(); whole + usize::from(needs_ground(mounts))]
}

fn covers_all(mount: &RootfsMount) -> bool {
    mount.target.trim_matches('/').is_empty()
}

/// Mounts with targets need one to go away with.
fn needs_ground(mounts: &[RootfsMount]) -> bool {
    mounts.first().is_some_and(|mount| !covers_all(mount))
}

/// Makes the mounts. When one fails, those before it are for the caller to take away, who has them recorded.
pub(crate) fn mount_all(mounts: &[RootfsMount], rootfs: &Path) -> Result<(), Error> {
    if needs_ground(mounts) {
        let made = mount_bind_recursive(rootfs, rootfs);
        made.map_err(|errno| Error::system(format!("bind {} on itself", rootfs.display()), errno))?;
    }
    mounts.iter().try_for_each(|one| {
        mount_one(one, rootfs).map_err(|error| {
            let (source, kind, rootfs, target) =
                (&one.source, &one.kind, rootfs.display(), one.target.trim_matches('/'));
            error.during(format!("mount rootfs {source} ({kind}) on {rootfs}/{target}"))
        })
    })
}

fn mount_one(one: &RootfsMount, rootfs: &Path) -> Result<(), Error> {
    let options = options::parse(one)?;
    let device = options.loop_file.map(|access| loop_file::attach(&one.source, access)).transpose()?;
    // The kernel lets go of the device when both this descriptor and the mount are gone.
    let source = device.as_ref().map_or(one.source.as_str(), |(path, _device)| path);
    if options.id_map.is_none() && covers_all(one) && (options.bind.is_some() || options.page_length() <= PAGE_LIMIT) {
        return by_path(one, source, rootfs, &options);
    }
    let tree = apart::tree(one, source, rootfs, &options)?;
    let place = place(rootfs, &one.target)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&tree, "", &place, "", flags).map_err(|errno| Error::system("attach", errno))
}

/// Where a mount goes, found once, as the container would find it.
fn place(rootfs: &Path, target: &str) -> Result<std::os::fd::OwnedFd, Error> {
    let failed = |errno| Error::system(format!("find target {target:?}"), errno);
    let root = rooted::directory(rootfs).map_err(failed)?;
    let relative = target.trim_start_matches('/');
    let path = if relative.is_empty() { "." } else { relative };
    rooted::lookup(root, path.as_ref()).map_err(failed)
}

fn by_path(one: &RootfsMount, source: &str, target: &Path, options: &Options) -> Result<(), Error> {
    let failed = |errno| Error::system("mount", errno);
    if let Some(reach) = options.bind {
        bind(source, target, options, reach).map_err(failed)?;
    } else {
        let data = options.page().ok_or(Errno::INVAL).map_err(failed)?;
        mount(source, target, &*one.kind, options.flags, &*data).map_err(failed)?;
    }
    if options.propagation.is_empty() { Ok(()) } else { mount_change(target, options.propagation).map_err(failed) }
}

fn bind(source: &str, target: &Path, options: &Options, reach: tare_plan::Reach) -> Result<(), Errno> {
    match reach {
        tare_plan::Reach::Top => rustix::mount::mount_bind(source, target)?,
        tare_plan::Reach::Tree => mount_bind_recursive(source, target)?,
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
            // Those below would keep it busy for ever, and by their paths, which are the image's, they are not named.
            Err(Errno::BUSY) if has_mounts_below(target) => break,
            Err(Errno::BUSY) => std::thread::sleep(pause),
            other => return other,
        }
        pause *= 2;
    }
    unmount(target, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)
}

fn has_mounts_below(target: &Path) -> bool {
    let table = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
    // Names with blanks are written otherwise there; such a rootfs waits a little longer.
    let below = format!("{}/", target.display());
    table.lines().filter_map(|line| line.split(' ').nth(4)).any(|point| point.starts_with(&below))
}
