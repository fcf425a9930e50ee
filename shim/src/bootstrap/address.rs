//! Where a shim listens: a name made of what it serves, so that everyone who starts a container of one pod finds one
//! shim. Pure but for reading the bundle's annotations.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest, Sha256};

/// Where sockets are made unless containerd chooses: short, for a socket's path has 107 bytes.
pub(crate) const DIRECTORY: &str = "/run/containerd/s";

/// The annotations that put containers under one shim, the first that is there counts.
const GROUPING: [&str; 2] = ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"];

/// The group of the container in `bundle`: its pod, or itself when nothing says otherwise.
#[must_use]
pub(crate) fn group(bundle: &Path, id: &str) -> String {
    /// As much of `config.json` as matters here.
    #[derive(Deserialize)]
    struct Annotated {
        #[serde(default)]
        annotations: HashMap<String, String>,
    }
    // A bundle without a readable config.json is refused by Create, with the reason; here it is only not grouped.
    let text = std::fs::read(bundle.join("config.json")).unwrap_or_default();
    let Ok(mut spec) = serde_json::from_slice::<Annotated>(&text) else { return id.to_owned() };
    GROUPING.iter().find_map(|key| spec.annotations.remove(*key)).unwrap_or_else(|| id.to_owned())
}

/// The socket's path: the SHA-256 of containerd's address, the namespace and the group, as the Go shim names it.
#[must_use]
pub(crate) fn socket(directory: &str, grpc: &str, namespace: &str, group: &str) -> String {
    let name: String =
        Sha256::digest(joined(&[grpc, namespace, group])).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}/{name}", directory.trim_end_matches('/'))
}

/// Go's `path.Join`: empty parts left out, `.` and `..` resolved by the text alone.
fn joined(parts: &[&str]) -> String {
    let whole = parts.iter().copied().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
    let absolute = whole.starts_with('/');
    let mut clean: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." if clean.last().is_some_and(|last| *last != "..") => {
                clean.pop();
            }
            ".." if absolute => {}
            part => clean.push(part),
        }
    }
    format!("{}{}", if absolute { "/" } else { "" }, clean.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_joined_as_go_does() {
        for (parts, expected) in [
            (["/run/c.sock", "ns", "id"], "/run/c.sock/ns/id"),
            (["", "default", "id"], "default/id"),
            (["/run//x/", "ns", "../id"], "/run/x/id"),
            (["/", "..", "id"], "/id"),
        ] {
            assert_eq!(joined(&parts), expected);
        }
    }

    #[test]
    fn the_name_is_the_digest() {
        // printf %s /run/containerd/containerd.sock/default/c1 | sha256sum
        let expected = "/run/containerd/s/d25aa4ef11a84e954e74a5bcff06557d0b6ea8d0c00243896f29826694bbd888";
        let socket = socket(DIRECTORY, "/run/containerd/containerd.sock", "default", "c1");
        assert_eq!(socket, expected);
    }

    #[test]
    fn a_pod_has_one_group() {
        let bundle = tempfile::tempdir().unwrap();
        let write = |text: &str| std::fs::write(bundle.path().join("config.json"), text).unwrap();
        assert_eq!(group(bundle.path(), "c1"), "c1");
        write(r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"pod"}}"#);
        assert_eq!(group(bundle.path(), "c1"), "pod");
        write(r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"pod","io.containerd.runc.v2.group":"g"}}"#);
        assert_eq!(group(bundle.path(), "c1"), "g");
        write("not json");
        assert_eq!(group(bundle.path(), "c1"), "c1");
    }
}
