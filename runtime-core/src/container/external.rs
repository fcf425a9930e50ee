//! What of a container is the host's, in CRIU's words: mounts, namespaces, descriptors. CRIU writes none of it, and is
//! told what to take for it when it restores. The names in the image are runc's: a mount's is its destination.

use std::fmt::Write as _;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, stat};
use tare_plan::{Device, DeviceSource, InsidePath, Plan, Reach, Tree};

use crate::{Error, Kind, rooted};

/// The file beside an image that says what init had as 0, 1 and 2 (runc's and crun's name, and format).
pub(super) const DESCRIPTORS: &str = "descriptors.json";
/// The major number of /dev/null and its kin.
const MEM: u32 = 1;
/// What masks files.
const NULL: &str = "/dev/null";

/// A line of mountinfo: where something is mounted, and under which number.
#[derive(Debug, PartialEq, Eq)]
struct Mounted {
    id: u64,
    point: String,
}

fn mounted(mountinfo: &str) -> Vec<Mounted> {
    let line = |line: &str| {
        let mut words = line.split(' ');
        let id = words.next()?.parse().ok()?;
        let point = crate::cgroup::unescaped(words.nth(3)?);
        Some(Mounted { id, point: point.to_str()?.to_owned() })
    };
    mountinfo.lines().filter_map(line).collect()
}

/// CRIU binds anew what is the host's, and knows nothing of ids that a mount maps.
pub(super) fn refuse_id_maps(plan: &Plan) -> Result<(), Error> {
    match plan.mounts.iter().find(|mount| mount.id_map.is_some()) {
        None => Ok(()),
        Some(mount) => {
            let what = format!("mount on {}: criu does not keep the id map of a mount", text(&mount.target));
            Err(Error::new(Kind::Unsupported, what))
        }
    }
}

/// Mounts of a running container that are the host's, `pid` being its init.
pub(super) fn mounts_to_dump(plan: &Plan, pid: i32) -> Result<Vec<String>, Error> {
    let there = mounted(&read(&format!("/proc/{pid}/mountinfo"))?);
    let root = rooted::root_of(pid).map_err(|errno| Error::system("open the container's root", errno))?;
    // What is mounted at a path of the specification, followed as the container would.
    let at = |path: &InsidePath| {
        let found = rooted::lookup(&root, Path::new(text(path).trim_start_matches('/'))).ok()?;
        let id = mount_of(&found)?;
        there.iter().find(|mounted| mounted.id == id && mounted.point != "/").map(|mounted| (found, mounted))
    };
    let mut external = Vec::new();
    let mut add = |point: &str, name: &str| external.push(format!("mnt[{point}]:{name}"));
    for mount in &plan.mounts {
        let (Tree::Bind { reach, .. }, Some((_, on))) = (&mount.tree, at(&mount.target)) else { continue };
        let target = text(&mount.target);
        add(&on.point, &target);
        if *reach == Reach::Tree {
            for (below, rest) in submounts(&there, &on.point).filter(|(_, rest)| !planned(plan, &target, rest)) {
                add(below, &format!("{target}/{rest}"));
            }
        }
    }
    for path in &plan.masked {
        // A directory is masked by a tmpfs of the container's own.
        if let Some((found, on)) = at(path).filter(|(found, _)| !is_directory(found)) {
            drop(found);
            add(&on.point, NULL);
        }
    }
    for device in bound_devices(plan) {
        if let Some((_, on)) = at(&device.path) {
            add(&on.point, &text(&device.path));
        }
    }
    Ok(external)
}

/// What to mount where, for a container that is restored.
pub(super) fn mounts_to_restore(plan: &Plan) -> Result<Vec<String>, Error> {
    let there = mounted(&read("/proc/thread-self/mountinfo")?);
    let mut external = Vec::new();
    let mut add = |name: &str, source: &str| external.push(format!("mnt[{name}]:{source}"));
    for mount in &plan.mounts {
        let Tree::Bind { source, reach } = &mount.tree else { continue };
        let target = text(&mount.target);
        let source = source.canonicalize().map_err(|error| Error::io(format!("open {}", source.display()), &error))?;
        let source = source.to_str().ok_or_else(|| Error::new(Kind::Invalid, "a mount's source is not UTF-8"))?;
        add(&target, source);
        if *reach == Reach::Tree {
            for (below, rest) in submounts(&there, source) {
                add(&format!("{target}/{rest}"), below);
            }
        }
    }
    if !plan.masked.is_empty() {
        add(NULL, NULL);
    }
    for device in bound_devices(plan) {
        add(&text(&device.path), &text(&device.path));
    }
    Ok(external)
}

/// Mounts below `point`, each with the rest of its path.
fn submounts<'a>(all: &'a [Mounted], point: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    all.iter().filter_map(move |mounted| {
        let rest = mounted.point.strip_prefix(point)?.strip_prefix('/')?;
        (!rest.is_empty()).then_some((mounted.point.as_str(), rest))
    })
}

/// Whether something of the specification's own is mounted at or above `rest` below `target`.
fn planned(plan: &Plan, target: &str, rest: &str) -> bool {
    let whole = format!("{target}/{rest}");
    let others = plan.mounts.iter().map(|mount| text(&mount.target)).filter(|other| other.len() > target.len());
    let hidden = plan.masked.iter().chain(&plan.readonly).map(text);
    others.chain(hidden).any(|other| Path::new(&whole).starts_with(&other))
}

