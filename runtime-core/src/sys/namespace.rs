//! `ioctl_nsfs(2)`.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::io::Errno;

/// `NS_GET_NSTYPE`: the `CLONE_NEW*` bit of the namespace behind a descriptor.
pub(crate) fn kind(fd: BorrowedFd<'_>) -> Result<u32, Errno> {
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    // SAFETY: the request takes no argument.
    let kind = unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE) };
    super::bpf::checked(kind.into()).map(|kind| u32::try_from(kind).unwrap_or(0))
}
