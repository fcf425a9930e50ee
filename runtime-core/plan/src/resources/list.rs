//! The list while it grows: it knows the host's controllers, so that a limit that cannot be honoured is refused while
//! planning, by its field, before anything has been done.

use std::borrow::Cow;

use super::{Absent, Floor, OtherHalf, Write};
use crate::{CgroupLayout, Refusal};

/// Whether the list is for a new cgroup or for one that already has limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Create,
    Update,
}

/// Writes in the order they were pushed.
#[derive(Debug)]
pub(super) struct List<'a> {
    cgroups: &'a CgroupLayout,
    pub(super) verb: Verb,
    pub(super) writes: Vec<Write>,
}

impl<'a> List<'a> {
    pub(super) fn new(cgroups: &'a CgroupLayout, verb: Verb) -> Self {
        Self { cgroups, verb, writes: Vec::new() }
    }

    /// The host has cgroup v2 alone.
    pub(super) fn unified(&self) -> bool {
        matches!(self.cgroups, CgroupLayout::Unified { .. })
    }

    /// The host has this controller.
    pub(super) fn has(&self, controller: &str) -> bool {
        match self.cgroups {
            CgroupLayout::Unified { controllers, .. } => controllers.iter().any(|name| name == controller),
            CgroupLayout::Legacy { hierarchies, .. } => {
                hierarchies.iter().flat_map(|one| &one.controllers).any(|name| name == controller)
            }
        }
    }

    /// Refuses a field that cgroup v2 has no counterpart for.
    pub(super) fn legacy_only(&self, field: &str) -> Result<(), Refusal> {
        if self.unified() {
            Err(Refusal::new(field, "has no counterpart in cgroup v2, which this host uses"))
        } else {
            Ok(())
        }
    }

    /// A write that must succeed.
    pub(super) fn push(
        &mut self,
        controller: &'static str,
        file: impl Into<String>,
        value: impl ToString,
        field: impl Into<Cow<'static, str>>,
    ) -> Result<(), Refusal> {
        self.push_or(controller, file, value, field, Absent::Refuse)
    }

    /// A write, and what to do without its file.
    pub(super) fn push_or(
        &mut self,
        controller: &'static str,
        file: impl Into<String>,
        value: impl ToString,
        field: impl Into<Cow<'static, str>>,
        absent: Absent,
    ) -> Result<(), Refusal> {
        let (file, value, field) = (file.into(), value.to_string(), field.into());
        let known = self.has(controller);
        if !known && absent == Absent::Refuse {
            let version = if self.unified() { 2 } else { 1 };
            return Err(Refusal::new(field, format!("this host has no {controller} controller in cgroup v{version}")));
        }
        if known {
            self.writes.push(Write { controller, file, value, field, absent, floor: None, other_half: None });
        }
        Ok(())
    }

    /// The write pushed last has to leave room for what is used.
    pub(super) fn above(&mut self, floor: Option<Floor>) {
        if let (Some(floor), Some(write)) = (floor, self.writes.last_mut()) {
            write.floor = Some(floor);
        }
    }

    /// The write pushed last takes what it lacks from the cgroup.
    pub(super) fn with(&mut self, other_half: OtherHalf) {
        if let Some(write) = self.writes.last_mut() {
            write.other_half = Some(other_half);
        }
    }

    /// A write whose file belongs to no controller the host lists, or to one that its name tells.
    pub(super) fn push_unchecked(&mut self, file: String, value: String, field: String) {
        let (field, absent) = (field.into(), Absent::Refuse);
        self.writes.push(Write { controller: "unified", file, value, field, absent, floor: None, other_half: None });
    }
}
