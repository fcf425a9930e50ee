//! `linux.memoryPolicy`: the NUMA policy of every process of the container, as set_mempolicy(2) takes it. What a mode
//! and its nodes mean together is the kernel's to judge; what it would silently read otherwise is refused here.

use oci_spec::runtime::{LinuxMemoryPolicy, MemoryPolicyFlagType, MemoryPolicyModeType};

use crate::{MemoryPolicy, Refusal, scheduling};

const FIELD: &str = "linux.memoryPolicy";
/// The kernel's largest CONFIG_NODES_SHIFT is 10.
const MAX_NODES: usize = 1024;

/// The names of `features`, in the order of the specification.
const MODES: [(MemoryPolicyModeType, u32, &str); 7] = [
    (MemoryPolicyModeType::MpolDefault, 0, "MPOL_DEFAULT"),
    (MemoryPolicyModeType::MpolBind, 2, "MPOL_BIND"),
    (MemoryPolicyModeType::MpolInterleave, 3, "MPOL_INTERLEAVE"),
    (MemoryPolicyModeType::MpolWeightedInterleave, 6, "MPOL_WEIGHTED_INTERLEAVE"),
    (MemoryPolicyModeType::MpolPreferred, 1, "MPOL_PREFERRED"),
    (MemoryPolicyModeType::MpolPreferredMany, 5, "MPOL_PREFERRED_MANY"),
    (MemoryPolicyModeType::MpolLocal, 4, "MPOL_LOCAL"),
];

const FLAGS: [(MemoryPolicyFlagType, u32, &str); 3] = [
    (MemoryPolicyFlagType::MpolFNumaBalancing, 1 << 13, "MPOL_F_NUMA_BALANCING"),
    (MemoryPolicyFlagType::MpolFRelativeNodes, 1 << 14, "MPOL_F_RELATIVE_NODES"),
    (MemoryPolicyFlagType::MpolFStaticNodes, 1 << 15, "MPOL_F_STATIC_NODES"),
];

/// The modes that take no nodes.
const WITHOUT_NODES: [MemoryPolicyModeType; 2] = [MemoryPolicyModeType::MpolDefault, MemoryPolicyModeType::MpolLocal];

/// The modes that [`plan`] knows, by name.
#[must_use]
pub fn memory_policy_modes() -> Vec<&'static str> {
    MODES.iter().map(|(.., name)| *name).collect()
}

/// The flags that [`plan`] knows, by name.
#[must_use]
pub fn memory_policy_flags() -> Vec<&'static str> {
    FLAGS.iter().map(|(.., name)| *name).collect()
}

pub(crate) fn plan(listed: &LinuxMemoryPolicy) -> Result<MemoryPolicy, Refusal> {
    let nodes = scheduling::list_mask(listed.nodes().as_deref().unwrap_or_default(), MAX_NODES)
        .map_err(|part| Refusal::new(format!("{FIELD}.nodes"), format!("{part:?} is not a range of memory nodes")))?;
    let mode = listed.mode();
    if WITHOUT_NODES.contains(&mode) != nodes.is_empty() && mode != MemoryPolicyModeType::MpolPreferred {
        let problem = if nodes.is_empty() { "needs nodes" } else { "takes no nodes" };
        return Err(Refusal::new(format!("{FIELD}.nodes"), format!("{mode} {problem}")));
    }
    let number = MODES.iter().find(|(known, ..)| *known == mode).map_or(0, |(_, number, _)| *number);
    let bit =
        |flag: &MemoryPolicyFlagType| FLAGS.iter().find(|(known, ..)| known == flag).map_or(0, |(_, bit, _)| *bit);
    let flags = listed.flags().iter().flatten().fold(0, |bits, flag| bits | bit(flag));
    Ok(MemoryPolicy { mode: number | flags, nodes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(u32, &[u64])>) {
        let listed: LinuxMemoryPolicy = serde_json::from_str(text).unwrap();
        let planned = plan(&listed).ok();
        assert_eq!(planned.as_ref().map(|policy| (policy.mode, policy.nodes.as_slice())), expected, "{text}");
    }

    #[test]
    fn a_policy_is_a_mode_with_flags_and_nodes() {
        check(r#"{"mode":"MPOL_DEFAULT"}"#, Some((0, &[])));
        check(r#"{"mode":"MPOL_LOCAL","nodes":""}"#, Some((4, &[])));
        check(r#"{"mode":"MPOL_PREFERRED"}"#, Some((1, &[])));
        check(r#"{"mode":"MPOL_PREFERRED","nodes":"64"}"#, Some((1, &[0, 1])));
        check(r#"{"mode":"MPOL_BIND","nodes":"0-1,3"}"#, Some((2, &[0b1011])));
        check(
            r#"{"mode":"MPOL_BIND","nodes":"0","flags":["MPOL_F_STATIC_NODES","MPOL_F_NUMA_BALANCING"]}"#,
            Some((2 | 1 << 15 | 1 << 13, &[1])),
        );
        check(
            r#"{"mode":"MPOL_WEIGHTED_INTERLEAVE","nodes":"0","flags":["MPOL_F_RELATIVE_NODES"]}"#,
            Some((6 | 1 << 14, &[1])),
        );
        check(r#"{"mode":"MPOL_PREFERRED_MANY","nodes":"0"}"#, Some((5, &[1])));
        for refused in [
            r#"{"mode":"MPOL_BIND"}"#,
            r#"{"mode":"MPOL_DEFAULT","nodes":"0"}"#,
            r#"{"mode":"MPOL_LOCAL","nodes":"0"}"#,
            r#"{"mode":"MPOL_INTERLEAVE","nodes":"0-"}"#,
            r#"{"mode":"MPOL_INTERLEAVE","nodes":"1024"}"#,
            r#"{"mode":"MPOL_INTERLEAVE","nodes":"a"}"#,
        ] {
            check(refused, None);
        }
    }

    #[test]
    fn words_that_nobody_knows_are_refused() {
        for text in [r#"{"mode":"MPOL_X"}"#, r#"{"nodes":"0"}"#, r#"{"mode":"MPOL_BIND","flags":["MPOL_F_X"]}"#] {
            assert!(serde_json::from_str::<LinuxMemoryPolicy>(text).is_err(), "{text}");
        }
        assert_eq!((memory_policy_modes().len(), memory_policy_flags().len()), (7, 3));
    }
}