fn bound_devices(plan: &Plan) -> impl Iterator<Item = &Device> {
    plan.devices.iter().filter(|_| plan.device_source == DeviceSource::BindFromHost)
}

/// Namespaces that the container has joined and CRIU can leave alone, each under the name that runc gives it.
pub(super) fn namespaces_to_dump(plan: &Plan) -> Result<Vec<String>, Error> {
    let kept = plan.namespaces.join.iter().filter_map(|(bit, path)| Some((left_alone(*bit)?, path)));
    kept.map(|((kind, name), path)| {
        let found = stat(path).map_err(|errno| Error::system(format!("open namespace {}", path.display()), errno))?;
        Ok(format!("{kind}[{}]:{name}", found.st_ino))
    })
    .collect()
}

/// The kind of a namespace that CRIU leaves alone, and its name in the image.
pub(super) fn left_alone(bit: u32) -> Option<(&'static str, &'static str)> {
    match bit.cast_signed() {
        libc::CLONE_NEWNET => Some(("net", "extRootNetNS")),
        libc::CLONE_NEWPID => Some(("pid", "extRootPidNS")),
        _ => None,
    }
}

/// The kind of a namespace that CRIU joins when it restores.
pub(super) fn joined_by_criu(bit: u32) -> Result<&'static str, Error> {
    match bit.cast_signed() {
        libc::CLONE_NEWIPC => Ok("ipc"),
        libc::CLONE_NEWUTS => Ok("uts"),
        libc::CLONE_NEWUSER => Ok("user"),
        libc::CLONE_NEWNS => Ok("mnt"),
        _ => Err(Error::new(Kind::Unsupported, format!("criu cannot join a namespace of kind {bit:#x}"))),
    }
}

/// What init has as 0, 1 and 2, under the names that CRIU has for them; empty for what is closed.
#[derive(Debug)]
pub(super) struct Descriptors {
    pub(super) names: Vec<String>,
    /// Those that CRIU has to be told of: files that no path of the container leads to.
    pub(super) external: Vec<String>,
}

impl Descriptors {
    pub(super) fn of(pid: i32) -> Result<Self, Error> {
        let there = mounted(&read(&format!("/proc/{pid}/mountinfo"))?);
        let mut found = Self { names: Vec::new(), external: Vec::new() };
        for number in 0..3 {
            let path = format!("/proc/{pid}/fd/{number}");
            let name = std::fs::read_link(&path).map(|link| link.to_string_lossy().into_owned()).unwrap_or_default();
            let outside = outside_file(&path, &format!("/proc/{pid}/fdinfo/{number}"), &there);
            found.external.extend(outside.clone());
            found.names.push(outside.unwrap_or(name));
        }
        Ok(found)
    }
}

/// A file or FIFO that lies on none of the container's mounts: a container whose output goes to a file of the host's.
fn outside_file(path: &str, info: &str, there: &[Mounted]) -> Option<String> {
    let found = stat(path).ok()?;
    let id = mount_id(&std::fs::read_to_string(info).ok()?)?;
    let kind = FileType::from_raw_mode(found.st_mode);
    let named = std::fs::read_link(path).ok()?.is_absolute();
    let is_file = match kind {
        FileType::RegularFile | FileType::Fifo => true,
        // The host's /dev/null and its kin. A terminal is CRIU's to judge.
        FileType::CharacterDevice => rustix::fs::major(found.st_rdev) == MEM,
        _ => false,
    };
    (named && is_file && there.iter().all(|mounted| mounted.id != id)).then(|| {
        let mut name = String::new();
        // A String takes everything.
        let _ = write!(name, "file[{id:x}:{:x}]", found.st_ino);
        name
    })
}

fn mount_of(file: &OwnedFd) -> Option<u64> {
    let info = std::fs::read_to_string(format!("/proc/thread-self/fdinfo/{}", file.as_raw_fd())).ok()?;
    mount_id(&info)
}

fn mount_id(fdinfo: &str) -> Option<u64> {
    fdinfo.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()
}

fn is_directory(file: impl AsFd) -> bool {
    rustix::fs::fstat(file).is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Directory)
}

fn text(path: &InsidePath) -> String {
    path.as_c_str().to_string_lossy().into_owned()
}

fn read(path: &str) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|error| Error::io(format!("read {path}"), &error))
}

#[cfg(test)]
mod tests {
    use super::{Mounted, mount_id, mounted, submounts};

    #[test]
    fn mounts_are_read_and_those_below_a_point_found() {
        let text = "22 27 0:21 / /proc rw - proc proc rw\n23 22 0:5 /x /a\\040b rw - ext4 / rw\n\
                    24 23 0:5 / /a\\040b/c/d rw - tmpfs x rw\n25 23 0:5 / /a\\040bc rw - tmpfs x rw\n";
        let there = mounted(text);
        assert_eq!(there[1], Mounted { id: 23, point: "/a b".into() });
        assert_eq!(submounts(&there, "/a b").collect::<Vec<_>>(), [("/a b/c/d", "c/d")]);
        assert_eq!(mount_id("pos:\t0\nflags:\t0100000\nmnt_id:\t27\n"), Some(27));
    }
}
