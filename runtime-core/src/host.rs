//! What the planner must know of this machine, read once per process. It decides nothing.

use std::io::Read as _;
use std::path::Path;
use std::sync::OnceLock;

use tare_plan::Host;

use crate::{Error, Kind, cgroup};

static HOST: OnceLock<Host> = OnceLock::new();
/// This kernel has been found to be new enough.
static NEW_ENOUGH: OnceLock<()> = OnceLock::new();

/// The machine as it was when first asked.
pub(crate) fn host() -> Result<&'static Host, Error> {
    if let Some(host) = HOST.get() {
        return Ok(host);
    }
    check_kernel()?;
    let in_user_namespace = in_user_namespace()?;
    let found = Host {
        cgroups: cgroup::layout()?,
        last_capability: last_capability()?,
        euid: rustix::process::geteuid().as_raw(),
        egid: rustix::process::getegid().as_raw(),
        // Nothing denies it in the initial user namespace.
        setgroups_denied: in_user_namespace && read("/proc/self/setgroups")?.trim() == "deny",
        apparmor: first_byte("/sys/module/apparmor/parameters/enabled") == Some(b'Y'),
        selinux: Path::new("/sys/fs/selinux/enforce").exists(),
        in_user_namespace,
    };
    Ok(HOST.get_or_init(|| found))
}

/// Whether this kernel can run containers at all. It costs some microseconds.
///
/// # Errors
/// [`Kind::Unsupported`], in one sentence, when it is too old, or a needed system call is unknown to it or to a filter
/// around this process.
pub fn check_kernel() -> Result<(), Error> {
    if NEW_ENOUGH.get().is_some() {
        return Ok(());
    }
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let (major, minor) = KERNEL_FLOOR;
    let what = if !is_new_enough(&release) {
        format!("tare needs Linux {major}.{minor} or newer; this is {release}")
    } else if let Some((call, since)) = crate::sys::floor::missing() {
        format!("tare needs the system call {call} (Linux {since}), which is not implemented here")
    } else {
        NEW_ENOUGH.get_or_init(|| ());
        return Ok(());
    };
    Err(Error::new(Kind::Unsupported, what))
}

/// The floor (docs/kernel.md): `mount_setattr` came with 5.12, `cgroup.kill` with 5.14. Checked once,
/// so that nothing falls back in the middle of an operation.
const KERNEL_FLOOR: (u32, u32) = (5, 14);

fn is_new_enough(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= KERNEL_FLOOR
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

/// The whole of one of the kernel's texts. They have no length that could be asked for; most fit into this.
pub(crate) fn read(path: impl AsRef<Path>) -> Result<String, Error> {
    let path = path.as_ref();
    let mut text = String::with_capacity(8192);
    let read = std::fs::File::open(path).and_then(|file| file.take(u64::MAX).read_to_string(&mut text));
    read.map_err(|error| Error::io(format!("read {}", path.display()), &error))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_floor_is_a_version_not_a_text() {
        for (release, enough) in [
            ("5.14.0", true),
            ("5.13.19", false),
            ("6.1.0-31-amd64", true),
            ("4.19.0", false),
            ("10.0", true),
            ("", false),
        ] {
            assert_eq!(super::is_new_enough(release), enough, "{release}");
        }
    }
}
