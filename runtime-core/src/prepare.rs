//! What the parent opens before the child exists: the host's side of every mount, the namespaces to join, the ways into
//! the cgroup. Paths of the host are resolved here, once and in the host's view; the child gets descriptors.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags, statx};
use rustix::mount::{OpenTreeFlags, open_tree};
use tare_init::script::make;
use tare_plan::{Device, DeviceSource, Mount, Plan, Reach, Tree};

use crate::cgroup::{Cgroup, Entrance};
use crate::process::Stdio;
use crate::{Error, Kind};

/// A tree of the host, cloned and mounted nowhere.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) tree: OwnedFd,
    /// What the target has to be: one of [`make`].
    pub(crate) make: u32,
}

/// What the child of a new container inherits.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) rootfs: OwnedFd,
    /// For each mount of the plan, its source if it is a bind.
    pub(crate) sources: Vec<Option<Source>>,
    /// For each device of the plan, the host's node if it is bound.
    pub(crate) devices: Vec<Option<Source>>,
    /// Namespaces to join, each with its `CLONE_NEW*` bit.
    pub(crate) joined: Vec<(u32, OwnedFd)>,
    /// The host's /dev/null, to mask files with.
    pub(crate) null: Source,
    pub(crate) entrance: Entrance,
    pub(crate) streams: Streams,
}

/// What the process has as 0, 1 and 2.
#[derive(Debug)]
pub(crate) enum Streams {
    Open([OwnedFd; 3]),
    Terminal,
}

impl Prepared {
    pub(crate) fn new(plan: &Plan, cgroup: &Cgroup, stdio: Stdio) -> Result<Self, Error> {
        let is_user_namespace = |bit: &u32| *bit == libc::CLONE_NEWUSER.cast_unsigned();
        let mut joined = plan.namespaces.join.iter().map(open_namespace).collect::<Result<Vec<_>, _>>()?;
        refuse_host_sysctl(plan, &joined)?;
        // The user namespace last: before it, joining asks for privileges in the host's; after it, for those inside.
        joined.sort_by_key(|(bit, _)| is_user_namespace(bit));
        Ok(Self {
            rootfs: clone_rootfs(&plan.rootfs.path)?,
            sources: plan.mounts.iter().map(source).collect::<Result<_, _>>()?,
            devices: plan.devices.iter().map(|one| device(one, plan.device_source)).collect::<Result<_, _>>()?,
            joined,
            null: clone_tree(Path::new("/dev/null"), Reach::Top)?,
            entrance: cgroup.entrance()?,
            streams: Streams::new(stdio)?,
        })
    }

    /// The pid namespace to be born in, if one is joined.
    pub(crate) fn pid_namespace(&self) -> Option<BorrowedFd<'_>> {
        let pid = libc::CLONE_NEWPID.cast_unsigned();
        self.joined.iter().find(|(bit, _)| *bit == pid).map(|(_, fd)| fd.as_fd())
    }
}

impl Streams {
    pub(crate) fn new(stdio: Stdio) -> Result<Self, Error> {
        let Stdio::Streams { stdin, stdout, stderr } = stdio else { return Ok(Self::Terminal) };
        let or_null = |stream: Option<OwnedFd>| stream.map_or_else(open_null, Ok);
        Ok(Self::Open([or_null(stdin)?, or_null(stdout)?, or_null(stderr)?]))
    }
}

/// The host's null device: no name inside the container is looked up for it (CVE-2026-88265).
fn open_null() -> Result<OwnedFd, Error> {
    let opened = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    opened.map_err(|errno| Error::system("open /dev/null", errno))
}

fn open_namespace((bit, path): &(u32, std::path::PathBuf)) -> Result<(u32, OwnedFd), Error> {
    let opened = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let fd = opened.map_err(|errno| Error::system(format!("open namespace {}", path.display()), errno))?;
    // NS_GET_NSTYPE (Linux 4.11): a file of another kind must not be joined as if it were of this one.
    match crate::sys::namespace::kind(fd.as_fd()) {
        Ok(kind) if kind == *bit => Ok((*bit, fd)),
        Ok(_) => Err(Error::new(Kind::Invalid, format!("{} is a namespace of another type", path.display()))),
        Err(errno) => Err(Error::system(format!("{} is not a namespace", path.display()), errno)),
    }
}

