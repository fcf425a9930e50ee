//! What the parent opens before the child exists: the host's side of every mount, the namespaces to join, the ways into
//! the cgroup. Paths of the host are resolved here, once and in the host's view; the child gets descriptors.

use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use tare_init::script::{device_number, make};
use tare_plan::{CgroupLayout, Device, DeviceSource, Mount, MountUsers, Plan, Reach, Tree};

use crate::cgroup::{Above, Entrance};
use crate::process::Stdio;
use crate::spawn::mount_error;
use crate::{Error, Kind, host, id_map, lower};

/// The host's side of a mount.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) origin: Origin,
    /// Whose maps its ids go through, and whether those of the mounts below it do.
    pub(crate) id_map: Option<(Users, Reach)>,
    /// What the target has to be: one of [`make`].
    pub(crate) make: u32,
}

/// Where a tree of the host is cloned.
#[derive(Debug)]
pub(crate) enum Origin {
    /// By the parent: a clone that is mounted nowhere.
    Cloned(OwnedFd),
    /// By the porter, or by the child itself, from the child's own copy of the host's mounts: entering a user namespace, the
    /// kernel locks what the host has set on them, and only a clone of that copy stays locked (user_namespaces(7),
    /// mount_namespaces(7)).
    Named(CString, Reach),
    /// By the child, when its turn comes, from what then lies there inside the root file system; its ids are mapped by one
    /// of the two.
    Inner(CString, Reach, Mapping),
}

/// Who maps the ids of a tree that the child has cloned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mapping {
    Child,
    /// The host's privileges are needed, which the child of a user namespace has not.
    Parent,
}

/// The user namespace whose maps an idmapped mount has.
#[derive(Debug, Clone)]
pub(crate) enum Users {
    Container,
    Own(Arc<OwnedFd>),
}

/// Who clones the host's trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cloner {
    Parent,
    Porter,
    /// A porter without privileges on the host could do no more, and may not even enter. And in a mount namespace that is
    /// joined, others have made the paths: there nobody resolves them with the host's privileges.
    Child,
}

fn cloner(plan: &Plan) -> Result<Cloner, Error> {
    let made = plan.namespaces.new & libc::CLONE_NEWNS.cast_unsigned() != 0;
    let cloner = match (lower::has_user(&plan.namespaces), host::host()?.euid) {
        (false, _) => Cloner::Parent,
        (true, 0) if made => Cloner::Porter,
        (true, _) => Cloner::Child,
    };
    match plan.mounts.iter().find(|mount| mount.id_map.is_some()) {
        Some(mount) if cloner == Cloner::Child => {
            let target = mount.target.as_c_str().to_string_lossy();
            let what = format!("mount on {target}: in a user namespace, an idmapped mount needs a new mount namespace");
            Err(Error::new(Kind::Unsupported, what))
        }
        _ => Ok(cloner),
    }
}

/// The socket on which the porter hands the host's trees to the child.
#[derive(Debug)]
pub(crate) struct Handover {
    pub(crate) porter: OwnedFd,
    pub(crate) child: OwnedFd,
}

