//! `process.capabilities` as bit masks, cut to what the running kernel knows.

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};

use crate::{CapabilitySets, Host, Refusal};

/// The sets exactly as the specification has them; a process without `capabilities` has none.
///
/// The kernel refuses an effective capability that is not permitted, so that is refused here. An ambient one it keeps
/// only while it is both permitted and inheritable; others are left out, as with runc, whose own `runc spec` names some
/// that are not inheritable since CVE-2022-29162.
pub(crate) fn plan(field: &str, listed: Option<&LinuxCapabilities>, host: &Host) -> Result<CapabilitySets, Refusal> {
    let Some(listed) = listed else { return Ok(CapabilitySets::default()) };
    let known = u64::MAX >> (63 - host.last_capability.min(63));
    let mask = |set: &Option<Capabilities>| {
        set.iter().flatten().fold(0, |mask, capability| mask | 1 << number(*capability)) & known
    };
    let (permitted, inheritable) = (mask(listed.permitted()), mask(listed.inheritable()));
    let sets = CapabilitySets {
        bounding: mask(listed.bounding()),
        effective: mask(listed.effective()),
        permitted,
        inheritable,
        ambient: mask(listed.ambient()) & permitted & inheritable,
    };
    if sets.effective & !sets.permitted != 0 {
        return Err(Refusal::new(format!("{field}.effective"), "holds a capability that is not in permitted"));
    }
    Ok(sets)
}

/// The names of a mask's capabilities, in the kernel's order; a bit without a name is passed over.
pub(crate) fn names(mask: u64) -> impl Iterator<Item = &'static str> {
    NAMES.iter().zip(0_u32..).filter(move |(_, bit)| mask & (1 << bit) != 0).map(|(name, _)| *name)
}

/// The names of all capabilities up to number `last`, as specifications write them: `CAP_CHOWN`.
#[must_use]
pub fn capability_names(last: u8) -> Vec<String> {
    NAMES.iter().take(usize::from(last) + 1).map(|name| format!("CAP_{}", name.to_uppercase())).collect()
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

    #[test]
    fn ambient_is_within_permitted_and_inheritable_and_all_within_the_kernel() {
        let listed = r#"{"permitted":["CAP_CHOWN","CAP_KILL","CAP_BPF"],"inheritable":["CAP_KILL"],
            "effective":["CAP_BPF"],"ambient":["CAP_CHOWN","CAP_KILL"]}"#;
        let host = |last_capability| Host {
            cgroups: crate::CgroupLayout::Legacy { hierarchies: Vec::new(), unified: None },
            last_capability,
            euid: 0,
            egid: 0,
            setgroups_denied: false,
            apparmor: false,
            selinux: false,
            in_user_namespace: false,
        };
        let listed: LinuxCapabilities = serde_json::from_str(listed).unwrap();
        let sets = plan("f", Some(&listed), &host(40)).unwrap();
        let expected = CapabilitySets {
            bounding: 0,
            effective: 1 << 39,
            permitted: 1 << 39 | 0x21,
            inheritable: 0x20,
            ambient: 0x20,
        };
        assert_eq!(sets, expected);
        let sets = plan("f", Some(&listed), &host(37)).unwrap();
        assert_eq!(sets, CapabilitySets { effective: 0, permitted: 0x21, ..expected });
        assert_eq!(plan("f", None, &host(63)).unwrap(), CapabilitySets::default());
    }

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
