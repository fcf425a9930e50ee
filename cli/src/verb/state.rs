//! `state`: what a container is, as JSON. The keys and their order are runc's, which Podman and containerd read.

use std::collections::BTreeMap;

use runtime_core::{Container, Status};
use serde::Serialize;

use crate::command::{Command, Words, print};
use crate::failure::{Failure, Outcome};
use crate::flags::{Given, Order};
use crate::session::Session;
use crate::time;

pub(crate) const COMMAND: Command = Command {
    name: "state",
    usage: "<container-id>",
    about: "print the state of a container",
    details: "",
    flags: &[],
    order: Order::Anywhere,
    words: Words::Exactly(1),
    run,
};

/// The version of the runtime specification.
const OCI_VERSION: &str = "1.3.0";

/// One container, as `state` and `list` print it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State {
    oci_version: &'static str,
    pub(crate) id: String,
    pub(crate) pid: i32,
    pub(crate) status: &'static str,
    pub(crate) bundle: String,
    rootfs: String,
    pub(crate) created: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    pub(crate) owner: String,
}

impl State {
    /// What is known of a container. The specification has no number for a process that is gone.
    pub(crate) fn of(container: &Container) -> Result<Self, Failure> {
        let status = container.status()?;
        let about = container.about();
        Ok(Self {
            oci_version: OCI_VERSION,
            id: about.id,
            pid: if status == Status::Stopped { 0 } else { about.pid },
            status: status.word(),
            bundle: about.bundle.to_string_lossy().into_owned(),
            rootfs: about.rootfs.to_string_lossy().into_owned(),
            created: time::rfc3339_nano(about.created),
            annotations: about.annotations.into_iter().collect(),
            owner: String::new(),
        })
    }

    /// The same with its owner, whom `list` names and `state` does not.
    pub(crate) fn owned_by(self, owner: String) -> Self {
        Self { owner, ..self }
    }
}

fn run(session: &Session, given: &Given) -> Outcome {
    let state = State::of(&session.store.open(given.id())?)?;
    print(&serde_json::to_string_pretty(&state).map_err(|error| Failure::new(error.to_string()))?);
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_are_runcs() {
        let state = State {
            oci_version: OCI_VERSION,
            id: "c".into(),
            pid: 7,
            status: "running",
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            created: "2025-01-01T00:00:00.5Z".into(),
            annotations: BTreeMap::from([("k".into(), "v".into())]),
            owner: String::new(),
        };
        let expected = "{\"ociVersion\":\"1.3.0\",\"id\":\"c\",\"pid\":7,\"status\":\"running\",\"bundle\":\"/b\",\
                        \"rootfs\":\"/b/rootfs\",\"created\":\"2025-01-01T00:00:00.5Z\",\
                        \"annotations\":{\"k\":\"v\"},\"owner\":\"\"}";
        assert_eq!(serde_json::to_string(&state).unwrap(), expected);
        let plain = State { annotations: BTreeMap::new(), ..state };
        assert!(!serde_json::to_string(&plain).unwrap().contains("annotations"));
    }
}
