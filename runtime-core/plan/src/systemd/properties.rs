//! Limits as properties of a unit: one table, read from the list of writes, so that a typed field and a key of `unified`
//! which mean the same file mean the same property.
//!
//! Every write is performed on the files as well, with the numbers that systemd keeps. What is not in the table (huge pages, `cpu.max.burst`, `io.max`, device
//! rules) is written there alone. The properties are what systemd shows, and what it writes when it writes again.

use super::{Property, Value};
use crate::resources::{Absent, Resources, Write};

/// Versions of systemd that brought properties.
const CPU_QUOTA_PERIOD: u32 = 242;
const CPU_SETS: u32 = 244;
const CPU_IDLE: u32 = 252;

/// The properties for the limits that a manager of this version knows.
#[must_use]
pub fn properties(resources: &Resources, version: u32) -> Vec<Property> {
    let mut all: Vec<Property> = Vec::new();
    for property in resources.writes.iter().flat_map(|write| of(write, version)) {
        // A key of `unified` comes later and wins.
        all.retain(|earlier| earlier.name != property.name);
        all.push(property);
    }
    all
}

/// A value that the kernel would not take is no property either: the write of it has the error with the field's name.
fn of(write: &Write, version: u32) -> Vec<Property> {
    if write.other_half.is_some() {
        // What it is whole, the cgroup says.
        return Vec::new();
    }
    let value = write.value.trim();
    let one = |name: &'static str, value: Option<Value>| value.map(|value| Property::new(name, value));
    let property = match write.file.as_str() {
        "memory.max" => one("MemoryMax", above_zero(value)),
        "memory.high" => one("MemoryHigh", amount(value)),
        "memory.low" => one("MemoryLow", amount(value)),
        "memory.min" => one("MemoryMin", amount(value)),
        "memory.swap.max" => one("MemorySwapMax", amount(value)),
        "pids.max" => one("TasksMax", above_zero(value)),
        "cpu.weight" => one("CPUWeight", number(value)),
        "cpu.idle" if version >= CPU_IDLE && value == "1" => one("CPUWeight", Some(Value::Number(0))),
        "cpuset.cpus" if version >= CPU_SETS => one("AllowedCPUs", bits(value)),
        "cpuset.mems" if version >= CPU_SETS => one("AllowedMemoryNodes", bits(value)),
        "io.weight" => one("IOWeight", io_weight(value)),
        "io.bfq.weight" => match &write.absent {
            Absent::Instead { value, .. } => one("IOWeight", io_weight(value)),
            _ => None,
        },
        "cpu.max" => return bandwidth(value, version),
        _ => None,
    };
    property.into_iter().collect()
}

/// The limits as they are once systemd has written them, as runc has it, too: a bandwidth in whole percents, and no weight
/// of an idle cgroup. Otherwise
/// what a file says would change with the next thing that systemd does.
#[must_use]
pub fn as_kept(resources: &Resources) -> Resources {
    let mut kept = resources.clone();
    if idle(&kept) {
        kept.writes.retain(|write| write.file != "cpu.weight");
    }
    for write in kept.writes.iter_mut().filter(|write| write.file == "cpu.max" && write.other_half.is_none()) {
        if let Some((Some(percents), period)) = percents(&write.value) {
            let quota = u128::from(percents) * u128::from(period) / 100;
            write.value = format!("{quota} {period}");
        }
    }
    kept
}

/// An idle cgroup has the least weight of all, and systemd one property for both.
fn idle(resources: &Resources) -> bool {
    resources.writes.iter().any(|write| write.file == "cpu.idle" && write.value.trim() == "1")
}

/// The bandwidth of `cpu.max` in percents of a processor, rounded up, so that a cgroup below can have what was asked for;
/// `None` is unlimited. And its period.
fn percents(value: &str) -> Option<(Option<u64>, u64)> {
    let mut words = value.split_whitespace();
    let quota = words.next().unwrap_or_default();
    let period: u64 =
        words.next().and_then(|period| period.parse().ok()).filter(|period| *period != 0).unwrap_or(100_000);
    match quota.parse::<u64>() {
        Ok(quota) => {
            // Microseconds for each second, as systemd and runc count them.
            let exact = u64::try_from(u128::from(quota) * 1_000_000 / u128::from(period)).ok()?;
            Some((Some(exact.div_ceil(10_000)), period))
        }
        Err(_) => (quota == "max").then_some((None, period)),
    }
}

fn bandwidth(value: &str, version: u32) -> Vec<Property> {
    let Some((percents, period)) = percents(value) else { return Vec::new() };
    let per_second = percents.map_or(u64::MAX, |percents| percents.saturating_mul(10_000));
    let mut both = Vec::new();
    if version >= CPU_QUOTA_PERIOD {
        both.push(Property::new("CPUQuotaPeriodUSec", Value::Number(period)));
    }
    both.push(Property::new("CPUQuotaPerSecUSec", Value::Number(per_second)));
    both
}

fn number(value: &str) -> Option<Value> {
    value.parse().ok().map(Value::Number)
}

/// `max` is systemd's "infinity".
fn amount(value: &str) -> Option<Value> {
    if value == "max" { Some(Value::Number(u64::MAX)) } else { number(value) }
}

/// The kernel takes 0 here, systemd does not.
fn above_zero(value: &str) -> Option<Value> {
    amount(value).filter(|value| *value != Value::Number(0))
}

/// The weight of all devices, not of one.
fn io_weight(value: &str) -> Option<Value> {
    number(value.strip_prefix("default ").unwrap_or(value).trim())
}

/// `0-2,5` as a bit mask.
fn bits(list: &str) -> Option<Value> {
    /// More than any kernel is built for.
    const MOST: usize = 8192;
    let mut bytes = Vec::new();
    for range in list.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        for bit in first..=last {
            if bytes.len() <= bit / 8 {
                bytes.resize(bit / 8 + 1, 0_u8);
            }
            *bytes.get_mut(bit / 8)? |= 1 << (bit % 8);
        }
    }
    (!bytes.is_empty()).then_some(Value::Bits(bytes))
}
