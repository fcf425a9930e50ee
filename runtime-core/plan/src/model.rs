//! The plan: what a container will be, in the kernel's words. Data only; nothing here decides or acts.
//!
//! Every string that the kernel will read is a [`CString`], so that a NUL byte is refused while planning. Every path
//! inside the container is an [`InsidePath`]; every other path is the host's.

mod shares;

use std::ffi::CString;
use std::path::PathBuf;

use crate::resources::Resources;
use crate::systemd::{Scope, Systemd};
pub use shares::{IntelRdt, MemoryPolicy, NetDevice, RdtGroup, RdtResource};

/// What the planner must know of the machine. Filled once by `runtime_core::host`; plans made for equal hosts are equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// How control groups are mounted.
    pub cgroups: CgroupLayout,
    /// The highest capability number the running kernel knows (`/proc/sys/kernel/cap_last_cap`).
    pub last_capability: u8,
    /// The runtime's effective user id; 0 for a rootful runtime.
    pub euid: u32,
    /// Its effective group id.
    pub egid: u32,
    /// `setgroups(2)` is refused in the runtime's own user namespace (`/proc/self/setgroups`).
    pub setgroups_denied: bool,
    /// AppArmor is enabled (`/sys/module/apparmor/parameters/enabled` is `Y`).
    pub apparmor: bool,
    /// SELinux is enabled (selinuxfs is mounted).
    pub selinux: bool,
    /// The runtime itself runs inside a user namespace that is not the initial one, where mknod is refused.
    pub in_user_namespace: bool,
}

/// How control groups are mounted on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CgroupLayout {
    /// One cgroup2 hierarchy at this mount point (usually `/sys/fs/cgroup`), with these controllers.
    Unified {
        /// Where cgroup2 is mounted.
        mountpoint: PathBuf,
        /// The controllers of the root cgroup (`cgroup.controllers`).
        controllers: Vec<String>,
    },
    /// Version 1 hierarchies, with or without a cgroup2 hierarchy beside them ("hybrid").
    Legacy {
        /// Each mounted version 1 hierarchy, in mountinfo order.
        hierarchies: Vec<Hierarchy>,
        /// Where cgroup2 is mounted beside them, if it is.
        unified: Option<PathBuf>,
    },
}

/// A mounted version 1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Its controllers (`["cpu", "cpuacct"]`), or the single `name=systemd` of a named hierarchy.
    pub controllers: Vec<String>,
    /// Where it is mounted, `/sys/fs/cgroup/cpu,cpuacct`.
    pub mountpoint: PathBuf,
    /// The runtime's own cgroup in it, from `/proc/self/cgroup`, `/` at the top.
    pub own: PathBuf,
}

/// A path inside the container: absolute, lexically clean (no `.`, `..`, `//`, no trailing `/`), never resolved outside
/// the stub. `/` itself is allowed here and refused where a mount is planned.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InsidePath(pub(crate) CString);

impl InsidePath {
    /// The path, with its leading slash.
    #[must_use]
    pub fn as_c_str(&self) -> &std::ffi::CStr {
        &self.0
    }
}

/// Everything that will be done to make one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The namespaces it is born in or joins.
    pub namespaces: Namespaces,
    /// Its root file system.
    pub rootfs: Rootfs,
    /// Its mounts, in the order they are attached. A `type: cgroup` mount is already spelled out as plain mounts.
    pub mounts: Vec<Mount>,
    /// Device nodes to create (with `bind_devices`, to bind from the host) after the mounts.
    pub devices: Vec<Device>,
    /// How device nodes come to be.
    pub device_source: DeviceSource,
    /// Symbolic links to make when absent, after the devices: `/dev/fd`, `/dev/stdin`, `/dev/ptmx`, cgroup aliases.
    pub symlinks: Vec<Symlink>,
    /// Paths hidden behind /dev/null or an empty read-only directory; a missing one is passed over.
    pub masked: Vec<InsidePath>,
    /// Paths made read-only; a missing one is passed over.
    pub readonly: Vec<InsidePath>,
    /// Kernel parameters to set, as paths below `/proc/sys` (`net/ipv4/ip_forward`) and values.
    pub sysctl: Vec<(CString, CString)>,
    /// The new host name.
    pub hostname: Option<CString>,
    /// The new NIS domain name.
    pub domainname: Option<CString>,
    /// `personality(2)` to set.
    pub personality: Option<u32>,
    /// Its place in resctrl.
    pub intel_rdt: Option<IntelRdt>,
    /// Network devices of the host that move into the network namespace.
    pub net_devices: Vec<NetDevice>,
    /// `set_mempolicy(2)` to set.
    pub memory_policy: Option<MemoryPolicy>,
    /// Its control group, and the limits in it.
    pub cgroup: Cgroup,
    /// The system call filter of init and of every later exec.
    pub seccomp: Option<Filter>,
    /// The first process.
    pub process: Process,
    /// The hooks, in the order they run.
    pub hooks: Hooks,
    /// `linux.mountLabel`. Mounts that take it have it among their parameters already; the file system that masks
    /// paths wants it too.
    pub mount_label: Option<CString>,
    /// The annotations, for the state that hooks and `state` show.
    pub annotations: Vec<(String, String)>,
}

