//! `linux.resources` as a list of writes into control files, and a device program. Pure.
//! It neither knows where hierarchies are mounted nor whether a file exists: the one writer is `runtime_core::cgroup`.
//!
//! The order of the list is not a promise that each write succeeds at once: the kernel checks some values against
//! others (`limit` against `memsw`, `burst` against `quota`), so the writer tries what was refused as invalid once more
//! after everything else. That makes one list serve both a new cgroup and an update that raises or lowers limits.

mod block_io;
mod counts;
mod cpu;
mod device_program;
mod devices;
mod list;
mod memory;
mod network;
mod unified;

use std::borrow::Cow;

use oci_spec::runtime::LinuxResources;

use crate::{Host, Refusal};
use list::{List, Verb};

/// The limits of a control group, in the order they are written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// Writes into control files.
    pub writes: Vec<Write>,
    /// On cgroup v2, the eBPF device program (`BPF_PROG_TYPE_CGROUP_DEVICE` instructions, native endian); on v1 the
    /// rules are writes to `devices.deny` and `devices.allow`.
    pub device_program: Option<Vec<u8>>,
}

/// One write into one control file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The controller whose hierarchy holds the file (`memory`); ignored on v2, where there is one hierarchy.
    pub controller: &'static str,
    /// File name in the container's cgroup: `memory.max`.
    pub file: String,
    /// What is written, in one `write(2)`.
    pub value: String,
    /// The field it comes from, for errors: `linux.resources.memory.limit`.
    pub field: Cow<'static, str>,
    /// What to do when there is no such file.
    pub absent: Absent,
    /// What is used already and has to fit, checked just before the write.
    pub floor: Option<Floor>,
    /// What the value lacks and the cgroup has, for an update of one half of a pair.
    pub other_half: Option<OtherHalf>,
}

/// A limit that has to be above what is used already: the kernel would kill to get there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Floor {
    /// The file that says what is used: `memory.current`.
    pub file: &'static str,
    /// What is limited, for the error.
    pub what: &'static str,
    /// The limit.
    pub limit: u64,
}

/// The other half of an update, read just before the write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherHalf {
    /// The number in this file is a part of the value, and is taken off: swap is counted alone in version 2.
    Less(&'static str),
    /// The first word of the file that is written to stays, before the value: a quota beside its period.
    FirstWord,
}

/// What the writer does when a control file does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absent {
    /// The limit cannot be honoured: an error.
    Refuse,
    /// Nothing is lost without it: the file sharpens another limit, or the value is what its absence means.
    PassOver,
    /// Another file takes the same limit, in its own scale.
    Instead {
        /// Its name.
        file: String,
        /// What is written into it.
        value: String,
    },
}

/// The limits of a new container. Its devices are always ruled: what the specification does not allow is denied, beside
/// the handful that every container may use; only inside a user namespace or without
/// root's privileges, where the kernel refuses device rules, are there none.
///
/// # Errors
/// A field that this host or its cgroup version cannot honour, or that makes no sense.
pub fn plan(resources: &LinuxResources, host: &Host) -> Result<Resources, Refusal> {
    let mut list = List::new(&host.cgroups, Verb::Create);
    let mut device_program = None;
    if !host.in_user_namespace && host.euid == 0 {
        let rules = devices::rules(resources.devices().as_deref().unwrap_or_default())?;
        if list.unified() {
            device_program = Some(device_program::assemble(&rules));
        } else {
            devices::legacy(&rules, &mut list)?;
        }
    }
    limits(resources, &mut list)?;
    Ok(Resources { writes: list.writes, device_program })
}

/// The changes of an update: what `resources` names, and nothing else. Devices stay as they are.
///
/// # Errors
/// As [`plan`].
pub fn update(resources: &LinuxResources, host: &Host) -> Result<Resources, Refusal> {
    let mut list = List::new(&host.cgroups, Verb::Update);
    limits(resources, &mut list)?;
    Ok(Resources { writes: list.writes, device_program: None })
}

fn limits(resources: &LinuxResources, list: &mut List<'_>) -> Result<(), Refusal> {
    if let Some(memory) = resources.memory() {
        memory::limits(memory, list)?;
    }
    if let Some(cpu) = resources.cpu() {
        cpu::limits(cpu, list)?;
    }
    if let Some(pids) = resources.pids() {
        counts::pids(*pids, list)?;
    }
    if let Some(block_io) = resources.block_io() {
        block_io::limits(block_io, list)?;
    }
    counts::hugepages(resources.hugepage_limits().as_deref().unwrap_or_default(), list)?;
    if let Some(rdma) = resources.rdma() {
        counts::rdma(rdma, list)?;
    }
    if let Some(network) = resources.network() {
        network::limits(network, list)?;
    }
    // Last, so that what is spelled out for the kernel wins over what is derived.
    unified::limits(resources.unified().as_ref(), list)
}

#[cfg(test)]
mod tests;
