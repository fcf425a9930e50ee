//! What a container would be made of, without making it: `tare plan`. Sources of mounts are looked up, as create would;
//! nothing is changed.

use std::os::fd::AsFd as _;

use tare_plan::{Plan, Tree};

use super::Create;
use super::create::{decide, lowering};
use super::place;
use crate::cgroup::Cgroup;
use crate::lower::Errand;
use crate::prepare::Prepared;
use crate::{Error, Stdio, lower};

const CLONE_NEWNS: u32 = libc::CLONE_NEWNS.cast_unsigned();

/// One step of a container's birth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What it is a part of: `mount proc on /proc`.
    pub about: String,
    /// What is done.
    pub op: String,
}

/// The steps that [`super::Container::create`] would take in the child, in order.
///
/// # Errors
/// As create's, for what can be known before anything is done.
pub fn dry_run(mut request: Create) -> Result<Vec<Step>, Error> {
    let plan = decide(&request)?;
    let cgroup = place::cgroup(&request, &plan)?;
    let stdio = std::mem::replace(&mut request.stdio, Stdio::Terminal);
    let prepared = Prepared::new(&without_cgroup(&plan, &cgroup), cgroup.stand_in()?, cgroup.devices_above(), stdio)?;
    prepared.streams.fit(&plan.process)?;
    let script = lower::init(&plan, &prepared, &lowering(&request, &plan, None)?);
    let mut steps: Vec<Step> =
        lower::first(&plan.namespaces).steps().chain(script.steps()).map(|(about, op)| Step { about, op }).collect();
    if let Some(handover) = &prepared.handover {
        // Whom it serves does not exist yet; nothing in the text depends on it.
        let errand = Errand { process: handover.child.as_fd(), users: handover.child.as_fd(), kinds: CLONE_NEWNS };
        let carried = lower::porter(&plan, &prepared, handover, &errand);
        let carried = carried.steps().map(|(about, op)| Step { about: format!("porter: {about}"), op });
        // The child takes over what the porter hands over.
        let place = steps.iter().position(|step| step.op.starts_with("take ")).unwrap_or(steps.len());
        steps.splice(place..place, carried);
    }
    Ok(steps)
}

/// The same plan to look sources up by: the container's version 1 cgroup directories, which its cgroup mounts bind, do not
/// exist yet, and where they would be made stands in for them.
fn without_cgroup(plan: &Plan, cgroup: &Cgroup) -> Plan {
    let mut plan = plan.clone();
    for mount in &mut plan.mounts {
        if let Tree::Bind { source, .. } = &mut mount.tree
            && cgroup.holds(source)
            && let Some(there) = source.ancestors().find(|path| path.exists())
        {
            *source = there.to_path_buf();
        }
    }
    plan
}
