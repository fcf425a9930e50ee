//! Ops on files, descriptors and terminals.

use core::ffi::CStr;

use super::mounts::{attach, c_string, target};
use super::{AtStep, Done, Failure};
use crate::script::{device_parts, make};
use crate::sys::{self, Errno, flag};

/// A device node as it shall be.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) mode: u32,
    /// The kernel's `dev_t`; 0 for a FIFO.
    pub(super) number: u64,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

const NULL_DEVICE: (u32, u32) = (1, 3);
const TERMINAL_MASTER: (u32, u32) = (5, 2);
const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;
const TIOCSCTTY: u32 = 0x540e;
const TIOCGPTPEER: u32 = 0x5441;
const TIOCSPTLCK: u32 = 0x4004_5431;

/// Writes into a kernel file. SECURITY: nothing on the way may be a magic link or another mount, so that a container that
/// shares this procfs cannot lead the write elsewhere (CVE-2025-52881).
pub(super) fn set(dir: i32, path: &CStr, data: &[u8]) -> Done {
    let beneath = flag::RESOLVE_BENEATH | flag::RESOLVE_NO_MAGICLINKS | flag::RESOLVE_NO_XDEV;
    let fd = sys::openat2(dir, path, flag::O_WRONLY | flag::O_NOFOLLOW, 0, beneath).at(1)?;
    sys::write_all(fd, data).at(2)?;
    Ok(sys::close(fd)?)
}

/// Gives the standard streams to the user, so that it can open `/dev/stdout` again. /dev/null belongs to everybody; a
/// stream whose file system or owner does not allow it stays as it is, as with runc.
pub(super) fn own_stdio(uid: u32) -> Done {
    for fd in 0..3 {
        let stat = sys::fstat(fd)?;
        let null = stat.mode & flag::S_IFMT == flag::S_IFCHR && device_parts(stat.rdev) == NULL_DEVICE;
        if null || stat.uid == uid {
            continue;
        }
        match sys::chown(fd, uid, u32::MAX) {
            Err(errno) if ![Errno::EINVAL, Errno::EPERM, Errno(30)].contains(&errno) => return Err(errno.into()),
            _ => {}
        }
    }
    Ok(())
}

/// Closes all descriptors from `first` on, except the control socket and those to keep, which close themselves on exec.
pub(super) fn close_from(first: u32, line: i32, keep: impl Iterator<Item = u32> + Clone) -> Done {
    let mut from = first;
    loop {
        let kept = keep.clone().chain([line.cast_unsigned()]);
        let Some(next) = kept.filter(|fd| *fd >= from).min() else { break };
        if next > from {
            sys::close_range(from, next - 1)?;
        }
        sys::set_close_on_exec(next.cast_signed(), 1)?;
        from = next + 1;
    }
    Ok(sys::close_range(from, u32::MAX)?)
}

/// A new terminal of the devpts at `path`. SECURITY: the multiplexer must be devpts's own, by file system, inode and
/// device number, and the peer comes from the master itself, not from a name (CVE-2025-52565).
pub(super) fn terminal(root: i32, path: &CStr) -> Result<(i32, i32), Failure> {
    let resolve = flag::RESOLVE_IN_ROOT | flag::RESOLVE_NO_SYMLINKS;
    let master = sys::openat2(root, path, flag::O_RDWR | flag::O_NOCTTY, 0, resolve).at(1)?;
    let stat = sys::fstat(master).at(2)?;
    let genuine = sys::file_system_type(master).at(2)? == DEVPTS_SUPER_MAGIC
        && stat.inode == 2
        && device_parts(stat.rdev) == TERMINAL_MASTER;
    if !genuine {
        return Err(Errno::ENODEV).at(2);
    }
    sys::ioctl_buffer(master, TIOCSPTLCK, &mut [0; 40]).at(3)?;
    let flags = usize::try_from(flag::O_RDWR | flag::O_NOCTTY | flag::O_CLOEXEC).unwrap_or(0);
    let peer = sys::ioctl_number(master, TIOCGPTPEER, flags).at(4)?;
    Ok((master, peer))
}

/// A new session; its controlling terminal is `terminal`, if there is one.
pub(super) fn session(terminal: i32) -> Done {
    sys::setsid().at(1)?;
    if terminal < 0 { Ok(()) } else { sys::ioctl_number(terminal, TIOCSCTTY, 0).map(drop).at(2) }
}

/// A symbolic link; what is there already stays, unless it is to be replaced.
pub(super) fn symlink(root: i32, path: &CStr, to: &CStr, replace: u32) -> Done {
    let mut name = [0; 256];
    let (dir, name) = parent(root, path, &mut name)?;
    if replace == 1 {
        match sys::unlinkat(dir, name) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno).at(2),
        }
    }
    match sys::symlinkat(to, dir, name) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno).at(3),
    }
    Ok(sys::close(dir)?)
}

/// A device node, or `instead` of one that nobody may make. What is there must be the same node; nothing is trusted by name after it is made.
pub(super) fn node(root: i32, path: &CStr, wanted: &Node, instead: Option<i32>) -> Done {
    let mut name = [0; 256];
    let (dir, name) = parent(root, path, &mut name)?;
    match (sys::mknodat(dir, name, wanted.mode, wanted.number), instead) {
        (Ok(()) | Err(Errno::EEXIST), _) => {}
        (Err(Errno::EPERM), Some(tree)) => {
            let place = target(root, path, make::FILE).at(6)?;
            attach(tree, place).at(6)?;
            sys::close(place)?;
            return Ok(sys::close(dir)?);
        }
        (Err(errno), _) => return Err(errno).at(2),
    }
    let flags = flag::O_PATH | flag::O_NOFOLLOW;
    let made = sys::openat2(dir, name, flags, 0, flag::RESOLVE_BENEATH | flag::RESOLVE_NO_SYMLINKS).at(3)?;
    let stat = sys::fstat(made).at(3)?;
    let is_device = wanted.mode & flag::S_IFMT != flag::S_IFIFO;
    let same_number = !is_device || stat.rdev == wanted.number;
    if stat.mode & flag::S_IFMT != wanted.mode & flag::S_IFMT || !same_number {
        return Err(Errno::EEXIST).at(4);
    }
    sys::chown(made, wanted.uid, wanted.gid).at(5)?;
    sys::close(made)?;
    Ok(sys::close(dir)?)
}

/// The directory of `path`, made when absent, and the last component.
fn parent<'a>(root: i32, path: &CStr, name: &'a mut [u8; 256]) -> Result<(i32, &'a CStr), Failure> {
    let bytes = path.to_bytes();
    let cut = bytes.iter().rposition(|byte| *byte == b'/').ok_or(Errno::EINVAL)?;
    let mut above = [0; 4096];
    let above = c_string(&mut above, bytes.get(..cut.max(1)))?;
    let dir = target(root, above, make::DIRECTORY).at(1)?;
    Ok((dir, c_string(name, bytes.get(cut + 1..))?))
}