/// The namespaces of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// New ones, as `CLONE_NEW*` bits.
    pub new: u32,
    /// Existing ones to join, each with its `CLONE_NEW*` bit and the host path of the nsfs file.
    pub join: Vec<(u32, PathBuf)>,
    /// `/proc/PID/uid_map` lines of a new user namespace.
    pub uid_map: Vec<IdRange>,
    /// `/proc/PID/gid_map` lines of a new user namespace.
    pub gid_map: Vec<IdRange>,
    /// Who may write them.
    pub mapper: Mapper,
    /// What the specification says of a joined user namespace's `uid_map`: it must be so. Empty, with the one below: it
    /// says nothing.
    pub claimed_uid_map: Vec<IdRange>,
    /// The same of its `gid_map`.
    pub claimed_gid_map: Vec<IdRange>,
    /// Clock offsets of a new time namespace: `monotonic`/`boottime`, seconds, nanoseconds.
    pub time_offsets: Vec<(CString, i64, u32)>,
}

/// Who writes the id maps of a new user namespace (user_namespaces(7)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mapper {
    /// The runtime, which has the privileges.
    #[default]
    Runtime,
    /// The runtime without privileges, its own user and group and nobody else: allowed to everybody who gives up
    /// `setgroups(2)` for it.
    Owner,
    /// `newuidmap` and `newgidmap`, which know what /etc/subuid and /etc/subgid grant.
    Tools,
}

/// One line of an id map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// First id inside.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// The root file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rootfs {
    /// Where it lies on the host; absolute.
    pub path: PathBuf,
    /// Sealed read-only after everything else is in place.
    pub readonly: bool,
    /// Propagation of the container's whole tree at the end (`linux.rootfsPropagation`); `None`: stays as it is (slave).
    pub propagation: Option<Propagation>,
}

/// Mount propagation, as `MS_SHARED` and its kin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Propagation {
    Private,
    Slave,
    Shared,
    Unbindable,
}

/// One mount: where its tree comes from, what is set on it, where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The tree to attach.
    pub tree: Tree,
    /// Where it is attached; a missing target is created (a file for a bind of a file, else a directory).
    pub target: InsidePath,
    /// Attributes of the top mount.
    pub attributes: Attributes,
    /// Attributes of the top mount and all below it (`rro` and its kin).
    pub recursive: Attributes,
    /// Propagation changes, in order; the flag says whether they reach all mounts below (`rslave`).
    pub propagation: Vec<(Propagation, Reach)>,
    /// `ro` waits until everything is mounted and made inside it: `/dev`, and a tmpfs that later mounts need.
    pub seal_last: bool,
    /// Its files belong to other ids than on the disk; bind mounts only.
    pub id_map: Option<IdMap>,
    /// No symbolic link may lead to the target (CVE-2019-19921, CVE-2025-54867): proc and sysfs.
    pub plain_target: bool,
}

/// How the ids of a mount's files are mapped (`MOUNT_ATTR_IDMAP`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMap {
    /// Whose maps.
    pub users: MountUsers,
    /// The one mount, or all below it too (`ridmap`).
    pub reach: Reach,
}

/// Whose maps an idmapped mount has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountUsers {
    /// Those of the container's user namespace.
    Container,
    /// Its own: `inside` is what lies on the disk, `outside` what the host sees there.
    Own {
        /// For users.
        uids: Vec<IdRange>,
        /// For groups.
        gids: Vec<IdRange>,
    },
}

/// How far an attribute or a propagation change reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The one mount.
    Top,
    /// It and every mount below.
    Tree,
}

/// Where a mount's tree comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tree {
    /// A clone of a path of the host, opened by the parent before the child exists.
    Bind {
        /// The host path; absolute.
        source: PathBuf,
        /// With all mounts below it.
        reach: Reach,
    },
    /// A clone of what lies at a path inside the root file system once the mounts before this one have been made.
    Inner {
        /// Where.
        source: InsidePath,
        /// With all mounts below it.
        reach: Reach,
    },
    /// A new file system, made inside the container's namespaces.
    New {
        /// Its type: `proc`, `tmpfs`.
        kind: CString,
        /// Its source, as mountinfo shows it.
        source: CString,
        /// `fsconfig(2)` parameters: a flag, or a key and a value.
        parameters: Vec<(CString, Option<CString>)>,
        /// Copy what the rootfs has at the target into the new tmpfs first (`tmpcopyup`).
        copy_up: bool,
    },
    /// Change the attributes of what is already mounted at the target (`remount`).
    Remount {
        /// What changes of the file system itself, as above.
        parameters: Vec<(CString, Option<CString>)>,
    },
}

impl Tree {
    /// A tmpfs that says nothing of its mode has that of the folder it covers, as with runc: `/tmp` stays sticky.
    #[must_use]
    pub fn takes_mode(&self) -> bool {
        let Self::New { kind, parameters, .. } = self else { return false };
        kind.as_c_str() == c"tmpfs" && parameters.iter().all(|(key, _)| key.as_c_str() != c"mode")
    }
}

