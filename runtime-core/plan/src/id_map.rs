//! Mounts whose files have other ids than on the disk: `uidMappings` and `gidMappings` of a mount, and the options `idmap`
//! and `ridmap`. The texts of the refusals are runc's.

use oci_spec::runtime as oci;

use crate::mount_options::Options;
use crate::mounts::Surroundings;
use crate::namespaces::{Kind, id_ranges};
use crate::{IdMap, MountUsers, Reach, Refusal};

/// Mappings alone mean `idmap`; the option alone means the mappings of the container's user namespace.
pub(crate) fn plan(
    field: &str,
    mount: &oci::Mount,
    options: &Options,
    around: Surroundings<'_>,
) -> Result<Option<IdMap>, Refusal> {
    let uids = mount.uid_mappings().as_deref().unwrap_or_default();
    let gids = mount.gid_mappings().as_deref().unwrap_or_default();
    let given = !uids.is_empty() || !gids.is_empty();
    let Some(reach) = options.id_map.or(given.then_some(Reach::Top)) else { return Ok(None) };
    let spaces = around.namespaces;
    let refused = |problem| Err(Refusal::new(field, problem));
    if options.bind.is_none() || options.remount {
        return refused("id-mapped mounts are only supported for bind-mounts");
    }
    if around.host.euid != 0 {
        return refused("id-mapped mounts are not supported for rootless containers");
    }
    if uids.is_empty() != gids.is_empty() || !given && !spaces.has(Kind::User) {
        return refused("id-mapped mounts must have both uid and gid mappings specified");
    }
    let uids = id_ranges(&format!("{field}.uidMappings"), uids)?;
    let gids = id_ranges(&format!("{field}.gidMappings"), gids)?;
    // The container's user namespace is there already; whose maps are the same needs no other.
    let same = spaces.makes(Kind::User) && uids == spaces.uid_map && gids == spaces.gid_map;
    let users = if same || !given { MountUsers::Container } else { MountUsers::Own { uids, gids } };
    Ok(Some(IdMap { users, reach }))
}