/// What the child of a new container inherits.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) rootfs: Source,
    /// For each mount of the plan, its source if it is a bind.
    pub(crate) sources: Vec<Option<Source>>,
    /// For each device of the plan, the host's node if it is bound, or may have to be.
    pub(crate) devices: Vec<Option<Source>>,
    /// Namespaces to join, each with its `CLONE_NEW*` bit.
    pub(crate) joined: Vec<(u32, OwnedFd)>,
    /// The host's /dev/null, to mask files with.
    pub(crate) null: Source,
    /// With a porter only.
    pub(crate) handover: Option<Handover>,
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
    pub(crate) fn new(plan: &Plan, entrance: Entrance, above: Above, stdio: Stdio) -> Result<Self, Error> {
        let is_user_namespace = |bit: &u32| *bit == libc::CLONE_NEWUSER.cast_unsigned();
        let mut joined = plan.namespaces.join.iter().map(open_namespace).collect::<Result<Vec<_>, _>>()?;
        refuse_host_namespaces(plan, &joined)?;
        // The user namespace last: before it, joining asks for privileges in the host's; after it, for those inside. Who
        // has none in the host's has to begin there.
        let last = host::host()?.euid == 0;
        joined.sort_by_key(|(bit, _)| is_user_namespace(bit) == last);
        let cloner = cloner(plan)?;
        let device = |one| match plan.device_source {
            DeviceSource::BindFromHost => tree(host_path(one), Reach::Top, cloner).map(Some),
            DeviceSource::Mknod if above == Above::Filtered => same_node(one),
            DeviceSource::Mknod => Ok(None),
        };
        let mut made = Vec::new();
        Ok(Self {
            rootfs: rootfs(&plan.rootfs.path, cloner)?,
            sources: plan
                .mounts
                .iter()
                .map(|mount| match late(plan, mount, &entrance)? {
                    Some(source) => Ok(Some(source)),
                    None => source(mount, cloner, &mut made),
                })
                .collect::<Result<_, _>>()?,
            devices: plan.devices.iter().map(device).collect::<Result<_, _>>()?,
            joined,
            null: tree(Path::new("/dev/null"), Reach::Top, cloner)?,
            handover: (cloner == Cloner::Porter).then(Handover::new).transpose()?,
            entrance,
            streams: Streams::new(stdio)?,
        })
    }

    /// The maps of the trees that the child has cloned inside the root file system and cannot map itself, in order.
    pub(crate) fn mapped_by_parent(&self) -> impl Iterator<Item = &(Users, Reach)> {
        let theirs = |source: &&Source| matches!(source.origin, Origin::Inner(.., Mapping::Parent));
        self.sources.iter().flatten().filter(theirs).filter_map(|source| source.id_map.as_ref())
    }

    /// What the porter carries, or the child clones, in this order; the rootfs first.
    pub(crate) fn carried(&self) -> impl Iterator<Item = &Source> {
        let binds = self.sources.iter().chain(&self.devices).flatten();
        let all = [&self.rootfs].into_iter().chain(binds).chain([&self.null]);
        all.filter(|source| matches!(source.origin, Origin::Named(..)))
    }
}

impl Handover {
    fn new() -> Result<Self, Error> {
        let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let (porter, child) = pair.map_err(|errno| Error::system("make a socket for the host's trees", errno))?;
        Ok(Self { porter, child })
    }
}

impl Streams {
    pub(crate) fn new(stdio: Stdio) -> Result<Self, Error> {
        let Stdio::Streams { stdin, stdout, stderr } = stdio else { return Ok(Self::Terminal) };
        let or_null = |stream: Option<OwnedFd>| stream.map_or_else(open_null, Ok);
        Ok(Self::Open([or_null(stdin)?, or_null(stdout)?, or_null(stderr)?]))
    }
}

