//! `-info`: what this runtime is and can do, asked by containerd once for each daemon and before idmapped mounts.

use std::io::Write;

use protos::protobuf::well_known_types::any::Any;
use protos::protobuf::{Message, MessageField};
use protos::types::introspection::{RuntimeInfo, RuntimeVersion};

/// Which source this was built from; packagers set it.
pub(crate) const REVISION: &str = match option_env!("TARE_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// The type of the features, whose value is JSON.
const FEATURES: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

/// Prints the answer. Options on standard input would change nothing, and are not read.
///
/// # Errors
/// It cannot be written.
pub(crate) fn answer() -> Result<(), String> {
    let version = RuntimeVersion {
        version: env!("CARGO_PKG_VERSION").into(),
        revision: REVISION.into(),
        ..RuntimeVersion::new()
    };
    let features = Any { type_url: FEATURES.into(), value: features().to_string().into_bytes(), ..Any::new() };
    let info = RuntimeInfo {
        name: "io.containerd.tare.v2".into(),
        version: MessageField::some(version),
        features: MessageField::some(features),
        ..RuntimeInfo::new()
    };
    let bytes = info.write_to_bytes().map_err(|error| error.to_string())?;
    std::io::stdout().write_all(&bytes).map_err(|error| format!("write the answer: {error}"))
}

/// What the core does, in the form of the runtime specification's `features`. What is not done is said to be disabled,
/// so that containerd refuses it before a container is half-made.
fn features() -> serde_json::Value {
    let enabled = |enabled: bool| serde_json::json!({ "enabled": enabled });
    serde_json::json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.3.0",
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": runtime_core::mount_options(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "cgroup": { "v1": true, "v2": true, "systemd": false, "systemdUser": false, "rdma": true },
            "seccomp": { "enabled": true },
            "apparmor": enabled(true),
            "selinux": enabled(true),
            "intelRdt": enabled(false),
            "mountExtensions": { "idmap": enabled(false) },
            "netDevices": enabled(false),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_features_are_those_of_the_core() {
        let features = features();
        let options = features["mountOptions"].as_array().unwrap();
        for option in ["bind", "ro", "rro", "rprivate", "tmpcopyup"] {
            assert!(options.iter().any(|known| known == option), "{option}");
        }
        assert_eq!(features["linux"]["mountExtensions"]["idmap"]["enabled"], false);
    }
}
