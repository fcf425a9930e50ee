//! `linux.namespaces`, the id maps and the clock offsets. Which namespaces a container has decides what else may be
//! asked for, so the other planners ask [`Namespaces::has`].

use std::ffi::CString;
use std::path::PathBuf;

use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType};

use crate::inside_path::c_string;
use crate::{Host, IdRange, Mapper, Namespaces, Refusal};

/// A kind of namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Time,
    Mount,
    Cgroup,
    Uts,
    Ipc,
    User,
    Pid,
    Network,
}

/// Every kind with its `CLONE_NEW*` bit and its name in `config.json`.
pub(crate) const KINDS: [(Kind, u32, &str); 8] = [
    (Kind::User, 0x1000_0000, "user"),
    (Kind::Mount, 0x0002_0000, "mount"),
    (Kind::Cgroup, 0x0200_0000, "cgroup"),
    (Kind::Uts, 0x0400_0000, "uts"),
    (Kind::Ipc, 0x0800_0000, "ipc"),
    (Kind::Pid, 0x2000_0000, "pid"),
    (Kind::Network, 0x4000_0000, "network"),
    (Kind::Time, 0x0000_0080, "time"),
];

/// What a process does about its supplementary groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Groups {
    /// It has those of its specification.
    Set,
    /// It keeps what it has; asking for others is an error.
    Kept,
}

/// The kernel takes this many lines in an id map (`UID_GID_MAP_MAX_EXTENTS`).
const MAX_RANGES: usize = 340;

impl Kind {
    fn bit(self) -> u32 {
        KINDS.iter().find(|(kind, ..)| *kind == self).map_or(0, |(_, bit, _)| *bit)
    }
}

impl Namespaces {
    /// The container has a namespace of this kind apart from the host's: a new one, or a joined one.
    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.makes(kind) || self.join.iter().any(|(bit, _)| *bit == kind.bit())
    }

    /// The container is born in a new namespace of this kind.
    pub(crate) fn makes(&self, kind: Kind) -> bool {
        self.new & kind.bit() != 0
    }

    /// Processes of the container may change their supplementary groups.
    pub(crate) fn groups(&self, host: &Host) -> Groups {
        // Nobody but root of the host may in a user namespace that somebody else's maps rule; as with runc.
        let joins_without_privileges = host.euid != 0 && !self.makes(Kind::User);
        if host.setgroups_denied || self.mapper == Mapper::Owner || joins_without_privileges {
            Groups::Kept
        } else {
            Groups::Set
        }
    }
}

pub(crate) fn plan(linux: &Linux, host: &Host) -> Result<Namespaces, Refusal> {
    let mut new = 0;
    let mut join: Vec<(u32, PathBuf)> = Vec::new();
    for (index, namespace) in linux.namespaces().iter().flatten().enumerate() {
        let field = format!("linux.namespaces[{index}]");
        let bit = kind(namespace.typ()).bit();
        if new & bit != 0 || join.iter().any(|(other, _)| *other == bit) {
            return Err(Refusal::new(format!("{field}.type"), "a namespace of this type is already listed"));
        }
        match namespace.path() {
            Some(path) if !path.as_os_str().is_empty() => join.push((bit, joined(&format!("{field}.path"), path)?)),
            _ => new |= bit,
        }
    }
    let mut spaces = Namespaces { new, join, ..Namespaces::default() };
    if !spaces.has(Kind::Mount) {
        return Err(Refusal::new("linux.namespaces", "a container needs a mount namespace apart from the host's"));
    }
    let uids = id_map("linux.uidMappings", linux.uid_mappings().as_deref(), &spaces)?;
    let gids = id_map("linux.gidMappings", linux.gid_mappings().as_deref(), &spaces)?;
    if spaces.makes(Kind::User) {
        (spaces.uid_map, spaces.gid_map) = (uids, gids);
    } else {
        (spaces.claimed_uid_map, spaces.claimed_gid_map) = (uids, gids);
    }
    spaces.mapper = mapper(&spaces, host);
    spaces.time_offsets = time_offsets(linux, &spaces)?;
    Ok(spaces)
}

