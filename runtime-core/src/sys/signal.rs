//! `pidfd_send_signal(2)` with a plain number: rustix knows the named signals only, and `kill -s RTMIN+3` is a request
//! like any other.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::io::Errno;

/// Sends `signal` to the process that `pidfd` holds. The kernel refuses a number that is no signal.
pub(crate) fn send(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    // SAFETY: the call takes numbers and a null pointer, which asks the kernel to fill in the signal's origin itself; it
    // reads and writes no memory of ours.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0_u32,
        )
    };
    super::bpf::checked(outcome).map(drop)
}
