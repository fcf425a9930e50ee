//! `linux.netDevices`: network devices of the host that move into the container's network namespace. Which exist is for
//! the host to say; here is what they may be called, and who may have them.

use std::collections::{BTreeMap, HashMap};

use oci_spec::runtime::LinuxNetDevice;

use crate::namespaces::Kind;
use crate::{Host, Namespaces, NetDevice, Refusal};

const FIELD: &str = "linux.netDevices";
/// `IFNAMSIZ` without the NUL.
const MAX_NAME: usize = 15;

/// In the order of their names on the host. The texts are runc's.
pub(crate) fn plan(
    listed: Option<&HashMap<String, LinuxNetDevice>>,
    spaces: &Namespaces,
    host: &Host,
) -> Result<Vec<NetDevice>, Refusal> {
    let sorted: BTreeMap<_, _> = listed.into_iter().flatten().collect();
    if sorted.is_empty() {
        return Ok(Vec::new());
    }
    if !spaces.has(Kind::Network) {
        return Err(Refusal::new(FIELD, "unable to move network devices without a NET namespace"));
    }
    if host.euid != 0 || host.in_user_namespace {
        return Err(Refusal::new(FIELD, "network devices are not supported for rootless containers"));
    }
    let mut devices: Vec<NetDevice> = Vec::with_capacity(sorted.len());
    for (host, device) in sorted {
        let inside = device.name().as_deref().filter(|name| !name.is_empty()).unwrap_or(host);
        if let Some(bad) = [host.as_str(), inside].into_iter().find(|name| !is_device_name(name)) {
            return Err(Refusal::new(FIELD, format!("invalid network device name {bad:?}")));
        }
        if devices.iter().any(|other| other.inside == inside) {
            return Err(Refusal::new(FIELD, format!("two network devices are to be called {inside:?}")));
        }
        devices.push(NetDevice { host: host.clone(), inside: inside.to_owned() });
    }
    Ok(devices)
}

/// As the kernel's `dev_valid_name()`, and without `%`, which it would read as a template.
fn is_device_name(name: &str) -> bool {
    let sound = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':' | b'%') || byte >= 0x80;
    !name.is_empty() && name.len() <= MAX_NAME && !matches!(name, "." | "..") && name.bytes().all(sound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_name_is_one_the_kernel_takes() {
        for name in ["eth0", "a", "x.100", "fifteen-letters", "é"] {
            assert!(is_device_name(name), "{name:?}");
        }
        for name in ["", ".", "..", "a/b", "a:1", "a b", "a\tb", "a\0", "eth%d", "sixteen-letters0"] {
            assert!(!is_device_name(name), "{name:?}");
        }
    }
}
