//! Device nodes and the links in /dev: the defaults of the specification, and `linux.devices`.

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};

use crate::inside_path::{absolute_inside, inside};
use crate::namespaces::Kind;
use crate::{Device, DeviceSource, Host, InsidePath, Mount, Namespaces, Refusal, Symlink, Tree};

const CHARACTER: u32 = 0o020_000;
const BLOCK: u32 = 0o060_000;
const FIFO: u32 = 0o010_000;
/// `(uid_t)-1`: "unchanged" to chown(2), so nobody's id.
const NO_ID: u32 = u32::MAX;

/// The devices every container has, by major and minor number; each is readable and writable for all.
const DEFAULTS: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// The links every container has. Where the kernel has no /proc/kcore, `/dev/core` leads nowhere.
const LINKS: [(&str, &std::ffi::CStr); 5] = [
    ("/dev/fd", c"/proc/self/fd"),
    ("/dev/stdin", c"/proc/self/fd/0"),
    ("/dev/stdout", c"/proc/self/fd/1"),
    ("/dev/stderr", c"/proc/self/fd/2"),
    ("/dev/core", c"/proc/kcore"),
];

/// What /dev holds.
#[derive(Debug)]
pub(crate) struct Dev {
    pub(crate) devices: Vec<Device>,
    pub(crate) source: DeviceSource,
    pub(crate) symlinks: Vec<Symlink>,
}

/// The nodes and links to make. When /dev is a bind of the host's nothing is made in it, `linux.devices` neither: the
/// host's /dev would be changed.
pub(crate) fn plan(
    listed: &[LinuxDevice],
    mounts: &[Mount],
    namespaces: &Namespaces,
    host: &Host,
) -> Result<Dev, Refusal> {
    let bound = namespaces.has(Kind::User) || host.in_user_namespace;
    let source = if bound { DeviceSource::BindFromHost } else { DeviceSource::Mknod };
    let asked = asked(listed)?;
    if mounts
        .iter()
        .any(|mount| mount.target.as_bytes() == b"/dev" && matches!(mount.tree, Tree::Bind { .. } | Tree::Inner { .. }))
    {
        return Ok(Dev { devices: Vec::new(), source, symlinks: Vec::new() });
    }
    let mut devices = defaults()?;
    devices.retain(|default| asked.iter().all(|device| device.path != default.path));
    // /dev/ptmx is always the container's own devpts.
    devices.extend(asked.into_iter().filter(|device| device.path.as_bytes() != b"/dev/ptmx"));
    Ok(Dev { devices, source, symlinks: links()? })
}

fn defaults() -> Result<Vec<Device>, Refusal> {
    let node = |(path, major, minor): (&str, u32, u32)| {
        Ok(Device { path: known(path)?, mode: CHARACTER | 0o666, major, minor, uid: 0, gid: 0 })
    };
    DEFAULTS.into_iter().map(node).collect()
}

fn links() -> Result<Vec<Symlink>, Refusal> {
    let ptmx = Symlink { path: known("/dev/ptmx")?, target: c"pts/ptmx".to_owned(), replace: true };
    let link = |(path, target): (&str, &std::ffi::CStr)| {
        Ok(Symlink { path: known(path)?, target: target.to_owned(), replace: false })
    };
    std::iter::once(Ok(ptmx)).chain(LINKS.into_iter().map(link)).collect()
}

fn known(path: &str) -> Result<InsidePath, Refusal> {
    inside("linux.devices", std::path::Path::new(path))
}

fn asked(listed: &[LinuxDevice]) -> Result<Vec<Device>, Refusal> {
    listed.iter().enumerate().map(|(index, device)| one(&format!("linux.devices[{index}]"), device)).collect()
}

fn one(field: &str, device: &LinuxDevice) -> Result<Device, Refusal> {
    let kind = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => CHARACTER,
        LinuxDeviceType::B => BLOCK,
        LinuxDeviceType::P => FIFO,
        LinuxDeviceType::A => return Err(Refusal::new(format!("{field}.type"), "a is not the type of a node")),
    };
    let number = |name: &str, number: i64| {
        if kind == FIFO {
            return Ok(0);
        }
        u32::try_from(number)
            .map_err(|_| Refusal::new(format!("{field}.{name}"), format!("{number} is not a device number")))
    };
    let id = |name: &str, id: Option<u32>| match id {
        Some(NO_ID) => Err(Refusal::new(format!("{field}.{name}"), "4294967295 is not an id")),
        id => Ok(id.unwrap_or(0)),
    };
    let path = absolute_inside(&format!("{field}.path"), device.path())?;
    if path.as_bytes() == b"/" {
        return Err(Refusal::new(format!("{field}.path"), "is the root of the container"));
    }
    Ok(Device {
        path,
        mode: kind | device.file_mode().unwrap_or(0o666) & 0o7777,
        major: number("major", device.major())?,
        minor: number("minor", device.minor())?,
        uid: id("uid", device.uid())?,
        gid: id("gid", device.gid())?,
    })
}
