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
            "cgroup": { "v1": true, "v2": true, "systemd": false, "systemdUser": false, "rdma": true },
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
        "knownFlags": [
            "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC",
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
        ],
        "supportedFlags": [
            "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC",
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
        ],
    })
}
