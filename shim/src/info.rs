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
    let features = runtime_core::features().map_err(|error| error.to_string())?.to_string();
    let features = Any { type_url: FEATURES.into(), value: features.into_bytes(), ..Any::new() };
    let info = RuntimeInfo {
        name: "io.containerd.tare.v2".into(),
        version: MessageField::some(version),
        features: MessageField::some(features),
        ..RuntimeInfo::new()
    };
    let bytes = info.write_to_bytes().map_err(|error| error.to_string())?;
    std::io::stdout().write_all(&bytes).map_err(|error| format!("write the answer: {error}"))
}
