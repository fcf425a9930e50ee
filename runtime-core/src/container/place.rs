//! The cgroup of a container that is being made: which one, made by whom, with what in it.

use rustix::io::Errno;
use tare_plan::{Mount, Plan, Tree};

use super::{CgroupDriver, Create};
use crate::cgroup::Cgroup;
use crate::{Error, host};

const MOUNT_ATTR_RDONLY: u64 = 1;

/// Which cgroup the container will have. No side effect.
pub(super) fn cgroup(request: &Create, plan: &Plan) -> Result<Cgroup, Error> {
    let host = host::host()?;
    match (&plan.cgroup.scope, request.cgroup_driver) {
        (Some(scope), _) => Cgroup::in_unit(host, &plan.cgroup.path, scope),
        (None, CgroupDriver::Disabled) => Ok(Cgroup::none()),
        (None, _) => Cgroup::plan(&host.cgroups, &plan.cgroup.path),
    }
}

/// Makes the cgroup.
///
/// Without privileges and without limits to keep, a cgroup is a convenience: what the kernel refuses is done without, as
/// every runtime does. Then the answer is false.
pub(super) fn made(cgroup: &Cgroup, plan: &Plan) -> Result<bool, Error> {
    let unprivileged = tare_plan::systemd::rootless(host::host()?);
    let limits = &plan.cgroup.resources;
    let without = unprivileged && limits.writes.is_empty() && limits.device_program.is_none();
    match cgroup.create() {
        Ok(()) => Ok(true),
        Err(error) if without && matches!(error.errno(), Some(Errno::ACCESS | Errno::PERM | Errno::ROFS)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// systemd makes the cgroup around the first process. That one waits in this process's own cgroup, and has done nothing
/// in the container yet.
pub(super) fn start_unit(cgroup: &Cgroup, plan: &Plan, pid: i32) -> Result<(), Error> {
    plan.cgroup.scope.as_ref().map_or(Ok(()), |scope| cgroup.start_unit(scope, pid))
}

/// Gives a cgroup that has been made its limits, and its owner.
pub(super) fn fill(cgroup: &Cgroup, plan: &Plan) -> Result<(), Error> {
    // Whoever wants no cgroup wants no limits: there is nothing to write them into.
    if cgroup.is_none() {
        return Ok(());
    }
    cgroup.apply(&plan.cgroup.resources)?;
    cgroup_owner(plan).map_or(Ok(()), |uid| cgroup.delegate(uid))
}

/// Who may make cgroups below the container's: root of a new user namespace that has its own cgroup namespace and a
/// writable cgroup2 mount (runtime-spec, config-linux.md "Cgroup ownership").
fn cgroup_owner(plan: &Plan) -> Option<u32> {
    let kinds = (libc::CLONE_NEWUSER | libc::CLONE_NEWCGROUP).cast_unsigned();
    let writable = |mount: &Mount| {
        let is_cgroup = matches!(&mount.tree, Tree::New { kind, .. } if kind.as_bytes() == b"cgroup2");
        is_cgroup && mount.attributes.set & MOUNT_ATTR_RDONLY == 0
    };
    if plan.namespaces.new & kinds != kinds || !plan.mounts.iter().any(writable) {
        return None;
    }
    plan.namespaces.uid_map.iter().find(|range| range.inside == 0).map(|range| range.outside)
}
