//! `spec`: a `config.json` to begin with. Its content is runc's, so that what people know of one holds for the other.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};

use runtime_core::cgroup::CgroupLayout;

use crate::command::{Command, Words};
use crate::failure::{Failure, Outcome};
use crate::flags::{Given, Order, switch, value};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "spec",
    usage: "",
    about: "write a config.json to begin with",
    details: "It describes a container that runs `sh` on a terminal, from the root file system in the folder rootfs.",
    flags: &[&[
        value(&["bundle", "b"], "the folder to write to (default: the current one)"),
        switch(&["rootless"], "for a user who is not root"),
    ]],
    order: Order::Anywhere,
    words: Words::Exactly(0),
    run,
};

const ROOT: &str = include_str!("spec.json");
const ROOTLESS: &str = include_str!("spec_rootless.json");
const NAME: &str = "config.json";

fn run(_: &Session, given: &Given) -> Outcome {
    let folder = given.filled("bundle").unwrap_or(".");
    let path = std::path::Path::new(folder).join(NAME);
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Failure::new(format!("File {NAME} exists. Remove it first")),
        _ => Failure::io(format!("open {}", path.display()), error),
    })?;
    let text = if given.has("rootless") {
        rootless(rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
    } else {
        ROOT.to_owned()
    };
    let text = match runtime_core::cgroup::layout() {
        Ok(CgroupLayout::Unified { .. }) => with_cgroup_namespace(&text),
        _ => text,
    };
    let written = file.write_all(text.trim_end().as_bytes());
    written.map(|()| 0).map_err(|error| Failure::io(format!("write {}", path.display()), error))
}

/// The caller is root inside.
fn rootless(uid: u32, gid: u32) -> String {
    ROOTLESS.replacen("\"hostID\": 0", &format!("\"hostID\": {uid}"), 1).replacen(
        "\"hostID\": 0",
        &format!("\"hostID\": {gid}"),
        1,
    )
}

/// On cgroup version 2 a container sees its own cgroup as the top.
fn with_cgroup_namespace(text: &str) -> String {
    const MOUNT: &str = "\t\t\t{\n\t\t\t\t\"type\": \"mount\"\n\t\t\t}";
    text.replacen(MOUNT, &format!("{MOUNT},\n{}", MOUNT.replace("mount", "cgroup")), 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime_core::oci;

    #[test]
    fn both_are_specifications() {
        let spec: oci::Spec = serde_json::from_str(ROOT).unwrap();
        assert_eq!(spec.process().as_ref().unwrap().terminal(), Some(true));
        let spec: oci::Spec = serde_json::from_str(&rootless(1000, 1001)).unwrap();
        let linux = spec.linux().clone().unwrap();
        assert_eq!(linux.uid_mappings().as_ref().unwrap()[0].host_id(), 1000);
        assert_eq!(linux.gid_mappings().as_ref().unwrap()[0].host_id(), 1001);
        assert!(linux.resources().is_none());
    }

    #[test]
    fn a_cgroup_namespace_is_added_beside_the_mount_namespace() {
        for text in [ROOT.to_owned(), rootless(1000, 1000)] {
            let kinds = |text: &str| {
                let spec: serde_json::Value = serde_json::from_str(text).unwrap();
                let all = spec["linux"]["namespaces"].as_array().unwrap().clone();
                all.iter().map(|one| one["type"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
            };
            let mut expected = kinds(&text);
            let mount = expected.iter().position(|kind| kind == "mount").unwrap();
            expected.insert(mount + 1, "cgroup".to_owned());
            assert_eq!(kinds(&with_cgroup_namespace(&text)), expected);
        }
    }
}
