//! The options of a mount that containerd hands over, in the words of its mount package. It decides nothing else.

use std::ffi::CString;

use rustix::mount::{MountAttrFlags, MountFlags, MountPropagationFlags};
use tare_plan::{IdRange, Reach};

use super::loop_file::Access;
use crate::container::RootfsMount;
use crate::{Error, Kind};

/// The longest data that mount(2) takes: a page with its NUL.
pub(super) const PAGE_LIMIT: usize = 4095;

/// What a mount's options say: flags, propagation, and the file system's own data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) flags: MountFlags,
    pub(super) propagation: MountPropagationFlags,
    pub(super) bind: Option<Reach>,
    /// Whose files they are: users, then groups.
    pub(super) id_map: Option<(Vec<IdRange>, Vec<IdRange>)>,
    /// The source is a file with a file system in it.
    pub(super) loop_file: Option<Access>,
    pub(super) parameters: Vec<String>,
}

impl Options {
    /// What mount(2) takes as its page of options; `None`: it has a NUL in it.
    pub(super) fn page(&self) -> Option<CString> {
        CString::new(self.parameters.join(",")).ok()
    }

    pub(super) fn page_length(&self) -> usize {
        self.parameters.iter().map(|parameter| parameter.len() + 1).sum::<usize>().saturating_sub(1)
    }

    /// The flags as `MOUNT_ATTR_*` of a mount that is made before it is attached.
    pub(super) fn attributes(&self) -> u64 {
        let table = [
            (MountFlags::RDONLY, MountAttrFlags::MOUNT_ATTR_RDONLY),
            (MountFlags::NOSUID, MountAttrFlags::MOUNT_ATTR_NOSUID),
            (MountFlags::NODEV, MountAttrFlags::MOUNT_ATTR_NODEV),
            (MountFlags::NOEXEC, MountAttrFlags::MOUNT_ATTR_NOEXEC),
            (MountFlags::NOATIME, MountAttrFlags::MOUNT_ATTR_NOATIME),
            (MountFlags::STRICTATIME, MountAttrFlags::MOUNT_ATTR_STRICTATIME),
            (MountFlags::NODIRATIME, MountAttrFlags::MOUNT_ATTR_NODIRATIME),
        ];
        let set = table.into_iter().filter(|(flag, _)| self.flags.contains(*flag));
        set.fold(0, |all, (_, attribute)| all | u64::from(attribute.bits()))
    }

    /// `MS_SHARED` and its kin, and whether the mounts below are meant too.
    pub(super) fn propagation(&self) -> (u64, Reach) {
        let below = self.propagation.contains(MountPropagationFlags::REC);
        let kind = self.propagation.difference(MountPropagationFlags::REC);
        (kind.bits().into(), if below { Reach::Tree } else { Reach::Top })
    }
}

/// The options that containerd's mount package knows; what else there is belongs to the file system.
pub(super) fn parse(mount: &RootfsMount) -> Result<Options, Error> {
    let mut parsed = Options {
        flags: MountFlags::empty(),
        propagation: MountPropagationFlags::empty(),
        bind: (mount.kind == "bind").then_some(Reach::Top),
        id_map: None,
        loop_file: None,
        parameters: Vec::new(),
    };
    let (mut uids, mut gids) = (None, None);
    for option in &mount.options {
        match option.split_once('=') {
            Some(("uidmap", map)) => uids = Some(ranges(option, map)?),
            Some(("gidmap", map)) => gids = Some(ranges(option, map)?),
            _ if option.starts_with("X-containerd.") => {
                let what = format!("mount option {option:?} was not consumed by the mount manager");
                return Err(Error::new(Kind::Unsupported, what));
            }
            _ => parsed.apply(option),
        }
    }
    parsed.id_map = match (uids, gids) {
        (None, None) => None,
        (Some(uids), Some(gids)) => Some((uids, gids)),
        _ => return Err(Error::new(Kind::Invalid, "of the mount options uidmap and gidmap, one is missing")),
    };
    if parsed.loop_file.is_some() && parsed.flags.contains(MountFlags::RDONLY) {
        parsed.loop_file = Some(Access::ReadOnly);
    }
    Ok(parsed)
}