impl Streams {
    /// A terminal for a process that has one, and streams for one that has none: with the wrong ones it would be left
    /// with this process's own.
    pub(crate) fn fit(&self, process: &tare_plan::Process) -> Result<(), Error> {
        match (self, process.terminal) {
            (Self::Terminal, None) => Err(Error::new(Kind::Invalid, "a terminal for a process with terminal: false")),
            (Self::Open(_), Some(_)) => Err(Error::new(Kind::Invalid, "streams for a process with terminal: true")),
            _ => Ok(()),
        }
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

/// A joined namespace may be the host's own. Then what would be done to the container would be done to the host: its
/// root unmounted, its name or its sysctls changed.
fn refuse_host_namespaces(plan: &Plan, joined: &[(u32, OwnedFd)]) -> Result<(), Error> {
    let sysctl = |prefixes: &[&[u8]]| {
        let keys = plan.sysctl.iter().map(|(key, _)| key.as_bytes());
        keys.filter(|key| prefixes.iter().any(|prefix| key.starts_with(prefix))).count() > 0
    };
    let named = plan.hostname.is_some() || plan.domainname.is_some();
    let kinds = [
        (libc::CLONE_NEWNS, "mnt", true),
        (libc::CLONE_NEWUTS, "uts", named || sysctl(&[b"kernel/domainname", b"kernel/hostname"])),
        (libc::CLONE_NEWIPC, "ipc", sysctl(&[b"kernel/", b"fs/mqueue/"])),
        (libc::CLONE_NEWNET, "net", !plan.net_devices.is_empty() || sysctl(&[b"net/"])),
    ];
    for (bit, name, changed) in kinds.into_iter().filter(|(.., changed)| *changed) {
        let Some((_, fd)) = joined.iter().find(|(kind, _)| *kind == bit.cast_unsigned()) else { continue };
        let failed = |errno| Error::system(format!("compare {name} namespaces"), errno);
        let theirs = rustix::fs::fstat(fd).map_err(failed)?;
        let ours = rustix::fs::stat(format!("/proc/thread-self/ns/{name}")).map_err(failed)?;
        if changed && (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino) {
            return Err(Error::new(Kind::Invalid, format!("the {name} namespace to join is the host's own")));
        }
    }
    Ok(())
}

fn rootfs(path: &Path, cloner: Cloner) -> Result<Source, Error> {
    let source = tree(path, Reach::Tree, cloner).map_err(|error| match error.errno() {
        Some(rustix::io::Errno::NOENT) => {
            Error::new(Kind::Invalid, format!("rootfs ({}) does not exist", path.display()))
        }
        _ => error,
    })?;
    if source.make == make::DIRECTORY {
        return Ok(source);
    }
    Err(Error::new(Kind::Invalid, format!("rootfs ({}) is not a directory", path.display())))
}

/// User namespaces that are made for mounts, one for each pair of maps.
type Made = Vec<(MountUsers, Arc<OwnedFd>)>;

fn source(mount: &Mount, cloner: Cloner, made: &mut Made) -> Result<Option<Source>, Error> {
    let target = || String::from_utf8_lossy(mount.target.as_c_str().to_bytes()).into_owned();
    let id_map = |made: &mut Made| {
        let mapped = mount.id_map.as_ref().map(|map| users(&map.users, made).map(|users| (users, map.reach)));
        mapped.transpose()
    };
    let (source, reach) = match &mount.tree {
        Tree::Bind { source, reach } => (source, reach),
        Tree::Inner { source, reach } => {
            let mapping = if cloner == Cloner::Parent { Mapping::Child } else { Mapping::Parent };
            let origin = Origin::Inner(source.as_c_str().to_owned(), *reach, mapping);
            return Ok(Some(Source { origin, id_map: id_map(made)?, make: make::LIKE }));
        }
        Tree::New { .. } | Tree::Remount { .. } => return Ok(None),
    };
    let found = procfs_on_proc(mount, source)
        .and_then(|()| Ok(Source { id_map: id_map(made)?, ..tree(source, *reach, cloner)? }));
    found.map(Some).map_err(|error| {
        let error = error.during(format!("mount {} on {}", source.display(), target()));
        mount_error(&source.to_string_lossy(), &target(), error).during("unable to start container process")
    })
}

/// The container's own cgroup, where systemd makes it around the first process: that one finds it, by the path that was
/// planned, in its own copy of the host's mounts.
fn late(plan: &Plan, mount: &Mount, entrance: &Entrance) -> Result<Option<Source>, Error> {
    let (Tree::Bind { source, reach }, Some(_)) = (&mount.tree, &entrance.by_parent) else { return Ok(None) };
    if !matches!(&host::host()?.cgroups, CgroupLayout::Unified { mountpoint, .. }
        if source.strip_prefix(mountpoint).ok() == plan.cgroup.path.strip_prefix("/").ok())
    {
        return Ok(None);
    }
    if plan.namespaces.new & libc::CLONE_NEWNS.cast_unsigned() == 0 {
        let what =
            "in a mount namespace that is joined, a systemd unit's cgroup can be mounted with a cgroup namespace only";
        return Err(Error::new(Kind::Unsupported, what));
    }
    let name = CString::new(source.as_os_str().as_bytes());
    let name = name.map_err(|_| Error::system(format!("clone {}", source.display()), rustix::io::Errno::INVAL))?;
    Ok(Some(Source { origin: Origin::Named(name, *reach), id_map: None, make: make::DIRECTORY }))
}

fn users(wanted: &MountUsers, made: &mut Made) -> Result<Users, Error> {
    let MountUsers::Own { uids, gids } = wanted else { return Ok(Users::Container) };
    if let Some((_, users)) = made.iter().find(|(known, _)| known == wanted) {
        return Ok(Users::Own(Arc::clone(users)));
    }
    let users = Arc::new(id_map::namespace(uids, gids)?);
    made.push((wanted.clone(), Arc::clone(&users)));
    Ok(Users::Own(users))
}

/// Only a real procfs, its very root, may cover /proc: security labels are written there (CVE-2019-16884).
fn procfs_on_proc(mount: &Mount, source: &Path) -> Result<(), Error> {
    const PROC_SUPER_MAGIC: i64 = 0x9fa0;
    const PROC_ROOT_INO: u64 = 1;
    if mount.target.as_c_str() != c"/proc" {
        return Ok(());
    }
    let failed = |errno| Error::system("look at what is mounted on /proc", errno);
    let magic = rustix::fs::statfs(source).map_err(failed)?.f_type;
    let inode = rustix::fs::stat(source).map_err(failed)?.st_ino;
    if magic == PROC_SUPER_MAGIC && inode == PROC_ROOT_INO {
        return Ok(());
    }
    Err(Error::new(Kind::Invalid, "only a procfs may be mounted on /proc"))
}

fn host_path(device: &Device) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(device.path.as_c_str().to_bytes()))
}

