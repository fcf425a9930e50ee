//! A container that could not be given a cgroup is in its caller's: what was to show its own cgroup shows that one, as
//! every runtime does it. Nothing is allowed by this that the caller may not do himself.

use std::path::Path;

use tare_plan::{CgroupLayout, Plan, Tree};

/// Lets the mounts of the container's cgroup, in each version 1 hierarchy, show the caller's.
pub(super) fn show_callers(plan: &mut Plan, layout: &CgroupLayout) {
    let CgroupLayout::Legacy { hierarchies, .. } = layout else { return };
    let below = |mountpoint: &Path, path: &Path| mountpoint.join(path.strip_prefix("/").unwrap_or(path));
    for hierarchy in hierarchies {
        let planned = below(&hierarchy.mountpoint, &plan.cgroup.path);
        for mount in &mut plan.mounts {
            match &mut mount.tree {
                Tree::Bind { source, .. } if *source == planned => {
                    *source = below(&hierarchy.mountpoint, &hierarchy.own)
                }
                _ => {}
            }
        }
    }
}
