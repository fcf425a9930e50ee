//! What a later process of a container must share with its first one. It follows from the specification alone, so that
//! it can be planned again for a container that another process has made.

use std::ffi::CString;
use std::sync::OnceLock;

use oci_spec::runtime::LinuxSeccomp;
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
    /// Asked for by [`Anatomy::filter`].
    pub(super) filter: OnceLock<Option<Filter>>,
    /// What it is made of.
    pub(super) seccomp: Option<LinuxSeccomp>,
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
            filter: OnceLock::from(plan.seccomp),
            seccomp: None,
            keyring,
            hooks: plan.hooks,
            process: plan.process,
        }
    }

    /// The system call filter. Making it takes as long as all the rest, and a process that joins needs it last.
    pub(super) fn filter(&self) -> Result<Option<&Filter>, Error> {
        if let Some(filter) = self.filter.get() {
            return Ok(filter.as_ref());
        }
        let filter = self.seccomp.as_ref().map(tare_plan::seccomp::plan).transpose()?;
        Ok(self.filter.get_or_init(|| filter).as_ref())
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
        self.anatomy_by(&mut self.spec()?)
    }

    fn anatomy_by(&self, spec: &mut oci::Spec) -> Result<&Anatomy, Error> {
        let seccomp = spec.linux_mut().as_mut().and_then(|linux| linux.seccomp_mut().take());
        let plan = self.plan_of(spec)?;
        let record = lock(&self.record);
        let keyring = keyring(&record.id).filter(|_| !record.no_new_keyring);
        // A restored container is in a time namespace of its own, which its specification does not name.
        let namespaces = all_namespaces(&plan) | record.own_namespaces;
        drop(record);
        // Two threads that plan at once plan the same.
        let later = Anatomy { filter: OnceLock::new(), seccomp, namespaces, ..Anatomy::of(plan, keyring) };
        Ok(self.anatomy.get_or_init(|| later))
    }

    /// The container's plan, made again.
    pub(super) fn plan(&self) -> Result<Plan, Error> {
        self.plan_of(&self.spec()?)
    }

    fn plan_of(&self, spec: &oci::Spec) -> Result<Plan, Error> {
        let record = lock(&self.record);
        // Where the cgroup is, the record says; what is planned here does not matter.
        let choices = Choices {
            id: record.id.clone(),
            bundle: record.bundle.clone(),
            default_cgroup_parent: "/".into(),
            systemd: None,
        };
        drop(record);
        Ok(tare_plan::container(spec, &choices, host::host()?)?)
    }

    /// The process that the container's specification has, which an exec may begin from. The specification is read once
    /// for both.
    ///
    /// # Errors
    /// The container's copy of its specification cannot be read, or is no plan.
    pub fn process_of_spec(&self) -> Result<Option<oci::Process>, Error> {
        let mut spec = self.spec()?;
        if self.anatomy.get().is_none() {
            self.anatomy_by(&mut spec)?;
        }
        Ok(spec.process().clone())
    }

    /// The container's specification: its own copy, not what the bundle may have become.
    fn spec(&self) -> Result<oci::Spec, Error> {
        crate::read_spec(&self.state)
    }
}