fn kind(listed: LinuxNamespaceType) -> Kind {
    match listed {
        LinuxNamespaceType::Mount => Kind::Mount,
        LinuxNamespaceType::Cgroup => Kind::Cgroup,
        LinuxNamespaceType::Uts => Kind::Uts,
        LinuxNamespaceType::Ipc => Kind::Ipc,
        LinuxNamespaceType::User => Kind::User,
        LinuxNamespaceType::Pid => Kind::Pid,
        LinuxNamespaceType::Network => Kind::Network,
        LinuxNamespaceType::Time => Kind::Time,
    }
}

fn joined(field: &str, path: &std::path::Path) -> Result<PathBuf, Refusal> {
    if !path.is_absolute() {
        return Err(Refusal::new(field, format!("{} is not an absolute path", path.display())));
    }
    c_string(field, path.as_os_str().as_encoded_bytes())?;
    Ok(path.to_owned())
}

/// The map of a new user namespace. A joined one has its map already; containerd repeats it beside the path.
fn id_map(field: &str, listed: Option<&[LinuxIdMapping]>, spaces: &Namespaces) -> Result<Vec<IdRange>, Refusal> {
    let listed = listed.unwrap_or_default();
    if !spaces.has(Kind::User) && !listed.is_empty() {
        return Err(Refusal::new(field, "mappings need a user namespace"));
    }
    if spaces.makes(Kind::User) && listed.is_empty() {
        return Err(Refusal::new(field, "a new user namespace needs mappings"));
    }
    id_ranges(field, listed)
}

/// An id map as the kernel takes it.
pub(crate) fn id_ranges(field: &str, listed: &[LinuxIdMapping]) -> Result<Vec<IdRange>, Refusal> {
    if listed.len() > MAX_RANGES {
        return Err(Refusal::new(field, format!("the kernel takes at most {MAX_RANGES} mappings")));
    }
    listed.iter().enumerate().map(|(index, one)| id_range(&format!("{field}[{index}]"), one)).collect()
}

fn mapper(spaces: &Namespaces, host: &Host) -> Mapper {
    let own = |map: &[IdRange], id: u32| matches!(map, [IdRange { outside, count: 1, .. }] if *outside == id);
    if host.euid == 0 || !spaces.makes(Kind::User) {
        Mapper::Runtime
    } else if own(&spaces.uid_map, host.euid) && own(&spaces.gid_map, host.egid) {
        Mapper::Owner
    } else {
        Mapper::Tools
    }
}

fn id_range(field: &str, listed: &LinuxIdMapping) -> Result<IdRange, Refusal> {
    let range = IdRange { inside: listed.container_id(), outside: listed.host_id(), count: listed.size() };
    if range.count == 0 {
        return Err(Refusal::new(field, "size is 0"));
    }
    let fits = |first: u32| first.checked_add(range.count).is_some();
    if !fits(range.inside) || !fits(range.outside) {
        return Err(Refusal::new(field, "reaches beyond the last id, 4294967294"));
    }
    Ok(range)
}

fn time_offsets(linux: &Linux, spaces: &Namespaces) -> Result<Vec<(CString, i64, u32)>, Refusal> {
    let Some(listed) = linux.time_offsets().as_ref().filter(|listed| !listed.is_empty()) else {
        return Ok(Vec::new());
    };
    if !spaces.makes(Kind::Time) {
        return Err(Refusal::new("linux.timeOffsets", "offsets need a new time namespace"));
    }
    let mut offsets = Vec::with_capacity(listed.len());
    for (clock, offset) in listed {
        let field = format!("linux.timeOffsets.{clock}");
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return Err(Refusal::new(field, "is not a clock that can be offset; monotonic and boottime are"));
        }
        let nanoseconds = offset.nanosecs().unwrap_or(0);
        if nanoseconds >= 1_000_000_000 {
            return Err(Refusal::new(field, "nanosecs is a second or more"));
        }
        offsets.push((c_string(&field, clock.as_str())?, offset.secs().unwrap_or(0), nanoseconds));
    }
    offsets.sort();
    Ok(offsets)
}
