//! A whole container: each concern's planner called once, in an order in which each finds what it needs.

use oci_spec::runtime::{Linux, LinuxPersonalityDomain, LinuxResources, Spec};

use crate::inside_path::{absolute_inside, c_string, host_path};
use crate::mounts::Surroundings;
use crate::namespaces::Kind;
use crate::process::{Module, label};
use crate::resources::{self, Resources};
use crate::{
    Cgroup, Choices, Host, InsidePath, Namespaces, Plan, Process, Propagation, Refusal, Rootfs, cgroup_path, devices,
    hooks, intel_rdt, memory_policy, mounts, net_devices, process, seccomp, sysctl, systemd,
};

/// Plans the container that `spec` describes, on `host`.
///
/// # Errors
/// The first thing in `spec` that cannot be honoured, by its field.
pub fn container(spec: &Spec, choices: &Choices, host: &Host) -> Result<Plan, Refusal> {
    let namespaces = namespaces(spec, host)?;
    let linux = linux(spec)?;
    let listed = linux.cgroups_path().as_deref();
    let unit = choices.systemd.as_ref().map(|manager| place(listed, choices, host, manager)).transpose()?;
    let path = match &unit {
        Some(unit) => unit.path.clone(),
        None => cgroup_path::plan(listed, choices)?,
    };
    let (limits, annotations) = (limits(linux, host)?, annotations(spec)?);
    let scope = unit.zip(choices.systemd.as_ref());
    let limits = if scope.is_some() { systemd::as_kept(&limits) } else { limits };
    let scope = scope.map(|(unit, manager)| systemd::scope(&unit, &choices.id, &limits, &annotations, manager.version));
    let mount_label = label("linux.mountLabel", linux.mount_label(), Module::SeLinux, host)?;
    let rootfs = rootfs(spec, linux, choices)?;
    let around = Surroundings {
        bundle: &choices.bundle,
        rootfs: &rootfs.path,
        namespaces: &namespaces,
        host,
        cgroup: &path,
        label: mount_label.as_deref(),
    };
    let mounted = mounts::plan(spec.mounts().as_deref().unwrap_or_default(), around)?;
    let dev = devices::plan(linux.devices().as_deref().unwrap_or_default(), &mounted.mounts, &namespaces, host)?;
    let domainname = text(spec.domainname());
    let first = spec.process().as_ref().ok_or_else(|| Refusal::new("process", "is missing"))?;
    Ok(Plan {
        rootfs,
        mounts: mounted.mounts,
        devices: dev.devices,
        device_source: dev.source,
        symlinks: [dev.symlinks, mounted.symlinks].concat(),
        masked: paths("linux.maskedPaths", linux.masked_paths().as_deref())?,
        readonly: paths("linux.readonlyPaths", linux.readonly_paths().as_deref())?,
        sysctl: sysctl::plan(linux.sysctl().as_ref(), domainname, &namespaces)?,
        hostname: uts_name("hostname", text(spec.hostname()), &namespaces)?,
        domainname: uts_name("domainname", domainname, &namespaces)?,
        personality: personality(linux)?,
        intel_rdt: linux.intel_rdt().as_ref().map(intel_rdt::plan).transpose()?,
        net_devices: net_devices::plan(linux.net_devices().as_ref(), &namespaces, host)?,
        memory_policy: linux.memory_policy().as_ref().map(memory_policy::plan).transpose()?,
        cgroup: Cgroup { path, resources: limits, scope: scope.transpose()? },
        seccomp: linux.seccomp().as_ref().map(seccomp::plan).transpose()?,
        // execCPUAffinity is, as its name says, for those that join.
        process: Process {
            initial_affinity: Vec::new(),
            affinity: Vec::new(),
            ..process(first, "process", namespaces.groups(host), host)?
        },
        hooks: hooks::plan(spec.hooks().as_ref())?,
        mount_label,
        annotations,
        namespaces,
    })
}

/// Plans its namespaces alone: making them takes longest, and can begin before the rest is decided.
///
/// # Errors
/// As [`container()`].
pub fn namespaces(spec: &Spec, host: &Host) -> Result<Namespaces, Refusal> {
    version(spec.version())?;
    crate::namespaces::plan(linux(spec)?, host)
}

