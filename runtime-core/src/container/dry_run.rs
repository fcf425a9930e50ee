//! What a container would be made of, without making it: `tare plan`. Sources of mounts are looked up, as create would;
//! nothing is changed.

use super::Create;
use super::create::{decide, lowering};
use crate::cgroup::Cgroup;
use crate::prepare::Prepared;
use crate::{Error, Stdio, host, lower};

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
    let cgroup = Cgroup::plan(&host::host()?.cgroups, &plan.cgroup.path)?;
    let stdio = std::mem::replace(&mut request.stdio, Stdio::Terminal);
    let prepared = Prepared::new(&plan, cgroup.stand_in()?, stdio)?;
    prepared.streams.fit(&plan.process)?;
    let script = lower::init(&plan, &prepared, &lowering(&request, None)?);
    Ok(script.steps().map(|(about, op)| Step { about, op }).collect())
}
