//! The container's control group as a unit of systemd: its name, where it lies, and every property it is started with.
//! Pure: what has to be asked of the manager first is in [`Systemd`]; who talks to it is `runtime_core::cgroup`.
//!
//! The names follow runc's to the letter (`docs/systemd.md` there), since kubelet, Podman and CRI-O compute them too.

mod annotations;
mod properties;
mod value;

use std::borrow::Cow;
use std::path::PathBuf;

use crate::resources::Resources;
use crate::{Host, Refusal};

pub use properties::{as_kept, properties};
pub use value::Value;

const FIELD: &str = "linux.cgroupsPath";
/// systemd's own limit, `UNIT_NAME_MAX`.
const LONGEST_NAME: usize = 255;

/// What the planner must know of the service manager that will own the unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Systemd {
    /// The cgroup below which its slices are: `/`, or that of the user's manager.
    pub cgroup: PathBuf,
    /// Its version, which says what properties it knows.
    pub version: u32,
}

/// The transient unit of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// Its name, `cri-containerd-ID.scope`.
    pub name: String,
    /// What it is started with, in order; only the process that is put into it is missing.
    pub properties: Vec<Property>,
}

/// A property of a unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Property {
    /// Its name on the bus, `MemoryMax`.
    pub name: Cow<'static, str>,
    /// Its value.
    pub value: Value,
}

/// A floating point number may come in by an annotation; it is never NaN.
impl Eq for Property {}

impl Property {
    fn new(name: impl Into<Cow<'static, str>>, value: Value) -> Self {
        Self { name: name.into(), value }
    }
}

/// Which unit a container is, before its limits are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    slice: String,
    name: String,
    /// The unit's cgroup, below the mount point.
    pub(crate) path: PathBuf,
}

/// Reads `slice:prefix:name`. Absent, it is `:tare:<id>`. An empty slice is `system.slice`, or `user.slice` for a user's
/// own manager.
pub(crate) fn place(listed: Option<&str>, id: &str, host: &Host, manager: &Systemd) -> Result<Place, Refusal> {
    let default = format!(":tare:{id}");
    let text = listed.filter(|text| !text.is_empty()).unwrap_or(&default);
    let parts: Vec<&str> = text.split(':').collect();
    let [slice, prefix, name] = parts[..] else {
        let problem = format!(
            "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {text:?} instead"
        );
        return Err(Refusal::new(FIELD, problem));
    };
    if std::path::Path::new(name).extension().is_some_and(|extension| extension == "slice") {
        return Err(Refusal::new(FIELD, format!("{name} is a slice, and a slice holds no process")));
    }
    let slice = match slice {
        "" if rootless(host) => "user.slice",
        "" => "system.slice",
        "-" => "-.slice",
        slice => slice,
    };
    let name = format!("{prefix}-{name}.scope");
    checked(&name)?;
    let mut path = manager.cgroup.clone();
    path.extend(expanded(slice)?.iter().map(|folder| folder_name(folder)));
    path.push(folder_name(&name));
    Ok(Place { slice: slice.to_owned(), name, path })
}

/// Somebody who is not the host's root has a manager of their own.
#[must_use]
pub fn rootless(host: &Host) -> bool {
    host.euid != 0 || host.in_user_namespace
}

/// The whole unit. The annotations come last and win, as with runc.
pub(crate) fn scope(
    place: &Place,
    id: &str,
    resources: &Resources,
    annotations: &[(String, String)],
    version: u32,
) -> Result<Scope, Refusal> {
    let flag = |name, value| Property::new(name, Value::Flag(value));
    let mut all = vec![
        Property::new("Description", Value::Text(format!("tare container {id}"))),
        Property::new("Slice", Value::Text(place.slice.clone())),
        // Below the unit the container may make cgroups, and systemd leaves alone what is written there.
        flag("Delegate", true),
        flag("MemoryAccounting", true),
        flag("CPUAccounting", true),
        flag("IOAccounting", true),
        flag("TasksAccounting", true),
        // Or it would be stopped as one of the first at shutdown, before those who would stop it in order.
        flag("DefaultDependencies", false),
    ];
    all.extend(properties(resources, version));
    all.extend(annotations::properties(annotations)?);
    Ok(Scope { name: place.name.clone(), properties: all })
}

/// The folders of a slice: `a-b.slice` lies in `a.slice`, `-.slice` is the top.
fn expanded(slice: &str) -> Result<Vec<String>, Refusal> {
    let invalid = || Refusal::new(FIELD, format!("invalid slice name: {slice}"));
    checked(slice)?;
    let stem = slice.strip_suffix(".slice").ok_or_else(invalid)?;
    if stem == "-" {
        return Ok(Vec::new());
    }
    let mut prefix = String::new();
    let mut folders = Vec::new();
    for part in stem.split('-') {
        if part.is_empty() {
            return Err(invalid());
        }
        folders.push(format!("{prefix}{part}.slice"));
        prefix = format!("{prefix}{part}-");
    }
    Ok(folders)
}

/// What systemd takes as the name of a unit: nothing in it can lead to another folder.
fn checked(name: &str) -> Result<(), Refusal> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    if name.len() > LONGEST_NAME || !name.bytes().all(known) {
        return Err(Refusal::new(FIELD, format!("{name:?} is not the name of a unit")));
    }
    Ok(())
}

/// The folder of a unit: a name that could be one of the kernel's own files has an underscore put before it.
fn folder_name(unit: &str) -> String {
    const CONTROLLERS: [&str; 12] =
        ["cgroup", "cpu", "cpuacct", "cpuset", "io", "blkio", "memory", "devices", "pids", "hugetlb", "rdma", "misc"];
    let kernels = unit.split_once('.').is_some_and(|(first, _)| CONTROLLERS.contains(&first));
    if kernels || unit.starts_with(['_', '.']) { format!("_{unit}") } else { unit.to_owned() }
}

#[cfg(test)]
mod tests;
