//! The fence of the stub: every system call it makes, each behind a safe function that is named after it. Nothing here
//! decides; descriptors are plain numbers because the process is about to become another program.
#![allow(unsafe_code)]

#[cfg(target_arch = "aarch64")]
#[path = "aarch64.rs"]
mod arch;
#[cfg(target_arch = "x86_64")]
#[path = "x86_64.rs"]
mod arch;
mod files;
mod mounts;
mod processes;

pub use files::*;
pub use mounts::*;
pub use processes::*;

use arch::{nr, syscall};
use core::ffi::CStr;

/// An error number of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

#[allow(missing_docs, reason = "the names are the kernel's")]
impl Errno {
    pub const EPERM: Self = Self(1);
    pub const ENOENT: Self = Self(2);
    pub const EIO: Self = Self(5);
    pub const EAGAIN: Self = Self(11);
    pub const EACCES: Self = Self(13);
    pub const EEXIST: Self = Self(17);
    pub const ENODEV: Self = Self(19);
    pub const ENOTDIR: Self = Self(20);
    pub const EISDIR: Self = Self(21);
    pub const EINVAL: Self = Self(22);
    pub const EMFILE: Self = Self(24);
    pub const ENAMETOOLONG: Self = Self(36);
    pub const ENOSYS: Self = Self(38);
    pub const ELOOP: Self = Self(40);
    pub const EBADMSG: Self = Self(74);
}

/// What a system call answers.
pub type Answer<T> = Result<T, Errno>;

/// A result register as the answer it is.
fn answer(result: isize) -> Answer<usize> {
    usize::try_from(result).map_err(|_| Errno(i32::try_from(-result).unwrap_or(i32::MAX)))
}

/// The same, for calls that answer a descriptor or another small number.
fn answer_fd(result: isize) -> Answer<i32> {
    answer(result).and_then(|fd| i32::try_from(fd).map_err(|_| Errno::EIO))
}

/// A descriptor or another signed number as an argument register.
const fn arg(number: i32) -> usize {
    (number as isize).cast_unsigned()
}

/// A 32-bit word as an argument register.
const fn word(number: u32) -> usize {
    number as usize
}

/// A 64-bit word as an argument register: tare runs on 64-bit processors only.
#[allow(clippy::cast_possible_truncation)]
const fn long(number: u64) -> usize {
    number as usize
}

/// The address of a C string as an argument register.
fn text(string: &CStr) -> usize {
    string.as_ptr().expose_provenance()
}

/// The address of a value as an argument register.
fn place<T>(value: &T) -> usize {
    core::ptr::from_ref(value).expose_provenance()
}

/// The address of a value that the kernel fills, as an argument register.
fn room<T>(value: &mut T) -> usize {
    core::ptr::from_mut(value).expose_provenance()
}