/// `MOUNT_ATTR_*` bits for `mount_setattr(2)`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Bits to set.
    pub set: u64,
    /// Bits to clear first; `MOUNT_ATTR__ATIME` whole whenever an atime mode is set.
    pub clear: u64,
}

/// How device nodes come to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceSource {
    /// `mknodat(2)`.
    Mknod,
    /// A bind of the host's node: in a user namespace mknod is refused.
    BindFromHost,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Where.
    pub path: InsidePath,
    /// `S_IFCHR`, `S_IFBLK` or `S_IFIFO` with the permission bits.
    pub mode: u32,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A symbolic link to make when nothing is there yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Symlink {
    /// Where it is made.
    pub path: InsidePath,
    /// What it says.
    pub target: CString,
    /// An existing entry is replaced (`/dev/ptmx`), not kept.
    pub replace: bool,
}

/// The container's control group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    /// Path below each hierarchy's mount point, lexically clean, with a leading slash and no `..`.
    pub path: PathBuf,
    /// The limits, as writes.
    pub resources: Resources,
    /// The unit of systemd that it is, where systemd manages it.
    pub scope: Option<Scope>,
}

/// A compiled system call filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Classic BPF: `struct sock_filter` records, native endian.
    pub program: Vec<u8>,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u32,
    /// Where the notify fd is sent, and the opaque metadata.
    pub listener: Option<(PathBuf, String)>,
}

/// A process: init, or one that joins later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// `argv`; never empty.
    pub args: Vec<CString>,
    /// `envp`: later duplicates win, each has a `=`.
    pub env: Vec<CString>,
    /// Where the program may lie, in order: args\[0\] itself when it has a slash, else each `$PATH` folder joined with it.
    pub candidates: Vec<CString>,
    /// The working directory, absolute.
    pub cwd: CString,
    /// A terminal, with its size (0 × 0: unset).
    pub terminal: Option<TerminalSize>,
    /// Ids.
    pub user: User,
    /// Capability sets as bit masks.
    pub capabilities: CapabilitySets,
    /// `(resource, soft, hard)` of `prlimit64(2)`.
    pub rlimits: Vec<(u32, u64, u64)>,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privileges: bool,
    /// `/proc/self/oom_score_adj`; `None`: unchanged.
    pub oom_score_adj: Option<i32>,
    /// AppArmor profile, for `attr/apparmor/exec`.
    pub apparmor: Option<CString>,
    /// SELinux label, for `attr/exec`.
    pub selinux: Option<CString>,
    /// `sched_setattr(2)`.
    pub scheduler: Option<Scheduler>,
    /// `ioprio_set(2)` value: class << 13 | level.
    pub io_priority: Option<u32>,
    /// CPUs to run on before joining the cgroup, as a mask of 64-bit words; exec only. Empty: unchanged.
    pub initial_affinity: Vec<u64>,
    /// CPUs to run on after joining the cgroup, as a mask of 64-bit words; exec only. Empty: unchanged.
    pub affinity: Vec<u64>,
}

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// Who a process is. `(uid_t)-1` has been refused everywhere (it makes `setresuid` a no-op).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups, exactly these; `None`: as they are, because `setgroups(2)` is denied.
    pub groups: Option<Vec<u32>>,
    /// `None`: unchanged, as the specification says (runc and crun force 0022).
    pub umask: Option<u32>,
}

/// Capability sets, bit n for capability n, already cut to what the kernel knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct CapabilitySets {
    pub bounding: u64,
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
    pub ambient: u64,
}

/// The fields of `struct sched_attr`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Scheduler {
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    /// Nanoseconds, as the two below.
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// The hooks of each kind, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Hooks {
    pub prestart: Vec<Hook>,
    pub create_runtime: Vec<Hook>,
    pub create_container: Vec<Hook>,
    pub start_container: Vec<Hook>,
    pub poststart: Vec<Hook>,
    pub poststop: Vec<Hook>,
}

/// One hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The program; absolute.
    pub path: CString,
    /// `argv`; the path alone when the specification has none.
    pub args: Vec<CString>,
    /// `envp`, only what the hook itself names (CVE-2025-23266). A startContainer hook that names nothing has that of the
    /// container's process, as with runc: it is a program of the image.
    pub env: Option<Vec<CString>>,
    /// Seconds until it is killed.
    pub timeout: Option<u64>,
}

/// What the caller of the planner chooses beside the specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choices {
    /// The container's id, for the default cgroup path and the hostname of nothing else.
    pub id: String,
    /// The bundle, absolute; `root.path` is relative to it.
    pub bundle: PathBuf,
    /// The cgroup parent used when `linux.cgroupsPath` is absent, `/tare`: the container's is `<parent>/<id>`.
    pub default_cgroup_parent: PathBuf,
    /// The service manager that makes the container's cgroup, if one does; `linux.cgroupsPath` is then
    /// `slice:prefix:name`.
    pub systemd: Option<Systemd>,
}
