//! What the planner must know of this machine, read once per process. It decides nothing.

use std::sync::OnceLock;

use tare_plan::Host;

use crate::{Error, Kind, cgroup};

static HOST: OnceLock<Host> = OnceLock::new();

/// The machine as it was when first asked.
pub(crate) fn host() -> Result<&'static Host, Error> {
    if let Some(host) = HOST.get() {
        return Ok(host);
    }
    let found = Host {
        cgroups: cgroup::layout()?,
        last_capability: last_capability()?,
        euid: rustix::process::geteuid().as_raw(),
        apparmor: first_byte("/sys/module/apparmor/parameters/enabled") == Some(b'Y'),
        selinux: std::path::Path::new("/sys/fs/selinux/enforce").exists(),
        in_user_namespace: in_user_namespace()?,
    };
    Ok(HOST.get_or_init(|| found))
}

fn last_capability() -> Result<u8, Error> {
    let path = "/proc/sys/kernel/cap_last_cap";
    read(path)?.trim().parse().map_err(|_| Error::new(Kind::System, format!("{path}: not a number")))
}

/// In the initial user namespace, every id is mapped onto itself.
fn in_user_namespace() -> Result<bool, Error> {
    let map = read("/proc/self/uid_map")?;
    Ok(map.split_whitespace().ne(["0", "0", "4294967295"]))
}

fn first_byte(path: &str) -> Option<u8> {
    std::fs::read(path).ok()?.first().copied()
}

fn read(path: &str) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|error| Error::io(format!("read {path}"), &error))
}
