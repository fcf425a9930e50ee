//! How control groups are mounted on this host, from `/proc/self/mountinfo` and `/proc/self/cgroup`.
//! The parsing is pure and tested with the texts of other machines.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use tare_plan::{CgroupLayout, Hierarchy, Host};

use crate::host::read;
use crate::{Error, Kind};

/// Reads how control groups are mounted.
///
/// # Errors
/// No control groups are mounted, or proc cannot be read.
pub fn layout() -> Result<CgroupLayout, Error> {
    let mounts = read("/proc/self/mountinfo")?;
    let own = read("/proc/self/cgroup")?;
    let layout = parse(&mounts, &own).ok_or_else(|| {
        Error::new(Kind::Unsupported, "no control groups are mounted on this host (/proc/self/mountinfo)")
    })?;
    match layout {
        CgroupLayout::Unified { mountpoint, .. } => {
            let controllers = read(mountpoint.join("cgroup.controllers"))?;
            let controllers = controllers.split_whitespace().map(str::to_owned).collect();
            Ok(CgroupLayout::Unified { mountpoint, controllers })
        }
        CgroupLayout::Legacy { .. } => Ok(layout),
    }
}

/// Where a container without `linux.cgroupsPath` is put: for somebody without privileges beside the own cgroup, in one that
/// may have been delegated. Below the own one no controller could be used, since there are processes in it.
pub(crate) fn parent(host: &Host) -> Result<PathBuf, Error> {
    let common = Path::new("/tare");
    if !tare_plan::systemd::rootless(host) || !matches!(host.cgroups, CgroupLayout::Unified { .. }) {
        return Ok(common.to_path_buf());
    }
    let text = read("/proc/self/cgroup")?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::")).map(Path::new);
    Ok(own.and_then(Path::parent).unwrap_or(common).to_path_buf())
}

/// A line of mountinfo that mounts control groups.
struct Mounted {
    root: PathBuf,
    mountpoint: PathBuf,
    options: Vec<String>,
}

/// Where systemd, cgroupfs-mount and every container expect the host's control groups.
const HOME: &str = "/sys/fs/cgroup";

/// The layout that the two texts describe, with the controllers of a unified one still to be read. A host counts as
/// unified when cgroup2 is what is mounted on `/sys/fs/cgroup`.
///
/// Where something is mounted there, mounts elsewhere are not the host's: containers have their own, and CRIU mounts every
/// hierarchy in a folder of its own for as long as it works, also those that the host has nowhere.
fn parse(mountinfo: &str, own: &str) -> Option<CgroupLayout> {
    let mut mounts: Vec<_> = mountinfo.lines().filter_map(mounted).collect();
    if mounts.iter().any(|(_, one)| one.mountpoint.starts_with(HOME)) {
        mounts.retain(|(_, one)| one.mountpoint.starts_with(HOME));
    }
    let (mut legacy, mut unified) = (Vec::new(), Vec::new());
    for (version, mounted) in mounts {
        match version {
            Version::Legacy => legacy.push(mounted),
            Version::Unified => unified.push(mounted),
        }
    }
    let unified = unified.first();
    if let Some(unified) = unified
        && (legacy.is_empty() || unified.mountpoint == Path::new(HOME))
    {
        return Some(CgroupLayout::Unified { mountpoint: unified.mountpoint.clone(), controllers: Vec::new() });
    }
    let mut hierarchies: Vec<_> = own.lines().filter_map(|line| hierarchy(line, &legacy)).collect();
    // mountinfo's order, so that the layout does not depend on the order in which controllers were attached.
    hierarchies.sort_by_key(|one| legacy.iter().position(|mounted| mounted.mountpoint == one.mountpoint));
    if hierarchies.is_empty() {
        return None;
    }
    Some(CgroupLayout::Legacy { hierarchies, unified: unified.map(|one| one.mountpoint.clone()) })
}

enum Version {
    Legacy,
    Unified,
}

/// `36 35 98:0 /root /mount/point rw shared:1 - cgroup cgroup rw,cpu`
fn mounted(line: &str) -> Option<(Version, Mounted)> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    let mut filesystem = filesystem.split(' ');
    let version = match filesystem.next()? {
        "cgroup" => Version::Legacy,
        "cgroup2" => Version::Unified,
        _ => return None,
    };
    let options = filesystem.nth(1)?.split(',').map(str::to_owned).collect();
    Some((version, Mounted { root: unescaped(mount.next()?), mountpoint: unescaped(mount.next()?), options }))
}

/// One line of `/proc/self/cgroup`, `4:cpu,cpuacct:/own`, joined with where that hierarchy is mounted, if it is.
fn hierarchy(line: &str, mounts: &[Mounted]) -> Option<Hierarchy> {
    let mut fields = line.splitn(3, ':').skip(1);
    let controllers: Vec<String> = fields.next()?.split(',').map(str::to_owned).collect();
    let own = Path::new(fields.next()?);
    let mounted = mounts.iter().find(|mounted| controllers.iter().all(|name| mounted.options.contains(name)))?;
    // The mount may show a part of the hierarchy only; what lies outside it counts as its top.
    let own = Path::new("/").join(own.strip_prefix(&mounted.root).unwrap_or(Path::new("")));
    Some(Hierarchy { controllers, mountpoint: mounted.mountpoint.clone(), own })
}