/// A sysctl must not reach the host through a joined namespace that is the host's own.
fn refuse_host_sysctl(plan: &Plan, joined: &[(u32, OwnedFd)]) -> Result<(), Error> {
    let net = libc::CLONE_NEWNET.cast_unsigned();
    let Some((_, fd)) = joined.iter().find(|(bit, _)| *bit == net) else { return Ok(()) };
    let Some((key, _)) = plan.sysctl.iter().find(|(key, _)| key.as_bytes().starts_with(b"net/")) else {
        return Ok(());
    };
    let failed = |errno| Error::system("compare network namespaces", errno);
    let theirs = rustix::fs::fstat(fd).map_err(failed)?;
    let ours = rustix::fs::stat("/proc/thread-self/ns/net").map_err(failed)?;
    if (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino) {
        let key = key.to_string_lossy();
        return Err(Error::new(Kind::Invalid, format!("sysctl {key:?} not allowed in host network namespace")));
    }
    Ok(())
}

fn clone_rootfs(path: &Path) -> Result<OwnedFd, Error> {
    let source = clone_tree(path, Reach::Tree).map_err(|error| match error.errno() {
        Some(rustix::io::Errno::NOENT) => {
            Error::new(Kind::Invalid, format!("rootfs ({}) does not exist", path.display()))
        }
        _ => error,
    })?;
    if source.make == make::DIRECTORY {
        return Ok(source.tree);
    }
    Err(Error::new(Kind::Invalid, format!("rootfs ({}) is not a directory", path.display())))
}

fn source(mount: &Mount) -> Result<Option<Source>, Error> {
    let target = || String::from_utf8_lossy(mount.target.as_c_str().to_bytes()).into_owned();
    match &mount.tree {
        Tree::Bind { source, reach } => {
            let cloned = clone_tree(source, *reach).and_then(|cloned| procfs_on_proc(mount, cloned));
            cloned.map(Some).map_err(|error| error.during(format!("mount {} on {}", source.display(), target())))
        }
        Tree::New { .. } | Tree::Remount => Ok(None),
    }
}

/// Only a real procfs, its very root, may cover /proc: security labels are written there (CVE-2019-16884).
fn procfs_on_proc(mount: &Mount, source: Source) -> Result<Source, Error> {
    const PROC_SUPER_MAGIC: i64 = 0x9fa0;
    const PROC_ROOT_INO: u64 = 1;
    if mount.target.as_c_str() != c"/proc" {
        return Ok(source);
    }
    let failed = |errno| Error::system("look at what is mounted on /proc", errno);
    let magic = rustix::fs::fstatfs(&source.tree).map_err(failed)?.f_type;
    let inode = statx(&source.tree, "", AtFlags::EMPTY_PATH, StatxFlags::INO).map_err(failed)?.stx_ino;
    if magic == PROC_SUPER_MAGIC && inode == PROC_ROOT_INO {
        return Ok(source);
    }
    Err(Error::new(Kind::Invalid, "only a procfs may be mounted on /proc"))
}

fn device(device: &Device, source: DeviceSource) -> Result<Option<Source>, Error> {
    if source == DeviceSource::Mknod {
        return Ok(None);
    }
    let path = std::ffi::OsStr::from_bytes(device.path.as_c_str().to_bytes());
    clone_tree(Path::new(path), Reach::Top).map(Some)
}

/// A clone of what lies at a path of the host.
fn clone_tree(path: &Path, reach: Reach) -> Result<Source, Error> {
    let failed = |errno| Error::system(format!("clone the tree at {}", path.display()), errno);
    let whole = if reach == Reach::Tree { OpenTreeFlags::AT_RECURSIVE } else { OpenTreeFlags::empty() };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | whole;
    let tree = open_tree(rustix::fs::CWD, path, flags).map_err(failed)?;
    let stat = statx(&tree, "", AtFlags::EMPTY_PATH, StatxFlags::TYPE).map_err(failed)?;
    let directory = FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Directory;
    Ok(Source { tree, make: if directory { make::DIRECTORY } else { make::FILE } })
}
