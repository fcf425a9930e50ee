//! `linux.resources.memory`. Zero is "unset" and -1 is "no limit" throughout, as every runtime reads them.

use oci_spec::runtime::LinuxMemory;

use super::list::{List, Verb};
use super::{Absent, Floor, OtherHalf};
use crate::Refusal;

const LIMIT: &str = "linux.resources.memory.limit";
const SWAP: &str = "linux.resources.memory.swap";
const RESERVATION: &str = "linux.resources.memory.reservation";
const KERNEL_TCP: &str = "linux.resources.memory.kernelTCP";
const SWAPPINESS: &str = "linux.resources.memory.swappiness";
const OOM_KILLER: &str = "linux.resources.memory.disableOOMKiller";

/// `kernel` and `useHierarchy` are read over: kernels since 5.4 and 5.11 have neither, and this runtime needs 5.14.
pub(super) fn limits(memory: &LinuxMemory, list: &mut List<'_>) -> Result<(), Refusal> {
    let limit = set(LIMIT, memory.limit())?;
    let swap = set(SWAP, memory.swap())?;
    let reservation = set(RESERVATION, memory.reservation())?;
    match (limit, swap) {
        // An update may change swap beside a limit that the cgroup has.
        (None, Some(_)) if list.verb == Verb::Update => {}
        (None | Some(-1), Some(swap)) if swap > 0 => {
            return Err(Refusal::new(SWAP, "needs a memory limit, which it includes"));
        }
        (Some(limit), Some(swap)) if swap > 0 && swap < limit => {
            return Err(Refusal::new(SWAP, format!("{swap} is below the memory limit {limit}, which it includes")));
        }
        _ => {}
    }
    if list.unified() {
        unified(memory, limit, swap, reservation, list)
    } else {
        legacy(memory, limit, swap, reservation, list)
    }
}

fn legacy(
    memory: &LinuxMemory,
    limit: Option<i64>,
    swap: Option<i64>,
    reservation: Option<i64>,
    list: &mut List<'_>,
) -> Result<(), Refusal> {
    if let Some(limit) = limit {
        list.push("memory", "memory.limit_in_bytes", limit, LIMIT)?;
    }
    match (limit, swap) {
        // Without swap accounting nothing limits swap, which is what is asked for.
        (_, Some(-1)) => list.push_or("memory", "memory.memsw.limit_in_bytes", -1, SWAP, Absent::PassOver)?,
        (_, Some(swap)) => list.push("memory", "memory.memsw.limit_in_bytes", swap, SWAP)?,
        // An old, lower limit of both together would forbid it.
        (Some(-1), None) => list.push_or("memory", "memory.memsw.limit_in_bytes", -1, LIMIT, Absent::PassOver)?,
        _ => {}
    }
    if let Some(reservation) = reservation {
        list.push("memory", "memory.soft_limit_in_bytes", reservation, RESERVATION)?;
    }
    if let Some(limit) = set(KERNEL_TCP, memory.kernel_tcp())? {
        list.push("memory", "memory.kmem.tcp.limit_in_bytes", limit, KERNEL_TCP)?;
    }
    if let Some(swappiness) = memory.swappiness() {
        if swappiness > 100 {
            return Err(Refusal::new(SWAPPINESS, format!("{swappiness} is above 100")));
        }
        list.push("memory", "memory.swappiness", swappiness, SWAPPINESS)?;
    }
    if memory.disable_oom_killer() == Some(true) {
        list.push("memory", "memory.oom_control", 1, OOM_KILLER)?;
    }
    Ok(())
}

fn unified(
    memory: &LinuxMemory,
    limit: Option<i64>,
    swap: Option<i64>,
    reservation: Option<i64>,
    list: &mut List<'_>,
) -> Result<(), Refusal> {
    // Version 2 counts swap by itself. Where the kernel has no swap, "none" and "as much as you like" are both true.
    let alone = match (limit, swap) {
        (Some(-1), None) => Some(-1),
        (Some(limit), Some(swap)) if swap > 0 => Some(swap - limit),
        (_, swap) => swap,
    };
    match alone {
        Some(amount @ (0 | -1)) => {
            list.push_or("memory", "memory.swap.max", maximum(amount), SWAP, Absent::PassOver)?;
        }
        Some(amount) => {
            list.push("memory", "memory.swap.max", maximum(amount), SWAP)?;
            if limit.is_none() {
                list.with(OtherHalf::Less("memory.max"));
            }
        }
        None => {}
    }
    list.above(floor(memory, "memory+swap limit", swap));
    if let Some(limit) = limit {
        list.push("memory", "memory.max", maximum(limit), LIMIT)?;
        list.above(floor(memory, "memory limit", Some(limit)));
    }
    if let Some(reservation) = reservation {
        list.push("memory", "memory.low", maximum(reservation), RESERVATION)?;
    }
    if set(KERNEL_TCP, memory.kernel_tcp())?.is_some() {
        list.legacy_only(KERNEL_TCP)?;
    }
    if memory.swappiness().is_some() {
        list.legacy_only(SWAPPINESS)?;
    }
    if memory.disable_oom_killer() == Some(true) {
        list.legacy_only(OOM_KILLER)?;
    }
    Ok(())
}

/// `checkBeforeUpdate`, for limits that are any. What swap is counted with is what is used of memory, as with runc.
fn floor(memory: &LinuxMemory, what: &'static str, limit: Option<i64>) -> Option<Floor> {
    let limit =
        limit.and_then(|limit| u64::try_from(limit).ok()).filter(|_| memory.check_before_update() == Some(true));
    limit.map(|limit| Floor { file: "memory.current", what, limit })
}

/// A limit that is set: not absent, not 0.
fn set(field: &str, value: Option<i64>) -> Result<Option<i64>, Refusal> {
    match value {
        None | Some(0) => Ok(None),
        Some(value) if value < -1 => Err(Refusal::new(field, format!("{value} is no limit; -1 is none"))),
        value => Ok(value),
    }
}

/// Version 2 spells "no limit" out.
pub(super) fn maximum(limit: i64) -> String {
    if limit < 0 { "max".to_owned() } else { limit.to_string() }
}