/// Undoes mountinfo's `\040` for blanks, tabs, line ends and backslashes.
pub(crate) fn unescaped(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let octal = match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        bytes.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { rest.get(4..).unwrap_or_default() } else { tail };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::{layout, parse};
    use std::path::{Path, PathBuf};
    use tare_plan::{CgroupLayout, Hierarchy};

    fn legacy(rows: &[(&str, &str, &str)], unified: Option<&str>) -> CgroupLayout {
        let hierarchy = |(controllers, mountpoint, own): &(&str, &str, &str)| Hierarchy {
            controllers: controllers.split(',').map(str::to_owned).collect(),
            mountpoint: PathBuf::from(mountpoint),
            own: PathBuf::from(own),
        };
        CgroupLayout::Legacy { hierarchies: rows.iter().map(hierarchy).collect(), unified: unified.map(PathBuf::from) }
    }

    #[test]
    fn cgroup2_alone_is_unified() {
        let mounts = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                      30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let expected = CgroupLayout::Unified { mountpoint: "/sys/fs/cgroup".into(), controllers: Vec::new() };
        assert_eq!(parse(mounts, "0::/system.slice/containerd.service\n"), Some(expected));
    }

    #[test]
    fn both_versions_are_legacy_with_a_unified_hierarchy_beside() {
        let mounts = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
                      32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let own = "9:name=systemd:/\n4:memory:/a/b\n2:cpu,cpuacct:/\n1:pids:/\n0::/\n";
        let expected = legacy(
            &[
                ("cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct", "/"),
                ("memory", "/sys/fs/cgroup/memory", "/a/b"),
                ("name=systemd", "/sys/fs/cgroup/systemd", "/"),
            ],
            Some("/sys/fs/cgroup/unified"),
        );
        assert_eq!(parse(mounts, own), Some(expected), "pids is attached but mounted nowhere");
    }

    #[test]
    fn version_1_alone_has_no_unified_hierarchy() {
        let mounts = "35 31 0:32 / /cg\\040roups/memory rw - cgroup none rw,xattr,memory\n";
        assert_eq!(parse(mounts, "4:memory:/x\n"), Some(legacy(&[("memory", "/cg roups/memory", "/x")], None)));
    }

    #[test]
    fn inside_a_container_the_own_cgroup_is_relative_to_what_is_mounted() {
        let mounts = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n\
                      36 31 0:33 / /sys/fs/cgroup/pids ro - cgroup cgroup rw,pids\n\
                      90 31 0:33 /docker/abc/inner /var/lib/docker/x/pids ro - cgroup cgroup rw,pids\n";
        let own = "4:memory:/docker/abc/inner\n3:pids:/docker/abc\n";
        let expected = legacy(
            &[("memory", "/sys/fs/cgroup/memory", "/inner"), ("pids", "/sys/fs/cgroup/pids", "/docker/abc")],
            None,
        );
        assert_eq!(parse(mounts, own), Some(expected));
    }

    #[test]
    fn a_named_hierarchy_elsewhere_leaves_the_host_unified() {
        let mounts = "30 22 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n\
                      31 22 0:27 / /mnt/named rw - cgroup cgroup rw,name=mine\n";
        let expected = CgroupLayout::Unified { mountpoint: "/sys/fs/cgroup".into(), controllers: Vec::new() };
        assert_eq!(parse(mounts, "1:name=mine:/\n0::/\n"), Some(expected));
    }

    #[test]
    fn what_criu_mounts_for_itself_is_not_the_hosts() {
        let mounts = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
                      35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      90 31 0:33 / /tmp/work/.criu.cgyard.Jf7aQl/hugetlb rw - cgroup none rw,hugetlb\n";
        let expected = legacy(&[("memory", "/sys/fs/cgroup/memory", "/")], None);
        assert_eq!(parse(mounts, "2:hugetlb:/\n1:memory:/\n"), Some(expected));
    }

    #[test]
    fn without_control_groups_there_is_no_layout() {
        assert_eq!(parse("22 1 8:1 / / rw - ext4 /dev/sda1 rw\n", "0::/\n"), None);
    }

    #[test]
    fn this_host_has_a_layout() {
        match layout().unwrap() {
            CgroupLayout::Unified { mountpoint, .. } => assert!(mountpoint.is_dir()),
            CgroupLayout::Legacy { hierarchies, .. } => {
                assert!(hierarchies.iter().all(|one| Path::is_dir(&one.mountpoint)), "{hierarchies:?}");
            }
        }
    }
}
