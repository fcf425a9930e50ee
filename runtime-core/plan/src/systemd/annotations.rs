//! `org.systemd.property.NAME` annotations: properties that the writer of the specification wants the unit to have.

use super::{Property, Value};
use crate::Refusal;

const PREFIX: &str = "org.systemd.property.";

/// What may be set. SECURITY: an annotation often comes from whoever may start a pod. Any property would reach beyond the
/// container: `PIDs` takes in (and kills) a process of the host, `FailureAction` reboots it, `Requires`, `Conflicts` and
/// `OnFailure` start and stop units, `Slice` and `Delegate` leave the limits of the pod.
const ALLOWED: [&str; 43] = [
    "After",
    "Before",
    "CPUAccounting",
    "CPUQuotaPerSecUSec",
    "CPUQuotaPeriodUSec",
    "CPUWeight",
    "CollectMode",
    "DefaultDependencies",
    "Description",
    "Documentation",
    "FinalKillSignal",
    "IOAccounting",
    "IOWeight",
    "IPAccounting",
    "KillMode",
    "KillSignal",
    "ManagedOOMMemoryPressure",
    "ManagedOOMMemoryPressureDurationUSec",
    "ManagedOOMMemoryPressureLimit",
    "ManagedOOMPreference",
    "ManagedOOMSwap",
    "MemoryAccounting",
    "MemoryHigh",
    "MemoryLow",
    "MemoryMax",
    "MemoryMin",
    "MemoryPressureThresholdUSec",
    "MemoryPressureWatch",
    "MemorySwapMax",
    "MemoryZSwapMax",
    "MemoryZSwapWriteback",
    "OOMPolicy",
    "PartOf",
    "RuntimeMaxUSec",
    "RuntimeRandomizedExtraUSec",
    "SendSIGHUP",
    "SendSIGKILL",
    "StartupCPUWeight",
    "StartupIOWeight",
    "StopWhenUnneeded",
    "TasksAccounting",
    "TasksMax",
    "TimeoutStopUSec",
];

/// The properties of the annotations, which are in the order of their keys.
pub(super) fn properties(annotations: &[(String, String)]) -> Result<Vec<Property>, Refusal> {
    annotations
        .iter()
        .filter_map(|(key, text)| Some((key, key.strip_prefix(PREFIX)?, text)))
        .map(|(key, name, text)| {
            property(name, text).map_err(|problem| Refusal::new(format!("annotations[{key}]"), problem))
        })
        .collect()
}

/// `TimeoutStopSec` is `TimeoutStopUSec` on the bus; so runc says it, and so do we.
fn property(name: &str, text: &str) -> Result<Property, String> {
    let value = Value::parse(text)?;
    let in_seconds = name.strip_suffix("Sec").filter(|stem| stem.ends_with(|last: char| last.is_ascii_lowercase()));
    let (name, value) = match in_seconds {
        Some(stem) => (format!("{stem}USec"), Value::Number(value.seconds_as_micro()?)),
        None => (name.to_owned(), value),
    };
    if !ALLOWED.contains(&name.as_str()) {
        return Err(format!("the property {name} of a unit may not be set by an annotation"));
    }
    Ok(Property::new(name, value))
}
