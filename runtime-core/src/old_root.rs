//! What becomes of the host's root in a container's mount namespace: put away by pivot_root(2), or, where the kernel cannot
//! (the root is an initramfs: `--no-pivot`), left underneath. It does not change a root; the stub does.
//!
//! SECURITY: what is left underneath can be reached by whoever may chroot(2) or mount in the container. As runc does, the
//! host's own procfs and sysfs are put away at least: through one that is whole, the kernel would allow another.

use std::ffi::CString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use crate::cgroup::unescaped;
use crate::{Error, Kind};

/// The host's root, once the container has its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OldRoot {
    PutAway,
    /// With these mounts of kernel file systems hidden, the innermost first.
    Underneath(Vec<CString>),
}

impl OldRoot {
    /// As the host's mounts are now; what lies below the rootfs is the container's.
    pub(crate) fn underneath(rootfs: &Path) -> Result<Self, Error> {
        let path = "/proc/thread-self/mountinfo";
        let table = std::fs::read_to_string(path).map_err(|error| Error::io(format!("read {path}"), &error))?;
        let names =
            kernel_files(&table, rootfs).into_iter().map(|point| CString::new(point.into_os_string().into_vec()));
        let names: Result<Vec<_>, _> = names.collect();
        names.map(Self::Underneath).map_err(|_| Error::new(Kind::System, format!("{path}: a NUL byte")))
    }
}

/// Where a whole procfs or sysfs is mounted, the innermost first.
fn kernel_files(table: &str, rootfs: &Path) -> Vec<std::path::PathBuf> {
    let mount = |line: &str| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, unescaped(fields.next()?));
        let whole = root == "/" && matches!(kind.split(' ').next(), Some("proc" | "sysfs"));
        (whole && !point.starts_with(rootfs)).then_some(point)
    };
    let mut found: Vec<_> = table.lines().filter_map(mount).collect();
    found.reverse();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_kernel_file_systems_outside_of_the_rootfs_are_found_from_the_inside_out() {
        let table = "1 0 0:1 / /proc rw - proc proc rw\n\
                     2 0 0:2 / /sys rw shared:1 - sysfs sysfs rw\n\
                     3 0 0:3 / /mnt/a\\040b/proc rw - proc proc rw\n\
                     4 0 0:4 /sys /half rw - proc proc rw\n\
                     5 0 0:5 / /tmp rw - tmpfs tmpfs rw\n\
                     6 0 0:6 / /bundle/rootfs/proc rw - proc proc rw\n";
        let expected: Vec<std::path::PathBuf> = ["/mnt/a b/proc", "/sys", "/proc"].map(Into::into).to_vec();
        assert_eq!(kernel_files(table, Path::new("/bundle/rootfs")), expected);
    }
}