impl Options {
    fn apply(&mut self, option: &str) {
        let flag = match option {
            "defaults" | "async" | "atime" | "dev" | "diratime" | "exec" | "nostrictatime" | "norelatime" | "rw"
            | "suid" | "nomand" | "loud" => MountFlags::empty(),
            "ro" => MountFlags::RDONLY,
            "nosuid" => MountFlags::NOSUID,
            "nodev" => MountFlags::NODEV,
            "noexec" => MountFlags::NOEXEC,
            "sync" => MountFlags::SYNCHRONOUS,
            "dirsync" => MountFlags::DIRSYNC,
            "noatime" => MountFlags::NOATIME,
            "nodiratime" => MountFlags::NODIRATIME,
            "relatime" => MountFlags::RELATIME,
            "strictatime" => MountFlags::STRICTATIME,
            other => return self.apply_word(other),
        };
        self.flags |= flag;
    }

    fn apply_word(&mut self, option: &str) {
        let (word, below) = match option.strip_prefix('r') {
            Some(word @ ("bind" | "private" | "slave" | "shared")) => (word, MountPropagationFlags::REC),
            _ => (option, MountPropagationFlags::empty()),
        };
        match word {
            "bind" => self.bind = Some(if below.is_empty() { Reach::Top } else { Reach::Tree }),
            "private" => self.propagation = MountPropagationFlags::PRIVATE | below,
            "slave" => self.propagation = MountPropagationFlags::DOWNSTREAM | below,
            "shared" => self.propagation = MountPropagationFlags::SHARED | below,
            "loop" => self.loop_file = Some(Access::ReadWrite),
            other => self.parameters.push(other.to_owned()),
        }
    }
}

/// `0:100000:65536,65536:200000:1`: inside, outside, count.
fn ranges(option: &str, map: &str) -> Result<Vec<IdRange>, Error> {
    let range = |text: &str| {
        let mut numbers = text.split(':').map(|number| number.parse::<u32>().ok());
        match (numbers.next()??, numbers.next()??, numbers.next()??, numbers.next()) {
            (_, _, 0, _) | (.., Some(_)) => None,
            (inside, outside, count, None) => {
                inside.checked_add(count)?;
                outside.checked_add(count)?;
                Some(IdRange { inside, outside, count })
            }
        }
    };
    let parsed: Option<Vec<_>> = map.split(',').map(range).collect();
    parsed.ok_or_else(|| {
        let what = "user namespace mappings require the format `container-id:host-id:size`";
        Error::new(Kind::Invalid, format!("mount option {option:?}: {what}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(options: &[&str]) -> Result<Options, String> {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let (kind, source, target) = ("overlay".into(), "overlay".into(), String::new());
        parse(&RootfsMount { kind, source, target, options }).map_err(|error| error.to_string())
    }

    #[test]
    fn what_containerd_knows_is_flags_and_the_rest_is_the_file_systems() {
        let options = parsed(&["ro", "nosuid", "rslave", "lowerdir=/a:/b", "index=off"]).unwrap();
        assert_eq!(options.flags, MountFlags::RDONLY | MountFlags::NOSUID);
        assert_eq!(options.attributes(), 3);
        assert_eq!(options.propagation(), (1 << 19, Reach::Tree));
        assert_eq!(options.page().unwrap().to_str(), Ok("lowerdir=/a:/b,index=off"));
        assert_eq!(options.page_length(), "lowerdir=/a:/b,index=off".len());
        assert_eq!(parsed(&["ro", "loop"]).unwrap().loop_file, Some(Access::ReadOnly));
        assert_eq!(parsed(&["rbind"]).unwrap().bind, Some(Reach::Tree));
    }

    #[test]
    fn maps_of_ids_are_pairs_of_ranges_of_32_bits() {
        let range = |inside, outside, count| IdRange { inside, outside, count };
        let options = parsed(&["uidmap=0:5:10,10:50:1", "gidmap=0:6:10"]).unwrap();
        assert_eq!(options.id_map, Some((vec![range(0, 5, 10), range(10, 50, 1)], vec![range(0, 6, 10)])));
        for wrong in ["", "0:1", "0:1:2:3", "0:1:0", "-1:0:1", "0:0:4294967296", "1:0:4294967295", "0:1:2,", "a:b:c"] {
            let uids = format!("uidmap={wrong}");
            let refused = parsed(&[&uids, "gidmap=0:0:1"]).unwrap_err();
            assert!(refused.contains("`container-id:host-id:size`"), "{wrong}: {refused}");
        }
        assert!(parsed(&["uidmap=0:0:1"]).unwrap_err().contains("one is missing"));
        let refused = parsed(&["X-containerd.mkdir.path=/x"]).unwrap_err();
        assert!(refused.ends_with("was not consumed by the mount manager"), "{refused}");
    }
}
