//! `process.capabilities` as bit masks, cut to what the running kernel knows.

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};

use crate::{CapabilitySets, Host, Refusal};

/// The sets exactly as the specification has them; a process without `capabilities` has none.
///
/// What the kernel would refuse half-way is refused here: an effective capability that is not permitted, an ambient one
/// that is not both permitted and inheritable (runc passes over the second with a warning, crun fails).
pub(crate) fn plan(field: &str, listed: Option<&LinuxCapabilities>, host: &Host) -> Result<CapabilitySets, Refusal> {
    let Some(listed) = listed else { return Ok(CapabilitySets::default()) };
    let known = u64::MAX >> (63 - host.last_capability.min(63));
    let mask = |set: &Option<Capabilities>| {
        set.iter().flatten().fold(0, |mask, capability| mask | 1 << number(*capability)) & known
    };
    let sets = CapabilitySets {
        bounding: mask(listed.bounding()),
        effective: mask(listed.effective()),
        permitted: mask(listed.permitted()),
        inheritable: mask(listed.inheritable()),
        ambient: mask(listed.ambient()),
    };
    if sets.effective & !sets.permitted != 0 {
        return Err(Refusal::new(format!("{field}.effective"), "holds a capability that is not in permitted"));
    }
    if sets.ambient & !(sets.permitted & sets.inheritable) != 0 {
        return Err(Refusal::new(
            format!("{field}.ambient"),
            "holds a capability that is not in both permitted and inheritable",
        ));
    }
    Ok(sets)
}

/// The names of a mask's capabilities, in the kernel's order; a bit without a name is passed over.
pub(crate) fn names(mask: u64) -> impl Iterator<Item = &'static str> {
    NAMES.iter().zip(0_u32..).filter(move |(_, bit)| mask & (1 << bit) != 0).map(|(name, _)| *name)
}

/// The names by number, from linux/capability.h.
const NAMES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// The number of a capability.
fn number(capability: Capability) -> u32 {
    let name = capability.to_string().to_lowercase();
    NAMES.iter().zip(0..).find(|(known, _)| **known == name).map_or(63, |(_, number)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each known name, as `config.json` spells it, is the bit of its place in the kernel's list.
    #[test]
    fn every_capability_has_its_bit() {
        for (name, bit) in NAMES.iter().zip(0..) {
            let text = format!("\"CAP_{}\"", name.to_uppercase());
            let capability: Capability = serde_json::from_str(&text).unwrap();
            assert_eq!(number(capability), bit, "{text}");
            assert_eq!(names(1 << bit).collect::<Vec<_>>(), [*name]);
        }
    }
}
