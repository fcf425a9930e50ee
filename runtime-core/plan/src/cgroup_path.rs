//! `linux.cgroupsPath`: where the container's control group is, below each hierarchy's mount point.

use std::path::{Component, Path, PathBuf};

use crate::inside_path::c_string;
use crate::{Choices, Refusal};

/// An absolute path is taken as it is; a relative one, which the specification leaves to the runtime, is below the
/// default parent, in every hierarchy alike; without one it is `<default parent>/<id>`.
///
/// SECURITY: `..` is refused and not cleaned away: whoever writes it wants out of somewhere.
pub(crate) fn plan(listed: Option<&Path>, choices: &Choices) -> Result<PathBuf, Refusal> {
    let listed = listed.filter(|path| !path.as_os_str().is_empty());
    let raw = choices.default_cgroup_parent.join(listed.unwrap_or(Path::new(&choices.id)));
    let field = "linux.cgroupsPath";
    c_string(field, raw.as_os_str().as_encoded_bytes())?;
    let mut path = PathBuf::from("/");
    for component in raw.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => path.push(name),
            Component::ParentDir | Component::Prefix(_) => return Err(Refusal::new(field, "contains ..")),
        }
    }
    if path == Path::new("/") {
        return Err(Refusal::new(field, "is the root of the hierarchy"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_stays_below_the_hierarchy() {
        let choices = Choices {
            id: "c1".to_owned(),
            bundle: PathBuf::from("/b"),
            default_cgroup_parent: PathBuf::from("/tare"),
            systemd: None,
        };
        let table = [
            (None, Some("/tare/c1")),
            (Some(""), Some("/tare/c1")),
            (Some("/k8s.io/x"), Some("/k8s.io/x")),
            (Some("/k8s.io//./x/"), Some("/k8s.io/x")),
            (Some("pods/x"), Some("/tare/pods/x")),
            (Some("system.slice:docker:1"), Some("/tare/system.slice:docker:1")),
            (Some("../x"), None),
            (Some("/a/../b"), None),
            (Some("/"), None),
            (Some("/a\0b"), None),
        ];
        for (listed, expected) in table {
            let planned = plan(listed.map(Path::new), &choices);
            assert_eq!(planned.ok().as_deref(), expected.map(Path::new), "{listed:?}");
        }
    }
}
