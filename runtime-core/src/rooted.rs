//! Reaching into a running container from outside, above all reading a file: resolved under its root, bounded, and only if it is a regular file. The
//! one place outside the stub where a path inside a container is looked up (law 10).

use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};
use rustix::io::Errno;

/// How much of a file is read: more than any passwd needs, less than would hurt (CVE-2022-23471).
const LIMIT: u64 = 1 << 20;
/// How often a lookup is tried again when renames elsewhere disturb it (openat2(2): `EAGAIN`).
const LOOKUPS: usize = 256;

/// The container's /etc/passwd, as far as it is read; empty when there is none.
pub(crate) fn passwd(root: impl AsFd) -> Vec<u8> {
    read(root, "etc/passwd").unwrap_or_default()
}

/// What `path`, which is relative, leads to below `root`; opened as a place only.
pub(crate) fn lookup(root: impl AsFd, path: &std::path::Path) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut found = Err(Errno::AGAIN);
    for _ in 0..LOOKUPS {
        found = openat2(&root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve);
        if !matches!(found, Err(Errno::AGAIN)) {
            break;
        }
    }
    found
}

fn read(root: impl AsFd, path: &str) -> Result<Vec<u8>, Errno> {
    // SECURITY: only what is known to be a regular file is opened: opening a device of the image's choice is an action.
    let found = lookup(root, path.as_ref())?;
    if FileType::from_raw_mode(fstat(&found)?.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    let file = reopen(&found, OFlags::RDONLY)?;
    let mut text = Vec::new();
    let read = std::fs::File::from(file).take(LIMIT).read_to_end(&mut text);
    read.map(|_| text).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// Opens what was opened as a place only, when it is known to be harmless.
pub(crate) fn reopen(place: &OwnedFd, flags: OFlags) -> Result<OwnedFd, Errno> {
    open(format!("/proc/thread-self/fd/{}", place.as_raw_fd()), flags | OFlags::CLOEXEC, Mode::empty())
}

/// The root directory of a running process.
pub(crate) fn root_of(pid: i32) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open(format!("/proc/{pid}/root"), flags, Mode::empty())
}

/// The cgroup namespace of a running process.
pub(crate) fn cgroup_namespace_of(pid: i32) -> Result<OwnedFd, Errno> {
    open(format!("/proc/{pid}/ns/cgroup"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// A directory of the host.
pub(crate) fn directory(path: &std::path::Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty())
}
