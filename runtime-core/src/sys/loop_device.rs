//! `ioctl(2)` on loop devices (loop(4)).

use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::io::Errno;

use super::bpf::checked;

/// `LO_FLAGS_READ_ONLY`.
pub(crate) const READ_ONLY: u32 = 1;

/// `struct loop_info64`.
#[repr(C)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encryption: [u32; 2],
    flags: u32,
    names: [u8; 160],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

/// The number of a device that nobody uses; somebody else may be faster.
pub(crate) fn free(control: BorrowedFd<'_>) -> Result<i64, Errno> {
    const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4c82;
    // SAFETY: the request takes no argument.
    let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
    checked(number.into())
}

/// Makes `device` show `file`, until neither a descriptor nor a mount uses it.
pub(crate) fn configure(device: BorrowedFd<'_>, file: BorrowedFd<'_>, flags: u32) -> Result<(), Errno> {
    const LOOP_CONFIGURE: libc::Ioctl = 0x4c0a;
    const LO_FLAGS_AUTOCLEAR: u32 = 4;
    let flags = LO_FLAGS_AUTOCLEAR | flags;
    let info = Info {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encryption: [0; 2],
        flags,
        names: [0; 160],
        init: [0; 2],
    };
    let config = Config { fd: file.as_raw_fd().unsigned_abs(), block_size: 0, info, reserved: [0; 8] };
    // SAFETY: the struct is as large as the kernel's, 304 bytes, and outlives the call, which only reads it.
    let outcome = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
    checked(outcome.into()).map(drop)
}

const _: () = assert!(size_of::<Config>() == 304);
