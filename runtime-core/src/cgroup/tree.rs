//! Walking the cgroups that a container has made below its own.
//!
//! SECURITY: a container that may make cgroups may nest them deeper than any path or descriptor table is long, to make
//! its removal fail. So one descriptor moves down by names and up by `..`, and nothing recurses.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;

use super::file;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Calls `visit` with the parent and the name of every cgroup below `directory`, children before parents. What goes away
/// meanwhile is passed over. Says how many there were.
pub(super) fn below(
    directory: &Path,
    mut visit: impl FnMut(BorrowedFd<'_>, &CStr) -> Result<(), Errno>,
) -> Result<u64, Errno> {
    let mut here = match file::open(directory, DIRECTORY) {
        Ok(here) => here,
        Err(Errno::NOENT | Errno::NODEV) => return Ok(0),
        Err(errno) => return Err(errno),
    };
    let mut visited = 0;
    let mut pending = children(&here)?;
    let mut above: Vec<(Vec<CString>, CString)> = Vec::new();
    loop {
        if let Some(name) = pending.pop() {
            match rustix::fs::openat(&here, &name, DIRECTORY, Mode::empty()) {
                Ok(child) => {
                    above.push((std::mem::replace(&mut pending, children(&child)?), name));
                    here = child;
                }
                Err(Errno::NOENT | Errno::NODEV) => {}
                Err(errno) => return Err(errno),
            }
        } else if let Some((siblings, name)) = above.pop() {
            here = rustix::fs::openat(&here, "..", DIRECTORY, Mode::empty())?;
            visit(here.as_fd(), &name)?;
            visited += 1;
            pending = siblings;
        } else {
            return Ok(visited);
        }
    }
}

/// The names of the directories in a directory; none once it has gone.
fn children(directory: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(directory, &mut buffer);
    while let Some(entry) = entries.next() {
        match entry {
            Ok(entry) if entry.file_type() == FileType::Directory => {
                if entry.file_name() != c"." && entry.file_name() != c".." {
                    names.push(entry.file_name().to_owned());
                }
            }
            Ok(_) => {}
            Err(Errno::NOENT | Errno::NODEV) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(names)
}