/// The host's node at the path of a device, for a container that may not make its own. SECURITY: looked at by descriptor,
/// and only if it is the very device that was asked for.
fn same_node(device: &Device) -> Result<Option<Source>, Error> {
    let path = host_path(device);
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let Ok(tree) = open_tree(rustix::fs::CWD, path, flags | OpenTreeFlags::AT_SYMLINK_NOFOLLOW) else {
        return Ok(None);
    };
    let found = rustix::fs::fstat(&tree);
    let found = found.map_err(|errno| Error::system(format!("look at {}", path.display()), errno))?;
    let same = FileType::from_raw_mode(found.st_mode) == FileType::from_raw_mode(device.mode)
        && found.st_rdev == device_number(device.major, device.minor);
    Ok(same.then_some(Source { origin: Origin::Cloned(tree), id_map: None, make: make::FILE }))
}

/// A clone of the tree at a path of the host, with all mounts below it.
pub(crate) fn clone_of(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let cloned = open_tree(rustix::fs::CWD, path, flags);
    cloned.map_err(|errno| Error::system(format!("clone the tree at {}", path.display()), errno))
}

/// What lies at a path of the host.
fn tree(path: &Path, reach: Reach, cloner: Cloner) -> Result<Source, Error> {
    let failed = |errno| Error::system(format!("clone the tree at {}", path.display()), errno);
    let (origin, found) = if cloner == Cloner::Parent {
        let whole = if reach == Reach::Tree { OpenTreeFlags::AT_RECURSIVE } else { OpenTreeFlags::empty() };
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | whole;
        let tree = open_tree(rustix::fs::CWD, path, flags).map_err(failed)?;
        let found = rustix::fs::fstat(&tree);
        (Origin::Cloned(tree), found)
    } else {
        let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| failed(rustix::io::Errno::INVAL))?;
        (Origin::Named(name, reach), rustix::fs::stat(path))
    };
    let directory = FileType::from_raw_mode(found.map_err(failed)?.st_mode) == FileType::Directory;
    Ok(Source { origin, id_map: None, make: if directory { make::DIRECTORY } else { make::FILE } })
}
