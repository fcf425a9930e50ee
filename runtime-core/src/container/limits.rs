//! What a container may use, and what it has used: its cgroup and its group of resctrl.

use super::{Container, lock};
use crate::cgroup::stats::Details;
use crate::cgroup::{OomWatch, Stats};
use crate::warnings::warn;
use crate::{Error, Kind, host, oci};

impl Container {
    /// Changes the limits.
    ///
    /// # Errors
    /// [`crate::Kind::Invalid`], or the kernel refusing a value, named by its field.
    pub fn update(&self, resources: &oci::LinuxResources) -> Result<(), Error> {
        let cgroup = self.cgroup.required()?;
        if cgroup.is_unit() && idle_and_weighed(resources) {
            warn("unable to apply both a weight and cpu.idle to a systemd unit: cpu.idle counts");
        }
        cgroup.update(&tare_plan::resources::update(resources, host::host()?)?)
    }

    /// Changes the schemata of the container's resctrl group (`linux.intelRdt`).
    ///
    /// # Errors
    /// The container has none, the hardware has not what they are about, or the kernel refusing.
    pub fn update_intel_rdt(&self, cache: Option<&str>, bandwidth: Option<&str>) -> Result<(), Error> {
        match &lock(&self.record).resctrl {
            Some(resctrl) => resctrl.update(cache, bandwidth),
            None => Err(Error::new(Kind::Invalid, "the container has no resctrl group: linux.intelRdt is not set")),
        }
    }

    /// What the container has used.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`] when the cgroup is gone.
    pub fn stats(&self) -> Result<Stats, Error> {
        self.cgroup.required()?.stats()
    }

    /// The rest of it, for people.
    ///
    /// # Errors
    /// As [`Container::stats`].
    pub fn stats_in_detail(&self) -> Result<Details, Error> {
        self.cgroup.required()?.details()
    }

    /// A descriptor that becomes readable when the kernel has killed something for lack of memory.
    ///
    /// # Errors
    /// The kernel refusing.
    pub fn oom_watch(&self) -> Result<OomWatch, Error> {
        self.cgroup.required()?.oom_watch()
    }
}

/// A weight is asked for that an idle cgroup cannot have.
fn idle_and_weighed(resources: &oci::LinuxResources) -> bool {
    let has = |key: &str, wanted: fn(&str) -> bool| {
        resources.unified().as_ref().and_then(|all| all.get(key)).is_some_and(|value| wanted(value.trim()))
    };
    let cpu = resources.cpu().as_ref();
    let idle = cpu.is_some_and(|cpu| cpu.idle() == Some(1)) || has("cpu.idle", |value| value == "1");
    let weighed = cpu.is_some_and(|cpu| cpu.shares().is_some_and(|shares| shares != 0)) || has("cpu.weight", |_| true);
    idle && weighed
}
