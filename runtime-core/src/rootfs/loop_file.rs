//! A file with a file system in it, as a device (loop(4)). The device goes by itself when nobody uses it any more.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::Errno;

use crate::sys::loop_device;
use crate::{Error, Kind, rooted};

/// What may be done with the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    ReadOnly,
    ReadWrite,
}

/// How often a free device is asked for when others are faster.
const ATTEMPTS: usize = 64;

/// A device for the file at `source`: its path, and the descriptor that keeps it until it is mounted.
pub(super) fn attach(source: &str, access: Access) -> Result<(String, OwnedFd), Error> {
    let failed = |errno| Error::system(format!("make a loop device of {source}"), errno);
    let (open_flags, loop_flags) = match access {
        Access::ReadOnly => (OFlags::RDONLY, loop_device::READ_ONLY),
        Access::ReadWrite => (OFlags::RDWR, 0),
    };
    let flags = open_flags | OFlags::CLOEXEC;
    let file = regular_file(source, open_flags)?;
    let control = open("/dev/loop-control", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    for _ in 0..ATTEMPTS {
        let number = loop_device::free(control.as_fd()).map_err(failed)?;
        let path = format!("/dev/loop{number}");
        let device = open(&*path, flags, Mode::empty()).map_err(failed)?;
        match loop_device::configure(device.as_fd(), file.as_fd(), loop_flags) {
            Err(Errno::BUSY) => {}
            other => return other.map(|()| (path, device)).map_err(failed),
        }
    }
    Err(failed(Errno::BUSY))
}

/// Looked at before it is opened: a FIFO would be waited at for its other end, and opening a device is an action.
fn regular_file(source: &str, flags: OFlags) -> Result<OwnedFd, Error> {
    let failed = |errno| Error::system(format!("make a loop device of {source}"), errno);
    let place = open(source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    match FileType::from_raw_mode(fstat(&place).map_err(failed)?.st_mode) {
        FileType::RegularFile => rooted::reopen(&place, flags).map_err(failed),
        _ => Err(Error::new(Kind::Invalid, format!("make a loop device of {source}: not a regular file"))),
    }
}
