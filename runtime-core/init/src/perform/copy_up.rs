//! `tmpcopyup`: what the image has at a mount's target goes into the new tmpfs first. The tree copied is the container's,
//! the copy is ours alone until it is attached; no link is followed and no mount crossed on either side.

use core::ffi::CStr;

use super::{AtStep, Done};
use crate::sys::{self, Errno, Stat, flag};

/// How deep a tree may be: each level costs a buffer on the stack and two descriptors.
const DEPTH: u32 = 64;
const STEP: u64 = flag::RESOLVE_BENEATH | flag::RESOLVE_NO_SYMLINKS | flag::RESOLVE_NO_XDEV;

/// Copies the directory `from`, its owner and permissions included, onto the directory `to`.
pub(super) fn copy_up(from: i32, to: i32) -> Done {
    let (from, to) = (open_directory(from, c".").at(1)?, open_directory(to, c".").at(2)?);
    copy_directory(from, to, 0)?;
    like(to, sys::fstat(from)?)?;
    sys::close(from)?;
    Ok(sys::close(to)?)
}

fn open_directory(dir: i32, name: &CStr) -> sys::Answer<i32> {
    sys::openat2(dir, name, flag::O_RDONLY | flag::O_DIRECTORY | flag::O_NOFOLLOW, 0, STEP)
}

fn copy_directory(from: i32, to: i32, depth: u32) -> Done {
    if depth == DEPTH {
        return Err(Errno::ELOOP).at(3);
    }
    let mut buffer = [0; 2048];
    loop {
        let length = sys::getdents64(from, &mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        let mut rest = buffer.get(..length).unwrap_or_default();
        // `struct linux_dirent64`: inode, offset, record length, type, name.
        while let Some(size) = rest.get(16..18).map(|size| usize::from(u16::from_ne_bytes([size[0], size[1]]))) {
            let (record, next) = rest.split_at_checked(size).ok_or(Errno::EIO)?;
            let name = record.get(19..).map(CStr::from_bytes_until_nul).ok_or(Errno::EIO)?.map_err(|_| Errno::EIO)?;
            if name != c"." && name != c".." {
                copy_entry(from, to, name, depth)?;
            }
            rest = next;
        }
    }
}

fn copy_entry(from: i32, to: i32, name: &CStr, depth: u32) -> Done {
    let stat = sys::fstatat(from, name, flag::AT_SYMLINK_NOFOLLOW).at(4)?;
    match stat.mode & flag::S_IFMT {
        flag::S_IFDIR => {
            sys::mkdirat(to, name, 0o700).at(5)?;
            let (inner, copy) = (open_directory(from, name).at(5)?, open_directory(to, name).at(5)?);
            copy_directory(inner, copy, depth + 1)?;
            like(copy, stat)?;
            sys::close(inner)?;
            Ok(sys::close(copy)?)
        }
        flag::S_IFREG => copy_file(from, to, name, stat),
        flag::S_IFLNK => {
            let mut text = [0; 4097];
            let room = text.get_mut(..4096).unwrap_or_default();
            sys::readlinkat(from, name, room).at(6)?;
            let target = CStr::from_bytes_until_nul(&text).map_err(|_| Errno::ENAMETOOLONG)?;
            sys::symlinkat(target, to, name).at(6)?;
            let link = sys::openat2(to, name, flag::O_PATH | flag::O_NOFOLLOW, 0, flag::RESOLVE_BENEATH).at(6)?;
            sys::chown(link, stat.uid, stat.gid).at(6)?;
            Ok(sys::close(link)?)
        }
        _ => {
            sys::mknodat(to, name, stat.mode, stat.rdev).at(7)?;
            let node = sys::openat2(to, name, flag::O_PATH | flag::O_NOFOLLOW, 0, STEP).at(7)?;
            sys::chown(node, stat.uid, stat.gid).at(7)?;
            Ok(sys::close(node)?)
        }
    }
}

fn copy_file(from: i32, to: i32, name: &CStr, stat: Stat) -> Done {
    let source = sys::openat2(from, name, flag::O_RDONLY | flag::O_NOFOLLOW, 0, STEP).at(8)?;
    let flags = flag::O_WRONLY | flag::O_CREAT | flag::O_EXCL | flag::O_NOFOLLOW;
    let copy = sys::openat2(to, name, flags, 0o600, STEP).at(8)?;
    while sys::sendfile(copy, source).at(9)? > 0 {}
    like(copy, stat)?;
    sys::close(source)?;
    Ok(sys::close(copy)?)
}

/// Owner first: changing it clears the set-id bits.
fn like(copy: i32, stat: Stat) -> Done {
    sys::chown(copy, stat.uid, stat.gid).at(10)?;
    sys::fchmod(copy, stat.mode & 0o7777).at(11)
}