fn linux(spec: &Spec) -> Result<&Linux, Refusal> {
    spec.linux().as_ref().ok_or_else(|| Refusal::new("linux", "is missing"))
}

fn place(
    listed: Option<&std::path::Path>,
    choices: &Choices,
    host: &Host,
    manager: &systemd::Systemd,
) -> Result<systemd::Place, Refusal> {
    let listed = listed.map(|path| path.to_str().ok_or_else(|| Refusal::new("linux.cgroupsPath", "is not UTF-8")));
    systemd::place(listed.transpose()?, &choices.id, host, manager)
}

/// Every 1.x is understood: what a later one adds and is not known here is optional by the specification's own rule.
fn version(version: &str) -> Result<(), Refusal> {
    if version.split('.').next() == Some("1") {
        return Ok(());
    }
    Err(Refusal::new("ociVersion", format!("{version:?} is not a version 1 of the specification")))
}

/// A container without limits still has the device rules that every container has.
fn limits(linux: &Linux, host: &Host) -> Result<Resources, Refusal> {
    match linux.resources() {
        Some(listed) => resources::plan(listed, host),
        None => resources::plan(&LinuxResources::default(), host),
    }
}

fn rootfs(spec: &Spec, linux: &Linux, choices: &Choices) -> Result<Rootfs, Refusal> {
    let root = spec.root().as_ref().ok_or_else(|| Refusal::new("root", "is missing"))?;
    Ok(Rootfs {
        path: host_path("root.path", &choices.bundle, root.path())?,
        readonly: root.readonly().unwrap_or(false),
        propagation: propagation(text(linux.rootfs_propagation()))?,
    })
}

/// The recursive words mean the same here: the change always reaches the whole tree.
fn propagation(word: Option<&str>) -> Result<Option<Propagation>, Refusal> {
    Ok(Some(match word {
        None => return Ok(None),
        Some("private" | "rprivate") => Propagation::Private,
        Some("slave" | "rslave") => Propagation::Slave,
        Some("shared" | "rshared") => Propagation::Shared,
        Some("unbindable" | "runbindable") => Propagation::Unbindable,
        Some(other) => {
            return Err(Refusal::new("linux.rootfsPropagation", format!("{other:?} is not a propagation")));
        }
    }))
}

fn paths(field: &str, listed: Option<&[String]>) -> Result<Vec<InsidePath>, Refusal> {
    let one = |(index, path): (usize, &String)| absolute_inside(&format!("{field}[{index}]"), path.as_ref());
    listed.unwrap_or_default().iter().enumerate().map(one).collect()
}

/// An empty text is as good as none: that is how Go writes "unset".
fn text(field: &Option<String>) -> Option<&str> {
    field.as_deref().filter(|text| !text.is_empty())
}

/// `sethostname(2)` and `setdomainname(2)` take 64 bytes.
fn uts_name(field: &str, name: Option<&str>, namespaces: &Namespaces) -> Result<Option<std::ffi::CString>, Refusal> {
    match name {
        None => Ok(None),
        Some(_) if !namespaces.has(Kind::Uts) => {
            Err(Refusal::new(field, "needs a UTS namespace apart from the host's"))
        }
        Some(name) if name.len() > 64 => Err(Refusal::new(field, "is longer than 64 bytes")),
        Some(name) => c_string(field, name).map(Some),
    }
}

fn personality(linux: &Linux) -> Result<Option<u32>, Refusal> {
    let Some(personality) = linux.personality() else { return Ok(None) };
    if personality.flags().as_ref().is_some_and(|flags| !flags.is_empty()) {
        return Err(Refusal::new("linux.personality.flags", "no flag is supported"));
    }
    Ok(Some(match personality.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    }))
}

/// In the order of their keys, so that equal specifications give equal plans.
fn annotations(spec: &Spec) -> Result<Vec<(String, String)>, Refusal> {
    let mut sorted: Vec<(String, String)> =
        spec.annotations().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    if sorted.iter().any(|(key, _)| key.is_empty()) {
        return Err(Refusal::new("annotations", "a key is empty"));
    }
    sorted.sort();
    Ok(sorted)
}
