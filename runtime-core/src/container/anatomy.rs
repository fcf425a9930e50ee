//! What a later process of a container must share with its first one. It follows from the specification alone, so that
//! it can be planned again for a container that another process has made.

use std::ffi::CString;

use tare_plan::{Choices, Filter, Groups, Hooks, MemoryPolicy, Plan};

use super::{Container, lock};
use crate::{Error, host, oci};

/// The parts of a container's plan that matter after its birth.
#[derive(Debug)]
pub(super) struct Anatomy {
    /// The namespaces that it does not share with this process, as `CLONE_NEW*` bits.
    pub(super) namespaces: u32,
    /// Whether its processes may have supplementary groups of their own.
    pub(super) groups: Groups,
    pub(super) personality: Option<u32>,
    pub(super) memory_policy: Option<MemoryPolicy>,
    pub(super) filter: Option<Filter>,
    pub(super) keyring: Option<CString>,
    pub(super) hooks: Hooks,
    /// Init's own plan, which the hooks inside the container share.
    pub(super) process: tare_plan::Process,
}

impl Anatomy {
    pub(super) fn of(plan: Plan, keyring: Option<CString>) -> Self {
        Self {
            namespaces: all_namespaces(&plan),
            groups: if plan.process.user.groups.is_some() { Groups::Set } else { Groups::Kept },
            personality: plan.personality,
            memory_policy: plan.memory_policy,
            filter: plan.seccomp,
            keyring,
            hooks: plan.hooks,
            process: plan.process,
        }
    }
}

/// The name of the session keyring of the container `id`.
pub(super) fn keyring(id: &str) -> Option<CString> {
    CString::new(format!("_ses.{id}")).ok()
}

/// The namespaces that the container does not share with this process.
pub(super) fn all_namespaces(plan: &Plan) -> u32 {
    plan.namespaces.join.iter().fold(plan.namespaces.new, |all, (bit, _)| all | bit)
}

impl Container {
    pub(super) fn anatomy(&self) -> Result<&Anatomy, Error> {
        if let Some(anatomy) = self.anatomy.get() {
            return Ok(anatomy);
        }
        let plan = self.plan()?;
        let record = lock(&self.record);
        let keyring = keyring(&record.id).filter(|_| !record.no_new_keyring);
        // A restored container is in a time namespace of its own, which its specification does not name.
        let namespaces = all_namespaces(&plan) | record.own_namespaces;
        drop(record);
        // Two threads that plan at once plan the same.
        Ok(self.anatomy.get_or_init(|| Anatomy { namespaces, ..Anatomy::of(plan, keyring) }))
    }

    /// The container's plan, made again.
    pub(super) fn plan(&self) -> Result<Plan, Error> {
        let spec = self.spec()?;
        let record = lock(&self.record);
        // Where the cgroup is, the record says; what is planned here does not matter.
        let choices = Choices {
            id: record.id.clone(),
            bundle: record.bundle.clone(),
            default_cgroup_parent: "/".into(),
            systemd: None,
        };
        drop(record);
        Ok(tare_plan::container(&spec, &choices, host::host()?)?)
    }

    /// The container's specification: its own copy, not what the bundle may have become.
    ///
    /// # Errors
    /// The copy cannot be read.
    pub fn spec(&self) -> Result<oci::Spec, Error> {
        crate::read_spec(&self.state)
    }
}
