//! What this runtime can do, as runtime-spec's features structure says it (features.md, features-linux.md). Clients
//! decide by it what to ask for, so that it claims nothing that create would refuse.

use serde_json::{Value, json};

use crate::{Error, host};

/// The features structure.
///
/// # Errors
/// This machine cannot be read.
pub fn features() -> Result<Value, Error> {
    let host = host::host()?;
    Ok(json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.3.0",
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": tare_plan::mount_options(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": tare_plan::capability_names(host.last_capability),
            "cgroup": { "v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true },
            "seccomp": seccomp(),
            "apparmor": { "enabled": true },
            "selinux": { "enabled": true },
            "intelRdt": { "enabled": true, "schemata": true, "monitoring": true },
            "mountExtensions": { "idmap": { "enabled": true } },
            "memoryPolicy": { "modes": tare_plan::memory_policy_modes(), "flags": tare_plan::memory_policy_flags() },
            "netDevices": { "enabled": true },
        },
        "annotations": {
            "org.tare.version": env!("CARGO_PKG_VERSION"),
            // What dockerd and Podman ask for, whoever the runtime is.
            "org.opencontainers.runc.checkpoint.enabled": crate::criu::is_installed().to_string(),
        },
        "potentiallyUnsafeConfigAnnotations": ["org.criu.config"],
    }))
}

const SECCOMP_FLAGS: [&str; 4] = [
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

/// The others are older than the oldest kernel that tare runs on.
fn is_supported(flag: &str) -> bool {
    flag != "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" || crate::sys::seccomp::knows_wait_killable_recv()
}

fn seccomp() -> Value {
    json!({
        "enabled": true,
        "actions": [
            "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD",
            "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP",
        ],
        "operators": [
            "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ",
            "SCMP_CMP_NE",
        ],
        "archs": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"],
        "knownFlags": SECCOMP_FLAGS,
        "supportedFlags": SECCOMP_FLAGS.iter().filter(|flag| is_supported(flag)).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::features;
    use crate::oci;

    /// Each name of the list at `pointer` is one that a specification may have.
    fn readable<T: DeserializeOwned>(features: &Value, pointer: &str) {
        let names = features.pointer(pointer).unwrap().as_array().unwrap();
        assert!(!names.is_empty(), "{pointer}");
        for name in names {
            assert!(serde_json::from_value::<T>(name.clone()).is_ok(), "{pointer}: {name}");
        }
    }

    #[test]
    fn what_is_claimed_has_the_shape_of_the_specification() {
        let features = features().unwrap();
        serde_json::from_value::<oci::Features>(features.clone()).unwrap();
        readable::<oci::LinuxNamespaceType>(&features, "/linux/namespaces");
        readable::<oci::Capability>(&features, "/linux/capabilities");
        readable::<oci::LinuxSeccompOperator>(&features, "/linux/seccomp/operators");
        readable::<oci::LinuxSeccompFilterFlag>(&features, "/linux/seccomp/supportedFlags");
        readable::<oci::MemoryPolicyModeType>(&features, "/linux/memoryPolicy/modes");
        readable::<oci::MemoryPolicyFlagType>(&features, "/linux/memoryPolicy/flags");
    }

    #[test]
    fn what_is_claimed_of_filters_is_planned() {
        let features = features().unwrap();
        let names = |pointer: &str| features.pointer(pointer).unwrap().as_array().unwrap().clone();
        let planned = |profile: Value| {
            let profile = serde_json::from_value(profile).unwrap();
            tare_plan::seccomp::plan(&profile).map(drop).map_err(|refusal| refusal.to_string())
        };
        for arch in names("/linux/seccomp/archs") {
            let profile = json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": [arch] });
            assert_eq!(planned(profile), Ok(()), "{arch}");
        }
        for action in names("/linux/seccomp/actions") {
            let rule = json!({ "names": ["mkdir"], "action": action });
            let profile = json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/s", "syscalls": [rule] });
            assert_eq!(planned(profile), Ok(()), "{action}");
        }
    }
}
